"""The event again, from the record that was kept of it while nobody knew how the act ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.access.principals import Caller, Credential, CredentialKind, Origin, Principal, PrincipalKind
from gateway.audit.event import Event, Kind, Outcome

_TEXTS = ("project", "repository", "reference", "digest", "action", "grant")


def recollected(record: Mapping[str, Any], outcome: Outcome, reason: str = "") -> Event:
    """
    The event of *record* with the *outcome* that is known now, as of now.

    Who, from where, what and on what are the record's; its detail says that the outcome was found out later
    (`settled`) and when the act was begun.
    """
    told = {name: record[name] for name in ("bytes", *_TEXTS) if name in record}
    detail = {**record.get("detail", {}), "settled": True, "begun": record["time"]}
    return Event(Kind(record["kind"]), _caller(record), outcome, reason=reason, detail=detail, **told)


def _caller(record: Mapping[str, Any]) -> Caller:
    principal = Principal(PrincipalKind(record["principal_kind"]), record["principal_id"], record["principal"])
    address = record["address"]
    origin = Origin(address, record.get("peer_address", address), record.get("agent", ""), record["request_id"])
    return Caller(principal, origin, Credential(CredentialKind(record["credential"]), record.get("credential_id", "")))
