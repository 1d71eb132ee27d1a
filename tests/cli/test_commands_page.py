from __future__ import annotations

from tests.supply.commands import PAGE, page


def test_the_page_of_commands_is_what_the_command_line_says() -> None:
    """Write it anew with: python -m tests.supply.commands"""
    assert PAGE.read_text(encoding="utf-8") == page()
