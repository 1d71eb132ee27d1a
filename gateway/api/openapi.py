"""The OpenAPI 3.1 document of this edge, made of the table and the types it names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from gateway.api import problems, routes
from gateway.api.replies import encoded
from gateway.api.request import BODY_BYTES
from gateway.api.words import IN_PATHS
from gateway.errors import Refusal

_ALWAYS: Final = (400, 401, 403, 404, 429, 502, 503, 504)
_ABOUT: Final = (
    "Administration of the registry gateway. Every request carries a personal access token; what it may do is what "
    "the token and its account may, at this moment. Every act is an event of the audit trail, and so is its refusal."
)


def document() -> bytes:
    """The document as JSON."""
    types = {kind for row in routes.TABLE for kind in (row.answer, row.body) if kind not in (None, bytes)}
    ordered = [*sorted(types, key=repr), problems.Problem]
    found, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    schemas = dict(zip(ordered, found, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for row in routes.TABLE:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row, schemas)
    told = {
        "openapi": "3.1.0",
        "info": {"title": "Registry gateway", "version": "1", "description": _ABOUT},
        "servers": [{"url": routes.PREFIX}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {str(status): _refused(status, schemas) for status in problems.TITLES},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "gwp_…"}},
        },
    }
    return encoded(told)


def _operation(row: routes.Row, schemas: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    summary = (row.endpoint.__doc__ or "").strip()
    noun = row.path.split("/")[1]
    operation: dict[str, Any] = {
        "operationId": f"{row.method.lower()}_{_words(row.path)}",
        "tags": [noun],
        "summary": summary,
        "description": f"For: {(row.needs.__doc__ or '').strip().lower()}. Event: `{row.kind}`.",
        "parameters": [*_in_path(row), *_in_query(row), *_in_headers(row)],
        "responses": _responses(row, schemas),
    }
    if row.body is not None:
        operation["requestBody"] = {
            "required": True,
            "description": f"At most {BODY_BYTES} bytes.",
            "content": {"application/json": {"schema": schemas[row.body]}},
        }
    return operation


def _words(path: str) -> str:
    return "_".join(part.strip("{}").replace("-", "_") for part in path[1:].split("/"))


def _in_path(row: routes.Row) -> Iterable[dict[str, Any]]:
    for part in row.path.split("/"):
        if part.startswith("{"):
            schema = msgspec.json.schema(IN_PATHS[part[1:-1]])
            yield {"name": part[1:-1], "in": "path", "required": True, "schema": schema}


def _in_query(row: routes.Row) -> Iterable[dict[str, Any]]:
    [_], components = msgspec.json.schema_components([row.query])
    described = components[row.query.__name__]
    for name, schema in described.get("properties", {}).items():
        needed = name in described.get("required", ())
        told = _without_null(schema)
        yield {"name": name, "in": "query", "required": needed, "schema": told if needed else _or_empty(told)}


def _or_empty(schema: dict[str, Any]) -> dict[str, Any]:
    """The *schema* of a text that may also be left empty, which is as good as left away."""
    if schema.get("type") != "string" or "pattern" not in schema:
        return schema
    pattern = schema["pattern"].removeprefix("^").removesuffix("$")
    return {**schema, "pattern": f"^(?:{pattern})?$", "minLength": 0}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The *schema* of a parameter: one that is left away is none, and there is no way to spell one that is null."""
    told = {name: value for name, value in schema.items() if name not in {"default", "anyOf", "enum"}}
    options = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    if "enum" in schema:
        told["enum"] = [each for each in schema["enum"] if each is not None]
    return {**options[0], **told} if options else told


def _in_headers(row: routes.Row) -> Iterable[dict[str, Any]]:
    if row.edits:
        told = "The ETag of what you edit, or `*`: the edit is refused (412) if somebody changed it meanwhile."
        yield _header("If-Match", told, '^(?:\\*|"[0-9a-f]{32}")$')
    if row.once:
        told = "A text of your own (1 to 128 letters, digits, - and _): a repetition under it is answered the same."
        yield _header("Idempotency-Key", told, "^[A-Za-z0-9_-]{1,128}$")


def _header(name: str, description: str, pattern: str) -> dict[str, Any]:
    schema = {"type": "string", "pattern": pattern}
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


def _responses(row: routes.Row, schemas: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    good: dict[str, Any] = {"description": "Done" if row.answer is None else "What was asked for"}
    if row.answer is bytes:
        good["content"] = {row.media_type: {"schema": {"type": "string"}}}
    elif row.answer is not None:
        good["content"] = {"application/json": {"schema": schemas[row.answer]}}
    if row.tagged or (row.edits and row.answer is not None):
        good["headers"] = {"ETag": {"schema": {"type": "string"}}}
    responses[str(row.status)] = good
    refused = {str(status): {"$ref": f"#/components/responses/{status}"} for status in _refusals(row)}
    return responses | refused


def _refused(status: int, schemas: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    content = {problems.MEDIA_TYPE: {"schema": schemas[problems.Problem]}}
    return {"description": problems.TITLES[status], "content": content}


def _refusals(row: routes.Row) -> list[int]:
    statuses = {*_ALWAYS, problems.STATUSES[Refusal]}
    if row.method != "GET" or row.conflicts:
        statuses.add(409)
    if row.method != "GET":
        statuses.add(415)
    if row.body is not None:
        statuses |= {408, 413}
    if row.edits:
        statuses.add(412)
    return sorted(statuses)
