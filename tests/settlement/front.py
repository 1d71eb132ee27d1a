"""The rooms of a gateway whose content another registry keeps, and ways to leave an act there unrecorded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection, update

from gateway.access.names import AccountName
from gateway.access.principals import Caller, Credential, CredentialKind, Origin, Principal, PrincipalKind
from gateway.audit.event import Kind
from gateway.change import Change, Elsewhere, Notes
from gateway.engine.port import Blob
from gateway.engine.upstream.assembly import upstream
from gateway.engine.upstream.client import Client, Peer
from gateway.engine.upstream.settling import Settling
from gateway.errors import UpstreamSlow
from gateway.oci.digest import Digest
from gateway.oci.manifest import Manifest
from gateway.oci.names import Repository, Tag
from gateway.records import accounts, intents, projects
from gateway.records.schema import accounts as account_rows
from gateway.records.schema import intents as intent_rows
from gateway.settlement import Settlement
from tests.contract.house import image
from tests.house import GATEWAY, House

R = TypeVar("R")
Act = Callable[["Front"], Awaitable[Change]]

UI = Repository("gallery/ui")
API = Repository("gallery/api")
OWNER = "user:7"
WRITER = Caller(
    Principal(PrincipalKind.USER, 7, "writer"),
    Origin("192.0.2.7", "198.51.100.1", "docker/27", "a" * 32),
    Credential(CredentialKind.BEARER, "the token's id"),
)
LAYER = b"a layer"
NEW_LAYER = b"another layer"


class Front:
    """
    *house* in front of the registry at *url*.

    Everything asked of it runs in a loop of its own, whose connections are let go before it ends. *clock* is the
    settlement's alone: what is begun is begun now.
    """

    def __init__(self, house: House, url: str) -> None:
        self.house = house
        self.client = Client(Peer(url))
        self.engine = upstream(house.data, house.database, self.client)
        self.seconds_later = 0.0
        settling = Settling(self.client, house.database, house.data)
        self.settlement = Settlement(house.database, house.ledger, settling, self._clock)
        self.pushed = image(b"{}", LAYER)

    def run(self, story: Coroutine[Any, Any, R]) -> R:
        async def told() -> R:
            try:
                return await story
            finally:
                # What goes on though its caller is gone would connect anew once the connections are closed.
                others = asyncio.all_tasks() - {asyncio.current_task()}
                for task in others:
                    task.cancel()
                await asyncio.gather(*others, return_exceptions=True)
                await self.client.close()

        return asyncio.run(told())

    def begin(self) -> None:
        """The writer, a project, and an image in it, tagged v1."""
        number = WRITER.principal.id

        async def story() -> None:
            writer = accounts.add_user(AccountName("writer"), "hash", administrator=False, auditor=False, now=1)
            await self.commit(Kind.ACCOUNT_ADD, writer, by=GATEWAY)
            renumbered = update(account_rows).values(id=number)
            await self.write(lambda connection: connection.execute(renumbered))
            await self.commit(Kind.PROJECT_ADD, projects.add(UI.project, public=False, now=1), by=GATEWAY)
            for content in (b"{}", LAYER):
                _, change = await self.upload(UI, content)
                await self.commit(Kind.BLOB_PUSH, change)
            await self.commit(Kind.MANIFEST_PUSH, self.put("v1"))

        self.run(story())

    async def upload(self, repository: Repository, content: bytes) -> tuple[Blob, Change]:
        upload, begun = await self.engine.uploads.begin(repository, OWNER)
        await self.commit(Kind.UPLOAD_BEGIN, begun)
        return await self.engine.uploads.finish(upload, body(content), None, Digest.of(content))

    def put(self, *tags: str, manifest: Manifest | None = None) -> Change:
        return self.engine.manifests.put(UI, manifest or self.pushed, [Tag(tag) for tag in tags], OWNER)

    async def commit(self, kind: Kind, change: Change, *, by: Caller = WRITER) -> Notes:
        facts = {"project": UI.project.name, "repository": UI.name, "reference": "v1", "status": 201}
        async with self.house.gate.passage(by, kind, **facts) as passage:
            return await passage.commit(change)

    # what is left open

    def leave(self, kind: Kind, act: Act, *, done: bool) -> None:
        """Begins an act of which nobody hears how it ended: it was done, or not."""

        async def story() -> None:
            change = await act(self)
            elsewhere = change.elsewhere
            assert elsewhere is not None
            with pytest.raises(UpstreamSlow):
                await self.commit(kind, replace(change, elsewhere=_lost(elsewhere, done=done)))

        self.run(story())
        assert self.open_intents() == [kind.value]

    def carry_out(self, kind: Kind, act: Act, meanwhile: Callable[[], Awaitable[None]], *, done: bool) -> None:
        """Does an act to its end; *meanwhile* happens once it is begun, and before it is *done* or after."""

        async def story() -> None:
            await self.amid(kind, await act(self), meanwhile, done=done)

        self.run(story())

    async def amid(self, kind: Kind, change: Change, meanwhile: Callable[[], Awaitable[None]], *, done: bool) -> None:
        """As `carry_out`, of an act that is prepared already."""
        elsewhere = change.elsewhere
        assert elsewhere is not None

        async def run() -> None:
            if done:
                await elsewhere.run()
            await meanwhile()
            if not done:
                await elsewhere.run()

        await self.commit(kind, replace(change, elsewhere=replace(elsewhere, run=run)))

    def settle(self, *, after_seconds: float = 0.0, later: float = 0.0) -> int:
        """Settles as if it were *later* seconds later; answers how many acts were."""
        self.seconds_later = later
        return self.run(self.settlement.settle(after_seconds=after_seconds))

    def leave_begun_earlier(self, seconds: int) -> None:
        """Lets what was left be as old as that."""
        self.written(lambda connection: connection.execute(update(intent_rows).values(begun_at=_now() - seconds)))

    def forget_manifest_behind(self) -> None:
        """Deletes the image in the registry behind, around the gateway."""
        path = f"/v2/{UI}/manifests/{self.pushed.digest}"
        assert self.run(self.client.ask("DELETE", path)).status == 202

    def written(self, write: Callable[[Connection], object]) -> None:
        """Changes rows, without an event of interest."""
        self.run(self.write(write))

    async def write(self, write: Callable[[Connection], object]) -> None:
        """As `written`."""

        def apply(connection: Any) -> Notes:
            write(connection)
            return Notes()

        await self.commit(Kind.CONFIGURATION_CHANGE, Change(apply), by=GATEWAY)

    def open_intents(self) -> list[str]:
        found = self.house.database.read_now(lambda connection: intents.open_intents(connection, 1e12))
        return [intent.kind for intent in found]

    def last(self) -> dict[str, Any]:
        """The newest event."""
        return self.house.records()[-1]

    def _clock(self) -> float:
        return _now() + 1 + self.seconds_later


def _lost(elsewhere: Elsewhere, *, done: bool) -> Elsewhere:
    async def run() -> None:
        if done:
            await elsewhere.run()
        raise UpstreamSlow("It took too long.", uncertain=True)

    return replace(elsewhere, run=run)


async def body(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _now() -> int:
    return int(time.time())
