"""The bytes of what is in the trash apart from what is listed: whoever looked into it read all that was thrown away.

Both steps take as long as there are bytes in the trash, and no more memory than a page of the database's own.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_MOVED = "INSERT INTO trash_bodies (trash_id, content) SELECT id, content FROM trash WHERE content IS NOT NULL"
_SIZED = "UPDATE trash SET size_bytes = LENGTH(content) WHERE content IS NOT NULL"


def upgrade() -> None:
    op.create_table(
        "trash_bodies",
        sa.Column("trash_id", _ID, autoincrement=False, nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["trash_id"], ["trash.id"], name=op.f("fk_trash_bodies_trash_id_trash"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("trash_id", name=op.f("pk_trash_bodies")),
    )
    op.execute(_MOVED)
    op.add_column("trash", sa.Column("size_bytes", sa.BigInteger(), server_default="0", nullable=False))
    op.execute(_SIZED)
    op.drop_column("trash", "content")
