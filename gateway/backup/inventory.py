"""The inventory: what a snapshot consists of, with digests; a folder without one is no backup."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway.engine.port import Blob
from gateway.errors import Conflict, DigestInvalid, Invalid
from gateway.oci.digest import Digest

FILE_NAME: Final = "inventory.json"
DATABASE: Final = "gateway.db"
BLOBS: Final = "blobs.txt"
#: The form of backup that this program writes, and the newest it reads.
FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Inventory:
    """
    What a snapshot consists of. *files* maps each file of it, by relative path, to its SHA-256.

    *database* and *engine* say what the records and the content were kept in; *chain* is the number and hash of the
    last event. *blobs* are counted as far as they are in the backup; *damaged* names those that could not be copied,
    with the reason. *outside* are files that the settings name beyond the data directory: they are not in the backup.
    """

    taken: str
    program: str
    schema: str
    database: str
    engine: str
    chain_seq: int
    chain_hash: str
    counts: Mapping[str, int]
    blobs: int
    blob_bytes: int
    files: Mapping[str, str]
    damaged: Mapping[str, str] = field(default_factory=dict)
    outside: tuple[str, ...] = ()
    format: int = FORMAT

    def text(self) -> str:
        """The inventory as it is kept."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"

    @classmethod
    def read(cls, folder: Path) -> Inventory:
        """
        That of the snapshot in *folder*.

        Raises `Invalid` if there is none or it is damaged, `Conflict` if a newer program wrote it.
        """
        path = folder / FILE_NAME
        try:
            found: Any = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise Invalid(f"{folder} is no backup: there is no {FILE_NAME} in it; choose another snapshot.") from None
        except OSError as error:
            raise Invalid(f"{path} cannot be read ({error.strerror}); run as the owner of the backup.") from error
        except (ValueError, RecursionError):
            raise _damaged(path) from None
        if isinstance(found, dict) and isinstance(found.get("format"), int) and found["format"] > FORMAT:
            raise Conflict(f"{folder} was made by a newer gateway; restore it with the version that made it.")
        return _checked(path, found)

    def listed_blobs(self, folder: Path) -> list[Blob]:
        """The blobs that the snapshot in *folder* names, the damaged ones too; raises `Invalid` if its list is bad."""
        path = folder / BLOBS
        try:
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != self.files[BLOBS]:
                raise _damaged(path)
            rows = [line.split(" ") for line in content.decode("ascii").splitlines()]
            return [Blob(Digest.parse(digest), int(size)) for digest, size in rows]
        except OSError as error:
            raise Invalid(f"{path} cannot be read ({error.strerror}); choose another snapshot.") from error
        except (ValueError, DigestInvalid):
            raise _damaged(path) from None


def blobs_text(blobs: list[tuple[str, int]]) -> bytes:
    """The list of blobs as it is kept: a digest and a size a line."""
    return "".join(f"{digest} {size}\n" for digest, size in blobs).encode()


def _checked(path: Path, found: Any) -> Inventory:
    try:
        inventory = Inventory(**{**found, "outside": tuple(found["outside"])})
    except (TypeError, KeyError):
        raise _damaged(path) from None
    texts = (inventory.taken, inventory.program, inventory.schema, inventory.database, inventory.engine)
    numbers = (inventory.format, inventory.chain_seq, inventory.blobs, inventory.blob_bytes)
    maps = (inventory.files, inventory.counts, inventory.damaged)
    well_formed = (
        # Printable, for they are shown.
        all(isinstance(value, str) and value.isprintable() for value in (*texts, inventory.chain_hash))
        and all(isinstance(value, str) for value in inventory.outside)
        and all(isinstance(value, int) for value in numbers)
        and all(isinstance(value, dict) for value in maps)
        and {DATABASE, BLOBS} <= set(inventory.files)
        # Nothing in a backup leads out of it.
        and all(_inside(name) and isinstance(digest, str) for name, digest in inventory.files.items())
    )
    if not well_formed:
        raise _damaged(path)
    return inventory


def _inside(name: str) -> bool:
    parts = Path(name).parts
    return bool(parts) and not Path(name).is_absolute() and ".." not in parts


def _damaged(path: Path) -> Invalid:
    return Invalid(f"{path} is damaged; choose another snapshot.")
