"""The pages of the console, a module a group; adding one to `GROUPS` is all it takes to have it answered."""

from __future__ import annotations

from typing import Final

from gateway.console.pages import (
    access,
    account,
    audit,
    contents,
    evidence,
    grants,
    members,
    projects,
    removals,
    retention,
    reviews,
    robots,
    second_factor,
    settings,
    signing_in,
    system,
    tokens,
    tracing,
    trash,
    users,
)
from gateway.console.plan import Group

#: In the order in which their places and tabs are shown.
GROUPS: Final[tuple[Group, ...]] = (
    projects.GROUP,
    contents.GROUP,
    removals.GROUP,
    trash.GROUP,
    members.GROUP,
    robots.GROUP,
    access.GROUP,
    settings.GROUP,
    retention.GROUP,
    audit.GROUP,
    evidence.GROUP,
    tracing.GROUP,
    reviews.GROUP,
    users.GROUP,
    grants.GROUP,
    system.GROUP,
    account.GROUP,
    tokens.GROUP,
    second_factor.GROUP,
    signing_in.GROUP,
)
