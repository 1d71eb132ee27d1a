"""Taking a backup of a gateway that may be serving: the records at one moment, and every blob that they name.

    event storage.backup ─▶ records ─▶ keys, segments ─▶ blobs ─▶ inventory ─▶ tried ─▶ named ─▶ storage.backup.ended

The first event is in the snapshot; the last one has the receipt. What is killed in between leaves no new snapshot.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final, TypeAlias

from gateway.access.policy import Need
from gateway.access.principals import Caller
from gateway.access.scopes import Action
from gateway.audit.event import Kind
from gateway.backup.copying import Brought, Damaged, Stopped, bring_blobs, copy, keep_text
from gateway.backup.inventory import BLOBS, DATABASE, FILE_NAME, Inventory, blobs_text
from gateway.backup.target import Removed, Target
from gateway.backup.trial import tried
from gateway.engine.embedded.truce import sweeps_held_off
from gateway.engine.port import Blob
from gateway.engine_section import EngineKind
from gateway.errors import Invalid, Unavailable
from gateway.gate import Gate
from gateway.oci.digest import Digest
from gateway.records import snapshot
from gateway.records.database import Database
from gateway.settings import FILE_NAME as SETTINGS
from gateway.settings import Settings
from gateway.sources import NOWHERE

#: How often a backup begins again because what it was copying was removed meanwhile.
_ATTEMPTS: Final = 3
#: How long a backup waits for the end of a sweep.
_SWEEP_SECONDS: Final = 3600.0
_KEPT_FOLDERS: Final = ("keys", "tls", snapshot.SEGMENTS)
#: The digest of each file that was kept beside the records, by its place; and the files that lie elsewhere.
_Kept: TypeAlias = tuple[dict[str, str], list[str]]


@dataclass(frozen=True, slots=True)
class Taken:
    """
    A backup that was made, and what it took.

    *ahead* is the snapshot before it if that is named after a time that is yet to come: this one is named as the next.
    *refused* says why no restore would take it, or is empty; *told* what verifying finds of its trail, if that is all.
    """

    snapshot: Path
    inventory: Inventory
    brought: Brought
    removed: Removed
    same_disk: bool
    seconds: float
    refused: str = ""
    told: str = ""
    ahead: Path | None = None


@dataclass(frozen=True, slots=True)
class Backups:
    """
    Taking one needs an administrator: it copies everything, secrets included.

    Raises `Invalid` for a target that cannot be one, `Conflict` while it is in use, `Unavailable` when something other
    than a blob cannot be read, or nothing can be written.
    """

    gate: Gate
    database: Database
    settings: Settings

    async def take(self, caller: Caller, place: Path, *, keep: int | None = None) -> Taken:
        """
        A snapshot in the directory *place*; with *keep*, only so many snapshots are left there afterwards.

        A blob that is damaged here does not hold up the rest: the inventory names it. Nothing is removed for a snapshot
        that no restore would take.
        """
        need, told = Need(Action.MANAGE), {"target": str(place)}
        async with self.gate.passage(caller, Kind.STORAGE_BACKUP, need, detail=told) as passage:
            target = Target.prepared(place, self.settings.data)
            await passage.seal()
        async with self.gate.passage(caller, Kind.STORAGE_BACKUP_ENDED, need, detail=told) as passage:
            with target.alone():
                taken = await self._in_a_thread(target, keep)
            passage.note(bytes=taken.brought.bytes, detail={**told, **_receipt(taken)})
            await passage.seal()
        return taken

    async def _in_a_thread(self, target: Target, keep: int | None) -> Taken:
        stop = threading.Event()
        try:
            return await asyncio.to_thread(self._take, target, keep, stop)
        except asyncio.CancelledError:
            stop.set()
            raise

    def _take(self, target: Target, keep: int | None, stop: threading.Event) -> Taken:
        begun = time.monotonic()
        with _told(target.root), sweeps_held_off(self.settings.data, _SWEEP_SECONDS, stop):
            ahead = target.ahead()
            inventory, folder, brought = self._copied(target, stop)
            keep_text(folder / FILE_NAME, inventory.text().encode())
            refused, told = _tried(folder, inventory)
            if stop.is_set():
                raise Stopped
            place = target.publish(folder)
            removed = target.clear(keep, place) if keep is not None and not refused else Removed()
            same_disk = target.root.stat().st_dev == self.settings.data.stat().st_dev
        return Taken(place, inventory, brought, removed, same_disk, time.monotonic() - begun, refused, told, ahead)

    def _copied(self, target: Target, stop: threading.Event) -> tuple[Inventory, Path, Brought]:
        """The records of a moment and what they name, in a folder that is not a snapshot yet, and its inventory."""
        for attempt in range(_ATTEMPTS):
            folder = target.begin()
            moment = datetime.now(UTC)
            snapshot.take(self.database, folder / DATABASE)
            with snapshot.opened(folder / DATABASE) as connection:
                found, listed = snapshot.contents(connection), self._listed(snapshot.linked_blobs(connection))
                named = snapshot.segment_files(connection)
            # Before the blobs, which may take hours: what the records name may be purged by then.
            kept = self._keep_files(folder, stop)
            if missing := named - kept[0].keys():
                self._require_purged(missing)
                continue
            keep_text(folder / BLOBS, blobs_text([(blob.digest.text, blob.size_bytes) for blob in listed]))
            brought = bring_blobs(listed, self.settings.data, target.root, target.spare, stop)
            # What no repository holds any more was removed since, rightly: the next snapshot does not name it.
            if attempt + 1 == _ATTEMPTS or not any(self._is_gone(digest) for digest in brought.damaged):
                return self._inventory(folder, moment, found, brought, kept), folder, brought
        raise Unavailable("Old events were purged while they were copied; make the backup again when that has ended.")

    def _listed(self, kept: list[tuple[str, int]]) -> list[Blob]:
        if self.settings.engine.kind is not EngineKind.EMBEDDED:
            return []
        return [Blob(Digest(digest), size) for digest, size in kept]

    def _is_gone(self, digest: str) -> bool:
        return not self.database.read_now(lambda connection: snapshot.is_linked(connection, digest))

    def _keep_files(self, folder: Path, stop: threading.Event) -> _Kept:
        """Copies what lies beside the records."""
        files: dict[str, str] = {}
        inside, outside = self._files()
        for name, path in inside.items():
            hasher = hashlib.sha256()
            (folder / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                copy(Path(path).resolve(), folder / name, hasher, stop)
            except Damaged as damage:
                if path.parent.name == snapshot.SEGMENTS and not path.exists():
                    # Purged a moment ago; whether it is missed is seen by what the records name.
                    continue
                raise Unavailable(f"{path} cannot be backed up: {damage}.") from damage
            files[name] = hasher.hexdigest()
        return files, outside

    def _require_purged(self, missing: set[str]) -> None:
        """Raises `Unavailable` if one of those files of events is still to be there, by the records of now."""
        lost = sorted(missing & self.database.read_now(snapshot.segment_files))
        if lost:
            raise Unavailable(
                f"No backup was made: {lost[0]} is missing here and the trail needs it; put it back from an older one."
            )

    def _inventory(
        self, folder: Path, moment: datetime, found: snapshot.Contents, brought: Brought, kept: _Kept
    ) -> Inventory:
        files, outside = kept
        return Inventory(
            taken=moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
            program=version("registry-gateway"),
            schema=found.schema,
            database="sqlite" if self.database.sqlite else "postgresql",
            engine=self.settings.engine.kind.value,
            chain_seq=found.head.seq,
            chain_hash=found.head.hash.hex(),
            counts=found.counts,
            blobs=brought.copied + brought.there,
            blob_bytes=brought.bytes + brought.there_bytes,
            files={name: _sha256(folder / name) for name in (DATABASE, BLOBS)} | files,
            damaged=brought.damaged,
            outside=tuple(outside),
        )

    def _files(self) -> tuple[dict[str, Path], list[str]]:
        """The files to copy beside the records, by their place in the data directory; and those that lie elsewhere."""
        data = self.settings.data
        inside: dict[str, Path] = {}
        for name in _KEPT_FOLDERS:
            for path in sorted((data / name).glob("**/*")):
                # One with a dot is being written this moment, or was when somebody was killed.
                if path.is_file() and not path.name.startswith("."):
                    inside[str(path.relative_to(data))] = path
        outside: list[str] = []
        for path in named_files(self.settings):
            if path.is_relative_to(data):
                inside[str(path.relative_to(data))] = path
            else:
                outside.append(str(path))
        if self.settings.file is not None:
            inside[SETTINGS] = self.settings.file
        return inside, outside


def named_files(settings: Settings) -> list[Path]:
    """The files that *settings* name, besides the data directory."""
    server, engine, database = settings.server, settings.engine, settings.database
    named = (
        server.certificate,
        server.key,
        engine.password_file,
        engine.ca_file,
        database.url_file,
        database.migrate_url_file,
        *(
            path
            for sink in settings.audit.sinks.values()
            for path in (sink.ca_file, sink.certificate, sink.key, sink.secret_file)
        ),
    )
    return [path for path in named if path != NOWHERE]


def _receipt(taken: Taken) -> dict[str, object]:
    inventory = taken.inventory
    return {
        "snapshot": taken.snapshot.name,
        "chain_seq": inventory.chain_seq,
        "chain_hash": inventory.chain_hash,
        "blobs": inventory.blobs,
        "blob_bytes": inventory.blob_bytes,
        "copied": taken.brought.copied,
        "damaged": len(inventory.damaged),
        "removed_snapshots": taken.removed.snapshots,
        "removed_blobs": taken.removed.blobs,
        "database_sha256": inventory.files[DATABASE],
        **({"fault": taken.refused or taken.told} if taken.refused or taken.told else {}),
    }


def _tried(folder: Path, inventory: Inventory) -> tuple[str, str]:
    """Why no restore would take what is in *folder*, or what verifying tells of it all the same."""
    try:
        return "", tried(folder, inventory).fault
    except Invalid as refusal:
        return refusal.message, ""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _told(root: Path) -> Iterator[None]:
    try:
        yield
    except Stopped as error:
        raise Unavailable("The backup was stopped; nothing new is in it.") from error
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise Unavailable(f"The backup could not be written to {root} ({reason}); older ones are untouched.") from error
