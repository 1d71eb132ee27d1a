"""The guide to the API, typed in as it stands against a gateway that really runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.api.routes import PREFIX
from tests.services.gateway import Gateway, running_gateway

GUIDE = Path(__file__).parents[2] / "docs" / "api.md"


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with running_gateway() as gateway:
        yield gateway


def test_every_command_of_the_guide_does_what_it_says(gateway: Gateway) -> None:
    issue, *blocks = re.findall(r"^```sh\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    issued = gateway.cli(*issue.split()[3:], "--json").must()
    token = json.loads(issued.stdout)["token"]
    session = "\n".join(blocks)
    session = session.replace("https://registry.local:5000", f"https://{gateway.registry}").replace("gwp_…", token)
    resolve = f'resolve = "{gateway.registry}:{gateway.address}"\n'
    (gateway.home / ".curlrc").write_text(resolve)
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", session],
        cwd=gateway.home,
        env={**gateway.environment, "CURL_HOME": str(gateway.home)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    said = ended.stdout
    assert '{"allowed":true,"why":"pusher on gallery"}' in said
    assert "somebody else did" in said
    assert "no such repository yet" in said
    assert '"whole": true' in said
    [first, second] = re.findall(r"^(?:[0-9a-z]{4}-){6}[0-9a-z]{4}$", said, re.MULTILINE)[-2:]
    assert first == second, "asked twice under one key"
    assert '["jane",["pull","push"]]' in said
    assert json.loads((gateway.home / "checkpoint.jsonl").read_text())["type"] == "checkpoint"
    exported = (gateway.home / "events.jsonl").read_text().splitlines()
    assert len(exported) > 20
    assert all(json.loads(line)["hash"] for line in exported)


def test_the_document_is_served_over_tls_and_unknown_edges_stay_unknown(gateway: Gateway) -> None:
    found = gateway.wire.ask("GET", f"{PREFIX}/openapi.json")
    assert found.status == 200
    assert json.loads(found.body)["openapi"] == "3.1.0"
    assert gateway.wire.ask("GET", f"{PREFIX}/users").status == 401
    assert gateway.wire.ask("GET", f"{PREFIX}/repositories/gallery%2Fui").status == 401
    assert gateway.wire.ask("GET", "/apis/v1").status == 404


def test_a_worker_that_is_never_asked_does_not_load_it(tmp_path: Path) -> None:
    program = (
        "import sys, gateway.app, gateway.serving; print(sorted(n for n in sys.modules if n.startswith('gateway.api')))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.stdout.strip() == "[]", ended.stderr
