"""The rules of a review: what deserves a reader's eyes in a period, each picked by one function and explained.

A rule looks at `Material`, which was gathered for it, and at nothing else: the same material gives the same findings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Any, Final

from gateway.access.patterns import matches
from gateway.audit.chain import Sealed
from gateway.audit.event import Kind, Outcome

#: Findings listed of one rule, and events named in one finding; what is beyond is counted.
FINDINGS: Final = 500
EVENTS: Final = 100
#: So many names that one address is refused under are somebody trying names.
_NAMES: Final = 5
_SHORT: Final = 19
_TEXTS: Final = ("kind", "outcome", "principal", "address", "project", "repository", "reference", "reason")


class Mark(StrEnum):
    """What a reviewer says of a finding."""

    FINE = "fine"
    FOLLOW_UP = "follow_up"


@dataclass(frozen=True, slots=True)
class Policy:
    """
    The thresholds of the rules: *denials* within *denial_minutes* are a burst, *failures* within *failure_minutes*
    before a sign-in are many; secrets are older than *secret_days* or access unused for *unused_days*; tags that match
    one of *protected* are expected to stay, besides those that a project's own rules hold.
    """

    denials: int = 20
    denial_minutes: int = 10
    failures: int = 5
    failure_minutes: int = 60
    secret_days: int = 90
    unused_days: int = 90
    protected: tuple[str, ...] = ("v*", "release*", "stable*", "prod*")


@dataclass(frozen=True, slots=True)
class Happening:
    """An event as far as rules look at it."""

    seq: int
    time: datetime
    kind: str
    outcome: str
    principal: str
    address: str
    project: str = ""
    repository: str = ""
    reference: str = ""
    reason: str = ""
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RobotSecret:
    """A robot that may sign in, and when its secret was made."""

    name: str
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class HeldAccess:
    """Access that *principal* has had since *given_at*, and when it was last used, if it was in the time looked at."""

    principal: str
    held: str
    given_at: datetime
    used_at: datetime | None


@dataclass(frozen=True, slots=True)
class Material:
    """
    What the rules look at: events of the period, oldest first, and what the records say besides.

    *denied* and *sign_ins* begin as long before the period as a burst, or a row of failures, that ends in it may begin.
    *arrivals* are the first transfers of a principal from a network, *networks* those it had used before that event.
    *sign_ins* are those of the names that failed often. *partial* names what was cut at the newest, being too much.
    """

    since: datetime
    until: datetime
    policy: Policy = Policy()
    denied: Sequence[Happening] = ()
    sign_ins: Sequence[Happening] = ()
    arrivals: Sequence[Happening] = ()
    networks: Mapping[int, Sequence[str]] = field(default_factory=dict)
    changes: Sequence[Happening] = ()
    moves: Sequence[Happening] = ()
    secrets: Sequence[RobotSecret] = ()
    access: Sequence[HeldAccess] = ()
    protected: Mapping[str, Sequence[str]] = field(default_factory=dict)
    partial: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Found:
    """What a rule picked: about whom or what, in one sentence, and the numbers of the *count* events, at most 100."""

    subject: str
    summary: str
    first: datetime | None = None
    last: datetime | None = None
    count: int = 0
    events: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """*why* says what deserves eyes and why; *reads* names what of the material is looked at."""

    name: str
    title: str
    why: str
    reads: str
    pick: Callable[[Material], Iterator[Found]]


@dataclass(frozen=True, slots=True)
class Run:
    """One rule's run: how much it *found*; if that is more than 500 the rest is not listed. *whole*: it saw all."""

    rule: str
    found: int
    whole: bool


def happening(event: Sealed) -> Happening:
    """The event as rules see it."""
    record = event.record()
    values: dict[str, Any] = {name: str(record.get(name, "")) for name in _TEXTS}
    values |= {name: _mapping(record.get(name)) for name in ("before", "after", "detail")}
    return Happening(seq=event.seq, time=datetime.fromisoformat(str(record["time"])), **values)


