"""The leak probe: silent while policy holds, loud for every way in which it may not."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select

from gateway import gate
from gateway.access import policy
from gateway.access.policy import Allowed, Refused
from gateway.access.scopes import Access, Action
from gateway.app import Rooms, application, opened
from gateway.audit.trail import Search
from gateway.canary import LeakAlarm, LeakProbe
from gateway.canary.stage import LOW
from gateway.errors import Unavailable
from gateway.initialisation import initialise
from gateway.records.schema import accounts, projects, repositories
from gateway.registry import edge, listings, routes, token
from gateway.settings import Settings


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rooms]:
    data = tmp_path_factory.mktemp("canary")
    data.chmod(0o700)
    settings = Settings.for_data(data, {})
    initialise(settings)
    with opened(settings) as made:
        yield made


def events(rooms: Rooms, **search: Any) -> list[dict[str, Any]]:
    return [event.record() for event in rooms.trail.export(Search(**search))]


def found(rooms: Rooms) -> set[tuple[str, str]]:
    """The rows in which a fresh probe found something, and as whom."""
    return {(each.row, each.who) for each in asyncio.run(LeakProbe.of(rooms).look())}


def test_nothing_is_found_and_nothing_is_left_while_policy_holds(rooms: Rooms) -> None:
    tables = (accounts, projects, repositories)

    def counted() -> list[int]:
        return [
            rooms.database.read_now(lambda c, table=table: c.execute(select(func.count()).select_from(table)).scalar())
            for table in tables
        ]

    before, kept = counted(), len(events(rooms))
    assert found(rooms) == set()
    assert counted() == before
    assert len(events(rooms)) == kept


def test_every_row_is_asked_by_everybody(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "judge", lambda *_: Allowed("anything"))
    monkeypatch.setattr(edge, "require_catalog", lambda *_: asyncio.sleep(0))
    rows = {f"{row.method} {row.pattern}" for row in routes.TABLE if row.pattern not in (routes.PING, routes.CATALOG)}
    seen = found(rooms)
    # Nobody without a token is met by the challenge before any policy is asked.
    for who in (
        "nobody with a token",
        "an account with a token that names the canary",
        "an account without a right",
    ):
        assert rows <= {row for row, asker in seen if asker == who}, who
    assert f"POST {routes.MOUNT}" in {row for row, asker in seen if asker == "an account next door"}


def test_what_the_broken_policy_lets_pass_changes_nothing(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = len(events(rooms))
    monkeypatch.setattr(gate, "judge", lambda *_: Allowed("anything"))
    assert found(rooms)
    assert len(events(rooms)) == kept
    assert list((rooms.settings.data / "uploads").glob("*")) == []


def unscoped(judge: Callable[..., Any]) -> Callable[..., Any]:
    """A judgement that no longer asks what the token carries."""
    return lambda caller, *rest: judge(replace(caller, access=None), *rest)


def forgetful(judge: Callable[..., Any]) -> Callable[..., Any]:
    """A judgement that takes every project for a public one."""
    return lambda caller, need, standing, project, now: judge(
        caller, need, standing, replace(project, public=True) if project else None, now
    )


def prefixed(judge: Callable[..., Any]) -> Callable[..., Any]:
    """A judgement for which whoever holds a grant anywhere holds it everywhere."""

    def judged(caller: Any, need: Any, standing: Any, project: Any, now: Any) -> Any:
        verdict = judge(caller, need, standing, project, now)
        return Allowed("some grant") if isinstance(verdict, Refused) and standing and standing.grants else verdict

    return judged


@pytest.mark.parametrize(
    ("broken", "who", "rows"),
    [
        (forgetful, "nobody with a token", {"GET", "HEAD"}),
        (forgetful, "an account with a token that names the canary", {"GET", "HEAD"}),
        (prefixed, "an account with a token that names the canary", {"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"}),
        (prefixed, "an account without a right", {"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"}),
    ],
)
def test_each_way_of_judging_wrongly_is_found(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch, broken: Callable[..., Any], who: str, rows: set[str]
) -> None:
    monkeypatch.setattr(gate, "judge", broken(policy.judge))
    assert {row.split(" ")[0] for row, asker in found(rooms) if asker == who} == rows


def test_a_judgement_that_forgets_the_token_is_no_leak_without_a_grant(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "judge", unscoped(policy.judge))
    assert found(rooms) == set()


def test_a_row_that_needs_nothing_is_found(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    row = routes._ROWS[routes.BY_TAG]["GET"]
    assert isinstance(row, routes.Row)
    monkeypatch.setitem(routes._ROWS[routes.BY_TAG], "GET", replace(row, needs=routes.nothing))
    routes.find.cache_clear()
    assert {row for row, _ in found(rooms)} == {f"GET {routes.BY_TAG}"}


def test_requests_without_a_token_that_are_believed_are_found(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    real = edge.authenticate

    async def trusting(request: Any, kind: Any, scope: str) -> Any:
        if not request.headers.get("authorization"):
            request.headers = {**request.headers, "authorization": (f"Bearer {root}",)}
        return await real(request, kind, scope)

    probe = LeakProbe.of(rooms)
    root = probe._token(LOW, Access())
    monkeypatch.setattr(edge, "authenticate", trusting)
    assert {each.row for each in asyncio.run(probe.look())} == {f"GET {routes.PING}", f"HEAD {routes.PING}"}


def test_a_catalog_that_lists_everything_is_found(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    async def everything(request: Any, caller: Any) -> Any:
        return None, lambda _: True

    monkeypatch.setattr(listings, "_visible", everything)
    assert found(rooms) == {(f"GET {routes.CATALOG}", "an account without a right")}


def test_a_token_that_carries_too_much_is_found(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token, "granted", lambda caller, wanted, *rest: wanted)
    assert found(rooms) == {(f"GET {routes.TOKEN}", "nobody")}


def test_content_in_a_refusal_is_found(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = LeakProbe.of(rooms)
    monkeypatch.setattr(edge, "refused", _telling(edge.refused, probe.canary.secret))
    assert len(asyncio.run(probe.look())) > len(routes.TABLE)


def _telling(refused: Callable[..., Any], secret: str) -> Callable[..., Any]:
    return lambda *given, **more: refused(*given, **more).and_headers(("X-Debug", secret))


def test_what_was_found_is_an_event_a_warning_and_a_line_and_ends_with_the_leak(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    alarm = LeakAlarm(LeakProbe.of(rooms), rooms.gate)
    front = application(rooms, alarm.warnings)
    asyncio.run(alarm.look())
    assert ready(front)["warnings"] == []
    with monkeypatch.context() as broken:
        broken.setattr(gate, "judge", lambda *_: Allowed("anything"))
        for _ in range(5):
            asyncio.run(alarm.look())
    [event] = events(rooms, kind="leak.found")
    assert (event["outcome"], event["principal_kind"], event["reason"]) == ("failed", "system", "canary_answered")
    assert event["detail"]["answers"] > len(routes.TABLE)
    assert 0 < len(event["detail"]["first"]) <= 10
    told = json.dumps(event) + caplog.text
    canary = alarm._probe.canary
    assert canary.secret not in told
    assert canary.repository.name not in told
    assert [record for record in caplog.records if record.levelno == logging.CRITICAL]
    [warning] = ready(front)["warnings"]
    assert "leak.found" in warning
    asyncio.run(alarm.look())
    assert ready(front)["warnings"] == []


def test_a_leak_that_goes_on_is_told_again_now_and_then(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(events(rooms, kind="leak.found"))
    alarm = LeakAlarm(LeakProbe.of(rooms), rooms.gate)
    monkeypatch.setattr(token, "granted", lambda caller, wanted, *rest: wanted)
    for _ in range(25):
        asyncio.run(alarm.look())
    assert len(events(rooms, kind="leak.found")) - before == 3


def test_a_gateway_that_cannot_answer_is_no_leak(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> object:
        raise Unavailable("Try again later.", retry_after_seconds=1)

    monkeypatch.setattr(gate, "judge", broken)
    assert found(rooms) == set()


def test_watching_outlives_a_probe_that_fails(rooms: Rooms, caplog: pytest.LogCaptureFixture) -> None:
    enough = asyncio.Event()

    class Failing:
        looks = 0

        async def look(self) -> tuple[object, ...]:
            self.looks += 1
            if self.looks == 5:
                enough.set()
            raise Unavailable("no", retry_after_seconds=1) if self.looks % 2 else RuntimeError("no")

    async def watched() -> None:
        watching = asyncio.create_task(LeakAlarm(Failing(), rooms.gate).watch(0.001))  # type: ignore[arg-type]
        await enough.wait()
        watching.cancel()

    asyncio.run(watched())
    assert "could not be seen" in caplog.text
    assert "tried again" in caplog.text


def test_the_account_of_the_probe_is_nobody_to_the_real_gate(rooms: Rooms) -> None:
    probe = LeakProbe.of(rooms)
    neighbour = Access({probe.canary.neighbour.name: frozenset(Action)})
    front = application(rooms, list)
    text = probe._token(LOW, neighbour)
    for target in (f"/v2/{probe.canary.neighbour}/tags/list", f"/v2/{probe.canary.repository}/tags/list", "/v2/"):
        status, _ = ask(front, target, text)
        assert status == 401


def ready(front: Any) -> dict[str, Any]:
    status, body = ask(front, "/health/ready")
    assert status == 200
    return dict(json.loads(body))


def ask(front: Any, target: str, token: str = "") -> tuple[int, bytes]:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), *([(b"authorization", f"Bearer {token}".encode())] if token else [])]
    scope = {
        "type": "http",
        "method": "GET",
        "path": target,
        "raw_path": target.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
    }
    asyncio.run(front(scope, receive, send))
    return int(sent[0]["status"]), b"".join(each.get("body", b"") for each in sent[1:])
