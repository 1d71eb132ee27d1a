"""`gateway adopt`: put the gateway in front of a registry that runs already, with all that it holds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from gateway import engine_section
from gateway.access.htpasswd import read
from gateway.administration import Administration, Adoption, Newcomer, Source, planned, planned_users
from gateway.cli.adoption_report import Looking, as_json_value, show_adoption, show_newcomers
from gateway.cli.elsewhere import Elsewhere
from gateway.cli.output import say, show_json
from gateway.cli.ownership import act_as_owner
from gateway.cli.session import Place, operator, place
from gateway.cli.words import Json
from gateway.errors import Conflict, Invalid
from gateway.folder import require_folder
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.app import Words

T = TypeVar("T")

Url = Annotated[str, typer.Argument(metavar="URL", help="The registry, as in http://127.0.0.1:5001.")]
Plan = Annotated[bool, typer.Option("--plan", help="Say what would be done, and do nothing.")]
Htpasswd = Annotated[Path | None, typer.Option("--htpasswd", metavar="FILE", help="Take over the users in this file.")]
Username = Annotated[str, typer.Option("--username", metavar="NAME", help="Who the gateway is for that registry.")]
PasswordFile = Annotated[
    Path | None, typer.Option("--password-file", metavar="FILE", help="Where its password is; mode 0600.")
]
CaFile = Annotated[
    Path | None, typer.Option("--ca-file", metavar="FILE", help="Who vouches for that registry's certificate, in PEM.")
]


def adopt(
    ctx: typer.Context,
    url: Url,
    plan: Plan = False,
    htpasswd: Htpasswd = None,
    username: Username = "",
    password_file: PasswordFile = None,
    ca_file: CaFile = None,
    as_json: Json = False,
) -> None:
    """
    Put the gateway in front of the registry at URL: read what it holds, and keep that it is there.

    Nothing is moved, and nothing is changed there. Run it again at any time: it takes over what is new, and never
    forgets anything. The exit status is 1 if something could not be read.
    """
    where = place(ctx)
    found = where.settings()
    settings = _in_front(found, url, username, password_file, ca_file)
    users = _content_of(htpasswd) if htpasswd is not None else b""
    made = _made(settings)
    if not plan:
        _require_place(where, found, settings)
    if made:
        _require_no_content(found, settings)
    looking = Looking(quiet=as_json)
    unsaid = found.engine != settings.engine
    # What the settings say already is to be mended there.
    words = Elsewhere(settings.engine.url, "--password-file").words if unsaid else None
    if unsaid or not made:
        # What does not answer as a registry leaves nothing behind here.
        _surveyed(settings, lambda source: source.greet(), words)
    if plan:
        adoption, newcomers = _planned(settings, made, users, looking, words)
    else:
        _prepare(settings, unsaid=unsaid, made=made, error=as_json)
        adoption, newcomers = _adopted(settings, users, looking)
    if as_json:
        show_json(as_json_value(settings.engine.url, plan, adoption, newcomers))
    else:
        show_newcomers(newcomers, where, plan=plan)
        show_adoption(adoption, where, plan=plan, told=looking.lines)
    raise typer.Exit(0 if adoption.whole else 1)


def _planned(
    settings: Settings, made: bool, users: bytes, looking: Looking, words: Words | None
) -> tuple[Adoption, tuple[Newcomer, ...]]:
    if not made:

        async def strange(source: Source) -> tuple[Adoption, tuple[Newcomer, ...]]:
            with looking:
                return await planned(source, looking), await planned_users(users)

        return _surveyed(settings, strange, words)

    async def act(source: Source, acts: Administration) -> tuple[Adoption, tuple[Newcomer, ...]]:
        with looking:
            return await acts.adoptions.plan(source, looking), await acts.newcomers.plan(users)

    return _on_records(settings, act, words)


def _adopted(settings: Settings, users: bytes, looking: Looking) -> tuple[Adoption, tuple[Newcomer, ...]]:
    async def act(source: Source, acts: Administration) -> tuple[Adoption, tuple[Newcomer, ...]]:
        caller = operator()
        newcomers = await acts.newcomers.import_users(caller, users)
        with looking:
            return await acts.adoptions.adopt(caller, source, settings.engine.url, looking), newcomers

    return _on_records(settings, act)


def _surveyed(settings: Settings, act: Callable[[Source], Awaitable[T]], words: Words | None) -> T:
    from gateway.app import survey  # with all rooms, which help and wrong usage do without

    async def acting() -> T:
        reader = survey(settings, words)
        try:
            return await act(reader)
        finally:
            await reader.close()

    return asyncio.run(acting())


def _on_records(
    settings: Settings, act: Callable[[Source, Administration], Awaitable[T]], words: Words | None = None
) -> T:
    from gateway.app import opened  # as above

    act_as_owner(settings.data)
    with opened(settings) as rooms:
        return _surveyed(settings, lambda source: act(source, rooms.administration), words)


def _in_front(found: Settings, url: str, username: str, password_file: Path | None, ca_file: Path | None) -> Settings:
    """The settings to read that registry with; what they say of it already need not be said again."""
    if bool(username) != (password_file is not None):
        raise Invalid("Give --username and --password-file together, or neither.")
    if not username and ca_file is None and found.engine.url == found.behind(url).engine.url:
        return found
    return found.behind(url, username=username, password_file=password_file, ca_file=ca_file)


def _content_of(htpasswd: Path) -> bytes:
    try:
        content = htpasswd.read_bytes()
    except OSError as error:
        raise Invalid(f"{htpasswd} cannot be read: {(error.strerror or 'unknown reason').lower()}.") from error
    # A file that is none is refused before anything is made.
    read(content)
    return content


def _made(settings: Settings) -> bool:
    """Whether the data directory was initialised, even if only by half."""
    return settings.data.is_dir() and (settings.data / "keys").is_dir()


def _require_place(where: Place, found: Settings, wanted: Settings) -> None:
    """Raises `Conflict`, after the lines that are missing, unless the settings name that registry or may be made to."""
    if found.engine == wanted.engine:
        return
    if found.engine.url:
        _tell_lines(found.file, wanted, "it names another registry, or another credential for it")
    if where.config is not None:
        _tell_lines(where.config, wanted, "it does not name this registry as the engine")
    if found.file is not None and engine_section.is_in(found.file):
        _tell_lines(found.file, wanted, "its section [engine] does not name this registry")


def _tell_lines(file: Path | None, wanted: Settings, why: str) -> None:
    say(engine_section.written(wanted.engine).rstrip())
    raise Conflict(f"{file or 'The environment'} has to say the lines above, and then this has to be run again: {why}.")


def _require_no_content(found: Settings, wanted: Settings) -> None:
    """Raises `Conflict` if a gateway keeps content of its own there: its images would seem to be gone."""
    if found.engine == wanted.engine or found.engine.url:
        return
    from gateway.app import opened  # as above

    act_as_owner(found.data)
    with opened(found) as rooms:
        kept = asyncio.run(rooms.administration.adoptions.anything_kept())
    if kept:
        raise Conflict(
            f"The gateway in {found.data} keeps content of its own, which would be out of reach; adopt into another "
            "directory (gateway --data OTHER adopt URL), or bring that registry's content here with gateway import."
        )


def _prepare(settings: Settings, *, unsaid: bool, made: bool, error: bool) -> None:
    """Makes the data directory, if it is not *made*, and keeps in its settings which registry it is in front of."""
    from gateway.initialisation import initialise  # as above

    if not made:
        require_folder(settings.data, make=True)
        act_as_owner(settings.data)
        first = initialise(settings)
        say(f"Administrator  {first.administrator}", error=error)
        say(f"Password       {first.password}      (shown this once)", error=error)
    if unsaid:
        settings.keep_engine()
