"""Where a command writes what it exports: standard output, or a file that is there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from gateway.errors import Invalid


@contextlib.contextmanager
def destination(output: Path | None) -> Iterator[IO[str]]:
    """Standard output, or a file that comes into being whole or not at all; opened as the real user."""
    if output is None:
        yield sys.stdout
        return
    if output.exists() and not output.is_file():
        # A device or a pipe is written to, never replaced.
        with _opened(output) as device:
            yield device
        return
    with _made(output.resolve(), "w", encoding="utf-8", newline="") as file:
        yield file


@contextlib.contextmanager
def binary_destination(output: Path) -> Iterator[IO[bytes]]:
    """As `destination`, for bytes. Raises `Invalid` if there is such a file already."""
    if output.exists():
        raise Invalid(f"{output} exists already; name a file that does not.")
    with _made(output.resolve(), "wb") as file:
        yield file


@contextlib.contextmanager
def _made(output: Path, mode: str, **more: str) -> Iterator[IO[Any]]:
    folder = output.absolute().parent
    try:
        file: IO[Any] = tempfile.NamedTemporaryFile(  # type: ignore[call-overload]  # noqa: SIM115 - renamed or removed
            mode, dir=folder, prefix=f".{output.name}-", delete=False, **more
        )
    except OSError as error:
        raise Invalid(f"{output} cannot be written: {(error.strerror or 'unknown reason').lower()}.") from None
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with _real_user():
            Path(file.name).replace(output)
    except BaseException:
        with _real_user(), contextlib.suppress(OSError):
            Path(file.name).unlink()
        raise


def _opened(output: Path) -> IO[str]:
    try:
        return output.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise Invalid(f"{output} cannot be written: {(error.strerror or 'unknown reason').lower()}.") from None


@contextlib.contextmanager
def _real_user() -> Iterator[None]:
    """Acts as the real user again: the directory of an export is theirs, not the data's owner's."""
    effective = os.geteuid()
    os.seteuid(os.getuid())
    try:
        yield
    finally:
        os.seteuid(effective)
