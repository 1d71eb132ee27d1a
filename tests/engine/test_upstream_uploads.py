"""Uploads to a registry behind: sessions that are lost, answers that are, processes that die between two steps."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.change import Change, Notes
from gateway.engine.port import Interrupted, Upload
from gateway.engine.upstream.client import Answer
from gateway.errors import (
    BlobUnknown,
    BlobUploadUnknown,
    DigestInvalid,
    RangeInvalid,
    SizeInvalid,
    Unsupported,
    UploadBusy,
    UpstreamFailed,
)
from gateway.oci.digest import Algorithm, Digest
from gateway.records.schema import intents, links, uploads
from tests.contract.house import UI, WRITER, House, Houses, body, cut, run
from tests.engine.behind import Behind, Remembering, refusal, rows
from tests.faults.peer import Line, Misbehaving, Request, misbehaving
from tests.services.distribution import Registry

CONTENT = os.urandom(700_000)
DIGEST = Digest.of(CONTENT)
UPLOADS = f"/v2/{UI}/blobs/uploads/"


async def begin(house: House) -> Upload:
    upload, change = await house.engine.uploads.begin(UI, WRITER)
    await house.commit(change)
    return upload


async def again(house: House, upload: Upload) -> Upload:
    return await house.engine.uploads.find(UI, WRITER, upload.id)


async def append(house: House, upload: Upload, content: bytes, first: int | None = None) -> None:
    await house.commit((await house.engine.uploads.append(upload, body(content), first)).change)


async def finish(house: House, upload: Upload, digest: Digest, *pieces: bytes) -> None:
    _, change = await house.engine.uploads.finish(upload, body(*pieces), None, digest)
    await house.commit(change)


async def is_gone(house: House, upload: Upload) -> bool:
    try:
        await again(house, upload)
    except BlobUploadUnknown:
        return house.spools() == [] and rows(house, uploads) == 0
    return False


def sessions(registry: Registry) -> list[Path]:
    """The uploads that the registry keeps open."""
    return list(registry.content.glob("**/_uploads/*/data"))


class Losing(Remembering):
    """A client whose answers to some methods are lost, once they were given."""

    losing: str = ""

    async def ask(self, method: str, path: str, **more: Any) -> Answer:
        return self._lost(method, await super().ask(method, path, **more))

    async def send(
        self,
        method: str,
        path: str,
        body: AsyncIterator[bytes],
        *,
        headers: Mapping[str, str] | None = None,
        scope: str = "",
    ) -> Answer:
        return self._lost(method, await super().send(method, path, body, headers=headers, scope=scope))

    def _lost(self, method: str, answer: Answer) -> Answer:
        if method == self.losing:
            raise UpstreamFailed("The answer was lost.", uncertain=True)
        return answer


# when the registry is asked at all


def test_the_registry_hears_of_an_upload_with_its_first_byte(front: House, behind: Behind, registry: Registry) -> None:
    async def story() -> None:
        upload = await begin(front)
        await append(front, upload, b"")
        assert (behind.client.asked, sessions(registry)) == ([], [])
        await append(front, upload, b"1")
        assert len(sessions(registry)) == 1
        await front.commit(await front.engine.uploads.cancel(upload))
        assert sessions(registry) == []

    run(story())


def test_an_upload_that_holds_nothing_becomes_the_empty_blob(front: House) -> None:
    async def story() -> None:
        upload = await begin(front)
        await append(front, upload, b"")
        await finish(front, upload, Digest.of(b""))
        assert await front.pull(UI, Digest.of(b"")) == b""

    run(story())


# answers that are lost


@pytest.mark.parametrize("appended", [0, 300_000, len(CONTENT)])
def test_finishing_again_after_the_answer_was_lost_works_even_on_another_process(
    fronts: Callable[[Behind], Houses], behind: Behind, appended: int
) -> None:
    async def story() -> None:
        houses = fronts(behind)
        here, there = houses.open(), houses.open()
        client = behind.clients[0]
        client.__class__ = Losing
        assert isinstance(client, Losing)
        upload = await begin(here)
        await append(here, upload, CONTENT[:appended])
        client.losing = "PUT"
        with pytest.raises(UpstreamFailed):
            await finish(here, upload, DIGEST, CONTENT[appended:])
        assert rows(here, intents) == 1
        assert (await again(there, upload)).offset == len(CONTENT)
        await finish(there, upload, DIGEST)
        assert await there.pull(UI, DIGEST) == CONTENT
        assert await is_gone(here, upload)

    run(story())


def test_a_blob_of_other_bytes_does_not_stand_in_for_a_lost_session(
    front: House, behind: Behind, registry: Registry
) -> None:
    async def story() -> None:
        upload = await begin(front)
        await append(front, upload, CONTENT)
        registry.forget()
        await behind.keep(UI, CONTENT[:-1])
        with pytest.raises(DigestInvalid):
            await finish(front, upload, Digest.of(CONTENT[:-1]))
        upload = await begin(front)
        await append(front, upload, CONTENT)
        digest = Digest.of(CONTENT, Algorithm.SHA512)
        registry.forget()
        await behind.keep(UI, CONTENT)
        with pytest.raises(BlobUploadUnknown):
            await finish(front, upload, digest)
        assert rows(front, intents) == 0
        assert await is_gone(front, upload)

    run(story())


def test_a_blob_as_long_as_what_was_sent_does_not_stand_in_for_it_where_nobody_has_hashed_all_of_it(
    fronts: Callable[[Behind], Houses], behind: Behind, registry: Registry
) -> None:
    async def story() -> None:
        houses = fronts(behind)
        upload = await begin(houses.open())
        for part in (b"one", b"two"):
            await append(houses.open(), upload, part)
        registry.forget()
        await behind.keep(UI, b"secret")
        house = houses.open()
        with pytest.raises(BlobUploadUnknown):
            await finish(house, upload, Digest.of(b"secret"))
        assert rows(house, intents) == rows(house, links) == 0
        assert await is_gone(house, upload)

    run(story())


@pytest.mark.parametrize("act", [append, finish])
def test_an_upload_that_held_nothing_ends_with_the_answer_that_was_lost(
    front: House, behind: Behind, act: Callable[..., Awaitable[None]]
) -> None:
    """Whoever tries again begins a new one: this one would be left, and count as open for a day."""

    async def story() -> None:
        client = behind.client
        client.__class__ = Losing
        assert isinstance(client, Losing)
        upload = await begin(front)
        client.losing = "PATCH"
        with pytest.raises(UpstreamFailed):
            await (append(front, upload, CONTENT) if act is append else finish(front, upload, DIGEST, CONTENT))
        assert await is_gone(front, upload)
        client.losing = ""
        await front.push(UI, CONTENT)
        assert await front.pull(UI, DIGEST) == CONTENT

    run(story())


def test_a_later_chunk_whose_answer_was_lost_ends_the_upload(front: House, behind: Behind) -> None:
    """Distribution goes on with a session only for who knows how far it is, and that was in the answer."""

    async def story() -> None:
        client = behind.client
        client.__class__ = Losing
        assert isinstance(client, Losing)
        upload = await begin(front)
        await append(front, upload, b"123")
        client.losing = "PATCH"
        with pytest.raises(UpstreamFailed):
            await append(front, upload, b"45")
        assert (await again(front, upload)).offset == 3
        client.losing = ""
        with pytest.raises(BlobUploadUnknown):
            await append(front, upload, b"45", first=3)
        assert await is_gone(front, upload)

    run(story())


# sessions that are lost


def test_a_session_that_the_registry_forgot_ends_the_upload(front: House, registry: Registry) -> None:
    async def story() -> None:
        for act in (append, finish):
            upload = await begin(front)
            await append(front, upload, b"123")
            registry.forget()
            with pytest.raises(BlobUploadUnknown):
                await (append(front, upload, b"45") if act is append else finish(front, upload, Digest.of(b"123")))
            assert await is_gone(front, upload)
            assert rows(front, intents) == 0

    run(story())


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_a_wrong_digest_leaves_no_session_behind(front: House, registry: Registry, algorithm: Algorithm) -> None:
    async def story() -> None:
        upload = await begin(front)
        await append(front, upload, CONTENT)
        with pytest.raises(DigestInvalid):
            await finish(front, upload, Digest.of(b"something else", algorithm), b"tail")
        assert sessions(registry) == []
        assert await is_gone(front, upload)
        assert rows(front, intents) == 0

    run(story())


def test_the_registry_finds_a_wrong_digest_where_no_process_has_seen_all_bytes(
    fronts: Callable[[Behind], Houses], behind: Behind, registry: Registry
) -> None:
    async def story() -> None:
        houses = fronts(behind)
        upload = await begin(houses.open())
        for part in (b"one", b"two"):
            await append(houses.open(), upload, part)
        house = houses.open()
        _, change = await house.engine.uploads.finish(upload, body(b"three"), None, Digest.of(b"something else"))
        with pytest.raises(DigestInvalid):
            await house.commit(change)
        assert await is_gone(house, upload)
        assert sessions(registry) == []

    run(story())


def test_a_change_that_the_ledger_is_done_with_lets_go_of_the_upload_at_once(front: House) -> None:
    async def story() -> None:
        upload = await begin(front)
        appended = await front.engine.uploads.append(upload, body(b"123"), None)
        appended.change.release()
        _, change = await front.engine.uploads.finish(upload, body(b"45"), 3, Digest.of(b"12345"))
        change.release()
        await finish(front, upload, Digest.of(b"12345"))

    run(story())


def test_expired_uploads_are_given_up_with_their_sessions(front: House, registry: Registry) -> None:
    async def story() -> None:
        for _ in range(3):
            await append(front, await begin(front), b"old")
        busy = await begin(front)
        appended = await front.engine.uploads.append(busy, body(b"busy"), None)
        front.clock.now += 25 * 60 * 60
        fresh = await begin(front)
        assert len(sessions(registry)) == 1
        assert rows(front, uploads) == 2
        del appended
        assert (await again(front, fresh)).offset == 0

    run(story())


def test_an_upload_is_cancelled_even_while_the_registry_is_away(fronts: Callable[[Behind], Houses]) -> None:
    async def story() -> None:
        with misbehaving(Sessions()) as peer:
            house = fronts(Behind(peer.url)).open()
            upload = await begin(house)
            await append(house, upload, b"123")
            peer.stop()
            await house.commit(await house.engine.uploads.cancel(upload))
            assert await is_gone(house, upload)

    run(story())


# what else a registry may answer


class Sessions:
    """A registry that knows one upload session, counts its bytes, and tells how many there are to who asks."""

    def __init__(self, **answers: tuple[int, dict[str, str], bytes]) -> None:
        self.count = 0
        self.answers = answers

    def __call__(self, request: Request, line: Line) -> None:
        if request.method == "PATCH":
            self.count += len(request.body)
        place = {"Location": f"{UPLOADS}1?_state={self.count}", "Range": f"0-{max(0, self.count - 1)}"}
        known = {"POST": 202, "PATCH": 202, "GET": 204, "PUT": 201, "DELETE": 204}
        line.answer(*self.answers.get(request.method, (known[request.method], place, b"")))


def test_a_registry_that_tells_how_far_it_is_is_believed(fronts: Callable[[Behind], Houses]) -> None:
    async def story() -> None:
        with misbehaving(Sessions()) as peer:
            behind = Behind(peer.url)
            house = fronts(behind).open()
            client = behind.client
            client.__class__ = Losing
            assert isinstance(client, Losing)
            upload = await begin(house)
            await append(house, upload, b"123")
            client.losing = "PATCH"
            with pytest.raises(UpstreamFailed):
                await append(house, upload, b"45")
            client.losing = ""
            with pytest.raises(RangeInvalid) as refused:
                await append(house, upload, b"45", first=3)
            assert refused.value.offset == 5
            assert (await again(house, upload)).offset == 5
            await append(house, upload, b"67", first=5)
            assert (await again(house, upload)).offset == 7

    run(story())


def test_a_registry_that_has_less_than_it_took_before_is_not_believed(fronts: Callable[[Behind], Houses]) -> None:
    async def story() -> None:
        with misbehaving(Sessions(GET=(204, {"Location": f"{UPLOADS}1", "Range": "0-1"}, b""))) as peer:
            behind = Behind(peer.url)
            house = fronts(behind).open()
            client = behind.client
            client.__class__ = Losing
            assert isinstance(client, Losing)
            upload = await begin(house)
            await append(house, upload, b"123")
            client.losing = "PATCH"
            with pytest.raises(UpstreamFailed):
                await append(house, upload, b"45")
            client.losing = ""
            for first in (None, 2):
                with pytest.raises(UpstreamFailed):
                    await append(house, upload, b"3", first=first)

    run(story())


def test_a_registry_that_counts_other_bytes_is_not_believed(fronts: Callable[[Behind], Houses]) -> None:
    async def story() -> None:
        place = {"Location": f"{UPLOADS}1", "Range": "0-9"}
        with misbehaving(Sessions(PATCH=(202, place, b""))) as peer:
            house = fronts(Behind(peer.url)).open()
            upload = await begin(house)
            with pytest.raises(UpstreamFailed, match="counts other bytes"):
                await append(house, upload, b"12345")
            assert await is_gone(house, upload)

    run(story())


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
@pytest.mark.parametrize("status", [200, 302, 403, 429, 500, 503])
def test_an_answer_that_makes_no_sense_leaves_an_upload_that_holds_something(
    fronts: Callable[[Behind], Houses], method: str, status: int
) -> None:
    async def story() -> None:
        page = (status, {"Content-Type": "text/html", "Location": "/elsewhere"}, b"<html>")
        with misbehaving(Sessions(**{method: page})) as peer:
            house = fronts(Behind(peer.url)).open()
            upload = await begin(house)
            with pytest.raises(UpstreamFailed) as refused:
                await finish(house, upload, Digest.of(b"12"), b"12")
            assert "html" not in refused.value.message
            assert await is_gone(house, upload) is (method != "PUT")
            assert rows(house, intents) == (method == "PUT" and refused.value.uncertain)

    run(story())


def test_a_registry_that_takes_nothing_says_so(fronts: Callable[[Behind], Houses]) -> None:
    async def story() -> None:
        with misbehaving(Sessions(POST=refusal(405, "UNSUPPORTED"))) as peer:
            house = fronts(Behind(peer.url)).open()
            with pytest.raises(Unsupported, match="read-only"):
                await append(house, await begin(house), b"1")

    run(story())


# requests that vanish


async def endless(piece: bytes = b"x" * 100_000) -> AsyncIterator[bytes]:
    while True:
        yield piece
        await asyncio.sleep(0.001)


def test_a_cancelled_request_lets_go_of_the_upload(front: House, registry: Registry) -> None:
    async def story() -> None:
        upload = await begin(front)
        writing = asyncio.create_task(front.engine.uploads.append(upload, endless(), None))
        await asyncio.sleep(0.1)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        await finish(front, upload, Digest.of(b"123"), b"123")
        assert await front.pull(UI, Digest.of(b"123")) == b"123"

    gc.disable()
    try:
        run(story())
    finally:
        gc.enable()


def test_a_change_dropped_unapplied_lets_go_of_the_upload_at_once(front: House) -> None:
    async def story() -> None:
        upload = await begin(front)
        appended = await front.engine.uploads.append(upload, body(b"123"), None)
        with pytest.raises(UploadBusy):
            await append(front, upload, b"45")
        del appended
        _, change = await front.engine.uploads.finish(upload, body(b"45"), 3, Digest.of(b"12345"))
        with pytest.raises(UploadBusy):
            await append(front, upload, b"67")
        del change
        await finish(front, upload, Digest.of(b"12345"))

    gc.disable()
    try:
        run(story())
    finally:
        gc.enable()


def test_a_body_that_is_not_as_long_as_it_says_ends_the_request_and_not_the_upload(front: House) -> None:
    async def story() -> None:
        upload = await begin(front)
        with pytest.raises(SizeInvalid):
            await front.engine.uploads.append(upload, cut(b"123", error=lambda: SizeInvalid("Send less.")), None)
        with pytest.raises(SizeInvalid):
            await front.engine.uploads.finish(
                upload, cut(b"45", error=lambda: SizeInvalid("Send less.")), None, Digest.of(b"12345")
            )
        assert (await again(front, upload)).offset == 5
        await finish(front, upload, Digest.of(b"12345"))

    run(story())


def test_a_body_that_stops_before_its_first_byte_changes_nothing(front: House, behind: Behind) -> None:
    async def story() -> None:
        upload = await begin(front)
        appended = await front.engine.uploads.append(upload, cut(), None)
        assert (appended.interrupted, appended.offset) == (True, 0)
        await front.commit(appended.change)
        with pytest.raises(Interrupted):
            await front.engine.uploads.finish(upload, cut(), None, DIGEST)
        assert behind.client.asked == []
        assert (await again(front, upload)).offset == 0

    run(story())


# processes


def test_a_note_that_is_lost_leaves_what_the_row_says(front: House) -> None:
    async def story() -> None:
        upload = await begin(front)
        await append(front, upload, b"123")
        for note in front.spools():
            note.unlink()
        assert (await again(front, upload)).offset == 3
        await append(front, upload, b"45", first=3)
        await finish(front, upload, Digest.of(b"12345"))

    run(story())


def test_a_note_from_before_the_row_is_not_believed(front: House) -> None:
    async def story() -> None:
        upload = await begin(front)
        await append(front, upload, b"123")
        old = front.spools()[0].read_bytes()
        await append(front, upload, b"45")
        front.spools()[0].write_bytes(old)
        assert (await again(front, upload)).offset == 5
        await finish(front, upload, Digest.of(b"12345"))

    run(story())


def test_only_one_of_two_finishes_an_upload(fronts: Callable[[Behind], Houses], behind: Behind) -> None:
    async def story() -> None:
        houses = fronts(behind)
        here, there = houses.open(), houses.open()
        upload = await begin(here)
        _, change = await here.engine.uploads.finish(upload, body(CONTENT), None, DIGEST)
        for house in (here, there):
            with pytest.raises(UploadBusy):
                await house.engine.uploads.finish(upload, body(CONTENT), None, DIGEST)
        await here.commit(change)
        assert await is_gone(there, upload)
        with pytest.raises(BlobUploadUnknown):
            await finish(there, upload, DIGEST, CONTENT)
        assert await there.pull(UI, DIGEST) == CONTENT

    run(story())


def test_whoever_comes_between_a_change_and_its_commit_waits_for_the_row(
    fronts: Callable[[Behind], Houses], behind: Behind
) -> None:
    """The turn is let go inside the transaction: what the next one commits must follow the row that this one leaves."""

    async def story() -> None:
        houses = fronts(behind)
        here, there = houses.open(), houses.open()
        upload = await begin(here)
        appended = await here.engine.uploads.append(upload, body(b"123"), None)
        applied, go_on = threading.Event(), threading.Event()

        def apply_and_wait(connection: Any) -> Notes:
            notes = appended.change.apply(connection)
            applied.set()
            assert go_on.wait(10)
            return notes

        committing = threading.Thread(target=here.apply, args=(Change(apply_and_wait),))
        committing.start()
        assert await asyncio.to_thread(applied.wait, 10)
        next_one = asyncio.create_task(there.engine.uploads.append(upload, body(b"45"), 3))
        await asyncio.sleep(0.2)
        go_on.set()
        there.apply((await next_one).change)
        committing.join()
        await finish(there, upload, Digest.of(b"12345"))

    run(story())


def test_two_processes_that_append_at_once_never_mix_nor_lose_what_was_acknowledged(
    fronts: Callable[[Behind], Houses], behind: Behind
) -> None:
    def work(house: House, upload: Upload, mark: bytes, acknowledged: list[tuple[int, bytes]]) -> None:
        async def story() -> None:
            while len(acknowledged) < 15:
                piece = mark * (1 + len(acknowledged) % 7) * 1000
                try:
                    appended = await house.engine.uploads.append(upload, body(piece), None)
                except (UploadBusy, RangeInvalid):
                    await asyncio.sleep(0.001)
                    continue
                await house.commit(appended.change)
                acknowledged.append((appended.offset, piece))

        run(story())

    houses = fronts(behind)
    upload = run(begin(houses.open()))
    lists: list[list[tuple[int, bytes]]] = [[], []]
    threads = [
        threading.Thread(target=work, args=(houses.open(), upload, mark, found))
        for mark, found in zip((b"a", b"b"), lists, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = b""
    for offset, piece in sorted(lists[0] + lists[1]):
        whole += piece
        assert len(whole) == offset

    async def settle() -> None:
        house = houses.open()
        await finish(house, upload, Digest.of(whole))
        assert await house.pull(UI, Digest.of(whole)) == whole

    run(settle())


# memory


def test_no_more_is_taken_from_a_client_than_the_registry_takes(fronts: Callable[[Behind], Houses]) -> None:
    taken = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 64 * 1024
            yield bytes(64 * 1024)

    def stuck(method: str, _: str, line: Line) -> None:
        if method == "PATCH":
            line.sleep(10)

    async def story(peer: Misbehaving) -> None:
        peer.before = stuck
        house = fronts(Behind(peer.url)).open()
        writing = asyncio.create_task(house.engine.uploads.append(await begin(house), counted(), None))
        await asyncio.sleep(0.3)
        at_first = taken
        await asyncio.sleep(0.3)
        assert taken == at_first
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        # What is in the connection's buffer goes with it, once the registry ends it.
        await asyncio.to_thread(peer.stop)
        await asyncio.sleep(0.05)

    with misbehaving(Sessions()) as peer:
        run(story(peer))


@pytest.mark.parametrize("piece", [997, 64 * 1024, 256 * 1024])
def test_an_upload_of_any_size_takes_less_than_a_mebibyte(front: House, piece: int) -> None:
    count = 16 * 1024 * 1024 // piece

    async def long_body() -> AsyncIterator[bytes]:
        for number in range(count):
            if number % 64 == 0:
                await asyncio.sleep(0)  # a network has to be waited for now and then
            yield bytes([number % 256]) * piece

    async def story() -> int:
        upload = await begin(front)
        await append(front, upload, b"warm")
        tracemalloc.start()
        try:
            appended = await front.engine.uploads.append(upload, long_body(), None)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            assert appended.offset == 4 + count * piece
            await front.commit(appended.change)

    assert run(story()) < 1024 * 1024


def test_what_nobody_finished_is_seen_by_nobody(front: House) -> None:
    async def story() -> None:
        upload = await begin(front)
        await append(front, upload, CONTENT)
        with pytest.raises(BlobUnknown):
            await front.engine.blobs.find(UI, DIGEST)

    run(story())
