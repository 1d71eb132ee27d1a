"""The tables of what a registry behind us cannot be told: tags that are hidden here, and the other names of blobs."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, String, Table

from gateway.records.schema import _Id, metadata

#: Tags that were removed here alone, while the registry behind us still has them: hidden as long as they are unmoved.
untagged = Table(
    "untagged",
    metadata,
    Column("repository_id", _Id, ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("name", String(128).with_variant(String(128, collation="C"), "postgresql"), primary_key=True),
    Column("digest", String(135), nullable=False),
    Column("removed_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

#: Blobs that came by another digest, and the SHA-256 by which a registry behind us links the same bytes: true anywhere.
twins = Table(
    "twins",
    metadata,
    Column("digest", String(135), primary_key=True),
    Column("sha256", String(71), nullable=False, index=True),
    sqlite_with_rowid=False,
)
