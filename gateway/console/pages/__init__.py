"""The pages of the console, a module a group; adding one to `GROUPS` is all it takes to have it answered."""

from __future__ import annotations

from typing import Final

from gateway.console.pages import (
    account,
    members,
    projects,
    robots,
    second_factor,
    settings,
    signing_in,
    tokens,
    users,
)
from gateway.console.plan import Group

#: In the order in which their places and tabs are shown.
GROUPS: Final[tuple[Group, ...]] = (
    projects.GROUP,
    members.GROUP,
    robots.GROUP,
    settings.GROUP,
    users.GROUP,
    account.GROUP,
    tokens.GROUP,
    second_factor.GROUP,
    signing_in.GROUP,
)
