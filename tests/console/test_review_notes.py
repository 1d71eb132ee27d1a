"""Notes on findings: what one reviewer typed neither hides what another one said, nor is lost on any way there is."""

from __future__ import annotations

from gateway.audit.review import RULES, Found, Policy, Run
from gateway.records import reviews as rows
from tests.console.browsing import PASSWORD, Browser, Desk
from tests.console.test_console_audit import reviewed
from tests.house import OPERATOR
from tests.records.rows import written

REVIEW = "/console/reviews/1"
MARK = f"{REVIEW}/mark"


def marked_by_operator(desk: Desk, numbers: list[str], note: str = "", mark: str = "fine") -> None:
    for number in numbers:
        desk.run(desk.acts.reviews.mark(OPERATOR, 1, int(number), mark, note))


def signing(browser: Browser, fields: dict[str, str]) -> int:
    """The status of a sign-off with what a page held."""
    return browser.post(f"{REVIEW}/sign-off", fields).status


def test_a_note_that_was_left_alone_hides_nothing_that_somebody_else_says_meanwhile(desk: Desk) -> None:
    ann, numbers = reviewed(desk)
    first, second, third, *_ = numbers
    marked_by_operator(desk, numbers[1:], "agreed with joe")
    seen = ann.get(REVIEW).fields
    marked_by_operator(desk, [second], "not agreed after all", "follow_up")
    marked = ann.post(MARK, {**seen, "mark": f"fine:{first}"})
    assert marked.status == 303, "nothing was typed beside any other"
    assert ann.follow(marked).fields[f"note-{second}"] == "not agreed after all"
    # And with a note beside a third one, which keeps the page.
    marked = ann.post(MARK, {**seen, f"note-{third}": "ask kim", "mark": f"follow_up:{first}", f"note-{first}": "x"})
    assert marked.status == 409, "it is marked already"
    assert (marked.fields[f"note-{second}"], marked.fields[f"note-{third}"]) == ("not agreed after all", "ask kim")
    told = ann.post(MARK, {**seen, f"note-{third}": "ask kim", "mark": ""})
    assert (told.error(f"note-{second}"), bool(told.error(f"note-{third}"))) == ("", True)


def test_what_is_kept_now_is_told_beside_a_note_that_was_typed_before_and_is_not_signed_unseen(desk: Desk) -> None:
    ann, numbers = reviewed(desk)
    first, second, *_ = numbers
    marked_by_operator(desk, numbers[1:], "agreed with joe")
    seen = ann.get(REVIEW).fields
    marked_by_operator(desk, [second], "not agreed after all", "follow_up")
    marked = ann.post(MARK, {**seen, f"note-{second}": "mine", "mark": f"fine:{first}"})
    assert (marked.status, marked.fields[f"note-{second}"]) == (200, "mine")
    assert "to be followed up: not agreed after all" in marked.words
    assert "Marked by operator:root" in marked.words
    of_others = seen["shown"].partition(":")[2]
    assert marked.fields["shown"].endswith(of_others), "of what was marked there says what was shown of it first"
    assert signing(ann, marked.fields) == 422
    assert signing(ann, {**marked.fields, f"note-{second}": "agreed with joe"}) == 422, "nor once the note is given up"
    assert desk.house.records(kind="review.sign_off", outcome="allowed") == []


def test_an_address_fills_in_no_notes(desk: Desk) -> None:
    ann, (first, *_) = reviewed(desk)
    page = ann.get(f"{REVIEW}?note-{first}=approved&version-{first}=x&shown=x")
    assert page.fields[f"note-{first}"] == ""
    assert page.fields[f"version-{first}"] != "x"


def leafed(desk: Desk, found: int) -> Browser:
    """The browser of an auditor who has begun review 1, of so many findings."""
    ann = desk.browser("ann", auditor=True)
    picked = [(RULES[0], Found(f"user-{number:02}", "held too much.")) for number in range(found)]
    runs = [Run(RULES[0].name, found, True)]
    change = rows.begin("", 0, 86_400, Policy(), picked, runs, by="ann", now=86_400)
    written(desk.house, change.apply)
    return ann


def test_fifty_notes_of_the_longest_letters_are_sent_marked_and_kept_through_signing_in(desk: Desk) -> None:
    ann = leafed(desk, 50)
    longest = {f"note-{number}": "\U0001f989" * 500 for number in range(1, 51)}
    seen = {**ann.get(REVIEW).fields, **longest, "note": "\U0001f989" * 500}
    marked = ann.post(MARK, {**seen, "mark": "follow_up:1"})
    assert (marked.status, marked.fields["note-50"]) == (200, longest["note-50"])
    for number in range(2, 51):
        desk.run(desk.acts.reviews.mark(OPERATOR, 1, number, "follow_up", longest["note-50"]))
    # Kept notes are sent along with every mark.
    assert ann.post(MARK, {**ann.get(REVIEW).fields, "mark": "fine:50"}).status == 303
    ann.cookie = ""
    asked = ann.post(MARK, {**seen, "mark": "follow_up:1"})
    assert asked.status == 401
    resumed = ann.post("/console/sign-in", {**asked.fields, "name": "ann", "password": PASSWORD})
    assert (resumed.status, resumed.fields["note-50"]) == (200, longest["note-50"])


