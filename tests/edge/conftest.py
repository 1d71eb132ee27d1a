"""One development pair for all tests of the edge."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.certificates import ensure_development_pair


@pytest.fixture(scope="session")
def tls_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    ensure_development_pair(folder, [])
    return folder
