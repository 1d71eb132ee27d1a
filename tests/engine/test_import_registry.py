"""Imports through the API of registries that fail, or never come to an end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.administration.importing import Report
from gateway.engine.upstream.client import Client, Peer
from gateway.engine.upstream.source import RegistrySource
from gateway.errors import UpstreamFailed
from tests.engine.importing import UI, Stage, staged
from tests.faults.peer import Line, Request, misbehaving
from tests.services.volume import IMAGE, INDEX, WrittenVolume, digest_of, named

Answer = tuple[int, dict[str, str], bytes]
TAGS = f"/v2/{UI}/tags/list"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(f"sqlite:///{tmp_path / 'gateway.db'}", tmp_path) as stage:
        yield stage


@dataclass
class Elsewhere:
    """A registry with one repository, written as a volume; *answers* come, by target, instead of its own."""

    volume: WrittenVolume
    tags: dict[str, bytes] = field(default_factory=dict)
    referrers: dict[str, list[bytes]] = field(default_factory=dict)
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def image(self, *tags: str, layer: bytes, subject: bytes | None = None) -> bytes:
        about = named(subject, IMAGE) if subject is not None else None
        content = self.volume.image(UI, *tags, layers=[layer], subject=about)
        self.tags |= dict.fromkeys(tags, content)
        if subject is not None:
            self.referrers.setdefault(digest_of(subject), []).append(content)
        return content

    def __call__(self, request: Request, line: Line) -> None:
        self.asked.append(request.target)
        instead = self.answers.get(request.target)
        status, headers, body = instead.pop(0) if instead else self._own(request.path)
        head = {"Content-Length": str(len(body)), **headers}
        line.answer(status, head, b"" if request.method == "HEAD" else body)

    def _own(self, path: str) -> Answer:
        if path == "/v2/":
            return 200, {}, b"{}"
        kind, _, name = path.removeprefix(f"/v2/{UI}/").partition("/")
        if path == "/v2/_catalog":
            return 200, {}, json.dumps({"repositories": [UI]}).encode()
        if kind == "tags":
            return 200, {}, json.dumps({"name": UI, "tags": sorted(self.tags)}).encode()
        if kind == "referrers":
            return listing(self.referrers.get(name, []))
        content = self.tags.get(name) or self.volume.blob_file(name).read_bytes()
        media_type = IMAGE if kind == "manifests" else "application/octet-stream"
        return 200, {"Content-Type": media_type, "Docker-Content-Digest": digest_of(content)}, content


def listing(referrers: list[bytes], link: str = "") -> Answer:
    """A page of a list of referrers."""
    entries = [named(content, IMAGE) for content in referrers]
    body = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
    return 200, {"Content-Type": INDEX, **({"Link": link} if link else {})}, body


@pytest.fixture
def elsewhere(stage: Stage) -> Elsewhere:
    return Elsewhere(stage.volume)


def imported(stage: Stage, elsewhere: Elsewhere) -> Report:
    with misbehaving(elsewhere) as peer:
        return stage.run(RegistrySource(Client(Peer(peer.url))))


def referrers_of(content: bytes) -> str:
    return f"/v2/{UI}/referrers/{digest_of(content)}"


@pytest.mark.parametrize("status", [400, 403, 429, 500, 503])
def test_a_list_of_referrers_that_fails_once_is_told_and_no_other_is_left_out(
    stage: Stage, elsewhere: Elsewhere, status: int
) -> None:
    images = [elsewhere.image(f"v{each}", layer=b"%d" % each) for each in range(3)]
    signatures = [elsewhere.image(layer=b"signs" + image[-9:], subject=image) for image in images]
    failing = images[0]
    elsewhere.answers[referrers_of(failing)] = [(status, {}, b"")]
    report = imported(stage, elsewhere)
    assert [(each.repository, each.what) for each in report.broken] == [(UI, f"referrers of {digest_of(failing)}")]
    for image, signature in list(zip(images, signatures, strict=True))[1:]:
        assert stage.referrers(digest_of(image)) == [digest_of(signature)]
    assert stage.tags() == ["v0", "v1", "v2"]
    again = imported(stage, elsewhere)
    assert again.broken == []
    assert stage.referrers(digest_of(failing)) == [digest_of(signatures[0])]


@pytest.mark.parametrize("answer", [(404, {}, b""), (405, {}, b""), (200, {"Content-Type": "text/html"}, b"<html>")])
def test_without_lists_of_referrers_the_tags_that_stand_for_them_come_and_nothing_is_broken(
    stage: Stage, elsewhere: Elsewhere, answer: Answer
) -> None:
    image = elsewhere.image("v1", layer=b"one")
    signature = elsewhere.image(layer=b"two", subject=image)
    elsewhere.tags[digest_of(image).replace(":", "-")] = signature
    for each in (image, signature):
        elsewhere.answers[referrers_of(each)] = [answer]
    assert imported(stage, elsewhere).broken == []
    assert stage.referrers(digest_of(image)) == [digest_of(signature)]


def test_a_list_of_referrers_in_pages_comes_whole(stage: Stage, elsewhere: Elsewhere) -> None:
    image = elsewhere.image("v1", layer=b"one")
    signatures = [elsewhere.image(layer=b"signs %d" % each, subject=image) for each in range(4)]
    place = referrers_of(image)
    elsewhere.answers[place] = [listing(signatures[:2], f'<{place}?last=2>; rel="next"')]
    # Pages may overlap when the list changes meanwhile.
    elsewhere.answers[f"{place}?last=2"] = [listing(signatures[1:3], f'<{place}?last=3>; rel="next"')]
    elsewhere.answers[f"{place}?last=3"] = [listing(signatures[3:])]
    assert imported(stage, elsewhere).broken == []
    assert sorted(stage.referrers(digest_of(image))) == sorted(map(digest_of, signatures))


def test_a_list_of_referrers_that_leads_to_itself_ends_and_is_told(stage: Stage, elsewhere: Elsewhere) -> None:
    image = elsewhere.image("v1", layer=b"one")
    signature = elsewhere.image(layer=b"signs", subject=image)
    place = referrers_of(image)
    circle = listing([signature], f'<{place}?last=1>; rel="next"')
    elsewhere.answers = {place: [circle], f"{place}?last=1": [circle] * 50}
    (left,) = imported(stage, elsewhere).broken
    assert (left.what, left.reason) == (
        f"referrers of {digest_of(image)}",
        "The registry lists its referrers without end; look into its log.",
    )
    assert sum(target.startswith(place) for target in elsewhere.asked) == 2
    assert stage.tags() == ["v1"]


def test_a_list_of_referrers_with_more_than_anybody_has_is_read_no_further(
    stage: Stage, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.engine.upstream.testimony._NAMES", 5)
    image = elsewhere.image("v1", layer=b"one")
    place = referrers_of(image)
    pages = [listing([b"%d" % each], f'<{place}?last={each}>; rel="next"') for each in range(50)]
    elsewhere.answers = {place: pages[:1]} | {f"{place}?last={each}": [pages[each + 1]] for each in range(49)}
    (left,) = imported(stage, elsewhere).broken
    assert "without end" in left.reason
    assert sum(target.startswith(place) for target in elsewhere.asked) == 6


def names(key: str, listed: list[str], link: str = "") -> Answer:
    """A page of a list of names."""
    return 200, {"Link": f'<{link}>; rel="next"'} if link else {}, json.dumps({"name": UI, key: listed}).encode()


@pytest.mark.parametrize(("place", "key", "listed"), [("/v2/_catalog", "repositories", UI), (TAGS, "tags", "v1")])
def test_a_page_that_is_empty_is_not_the_last_if_it_names_one_that_follows(
    stage: Stage, elsewhere: Elsewhere, place: str, key: str, listed: str
) -> None:
    elsewhere.image("v1", layer=b"one")
    elsewhere.answers = {
        f"{place}?n=1000": [names(key, [], f"{place}?last=a")],
        f"{place}?last=a": [names(key, [], f"{place}?last=b")],
        f"{place}?last=b": [names(key, [listed])],
    }
    assert imported(stage, elsewhere).broken == []
    assert stage.tags() == ["v1"]


def test_pages_that_stay_empty_end_and_are_told(stage: Stage, elsewhere: Elsewhere) -> None:
    elsewhere.image("v1", layer=b"one")
    circle = names("tags", [], f"{TAGS}?last=a")
    elsewhere.answers = {f"{TAGS}?n=1000": [circle], f"{TAGS}?last=a": [circle] * 500}
    (left,) = imported(stage, elsewhere).broken
    assert (left.repository, left.reason) == (UI, "The registry lists its tags without end; look into its log.")


@pytest.mark.parametrize(
    "answer",
    [
        (404, {"Content-Type": "text/html"}, b"<html>"),
        (404, {}, b""),
        (405, {}, b""),
        (403, {}, b"{}"),
        (200, {}, b"{}"),
    ],
)
def test_tags_that_no_registry_says_are_none_are_told_as_broken(
    stage: Stage, elsewhere: Elsewhere, answer: Answer
) -> None:
    elsewhere.image("v1", layer=b"one")
    elsewhere.answers = {f"{TAGS}?n=1000": [answer]}
    report = imported(stage, elsewhere)
    assert [left.repository for left in report.broken] == [UI]


def test_a_repository_that_the_registry_knows_without_tags_is_whole(stage: Stage, elsewhere: Elsewhere) -> None:
    own = {"Content-Type": "application/json"}
    elsewhere.answers = {f"{TAGS}?n=1000": [(404, own, b'{"errors":[{"code":"NAME_UNKNOWN"}]}')]}
    assert imported(stage, elsewhere).broken == []


def test_many_damaged_tags_stay_behind_and_what_comes_after_them_comes(stage: Stage, elsewhere: Elsewhere) -> None:
    elsewhere.image(*(f"a{each}" for each in range(12)), layer=b"damaged")
    elsewhere.image("v1", layer=b"one")
    own = {"Content-Type": "application/json", "Docker-Distribution-Api-Version": "registry/2.0"}
    for each in range(12):
        stumbles = (500, own, b'{"errors":[{"code":"UNKNOWN"}]}')
        elsewhere.answers[f"/v2/{UI}/manifests/a{each}"] = [stumbles, stumbles]
    report = imported(stage, elsewhere)
    assert sorted(left.what for left in report.broken) == sorted(f"a{each}" for each in range(12))
    assert stage.tags() == ["v1"]


def test_a_registry_that_is_left_alone_for_a_while_is_waited_for(stage: Stage, elsewhere: Elsewhere) -> None:
    elsewhere.image("v1", layer=b"one")
    with misbehaving(elsewhere) as peer:
        client = Client(Peer(peer.url))
        client._circuit.open("It was away.")
        began = time.monotonic()
        assert stage.run(RegistrySource(client)).broken == []
    assert 4 < time.monotonic() - began < 15
    assert stage.tags() == ["v1"]


@pytest.mark.parametrize("status", [404, 405])
def test_a_registry_without_a_catalog_is_said_to_be_one(stage: Stage, elsewhere: Elsewhere, status: int) -> None:
    elsewhere.answers = {"/v2/_catalog?n=1000": [(status, {}, b"")]}
    with pytest.raises(UpstreamFailed, match="import from its volume instead"):
        imported(stage, elsewhere)
