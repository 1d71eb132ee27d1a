"""What is pushed and pulled: files of bytes that nothing can compress, each different from every other."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Sequence
from pathlib import Path

from tests.services.images import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST

_PIECE = 8 << 20


def make_file(directory: Path, size: int) -> tuple[str, Path]:
    """A file of *size* random bytes named by its digest, and that digest."""
    made = directory / "making"
    source = random.Random(os.urandom(8)).randbytes(min(size, _PIECE))
    hashed = hashlib.sha256()
    with made.open("wb") as file:
        for start in range(0, size, _PIECE):
            # A number in front of every piece makes it another one; the rest may repeat, for nothing here looks.
            piece = (start.to_bytes(8, "big") + source[8:])[: size - start]
            hashed.update(piece)
            file.write(piece)
    return f"sha256:{hashed.hexdigest()}", made.rename(directory / hashed.hexdigest())


def image_manifest(layers: Sequence[tuple[str, int]], config: tuple[str, int]) -> bytes:
    """An image manifest that names these digests and sizes."""
    described = [{"mediaType": OCI_LAYER, "digest": digest, "size": size} for digest, size in layers]
    named = {"mediaType": OCI_CONFIG, "digest": config[0], "size": config[1]}
    value = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": named, "layers": described}
    return json.dumps(value).encode()
