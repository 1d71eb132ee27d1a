"""`gateway up`, `serve` and `migrate`: bring a data directory into being, and serve it."""

from __future__ import annotations

import os
import shlex
import signal
from typing import Annotated

import typer

from gateway.certificates import ensure_development_pair, fingerprint
from gateway.cli.output import say
from gateway.cli.ownership import act_as_owner, become_owner
from gateway.cli.session import Place, operator, place
from gateway.cli.welcome import Authority, command_path, first, main_address, short
from gateway.folder import require_folder, served, weaknesses
from gateway.settings import Settings, write_initial

Host = Annotated[
    list[str] | None, typer.Option("--host", metavar="NAME", help="A name or address clients use; may be repeated.")
]
Port = Annotated[int | None, typer.Option("--port", min=1, max=65535, help="The port, 5000 if nothing is said.")]
Bind = Annotated[
    str | None,
    typer.Option("--bind", metavar="ADDR", help="127.0.0.1 if nothing is said; 0.0.0.0 opens it."),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, max=256, help="Processes; one for each core, at most 4."),
]


def up(
    ctx: typer.Context,
    host: Host = None,
    port: Port = None,
    bind: Bind = None,
    workers: Workers = None,
) -> None:
    """
    Make what is missing, then serve in the foreground.

    What is given the first time is kept in the directory's gateway.toml; later it changes that run only.
    """
    from gateway.initialisation import initialise  # every other command does without, and starts sooner
    from gateway.serving import require_servable

    where = place(ctx)
    given = (tuple(host or ()), port, bind, workers)
    settings = where.settings().but(*given)
    require_folder(settings.data, make=True)
    become_owner(settings.data)
    # A first run that could not serve would have told its password already, and kept the port that is taken.
    require_servable(settings)
    _warn(settings)
    made = initialise(settings, say)
    if made.first and where.config is None and settings.file is None:
        write_initial(settings.data, *given)
    authority = _authority(settings)
    command = _command(where)
    if made.first:
        say(first(settings, made.administrator, made.password, authority, command))
    else:
        say(short(settings, authority, command))
    raise typer.Exit(_serve(settings))


def serve(ctx: typer.Context) -> None:
    """Serve an initialised data directory in the foreground."""
    settings = place(ctx).settings()
    require_folder(settings.data, make=False, command=settings.command)
    become_owner(settings.data)
    _warn(settings)
    raise typer.Exit(_serve(settings))


def migrate(ctx: typer.Context) -> None:
    """Bring the schema up to this version of the gateway; make a backup before, for there is no way back."""
    from gateway.initialisation import migrate as bring_up_to_date  # as above

    settings = place(ctx).settings()
    require_folder(settings.data, make=False, command=settings.command)
    act_as_owner(settings.data)
    changed = bring_up_to_date(settings, operator(), tell=say)
    say("The schema was brought up to date." if changed else "The schema is up to date already.")


def _warn(settings: Settings) -> None:
    for weakness in weaknesses(settings.data, settings.file):
        say(f"gateway: warning: {weakness}", error=True)


def _serve(settings: Settings) -> int:
    from gateway.serving import serve as serve_settings  # as above

    unheard: list[BrokenPipeError] = []

    def ready() -> None:
        try:
            say(f"Ready: https://{main_address(settings)}")
        except BrokenPipeError as error:
            # Whoever started it has gone: it stops as when it is told to, and its end is recorded.
            unheard.append(error)
            os.kill(os.getpid(), signal.SIGTERM)

    with served(settings.data) as others:
        if others:
            say(f"gateway: warning: Another gateway serves {settings.data} already.", error=True)
        status = serve_settings(settings, ready)
    if unheard:
        raise unheard[0]
    return status


def _authority(settings: Settings) -> Authority | None:
    if not settings.server.development:
        return None
    pair = ensure_development_pair(settings.tls, settings.server.names)
    certificate = pair.authority or settings.tls / "ca.crt"
    return Authority(certificate, fingerprint(certificate.read_bytes()))


def _command(where: Place) -> str:
    return shlex.join((command_path(), *where.options()))
