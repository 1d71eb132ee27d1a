"""How requests are read and answered: tokens, bodies, queries, pages, streams, limits, faults."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import errors
from gateway.access.throttle import Budget
from gateway.administration.exports import Exports
from gateway.api import cursors, problems, trail
from gateway.api.application import Api
from gateway.api.routes import PREFIX
from gateway.change import Notes
from gateway.errors import Invalid, Refusal, Unavailable
from tests.api.desk import CURSOR_KEY, JSON, Desk
from tests.protocol.harness import basic

PROJECTS = f"{PREFIX}/projects"

# who asks


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": basic("root", "correct horse battery")},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer gwp_" + "A" * 49},
        {"Authorization": "Bearer gwp_\xff"},
        {"Cookie": "session=anything; gateway=anything"},
    ],
)
def test_nothing_but_a_live_token_opens_anything(desk: Desk, headers: dict[str, str]) -> None:
    answer = desk.ask("", "GET", PROJECTS, headers=headers)
    assert (answer.status, answer.problem["code"]) == (401, "UNAUTHORIZED")
    assert answer.headers["www-authenticate"].startswith('Bearer realm="gateway"')


def test_a_bearer_of_the_registry_opens_nothing_here_and_none_of_ours_there(desk: Desk) -> None:
    registrys = desk.world.widest("root", "alpha/x")
    refused = desk.ask("", "GET", PROJECTS, token=registrys)
    assert refused.status == 401
    [told] = desk.events_of(refused)
    assert (told["kind"], told["outcome"]) == ("account.sign_in", "denied")
    assert desk.world.ask("GET", "/v2/", token=desk.tokens["root"]).status == 401


def test_a_token_in_the_query_or_in_a_second_header_is_none(desk: Desk) -> None:
    assert desk.ask("", "GET", f"{PROJECTS}?access_token={desk.tokens['root']}").status == 401
    twice = [(b"authorization", f"Bearer {desk.tokens[name]}".encode()) for name in ("root", "alice")]
    told: list[Any] = []

    async def ask() -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            told.append(message)

        scope = {"type": "http", "method": "GET", "path": PROJECTS, "query_string": b"", "headers": twice}
        await desk.api(scope, receive, send)

    asyncio.run(ask())
    assert told[0]["status"] == 401


def test_where_a_request_came_from_and_with_what_is_in_the_trail(desk: Desk) -> None:
    answer = desk.ask("root", "GET", PROJECTS, headers={"User-Agent": "terraform/9"}, address="203.0.113.5")
    [told] = desk.events_of(answer)
    assert (told["address"], told["agent"], told["credential"]) == ("203.0.113.5", "terraform/9", "personal_token")
    assert told["credential_id"].isdecimal()


def test_a_suspended_account_opens_nothing_from_then_on(desk: Desk) -> None:
    user = desk.user()
    assert desk.ask(user, "GET", PROJECTS).status == 200
    desk.ask("root", "POST", f"{PREFIX}/users/{user}/disable")
    assert desk.ask(user, "GET", PROJECTS).status == 401
    desk.ask("root", "POST", f"{PREFIX}/users/{user}/enable")
    assert desk.ask(user, "GET", PROJECTS).status == 200


# what it brings


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b'"text"', None),
        (b'{"name": "a", "name": "b"}', None),
        (b'{"name": "x1", "colour": "red"}', "colour"),
        (b"{}", "name"),
        (b'{"name": 5}', "name"),
        (b'{"name": "x1", "public": "yes"}', "public"),
        (b'{"name": "x1", "public": 1}', "public"),
        (b'{"name": "a\\u0000"}', None),
        (b"\xff", None),
        (b'{"name": ' + b"[" * 500 + b"]" * 500 + b"}", None),
        (b'{"name": NaN}', None),
    ],
)
def test_a_body_is_read_strictly_and_what_is_wrong_is_named(desk: Desk, raw: bytes, field: str | None) -> None:
    refused = desk.ask("root", "POST", PROJECTS, raw=raw, headers={"Content-Type": JSON})
    assert (refused.status, refused.problem["code"], refused.problem.get("field")) == (400, "INVALID", field)
    assert desk.events_of(refused) == []


def test_a_word_that_is_none_is_answered_with_those_there_are(desk: Desk) -> None:
    for path, body in (
        ("/api/v1/projects/alpha/robots", {"name": "ci", "role": "boss"}),
        ("/api/v1/audit/replay", {"verb": "grant", "principal": "root", "reach": "alpha", "role": "boss"}),
    ):
        refused = desk.ask("root", "POST", path, body)
        assert (refused.status, refused.problem.get("field")) == (400, "role"), refused.problem
        known = refused.problem["detail"].partition("'boss'; known are ")[2].rstrip(".").split(", ")
        assert sorted(known) == ["maintainer", "owner", "puller", "pusher"]
    refused = desk.ask("root", "GET", "/api/v1/audit/events?outcome=maybe")
    assert "'maybe'; known are allowed, denied, failed." in refused.problem["detail"]


def test_a_body_of_another_type_or_encoded_or_too_large_is_refused(desk: Desk) -> None:
    body = b'{"name": "never"}'
    for headers in (
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": JSON, "Content-Encoding": "gzip"},
    ):
        assert desk.ask("root", "POST", PROJECTS, raw=body, headers=headers).status == 415
    large = b'{"name": "never", "x": "' + b"a" * 70_000 + b'"}'
    assert desk.ask("root", "POST", PROJECTS, raw=large, headers={"Content-Type": JSON}).status == 413
    unsaid = {"Content-Type": JSON, "Content-Length": ""}
    assert desk.ask("root", "POST", PROJECTS, raw=large, headers=unsaid).status == 413
    assert desk.ask("root", "POST", f"{PREFIX}/audit/verify", raw=body, headers={"Content-Type": JSON}).status == 400
    spelled = {"Content-Type": 'Application/JSON; charset="UTF-8"'}
    assert desk.ask("root", "POST", PROJECTS, raw=b'{"name": "spelled"}', headers=spelled).status == 201


def test_a_parameter_comes_once_and_is_known(desk: Desk) -> None:
    for query, field in (("limit=1&limit=2", "limit"), ("colour=red", "colour"), ("cursor=%00", "cursor")):
        refused = desk.ask("root", "GET", f"{PROJECTS}?{query}")
        assert (refused.status, refused.problem["field"]) == (400, field)
    assert desk.ask("root", "GET", f"{PROJECTS}?" + "&".join(f"p{n}=1" for n in range(90))).status == 400


@pytest.mark.parametrize(
    "path",
    [
        "/api",
        "/api/",
        "/api/v1",
        "/api/v1/",
        "/api/v2/projects",
        "/api/v1/projects/",
        "/api/v1//projects",
        "/api/v1/projects/alpha/",
        "/api/v1/projects/alpha/robots/ci/x",
        "/api/v1/repositories/alpha/app",
        "/api/v1/../v1/users",
        "/api/v1/%2e%2e/users",
        "/api/v1/users/%2e%2e/%2e%2e",
        "/api/v1/Projects",
        "/api/v1/openapi.json/",
    ],
)
def test_any_other_address_is_nothing(desk: Desk, path: str) -> None:
    answer = desk.ask("root", "GET", path)
    assert (answer.status, answer.problem["code"]) == (404, "UNKNOWN")


@pytest.mark.parametrize(
    "path", ["/projects/%ff", "/projects/%00", "/projects/..%2Fx", "/audit/events/0", "/audit/events/x"]
)
def test_a_value_that_is_none_is_refused(desk: Desk, path: str) -> None:
    assert desk.ask("root", "GET", PREFIX + path).status == 400


def test_a_known_address_tells_its_methods(desk: Desk) -> None:
    for method in ("OPTIONS", "TRACE", "PATCH", "get"):
        answer = desk.ask("root", method, PROJECTS)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, POST")
    overridden = desk.ask("root", "GET", f"{PREFIX}/projects/alpha", headers={"X-HTTP-Method-Override": "DELETE"})
    assert overridden.status == 200


def test_a_head_is_a_get_without_its_body(desk: Desk) -> None:
    got, looked = (desk.ask("root", method, PROJECTS) for method in ("GET", "HEAD"))
    assert (looked.status, looked.body) == (200, b"")
    assert looked.headers["content-length"] == str(len(got.body))
    assert desk.ask("root", "HEAD", f"{PREFIX}/audit/export").complete


# pages


def test_pages_follow_one_another_and_miss_nothing(desk: Desk) -> None:
    found: list[str] = []
    cursor = ""
    while True:
        page = desk.ask("root", "GET", f"{PREFIX}/users?limit=2{cursor}").json()
        found += [user["name"] for user in page["items"]]
        if page["next"] is None:
            break
        assert len(page["items"]) == 2
        cursor = f"&cursor={page['next']}"
    every = desk.ask("root", "GET", f"{PREFIX}/users?limit=1000").json()["items"]
    assert found == [user["name"] for user in every] == sorted(found)


def test_pages_of_events_go_back_to_the_first_one(desk: Desk) -> None:
    numbers: list[int] = []
    query = f"{PREFIX}/audit/events?kind=account.add&limit=5"
    page = desk.ask("root", "GET", query).json()
    while True:
        numbers += [event["id"] for event in page["items"]]
        if page["next"] is None:
            break
        page = desk.ask("root", "GET", f"{query}&cursor={page['next']}").json()
    recorded = [event["id"] for event in desk.world.house.records(kind="account.add")]
    assert numbers == recorded[::-1]


def test_a_cursor_is_good_for_its_own_query_only(desk: Desk) -> None:
    cursor = desk.ask("root", "GET", f"{PREFIX}/audit/events?kind=account.*&limit=1").json()["next"]
    assert desk.ask("root", "GET", f"{PREFIX}/audit/events?limit=3&cursor={cursor}&kind=account.*").status == 200
    for query in (
        f"audit/events?cursor={cursor}",
        f"audit/events?kind=project.*&cursor={cursor}",
        f"users?cursor={cursor}",
        f"audit/events?kind=account.*&cursor={cursor[:-2]}",
        f"audit/events?kind=account.*&cursor={cursor}AA",
        "audit/events?kind=account.*&cursor=!",
        "audit/events?kind=account.*&cursor=1",
    ):
        refused = desk.ask("root", "GET", f"{PREFIX}/{query}")
        assert (refused.status, refused.problem["field"]) == (400, "cursor")
        assert "not of this query" in refused.problem["detail"]


@settings(max_examples=40, deadline=None)
@given(query=st.text(max_size=80), position=st.text(max_size=80), other=st.text(max_size=80))
def test_a_cursor_comes_back_as_it_went_and_no_other_does(query: str, position: str, other: str) -> None:
    try:
        position.encode(), query.encode(), other.encode()
    except UnicodeEncodeError:
        return
    cursor = cursors.seal(CURSOR_KEY, query, position)
    assert cursors.unseal(CURSOR_KEY, query, cursor) == position
    if other != query:
        with pytest.raises(Invalid):
            cursors.unseal(CURSOR_KEY, other, cursor)
    with pytest.raises(Invalid):
        cursors.unseal(b"another key", query, cursor)


@given(st.text(max_size=80))
def test_what_is_no_cursor_is_refused_whatever_it_is(text: str) -> None:
    with pytest.raises(Invalid):
        cursors.unseal(CURSOR_KEY, "a query", text)


# streams


def test_an_export_holds_one_piece_at_a_time(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    advanced: list[int] = []
    real = type(desk.world.house.trail).export

    def counted(self: Any, search: Any) -> Any:
        for event in real(self, search):
            advanced.append(event.seq)
            yield event

    monkeypatch.setattr(type(desk.world.house.trail), "export", counted)
    monkeypatch.setattr(trail, "_PIECE", 4)
    cut = desk.ask("root", "GET", f"{PREFIX}/audit/export", deaf_after=3)
    assert not cut.complete
    assert len(cut.body.splitlines()) == 8
    assert len(advanced) <= 16, "nothing more is read for whoever is gone"
    assert desk.acts.exporting.under_way == 0
    whole = desk.ask("root", "GET", f"{PREFIX}/audit/export")
    assert whole.complete
    assert [json.loads(line)["id"] for line in whole.body.splitlines()] == sorted(
        advanced[-len(whole.body.splitlines()) :]
    )


def test_no_more_exports_run_at_once_than_may(desk: Desk) -> None:
    async def ask() -> Any:
        full = replace(desk.acts, exporting=Exports(most=0))
        parts = replace(desk.api.parts, administration=full, verifying=asyncio.Semaphore(0))
        busy = replace(desk, api=Api(parts))
        return [
            await busy.asking("root", method, f"{PREFIX}/audit/{act}")
            for method, act in (("GET", "export"), ("POST", "verify"))
        ]

    for answer in asyncio.run(ask()):
        assert (answer.status, int(answer.headers["retry-after"]) >= 1) == (429, True)


def test_an_export_that_nobody_reads_is_ended_and_its_place_is_free(desk: Desk) -> None:
    exporting = Exports(stall_seconds=0.05)
    parts = replace(desk.api.parts, administration=replace(desk.acts, exporting=exporting))
    one = replace(desk, api=Api(parts))
    for _ in range(3):
        assert not one.ask("root", "GET", f"{PREFIX}/audit/export", stuck_after=2).complete
        assert exporting.under_way == 0
    assert one.ask("root", "HEAD", f"{PREFIX}/audit/export").complete
    assert one.ask("root", "GET", f"{PREFIX}/audit/export?since=soon").status == 400
    assert one.ask("alice", "GET", f"{PREFIX}/audit/export").status == 403
    assert exporting.under_way == 0


def test_who_has_as_many_exports_as_one_may_is_told_so_and_others_are_not_held_up(desk: Desk) -> None:
    exporting = Exports(most=2, most_each=1)
    parts = replace(desk.api.parts, administration=replace(desk.acts, exporting=exporting))
    one = replace(desk, api=Api(parts))

    async def ask() -> list[Any]:
        first = asyncio.create_task(one.asking("root", "GET", f"{PREFIX}/audit/export", stuck_after=1))
        async with asyncio.timeout(10):
            while not exporting.under_way:  # noqa: ASYNC110 - the export has no other sign
                await asyncio.sleep(0.01)
        answers = [
            await one.asking("root", "GET", f"{PREFIX}/audit/export"),
            await one.asking("root", "GET", f"{PREFIX}/reviews/1/pack"),
            await one.asking("auditor", "GET", f"{PREFIX}/audit/export"),
        ]
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        return answers

    own, pack, other = asyncio.run(ask())
    for answer in (own, pack):
        assert (answer.status, answer.headers["retry-after"]) == (429, "5")
        assert "exports of yours" in answer.problem["detail"]
    assert (other.status, other.complete, exporting.under_way) == (200, True, 0)


# limits and faults


def test_whoever_asks_too_often_is_told_when_to_come_back(desk: Desk) -> None:
    for limit in ("asked", "working"):
        parts = replace(desk.api.parts, **{limit: Budget(per_second=0.5, burst=2)})
        busy = replace(desk, api=Api(parts))
        statuses = [busy.ask("root", "GET", PROJECTS).status for _ in range(4)]
        assert statuses == [200, 200, 429, 429]
        assert busy.ask("root", "GET", PROJECTS).headers["retry-after"] == "2"
        other = busy.ask("alice", "GET", PROJECTS, address="192.0.2.99")
        assert other.status == 200, "others are not held up"


def test_an_act_that_cannot_be_recorded_is_not_done(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(ledger: object, act: object) -> Notes:
        raise Unavailable("The trail cannot be written now.", retry_after_seconds=7)

    with monkeypatch.context() as patched:
        patched.setattr(type(desk.world.house.ledger), "commit", full)
        for method, path, body in (("POST", PROJECTS, {"name": "unwritten"}), ("GET", f"{PREFIX}/audit/export", None)):
            answer = desk.ask("root", method, path, body)
            assert (answer.status, answer.headers["retry-after"]) == (503, "7")
            assert answer.problem["code"] == "UNAVAILABLE"
    assert desk.ask("root", "GET", f"{PROJECTS}/unwritten").status == 404


def test_a_fault_tells_nothing_but_its_number(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise KeyError("a secret of the house")

    monkeypatch.setattr(type(desk.acts), "projects", property(fails))
    with caplog.at_level(logging.ERROR, "gateway.api"):
        answer = desk.ask("root", "GET", PROJECTS)
    assert (answer.status, answer.problem["code"]) == (500, "FAULT")
    assert b"secret" not in answer.body
    assert answer.problem["request_id"] in caplog.text


def test_every_refusal_has_a_status_and_every_status_a_title() -> None:
    def all_of(kind: type[Refusal]) -> list[type[Refusal]]:
        return [kind, *(found for each in kind.__subclasses__() for found in all_of(each))]

    for kind in all_of(Refusal):
        refusal = kind.__new__(kind)
        assert problems.status_of(refusal) in problems.TITLES
    assert problems.status_of(errors.Stale("x", present=None)) == 412
    assert problems.status_of(errors.QuotaExceeded("x")) == 409
