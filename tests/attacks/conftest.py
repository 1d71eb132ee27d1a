"""The gateway under attack: one real process group for all attacks of a run, furnished with projects and accounts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.site import Site, standing


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A gateway of two workers on a free port, over TLS, with `GRANTS` and an image in `alpha/app`."""
    with standing(tmp_path_factory.mktemp("site") / "data") as made:
        yield made
