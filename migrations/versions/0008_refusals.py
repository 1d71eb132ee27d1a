"""An index of what was refused or failed in each project: a search for it does not go through all the others."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_NOT_ALLOWED = "outcome <> 'allowed'"


def upgrade() -> None:
    op.create_index(
        "ix_event_index_project_outcome_seq",
        "event_index",
        ["project", "outcome", "seq"],
        sqlite_where=sa.text(_NOT_ALLOWED),
        postgresql_where=sa.text(_NOT_ALLOWED),
    )
