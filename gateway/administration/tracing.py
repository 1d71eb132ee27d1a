"""Tracing: who pulled what, and what a credential that leaked has touched; the switch that ends it at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from gateway.access.keys import LEEWAY_SECONDS, LONGEST_TOKEN_SECONDS
from gateway.access.passwords import HashingPool, generate_password
from gateway.access.policy import Need
from gateway.access.principals import Caller, CredentialKind
from gateway.access.scopes import Action
from gateway.access.secrets import Secrets, keyed_hash, new_robot_secret
from gateway.administration.gathering import everywhere, newest
from gateway.administration.horizon import horizon
from gateway.administration.looks import Looks
from gateway.administration.naming import NamedCredential, named_content, named_credential
from gateway.audit.chain import Sealed, Told, told
from gateway.audit.event import TAG_MOVES, Kind, Outcome
from gateway.audit.trail import SealedPart, Search, Trail
from gateway.change import Change, together
from gateway.errors import Conflict, Unknown
from gateway.gate import Gate
from gateway.oci.digest import Digest
from gateway.oci.names import Tag
from gateway.records import personal_tokens
from gateway.records.accounts import (
    Account,
    find,
    find_offline_token,
    get,
    keep_an_administrator,
    revoke_token,
    set_secret,
)
from gateway.records.database import Database
from gateway.records.tracing import PULLS, Tally, Unreadable, tallied

#: Events looked at, the newest.
MOST: Final = 50_000
#: How long before a bearer was used it may have been issued.
_LONGEST: Final = timedelta(seconds=LONGEST_TOKEN_SECONDS + LEEWAY_SECONDS)
#: An event, and what it says.
_Said = tuple[Sealed, Told]
#: What each kind of act does with the content it names.
_VERBS: Final[dict[str, str]] = {
    Kind.MANIFEST_PULL: "pull",
    Kind.BLOB_PULL: "pull",
    Kind.MANIFEST_PUSH: "push",
    Kind.BLOB_PUSH: "push",
    Kind.BLOB_MOUNT: "push",
    Kind.MANIFEST_DELETE: "delete",
    Kind.BLOB_DELETE: "delete",
    Kind.TAG_DELETE: "delete",
}


@dataclass(frozen=True, slots=True)
class Pull:
    """*count* times *principal* pulled the content from *address*, first and last then (UTC), last as *agent*."""

    principal: str
    address: str
    repository: str
    agent: str
    count: int
    first: datetime
    last: datetime
    last_event: int


@dataclass(frozen=True, slots=True)
class Trace:
    """
    Who pulled *digest*, whoever did last first. *tagged* is the event that gave the tag this digest, if one was asked.

    *whole* says that every pull there is was looked at; if not, the newest. *sealed* is what was not looked through
    because it was sealed away, or purged; None if nothing was.
    """

    target: str
    digest: str
    tagged: int | None
    pulls: tuple[Pull, ...]
    looked: int
    whole: bool
    sealed: SealedPart | None = None


@dataclass(frozen=True, slots=True)
class Touched:
    """What was done with one digest in one repository: *verb* is pull, push or delete."""

    verb: str
    digest: str
    repository: str
    reference: str
    count: int
    first: datetime
    last: datetime
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leak:
    """
    What the credential touched *since* then, the last first, and whether it was *revoked* just now.

    *credential* says which it is; *whole* and *sealed* as in `Trace`.
    """

    credential: str
    principal: str
    revoked: bool
    since: datetime
    touched: tuple[Touched, ...]
    looked: int
    whole: bool
    sealed: SealedPart | None = None


@dataclass(frozen=True, slots=True)
class Tracing:
    """
    Tracing is for administrators and auditors, within one project for its owner; revoking for who manages the account.
    """

    gate: Gate
    database: Database
    trail: Trail
    secrets: Secrets
    hashing: HashingPool
    looks: Looks

    async def who_pulled(
        self, caller: Caller, target: str, at: datetime | None = None, *, sealed: bool = False
    ) -> Trace:
        """
        Who pulled *target*: `sha256:…` anywhere, or `REPOSITORY@sha256:…` or `REPOSITORY:TAG` in one repository.

        A tag is what it was *at* that moment (now, if none is given), as the events of its pushes say. With *sealed*
        the months that were sealed away are looked through as well: some tenths of a second for each file. An owner is
        told nothing of a project that had the name before. Raises `Invalid` for what is none of these, `Unknown` for a
        tag that had no digest then.
        """
        repository, reference = named_content(target)
        need = Need(Action.REVIEW, repository.project if repository is not None else None)
        asked = {"target": target, **({"at": at.isoformat()} if at is not None else {})}
        name = repository.name if repository is not None else ""
        async with self.gate.passage(caller, Kind.AUDIT_TRACE, need, repository=name, detail=asked) as passage:
            first = await horizon(self.gate, self.database, self.trail, caller, need.project)
            seen = Search(repository=name, outcome=Outcome.ALLOWED.value, since=first)
            tagged, digest = await self._resolved(caller, seen, reference, at, sealed=sealed)
            passage.note(digest=digest.text)
            found = await self.looks.run(caller, self._pulled, replace(seen, digest=digest.text), sealed=sealed)
            part = await asyncio.to_thread(self.trail.sealed, Search(since=first))
            await passage.seal()
        unread = part.read() if sealed and part is not None else part
        looked = sum(pull.count for pull in found)
        return Trace(target, digest.text, tagged, found, looked, looked < MOST, unread)

    async def leak(
        self, caller: Caller, credential: str, since: datetime, *, plan: bool = False, force: bool = False
    ) -> Leak:
        """
        Revokes *credential*, and tells every digest it was used for since then; with *plan* it only tells.

        An account's name: its secret becomes one that nobody knows, and all tokens got with it are worth nothing; give
        it another when it is to go on. `offline:7` for an offline token, `personal:7` for a personal one: that alone
        is revoked. A bare number is an offline token's too, unless a user has it for a name, who is `user:12` then.
        Raises `Unknown`, and `Conflict` for such a number, and for the last enabled administrator unless *force*.
        """
        named = named_credential(credential)
        action = Action.REVIEW if plan else Action.MANAGE
        need = Need(action, named.project) if named.project is not None else Need(action)
        asked = {"account": named.account, "credential": credential, "since": since.isoformat(), "plan": plan}
        async with self.gate.passage(caller, Kind.CREDENTIAL_LEAK, need, detail=asked) as passage:
            owner = await self._owner(named)
            passage.note(detail={**asked, "account": owner.name})
            if plan:
                await passage.seal()
            else:
                await passage.commit(await self._revocation(named, owner, force=force))
        # What was revoked is revoked: whoever ended it waits for what it touched, and is not sent away.
        if plan:
            events, whole, part = await self.looks.run(caller, self._acts, named, owner, since)
        else:
            events, whole, part = await self.looks.queue(self._acts, named, owner, since)
        unread = part.read() if part is not None else None
        return Leak(named.told, owner.name, not plan, since, _touched(events), len(events), whole, unread)

    async def _resolved(
        self,
        caller: Caller,
        seen: Search,
        reference: Tag | Digest,
        at: datetime | None,
        *,
        sealed: bool,
    ) -> tuple[int | None, Digest]:
        if isinstance(reference, Digest):
            return None, reference
        return await self.looks.run(caller, self._tagged, replace(seen, until=at), reference, sealed=sealed)

    def _pulled(self, asked: Search, *, sealed: bool) -> tuple[Pull, ...]:
        """Who pulled the digest *asked* for, whoever did last first; of more pulls than are looked at, the newest."""
        with suppress(Unreadable):
            if not sealed:
                tallies = self.database.read_now(lambda connection: tallied(connection, asked, MOST))
                return self._confirmed(asked.digest, tallies)
        searches = [replace(asked, kind=kind) for kind in PULLS]
        if sealed:
            return _pulls([_said(event) for event in everywhere(self.trail, searches, MOST)])
        every = [event for search in searches for event in newest(self.trail, search, MOST)]
        return _pulls([_said(event) for event in sorted(every, key=lambda event: -event.seq)[:MOST]])

    def _confirmed(self, digest: str, tallies: Sequence[Tally]) -> tuple[Pull, ...]:
        """The pulls that *tallies* count, with what the events at both ends say as sealed; raises `Unreadable`."""
        events = self.trail.events(number for tally in tallies for number in (tally.first, tally.last))
        found = []
        for tally in tallies:
            first, last = (_counted(events.get(number), digest, tally) for number in (tally.first, tally.last))
            agent = str(events[tally.last].record().get("agent", ""))
            span = _moment(first.time), _moment(last.time)
            found.append(Pull(tally.principal, tally.address, tally.repository, agent, tally.times, *span, tally.last))
        return tuple(found)

    def _tagged(self, search: Search, tag: Tag, *, sealed: bool) -> tuple[int, Digest]:
        """The last event that *search* finds of those that gave *tag* a digest, and the digest."""
        searches = [replace(search, kind=kind.value) for kind in TAG_MOVES]
        moved = [_last_move(newest(self.trail, each, MOST), tag) for each in searches]
        last = max((move for move in moved if move is not None), default=None)
        unread = self.trail.sealed(search) if last is None else None
        if unread is not None and sealed:
            last = _last_move((event for event in self.trail.older(searches) if isinstance(event, Sealed)), tag)
        if last is None or not last[1]:
            when = f" at {search.until:%Y-%m-%d %H:%M}Z" if search.until is not None else ""
            also = f" {unread.told} Look through these as well, or" if unread is not None and not sealed else ""
            told = f"{search.repository}:{tag} named nothing{when}, as far as the trail says"
            raise Unknown(f"{told}.{also} give a digest instead." if also else f"{told}; give a digest instead.")
        return last[0], Digest.parse(last[1])

    async def _owner(self, named: NamedCredential) -> Account:
        """Whose credential it is; raises `Unknown`, and `Conflict` for a number that is a user's name as well."""
        if named.bare:
            text = str(named.number)
            if await self.database.read(lambda connection: find(connection, text)) is not None:
                told = f"There is a user {text}: say offline:{text} for the offline token, or user:{text} for the user."
                raise Conflict(told)
        name = named.account
        if named.kind is CredentialKind.PERSONAL_TOKEN:
            personal = await self.database.read(lambda connection: personal_tokens.find(connection, named.number))
            name = personal.account if personal is not None else ""
        elif named.kind is CredentialKind.OFFLINE_TOKEN:
            offline = await self.database.read(lambda connection: find_offline_token(connection, named.number))
            name = offline.principal if offline is not None else ""
        if not name:
            raise Unknown(f"There is no {named.told}; list the tokens to see their numbers.")
        return await self.database.read(lambda connection: get(connection, name))

    async def _revocation(self, named: NamedCredential, owner: Account, *, force: bool) -> Change:
        if named.kind is CredentialKind.PERSONAL_TOKEN:
            return personal_tokens.revoke(named.number)
        if named.kind is CredentialKind.OFFLINE_TOKEN:
            return revoke_token(named.number)
        now = int(datetime.now(UTC).timestamp())
        if named.project is not None:
            hashed = keyed_hash(self.secrets.robots, new_robot_secret())
            expires_at = int(owner.expires_at.timestamp()) if owner.expires_at is not None else None
            return set_secret(owner.id, hashed, now=now, expires_at=expires_at)
        ended = set_secret(owner.id, await self.hashing.hash(generate_password()), now=now)
        kept = () if force else (keep_an_administrator(owner.id),)
        return together(*kept, personal_tokens.revoke_all(owner.name), ended)

    def _acts(
        self, named: NamedCredential, owner: Account, since: datetime
    ) -> tuple[list[Sealed], bool, SealedPart | None]:
        """
        The acts on content that the credential did since then, newest first, whether these are all, and what of the
        trail was sealed away.
        """
        search = Search(principal=owner.name, since=since, outcome=Outcome.ALLOWED.value)
        found = everywhere(self.trail, [search], MOST + 1)
        # An account that had the name before is another one: of it, whoever asks may not know.
        acts = [event for event in found[:MOST] if _verb(event) and _by(event, owner)]
        whole = len(found) <= MOST
        if named.kind is None:
            return acts, whole, self.trail.sealed(Search(since=since))
        # A bearer may have been used since then that was issued before.
        earlier = since - _LONGEST if since - datetime.min.replace(tzinfo=UTC) > _LONGEST else since
        issuing = replace(search, kind=Kind.TOKEN_ISSUE.value, since=earlier)
        issued = everywhere(self.trail, [issuing], MOST + 1)
        # What it did itself, and what was done with the tokens that were issued for it.
        itself = (named.kind.value, str(named.number))
        proofs = {itself}
        for event in issued[:MOST]:
            record: dict[str, Any] = event.record()
            if _proof(record) == itself:
                proofs.add((CredentialKind.BEARER.value, str((record.get("detail") or {}).get("id", ""))))
        whole = whole and len(issued) <= MOST
        its = [event for event in acts if _proof(event.record()) in proofs]
        return its, whole, self.trail.sealed(Search(since=earlier))


