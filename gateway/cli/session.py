"""Who runs the command, on which data: every command acts through the gate as `operator:<name of the real uid>`."""

from __future__ import annotations

import asyncio
import os
import pwd
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from gateway.access.principals import LOCAL, Caller, Origin, Principal, PrincipalKind
from gateway.cli.ownership import act_as_owner
from gateway.errors import Invalid
from gateway.folder import require_folder
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.administration import Administration
    from gateway.app import Rooms

T = TypeVar("T")

DISTRIBUTION = "registry-gateway"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the gateway is: a data directory, or a settings file that names one."""

    data: Path | None
    config: Path | None

    def settings(self) -> Settings:
        """Its settings; raises `Invalid`."""
        if self.config is not None:
            return Settings.load(self.config)
        return Settings.for_data(self.data or Path("data"))

    def options(self) -> tuple[str, str]:
        """What leads a later command to the same place, from any directory."""
        if self.config is not None:
            return ("--config", str(self.config.absolute()))
        return ("--data", str((self.data or Path("data")).absolute()))


def place(ctx: typer.Context) -> Place:
    """The place the global options name."""
    found = ctx.find_root().obj
    if not isinstance(found, Place):
        raise TypeError("the global options have not been read")
    return found


def operator() -> Caller:
    """Whoever runs this command, as the operating system knows them."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    origin = Origin("local", "local", f"gateway-cli/{version(DISTRIBUTION)}", uuid.uuid4().hex)
    return Caller(Principal(PrincipalKind.OPERATOR, uid, f"operator:{name}"), origin, LOCAL)


@contextmanager
def rooms(ctx: typer.Context) -> Iterator[Rooms]:
    """The rooms on the data that the global options name, opened as its owner; raises `Invalid` if there is none."""
    # All rooms at once take a while to import; help and wrong usage are answered without them.
    from gateway.app import opened

    settings = place(ctx).settings()
    require_folder(settings.data, make=False, command=settings.command)
    act_as_owner(settings.data)
    with opened(settings) as joined:
        yield joined


def run(ctx: typer.Context, act: Callable[[Administration, Caller], Awaitable[T]]) -> T:
    """What *act* returns, given the acts of administration and the operator; refusals pass through."""

    async def acting(joined: Rooms) -> T:
        try:
            return await act(joined.administration, operator())
        finally:
            await joined.engine.close()

    with rooms(ctx) as joined:
        return asyncio.run(acting(joined))


def stdin_password() -> str:
    """The password on standard input: one line, without the line end. Raises `Invalid` if it is empty or no text."""
    with open(0, "rb", closefd=False) as stream:
        line = stream.readline(4096)
    try:
        password = line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError:
        raise Invalid("The password on standard input is not UTF-8 text.") from None
    if not password:
        raise Invalid("No password came on standard input; pipe one line in, as in: gateway … --password-stdin < FILE")
    return password
