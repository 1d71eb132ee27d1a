"""A quota counts what acts under way will bring: all of it, each digest once."""

from __future__ import annotations

import asyncio
import json

import pytest
from sqlalchemy import func, select

from gateway.audit.event import Kind
from gateway.change import Change
from gateway.errors import ManifestBlobUnknown, QuotaExceeded, Unavailable
from gateway.oci.digest import Digest
from gateway.oci.manifest import Manifest, load
from gateway.oci.names import Repository
from gateway.records import projects, promises, usage
from gateway.records.projects import Wishes
from gateway.records.schema import intents
from tests.contract.house import image
from tests.house import GATEWAY
from tests.settlement.front import UI, Front

OTHER = Repository("garden/ui")
LARGE, SECOND = b"a" * 9000, b"b" * 9000
QUOTA_BYTES = 12_000


def ruled(front: Front, repository: Repository, quota_bytes: int = QUOTA_BYTES) -> None:
    change = projects.set_project(repository.project, Wishes(quota_bytes=quota_bytes))
    front.run(front.commit(Kind.PROJECT_SET, change, by=GATEWAY))


def used(front: Front, repository: Repository) -> int:
    return front.house.database.read_now(lambda connection: usage.used_bytes(connection, repository.project))


async def push_large(front: Front) -> Change:
    return (await front.upload(UI, LARGE))[1]


async def push_second(front: Front) -> Change:
    return (await front.upload(UI, SECOND))[1]


async def keep_past(front: Front, *contents: bytes) -> None:
    """Puts blobs into the registry behind, past the gateway."""
    for content in contents:
        begun = await front.client.ask("POST", f"/v2/{UI}/blobs/uploads/", content=b"")
        place = front.client.local(begun.headers["location"], UI.name)
        joint = "&" if "?" in place else "?"
        put = await front.client.ask("PUT", f"{place}{joint}digest={Digest.of(content)}", content=content)
        assert put.status == 201


def claiming(layer: bytes, size_bytes: int) -> Manifest:
    """An image that claims another size of its layer."""
    true = image(b"{}", layer)
    fields = json.loads(true.content)
    fields["layers"][0]["size"] = size_bytes
    return load(json.dumps(fields).encode(), true.media_type)


def test_a_push_that_nobody_heard_of_does_not_refuse_its_own_repetition(front_on_each: Front) -> None:
    front = front_on_each
    ruled(front, UI)
    front.leave(Kind.BLOB_PUSH, push_large, done=False)

    async def again() -> None:
        await front.commit(Kind.BLOB_PUSH, await push_large(front))

    front.run(again())
    assert len(LARGE) < used(front, UI) <= QUOTA_BYTES


def test_a_push_that_nobody_heard_of_keeps_its_room_from_others(front: Front) -> None:
    ruled(front, UI)
    front.leave(Kind.BLOB_PUSH, push_large, done=False)

    async def other() -> None:
        await front.commit(Kind.BLOB_PUSH, await push_second(front))

    with pytest.raises(QuotaExceeded):
        front.run(other())


def test_two_pushes_of_one_blob_need_room_for_one(front: Front) -> None:
    ruled(front, UI)

    async def meanwhile() -> None:
        await front.commit(Kind.BLOB_PUSH, await push_large(front))

    front.carry_out(Kind.BLOB_PUSH, push_large, meanwhile, done=True)

    assert len(LARGE) < used(front, UI) <= QUOTA_BYTES


def test_mounts_at_once_do_not_exceed_a_quota(front_on_each: Front) -> None:
    front = front_on_each
    add = projects.add(OTHER.project, public=False, now=1)

    async def begin() -> None:
        await front.commit(Kind.PROJECT_ADD, add, by=GATEWAY)
        for push in (push_large, push_second):
            await front.commit(Kind.BLOB_PUSH, await push(front))

    front.run(begin())
    ruled(front, OTHER)

    async def mount(front: Front) -> Change:
        return front.engine.blobs.mount(UI, OTHER, Digest.of(LARGE))

    async def meanwhile() -> None:
        with pytest.raises(QuotaExceeded):
            await front.commit(Kind.BLOB_MOUNT, front.engine.blobs.mount(UI, OTHER, Digest.of(SECOND)))

    front.carry_out(Kind.BLOB_MOUNT, mount, meanwhile, done=True)

    assert used(front, OTHER) == len(LARGE)


def test_pushes_at_once_count_the_layers_that_came_past_the_gateway(front: Front) -> None:
    layers = (LARGE, SECOND)
    front.run(keep_past(front, *layers))
    ruled(front, UI)
    first, second = (image(b"{}", layer) for layer in layers)

    async def push(front: Front) -> Change:
        return front.put("first", manifest=first)

    async def meanwhile() -> None:
        with pytest.raises(QuotaExceeded):
            await front.commit(Kind.MANIFEST_PUSH, front.put("second", manifest=second))

    front.carry_out(Kind.MANIFEST_PUSH, push, meanwhile, done=True)

    assert len(LARGE) < used(front, UI) <= QUOTA_BYTES


