"""A path has one reading, whatever words the repository's name is made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ContentRefusal, DigestInvalid, NameInvalid, TagInvalid, Unknown
from gateway.oci.names import Repository
from gateway.registry import routes
from gateway.registry.routes import OPEN, TABLE, find

DIGEST = "sha256:" + "a" * 64
WORDS = ["blobs", "manifests", "tags", "uploads", "referrers", "list", "latest", "v2", "token", "a", "a-b", "0"]
NAMES = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map("/".join)
PLACES = {
    routes.TAGS: ("tags/list", ""),
    routes.BLOB: (f"blobs/{DIGEST}", DIGEST),
    routes.UPLOADS: ("blobs/uploads/", ""),
    routes.UPLOAD: ("blobs/uploads/0f8fad5b", "0f8fad5b"),
    routes.BY_TAG: ("manifests/list", "list"),
    routes.BY_DIGEST: (f"manifests/{DIGEST}", DIGEST),
    routes.REFERRERS: (f"referrers/{DIGEST}", DIGEST),
}


def read(path: str, *query: str, posts: bool = False) -> routes.Place:
    return find(path, path.encode("utf-8", "surrogatepass"), query=frozenset(query), posts=posts)


@given(NAMES, st.sampled_from(sorted(PLACES)))
def test_the_last_separator_wins_whatever_the_name_is_made_of(name: str, pattern: str) -> None:
    tail, reference = PLACES[pattern]
    place = read(f"/v2/{name}/{tail}")
    assert place.repository == Repository(name)
    assert place.reference == reference
    assert {row.pattern for row in place.rows.values()} == {pattern}


@given(st.text(max_size=60).map(lambda text: f"/v2/{text}"))
def test_every_path_is_a_place_or_a_refusal(path: str) -> None:
    try:
        place = read(path)
    except (ContentRefusal, Unknown):
        return
    if place.repository is not None:
        assert Repository.parse(place.repository.name) == place.repository


@given(NAMES, st.sampled_from(sorted(PLACES)), st.data())
def test_a_name_has_one_spelling(name: str, pattern: str, data: st.DataObject) -> None:
    tail, _ = PLACES[pattern]
    place = data.draw(st.integers(0, len(name) - 1))
    escaped = f"{name[:place]}%{ord(name[place]):02X}{name[place + 1 :]}"
    with pytest.raises(NameInvalid):
        find(f"/v2/{name}/{tail}", f"/v2/{escaped}/{tail}".encode())


def test_a_digest_may_be_escaped() -> None:
    place = find(f"/v2/a/manifests/{DIGEST}", f"/v2/a/manifests/{DIGEST.replace(':', '%3A')}".encode())
    assert place.reference == DIGEST


@pytest.mark.parametrize("path", ["/v2", "/v2/", "/v2/_catalog", "/token", "/.well-known/jwks.json"])
def test_fixed_addresses_are_found_as_they_are_and_not_escaped(path: str) -> None:
    assert {row.pattern for row in read(path).rows.values()} == {path}
    escaped = path.replace("v", "%76").replace("tok", "%74ok").replace("jw", "%6aw").encode()
    with pytest.raises(Unknown):
        find(path, escaped)


@pytest.mark.parametrize(
    ("path", "refusal"),
    [
        ("/v2/_catalog/manifests/v1", NameInvalid),
        ("/v2/a/blobs/upload", DigestInvalid),
        ("/v2/a/manifests/.x", TagInvalid),
        ("/v2/a/manifests/sha256:x", DigestInvalid),
        ("/v2/a/manifests/b/c", Unknown),
        ("/v2/a/referrers/v1", DigestInvalid),
        ("/v2/a/tags/lists", Unknown),
        ("v2/a/tags/list", Unknown),
        ("", Unknown),
    ],
)
def test_what_is_outside_its_grammar_is_refused_by_its_own_code(path: str, refusal: type[Exception]) -> None:
    with pytest.raises(refusal):
        read(path)


def test_an_upload_begins_as_its_query_says_and_only_when_it_is_posted() -> None:
    def pattern(*query: str, posts: bool = True) -> str:
        return read("/v2/a/blobs/uploads/", *query, posts=posts).rows["POST"].pattern

    assert pattern() == pattern("mount") == pattern("from") == pattern("mount", "from", posts=False) == routes.UPLOADS
    assert pattern("digest") == pattern("digest", "mount") == routes.WHOLE
    assert pattern("mount", "from") == pattern("mount", "from", "digest") == routes.MOUNT


def test_no_row_is_there_twice() -> None:
    keys = [(row.method, row.pattern) for row in (*TABLE, *OPEN)]
    assert len(set(keys)) == len(keys)


def test_every_get_of_content_has_its_head() -> None:
    answered = {(row.method, row.pattern) for row in TABLE}
    for pattern in (routes.PING, routes.BLOB, routes.BY_TAG, routes.BY_DIGEST):
        assert {("GET", pattern), ("HEAD", pattern)} <= answered
