"""Conditions of edits: `If-Match` and `If-None-Match` become what must hold in the transaction that edits."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from gateway.administration import Administration, Condition
from gateway.api.request import Request
from gateway.errors import Invalid

_TAG: Final = re.compile(r'"([!#-~]*)"')


def editions(request: Request) -> frozenset[str] | None:
    """The editions that `If-Match` names; None for `*`, whichever. Raises `Invalid` for what is no entity tag."""
    text = request.header("if-match")
    if text.strip() == "*":
        return None
    tags = [part.strip() for part in text.split(",")]
    matched = [_TAG.fullmatch(tag) for tag in tags]
    if not all(matched):
        # A weak tag never matches an If-Match: it is told, instead of a change that nobody made.
        raise Invalid("Send in If-Match the ETag that you were given, in its quotes.", detail={"field": "If-Match"})
    return frozenset(found[1] for found in matched if found is not None)


def acts_if(request: Request, condition: Callable[..., Condition], *about: str | int) -> Administration:
    """The acts of administration; if the request has `If-Match`, under the *condition* on what it is *about*."""
    if "if-match" not in request.headers:
        return request.administration
    return request.administration.expecting(condition(*about, editions(request)))
