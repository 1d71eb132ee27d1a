"""THE TABLE: what can be asked of the registry, what right each row needs, and what it is called in the trail.

A path has one reading. Names may hold the words of paths (`blobs`, `manifests`, `tags`, `uploads`), so a path is read
from its end: the last separator wins.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from gateway.access.policy import Need
from gateway.access.scopes import Action
from gateway.audit.event import Kind
from gateway.errors import NameInvalid, Unknown
from gateway.gate import Passage
from gateway.oci.digest import Digest
from gateway.oci.names import Repository, parse_reference
from gateway.registry import blobs, listings, manifests, ping, token, uploads
from gateway.registry.replies import Reply
from gateway.registry.request import Request

Endpoint: TypeAlias = Callable[[Request, Passage], Awaitable[Reply]]
Needs: TypeAlias = Callable[[Request], tuple[Need, ...]]


def nothing(_: Request) -> tuple[Need, ...]:
    return ()


def pull(request: Request) -> tuple[Need, ...]:
    return (Need(Action.PULL, request.repository),)


def push(request: Request) -> tuple[Need, ...]:
    # Whoever lacks both is told of the push that was tried.
    return Need(Action.PUSH, request.repository), Need(Action.PULL, request.repository)


def own(request: Request) -> tuple[Need, ...]:
    return (Need(Action.PUSH, request.repository),)


def delete(request: Request) -> tuple[Need, ...]:
    return (Need(Action.DELETE, request.repository),)


def mount(request: Request) -> tuple[Need, ...]:
    source = uploads.mount_source(request)
    return (*push(request), Need(Action.PULL, source, optional=True)) if source is not None else push(request)


@dataclass(frozen=True, slots=True)
class Row:
    """
    *needs* is what the gate judges, *kind* the event of the passage; *endpoint* runs inside it.

    *catalog* rows need a token that carries the catalog instead of a right on a repository.
    """

    method: str
    pattern: str
    endpoint: Endpoint
    needs: Needs
    kind: Kind
    catalog: bool = False


@dataclass(frozen=True, slots=True)
class OpenRow:
    """A row that takes no bearer token: whoever asks is answered."""

    method: str
    pattern: str
    endpoint: Callable[[Request], Awaitable[Reply]]


PING = "/v2/"
CATALOG = "/v2/_catalog"
TAGS = "/v2/{name}/tags/list"
BLOB = "/v2/{name}/blobs/{digest}"
UPLOADS = "/v2/{name}/blobs/uploads/"
WHOLE = "/v2/{name}/blobs/uploads/?digest"
MOUNT = "/v2/{name}/blobs/uploads/?mount&from"
UPLOAD = "/v2/{name}/blobs/uploads/{id}"
BY_TAG = "/v2/{name}/manifests/{tag}"
BY_DIGEST = "/v2/{name}/manifests/{digest}"
REFERRERS = "/v2/{name}/referrers/{digest}"
TOKEN = "/token"  # noqa: S105 - a path
KEYS = "/.well-known/jwks.json"

# fmt: off
TABLE: Final = (
    Row("GET",    PING,      ping.ping,          nothing, Kind.REGISTRY_PING),
    Row("HEAD",   PING,      ping.ping,          nothing, Kind.REGISTRY_PING),
    Row("GET",    CATALOG,   listings.catalog,   nothing, Kind.CATALOG_LIST, catalog=True),
    Row("GET",    TAGS,      listings.tags,      pull,    Kind.TAGS_LIST),
    Row("GET",    REFERRERS, listings.referrers, pull,    Kind.REFERRERS_LIST),
    Row("GET",    BLOB,      blobs.get,          pull,    Kind.BLOB_PULL),
    Row("HEAD",   BLOB,      blobs.head,         pull,    Kind.BLOB_HEAD),
    Row("DELETE", BLOB,      blobs.delete,       delete,  Kind.BLOB_DELETE),
    Row("POST",   UPLOADS,   uploads.begin,      push,    Kind.UPLOAD_BEGIN),
    Row("POST",   WHOLE,     uploads.whole,      push,    Kind.BLOB_PUSH),
    Row("POST",   MOUNT,     uploads.mount,      mount,   Kind.UPLOAD_BEGIN),  # mounted: a passage of blob.mount within
    Row("GET",    UPLOAD,    uploads.status,     own,     Kind.UPLOAD_STATUS),
    Row("PATCH",  UPLOAD,    uploads.append,     push,    Kind.UPLOAD_APPEND),
    Row("PUT",    UPLOAD,    uploads.finish,     push,    Kind.BLOB_PUSH),
    Row("DELETE", UPLOAD,    uploads.cancel,     own,     Kind.UPLOAD_CANCEL),
    Row("GET",    BY_TAG,    manifests.get,      pull,    Kind.MANIFEST_PULL),
    Row("GET",    BY_DIGEST, manifests.get,      pull,    Kind.MANIFEST_PULL),
    Row("HEAD",   BY_TAG,    manifests.head,     pull,    Kind.MANIFEST_HEAD),
    Row("HEAD",   BY_DIGEST, manifests.head,     pull,    Kind.MANIFEST_HEAD),
    Row("PUT",    BY_TAG,    manifests.put,      push,    Kind.MANIFEST_PUSH),
    Row("PUT",    BY_DIGEST, manifests.put,      push,    Kind.MANIFEST_PUSH),
    Row("DELETE", BY_TAG,    manifests.untag,    delete,  Kind.TAG_DELETE),
    Row("DELETE", BY_DIGEST, manifests.delete,   delete,  Kind.MANIFEST_DELETE),
)
OPEN: Final = (
    OpenRow("GET",  "/v2",  ping.to_ping),
    OpenRow("HEAD", "/v2",  ping.to_ping),
    OpenRow("GET",  TOKEN,  token.get),
    OpenRow("POST", TOKEN,  token.post),
    OpenRow("GET",  KEYS,   ping.keys),
)
# fmt: on

_ROWS: Final[dict[str, dict[str, Row | OpenRow]]] = {}
for _row in (*TABLE, *OPEN):
    _ROWS.setdefault(_row.pattern, {})[_row.method] = _row
#: Parameters that choose among the ways to begin an upload.
CHOOSING: Final = frozenset({"mount", "from", "digest"})
_FIXED: Final = frozenset({"/v2", PING, CATALOG, TOKEN, KEYS})


def facts(row: Row, request: Request) -> dict[str, object]:
    """What the event of a passage says of the content that the path names."""
    known: dict[str, object] = {}
    if row.pattern in {BY_TAG, BY_DIGEST}:
        known["reference"] = request.reference
    if row.pattern in {BLOB, BY_DIGEST, REFERRERS}:
        known["digest"] = request.reference
    return known


@dataclass(frozen=True, slots=True)
class Place:
    """What a path names: the rows that answer there, by method, and the values in it."""

    rows: dict[str, Row | OpenRow]
    repository: Repository | None = None
    reference: str = ""


@lru_cache(maxsize=4096)
def find(path: str, raw_path: bytes, *, query: frozenset[str] = frozenset(), posts: bool = False) -> Place:
    """
    The place that *path*, decoded, names; *raw_path* is the path as it was sent.

    *query* holds the names of the query's parameters: they choose among the ways to begin an upload when *posts*.
    Raises `Unknown` for a path that names nothing, `NameInvalid`, `TagInvalid` or `DigestInvalid` for what is
    outside its grammar, and `NameInvalid` for a name that is written with percent-escapes: it has one spelling.
    """
    escaped = b"%" in raw_path
    if path in _FIXED and not escaped:
        return Place(_ROWS[path])
    name, pattern, reference = _split(path)
    if escaped and not raw_path.startswith(f"/v2/{name}/".encode("utf-8", "replace")):
        raise NameInvalid("Write the repository's name without percent-escapes.")
    repository = Repository.parse(name)
    if pattern == BY_TAG:
        pattern = BY_DIGEST if isinstance(parse_reference(reference), Digest) else BY_TAG
    elif pattern in {BLOB, REFERRERS}:
        Digest.parse(reference)
    elif pattern == UPLOADS and posts:
        pattern = _begun(query)
    return Place(_ROWS[pattern], repository, reference)


def _split(path: str) -> tuple[str, str, str]:
    """The name, the pattern and the reference of a path below `/v2/`; whether the values are legal is not asked."""
    before, separator, last = path.rpartition("/")
    if separator and before.startswith("/v2/"):
        head, _, word = before.rpartition("/")
        name = head[4:]
        if word == "uploads" and name.endswith("/blobs"):
            return name.removesuffix("/blobs"), UPLOAD if last else UPLOADS, last
        if word == "blobs" and last == "uploads" and head != "/v2":
            # No digest is spelled so: only the last slash is missing.
            return name, UPLOADS, ""
        if word == "tags" and last == "list":
            return name, TAGS, ""
        if word in _BY_WORD and head != "/v2":
            return name, _BY_WORD[word], last
    raise Unknown("There is nothing at this address.")


_BY_WORD: Final = {"manifests": BY_TAG, "blobs": BLOB, "referrers": REFERRERS}


def _begun(query: frozenset[str]) -> str:
    if {"mount", "from"} <= query:
        return MOUNT
    return WHOLE if "digest" in query else UPLOADS
