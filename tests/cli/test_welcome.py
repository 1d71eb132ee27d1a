from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli.welcome import Authority, first, main_address, short
from gateway.settings import Settings

AUTHORITY = Authority(Path("/srv/data/tls/ca.crt"), "AB:CD:EF")
COMMAND = "/opt/gateway/bin/gateway --data /srv/data"


def test_first_block_tells_all_that_is_needed_in_forty_lines(tmp_path: Path) -> None:
    block = first(Settings.for_data(tmp_path, {}), "admin", "s3cret", AUTHORITY, COMMAND)
    assert block.count("\n") <= 40
    for needed in (
        "https://localhost:5000  https://registry.local:5000",
        "Administrator  admin",
        "Password       s3cret",
        "/srv/data/tls/ca.crt",
        "SHA-256 AB:CD:EF",
        "mkdir -p /etc/docker/certs.d/registry.local:5000 && sudo cp /srv/data/tls/ca.crt "
        "/etc/docker/certs.d/registry.local:5000/ca.crt",
        "update-ca-certificates",
        "podman",
        "curl -k https://registry.local:5000/ca.crt -o ca.crt",
        "openssl x509 -in ca.crt -noout -fingerprint -sha256",
        '"127.0.0.1 registry.local"',
        "docker login registry.local:5000 -u admin",
        "docker tag IMAGE registry.local:5000/gallery/ui:v1",
        "docker push registry.local:5000/gallery/ui:v1",
        COMMAND,
        "--bind 0.0.0.0",
    ):
        assert needed in block


def test_paths_with_spaces_can_be_pasted(tmp_path: Path) -> None:
    authority = Authority(Path("/srv/my data/tls/ca.crt"), "AB")
    block = first(Settings.for_data(tmp_path, {}), "admin", None, authority, COMMAND)
    assert "sudo cp '/srv/my data/tls/ca.crt'" in block
    assert "Password" not in block


def test_configured_certificate_needs_no_authority(tmp_path: Path) -> None:
    settings = Settings.for_data(tmp_path, {}).but(names=("registry.company.com",), port=443)
    block = first(settings, "admin", "s3cret", None, COMMAND)
    assert "docker login registry.company.com -u admin" in block
    assert "ca.crt" not in block


@pytest.mark.parametrize(("names", "address"), [((), "registry.local:5000"), (("hub.example",), "hub.example:5000")])
def test_commands_use_the_name_that_was_given(tmp_path: Path, names: tuple[str, ...], address: str) -> None:
    assert main_address(Settings.for_data(tmp_path, {}).but(names=names)) == address


def test_later_runs_say_three_lines_and_no_secret(tmp_path: Path) -> None:
    block = short(Settings.for_data(tmp_path, {}), AUTHORITY, COMMAND)
    assert block.count("\n") == 3
    assert "https://localhost:5000" in block
    assert "AB:CD:EF" in block
    assert COMMAND in block
