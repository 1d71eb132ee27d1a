"""`gateway cert`: the certificate clients see."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import typer

from gateway.access.policy import Need
from gateway.access.scopes import Action
from gateway.audit.event import Kind
from gateway.certificates import LivePair, covers, fingerprint
from gateway.cli.groups import noun
from gateway.cli.output import say, show_record
from gateway.cli.session import operator, rooms
from gateway.cli.words import Json
from gateway.errors import Invalid
from gateway.gate import Gate
from gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the certificate and its key are; *authority* is the one the gateway made itself, if it did."""

    certificate: Path
    key: Path
    authority: Path | None

    @classmethod
    def of(cls, settings: Settings) -> Paths:
        """The configured pair, or the development one."""
        if settings.server.development:
            folder = settings.tls
            return cls(folder / "leaf.crt", folder / "leaf.key", folder / "ca.crt")
        return cls(settings.server.certificate, settings.server.key, None)


def commands() -> typer.Typer:
    app = noun("The certificate clients see.")

    @app.callback()
    def one_of() -> None:
        """The certificate clients see."""

    app.command("show")(show)
    return app


def show(ctx: typer.Context, as_json: Json = False) -> None:
    """Show the certificate, and what is wrong with it.

    The exit status is 1 if the server would refuse it.
    """
    with rooms(ctx) as joined:
        asyncio.run(_record(joined.gate))
        found = described(joined.settings, datetime.now(UTC))
    show_record(found, as_json=as_json)
    if not as_json and found["warning"]:
        say(f"gateway: {found['warning']}", error=True)
    raise typer.Exit(0 if found["usable"] else 1)


def described(settings: Settings, now: datetime) -> dict[str, object]:
    """The certificate of *settings* as programs see it; one that the server would refuse is not *usable*."""
    paths = Paths.of(settings)
    where: dict[str, object] = {"certificate": str(paths.certificate), "key": str(paths.key)}
    unknown = dict.fromkeys(("names", "valid_from", "valid_until", "days_left", "fingerprint"))
    try:
        live = LivePair(paths.certificate, paths.key)
    except Invalid as refusal:
        return {**where, **unknown, "usable": False, "warning": refusal.message, **_authority(paths)}
    pair = live.pair
    missing = [name for name in settings.server.names if not covers(pair, name)]
    warnings = [live.warning, f"The certificate does not name {', '.join(missing)}." if missing else None]
    return {
        **where,
        "names": list(pair.names),
        "valid_from": pair.not_before,
        "valid_until": pair.not_after,
        "days_left": pair.days_left(now),
        "fingerprint": pair.fingerprint,
        "usable": True,
        "warning": " ".join(filter(None, warnings)) or None,
        **_authority(paths),
    }


def _authority(paths: Paths) -> dict[str, object]:
    if paths.authority is None or not paths.authority.exists():
        return {"authority": None, "authority_fingerprint": None}
    return {
        "authority": str(paths.authority),
        "authority_fingerprint": fingerprint(paths.authority.read_bytes()),
    }


async def _record(gate: Gate) -> None:
    async with gate.passage(operator(), Kind.CERTIFICATE_SHOW, Need(Action.MANAGE)) as passage:
        await passage.seal()
