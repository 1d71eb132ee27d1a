"""The OpenAPI document: whole, true of what is answered, and kept to by whatever is sent."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import httpx
import jsonschema_rs
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.config import ChecksConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.config._checks import NegativeDataRejectionConfig
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks

from gateway.api import openapi
from gateway.api.routes import PREFIX, TABLE, Row
from tests.api.desk import Desk
from tests.api.test_api_table import identify

# A body that is too large is refused for that before anything else is looked at, so 413 is as good as any refusal.
REFUSED = NegativeDataRejectionConfig(expected_statuses=[400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429])
CONFIG = SchemathesisConfig(
    projects=ProjectsConfig(default=ProjectConfig(checks=ChecksConfig(negative_data_rejection=REFUSED)))
)
# What is answered without a token is claimed elsewhere, row by row; here every request has one.
SCHEMA = schemathesis.openapi.from_dict({**json.loads(openapi.document()), "security": []}, config=CONFIG)
OPERATIONS = {
    f"{each.method.upper()} {each.path}": each for each in (found.ok() for found in SCHEMA.get_all_operations())
}
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
    checks.negative_data_rejection,
]


def tried(desk: Desk, case: Any) -> None:
    """Sends *case* as it is, and holds the answer to the document."""
    told = case.as_transport_kwargs(base_url=f"https://registry.test{PREFIX}")
    sent = requests.Request(**{name: told.get(name) for name in ("method", "url", "headers", "params", "data", "json")})
    prepared = sent.prepare()
    content = prepared.body or b""
    content = content.encode() if isinstance(content, str) else content
    headers = {str(name): str(value) for name, value in prepared.headers.items()}
    headers = {name: value.encode("utf-8").decode("latin-1") for name, value in headers.items()}
    headers["Authorization"] = f"Bearer {desk.tokens['root']}"
    answer = asyncio.run(desk.carry(str(prepared.method), str(prepared.path_url), headers, content))
    request = httpx.Request(str(prepared.method), str(prepared.url), content=content)
    response = httpx.Response(answer.status, headers=dict(answer.headers), content=answer.body, request=request)
    response.elapsed = timedelta()
    case.validate_response(response, checks=CHECKS)


def pursue(desk: Desk, row: Row, examples: int) -> None:
    """So many requests that keep to the document, and as many that do not; the same ones each time."""
    patient = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        operation = OPERATIONS[identify(row)]
        if mode is GenerationMode.NEGATIVE and not (operation.query or operation.path_parameters or operation.body):
            continue

        @patient
        @given(operation.as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            tried(desk, case)

        check()


@pytest.mark.parametrize("row", TABLE, ids=identify)
def test_what_is_answered_is_what_is_described(desk: Desk, row: Row) -> None:
    pursue(desk, row, 1)


@pytest.mark.long
@pytest.mark.parametrize("row", TABLE, ids=identify)
def test_what_is_answered_is_what_is_described_however_long_one_tries(desk: Desk, row: Row) -> None:
    pursue(desk, row, 200)


def test_the_document_is_served_to_everybody_and_names_every_row(desk: Desk) -> None:
    answer = desk.ask("", "GET", f"{PREFIX}/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    document = answer.json()
    named = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert named == {(row.method, row.path) for row in TABLE}
    assert document["openapi"] == "3.1.0"
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    assert len({operation["operationId"] for operation in operations}) == len(TABLE)
    assert all(operation["summary"] and "For: " in operation["description"] for operation in operations)


def test_whatever_can_be_edited_is_shown_with_an_etag_that_is_described() -> None:
    paths = json.loads(openapi.document())["paths"]
    for row in TABLE:
        showing = row.method == "GET" and any(each.edits for each in TABLE if each.path == row.path)
        if showing or (row.edits and row.answer is not None):
            assert "ETag" in paths[row.path][row.method.lower()]["responses"][str(row.status)]["headers"], identify(row)


def test_every_schema_of_the_document_is_one() -> None:
    document = json.loads(openapi.document())
    jsonschema_rs.meta.validate(document["components"]["schemas"])
    text = json.dumps(document)
    references = {part.partition('"')[0] for part in text.split('"$ref": "#/')[1:]}
    for reference in references:
        found: Any = document
        for word in reference.split("/"):
            found = found[word]
    for name, schema in document["components"]["schemas"].items():
        jsonschema_rs.meta.validate(schema), name
