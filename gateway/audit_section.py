"""The `[audit]` section of the settings: how the trail is kept, where it is sent, when old months leave for files."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_args, get_type_hints
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from gateway.errors import Invalid
from gateway.sources import NOWHERE, Location, Text, Values, is_host, masked, read_secret

Months: TypeAlias = Annotated[int, Meta(ge=0, le=1200, description="a number of months, or 0")]
Port: TypeAlias = Annotated[int, Meta(ge=1, le=65535, description="a port number, 1 to 65535")]
FileBytes: TypeAlias = Annotated[int, Meta(ge=65536, le=2**40, description="a number of bytes, at least 65536")]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=100_000, description="a number of files, or 0 for all")]
Batch: TypeAlias = Annotated[int, Meta(ge=1, le=1000, description="a number of events, 1 to 1000")]

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)
_SECRET_CHARACTERS = 16


class AuditMode(StrEnum):
    STRICT = "strict"


class SinkKind(StrEnum):
    FILE = "file"
    SYSLOG = "syslog"
    WEBHOOK = "webhook"


class Sink(Struct, frozen=True, kw_only=True):
    """
    One place that events and checkpoints are sent to; which fields count depends on *kind*.

    Paths are absolute. What is in *secret_file* is read when it is needed, and is never part of a setting; what *url*
    has after its '?' may be a key, so neither `repr` nor `place` gives it.
    """

    kind: Annotated[SinkKind, Meta(description='"file", "syslog" or "webhook"')]
    path: Location = NOWHERE
    rotate_bytes: FileBytes = 100 * 1024 * 1024
    keep: Count = 0
    host: Text = ""
    port: Port = 6514
    ca_file: Location = NOWHERE
    certificate: Location = NOWHERE
    key: Location = NOWHERE
    url: Text = ""
    secret_file: Location = NOWHERE
    batch: Batch = 500

    def __repr__(self) -> str:
        return f"Sink(kind={self.kind.value!r}, place={self.place!r})"

    @property
    def place(self) -> str:
        """Where it leads, for people, without secrets."""
        match self.kind:
            case SinkKind.FILE:
                return str(self.path)
            case SinkKind.SYSLOG:
                return f"{self.host}:{self.port}"
            case SinkKind.WEBHOOK:
                return masked(self.url)


class Audit(Struct, frozen=True, kw_only=True):
    """How the trail is kept: strict means that no act is acknowledged before its event is on disk."""

    mode: Annotated[AuditMode, Meta(description='"strict"')] = AuditMode.STRICT
    retain_months: Months = 0
    """Whole months older than that are sealed into files while serving; 0: only when `gateway audit retain` is run."""
    purge_months: Months = 0
    """Sealed files older than that are removed, each leaving a signed stub; 0: never. Needs *retain_months*."""
    sinks: Annotated[dict[str, Sink], Meta(description="sections named [audit.sinks.NAME]")] = {}


#: What each kind needs, and what else it may have besides *kind* and *batch*.
_FIELDS = {
    SinkKind.FILE: (("path",), ("rotate_bytes", "keep")),
    SinkKind.SYSLOG: (("host",), ("port", "ca_file", "certificate", "key")),
    SinkKind.WEBHOOK: (("url", "secret_file"), ("ca_file",)),
}


def settled(values: Values, folder: Path) -> Audit:
    """The section, checked, its paths absolute (relative ones start at *folder*). Raises `Invalid`."""
    found = values.found.get("audit", {}).get("sinks", {})
    if not isinstance(found, dict):
        raise values.wrong("audit", "sinks", "must be sections named [audit.sinks.NAME]")
    sinks = {name: _sink(values, str(name), content, folder) for name, content in found.items()}
    rest = {key: value for key, value in values.found.get("audit", {}).items() if key != "sinks"}
    audit = replace(values, found={**values.found, "audit": rest}).section("audit", Audit)
    if audit.purge_months and not audit.retain_months:
        told = "needs retain_months beside it, 1 or more and less than it: only what was sealed before is purged"
        raise values.wrong("audit", "purge_months", told)
    if audit.purge_months and audit.purge_months <= audit.retain_months:
        raise values.wrong("audit", "purge_months", "must be more than retain_months: what is purged was sealed before")
    return msgspec.structs.replace(audit, sinks=sinks)


def shown(audit: Audit) -> dict[str, object]:
    """The section, JSON-able, without secrets."""
    sinks = {name: _shown_sink(sink) for name, sink in audit.sinks.items()}
    return {**msgspec.structs.asdict(audit), "mode": audit.mode.value, "sinks": sinks}


def secret_of(sink: Sink) -> str:
    """What is in the sink's *secret_file* now; raises `Invalid` if it cannot be read, or by others too."""
    return read_secret(Values({}, {}), "audit", "secret_file", sink.secret_file)