def run(material: Material) -> tuple[list[tuple[Rule, Found]], list[Run]]:
    """What every rule picks, in the order of `RULES`, and how each ran."""
    picked: list[tuple[Rule, Found]] = []
    runs: list[Run] = []
    for rule in RULES:
        found = rule.pick(material)
        listed = list(islice(found, FINDINGS))
        rest = sum(1 for _ in found)
        picked += [(rule, each) for each in listed]
        runs.append(Run(rule.name, len(listed) + rest, rule.reads not in material.partial))
    return picked, runs


# the rules


def denied_bursts(material: Material) -> Iterator[Found]:
    policy = material.policy
    by_caller: defaultdict[tuple[str, str], list[Happening]] = defaultdict(list)
    by_address: defaultdict[str, list[Happening]] = defaultdict(list)
    for each in material.denied:
        by_caller[each.principal, each.address].append(each)
        by_address[each.address].append(each)
    window = timedelta(minutes=policy.denial_minutes)
    for (principal, address), refused in by_caller.items():
        for burst in _ending(material, bursts(refused, policy.denials, window)):
            kinds = ", ".join(sorted({each.kind for each in burst}))
            yield _found(principal, f"{len(burst)} refusals from {address} ({kinds}).", burst)
    for address, refused in by_address.items():
        for burst in _ending(material, bursts(refused, policy.denials, window)):
            names = {each.principal for each in burst}
            if len(names) >= _NAMES:
                yield _found(address, f"{len(burst)} refusals under {len(names)} names from one address.", burst)


def late_sign_ins(material: Material) -> Iterator[Found]:
    policy = material.policy
    by_name: defaultdict[str, list[Happening]] = defaultdict(list)
    for each in material.sign_ins:
        by_name[each.principal].append(each)
    for name, tried in by_name.items():
        failed: list[Happening] = []
        for each in tried:
            if each.outcome == Outcome.DENIED:
                failed.append(each)
                continue
            recent = [one for one in failed if each.time - one.time <= timedelta(minutes=policy.failure_minutes)]
            if len(recent) >= policy.failures and each.time >= material.since:
                where = "there as well" if each.address in {one.address for one in recent} else "elsewhere"
                said = f"Signed in from {each.address} after {len(recent)} failures, {where}."
                yield _found(name, said, [*recent, each])
            failed = []


def new_networks(material: Material) -> Iterator[Found]:
    for each in material.arrivals:
        known = material.networks.get(each.seq, ())
        # Where somebody comes from the first time ever, there is nothing to compare with.
        if known:
            verb = "push" if each.kind in {Kind.MANIFEST_PUSH, Kind.BLOB_PUSH, Kind.BLOB_MOUNT} else "pull"
            before = f"{len(known)} other network{'s' if len(known) != 1 else ''}"
            place = each.repository or each.project
            yield _found(
                each.principal, f"First {verb} from the network of {each.address} ({place}); {before} before.", [each]
            )


def rights_changed(material: Material) -> Iterator[Found]:
    groups: defaultdict[tuple[str, str, str], list[Happening]] = defaultdict(list)
    for each in material.changes:
        groups[each.principal, each.kind, each.project].append(each)
    for (principal, kind, project), done in groups.items():
        told = list(dict.fromkeys(filter(None, (_about(each) for each in done))))
        shown = "; ".join(told[:5]) + (f"; and {len(told) - 5} more" if len(told) > 5 else "")
        place = f" in {project}" if project else ""
        failed = sum(each.outcome != Outcome.ALLOWED for each in done)
        tail = f" ({failed} of them not done)" if failed else ""
        yield _found(
            principal, f"{kind}{place}, {len(done)} time{'s' if len(done) != 1 else ''}{tail}: {shown or '-'}.", done
        )


def moved_tags(material: Material) -> Iterator[Found]:
    groups: defaultdict[tuple[str, str], list[tuple[Happening, str]]] = defaultdict(list)
    for each in material.moves:
        if each.outcome != Outcome.ALLOWED:
            continue
        if each.kind == Kind.REPOSITORY_REMOVE:
            groups[each.repository, ""].append((each, "removed with all its tags"))
            continue
        after = _mapping(each.after.get("tags"))
        for tag, digest in _mapping(each.before.get("tags")).items():
            if after.get(tag) != digest and _protected(material, each.project, str(tag)):
                what = f"moved to {str(after[tag])[:_SHORT]}" if tag in after else "removed"
                groups[each.repository, str(tag)].append(
                    (each, f"{what} from {str(digest)[:_SHORT]} by {each.principal}")
                )
    for (repository, tag), moves in groups.items():
        subject = f"{repository}:{tag}" if tag else repository
        more = f"; {len(moves) - 3} times more" if len(moves) > 3 else ""
        yield _found(subject, "; ".join(what for _, what in moves[:3]) + f"{more}.", [each for each, _ in moves])


