"""What acts on their way promise and name, in rows: whoever began another read all of it, and held up everybody else.

Acts that are open now keep what they promise; as a rule there are none, and never many.
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("intents", sa.Column("before", sa.Text()))
    op.create_table(
        "promises",
        sa.Column("intent_id", sa.String(length=36), nullable=False),
        sa.Column("of_manifest", sa.Boolean(), nullable=False),
        sa.Column("digest", sa.String(length=135), nullable=False),
        sa.Column("project", _NAME, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["intent_id"], ["intents.id"], name=op.f("fk_promises_intent_id_intents"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("intent_id", "of_manifest", "digest", name=op.f("pk_promises")),
        sqlite_with_rowid=False,
    )
    _move()
    op.create_index(op.f("ix_promises_digest"), "promises", ["digest"])
    op.create_index(
        "ix_promises_project_size_bytes",
        "promises",
        ["project", "of_manifest", "digest", "size_bytes"],
        sqlite_where=sa.text("size_bytes > 0"),
        postgresql_where=sa.text("size_bytes > 0"),
    )


def _move() -> None:
    """Takes what open acts promise out of them, one after the other: each may be large."""
    connection = op.get_bind()
    intents = sa.table("intents", *(sa.column(name) for name in ("id", "kind", "repository", "act", "before")))
    columns = ("intent_id", "of_manifest", "digest", "project", "size_bytes")
    promises = sa.table("promises", *(sa.column(name) for name in columns))
    for intent_id in connection.execute(sa.select(intents.c.id)).scalars().all():
        mine = intents.c.id == intent_id
        kind, repository, text = connection.execute(
            sa.select(intents.c.kind, intents.c.repository, intents.c.act).where(mine)
        ).one()
        act = json.loads(text)
        told = {"intent_id": intent_id, "project": repository.partition("/")[0]}
        rows = [
            {**told, "of_manifest": of_manifest, "digest": digest, "size_bytes": size_bytes}
            for of_manifest, digest, size_bytes in _promised(kind, act)
        ]
        if rows:
            connection.execute(sa.insert(promises), rows)
        before = act.pop("before", None)
        left = {name: value for name, value in act.items() if name not in {"names", "layers"}}
        changed = {
            "act": json.dumps(left, ensure_ascii=False),
            "before": None if before is None else json.dumps(before, ensure_ascii=False),
        }
        connection.execute(sa.update(intents).where(mine).values(changed))


def _promised(kind: str, act: dict[str, Any]) -> list[tuple[bool, str, int]]:
    size_bytes = int(act.get("size_bytes", 0))
    if kind != "manifest.push":
        return [(False, act["digest"], size_bytes)] if size_bytes else []
    blobs = {**dict.fromkeys(act.get("names", ()), 0), **act.get("layers", {})}
    own = dict.fromkeys((act["digest"], act.get("pushed", act["digest"])), size_bytes)
    return [(False, *each) for each in blobs.items()] + [(True, *each) for each in own.items()]
