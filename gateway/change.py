"""A change: an effect on our own records, prepared and not yet committed; the gate hands it to the ledger."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.oci.names import Repository


@dataclass(frozen=True, slots=True)
class Notes:
    """
    What applying a change found out, for the event and for whoever asked for it.

    *result* is for the asker only (an id, a count); everything else goes into the event, *detail* together with what
    the event says there already. *also* names further events that the change caused, as (kind, event fields), sealed
    before the act's own.
    """

    before: Mapping[str, object] | None = None
    after: Mapping[str, object] | None = None
    detail: Mapping[str, object] | None = None
    digest: str = ""
    result: Any = None
    also: tuple[tuple[str, Mapping[str, object]], ...] = ()


def _nothing() -> None:
    pass


def _as_before(connection: Any) -> None:
    pass


async def _at_once() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """
    What an act does outside our database, between two transactions.

    *intend* is applied first, with the event's record so far: it keeps what is needed to find out later what became
    of the act. *wait* ends when the act's turn has come, and says whether others went before; then the act is judged
    again, and *resume* applied, which may refuse what was not refused before. *run* does it; a `Refusal` of any of them
    says that nothing was done there, and *drop* is applied, which removes the intent; only an `UpstreamUnavailable`
    that is *uncertain* leaves the intent, to be settled by asking. The change's own *apply* comes last and removes the
    intent too.
    """

    intend: Callable[[Any, Mapping[str, Any]], None]
    run: Callable[[], Awaitable[None]]
    drop: Callable[[Any], None]
    wait: Callable[[], Awaitable[bool]] = _at_once
    resume: Callable[[Any], None] = _as_before


@dataclass(frozen=True, slots=True)
class Change:
    """
    *apply* is called once, with the ledger's open transaction (a SQLAlchemy Core connection), in the ledger's thread.

    It does no slow work and no input or output but SQL; a `Refusal` it raises undoes its own statements and no one
    else's. *policy* says that accounts, projects or grants change; *repositories* names those whose tags, links or
    manifests do: every process sees the change from the moment it is acknowledged. *elsewhere* is what has to be done
    outside the database before. *release* lets go of what the change holds, a lock: it is called once the ledger is
    done with the change, whether it was applied or not, or once it is clear that the ledger will not see it; and may
    have been called by then.
    """

    apply: Callable[[Any], Notes]
    policy: bool = False
    repositories: tuple[Repository, ...] = ()
    elsewhere: Elsewhere | None = None
    release: Callable[[], None] = _nothing


def together(*changes: Change) -> Change:
    """Several changes as one; the notes are those of the last, the events of all."""

    def apply(connection: Any) -> Notes:
        notes = Notes()
        also: tuple[tuple[str, Mapping[str, object]], ...] = ()
        for change in changes:
            notes = change.apply(connection)
            also += notes.also
        return Notes(notes.before, notes.after, notes.detail, notes.digest, notes.result, also)

    def release() -> None:
        for change in changes:
            change.release()

    repositories = tuple(name for change in changes for name in change.repositories)
    return Change(apply, any(change.policy for change in changes), repositories, release=release)
