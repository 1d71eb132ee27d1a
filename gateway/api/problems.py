"""Refusals as problems (RFC 9457): one table says the status of each class, and one function tells the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import UNSET, Struct, UnsetType

from gateway import errors
from gateway.administration import edition_of
from gateway.api.answers import present
from gateway.api.replies import Header, Reply, encoded
from gateway.errors import Refusal

MEDIA_TYPE: Final = "application/problem+json"
#: A refusal's status; a class that is not named here has that of the nearest ancestor that is.
STATUSES: Final[Mapping[type[Refusal], int]] = {
    Refusal: 400,
    errors.NameUnknown: 404,
    errors.BlobUnknown: 404,
    errors.ManifestUnknown: 404,
    errors.ContentReferenced: 409,
    errors.Unauthorized: 401,
    errors.Denied: 403,
    errors.AgainstRule: 409,
    errors.TooManyRequests: 429,
    errors.Unsupported: 409,
    errors.BodyTooLarge: 413,
    errors.BodyTooSlow: 408,
    errors.InsufficientStorage: 507,
    errors.Unavailable: 503,
    errors.UpstreamUnavailable: 503,
    errors.UpstreamFailed: 502,
    errors.UpstreamSlow: 504,
    errors.Unknown: 404,
    errors.Conflict: 409,
    errors.Stale: 412,
    errors.Invalid: 400,
}
TITLES: Final = {
    400: "The request is not valid",
    401: "A personal access token is needed",
    403: "A right is missing",
    404: "There is no such thing",
    405: "This address does not answer that method",
    408: "The request took too long",
    409: "It cannot be done as things are",
    412: "It was changed meanwhile",
    413: "The body is too large",
    415: "The body has another type",
    429: "Too many requests",
    500: "The gateway failed",
    502: "The registry behind the gateway failed",
    503: "It cannot be done now",
    504: "The registry behind the gateway is slow",
    507: "The disk is full",
}


class Problem(Struct, frozen=True, kw_only=True):
    """
    Why a request was refused (RFC 9457), in *detail* with what to do next.

    *code* is for programs, *request_id* the number of the request in the trail and the log, *field* the parameter or
    part of the body that was wrong, *present* what an edited thing is now, and *more* what else a program may read.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    field: str | UnsetType = UNSET
    present: Any = UNSET
    more: dict[str, Any] | UnsetType = UNSET


def status_of(refusal: Refusal) -> int:
    """The status that tells *refusal*."""
    return next(STATUSES[kind] for kind in type(refusal).__mro__ if kind in STATUSES)


def refused(refusal: Refusal, request_id: str) -> Reply:
    """The reply that tells *refusal*, with the headers a client can go on from."""
    status = status_of(refusal)
    headers: list[Header] = []
    match refusal:
        case errors.Unauthorized():
            headers.append(("WWW-Authenticate", _challenge(refusal.error)))
        case errors.TooManyRequests() | errors.Unavailable():
            headers.append(("Retry-After", str(max(1, int(refusal.retry_after_seconds)))))
        case errors.Stale():
            now: Any = refusal.present
            if now is not None:
                headers.append(("ETag", f'"{edition_of(now)}"'))
            return _problem(status, refusal, request_id, present(now)).and_headers(*headers)
        case _:
            pass
    return _problem(status, refusal, request_id).and_headers(*headers)


def problem(status: int, code: str, detail: str, request_id: str) -> Reply:
    """A problem that is no refusal of an act: what the edge itself has to say."""
    told = Problem(
        type=_type(code), title=TITLES[status], status=status, detail=detail, code=code, request_id=request_id
    )
    return _reply(status, told)


def fault(request_id: str) -> Reply:
    """What is told of a fault: nothing but the number under which our own log has it."""
    return problem(500, "FAULT", "Try again, and tell the gateway's operator the request id if it stays.", request_id)


def _problem(status: int, refusal: Refusal, request_id: str, now: Any = UNSET) -> Reply:
    more = dict(refusal.detail)
    field = more.pop("field", UNSET)
    told = Problem(
        type=_type(refusal.code),
        title=TITLES[status],
        status=status,
        detail=refusal.message,
        code=refusal.code,
        request_id=request_id,
        field=field if isinstance(field, str) else UNSET,
        present=now,
        more=more or UNSET,
    )
    return _reply(status, told)


def _reply(status: int, told: Problem) -> Reply:
    return Reply(status, (("Content-Type", MEDIA_TYPE),), encoded(told))


def _type(code: str) -> str:
    return f"urn:registry-gateway:problem:{code.lower()}"


def _challenge(error: str) -> str:
    return f'Bearer realm="gateway"{f", error={chr(34)}{error}{chr(34)}" if error else ""}'
