"""An htpasswd file: whom another program let in, and which of its hashes can be kept."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from gateway.errors import Invalid

#: Costs of bcrypt that are kept. A sign-in with more would hold up the others for seconds.
COSTS = range(4, 16)
_BCRYPT = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}", re.ASCII)
_SCHEMES = (
    (re.compile(r"\$2"), "bcrypt"),
    (re.compile(r"\$apr1\$"), "Apache's MD5"),
    (re.compile(r"\{SHA\}"), "SHA-1"),
    (re.compile(r"\$1\$"), "MD5"),
    (re.compile(r"\$5\$"), "SHA-256"),
    (re.compile(r"\$6\$"), "SHA-512"),
    (re.compile(r"\$y\$"), "yescrypt"),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One user of the file. *hashed* is "" when its hash cannot be kept; *scheme* says what it is.

    *name* is as it is spelled there, legal or not.
    """

    name: str
    hashed: str = field(repr=False)
    scheme: str


def read(content: bytes) -> tuple[Entry, ...]:
    """
    The users in *content*, in its order; of one that occurs twice the last counts, as for the registry.

    Raises `Invalid` with the number of the first line that is neither `NAME:HASH` nor empty nor a comment.
    """
    found: dict[str, Entry] = {}
    for number, line in enumerate(content.decode("utf-8", "backslashreplace").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, colon, hashed = text.partition(":")
        if not colon or not name or not hashed:
            raise Invalid(f"Line {number} of the htpasswd file is not NAME:HASH; correct it, or remove it.")
        found[name] = _entry(name, hashed)
    return tuple(found.values())


def _entry(name: str, hashed: str) -> Entry:
    matched = _BCRYPT.fullmatch(hashed)
    if matched is not None and int(matched[1]) in COSTS:
        return Entry(name, hashed, "bcrypt")
    if matched is not None:
        return Entry(name, "", f"bcrypt of cost {int(matched[1])}")
    return Entry(name, "", next((scheme for form, scheme in _SCHEMES if form.match(hashed)), "an unknown scheme"))
