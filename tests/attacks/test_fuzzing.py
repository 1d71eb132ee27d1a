"""Whatever is sent, the registry answers it, and never with a fault."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.oci.media import MANIFEST_MEDIA_TYPES, OCI_MANIFEST
from tests.protocol.harness import World, image, sha256, sha512, world_on

KNOWN = "alpha/known"
MEDIA = (*sorted(MANIFEST_MEDIA_TYPES), "text/html", "application/json", "", "a/b; c=d", "\xff")
HARSH = settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    data = tmp_path_factory.mktemp("fuzzed")
    with world_on(f"sqlite:///{data / 'gateway.db'}", data) as made:
        made.push_image(made.widest("alice", KNOWN), KNOWN, "v1")
        yield made


@pytest.fixture(scope="module")
def tokens(world: World) -> list[str]:
    held = [world.widest(name, KNOWN, "pub/x", "beta/x") for name in ("alice", "dave", "mallory", "root")]
    return [*held, world.token("root", "registry:catalog:*"), world.token(""), "", "junk"]


DIGESTS = (
    sha256(b"a layer"),
    sha256(b"{}"),
    sha512(b"x"),
    sha256(image(b"{}", b"a layer")),
    "sha256:",
    "sha1:00",
    "x:y",
)
WORDS = st.sampled_from(
    [
        *("v2", "alpha", "known", "pub", "x", "blobs", "uploads", "manifests", "tags", "list", "referrers", "_catalog"),
        *("", ".", "..", "%2e%2e", "%2F", "%00", "%ff", "%", "v1", "latest", "A", "-", "\xe9", "token", "~"),
        *DIGESTS,
        "c0ffee00-0000-4000-8000-000000000000",
    ]
)
KEYS = st.sampled_from(
    ["n", "last", "digest", "mount", "from", "tag", "artifactType", "scope", "service", "account", "offline_token", "q"]
)
VALUES = st.one_of(
    st.sampled_from(
        [
            *(*DIGESTS, KNOWN, "0", "-1", "1000000", "%00", "%ed%a0%80", "%C3%28", "+", "registry.test", "true", "v1"),
            *("repository:alpha/known:pull,push", "registry:catalog:*", "repository:::", "::::", "%0d%0aX:y"),
        ]
    ),
    st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=12),
)
TARGETS = st.builds(
    lambda words, query: "/" + "/".join(words) + ("?" + "&".join(f"{k}={v}" for k, v in query) if query else ""),
    st.one_of(
        st.lists(WORDS, min_size=1, max_size=7),
        st.builds(
            lambda name, place: ["v2", *name, *place],
            st.sampled_from([["alpha", "known"], ["pub", "x"], ["beta", "x"], ["new", "thing"]]),
            st.lists(WORDS, min_size=1, max_size=3),
        ),
        st.builds(
            lambda name, word, last: ["v2", *name.split("/"), *word.split("/"), last],
            st.sampled_from([KNOWN, "pub/x", "alpha/new"]),
            st.sampled_from(["manifests", "blobs", "blobs/uploads", "referrers", "tags"]),
            WORDS,
        ),
    ),
    st.lists(st.tuples(KEYS, VALUES), max_size=4),
).filter(lambda target: target.isascii() or "\xe9" in target)
NAMES = st.sampled_from(
    [
        *("Content-Type", "Content-Length", "Content-Range", "Range", "If-None-Match", "If-Range", "Accept", "Host"),
        *("Content-Encoding", "User-Agent", "X-Forwarded-For", "Expect", "Cookie", "Authorization"),
    ]
)
TEXTS = st.one_of(
    st.sampled_from(
        [
            *MEDIA,
            "0-0",
            "0-4",
            "5-9",
            "bytes=0-1",
            "bytes=-",
            "bytes 0-4/5",
            "9" * 30,
            "gzip",
            "*",
            '"',
            "W/",
            "Basic :",
        ]
        + ["Basic " + base64.b64encode(text).decode() for text in (b"a:b", b":", b"\xff", b"alice:", b"+:+", b"a/b:c")]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=30),
)
METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])


@HARSH
@given(
    st.data(),
    METHODS,
    TARGETS,
    st.lists(st.tuples(NAMES, TEXTS), max_size=4),
    st.one_of(st.binary(max_size=64), st.lists(st.binary(max_size=16), max_size=4)),
    st.booleans(),
)
def test_no_request_is_a_fault(
    world: World,
    tokens: list[str],
    data: st.DataObject,
    method: str,
    target: str,
    headers: list[tuple[str, str]],
    body: bytes | list[bytes],
    cut: bool,
) -> None:
    token = data.draw(st.sampled_from(tokens))
    target = target.encode("utf-8").decode("latin-1").encode("latin-1").decode("ascii", "ignore")
    answer = world.ask(method, target, token=token, headers=headers, body=body, cut=cut)
    assert answer.status < 500
    assert answer.status or cut or isinstance(body, list)
    if answer.status >= 400 and answer.body:
        [error] = answer.json()["errors"] if "errors" in answer.json() else [answer.json()]
        assert error["code"]


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from([*DIGESTS, *MEDIA, "application/vnd.oci.image.config.v1+json"]),
)
JSONS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["mediaType", "digest", "size", "annotations", "urls", "data", "platform", "artifactType", "x"]
            ),
            inner,
            max_size=5,
        ),
    ),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    [
        "schemaVersion",
        "mediaType",
        "config",
        "layers",
        "manifests",
        "subject",
        "annotations",
        "artifactType",
        "fsLayers",
    ]
)


@HARSH
@given(st.dictionaries(FIELDS, JSONS, max_size=4), st.sampled_from(MEDIA), st.sampled_from(["v9", *DIGESTS[:4]]))
def test_no_manifest_is_a_fault(
    world: World, tokens: list[str], change: dict[str, object], media_type: str, reference: str
) -> None:
    content = json.dumps({**json.loads(image(b"{}", b"a layer")), **change}).encode("utf-8", "replace")
    answer = world.push_manifest(tokens[0], KNOWN, reference, content, media_type)
    assert answer.status in {201, 400, 413, 415}
    if answer.status == 201:
        digest = answer.header("docker-content-digest")
        seen = world.ask("GET", f"/v2/{KNOWN}/manifests/{digest}", token=tokens[0])
        assert (seen.status, seen.body) == (200, content)
        assert seen.header("content-type") in MANIFEST_MEDIA_TYPES
        about = world.ask("GET", f"/v2/{KNOWN}/referrers/{sha256(b'{}')}", token=tokens[0])
        assert about.status == 200


FORM_NAMES = st.sampled_from(
    ["grant_type", "username", "password", "refresh_token", "scope", "service", "client_id", "access_type"]
)
FORM_VALUES = st.sampled_from(["password", "refresh_token", "registry.test", "offline", "alice+ci", "gwo_"])


@HARSH
@given(
    st.lists(st.tuples(FORM_NAMES, st.one_of(FORM_VALUES, st.text(max_size=12))), max_size=6),
    st.sampled_from(["utf-8", "latin-1", "utf-16"]),
)
def test_no_form_is_a_fault(world: World, fields: list[tuple[str, str]], encoding: str) -> None:
    body = urlencode(fields, encoding=encoding, errors="replace").encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = world.ask("POST", "/token", body=body, headers=headers)
    assert answer.status in {200, 400, 401, 429}
    assert answer.json().get("error") or answer.status == 200
    assert OCI_MANIFEST not in answer.body.decode()