def test_notes_on_a_later_leaf_come_back_to_it_through_signing_in(desk: Desk) -> None:
    ann = leafed(desk, 60)
    there = f"{MARK}?after=000000050"
    seen = {**ann.get(f"{REVIEW}?after=000000050").fields, "note-52": "on fifty-two"}
    ann.cookie = ""
    asked = ann.post(there, {**seen, "mark": "fine:51"})
    resumed = ann.post("/console/sign-in", {**asked.fields, "name": "ann", "password": PASSWORD})
    assert f'action="{there}"' in resumed.text
    assert "Version" not in resumed.words
    marked = ann.post(there, resumed.fields)
    assert (marked.status, marked.fields["note-52"]) == (200, "on fifty-two")


def test_a_form_of_another_session_comes_back_to_its_leaf(desk: Desk) -> None:
    ann = leafed(desk, 60)
    there = f"{MARK}?after=000000050"
    seen = {**ann.get(f"{REVIEW}?after=000000050").fields, "note-52": "on fifty-two", "mark": "fine:51"}
    crossed = ann.post(there, {**seen, "csrf": "of another session"})
    assert (crossed.status, f'action="{there}"' in crossed.text) == (403, True)


def test_a_review_is_not_signed_over_notes_that_were_not_sent(desk: Desk) -> None:
    ann, numbers = reviewed(desk)
    first, second, *_ = numbers
    marked_by_operator(desk, numbers)
    seen = {**ann.get(REVIEW).fields, f"note-{second}": "a careful note", "note": "looked through"}
    refused = ann.post(f"{REVIEW}/sign-off", seen)
    assert (refused.status, refused.fields[f"note-{second}"]) == (422, "a careful note")
    assert "nothing was saved yet" in refused.error(f"note-{second}")
    assert (refused.fields["note"], refused.error(f"note-{first}")) == ("looked through", "")
    assert desk.house.records(kind="review.sign_off") == []
    marked = ann.post(MARK, {**refused.fields, "mark": f"follow_up:{second}"})
    assert (marked.status, marked.fields["note"]) == (200, "looked through"), "its note was typed, too"
    assert signing(ann, marked.fields) == 303


def test_a_leaf_is_not_turned_over_notes_that_were_not_sent(desk: Desk) -> None:
    ann = leafed(desk, 60)
    seen = ann.get(REVIEW).fields
    for typed in ({"note-7": "a careful note"}, {"note": "looked through"}):
        told = ann.post(MARK, {**seen, **typed, "turn": "after:000000050"})
        assert (told.status, told.fields | typed == told.fields) == (422, True)
        assert "yet" in told.error(next(iter(typed)))
        assert f'href="{REVIEW}"' in told.text, "there is a way to leave it"
    turned = ann.post(MARK, {**seen, "turn": "after:000000050"})
    assert turned.header("location") == f"{REVIEW}?after=000000050"
    assert ann.post(MARK, {**seen, "turn": "//evil.test:1"}).header("location") == REVIEW


def test_enter_in_the_note_of_a_sign_off_signs_nothing(desk: Desk) -> None:
    ann, numbers = reviewed(desk)
    marked_by_operator(desk, numbers)
    told = ann.post(MARK, {**ann.get(REVIEW).fields, "note": "looked through", "mark": ""})
    assert (told.status, told.fields["note"]) == (422, "looked through")
    assert "nothing was signed yet" in told.error("note")
    assert desk.house.records(kind="review.sign_off") == []


def test_a_mark_that_was_sent_twice_is_done_and_told_of_nobody_else(desk: Desk) -> None:
    ann, (first, second, *_) = reviewed(desk)
    sent = {**ann.get(REVIEW).fields, f"note-{first}": "ask  joe ", "mark": f"follow_up:{first}"}
    once, twice = ann.post(MARK, sent), ann.post(MARK, sent)
    assert (once.status, twice.status) == (303, 303)
    assert twice.header("location") == once.header("location")
    # The same again for a page that was kept, which has the address of what was sent.
    sent = {**ann.get(REVIEW).fields, f"note-{first}": "typed on", "mark": f"fine:{second}"}
    assert ann.post(MARK, sent).status == 200
    again = ann.post(MARK, sent)
    assert (again.status, again.fields[f"note-{first}"], "Saved." in again.words) == (200, "typed on", True)
    assert len(desk.house.records(kind="review.mark", outcome="allowed")) == 2
    # What somebody else said in the same words is theirs, and another mark is another one.
    marked_by_operator(desk, [second])
    assert ann.post(MARK, sent).status == 409
    assert ann.post(MARK, {**sent, f"note-{second}": "x", "mark": f"follow_up:{second}"}).status == 409


def test_the_address_of_a_page_that_was_kept_leads_to_its_review(desk: Desk) -> None:
    ann = leafed(desk, 60)
    for page in ("mark", "sign-off"):
        assert ann.get(f"{REVIEW}/{page}?after=000000050").header("location") == f"{REVIEW}?after=000000050"


def test_a_finding_without_a_mark_is_told_of_as_one(desk: Desk) -> None:
    ann, (first, *_) = reviewed(desk)
    told = ann.post(MARK, {"mark": f"fine:{first}"})
    assert (told.status, "It is now without a mark" in told.words) == (409, True)
