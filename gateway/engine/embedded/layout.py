"""Where content lies in the data directory.

    DATA/
    ├─ blobs/<algorithm>/<first two hex digits>/<hex digits>     published: the bytes have that digest
    └─ uploads/<id>                                              growing: acknowledged up to its row's offset

The records say who may see which blob. A file without a row is invisible garbage; a row without its file is damage.
"""

from __future__ import annotations

from gateway.oci.digest import Digest


def blob_key(digest: Digest) -> str:
    return f"blobs/{digest.algorithm.value}/{digest.hex[:2]}/{digest.hex}"


def upload_key(upload_id: str) -> str:
    """The key of an upload's spool; *upload_id* is known to be one."""
    return f"uploads/{upload_id}"
