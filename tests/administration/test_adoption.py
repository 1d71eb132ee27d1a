from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.administration import Adopted, Adoption, Fate, planned
from gateway.engine.upstream.adopt import Survey
from gateway.engine.upstream.client import Answer, Client, Peer
from gateway.errors import Denied, UpstreamFailed
from gateway.oci.digest import Digest
from gateway.oci.names import Repository
from gateway.records.adoption import Known, known
from gateway.records.behind_tables import untagged
from gateway.records.listings import referrers, repository_names
from gateway.records.schema import edges, manifests, projects, repositories, tags
from tests.administration.rooms import Rooms, rooms_of
from tests.house import OPERATOR, opened
from tests.records.rows import column, written
from tests.services.distribution import Way, running_registry
from tests.services.filling import Filling

UI = Repository("gallery/ui")


class Asking(Client):
    """A client that keeps what it asked for; *spoil* may answer in the registry's place, or let it (None)."""

    def __init__(self, peer: Peer, spoil: Callable[[str, str], Answer | None] = lambda method, path: None) -> None:
        super().__init__(peer)
        self.asked: list[str] = []
        self._spoil = spoil

    async def ask(self, method: str, path: str, **more: Any) -> Answer:
        self.asked.append(f"{method} {path}")
        spoiled = self._spoil(method, path)
        return await super().ask(method, path, **more) if spoiled is None else spoiled


class Watching:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.repositories = self.manifests = self.tags = 0
        self.names: list[str] = []

    def began(self, repositories: int) -> None:
        self.repositories += repositories

    def read(self, manifests: int, tags: int) -> None:
        self.manifests += manifests
        self.tags += tags

    def ended(self, adopted: Adopted) -> None:
        self.names.append(adopted.repository)


@pytest.fixture
def filling(tmp_path: Path) -> Iterator[Filling]:
    """An empty registry, to be filled without a gateway."""
    with running_registry(_directory(tmp_path)) as registry:
        yield Filling(registry)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Rooms]:
    """The acts on SQLite alone, for what no database makes a difference to."""
    with opened(f"sqlite:///{tmp_path / 'gateway.db'}", tmp_path) as house:
        rooms = rooms_of(house)
        yield rooms
        rooms.acts.hashing.close()


def _directory(tmp_path: Path) -> Path:
    directory = tmp_path / "registry"
    directory.mkdir(exist_ok=True)
    return directory


def adopted(rooms: Rooms, client: Client, *, page: int = 1000, watching: Watching | None = None) -> Adoption:
    """One run."""

    async def run() -> Adoption:
        try:
            survey = Survey(client, page=page)
            return await rooms.acts.adoptions.adopt(OPERATOR, survey, "http://127.0.0.1", watching or Watching())
        finally:
            await client.close()

    return rooms.run(run())


def fates(adoption: Adoption) -> dict[str, Fate]:
    return {each.repository: each.fate for each in adoption.repositories}


def on_record(rooms: Rooms, repository: Repository = UI) -> Known:
    return rooms.house.database.read_now(lambda connection: known(connection, repository))


def everything(rooms: Rooms) -> list[Any]:
    """Every row that content has."""
    return [
        sorted(column(rooms.house, wanted))
        for wanted in (projects.c.name, repositories.c.name, manifests.c.digest, edges.c.target, tags.c.digest)
    ]


def json_answer(value: object, status: int = 200) -> Answer:
    return Answer(status, {"content-type": "application/json"}, json.dumps(value).encode())


def html(status: int = 200) -> Answer:
    return Answer(status, {"content-type": "text/html"}, b"<html>Please sign in</html>")


# what is taken over


