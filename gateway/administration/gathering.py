"""What a review's rules look at, gathered from the trail and the records; each kind of it bounded, and told if cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Final

from gateway.access.policy import Reach
from gateway.access.principals import PrincipalKind
from gateway.audit.chain import Sealed
from gateway.audit.event import Kind, Outcome
from gateway.audit.review import Happening, HeldAccess, Material, Policy, RobotSecret, happening
from gateway.audit.trail import Search, Trail
from gateway.oci.names import Repository
from gateway.records import arrivals
from gateway.records.accounts import every_account
from gateway.records.database import Database
from gateway.records.grants import GrantRow, grants_of
from gateway.records.projects import every_project

#: Events looked at of one kind of material; of more, the newest.
MOST: Final = 100_000
_PAGE: Final = 1000
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
MOVES: Final = (Kind.MANIFEST_PUSH, Kind.MANIFEST_DELETE, Kind.TAG_DELETE, Kind.REPOSITORY_REMOVE)


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


def gather(
    database: Database, trail: Trail, project: str, since: datetime, until: datetime, policy: Policy
) -> Material:
    """The material of a review of *project* ("" for all) from *since* to *until*; reads for some seconds at most."""
    return _Gathering(database, trail, Search(project=project, since=since, until=until), since, until).material(policy)


@dataclass(slots=True)
class _Gathering:
    database: Database
    trail: Trail
    scope: Search
    since: datetime
    until: datetime
    partial: set[str] = field(default_factory=set)

    def material(self, policy: Policy) -> Material:
        denied = self._events("denied", [replace(self.scope, outcome=Outcome.DENIED)])
        found, networks = self._arrivals()
        moment = min(self.until, datetime.now(UTC))
        return Material(
            since=self.since,
            until=moment,
            policy=policy,
            denied=denied,
            sign_ins=self._sign_ins(policy),
            arrivals=found,
            networks=networks,
            changes=self._events("changes", [replace(self.scope, kind=kind.value) for kind in CHANGES]),
            moves=self._events("moves", [replace(self.scope, kind=kind.value) for kind in MOVES]),
            secrets=self._secrets(),
            access=self._access(moment, policy),
            protected={row.name: row.rules.immutable for row in self.database.read_now(every_project)},
            partial=frozenset(self.partial),
        )

    def _events(self, name: str, searches: Iterable[Search]) -> list[Happening]:
        """The events that any of *searches* finds, oldest first."""
        found: list[Happening] = []
        for search in searches:
            some = [happening(event) for event in newest(self.trail, search, MOST + 1)]
            if len(some) > MOST:
                self.partial.add(name)
            found += some[:MOST]
        return sorted(found, key=lambda each: each.seq)

    def _sign_ins(self, policy: Policy) -> list[Happening]:
        """The sign-ins, refused and not, of the names that were refused often. They are of no project."""
        if self.scope.project:
            # Who fails at the door of the gateway is not one project's to see.
            return []
        scope = replace(self.scope, kind=Kind.SIGN_IN.value)
        refused = self._events("sign_ins", [replace(scope, outcome=Outcome.DENIED)])
        counts = Counter(each.principal for each in refused)
        often = [name for name, count in counts.most_common() if count >= policy.failures]
        if len(often) > _NAMES:
            self.partial.add("sign_ins")
        names = set(often[:_NAMES])
        searches = [replace(scope, outcome=Outcome.ALLOWED, principal=name) for name in sorted(names)]
        mine = [each for each in refused if each.principal in names]
        return sorted(mine + self._events("sign_ins", searches), key=lambda each: each.seq)

    def _arrivals(self) -> tuple[list[Happening], dict[int, tuple[str, ...]]]:
        """The first transfers of each principal from a network in the period, and the networks it had before each."""
        span = int(self.since.timestamp()), int(self.until.timestamp())
        rows = self.database.read_now(lambda connection: arrivals.between(connection, *span, limit=_PAGE * 5))
        if len(rows) == _PAGE * 5:
            self.partial.add("arrivals")
        events = [happening(event) for row in rows if (event := self.trail.event(row.seq)) is not None]
        mine = [each for each in events if not self.scope.project or each.project == self.scope.project]
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
        held: list[HeldAccess] = []
        for grant in self.database.read_now(grants_of):
            reach = Reach.parse(grant.reach)
            there = not self.scope.project or reach.project.name == self.scope.project
            live = grant.expires_at is None or grant.expires_at > until
            if there and live and until - grant.created_at > longest:
                used_at = self._used(grant, until - longest)
                held.append(HeldAccess(grant.principal, f"{grant.role} on {grant.reach}", grant.created_at, used_at))
        if not self.scope.project:
            held += self._roles(until, longest)
        return held

    def _roles(self, until: datetime, longest: timedelta) -> Iterator[HeldAccess]:
        for account in self.database.read_now(every_account):
            roles = [name for name in ("administrator", "auditor") if getattr(account, name)]
            if roles and account.enabled and until - account.created_at > longest:
                search = Search(principal=account.name, outcome=Outcome.ALLOWED, since=until - longest)
                uses = [happening(event) for event in self.trail.page(search, limit=1)]
                used_at = uses[0].time if uses else None
                yield HeldAccess(account.name, " and ".join(roles), account.created_at, used_at)

    def _used(self, grant: GrantRow, since: datetime) -> datetime | None:
        """When the grant was last of use since then: an act of its holder in its reach."""
        reach = Reach.parse(grant.reach)
        search = Search(project=reach.project.name, principal=grant.principal, outcome=Outcome.ALLOWED, since=since)
        for event in islice(newest(self.trail, search, _USES if reach.pattern else 1), _USES):
            each = happening(event)
            if not reach.pattern or (each.repository and reach.covers(Repository(each.repository))):
                return each.time
        return None
