"""The trash: deleted tags and manifests, with what they name; and what projects keep of their tags."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TAG = sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "trash",
        sa.Column("id", _ID, sa.Identity(always=False), nullable=False),
        sa.Column("repository_id", _ID, nullable=False),
        sa.Column("tag", _TAG, nullable=False),
        sa.Column("digest", sa.String(135), nullable=False),
        sa.Column("media_type", sa.String(255), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=True),
        sa.Column("deleted_at", sa.BigInteger(), nullable=False),
        sa.Column("deleted_by", sa.Text(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"],
            ["repositories.id"],
            name=op.f("fk_trash_repository_id_repositories"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trash")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_trash_repository_id_digest", "trash", ["repository_id", "digest"])
    op.create_index("ix_trash_until", "trash", ["until"])
    op.create_table(
        "trash_targets",
        sa.Column("repository_id", _ID, nullable=False),
        sa.Column("target", sa.String(135), nullable=False),
        sa.Column("trash_id", _ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"],
            ["repositories.id"],
            name=op.f("fk_trash_targets_repository_id_repositories"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["trash_id"], ["trash.id"], name=op.f("fk_trash_targets_trash_id_trash"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("repository_id", "target", "trash_id", name=op.f("pk_trash_targets")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_trash_targets_trash_id", "trash_targets", ["trash_id"])
    op.add_column("projects", sa.Column("retain_last", sa.BigInteger(), nullable=True))
    op.add_column("projects", sa.Column("retain_matching", sa.Text(), server_default="", nullable=False))
    op.add_column("projects", sa.Column("retain_pulled_days", sa.BigInteger(), nullable=True))