def test_all_that_a_registry_holds_is_on_record_afterwards(rooms: Rooms, filling: Filling) -> None:
    amd64, arm64 = (filling.image("gallery/ui", "", seed) for seed in ("amd64", "arm64"))
    index = filling.index("gallery/ui", [amd64, arm64], "v1")
    tools = filling.image("tools", "latest")
    watching = Watching()

    adoption = adopted(rooms, Client(Peer(filling.registry.url)), watching=watching)

    assert adoption.whole
    assert fates(adoption) == {"gallery/ui": Fate.ADDED, "tools": Fate.ADDED}
    assert sorted(column(rooms.house, projects.c.name)) == ["gallery", "tools"]
    ui = on_record(rooms)
    assert ui.manifests == {amd64.digest, arm64.digest, index.digest}
    assert ui.tags == {"v1": index.digest}
    assert on_record(rooms, Repository("tools")).tags == {"latest": tools.digest}
    assert {amd64.digest, arm64.digest} <= set(column(rooms.house, edges.c.target))
    listed = rooms.house.database.read_now(lambda connection: repository_names(connection, "", 9, None))
    assert listed == ["gallery/ui", "tools"]
    assert (watching.repositories, watching.manifests, watching.tags) == (2, 4, 2)
    assert sorted(watching.names) == listed


def test_what_is_about_a_manifest_is_listed_as_its_referrer(rooms: Rooms, filling: Filling) -> None:
    image = filling.image("gallery/ui", "v1")
    signature = filling.about("gallery/ui", image)
    filling.index("gallery/ui", [signature], image.fallback_tag)
    untagged_subject = filling.image("gallery/ui", "", "nobody tagged it")
    note = filling.about("gallery/ui", untagged_subject, "note", "note")

    adoption = adopted(rooms, Client(Peer(filling.registry.url)))

    assert adoption.counted()["referrers"] == 2
    for subject, about in ((image, signature), (untagged_subject, note)):
        digest = Digest.parse(subject.digest)
        found, _ = asyncio.run(referrers(rooms.house.database, UI, digest, "", 9))
        assert [(each.digest.text, each.artifact_type) for each in found] == [(about.digest, "application/x-signature")]
        assert subject.digest in on_record(rooms).manifests


def test_every_page_of_names_is_read(here: Rooms, filling: Filling) -> None:
    names = [f"gallery/r{number}" for number in range(7)]
    for name in names:
        filling.image(name, "v1", name)
    client = Asking(Peer(filling.registry.url))
    assert set(fates(adopted(here, client, page=3))) == set(names)
    assert sum("_catalog" in asked for asked in client.asked) >= 3


def test_each_repository_is_one_event_with_its_counts_and_the_run_is_one(here: Rooms, filling: Filling) -> None:
    filling.index("gallery/ui", [filling.image("gallery/ui")], "v1")
    adopted(here, Client(Peer(filling.registry.url)))
    events = here.house.records(kind="repository.adopt")
    (of_repository,) = [event for event in events if event.get("repository") == "gallery/ui"]
    assert of_repository["principal"] == "operator:root"
    assert of_repository["detail"] == {"manifests": 2, "referrers": 0, "tags": 1, "tags_moved": 0}
    (whole,) = [event for event in events if not event.get("repository")]
    assert (whole["detail"]["repositories"], whole["detail"]["manifests"]) == (1, 2)
    assert here.last("project.add")["project"] == "gallery"


@pytest.mark.parametrize("way", list(Way))
def test_a_registry_is_read_in_whatever_way_it_is_reached(here: Rooms, tmp_path: Path, way: Way) -> None:
    directory = _directory(tmp_path)
    with running_registry(directory) as open_one:
        Filling(open_one).image("gallery/ui", "v1")
    with running_registry(directory, way) as registry:
        peer = Peer(registry.url, registry.username, registry.password, registry.ca_file)
        assert fates(adopted(here, Client(peer))) == {"gallery/ui": Fate.ADDED}


# again


