"""Adopting while the gateway serves: what it has acknowledged meanwhile is not undone by what was read before."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest

from gateway.administration import Adopted, Adoption, Adoptions
from gateway.audit.event import Kind
from gateway.engine.upstream.adopt import Survey
from gateway.errors import ManifestUnknown
from gateway.oci.names import Repository, Tag
from gateway.records import adoption as rows
from gateway.records import projects
from gateway.records.adoption import Found, Known
from tests.contract.house import image
from tests.house import GATEWAY, OPERATOR
from tests.settlement.front import LAYER, UI, Front

PAST = image(b"{}", LAYER, annotations={"past": "the gateway"})
NIGHTLY = Tag("nightly")


class Unwatched:
    """Nobody looks on."""

    def began(self, repositories: int) -> None:
        pass

    def read(self, manifests: int, tags: int) -> None:
        pass

    def ended(self, adopted: Adopted) -> None:
        pass


class Overtaken(Survey):
    """A survey in which, *times* over, *act* happens between the reading of a part and what is made of it."""

    def __init__(self, front: Front, act: Callable[[], Awaitable[None]], times: int = 1) -> None:
        super().__init__(front.client)
        self._act = act
        self._times = times

    async def read(self, repository: Repository, known: Known) -> AsyncIterator[Found]:
        async for found in super().read(repository, known):
            await self._overtake()
            yield found

    async def again(self, repository: Repository, names: Sequence[str], known: Known) -> Found:
        found = await super().again(repository, names, known)
        await self._overtake()
        return found

    async def _overtake(self) -> None:
        if self._times:
            self._times -= 1
            await self._act()


def adopted(front: Front, act: Callable[[], Awaitable[None]], times: int = 1) -> Adoption:
    """A run over the image, to which somebody has added one past the gateway."""

    async def story() -> Adoption:
        headers = {"Content-Type": PAST.media_type}
        path = f"/v2/{UI}/manifests/{NIGHTLY}"
        assert (await front.client.ask("PUT", path, headers=headers, content=PAST.content)).status == 201
        adoptions = Adoptions(front.house.gate, front.house.database)
        return await adoptions.adopt(OPERATOR, Overtaken(front, act, times), "http://127.0.0.1", Unwatched())

    return front.run(story())


def on_record(front: Front) -> Known:
    return front.house.database.read_now(lambda connection: rows.known(connection, UI))


def test_a_tag_that_is_removed_while_it_is_adopted_stays_removed(front_on_each: Front) -> None:
    front = front_on_each

    async def untag() -> None:
        await front.commit(Kind.TAG_DELETE, front.engine.manifests.untag(UI, NIGHTLY))

    assert adopted(front, untag).whole

    assert on_record(front).tags == {"v1": front.pushed.digest.text}
    assert on_record(front).untagged == {"nightly": PAST.digest.text}
    with pytest.raises(ManifestUnknown):
        front.run(front.engine.manifests.find(UI, NIGHTLY))


def test_a_manifest_that_is_deleted_while_it_is_adopted_is_not_on_record(front_on_each: Front) -> None:
    front = front_on_each

    async def delete() -> None:
        await front.commit(Kind.MANIFEST_DELETE, front.engine.manifests.delete(UI, PAST.digest))

    adoption = adopted(front, delete)

    assert adoption.whole
    assert on_record(front).manifests == {front.pushed.digest.text}
    assert on_record(front).tags == {"v1": front.pushed.digest.text}
    assert adoption.counted()["manifests"] == 0
    assert front.house.trail.verify().fault == ""


def test_what_is_read_while_something_else_changes_enters_all_the_same(front: Front) -> None:
    async def push() -> None:
        await front.commit(Kind.MANIFEST_PUSH, front.put("v2"))

    adoption = adopted(front, push, times=3)

    assert adoption.whole
    assert on_record(front).tags == {
        "nightly": PAST.digest.text,
        "v1": front.pushed.digest.text,
        "v2": front.pushed.digest.text,
    }


def test_what_is_read_while_blobs_and_other_manifests_come_and_go_is_read_once(front_on_each: Front) -> None:
    front = front_on_each
    other = image(b"{}", LAYER, annotations={"other": "image"})

    async def come_and_go() -> None:
        _, change = await front.upload(UI, b"a blob")
        await front.commit(Kind.BLOB_PUSH, change)
        await front.commit(Kind.MANIFEST_PUSH, front.put("v2", manifest=other))
        await front.commit(Kind.MANIFEST_DELETE, front.engine.manifests.delete(UI, other.digest))

    adoption = adopted(front, come_and_go, times=1000)

    assert adoption.whole
    assert on_record(front).tags == {"nightly": PAST.digest.text, "v1": front.pushed.digest.text}


def test_a_tag_that_is_moved_while_it_is_adopted_is_read_again(front: Front) -> None:
    newer = image(b"{}", LAYER, annotations={"newer": "yes"})

    async def move() -> None:
        await front.commit(Kind.MANIFEST_PUSH, front.put("nightly", manifest=newer))

    adoption = adopted(front, move)

    assert adoption.whole
    assert on_record(front).tags == {"nightly": newer.digest.text, "v1": front.pushed.digest.text}
    assert adoption.counted()["tags_added"] == 0


def test_a_project_that_is_removed_while_it_is_adopted_is_read_again_from_nothing(front: Front) -> None:
    async def remove() -> None:
        held = front.house.database.read_now(lambda connection: projects.repository_names(connection, UI.project))
        await front.commit(Kind.PROJECT_REMOVE, projects.remove(UI.project, held, force=True), by=GATEWAY)
        await front.commit(Kind.PROJECT_ADD, projects.add(UI.project, public=False, now=2), by=GATEWAY)

    assert adopted(front, remove).whole

    assert on_record(front).manifests == {PAST.digest.text, front.pushed.digest.text}
    assert on_record(front).tags == {"nightly": PAST.digest.text, "v1": front.pushed.digest.text}


def test_a_part_that_never_stands_still_is_said_to_have_failed_and_loses_nothing(front: Front) -> None:
    async def replace() -> None:
        headers = {"Content-Type": PAST.media_type}
        path = f"/v2/{UI}/manifests/{NIGHTLY}"
        await front.commit(Kind.MANIFEST_DELETE, front.engine.manifests.delete(UI, PAST.digest))
        assert (await front.client.ask("PUT", path, headers=headers, content=PAST.content)).status == 201

    adoption = adopted(front, replace, times=1000)

    [repository] = adoption.repositories
    assert not adoption.whole
    assert "adopt it again" in repository.fault
    assert on_record(front).tags == {"v1": front.pushed.digest.text}
