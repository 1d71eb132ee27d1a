"""The trial of a snapshot: whether a restore would take its records, asked by who makes it and by who restores it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

from gateway.access.secrets import Secrets
from gateway.audit.trail import Verification
from gateway.backup.inventory import DATABASE, Inventory
from gateway.errors import Invalid
from gateway.records import keys
from gateway.records.database import Database
from gateway.records.trail import SqlTrail

#: What opening a database leaves beside it.
LEFT: Final = ("lock", "versions")


def tried(folder: Path, inventory: Inventory) -> Verification:
    """
    What verifying finds of the trail in *folder*, which is laid out like a data directory, its schema this program's.

    It may tell of an edited end, and searches may have other words than events: that is restored as it is. Raises
    `Invalid` when the chain does not hold or ends elsewhere than *inventory* says, or the secret is not that of the
    records: then there is nothing to restore. Of what it takes to look nothing is left.
    """
    secrets = Secrets.load(folder / "keys")
    database = Database.open(f"sqlite:///{folder / DATABASE}", folder)
    try:
        database.read_now(partial(keys.check, secrets=secrets))
        found = SqlTrail(database, secrets.trail, secrets.checkpoints).verify()
    finally:
        database.close()
        for name in LEFT:
            (folder / name).unlink(missing_ok=True)
    if not found.holds:
        raise Invalid(f"The trail in it is damaged: {found.fault}.")
    if (found.count, found.head) != (inventory.chain_seq, inventory.chain_hash):
        raise Invalid("The trail in it does not end where its inventory says.")
    return found
