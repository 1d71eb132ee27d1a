"""JSON from strangers, read strictly: one document, one meaning, bounded work."""

from __future__ import annotations

import json
import math
import re
from array import array
from itertools import accumulate
from typing import NoReturn

#: No manifest or API body nests deeper than a dozen; the interpreter's own limit lies near a thousand.
DEPTH = 64
NUMBER_CHARACTERS = 64
#: Lists, objects and what is in them; 4,096 descriptors with a dozen fields and annotations each have fewer.
PARTS = 262_144
_QUOTED_CHARACTERS = 60

_BOM = b"\xef\xbb\xbf"
_STRINGS = re.compile(rb'"[^"]*"?')
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

#: Opening brackets become +1 and closing ones -1 (255 read as a signed byte); all else is deleted.
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def strict_json(content: bytes, *, limit_bytes: int, depth: int = DEPTH) -> object:
    """
    The value *content* spells as JSON (RFC 8259); raises `ValueError`, whose text is a sentence fit for the caller.

    Refused besides what is not JSON: more than *limit_bytes*, *depth* levels or 262,144 parts, a byte order mark, bytes
    that are not UTF-8, a key that occurs twice in an object, NaN and infinities (`1e999` too), numbers over 64
    characters, and strings that no database could keep: unpaired surrogates and NUL. No other exception is raised,
    and never more than 60 characters of *content* are repeated in the text.
    """
    if len(content) > limit_bytes:
        raise ValueError(f"Send at most {limit_bytes} bytes.")
    if content.startswith(_BOM):
        raise ValueError("Send JSON without a byte order mark.")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise ValueError(f"Send JSON in UTF-8; byte {fault.start} is not.") from fault
    brackets = content.count(b"[") + content.count(b"{")
    if brackets > depth or brackets + content.count(b",") > PARTS:
        _refuse_costly(content, depth)
    try:
        value: object = _DECODER.decode(text)
    except json.JSONDecodeError as fault:
        raise ValueError(f"Send valid JSON; line {fault.lineno}, column {fault.colno}: {fault.msg}.") from fault
    if "\\u" in text:
        _refuse_unkeepable(text, value)
    return value


def quoted(text: str) -> str:
    """*text* for use in a message: in quotes, in ASCII, at most 60 of its characters."""
    if len(text) > _QUOTED_CHARACTERS:
        text = text[:_QUOTED_CHARACTERS] + "…"
    return json.dumps(text)


def _refuse_costly(content: bytes, depth: int) -> None:
    """
    Refuses brackets outside strings that open more than *depth* levels before the first syntax error, and too many.

    What follows a syntax error is miscounted, but the decoder never gets there: it may refuse, not recurse.
    """
    if b"\\" in content:
        content = content.replace(b"\\\\", b"").replace(b'\\"', b"")
    content = _STRINGS.sub(b"", content)
    # Reading them holds up everything else in this process, however many threads there are.
    if content.count(b"[") + content.count(b"{") + content.count(b",") > PARTS:
        raise ValueError(f"Send JSON of at most {PARTS} lists, objects and entries.")
    brackets = content.translate(_STEPS, _NO_BRACKETS)
    if max(accumulate(array("b", brackets)), default=0) > depth:
        raise ValueError(f"Send JSON that nests at most {depth} levels deep.")


def _refuse_unkeepable(text: str, value: object) -> None:
    """Raw surrogates and NULs do not pass the decoders; only escapes can smuggle them in."""
    if "\\u0000" in text.replace("\\\\", ""):
        raise ValueError("Send JSON without the character U+0000.")
    if _SURROGATE.search(text) is not None:
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as fault:
            raise ValueError("Send JSON whose \\u escapes pair their surrogates.") from fault


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError(f"Send each key once; {quoted(_first_twice(pairs))} occurs twice in one object.")
    return result


def _first_twice(pairs: list[tuple[str, object]]) -> str:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            break
        seen.add(key)
    return key


def _whole(text: str) -> int:
    _refuse_long(text)
    return int(text)


def _fraction(text: str) -> float:
    _refuse_long(text)
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"Send numbers a double can hold; {quoted(text)} is too large.")
    return number


def _refuse_long(text: str) -> None:
    if len(text) > NUMBER_CHARACTERS:
        raise ValueError(f"Send numbers of at most {NUMBER_CHARACTERS} characters.")


def _constant(text: str) -> NoReturn:
    raise ValueError(f"Send finite numbers; JSON has no {text}.")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_whole, parse_float=_fraction, parse_constant=_constant
)
