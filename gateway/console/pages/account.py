"""My account: what the person who is signed in may see and change of it."""

from __future__ import annotations

from starlette.responses import Response

from gateway.console.frame import render
from gateway.console.plan import Group, Page
from gateway.console.visit import Visit


async def show(visit: Visit) -> Response:
    return await render(visit, "account.html")


GROUP = Group(pages=(Page("/account", show),))
