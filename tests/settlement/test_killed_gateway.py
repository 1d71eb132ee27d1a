"""A gateway that is killed between an act in the registry behind it and the act's record tells of it afterwards."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.oci.media import OCI_MANIFEST
from tests.contract.house import image
from tests.services.distribution import Registry
from tests.services.gateway import Gateway, running_gateway
from tests.services.wire import Wire

WRITER = ("writer", "writer's-long-password")
LAYER = b"a layer"
HOOK = Path(__file__).parent / "dying"


@pytest.fixture
def gateway(behind: Registry, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway of one process, which dies when `tmp_path/wanted` says so."""
    behind.forget()
    environment = {
        "GATEWAY_ENGINE__KIND": "upstream",
        "GATEWAY_ENGINE__URL": behind.url,
        "PYTHONPATH": os.pathsep.join([str(HOOK), os.environ.get("PYTHONPATH", "")]),
        "DIES_IN": str(tmp_path),
    }
    with running_gateway(environment=environment) as running:
        running.add_user(*WRITER)
        running.cli("project", "add", "gallery").must()
        running.cli("grant", "writer", "maintainer", "gallery").must()
        yield running


def asked(wire: Wire, method: str, path: str, **more: Any) -> int:
    return wire.ask(method, path, token=wire.token(WRITER, "repository:gallery/ui:*"), **more).status


def settled(gateway: Gateway, kind: str, count: int) -> list[dict[str, Any]]:
    """The events of *kind*, once there are as many."""
    deadline = time.monotonic() + 20
    while len(events := gateway.events(kind=kind)) < count and time.monotonic() < deadline:
        time.sleep(0.2)
    return events


def killed(gateway: Gateway, folder: Path, method: str, path: str, **more: Any) -> None:
    """Kills the gateway when it has the answer to that request from behind, and starts it again."""
    (folder / "wanted").write_text(f"{method} {path}")
    pids = gateway.workers()
    with pytest.raises(OSError):  # noqa: PT011 - the connection is cut in one of many ways
        asked(gateway.wire, method, path, **more)
    assert not (folder / "wanted").exists()
    for pid in pids:
        assert not Path(f"/proc/{pid}/exe").exists()
    gateway.daemon.kill()
    gateway.start()


def test_a_push_and_a_deletion_are_told_by_the_gateway_that_comes_after(gateway: Gateway, tmp_path: Path) -> None:
    manifest = image(b"{}", LAYER)
    token = gateway.wire.token(WRITER, "repository:gallery/ui:pull,push")
    for content in (b"{}", LAYER):
        gateway.wire.push_blob("gallery/ui", token, content, f"sha256:{hashlib.sha256(content).hexdigest()}")

    headers = {"Content-Type": OCI_MANIFEST}
    path = "/v2/gallery/ui/manifests"
    killed(gateway, tmp_path, "PUT", f"{path}/v1", body=manifest.content, headers=headers)

    [push] = settled(gateway, "manifest.push", 1)
    assert (push["outcome"], push["principal"], push["reference"]) == ("allowed", "writer", "v1")
    assert (push["digest"], push["detail"]["settled"]) == (manifest.digest.text, True)
    assert asked(gateway.wire, "GET", f"{path}/v1") == 200
    assert '"gallery/ui"' in gateway.cli("repository", "list", "--json").must().stdout

    killed(gateway, tmp_path, "DELETE", f"{path}/{manifest.digest}")

    [deletion] = settled(gateway, "manifest.delete", 1)
    assert (deletion["outcome"], deletion["before"]) == ("allowed", {"tags": {"v1": manifest.digest.text}})
    assert asked(gateway.wire, "GET", f"{path}/v1") == 404
    assert gateway.is_trail_whole()
    assert list((gateway.data / "intents").iterdir()) == [], "what it held when it died is not left lying about"
