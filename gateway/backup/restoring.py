"""A backup put into an empty data directory: everything is verified first, and comes into its place at the end.

    DATA/.restoring/ ◀─ files, records, blobs, each by its digest · the chain · event storage.restore
    DATA/            ◀─ the database first, the keys last: what is half there says so instead of being served

Nothing is started, and the backup is only read.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from gateway.access.policy import Need
from gateway.access.principals import Caller
from gateway.access.scopes import Action
from gateway.access.secrets import Secrets
from gateway.audit.event import Kind
from gateway.backup.copying import Brought, Damaged, Stopped, bring_blobs, copy, sync_folder
from gateway.backup.inventory import BLOBS, DATABASE, FILE_NAME, Inventory
from gateway.backup.settling import Settled, serving_url, settle
from gateway.backup.target import FOUND, LOCK, SNAPSHOTS, complete, held
from gateway.backup.trial import LEFT, tried
from gateway.engine.port import Blob
from gateway.errors import Conflict, Invalid, Unavailable
from gateway.folder import require_folder
from gateway.gate import Gate
from gateway.records import migration, snapshot
from gateway.records.database import Database
from gateway.records.directory import SqlDirectory
from gateway.records.ledger import SqlLedger
from gateway.records.trail import project_anew

_STAGING: Final = ".restoring"
#: Which of the restored comes into its place when; the rest in between.
_FIRST, _LAST = DATABASE, "keys"
_NOT_MOVED: Final = frozenset(LEFT)


@dataclass(frozen=True, slots=True)
class Restored:
    """
    What a restore came to. Unless *done*, nothing was restored, because of the blobs in *damaged*.

    *damaged* says of each digest what is wrong with it; *told* what verifying finds of the trail though its chain
    holds, and then the search entries were made anew, or is empty.
    """

    snapshot: Path
    inventory: Inventory
    folder: Path
    done: bool
    brought: Brought
    damaged: dict[str, str]
    told: str = ""
    settled: Settled = field(default_factory=Settled)
    seconds: float = 0.0

    @property
    def migrated(self) -> bool:
        """Whether the schema had to be brought up to this program's."""
        return self.inventory.schema != migration.REVISIONS[-1]


def restore(
    source: Path,
    folder: Path,
    caller: Caller,
    *,
    url: str = "",
    url_file: Path | None = None,
    incomplete: bool = False,
) -> Restored:
    """
    Puts the newest snapshot in *source*, or the one that *source* is, into the missing or empty directory *folder*.

    With a *url*, the records go into the empty PostgreSQL database there, which the restored settings will name by
    *url_file*. With *incomplete*, blobs that are damaged in the backup are left out. Raises `Invalid` for a backup that
    is none or is damaged, and for a *folder* that is not empty; `Conflict` for a backup in use or of a newer program;
    `Unavailable` when something cannot be read or written. Then there is nothing new in *folder*.
    """
    begun = time.monotonic()
    chosen, root = _located(source.absolute())
    inventory = Inventory.read(chosen)
    if inventory.schema not in migration.REVISIONS:
        raise Conflict(
            f"The backup's schema ({inventory.schema}) is newer than this program; restore it with the version that "
            "made it."
        )
    with ExitStack() as closing:
        if (root / LOCK).exists():
            closing.enter_context(held(root, fcntl.LOCK_SH))
        staging = closing.enter_context(_staged(folder.absolute()))
        closing.enter_context(_told(folder))
        if url:
            _require_empty(url, staging)
        listed = inventory.listed_blobs(chosen)
        secrets, told = _records(chosen, inventory, staging)
        brought = _content(listed, root, staging)
        damaged = {**inventory.damaged, **brought.damaged}
        restored = Restored(chosen, inventory, folder, not damaged or incomplete, brought, damaged, told)
        if not restored.done:
            return replace(restored, seconds=time.monotonic() - begun)
        _record(restored, secrets, staging, caller, url)
        settled = settle(staging, folder.absolute(), url, url_file)
        _move(staging, folder.absolute(), in_file=not url)
    return replace(restored, settled=settled, seconds=time.monotonic() - begun)


def _located(source: Path) -> tuple[Path, Path]:
    """The snapshot meant by *source*, and the directory of backups that it is in."""
    try:
        if (source / FILE_NAME).is_file():
            return source, source.parent.parent
        if (source / SNAPSHOTS).is_dir():
            found = complete(source)
            if not found:
                raise Invalid(f"There is no complete backup in {source} yet; choose another.")
            return found[-1], source
    except OSError as error:
        raise Invalid(f"{source} cannot be read ({_why(error)}); run as the owner of the backup.") from error
    if not source.exists():
        raise Invalid(f"There is no {source}; name a directory of backups, or a snapshot in it.")
    raise Invalid(f"{source} is no backup: there are neither snapshots nor an inventory in it.")


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """A new folder inside *folder*, which is removed again with what is in it unless it was emptied."""
    if set(str(folder)) & set("?%"):
        raise Invalid(f"{folder} has a '?' or '%' in it; choose another path.")
    made = not folder.exists()
    require_folder(folder, make=True)
    staging = folder / _STAGING
    # A restore that was killed before anything came into its place left this and nothing else.
    if any(entry.name not in {_STAGING, FOUND} for entry in folder.iterdir()):
        raise Invalid(f"{folder} is not empty; restore into an empty or a new directory.")
    if staging.exists():
        shutil.rmtree(staging)
    folder.chmod(0o700)
    staging.mkdir(mode=0o700)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if made and not any(folder.iterdir()):
            folder.rmdir()


