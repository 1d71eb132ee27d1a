"""Reading what the registry behind says: its error codes, never its words."""

from __future__ import annotations

from typing import Final

from gateway.engine.upstream.client import Answer
from gateway.engine.upstream.lines import READS
from gateway.errors import DigestInvalid, UpstreamFailed
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.document import strict_json
from gateway.oci.manifest import LIMIT_BYTES
from gateway.oci.media import MANIFEST_MEDIA_TYPES, essence

ERROR_BYTES: Final = 1024 * 1024
#: Codes that say: there is no such thing (distribution-spec, "Error Codes"); a 404 without one is no answer.
ABSENT: Final = frozenset({"MANIFEST_UNKNOWN", "NAME_UNKNOWN", "BLOB_UNKNOWN", "TAG_UNKNOWN"})
UNSUPPORTED: Final = "UNSUPPORTED"


def complaints(answer: Answer) -> list[tuple[str, object]]:
    """The errors an answer lists, as (code, detail); empty if its body is not the specification's envelope."""
    if not essence(answer.headers.get("content-type")).endswith("json"):
        return []
    try:
        told = strict_json(answer.content, limit_bytes=ERROR_BYTES)
    except ValueError:
        return []
    errors = told.get("errors") if isinstance(told, dict) else None
    found = [each for each in errors if isinstance(each, dict)] if isinstance(errors, list) else []
    return [(code, each.get("detail")) for each in found if isinstance(code := each.get("code"), str)]


def is_absent(answer: Answer, *, bodiless: bool = False) -> bool:
    """Whether a registry says that there is no such thing, and not something in its place; a HEAD has no words."""
    if answer.status != 404:
        return False
    if bodiless:
        return essence(answer.headers.get("content-type")) != "text/html"
    return any(code in ABSENT for code, _ in complaints(answer))


def is_unsupported(answer: Answer) -> bool:
    """Whether the registry behind does not do that at all, or is not configured to."""
    return answer.status == 405 or any(code == UNSUPPORTED for code, _ in complaints(answer))


def require_manifest(body: bytes, media_type: str) -> None:
    """The least that may be given out under *media_type*: of a known type, an object, and of no other type."""
    if media_type not in MANIFEST_MEDIA_TYPES:
        raise UpstreamFailed("The registry behind sends something else for a manifest.")
    try:
        fields = strict_json(body, limit_bytes=LIMIT_BYTES)
    except ValueError as fault:
        raise UpstreamFailed("The registry behind sends a manifest that cannot be read.") from fault
    if not isinstance(fields, dict):
        raise UpstreamFailed("The registry behind sends a manifest that is none.")
    named = fields.get("mediaType")
    if named is not None and named != media_type:
        raise UpstreamFailed(f"The registry behind sends a manifest as {media_type} that says it is something else.")


def promised(answer: Answer) -> Digest | None:
    """The digest that the answer says its content has, if it says so; what cannot be read leaves a write uncertain."""
    text = answer.headers.get("docker-content-digest")
    if text is None:
        return None
    try:
        return Digest.parse(text)
    except DigestInvalid as fault:
        uncertain = answer.method not in READS and answer.status < 300
        raise UpstreamFailed("The registry behind names a digest that is none.", uncertain=uncertain) from fault


def plain_in(answer: Answer) -> Digest | None:
    """The SHA-256 that the answer says its content has, if it says one."""
    told = promised(answer)
    return told if told is not None and told.algorithm is Algorithm.SHA256 else None
