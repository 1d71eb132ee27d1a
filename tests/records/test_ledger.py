"""The ledger: what is acknowledged is on disk in one transaction with its event, whatever else happens."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select, text
from sqlalchemy.engine.interfaces import DBAPICursor

from gateway.access.directory import View
from gateway.access.policy import Allowed, Reason, Refused, Verdict
from gateway.audit.event import Event, Kind
from gateway.change import Change, Notes
from gateway.errors import Conflict, Denied, Refusal, Unavailable
from gateway.gate import Act
from gateway.oci.names import ProjectName, Repository
from gateway.records import database as rooms_database
from gateway.records import ledger as rooms_ledger
from gateway.records.database import Database
from gateway.records.matching import projected_until
from gateway.records.schema import facts
from gateway.records.versions import settled
from tests.house import GATEWAY, House, opened

EVENT = Event(Kind.PROJECT_ADD, GATEWAY)


def keep(name: str, value: str = "1", *, policy: bool = False) -> Change:
    def apply(connection: Connection) -> Notes:
        connection.execute(insert(facts).values(name=name, value=value))
        return Notes(after={name: value}, result=value)

    return Change(apply, policy=policy)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def kept(house: House) -> dict[str, str]:
    rows = house.database.read_now(lambda connection: connection.execute(select(facts)).all())
    return {row.name: row.value for row in rows}


def test_a_change_and_its_event_are_there_together(house: House) -> None:
    notes = house.run(house.ledger.commit(Act(EVENT, keep("a"))))

    assert notes.result == "1"
    assert kept(house) == {"a": "1"}
    assert [record["after"] for record in house.records()] == [{"a": "1"}]


def test_a_refusal_undoes_its_own_statements_and_leaves_its_event(house: House) -> None:
    def apply(connection: Connection) -> Notes:
        connection.execute(insert(facts).values(name="b", value="1"))
        raise Conflict("It exists already.")

    async def both() -> list[Any]:
        refused = house.ledger.commit(Act(EVENT, Change(apply)))
        return await asyncio.gather(refused, house.ledger.commit(Act(EVENT, keep("a"))), return_exceptions=True)

    refused, allowed = house.run(both())

    assert isinstance(refused, Conflict)
    assert isinstance(allowed, Notes)
    assert kept(house) == {"a": "1"}
    assert sorted((r["outcome"], r.get("reason", "")) for r in house.records()) == [
        ("allowed", ""),
        ("failed", "conflict"),
    ]


def test_what_goes_with_a_refusal_is_committed_with_its_event(house: House) -> None:
    def refuse(connection: Connection) -> Notes:
        connection.execute(insert(facts).values(name="undone", value="1"))
        raise Conflict("It exists already.")

    def gone(view: View) -> Verdict:
        return Refused(Reason.NO_GRANT)

    def instead(name: str) -> Callable[[Connection], None]:
        def apply(connection: Connection) -> None:
            connection.execute(insert(facts).values(name=name, value="1"))

        return apply

    async def story() -> list[Any]:
        acts = [
            Act(EVENT, Change(refuse), silent=True, otherwise=instead("refused")),
            Act(EVENT, keep("undone"), -1, gone, lambda _: Denied("No."), silent=True, otherwise=instead("judged")),
            Act(EVENT, keep("a"), otherwise=instead("unasked")),
        ]
        return await asyncio.gather(*(house.ledger.commit(act) for act in acts), return_exceptions=True)

    assert [type(ended) for ended in house.run(story())] == [Conflict, Denied, Notes]
    assert kept(house) == {"refused": "1", "judged": "1", "a": "1"}
    assert [record["outcome"] for record in house.records()] == ["failed", "denied", "allowed"]


def test_what_cannot_go_with_a_refusal_takes_neither_its_event_nor_others_along(house: House) -> None:
    def refuse(connection: Connection) -> Notes:
        raise Conflict("It exists already.")

    def fail(connection: Connection) -> None:
        connection.execute(insert(facts).values(name="undone", value="1"))
        connection.execute(text("SELECT no_such_column FROM facts"))

    async def story() -> list[Any]:
        refused = house.ledger.commit(Act(EVENT, Change(refuse), otherwise=fail))
        return await asyncio.gather(refused, house.ledger.commit(Act(EVENT, keep("a"))), return_exceptions=True)

    assert [type(ended) for ended in house.run(story())] == [Conflict, Notes]
    assert kept(house) == {"a": "1"}
    assert [record["outcome"] for record in house.records()] == ["failed", "allowed"]


def test_who_is_patient_is_committed_with_the_next_who_is_not(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    settle = house.ledger._settle
    monkeypatch.setattr(house.ledger, "_settle", lambda batch: (batches.append(len(batch)), settle(batch))[1])
    monkeypatch.setattr(rooms_ledger, "_PATIENT_SECONDS", 30.0)

    async def story() -> None:
        waiting = [asyncio.create_task(house.ledger.commit(Act(EVENT, patient=True))) for _ in range(3)]
        await asyncio.sleep(0.2)
        assert not any(task.done() for task in waiting)
        await house.ledger.commit(Act(EVENT, keep("a")))
        await asyncio.gather(*waiting)

    house.run(story())
    assert batches == [4]
    assert len(house.records()) == 4


def test_who_is_patient_waits_no_longer_than_a_moment(house: House) -> None:
    async def story() -> None:
        async with asyncio.timeout(10):
            await asyncio.gather(*(house.ledger.commit(Act(EVENT, patient=True)) for _ in range(600)))

    house.run(story())
    assert len(house.records()) == 600


def test_who_is_patient_is_committed_before_the_ledger_closes(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms_ledger, "_PATIENT_SECONDS", 30.0)

    async def story() -> None:
        waiting = asyncio.create_task(house.ledger.commit(Act(EVENT, patient=True)))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(house.ledger.close)
        await waiting

    house.run(story())
    assert len(house.records()) == 1


def test_who_was_patient_for_a_moment_has_places_in_every_batch_and_leaves_most_to_others(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[tuple[int, int]] = []
    settle = house.ledger._settle

    def counting(batch: Sequence[Any]) -> None:
        patient = sum(waiting.act.patient for waiting in batch)
        batches.append((len(batch) - patient, patient))
        settle(batch)

    monkeypatch.setattr(house.ledger, "_settle", counting)
    entered, go = threading.Event(), threading.Event()

    def hold(connection: Connection) -> Notes:
        entered.set()
        go.wait(10)
        return Notes()

    async def story() -> None:
        held = asyncio.create_task(house.ledger.commit(Act(EVENT, Change(hold))))
        await asyncio.to_thread(entered.wait, 10)
        refused = [asyncio.create_task(house.ledger.commit(Act(EVENT, patient=True))) for _ in range(70)]
        others = [asyncio.create_task(house.ledger.commit(Act(EVENT))) for _ in range(600)]
        await asyncio.to_thread(wait_until, lambda: house.ledger._hurried)
        go.set()
        await asyncio.gather(held, *refused, *others)

    house.run(story())
    assert batches == [(1, 0), (192, 64), (250, 6), (158, 0)]


def test_a_defect_in_a_change_fails_that_act_alone(house: House) -> None:
    def apply(connection: Connection) -> Notes:
        connection.execute(text("INSERT INTO no_such_table VALUES (1)"))
        return Notes()

    async def both() -> list[Any]:
        broken = house.ledger.commit(Act(EVENT, Change(apply)))
        return await asyncio.gather(broken, house.ledger.commit(Act(EVENT, keep("a"))), return_exceptions=True)

    broken, allowed = house.run(both())

    assert isinstance(broken, Exception)
    assert not isinstance(broken, Refusal)
    assert isinstance(allowed, Notes)
    assert [r["reason"] for r in house.records(outcome="failed")] == ["fault"]


def test_an_act_judged_under_an_older_policy_is_judged_again(house: House) -> None:
    seen: list[View] = []

    def rejudge(view: View) -> Verdict:
        seen.append(view)
        return Refused(Reason.NO_GRANT)

    act = Act(EVENT, keep("a"), house.database.versions.policy(), rejudge, lambda verdict: Denied("Gone."))
    house.run(house.ledger.commit(act))
    assert seen == []

    house.run(house.ledger.commit(Act(EVENT, keep("policy", policy=True))))
    with pytest.raises(Denied):
        house.run(house.ledger.commit(Act(EVENT, keep("b"), act.version, rejudge, act.refusal)))

    assert "b" not in kept(house)
    assert [r["reason"] for r in house.records(outcome="denied")] == ["no_grant"]


def test_an_act_behind_a_policy_change_in_the_same_transaction_is_judged_again(house: House) -> None:
    version = house.database.versions.policy()
    refuse = Act(EVENT, keep("b"), version, lambda view: Refused(Reason.NO_GRANT), lambda verdict: Denied("Gone."))

    async def queued() -> list[Any]:
        change = house.ledger.commit(Act(EVENT, keep("a", policy=True), version))
        return await asyncio.gather(change, house.ledger.commit(refuse), return_exceptions=True)

    entered, go = threading.Event(), threading.Event()

    def hold(connection: Connection) -> Notes:
        entered.set()
        go.wait(10)
        return Notes()

    # While the committer is held in this one, whatever comes is its next transaction.
    first = threading.Thread(target=lambda: house.run(house.ledger.commit(Act(EVENT, Change(hold)))))
    first.start()
    entered.wait(10)
    answers: list[Any] = []
    both = threading.Thread(target=lambda: answers.extend(house.run(queued())))
    both.start()
    wait_until(lambda: len(house.ledger._waiting) == 2)
    go.set()
    first.join()
    both.join()

    assert isinstance(answers[1], Denied)
    assert "b" not in kept(house)


def test_a_re_judgement_that_still_allows_commits(house: House) -> None:
    act = Act(EVENT, keep("a"), -2, lambda view: Allowed("administrator"), lambda verdict: Denied("Gone."))

    house.run(house.ledger.commit(act))

    assert kept(house) == {"a": "1"}


def test_a_silent_act_leaves_no_event_unless_it_is_refused(house: House) -> None:
    def refuse(connection: Connection) -> Notes:
        raise Conflict("It exists already.")

    house.run(house.ledger.commit(Act(EVENT, keep("a"), silent=True)))
    assert house.records() == []

    with pytest.raises(Conflict):
        house.run(house.ledger.commit(Act(EVENT, Change(refuse), silent=True)))
    assert len(house.records()) == 1


def test_events_a_change_causes_are_sealed_before_its_own(house: House) -> None:
    change = Change(lambda connection: Notes(also=(("project.add", {"project": "gallery"}),)))

    house.run(house.ledger.commit(Act(Event(Kind.UPLOAD_BEGIN, GATEWAY), change, silent=True)))

    assert [(r["kind"], r["project"]) for r in house.records()] == [("project.add", "gallery")]


def test_what_a_change_found_out_is_told_beside_what_was_noted_before(house: House) -> None:
    noted = Event(Kind.GATEWAY_START, GATEWAY, detail={"noted": 1, "both": 1})
    house.run(house.ledger.commit(Act(noted, Change(lambda _: Notes(detail={"both": 2, "found": 2})))))
    assert house.records()[-1]["detail"] == {"noted": 1, "both": 2, "found": 2}


def test_versions_move_with_what_they_stand_for_and_come_to_rest(house: House) -> None:
    versions, repository = house.database.versions, Repository("gallery/ui")
    policy, content = versions.policy(), versions.content("gallery/ui")

    house.run(house.ledger.commit(Act(EVENT, keep("a"))))
    assert (versions.policy(), versions.content("gallery/ui")) == (policy, content)

    house.run(house.ledger.commit(Act(EVENT, keep("b", policy=True))))
    moved = Change(lambda connection: Notes(), repositories=(repository,))
    house.run(house.ledger.commit(Act(EVENT, moved)))

    assert versions.policy() == policy + 2
    assert versions.content("gallery/ui") == content + 2
    assert settled(versions.policy())


def test_a_counter_left_in_motion_by_a_dead_process_is_put_right(house: House) -> None:
    house.database.versions._counters[0] |= 1
    assert not settled(house.database.versions.policy())

    with opened(str(house.database.engine.url.render_as_string(hide_password=False)), house.data):
        assert settled(house.database.versions.policy())


def test_nothing_is_acknowledged_when_the_trail_cannot_take_it(house: House) -> None:
    with house.database.engine.connect() as connection:
        connection.exec_driver_sql("ALTER TABLE events RENAME TO away")

    with pytest.raises(Unavailable):
        house.run(house.ledger.commit(Act(EVENT, keep("a"))))
    assert kept(house) == {}

    with house.database.engine.connect() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO events")
    house.run(house.ledger.commit(Act(EVENT, keep("a"))))
    assert kept(house) == {"a": "1"}


def test_a_trail_that_takes_no_event_stays_broken_while_nobody_asks_and_is_whole_again_by_itself(house: House) -> None:
    house.run(house.ledger.commit(Act(EVENT)))
    sqlite = house.database.sqlite
    full = (
        "CREATE TRIGGER no_room BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no room'); END"
        if sqlite
        else "ALTER TABLE events ADD CONSTRAINT no_room CHECK (seq < 0) NOT VALID"
    )
    with house.database.engine.connect() as connection:
        connection.exec_driver_sql(full)
        with pytest.raises(Unavailable):
            house.run(house.ledger.commit(Act(EVENT, keep("a"))))
        time.sleep(1.2)  # the ledger has looked by itself, twice
        assert house.ledger.broken

        connection.exec_driver_sql("DROP TRIGGER no_room" if sqlite else "ALTER TABLE events DROP CONSTRAINT no_room")
    wait_until(lambda: not house.ledger.broken)
    assert len(house.records()) == 1
    house.run(house.ledger.commit(Act(EVENT, keep("a"))))
    assert kept(house) == {"a": "1"}
    assert house.trail.verify().fault == ""


def test_what_was_committed_is_acknowledged_though_the_log_cannot_be_copied_back(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = True
    checkpoint = Database.checkpoint

    def copy_back(database: Database, connection: Connection) -> None:
        if full:
            raise OSError(errno.EIO, "the disk does not take it")
        checkpoint(database, connection)

    monkeypatch.setattr(Database, "checkpoint", copy_back)
    notes = house.run(house.ledger.commit(Act(EVENT, keep("a"))))

    assert notes.result == "1"
    assert kept(house) == {"a": "1"}
    assert [record["outcome"] for record in house.records()] == ["allowed"]
    wait_until(lambda: bool(house.ledger.broken))
    full = False
    wait_until(lambda: not house.ledger.broken)
    house.run(house.ledger.commit(Act(EVENT, keep("b"))))
    assert house.trail.verify().fault == ""


def test_a_commit_that_was_lost_on_its_way_is_not_acknowledged(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.run(house.ledger.commit(Act(EVENT)))
    execute = rooms_ledger.SqlLedger._commit

    class Unheard:
        """A cursor whose commit never arrives."""

        def execute(self, statement: str) -> None:
            raise ConnectionResetError

    with monkeypatch.context() as patched:
        patched.setattr(
            house.ledger,
            "_commit",
            lambda cursor, sealed: execute(house.ledger, Unheard(), sealed),  # type: ignore[arg-type]
        )
        with pytest.raises(Unavailable, match="nothing was done"):
            house.run(house.ledger.commit(Act(EVENT, keep("a"))))
    assert kept(house) == {}

    house.run(house.ledger.commit(Act(EVENT, keep("b"))))
    assert kept(house) == {"b": "1"}
    assert len(house.records()) == 2
    assert house.trail.verify().fault == ""


def test_what_was_committed_is_acknowledged_though_its_answer_is_lost_and_no_connection_follows(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = False
    writer = Database.writer
    execute = rooms_ledger.SqlLedger._commit

    class Lost:
        """A cursor whose commit happens, and is never heard of."""

        def __init__(self, cursor: DBAPICursor) -> None:
            self.cursor = cursor

        def execute(self, statement: str) -> None:
            nonlocal gone
            self.cursor.execute(statement)
            gone = True
            raise ConnectionResetError

    def connect(database: Database) -> Connection:
        if gone:
            raise ConnectionRefusedError
        return writer(database)

    monkeypatch.setattr(Database, "writer", connect)
    monkeypatch.setattr(
        house.ledger,
        "_commit",
        lambda cursor, sealed: execute(house.ledger, Lost(cursor), sealed),  # type: ignore[arg-type]
    )
    notes = house.run(house.ledger.commit(Act(EVENT, keep("a"))))

    assert notes.result == "1"
    assert kept(house) == {"a": "1"}
    wait_until(lambda: bool(house.ledger.broken))


def test_searches_keep_up_with_a_trickle_that_never_stops(house: House) -> None:
    async def story() -> None:
        async with asyncio.timeout(30):
            while not house.database.read_now(projected_until):
                await house.ledger.commit(Act(EVENT))
                await asyncio.sleep(0.05)

    house.run(story())


def _append(url: str, data: Path, count: int) -> None:
    with opened(url, data) as house:

        async def many() -> None:
            for _ in range(count):
                await asyncio.gather(*(house.ledger.commit(Act(EVENT)) for _ in range(5)))

        house.run(many())


def test_processes_append_to_one_chain_at_once(house: House, database_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_append, args=(database_url, house.data, 20)) for _ in range(3)]
    for process in processes:
        process.start()
    _append(database_url, house.data, 20)
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0, 0, 0]
    verification = house.trail.verify()
    assert (verification.count, verification.fault) == (400, "")


def test_a_policy_change_is_seen_by_another_process_at_once(house: House, database_url: str) -> None:
    with opened(database_url, house.data) as other:
        assert other.run(other.directory.project(ProjectName("gallery"))) is None

        def add(connection: Connection) -> Notes:
            connection.exec_driver_sql("INSERT INTO projects (name, public, created_at) VALUES ('gallery', false, 0)")
            return Notes()

        house.run(house.ledger.commit(Act(EVENT, Change(add, policy=True))))

        assert other.run(other.directory.project(ProjectName("gallery"))) is not None


def test_an_act_that_waits_too_long_for_the_lock_is_not_acknowledged(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.records.ledger._ACKNOWLEDGE_SECONDS", 0.2)

    with house.database.lock(), pytest.raises(Unavailable):
        house.run(house.ledger.commit(Act(EVENT)))


@pytest.mark.parametrize("end", ["applied", "refused", "faulty", "denied", "not committed"])
def test_what_a_change_holds_is_let_go_of_before_anybody_is_told_how_it_ended(house: House, end: str) -> None:
    held = ["a lock"]

    def apply(connection: Connection) -> Notes:
        if end == "refused":
            raise Conflict("No.")
        if end == "faulty":
            raise ZeroDivisionError
        return Notes()

    act = Act(EVENT, Change(apply, release=held.clear))
    if end == "denied":
        act = replace(
            act,
            version=house.database.versions.policy() + 2,
            rejudge=lambda view: Refused(Reason.NO_GRANT),
            refusal=lambda verdict: Denied("No."),
        )
    if end == "not committed":
        with house.database.engine.connect() as connection:
            connection.exec_driver_sql("ALTER TABLE events RENAME TO away")

    async def told() -> bool:
        with contextlib.suppress(Refusal, ZeroDivisionError):
            await house.ledger.commit(act)
        return not held

    assert house.run(told())


def test_a_ledger_that_has_stopped_lets_go_of_what_a_change_holds(house: House) -> None:
    held = ["a lock"]
    house.ledger.close()
    with pytest.raises(Unavailable, match="stopping"):
        house.run(house.ledger.commit(Act(EVENT, Change(lambda _: Notes(), release=held.clear))))
    assert not held


def test_what_cannot_be_let_go_of_keeps_nobody_waiting(house: House) -> None:
    def release() -> None:
        raise OSError("it cannot be closed")

    async def both() -> list[Any]:
        stuck = Change(lambda _: Notes(result="done"), release=release)
        return [(await house.ledger.commit(act)).result for act in (Act(EVENT, stuck), Act(EVENT, keep("a")))]

    assert house.run(both()) == ["done", "1"]


# PostgreSQL alone

ON_POSTGRESQL = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@ON_POSTGRESQL
@pytest.mark.parametrize(("server", "expected"), [("off", "on"), ("local", "local"), ("remote_apply", "remote_apply")])
def test_an_act_is_on_disk_when_it_is_acknowledged_though_the_server_would_not_wait(
    house: House, server: str, expected: str
) -> None:
    with house.database.engine.connect() as connection:
        name = connection.exec_driver_sql("SELECT current_database()").scalar()
        connection.exec_driver_sql(f"ALTER DATABASE {name} SET synchronous_commit = {server}")
    # Settings of a database are those of the connections made after.
    house.database.engine.dispose()
    house.ledger._drop_connection()
    found: list[Any] = []

    def look(connection: Connection) -> Notes:
        found.append(connection.exec_driver_sql("SHOW synchronous_commit").scalar())
        return Notes()

    house.run(house.ledger.commit(Act(EVENT, Change(look))))
    assert found == [expected]


def commit_slowly(house: House, seconds: float) -> None:
    """Has the server take its time for every commit of an event."""
    body = f"BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END"
    with house.database.engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $${body}$$")
        connection.exec_driver_sql(
            "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION slow()"
        )


async def cut_off_in_its_commit(house: House, act: Act) -> Notes:
    """Commits, and loses the connection while the server is at it."""
    committing = asyncio.create_task(house.ledger.commit(act))
    await asyncio.sleep(0.5)
    connection: Any = house.ledger._connection
    with socket.socket(fileno=os.dup(connection.connection.driver_connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)
    return await committing


@ON_POSTGRESQL
def test_a_commit_that_the_server_ends_after_its_connection_was_lost_is_acknowledged(house: House) -> None:
    house.run(house.ledger.commit(Act(EVENT)))
    commit_slowly(house, 1.5)
    assert house.run(cut_off_in_its_commit(house, Act(EVENT, keep("a")))).result == "1"
    assert kept(house) == {"a": "1"}
    assert house.trail.verify().fault == ""


@ON_POSTGRESQL
def test_a_commit_of_which_nobody_can_tell_is_not_said_to_have_done_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms_database, "_ENDING_SECONDS", 1)
    house.run(house.ledger.commit(Act(EVENT)))
    commit_slowly(house, 3)
    with pytest.raises(Unavailable, match="does not say whether this was done"):
        house.run(cut_off_in_its_commit(house, Act(EVENT, keep("a", policy=True))))
    # Nothing is remembered of what may yet be otherwise.
    assert not settled(house.database.versions.policy())
    wait_until(lambda: kept(house) == {"a": "1"})
    wait_until(lambda: settled(house.database.versions.policy()) and not house.ledger.broken)
    house.run(house.ledger.commit(Act(EVENT)))
    assert len(house.records()) == 3
    assert house.trail.verify().fault == ""
