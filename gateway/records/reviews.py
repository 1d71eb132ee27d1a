"""Reviews in the database: begun with their findings, marked, and never changed once they are signed off."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, insert, select, update

from gateway.audit.chain import canonical
from gateway.audit.review import Found, Mark, Policy, Rule, Run
from gateway.change import Change, Notes
from gateway.errors import Conflict, Unknown
from gateway.records.directory import moment
from gateway.records.review_tables import findings, reviews

#: Findings that a refusal names.
_LISTED: Final = 10


@dataclass(frozen=True, slots=True)
class Review:
    """
    A period and a scope that somebody looks through; *project* is "" for all, *until* is exclusive, times are UTC.

    *signed_at* is None while it is open; then *content* is the SHA-256 of what was signed, as the event of the sign-off
    has it. *runs* say what each rule found and whether it could look at everything.
    """

    number: int
    project: str
    since: datetime
    until: datetime
    policy: Policy
    runs: tuple[Run, ...]
    begun_at: datetime
    begun_by: str
    signed_at: datetime | None = None
    signed_by: str = ""
    note: str = ""
    content: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule picked in a review, and what was said of it: *mark* is "", `fine` or `follow_up`."""

    number: int
    rule: str
    subject: str
    summary: str
    first: datetime | None
    last: datetime | None
    count: int
    events: tuple[int, ...]
    mark: str = ""
    note: str = ""
    marked_at: datetime | None = None
    marked_by: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Reviews of one *project* ("" for those of every project at once, None for whichever); *unsigned*: open ones."""

    project: str | None = None
    unsigned: bool = False


@dataclass(frozen=True, slots=True)
class Sight:
    """
    Who sees nothing from before *first*: a review that looked at it is out of sight, but for one begun after it *by*
    the very account that exists *since* then (None: there is none). Times are whole seconds.
    """

    first: int
    by: str
    since: int | None

    def sees(self, review: Review) -> bool:
        if review.since.timestamp() >= self.first:
            return True
        # An older gateway kept the beginning that was asked for, though it looked no further back than that.
        return self.began(review) and review.begun_at.timestamp() > self.first

    def began(self, review: Review) -> bool:
        """Whether the account began it; one that had its name before was another."""
        return self.since is not None and review.begun_by == self.by and review.begun_at.timestamp() >= self.since

    def clause(self) -> ColumnElement[bool]:
        """As `sees`, of a row."""
        kept = reviews.c.since >= self.first
        if self.since is None:
            return kept
        own = (reviews.c.begun_by == self.by) & (reviews.c.begun_at >= self.since) & (reviews.c.begun_at > self.first)
        return kept | own


# looking


def find(connection: Connection, number: int) -> Review | None:
    row = connection.execute(select(reviews).where(reviews.c.id == number)).first()
    return _review(row) if row is not None else None


def page(
    connection: Connection, wanted: Wanted, sight: Sight | None, *, below: int | None, above: int | None, limit: int
) -> tuple[Review, ...]:
    """
    So many of the reviews that are *wanted* and in *sight* (None: whichever), newest first: the newest, or the newest
    of those numbered *below*, or the oldest of those numbered *above*.
    """
    listed = select(reviews).limit(limit)
    if wanted.project is not None:
        listed = listed.where(reviews.c.project == wanted.project)
    if wanted.unsigned:
        listed = listed.where(reviews.c.signed_at.is_(None))
    if sight is not None:
        listed = listed.where(sight.clause())
    if above is not None:
        rows = connection.execute(listed.where(reviews.c.id > above).order_by(reviews.c.id)).all()
        return tuple(_review(row) for row in reversed(rows))
    if below is not None:
        listed = listed.where(reviews.c.id < below)
    return tuple(_review(row) for row in connection.execute(listed.order_by(reviews.c.id.desc())))


def findings_of(connection: Connection, review: int) -> tuple[Finding, ...]:
    """What was found, in the order of its numbers."""
    wanted = select(findings).where(findings.c.review_id == review).order_by(findings.c.number)
    return tuple(_finding(row) for row in connection.execute(wanted))


def find_finding(connection: Connection, review: int, number: int) -> Finding | None:
    """The finding of this number in the review."""
    mine = (findings.c.review_id == review) & (findings.c.number == number)
    row = connection.execute(select(findings).where(mine)).first()
    return _finding(row) if row is not None else None


def get_finding(connection: Connection, review: int, number: int) -> Finding:
    """The finding of this number in the review; raises `Unknown`."""
    found = find_finding(connection, review, number)
    if found is None:
        raise Unknown(f"Review {review} has no finding {number}; show the review to see their numbers.")
    return found


def content(review: Review, found: Sequence[Finding], note: str) -> str:
    """What a sign-off stands for, as one canonical line: scope, period, rules, and what was said of each finding."""
    told = {
        "review": review.number,
        "project": review.project,
        "since": review.since.isoformat(),
        "until": review.until.isoformat(),
        "policy": {**asdict(review.policy), "protected": list(review.policy.protected)},
        "runs": [asdict(run) for run in review.runs],
        "begun_at": review.begun_at.isoformat(),
        "begun_by": review.begun_by,
        "note": note,
        "findings": [_plain(asdict(each)) for each in found],
    }
    return canonical(told)


def fingerprint(review: Review, found: Sequence[Finding], note: str) -> str:
    """The SHA-256 of `content`."""
    return hashlib.sha256(content(review, found, note).encode()).hexdigest()


# changing


def begin(
    project: str,
    since: int,
    until: int,
    policy: Policy,
    picked: Sequence[tuple[Rule, Found]],
    runs: Sequence[Run],
    *,
    by: str,
    now: int,
) -> Change:
    """A new, open review with what was picked; the result is its number."""

    def apply(connection: Connection) -> Notes:
        row = {"project": project, "since": since, "until": until, "begun_at": now, "begun_by": by}
        told = {"policy": json.dumps(asdict(policy)), "runs": json.dumps([asdict(run) for run in runs])}
        empty = {"signed_by": "", "note": "", "content": ""}
        made = connection.execute(insert(reviews).values(**row, **told, **empty)).inserted_primary_key
        assert made is not None
        number = int(made[0])
        if picked:
            connection.execute(insert(findings), [_row(number, place, *each) for place, each in enumerate(picked, 1)])
        return Notes(after={"review": number, "findings": len(picked)}, result=number)

    return Change(apply)


def mark(review: int, number: int, said: Mark, note: str, *, by: str, now: int) -> Change:
    """Says of a finding what was decided. On commit raises `Unknown`, and `Conflict` if the review was signed off."""

    def apply(connection: Connection) -> Notes:
        _open(connection, review)
        found = get_finding(connection, review, number)
        values = {"mark": said.value, "note": note, "marked_at": now, "marked_by": by}
        mine = (findings.c.review_id == review) & (findings.c.number == number)
        connection.execute(update(findings).where(mine).values(values))
        before = {"mark": found.mark, "note": found.note} if found.mark else None
        after = get_finding(connection, review, number)
        about = {"review": review, "finding": number, "rule": found.rule, "subject": found.subject}
        return Notes(before=before, after={"mark": said.value, "note": note}, detail=about, result=after)

    return Change(apply)


def sign_off(
    number: int, note: str, *, by: str, now: int, shown: str = "", seen: Callable[[Finding], bool] | None = None
) -> Change:
    """
    Closes the review for good; its event holds the SHA-256 of what was signed.

    On commit raises `Unknown`, and `Conflict` if it was signed off, while a finding has no mark, if its fingerprint is
    not the one that was *shown* ("": it is not asked), or if a finding was not *seen* as it is (None: it is not asked).
    """

    def apply(connection: Connection) -> Notes:
        review = _open(connection, number)
        found = findings_of(connection, number)
        unmarked = [each.number for each in found if not each.mark]
        if unmarked:
            raise Conflict(
                f"Mark every finding of review {number} first; {len(unmarked)} have no mark, such as {unmarked[0]}."
            )
        if shown and shown.lower() != fingerprint(review, found, review.note):
            raise Conflict(f"Review {number} was marked otherwise since you looked at it; look again before you sign.")
        unseen = [each.number for each in found if seen is not None and not seen(each)]
        if unseen:
            refusal = f"You were not shown {_listed(unseen)} of review {number} as it is now"
            raise Conflict(f"{refusal}; look again before you sign.")
        signed = fingerprint(review, found, note)
        values = {"signed_at": now, "signed_by": by, "note": note, "content": signed}
        connection.execute(update(reviews).where(reviews.c.id == number).values(values))
        follow = sum(each.mark == Mark.FOLLOW_UP for each in found)
        told = {"content": signed, "fine": len(found) - follow, "follow_up": follow, "note": note}
        return Notes(after=told, result=find(connection, number))

    return Change(apply)


def _listed(numbers: Sequence[int]) -> str:
    """A few of the *numbers* of findings, and how many more there are."""
    more = f" and {len(numbers) - _LISTED} more" if len(numbers) > _LISTED else ""
    return f"finding{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers[:_LISTED]))}{more}"


def no_review(number: int) -> Unknown:
    return Unknown(f"There is no review {number}; list the reviews to see their numbers.")


def _open(connection: Connection, number: int) -> Review:
    review = find(connection, number)
    if review is None:
        raise no_review(number)
    if review.signed_at is not None:
        raise Conflict(f"Review {number} was signed off by {review.signed_by} and stays as it is; begin another one.")
    return review


def _row(review: int, number: int, rule: Rule, found: Found) -> dict[str, object]:
    times = {"first_at": _seconds(found.first), "last_at": _seconds(found.last)}
    told = {"rule": rule.name, "subject": found.subject, "summary": found.summary, "count": found.count}
    empty = {"mark": "", "note": "", "marked_by": ""}
    return {"review_id": review, "number": number, **told, **times, "events": json.dumps(found.events), **empty}


def _review(row: Row[Any]) -> Review:
    policy = json.loads(row.policy)
    return Review(
        row.id,
        row.project,
        datetime.fromtimestamp(row.since, UTC),
        datetime.fromtimestamp(row.until, UTC),
        Policy(**{**policy, "protected": tuple(policy["protected"])}),
        tuple(Run(**run) for run in json.loads(row.runs)),
        datetime.fromtimestamp(row.begun_at, UTC),
        row.begun_by,
        moment(row.signed_at),
        row.signed_by,
        row.note,
        row.content,
    )


def _finding(row: Row[Any]) -> Finding:
    return Finding(
        row.number,
        row.rule,
        row.subject,
        row.summary,
        moment(row.first_at),
        moment(row.last_at),
        # A row is a tuple, and a tuple counts.
        row._mapping["count"],
        tuple(json.loads(row.events)),
        row.mark,
        row.note,
        moment(row.marked_at),
        row.marked_by,
    )


def _plain(told: dict[str, Any]) -> dict[str, object]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else list(value) if isinstance(value, tuple) else value
        for name, value in told.items()
    }


def _seconds(time: datetime | None) -> int | None:
    return int(time.timestamp()) if time is not None else None
