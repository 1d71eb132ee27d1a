"""The tables of what a registry behind us cannot be told or asked: hidden tags, other names of blobs, promised room."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, String, Table, text

from gateway.records.schema import _Id, _Name, metadata

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

#: What the acts of intents will bring, by which their project's room is counted, and what manifests on their way name.
promises = Table(
    "promises",
    metadata,
    Column("intent_id", String(36), ForeignKey("intents.id", ondelete="CASCADE"), primary_key=True),
    Column("of_manifest", Boolean, primary_key=True),  # or of a blob
    Column("digest", String(135), primary_key=True),
    Column("project", _Name, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),  # 0: it takes no room, and is only named
    Index(None, "digest"),
    Index(
        "ix_promises_project_size_bytes",
        *("project", "of_manifest", "digest", "size_bytes"),
        sqlite_where=text("size_bytes > 0"),
        postgresql_where=text("size_bytes > 0"),
    ),
    sqlite_with_rowid=False,
)