def _shown_sink(sink: Sink) -> dict[str, object]:
    needed, possible = _FIELDS[sink.kind]
    given = {key: getattr(sink, key) for key in ("batch", *needed, *possible)}
    told = {key: str(value) if isinstance(value, Path) else value for key, value in given.items() if value != NOWHERE}
    hidden = {"url": masked(sink.url)} if "url" in told else {}
    return {"kind": sink.kind.value, **told, **hidden}


def _sink(values: Values, name: str, content: Any, folder: Path) -> Sink:
    def wrong(key: str, fault: str) -> Invalid:
        path = ("audit", "sinks", name, key) if key else ("audit", "sinks", name)
        return values.wrong_at(path, f"[audit.sinks.{name}] {key} {fault}".replace("]  ", "] "))

    if not _NAME.fullmatch(name):
        raise wrong("", "must be named in small letters, digits, '-' and '_'")
    if not isinstance(content, dict):
        raise wrong("", "must be a section of its own")
    given = _converted(content, wrong)
    kind = given.get("kind")
    if not isinstance(kind, SinkKind):
        raise wrong("", 'needs kind: "file", "syslog" or "webhook"')
    needed, possible = _FIELDS[kind]
    for key in needed:
        if given.get(key) in (None, "", NOWHERE):
            raise wrong("", f'of kind = "{kind.value}" needs {key}')
    for key in given:
        if key not in {"kind", "batch", *needed, *possible}:
            raise wrong(key, f'is not for kind = "{kind.value}"; leave it away')
    paths = {key: _anchored(path, folder) for key, path in given.items() if isinstance(path, Path) and path != NOWHERE}
    sink = Sink(**{**given, **paths})
    _check(sink, name, wrong, values)
    return sink


def _converted(content: Mapping[str, object], wrong: Any) -> dict[str, Any]:
    hints = get_type_hints(Sink, include_extras=True)
    given: dict[str, Any] = {}
    for key, value in content.items():
        if key not in hints:
            raise wrong(key, f"is no setting of a sink; known are {', '.join(Sink.__struct_fields__)}")
        try:
            given[key] = msgspec.convert(value, hints[key], dec_hook=_path)
        except (msgspec.ValidationError, NotImplementedError):
            told = (meta.description for meta in get_args(hints[key])[1:] if isinstance(meta, Meta))
            raise wrong(key, f"must be {next(filter(None, told), 'of another type')}") from None
    return given


def _check(sink: Sink, name: str, wrong: Any, values: Values) -> None:
    match sink.kind:
        case SinkKind.FILE:
            # Whether it can be written is seen when it is: meanwhile the gateway serves, and says what is wrong.
            return
        case SinkKind.SYSLOG:
            if not is_host(sink.host):
                raise wrong("host", "must be a host name or address in lower case, without port")
            if (sink.certificate == NOWHERE) != (sink.key == NOWHERE):
                raise wrong("certificate" if sink.key == NOWHERE else "key", "needs the other of certificate and key")
        case SinkKind.WEBHOOK:
            if not _is_safe(sink.url):
                told = "must begin with https:// and hold no name, password or '#'; http:// is for this machine only"
                raise wrong("url", told)
            secret = read_secret(values, f"audit.sinks.{name}", "secret_file", sink.secret_file)
            if len(secret) < _SECRET_CHARACTERS:
                raise wrong(
                    "secret_file", f"holds less than {_SECRET_CHARACTERS} characters; use: openssl rand -hex 32"
                )


def _is_safe(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    if not is_host(host) or "@" in parts.netloc or parts.fragment or not url.isascii() or not url.isprintable():
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and (host == "localhost" or _is_loopback(host)))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _anchored(path: Path, folder: Path) -> Path:
    return Path(os.path.normpath(folder / path.expanduser()))


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str) and value and "\0" not in value:
        return Path(value)
    raise NotImplementedError
