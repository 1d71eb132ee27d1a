"""Notes on findings as a form holds them: what somebody typed, told from what the page had filled in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from gateway.administration.reviews import Finding
from gateway.console.form import Form

#: What a form holds of a finding: the note, the mark it was opened on, and what the page had put in the note.
_FIELDS = ("note", "version", "was")


def was(note: str) -> str:
    """A short text of what a page puts into the field of a note, to be sent along: notes are long, and many."""
    return hashlib.sha256(" ".join(note.split()).encode("utf-8", "replace")).hexdigest()[:16]


def typed(form: Form, findings: Iterable[Finding]) -> tuple[int, ...]:
    """
    The *findings* whose note is another one in the form than its page had filled in, and than is kept by now.

    A note that somebody else changed meanwhile is not one that was typed here.
    """
    texts = dict(reversed(form.pairs))
    notes = {each.number: (texts.get(f"note-{each.number}"), each.note) for each in findings}
    return tuple(
        number
        for number, (text, now) in notes.items()
        if text is not None and was(text) not in {texts.get(f"was-{number}", was("")), was(now)}
    )


def kept(form: Form, numbers: tuple[int, ...]) -> Form:
    """Of *form*, with its errors, what was filled in beside the findings of these *numbers*, and for the sign-off."""
    names = {"note", *(f"{field}-{number}" for field in _FIELDS for number in numbers)}
    left = Form([(name, value) for name, value in form.pairs if name in names])
    left.errors.update(form.errors)
    return left
