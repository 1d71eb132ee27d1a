"""Where content lies in the data directory.

    DATA/
    ├─ blobs/<algorithm>/<first two hex digits>/<hex digits>     published: the bytes have that digest
    └─ uploads/<id>                                              growing: acknowledged up to its row's offset

The records say who may see which blob. A file without a row is invisible garbage; a row without its file is damage.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.oci.digest import Digest

_UPLOAD_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII)


def blob_key(digest: Digest) -> str:
    return f"blobs/{digest.algorithm.value}/{digest.hex[:2]}/{digest.hex}"


def upload_key(upload_id: str) -> str:
    """The key of an upload's spool; *upload_id* has passed `is_upload_id`."""
    return f"uploads/{upload_id}"


def is_upload_id(text: str) -> bool:
    """Whether *text* is spelled as the ids this engine gives out: a random UUID in lower case."""
    return _UPLOAD_ID.fullmatch(text) is not None
