"""Settings: TOML and environment become one frozen value; what is unknown or wrong is refused with its file and line.

gateway.toml ─┐
              ├─▶ values, each with its origin ─▶ Settings        the environment wins: GATEWAY_SECTION__KEY
environment ──┘
"""

from __future__ import annotations

import ipaddress
import json
import os
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Struct

from gateway import audit_section, database_section, engine_section, metrics_section
from gateway.audit_section import Audit
from gateway.database_section import Database
from gateway.engine_section import Engine
from gateway.errors import Conflict, Invalid
from gateway.metrics_section import Metrics
from gateway.sources import NOWHERE, Location, Text, Values, is_address, is_host, is_network, masked
from gateway.upkeep_section import Upkeep

#: The settings of a data directory, written when it is initialised.
FILE_NAME = "gateway.toml"
#: The names a development gateway answers to, beside those it is told.
LOCAL_NAMES = ("localhost", "registry.local", "127.0.0.1", "::1")

Port: TypeAlias = Annotated[int, Meta(ge=1, le=65535, description="a port number, 1 to 65535")]
PortOrNone: TypeAlias = Annotated[int, Meta(ge=0, le=65535, description="a port number, or 0")]
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=255, description="text of 1 to 255 characters")]
Texts: TypeAlias = Annotated[tuple[str, ...], Meta(description='a list of texts, as in ["a", "b"]')]
Bytes: TypeAlias = Annotated[int, Meta(ge=1024, description="a number of bytes, at least 1024")]
BytesOrNone: TypeAlias = Annotated[int, Meta(ge=0, le=2**62, description="a number of bytes, or 0")]
Number: TypeAlias = Annotated[int, Meta(ge=1, le=1_000_000, description="a whole number from 1 to 1000000")]
Seconds: TypeAlias = Annotated[int, Meta(ge=1, le=31_536_000, description="a number of seconds, 1 to 31536000")]
Lifetime: TypeAlias = Annotated[int, Meta(ge=60, le=900, description="a number of seconds, 60 to 900")]
Workers: TypeAlias = Annotated[int, Meta(ge=0, le=256, description="a number of processes, 0 to 256")]

S = TypeVar("S", bound=Struct)


