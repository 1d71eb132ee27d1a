"""What projects keep of their tags, as it is on record; and tags that go, with what nothing names any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, select, update

from gateway.access.retention import Retention, TagState, subject_of
from gateway.access.rules import Rules
from gateway.change import Change, Notes
from gateway.errors import Unknown
from gateway.oci.digest import Digest
from gateway.oci.names import ProjectName, Repository
from gateway.records import content, rules, sweeping, trash
from gateway.records.schema import edges, manifests, projects, repositories, tags
from gateway.records.trash import Bin

#: Manifests that nothing names any more may name others: so deep an index of indexes is followed.
_DEPTH: Final = 16
_CHUNK: Final = 500
_GRACE: Final = 86_400
_REMOVE: Final = delete(tags).where(tags.c.repository_id == bindparam("place"), tags.c.name == bindparam("tag"))
_NAMED: Final = select(edges.c.target).where(
    edges.c.repository_id == bindparam("place"), edges.c.source == bindparam("it")
)
_ABOUT: Final = select(manifests.c.digest).where(
    manifests.c.repository_id == bindparam("place"), manifests.c.subject == bindparam("it")
)
_PUSHED: Final = select(manifests.c.pushed_at).where(
    manifests.c.repository_id == bindparam("place"), manifests.c.digest == bindparam("it")
)
_OF_TAG: Final = (manifests.c.repository_id == tags.c.repository_id) & (manifests.c.digest == tags.c.digest)
_STATES: Final = select(tags.c.name, tags.c.digest, tags.c.moved_at, manifests.c.pushed_at).outerjoin(
    manifests, _OF_TAG
)


def of_project(connection: Connection, project: ProjectName) -> tuple[Retention, Rules]:
    """What the project keeps, and its rules; raises `Unknown`."""
    row = connection.execute(select(projects).where(projects.c.name == project.name)).first()
    if row is None:
        raise Unknown(f"There is no project {project}; list the projects to see how they are spelled.")
    retention = Retention(row.retain_last, tuple(row.retain_matching.split()), row.retain_pulled_days)
    return retention, rules.read(connection, project)


def active(connection: Connection) -> list[ProjectName]:
    """The projects that do not keep everything, by name; not those that are read-only now."""
    if rules.freeze(connection)[0]:
        return []
    which = projects.c.retain_last.is_not(None) | projects.c.retain_pulled_days.is_not(None)
    statement = select(projects.c.name).where(which | (projects.c.retain_matching != ""), projects.c.read_only == "")
    return [ProjectName(name) for name in connection.execute(statement.order_by(projects.c.name)).scalars()]


def keep(project: ProjectName, retention: Retention) -> Change:
    """What the project keeps from now on; on commit raises `Unknown`."""

    def apply(connection: Connection) -> Notes:
        before, _ = of_project(connection, project)
        values = {
            "retain_last": retention.last,
            "retain_matching": "\n".join(retention.matching),
            "retain_pulled_days": retention.pulled_days,
        }
        connection.execute(update(projects).where(projects.c.name == project.name).values(values))
        return Notes(before={"keeps": str(before)}, after={"keeps": str(retention)})

    return Change(apply)


def tag_states(connection: Connection, names: Sequence[Repository]) -> dict[str, list[TagState]]:
    """Every tag, by name, of each of at most 1,000 repositories, by its name; nothing is said of pulls."""
    statement = (
        select(repositories.c.name.label("repository"), *_STATES.selected_columns)
        .select_from(repositories)
        .join(tags, repositories.c.id == tags.c.repository_id)
        .outerjoin(manifests, _OF_TAG)
        .where(repositories.c.name.in_([each.name for each in names]))
        .order_by(tags.c.name)
    )
    found: dict[str, list[TagState]] = {each.name: [] for each in names}
    for row in connection.execute(statement):
        found[row.repository].append(_state(row))
    return found


def _states_now(connection: Connection, place: int | None, names: Sequence[str]) -> dict[str, TagState]:
    found: dict[str, TagState] = {}
    for start in range(0, len(names), _CHUNK):
        some = tags.c.name.in_(names[start : start + _CHUNK])
        rows = connection.execute(_STATES.where(tags.c.repository_id == place, some))
        found.update({row.name: _state(row) for row in rows})
    return found


def _state(row: Any) -> TagState:
    return TagState(row.name, row.digest, row.moved_at, pushed_at=row.pushed_at or 0)


def remove(
    connection: Connection, repository: Repository, doomed: Sequence[TagState], bin: Bin, *, grace_seconds: int = _GRACE
) -> Notes:
    """
    Removes those of the tags *doomed* that are still as they were, then the manifests that nothing names any more.

    Of these, what was pushed again since the index that named it stays: whoever was told in the last *grace_seconds*
    that it is there may be about to push another one.

    The result is the names of the tags and the digests of the manifests. Raises `ReadOnly`; what has become immutable
    stays.
    """
    held = rules.require_writable(connection, repository.project)
    place = content.repository_id(connection, repository)
    gone: dict[str, str] = {}
    now = _states_now(connection, place, [tag.name for tag in doomed])
    for tag in sorted(doomed, key=lambda tag: bool(subject_of(tag.name))):
        if held.holding(tag.name) or now.get(tag.name) != replace(tag, pulled_at=None):
            continue
        # What a tag is about may have been pushed again since: then it is needed as well.
        subject = subject_of(tag.name)
        if subject and content.has(connection, tags, repository_id=place, digest=subject):
            continue
        trash.keep_tags(connection, place, [tag.name], tag.digest, bin)
        connection.execute(_REMOVE, {"place": place, "tag": tag.name})
        gone[tag.name] = tag.digest
    digests = list(gone.values())
    since = bin.now - grace_seconds
    removed, lost = (
        _remove_unnamed(connection, repository, place, digests, bin, since) if place is not None else ([], 0)
    )
    where = {"project": repository.project.name, "repository": repository.name}
    also = tuple(
        (
            "tag.delete",
            {**where, "reference": name, "digest": digest, "before": {"tags": {name: digest}}, "after": {"tags": {}}},
        )
        for name, digest in gone.items()
    )
    detail = {"tags": len(gone), "manifests": len(removed), **({"not_trashed": lost} if lost else {})}
    return Notes(detail=detail, result=(tuple(gone), tuple(removed)), also=also)


def _remove_unnamed(
    connection: Connection, repository: Repository, place: int, digests: Sequence[str], bin: Bin, since: int
) -> tuple[list[str], int]:
    """
    Removes those of *digests* that neither a tag nor a manifest names, what only they named, and what is about them:
    which ones, and for how many the trash had no room. What was pushed after *since* and after all that named it stays.
    """
    removed: list[str] = []
    lost = 0
    wanted = list(dict.fromkeys(digests))
    # When the last of those that named it was pushed.
    named: dict[str, int] = {}
    for _ in range(_DEPTH):
        loose = [digest for digest in wanted if _is_unnamed(connection, place, digest)]
        loose = [
            text for text in loose if text not in named or _pushed(connection, place, text) <= max(named[text], since)
        ]
        if not loose:
            break
        wanted = []
        for text in loose:
            digest, pushed_at = Digest(text), _pushed(connection, place, text)
            for target in connection.execute(_NAMED, {"place": place, "it": text}).scalars():
                named[target] = max(pushed_at, named.get(target, pushed_at))
                wanted.append(target)
            wanted += connection.execute(_ABOUT, {"place": place, "it": text}).scalars()
            sweeping.release(connection, repository, digest, bin.now)
            lost += not trash.keep_manifest(connection, place, digest, bin)
            content.forget_manifest(connection, place, digest)
            removed.append(text)
        wanted = list(dict.fromkeys(wanted))
    return removed, lost


def _pushed(connection: Connection, place: int, digest: str) -> int:
    return int(connection.execute(_PUSHED, {"place": place, "it": digest}).scalar_one())


def _is_unnamed(connection: Connection, place: int, digest: str) -> bool:
    return (
        content.has(connection, manifests, repository_id=place, digest=digest)
        and not content.has(connection, tags, repository_id=place, digest=digest)
        and not content.has(connection, edges, repository_id=place, target=digest)
    )
