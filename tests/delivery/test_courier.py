"""Couriers: everything arrives, in order, at least once, whatever the sink does; and what it cannot have is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert

from gateway import delivery
from gateway.access.secrets import Secrets
from gateway.administration.evidence import Evidence
from gateway.audit.event import Event, Kind
from gateway.audit.offline import Reader, read_key
from gateway.audit.sinks.port import Shipment, Sink, SinkFailed
from gateway.audit.sinks.webhook import WebhookSink
from gateway.delivery import Courier
from gateway.gate import Act
from gateway.records import checkpoints, cursors
from gateway.records.cursors import Lag
from gateway.records.evidence_tables import checkpoints as stored
from gateway.records.trail import project_tail
from tests.house import GATEWAY, OPERATOR, House
from tests.records.rows import written
from tests.records.test_condition import tamper
from tests.services.receivers import a_hook, a_slow_peer

#: What asks nothing of a database that the others do not.
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
OLD = datetime(2025, 3, 1, tzinfo=UTC)


class Shelf:
    """A sink that keeps what it takes; it refuses while *refusals* last, or takes it and says that it did not."""

    def __init__(self, *refusals: str) -> None:
        self.refusals = list(refusals)
        self.lines: list[str] = []

    def deliver(self, shipment: Shipment) -> None:
        refusal = self.refusals.pop(0) if self.refusals else ""
        if refusal == "crash":
            raise RuntimeError("a fault")
        if refusal != "refused":
            self.lines += shipment.lines
        if refusal:
            raise SinkFailed("it does not want to")

    def abort(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""

    def events(self) -> list[int]:
        return [json.loads(line)["id"] for line in self.lines if '"id":' in line]


def fill(house: House, count: int, time: datetime | None = None) -> None:
    async def all_of_them() -> None:
        for number in range(count):
            event = Event(Kind.BLOB_PULL, GATEWAY, reference=f"{number}", time=time or datetime.now(UTC))
            await house.ledger.commit(Act(event))

    house.run(all_of_them())


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(delivery, "_FIRST_REST_SECONDS", 0.01)
    monkeypatch.setattr(delivery, "_LONGEST_REST_SECONDS", 0.02)


def deliver(house: House, shelf: Sink, until: Callable[[], bool], *, batch: int = 7) -> None:
    """Lets a courier run until something is so; then it is stopped, as at the end of the process."""

    async def running() -> None:
        await house.ledger.commit(
            Act(Event(Kind.AUDIT_DELIVERY, GATEWAY), cursors.want({"shelf": ("file", "/shelf")}), silent=True)
        )
        courier = Courier("shelf", shelf, house.database, house.trail, house.ledger, lambda: GATEWAY, batch=batch)
        task = asyncio.create_task(courier.run())
        async with asyncio.timeout(20):
            while not until():  # noqa: ASYNC110 - what is waited for is in a database
                await asyncio.sleep(0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    house.run(running())


def lag(house: House) -> Lag:
    (found,) = house.database.read_now(lambda connection: cursors.lags(connection, datetime.now(UTC).timestamp()))
    return found


@contextmanager
def evidence(house: House) -> Iterator[Evidence]:
    yield Evidence(house.gate, house.database, house.trail, Secrets(b"s" * 32))


def test_every_event_arrives_in_order_with_the_checkpoints_after_what_they_name(house: House) -> None:
    fill(house, 20)
    with evidence(house) as acts:
        made = house.run(acts.checkpoint(OPERATOR))
        public = house.run(acts.public_key(OPERATOR))
    shelf = Shelf()

    deliver(house, shelf, lambda: '"checkpoint"' in "".join(shelf.lines) and lag(house).events == 0)

    assert shelf.events() == list(range(1, len(shelf.events()) + 1))
    reader = Reader(read_key(public.pem))
    for line in shelf.lines:
        reader.take(line)
    found = reader.end()
    assert (found.fault, found.proven) == ("", made.seq)
    assert (lag(house).trouble, lag(house).seconds) == ("", 0)


@ON_SQLITE
def test_a_receiver_can_tell_checkpoints_that_are_new_from_what_it_has(house: House) -> None:
    fill(house, 3)
    with evidence(house) as acts:
        key = house.run(acts.signing_key(OPERATOR))

    def delivered() -> int:
        return house.database.read_now(lambda connection: cursors.cursor(connection, "shelf")).checkpoint

    with a_hook() as hook:
        for number in (1, 2, 3):
            # The first time events come with it, and then it comes alone.
            made = Act(Event(Kind.AUDIT_CHECKPOINT, GATEWAY), checkpoints.make(key, always=True), silent=True)
            house.run(house.ledger.commit(made))
            sink = WebhookSink("shelf", hook.url, lambda: "s" * 16)
            deliver(house, sink, lambda number=number: delivered() == number, batch=50)  # type: ignore[misc]

    told = [(post.headers.get("x-gateway-events"), post.headers.get("x-gateway-checkpoints")) for post in hook.got]
    last = json.loads(hook.got[0].body.splitlines()[-2])["id"]
    assert told == [(f"1-{last}", "1-1"), (None, "2-2"), (None, "3-3")]


FORGED = ["{}", "null", "", '{"type":"checkpoint"', '{"type":"segment","number":2,"seq":1}']


@pytest.mark.parametrize("count", [1, 250])
def test_a_row_that_is_no_checkpoint_is_given_to_no_sink_and_keeps_none_from_it(house: House, count: int) -> None:
    fill(house, 3)
    with evidence(house) as acts:
        first = house.run(acts.checkpoint(OPERATOR))
        rows = [
            {"number": 2 + number, "seq": 1, "made_at": 1, "line": FORGED[number % len(FORGED)]}
            for number in range(count)
        ]
        # What somebody signed, and somebody else moved to another number, so that those below it are not asked for.
        rows.append({"number": 2**62, "seq": first.seq, "made_at": 1, "line": first.line})
        written(house, lambda connection: connection.execute(insert(stored).values(rows)))
        last = house.run(acts.checkpoint(OPERATOR))
    shelf = Shelf()

    deliver(house, shelf, lambda: last.line in shelf.lines)

    assert [line for line in shelf.lines if '"id":' not in line] == [first.line, last.line]
    fault = house.trail.verify().fault
    assert "the checkpoint of event 1 was edited" in fault


def test_what_says_that_it_is_a_checkpoint_under_a_number_far_off_keeps_none_from_a_sink(house: House) -> None:
    fill(house, 3)
    shelf = Shelf()
    with evidence(house) as acts:
        first = house.run(acts.checkpoint(OPERATOR))
        deliver(house, shelf, lambda: first.line in shelf.lines)
        number = 2**62
        line = first.line.replace(f'"number":{first.number},', f'"number":{number},')
        row = {
            "number": number,
            "seq": first.seq - 1,
            "made_at": 1,
            "line": line.replace(f":{first.seq},", f":{first.seq - 1},"),
        }
        written(house, lambda connection: connection.execute(insert(stored).values(row)))
        deliver(house, shelf, lambda: lag(house).events == 0)
        last = house.run(acts.checkpoint(OPERATOR))

    deliver(house, shelf, lambda: last.line in shelf.lines)

    # What was taken when a courier stopped may come again.
    assert list(dict.fromkeys(line for line in shelf.lines if '"id":' not in line)) == [first.line, last.line]


@ON_SQLITE
@pytest.mark.parametrize("forged", ["x'ff00'", "5", "char(10) || line", "replace(line, ',', ',' || char(10))"])
def test_a_checkpoint_that_is_no_line_of_text_is_given_to_no_sink(house: House, forged: str) -> None:
    fill(house, 3)
    with evidence(house) as acts:
        house.run(acts.checkpoint(OPERATOR))
        written(house, lambda connection: connection.exec_driver_sql(f"UPDATE checkpoints SET line = {forged}"))
        last = house.run(acts.checkpoint(OPERATOR))
    shelf = Shelf()

    deliver(house, shelf, lambda: last.line in shelf.lines)

    assert [line for line in shelf.lines if '"id":' not in line] == [last.line]


@ON_SQLITE
def test_a_courier_goes_on_where_the_last_one_stopped(house: House) -> None:
    fill(house, 10)
    first = Shelf()
    deliver(house, first, lambda: len(first.lines) >= 7, batch=7)
    second = Shelf()
    deliver(house, second, lambda: 10 in second.events(), batch=7)

    assert second.events()[0] <= first.events()[-1] + 1
    assert sorted({*first.events(), *second.events()}) == list(range(1, 11))


@ON_SQLITE
def test_what_a_sink_refused_comes_again_and_nothing_is_left_out(house: House) -> None:
    fill(house, 30)
    shelf = Shelf("refused", "", "lost receipt", "crash", "refused", "")

    deliver(house, shelf, lambda: 30 in shelf.events(), batch=7)

    assert sorted(set(shelf.events())) == list(range(1, 31))
    # At least once: what came again, came again as a run of its own.
    reader = Reader(None)
    for line in shelf.lines:
        reader.take(line)
    assert reader.end().fault == ""
    assert len(shelf.events()) == 37


@ON_SQLITE
def test_a_sink_that_refuses_keeps_nobody_waiting_and_its_lag_is_seen(house: House) -> None:
    fill(house, 5)
    shelf = Shelf(*["refused"] * 10_000)

    deliver(house, shelf, lambda: lag(house).trouble != "")

    found = lag(house)
    assert (found.events, found.seq, found.trouble) == (5, 0, "it does not want to")
    assert found.failing_since is not None
    fill(house, 1)
    assert lag(house).events == 6


@ON_SQLITE
def test_a_peer_that_drips_holds_nothing_but_its_own_place_and_gets_everything_once_it_hurries(house: House) -> None:
    fill(house, 5)
    with a_slow_peer(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 10_000) as port:
        slow = WebhookSink("shelf", f"http://127.0.0.1:{port}/", lambda: "s" * 16, whole_seconds=0.2)
        deliver(house, slow, lambda: lag(house).trouble != "")

    found = lag(house)
    assert (found.events, found.seq, found.trouble) == (5, 0, "127.0.0.1 does not answer: it takes too long")
    with a_hook() as hook:
        deliver(house, WebhookSink("shelf", hook.url, lambda: "s" * 16), lambda: lag(house).events == 0, batch=2)
    told = [json.loads(line)["id"] for line in hook.lines()]
    assert told == list(range(1, len(told) + 1))
    assert len(told) >= 5


@ON_SQLITE
def test_a_failure_that_lasts_is_an_event_and_so_is_its_end(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_LASTING_SECONDS", 0)
    fill(house, 5)
    shelf = Shelf("refused", "refused", "refused")

    deliver(house, shelf, lambda: len(house.records(kind="audit.delivery")) >= 2)

    failed, ended = house.records(kind="audit.delivery")[:2]
    assert (failed["outcome"], failed["reason"], failed["detail"]["sink"]) == ("failed", "sink_failed", "shelf")
    assert ended["outcome"] == "allowed"


@ON_SQLITE
def test_the_end_of_a_failure_is_an_event_also_after_a_restart(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_LASTING_SECONDS", 0)
    fill(house, 5)
    deliver(house, Shelf(*["refused"] * 1000), lambda: len(house.records(kind="audit.delivery")) >= 1)

    deliver(house, Shelf(), lambda: len(house.records(kind="audit.delivery")) >= 2)

    told = house.records(kind="audit.delivery")
    assert [each["outcome"] for each in told] == ["failed", "allowed"]


@ON_SQLITE
def test_a_sink_that_takes_everything_after_a_restart_is_nothing_to_tell(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_LASTING_SECONDS", 0)
    fill(house, 5)

    deliver(house, Shelf(), lambda: lag(house).events == 0)

    assert house.records(kind="audit.delivery") == []


@ON_SQLITE
def test_events_that_were_sealed_away_are_delivered_from_their_segment(house: House) -> None:
    fill(house, 20, OLD)
    fill(house, 5)
    project(house)
    with evidence(house) as acts:
        assert house.run(acts.retain(OPERATOR, datetime(2025, 6, 1, tzinfo=UTC))).events == 20
    shelf = Shelf()

    deliver(house, shelf, lambda: lag(house).events == 0, batch=7)

    assert shelf.events() == list(range(1, len(shelf.events()) + 1))


def test_events_that_were_purged_before_delivery_leave_a_gap_that_is_told(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.administration.evidence.SETTLED", timedelta(0))
    fill(house, 20, OLD)
    fill(house, 5)
    project(house)
    cut = datetime(2025, 6, 1, tzinfo=UTC)
    with evidence(house) as acts:
        house.run(acts.retain(OPERATOR, cut, cut))
    shelf = Shelf()

    deliver(house, shelf, lambda: lag(house).events == 0, batch=7)

    assert json.loads(shelf.lines[0]) == {"first": 1, "last": 20, "reason": "purged before delivery", "type": "gap"}
    assert shelf.events()[0] == 21


def project(house: House) -> None:
    with house.database.lock(), house.database.engine.connect() as connection:
        while project_tail(house.database, connection):
            pass


@ON_SQLITE
def test_a_sink_that_the_settings_no_longer_name_keeps_its_place(house: House) -> None:
    fill(house, 3)
    shelf = Shelf()
    deliver(house, shelf, lambda: lag(house).events == 0)
    nothing = Act(Event(Kind.AUDIT_DELIVERY, GATEWAY), cursors.want({}), silent=True)
    house.run(house.ledger.commit(nothing))

    assert (lag(house).wanted, lag(house).seq) == (False, 3)


FAR_AWAY = 1 << 62
COPY = "INSERT INTO events (seq, body, hash) SELECT {seq}, body, hash FROM events WHERE seq = 3"


def delivered(house: House, shelf: Shelf, last: int) -> Callable[[], bool]:
    """Whether the event of that number has arrived, and nothing is left."""
    return lambda: last in shelf.events() and lag(house).events == 0


def turn(house: House, shelf: Shelf) -> None:
    """Lets a courier look once."""
    courier = Courier("shelf", shelf, house.database, house.trail, house.ledger, lambda: GATEWAY)
    house.run(courier._turn())


def test_a_row_far_behind_the_end_is_sent_to_no_sink_and_keeps_nothing_from_it(house: House) -> None:
    fill(house, 3)
    shelf = Shelf()
    deliver(house, shelf, delivered(house, shelf, 3))
    tamper(house, COPY.format(seq=FAR_AWAY))

    turn(house, shelf)
    fill(house, 5)
    assert lag(house).events == 5
    deliver(house, shelf, delivered(house, shelf, 8))
    tamper(house, f"DELETE FROM events WHERE seq = {FAR_AWAY}")
    fill(house, 5)
    deliver(house, shelf, delivered(house, shelf, 13))

    assert shelf.events() == list(range(1, 14))
    assert (lag(house).seq, lag(house).trouble) == (13, "")


def test_a_record_of_the_head_that_was_raised_to_a_row_far_behind_it_sends_that_row_to_no_sink(house: House) -> None:
    fill(house, 3)
    shelf = Shelf()
    deliver(house, shelf, delivered(house, shelf, 3))
    tamper(house, COPY.format(seq=FAR_AWAY), f"UPDATE trail_head SET seq = {FAR_AWAY}")

    # Nobody does anything else: keeping its trouble is what has the record sealed anew.
    turn(house, shelf)
    assert "was edited" in lag(house).trouble
    turn(house, shelf)

    assert shelf.events() == [1, 2, 3, 4]
    assert '"kind":"audit.break"' in shelf.lines[-1]
    assert (lag(house).seq, lag(house).trouble) == (4, "")


def test_where_the_trail_goes_on_behind_rows_that_were_put_in_the_gap_is_told_and_what_follows_arrives(
    house: House,
) -> None:
    fill(house, 3)
    tamper(house, COPY.format(seq=1000))
    fill(house, 2)
    shelf = Shelf()

    deliver(house, shelf, delivered(house, shelf, 1003))

    # What was put in is a copy, and says that it is event 3.
    assert shelf.events() == [1, 2, 3, 3, 1001, 1002, 1003]
    told = {"first": 4, "last": 999, "reason": "missing from the trail", "type": "gap"}
    assert json.loads(shelf.lines[3]) == told


@pytest.mark.parametrize(("gone", "gap"), [("seq IN (5, 6)", (5, 6)), ("seq > 8", (9, 10)), ("seq < 3", (1, 2))])
def test_events_that_are_missing_from_the_trail_are_told_in_their_place(
    house: House, gone: str, gap: tuple[int, int]
) -> None:
    fill(house, 10)
    tamper(house, f"DELETE FROM events WHERE {gone}")
    shelf = Shelf()

    deliver(house, shelf, lambda: lag(house).seq >= 10)

    place = next(number for number, line in enumerate(shelf.lines) if '"gap"' in line)
    assert (place, json.loads(shelf.lines[place])["first"], json.loads(shelf.lines[place])["last"]) == (
        gap[0] - 1,
        *gap,
    )
    assert shelf.events()[:8] == [seq for seq in range(1, 11) if not gap[0] <= seq <= gap[1]]


@pytest.mark.parametrize("first", [4, 5])
def test_a_row_of_purged_events_that_reaches_beyond_the_end_keeps_nothing_from_a_sink(house: House, first: int) -> None:
    fill(house, 6)
    tamper(house, "DELETE FROM events WHERE seq = 4")
    nothing = f"X'{'00' * 32}'" if house.database.sqlite else f"'\\x{'00' * 32}'"
    values = f"{FAR_AWAY}, {first}, '', '', {nothing}, {nothing}, 'none', 0, '', '{{}}'"
    columns = (
        "last_seq, first_seq, first_time, last_time, previous_hash, last_hash, file, file_bytes, file_sha256, stub"
    )
    tamper(house, f"INSERT INTO segments ({columns}) VALUES ({values})")
    shelf = Shelf()

    deliver(house, shelf, delivered(house, shelf, 6))
    turn(house, shelf)
    fill(house, 2)
    turn(house, shelf)

    assert shelf.events() == [1, 2, 3, 5, 6, 7, 8]
    assert lag(house).seq == 8


def test_a_place_beyond_the_end_of_the_trail_is_a_trouble_that_is_told_and_a_lag(house: House) -> None:
    fill(house, 3, OLD)
    shelf = Shelf()
    deliver(house, shelf, delivered(house, shelf, 3))
    tamper(house, f"UPDATE sinks SET seq = {FAR_AWAY}")
    found = lag(house)
    assert (found.events, found.failing_since) == (3, None)
    assert found.seconds > 86_400
    assert found.trouble.startswith(f"its place, event {FAR_AWAY}, is beyond the end of the trail, event 3: ")

    fill(house, 5)
    deliver(house, shelf, lambda: lag(house).failing_since is not None)

    assert (lag(house).events, shelf.events()) == (8, [1, 2, 3])
    assert lag(house).trouble.startswith(f"its place, event {FAR_AWAY}, is beyond the end of the trail, event ")
