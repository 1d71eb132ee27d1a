"""The transport of a connection that is gone."""

from __future__ import annotations

import asyncio
from typing import Final


class _Lost(asyncio.Transport):
    """The transport of a connection that is gone: takes everything, does nothing."""

    def is_closing(self) -> bool:
        return True

    def close(self) -> None: ...

    def abort(self) -> None: ...

    def write(self, data: bytes | bytearray | memoryview) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


LOST: Final = _Lost()
