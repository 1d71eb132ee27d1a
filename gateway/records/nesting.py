"""Nesting: indexes that list indexes, followed level by level; bounded, so that whoever follows them ends soon."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, Select, bindparam, select

from gateway.errors import ManifestInvalid
from gateway.oci.manifest import NESTING, Manifest
from gateway.oci.media import INDEX_MEDIA_TYPES
from gateway.records.schema import edges, manifests

_CHUNK: Final = 500
#: Indexes that are looked at for one push; honest ones hang together by a dozen.
_LOOKED: Final = 10_000

_SOME: Final[BindParameter[str]] = bindparam("some", expanding=True)
_PLACE: Final[BindParameter[int]] = bindparam("place")
_AN_INDEX: Final = (manifests.c.repository_id == _PLACE) & manifests.c.media_type.in_(sorted(INDEX_MEDIA_TYPES))
_AMONG: Final = select(manifests.c.digest).where(_AN_INDEX, manifests.c.digest.in_(_SOME))
_BELOW: Final = (
    select(edges.c.target)
    .join(manifests, manifests.c.digest == edges.c.target)
    .where(_AN_INDEX, edges.c.repository_id == _PLACE, edges.c.source.in_(_SOME))
)
_ABOVE: Final = select(edges.c.source).where(edges.c.repository_id == _PLACE, edges.c.target.in_(_SOME))


def require_shallow(connection: Connection, place: int, manifest: Manifest) -> None:
    """
    Raises `ManifestInvalid` if *manifest*, new in the repository *place*, joins more than 8 indexes in one chain, each
    listing the next: those that it lists, and those that list it already. One that is there was judged when it came.
    """
    digest = manifest.digest.text
    if not manifest.is_index or _found(connection, place, _AMONG, [digest]):
        return
    listed = [digest.text for digest in manifest.references]
    below = _levels(connection, place, _BELOW, _found(connection, place, _AMONG, listed))
    above = _levels(connection, place, _ABOVE, naming(connection, place, [digest]))
    if below + 1 + above > NESTING:
        raise ManifestInvalid(f"Nest indexes at most {NESTING} deep: list the images themselves in fewer indexes.")


def naming(connection: Connection, place: int, digests: Iterable[str]) -> set[str]:
    """The manifests of the repository that name one of *digests*."""
    return _found(connection, place, _ABOVE, digests)


def _levels(connection: Connection, place: int, step: Select[Any], level: set[str]) -> int:
    """How many levels there are from *level* on, of which each *step* leads to the next; few more than may be."""
    count = looked = 0
    while level and count <= NESTING:
        count, looked = count + 1, looked + len(level)
        if looked > _LOOKED:
            raise ManifestInvalid(f"List fewer indexes: more than {_LOOKED} hang together with this one.")
        level = _found(connection, place, step, level)
    return count


def _found(connection: Connection, place: int, statement: Select[Any], digests: Iterable[str]) -> set[str]:
    wanted, found = list(digests), set[str]()
    for start in range(0, len(wanted), _CHUNK):
        some = wanted[start : start + _CHUNK]
        found.update(connection.execute(statement, {"place": place, "some": some}).scalars())
    return found
