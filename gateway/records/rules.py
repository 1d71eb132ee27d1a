"""The rules of projects and of the gateway as a transaction finds them, and whether they let a change of content be."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final, Protocol

from sqlalchemy import ColumnElement, Connection, bindparam, delete, exists, insert, or_, select

from gateway.access.rules import Rules, immovable, irremovable
from gateway.change import Change, Notes
from gateway.oci.digest import Digest
from gateway.oci.names import ProjectName, Repository, Tag
from gateway.records import driver, nesting
from gateway.records.schema import facts, projects, repositories, tags

#: The fact that the gateway is read-only: why, and since when in UNIX seconds. Missing when it is not.
_FROZEN: Final = "read_only"
_FREEZE: Final = select(facts.c.value).where(facts.c.name == _FROZEN)
_RULES: Final = select(
    projects.c.quota_bytes, projects.c.immutable, projects.c.read_only, _FREEZE.scalar_subquery().label("frozen")
).where(projects.c.name == bindparam("project"))
_POINTS: Final = select(tags.c.digest).where(
    tags.c.repository_id == bindparam("place"), tags.c.name == bindparam("tag")
)


class Ruled(Protocol):
    """What was *done* elsewhere already is held off by no rule."""

    @property
    def done(self) -> bool: ...


def read(connection: Connection, project: ProjectName) -> Rules:
    """The rules that hold for *project*, which need not exist."""
    found = driver.rows(connection, _RULES, {"project": project.name})
    if not found:
        return Rules(frozen=_reason(connection.execute(_FREEZE).scalar()))
    [(quota_bytes, immutable, read_only, frozen)] = found
    return Rules(quota_bytes, tuple(immutable.split()), read_only, _reason(frozen))


def of_row(row: Any) -> Rules:
    """The rules in a row of projects; nothing is said of the gateway's."""
    return Rules(row.quota_bytes, tuple(row.immutable.split()), row.read_only)


def keeping(place: ColumnElement[int]) -> ColumnElement[bool]:
    """Whether the content of the repository *place*, a column, stays as it is: of its project, or of the gateway."""
    home, owner = repositories.alias("home"), projects.alias("owner")
    mine = exists().where(home.c.id == place, owner.c.id == home.c.project_id, owner.c.read_only != "")
    return or_(exists().where(facts.c.name == _FROZEN), mine)


def require_writable(connection: Connection, project: ProjectName, act: Ruled | None = None) -> Rules:
    """The rules of *project*; raises `ReadOnly`. Those of an *act* that is done already ask for nothing."""
    if act is not None and act.done:
        return Rules()
    rules = read(connection, project)
    rules.require_writable(project)
    return rules


def require_movable(
    connection: Connection, rules: Rules, place: int, repository: Repository, names: Iterable[Tag], digest: str
) -> None:
    """Raises `TagImmutable` if one of the tags *names* may not be moved and points elsewhere than at *digest*."""
    for tag in names:
        pattern = rules.holding(tag.name)
        if pattern:
            now = connection.execute(_POINTS, {"place": place, "tag": tag.name}).scalar()
            if now is not None and now != digest:
                raise immovable(repository, tag.name, pattern)


def require_unheld(rules: Rules, repository: Repository, tag: Tag) -> None:
    """Raises `TagImmutable` if *tag* may not be removed."""
    if pattern := rules.holding(tag.name):
        raise irremovable(repository, tag.name, pattern)


def require_removable(
    connection: Connection, rules: Rules, place: int, repository: Repository, digest: Digest | None = None
) -> None:
    """
    Raises `TagImmutable` if a tag of the repository *place* may not be removed.

    With a *digest*, only the tags count that name it, or an index that lists it: what they name would be in pieces.
    """
    if not rules.immutable:
        return
    wanted = select(tags.c.name).where(tags.c.repository_id == place).order_by(tags.c.name)
    if digest is not None:
        wanted = wanted.where(tags.c.digest.in_(_listing(connection, place, digest)))
    for name in connection.execute(wanted).scalars():
        require_unheld(rules, repository, Tag(name))


def _listing(connection: Connection, place: int, digest: Digest) -> set[str]:
    """The manifest and the indexes of the repository that list it, themselves or through others."""
    found, newest = {digest.text}, {digest.text}
    while newest:
        newest = nesting.naming(connection, place, newest) - found
        found |= newest
    return found


# the whole gateway


def freeze(connection: Connection) -> tuple[str, int]:
    """Why the gateway is read-only, and since when in UNIX seconds; ("", 0) when it is not."""
    text = connection.execute(_FREEZE).scalar()
    return (_reason(text), int(json.loads(text)["since"])) if text else ("", 0)


def set_freeze(reason: str, now: int) -> Change:
    """Makes the gateway read-only for *reason*, or writable again for ""."""

    def apply(connection: Connection) -> Notes:
        before, _ = freeze(connection)
        connection.execute(delete(facts).where(facts.c.name == _FROZEN))
        if reason:
            value = json.dumps({"reason": reason, "since": now}, ensure_ascii=False)
            connection.execute(insert(facts).values(name=_FROZEN, value=value))
        return Notes(before={"read_only": before}, after={"read_only": reason})

    return Change(apply, policy=True)


def _reason(text: str | None) -> str:
    return str(json.loads(text)["reason"]) if text else ""
