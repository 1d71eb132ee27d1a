"""What changes while an act waits for those before it: it is judged by what holds when its turn has come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from gateway.access.names import AccountName
from gateway.access.policy import Need, Reach, Role
from gateway.access.principals import Caller, Credential, CredentialKind, Origin, Principal, PrincipalKind
from gateway.access.scopes import Access, Action
from gateway.audit.event import Kind
from gateway.change import Change, Notes
from gateway.errors import QuotaExceeded, ReadOnly, Refusal, TagImmutable, Unauthorized, UpstreamSlow
from gateway.oci.names import Tag
from gateway.records import accounts, grants, intents, projects
from gateway.records.projects import Wishes
from gateway.settlement import NOT_DONE
from tests.contract.house import image
from tests.house import GATEWAY, opened
from tests.services.distribution import Registry
from tests.settlement.front import LAYER, UI, Front
from tests.settlement.test_order import LATEST, NEWER, behind_at, held_up, tagged
from tests.settlement.test_quota import LARGE, QUOTA_BYTES, SECOND, keep_past, ruled, used

JOAN = AccountName("joan")
REQUEST = "f" * 32
RULES = Kind.PROJECT_SET

Meanwhile = Callable[[], Awaitable[object]]


def wished(**wishes: Any) -> tuple[Kind, Change]:
    return RULES, projects.set_project(UI.project, Wishes(**wishes))


CHANGES: dict[str, tuple[Callable[[], tuple[Kind, Change]], type[Refusal], str]] = {
    "read-only": (lambda: wished(read_only="incident"), ReadOnly, "read_only"),
    "immutable": (lambda: wished(immutable=("latest",)), TagImmutable, "immutable_tag"),
    "disabled": (
        lambda: (Kind.ACCOUNT_SET, accounts.set_enabled(JOAN.name, enabled=False)),
        Unauthorized,
        "account_disabled",
    ),
    "revoked": (
        lambda: (Kind.GRANT_REMOVE, grants.remove(JOAN.name, Reach(UI.project))),
        Unauthorized,
        "no_grant",
    ),
    "removed": (lambda: (Kind.ACCOUNT_REMOVE, accounts.remove(JOAN.name)), Unauthorized, "account_removed"),
}


async def ordered(front: Front, kind: Kind, change: Change) -> None:
    await front.commit(kind, change, by=GATEWAY)


async def joan(front: Front, *, expires_at: int | None = None) -> Caller:
    """Somebody who may push to the project, with a bearer."""
    await ordered(front, Kind.ACCOUNT_ADD, accounts.add_user(JOAN, "hash", administrator=False, auditor=False, now=1))
    reach = Reach(UI.project)
    await ordered(front, Kind.GRANT_ADD, grants.add(JOAN.name, Role.PUSHER, reach, expires_at=expires_at, now=1))
    account = front.house.database.read_now(lambda connection: accounts.find(connection, JOAN.name))
    assert account is not None
    return Caller(
        Principal(PrincipalKind.USER, account.id, JOAN.name),
        Origin("192.0.2.7", "192.0.2.7", "docker", REQUEST),
        Credential(CredentialKind.BEARER, "jti"),
        Access({UI.name: frozenset({Action.PUSH})}),
    )


async def push(front: Front, caller: Caller, change: Change) -> Notes:
    facts = {"project": UI.project.name, "repository": UI.name, "reference": "latest"}
    async with front.house.gate.passage(caller, Kind.MANIFEST_PUSH, Need(Action.PUSH, UI), **facts) as passage:
        return await passage.commit(change)


@asynccontextmanager
async def under_way(front: Front, kind: Kind = Kind.MANIFEST_PUSH, change: Change | None = None) -> AsyncIterator[None]:
    """An act, a push of the tag unless said otherwise, is begun, and recorded only when this is over."""
    until = asyncio.Event()
    first = asyncio.create_task(front.commit(kind, held_up(change or front.put("latest"), until)))
    await begun(front, 1)
    try:
        yield
    finally:
        until.set()
        await first


async def in_line(front: Front, act: Awaitable[Notes], count: int = 2) -> asyncio.Task[Notes]:
    """*act*, begun, and waiting as the last of *count*."""
    waiting = asyncio.ensure_future(act)
    await begun(front, count)
    assert not waiting.done()
    return waiting


async def begun(front: Front, count: int) -> None:
    async with asyncio.timeout(10):
        while len(front.open_intents()) < count:  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("how", CHANGES)
def test_a_push_that_waits_is_refused_by_what_came_to_hold_meanwhile(front_on_each: Front, how: str) -> None:
    front = front_on_each
    change, refused, reason = CHANGES[how]

    async def story() -> None:
        caller = await joan(front)
        async with under_way(front):
            waiting = await in_line(front, push(front, caller, front.put("latest", manifest=NEWER)))
            await ordered(front, *change())
        with pytest.raises(refused):
            await waiting
        assert await behind_at(front, LATEST) == front.pushed.digest.text

    front.run(story())

    assert tagged(front)["latest"] == front.pushed.digest.text
    assert front.open_intents() == []
    (event,) = [event for event in front.house.records() if event["request_id"] == REQUEST]
    assert (event["kind"], event["outcome"], event["reason"]) == ("manifest.push", "denied", reason)
    assert (event["principal"], event["repository"], event["reference"]) == (JOAN.name, UI.name, "latest")


def test_a_right_that_ends_while_its_holder_waits_is_none_when_the_turn_has_come(front: Front) -> None:
    async def story() -> None:
        end = int(time.time()) + 2
        caller = await joan(front, expires_at=end)
        async with under_way(front):
            waiting = await in_line(front, push(front, caller, front.put("latest", manifest=NEWER)))
            await asyncio.sleep(max(0.0, end + 0.1 - time.time()))
        with pytest.raises(Unauthorized):
            await waiting
        assert await behind_at(front, LATEST) == front.pushed.digest.text

    front.run(story())
    assert front.open_intents() == []


def test_who_waits_in_one_worker_is_judged_by_what_was_changed_in_another(
    front_on_each: Front, database_url: str, behind: Registry
) -> None:
    front = front_on_each
    with opened(database_url, front.house.data) as house:
        other = Front(house, behind.url)

        async def story() -> None:
            caller = await joan(front)
            try:
                async with under_way(front):
                    waiting = await in_line(front, push(other, caller, other.put("latest", manifest=NEWER)))
                    await ordered(front, *CHANGES["revoked"][0]())
                with pytest.raises(Unauthorized):
                    await waiting
            finally:
                await other.client.close()
            assert await behind_at(front, LATEST) == front.pushed.digest.text

        front.run(story())
    assert front.open_intents() == []


def test_a_deletion_that_waits_spares_a_tag_that_became_immutable_meanwhile(front_on_each: Front) -> None:
    front = front_on_each

    async def story() -> None:
        async with under_way(front):
            deletion = front.engine.manifests.delete(UI, front.pushed.digest)
            waiting = await in_line(front, front.commit(Kind.MANIFEST_DELETE, deletion))
            await ordered(front, *wished(immutable=("latest",)))
        with pytest.raises(TagImmutable):
            await waiting
        assert await behind_at(front, LATEST) == front.pushed.digest.text

    front.run(story())
    assert front.open_intents() == []
    assert front.last()["reason"] == "immutable_tag"


def test_who_waits_is_not_refused_for_the_room_that_is_promised_to_itself(front_on_each: Front) -> None:
    front = front_on_each
    ruled(front, UI, used(front, UI) + len(NEWER.content))

    async def story() -> None:
        async with under_way(front):
            waiting = await in_line(front, front.commit(Kind.MANIFEST_PUSH, front.put("latest", manifest=NEWER)))
        await waiting
        assert await behind_at(front, LATEST) == NEWER.digest.text

    front.run(story())
    assert tagged(front)["latest"] == NEWER.digest.text


def test_who_waits_is_held_to_a_quota_that_was_lowered_meanwhile(front_on_each: Front) -> None:
    front = front_on_each
    ruled(front, UI)

    async def story() -> None:
        async with under_way(front):
            waiting = await in_line(front, front.commit(Kind.MANIFEST_PUSH, front.put("latest", manifest=NEWER)))
            await ordered(front, *wished(quota_bytes=used(front, UI) + len(NEWER.content) - 1))
        with pytest.raises(QuotaExceeded):
            await waiting

    front.run(story())
    assert front.open_intents() == []
    assert tagged(front)["latest"] == front.pushed.digest.text


def test_room_for_what_waits_is_kept_from_others_under_a_quota_that_was_set_meanwhile(front_on_each: Front) -> None:
    front = front_on_each
    front.run(keep_past(front, LARGE, SECOND))
    first, second = (image(b"{}", layer) for layer in (LARGE, SECOND))
    until, done = asyncio.Event(), asyncio.Event()

    async def story() -> None:
        change = front.put("latest", manifest=first)
        assert change.elsewhere is not None
        run = change.elsewhere.run

        async def slowly() -> None:
            done.set()
            await until.wait()
            await run()

        change = replace(change, elsewhere=replace(change.elsewhere, run=slowly))
        async with under_way(front):
            waiting = await in_line(front, front.commit(Kind.MANIFEST_PUSH, change))
            await ordered(front, *wished(quota_bytes=QUOTA_BYTES))
        await asyncio.wait([asyncio.ensure_future(done.wait()), waiting], return_when=asyncio.FIRST_COMPLETED)
        with pytest.raises(QuotaExceeded):
            await front.commit(Kind.MANIFEST_PUSH, front.put("second", manifest=second))
        until.set()
        await waiting

    front.run(story())
    assert len(LARGE) < used(front, UI) <= QUOTA_BYTES


def test_who_waits_is_not_refused_for_those_that_wait_for_it(front_on_each: Front) -> None:
    front = front_on_each

    async def story() -> None:
        await ordered(front, *wished(immutable=("v9",)))
        async with under_way(front):
            deletion = front.engine.manifests.delete(UI, front.pushed.digest)
            going = await in_line(front, front.commit(Kind.MANIFEST_DELETE, deletion))
            coming = await in_line(front, front.commit(Kind.MANIFEST_PUSH, front.put("v9")), 3)
        await asyncio.gather(going, coming)
        assert [await behind_at(front, tag) for tag in (LATEST, Tag("v9"))] == ["", front.pushed.digest.text]

    front.run(story())
    assert tagged(front) == {"v9": front.pushed.digest.text}


def test_of_two_that_wait_for_a_tag_made_immutable_meanwhile_the_first_gets_it(front_on_each: Front) -> None:
    front = front_on_each
    newest = image(b"{}", LAYER, annotations={"newest": "yes"})

    async def story() -> None:
        async with under_way(front, Kind.TAG_DELETE, front.engine.manifests.untag(UI, Tag("v1"))):
            first = await in_line(front, front.commit(Kind.MANIFEST_PUSH, front.put("v1", manifest=NEWER)))
            second = await in_line(front, front.commit(Kind.MANIFEST_PUSH, front.put("v1", manifest=newest)), 3)
            await ordered(front, *wished(immutable=("v1",)))
        await first
        with pytest.raises(TagImmutable):
            await second
        assert await behind_at(front, Tag("v1")) == NEWER.digest.text

    front.run(story())
    assert tagged(front) == {"v1": NEWER.digest.text}


@pytest.mark.parametrize("later", [0.0, 200.0])
def test_who_is_killed_after_it_was_judged_again_leaves_an_intent_that_is_settled(
    front_on_each: Front, later: float
) -> None:
    front = front_on_each

    async def story() -> None:
        async def die() -> None:
            raise UpstreamSlow("It took too long.", uncertain=True)

        change = front.put("latest", manifest=NEWER)
        assert change.elsewhere is not None
        change = replace(change, elsewhere=replace(change.elsewhere, run=die))
        async with under_way(front):
            waiting = await in_line(front, front.commit(Kind.MANIFEST_PUSH, change))
        with pytest.raises(UpstreamSlow):
            await waiting

    front.run(story())
    [left] = front.house.database.read_now(lambda connection: intents.open_intents(connection, 1e12))
    assert left.act["before"] == {"latest": [front.pushed.digest.text]}

    assert front.settle(later=later) == (1 if later else 0)

    assert front.open_intents() == ([] if later else ["manifest.push"])
    if later:
        assert (front.last()["outcome"], front.last()["reason"]) == ("failed", NOT_DONE)
    assert tagged(front)["latest"] == front.pushed.digest.text
