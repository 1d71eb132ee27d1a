"""Whether manifests, their edges and tags agree with the bytes of the manifests, and what these need is there.

What is read page by page may be moving; what looks wrong is looked at again under the writers' lock, and only told of
if it still is.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, exists, func, literal, select, tuple_

from gateway.errors import Refusal
from gateway.flaws import Flaw, FlawKind, Mend, Progress
from gateway.oci.digest import Digest
from gateway.oci.manifest import Manifest, load
from gateway.oci.media import MANIFEST_MEDIA_TYPES
from gateway.oci.names import Repository
from gateway.records import content, rebuilding
from gateway.records.annotating import OF_MANIFEST
from gateway.records.database import Database, is_damage
from gateway.records.examination import blob_size
from gateway.records.listings import fitting
from gateway.records.recounting import counter_flaws
from gateway.records.schema import edges, links, manifest_annotations, manifest_bodies, manifests, repositories, tags

_PAGE: Final = 200
_PAGE_BYTES: Final = 16 * 1024 * 1024
#: Of one kind of dangling row; when there are more, what is wrong is known well enough.
_DANGLING: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Fault:
    """What is wrong with a manifest; *missing* is what it needs and its repository lacks."""

    kind: FlawKind
    text: str
    missing: Digest | None = None


def record_flaws(database: Database, *, whole: bool, tell: Callable[[Progress], None]) -> Iterator[Flaw]:
    """
    What is wrong with the database itself, with manifests, edges and tags, and with the counters of the trail; blocks.

    Where the database is damaged that is told first, and the rest as far as it can be read.

    Unless *whole*, another registry keeps the content: only such manifests are judged whose bytes are kept here.
    """
    told = False
    parts = (_unsoundness(database), _manifests(database, whole, tell), *((_dangling(database),) if whole else ()))
    for part in (*parts, counter_flaws(database, tell)):
        try:
            for flaw in part:
                told = told or flaw.kind is FlawKind.DATABASE
                yield flaw
        except Exception as error:
            # What one part could not read says nothing of the others.
            if not is_damage(error):
                raise
            if not told:
                told = True
                yield damaged("some of it cannot be read")


def damaged(what: str) -> Flaw:
    """The database's file is damaged, and *what* is seen of it."""
    text = f"The database is damaged: {what}; keep a copy, restore a backup (docs/backup.md)."
    return Flaw(FlawKind.DATABASE, "gateway.db", text)


def _unsoundness(database: Database) -> Iterator[Flaw]:
    if database.sqlite:
        for line in database.read_now(_unsound):
            yield damaged(line)


def _manifests(database: Database, whole: bool, tell: Callable[[Progress], None]) -> Iterator[Flaw]:
    count = database.read_now(_count)
    done, after = 0, (0, "")
    while True:
        rows = database.read_now(partial(following, after=after))
        for place, digest in database.read_now(partial(_suspicious, rows=rows, whole=whole)):
            yield from _confirmed(database, place, digest, whole=whole)
        if not rows:
            break
        done, after = done + len(rows), (rows[-1].repository_id, rows[-1].digest)
        tell(Progress("manifests", done, max(count, done)))


def _unsound(connection: Connection) -> list[str]:
    found = [str(line) for line in connection.exec_driver_sql("PRAGMA quick_check(10)").scalars()]
    return [] if found == ["ok"] else found


def _count(connection: Connection) -> int:
    return int(connection.execute(select(func.count()).select_from(manifests)).scalar_one())


def _rows() -> Select[Any]:
    return (
        select(
            manifests,
            manifest_annotations.c.content.label("annotations"),
            manifest_bodies.c.content,
            repositories.c.name,
        )
        .join(repositories, repositories.c.id == manifests.c.repository_id)
        .outerjoin(manifest_bodies, manifest_bodies.c.digest == manifests.c.digest)
        .outerjoin(manifest_annotations, OF_MANIFEST)
    )


