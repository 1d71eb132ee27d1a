"""What a registry says when it is asked, checked: a list of names, the page that follows, a manifest."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, Generic, TypeVar

from gateway.engine.upstream.client import Answer
from gateway.errors import ContentRefusal, DigestInvalid, UpstreamFailed
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.document import strict_json
from gateway.oci.manifest import MANIFEST_MEDIA_TYPES, Manifest, load
from gateway.oci.media import essence
from gateway.oci.names import Reference
from gateway.records.adoption import Remark

T = TypeVar("T")

#: A registry that does not page sends all its names at once.
LISTING_BYTES: Final = 32 * 1024 * 1024
SCHEMA1: Final = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)
_NAMES: Final = 1_000_000
_EMPTY_PAGES: Final = 100
_NEXT: Final = re.compile(r'rel\s*=\s*"?next\b', re.IGNORECASE)
_QUERY: Final = re.compile(r"[A-Za-z0-9._~%=&+:/-]{1,2048}", re.ASCII)


def manifest_in(answer: Answer, reference: Reference) -> Manifest | Remark:
    """
    The manifest in *answer*, proved by its digest, or why one that is genuine cannot be kept.

    Raises `UpstreamFailed` for what is no manifest, or not the one that was asked for.
    """
    media_type = essence(answer.headers.get("content-type"))
    if media_type in SCHEMA1:
        return Remark(str(reference), "it has Docker's old format, schema 1; pull it and push it again")
    if media_type not in MANIFEST_MEDIA_TYPES:
        raise UpstreamFailed("The registry sends something that is no manifest; look whether a proxy answers for it.")
    told = reference if isinstance(reference, Digest) else told_digest(answer)
    algorithm = told.algorithm if told is not None else Algorithm.SHA256
    if told is not None and Digest.of(answer.content, algorithm) != told:
        raise UpstreamFailed("The registry sends a manifest that does not match its digest; look into its storage.")
    try:
        return load(answer.content, media_type, algorithm=algorithm)
    except ContentRefusal as refusal:
        if told is None:
            raise UpstreamFailed("The registry sends a manifest that is none, and no digest with it.") from refusal
        return Remark(str(reference), f"it is not well formed: {refusal.message}")


def told_digest(answer: Answer) -> Digest | None:
    """The digest the registry claims for what it sends, or would send."""
    try:
        return Digest.parse(answer.headers.get("docker-content-digest", ""))
    except DigestInvalid:
        return None


class Pages(Generic[T]):
    """What the pages of a list hold, each once, in their order; *what* is what they list, in words."""

    def __init__(self, what: str) -> None:
        self.found: dict[T, None] = {}
        self._what = what
        self._empty = 0

    def add(self, page: Sequence[T], query: str) -> None:
        """
        Takes a page, after which *query* is to be asked ("" for nothing more).

        Where a registry leaves out what the caller may not see, a page is empty and has a next one all the same. Raises
        `UpstreamFailed` for a list that goes on without anything new.
        """
        before = len(self.found)
        self.found.update(dict.fromkeys(page))
        self._empty = 0 if page else self._empty + 1
        endless = (page and len(self.found) == before) or len(self.found) > _NAMES or self._empty > _EMPTY_PAGES
        if query and endless:
            raise UpstreamFailed(f"The registry lists its {self._what} without end; look into its log.")


def names_in(answer: Answer, key: str) -> list[str]:
    """The names listed under *key*; raises `UpstreamFailed` for what is no such list."""
    document = _document(answer)
    names = document.get(key, False)
    if names is None:
        return []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UpstreamFailed(f"The registry answers without a list of {key}; look whether a proxy answers for it.")
    return names


def code_in(answer: Answer) -> str:
    """The code of the first error in *answer*; "" for an answer that is none of a registry."""
    try:
        errors = _document(answer).get("errors")
    except UpstreamFailed:
        return ""
    first = errors[0] if isinstance(errors, list) and errors else None
    return str(first.get("code", "")) if isinstance(first, dict) else ""


def _document(answer: Answer) -> Mapping[str, object]:
    try:
        document = strict_json(answer.content, limit_bytes=LISTING_BYTES)
    except ValueError as fault:
        raise UpstreamFailed("The registry answers with something that is no JSON.") from fault
    if not isinstance(document, dict):
        raise UpstreamFailed("The registry answers with something that is no list of names.")
    return document


def next_query(answer: Answer) -> str:
    """
    The query of the page that follows, "" after the last; raises `UpstreamFailed` if one is promised and not named.

    Nothing else of the link is believed, for we know where we ask.
    """
    link = answer.headers.get("link", "").strip()
    target, _, parameters = link.removeprefix("<").partition(">")
    if _NEXT.search(parameters) is None:
        return ""
    query = target.partition("?")[2]
    if _QUERY.fullmatch(query) is None:
        raise UpstreamFailed("The registry promises a further page of names, and does not say where.")
    return query
