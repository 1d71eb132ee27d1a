import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import DigestInvalid, Invalid, NameInvalid, TagInvalid
from gateway.oci.digest import Digest
from gateway.oci.names import ProjectName, Repository, Tag, parse_reference

ALPHANUMERIC = set(string.ascii_lowercase + string.digits)
LETTERS = "abz019._-/A\n é٣"


def legal_component(text: str) -> bool:
    """One component, walked by hand: runs of letters and digits, single separators between them."""
    if not text or text[0] not in ALPHANUMERIC or text[-1] not in ALPHANUMERIC:
        return False
    separator = ""
    for letter in text:
        if letter in ALPHANUMERIC:
            if separator not in ("", ".", "_", "__") and set(separator) != {"-"}:
                return False
            separator = ""
        else:
            separator += letter
    return True


def legal_repository(text: str) -> bool:
    components = text.split("/")
    return len(text) <= 200 and len(components[0]) <= 64 and all(map(legal_component, components))


def legal_tag(text: str) -> bool:
    ordinary = set(string.ascii_letters + string.digits + "_")
    return 1 <= len(text) <= 128 and text[0] in ordinary and set(text) <= ordinary | {".", "-"}


near_names = st.one_of(
    st.text(LETTERS, max_size=12),
    st.lists(st.from_regex(r"[a-z0-9]+([._-]{1,3}[a-z0-9]+)?", fullmatch=True), max_size=5).map("/".join),
    st.builds(lambda unit, count: unit * count, st.sampled_from(["a", "a/", "a.b/c", "ab"]), st.integers(0, 210)),
)


@given(near_names)
def test_repository_accepts_exactly_the_grammar(text: str) -> None:
    if legal_repository(text):
        repository = Repository.parse(text)
        assert str(repository) == text
        assert str(repository.project) == text.split("/")[0]
        assert ProjectName.parse(repository.project.name) == repository.project
    else:
        with pytest.raises(NameInvalid):
            Repository.parse(text)


@given(near_names)
def test_project_name_accepts_exactly_one_component(text: str) -> None:
    if legal_component(text) and len(text) <= 64:
        assert str(ProjectName.parse(text)) == text
    else:
        with pytest.raises(Invalid):
            ProjectName.parse(text)


@given(
    st.one_of(
        st.text(string.ascii_letters + "09._-:/@ \n\x00é", max_size=8),
        st.builds(lambda unit, count: unit * count, st.sampled_from(["a", ".", "A-", "_"]), st.integers(0, 130)),
    )
)
def test_tag_accepts_exactly_the_grammar(text: str) -> None:
    if legal_tag(text):
        assert str(Tag.parse(text)) == text
    else:
        with pytest.raises(TagInvalid):
            Tag.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "gallery",
        "gallery/ui",
        "a/blobs/b",
        "manifests/tags/uploads/blobs",
        "v2/a/referrers/b",
        "a--b/c---d",
        "a__b/c_d/e.f",
        "0/1",
        "a" * 64 + "/" + "b" * 135,
    ],
)
def test_legal_repositories_are_kept_as_written(text: str) -> None:
    assert Repository.parse(text).name == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        "..",
        "a/../b",
        "a/./b",
        "../../etc/passwd",
        "a\\b",
        "a/..\\b",
        "a%2fb",
        "a%2e%2e/b",
        "a\x00b",
        "a\n",
        "\na",
        "a/b\n",
        "a b",
        "Gallery/ui",
        "_catalog",
        "_oci/a",
        "-a",
        "a-",
        ".a",
        "a.",
        "a..b",
        "a___b",
        "a._b",
        "a.-b",
        "a_-b",
        "é",
        "a/é",
        "ａ",  # a full-width a
        "ﬁ",
        "a٣",
        "а/ui",  # a Cyrillic a
        "a\u200bb",
        "a\u202eb",
        "a:b",
        "a@b",
        "a+b",
        "a*b",
        "a/" + "b" * 199,
        "a" * 65,
        "a" * 65 + "/b",
    ],
)
def test_illegal_repositories_are_refused(text: str) -> None:
    with pytest.raises(NameInvalid):
        Repository.parse(text)


@pytest.mark.parametrize("text", ["a/b", "", "a\n", "Gallery", "a" * 65, "a+ci", "a:b", "..", "*"])
def test_illegal_projects_are_refused(text: str) -> None:
    with pytest.raises(Invalid):
        ProjectName.parse(text)


@pytest.mark.parametrize("text", ["v1", "latest", "_", "A.B-c_1", "1.2.3_build.7", "a" * 128, "sha256-abc.sig"])
def test_legal_tags_are_kept_as_written(text: str) -> None:
    assert Tag.parse(text).name == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".a",
        "-a",
        "a" * 129,
        "a/b",
        "sha256:abc",
        "@",
        "%0a",
        "\n",
        "v1\n",
        "<script>",
        "a b",
        "a+b",
        "é",
        "..",
        "\x00",
    ],
)
def test_illegal_tags_are_refused(text: str) -> None:
    with pytest.raises(TagInvalid) as refused:
        Tag.parse(text)
    assert "<script>" not in refused.value.message


def test_long_hostile_names_are_refused_at_once() -> None:
    hostile = "a" + "-" * 2_000_000 + "!"
    for parse in (Repository.parse, ProjectName.parse, Tag.parse):
        with pytest.raises((NameInvalid, Invalid, TagInvalid)):
            parse(hostile)


def test_longest_nearly_legal_name_does_not_backtrack_for_long() -> None:
    with pytest.raises(NameInvalid):
        Repository.parse("a" + "a-" * 30 + "/" + "a--" * 44 + "!")


def test_reference_with_a_colon_is_a_digest() -> None:
    digest = Digest.of(b"")
    assert parse_reference(str(digest)) == digest
    with pytest.raises(DigestInvalid):
        parse_reference("sha256:abc")


def test_reference_without_a_colon_is_a_tag() -> None:
    assert parse_reference("v1") == Tag("v1")
    with pytest.raises(TagInvalid):
        parse_reference(".hidden")
