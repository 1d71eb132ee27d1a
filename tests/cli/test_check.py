"""`gateway check`: what it says and with which exit status, on real data, and a served gateway that heals."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Rooms, opened
from gateway.audit.event import Event, Kind
from gateway.engine.embedded.layout import blob_key
from gateway.gate import Act
from gateway.oci.digest import Digest
from gateway.oci.names import Repository, Tag
from gateway.settings import Settings
from tests.cli.line import Line
from tests.contract.house import WRITER, body, image
from tests.house import GATEWAY
from tests.services.gateway import running_gateway

UI = Repository("gallery/ui")
LAYER = os.urandom(100_000)
DIGEST = Digest.of(LAYER)
PASSWORD = ("writer", "writer's-long-password")


@pytest.fixture
def stocked(line: Line) -> Line:
    """A gateway that holds one image."""

    async def stock(rooms: Rooms) -> None:
        async def commit(change: Any) -> None:
            await rooms.ledger.commit(Act(Event(Kind.BLOB_PUSH, GATEWAY), change))

        engine = rooms.engine
        for content in (b"{}", LAYER):
            upload, begun = await engine.uploads.begin(UI, WRITER)
            await commit(begun)
            await commit((await engine.uploads.finish(upload, body(content), None, Digest.of(content)))[1])
        await commit(engine.manifests.put(UI, image(b"{}", LAYER), [Tag("v1")], WRITER))

    with opened(Settings.for_data(line.folder, {})) as rooms:
        asyncio.run(stock(rooms))
    return line


def file_of(line: Line) -> Path:
    return line.folder / blob_key(DIGEST)


def test_a_fresh_gateway_is_well(line: Line) -> None:
    said = line.done("check", "--deep")
    assert said.out.startswith("Looked at 0 blobs")
    assert said.out.endswith("all is well.\n")
    assert said.err == ""


def test_what_was_read_is_said(stocked: Line) -> None:
    assert "2 blobs, their bytes unread, 1 manifest and " in stocked.done("check").out
    assert "2 blobs, 97.7 KiB of them read (" in stocked.done("check", "--deep").out


def test_a_flaw_is_a_line_and_an_exit_status(stocked: Line) -> None:
    os.truncate(file_of(stocked), 10)
    said = stocked("check")
    assert said.status == 1
    first, last = said.out.splitlines()
    assert first == f"bad     blob_size: The file of {DIGEST} has 10 bytes, not 100000."
    assert last.endswith(": 1 bad.")


def test_only_deep_reads_bytes(stocked: Line) -> None:
    file_of(stocked).write_bytes(bytes(len(LAYER)))
    assert stocked("check").status == 0
    assert stocked("check", "--deep").status == 1


def test_the_json_form_says_the_same(stocked: Line) -> None:
    told = stocked.done("check", "--json").json
    assert told == {
        "well": True,
        "content": True,
        "deep": False,
        "repair": False,
        "blobs": 2,
        "bytes": 0,
        "manifests": 1,
        "events": told["events"],
        "seconds": told["seconds"],
        "flaws": [],
    }
    file_of(stocked).unlink()
    said = stocked("check", "--deep", "--repair", "--json")
    assert (said.status, said.json["well"], said.json["bytes"]) == (1, False, 2)
    [flaw] = said.json["flaws"]
    assert flaw == {
        "kind": "blob_missing",
        "what": DIGEST.text,
        "repository": "",
        "text": f"The file of {DIGEST} is missing.",
        "remark": False,
        "mended": False,
        "done": "push the blob again",
    }


def test_a_repair_mends_once_and_leaves_nothing_to_do(stocked: Line) -> None:
    spool = stocked.folder / "uploads/6f0c3a1e-8a8e-4b7b-9a47-2d53b0a3b7b1"
    spool.write_bytes(b"left")
    assert stocked("check").status == 1
    said = stocked.done("check", "--repair")
    assert said.out.startswith("mended  upload_orphan: uploads/6f0c3a1e")
    assert said.out.endswith("all is well, 1 mended.\n")
    assert not spool.exists()
    assert "mended" not in stocked.done("check", "--repair").out
    [event] = stocked.events("--kind", "gateway.check.repair")
    assert event["detail"]["flaw"] == "upload_orphan"


def test_where_another_registry_keeps_the_content_that_is_said(line: Line) -> None:
    (line.folder / "gateway.toml").write_text('[engine]\nkind = "upstream"\nurl = "http://127.0.0.1:9"\n')
    (line.folder / "blobs/sha256").mkdir(parents=True)
    (line.folder / "blobs/sha256/foreign").write_bytes(b"?")
    said = line.done("check", "--deep")
    assert said.out.startswith("Looked at the records (the registry behind keeps the content")
    assert line.done("check", "--json").json["content"] is False


def test_a_served_gateway_puts_rot_aside_and_a_push_heals_it() -> None:
    environment = {"GATEWAY_UPKEEP__SCRUB_BYTES_PER_SECOND": "0"}
    with running_gateway(environment=environment) as gateway:
        gateway.add_user(*PASSWORD)
        gateway.cli("project", "add", "gallery").must()
        gateway.cli("grant", "writer", "pusher", "gallery").must()
        wire = gateway.wire

        def ask(method: str, path: str, **more: Any) -> int:
            token = wire.token(PASSWORD, "repository:gallery/ui:*")
            return wire.ask(method, path, token=token, **more).status

        push = f"/v2/gallery/ui/blobs/uploads/?digest={DIGEST}"
        path = f"/v2/gallery/ui/blobs/{DIGEST}"
        assert ask("POST", push, body=LAYER) == 201
        file = gateway.data / blob_key(DIGEST)
        os.truncate(file, 10)
        assert ask("GET", path) == 503
        until = time.monotonic() + 20
        while file.exists() and time.monotonic() < until:
            time.sleep(0.1)
        assert ask("HEAD", path) == 404
        assert gateway.cli("check", "--deep").code == 1
        assert ask("POST", push, body=LAYER) == 201
        assert ask("GET", path) == 200
        gateway.cli("check", "--deep").must()
        [event] = gateway.events(kind="integrity.failure")
        assert (event["digest"], event["principal_kind"]) == (DIGEST.text, "system")
