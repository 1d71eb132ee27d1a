"""Annotations apart from what is listed: whoever went through manifests read all that their pushers had written there.

Both steps take as long as there are annotations, and no more memory than a page of the database's own.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_MOVED = """
INSERT INTO manifest_annotations (repository_id, digest, content)
SELECT repository_id, digest, annotations FROM manifests WHERE annotations <> '{}'
"""


def upgrade() -> None:
    op.create_table(
        "manifest_annotations",
        sa.Column("repository_id", _ID, nullable=False),
        sa.Column("digest", sa.String(135), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id", "digest"],
            ["manifests.repository_id", "manifests.digest"],
            name=op.f("fk_manifest_annotations_repository_id_digest"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("repository_id", "digest", name=op.f("pk_manifest_annotations")),
    )
    op.execute(_MOVED)
    op.drop_column("manifests", "annotations")
