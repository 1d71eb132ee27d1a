"""The section `[metrics]` of the settings: who may read the figures, and where traces are sent."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from gateway.sources import NOWHERE, Location, Text, Values, masked, read_secret

_SECTION = "metrics"
MINIMUM_CHARACTERS = 16


class Metrics(Struct, frozen=True, kw_only=True):
    """`/metrics` is answered only when there is a token for it; neither `repr` nor `Settings.shown` gives that."""

    token: Text = ""
    token_file: Location = NOWHERE
    trace_endpoint: Text = ""
    """
    Where spans are sent by OTLP over HTTP, as in http://127.0.0.1:4318/v1/traces; "" for nowhere.

    What follows a '?' may be a key, and is not shown.
    """

    def __repr__(self) -> str:
        return f"Metrics(token_file={str(self.token_file)!r}, trace_endpoint={masked(self.trace_endpoint)!r})"


def settled(values: Values, folder: Path) -> Metrics:
    """The section, its token read; relative paths start at *folder*. Raises `Invalid`."""
    section = values.section(_SECTION, Metrics)
    if section.trace_endpoint and not _is_plain(section.trace_endpoint):
        told = "must be a URL without name, password or '#', as in http://127.0.0.1:4318/v1/traces"
        raise values.wrong(_SECTION, "trace_endpoint", told)
    key, token, file = "token", section.token, section.token_file
    if file != NOWHERE:
        if token:
            raise values.wrong(_SECTION, key, "is given twice: leave away either token or token_file")
        key, file = "token_file", folder / file.expanduser()
        token = read_secret(values, _SECTION, key, file)
    elif not token:
        return section
    if len(token) < MINIMUM_CHARACTERS or not token.isascii() or not token.isprintable() or " " in token:
        raise values.wrong(_SECTION, key, f"needs {MINIMUM_CHARACTERS} printable characters or more, without spaces")
    return msgspec.structs.replace(section, token=token, token_file=file)


def _is_plain(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(host) and "@" not in parts.netloc and not parts.fragment