def _by(event: Sealed, account: Account) -> bool:
    """Whether *account* did it; its number is never another's."""
    record = event.record()
    return (record.get("principal_kind"), record.get("principal_id")) == (account.kind.value, account.id)


def _proof(record: Mapping[str, Any]) -> tuple[str, str]:
    """What the caller of an event proved itself with: numbers of different kinds are no more than alike."""
    return str(record.get("credential", "")), str(record.get("credential_id", ""))


def _counted(event: Sealed | None, digest: str, tally: Tally) -> Told:
    """What *event* says; raises `Unreadable` if it is not one of the pulls of *digest* that *tally* has counted."""
    says = told(event.body) if event is not None else None
    if says is None or says.kind not in PULLS or says.outcome != Outcome.ALLOWED:
        raise Unreadable
    if (says.digest, says.principal, says.address, says.repository) != (digest, *tally[:3]):
        raise Unreadable
    return says


def _last_move(events: Iterable[Sealed], tag: Tag) -> tuple[int, str] | None:
    """The first of *events*, newest first, that moved *tag*, and the digest it had after it, "" for none."""
    for event in events:
        record: dict[str, Any] = event.record()
        before, after = ((record.get(name) or {}).get("tags") or {} for name in ("before", "after"))
        # Some that were removed by retention say so in their reference alone.
        removed = record["kind"] == Kind.TAG_DELETE and record.get("reference") == tag.name
        if tag.name in after or tag.name in before or removed:
            return event.seq, str(after.get(tag.name, ""))
    return None


