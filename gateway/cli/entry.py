"""The command `gateway`: its options, its nouns, and what becomes of what they raise.

Exit status: see `STATUSES`.
"""

from __future__ import annotations

import gc
import logging
import os
import re
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.cli import STOPPED
from gateway.cli.session import DISTRIBUTION, Place
from gateway.errors import (
    BlobUnknown,
    Conflict,
    ContentReferenced,
    DigestInvalid,
    Invalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    Refusal,
    TagInvalid,
    TooManyRequests,
    Unavailable,
    Unknown,
    UpstreamDistrust,
)

REFUSED, WRONG, UNKNOWN, CONFLICT, UNAVAILABLE, FAULT, UNREAD = 1, 2, 3, 4, 5, 70, 141

#: What each exit status says.
STATUSES: Final = {
    0: "done",
    REFUSED: "refused, or the answer is no: `can` says no, the trail is damaged, `doctor` or `check` found something",
    WRONG: "wrong usage or input",
    UNKNOWN: "no such thing",
    CONFLICT: "conflict: it exists already, or something depends on it",
    UNAVAILABLE: "unavailable: nothing was done, or it is said that nobody knows; try again, or restore a backup if "
    "the database is said to be damaged",
    FAULT: "a fault of the gateway's own",
    STOPPED: "stopped with Ctrl-C",
    UNREAD: "whoever read the output was gone before its end",
}
#: What the library says of an argument, and how we do.
_LIBRARY: Final = tuple(
    (re.compile(told), plain)
    for told, plain in (
        (r"\bValue error, ", ""),
        (r"\bInput should be a valid integer.*", "write a whole number"),
        (r"\bInput should be greater than or equal to ", "it has to be at least "),
        (r"\bInput should be less than or equal to ", "it has to be at most "),
        (r"\bInput should be ", "it has to be "),
    )
)
#: Options that come before the first word, with a value each.
_VALUED: Final = ("--data", "--config")
_EPILOG = (
    "Exit status: 0 done; 1 refused, or the answer is no; 2 wrong usage or input; 3 no such thing; 4 conflict; "
    "5 unavailable, try again; 70 a fault of the gateway's own. docs/commands.md has all."
)


#: The first words, in the order in which help tells of them: the module of each, and what it is there: a function that
#: is the command, or `commands`, which makes those below it.
_WORDS: Final = {
    "up": ("serving", "up"),
    "serve": ("serving", "serve"),
    "migrate": ("serving", "migrate"),
    "user": ("users", "commands"),
    "project": ("projects", "commands"),
    "grant": ("grants", "commands"),
    "revoke": ("grants", "revoke"),
    "robot": ("robots", "commands"),
    "token": ("tokens", "commands"),
    "can": ("access", "can"),
    "access": ("access", "commands"),
    "adopt": ("adopt", "adopt"),
    "import": ("importing", "import_"),
    "backup": ("backup", "backup"),
    "restore": ("backup", "restore"),
    "repository": ("repositories", "commands"),
    "tag": ("tags", "commands"),
    "trash": ("trash", "commands"),
    "retention": ("retention", "commands"),
    "read-only": ("read_only", "commands"),
    "audit": ("audit", "commands"),
    "review": ("review", "commands"),
    "leak": ("tracing", "leak"),
    "key": ("keys", "commands"),
    "cert": ("certificates", "commands"),
    "doctor": ("doctor", "doctor"),
    "check": ("checking", "check"),
    "sweep": ("sweep", "sweep"),
}


