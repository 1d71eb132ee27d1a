"""Scopes: what clients really send is understood, and nothing they make up becomes access."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.scopes import CATALOG, TOKEN_ACTIONS, Access, Action, parse_scopes, read_claims, scope_text
from gateway.errors import NameInvalid
from gateway.oci.names import Repository

UI = Repository("gallery/ui")
PULL, PUSH, DELETE = TOKEN_ACTIONS

names = st.from_regex(r"[a-z0-9]{1,6}([._-][a-z0-9]{1,6})?(/[a-z0-9]{1,6}){0,3}", fullmatch=True)
actions = st.sets(st.sampled_from(TOKEN_ACTIONS), min_size=1).map(frozenset)
accesses = st.builds(Access, st.dictionaries(names, actions, max_size=9), st.booleans())
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["type", "name", "actions", "class"]), inner),
    max_leaves=20,
)


def held(*scopes: str) -> dict[str, set[Action]]:
    return {name: set(found) for name, found in parse_scopes(scopes).repositories.items()}


@pytest.mark.parametrize(
    "scopes",
    [
        ["repository:gallery/ui:pull,push"],
        ["repository:gallery/ui:push,pull"],
        ["repository:gallery/ui:pull repository:gallery/ui:push"],
        ["repository:gallery/ui:pull", "repository:gallery/ui:push"],
        ["repository:gallery/ui:pull repository:gallery/ui:pull,push"],
        ["repository(plugin):gallery/ui:pull,push"],
        ["  repository:gallery/ui:pull,push  "],
        ["repository:gallery/ui:pull,push,fly,,PULL"],
    ],
)
def test_what_clients_send_for_a_push_is_one_access(scopes: list[str]) -> None:
    assert held(*scopes) == {"gallery/ui": {PULL, PUSH}}


def test_a_star_asks_for_every_action_and_is_not_one() -> None:
    access = parse_scopes(["repository:gallery/ui:*"])

    assert access.repositories == {"gallery/ui": frozenset(TOKEN_ACTIONS)}
    assert access.texts() == ("repository:gallery/ui:pull,push,delete",)
    assert access.claims()[0]["actions"] == ["pull", "push", "delete"]


@pytest.mark.parametrize(
    "scope",
    [
        "",
        ":",
        "::",
        "repository",
        "repository:gallery/ui",
        "repository::pull",
        "repository:*:pull",
        "repository:gallery/*:pull",
        "repository:GALLERY/ui:pull",
        "repository:gallery/ui/:pull",
        "repository:/gallery/ui:pull",
        "repository:gallery/../ui:pull",
        "repository:gallery/ui\n:pull",
        "repository:" + "a" * 300 + ":pull",
        "repository:host:5000/ui:pull",
        "image:gallery/ui:pull",
        "Repository:gallery/ui:pull",
        "registry:catalog:pull",
        "registry:other:*",
        "registry(x):catalog:*",
    ],
)
def test_what_is_no_scope_of_ours_asks_for_nothing(scope: str) -> None:
    access = parse_scopes([scope])

    assert not any(access.repositories.values())
    assert not access.catalog
    assert access.texts() == ()


def test_unknown_actions_are_no_access() -> None:
    assert held("repository:gallery/ui:manage,review,owner") == {"gallery/ui": set()}
    assert parse_scopes(["repository:gallery/ui:manage"]).texts() == ()


def test_the_catalog_is_asked_for_literally() -> None:
    access = parse_scopes([CATALOG])

    assert access == Access({}, True)
    assert access.claims() == [{"type": "registry", "name": "catalog", "actions": ["*"]}]


def test_at_most_ten_scopes_are_honoured() -> None:
    access = parse_scopes([" ".join(f"repository:gallery/{number}:pull" for number in range(500))])

    assert list(access.repositories) == [f"gallery/{number}" for number in range(10)]


@given(st.lists(st.text(st.characters(codec=None)) | st.from_regex(r"repository(\(.\))?:\S*:\S*"), max_size=20))
def test_no_text_is_a_fault_or_an_illegal_name(scopes: list[str]) -> None:
    access = parse_scopes(scopes)

    assert len(access.repositories) <= 10
    for name, found in access.repositories.items():
        assert Repository.parse(name).name == name
        assert found <= set(TOKEN_ACTIONS)


@given(accesses)
def test_access_survives_its_spelling(access: Access) -> None:
    assert parse_scopes(access.texts()) == access
    assert parse_scopes([" ".join(access.texts())]) == access
    assert read_claims(access.claims()) == access


@given(names, actions)
def test_access_includes_what_it_spells_and_nothing_else(name: str, found: frozenset[Action]) -> None:
    repository = Repository.parse(name)
    access = parse_scopes([scope_text(repository, found)])

    assert {action for action in Action if access.includes(action, repository)} == found
    assert not any(access.includes(action, Repository(f"{name}/x")) for action in Action)
    assert not any(access.includes(action, Repository(f"{name}x")) for action in Action)


@given(json_values | st.lists(json_values))
def test_no_claim_is_a_fault_or_an_illegal_name(entries: object) -> None:
    access = read_claims(entries)

    assert access is None or isinstance(entries, list)
    for name in access.repositories if access is not None else ():
        try:
            assert Repository.parse(name).name == name
        except NameInvalid:
            pytest.fail(f"{name!r} was taken for a name")


def test_more_than_ten_entries_are_no_claim() -> None:
    entry = {"type": "repository", "name": "gallery/ui", "actions": ["pull"]}

    assert read_claims([entry] * 10) == Access({"gallery/ui": frozenset({PULL})})
    assert read_claims([entry] * 11) is None
    assert UI.name in Access({"gallery/ui": frozenset({DELETE})}).repositories
