"""Where settings come from: a TOML file and the environment, every value with its origin, for messages that name it."""

from __future__ import annotations

import difflib
import errno
import ipaddress
import os
import re
import stat
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from gateway.errors import Invalid

PREFIX = "GATEWAY_"
#: A path that is not set.
NOWHERE = Path()
Text: TypeAlias = Annotated[str, Meta(description="text in quotes")]
Location: TypeAlias = Annotated[Path, Meta(description="a path in quotes")]

#: No settings file is longer; the one that explains every setting has 8 kB.
_MOST_BYTES = 256 * 1024
#: No setting is nested deeper, by brackets or by dots; how long a key takes to read grows with the square of its parts.
_MOST_DEPTH = 32
#: Comments, texts, keys and the like, one after another; *many* is a key of too many parts, wherever a key may stand.
_PIECE = re.compile(
    "|".join(
        (
            r"#[^\n]*+",
            r'"{3}(?:[^"\\]|\\.|"(?!""))*+(?:"{3,5}+)?+',
            r"'{3}(?:[^']|'(?!''))*+(?:'{3,5}+)?+",
            rf"""(?P<many>(?:(?:[\w-]++|"(?:[^"\\\n]|\\[^\n])*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{_MOST_DEPTH}}})""",
            r"[\w-]++",
            # One that does not end is no TOML, and is looked through once.
            r'"(?:[^"\\\n]|\\[^\n])*+"?+',
            r"'[^'\n]*+'?+",
        )
    ),
    re.DOTALL,
)
#: So many characters are read at most to find a line, those of a statement of many lines again and again.
_MOST_LOOKED_THROUGH = 2 * 1024 * 1024

#: How addresses of services begin that Kubernetes puts into the environment.
_SERVICE = ("tcp://", "udp://", "sctp://")
Section = TypeVar("Section", bound=Struct)
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Values:
    """Settings as they were found, by section and key, not yet converted; *file* and *text* say where."""

    found: Mapping[str, Mapping[str, object]]
    variables: Mapping[tuple[str, str], str]
    """The environment's word, which wins."""
    file: Path | None = None
    text: str = field(default="", repr=False)

    @classmethod
    def read(cls, file: Path | None, sections: Mapping[str, type[Struct]], environment: Mapping[str, str]) -> Values:
        """
        What *file* and *environment* say of *sections*.

        Raises `Invalid` with file and line for a file that cannot be read, is no regular file or longer than 256 KiB,
        is not TOML, is nested deeper than any setting or names an unknown section or key; with the variable's name for
        a `GATEWAY_SECTION__KEY` that is unknown, or lacks an underscore.
        """
        text = _text(file) if file is not None else ""
        variables = _variables(sections, environment)
        found = _toml(file, text) if file is not None else {}
        values = cls(found, variables, file, text)
        for section, content in found.items():
            if section not in sections:
                raise values.unknown((section,), "section" if isinstance(content, dict) else "setting", sections)
            if not isinstance(content, dict):
                raise values.wrong_at((section,), f"{section} is a section: write [{section}] and its settings below")
            for key in content:
                if key not in sections[section].__struct_fields__:
                    raise values.unknown((section, key), "setting", sections[section].__struct_fields__)
        return values

    def section(self, name: str, kind: type[Section]) -> Section:
        """The section as a *kind*; raises `Invalid` naming the first value of a wrong type or out of range."""
        hints = get_type_hints(kind, include_extras=True)
        given: dict[str, object] = {}
        for key in kind.__struct_fields__:
            if (name, key) in self.variables:
                given[key] = self._converted(
                    name, key, hints[key], _typed(hints[key], self.variables[name, key]), False
                )
            elif key in self.found.get(name, {}):
                given[key] = self._converted(name, key, hints[key], self.found[name][key], True)
        return kind(**given)

    def _converted(self, section: str, key: str, hint: Any, value: object, strict: bool) -> object:
        try:
            return msgspec.convert(value, hint, strict=strict, dec_hook=_path)
        except (msgspec.ValidationError, NotImplementedError):
            raise self.wrong(section, key, f"must be {_description(hint)}") from None

    def wrong(self, section: str, key: str, fault: str) -> Invalid:
        """What to raise about a value: its origin, its name and *fault*, which says what it must be instead."""
        if (section, key) in self.variables:
            return Invalid(f"{PREFIX}{section.upper()}__{key.upper()} {fault}.")
        return self.wrong_at((section, key), f"[{section}] {key} {fault}")

    def wrong_at(self, path: tuple[str, ...], fault: str) -> Invalid:
        """What to raise about the place *path* of the file."""
        if self.file is None:
            return Invalid(f"{fault}.")
        line = line_of(self.text, path)
        return Invalid(f"{self.file}, line {line}: {fault}." if line else f"{self.file}: {fault}.")

    def unknown(self, path: tuple[str, ...], what: str, known: Iterable[str]) -> Invalid:
        """What to raise about a name that is not *known*; the nearest one is suggested."""
        place = f"[{path[0]}] " if len(path) > 1 else ""
        name = f"[{path[-1]}]" if what == "section" else path[-1]
        near = difflib.get_close_matches(path[-1], list(known), 1)
        advice = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}."
        refusal = self.wrong_at(path, f"{place}{name} is no {what} of the gateway; {advice.rstrip('.')}")
        return Invalid(refusal.message.replace("?.", "?"))


