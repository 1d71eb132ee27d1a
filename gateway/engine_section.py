"""The `[engine]` section of the settings: what keeps the content, and how a registry behind the gateway is reached."""

from __future__ import annotations

import json
import os
import re
import ssl
import tempfile
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

import msgspec
from msgspec import Meta, Struct

from gateway.errors import Conflict
from gateway.sources import NOWHERE, Location, Text, Values, is_host, masked, read_secret

_SECTION = "engine"
#: What a URL of a registry is made of; anything else has no business in one, or means something else to somebody.
_URL_LETTERS = re.compile(r"[A-Za-z0-9._~:/\[\]-]+")
#: What is a path, the data directory's apart.
_PATHS = ("password_file", "ca_file", "volume")
_EXAMPLE = "as in http://127.0.0.1:5001 or https://registry.internal"


class EngineKind(StrEnum):
    EMBEDDED = "embedded"
    UPSTREAM = "upstream"


class Engine(Struct, frozen=True, kw_only=True):
    """
    What keeps the content; *root* is the data directory, which every engine needs.

    The rest is about the registry behind the gateway: *url* ends without a slash and holds no credential; *password*
    is what was in *password_file*, if that was given; *volume* is where that registry's files can be read. Neither
    `repr` nor `Settings.shown` gives the password.
    """

    kind: Annotated[EngineKind, Meta(description='"embedded" or "upstream"')] = EngineKind.EMBEDDED
    root: Location = NOWHERE
    url: Text = ""
    username: Text = ""
    password: Text = ""
    password_file: Location = NOWHERE
    ca_file: Location = NOWHERE
    volume: Location = NOWHERE

    def __repr__(self) -> str:
        return f"Engine(kind={self.kind.value!r}, root={str(self.root)!r}, url={masked(self.url)!r})"


def settled(values: Values, folder: Path) -> Engine:
    """The section, checked, its paths absolute (relative ones start at *folder*) and its password read."""
    engine = values.section(_SECTION, Engine)
    given = {key: getattr(engine, key) for key in _PATHS if getattr(engine, key) != NOWHERE}
    # The data directory is the one of the file unless another is named.
    paths = {key: _anchored(path, folder) for key, path in (("root", engine.root), *given.items())}
    engine = msgspec.structs.replace(engine, **paths)
    if engine.kind is EngineKind.EMBEDDED:
        for key in ("url", "username", "password", *_PATHS):
            if getattr(engine, key) not in {"", NOWHERE}:
                raise values.wrong(_SECTION, key, 'is for kind = "upstream"; set that, or leave it away')
        return engine
    url = _checked_url(values, engine.url)
    if engine.ca_file != NOWHERE:
        _check_authority(values, engine.ca_file, url)
    if engine.volume != NOWHERE and not os.path.isdir(engine.volume):
        raise values.wrong(_SECTION, "volume", f"names {engine.volume}, which is no directory that can be looked into")
    return msgspec.structs.replace(engine, url=url, password=_password(values, engine))


def behind(
    root: Path, url: str, *, username: str = "", password_file: Path | None = None, ca_file: Path | None = None
) -> Engine:
    """
    The section that names the registry at *url*, with the data directory *root*; relative paths start where we are.

    Raises `Invalid` as reading a file with it would.
    """
    given = {"kind": "upstream", "root": str(root), "url": url, "username": username}
    paths = {"password_file": password_file, "ca_file": ca_file}
    given |= {key: str(path) for key, path in paths.items() if path is not None}
    return settled(Values({_SECTION: given}, {}), Path.cwd())


def written(engine: Engine) -> str:
    """What a settings file in the data directory says of an *engine* made by `behind`."""
    given = {"kind": engine.kind.value, "url": engine.url, "username": engine.username}
    given |= {key: str(path) for key in _PATHS if (path := getattr(engine, key)) != NOWHERE}
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in given.items() if value]
    return "\n".join((f"[{_SECTION}]", *lines, ""))


