"""A real gateway, and a real browser before it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser.looking import running_browser
from tests.services.daemon import scratch
from tests.services.gateway import Gateway

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """A gateway with an administrator, `root`."""
    with scratch("console") as home:
        gateway = Gateway(home, name="localhost")
        gateway.start()
        try:
            gateway.add_user("root", PASSWORD, "--admin")
            yield gateway
        finally:
            gateway.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser
