import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BlobUploadInvalid, RangeNotSatisfiable
from gateway.oci.ranges import (
    ContentRange,
    parse_range,
    render_content_range,
    render_unsatisfied_range,
    render_upload_range,
)


@pytest.mark.parametrize(
    ("header", "size", "expected"),
    [
        ("bytes=0-9", 300, (0, 9)),
        ("bytes=0-0", 300, (0, 0)),
        ("bytes=299-299", 300, (299, 299)),
        ("bytes=100-", 300, (100, 299)),
        ("bytes=0-", 300, (0, 299)),
        ("bytes=-1", 300, (299, 299)),
        ("bytes=-300", 300, (0, 299)),
        ("bytes=-301", 300, (0, 299)),
        ("bytes=200-5000", 300, (200, 299)),
        ("bytes=0-99999999999999999999999999", 1, (0, 0)),
        ("Bytes= 1-2 ", 300, (1, 2)),
    ],
)
def test_one_range_is_read_and_cut_at_the_end(header: str, size: int, expected: tuple[int, int]) -> None:
    assert parse_range(header, size) == expected


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=1",
        "bytes=0-1,3-4",
        "bytes=0-1,",
        "bytes=--1",
        "bytes=-1-2",
        "bytes=+1-2",
        "bytes=1 - 2",
        "bytes=0x1-2",
        "bytes=٠-٩",
        "bytes=0-1\n",
        "items=0-1",
        "0-1",
        "bytes 0-1",
        "bytes=0-" + "9" * 57,
        "bytes=" + "0-0," * 1000,
    ],
)
def test_ranges_not_understood_mean_the_whole(header: str) -> None:
    assert parse_range(header, 300) is None


@pytest.mark.parametrize(
    "header", ["bytes=300-", "bytes=300-400", "bytes=5000-10000", "bytes=500-0", "bytes=2-1", "bytes=-0"]
)
def test_ranges_that_hold_no_byte_are_refused_with_the_size(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as refused:
        parse_range(header, 300)
    assert refused.value.size_bytes == 300
    assert render_unsatisfied_range(refused.value.size_bytes) == "bytes */300"


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=-5", "bytes=0-0", "bytes=7-3"])
def test_empty_blob_is_always_served_whole(header: str) -> None:
    assert parse_range(header, 0) is None


def test_header_of_64_characters_is_read_and_of_65_is_not() -> None:
    header = "bytes=0-" + "9" * 56
    assert len(header) == 64
    assert parse_range(header, 10) == (0, 9)
    assert parse_range(header + "9", 10) is None


@given(
    st.one_of(st.text(max_size=80), st.from_regex(r"bytes=[0-9]{0,4}-[0-9]{0,4}(,1-2)?", fullmatch=True)),
    st.integers(0, 2000),
)
def test_parsed_range_always_lies_within_the_blob(header: str, size: int) -> None:
    try:
        found = parse_range(header, size)
    except RangeNotSatisfiable:
        return
    if found is not None:
        first, last = found
        assert 0 <= first <= last < size
        assert render_content_range(first, last, size) == f"bytes {first}-{last}/{size}"


@given(st.integers(1, 500), st.integers(0, 600), st.integers(0, 600))
def test_range_picks_the_bytes_a_slice_picks(size: int, first: int, last: int) -> None:
    content = bytes(place % 251 for place in range(size))
    expected = content[first : last + 1]
    if not expected:
        with pytest.raises(RangeNotSatisfiable):
            parse_range(f"bytes={first}-{last}", size)
        return
    found = parse_range(f"bytes={first}-{last}", size)
    assert found is not None
    assert content[found[0] : found[1] + 1] == expected


@given(st.integers(1, 500), st.integers(1, 600))
def test_suffix_picks_the_end(size: int, count: int) -> None:
    found = parse_range(f"bytes=-{count}", size)
    assert found == (size - min(count, size), size - 1)


@given(st.integers(0, 10**18), st.integers(0, 10**9))
def test_content_range_survives_the_round_trip(first: int, more: int) -> None:
    written = ContentRange(first, first + more)
    assert ContentRange.parse(str(written)) == written
    assert written.length_bytes == more + 1


@pytest.mark.parametrize("header", ["0-9", "bytes 0-9/10", "bytes 0-9/11", "bytes 0-9/*", "bytes 0-9", "0-9/10"])
def test_content_range_is_read_in_every_form_clients_send(header: str) -> None:
    assert ContentRange.parse(header) == ContentRange(0, 9)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "0",
        "0-",
        "-9",
        "9-0",
        "a-b",
        "0--1",
        "0-9\n",
        " 0-9",
        "bytes=0-9",
        "bytes */10",
        "bytes 0-9/9",
        "bytes 0-9/",
        "0-9,10-19",
        "٠-٩",
        "0-" + "9" * 20,
        "0-9" * 100,
    ],
)
def test_malformed_content_range_is_refused(header: str) -> None:
    with pytest.raises(BlobUploadInvalid):
        ContentRange.parse(header)


@given(st.text(max_size=80))
def test_content_range_raises_nothing_but_its_refusal(header: str) -> None:
    try:
        found = ContentRange.parse(header)
    except BlobUploadInvalid:
        return
    assert 0 <= found.first <= found.last


@pytest.mark.parametrize(("received", "expected"), [(0, "0-0"), (1, "0-0"), (2, "0-1"), (1024, "0-1023")])
def test_upload_range_names_the_last_byte(received: int, expected: str) -> None:
    assert render_upload_range(received) == expected
