import hashlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import DigestInvalid
from gateway.oci.digest import Algorithm, Digest

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def well_formed(text: str) -> bool:
    """The grammar, written down a second time without a regular expression."""
    lengths = {"sha256": 64, "sha512": 128}
    name, colon, hexadecimal = text.partition(":")
    return colon == ":" and lengths.get(name) == len(hexadecimal) and set(hexadecimal) <= set("0123456789abcdef")


@given(st.binary(max_size=200), st.sampled_from(Algorithm))
def test_digest_of_content_is_what_hashlib_says_and_parses_back(content: bytes, algorithm: Algorithm) -> None:
    digest = Digest.of(content, algorithm)
    assert digest.hex == hashlib.new(algorithm.value, content).hexdigest()
    assert digest.algorithm is algorithm
    assert str(digest) == f"{algorithm.value}:{digest.hex}"
    assert Digest.parse(str(digest)) == digest


def test_digest_of_nothing_is_the_known_one() -> None:
    assert str(Digest.of(b"")) == EMPTY


@given(
    st.one_of(
        st.text(max_size=140),
        st.from_regex(r"sha(256|512|384):[0-9a-fA-F\n]{60,130}", fullmatch=True),
        st.builds(
            lambda prefix, alphabet, count: prefix + (alphabet * 130)[:count],
            st.sampled_from(["sha256:", "sha512:", "sha256", "SHA256:", "md5:", "sha256::"]),
            st.text(string.hexdigits + "g ٣", min_size=1, max_size=9),
            st.sampled_from([0, 32, 63, 64, 65, 127, 128, 129]),
        ),
    )
)
def test_parse_accepts_exactly_the_grammar(text: str) -> None:
    if well_formed(text):
        assert str(Digest.parse(text)) == text
    else:
        with pytest.raises(DigestInvalid):
            Digest.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:baddigeststring",
        EMPTY + "\n",
        "\n" + EMPTY,
        " " + EMPTY,
        EMPTY.upper(),
        EMPTY[:-1] + "B",
        EMPTY[:-1],
        EMPTY + "0",
        "sha512:" + EMPTY[7:],
        "sha256:" + "0" * 128,
        "sha384:" + "0" * 96,
        "sha256-" + EMPTY[7:],
        "sha256:../../../../etc/passwd".ljust(71, "0"),
        "sha256:" + "٣" * 64,
        "sha256:" + "0" * 63 + "\x00",
        "sha256+b64:" + "0" * 64,
    ],
)
def test_near_misses_are_no_digests(text: str) -> None:
    with pytest.raises(DigestInvalid) as refused:
        Digest.parse(text)
    assert "passwd" not in refused.value.message


def test_digests_order_and_hash_by_their_text() -> None:
    first, second = Digest.parse("sha256:" + "0" * 64), Digest.parse("sha256:" + "1" * 64)
    assert sorted({second, first, Digest.parse(first.text)}) == [first, second]
