"""Notes on findings as a form holds them: what somebody typed, told from what the page had filled in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from gateway.administration.reviews import Finding
from gateway.console.form import Form

#: What a form holds of a finding: the note, the mark it was opened on, and what the page had put in the note.
_FIELDS: Final = ("note", "version", "was")
#: No review has findings of longer numbers.
_DIGITS: Final = 9


def was(note: str) -> str:
    """A short text of what a page puts into the field of a note, to be sent along: notes are long, and many."""
    return hashlib.sha256(" ".join(note.split()).encode("utf-8", "replace")).hexdigest()[:16]


def changed(form: Form) -> tuple[int, ...]:
    """The findings whose note is another one in the form than its page had filled in, by number."""
    texts = dict(reversed(form.pairs))
    found = [(name.removeprefix("note-"), text) for name, text in texts.items() if name.startswith("note-")]
    return tuple(
        int(number)
        for number, text in found
        if number.isdecimal() and len(number) <= _DIGITS and was(text) != texts.get(f"was-{number}", was(""))
    )


def typed(form: Form, findings: Iterable[Finding]) -> tuple[int, ...]:
    """
    Those of the *findings*, by number, whose note was `changed`, and is not what is kept by now.

    A note that somebody else changed meanwhile is not one that was typed here.
    """
    there = set(changed(form))
    return tuple(
        each.number
        for each in findings
        if each.number in there and was(form.value(f"note-{each.number}")) != was(each.note)
    )


def kept(form: Form, numbers: tuple[int, ...]) -> Form:
    """Of *form*, with its errors, what was filled in beside the findings of these *numbers*, and for the sign-off."""
    names = {"note", *(f"{field}-{number}" for field in _FIELDS for number in numbers)}
    left = Form([(name, value) for name, value in form.pairs if name in names])
    left.errors.update(form.errors)
    return left