def test_a_second_run_fetches_no_manifest_and_changes_nothing(here: Rooms, filling: Filling) -> None:
    filling.index("gallery/ui", [filling.image("gallery/ui", "v1")], "v2")
    adopted(here, Client(Peer(filling.registry.url)))
    before, events = everything(here), len(here.house.records(repository="gallery/ui"))
    client = Asking(Peer(filling.registry.url))

    adoption = adopted(here, client)

    assert fates(adoption) == {"gallery/ui": Fate.UNCHANGED}
    assert everything(here) == before
    assert len(here.house.records(repository="gallery/ui")) == events
    assert not [asked for asked in client.asked if asked.startswith("GET") and "/manifests/" in asked]


def test_a_run_that_was_broken_off_goes_on_where_it_stopped(here: Rooms, filling: Filling) -> None:
    document = filling.image_document("gallery/ui")
    digests = {
        filling.manifest("gallery/ui", {**document, "annotations": {"n": str(number)}}, f"v{number:03}").digest
        for number in range(140)
    }

    def broken(method: str, path: str) -> Answer | None:
        return Answer(500, {}, b"") if path.endswith(tuple(f"v{number}" for number in range(128, 140))) else None

    first = adopted(here, Asking(Peer(filling.registry.url), broken))
    assert fates(first) == {"gallery/ui": Fate.FAILED}
    assert len(on_record(here).manifests) == 128
    client = Asking(Peer(filling.registry.url))

    assert fates(adopted(here, client)) == {"gallery/ui": Fate.CHANGED}

    assert on_record(here).manifests == digests
    assert sum(asked.startswith("GET") and "/manifests/" in asked for asked in client.asked) == 12


def test_a_tag_that_moved_and_one_that_is_new_follow(rooms: Rooms, filling: Filling) -> None:
    filling.image("gallery/ui", "v1", "old")
    adopted(rooms, Client(Peer(filling.registry.url)))
    moved = filling.image("gallery/ui", "v1", "new")
    filling.image("gallery/ui", "v2", "new")

    adoption = adopted(rooms, Client(Peer(filling.registry.url)))

    assert on_record(rooms).tags == {"v1": moved.digest, "v2": moved.digest}
    assert (adoption.counted()["tags_moved"], adoption.counted()["tags_added"]) == (1, 1)


def test_a_tag_removed_here_alone_stays_hidden_until_it_moves(rooms: Rooms, filling: Filling) -> None:
    digest = filling.image("gallery/ui", "v1", "old").digest
    adopted(rooms, Client(Peer(filling.registry.url)))

    def remove(connection: Any) -> None:
        place = connection.execute(tags.delete().returning(tags.c.repository_id)).scalar_one()
        hidden = {"repository_id": place, "name": "v1", "digest": digest, "removed_at": 1}
        connection.execute(untagged.insert().values(**hidden))

    written(rooms.house, remove)
    adopted(rooms, Client(Peer(filling.registry.url)))
    assert on_record(rooms).tags == {}

    moved = filling.image("gallery/ui", "v1", "new").digest
    adopted(rooms, Client(Peer(filling.registry.url)))
    assert on_record(rooms).tags == {"v1": moved}
    assert on_record(rooms).untagged == {}


# nothing is forgotten


SPOILED: dict[str, Mapping[str, Callable[[], Answer]]] = {
    "an empty catalog": {r"GET /v2/_catalog": lambda: json_answer({"repositories": []})},
    "no catalog": {r"GET /v2/_catalog": lambda: html(404)},
    "a page instead of the catalog": {r"GET /v2/_catalog": html},
    "numbers in the catalog": {r"GET /v2/_catalog": lambda: json_answer({"repositories": [1, 2]})},
    "a broken catalog": {r"GET /v2/_catalog": lambda: Answer(502, {}, b"")},
    "no tags": {r"GET .*/tags/list": lambda: json_answer({"name": "gallery/ui", "tags": []})},
    "tags that are null": {r"GET .*/tags/list": lambda: json_answer({"name": "gallery/ui", "tags": None})},
    "an unknown name": {r"GET .*/tags/list": lambda: json_answer({"errors": [{"code": "NAME_UNKNOWN"}]}, 404)},
    "a page instead of the tags": {r"GET .*/tags/list": html},
    "tags without end": {
        r"GET .*/tags/list": lambda: Answer(200, {"link": "</v2/x?n=1>; rel=next"}, b'{"tags": ["v1"]}')
    },
    "empty pages without end": {
        r"GET .*/tags/list": lambda: Answer(200, {"link": "</v2/x?n=1>; rel=next"}, b'{"tags": []}')
    },
    "a next page that is nowhere": {
        r"GET .*/tags/list": lambda: Answer(200, {"link": "</v2/x>; rel=next"}, b'{"tags": ["v1"]}')
    },
    "slow down": {r".*/manifests/": lambda: Answer(429, {}, b"")},
    "no manifest any more": {r".*/manifests/": lambda: json_answer({"errors": [{"code": "MANIFEST_UNKNOWN"}]}, 404)},
}


