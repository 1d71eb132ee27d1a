"""Where content lies in the data directory.

    DATA/
    ├─ blobs/<algorithm>/<first two hex digits>/<hex digits>     published: the bytes have that digest
    ├─ uploads/<id>                                              growing: acknowledged up to its row's offset
    ├─ imports/<id>                                              what an import has not verified yet
    ├─ quarantine/<digest>.<time>                                put aside: the bytes do not have that digest
    ├─ suspects/<digest>                                         a reader met damage; not empty: it was recorded
    ├─ scrub                                                     how far the scrub is
    └─ swept/<id>                                                on its way out: nothing names it any more

The records say who may see which blob. A file without a row is invisible garbage; a row without its file is damage.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from gateway.oci.digest import Algorithm, Digest

#: Cleared by each import when it begins; the lock beside it keeps every other out.
IMPORTS: Final = "imports"
IMPORTS_LOCK: Final = "imports.lock"
QUARANTINE: Final = "quarantine"
SCRUB: Final = "scrub"

#: What a sweep moves here it removes at once; what lies here longer was left by one that was stopped.
SWEPT: Final = "swept"
#: Held by a sweep; shared by whoever counts on files that no record links, or that might not be linked for long.
SWEEP_LOCK: Final = "sweep.lock"

BLOBS: Final = "blobs"
UPLOADS: Final = "uploads"


def blob_key(digest: Digest) -> str:
    return f"{shelf_key(digest.algorithm, digest.hex[:2])}/{digest.hex}"


def shelf_key(algorithm: Algorithm, digits: str) -> str:
    """The folder of the blobs whose hex digits begin with the two *digits*."""
    return f"{BLOBS}/{algorithm.value}/{digits}"


def upload_key(upload_id: str) -> str:
    """The key of an upload's spool; *upload_id* is known to be one."""
    return f"{UPLOADS}/{upload_id}"


def quarantine_key(digest: Digest, moment: datetime) -> str:
    """The key of damaged bytes that were put aside at *moment*."""
    return f"{QUARANTINE}/{digest}.{moment.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}"


def import_key(import_id: str) -> str:
    """The key of what an import is bringing."""
    return f"{IMPORTS}/{import_id}"