def is_in(path: Path) -> bool:
    """Whether the settings file *path* has the section."""
    return _SECTION in tomllib.loads(path.read_text(encoding="utf-8"))


def append(path: Path, engine: Engine) -> None:
    """
    Adds the section *engine*, which `behind` made, to the settings file *path*; the rest stays as it is.

    Raises `Conflict` if it has such a section already.
    """
    text = path.read_text(encoding="utf-8")
    if is_in(path):
        raise Conflict(f"{path} has a section [engine] already; edit it instead.")
    whole = f"{text.rstrip()}\n\n{written(engine)}" if text.strip() else written(engine)
    mode = path.stat().st_mode & 0o777
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".gateway.toml-", encoding="utf-8") as file:
        file.write(whole)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
        # Linked beside it and renamed over it: a reader finds the one or the other, whole.
        beside = Path(f"{file.name}.new")
        os.link(file.name, beside)
        beside.replace(path)


def _anchored(path: Path, folder: Path) -> Path:
    return Path(os.path.normpath(folder / path.expanduser()))


def _checked_url(values: Values, url: str) -> str:
    if not url:
        raise values.wrong(_SECTION, "kind", f'is "upstream", which needs url beside it, {_EXAMPLE}')
    if "@" in url:
        raise values.wrong(
            _SECTION, "url", "must hold no name or password: they belong into username and password_file"
        )
    if "?" in url or "#" in url:
        raise values.wrong(_SECTION, "url", f"must have no '?' or '#' in it, {_EXAMPLE}")
    parts = _split(url)
    if parts is None or not _URL_LETTERS.fullmatch(url):
        raise values.wrong(_SECTION, "url", f"must be the address of a registry, {_EXAMPLE}")
    if parts.scheme not in {"http", "https"} or "//" in parts.path:
        raise values.wrong(_SECTION, "url", f"must begin with http:// or https:// and the registry's host, {_EXAMPLE}")
    path = parts.path.rstrip("/")
    if re.search(r"(\A|/)(v2|\.{1,2})(/|\Z)", path):
        raise values.wrong(_SECTION, "url", f"must end before /v2 and have no dots for a step of its path, {_EXAMPLE}")
    return f"{parts.scheme}://{parts.netloc.lower()}{path}"


def _split(url: str) -> SplitResult | None:
    """The parts of a URL whose host and port are in order."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    return parts if is_host(host) and port != 0 and not parts.netloc.endswith(":") else None


def _check_authority(values: Values, file: Path, url: str) -> None:
    if not url.startswith("https:"):
        raise values.wrong(_SECTION, "ca_file", "is for a url that begins with https://")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except ssl.SSLError:
        raise values.wrong(_SECTION, "ca_file", f"names {file}, which holds no certificate in PEM") from None
    except OSError as error:
        why = (error.strerror or "unknown reason").lower()
        raise values.wrong(_SECTION, "ca_file", f"names {file}, which cannot be read: {why}") from None


def _password(values: Values, engine: Engine) -> str:
    key, password = "password", engine.password
    if engine.password_file != NOWHERE:
        if password:
            raise values.wrong(_SECTION, key, "is given twice: leave away either password or password_file")
        key = "password_file"
        password = read_secret(values, _SECTION, key, engine.password_file)
        if not password:
            raise values.wrong(_SECTION, key, f"names {engine.password_file}, which is empty")
    if password and not engine.username:
        raise values.wrong(_SECTION, key, "needs username beside it")
    if engine.username and not password:
        raise values.wrong(_SECTION, "username", "needs password_file or password beside it")
    # What HTTP's Basic scheme cannot carry (RFC 7617 §2), and what no header may.
    if ":" in engine.username or not engine.username.isprintable():
        raise values.wrong(_SECTION, "username", "must have no ':' and no control character in it")
    if not password.isprintable():
        raise values.wrong(_SECTION, key, "must hold one line, without control characters")
    return password
