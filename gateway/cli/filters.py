"""The filters of the audit trail as options, one for each field a search has."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

import typer

from gateway.access.principals import Caller
from gateway.administration import Administration
from gateway.audit.searching import FILTERS, search_of
from gateway.audit.trail import Search
from gateway.errors import Unknown

Project = Annotated[str, typer.Option("--project", metavar="NAME", help="In this project.", show_default=False)]
Repository = Annotated[str, typer.Option("--repository", metavar="NAME", help="In this repository.")]
Principal = Annotated[str, typer.Option("--principal", metavar="NAME", help="By this user, robot or operator.")]
KindOption = Annotated[str, typer.Option("--kind", metavar="KIND", help="Of this kind: manifest.push, or manifest.*")]
OutcomeOption = Annotated[str, typer.Option("--outcome", metavar="OUTCOME", help="allowed, denied or failed.")]
Digest = Annotated[str, typer.Option("--digest", metavar="DIGEST", help="About this content.")]
Address = Annotated[str, typer.Option("--address", metavar="ADDRESS", help="From this address.")]
Since = Annotated[str, typer.Option("--since", metavar="TIME", help="From then on: 2026-01-31, or 24h for a day ago.")]
Until = Annotated[str, typer.Option("--until", metavar="TIME", help="Before then.")]
Saved = Annotated[str, typer.Option("--saved", metavar="NAME", help="What was saved under this name, and the filters.")]


def texts(*given: str) -> dict[str, str]:
    """The filters *given*, in the order of `FILTERS`, as texts by filter."""
    return dict(zip(FILTERS, given, strict=True))


def search(filters: Mapping[str, str]) -> Search:
    """What the options ask for; raises `Invalid` for a kind, outcome or time that cannot be."""
    return search_of(filters, datetime.now(UTC))


async def remembered(administration: Administration, caller: Caller, saved: str, given: Mapping[str, str]) -> Search:
    """As `search`, with the filters of the caller's search *saved*, unless that is "", where none is given."""
    filters = dict(given)
    if saved:
        kept = {each.name: each.filters for each in await administration.audit.list_searches(caller)}
        if saved not in kept:
            raise Unknown(f"There is no saved search {saved}; list them with: gateway audit saved")
        filters = {**kept[saved], **{name: text for name, text in given.items() if text}}
    return search(filters)