@pytest.mark.parametrize("case", SPOILED)
def test_no_answer_makes_the_gateway_forget(here: Rooms, filling: Filling, case: str) -> None:
    filling.image("gallery/ui", "v1")
    adopted(here, Client(Peer(filling.registry.url)))
    before = everything(here)
    ((pattern, answer),) = SPOILED[case].items()

    def spoil(method: str, path: str) -> Answer | None:
        return answer() if re.match(pattern, f"{method} {path}") else None

    adoption = adopted(here, Asking(Peer(filling.registry.url), spoil))

    assert not adoption.whole
    assert everything(here) == before
    if "catalog" in case:
        # It is asked about all the same.
        assert adoption.fault
        assert fates(adoption) == {"gallery/ui": Fate.UNCHANGED}
    else:
        assert fates(adoption) == {"gallery/ui": Fate.FAILED}
        failed = here.house.records(repository="gallery/ui")[-1]
        assert (failed["outcome"], failed["reason"]) == ("failed", "upstream_unavailable")


def test_a_registry_that_is_gone_takes_nothing_with_it(here: Rooms, filling: Filling) -> None:
    filling.image("gallery/ui", "v1")
    adopted(here, Client(Peer(filling.registry.url)))
    before = everything(here)
    filling.registry.daemon.stop()
    adoption = adopted(here, Client(Peer(filling.registry.url)))
    assert fates(adoption) == {"gallery/ui": Fate.FAILED}
    assert adoption.fault
    assert everything(here) == before


def test_a_registry_started_without_its_volume_takes_nothing_with_it(here: Rooms, filling: Filling) -> None:
    filling.image("gallery/ui", "v1")
    adopted(here, Client(Peer(filling.registry.url)))
    before = everything(here)
    filling.registry.forget()
    adoption = adopted(here, Client(Peer(filling.registry.url)))
    assert not adoption.whole
    assert fates(adoption) == {"gallery/ui": Fate.FAILED}
    assert everything(here) == before


def test_a_tag_that_is_gone_there_stays_on_record(here: Rooms, filling: Filling) -> None:
    filling.image("gallery/ui", "v1", "1")
    gone = filling.image("gallery/ui", "v2", "2")
    adopted(here, Client(Peer(filling.registry.url)))
    assert filling.request("DELETE", f"/v2/gallery/ui/manifests/{gone.digest}")[0] == 202
    adopted(here, Client(Peer(filling.registry.url)))
    assert on_record(here).tags["v2"] == gone.digest
    assert gone.digest in on_record(here).manifests


def test_a_damaged_manifest_keeps_what_lists_it_out_until_it_can_be_read(here: Rooms, filling: Filling) -> None:
    child = filling.image("gallery/ui", "", "child")
    whole = filling.image("gallery/ui", "whole", "whole")
    index = filling.index("gallery/ui", [child, whole], "multi")
    kept = filling.file(child.digest).read_bytes()
    filling.file(child.digest).write_bytes(kept.replace(b"2", b"3", 1))

    assert fates(adopted(here, Client(Peer(filling.registry.url)))) == {"gallery/ui": Fate.FAILED}
    assert on_record(here).tags == {"whole": whole.digest}
    assert on_record(here).manifests == {whole.digest}

    filling.file(child.digest).write_bytes(kept)
    assert fates(adopted(here, Client(Peer(filling.registry.url)))) == {"gallery/ui": Fate.CHANGED}
    assert on_record(here).tags["multi"] == index.digest
    assert child.digest in on_record(here).manifests


