"""The tables of reviews and of what follows the chain for them: a page of `schema`, with which it is loaded."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, String, Table, Text, UniqueConstraint

from gateway.records.schema import _Id, _identity, _Name, metadata

#: How many events there were, by hour (in all) and by day (in all, and by each value of a field); follows the chain.
event_counts = Table(
    "event_counts",
    metadata,
    Column("span", Integer, primary_key=True, autoincrement=False),  # seconds: 3600, 86400
    Column("field", String(16), primary_key=True),  # "" for all events
    Column("begins", BigInteger, primary_key=True, autoincrement=False),
    Column("value", _Name, primary_key=True),
    Column("allowed", BigInteger, nullable=False),
    Column("denied", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

#: From which networks a principal has pulled or pushed, and since when; follows the chain.
origins = Table(
    "origins",
    metadata,
    Column("principal", _Name, primary_key=True),
    Column("network", String(64), primary_key=True),
    Column("first_seq", BigInteger, nullable=False),
    Column("first_at", BigInteger, nullable=False, index=True),
    sqlite_with_rowid=False,
)

saved_searches = Table(
    "saved_searches",
    metadata,
    _identity(),
    Column("owner", String(64), nullable=False),  # kind:id of the principal
    Column("account_id", _Id, ForeignKey("accounts.id", ondelete="CASCADE"), index=True),  # NULL for operators
    Column("name", _Name, nullable=False),
    Column("filters", Text, nullable=False),  # JSON: texts by filter
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("owner", "name"),
    sqlite_autoincrement=True,
)

#: Reviews; signed ones are never changed, and triggers refuse it.
reviews = Table(
    "reviews",
    metadata,
    _identity(),
    Column("project", _Name, nullable=False),  # "" for all
    Column("since", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("policy", Text, nullable=False),  # JSON: the thresholds of the rules
    Column("runs", Text, nullable=False),  # JSON: what each rule looked at
    Column("begun_at", BigInteger, nullable=False),
    Column("begun_by", Text, nullable=False),
    Column("signed_at", BigInteger),  # NULL while it is open
    Column("signed_by", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("content", String(64), nullable=False),  # SHA-256 of what was signed, as its event has it
    sqlite_autoincrement=True,
)

findings = Table(
    "findings",
    metadata,
    Column("review_id", _Id, ForeignKey("reviews.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("rule", String(32), nullable=False),
    Column("subject", Text, nullable=False),
    Column("summary", Text, nullable=False),
    Column("first_at", BigInteger),
    Column("last_at", BigInteger),
    Column("count", BigInteger, nullable=False),
    Column("events", Text, nullable=False),  # JSON: numbers of events
    Column("mark", String(16), nullable=False),  # "", fine, follow_up
    Column("note", Text, nullable=False),
    Column("marked_at", BigInteger),
    Column("marked_by", Text, nullable=False),
    sqlite_with_rowid=False,
)
