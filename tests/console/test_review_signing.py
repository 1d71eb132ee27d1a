"""Signing reviews of several leaves: nobody signs a finding that no page showed them as it is, on whichever way."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, insert, update

from gateway.access.principals import Principal, PrincipalKind
from gateway.administration.reviews import Finding
from gateway.audit.review import FINDINGS, RULES
from gateway.change import Notes
from gateway.console.sights import Sight
from gateway.records import accounts
from gateway.records.review_tables import findings
from tests.console.browsing import PASSWORD, Browser, Desk, Sheet
from tests.console.test_review_notes import MARK, REVIEW, leafed, marked_by_operator
from tests.house import OPERATOR
from tests.records.rows import written

SECOND = "after:000000050"
SIGN_OFF = f"{REVIEW}/sign-off"
LOOK_AGAIN = "look again before you sign"


def agreed(desk: Desk, found: int = 60) -> Browser:
    """The browser of an auditor, before a review of so many findings, each marked by somebody else."""
    ann = leafed(desk, found)
    marked_by_operator(desk, [str(number) for number in range(1, found + 1)], "agreed", "follow_up")
    return ann


def changed(desk: Desk, number: int, note: str = "nothing to see") -> None:
    marked_by_operator(desk, [str(number)], note)


def turned(browser: Browser, page: Sheet, turn: str = SECOND, button: str = "turn") -> Sheet:
    """The leaf that a button of *page* leads to, sent with all that the page holds."""
    found = browser.post(MARK, {**page.fields, button: turn})
    return found if found.status != 303 else browser.follow(found)


def signed(desk: Desk) -> bool:
    return bool(desk.house.records(kind="review.sign_off", outcome="allowed"))


def refused(desk: Desk, sheet: Sheet, *numbers: int) -> bool:
    """Whether *sheet* is a sign-off that was refused, and names just the findings of these *numbers*."""
    told = re.search(r"You were not shown findings? ([0-9, ]*) of", sheet.error("note"))
    named = [int(number) for number in told[1].split(", ")] if told else []
    return sheet.status == 422 and LOOK_AGAIN in sheet.error("note") and named == list(numbers) and not signed(desk)


def test_a_leaf_that_was_never_shown_is_not_signed(desk: Desk) -> None:
    ann = agreed(desk)
    one = ann.get(REVIEW)
    assert "Look at what was not shown to you" in one.words
    assert refused(desk, ann.post(SIGN_OFF, one.fields), *range(51, 61))


def test_what_another_reviewer_says_on_a_leaf_not_shown_is_not_signed_after_a_mark_on_this_one(desk: Desk) -> None:
    ann = agreed(desk)
    one = turned(ann, turned(ann, ann.get(REVIEW)), "before:000000051")
    changed(desk, 55)
    marked = ann.post(MARK, {**one.fields, "note-1": "mine", "mark": "fine:1"})
    assert (marked.status, "Saved." in marked.words) == (200, True)
    assert refused(desk, ann.post(SIGN_OFF, marked.fields), 55)


def test_a_refused_sign_off_shows_what_was_marked_and_leads_to_it_with_its_note(desk: Desk) -> None:
    ann = agreed(desk)
    two = turned(ann, ann.get(REVIEW))
    one = turned(ann, two, "before:000000051")
    changed(desk, 55)
    told = ann.post(SIGN_OFF, {**one.fields, "note": "looked through"})
    assert refused(desk, told, 55)
    assert refused(desk, ann.post(SIGN_OFF, told.fields), 55), "pressing again shows nothing more"
    assert f'class="link" name="look" value="{SECOND}" formaction="{MARK}#finding-55">Finding 55</button>' in told.text
    looked = turned(ann, told, SECOND, "look")
    assert (looked.status, looked.fields["note"], looked.fields["note-55"]) == (200, "looked through", "nothing to see")
    assert "Look at what was not shown" not in looked.words
    assert ann.post(SIGN_OFF, looked.fields).status == 303
    assert signed(desk)


def test_what_was_marked_on_the_leaf_that_a_refused_sign_off_shows_is_pointed_at_and_signed_next(desk: Desk) -> None:
    ann = agreed(desk)
    two = turned(ann, ann.get(REVIEW))
    changed(desk, 52)
    changed(desk, 7)
    told = ann.post(f"{SIGN_OFF}?after=000000050", two.fields)
    assert refused(desk, told, 7, 52)
    assert '<a href="#finding-52">Finding 52</a>' in told.text
    assert told.fields["note-52"] == "nothing to see"
    assert refused(desk, ann.post(f"{SIGN_OFF}?after=000000050", told.fields), 7)
    looked = turned(ann, told, "after:", "look")
    assert looked.fields["note-7"] == "nothing to see"
    assert ann.post(SIGN_OFF, looked.fields).status == 303


def test_turning_leaves_shows_nothing_of_those_behind(desk: Desk) -> None:
    ann = agreed(desk)
    one = ann.get(REVIEW)
    changed(desk, 7)
    two = turned(ann, one)
    assert f'action="{MARK}?after=000000050"' in two.text
    assert refused(desk, ann.post(SIGN_OFF, two.fields), 7)
    again = turned(ann, turned(ann, two, "before:000000051"))
    assert ann.post(SIGN_OFF, again.fields).status == 303


def test_whoever_marks_each_finding_on_leaf_after_leaf_may_sign(desk: Desk) -> None:
    ann = leafed(desk, 52)
    page, there = ann.get(REVIEW), MARK
    for number in range(1, 53):
        if number == 51:
            page, there = turned(ann, page), f"{MARK}?after=000000050"
        marked = ann.post(there, {**page.fields, "mark": f"fine:{number}"})
        page = ann.follow(marked) if marked.status == 303 else marked
        assert page.status == 200
    assert ann.post(f"{SIGN_OFF}?after=000000050", page.fields).status == 303


def test_a_second_tab_shows_nothing_in_the_first(desk: Desk) -> None:
    ann = agreed(desk)
    one, other = ann.get(REVIEW), ann.get(f"{REVIEW}?after=000000050")
    assert refused(desk, ann.post(SIGN_OFF, one.fields), *range(51, 61))
    assert "finding" in ann.post(f"{SIGN_OFF}?after=000000050", other.fields).error("note")
    assert not signed(desk)
    two = turned(ann, one)
    assert ann.post(f"{MARK}?after=000000050", {**other.fields, "mark": "fine:55"}).status == 303
    assert refused(desk, ann.post(SIGN_OFF, two.fields), 55), "it was marked in the other tab"


def test_opening_the_review_anew_begins_anew(desk: Desk) -> None:
    ann = agreed(desk)
    turned(ann, ann.get(REVIEW))
    changed(desk, 55)
    assert refused(desk, ann.post(SIGN_OFF, ann.get(REVIEW).fields), *range(51, 61))


def test_an_address_does_not_say_what_was_shown(desk: Desk) -> None:
    ann = agreed(desk)
    both = turned(ann, ann.get(REVIEW)).fields["shown"]
    page = ann.get(f"{REVIEW}?shown={both}")
    assert refused(desk, ann.post(SIGN_OFF, page.fields), *range(51, 61))


@pytest.mark.parametrize(
    "shown", ["", "-", "x", "0" * 64, "1:", "1:short", ":" * 50, "1:" + "A" * 22 * 60, "९:" + "é" * 23]
)
def test_a_form_that_was_made_up_shows_nothing(desk: Desk, shown: str) -> None:
    ann = agreed(desk, 3)
    assert refused(desk, ann.post(SIGN_OFF, {"shown": shown}), 1, 2, 3)


def test_findings_that_a_review_has_grown_by_are_not_signed_unseen(desk: Desk) -> None:
    ann = agreed(desk, 50)
    one = ann.get(REVIEW)

    def grow(connection: Connection) -> Notes:
        row = {"review_id": 1, "number": 51, "rule": RULES[0].name, "subject": "user-51", "summary": "held too much."}
        empty = {"mark": "", "note": "", "marked_by": "", "events": "[]", "count": 0}
        connection.execute(insert(findings).values(**row, **empty))
        return Notes()

    written(desk.house, grow)
    changed(desk, 51)
    told = ann.post(SIGN_OFF, one.fields)
    assert refused(desk, told, 51)
    assert ann.post(SIGN_OFF, turned(ann, told, SECOND, "look").fields).status == 303


def test_what_was_shown_is_kept_through_signing_in_for_the_same_account_alone(desk: Desk) -> None:
    ann = agreed(desk)
    two = turned(ann, ann.get(REVIEW))
    ann.cookie = ""
    asked = ann.post(SIGN_OFF, {**two.fields, "note": "looked through"})
    assert asked.status == 401
    desk.user("bob", auditor=True)
    bob = Browser(desk)
    resumed = bob.post("/console/sign-in", {**asked.fields, "name": "bob", "password": PASSWORD})
    assert resumed.fields["shown"] == two.fields["shown"]
    told = bob.post(SIGN_OFF, resumed.fields)
    assert (told.status, LOOK_AGAIN in told.error("note"), signed(desk)) == (422, True, False)
    resumed = ann.post("/console/sign-in", {**asked.fields, "name": "ann", "password": PASSWORD})
    changed(desk, 55)
    assert refused(desk, ann.post(SIGN_OFF, resumed.fields), 55)


def test_what_a_note_hides_that_was_typed_is_not_shown_by_its_page(desk: Desk) -> None:
    ann = agreed(desk, 3)
    one = ann.get(REVIEW)
    changed(desk, 2)
    told = ann.post(SIGN_OFF, {**one.fields, "note-2": "mine"})
    assert (told.status, told.fields["note-2"]) == (422, "mine")
    assert refused(desk, ann.post(SIGN_OFF, {**told.fields, "note-2": "nothing to see"}), 2)


def test_what_was_shown_counts_for_its_review_its_account_and_every_word_of_the_finding() -> None:
    ann, joe = Principal(PrincipalKind.USER, 7, "ann"), Principal(PrincipalKind.USER, 8, "ann")
    found = Finding(9, "moved_tags", "ui:v1", "moved.", None, None, 1, (4,), "fine", "agreed", None, "kim")
    text = Sight(1, ann, {}).and_of([found, replace(found, number=10), replace(found, number=12)]).text
    assert Sight.read(1, ann, text).saw(found)
    assert Sight.read(1, ann, text).text == text
    assert not Sight.read(2, ann, text).saw(found)
    assert not Sight.read(1, joe, text).saw(found), "an account that has the name now"
    others: tuple[dict[str, Any], ...] = (
        {"number": 10, "subject": "x"},
        {"summary": "x"},
        {"note": "x"},
        {"mark": "follow_up"},
        {"count": 2},
    )
    for other in others:
        assert not Sight.read(1, ann, text).saw(replace(found, **other))
    assert Sight(1, ann, {}).and_of([replace(found, mark="")]).text == "", "nobody signs what has no mark"


def test_a_note_that_was_typed_is_not_thrown_away_to_look_at_another_leaf(desk: Desk) -> None:
    ann = agreed(desk)
    told = ann.post(MARK, {**ann.get(REVIEW).fields, "note-7": "mine", "note": "looked through", "look": SECOND})
    assert (told.status, told.fields["note-7"], told.fields["note"]) == (422, "mine", "looked through")
    assert ("nothing was saved yet" in told.error("note-7"), told.error("note")) == (True, "")


def test_what_was_shown_of_as_many_findings_as_a_review_can_have_is_sent_along_with_notes_and_kept(desk: Desk) -> None:
    ann, most = leafed(desk, FINDINGS * len(RULES)), FINDINGS * len(RULES)

    def mark(connection: Connection) -> Notes:
        connection.execute(update(findings).values(mark="fine", marked_by="operator:root", marked_at=1))
        return Notes()

    written(desk.house, mark)
    detail = desk.run(desk.acts.reviews.show(OPERATOR, 1))
    account = desk.house.database.read_now(lambda connection: accounts.get(connection, "ann"))
    every = Sight(1, Principal(account.kind, account.id, "ann"), {}).and_of(detail.findings)
    longest = {f"note-{number}": "\U0001f989" * 500 for number in range(1, 51)}
    seen = {**ann.get(REVIEW).fields, **longest, "note": "\U0001f989" * 500, "shown": every.text}
    told = ann.post(SIGN_OFF, seen)
    assert (told.status, told.fields["note-50"], len(told.fields["shown"])) == (422, longest["note-50"], 2 + 22 * most)
    ann.cookie = ""
    asked = ann.post(SIGN_OFF, seen)
    resumed = ann.post("/console/sign-in", {**asked.fields, "name": "ann", "password": PASSWORD})
    assert resumed.fields["shown"] == every.text
    untyped = {name: text for name, text in resumed.fields.items() if name not in longest}
    assert ann.post(SIGN_OFF, {**untyped, "note": "all of it"}).status == 303