def _require_empty(url: str, staging: Path) -> None:
    database = Database.open(url, staging)
    try:
        if database.sqlite:
            raise Invalid("The URL must be one of PostgreSQL; without it the records go into a file of the directory.")
        migration.revision(database)
        if not snapshot.is_empty(database):
            raise Conflict("The database holds the records of a gateway already; make an empty one, and name that.")
    finally:
        database.close()


def _records(chosen: Path, inventory: Inventory, staging: Path) -> tuple[Secrets, str]:
    """
    Brings the files of the snapshot, verified, and the records up to this program.

    Returns the secret that fits them, and what else the trail tells.
    """
    for name, digest in inventory.files.items():
        place = staging / name
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        hasher = hashlib.sha256()
        try:
            copy(chosen / name, place, hasher, threading.Event())
        except Damaged as damage:
            raise Invalid(f"{chosen / name} is damaged: {damage}; restore another snapshot.") from damage
        if hasher.hexdigest() != digest:
            raise Invalid(f"{chosen / name} is damaged: its bytes have another digest; restore another snapshot.")
    (staging / BLOBS).unlink()
    secrets = Secrets.load(staging / "keys")
    if snapshot.bring_up(staging / DATABASE) != inventory.schema:
        raise Invalid(f"{chosen} is damaged: its records are not those of its inventory; restore another snapshot.")
    try:
        found = tried(staging, inventory)
    except Invalid as refusal:
        raise Invalid(f"{chosen} cannot be restored: {refusal.message} Restore another snapshot.") from refusal
    if found.fault:
        _index_anew(staging, secrets)
    return secrets, found.fault


def _index_anew(staging: Path, secrets: Secrets) -> None:
    """Whatever searches find events by, it is what the events say, which the chain vouches for."""
    database = Database.open(_file_url(staging), staging)
    try:
        with database.lock(), database.writer() as connection:
            project_anew(database, connection, secrets.trail)
    finally:
        database.close()


def _content(listed: list[Blob], root: Path, staging: Path) -> Brought:
    spare = staging / "coming"
    spare.mkdir(mode=0o700)
    brought = bring_blobs(listed, root, staging, spare, threading.Event())
    spare.rmdir()
    return brought


def _record(restored: Restored, secrets: Secrets, staging: Path, caller: Caller, url: str) -> None:
    """Puts the records where they will be, and the event of this restore as the first new one into their trail."""
    if url:
        snapshot.prepare(url, staging, serving_url(staging, url))
    database = Database.open(url or _file_url(staging), staging)
    try:
        if url:
            snapshot.fill(staging / DATABASE, database)
        asyncio.run(_note(database, secrets, caller, _facts(restored)))
    finally:
        database.close()


async def _note(database: Database, secrets: Secrets, caller: Caller, detail: dict[str, object]) -> None:
    ledger = SqlLedger(database, secrets.trail)
    ledger.start()
    try:
        gate = Gate(SqlDirectory(database), ledger)
        async with gate.passage(caller, Kind.STORAGE_RESTORE, Need(Action.MANAGE), detail=detail) as passage:
            await passage.commit(snapshot.forget_unsaved(detail))
    finally:
        ledger.close()


def _facts(restored: Restored) -> dict[str, object]:
    inventory = restored.inventory
    return {
        "source": str(restored.snapshot),
        "taken": inventory.taken,
        "chain_seq": inventory.chain_seq,
        "blobs": restored.brought.copied,
        "blob_bytes": restored.brought.bytes,
        "damaged": len(restored.damaged),
        **({"fault": restored.told} if restored.told else {}),
        "schema": inventory.schema,
    }


def _move(staging: Path, folder: Path, *, in_file: bool) -> None:
    """Everything into its place: each name at once, and durably."""
    dropped = _NOT_MOVED if in_file else _NOT_MOVED | {DATABASE}
    for inner in staging.rglob("*"):
        if inner.is_dir() and not inner.is_relative_to(staging / "blobs"):
            sync_folder(inner)
    names = {path.name for path in staging.iterdir()} - dropped
    middle = sorted(names - {_FIRST, _LAST})
    for name in (*({_FIRST} & names), *middle, *({_LAST} & names)):
        (staging / name).rename(folder / name)
        sync_folder(folder)


def _file_url(folder: Path) -> str:
    return f"sqlite:///{folder / DATABASE}"


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except Stopped as error:
        raise Unavailable("The restore was stopped; nothing was restored.") from error
    except OSError as error:
        raise Unavailable(f"The restore into {folder} failed ({_why(error)}); nothing was restored.") from error


def _why(error: OSError) -> str:
    return (error.strerror or "unknown reason").lower()
