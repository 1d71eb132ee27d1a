"""`gateway backup` and `gateway restore`: everything into a directory, and from there into a new data directory."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.importing import size_text
from gateway.cli.output import printable, say, show_json
from gateway.cli.ownership import act_as_owner
from gateway.cli.session import operator, place, rooms
from gateway.cli.welcome import command_path
from gateway.cli.words import Json
from gateway.errors import Invalid

if TYPE_CHECKING:
    from gateway.backup.restoring import Restored
    from gateway.backup.taking import Taken

_SHOWN = 20
_BEHIND = "The registry behind keeps the content: back up its storage by its own means, at the same time."


def backup(
    ctx: typer.Context,
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="A directory that holds backups and nothing else.")],
    keep: Annotated[
        int | None, typer.Option("--keep", metavar="N", min=1, help="Afterwards keep only the N newest snapshots.")
    ] = None,
    as_json: Json = False,
) -> None:
    """
    Back up everything into TARGET, whether or not the gateway serves.

    The records are those of one moment; blobs that are in TARGET already are not copied again. A backup holds every
    secret of the gateway: TARGET is readable by its owner alone, and has to be guarded like the data directory.

    The exit status is 1 if a blob is damaged here, and is therefore missing in the backup; and if the audit trail is
    damaged, so that the backup cannot be restored: then --keep removes nothing.
    """
    from gateway.backup.taking import Backups  # help is answered without it

    with rooms(ctx) as joined:
        backups = Backups(joined.gate, joined.database, joined.settings)
        try:
            taken = asyncio.run(backups.take(operator(), target, keep=keep))
        except KeyboardInterrupt:
            say("gateway: stopped; nothing new is in the backup, and older ones are untouched.", error=True)
            raise
    if as_json:
        show_json(_told_taken(taken))
    else:
        _show_taken(taken)
    raise typer.Exit(1 if taken.inventory.damaged or taken.refused else 0)


def restore(
    ctx: typer.Context,
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A directory of backups (the newest counts), or a snapshot in it.")
    ],
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="The data directory to make; missing or empty.")
    ] = None,
    database_url_file: Annotated[
        Path | None,
        typer.Option(
            "--database-url-file", metavar="FILE", help="Put the records into the empty PostgreSQL of the URL in FILE."
        ),
    ] = None,
    incomplete: Annotated[
        bool, typer.Option("--incomplete", help="Restore the rest if blobs are damaged in the backup.")
    ] = False,
    as_json: Json = False,
) -> None:
    """
    Restore a backup into a missing or empty data directory. Everything is verified before; nothing is started.

    Blobs that are damaged in the backup are listed, nothing is restored, and the exit status is 1; see --incomplete.
    """
    from gateway.backup.restoring import restore as restore_into  # as above

    where = place(ctx)
    folder = data or where.data
    if folder is None:
        raise Invalid("A restore makes a data directory, settings and all; give --data instead of --config.")
    if folder.is_dir():
        act_as_owner(folder)
    restored = restore_into(
        source, folder, operator(), url=_url(database_url_file), url_file=database_url_file, incomplete=incomplete
    )
    if as_json:
        show_json(_told_restored(restored))
    else:
        _show_restored(restored)
    raise typer.Exit(1 if restored.damaged else 0)


def _url(file: Path | None) -> str:
    if file is None:
        return ""
    try:
        url = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise Invalid(f"{file} cannot be read; it must hold the URL of an empty PostgreSQL database.") from None
    if file.stat().st_mode & 0o077:
        # The settings will name it, and refuse one that others may read.
        raise Invalid(f"{file} can be read by others; run: chmod 600 {file}")
    if not url.startswith("postgresql"):
        raise Invalid(f"{file} must hold one line, postgresql://USER:PASSWORD@HOST/DATABASE.")
    return url


def _told_taken(taken: Taken) -> dict[str, object]:
    inventory, brought, removed = taken.inventory, taken.brought, taken.removed
    return {
        "snapshot": str(taken.snapshot),
        "taken": inventory.taken,
        "schema": inventory.schema,
        "engine": inventory.engine,
        "trail": {"seq": inventory.chain_seq, "hash": inventory.chain_hash},
        "records": dict(inventory.counts),
        "blobs": {"copied": brought.copied, "bytes": brought.bytes, "already_there": brought.there},
        "removed": {"snapshots": removed.snapshots, "blobs": removed.blobs, "bytes": removed.bytes},
        "damaged": [{"digest": digest, "reason": why} for digest, why in sorted(inventory.damaged.items())],
        "outside": list(inventory.outside),
        "restorable": not taken.refused,
        "fault": taken.refused or taken.told or None,
        "ahead": str(taken.ahead) if taken.ahead is not None else None,
        "same_disk": taken.same_disk,
        "seconds": round(taken.seconds, 3),
    }


def _show_taken(taken: Taken) -> None:
    inventory, brought, removed = taken.inventory, taken.brought, taken.removed
    say(
        f"{taken.snapshot}: the records up to event {inventory.chain_seq}, and {inventory.blobs} blobs; "
        f"{brought.copied} of them ({size_text(brought.bytes)}) are new, in {taken.seconds:.1f} s."
    )
    if removed.snapshots or removed.blobs:
        say(f"Removed {removed.snapshots} older snapshots and {removed.blobs} blobs ({size_text(removed.bytes)}).")
    if inventory.engine != "embedded":
        say(_BEHIND)
    for path in inventory.outside:
        say(f"Not in the backup, because it lies outside the data directory: {printable(path)}")
    if taken.same_disk:
        say("gateway: warning: the backup is on the same file system as the data; copy it to another.", error=True)
    if taken.ahead is not None:
        say(
            f"gateway: warning: {taken.ahead} is of a time that is yet to come: a clock was or is wrong. What is made "
            "now is named as the next, so that it counts as newer.",
            error=True,
        )
    _show_damaged("Damaged here, and not in the backup; push them again:", inventory.damaged)
    if taken.told:
        say(printable(f"gateway: warning: the trail in it is whole, but {taken.told}; see: audit verify"), error=True)
    if taken.refused:
        say(printable(f"gateway: this backup cannot be restored, older ones stay: {taken.refused}"), error=True)
    say("It holds every secret of this gateway: guard it like the data directory.")


def _told_restored(restored: Restored) -> dict[str, object]:
    inventory = restored.inventory
    return {
        "snapshot": str(restored.snapshot),
        "data": str(restored.folder),
        "restored": restored.done,
        "taken": inventory.taken,
        "schema": inventory.schema,
        "migrated": restored.done and restored.migrated,
        "engine": inventory.engine,
        "trail": {"seq": inventory.chain_seq, "hash": inventory.chain_hash},
        "records": dict(inventory.counts),
        "blobs": {"copied": restored.brought.copied, "bytes": restored.brought.bytes},
        "damaged": [{"digest": digest, "reason": why} for digest, why in sorted(restored.damaged.items())],
        "fault": restored.told or None,
        "settings_aside": restored.settled.aside,
        "missing": list(restored.settled.missing),
        "seconds": round(restored.seconds, 3),
    }


def _show_restored(restored: Restored) -> None:
    inventory, settled = restored.inventory, restored.settled
    _show_damaged("Damaged in the backup:", restored.damaged)
    if not restored.done:
        say("Nothing was restored. Choose another snapshot, or restore what is whole with --incomplete.")
        return
    say(
        f"Restored {restored.folder} as it was at {inventory.taken}, up to event {inventory.chain_seq}: "
        f"{restored.brought.copied} blobs ({size_text(restored.brought.bytes)}) in {restored.seconds:.1f} s, verified."
    )
    say("What was revoked or deleted after that moment is as it was before: do it again where it matters.")
    if restored.told:
        say(printable(f"gateway: warning: the trail is whole, but {restored.told}; audit verify says so."), error=True)
        say("What searches find events by was made anew from them; whether they are counted rightly: check --repair")
    if restored.migrated:
        say(f"The schema was brought up from {inventory.schema} to this program's.")
    if settled.aside:
        say(printable(f"The backup's settings are beside it as gateway.toml.from-backup: {settled.aside}."))
    for path in settled.missing:
        say(printable(f"The settings name a file that is not here; bring it yourself: {path}"))
    if inventory.engine != "embedded":
        say("The registry behind kept the content: its storage has to be restored to the same moment.")
    command = shlex.join((command_path(), "--data", str(restored.folder.absolute())))
    say(f"Next: {command} audit verify")
    say(f"      {command} serve")


def _show_damaged(heading: str, damaged: Mapping[str, str]) -> None:
    if not damaged:
        return
    say(heading)
    for digest, why in sorted(damaged.items())[:_SHOWN]:
        say(printable(f"  {digest}: {why}"))
    if len(damaged) > _SHOWN:
        say(f"  … and {len(damaged) - _SHOWN} more; --json lists them all.")
