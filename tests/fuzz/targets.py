"""What is fuzzed: each target takes any bytes and says, by an error, if what a parser made of them breaks its word."""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote

import jwt
import uvicorn
from uvicorn.server import ServerState

from gateway.access.keys import KeyRing, KeyState, SigningKey, new_key
from gateway.access.names import parse_principal
from gateway.access.policy import Reach
from gateway.access.principals import Principal, PrincipalKind
from gateway.access.scopes import CATALOG, SCOPES, TOKEN_ACTIONS, Access, parse_scopes, read_claims
from gateway.access.tokens import Tokens
from gateway.errors import Refusal, Unauthorized
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.manifest import ENTRIES, LIMIT_BYTES, load
from gateway.oci.media import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from gateway.oci.names import ProjectName, Repository, Tag, parse_reference
from gateway.oci.ranges import ContentRange, parse_range
from gateway.protocol import EdgeLimits, StrictProtocol, strict_protocol
from gateway.registry.routes import find
from tests.edge.serving import HOSTS
from tests.edge.test_protocol import Wire
from tests.fuzz.turns import Turns

_NAME = re.compile(r"[a-z0-9._/-]{1,200}")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_REFUSED = re.compile(rb"HTTP/1\.1 [45][0-9][0-9] ")
_DIGEST = re.compile(r"sha(256:[0-9a-f]{64}|512:[0-9a-f]{128})")


@dataclass(frozen=True, slots=True)
class Target:
    """*one* is called with any bytes; *seeds* are honest ones to begin with."""

    one: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


# names


def names(content: bytes) -> None:
    """A name that is taken is a safe one, spelled as it was; a path has one reading."""
    text = _text(content)
    for parse in (Repository.parse, ProjectName.parse, Tag.parse, parse_reference, Reach.parse):
        try:
            found = parse(text)
        except Refusal:
            continue
        assert str(found) == text
        assert text.isascii()
        assert ".." not in text.split("/")
        assert not text.startswith(("/", ".", "-"))
        if isinstance(found, Repository):
            assert _NAME.fullmatch(text)
            assert ".." not in text
            assert found.project.name == text.split("/")[0]
        elif isinstance(found, Tag):
            assert _TAG.fullmatch(text)
    with contextlib.suppress(Refusal):
        assert parse_principal(text).replace("+", "").isascii()
    _path(unquote("/v2/" + text, errors="surrogateescape"), content)


def _path(path: str, content: bytes) -> None:
    try:
        place = find(path, b"/v2/" + content)
    except Refusal:
        return
    if place.repository is not None:
        assert path.startswith(f"/v2/{place.repository}/")
        assert Repository.parse(place.repository.name) == place.repository
        assert place.reference == "" or path.endswith("/" + place.reference)


# digests


def digests(content: bytes) -> None:
    """A digest that is taken is spelled as it was, and is that of one content only."""
    text = _text(content)
    try:
        found = Digest.parse(text)
    except Refusal:
        pass
    else:
        assert _DIGEST.fullmatch(text)
        assert (str(found), f"{found.algorithm}:{found.hex}") == (text, text)
        assert found != Digest.of(content)
    for algorithm in Algorithm:
        own = Digest.of(content, algorithm)
        assert Digest.parse(own.text) == own


# scopes


def scopes(content: bytes) -> None:
    """What is asked for is never more than ten legal repositories, and no wildcard comes out of a token."""
    text = _text(content)
    _check_access(parse_scopes(text.split("\n")))
    assert parse_scopes([text]).catalog == (CATALOG in [each for each in text.split(" ") if each][:SCOPES])
    try:
        claims = json.loads(text)
    except (ValueError, RecursionError):
        return
    access = read_claims(claims)
    if access is not None:
        _check_access(access)
        assert read_claims(access.claims()) == Access(
            {name: actions for name, actions in access.repositories.items() if actions}, access.catalog
        )


def _check_access(access: Access) -> None:
    assert len(access.repositories) <= SCOPES
    for name, actions in access.repositories.items():
        assert Repository.parse(name).name == name
        assert actions <= frozenset(TOKEN_ACTIONS)
    assert all("*" not in text or text == CATALOG for text in access.texts())


