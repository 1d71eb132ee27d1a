"""Account names: legal or refused, and a robot in one spelling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.names import RESERVED, AccountName, RobotName, parse_principal
from gateway.errors import Invalid

COMPONENT = st.from_regex(r"[a-z0-9]{1,8}([._-][a-z0-9]{1,8}){0,3}", fullmatch=True).filter(lambda text: len(text) >= 2)


@pytest.mark.parametrize("text", ["jo", "jane.doe", "ci-7", "a_b", "x" * 64])
def test_a_legal_user_name_is_itself(text: str) -> None:
    assert AccountName.parse(text).name == text


@pytest.mark.parametrize(
    "text",
    ["", "x", "x" * 65, "Jane", "a..b", "a._b", "-ab", "ab-", "a+b", "a:b", "a/b", "a b", "ab\n", "jörg", "a\0b", "٣٤"],
)
def test_anything_else_is_no_user_name(text: str) -> None:
    with pytest.raises(Invalid):
        AccountName.parse(text)


@pytest.mark.parametrize("text", sorted(RESERVED))
def test_a_name_with_a_meaning_of_its_own_is_reserved(text: str) -> None:
    with pytest.raises(Invalid, match="reserved"):
        AccountName.parse(text)


@pytest.mark.parametrize("text", ["gallery+ci", "gallery/ci"])
def test_a_robot_has_one_spelling_however_it_is_written(text: str) -> None:
    assert parse_principal(text) == "gallery+ci"


@pytest.mark.parametrize("text", ["+ci", "gallery+", "/", "gallery/ui/ci", "gallery+c+i", "gallery+c/i", "Gallery+ci"])
def test_anything_else_is_no_robot(text: str) -> None:
    with pytest.raises(Invalid):
        parse_principal(text)


@given(COMPONENT, COMPONENT)
def test_a_robots_name_parses_to_itself(project: str, name: str) -> None:
    robot = RobotName.parse(f"{project}/{name}")

    assert RobotName.parse(str(robot)) == robot
    assert (robot.project.name, robot.name) == (project, name)


@given(st.text(max_size=80))
def test_parsing_answers_or_refuses(text: str) -> None:
    try:
        canonical = parse_principal(text)
    except Invalid:
        return
    assert parse_principal(canonical) == canonical
