"""The composition root: settings become rooms, joined once, and the rooms become the application.

Settings ─▶ Rooms: database · secrets · ledger · directory · gate · trail · engine · administration
              └──▶ the application: front ─▶ registry
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, assert_never

from gateway.access.credentials import Credentials
from gateway.access.passwords import HashingPool
from gateway.access.secrets import FILE_NAME, Secrets
from gateway.administration import Administration, Finding, SignIn
from gateway.administration.importing import Imports
from gateway.engine.embedded.assembly import embedded
from gateway.engine.port import Engine
from gateway.engine_section import EngineKind
from gateway.errors import Conflict, UpstreamUnavailable
from gateway.folder import require_folder, require_writable
from gateway.gate import Gate
from gateway.meters import Meters
from gateway.records import facts, migration
from gateway.records import keys as key_records
from gateway.records.credentials import CredentialRecords
from gateway.records.database import Database, damage_told
from gateway.records.directory import SqlDirectory
from gateway.records.ledger import SqlLedger
from gateway.records.trail import SqlTrail
from gateway.settings import Settings
from gateway.settlement import Settlement

if TYPE_CHECKING:
    from gateway.administration.checking import Checks
    from gateway.administration.sweeping import Sweeps
    from gateway.engine.source import Source
    from gateway.engine.upstream.adopt import Survey
    from gateway.engine.upstream.client import Client
    from gateway.engine.upstream.settling import Settling
    from gateway.front import Application, Front


@dataclass(frozen=True, slots=True)
class Rooms:
    """The rooms of one process, joined; `opened` makes and closes them."""

    settings: Settings
    database: Database
    secrets: Secrets
    ledger: SqlLedger
    directory: SqlDirectory
    gate: Gate
    trail: SqlTrail
    engine: Engine
    hashing: HashingPool
    stored_keys: key_records.StoredKeys
    administration: Administration
    credentials: Credentials
    sign_in: SignIn
    """Of the API and the console."""
    meters: Meters
    settlement: Settlement | None = None
    """Of acts done in a registry behind the gateway, if there is one."""


#: How a refusal of another registry is told.
Words: TypeAlias = Callable[[UpstreamUnavailable], str]


@contextmanager
def opened(settings: Settings) -> Iterator[Rooms]:
    """
    The rooms on an initialised data directory.

    Raises `Invalid` or `Conflict` with what to do when the directory is missing, not initialised, not writable, on a
    network file system, or was made by a newer program or under another secret; `Unavailable` without a database,
    `DatabaseDamaged` as soon as whoever has them meets damage in its file.
    """
    with damage_told(settings.database.url), joined(settings, _checked(settings)) as rooms:
        yield rooms


@contextmanager
def joined(settings: Settings, secrets: Secrets) -> Iterator[Rooms]:
    """The rooms on a data directory that has a schema, whatever else it lacks; for whoever is about to fill it."""
    with ExitStack() as closing:
        database = Database.open(settings.database.url, settings.data)
        closing.callback(database.close)
        meters = Meters()
        ledger = SqlLedger(database, secrets.trail, meters, opening=secrets.checkpoints)
        ledger.start()
        closing.callback(ledger.close)
        directory = SqlDirectory(database)
        gate = Gate(directory, ledger)
        trail = SqlTrail(database, secrets.trail, secrets.checkpoints)
        engine, settling = _content(settings, database)
        hashing = HashingPool(turns=settings.data)
        closing.callback(hashing.close)
        stored_keys = key_records.StoredKeys(database, secrets)
        administration = Administration(
            gate,
            database,
            engine,
            trail,
            secrets,
            hashing,
            stored_keys,
            settings.upkeep.trash_days * 86_400,
            settings.upkeep.grace_hours * 3600,
        )
        stored = CredentialRecords(database)
        credentials = Credentials(stored, stored, secrets, hashing, stored)
        settlement = Settlement(database, ledger, settling) if settling is not None else None
        yield Rooms(
            settings,
            database,
            secrets,
            ledger,
            directory,
            gate,
            trail,
            engine,
            hashing,
            stored_keys,
            administration,
            credentials,
            administration.sign_in(credentials),
            meters,
            settlement,
        )


def application(rooms: Rooms, warnings: Callable[[], list[str]]) -> Front:
    """The application of one process on *rooms*; *warnings* are told by `/health/ready` besides its own."""
    from gateway.access.keys import KeyRing  # what only serving needs, commands do without, and start sooner
    from gateway.access.tokens import Tokens
    from gateway.front import Front
    from gateway.registry.edge import Registry
    from gateway.registry.request import Parts

    settings = rooms.settings
    ring = KeyRing(rooms.stored_keys, rooms.directory.version)
    registry = Registry(
        Parts(
            gate=rooms.gate,
            engine=rooms.engine,
            credentials=rooms.credentials,
            tokens=Tokens(ring, settings.tokens.issuer, settings.tokens.service, settings.tokens.lifetime_seconds),
            jwks=ring.jwks,
            realm_for=partial(realm_for, settings),
            service=settings.tokens.service,
            manifest_bytes=settings.limits.manifest_bytes,
            containerd_push_seconds=settings.tokens.containerd_push_seconds,
        )
    )
    certificate = settings.tls / "ca.crt" if settings.server.development else None
    edges = {"api": partial(api_application, rooms), "console": partial(console_application, rooms)}

    async def broken() -> str:
        await rooms.engine.look()
        return rooms.ledger.broken or rooms.engine.trouble()

    return Front(registry, broken, warnings, certificate, edges)


def api_application(rooms: Rooms) -> Application:
    """The edge for programs that administer, at `/api/v1`; loaded by whoever is asked for it."""
    from gateway.answers import Answers
    from gateway.api.application import Api
    from gateway.api.request import Parts as ApiParts

    kept = Answers(rooms.settings.data / "answers", rooms.secrets.answers)
    return Api(ApiParts(rooms.administration, rooms.sign_in, rooms.secrets.cursors, kept))


def console_application(rooms: Rooms) -> Application:
    """The console on *rooms*, for people with browsers."""
    from gateway.access.sealing import Sealer
    from gateway.console.application import make
    from gateway.surroundings import of_surroundings

    forms = Sealer(rooms.secrets.console_forms, "carried form")

    async def surroundings() -> Sequence[Finding]:
        return await asyncio.to_thread(of_surroundings, rooms.settings, datetime.now(UTC))

    host = rooms.settings.addresses[0]
    return make(rooms.administration, rooms.gate, rooms.sign_in, forms, host, surroundings)


def realm_for(settings: Settings, host: str) -> str:
    """The token endpoint under the configured name that *host* (a `Host` header) equals, or under the first one."""
    text = host.strip().lower()
    name, _, port = text.rpartition(":")
    plain = (name if name and port.isdigit() else text).strip("[]")
    names = settings.server.names
    return f"https://{settings.addresses[names.index(plain) if plain in names else 0]}/token"


def importing(
    rooms: Rooms,
    place: str,
    *,
    link: bool = False,
    peer: tuple[str, str, Path | None] = ("", "", None),
    words: Words | None = None,
    tell: Callable[[int], None] = lambda _: None,
) -> Imports:
    """
    An import from *place*, a registry's URL (*peer*: name, password, CA file) or the folder of its volume.

    *words* is how what the registry refuses is told; *link* is for a volume alone; *tell* hears, from any thread, of
    bytes as they come. Raises `Invalid`, and `Conflict` unless this gateway keeps its content itself.
    """
    from gateway.engine.embedded.importing import EmbeddedImport
    from gateway.engine.embedded.volume import Volume
    from gateway.engine.stores.filesystem import Filesystem

    if rooms.settings.engine.kind is not EngineKind.EMBEDDED:
        raise Conflict('An import fills the gateway\'s own storage; set kind = "embedded" in [engine] first.')
    source: Source
    if place.startswith(("http://", "https://")):
        from gateway.engine.upstream.client import Client, Peer
        from gateway.engine.upstream.source import RegistrySource

        source = RegistrySource(Client(Peer(place.rstrip("/"), *peer), words=words))
    else:
        source = Volume.at(Path(place))
    store = Filesystem(rooms.settings.data)
    return Imports(rooms.gate, rooms.database, EmbeddedImport(store, rooms.database, source, link=link, tell=tell))


def checking(rooms: Rooms) -> Checks:
    """What looks whether all is whole that is kept; where another registry keeps the content, records and trail are."""
    from gateway.administration.checking import Checks
    from gateway.engine.embedded.keeper import Keeper

    keeper = None
    if rooms.settings.engine.kind is EngineKind.EMBEDDED:
        keeper = Keeper(rooms.settings.data, rooms.database)
    return Checks(rooms.gate, rooms.database, rooms.trail, keeper)


def sweeping(rooms: Rooms) -> Sweeps:
    """Sweeps of the content that this gateway keeps itself; raises `Conflict` if another registry does."""
    from gateway.administration.sweeping import Sweeps
    from gateway.engine.embedded.layout import SWEPT
    from gateway.engine.embedded.sweep import EmbeddedSweep
    from gateway.engine.stores.clearing import Clearing
    from gateway.engine.stores.filesystem import Filesystem

    if rooms.settings.engine.kind is not EngineKind.EMBEDDED:
        raise Conflict(
            "The content is kept by the registry behind the gateway; run its own garbage collection, a sweep is for "
            'kind = "embedded" in [engine].'
        )
    data = rooms.settings.data

    def sweeper(grace_seconds: int) -> EmbeddedSweep:
        return EmbeddedSweep(Filesystem(data), Clearing(data, SWEPT), rooms.database, grace_seconds=grace_seconds)

    return Sweeps(rooms.gate, rooms.database, sweeper)


def upstream_client(settings: Settings, words: Words | None = None) -> Client:
    """What speaks with the registry behind the gateway, which *settings* must name; nothing is asked yet."""
    from gateway.engine.upstream.client import Client, Peer  # with aiohttp, which most commands can do without

    section = settings.engine
    authority = section.ca_file if section.ca_file != Path() else None
    return Client(Peer(section.url, section.username, section.password, authority), words=words)


def survey(settings: Settings, words: Words | None = None) -> Survey:
    """
    What reads the registry behind the gateway, which *settings* must name, to adopt what it holds.

    *words* is how what it refuses is told.
    """
    from gateway.engine.upstream.adopt import Survey  # as above

    return Survey(upstream_client(settings, words))


def _content(settings: Settings, database: Database) -> tuple[Engine, Settling | None]:
    """The engine, and what finds out how its acts elsewhere ended, if it has any."""
    limits = settings.limits
    match settings.engine.kind:
        case EngineKind.EMBEDDED:
            return embedded(
                settings.data,
                database,
                uploads_per_owner=limits.uploads_per_principal,
                upload_seconds=limits.upload_seconds,
                free_bytes=limits.free_bytes,
                trash_seconds=settings.upkeep.trash_days * 86_400,
            ), None
        case EngineKind.UPSTREAM:
            from gateway.engine.upstream.assembly import upstream
            from gateway.engine.upstream.settling import Settling

            client = upstream_client(settings)
            engine = upstream(
                settings.data,
                database,
                client,
                volume=settings.engine.volume if settings.engine.volume != Path() else None,
                uploads_per_owner=limits.uploads_per_principal,
                upload_seconds=limits.upload_seconds,
            )
            return engine, Settling(client, database, settings.data)
        case _:
            assert_never(settings.engine.kind)


def _checked(settings: Settings) -> Secrets:
    """The secret of a data directory in which everything was found as it should be."""
    require_folder(settings.data, make=False, command=settings.command)
    require_writable(settings.data, settings.database.url)
    command = settings.command
    if not (settings.data / "keys" / FILE_NAME).exists() and not (settings.data / "gateway.db").exists():
        raise Conflict(f"{settings.data} is not initialised; run: {command} up")
    secrets = Secrets.load(settings.data / "keys")
    database = Database.open(settings.database.url, settings.data)
    try:
        if migration.revision(database) is None or not database.read_now(facts.read).get(facts.INITIALISED):
            raise Conflict(f"{settings.data} is only half initialised; to finish, run: {command} up")
        if not migration.current(database):
            raise Conflict(f"The database's schema is older than this program; run: {command} migrate")
        database.read_now(partial(key_records.check, secrets=secrets))
    finally:
        database.close()
    return secrets
