"""The filters of the audit trail as options, one for each field a search has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import wraps
from inspect import Parameter, signature
from typing import Annotated, Any, Final, TypeAlias

import typer

from gateway.access.principals import Caller
from gateway.administration import Administration
from gateway.audit.searching import FILTERS, search_of
from gateway.audit.trail import Search
from gateway.errors import Unknown

#: What the options said, as texts by filter; "" for one that was not given.
Given: TypeAlias = Mapping[str, str]
Saved = Annotated[str, typer.Option("--saved", metavar="NAME", help="What was saved under this name, and the filters.")]


def _option(name: str, metavar: str, told: str) -> Any:
    return Annotated[str, typer.Option(f"--{name}", metavar=metavar, help=told, show_default=False)]


_OPTIONS: Final = {
    "project": _option("project", "NAME", "In this project."),
    "repository": _option("repository", "NAME", "In this repository."),
    "principal": _option("principal", "NAME", "By this user, robot or operator."),
    "kind": _option("kind", "KIND", "Of this kind: manifest.push, or manifest.*"),
    "outcome": _option("outcome", "OUTCOME", "allowed, denied or failed."),
    "digest": _option("digest", "DIGEST", "About this content."),
    "address": _option("address", "ADDRESS", "From this address."),
    "since": _option("since", "TIME", "From then on: 2026-01-31, or 24h for a day ago."),
    "until": _option("until", "TIME", "Before then."),
}


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """*command* with an option for each filter in the place of its parameter `given`."""
    options = [
        Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default="", annotation=_OPTIONS[name]) for name in FILTERS
    ]
    own = signature(command, eval_str=True)
    parameters = [each for known in own.parameters.values() for each in (options if known.name == "given" else [known])]

    @wraps(command)
    def filled(**values: Any) -> None:
        given = {name: values.pop(name) for name in FILTERS}
        command(given=given, **values)

    # Whoever reads the options off the command, reads them here.
    filled.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    filled.__annotations__ = {each.name: each.annotation for each in parameters}
    return filled


def search(filters: Given) -> Search:
    """What the options ask for; raises `Invalid` for the first one that cannot be."""
    return search_of(filters, datetime.now(UTC))


async def remembered(administration: Administration, caller: Caller, saved: str, given: Given) -> Search:
    """As `search`, with the filters of the caller's search *saved*, unless that is "", where none is given."""
    filters = dict(given)
    if saved:
        kept = {each.name: each.filters for each in await administration.audit.list_searches(caller)}
        if saved not in kept:
            raise Unknown(f"There is no saved search {saved}; list them with: gateway audit saved")
        filters = {**kept[saved], **{name: text for name, text in given.items() if text}}
    return search(filters)