# ranges


def ranges(content: bytes) -> None:
    """A range that is taken lies inside the content it is of."""
    text = content[2:].decode("latin-1")
    size = int.from_bytes(content[:2], "big")
    for length in (size, 2**63 - 1):
        try:
            found = parse_range(text, length)
        except Refusal:
            continue
        if found is not None:
            first, last = found
            assert 0 <= first <= last < length
    try:
        chunk = ContentRange.parse(text)
    except Refusal:
        return
    assert 0 <= chunk.first <= chunk.last
    assert chunk.length_bytes >= 1
    assert ContentRange.parse(str(chunk)) == chunk


# manifests

_TYPES = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, "text/html", "", OCI_MANIFEST + "; charset=utf-8")


def manifests(content: bytes) -> None:
    """A manifest that is taken has one kind, and everything it names is well formed; memory and depth are bounded."""
    for kind in _TYPES:
        try:
            found = load(content, kind)
        except Refusal as refusal:
            refusal.message.encode()
            continue
        assert found.content == content
        assert len(content) <= LIMIT_BYTES
        assert found.digest == Digest.of(content)
        assert not (found.manifests and (found.layers or found.config))
        assert len(found.layers) <= ENTRIES
        assert len(found.manifests) <= ENTRIES
        for digest in found.references:
            assert Digest.parse(digest.text) == digest
        json.dumps(dict(found.annotations)).encode()
        assert json.loads(content)["schemaVersion"] == 2


# tokens


class _Keys:
    def __init__(self) -> None:
        self.key = new_key(KeyState.CURRENT, datetime(2026, 1, 1, tzinfo=UTC))

    def read(self) -> Sequence[SigningKey]:
        return (self.key,)


_KEYS: Final = _Keys()
_NOW: Final = datetime(2026, 5, 1, 12, tzinfo=UTC)
_TOKENS: Final = Tokens(KeyRing(_KEYS, lambda: 2), "https://registry.test", "registry.test", 300)
_REAL: Final = _TOKENS.issue(
    Principal(PrincipalKind.USER, 7, "alice"),
    Access({"alpha/app": frozenset(TOKEN_ACTIONS)}),
    generation=1,
    projects={"alpha": 3},
    now=_NOW,
).text


class _AnySignature:
    """In place of the signature's check, which is not ours to fuzz and takes far longer than all the rest."""

    def decode(self, text: str, key: object, algorithms: object) -> bytes:
        return base64.urlsafe_b64decode(text.split(".")[1] + "==")


_OPEN: Final = Tokens(KeyRing(_KEYS, lambda: 2), "https://registry.test", "registry.test", 300)
_OPEN._signatures = _AnySignature()  # type: ignore[assignment]
_PAYLOAD: Final = json.dumps(jwt.decode(_REAL, options={"verify_signature": False}), separators=(",", ":")).encode()


def tokens(content: bytes) -> None:
    """Nothing is believed that we did not sign; of what we signed, nothing that says other than we say."""
    text = content.decode("latin-1")
    believed = _believed(_TOKENS, text)
    assert believed is None or text == _REAL
    # As if the key had signed whatever this is: the claims must stand by themselves.
    payload = base64.urlsafe_b64encode(content).decode().rstrip("=")
    bearer = _believed(_OPEN, ".".join((_REAL.split(".")[0], payload, "A" * 86)))
    if bearer is not None:
        claims = json.loads(content)
        assert (claims["iss"], claims["aud"]) == ("https://registry.test", "registry.test")
        assert 60 <= claims["exp"] - claims["iat"] <= 900
        assert bearer.principal.kind in {PrincipalKind.USER, PrincipalKind.ROBOT, PrincipalKind.ANONYMOUS}
        assert (bearer.principal.kind is PrincipalKind.ANONYMOUS) == (bearer.principal.id == 0)
        _check_access(bearer.access)


def _believed(tokens: Tokens, text: str) -> Any:
    try:
        return tokens.verify(text, _NOW)
    except Unauthorized:
        return None


# the edge


