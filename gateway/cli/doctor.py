"""`gateway doctor`: what an operator would want mended, a line for each thing that was looked at."""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

import typer

from gateway import probes
from gateway.administration import Finding, State
from gateway.cli.output import printable, say, show_json
from gateway.cli.session import operator, place, rooms
from gateway.cli.words import Json
from gateway.errors import AccessRefusal, Refusal, UpstreamUnavailable
from gateway.settings import Settings
from gateway.surroundings import listed, of_surroundings

if TYPE_CHECKING:
    from gateway.app import Rooms

#: Where a registry listens unless it is told otherwise.
USUAL_PORT = 5000

#: No content has this digest: whoever is asked to delete it says whether it would.
_NOTHING = f"/v2/gateway/doctor/manifests/sha256:{'0' * 64}"
_CLOSE = (
    "Let it listen on this machine alone (docker run -p 127.0.0.1:5001:5000, or http.addr: 127.0.0.1:5001 in its "
    "configuration), or close the port with a firewall rule."
)


def doctor(ctx: typer.Context, as_json: Json = False) -> None:
    """
    Look for what should be mended: permissions, disk, certificate, trail, and ways around the gateway.

    The exit status is 1 if anything is bad; a warning alone leaves it 0.
    """
    settings = place(ctx).settings()
    try:
        with rooms(ctx) as joined:
            found = asyncio.run(_examined(joined))
    except Refusal as refusal:
        if isinstance(refusal, AccessRefusal) or not os.access(settings.data, os.R_OK | os.X_OK, effective_ids=True):
            raise
        # Where the records cannot be opened, or written to, all the rest may say why.
        broken = Finding("records", State.BAD, refusal.message)
        found = (*asyncio.run(_outside(settings)), broken)
    well = all(finding.state is not State.BAD for finding in found)
    if as_json:
        shown = [{"name": each.name, "state": each.state, "text": each.text, "mend": each.mend} for each in found]
        show_json({"well": well, "findings": shown})
    else:
        for each in found:
            say(printable(f"{each.state:<4}  {each.name}: {each.text} {each.mend}".rstrip()))
    raise typer.Exit(0 if well else 1)


async def _examined(joined: Rooms) -> tuple[Finding, ...]:
    doctor = joined.administration.doctor
    return await doctor.examine(operator(), lambda: _outside(joined.settings))


async def _outside(settings: Settings) -> Sequence[Finding]:
    """What is found beside the records, in the order of what to mend first."""
    behind = await _behind(settings) if settings.engine.url else ()
    return (*behind, *of_surroundings(settings, datetime.now(UTC)))


# the registry behind


class _Answered(Protocol):
    @property
    def status(self) -> int: ...


_Ask: TypeAlias = Callable[..., Awaitable[_Answered]]


async def _behind(settings: Settings) -> tuple[Finding, ...]:
    asked, around = await asyncio.gather(_asked(settings), _around(settings))
    return *asked, *_volume(settings.engine.volume), around


async def _asked(settings: Settings) -> tuple[Finding, ...]:
    from gateway.app import upstream_client  # all rooms at once take a while to import

    client = upstream_client(settings)
    try:
        answers = await _upstream(client.ask, settings.engine.url)
        return (answers,) if answers.state is State.BAD else (answers, await _deletes(client.ask))
    finally:
        await client.close()


async def _upstream(ask: _Ask, url: str) -> Finding:
    try:
        status = (await ask("GET", "/v2/")).status
        says = f"{url} answers /v2/ with {status}, where a registry lets the gateway in with 200."
    except UpstreamUnavailable as refusal:
        status, says = 0, refusal.message
    if status == 200:
        return Finding("upstream", State.OK, f"The registry at {url} answers.")
    mend = "See that it runs, and that [engine] url, username, password_file and ca_file are right."
    return Finding("upstream", State.BAD, says, mend)


async def _deletes(ask: _Ask) -> Finding:
    try:
        status = (await ask("DELETE", _NOTHING, scope="repository:gateway/doctor:delete")).status
        says = f"The registry behind answers a delete of what it does not hold with {status}, not with 404."
    except UpstreamUnavailable as refusal:
        status, says = 0, f"Deletes will fail: {refusal.message}"
    mend = "See that the gateway's account there may delete."
    match status:
        case 404:
            return Finding("upstream deletes", State.OK, "The registry behind deletes what it is told to.")
        case 405:
            says = "The registry behind deletes nothing, so that no manifest or blob can be removed."
            mend = "Set storage.delete.enabled: true in its configuration, or REGISTRY_STORAGE_DELETE_ENABLED=true."
    return Finding("upstream deletes", State.WARN, says, mend)


def _volume(folder: Path) -> tuple[Finding, ...]:
    """Whether blobs can be read from the registry's files, if the settings name them."""
    if folder == Path():
        return ()
    try:
        _open_one(folder / "docker/registry/v2/blobs")
        return (Finding("upstream volume", State.OK, f"The registry's files can be read in {folder}."),)
    except OSError as error:
        says = f"No blob is read from {folder}, but all through the registry: {error.filename}: {error.strerror}."
    mend = (
        "Name the folder that the registry's configuration calls storage.filesystem.rootdirectory (in a container what "
        "is mounted at /var/lib/registry), which the gateway's account can read; it has nothing before the first push."
    )
    return (Finding("upstream volume", State.WARN, says, mend),)


def _open_one(folder: Path) -> None:
    """Opens the bytes of one blob below *folder*, whichever comes first, if there is any; raises `OSError`."""
    if folder.name == "data":
        folder.open("rb").close()
        return
    with os.scandir(folder) as entries:
        below = next(entries, None)
    if below is not None:
        _open_one(Path(below.path))


# ways around the gateway


async def _around(settings: Settings) -> Finding:
    """Whether the registry behind, or another one, can be reached without passing the gate."""
    url = settings.engine.url
    behind = await probes.places_of(url)
    ports = (probes.port_of(url), USUAL_PORT)
    reached = await probes.registries(await probes.places(settings.server.names, ports, behind))
    if reached:
        told = listed(f"{each.url} ({'no password' if each.free else 'asks for a password'})" for each in reached)
        says = f"A registry can be reached around the gateway, unjudged and unrecorded: {told}."
        return Finding("way around", State.BAD, says, _CLOSE)
    # Where it is asked by the gateway others may be able to ask it too.
    far = [each for each in behind if not ipaddress.ip_address(each.address).is_loopback]
    free = [each.place.address for each in await probes.registries(far) if each.free]
    if free:
        return unguarded(url, free)
    return Finding("way around", State.OK, "No registry was found around the gateway.")


def unguarded(url: str, addresses: Sequence[str]) -> Finding:
    """What is found when the registry behind, at *url*, wants no password of whoever reaches its *addresses*."""
    public = any(ipaddress.ip_address(address).is_global for address in addresses)
    says = f"Whoever reaches {url} over the network needs no password there, and passes no gate."
    mend = "Give it a password that only the gateway knows, and let nobody else through to its port."
    return Finding("way around", State.BAD if public else State.WARN, says, mend)
