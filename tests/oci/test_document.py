import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.oci.document import quoted, strict_json

LIMIT = 1 << 20

texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=30,
)


def refusal(content: bytes, *, limit_bytes: int = LIMIT, depth: int = 64) -> str:
    with pytest.raises(ValueError, match=r"^Send ") as refused:
        strict_json(content, limit_bytes=limit_bytes, depth=depth)
    assert type(refused.value) is ValueError
    return str(refused.value)


@given(values, st.booleans(), st.sampled_from([None, 2]))
def test_what_json_writes_is_read_back(value: object, ascii_only: bool, indent: int | None) -> None:
    content = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert strict_json(content, limit_bytes=LIMIT) == value


@given(
    st.one_of(
        st.binary(max_size=200),
        st.text('[]{}",:\\ue01dD8-.+ntf \n\x00é', max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")),
    ),
    st.integers(1, 5),
)
def test_arbitrary_bytes_raise_nothing_but_value_error(content: bytes, depth: int) -> None:
    try:
        value = strict_json(content, limit_bytes=150, depth=depth)
    except (UnicodeError, json.JSONDecodeError):
        raise
    except ValueError:
        return
    assert json.loads(content) == value
    json.dumps(value, ensure_ascii=False).encode("utf-8")


def nested(levels: int) -> object:
    value: object = 1
    for level in range(levels):
        value = [value] if level % 2 else {"[{": value}
    return value


@given(st.integers(0, 12), st.integers(1, 10))
def test_depth_is_counted_exactly(levels: int, depth: int) -> None:
    content = json.dumps(nested(levels)).encode()
    if levels <= depth:
        assert strict_json(content, limit_bytes=LIMIT, depth=depth) == nested(levels)
    else:
        assert f"at most {depth} levels" in refusal(content, depth=depth)


def test_sixty_four_levels_are_read_and_sixty_five_are_not() -> None:
    assert strict_json(json.dumps(nested(64)).encode(), limit_bytes=LIMIT) == nested(64)
    assert "64 levels" in refusal(json.dumps(nested(65)).encode())


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'"' + b'\\"' * 50 + b'",' + b"[" * 5000,
        b'["\\\\",' * 5000,
        b'["\\"[",' * 5000,
    ],
)
def test_bombs_are_refused_without_recursion(content: bytes) -> None:
    refusal(content)


@pytest.mark.parametrize("text", ["[" * 500, '"[' * 500, "\\[" * 500, '\\"[' * 500, '\\\\"[{' * 500, "]}" * 500])
def test_brackets_in_strings_do_not_count(text: str) -> None:
    assert strict_json(json.dumps([text, text]).encode(), limit_bytes=LIMIT, depth=1) == [text, text]


def test_siblings_do_not_count_as_depth() -> None:
    assert strict_json(b"[" + b"[],{}," * 500 + b"1]", limit_bytes=LIMIT, depth=2) is not None


def test_size_is_judged_first() -> None:
    assert strict_json(b"[1]", limit_bytes=3) == [1]
    assert "at most 3 bytes" in refusal(b"\xff\xff\xff\xff", limit_bytes=3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"a":1,"a":1}', '"a" occurs twice'),
        (b'[{"x":{"b":1,"c":2,"b":3}}]', '"b" occurs twice'),
        (b'{"a":1,"\\u0061":2}', '"a" occurs twice'),
        (b"NaN", "NaN"),
        (b"[Infinity]", "Infinity"),
        (b"[-Infinity]", "Infinity"),
        (b"1e999", "too large"),
        (b"[-1e999]", "too large"),
        (b"1" * 65, "64 characters"),
        (b"-" + b"1" * 64, "64 characters"),
        (b"1" * 5000, "64 characters"),
        (b"0." + b"1" * 5000, "64 characters"),
        (b'"\\ud800"', "surrogates"),
        (b'"\\udc00\\ud800"', "surrogates"),
        (b'"\\udfff"', "surrogates"),
        (b"[" * 65 + b"]" * 65, "64 levels"),
        (b'{"\\uDBFF":1}', "surrogates"),
        (b'["\\ud83d\\u0041"]', "surrogates"),
        (b'"\\u0000"', "U+0000"),
        (b'{"a\\u0000":1}', "U+0000"),
        (b'"\\\\\\u0000"', "U+0000"),
        (b'"\x00"', "line 1"),
        (b'"\xed\xa0\x80"', "UTF-8"),
        (b'"\xff"', "byte 1"),
        (b'"\xc0\x80"', "UTF-8"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ("{}".encode("utf-16"), "UTF-8"),
        ("{}".encode("utf-16-le"), "valid JSON"),
        (b"", "valid JSON"),
        (b" ", "valid JSON"),
        (b"{", "valid JSON"),
        (b"{}{}", "column 3"),
        (b"{} x", "Extra"),
        (b'{"a":1,}', "valid JSON"),
        (b"[1,]", "valid JSON"),
        (b"{'a':1}", "valid JSON"),
        (b"01", "valid JSON"),
        (b"+1", "valid JSON"),
        (b".5", "valid JSON"),
        (b'"a\nb"', "valid JSON"),
        (b"// c\n1", "valid JSON"),
        ("\u00a01".encode(), "valid JSON"),
        ("[\u0663]".encode(), "valid JSON"),
    ],
)
def test_every_looseness_is_refused_with_its_reason(content: bytes, words: str) -> None:
    assert words in refusal(content)


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b'"\\ud83d\\ude00"', "\N{GRINNING FACE}"),
        (b'"\\\\ud800"', "\\ud800"),
        (b'"\\\\u0000"', "\\u0000"),
        (b'"\\u003e"', ">"),
        (b"1" * 64, int("1" * 64)),
        (b"1e308", 1e308),
        (b' \t\r\n{"a" : null} ', {"a": None}),
        (b"7", 7),
    ],
)
def test_what_looks_suspicious_but_is_sound_is_read(content: bytes, value: object) -> None:
    assert strict_json(content, limit_bytes=LIMIT) == value


def test_message_repeats_little_of_the_input() -> None:
    key = "secret" * 1000
    message = refusal(f'{{"{key}":1,"{key}":2}}'.encode())
    assert len(message) < 160
    assert message.count("secret") <= 10


@given(st.text())
def test_quoted_text_is_short_ascii_and_on_one_line(text: str) -> None:
    shown = quoted(text)
    assert shown.isascii()
    assert shown.isprintable()
    assert len(json.loads(shown)) <= 61
