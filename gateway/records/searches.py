"""Saved searches in the database: each belongs to one principal, and goes with its account."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from gateway.access.principals import Principal, PrincipalKind
from gateway.change import Change, Notes
from gateway.errors import Conflict, Unknown
from gateway.records import driver
from gateway.records.review_tables import saved_searches

#: Whether a search with these filters is one that the caller's credential reaches.
Reached: TypeAlias = Callable[[Mapping[str, str]], bool]
#: As many as anybody finds again.
MOST: Final = 100
_MINE: Final = (
    select(saved_searches.c.name, saved_searches.c.filters, saved_searches.c.created_at)
    .where(saved_searches.c.owner == bindparam("owner"))
    .order_by(saved_searches.c.name)
)


@dataclass(frozen=True, slots=True)
class SavedSearch:
    """A search kept under a *name*: texts by filter, as they were typed; `24h` means a day before it is asked."""

    name: str
    filters: Mapping[str, str]
    created_at: datetime


def searches_of(connection: Connection, principal: Principal) -> tuple[SavedSearch, ...]:
    """What *principal* has saved, by name."""
    rows = driver.rows(connection, _MINE, {"owner": _owner(principal)})
    return tuple(SavedSearch(name, json.loads(text), datetime.fromtimestamp(at, UTC)) for name, text, at in rows)


def save(principal: Principal, name: str, filters: Mapping[str, str], reached: Reached, *, now: int) -> Change:
    """
    Keeps the search under *name*, in the place of one that has it.

    On commit raises `Conflict` beyond 100, and where the one that has the name is not *reached*.
    """

    def apply(connection: Connection) -> Notes:
        mine = saved_searches.c.owner == _owner(principal)
        before = connection.execute(select(saved_searches).where(mine, saved_searches.c.name == name)).first()
        if before is not None and not reached(json.loads(before.filters)):
            raise Conflict(f"This token does not reach the search {name} that is saved already; choose another name.")
        if before is not None:
            connection.execute(delete(saved_searches).where(saved_searches.c.id == before.id))
        elif connection.execute(select(func.count()).select_from(saved_searches).where(mine)).scalar_one() >= MOST:
            raise Conflict(f"There are {MOST} saved searches already; remove one first.")
        account = principal.id if principal.kind in {PrincipalKind.USER, PrincipalKind.ROBOT} else None
        row = {"owner": _owner(principal), "account_id": account, "name": name, "created_at": now}
        connection.execute(insert(saved_searches).values(**row, filters=json.dumps(dict(filters), sort_keys=True)))
        told = {"name": name, "filters": dict(filters)}
        earlier = {"name": name, "filters": json.loads(before.filters)} if before is not None else None
        saved = SavedSearch(name, dict(filters), datetime.fromtimestamp(now, UTC))
        return Notes(before=earlier, after=told, result=saved)

    return Change(apply)


def remove(principal: Principal, name: str, reached: Reached) -> Change:
    """Removes one; on commit raises `Unknown`, also for one that is not *reached*."""

    def apply(connection: Connection) -> Notes:
        mine = (saved_searches.c.owner == _owner(principal)) & (saved_searches.c.name == name)
        before = connection.execute(select(saved_searches).where(mine)).first()
        if before is None or not reached(json.loads(before.filters)):
            raise Unknown(f"There is no saved search {name}; list the saved searches to see their names.")
        connection.execute(delete(saved_searches).where(mine))
        return Notes(before={"name": name, "filters": json.loads(before.filters)})

    return Change(apply)


def _owner(principal: Principal) -> str:
    return f"{principal.kind}:{principal.id}"
