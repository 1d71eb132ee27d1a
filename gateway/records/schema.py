"""The tables, as they stand at the newest migration.

    accounts ──< grants >── projects ──< repositories ──< tags, manifests, links
        └──< offline_tokens, personal_tokens,  manifests ──< edges (what a manifest names, its subject apart)
             sessions, second_factors ──< recovery_codes
    links >── blobs (bytes on disk)            manifest_bodies (bytes by digest)
    events (the chain) · event_index (its searchable projection) · event_counts, origins (follow it as well)
    segments (what left the chain for files) · checkpoints, checkpoint_keys · sinks (how far each has got)
    reviews ──< findings · saved_searches          trail_head · signing_keys · attempts · facts

Times are UNIX seconds in UTC, except those of events, which are the text that was sealed.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects import sqlite

from gateway.records.kept import CANONICAL, HASH

#: Ids come from a sequence that never goes back: what is removed and made again is another.
_Id = BigInteger().with_variant(sqlite.INTEGER(), "sqlite")
#: Names are compared and sorted bytewise, as the specification wants listings.
_Name = Text().with_variant(Text(collation="C"), "postgresql")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _identity() -> Column[int]:
    return Column("id", _Id, Identity(always=False), primary_key=True)


facts = Table(
    "facts",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

accounts = Table(
    "accounts",
    metadata,
    _identity(),
    Column("kind", String(16), nullable=False),  # user, robot
    Column("name", _Name, nullable=False, unique=True),  # a robot's is project+name
    Column("project_id", _Id, ForeignKey("projects.id", ondelete="CASCADE")),  # robots only
    Column("secret", Text, nullable=False),  # bcrypt for users, keyed hash in hex for robots
    Column("enabled", Boolean, nullable=False),
    Column("administrator", Boolean, nullable=False),
    Column("auditor", Boolean, nullable=False),
    Column("generation", Integer, nullable=False),  # moves with every change of secret
    Column("created_at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),  # when the secret was
    Column("expires_at", BigInteger),
    # Robots only: the last use of the secret, and the secret before it, which is good as well until then.
    Column("used_at", BigInteger),
    Column("former_secret", Text),
    Column("former_until", BigInteger),
    Column("former_used_at", BigInteger),
    sqlite_autoincrement=True,
)

projects = Table(
    "projects",
    metadata,
    _identity(),
    Column("name", _Name, nullable=False, unique=True),
    Column("public", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("quota_bytes", BigInteger),  # NULL: no quota
    Column("used_bytes", BigInteger, nullable=False, server_default="0"),  # of what is linked, each digest once
    Column("trash_bytes", BigInteger, nullable=False, server_default="0"),  # of the manifests in the trash
    Column("immutable", Text, nullable=False, server_default=""),  # patterns of tags, one a line
    Column("read_only", Text, nullable=False, server_default=""),  # why; "" when it is not
    Column("retain_last", BigInteger),  # NULL: not a reason to keep a tag
    Column("retain_matching", Text, nullable=False, server_default=""),  # patterns of tags, one a line
    Column("retain_pulled_days", BigInteger),
    sqlite_autoincrement=True,
)

grants = Table(
    "grants",
    metadata,
    _identity(),
    Column("account_id", _Id, ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False),
    Column("project_id", _Id, ForeignKey("projects.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("pattern", _Name, nullable=False),  # "" covers the project
    Column("role", String(16), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    UniqueConstraint("account_id", "project_id", "pattern"),
    sqlite_autoincrement=True,
)

offline_tokens = Table(
    "offline_tokens",
    metadata,
    _identity(),
    Column("account_id", _Id, ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("hashed", String(64), nullable=False, unique=True),
    Column("service", Text, nullable=False),
    Column("client", Text, nullable=False),  # what the client calls itself
    Column("address", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("used_at", BigInteger),
    sqlite_autoincrement=True,
)

personal_tokens = Table(
    "personal_tokens",
    metadata,
    _identity(),
    Column("account_id", _Id, ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    Column("hashed", String(64), nullable=False, unique=True),
    Column("actions", String(64), nullable=False),  # joined by commas
    Column("projects", Text),  # joined by spaces; NULL: all
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("used_at", BigInteger),
    UniqueConstraint("account_id", "name"),
    sqlite_autoincrement=True,
)

#: People signed in with a browser.
sessions = Table(
    "sessions",
    metadata,
    _identity(),
    Column("account_id", _Id, ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("hashed", String(64), nullable=False, unique=True),
    Column("csrf", String(64), nullable=False),
    Column("generation", Integer, nullable=False),  # of the account when the session began
    Column("address", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    sqlite_autoincrement=True,
)

second_factors = Table(
    "second_factors",
    metadata,
    Column("account_id", _Id, ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),  # the key of the codes, encrypted under one of the data directory
    Column("last_step", BigInteger, nullable=False),  # no code of this half minute or an earlier one is taken
    Column("created_at", BigInteger, nullable=False),
    Column("confirmed_at", BigInteger),  # NULL: asked of nobody yet
)

recovery_codes = Table(
    "recovery_codes",
    metadata,
    Column("account_id", _Id, ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
    Column("hashed", String(64), primary_key=True),
)

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("kid", String(64), primary_key=True),
    Column("public", Text, nullable=False),  # PEM
    Column("sealed", LargeBinary, nullable=False),  # PKCS #8, encrypted under a key of the data directory
    Column("state", String(16), nullable=False),  # next, current, previous, revoked
    Column("created_at", BigInteger, nullable=False),
    Column("retires_at", BigInteger),  # previous ones verify until then
)

attempts = Table(
    "attempts",
    metadata,
    Column("key", String(200), primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("first_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Column("suppressed", Integer, nullable=False),
    Index(None, "last_at"),
)

repositories = Table(
    "repositories",
    metadata,
    _identity(),
    Column("project_id", _Id, ForeignKey("projects.id"), nullable=False),
    Column("name", _Name, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Index(None, "project_id", "name"),
    sqlite_autoincrement=True,
)

blobs = Table(
    "blobs",
    metadata,
    Column("digest", String(135), primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

links = Table(
    "links",
    metadata,
    Column("repository_id", _Id, ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", String(135), ForeignKey("blobs.digest"), primary_key=True),
    Column("created_at", BigInteger, nullable=False),  # or needed last: see `sweeping`
    Index(None, "digest"),
    sqlite_with_rowid=False,
)

manifest_bodies = Table(
    "manifest_bodies",
    metadata,
    Column("digest", String(135), primary_key=True),
    Column("content", LargeBinary, nullable=False),
)

manifests = Table(
    "manifests",
    metadata,
    Column("repository_id", _Id, ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", String(135), primary_key=True),
    Column("media_type", String(255), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("artifact_type", String(255)),
    Column("subject", String(135)),
    Column("pushed_at", BigInteger, nullable=False),
    Column("pushed_by", Text, nullable=False),
    Index(None, "repository_id", "subject", "digest"),
    Index(None, "digest"),
    sqlite_with_rowid=False,
)

#: Of manifests that have any. Apart, and by row numbers: SQLite reads all of a row without one to find its neighbour.
manifest_annotations = Table(
    "manifest_annotations",
    metadata,
    Column("repository_id", _Id, primary_key=True),
    Column("digest", String(135), primary_key=True),
    Column("content", Text, nullable=False),  # JSON
    ForeignKeyConstraint(
        ["repository_id", "digest"], ["manifests.repository_id", "manifests.digest"], ondelete="CASCADE"
    ),
)

edges = Table(
    "edges",
    metadata,
    Column("repository_id", _Id, ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("target", String(135), primary_key=True),
    Column("source", String(135), primary_key=True),
    Index(None, "repository_id", "source"),
    sqlite_with_rowid=False,
)

tags = Table(
    "tags",
    metadata,
    Column("repository_id", _Id, ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("name", String(128).with_variant(String(128, collation="C"), "postgresql"), primary_key=True),
    Column("digest", String(135), nullable=False),
    Column("moved_at", BigInteger, nullable=False),
    Column("moved_by", Text, nullable=False),
    Index(None, "repository_id", "digest"),
    sqlite_with_rowid=False,
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("repository", _Name, nullable=False),
    Column("owner", String(64), nullable=False),
    Column("offset_bytes", BigInteger, nullable=False),
    Column("prefix_digest", String(71), nullable=False),  # of the first offset_bytes bytes
    Column("begun_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    Column("state", Text, nullable=False, server_default=""),  # the engine's own
    Index(None, "owner"),
)

#: What was deleted and can still be brought back: a manifest with its bytes, or (without them) a tag.
trash = Table(
    "trash",
    metadata,
    _identity(),
    Column("repository_id", _Id, ForeignKey("repositories.id", ondelete="CASCADE"), nullable=False),
    Column("tag", String(128).with_variant(String(128, collation="C"), "postgresql"), nullable=False),  # "": a manifest
    Column("digest", String(135), nullable=False),
    Column("media_type", String(255), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),  # of the manifest; 0 of a tag
    Column("deleted_at", BigInteger, nullable=False),
    Column("deleted_by", Text, nullable=False),
    Column("until", BigInteger, nullable=False),
    Index(None, "repository_id", "digest"),
    Index(None, "until"),
    sqlite_autoincrement=True,
)

trash_bodies = Table(
    "trash_bodies",
    metadata,
    Column("trash_id", _Id, ForeignKey("trash.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("content", LargeBinary, nullable=False),  # apart from what is listed
)

#: What the manifests in the trash name: it is kept for as long as they are.
trash_targets = Table(
    "trash_targets",
    metadata,
    Column("repository_id", _Id, ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("target", String(135), primary_key=True),
    Column("trash_id", _Id, ForeignKey("trash.id", ondelete="CASCADE"), primary_key=True),
    Index(None, "trash_id"),
    sqlite_with_rowid=False,
)

#: Acts begun in the registry behind us whose outcome is not recorded yet; settled by asking it.
intents = Table(
    "intents",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("kind", String(32), nullable=False),  # of the event
    Column("repository", _Name, nullable=False),
    Column("act", Text, nullable=False),  # JSON: what was asked, without what it promises and "before"
    Column("before", Text),  # JSON: what only settlement reads; NULL: nothing
    Column("event", Text, nullable=False),  # JSON: the record of the event so far
    Column("begun_at", BigInteger, nullable=False),
)

#: The chain: appended to, never changed; triggers refuse everything else.
events = Table(
    "events",
    metadata,
    Column("seq", _Id, primary_key=True, autoincrement=False),
    Column("body", CANONICAL, nullable=False),
    Column("hash", HASH, nullable=False),
)

trail_head = Table(
    "trail_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # 1
    Column("seq", BigInteger, nullable=False),
    Column("hash", HASH, nullable=False),
    Column("seal", HASH, nullable=False),
)

#: What `audit list` searches; follows the chain in bulk and can be rebuilt from it.
event_index = Table(
    "event_index",
    metadata,
    Column("seq", _Id, primary_key=True, autoincrement=False),
    Column("time", String(27), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("outcome", String(8), nullable=False),
    Column("principal", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("repository", Text, nullable=False),
    Column("digest", String(135), nullable=False),
    Column("address", Text, nullable=False),
    *(Index(None, name, "seq") for name in ("kind", "outcome", "principal", "project", "repository", "address")),
    Index(None, "time"),
    Index("ix_event_index_digest_seq", "digest", "seq"),
    # What is refused or fails is little of what happens, and the most looked for in a project.
    Index(
        "ix_event_index_project_outcome_seq",
        *("project", "outcome", "seq"),
        sqlite_where=text("outcome <> 'allowed'"),
        postgresql_where=text("outcome <> 'allowed'"),
    ),
)

# The tables of evidence, of reviews and of a registry behind are pages of their own; whoever has these has those.
import gateway.records.behind_tables  # noqa: E402
import gateway.records.evidence_tables  # noqa: E402
import gateway.records.review_tables  # noqa: E402, F401