def old_secrets(material: Material) -> Iterator[Found]:
    oldest = timedelta(days=material.policy.secret_days)
    for secret in material.secrets:
        if material.until - secret.changed_at > oldest:
            days = (material.until - secret.changed_at).days
            yield Found(secret.name, f"Its secret is {days} days old; the policy is {oldest.days}.", secret.changed_at)


def unused_access(material: Material) -> Iterator[Found]:
    longest = timedelta(days=material.policy.unused_days)
    for held in material.access:
        idle_since = max(held.given_at, held.used_at or held.given_at)
        if material.until - idle_since > longest:
            last = f"last used {held.used_at:%Y-%m-%d}" if held.used_at else f"unused for {longest.days} days or more"
            yield Found(held.principal, f"{held.held}, given {held.given_at:%Y-%m-%d}: {last}.", held.given_at)


RULES: Final = (
    Rule(
        "denied_bursts",
        "Bursts of refusals",
        "Many refusals in a short time are a broken job, or somebody who tries what a credential can reach.",
        "denied",
        denied_bursts,
    ),
    Rule(
        "late_sign_ins",
        "Sign-ins after many failures",
        "A sign-in that succeeds after many that failed may be somebody who guessed the password.",
        "sign_ins",
        late_sign_ins,
    ),
    Rule(
        "new_networks",
        "New networks",
        "A principal that pulls or pushes from a network it never used before may have lost its credential.",
        "arrivals",
        new_networks,
    ),
    Rule(
        "rights_changed",
        "Changes of rights",
        "Every change of accounts, grants, robots, projects and keys is somebody's decision and should be known.",
        "changes",
        rights_changed,
    ),
    Rule(
        "moved_tags",
        "Protected tags moved or removed",
        "A tag that is expected to stay names something else now: whoever pulls it gets what was not reviewed.",
        "moves",
        moved_tags,
    ),
    Rule(
        "old_secrets",
        "Old robot secrets",
        "A secret that is not rotated within the policy's days stays good for whoever copied it.",
        "secrets",
        old_secrets,
    ),
    Rule(
        "unused_access",
        "Unused access",
        "Access that nobody has used for long is not needed, and only helps whoever takes over the account.",
        "access",
        unused_access,
    ),
)


def bursts(found: Sequence[Happening], least: int, window: timedelta) -> Iterator[list[Happening]]:
    """The longest runs of *found*, oldest first, in which every *least* in a row lie within *window*."""
    begin = end = -1
    for last in range(least - 1, len(found)):
        first = last - least + 1
        if found[last].time - found[first].time > window:
            continue
        if begin >= 0 and first > end:
            yield list(found[begin : end + 1])
            begin = -1
        begin, end = (first if begin < 0 else begin), last
    if begin >= 0:
        yield list(found[begin : end + 1])


def _ending(material: Material, found: Iterable[list[Happening]]) -> Iterator[list[Happening]]:
    """Those of the bursts that end in the period: one that ended before belongs to the period before."""
    return (burst for burst in found if burst[-1].time >= material.since)


def _found(subject: str, summary: str, events: Sequence[Happening]) -> Found:
    numbers = tuple(each.seq for each in events[:EVENTS])
    times = [each.time for each in events]
    return Found(subject, summary, min(times), max(times), len(events), numbers)


def _about(each: Happening) -> str:
    """What a change was about, short."""
    told = each.after or each.before or each.detail
    words = [str(told[name]) for name in ("account", "role", "reach", "kid", "name") if told.get(name)]
    flags = [name for name in ("administrator", "auditor") if told.get(name) is True]
    return " ".join([*words, *flags]) or each.project


def _protected(material: Material, project: str, tag: str) -> bool:
    patterns: Iterable[str] = (*material.policy.protected, *material.protected.get(project, ()))
    return any(matches(pattern, tag) for pattern in patterns)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
