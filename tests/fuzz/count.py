"""How often a target was tried: written by the process that tries, read by the one that began it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

COUNT: Final = struct.Struct("<Q")


def read_count(file: Path) -> int:
    """What was written last; 0 if there is nothing yet."""
    try:
        return int(COUNT.unpack_from(file.read_bytes())[0])
    except (FileNotFoundError, struct.error):
        return 0