class Level(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


class Server(Struct, frozen=True, kw_only=True):
    """Where the gateway listens, under which names, with which certificate."""

    names: Texts = LOCAL_NAMES
    """Host names and addresses, lower case, without port; the first is the one it calls itself by."""
    bind: Text = "127.0.0.1"
    port: Port = 5000
    external_port: PortOrNone = 0
    certificate: Location = NOWHERE
    key: Location = NOWHERE
    workers: Workers = 0
    trusted_proxies: Texts = ()

    @property
    def development(self) -> bool:
        """Whether the certificate is one the gateway makes itself, in `DATA/tls`."""
        return self.certificate == NOWHERE

    @property
    def public_port(self) -> int:
        """The port clients use."""
        return self.external_port or self.port

    @property
    def processes(self) -> int:
        """How many processes serve; with workers = 0, one for each core, at most four."""
        return self.workers or min(4, len(os.sched_getaffinity(0)))

    @property
    def networks(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        """The trusted proxies, as networks."""
        return tuple(ipaddress.ip_network(text) for text in self.trusted_proxies)


class Tokens(Struct, frozen=True, kw_only=True):
    """What the tokens say of themselves, and how long they live."""

    issuer: Name = "registry-gateway"
    service: Name = "registry-gateway"
    lifetime_seconds: Lifetime = 300
    containerd_push_seconds: Lifetime = 900
    """How long at least when containerd asks for push: up to version 1.7 it keeps one token for the whole push."""


class Limits(Struct, frozen=True, kw_only=True):
    """What one client may use; sizes in bytes, times in seconds."""

    manifest_bytes: Bytes = 4 * 1024 * 1024
    header_bytes: Bytes = 32 * 1024
    url_bytes: Bytes = 8 * 1024
    header_seconds: Seconds = 10
    idle_seconds: Seconds = 150
    body_min_bytes_per_second: Number = 1024
    connections_per_address: Number = 200
    uploads_per_principal: Number = 100
    upload_seconds: Seconds = 86_400
    """How long an upload that nothing is added to is kept."""
    free_bytes: BytesOrNone = 1024 * 1024 * 1024
    """What uploads leave free of the data directory's disk; 0 for nothing."""
    drain_seconds: Seconds = 30
    """How long a stopping gateway waits for the requests it is answering."""


class Logging(Struct, frozen=True, kw_only=True):
    """What is written to standard output, and how."""

    level: Annotated[Level, Meta(description='"debug", "info", "warning" or "error"')] = Level.INFO
    format: Annotated[LogFormat, Meta(description='"text" or "json"')] = LogFormat.TEXT


class Settings(Struct, frozen=True, kw_only=True):
    """Every setting, checked; paths are absolute. *file* is where they were read from, or None."""

    server: Server = Server()
    engine: Engine = Engine()
    database: Database = Database()
    tokens: Tokens = Tokens()
    audit: Audit = Audit()
    limits: Limits = Limits()
    upkeep: Upkeep = Upkeep()
    metrics: Metrics = Metrics()
    logging: Logging = Logging()
    file: Path | None = None

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.engine.root

    @property
    def command(self) -> str:
        """`gateway` with the options that lead to these settings, as a shell takes it."""
        if self.file is None or self.file == self.data / FILE_NAME:
            return shlex.join(("gateway", "--data", str(self.data)))
        return shlex.join(("gateway", "--config", str(self.file)))

    @property
    def tls(self) -> Path:
        """Where the development certificate is kept."""
        return self.engine.root / "tls"

    @property
    def address(self) -> str:
        """What clients call the gateway: `registry.company.com`, `localhost:5000`."""
        return self.addresses[0]

    @property
    def addresses(self) -> tuple[str, ...]:
        """Host and port of each name, as they stand in an image's name; the port is left away when it is 443."""
        port = "" if self.server.public_port == 443 else f":{self.server.public_port}"
        return tuple(f"[{name}]{port}" if ":" in name else f"{name}{port}" for name in self.server.names)

    @classmethod
    def load(cls, path: Path, environment: Mapping[str, str] = os.environ) -> Settings:
        """
        The settings in the file *path*, which must exist, and *environment*; relative paths start at the file.

        Raises `Invalid`, naming file, line, section and key, for anything unknown, of a wrong type or out of range.
        """
        path = path.absolute()
        return _settled(Values.read(path, SECTIONS, environment), path.parent, path)

    @classmethod
    def for_data(cls, folder: Path, environment: Mapping[str, str] = os.environ) -> Settings:
        """The settings of the data directory *folder*: its `gateway.toml` if there is one, the defaults otherwise."""
        folder = folder.absolute()
        path = folder / FILE_NAME
        try:
            found = path.exists()
        except PermissionError:
            raise Invalid(f"The data directory {folder} cannot be read; run as its owner, or choose another.") from None
        if found:
            return cls.load(path, environment)
        return _settled(Values.read(None, SECTIONS, environment), folder, None)

    def but(
        self,
        names: Sequence[str] = (),
        port: int | None = None,
        bind: str | None = None,
        workers: int | None = None,
    ) -> Settings:
        """
        These settings with what is given changed; *names* come before the local ones. Raises `Invalid`.

        A changed port is also the one clients use.
        """
        given = _given(names, port, bind, workers)
        if port is not None:
            given["external_port"] = 0
        values = Values({"server": {**_plain(self.server), **given}}, {})
        server = values.section("server", Server)
        _check_server(values, server)
        return msgspec.structs.replace(self, server=server)

    def behind(
        self, url: str, *, username: str = "", password_file: Path | None = None, ca_file: Path | None = None
    ) -> Settings:
        """These settings in front of the registry at *url*, whatever their engine was. Raises `Invalid`."""
        paths = {"password_file": password_file, "ca_file": ca_file}
        return msgspec.structs.replace(self, engine=engine_section.behind(self.data, url, username=username, **paths))

    def keep_engine(self) -> None:
        """
        Writes the engine that `behind` named into the settings file, which is made in the data directory if missing.

        Raises `Conflict` if the file has a section for it already.
        """
        if self.file is None:
            write_initial(self.data, engine=self.engine)
        else:
            engine_section.append(self.file, self.engine)

    def shown(self) -> dict[str, dict[str, object]]:
        """Every setting by section and key, JSON-able, without secrets."""
        shown = {section: _plain(getattr(self, section)) for section in SECTIONS}
        for key in ("url", "migrate_url"):
            shown["database"][key] = masked(str(shown["database"][key]))
        shown["audit"] = audit_section.shown(self.audit)
        shown["engine"]["password"] = "***" if self.engine.password else ""
        shown["metrics"]["token"] = "***" if self.metrics.token else ""
        shown["metrics"]["trace_endpoint"] = masked(self.metrics.trace_endpoint)
        return shown


#: The sections of the file, in its order.
SECTIONS: dict[str, type[Struct]] = {
    "server": Server,
    "engine": Engine,
    "database": Database,
    "tokens": Tokens,
    "audit": Audit,
    "limits": Limits,
    "upkeep": Upkeep,
    "metrics": Metrics,
    "logging": Logging,
}


def write_initial(
    folder: Path,
    names: Sequence[str] = (),
    port: int | None = None,
    bind: str | None = None,
    workers: int | None = None,
    engine: Engine | None = None,
) -> Path:
    """
    Writes `gateway.toml` into the existing directory *folder* with what is given, so that later commands find it.

    *engine* is one that `Settings.behind` made.

    Raises `Conflict` if there is one already, `Invalid` for a value that would be refused when read.
    """
    path = folder / FILE_NAME
    if path.exists():
        raise Conflict(f"{path} exists already; edit it instead.")
    Settings().but(names, port, bind, workers)
    lines = [f"{key} = {json.dumps(value)}" for key, value in _given(names, port, bind, workers).items()]
    text = "\n".join(
        (
            "# The settings of this gateway; relative paths start here. What is not set has its default:",
            "# config/gateway.toml in the source explains every setting there is.",
            "",
            "[server]",
            *lines,
            "",
            *(() if engine is None else (engine_section.written(engine),)),
        )
    )
    # Linked, not renamed: of two that initialise at once, one wins whole.
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".gateway.toml-", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())
        try:
            os.link(file.name, path)
        except FileExistsError:
            raise Conflict(f"{path} exists already; edit it instead.") from None
    return path


def _given(names: Sequence[str], port: int | None, bind: str | None, workers: int | None) -> dict[str, object]:
    every = tuple(dict.fromkeys((*(name.lower() for name in names), *LOCAL_NAMES)))
    given = {"names": every if names else None, "port": port, "bind": bind, "workers": workers}
    return {key: value for key, value in given.items() if value is not None}


def _plain(section: Struct) -> dict[str, object]:
    paths = {key: "" if value == NOWHERE else str(value) for key, value in _paths(section)}
    return {key: paths.get(key, value) for key, value in msgspec.structs.asdict(section).items()}


def _paths(section: Struct) -> list[tuple[str, Path]]:
    return [(key, value) for key, value in msgspec.structs.asdict(section).items() if isinstance(value, Path)]


def _settled(values: Values, folder: Path, file: Path | None) -> Settings:
    server = _anchored(values.section("server", Server), folder)
    _check_server(values, server)
    engine = engine_section.settled(values, folder)
    return Settings(
        server=server,
        engine=engine,
        database=database_section.settled(
            values, _anchored(values.section("database", Database), folder), folder, engine.root
        ),
        tokens=values.section("tokens", Tokens),
        audit=audit_section.settled(values, folder),
        limits=values.section("limits", Limits),
        upkeep=values.section("upkeep", Upkeep),
        metrics=metrics_section.settled(values, folder),
        logging=values.section("logging", Logging),
        file=file,
    )


def _anchored(section: S, folder: Path) -> S:
    """*section* with its relative paths made absolute, from *folder*."""
    absolute = {
        key: Path(os.path.normpath(folder / value.expanduser())) for key, value in _paths(section) if value != NOWHERE
    }
    return msgspec.structs.replace(section, **absolute)


def _check_server(values: Values, server: Server) -> None:
    if not server.names:
        raise values.wrong("server", "names", "needs at least one host name or address")
    for name in server.names:
        if not is_host(name):
            raise values.wrong(
                "server", "names", f"has {name!r}, which is no host name or address in lower case, without port"
            )
    if not is_address(server.bind):
        raise values.wrong("server", "bind", "must be an address of this machine, as in 127.0.0.1 or 0.0.0.0")
    for network in server.trusted_proxies:
        if not is_network(network):
            raise values.wrong("server", "trusted_proxies", f"has {network!r}, which is no network, as in 10.1.0.0/16")
    if (server.certificate == NOWHERE) != (server.key == NOWHERE):
        given, missing = ("key", "certificate") if server.certificate == NOWHERE else ("certificate", "key")
        raise values.wrong("server", given, f"needs {missing} beside it")
