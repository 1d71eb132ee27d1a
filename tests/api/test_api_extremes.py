"""Filters that cannot be, and times at either end of the calendar: refused in a sentence, with the field."""

from __future__ import annotations

import pytest

from gateway.api.routes import PREFIX
from tests.api.desk import Desk

FIRST, LAST = "0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00"


@pytest.mark.parametrize(
    ("target", "field"),
    [
        (f"/audit/events?since={FIRST}", "since"),
        (f"/audit/export?until={LAST}", "until"),
        (f"/audit/overview?since={FIRST}", "since"),
        (f"/audit/who-pulled?target=alpha/app:v1&at={LAST}", "at"),
    ],
)
def test_a_time_beyond_the_calendar_in_a_query_is_refused(desk: Desk, target: str, field: str) -> None:
    answer = desk.ask("auditor", "GET", f"{PREFIX}{target}")
    assert (answer.status, answer.problem["field"]) == (400, field)


@pytest.mark.parametrize("field", ["since", "until"])
def test_a_time_beyond_the_calendar_in_a_body_is_refused(desk: Desk, field: str) -> None:
    period = {"since": "2026-01-01T00:00:00Z", "until": "2026-02-01T00:00:00Z", field: LAST}
    answer = desk.ask("auditor", "POST", f"{PREFIX}/reviews", period)
    assert (answer.status, answer.problem["field"]) == (400, field)


@pytest.mark.parametrize(
    "period",
    [
        "since=0001-01-01T00:00:00Z&until=0001-12-31T00:00:00Z",
        "since=0001-01-01T00:00:00Z&until=9999-12-31T23:59:59Z",
        "since=9999-12-31T00:00:00Z&until=9999-12-31T23:59:59Z",
    ],
)
def test_the_first_and_the_last_day_of_the_calendar_may_be_asked_for(desk: Desk, period: str) -> None:
    for what in ("overview", "events", "export"):
        answer = desk.ask("auditor", "GET", f"{PREFIX}/audit/{what}?{period}")
        assert answer.status == 200, what


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("digest=sha256:abc", "digest"),
        ("address=1.2.3", "address"),
        ("kind=nonsense", "kind"),
        ("since=2026-02-01T00:00:00Z&until=2026-01-01T00:00:00Z", "until"),
    ],
)
def test_a_filter_that_nothing_can_meet_is_refused_with_its_field(desk: Desk, query: str, field: str) -> None:
    for what in ("overview", "events", "export"):
        answer = desk.ask("auditor", "GET", f"{PREFIX}/audit/{what}?{query}")
        assert (answer.status, answer.problem["field"]) == (400, field), what
