"""What repositories hold, told to who may pull; on both databases, and in front of a registry."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.access.principals import ANONYMOUS, Caller
from gateway.administration import ManifestView, Shelf, TagEntry, contents
from gateway.audit.event import Event, Kind
from gateway.engine.embedded.assembly import embedded
from gateway.engine.port import Feature
from gateway.engine.upstream.assembly import upstream
from gateway.engine.upstream.client import Client, Peer
from gateway.errors import Conflict, Denied, DigestInvalid, Invalid, ManifestUnknown, TagInvalid, Unknown
from gateway.gate import Act
from gateway.oci.config import LIMIT_BYTES
from gateway.oci.purpose import Purpose
from gateway.records import pulls
from tests.administration.rooms import Rooms, rooms_of
from tests.administration.stocking import AMD64, CONFIG, EMPTY, Stock
from tests.house import OPERATOR, ORIGIN, House, opened
from tests.services.daemon import scratch
from tests.services.distribution import Registry, Way, running_registry

ARM64 = {**AMD64, "architecture": "arm64", "variant": "v8"}
NOBODY = Caller(ANONYMOUS, ORIGIN)
ALWAYS = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Gallery:
    """A project with an owner, jane, and content."""

    rooms: Rooms
    stock: Stock
    jane: Caller

    @property
    def contents(self) -> Any:
        return self.rooms.acts.contents

    def run(self, act: Any) -> Any:
        async def ended() -> Any:
            try:
                return await act
            finally:
                await self.stock.engine.close()

        return self.rooms.run(ended())

    def tags(self, caller: Caller, name: str, **more: Any) -> Shelf[TagEntry]:
        found: Shelf[TagEntry] = self.run(self.contents.tags(caller, name, **more))
        return found

    def show(self, name: str, reference: str, caller: Caller | None = None) -> ManifestView:
        found: ManifestView = self.run(self.contents.manifest(caller or self.jane, name, reference))
        return found


def gallery_of(house: House, engine: Any) -> Gallery:
    rooms = rooms_of(house, engine=engine)
    jane = rooms.owner("jane", "gallery")
    rooms.owner("joe", "attic")
    return Gallery(rooms, Stock(house, engine, jane), jane)


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    """A gallery on SQLite."""
    with opened(f"sqlite:///{tmp_path / 'gateway.db'}", tmp_path) as house:
        made = gallery_of(house, embedded(tmp_path / "blobs", house.database))
        yield made
        made.rooms.acts.hashing.close()


@pytest.fixture
def each(house: House, tmp_path: Path) -> Iterator[Gallery]:
    """A gallery on either database, for what the records are asked."""
    made = gallery_of(house, embedded(tmp_path / "blobs", house.database))
    yield made
    made.rooms.acts.hashing.close()


@pytest.fixture(scope="module")
def behind() -> Iterator[Registry]:
    with scratch("sight") as folder, running_registry(folder, Way.HTTP) as registry:
        yield registry


@pytest.fixture(params=["kept here", "kept behind"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Gallery]:
    """A gallery of either engine."""
    with opened(f"sqlite:///{tmp_path / 'gateway.db'}", tmp_path) as house:
        if request.param == "kept here":
            engine = embedded(tmp_path / "blobs", house.database)
        else:
            registry: Registry = request.getfixturevalue("behind")
            registry.forget()
            peer = Peer(registry.url, registry.username, registry.password, registry.ca_file)
            engine = upstream(tmp_path, house.database, Client(peer))
        made = gallery_of(house, engine)
        yield made
        made.rooms.acts.hashing.close()


# repositories


def test_repositories_come_with_what_they_hold_each_digest_once(each: Gallery) -> None:
    first = each.stock.image("gallery/ui", "v1", layers=[b"x" * 1000])
    second = each.stock.image("gallery/ui", "v2", layers=[b"x" * 1000, b"y" * 500])
    each.stock.image("gallery/api", "v1", layers=[b"x" * 1000])

    shelf = each.run(each.contents.repositories(each.jane, "gallery"))

    api, ui = shelf.entries
    config = len(json.dumps(AMD64))
    assert (api.name, ui.name, shelf.next) == ("gallery/api", "gallery/ui", "")
    assert (ui.tags, ui.manifests, ui.blobs) == (2, 2, 3)
    assert ui.size_bytes == 1500 + config + len(first.content) + len(second.content)
    assert ui.pushed_at is not None


def test_repositories_come_in_pages_and_by_a_part_of_their_name(each: Gallery) -> None:
    for name in ("a", "b", "c-ui", "d-ui", "e_100"):
        each.stock.image(f"gallery/{name}", "v1")
    repositories = each.contents.repositories
    first = each.run(repositories(each.jane, "gallery", limit=2))
    second = each.run(repositories(each.jane, "gallery", limit=2, after=first.next))
    last = each.run(repositories(each.jane, "gallery", limit=2, after=second.next))
    assert [entry.name for page in (first, second, last) for entry in page.entries] == [
        f"gallery/{name}" for name in ("a", "b", "c-ui", "d-ui", "e_100")
    ]
    assert last.next == ""

    def found(text: str) -> list[str]:
        return [entry.name for entry in each.run(repositories(each.jane, "gallery", containing=text)).entries]

    assert found("UI") == ["gallery/c-ui", "gallery/d-ui"]
    assert found("_") == ["gallery/e_100"]
    assert found("%") == []


def test_a_member_of_some_repositories_sees_those_alone(each: Gallery) -> None:
    for name in ("api", "ui-web", "ui-cli"):
        each.stock.image(f"gallery/{name}", "v1")
    partly = each.rooms.user("partly")
    each.run(each.rooms.acts.grants.add_grant(OPERATOR, "partly", "puller", "gallery/ui-*"))
    shelf = each.run(each.contents.repositories(partly, "gallery"))
    assert [entry.name for entry in shelf.entries] == ["gallery/ui-cli", "gallery/ui-web"]


def test_where_a_list_goes_on_tells_no_name_that_is_hidden_from_its_reader(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "_LOOKED_THROUGH", 4)
    monkeypatch.setattr(contents, "_STRIDE", 2)
    hidden = [f"ui-{number:02}-secret" for number in range(9)]
    for name in (*hidden, "ui-00-a-web", "ui-99-web"):
        gallery.stock.image(f"gallery/{name}", "v1")
    partly, other = gallery.rooms.user("partly"), gallery.rooms.user("other")
    for name in ("partly", "other"):
        gallery.run(gallery.rooms.acts.grants.add_grant(OPERATOR, name, "puller", "gallery/ui-*-web"))

    def page(after: str, caller: Caller = partly, **more: Any) -> Shelf[Any]:
        return gallery.run(gallery.contents.repositories(caller, "gallery", after=after, **more))

    pages = [page("")]
    while after := pages[-1].next:
        shown = urlsafe_b64decode(after[1:]) if after.startswith("~") else after.encode()
        assert b"secret" not in shown
        pages.append(page(after))
    assert [entry.name for each in pages for entry in each.entries] == ["gallery/ui-00-a-web", "gallery/ui-99-web"]
    assert len(pages) == 3
    given = pages[0].next
    for name in ("ui-00-a-x", "ui-00-a-y", "ui-00-a-z-that-has-another-length"):
        gallery.stock.image(f"gallery/{name}", "v1")
    assert len(page("").next) == len(given)
    for after, caller in ((given, other), (given[:-1], partly), ("~", partly), ("~é", partly)):
        with pytest.raises(Invalid, match="begin the list anew"):
            page(after, caller)


def test_a_project_that_is_not_ones_own_is_as_if_there_were_none(gallery: Gallery) -> None:
    gallery.stock.image("gallery/ui", "v1")
    said = []
    for project in ("gallery", "nowhere"):
        with pytest.raises(Unknown) as refused:
            gallery.run(gallery.contents.repositories(gallery.rooms.caller("joe"), project))
        said.append(refused.value.message.replace(project, "it"))
    assert said[0] == said[1]


def test_an_auditor_sees_the_project_and_none_of_its_content(gallery: Gallery) -> None:
    manifest = gallery.stock.image("gallery/ui", "v1")
    auditor = gallery.rooms.user("auditor", auditor=True)
    assert gallery.run(gallery.contents.repositories(auditor, "gallery")).entries == ()
    for act in (
        gallery.contents.tags(auditor, "gallery/ui"),
        gallery.contents.manifest(auditor, "gallery/ui", manifest.digest.text),
        gallery.contents.removing(auditor, "gallery/ui", "v1"),
    ):
        with pytest.raises(Denied):
            gallery.run(act)


def test_a_public_project_is_seen_by_everybody_without_who_pulled(gallery: Gallery) -> None:
    manifest = gallery.stock.image("gallery/ui", "v1")
    gallery.run(gallery.rooms.acts.projects.set_project(OPERATOR, "gallery", public=True))
    gallery.stock.pull("gallery/ui", manifest, gallery.jane)

    (repository,) = gallery.run(gallery.contents.repositories(NOBODY, "gallery")).entries
    (tag,) = gallery.tags(NOBODY, "gallery/ui").entries
    (seen,) = gallery.tags(gallery.jane, "gallery/ui").entries

    assert repository.pulled.at is not None
    assert (repository.pulled.by, tag.pulled.by) == ("", "")
    assert seen.pulled.by == "jane"


# when something was pulled


def test_the_last_pull_is_found_in_the_tail_and_in_the_projection(each: Gallery) -> None:
    manifest = each.stock.image("gallery/ui", "v1")
    each.stock.image("attic/ui", "v1")
    each.stock.pull("gallery/ui", manifest, each.rooms.caller("joe"))
    each.stock.pull("gallery/ui", manifest, each.jane)
    each.stock.pull("attic/ui", manifest, each.rooms.caller("joe"))
    ledger, database = each.rooms.house.ledger, each.rooms.house.database

    names = ["gallery/ui"]
    fresh = database.read_now(lambda connection: pulls.of_repositories(connection, names, ALWAYS))["gallery/ui"]
    ledger._follow()  # until everything is projected
    (repository,) = each.run(each.contents.repositories(each.jane, "gallery")).entries
    (tag,) = each.tags(each.jane, "gallery/ui").entries

    assert (fresh.by, repository.pulled.by, tag.pulled.by) == ("jane", "jane", "jane")
    assert fresh.at == repository.pulled.at == tag.pulled.at


def test_a_pull_from_a_project_that_had_the_name_before_is_told_to_nobody(each: Gallery) -> None:
    manifest = each.stock.image("gallery/ui", "v1")
    each.stock.pull("gallery/ui", manifest, each.jane)
    acts, rooms = each.rooms.acts, each.rooms
    rooms.run(acts.projects.remove_project(OPERATOR, "gallery", force=True))
    joe = rooms.owner("joseph", "gallery")
    each.stock.image("gallery/ui", "v1")

    for caller in (joe, OPERATOR):
        (repository,) = each.run(each.contents.repositories(caller, "gallery")).entries
        (tag,) = each.tags(caller, "gallery/ui").entries
        shown = each.run(each.contents.manifest(caller, "gallery/ui", "v1"))
        going = [each.run(each.contents.removing(caller, "gallery/ui", name)) for name in ("v1", manifest.digest.text)]
        assert {found.pulled.at for found in (repository, tag, shown, *going)} == {None}
    each.stock.pull("gallery/ui", manifest, joe)
    (repository,) = each.run(each.contents.repositories(joe, "gallery")).entries
    assert repository.pulled.by == "joseph"


def test_what_was_never_pulled_is_not_said_to_be_long_ago(each: Gallery) -> None:
    each.stock.image("gallery/ui", "v1")
    (tag,) = each.tags(each.jane, "gallery/ui").entries
    assert (tag.pulled.at, tag.pulled.all_seen) == (None, True)


def test_a_pull_beyond_the_newest_events_is_not_said_to_be_none(each: Gallery) -> None:
    manifest = each.stock.image("gallery/ui", "v1")
    each.stock.pull("gallery/ui", manifest, each.jane)
    looked = Event(Kind.TAG_LIST, each.jane, project="gallery", repository="gallery/ui")
    house = each.rooms.house
    house.run(house.ledger.commit(Act(looked, also=(looked,) * pulls.WINDOW)))
    for _ in range(2):
        house.ledger._follow()
    (repository,) = each.run(each.contents.repositories(each.jane, "gallery")).entries
    assert (repository.pulled.at, repository.pulled.all_seen) == (None, False)


def test_each_repository_of_a_page_has_its_own_last_pull(each: Gallery) -> None:
    joe = each.rooms.caller("joe")
    for name in ("gallery/api", "gallery/cli", "gallery/db", "gallery/ui"):
        each.stock.image(name, "v1")
    seen = each.stock.image("gallery/ui", "v2", layers=[b"another"])
    each.stock.pull("gallery/ui", seen, joe)
    each.stock.pull("gallery/ui", seen, each.jane)
    each.stock.pull("gallery/cli", seen, joe)
    for _ in range(2):
        each.rooms.house.ledger._follow()

    shelf = each.run(each.contents.repositories(each.jane, "gallery"))

    found = {entry.name.partition("/")[2]: (entry.pulled.by, entry.pulled.all_seen) for entry in shelf.entries}
    assert found == {"api": ("", True), "cli": ("joe", True), "db": ("", True), "ui": ("jane", True)}
    by_tag = {tag.name: tag.pulled.by for tag in each.tags(each.jane, "gallery/ui").entries}
    assert by_tag == {"v1": "", "v2": "jane"}


# tags


def test_a_tag_comes_with_its_platform_its_size_and_who_pushed_it(either: Gallery) -> None:
    manifest = either.stock.image("gallery/ui", "v1", layers=[b"x" * 1000])
    (tag,) = either.tags(either.jane, "gallery/ui").entries
    assert (tag.name, tag.digest, tag.purpose, tag.platforms) == (
        "v1",
        manifest.digest.text,
        Purpose.IMAGE,
        ("linux/amd64",),
    )
    assert tag.size_bytes == 1000 + len(json.dumps(AMD64)) + len(manifest.content)
    assert (tag.pushed_by, tag.known) == ("jane", True)


def test_an_index_has_the_platforms_and_the_size_of_what_it_lists(either: Gallery) -> None:
    one, other = (
        either.stock.image("gallery/ui", config=config, layers=[b"shared" * 100]) for config in (AMD64, ARM64)
    )
    proof = either.stock.image("gallery/ui", config=b"{}", config_type=CONFIG, layers=[b"{}"])
    about = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": one.digest.text}
    unknown = {"os": "unknown", "architecture": "unknown"}
    index = either.stock.index(
        "gallery/ui",
        "v1",
        children=[
            (one, {"platform": {"os": "linux", "architecture": "amd64"}}),
            (other, {"platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}}),
            (proof, {"platform": unknown, "annotations": about}),
        ],
    )
    (tag,) = either.tags(either.jane, "gallery/ui").entries
    view = either.show("gallery/ui", "v1")

    assert tag.platforms == ("linux/amd64", "linux/arm64/v8")
    expected = sum(len(each.content) for each in (one, other, proof, index)) + 600 + len(b"{}")
    assert tag.size_bytes == view.total_bytes == expected + len(json.dumps(AMD64)) + len(json.dumps(ARM64))
    assert [child.purpose for child in view.children] == [Purpose.IMAGE, Purpose.IMAGE, Purpose.ATTESTATION]
    assert view.children[2].about == one.digest.text
    assert either.show("gallery/ui", one.digest.text).listed_in == (index.digest.text,)


def test_tags_come_in_pages_and_by_a_part_of_their_name(either: Gallery) -> None:
    either.stock.image("gallery/ui", "a1", "a2", "B1", "b2")
    first = either.tags(either.jane, "gallery/ui", limit=3)
    assert [tag.name for tag in first.entries] == ["B1", "a1", "a2"]
    second = either.tags(either.jane, "gallery/ui", limit=3, after=first.next)
    assert ([tag.name for tag in second.entries], second.next) == (["b2"], "")
    assert [tag.name for tag in either.tags(either.jane, "gallery/ui", containing="b").entries] == ["B1", "b2"]
    assert either.tags(either.jane, "gallery/ui", containing="1", limit=2).next == ""


def test_a_tag_that_never_passed_is_known_by_name_alone(gallery: Gallery) -> None:
    made, house = gallery, gallery.rooms.house
    made.stock.image("gallery/ui", "v1")

    class Listings:
        async def tags(self, repository: object, *, after: str, limit: int) -> Any:
            from gateway.engine.port import Page

            return Page(["seen-elsewhere", "v1"])

    engine = replace(made.stock.engine, listings=Listings())  # type: ignore[arg-type]
    rooms = rooms_of(house, engine=engine)
    foreign, known = rooms.run(rooms.acts.contents.tags(made.jane, "gallery/ui")).entries
    assert (foreign.known, foreign.digest, known.known) == (False, "", True)


def test_a_config_that_is_none_costs_the_list_nothing(gallery: Gallery) -> None:
    gallery.stock.image("gallery/ui", "broken", config=b"{", layers=[b"1"])
    gallery.stock.image("gallery/ui", "huge", config=b" " * (LIMIT_BYTES + 1), layers=[b"2"])
    gallery.stock.image("gallery/ui", "other", config=b"[1]", config_type=EMPTY, layers=[b"3"])
    platforms = {tag.name: tag.platforms for tag in gallery.tags(gallery.jane, "gallery/ui").entries}
    assert platforms == {"broken": None, "huge": None, "other": ()}
    assert "JSON" in gallery.show("gallery/ui", "broken").config_trouble
    assert "larger than" in gallery.show("gallery/ui", "huge").config_trouble


def test_immutable_tags_say_so(gallery: Gallery) -> None:
    gallery.stock.image("gallery/ui", "v1", "latest")
    gallery.run(gallery.rooms.acts.projects.set_project(OPERATOR, "gallery", immutable=["v*"]))
    kept = {tag.name: tag.kept_by for tag in gallery.tags(gallery.jane, "gallery/ui").entries}
    assert kept == {"latest": "", "v1": "v*"}


def test_a_repository_that_holds_nothing_is_unknown(either: Gallery) -> None:
    with pytest.raises(Unknown, match="There is no repository gallery/none"):
        either.tags(either.jane, "gallery/none")


# a manifest


def test_a_manifest_tells_its_layers_with_the_steps_that_made_them(either: Gallery) -> None:
    history = [{"created_by": "ADD a /"}, {"created_by": "ENV x", "empty_layer": True}, {"created_by": "RUN b"}]
    manifest = either.stock.image(
        "gallery/ui",
        "v1",
        config={**AMD64, "history": history},
        layers=[b"one", b"two"],
        annotations={"org.opencontainers.image.source": "https://example.com/ui"},
    )
    view = either.show("gallery/ui", "v1")
    assert [(layer.created_by, layer.size_bytes) for layer in view.layers] == [("ADD a /", 3), ("RUN b", 3)]
    assert view.image is not None
    assert [step.created_by for step in view.image.steps] == ["ADD a /", "ENV x", "RUN b"]
    assert view.annotations == {"org.opencontainers.image.source": "https://example.com/ui"}
    assert (view.tags, view.pushed_by, view.may_delete) == (("v1",), "jane", True)
    assert view.pull_command("registry.example.com:8443") == (
        f"docker pull registry.example.com:8443/gallery/ui@{manifest.digest}"
    )


def test_what_refers_to_a_manifest_is_told_by_its_kind(either: Gallery) -> None:
    image = either.stock.image("gallery/ui", "v1")
    for number, artifact_type in enumerate(
        ("application/vnd.cncf.notary.signature", "application/spdx+json", "application/vnd.in-toto+json")
    ):
        either.stock.about("gallery/ui", image, artifact_type, layer=b"%d" % number)
    companion = f"{image.digest.text.replace(':', '-')}.sig"
    either.stock.image("gallery/ui", companion, layers=[b"sig"])

    view = either.show("gallery/ui", "v1")

    found = {(each.purpose, each.tag) for each in view.referrers}
    assert found == {
        (Purpose.SIGNATURE, ""),
        (Purpose.SBOM, ""),
        (Purpose.ATTESTATION, ""),
        (Purpose.SIGNATURE, companion),
    }


def test_an_image_of_another_repository_is_not_shown_by_its_digest(either: Gallery) -> None:
    manifest = either.stock.image("attic/secret", "v1")
    either.stock.image("gallery/ui", "v1", layers=[b"other"])
    with pytest.raises(ManifestUnknown):
        either.show("gallery/ui", manifest.digest.text)


@pytest.mark.parametrize(("reference", "refusal"), [(".x", TagInvalid), ("sha256:abc", DigestInvalid)])
def test_a_reference_outside_the_grammar_is_refused(gallery: Gallery, reference: str, refusal: type[Exception]) -> None:
    with pytest.raises(refusal):
        gallery.show("gallery/ui", reference)


def test_looking_at_a_manifest_is_an_event(gallery: Gallery) -> None:
    manifest = gallery.stock.image("gallery/ui", "v1")
    gallery.show("gallery/ui", "v1")
    event = gallery.rooms.last("manifest.show")
    assert (event["repository"], event["reference"], event["digest"]) == ("gallery/ui", "v1", manifest.digest.text)


@pytest.mark.parametrize("reference", ["v1", "v9", "sha256:" + "0" * 64])
def test_who_may_not_pull_is_not_told_what_there_is(gallery: Gallery, reference: str) -> None:
    gallery.stock.image("gallery/ui", "v1")
    for repository in ("gallery/ui", "gallery/none"):
        with pytest.raises(Denied, match=f"^pull on {repository} is missing.$"):
            gallery.show(repository, reference, gallery.rooms.caller("joe"))


def test_hostile_annotations_and_histories_are_cut_not_dropped(gallery: Gallery) -> None:
    annotations = {f"n{number:03}": "x" * 5000 for number in range(150)}
    history = [{"created_by": "y" * 1500}] * 600
    gallery.stock.image("gallery/ui", "v1", config={**AMD64, "history": history}, annotations=annotations)
    view = gallery.show("gallery/ui", "v1")
    assert (len(view.annotations), view.more["annotations"]) == (100, 50)
    assert all(len(text) == 2000 for text in view.annotations.values())
    assert view.image is not None
    assert (len(view.image.steps), view.image.more_steps) == (512, 88)


# what a removal would do, and doing it


def test_what_else_goes_with_a_manifest_is_told_before(each: Gallery) -> None:
    each.stock.image("gallery/api", "v1", layers=[b"shared" * 100])
    image = each.stock.image("gallery/ui", "v1", "latest", layers=[b"shared" * 100, b"mine" * 100])
    index = each.stock.index("gallery/ui", "all", children=[(image, {})])
    signature = each.stock.about("gallery/ui", image, "application/vnd.cncf.notary.signature")

    found = each.run(each.contents.removing(each.jane, "gallery/ui", image.digest.text))

    assert (found.tags, found.tag_count) == (("latest", "v1"), 2)
    assert (found.indexes, found.index_count) == ((index.digest.text,), 1)
    assert [(each.digest, each.purpose) for each in found.referrers] == [(signature.digest.text, Purpose.SIGNATURE)]
    assert found.loose_bytes == 600 + 400 + len(json.dumps(AMD64))
    assert found.freed_bytes == 400
    assert found.hindrance == ""
    assert {tag.name for tag in each.tags(each.jane, "gallery/ui").entries} == {"all", "latest", "v1"}


def test_what_was_foretold_of_a_manifest_comes_true(either: Gallery) -> None:
    image = either.stock.image("gallery/ui", "v1", "latest")
    either.stock.image("gallery/ui", "other", layers=[b"other"])
    found = either.run(either.contents.removing(either.jane, "gallery/ui", image.digest.text))
    either.run(either.rooms.acts.repositories.remove_manifest(either.jane, "gallery/ui", image.digest.text))
    left = {tag.name for tag in either.tags(either.jane, "gallery/ui").entries}
    assert found.tag_count == 2
    assert left == {"other"}
    assert either.rooms.last("manifest.delete")["digest"] == image.digest.text


def test_a_rule_that_forbids_a_removal_is_told_before(gallery: Gallery) -> None:
    image = gallery.stock.image("gallery/ui", "v1")
    gallery.run(gallery.rooms.acts.projects.set_project(OPERATOR, "gallery", immutable=["v*"]))
    removing = gallery.contents.removing
    for reference in ("v1", image.digest.text, ""):
        assert "v1" in gallery.run(removing(gallery.jane, "gallery/ui", reference)).hindrance
    gallery.run(gallery.rooms.acts.projects.set_project(OPERATOR, "gallery", immutable=[], read_only="stocktaking"))
    for reference in ("v1", image.digest.text, ""):
        assert "stocktaking" in gallery.run(removing(gallery.jane, "gallery/ui", reference)).hindrance


def test_removing_the_last_tag_says_that_its_manifest_stays_without_one(gallery: Gallery) -> None:
    gallery.stock.image("gallery/ui", "v1", "latest")
    removing = gallery.contents.removing
    assert not gallery.run(removing(gallery.jane, "gallery/ui", "v1")).left_untagged
    gallery.run(gallery.rooms.acts.repositories.remove_tag(gallery.jane, "gallery/ui", "v1"))
    assert gallery.run(removing(gallery.jane, "gallery/ui", "latest")).left_untagged


def test_an_engine_that_stands_in_for_a_removal_says_so_before(gallery: Gallery) -> None:
    gallery.stock.image("gallery/ui", "v1")
    emulated = {Feature.UNTAG: "It is hidden here alone.", Feature.REMOVAL: "It stays."}
    rooms = rooms_of(gallery.rooms.house, engine=replace(gallery.stock.engine, emulated=emulated))
    removing = rooms.acts.contents.removing
    assert rooms.run(removing(gallery.jane, "gallery/ui", "v1")).differs == "It is hidden here alone."
    assert rooms.run(removing(gallery.jane, "gallery/ui")).hindrance == "It stays."


def test_a_tag_that_moved_since_it_was_looked_at_is_not_removed(either: Gallery) -> None:
    old = either.stock.image("gallery/ui", "v1")
    either.stock.image("gallery/ui", "v1", layers=[b"newer"])
    remove = either.rooms.acts.repositories.remove_tag
    with pytest.raises(Conflict, match="was moved"):
        either.run(remove(either.jane, "gallery/ui", "v1", expected=old.digest.text))
    (tag,) = either.tags(either.jane, "gallery/ui").entries
    either.run(remove(either.jane, "gallery/ui", "v1", expected=tag.digest))
    assert [tag.name for tag in either.tags(either.jane, "gallery/ui").entries] == []


def test_who_may_not_delete_is_not_told_what_would_go(gallery: Gallery) -> None:
    image = gallery.stock.image("gallery/ui", "v1")
    reader = gallery.rooms.user("reader")
    gallery.run(gallery.rooms.acts.grants.add_grant(OPERATOR, "reader", "puller", "gallery"))
    assert not gallery.show("gallery/ui", "v1", reader).may_delete
    assert not gallery.tags(reader, "gallery/ui").may_delete
    for act in (
        gallery.contents.removing(reader, "gallery/ui", "v1"),
        gallery.rooms.acts.repositories.remove_manifest(reader, "gallery/ui", image.digest.text),
    ):
        with pytest.raises(Denied, match="delete on gallery/ui is missing"):
            gallery.run(act)
