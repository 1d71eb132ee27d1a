"""Personal access tokens, sessions of the console, second factors, and robots with two live secrets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import sqlite

revision = "0004"
down_revision = "0003"

_Id = sa.BigInteger().with_variant(sqlite.INTEGER(), "sqlite")


def _account() -> sa.Column[int]:
    return sa.Column("account_id", _Id, sa.ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False)


def _identity() -> sa.Column[int]:
    return sa.Column("id", _Id, sa.Identity(always=False), primary_key=True)


def upgrade() -> None:
    op.create_table(
        "personal_tokens",
        _identity(),
        _account(),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("hashed", sa.String(64), nullable=False, unique=True),
        sa.Column("actions", sa.String(64), nullable=False),
        sa.Column("projects", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.UniqueConstraint("account_id", "name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "sessions",
        _identity(),
        _account(),
        sa.Column("hashed", sa.String(64), nullable=False, unique=True),
        sa.Column("csrf", sa.String(64), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_sessions_account_id", "sessions", ["account_id"])
    op.create_index("ix_sessions_expires_at", "sessions", ["expires_at"])
    op.create_table(
        "second_factors",
        sa.Column("account_id", _Id, sa.ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("confirmed_at", sa.BigInteger(), nullable=True),
    )
    op.create_table(
        "recovery_codes",
        sa.Column("account_id", _Id, sa.ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("hashed", sa.String(64), primary_key=True),
    )
    op.add_column("accounts", sa.Column("used_at", sa.BigInteger(), nullable=True))
    op.add_column("accounts", sa.Column("former_secret", sa.Text(), nullable=True))
    op.add_column("accounts", sa.Column("former_until", sa.BigInteger(), nullable=True))
    op.add_column("accounts", sa.Column("former_used_at", sa.BigInteger(), nullable=True))