def commands(word: str = "") -> typer.Typer:
    """The command line as typer sees it; with a first *word* that is one, of that alone, which is sooner there."""
    app = typer.Typer(
        name="gateway",
        help="A container registry with per-project permissions and a provable audit trail.",
        epilog=_EPILOG,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for name in (word,) if word in _WORDS else _WORDS:
        module, what = _WORDS[name]
        found = getattr(import_module(f"gateway.cli.{module}"), what)
        if what == "commands":
            app.add_typer(found(), name=name)
        else:
            app.command(name)(found)
    return app


def first_word(arguments: Sequence[str]) -> str:
    """The first of the *arguments* that is neither an option of `gateway` itself nor its value; help is one, too."""
    left = iter(arguments)
    for argument in left:
        if argument in _VALUED:
            next(left, None)
        elif argument != "--debug" and not argument.startswith(tuple(f"{name}=" for name in _VALUED)):
            return argument
    return ""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gateway {version(DISTRIBUTION)}")
        raise typer.Exit


def _options(
    ctx: typer.Context,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="The data directory, ./data if nothing is said.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="A settings file, instead of the data directory's own."),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show where a fault came from.")] = False,
    shown: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    if data is not None and config is not None:
        raise Invalid("Give --data or --config, not both; a settings file names its data directory itself.")
    ctx.obj = Place(data if data is not None or config is not None else Path("data"), config)


def run(arguments: list[str]) -> int:
    """Runs one command and returns its exit status; whatever goes wrong is one line on standard error."""
    debug = "--debug" in arguments
    said = _Said()
    if not debug:
        logging.lastResort = said
    status = _ended(arguments, debug)
    if not status:
        said.rest()
    return status


def _ended(arguments: list[str], debug: bool) -> int:
    try:
        # Typer's own main would print usage errors its own way and swallow the exit status of the rest.
        status = _loaded(first_word(arguments)).main(arguments, prog_name="gateway", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except Refusal as refusal:
        return _end(status_of(refusal), refusal.message)
    except KeyboardInterrupt:
        return STOPPED
    except BrokenPipeError:
        return _unread()
    except SystemExit as error:
        # Typer makes an exit with status 1 of it, which would say that something was refused.
        if isinstance(error.__context__, BrokenPipeError):
            return _unread()
        raise
    except Exception as error:
        return _other(error, debug)


class _Said(logging.Handler):
    """What rooms log while nothing else listens: a line each, without where it came from, which --debug shows."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Says it at once, but for errors: a command that ends badly has said itself what they came to."""
        line = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            self._errors.append(f"{line}: {_root(record.exc_info[1])}")
        elif getattr(record, "refused", False):
            self._errors.append(line)
        else:
            typer.echo(f"gateway: {line}", err=True)

    def rest(self) -> None:
        """Says what errors there were in a command that ended well all the same."""
        for line in dict.fromkeys(self._errors):
            _end(0, line)


def _root(error: BaseException) -> str:
    """What *error* came from, in words."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return f"{type(error).__name__}: {error}"


def _unread() -> int:
    # Whoever read us has read enough; the interpreter must not try to flush again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return UNREAD


def _loaded(word: str) -> Any:
    # `main` had garbage left alone until all is loaded.
    try:
        return typer.main.get_command(commands(word))
    finally:
        gc.enable()


def status_of(refusal: Refusal) -> int:
    """The exit status that says what kind of refusal it was."""
    match refusal:
        case Unknown() | NameUnknown() | ManifestUnknown() | BlobUnknown():
            return UNKNOWN
        case Conflict() | ContentReferenced():
            return CONFLICT
        case UpstreamDistrust():
            # Not to be tried again: something has to be mended before.
            return REFUSED
        case Unavailable() | TooManyRequests():
            return UNAVAILABLE
        case Invalid() | NameInvalid() | TagInvalid() | DigestInvalid():
            return WRONG
        case _:
            return REFUSED


def _other(error: Exception, debug: bool) -> int:
    # Typer brings its own copy of click or uses the installed one, depending on its version: known by their shape.
    shape: Any = error
    if type(error).__name__ in {"Abort", "Exit"}:
        return int(getattr(shape, "exit_code", REFUSED))
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(shape.format_message(), err=True)
            return WRONG
        ctx = getattr(shape, "ctx", None)
        command = ctx.command_path if ctx is not None else "gateway"
        message = _plain(str(shape.format_message()).rstrip("."))
        return _end(WRONG, f"{message}{'' if message.endswith('?') else ';'} see {command} --help")
    if debug:
        traceback.print_exc()
    hint = "" if debug else "; run gateway --debug … to see where"
    return _end(FAULT, f"a fault of the gateway's own: {type(error).__name__}: {error}{hint}")


def _plain(message: str) -> str:
    """*message* without the words of the library that reads the arguments."""
    for told, plain in _LIBRARY:
        message = told.sub(plain, message)
    return message


def _end(status: int, message: str) -> int:
    line = " ".join(message.split())
    typer.echo(f"gateway: {line}", err=True)
    return status
