"""Acts that meet at a tag or a digest: the registry behind does them in the order in which they are recorded."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, select

from gateway.audit.event import Kind
from gateway.change import Change, Notes
from gateway.engine.upstream import intention
from gateway.engine.upstream.holds import Holds
from gateway.errors import BlobUnknown, ManifestUnknown, Unavailable
from gateway.oci.digest import Digest
from gateway.oci.manifest import Manifest
from gateway.oci.media import OCI_MANIFEST
from gateway.oci.names import Tag
from gateway.records import intents
from gateway.records.behind_tables import untagged
from gateway.records.schema import links, manifests, tags
from tests.contract.house import image
from tests.records.rows import column
from tests.services.distribution import Registry
from tests.services.gateway import running_gateway
from tests.settlement.front import LAYER, NEW_LAYER, UI, Front

WRITER = ("writer", "writer's-long-password")
NEWER = image(b"{}", LAYER, annotations={"newer": "yes"})
LATEST = Tag("latest")
HOLDER = """
import sys
from pathlib import Path
from gateway.engine.upstream.holds import Holds

held = Holds(Path(sys.argv[1])).take(sys.argv[2], again=True)
print("held", flush=True)
sys.stdin.read()
"""


def held_up(change: Change, until: asyncio.Event) -> Change:
    """*change*, of which the registry behind has done its part at once, and which is recorded only after *until*."""
    elsewhere = change.elsewhere
    assert elsewhere is not None

    async def run() -> None:
        await elsewhere.run()
        await until.wait()

    return replace(change, elsewhere=replace(elsewhere, run=run))


def tagged(front: Front) -> dict[str, str]:
    return front.house.database.read_now(
        lambda connection: {row.name: row.digest for row in connection.execute(select(tags.c.name, tags.c.digest))}
    )


async def behind_at(front: Front, tag: Tag) -> str:
    """Where the tag is in the registry behind, "" for nowhere."""
    answer = await front.client.ask("HEAD", f"/v2/{UI}/manifests/{tag}", headers={"Accept": OCI_MANIFEST})
    return answer.headers.get("docker-content-digest", "") if answer.status == 200 else ""


async def overlapped(
    front: Front, first: tuple[Kind, Change], second: tuple[Kind, Change], meanwhile: Callable[[], Awaitable[None]]
) -> list[Notes | BaseException]:
    """What became of two acts; the second begins when the first was done behind, *meanwhile* comes before its end."""
    until = asyncio.Event()
    one = asyncio.create_task(front.commit(first[0], held_up(first[1], until)))
    await done_behind(front, one, first)
    other = asyncio.create_task(front.commit(*second))
    await asyncio.sleep(0.3)
    await meanwhile()
    until.set()
    return await asyncio.gather(one, other, return_exceptions=True)


async def done_behind(front: Front, one: asyncio.Task[Notes], first: tuple[Kind, Change]) -> None:
    await asyncio.sleep(0.3)
    assert not one.done()
    assert len(front.open_intents()) == 1


async def nothing() -> None:
    return None


def test_two_pushes_of_one_tag_are_recorded_in_the_order_in_which_they_were_done(front_on_each: Front) -> None:
    front = front_on_each

    async def story() -> None:
        async def meanwhile() -> None:
            assert await behind_at(front, LATEST) == front.pushed.digest.text, "the second waits for the first"

        first = Kind.MANIFEST_PUSH, front.put("latest")
        second = Kind.MANIFEST_PUSH, front.put("latest", manifest=NEWER)
        ended = await overlapped(front, first, second, meanwhile)

        assert not any(isinstance(each, BaseException) for each in ended)
        assert await behind_at(front, LATEST) == NEWER.digest.text

    front.run(story())
    assert tagged(front)["latest"] == NEWER.digest.text
    first, second = front.house.records(kind="manifest.push")[-2:]
    assert second["before"] == first["after"] == {"tags": {"latest": front.pushed.digest.text}}
    assert second["after"] == {"tags": {"latest": NEWER.digest.text}}


def test_a_push_and_a_deletion_of_one_manifest_leave_no_tag_on_record_that_is_gone(front_on_each: Front) -> None:
    front = front_on_each

    async def story() -> None:
        first = Kind.MANIFEST_PUSH, front.put("latest", manifest=NEWER)
        second = Kind.MANIFEST_DELETE, front.engine.manifests.delete(UI, NEWER.digest)
        ended = await overlapped(front, first, second, nothing)

        assert not any(isinstance(each, BaseException) for each in ended)
        assert await behind_at(front, LATEST) == ""

    front.run(story())
    assert tagged(front) == {"v1": front.pushed.digest.text}
    assert column(front.house, manifests.c.digest) == [front.pushed.digest.text]
    assert front.last()["before"] == {"tags": {"latest": NEWER.digest.text}}


def test_a_push_of_a_tag_waits_for_the_deletion_of_the_manifest_that_it_names(front: Front) -> None:
    async def story() -> None:
        async def meanwhile() -> None:
            assert await behind_at(front, Tag("v1")) == "", "the push waits for the deletion"

        first = Kind.MANIFEST_DELETE, front.engine.manifests.delete(UI, front.pushed.digest)
        second = Kind.MANIFEST_PUSH, front.put("v1", manifest=NEWER)
        await overlapped(front, first, second, meanwhile)

        assert await behind_at(front, Tag("v1")) == NEWER.digest.text

    front.run(story())
    assert tagged(front) == {"v1": NEWER.digest.text}
    assert front.last()["before"] == {"tags": {}}


def test_a_tag_that_is_pushed_while_it_is_removed_is_there_afterwards_and_listed(front_on_each: Front) -> None:
    front = front_on_each

    async def story() -> None:
        first = Kind.TAG_DELETE, front.engine.manifests.untag(UI, Tag("v1"))
        second = Kind.MANIFEST_PUSH, front.put("v1", manifest=NEWER)
        ended = await overlapped(front, first, second, nothing)

        assert not any(isinstance(each, BaseException) for each in ended)
        assert (await front.engine.manifests.find(UI, Tag("v1"))).digest == NEWER.digest
        assert (await front.engine.listings.tags(UI, after="", limit=10)).entries == ("v1",)

    front.run(story())
    assert tagged(front) == {"v1": NEWER.digest.text}
    assert column(front.house, untagged.c.name) == []


def test_a_tag_that_is_removed_while_it_is_pushed_is_removed_where_the_push_left_it(front: Front) -> None:
    async def story() -> None:
        first = Kind.MANIFEST_PUSH, front.put("v1", manifest=NEWER)
        second = Kind.TAG_DELETE, front.engine.manifests.untag(UI, Tag("v1"))
        await overlapped(front, first, second, nothing)

        with pytest.raises(ManifestUnknown):
            await front.engine.manifests.find(UI, Tag("v1"))

    front.run(story())
    assert tagged(front) == {}
    assert column(front.house, untagged.c.digest) == [NEWER.digest.text]


def test_a_blob_that_is_pushed_while_it_is_deleted_is_on_record_only_if_it_is_there(front: Front) -> None:
    async def story() -> None:
        _, push = await front.upload(UI, NEW_LAYER)
        second = Kind.BLOB_DELETE, front.engine.blobs.delete(UI, Digest.of(NEW_LAYER))
        await overlapped(front, (Kind.BLOB_PUSH, push), second, nothing)

        with pytest.raises(BlobUnknown):
            await front.engine.blobs.find(UI, Digest.of(NEW_LAYER))

    front.run(story())
    assert Digest.of(NEW_LAYER).text not in column(front.house, links.c.digest)


@pytest.mark.parametrize("manifest", [NEWER, image(b"{}", LAYER)], ids=["another", "the same"])
def test_a_push_of_another_tag_waits_for_nobody(front: Front, manifest: Manifest) -> None:
    async def story() -> None:
        async def meanwhile() -> None:
            assert await behind_at(front, Tag("other")) == manifest.digest.text

        first = Kind.MANIFEST_PUSH, front.put("latest")
        await overlapped(front, first, (Kind.MANIFEST_PUSH, front.put("other", manifest=manifest)), meanwhile)

    front.run(story())


def test_many_pushes_of_overlapping_tags_all_come_to_their_end(front: Front) -> None:
    names = ["a", "b", "c"]

    async def push(number: int) -> None:
        manifest = image(b"{}", LAYER, annotations={"number": str(number)})
        chosen = names[number % 3 :] + names[: number % 3]
        await front.commit(Kind.MANIFEST_PUSH, front.put(*chosen[: 1 + number % 3], manifest=manifest))

    async def story() -> dict[str, str]:
        await asyncio.gather(*(push(number) for number in range(18)))
        return {name: await behind_at(front, Tag(name)) for name in names}

    there = front.run(story())
    assert {name: tagged(front)[name] for name in names} == there
    assert front.open_intents() == []


def test_nobody_waits_for_an_act_that_was_given_up(front: Front) -> None:
    async def push(front: Front) -> Change:
        return front.put("latest")

    front.leave(Kind.MANIFEST_PUSH, push, done=True)

    front.run(asyncio.wait_for(front.commit(Kind.MANIFEST_PUSH, front.put("latest", manifest=NEWER)), 2))

    assert tagged(front)["latest"] == NEWER.digest.text


def test_who_waits_for_a_process_goes_on_when_that_is_killed(front: Front) -> None:
    async def push(front: Front) -> Change:
        return front.put("latest")

    front.leave(Kind.MANIFEST_PUSH, push, done=True)
    [left] = front.house.database.read_now(lambda connection: intents.open_intents(connection, 1e12))
    command = [sys.executable, "-c", HOLDER, str(front.house.data), left.id]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"

        async def story() -> None:
            waiting = asyncio.create_task(front.commit(Kind.MANIFEST_PUSH, front.put("latest", manifest=NEWER)))
            await asyncio.sleep(0.5)
            assert not waiting.done()
            assert await behind_at(front, LATEST) == front.pushed.digest.text
            holder.kill()
            await asyncio.wait_for(waiting, 5)

        front.run(story())
    assert tagged(front)["latest"] == NEWER.digest.text


def test_who_waits_too_long_is_told_to_try_again_and_has_done_nothing(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intention, "WAITING_SECONDS", 0.1)

    async def story() -> None:
        first = Kind.MANIFEST_PUSH, front.put("latest")
        second = Kind.MANIFEST_PUSH, front.put("latest", manifest=NEWER)
        one, other = await overlapped(front, first, second, nothing)
        assert isinstance(one, Notes)
        assert isinstance(other, Unavailable)
        assert await behind_at(front, LATEST) == front.pushed.digest.text

    front.run(story())
    assert tagged(front)["latest"] == front.pushed.digest.text
    assert front.open_intents() == []
    assert [event["outcome"] for event in front.house.records(kind="manifest.push")[-2:]] == ["failed", "allowed"]


def test_who_is_in_line_behind_one_of_the_same_process_looks_at_no_file_until_its_turn(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    still = Holds.still

    def counted(holds: Holds, intent_ids: Collection[str]) -> frozenset[str]:
        assert threading.current_thread() is not threading.main_thread(), "the loop serves everybody"
        looks.append(len(intent_ids))
        return still(holds, intent_ids)

    monkeypatch.setattr(Holds, "still", counted)

    async def story() -> None:
        until = asyncio.Event()
        first = asyncio.create_task(front.commit(Kind.MANIFEST_PUSH, held_up(front.put("latest"), until)))
        await asyncio.sleep(0.3)
        others = [front.commit(Kind.MANIFEST_PUSH, front.put("latest", manifest=NEWER)) for _ in range(20)]
        waiting = asyncio.gather(first, *others)
        await asyncio.sleep(0.5)
        assert looks == []
        until.set()
        await waiting

    front.run(story())
    assert len(looks) == 20
    assert front.open_intents() == []


def test_who_would_have_too_many_ahead_is_refused_at_once_and_has_begun_nothing(
    front_on_each: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = front_on_each
    monkeypatch.setattr(intention, "MOST_AHEAD", 3)
    begin, begun = intents.begin, list[str]()

    def counted(connection: Connection, intent_id: str, *told: Any) -> None:
        begun.append(intent_id)
        begin(connection, intent_id, *told)

    monkeypatch.setattr(intents, "begin", counted)

    async def story() -> None:
        until = asyncio.Event()
        first = asyncio.create_task(front.commit(Kind.MANIFEST_PUSH, held_up(front.put("latest"), until)))
        await asyncio.sleep(0.3)
        others = [asyncio.create_task(front.commit(Kind.MANIFEST_PUSH, front.put("latest"))) for _ in range(3)]
        await asyncio.sleep(0.3)
        with pytest.raises(Unavailable, match="nothing was done"):
            await asyncio.wait_for(front.commit(Kind.MANIFEST_PUSH, front.put("latest")), 2)
        assert len(front.open_intents()) == len(begun) == 4
        until.set()
        await asyncio.gather(first, *others)

    front.run(story())
    assert front.open_intents() == []
    outcomes = [event["outcome"] for event in front.house.records(kind="manifest.push")[-5:]]
    assert outcomes == ["failed", *["allowed"] * 4]


def test_those_of_another_process_count_among_those_ahead_but_what_was_given_up_does_not(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def push(front: Front) -> Change:
        return front.put("latest")

    monkeypatch.setattr(intention, "MOST_AHEAD", 0)
    front.leave(Kind.MANIFEST_PUSH, push, done=True)
    [left] = front.house.database.read_now(lambda connection: intents.open_intents(connection, 1e12))
    hold = Holds(front.house.data).take(left.id, again=True)
    with pytest.raises(Unavailable, match="nothing was done"):
        front.run(asyncio.wait_for(front.commit(Kind.MANIFEST_PUSH, front.put("latest", manifest=NEWER)), 2))
    hold.release()

    front.run(front.commit(Kind.MANIFEST_PUSH, front.put("latest", manifest=NEWER)))

    assert tagged(front)["latest"] == NEWER.digest.text


def test_who_waits_for_the_last_of_those_ahead_still_waits_for_the_others(front: Front) -> None:
    """They need not have met one another, and then end in any order."""
    elsewhere = Holds(front.house.data)
    ahead = {tag: elsewhere.take(tag) for tag in ("first", "second")}

    def begin(connection: Connection) -> None:
        for moment, tag in enumerate(ahead, 1):
            act = {"digest": NEWER.digest.text, "tags": [tag], "owner": "", "names": [], "size_bytes": 1, "layers": {}}
            intents.begin(connection, tag, "manifest.push", UI, act, {}, now=moment)

    front.written(begin)

    async def story() -> None:
        waiting = asyncio.create_task(front.commit(Kind.MANIFEST_PUSH, front.put("first", "second")))
        await asyncio.sleep(0.3)
        ahead["second"].release()
        await asyncio.sleep(0.3)
        assert not waiting.done()
        ahead["first"].release()
        await asyncio.wait_for(waiting, 10)

    front.run(story())


def test_what_is_being_settled_is_waited_for(front: Front) -> None:
    """It has been asked where the tag is: who moves it now would be overruled by what is recorded of the answer."""

    async def push(front: Front) -> Change:
        return front.put("latest")

    front.leave(Kind.MANIFEST_PUSH, push, done=True)
    settling = front.settlement.settling
    find_out = settling.find_out

    async def story() -> None:
        pushes: list[asyncio.Task[Notes]] = []

        async def find_out_and_push(intent: Any) -> Any:
            found = await find_out(intent)
            pushes.append(asyncio.create_task(front.commit(Kind.MANIFEST_PUSH, front.put("latest", manifest=NEWER))))
            await asyncio.sleep(0.3)
            assert await behind_at(front, LATEST) == front.pushed.digest.text, "the push waits"
            return found

        settling.find_out = find_out_and_push  # type: ignore[method-assign]
        assert await front.settlement.settle(after_seconds=0) == 1
        await pushes[0]
        assert await behind_at(front, LATEST) == NEWER.digest.text

    front.run(story())
    assert tagged(front)["latest"] == NEWER.digest.text


def test_what_meets_an_act_under_way_is_settled_another_time(front: Front) -> None:
    async def push(front: Front) -> Change:
        return front.put("latest")

    front.leave(Kind.MANIFEST_PUSH, push, done=True)

    async def story() -> None:
        async def meanwhile() -> None:
            assert await front.settlement.settle(after_seconds=0) == 0

        until = asyncio.Event()
        one = asyncio.create_task(front.commit(Kind.MANIFEST_PUSH, held_up(front.put("latest", manifest=NEWER), until)))
        await asyncio.sleep(0.3)
        await meanwhile()
        until.set()
        await one

    front.run(story())
    assert tagged(front)["latest"] == NEWER.digest.text


def test_a_removal_of_a_tag_of_which_nobody_heard_is_said_to_have_failed(front: Front) -> None:
    event = {**front.last(), "kind": "tag.delete"}
    front.written(lambda connection: intents.begin(connection, "left", "tag.delete", UI, {"tags": ["v1"]}, event))

    assert front.settle() == 0
    assert front.settle(later=120) == 1

    assert (front.last()["kind"], front.last()["outcome"], front.last()["reason"]) == (
        "tag.delete",
        "failed",
        "not_done",
    )
    assert tagged(front) == {"v1": front.pushed.digest.text}


def test_a_push_that_lands_late_at_a_tag_removed_meanwhile_is_listed_as_it_is_pulled(front: Front) -> None:
    async def push(front: Front) -> Change:
        return front.put("v1", manifest=NEWER)

    front.leave(Kind.MANIFEST_PUSH, push, done=False)

    async def story() -> None:
        await front.commit(Kind.TAG_DELETE, front.engine.manifests.untag(UI, Tag("v1")))
        headers = {"Content-Type": NEWER.media_type}
        await front.client.ask("PUT", f"/v2/{UI}/manifests/v1", headers=headers, content=NEWER.content)
        assert await front.settlement.settle(after_seconds=0) == 1
        assert (await front.engine.manifests.find(UI, Tag("v1"))).digest == NEWER.digest
        assert (await front.engine.listings.tags(UI, after="", limit=10)).entries == ("v1",)

    front.run(story())
    assert tagged(front) == {"v1": NEWER.digest.text}


def test_no_hold_is_left_of_acts_that_waited(front: Front) -> None:
    async def story() -> None:
        await asyncio.gather(*(front.commit(Kind.MANIFEST_PUSH, front.put("latest")) for _ in range(5)))

    front.run(story())

    assert Holds(front.house.data).held() == frozenset()
    assert list((front.house.data / "intents").iterdir()) == []


def test_pushes_and_removals_at_once_over_several_processes_end_as_the_trail_says(behind: Registry) -> None:
    behind.forget()
    environment = {"GATEWAY_ENGINE__KIND": "upstream", "GATEWAY_ENGINE__URL": behind.url}
    with running_gateway(environment=environment, workers=2) as gateway:
        gateway.add_user(*WRITER)
        gateway.cli("project", "add", "gallery").must()
        gateway.cli("grant", "writer", "maintainer", "gallery").must()
        token = gateway.wire.token(WRITER, "repository:gallery/ui:pull,push,delete")
        for content in (b"{}", LAYER):
            gateway.wire.push_blob("gallery/ui", token, content, f"sha256:{hashlib.sha256(content).hexdigest()}")
        path = "/v2/gallery/ui/manifests"

        def push(tag: str, number: int) -> None:
            manifest = image(b"{}", LAYER, annotations={"number": f"{tag} {number}"})
            headers = {"Content-Type": OCI_MANIFEST}
            answer = gateway.wire.ask("PUT", f"{path}/{tag}", token=token, body=manifest.content, headers=headers)
            statuses.append(answer.status)

        statuses: list[int] = []
        names = [f"t{number}" for number in range(8)]
        for name in names:
            together = [threading.Thread(target=push, args=(name, number)) for number in range(8)]
            if name in names[4:]:
                # Nothing is there yet, or something is: either way it ends in one of two ways.
                remove = threading.Thread(
                    target=gateway.wire.ask, args=("DELETE", f"{path}/{name}"), kwargs={"token": token}
                )
                together.insert(4, remove)
            for thread in together:
                thread.start()
            for thread in together:
                thread.join()
        assert set(statuses) == {201}

        said: dict[str, str] = {}
        moves = [event for event in gateway.events() if event["kind"] in {"manifest.push", "tag.delete"}]
        for event in (event for event in moves if event["outcome"] == "allowed"):
            assert all(said.get(tag) == digest for tag, digest in event["before"]["tags"].items())
            for tag in event["before"]["tags"]:
                said.pop(tag)
            said.update(event["after"]["tags"])
        listed = gateway.wire.ask("GET", "/v2/gallery/ui/tags/list", token=token).json["tags"]
        assert sorted(said) == sorted(listed)
        for name in names:
            answer = gateway.wire.ask("HEAD", f"{path}/{name}", token=token, headers={"Accept": OCI_MANIFEST})
            assert answer.headers.get("docker-content-digest", "") == said.get(name, "")