# what cannot be taken over


def test_a_name_that_is_none_here_is_told_and_left_out(here: Rooms, filling: Filling) -> None:
    long = f"{'a' * 65}/ui"
    filling.image(long, "v1")
    filling.image("gallery/ui", "v1")
    adoption = adopted(here, Client(Peer(filling.registry.url)))
    assert adoption.whole
    assert fates(adoption) == {long: Fate.LEFT_OUT, "gallery/ui": Fate.ADDED}


def test_a_manifest_that_is_not_well_formed_is_told_and_left(here: Rooms, filling: Filling) -> None:
    document = json.dumps(filling.image_document("gallery/ui", "twice"))
    twice = document[:-1] + ', "schemaVersion": 2}'
    filling.content("gallery/ui", twice.encode(), "application/vnd.oci.image.manifest.v1+json", "twice")
    filling.image("gallery/ui", "v1")
    (found,) = adopted(here, Client(Peer(filling.registry.url))).repositories
    assert found.fate is Fate.ADDED
    assert [remark.reference for remark in found.left] == ["twice"]
    assert set(on_record(here).tags) == {"v1"}


def test_an_old_format_is_told_and_left(here: Rooms, filling: Filling) -> None:
    filling.image("gallery/ui", "v1")

    def old(method: str, path: str) -> Answer | None:
        kind = {"content-type": "application/vnd.docker.distribution.manifest.v1+prettyjws"}
        return Answer(200, kind, b"{}") if "/manifests/" in path else None

    (found,) = adopted(here, Asking(Peer(filling.registry.url), old)).repositories
    assert "schema 1" in found.left[0].why
    assert on_record(here).manifests == frozenset()


def test_a_repository_without_tags_is_empty_and_no_fault(here: Rooms, filling: Filling) -> None:
    gone = filling.image("gallery/ui", "v1")
    assert filling.request("DELETE", f"/v2/gallery/ui/manifests/{gone.digest}")[0] == 202
    adoption = adopted(here, Client(Peer(filling.registry.url)))
    assert adoption.whole
    assert fates(adoption) == {"gallery/ui": Fate.EMPTY}


# the plan, and the right


def test_a_plan_says_the_same_and_writes_nothing(here: Rooms, filling: Filling) -> None:
    filling.index("gallery/ui", [filling.image("gallery/ui")], "v1")
    events = len(here.house.records())

    async def plan() -> tuple[Adoption, Adoption]:
        client = Client(Peer(filling.registry.url))
        try:
            with_records = await here.acts.adoptions.plan(Survey(client), Watching())
            return with_records, await planned(Survey(client), Watching())
        finally:
            await client.close()

    with_records, without = here.run(plan())
    assert with_records == without
    assert column(here.house, projects.c.name) == []
    assert len(here.house.records()) == events
    assert adopted(here, Client(Peer(filling.registry.url))) == with_records


def test_only_an_administrator_adopts(here: Rooms, filling: Filling) -> None:
    filling.image("gallery/ui", "v1")
    writer = here.user("writer")

    async def run() -> None:
        client = Client(Peer(filling.registry.url))
        try:
            await here.acts.adoptions.adopt(writer, Survey(client), "", Watching())
        finally:
            await client.close()

    with pytest.raises(Denied):
        here.run(run())
    assert here.last("repository.adopt")["outcome"] == "denied"
    assert column(here.house, projects.c.name) == []


def test_something_that_is_no_registry_is_not_greeted() -> None:
    async def run() -> None:
        client = Asking(Peer("http://127.0.0.1:9"), lambda method, path: html(403))
        await Survey(client).greet()

    with pytest.raises(UpstreamFailed):
        asyncio.run(run())
