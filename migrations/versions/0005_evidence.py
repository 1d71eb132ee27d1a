"""Evidence: checkpoints and their key, sinks, segments; and the one way that events may leave the chain."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_ID = sa.BigInteger().with_variant(sa.INTEGER(), "sqlite")
_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

# An event may leave only when a segment that covers it is recorded.
_SQLITE = """
CREATE TRIGGER events_keep_delete BEFORE DELETE ON events
WHEN OLD.seq > (SELECT COALESCE(MAX(last_seq), 0) FROM segments)
BEGIN
    SELECT RAISE(ABORT, 'events are only ever appended');
END
"""
_POSTGRESQL = (
    """
CREATE FUNCTION events_keep_unsealed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.seq > (SELECT COALESCE(MAX(last_seq), 0) FROM segments) THEN
        RAISE EXCEPTION 'events are only ever appended';
    END IF;
    RETURN OLD;
END
$$
""",
    "DROP TRIGGER events_keep_delete ON events",
    """
CREATE TRIGGER events_keep_delete BEFORE DELETE ON events FOR EACH ROW EXECUTE FUNCTION events_keep_unsealed()
""",
    # The role that serves may not delete events; this function may, and only what a segment covers.
    """
CREATE FUNCTION events_leave(until bigint) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT AS $$
DECLARE gone bigint;
BEGIN
    DELETE FROM events
    WHERE seq <= until AND seq <= (SELECT COALESCE(MAX(last_seq), 0) FROM segments);
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END
$$
""",
    "REVOKE ALL ON FUNCTION events_leave(bigint) FROM PUBLIC",
)


def upgrade() -> None:
    op.create_table(
        "checkpoint_keys",
        sa.Column("kid", sa.String(length=64), nullable=False),
        sa.Column("public", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kid", name=op.f("pk_checkpoint_keys")),
    )
    op.create_table(
        "checkpoints",
        sa.Column("number", _ID, autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_checkpoints")),
    )
    op.create_index(op.f("ix_checkpoints_seq"), "checkpoints", ["seq"], unique=False)
    op.create_table(
        "segments",
        sa.Column("last_seq", _ID, autoincrement=False, nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("first_time", sa.String(length=27), nullable=False),
        sa.Column("last_time", sa.String(length=27), nullable=False),
        sa.Column("previous_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("last_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("file_bytes", sa.BigInteger(), nullable=False),
        sa.Column("file_sha256", sa.String(length=64), nullable=False),
        sa.Column("stub", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("last_seq", name=op.f("pk_segments")),
    )
    op.create_table(
        "sinks",
        sa.Column("name", _NAME, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("checkpoint", sa.BigInteger(), nullable=False),
        sa.Column("delivered_at", sa.BigInteger(), nullable=True),
        sa.Column("failing_since", sa.BigInteger(), nullable=True),
        sa.Column("trouble", sa.Text(), server_default="", nullable=False),
        sa.Column("wanted", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_sinks")),
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER events_keep_delete")
        op.execute(_SQLITE)
    else:
        for statement in _POSTGRESQL:
            op.execute(statement)
