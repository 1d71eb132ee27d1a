"""Rules of projects: quota with what is used of it, immutable tags, read-only."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

#: Each digest counts once in a project, whichever of its repositories hold it.
_USED = """
UPDATE projects SET used_bytes = (
    SELECT COALESCE(SUM(blobs.size_bytes), 0) FROM blobs WHERE blobs.digest IN (
        SELECT links.digest FROM links JOIN repositories ON repositories.id = links.repository_id
        WHERE repositories.project_id = projects.id
    )
) + (
    SELECT COALESCE(SUM(kept.size_bytes), 0) FROM (
        SELECT DISTINCT repositories.project_id, manifests.digest, manifests.size_bytes
        FROM manifests JOIN repositories ON repositories.id = manifests.repository_id
    ) AS kept
    WHERE kept.project_id = projects.id
)
"""


def upgrade() -> None:
    op.add_column("projects", sa.Column("quota_bytes", sa.BigInteger(), nullable=True))
    op.add_column("projects", sa.Column("used_bytes", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("projects", sa.Column("immutable", sa.Text(), server_default="", nullable=False))
    op.add_column("projects", sa.Column("read_only", sa.Text(), server_default="", nullable=False))
    op.execute(_USED)
