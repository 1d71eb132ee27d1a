"""What a review's rules look at, gathered from the trail and the records; each kind of it bounded, and told if cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from typing import Final

from gateway.access.policy import Reach
from gateway.access.principals import PrincipalKind
from gateway.audit.chain import Sealed, told
from gateway.audit.event import TAG_MOVES, Kind, Outcome
from gateway.audit.review import Happening, HeldAccess, Material, Policy, RobotSecret, happening
from gateway.audit.trail import Search, Trail
from gateway.oci.names import Repository
from gateway.records import arrivals
from gateway.records.accounts import every_account
from gateway.records.database import Database
from gateway.records.grants import grants_of
from gateway.records.projects import every_project

#: Events looked at of one kind of material; of more, the newest.
MOST: Final = 100_000
_PAGE: Final = 5000
#: Names whose sign-ins are looked at, and events looked at to see whether a grant was used.
_NAMES: Final = 500
_USES: Final = 2000

#: What changes who may do what.
CHANGES: Final = (
    Kind.ACCOUNT_ADD,
    Kind.ACCOUNT_SET,
    Kind.ACCOUNT_DISABLE,
    Kind.ACCOUNT_ENABLE,
    Kind.ACCOUNT_PASSWORD,
    Kind.ACCOUNT_REMOVE,
    Kind.ACCOUNT_IMPORT,
    Kind.GRANT_ADD,
    Kind.GRANT_REMOVE,
    Kind.ROBOT_ADD,
    Kind.ROBOT_ROTATE,
    Kind.ROBOT_REMOVE,
    Kind.PROJECT_ADD,
    Kind.PROJECT_SET,
    Kind.PROJECT_REMOVE,
    Kind.OFFLINE_TOKEN_REVOKE,
    Kind.CREDENTIAL_LEAK,
    Kind.PERSONAL_TOKEN_ISSUE,
    Kind.PERSONAL_TOKEN_REVOKE,
    Kind.SECOND_FACTOR_CONFIRM,
    Kind.SECOND_FACTOR_DISABLE,
    Kind.KEY_ADD,
    Kind.KEY_ROTATE,
    Kind.KEY_REVOKE,
    Kind.READ_ONLY_SET,
)
#: What moves or removes tags.
MOVES: Final = (*TAG_MOVES, Kind.REPOSITORY_REMOVE)


def newest(trail: Trail, search: Search, most: int) -> Iterator[Sealed]:
    """The newest events that match, newest first, at most so many; read a page at a time."""
    before: int | None = None
    left = most
    while left > 0:
        page = trail.page(search, before=before, limit=min(_PAGE, left))
        yield from page
        if len(page) < min(_PAGE, left):
            return
        before, left = page[-1].seq, left - len(page)


def everywhere(trail: Trail, searches: Sequence[Search], most: int) -> list[Sealed]:
    """The newest events that any of *searches* finds, newest first, at most so many; also those in sealed months."""
    found = {event.seq: event for search in searches for event in newest(trail, search, most)}
    if len(found) < most:
        for event in trail.older(searches):
            assert isinstance(event, Sealed)
            found[event.seq] = event
            if len(found) >= most:
                break
    return sorted(found.values(), key=lambda event: -event.seq)[:most]


def earlier(trail: Trail, project: str, since: datetime, until: datetime, policy: Policy) -> bool:
    """
    Whether a review of *project* from *since* on looks at anything from before *until*, or might have before a purge.

    Where months of then are sealed, some tenths of a second a file.
    """
    looked = Search(project=project, since=_before(since, timedelta(minutes=policy.denial_minutes)), until=until)
    part = trail.sealed(looked)
    if trail.page(looked, limit=1) or (part is not None and part.purged):
        return True
    return part is not None and next(iter(trail.older([looked])), None) is not None


def gather(
    database: Database,
    trail: Trail,
    project: str,
    since: datetime,
    until: datetime,
    policy: Policy,
    first: datetime | None = None,
) -> Material:
    """
    The material of a review of *project* ("" for all) from *since* to *until*, which is not in the future.

    Nothing from before *first* is looked at, if that is given: it is of another project of the name.
    Reads for some seconds at most, but where the period reaches into sealed months, some tenths of a second a file.
    """
    since = since if first is None else max(since, first)
    scope = Search(project=project, since=since, until=until)
    return _Gathering(database, trail, scope, since, until, first).material(policy)


@dataclass(slots=True)
class _Gathering:
    database: Database
    trail: Trail
    scope: Search
    since: datetime
    until: datetime
    first: datetime | None = None
    partial: set[str] = field(default_factory=set)
    #: What sealed months hold of the searches of one review, all read in one go.
    sealed: dict[Search, dict[int, Happening]] = field(default_factory=dict)

    def material(self, policy: Policy) -> Material:
        refused = replace(self._scope_before(policy.denial_minutes), outcome=Outcome.DENIED)
        tried = replace(self._scope_before(policy.failure_minutes), kind=Kind.SIGN_IN.value)
        self._read_sealed(refused, tried)
        denied = self._events("denied", [refused])
        found, networks = self._arrivals()
        return Material(
            since=self.since,
            until=self.until,
            policy=policy,
            denied=denied,
            sign_ins=self._sign_ins(tried, policy),
            arrivals=found,
            networks=networks,
            changes=self._changes(),
            moves=self._events("moves", [replace(self.scope, kind=kind.value) for kind in MOVES]),
            secrets=self._secrets(),
            access=self._access(self.until, policy),
            protected={row.name: row.rules.immutable for row in self.database.read_now(every_project)},
            partial=frozenset(self.partial),
        )

    def _changes(self) -> list[Happening]:
        found = self._events("changes", [replace(self.scope, kind=kind.value) for kind in CHANGES])
        # Who asked what ending a credential would come to has changed nothing, and was refused no change.
        return [each for each in found if each.detail.get("plan") is not True]

    def _scope_before(self, minutes: int) -> Search:
        """The period, begun so much earlier: what ends in it may have begun before it."""
        earlier = _before(self.since, timedelta(minutes=minutes))
        return replace(self.scope, since=earlier if self.first is None else max(earlier, self.first))

    def _events(self, name: str, searches: Iterable[Search]) -> list[Happening]:
        """The events that any of *searches* finds, oldest first."""
        found: dict[int, Happening] = {}
        for search in searches:
            some = {event.seq: happening(event) for event in newest(self.trail, search, MOST + 1)}
            if len(some) <= MOST:
                some |= self.sealed.get(search, {})
            if len(some) > MOST:
                self.partial.add(name)
            found |= {seq: some[seq] for seq in sorted(some, reverse=True)[:MOST]}
        return [found[seq] for seq in sorted(found)]

    def _read_sealed(self, refused: Search, tried: Search) -> None:
        """
        Reads the sealed months of the period, and of the time before it that is looked at, once, for every rule that
        looks at events by their kind or outcome.
        """
        kinds = [replace(self.scope, kind=kind.value) for kind in (*CHANGES, *MOVES)]
        # Who was refused then, or what was changed, nobody can say any more.
        wanted = self._searched(self.scope, kinds, {"arrivals", "changes", "moves"})
        wanted += self._searched(refused, [refused], {"denied"})
        if not self.scope.project:
            wanted += self._searched(tried, [replace(tried, outcome=Outcome.DENIED)], {"sign_ins"})
        if wanted:
            self._collect(dict.fromkeys(wanted, MOST + 1))

    def _searched(self, period: Search, searches: list[Search], lost: set[str]) -> list[Search]:
        """Those of *searches* that look into sealed months of *period*; *lost* is in part what was purged of it."""
        sealed = self.trail.sealed(period)
        if sealed is not None and sealed.purged:
            self.partial |= lost
        return searches if sealed is not None else []

    def _collect(self, wanted: Mapping[Search, int]) -> None:
        """Keeps of what sealed months hold the newest events that each search wants, at most so many."""
        kept: dict[Search, dict[int, Happening]] = {search: {} for search in wanted}
        for event in self.trail.older(list(wanted)):
            assert isinstance(event, Sealed)
            says = told(event.body.encode())
            for search, some in kept.items():
                if says is not None and len(some) < wanted[search] and search.wants(says):
                    some[event.seq] = happening(event)
        self.sealed |= kept

    def _sign_ins(self, scope: Search, policy: Policy) -> list[Happening]:
        """The sign-ins of *scope*, refused and not, of the names that were refused often. They are of no project."""
        if self.scope.project:
            # Who fails at the door of the gateway is not one project's to see.
            return []
        refused = self._events("sign_ins", [replace(scope, outcome=Outcome.DENIED)])
        counts = Counter(each.principal for each in refused)
        often = [name for name, count in counts.most_common() if count >= policy.failures]
        if len(often) > _NAMES:
            self.partial.add("sign_ins")
        names = set(often[:_NAMES])
        searches = [replace(scope, outcome=Outcome.ALLOWED, principal=name) for name in sorted(names)]
        if searches and self.trail.sealed(scope) is not None:
            self._collect(dict.fromkeys(searches, MOST + 1))
        mine = [each for each in refused if each.principal in names]
        return sorted(mine + self._events("sign_ins", searches), key=lambda each: each.seq)

    def _arrivals(self) -> tuple[list[Happening], dict[int, tuple[str, ...]]]:
        """The first transfers of each principal from a network in the period, and the networks it had before each."""
        span = int(self.since.timestamp()), int(self.until.timestamp())
        rows = self.database.read_now(lambda connection: arrivals.between(connection, *span, limit=_PAGE))
        if len(rows) == _PAGE:
            self.partial.add("arrivals")
        events = [happening(event) for event in self.trail.events(row.seq for row in rows).values()]
        mine = [
            each
            for each in events
            if each.time >= self.since and (not self.scope.project or each.project == self.scope.project)
        ]
        known = {
            each.seq: self.database.read_now(partial(arrivals.networks_before, principal=each.principal, seq=each.seq))
            for each in mine
        }
        return mine, known

    def _secrets(self) -> list[RobotSecret]:
        accounts = self.database.read_now(every_account)
        robots = [each for each in accounts if each.kind is PrincipalKind.ROBOT and each.enabled]
        mine = [each for each in robots if not self.scope.project or each.project == self.scope.project]
        now = datetime.now(UTC)
        return [
            RobotSecret(each.name, each.changed_at) for each in mine if not each.expires_at or each.expires_at > now
        ]

    def _access(self, until: datetime, policy: Policy) -> list[HeldAccess]:
        """The grants and system roles held for long, with their last use in the time that the policy looks at."""
        longest = timedelta(days=policy.unused_days)
        since = _before(until, longest)
        uses = [use for use in (*self._granted(until, since), *self._roles(since)) if use.given_at < since]
        used = {use: self._used(newest(self.trail, use.search, use.most), use) for use in uses}
        unseen = {use.search: use.most for use in uses if used[use] is None}
        sealed = self.trail.sealed(Search(since=since)) if unseen else None
        if sealed is not None:
            if sealed.purged:
                self.partial.add("access")
            self._collect(unseen)
            for use in uses:
                used[use] = used[use] or self._used((), use)
        return [HeldAccess(use.principal, use.held, use.given_at, used[use]) for use in uses]

    def _granted(self, until: datetime, since: datetime) -> Iterator[_Use]:
        for grant in self.database.read_now(grants_of):
            reach = Reach.parse(grant.reach)
            there = not self.scope.project or reach.project.name == self.scope.project
            if there and (grant.expires_at is None or grant.expires_at > until):
                search = Search(
                    project=reach.project.name, principal=grant.principal, outcome=Outcome.ALLOWED, since=since
                )
                yield _Use(grant.principal, f"{grant.role} on {grant.reach}", grant.created_at, search, reach)

    def _roles(self, since: datetime) -> Iterator[_Use]:
        for account in () if self.scope.project else self.database.read_now(every_account):
            roles = [name for name in ("administrator", "auditor") if getattr(account, name)]
            if roles and account.enabled:
                search = Search(principal=account.name, outcome=Outcome.ALLOWED, since=since)
                yield _Use(account.name, " and ".join(roles), account.created_at, search)

    def _used(self, events: Iterable[Sealed], use: _Use) -> datetime | None:
        """When the access was last of use: an act of its holder in its reach, among *events* or in sealed months."""
        sealed = self.sealed.get(use.search, {})
        for each in chain((happening(event) for event in events), sealed.values()):
            if use.reach is None or not use.reach.pattern:
                return each.time
            if each.repository and use.reach.covers(Repository(each.repository)):
                return each.time
        return None


def _before(moment: datetime, span: timedelta) -> datetime:
    """*span* before *moment*, or the first moment that there is."""
    return moment - min(span, moment - datetime.min.replace(tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class _Use:
    """Access that somebody holds, the search that finds its uses, and the reach they have to lie in."""

    principal: str
    held: str
    given_at: datetime
    search: Search
    reach: Reach | None = None

    @property
    def most(self) -> int:
        """So many of the newest are looked at: any is a use, unless the reach is a pattern."""
        return _USES if self.reach is not None and self.reach.pattern else 1
