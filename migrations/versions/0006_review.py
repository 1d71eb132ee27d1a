"""Counters and origins that follow the chain, saved searches, and reviews that are never changed once signed."""

from __future__ import annotations

import ipaddress
from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_HOUR, _DAY = 3600, 86_400
_FIELDS = ("kind", "principal", "project", "repository", "address")
#: An event's time is text: its day or hour is what it begins with.
_EPOCH_SQLITE = "CAST(strftime('%s', substr(time, 1, {length}) || '{rest}') AS INTEGER)"
_EPOCH_POSTGRESQL = "CAST(EXTRACT(EPOCH FROM CAST(substr(time, 1, {length}) || '{rest}Z' AS timestamptz)) AS BIGINT)"
_COUNTED = """
INSERT INTO event_counts (span, field, begins, value, allowed, denied, failed)
SELECT {span}, '{field}', {begins}, {value},
    SUM(CASE outcome WHEN 'allowed' THEN 1 ELSE 0 END), SUM(CASE outcome WHEN 'denied' THEN 1 ELSE 0 END),
    SUM(CASE outcome WHEN 'failed' THEN 1 ELSE 0 END)
FROM event_index{where} GROUP BY {grouped}
"""
_ORIGINS = """
SELECT principal, address, MIN(seq), MIN(time) FROM event_index
WHERE outcome = 'allowed' AND principal <> 'anonymous'
    AND kind IN ('manifest.pull', 'manifest.push', 'blob.pull', 'blob.push', 'blob.mount')
GROUP BY principal, address
"""
_SIGNED = "a signed review is never changed"
_KEEP_SQLITE = (
    """
CREATE TRIGGER reviews_keep_{verb} BEFORE {event} ON reviews WHEN OLD.signed_at IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, '{said}');
END
""",
    """
CREATE TRIGGER findings_keep_{verb} BEFORE {event} ON findings
WHEN (SELECT signed_at FROM reviews WHERE id = OLD.review_id) IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, '{said}');
END
""",
)
_KEEP_POSTGRESQL = (
    """
CREATE FUNCTION reviews_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.signed_at IS NOT NULL THEN RAISE EXCEPTION 'a signed review is never changed'; END IF;
    IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
    RETURN NEW;
END
$$
""",
    """
CREATE FUNCTION findings_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT signed_at FROM reviews WHERE id = OLD.review_id) IS NOT NULL THEN
        RAISE EXCEPTION 'a signed review is never changed';
    END IF;
    IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
    RETURN NEW;
END
$$
""",
    "CREATE TRIGGER reviews_keep BEFORE UPDATE OR DELETE ON reviews FOR EACH ROW EXECUTE FUNCTION reviews_keep()",
    "CREATE TRIGGER findings_keep BEFORE UPDATE OR DELETE ON findings FOR EACH ROW EXECUTE FUNCTION findings_keep()",
)


def upgrade() -> None:
    _create_following()
    _create_reviews()
    sqlite = op.get_bind().dialect.name == "sqlite"
    _count(_EPOCH_SQLITE if sqlite else _EPOCH_POSTGRESQL)
    _find_origins()
    if sqlite:
        for statement in _KEEP_SQLITE:
            for event in ("UPDATE", "DELETE"):
                op.execute(statement.format(verb=event.lower(), event=event, said=_SIGNED))
    else:
        for statement in _KEEP_POSTGRESQL:
            op.execute(statement)


def _count(epoch: str) -> None:
    """Counts what is in the search entries already: some seconds for each million of them."""
    day, hour = epoch.format(length=10, rest="T00:00:00"), epoch.format(length=13, rest=":00:00")
    connection = op.get_bind()
    for span, begins in ((_HOUR, hour), (_DAY, day)):
        said = {"span": span, "field": "", "begins": begins, "value": "''", "where": "", "grouped": "3"}
        connection.exec_driver_sql(_COUNTED.format(**said))
    for field in _FIELDS:
        said = {"span": _DAY, "field": field, "begins": day, "value": field, "grouped": f"3, {field}"}
        connection.exec_driver_sql(_COUNTED.format(**said, where=f" WHERE {field} <> ''"))


def _find_origins() -> None:
    connection = op.get_bind()
    found: dict[tuple[str, str], tuple[int, str]] = {}
    for principal, address, seq, time in connection.exec_driver_sql(_ORIGINS):
        key = (principal, _network(address))
        found[key] = min(found.get(key, (seq, time)), (seq, time))
    rows = [
        {"principal": principal, "network": network, "first_seq": seq, "first_at": _seconds(time)}
        for (principal, network), (seq, time) in found.items()
    ]
    table = sa.table("origins", *(sa.column(name) for name in ("principal", "network", "first_seq", "first_at")))
    if rows:
        connection.execute(sa.insert(table), rows)


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    return str(ipaddress.ip_network((parsed, 24 if parsed.version == 4 else 48), strict=False))


def _seconds(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp())


def _create_following() -> None:
    name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.create_table(
        "event_counts",
        sa.Column("span", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("field", sa.String(length=16), nullable=False),
        sa.Column("begins", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("value", name, nullable=False),
        *(sa.Column(outcome, sa.BigInteger(), nullable=False) for outcome in ("allowed", "denied", "failed")),
        sa.PrimaryKeyConstraint("span", "field", "begins", "value", name=op.f("pk_event_counts")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "origins",
        sa.Column("principal", name, nullable=False),
        sa.Column("network", sa.String(length=64), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("principal", "network", name=op.f("pk_origins")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_origins_first_at"), "origins", ["first_at"], unique=False)


def _create_reviews() -> None:
    number = sa.BigInteger().with_variant(sa.INTEGER(), "sqlite")
    name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.create_table(
        "saved_searches",
        sa.Column("id", number, sa.Identity(always=False), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("account_id", number, nullable=True),
        sa.Column("name", name, nullable=False),
        sa.Column("filters", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_saved_searches_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_saved_searches")),
        sa.UniqueConstraint("owner", "name", name=op.f("uq_saved_searches_owner_name")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_saved_searches_account_id"), "saved_searches", ["account_id"], unique=False)
    op.create_table(
        "reviews",
        sa.Column("id", number, sa.Identity(always=False), nullable=False),
        sa.Column("project", name, nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("runs", sa.Text(), nullable=False),
        sa.Column("begun_at", sa.BigInteger(), nullable=False),
        sa.Column("begun_by", sa.Text(), nullable=False),
        sa.Column("signed_at", sa.BigInteger(), nullable=True),
        sa.Column("signed_by", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("content", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reviews")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "findings",
        sa.Column("review_id", number, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("rule", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=True),
        sa.Column("last_at", sa.BigInteger(), nullable=True),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("events", sa.Text(), nullable=False),
        sa.Column("mark", sa.String(length=16), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("marked_at", sa.BigInteger(), nullable=True),
        sa.Column("marked_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["review_id"], ["reviews.id"], name=op.f("fk_findings_review_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("review_id", "number", name=op.f("pk_findings")),
        sqlite_with_rowid=False,
    )
