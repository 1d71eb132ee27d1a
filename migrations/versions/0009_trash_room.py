"""How much of its room in the trash a project has taken: counted as it changes, not summed for each that is deleted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_TAKEN = """
UPDATE projects SET trash_bytes = (
    SELECT COALESCE(SUM(LENGTH(trash.content)), 0)
    FROM trash JOIN repositories ON repositories.id = trash.repository_id
    WHERE repositories.project_id = projects.id
)
"""


def upgrade() -> None:
    op.add_column("projects", sa.Column("trash_bytes", sa.BigInteger(), server_default="0", nullable=False))
    op.execute(_TAKEN)