class _Talk:
    """An application at the edge of one process, the same for each connection; *seen* are the paths it is asked for."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.turns = Turns()
        self._protocol = strict_protocol(EdgeLimits(hosts=HOSTS))
        self._config = uvicorn.Config(self._app, http=self._protocol, ws="none", interface="asgi3", log_config=None)

    def connect(self) -> tuple[StrictProtocol, Wire]:
        self.seen.clear()
        made = self._protocol(config=self._config, server_state=ServerState(), app_state={}, _loop=self.turns)
        wire: Any = Wire()
        made.connection_made(wire)
        return made, wire

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append(scope["path"])
        assert scope["raw_path"].startswith(b"/")
        assert not scope["raw_path"].startswith(b"//")
        assert scope["method"].isupper()
        assert len([name for name, _ in scope["headers"] if name == b"host"]) <= 1
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


# The edge of a process outlives its connections, and so does what it makes for all of them.
_TALK: Final = _Talk()


def edge(content: bytes) -> None:
    """Whatever comes, cut wherever: a request has one answer, a refusal is the last one, and nothing is a fault."""
    cut = content[0] if content else 0
    connection, wire = _TALK.connect()
    for piece in (content[1 : cut + 1], content[cut + 1 :]):
        if piece and not wire.closed:
            connection.data_received(piece)
            # The next piece comes to an application that has just begun, or to one that waits for it.
            _TALK.turns.turn() if cut % 2 else _TALK.turns.settle()
    _TALK.turns.settle()
    connection.connection_lost(None)
    _TALK.turns.settle()
    assert not connection.tasks
    assert not connection.edge.open
    assert not connection.edge.addresses
    _check_written(bytes(wire.written), wire.closed)


def _check_written(written: bytes, closed: bool) -> None:
    assert not written or written.startswith(b"HTTP/1.1 ")
    assert written.count(b"HTTP/1.1 200 ") <= len(_TALK.seen)
    refused = len(_REFUSED.findall(written))
    assert refused <= 1
    assert b"HTTP/1.1 500 " not in written
    assert not refused or closed


_IMAGE = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest.of(b"").text, "size": 0},
        "layers": [{"mediaType": "a/b", "digest": Digest.of(b"x").text, "size": 1, "annotations": {"a": "b"}}],
        "subject": {"mediaType": OCI_MANIFEST, "digest": Digest.of(b"y").text, "size": 9},
        "annotations": {"k": "v"},
    }
).encode()
_INDEX = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [
            {
                "mediaType": OCI_MANIFEST,
                "digest": Digest.of(b"z").text,
                "size": 3,
                "platform": {"os": "linux", "architecture": "arm64"},
            }
        ],
    }
).encode()
_CLAIMS = json.dumps([{"type": "repository", "name": "alpha/app", "actions": ["pull", "*"]}]).encode()
_HEAD = b"\x20GET /v2/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\n\r\n"
_PUT = b"\x40PUT /v2/a/b/manifests/c HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc" + _HEAD[1:]
_POST = (
    b"\x50POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: localhost:5000\r\nTransfer-Encoding: chunked\r\n"
    b"Expect: 100-continue\r\n\r\n3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n"
)

TARGETS: Final[Mapping[str, Target]] = {
    "names": Target(
        names, (b"gallery/ui", b"alpha/app/manifests/v1", b"a__b.c-d/e/blobs/uploads/x", b"gallery+ci", b"alpha/x-*")
    ),
    "digests": Target(digests, (Digest.of(b"").text.encode(), Digest.of(b"", Algorithm.SHA512).text.encode())),
    "scopes": Target(
        scopes, (b"repository:alpha/app:pull,push", CATALOG.encode(), b"repository(x):h:5000/a/b:*", _CLAIMS)
    ),
    "ranges": Target(ranges, (b"\x00\x09bytes=0-4", b"\x00\x09bytes=-5", b"\x00\x090-1023", b"\x01\x00bytes 0-4/10")),
    "manifests": Target(manifests, (_IMAGE, _INDEX)),
    "tokens": Target(tokens, (_REAL.encode(), _PAYLOAD)),
    "edge": Target(edge, (_HEAD, _PUT, _POST)),
}
