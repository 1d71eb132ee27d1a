"""What readers ask of the trail, from the text of options and forms: each filter checked, each flaw told beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from typing import Final

from gateway.access.names import parse_principal
from gateway.audit.event import VALUE_CHARACTERS, Kind, Outcome
from gateway.audit.moments import moment
from gateway.audit.trail import Search
from gateway.errors import DigestInvalid, Invalid
from gateway.oci.digest import Digest

#: Every filter there is, in the order they are shown.
FILTERS: Final = (
    "project",
    "repository",
    "principal",
    "kind",
    "outcome",
    "digest",
    "address",
    "since",
    "until",
)
BACKWARDS: Final = "A period ends after it begins; this one holds nothing."
#: What events of the command line have for an address.
_AT_HOME: Final = "local"
_NOUNS: Final = frozenset(known.value.partition(".")[0] for known in Kind)


@dataclass(frozen=True, slots=True)
class Asked:
    """
    What was asked: the *search* that the filters make which are as they should be, and what is wrong with the others.

    *flaws* are by filter, each a sentence to be shown beside it.
    """

    search: Search
    flaws: Mapping[str, str]


def asked(texts: Mapping[str, str], now: datetime) -> Asked:
    """The search that *texts* by filter ask for; empty ones exclude nothing, and what is no filter is a flaw."""
    values: dict[str, object] = {}
    flaws: dict[str, str] = {}
    for name, text in texts.items():
        if name not in FILTERS:
            flaws[name[:64]] = f"There is no such filter; there are {', '.join(FILTERS)}."
            continue
        if not text.strip():
            continue
        try:
            values[name] = _value(name, text.strip(), now)
        except Invalid as refusal:
            flaws[name] = refusal.message
    if backwards(values.get("since"), values.get("until")):  # type: ignore[arg-type]  # they are moments
        del values["until"]
        flaws["until"] = BACKWARDS
    return Asked(Search(**values), flaws)  # type: ignore[arg-type]  # the names are the fields of a search


def search_of(texts: Mapping[str, str], now: datetime) -> Search:
    """As `asked`, but raises `Invalid` for the first flaw, with the filter in its detail."""
    found = asked(texts, now)
    for name, flaw in found.flaws.items():
        raise Invalid(flaw, detail={"field": name})
    return found.search


def _value(name: str, text: str, now: datetime) -> object:
    if len(text) > VALUE_CHARACTERS:
        raise Invalid(f"A filter has at most {VALUE_CHARACTERS} characters.")
    match name:
        case "kind":
            return kind_filter(text)
        case "outcome":
            if text not in set(Outcome):
                raise Invalid(f"An outcome is one of {', '.join(known.value for known in Outcome)}.")
            return text
        case "principal":
            return parse_principal(text) if "/" in text else text
        case "digest":
            return digest_filter(text)
        case "address":
            return address_filter(text)
        case "since" | "until":
            return moment(text, now)
        case _:
            return text


def kind_filter(text: str) -> str:
    """*text* if it is a kind, or a noun and `.*`; raises `Invalid`."""
    if text not in set(Kind) and not (text.endswith(".*") and text[:-2] in _NOUNS):
        raise Invalid(f"{text!r} is no kind of event; kinds are {', '.join(sorted(_NOUNS))}, each followed by '.*'.")
    return text


def digest_filter(text: str) -> str:
    """*text* if it is a digest; raises `Invalid`: of a part of one there would be no events, whatever happened."""
    try:
        return Digest.parse(text).text
    except DigestInvalid as refusal:
        raise Invalid(refusal.message) from refusal


def address_filter(text: str) -> str:
    """*text* if it is an address as events have it; raises `Invalid`."""
    try:
        if text != _AT_HOME:
            ip_address(text.partition("%")[0])
    except ValueError:
        raise Invalid(
            f"An address is a whole one, as 192.0.2.7 or 2001:db8::7; {_AT_HOME!r} is this machine."
        ) from None
    return text


def backwards(since: datetime | None, until: datetime | None) -> bool:
    """Whether a period does not end after it begins: `BACKWARDS` says so."""
    return since is not None and until is not None and since >= until
