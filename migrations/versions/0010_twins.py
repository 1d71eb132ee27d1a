"""Under which SHA-256 a registry behind holds what was pushed to it by another digest: a deletion takes both names."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "twins",
        sa.Column("digest", sa.String(length=135), nullable=False),
        sa.Column("sha256", sa.String(length=71), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_twins")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_twins_sha256", "twins", ["sha256"])