def following(connection: Connection, after: tuple[int, str]) -> list[Row[Any]]:
    """The next rows after the key *after*: as many as may be in memory with their bytes."""
    key = (manifests.c.repository_id, manifests.c.digest)
    while True:
        behind = tuple_(*key) > tuple_(*map(literal, after))
        sizes = select(*key, manifests.c.size_bytes).where(behind).order_by(*key).limit(_PAGE)
        weighed = connection.execute(sizes).all()
        if not weighed:
            return []
        last = weighed[fitting([row.size_bytes for row in weighed], _PAGE_BYTES) - 1]
        after = (last.repository_id, last.digest)
        wanted = _rows().where(behind, tuple_(*key) <= tuple_(*map(literal, after)))
        # All of them may have gone since they were weighed.
        if rows := connection.execute(wanted.order_by(*key)).all():
            return list(rows)


def _suspicious(connection: Connection, rows: Sequence[Row[Any]], *, whole: bool) -> list[tuple[int, str]]:
    """Which of *rows* look wrong."""
    return [(row.repository_id, row.digest) for row, _ in _judged(connection, rows, whole=whole)]


def _confirmed(database: Database, place: int, digest: str, *, whole: bool) -> Iterator[Flaw]:
    """What is wrong with one manifest while nobody writes."""
    mine = (manifests.c.repository_id == place) & (manifests.c.digest == digest)

    def again(connection: Connection) -> list[tuple[Row[Any], list[_Fault]]]:
        return _judged(connection, connection.execute(_rows().where(mine)).all(), whole=whole)

    with database.lock():
        found = database.read_now(again)
    for row, faults in found:
        for fault in faults:
            mend = partial(_mended, database, fault, Repository(row.name), Digest(digest))
            yield Flaw(fault.kind, digest, fault.text, row.name, mend)


def _mended(database: Database, fault: _Fault, repository: Repository, digest: Digest) -> Mend | None:
    match fault.kind:
        case FlawKind.MANIFEST_FIELDS | FlawKind.MANIFEST_EDGES:
            return Mend("recorded anew as its bytes say", rebuilding.rebuild(repository, digest))
        case FlawKind.MANIFEST_BYTES:
            change = rebuilding.drop_body(repository, digest)
            return Mend("the bytes were removed; push the manifest again", change, whole=False)
        case FlawKind.MANIFEST_INCOMPLETE if fault.missing is not None:
            missing = fault.missing
            if database.read_now(lambda connection: blob_size(connection, missing)) is None:
                return None
            return Mend("linked again", rebuilding.link_again(repository, missing, int(time.time())))
        case _:
            return None


def _judged(connection: Connection, rows: Sequence[Row[Any]], *, whole: bool) -> list[tuple[Row[Any], list[_Fault]]]:
    if not rows:
        return []
    loaded = [(row, _load(row)) for row in rows]
    named = _edges(connection, rows)
    held = _held(connection, [(row.repository_id, each) for row, each in loaded if isinstance(each, Manifest)])
    judged = []
    for row, manifest in loaded:
        edged, there = named[row.repository_id, row.digest], held[row.repository_id]
        faults = list(_faults(row, manifest, edged, there, whole=whole))
        if faults:
            judged.append((row, faults))
    return judged


def _load(row: Row[Any]) -> Manifest | _Fault | None:
    """The manifest, what is wrong with its bytes, or None without any."""
    if row.content is None:
        return None
    stored, digest = bytes(row.content), Digest(row.digest)
    if Digest.of(stored, digest.algorithm) != digest:
        return _Fault(FlawKind.MANIFEST_BYTES, f"The bytes of manifest {digest} do not have that digest.")
    try:
        return load(stored, row.media_type, algorithm=digest.algorithm, limit_bytes=max(1, len(stored)))
    except Refusal as refusal:
        return _Fault(FlawKind.MANIFEST_UNREADABLE, f"Manifest {digest} cannot be read: {refusal.message}")


