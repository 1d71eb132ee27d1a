"""What goes back: the reply as a value, the statuses of refusals in one table, the error envelope, the challenge."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, TypeAlias

from gateway import errors
from gateway.errors import Refusal
from gateway.oci.digest import Digest
from gateway.oci.ranges import render_unsatisfied_range, render_upload_range

Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header: TypeAlias = tuple[str, str]
#: As it is sent: bytes, the name in lower case.
RawHeader: TypeAlias = tuple[bytes, bytes]

#: A refusal's status; a class that is not named here has that of the nearest ancestor that is.
STATUSES: Final[Mapping[type[Refusal], int]] = {
    Refusal: 400,
    errors.ContentRefusal: 400,
    errors.NameUnknown: 404,
    errors.BlobUnknown: 404,
    errors.BlobUploadUnknown: 404,
    errors.ManifestUnknown: 404,
    errors.RangeInvalid: 416,
    errors.RangeNotSatisfiable: 416,
    errors.UploadBusy: 409,
    errors.ManifestTooLarge: 413,
    errors.ContentReferenced: 405,
    errors.Unauthorized: 401,
    errors.Denied: 403,
    errors.TooManyRequests: 429,
    errors.Unsupported: 405,
    errors.BodyTooLarge: 413,
    errors.BodyTooSlow: 408,
    errors.InsufficientStorage: 507,
    errors.Unavailable: 503,
    errors.UpstreamUnavailable: 503,
    errors.UpstreamFailed: 502,
    errors.UpstreamSlow: 504,
    errors.Unknown: 404,
    errors.Conflict: 409,
    errors.Invalid: 400,
}
#: Some ages-old clients ask for it before they believe that this is a registry.
API_VERSION: Final = (b"docker-distribution-api-version", b"registry/2.0")
#: What every reply carries. Content is a stranger's: a browser must make nothing else of it than what it is said to be.
ALWAYS: Final = (API_VERSION, (b"x-content-type-options", b"nosniff"))
JSON: Final = ("Content-Type", "application/json")
NO_STORE: Final = ("Cache-Control", "no-store")

_GRANT_ERRORS = {401: "invalid_grant", 429: "temporarily_unavailable", 503: "temporarily_unavailable"}
_BODILESS = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class Reply:
    """
    A reply: *body* whole, or *stream* of exactly *length_bytes* bytes.

    The length is always told beforehand, so that a body that breaks off can be seen to.
    """

    status: int
    headers: tuple[Header, ...] = ()
    body: bytes = b""
    stream: AsyncGenerator[bytes, None] | None = None
    length_bytes: int | None = None

    def and_headers(self, *headers: Header) -> Reply:
        """This reply with more headers."""
        return replace(self, headers=(*self.headers, *headers))

    def raw_headers(self, more: tuple[RawHeader, ...] = (), *, headless: bool = False) -> list[RawHeader]:
        """All headers of this reply as they are sent, with *more*, among them the length."""
        length = len(self.body) if self.length_bytes is None else self.length_bytes
        if headless and self.status >= 400:
            length = 0
        raw = [(_raw_name(name), value.encode("latin-1")) for name, value in self.headers]
        raw += more
        if self.status not in _BODILESS:
            raw.append((b"content-length", b"%d" % length))
        return raw

    async def deliver(self, send: Send, more: tuple[RawHeader, ...] = (), *, headless: bool = False) -> None:
        """
        Sends the reply, with *more* headers; with *headless*, as to a HEAD: the length a GET would have told, and
        never a body.

        A HEAD that is refused tells the length 0: clients read what follows on the connection as the next reply.
        """
        raw = self.raw_headers(more, headless=headless)
        begin = {"type": "http.response.start", "status": self.status, "headers": raw}
        if self.stream is not None and not headless:
            async with aclosing(self.stream) as pieces:
                # Until it comes, what keeps it from coming can still be told.
                first = await anext(pieces, b"")
                await send(begin)
                await send({"type": "http.response.body", "body": first, "more_body": True})
                del first
                async for piece in pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                    # The next may be long in coming: until then no piece is held.
                    del piece
        else:
            await send(begin)
        body = b"" if headless or self.status in _BODILESS else self.body
        await send({"type": "http.response.body", "body": body, "more_body": False})


@lru_cache(maxsize=256)
def _raw_name(name: str) -> bytes:
    return name.lower().encode("latin-1")


def json_reply(status: int, value: object, *headers: Header) -> Reply:
    """*value* as JSON."""
    content = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    names = {name for name, _ in headers}
    return Reply(status, headers if "Content-Type" in names else (JSON, *headers), content)


def status_of(refusal: Refusal) -> int:
    """The status that tells *refusal*."""
    return next(STATUSES[kind] for kind in type(refusal).__mro__ if kind in STATUSES)


def problem(status: int, code: str, message: str, detail: Mapping[str, object] | None = None) -> Reply:
    """The error envelope (distribution-spec, "Error Codes")."""
    return json_reply(status, {"errors": [_error(code, message, detail)]})


def refused(refusal: Refusal, *, path: str, realm: str = "", service: str = "") -> Reply:
    """
    The reply that tells *refusal*: its status, its envelope, and the headers a client can go on from.

    With *realm* an `Unauthorized` carries its challenge, exactly one, Bearer: clients take the first they know, or
    answer each of several, and log in wrongly.
    """
    code = refusal.code
    headers: tuple[Header, ...] = ()
    match refusal:
        case errors.Unauthorized() if realm:
            headers = (("WWW-Authenticate", challenge(refusal, realm, service)),)
        case errors.TooManyRequests() | errors.Unavailable():
            headers = (("Retry-After", str(max(1, int(refusal.retry_after_seconds)))),)
        case errors.RangeInvalid():
            headers = (("Location", path), ("Range", render_upload_range(refusal.offset)))
        case errors.RangeNotSatisfiable():
            headers = (("Content-Range", render_unsatisfied_range(refusal.size_bytes)),)
        case errors.ContentReferenced():
            # Status and code belong together: a 405 that says DENIED is read as a question of rights.
            code = errors.Unsupported.code
            headers = (("Allow", "GET, HEAD"),)
        case _:
            pass
    return problem(status_of(refusal), code, refusal.message, refusal.detail).and_headers(*headers)


def refused_grant(refusal: Refusal) -> Reply:
    """The reply that tells *refusal* to a request for a grant: RFC 6749 §5.2 and the envelope, in one object."""
    status = status_of(refusal)
    error = refusal.detail.get("error") or _GRANT_ERRORS.get(status, "invalid_request")
    told = {
        "error": error,
        "error_description": _quotable(refusal.message),
        "errors": [_error(refusal.code, refusal.message, None)],
    }
    headers = tuple(header for header in refused(refusal, path="").headers if header != JSON)
    return json_reply(status, told, NO_STORE, *headers)


def challenge(refusal: errors.Unauthorized, realm: str, service: str) -> str:
    """The value of `WWW-Authenticate` (RFC 6750 §3): where to get a token, for what, and what was wrong."""
    parameters = [("realm", realm), ("service", service)]
    if refusal.scope:
        parameters.append(("scope", refusal.scope))
    if refusal.error:
        parameters += [("error", refusal.error), ("error_description", refusal.message)]
    return "Bearer " + ",".join(f'{name}="{_quotable(value)}"' for name, value in parameters)


def fault(request_id: str) -> Reply:
    """What is told of a fault: nothing but the number under which our own log has it."""
    message = "The gateway failed; try again, and tell its operator the request id if it stays."
    return problem(500, "UNKNOWN", message, {"request_id": request_id})


def etag(digest: Digest) -> Header:
    """The entity tag of content that never changes."""
    return "ETag", f'"{digest}"'


def matches(if_none_match: str, digest: Digest) -> bool:
    """Whether an `If-None-Match` names *digest*: quoted, weak or bare, in a list or by `*`; "" names nothing."""
    for candidate in if_none_match.split(","):
        tag = candidate.strip(" \t").removeprefix("W/").strip('"')
        if tag in {"*", digest.text}:
            return True
    return False


def next_link(path: str, parameters: Sequence[tuple[str, str]]) -> Header:
    """The `Link` to the page that follows: relative, one, quoted, as clients parse it (RFC 8288)."""
    return "Link", f'<{path}?{"&".join(f"{name}={value}" for name, value in parameters)}>; rel="next"'


def warning(text: str) -> tuple[Header, ...]:
    """What clients show to people beside a reply that went well (distribution-spec, "Warnings"); none for ""."""
    return (("Warning", f'299 - "{_quotable(text)}"'),) if text else ()


def _error(code: str, message: str, detail: Mapping[str, object] | None) -> dict[str, object]:
    told: dict[str, object] = {"code": code, "message": message}
    if detail:
        told["detail"] = dict(detail)
    return told


def _quotable(text: str) -> str:
    return "".join(letter for letter in text if " " <= letter <= "~" and letter not in '"\\')
