"""Make what a data directory lacks: its secret, the schema, signing keys, and the first administrator."""

from __future__ import annotations

import asyncio
import secrets as randomness
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from gateway.access.names import AccountName
from gateway.access.passwords import generate_password
from gateway.access.principals import LOCAL, SYSTEM, Caller, Origin
from gateway.access.secrets import FILE_NAME, Secrets
from gateway.app import Rooms, joined
from gateway.audit.event import Kind
from gateway.change import Change, together
from gateway.errors import Invalid
from gateway.folder import require_folder, require_writable
from gateway.records import accounts, checkpoints, facts, keys, migration
from gateway.records.database import Database, damage_told
from gateway.settings import Settings

#: The account that the first run makes.
ADMINISTRATOR = "admin"


@dataclass(frozen=True, slots=True)
class Initialised:
    """What `initialise` made; *password* is the first administrator's, and is told this once."""

    first: bool
    administrator: str = ADMINISTRATOR
    password: str | None = None


def initialise(settings: Settings, tell: Callable[[str], None] = lambda _: None) -> Initialised:
    """
    Makes what is missing in the data directory; changes nothing that is there but an older schema.

    *tell* hears of a change of the schema before it is made. Safe to repeat, and to finish what was interrupted.
    Raises `Invalid` or `Conflict` when the directory cannot be used, `Unavailable` when the database does not answer,
    `DatabaseDamaged`.
    """
    with damage_told(settings.database.url):
        return _initialised(settings, tell)


def migrate(settings: Settings, caller: Caller | None = None, *, tell: Callable[[str], None] = lambda _: None) -> bool:
    """
    Brings the schema to what this program needs; says whether there was anything to do. Raises as `initialise`.

    Where there was a schema already, *tell* hears of it before, and an event says after that *caller* had it changed.
    """
    with damage_told(settings.database.url):
        return _migrated(settings, caller or gateway_itself(), tell)


def gateway_itself() -> Caller:
    """The caller of what the gateway does unasked."""
    return Caller(SYSTEM, Origin("local", "local", "gateway", randomness.token_hex(16)), LOCAL)


def _initialised(settings: Settings, tell: Callable[[str], None]) -> Initialised:
    require_folder(settings.data, make=True)
    require_writable(settings.data, settings.database.url)
    folder = settings.data / "keys"
    if not (folder / FILE_NAME).exists() and _found(settings)[1]:
        raise Invalid(
            f"{folder / FILE_NAME} is missing, and the database was made with it; restore it from the backup."
        )
    secrets = Secrets.create(folder)
    migrated = migrate(settings, tell=tell)
    with joined(settings, secrets) as rooms:
        if rooms.database.read_now(facts.read).get(facts.INITIALISED):
            rooms.database.read_now(partial(keys.check, secrets=secrets))
            return Initialised(first=False)
        return asyncio.run(_populate(rooms, migrated))


def _migrated(settings: Settings, caller: Caller, tell: Callable[[str], None]) -> bool:
    require_folder(settings.data, make=False, command=settings.command)
    require_writable(settings.data, settings.database.url)
    before, initialised = _found(settings)
    newest = migration.REVISIONS[-1]
    if before is not None and before != newest:
        tell(f"The schema ({before}) is older than this program; it is brought up to {newest}.")
    secrets = Secrets.load(settings.data / "keys") if initialised else None
    changed = migration.migrate(settings.database.migrate_url, settings.data, serving_url=settings.database.url)
    if changed and secrets is not None:
        with joined(settings, secrets) as rooms:
            asyncio.run(_note_migration(rooms, caller, {"from": before, "to": newest}))
    return changed


def _found(settings: Settings) -> tuple[str | None, bool]:
    """The revision of the schema, if there is one, and whether the database is initialised."""
    database = Database.open(settings.database.url, settings.data)
    try:
        found = migration.revision(database)
        return found, found is not None and bool(database.read_now(facts.read).get(facts.INITIALISED))
    finally:
        database.close()


async def _note_migration(rooms: Rooms, caller: Caller, detail: dict[str, object]) -> None:
    async with rooms.gate.passage(caller, Kind.GATEWAY_MIGRATE, detail=detail) as passage:
        await passage.seal()


async def _populate(rooms: Rooms, migrated: bool) -> Initialised:
    now = datetime.now(UTC)
    password = generate_password()
    account = accounts.add_user(
        AccountName.parse(ADMINISTRATOR),
        await rooms.hashing.hash(password),
        administrator=True,
        auditor=False,
        now=int(now.timestamp()),
    )
    made = together(
        facts.first_time(),
        keys.keep_fingerprint(rooms.secrets),
        rooms.stored_keys.add_first(now),
        checkpoints.make_key(rooms.secrets),
        account,
    )
    detail = {"schema_made": migrated}
    async with rooms.gate.passage(gateway_itself(), Kind.GATEWAY_INITIALISE, detail=detail) as passage:
        await passage.commit(Change(made.apply, policy=True))
    return Initialised(first=True, password=password)