def line_of(text: str, path: tuple[str, ...]) -> int:
    """
    The line, from 1, on which the statement that gives *path* its value begins in the TOML document *text*; 0 if none,
    or if looking for it would take long.

    A statement ends with the first line that makes TOML of it, and the next one begins there: so quoted and dotted
    keys, inline tables and many-line values are all right.
    """
    lines = text.splitlines()
    table: tuple[str, ...] | None = ()
    begun = looked = 0
    for number in range(1, len(lines) + 1):
        statement = "\n".join(lines[begun:number])
        looked += len(statement)
        if looked > _MOST_LOOKED_THROUGH:
            return 0
        try:
            said = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        if statement.lstrip().startswith("["):
            table, rest = _named(said), path
        else:
            rest = path[len(table or ()) :] if path[: len(table or ())] == table else ()
        if rest and _reaches(said, rest):
            return begun + 1
        begun = number
    return 0


def _named(said: object) -> tuple[str, ...] | None:
    """The table that a statement of nothing but its name names; None for one of an array, which no path leads into."""
    names = []
    while isinstance(said, dict) and said:
        ((name, said),) = said.items()
        names.append(name)
    return tuple(names) if isinstance(said, dict) else None


def _reaches(value: object, path: tuple[str, ...]) -> bool:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value is not None


def read_secret(values: Values, section: str, key: str, file: Path) -> str:
    """
    The text in *file*, without the line end after it.

    Raises `Invalid` if it cannot be read, or if its group or others could read it: mode 0600 or 0400 it is.
    """
    try:
        with os.fdopen(_opened(file), encoding="utf-8") as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            text = stream.read(64 * 1024)
    except (OSError, UnicodeDecodeError) as error:
        raise values.wrong(section, key, f"names {file}, which cannot be read: {_why(error)}") from None
    if mode & 0o077:
        raise values.wrong(section, key, f"names {file}, which others may read (mode {mode:04o}): chmod 600 {file}")
    return text.removesuffix("\n").removesuffix("\r")


def masked(url: str) -> str:
    """*url* without its password and without its query, which may hold one."""
    scheme, separator, rest = url.partition("://")
    rest, question, _ = rest.partition("?")
    user, at, place = rest.rpartition("@")
    if at and ":" in user:
        rest = f"{user.partition(':')[0]}:***@{place}"
    return f"{scheme}{separator}{rest}{question and '?***'}"


def is_host(text: str) -> bool:
    """Whether *text* is a host name or an address as it is written shortest, in lower case, without port."""
    # A name whose last part is all digits would be taken for a malformed address by clients.
    if is_address(text):
        return text == str(ipaddress.ip_address(text))
    return _HOST_NAME.fullmatch(text) is not None and not text.rpartition(".")[2].isdigit()