def _verb(event: Sealed) -> str:
    # A kind is its own text.
    return _VERBS.get(str(event.record()["kind"]), "")


def _pulls(events: Sequence[_Said]) -> tuple[Pull, ...]:
    """Pulls by principal, address and repository; *events* come newest first."""
    found: dict[tuple[str, str, str], list[Any]] = {}
    for event, says in events:
        key = (says.principal, says.address, says.repository)
        known = found.get(key)
        if known is None:
            known = found[key] = [event, 0, says.time, says.time]
        known[1] += 1
        known[3] = says.time
    return tuple(
        Pull(*key, str(event.record().get("agent", "")), count, _moment(first), _moment(last), event.seq)
        for key, (event, count, last, first) in found.items()
    )


def _said(event: Sealed) -> _Said:
    """What the event says; of what was edited, whatever can still be read."""
    says = told(event.body)
    if says is None:
        record = event.record()
        fields = ("time", "kind", "outcome", "principal", "project", "repository", "digest", "address")
        says = Told(event.seq, "", **{name: str(record.get(name, "")) for name in fields})
    return event, says


def _touched(events: Iterable[Sealed]) -> tuple[Touched, ...]:
    """What was done, by digest; *events* come newest first."""
    found: dict[tuple[str, str, str], Touched] = {}
    for event in events:
        verb, record = _verb(event), event.record()
        digest = str(record.get("digest", ""))
        if not verb or not digest:
            continue
        key = (verb, digest, str(record.get("repository", "")))
        at, address = _time(record), str(record.get("address", ""))
        known = found.get(key) or Touched(*key, str(record.get("reference", "")), 0, at, at, ())
        addresses = known.addresses if address in known.addresses else (*known.addresses, address)[:20]
        found[key] = replace(known, count=known.count + 1, first=at, addresses=addresses)
    return tuple(found.values())


def _time(record: dict[str, object]) -> datetime:
    return _moment(str(record["time"]))


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
