"""Promises: what acts begun in the registry behind will bring into a project, and what manifests on their way name.

Each is a row of an intent's, and goes with it. They are counted where they lie: whoever is about to begin reads nothing
of what others' acts hold, however much that is.

A digest that is promised more than once is worth the largest of its sizes. One of them may be a lie: a manifest says
what it likes of its layers, an upload under which digest it came. A lie that is too large holds room until its act is
over, as one about a digest that nobody has does.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Connection,
    Insert,
    Select,
    Table,
    Text,
    bindparam,
    cast,
    column,
    delete,
    func,
    insert,
    literal_column,
    select,
)
from sqlalchemy.types import TypeEngine

from gateway.oci.digest import Digest
from gateway.oci.names import ProjectName, Repository
from gateway.records import driver
from gateway.records.behind_tables import promises
from gateway.records.schema import intents, manifests, projects, repositories

#: That many promises of room are counted for each act that begins; all of an image are few, and of most pushes one.
MOST_PROMISED: Final = 10_000

_Row = tuple[bool, str]

_KEPT: Final = select(promises.c.of_manifest, promises.c.digest, promises.c.size_bytes).where(
    promises.c.intent_id == bindparam("intent_id")
)
# Spelled out, as in the index of those that take room: of a value nobody knows beforehand that it is none.
_TAKING_ROOM: Final = (promises.c.project == bindparam("project")) & (promises.c.size_bytes > literal_column("0"))
_OTHERS: Final = ~driver.among(promises.c.intent_id, "but")
_COUNT: Final = select(func.count()).select_from(promises).where(_TAKING_ROOM, _OTHERS)
_LARGEST: Final = (
    select(promises.c.digest, func.max(promises.c.size_bytes).label("size_bytes"))
    .where(_TAKING_ROOM, _OTHERS, promises.c.of_manifest == bindparam("of_manifest"))
    .group_by(promises.c.digest)
)
_OF_SOME: Final = _LARGEST.where(driver.among(promises.c.digest, "some"))
_NAMED: Final = (
    select(promises.c.digest, intents.c.act)
    .join(intents, intents.c.id == promises.c.intent_id)
    .where(
        driver.among(promises.c.digest, "some"),
        promises.c.of_manifest == bindparam("of_manifest"),
        intents.c.repository == bindparam("repository"),
        intents.c.kind == bindparam("kind"),
        _OTHERS,
    )
)


def keep(connection: Connection, intent_id: str, kind: str, repository: Repository, act: Mapping[str, Any]) -> None:
    """Keeps what the act of an open intent promises, and nothing else that it promised before."""
    wanted = _promised(kind, act)
    was = {(bool(row[0]), row[1]): row[2] for row in connection.execute(_KEPT, {"intent_id": intent_id})}
    if was == wanted:
        return
    if was:
        connection.execute(delete(promises).where(promises.c.intent_id == intent_id))
    if not wanted:
        return
    told = {"intent_id": intent_id, "project": repository.project.name}
    if connection.dialect.name == "sqlite":
        rows = [{**told, "of_manifest": row[0], "digest": row[1], "size_bytes": size} for row, size in wanted.items()]
        connection.execute(insert(promises), rows)
        return
    # One statement, however many: each that PostgreSQL is told keeps everybody else waiting for as long as it takes.
    columns = {"of_manifest": [row[0] for row in wanted], "digest": [row[1] for row in wanted]}
    connection.execute(_all_at_once(), {**told, **columns, "size_bytes": list(wanted.values())})


def count(connection: Connection, project: ProjectName, but: Collection[str]) -> int:
    """How many promises take room in *project*; those of the intents *but* do not count."""
    [(found,)] = driver.rows(connection, _COUNT, _values(connection, project, but), anew=True)
    return int(found)


def bytes_beside(
    connection: Connection, project: ProjectName, table: Table, sizes: Mapping[str, int], but: Collection[str]
) -> int:
    """
    The bytes that others have promised to bring into *table* (links or manifests) of *project*, beside *sizes*.

    Each digest counts once, what the project holds already not at all, and of what is among *sizes*, which it does not
    hold, only by how much it is said to be larger. Promises of the intents *but* do not count.
    """
    values = {**_values(connection, project, but), "of_manifest": table is manifests}
    [(promised,)] = driver.rows(connection, _missing(table), values, anew=True)
    if not promised:
        return 0
    some = driver.rows(connection, _OF_SOME, {**values, "some": driver.listed(connection, sizes)}, anew=True)
    return int(promised) - sum(min(sizes[digest], int(size)) for digest, size in some)


def named(
    connection: Connection,
    repository: Repository,
    digests: Iterable[Digest],
    but: Collection[str],
    *,
    by_images: bool = False,
) -> frozenset[str]:
    """
    Those of the *digests* that a manifest names which is being pushed, or only *by_images*, which are no indexes; the
    intents *but* do not count.
    """
    values = {
        "some": driver.listed(connection, [digest.text for digest in digests]),
        "but": driver.listed(connection, but),
        "of_manifest": False,
        "repository": repository.name,
        "kind": "manifest.push",
    }
    found = driver.rows(connection, _NAMED, values, anew=True)
    return frozenset(digest for digest, act in found if not (by_images and json.loads(act).get("index")))


def _promised(kind: str, act: Mapping[str, Any]) -> dict[_Row, int]:
    """What the act of an intent promises: whether it is a manifest, its digest, its size; 0 for what is only named."""
    size_bytes = int(act.get("size_bytes", 0))
    if kind != "manifest.push":
        return {(False, act["digest"]): size_bytes} if size_bytes else {}
    blobs = {**dict.fromkeys(act.get("names", ()), 0), **act.get("layers", {})}
    own = dict.fromkeys((act["digest"], act.get("pushed", act["digest"])), size_bytes)
    return {(False, digest): size for digest, size in blobs.items()} | {(True, each): own[each] for each in own}


@lru_cache
def _all_at_once() -> Insert:
    """The statement that keeps rows whose columns are given as arrays."""
    kinds: dict[str, TypeEngine[Any]] = {"of_manifest": Boolean(), "digest": Text(), "size_bytes": BigInteger()}
    given = func.unnest(*(cast(bindparam(name), ARRAY(kind)) for name, kind in kinds.items()))
    rows = given.table_valued(*(column(name, kind) for name, kind in kinds.items())).render_derived()
    same = (bindparam("intent_id", type_=Text), bindparam("project", type_=Text))
    return insert(promises).from_select(["intent_id", "project", *kinds], select(*same, *rows.c))


def _values(connection: Connection, project: ProjectName, but: Collection[str]) -> dict[str, object]:
    return {"project": project.name, "but": driver.listed(connection, but)}


@lru_cache
def _missing(table: Table) -> Select[Any]:
    """The bytes of what is promised, each digest once, that the project holds nowhere in *table*."""
    largest = _LARGEST.subquery()
    # One value for each: PostgreSQL would else go through all that the project holds, to compare it with a few.
    held = (
        select(table.c.digest)
        .join(repositories, repositories.c.id == table.c.repository_id)
        .join(projects, projects.c.id == repositories.c.project_id)
        .where(projects.c.name == bindparam("project"), table.c.digest == largest.c.digest)
        .limit(literal_column("1"))
        .scalar_subquery()
    )
    return select(func.coalesce(func.sum(largest.c.size_bytes), 0)).where(held.is_(None))