def _faults(
    row: Row[Any], manifest: Manifest | _Fault | None, named: set[str], held: set[str], *, whole: bool
) -> Iterator[_Fault]:
    if manifest is None:
        if whole:
            text = f"The bytes of manifest {row.digest} are missing; push it again."
            yield _Fault(FlawKind.MANIFEST_MISSING, text)
        return
    if isinstance(manifest, _Fault):
        yield manifest
        return
    if not rebuilding.agrees(row, manifest):
        text = f"What is recorded of manifest {row.digest} is not what its bytes say."
        yield _Fault(FlawKind.MANIFEST_FIELDS, text)
    wanted = {digest.text for digest in manifest.references}
    if named != wanted:
        text = f"Of what manifest {row.digest} names, {len(named ^ wanted)} are recorded wrongly."
        yield _Fault(FlawKind.MANIFEST_EDGES, text)
    if whole:
        yield from _missing(manifest, held)


def _missing(manifest: Manifest, held: set[str]) -> Iterator[_Fault]:
    listed = {each.digest for each in manifest.manifests if each.media_type in MANIFEST_MEDIA_TYPES}
    for digest in manifest.required:
        if digest.text in held:
            continue
        if digest in listed:
            text = f"Index {manifest.digest} lists {digest}, which was deleted here."
            yield _Fault(FlawKind.INDEX_INCOMPLETE, text)
        else:
            text = f"Manifest {manifest.digest} needs {digest}, which is not linked here."
            yield _Fault(FlawKind.MANIFEST_INCOMPLETE, text, digest)


def _edges(connection: Connection, rows: Sequence[Row[Any]]) -> defaultdict[tuple[int, str], set[str]]:
    found: defaultdict[tuple[int, str], set[str]] = defaultdict(set)
    places, sources = {row.repository_id for row in rows}, {row.digest for row in rows}
    statement = select(edges).where(edges.c.repository_id.in_(places), edges.c.source.in_(sources))
    for row in connection.execute(statement):
        found[row.repository_id, row.source].add(row.target)
    return found


def _held(connection: Connection, wanting: Sequence[tuple[int, Manifest]]) -> defaultdict[int, set[str]]:
    """What each repository holds of what its manifests require."""
    wanted: defaultdict[int, set[str]] = defaultdict(set)
    for place, manifest in wanting:
        wanted[place].update(digest.text for digest in manifest.required)
    found: defaultdict[int, set[str]] = defaultdict(set)
    for place, digests in wanted.items():
        asked = sorted(digests)
        found[place] = content.held(connection, links, place, asked) | content.held(connection, manifests, place, asked)
    return found


# what points at nothing


def _dangling(database: Database) -> Iterator[Flaw]:
    with database.lock():
        lost_tags = database.read_now(_tags_without_manifest)
        lost_edges = database.read_now(_edges_without_source)
    for row in lost_tags:
        text = f"Tag {row.tag} points at {row.digest}, which is not here; push it again, or remove the tag."
        yield Flaw(FlawKind.TAG_DANGLING, row.tag, text, row.name)
    for row in lost_edges:
        text = f"Manifest {row.source} is not here, and what it names is recorded."
        mend = partial(_without_edges, Repository(row.name), Digest(row.source))
        yield Flaw(FlawKind.EDGE_DANGLING, row.source, text, row.name, mend)


def _without_edges(repository: Repository, source: Digest) -> Mend:
    return Mend("removed", rebuilding.drop_edges(repository, source))


def _tags_without_manifest(connection: Connection) -> list[Row[Any]]:
    kept = exists().where(manifests.c.repository_id == tags.c.repository_id, manifests.c.digest == tags.c.digest)
    statement = (
        select(tags.c.name.label("tag"), tags.c.digest, repositories.c.name)
        .join(repositories, repositories.c.id == tags.c.repository_id)
        .where(~kept)
    )
    return [*connection.execute(statement.limit(_DANGLING))]


def _edges_without_source(connection: Connection) -> list[Row[Any]]:
    kept = exists().where(manifests.c.repository_id == edges.c.repository_id, manifests.c.digest == edges.c.source)
    statement = (
        select(edges.c.source, repositories.c.name)
        .join(repositories, repositories.c.id == edges.c.repository_id)
        .where(~kept)
        .distinct()
    )
    return [*connection.execute(statement.limit(_DANGLING))]
