"""The tables of evidence that leaves the host: checkpoints, segments, and how far each sink has got."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, LargeBinary, String, Table, Text

from gateway.records.kept import HASH
from gateway.records.schema import _Id, _Name, metadata

#: The key that signs checkpoints; of several, the newest does.
checkpoint_keys = Table(
    "checkpoint_keys",
    metadata,
    Column("kid", String(64), primary_key=True),
    Column("public", Text, nullable=False),  # PEM
    Column("sealed", LargeBinary, nullable=False),  # encrypted under a key of the data directory
    Column("created_at", BigInteger, nullable=False),
)

#: Signed statements of where the chain stood; of those about the same event, the newest is kept.
checkpoints = Table(
    "checkpoints",
    metadata,
    Column("number", _Id, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False, index=True),
    Column("made_at", BigInteger, nullable=False),
    Column("line", Text, nullable=False),  # JSON, with its signature
)

#: Old events, sealed into files under segments/ in the data directory; what they cover may leave `events`.
segments = Table(
    "segments",
    metadata,
    Column("last_seq", _Id, primary_key=True, autoincrement=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("first_time", String(27), nullable=False),
    Column("last_time", String(27), nullable=False),
    Column("previous_hash", HASH, nullable=False),
    Column("last_hash", HASH, nullable=False),
    Column("file", Text, nullable=False),  # its name, without folder
    Column("file_bytes", BigInteger, nullable=False),
    Column("file_sha256", String(64), nullable=False),
    Column("stub", Text, nullable=False, server_default=""),  # signed, once the file was purged
)

#: How far each sink has got, and what keeps it.
sinks = Table(
    "sinks",
    metadata,
    Column("name", _Name, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("place", Text, nullable=False),  # where it leads, without secrets
    Column("seq", BigInteger, nullable=False),  # of the last event that was delivered
    Column("checkpoint", BigInteger, nullable=False),  # the number of the last one that was delivered
    Column("delivered_at", BigInteger),
    Column("failing_since", BigInteger),  # NULL while all is well
    Column("trouble", Text, nullable=False, server_default=""),
    Column("wanted", Boolean, nullable=False),  # whether the settings still name it
)
