"""The edge for programs that administer: JSON under `/api/v1`, described by the OpenAPI document that it serves."""