def test_what_was_done_is_recorded_though_the_quota_was_lowered_meanwhile(front_on_each: Front) -> None:
    front = front_on_each
    ruled(front, UI)
    lowering = projects.set_project(UI.project, Wishes(quota_bytes=1))

    async def push(front: Front) -> Change:
        return front.put("small", manifest=image(b"{}", annotations={"small": "yes"}))

    async def meanwhile() -> None:
        await front.commit(Kind.PROJECT_SET, lowering, by=GATEWAY)

    before = used(front, UI)
    front.carry_out(Kind.BLOB_PUSH, push_large, meanwhile, done=True)
    assert used(front, UI) == before + len(LARGE)

    ruled(front, UI)
    front.carry_out(Kind.MANIFEST_PUSH, push, meanwhile, done=True)
    assert used(front, UI) > before + len(LARGE)
    assert front.open_intents() == []


@pytest.mark.parametrize("first", ["the claim", "the layer"])
def test_a_manifest_that_claims_less_of_a_layer_than_comes_in_makes_no_room(front_on_each: Front, first: str) -> None:
    front = front_on_each
    ruled(front, UI)
    seen: list[str] = []

    async def second() -> None:
        seen.extend(front.open_intents())
        with pytest.raises(QuotaExceeded):
            await front.commit(Kind.BLOB_PUSH, await push_second(front))

    async def story() -> None:
        layer = await push_large(front)
        claim = front.put("claim", manifest=claiming(LARGE, 1))

        async def claim_and_second() -> None:
            await front.amid(Kind.MANIFEST_PUSH, claim, second, done=False)

        async def layer_and_second() -> None:
            await front.amid(Kind.BLOB_PUSH, layer, second, done=True)

        if first == "the layer":
            await front.amid(Kind.BLOB_PUSH, layer, claim_and_second, done=True)
        else:
            await front.amid(Kind.MANIFEST_PUSH, claim, layer_and_second, done=False)

    front.run(story())
    assert sorted(seen) == ["blob.push", "manifest.push"]
    assert len(LARGE) < used(front, UI) <= QUOTA_BYTES


def test_of_two_manifests_that_claim_different_sizes_of_a_layer_the_larger_counts(front_on_each: Front) -> None:
    front = front_on_each
    front.run(keep_past(front, LARGE))
    ruled(front, UI)
    true, lie = (front.put(name, manifest=claiming(LARGE, size)) for name, size in (("true", len(LARGE)), ("lie", 1)))

    async def second() -> None:
        with pytest.raises(QuotaExceeded):
            await front.commit(Kind.BLOB_PUSH, await push_second(front))

    async def claim() -> None:
        await front.amid(Kind.MANIFEST_PUSH, lie, second, done=False)

    front.run(front.amid(Kind.MANIFEST_PUSH, true, claim, done=False))
    assert used(front, UI) <= QUOTA_BYTES


def claims(number: int, count: int) -> Manifest:
    """An image of so many layers that nobody has, others for each number."""
    true = image(b"{}", LARGE)
    fields = json.loads(true.content)
    [layer] = fields["layers"]
    named = [Digest.of(f"{number} {each}".encode()).text for each in range(count)]
    fields["layers"] = [{**layer, "digest": digest, "size": 1} for digest in named]
    return load(json.dumps(fields).encode(), true.media_type)


def test_whoever_comes_while_too_much_is_promised_is_told_to_try_again(
    front_on_each: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = front_on_each
    ruled(front, UI, 10**9)
    monkeypatch.setattr(promises, "MOST_PROMISED", 10)
    first, second = (front.put(f"v{number}", manifest=claims(number, 7)) for number in (1, 2))

    async def meanwhile() -> None:
        with pytest.raises(Unavailable, match="nothing was done"):
            await front.commit(Kind.MANIFEST_PUSH, second)
        assert front.open_intents() == ["manifest.push"]
        # There is still room for what is small.
        await front.commit(Kind.BLOB_PUSH, await push_large(front))
        await front.commit(Kind.MANIFEST_PUSH, front.put("v3"))

    async def story() -> None:
        with pytest.raises(ManifestBlobUnknown):
            await front.amid(Kind.MANIFEST_PUSH, first, meanwhile, done=False)
        # Alone, it is let in however large it is.
        with pytest.raises(ManifestBlobUnknown):
            await front.commit(Kind.MANIFEST_PUSH, front.put("v2", manifest=claims(2, 30)))

    front.run(story())
    assert front.open_intents() == []


def test_a_line_for_one_tag_makes_no_act_larger(front: Front) -> None:
    lengths: list[int] = []

    def longest() -> int:
        wanted = select(func.max(func.length(intents.c.act)))
        return int(front.house.database.read_now(lambda connection: connection.execute(wanted).scalar_one()))

    async def behind(count: int) -> None:
        change = front.put("latest", manifest=image(b"{}", LARGE, annotations={"number": str(count)}))
        waiting = asyncio.ensure_future(front.commit(Kind.MANIFEST_PUSH, change))
        async with asyncio.timeout(10):
            while len(front.open_intents()) <= count:  # noqa: ASYNC110 - the database tells nobody
                await asyncio.sleep(0.01)
        lengths.append(longest())
        if count < 6:
            await behind(count + 1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    async def story() -> None:
        async def meanwhile() -> None:
            await behind(1)

        await front.amid(Kind.MANIFEST_PUSH, front.put("latest"), meanwhile, done=False)

    front.run(story())
    assert len(set(lengths)) == 1