def is_address(text: str) -> bool:
    """Whether *text* is an IPv4 or IPv6 address, without zone."""
    try:
        return not getattr(ipaddress.ip_address(text), "scope_id", None)
    except ValueError:
        return False


def is_network(text: str) -> bool:
    """Whether *text* is a network in CIDR form, its host bits zero."""
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _opened(file: Path) -> int:
    """A descriptor of the regular file *file*; raises `OSError` for anything else, and waits for nobody to write."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    raise OSError(errno.EINVAL, "it is no regular file")


def _text(file: Path) -> str:
    try:
        with os.fdopen(_opened(file), "rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise Invalid(f"{file} cannot be read: {_why(error)}.") from None
    if len(content) > _MOST_BYTES:
        raise Invalid(f"{file} is longer than {_MOST_BYTES // 1024} KiB: that is no file of settings.")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Invalid(f"{file}, line {line}: not UTF-8 text.") from None


def _toml(file: Path, text: str) -> dict[str, Any]:
    many = next((piece for piece in _PIECE.finditer(text) if piece["many"]), None)
    if many is not None:
        line = text.count("\n", 0, many.start()) + 1
        raise Invalid(f"{file}, line {line}: a key of more than {_MOST_DEPTH} parts, which no setting has.")
    deep = f"{file}: lists or tables are nested more than {_MOST_DEPTH} deep, which no setting needs."
    try:
        found = tomllib.loads(text)
    except RecursionError:
        raise Invalid(deep) from None
    except tomllib.TOMLDecodeError as error:
        place = re.search(r" \(at line (\d+), column (\d+)\)$", str(error))
        line = int(place[1]) if place else text.count("\n") + 1
        fault = str(error)[: place.start()] if place else str(error)
        raise Invalid(f"{file}, line {line}: not TOML: {fault[:1].lower()}{fault[1:]}.") from None
    except ValueError:
        # What remains is Python's own word about a number of thousands of digits.
        raise Invalid(f"{file}: a number is longer than any setting.") from None
    if _is_deep(found):
        raise Invalid(deep)
    return found


def _is_deep(value: object) -> bool:
    storey = [value]
    for _ in range(_MOST_DEPTH):
        storey = [
            inner
            for each in storey
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return bool(storey)


def _variables(sections: Mapping[str, type[Struct]], environment: Mapping[str, str]) -> dict[tuple[str, str], str]:
    variables: dict[tuple[str, str], str] = {}
    places = [(section, key) for section, kind in sections.items() for key in kind.__struct_fields__]
    short = {f"{PREFIX}{section}_{key}".upper(): f"{PREFIX}{section}__{key}".upper() for section, key in places}
    for name, value in environment.items():
        section, separator, key = name.removeprefix(PREFIX).partition("__")
        # Kubernetes tells of a service called gateway-server in GATEWAY_SERVER_PORT, which nobody wrote.
        if name.upper() in short and not value.startswith(_SERVICE):
            advice = f"did you mean {short[name.upper()]}?"
            raise Invalid(f"The environment variable {name} is no setting of the gateway; {advice}")
        if not name.startswith(PREFIX) or not separator:
            continue
        place = (section.lower(), key.lower())
        if name != name.upper() or place[0] not in sections or place[1] not in sections[place[0]].__struct_fields__:
            near = difflib.get_close_matches(name.upper(), list(short.values()), 1)
            advice = f"did you mean {near[0]}?" if near else "variables are named GATEWAY_SECTION__KEY."
            raise Invalid(f"The environment variable {name} is no setting of the gateway; {advice}")
        variables[place] = value
    return variables


def _typed(hint: Any, value: str) -> object:
    """A variable's text as msgspec takes it: a list is separated by commas."""
    if get_origin(_bare(hint)) is tuple:
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _description(hint: Any) -> str:
    described = (meta.description for meta in get_args(hint)[1:] if isinstance(meta, Meta) and meta.description)
    return next(described, "of another type")


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str) and "\0" not in value:
        return Path(value)
    raise NotImplementedError


def _why(error: Exception) -> str:
    return (error.strerror or "unknown reason").lower() if isinstance(error, OSError) else "it is not UTF-8 text"
