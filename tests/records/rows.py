"""Rows put into a test's database directly, where the act that would make them belongs to another room."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from sqlalchemy import Column, Connection, insert, select

from gateway.audit.event import Event, Kind
from gateway.change import Change, Notes
from gateway.gate import Act
from gateway.records import usage
from gateway.records.schema import blobs, links, manifests, offline_tokens, projects, repositories, tags, uploads
from tests.house import GATEWAY, House


def written(house: House, write: Callable[[Connection], Any]) -> Any:
    """*write*'s answer, after it was committed by the ledger."""
    change = Change(lambda connection: Notes(result=write(connection)), policy=True)
    return house.run(house.ledger.commit(Act(Event(Kind.GATEWAY_START, GATEWAY), change))).result


def column(house: House, wanted: Column[Any]) -> list[Any]:
    """Every value of a column."""
    return list(house.database.read_now(lambda connection: connection.execute(select(wanted)).scalars().all()))


def an_offline_token(house: House, account: int) -> int:
    """An offline token of the account; returns its number."""
    row = {"account_id": account, "hashed": secrets.token_hex(32), "service": "registry", "client": "docker"}

    def write(connection: Connection) -> int:
        made = connection.execute(insert(offline_tokens).values(**row, address="192.0.2.7", created_at=1))
        return int(made.inserted_primary_key[0])

    return int(written(house, write))


def a_repository(house: House, name: str, *, blob: str = "sha256:" + "a" * 64, size_bytes: int = 100) -> None:
    """A repository with a blob of *size_bytes*, a manifest of 10 bytes, a tag `v1` and an open upload."""

    def write(connection: Connection) -> None:
        project = connection.execute(select(projects.c.id).where(projects.c.name == name.partition("/")[0])).scalar()
        made = connection.execute(insert(repositories).values(project_id=project, name=name, created_at=1))
        repository = int(made.inserted_primary_key[0])
        if connection.execute(select(blobs).where(blobs.c.digest == blob)).first() is None:
            connection.execute(insert(blobs).values(digest=blob, size_bytes=size_bytes, created_at=1))
        connection.execute(insert(links).values(repository_id=repository, digest=blob, created_at=1))
        digest = "sha256:" + "b" * 64
        body = {"media_type": "application/vnd.oci.image.manifest.v1+json", "size_bytes": 10}
        pushed = {"repository_id": repository, "digest": digest, "pushed_at": 1, "pushed_by": "user:1"}
        connection.execute(insert(manifests).values(**body, **pushed))
        moved = {"name": "v1", "digest": digest, "moved_at": 1, "moved_by": "user:1"}
        connection.execute(insert(tags).values(repository_id=repository, **moved))
        upload = {"id": secrets.token_hex(8), "repository": name, "owner": "user:1", "offset_bytes": 0}
        times = {"prefix_digest": "sha256:" + "c" * 64, "begun_at": 1, "expires_at": 2**31}
        connection.execute(insert(uploads).values(**upload, **times))
        if project is not None:
            usage.recount(connection, project)

    written(house, write)
