"""Sessions: the cookie a browser comes with, whose session it names, and whether a form really comes from our page.

cookie `__Host-gateway`  ─▶ sessions.find ─▶ Session(caller, csrf)      no cookie, or an unknown one: a stranger
POST ─▶ Origin and Sec-Fetch-Site ─▶ the session's token in the form ─▶ the page
"""

from __future__ import annotations

import hmac
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from gateway.administration import Session

COOKIE: Final = "__Host-gateway"
_COOKIE_CHARACTERS: Final = 200
CSRF_FIELD: Final = "csrf"


def cookie_of(request: Request) -> str:
    """The session cookie's value; "" when it did not come, came twice, or is longer than any we give."""
    texts = [
        value.strip()
        for header in request.headers.getlist("cookie")
        for name, _, value in (part.partition("=") for part in header.split(";"))
        if name.strip() == COOKIE
    ]
    return texts[0] if len(texts) == 1 and len(texts[0]) <= _COOKIE_CHARACTERS else ""


def give(response: Response, text: str) -> None:
    """Sends the browser the cookie; it ends with the browser, the session itself by its own clocks."""
    response.headers.append("Set-Cookie", f"{COOKIE}={text}; Path=/; Secure; HttpOnly; SameSite=Strict")


def take_back(response: Response) -> None:
    """Has the browser forget the cookie."""
    response.headers.append("Set-Cookie", f"{COOKIE}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict")


def from_ourselves(request: Request) -> bool:
    """
    Whether the browser says that a page of ours sent this request.

    `Origin` must be the very address that was asked, and `Sec-Fetch-Site` `same-origin`; one of them may be missing
    (old browsers), not both: every browser sends one with a form.
    """
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    if site is not None and site != "same-origin":
        return False
    if origin is not None:
        return origin == f"https://{request.headers.get('host', '').lower()}"
    return site is not None


def carries_token(session: Session, text: str) -> bool:
    """Whether *text* is the token of the session's forms."""
    return hmac.compare_digest(session.csrf.encode(), text.encode("utf-8", "replace"))
