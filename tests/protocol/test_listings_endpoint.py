"""Tags, catalog and referrers: sorted, paged, filtered to what may be seen, and never a 404 that misleads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.oci.media import OCI_INDEX, OCI_MANIFEST
from gateway.records import listings as records
from gateway.registry import listings
from tests.house import OPERATOR
from tests.protocol.harness import (
    CONFIG_TYPE,
    Answer,
    World,
    challenge_of,
    descriptor,
    image,
    in_query,
    index,
    sha256,
    sha512,
)

CATALOG = "registry:catalog:*"


def following(answer: Answer) -> str:
    """The relative target of the one link, which must look as clients parse it; "" if there is none."""
    link = answer.header("link")
    if not link:
        return ""
    target, separator, relation = link.partition("; ")
    assert (separator, relation) == ("; ", 'rel="next"')
    assert target.startswith("</v2/")
    assert target.endswith(">")
    return target[1:-1]


def walk(world: World, token: str, target: str, key: str) -> list[Any]:
    """Every entry, page by page."""
    found: list[Any] = []
    while target:
        answer = world.ask("GET", target, token=token)
        assert answer.status == 200
        assert len(found) < 200, "the pages do not end"
        found += answer.json()[key]
        target = following(answer)
    return found


# tags


def test_tags_are_listed_bytewise(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    world.push_image(token, name, "b", "a", "B", "_x", "0.1.20", "0.1.2")
    answer = world.ask("GET", f"/v2/{name}/tags/list", token=token)
    assert answer.json() == {"name": name, "tags": ["0.1.2", "0.1.20", "B", "_x", "a", "b"]}
    assert following(answer) == ""


def test_pages_of_tags_miss_nothing_and_repeat_nothing(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    tags = sorted(["0.1.2", "0.1.20", "0.1.3", "a", "a-b", "a_b", "a.b"], key=str.encode)
    world.push_image(token, name, *tags)
    for n in (1, 2, 3, 7, 8):
        assert walk(world, token, f"/v2/{name}/tags/list?n={n}", "tags") == tags


def test_a_page_tells_where_the_next_one_begins(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    world.push_image(token, name, "a", "b", "c")
    answer = world.ask("GET", f"/v2/{name}/tags/list?n=2", token=token)
    assert following(answer) == f"/v2/{name}/tags/list?last=b&n=2"


def test_last_is_exclusive_works_alone_and_need_not_exist(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    world.push_image(token, name, "a", "c", "e")
    for last, tags in (
        ("a", ["c", "e"]),
        ("b", ["c", "e"]),
        ("e", []),
        ("zzz", []),
        ("%00", ["a", "c", "e"]),
        ("é", []),
    ):
        answer = world.ask("GET", f"/v2/{name}/tags/list?last={in_query(last) if last != '%00' else last}", token=token)
        assert answer.json()["tags"] == tags


def test_a_page_of_nothing_is_empty_and_leads_nowhere(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    world.push_image(token, name, "a")
    answer = world.ask("GET", f"/v2/{name}/tags/list?n=0", token=token)
    assert (answer.json()["tags"], following(answer)) == ([], "")


@pytest.mark.parametrize("n", ["x", "-1", "+1", "1.5", "0x1", "%D9%A1", "1%00"])
def test_a_number_that_is_none_is_refused(world: World, n: str) -> None:
    name = world.name()
    token = world.widest("alice", name)
    world.push_image(token, name, "a")
    answer = world.ask("GET", f"/v2/{name}/tags/list?n={n}", token=token)
    assert (answer.status, answer.code) == (400, "PAGINATION_NUMBER_INVALID")


@pytest.mark.parametrize("n", ["2000", "9" * 30, "9" * 5000])
def test_more_than_a_page_is_a_page_and_a_link(world: World, n: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listings, "ENTRIES", 2)
    name = world.name()
    token = world.widest("alice", name)
    world.push_image(token, name, "a", "b", "c")
    answer = world.ask("GET", f"/v2/{name}/tags/list?n={n}", token=token)
    assert (answer.json()["tags"], following(answer)) == (["a", "b"], f"/v2/{name}/tags/list?last=b&n=2")
    unasked = world.ask("GET", f"/v2/{name}/tags/list", token=token)
    assert following(unasked) == f"/v2/{name}/tags/list?last=b&n=2"


def test_a_repository_without_tags_lists_none_and_one_that_is_not_is_unknown(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    world.push_image(token, name)
    assert world.ask("GET", f"/v2/{name}/tags/list", token=token).json()["tags"] == []
    other = world.name()
    answer = world.ask("GET", f"/v2/{other}/tags/list", token=world.widest("alice", other))
    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")


# catalog


def test_the_catalog_shows_what_may_be_pulled_and_nothing_else(world: World) -> None:
    mine, theirs, public = "alpha/cat/mine", "beta/cat/theirs", "pub/cat/open"
    world.push_image(world.widest("alice", mine), mine, "v1")
    world.push_image(world.widest("carol", theirs), theirs, "v1")
    world.push_image(world.widest("alice", public), public, "v1")

    def seen(name: str) -> set[str]:
        return set(walk(world, world.token(name, CATALOG), "/v2/_catalog?n=1", "repositories")) & {mine, theirs, public}

    assert seen("bob") == {mine, public}
    assert seen("carol") == {theirs, public}
    assert seen("mallory") == {public}
    assert seen("auditor") == {public}
    assert seen("root") == {mine, theirs, public}


def test_a_grant_on_a_pattern_shows_what_it_covers(world: World) -> None:
    shown, hidden = "beta/shown-1", "beta/hidden"
    carol = world.widest("carol", shown, hidden)
    for name in (shown, hidden):
        world.push_image(carol, name, "v1")
    world.house.run(world.acts.grants.add_grant(OPERATOR, "bob", "puller", "beta/shown-*"))
    catalog = walk(world, world.token("bob", CATALOG), "/v2/_catalog", "repositories")
    assert shown in catalog
    assert hidden not in catalog


def test_names_that_begin_alike_are_all_in_the_catalog(world: World) -> None:
    names = ["alpha/math", "alpha/math-voila", "alpha/math/x"]
    for name in names:
        world.push_image(world.widest("alice", name), name, "v1")
    catalog = walk(world, world.token("alice", CATALOG), "/v2/_catalog?n=1", "repositories")
    assert catalog == sorted(set(catalog), key=str.encode)
    assert set(names) <= set(catalog)


def test_the_catalog_needs_its_own_scope(world: World) -> None:
    assert challenge_of(world.ask("GET", "/v2/_catalog"))["scope"] == CATALOG
    with world.watching() as seen:
        answer = world.ask("GET", "/v2/_catalog", token=world.widest("root", "alpha/app"))
    told = challenge_of(answer)
    assert (answer.status, told["error"], told["scope"]) == (401, "insufficient_scope", CATALOG)
    refused = [event for event in seen if event["kind"] == "catalog.list"]
    assert [(event["outcome"], event["reason"]) for event in refused] == [("denied", "insufficient_scope")]


def test_nobody_is_shown_the_catalog(world: World) -> None:
    answer = world.ask("GET", "/v2/_catalog", token=world.token("", CATALOG))
    assert (answer.status, challenge_of(answer)["error"]) == (401, "insufficient_scope")


def test_a_suspended_account_is_shown_no_catalog(world: World) -> None:
    token = world.token("mallory", CATALOG)
    world.house.run(world.acts.accounts.disable(OPERATOR, "mallory"))
    try:
        assert challenge_of(world.ask("GET", "/v2/_catalog", token=token))["error"] == "invalid_token"
    finally:
        world.house.run(world.acts.accounts.enable(OPERATOR, "mallory"))


def test_reading_the_catalog_is_an_event(world: World) -> None:
    token = world.token("bob", CATALOG)
    with world.watching() as seen:
        world.ask("GET", "/v2/_catalog?n=0", token=token)
    assert [(event["kind"], event["outcome"]) for event in seen] == [("catalog.list", "allowed")]


# referrers


def referrers(world: World, token: str, name: str, subject: bytes, query: str = "") -> Answer:
    answer = world.ask("GET", f"/v2/{name}/referrers/{sha256(subject)}{query}", token=token)
    assert answer.status == 200
    assert answer.header("content-type") == OCI_INDEX
    assert answer.json()["schemaVersion"] == 2
    assert answer.json()["mediaType"] == OCI_INDEX
    return answer


def push_referrer(world: World, token: str, name: str, subject: bytes, **more: object) -> bytes:
    content = image(b"{}", subject=subject, **more)
    assert world.push_manifest(token, name, sha256(content), content).status == 201
    return content


def test_referrers_of_nothing_in_nowhere_are_an_empty_index(world: World) -> None:
    name = world.name()
    answer = referrers(world, world.widest("bob", name), name, b"nothing")
    assert answer.json()["manifests"] == []
    assert world.ask("GET", f"/v2/{name}/referrers/{sha512(b'x')}", token=world.widest("bob", name)).status == 200


@pytest.mark.parametrize("digest", ["sha256:abc", "latest", "sha256-" + "0" * 64])
def test_referrers_of_what_is_no_digest_are_refused(world: World, digest: str) -> None:
    name = world.name()
    answer = world.ask("GET", f"/v2/{name}/referrers/{digest}", token=world.widest("bob", name))
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


def test_a_referrer_is_told_with_its_type_and_annotations(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    subject = world.push_image(token, name, "v1")
    typed = push_referrer(world, token, name, subject, artifactType="application/x.sig", annotations={"a": "1"})
    untyped = push_referrer(world, token, name, subject)
    entries = {entry["digest"]: entry for entry in referrers(world, token, name, subject).json()["manifests"]}
    assert entries[sha256(typed)] == {
        "mediaType": OCI_MANIFEST,
        "digest": sha256(typed),
        "size": len(typed),
        "artifactType": "application/x.sig",
        "annotations": {"a": "1"},
    }
    assert entries[sha256(untyped)]["artifactType"] == CONFIG_TYPE
    assert len(entries) == 2


def test_referrers_are_filtered_by_any_of_the_types_asked_for(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    subject = world.push_image(token, name, "v1")
    made = {kind: push_referrer(world, token, name, subject, artifactType=f"application/{kind}+x") for kind in "abc"}
    whole = referrers(world, token, name, subject)
    assert whole.header("oci-filters-applied") == ""
    for kinds in ("a", "ab", "z"):
        query = "?" + "&".join(f"artifactType={in_query(f'application/{kind}+x')}" for kind in kinds)
        answer = referrers(world, token, name, subject, query)
        assert answer.header("oci-filters-applied") == "artifactType"
        found = {entry["digest"] for entry in answer.json()["manifests"]}
        assert found == {sha256(made[kind]) for kind in kinds if kind in made}


def test_a_filter_without_a_value_is_none(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    subject = world.push_image(token, name, "v1")
    made = push_referrer(world, token, name, subject, artifactType="a/w")
    for query in ("?artifactType=", "?artifactType=&artifactType="):
        answer = referrers(world, token, name, subject, query)
        assert answer.header("oci-filters-applied") == ""
        assert [entry["digest"] for entry in answer.json()["manifests"]] == [sha256(made)]
    answer = referrers(world, token, name, subject, "?artifactType=&artifactType=a/z")
    assert answer.header("oci-filters-applied") == "artifactType"
    assert answer.json()["manifests"] == []


def test_referrers_of_other_types_are_not_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    name = world.name()
    token = world.widest("alice", name)
    subject = world.push_image(token, name, "v1")
    for n in range(5):
        push_referrer(world, token, name, subject, artifactType="a/u", annotations={"n": str(n)})
    wanted = push_referrer(world, token, name, subject, artifactType="a/w")
    read: list[str] = []
    whole = records.Descriptor

    def made(*fields: object) -> object:
        read.append(str(fields[1]))
        return whole(*fields)

    monkeypatch.setattr(records, "Descriptor", made)
    answer = referrers(world, token, name, subject, "?artifactType=a/w")
    assert [entry["digest"] for entry in answer.json()["manifests"]] == [sha256(wanted)]
    assert read == [sha256(wanted)]


def test_pages_of_referrers_miss_nothing_and_keep_the_filter(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listings, "ENTRIES", 2)
    name = world.name()
    token = world.widest("alice", name)
    subject = world.push_image(token, name, "v1")
    wanted = {
        sha256(push_referrer(world, token, name, subject, artifactType="a/w", annotations={"n": str(n)}))
        for n in range(5)
    }
    for n in range(3):
        push_referrer(world, token, name, subject, artifactType="a/u", annotations={"n": str(n)})
    entries = walk(world, token, f"/v2/{name}/referrers/{sha256(subject)}?artifactType=a/w", "manifests")
    assert len(entries) == 5
    assert {entry["digest"] for entry in entries} == wanted
    everything = walk(world, token, f"/v2/{name}/referrers/{sha256(subject)}", "manifests")
    assert len({entry["digest"] for entry in everything}) == len(everything) == 8


@pytest.mark.parametrize("letter", ["a", "é", "\u2028", "\x01"])
def test_a_page_of_referrers_stays_under_what_clients_read(
    world: World, letter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(json.dumps(letter, ensure_ascii=False).encode()) - 2
    monkeypatch.setattr(listings, "REFERRERS_BYTES", 1500 * size)
    name = world.name()
    token = world.widest("alice", name)
    subject = world.push_image(token, name, "v1")
    for n in range(4):
        push_referrer(world, token, name, subject, annotations={"n": f"{n}{letter * 1000}"})
    first = referrers(world, token, name, subject)
    assert len(first.json()["manifests"]) == 1
    assert len(first.body) < 1500 * size + 200
    entries = walk(world, token, f"/v2/{name}/referrers/{sha256(subject)}", "manifests")
    assert len({entry["digest"] for entry in entries}) == len(entries) == 4


def test_referrers_under_the_fallback_tag_are_listed_too_each_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = world.name()
    token = world.widest("alice", name)
    subject = world.push_image(token, name, "v1")
    known = [push_referrer(world, token, name, subject, annotations={"n": str(n)}) for n in range(3)]
    older = image(b"{}", annotations={"older": "yes"})
    world.push_manifest(token, name, sha256(older), older)
    entries = [
        {**descriptor(older, OCI_MANIFEST), "artifactType": "application/x.old", "annotations": {"kept": "1"}},
        descriptor(known[0], OCI_MANIFEST),
    ]
    fallback = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    tag = sha256(subject).replace(":", "-")
    assert world.push_manifest(token, name, tag, fallback, OCI_INDEX).status == 201
    for size in (1000, 1):
        monkeypatch.setattr(listings, "ENTRIES", size)
        found = walk(world, token, f"/v2/{name}/referrers/{sha256(subject)}", "manifests")
        assert [entry["digest"] for entry in found] == sorted(sha256(content) for content in (*known, older))
        [merged] = [entry for entry in found if entry["digest"] == sha256(older)]
        assert (merged["artifactType"], merged["annotations"]) == ("application/x.old", {"kept": "1"})


def test_referrers_may_stand_under_the_fallback_tag_alone(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    subject = world.push_image(token, name, "v1")
    older = [image(b"{}", annotations={"older": str(n)}) for n in range(3)]
    for content in older:
        world.push_manifest(token, name, sha256(content), content)
    fallback = index(*((content, OCI_MANIFEST) for content in older))
    world.push_manifest(token, name, sha256(subject).replace(":", "-"), fallback, OCI_INDEX)
    found = [entry["digest"] for entry in referrers(world, token, name, subject).json()["manifests"]]
    assert found == sorted(map(sha256, older))


def test_a_fallback_tag_that_is_no_index_is_not_asked(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    subject = world.push_image(token, name, "v1")
    world.push_image(token, name, sha256(subject).replace(":", "-"))
    assert referrers(world, token, name, subject).json()["manifests"] == []


def test_an_index_may_be_a_referrer(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    subject = world.push_image(token, name, "v1")
    content = index(subject=descriptor(subject, OCI_MANIFEST))
    world.push_manifest(token, name, sha256(content), content, OCI_INDEX)
    [entry] = referrers(world, token, name, subject).json()["manifests"]
    assert (entry["mediaType"], "artifactType" in entry) == (OCI_INDEX, False)


def test_a_referrer_outlives_its_subject_and_goes_at_once_when_it_is_deleted(world: World) -> None:
    name = world.name()
    token = world.widest("dave", name)
    subject = world.push_image(token, name, "v1")
    referrer = push_referrer(world, token, name, subject)
    world.ask("DELETE", f"/v2/{name}/manifests/{sha256(subject)}", token=token)
    assert world.ask("GET", f"/v2/{name}/manifests/{sha256(referrer)}", token=token).body == referrer
    assert len(referrers(world, token, name, subject).json()["manifests"]) == 1
    world.ask("DELETE", f"/v2/{name}/manifests/{sha256(referrer)}", token=token)
    assert referrers(world, token, name, subject).json()["manifests"] == []
