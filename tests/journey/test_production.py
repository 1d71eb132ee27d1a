"""The production line: a settings file, a company's name, its own authority, port 443."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.journey.conftest import DOCKER_PROGRAMS
from tests.services.clients import Docker, Podman, Result
from tests.services.daemon import POLL_SECONDS, scratch
from tests.services.gateway import Gateway, said_in_one_line
from tests.services.images import Layout
from tests.services.machine import ADDRESS, trusted

pytestmark = pytest.mark.journey

NAME = "registry.company.com"
WRITER = ("writer", "writer's-long-password")
MAKE_CA = Path(__file__).parents[2] / "certs/make-ca.sh"
SETTINGS = f"""\
[server]
names = ["{NAME}"]
bind = "{ADDRESS}"
port = 443
workers = 2
certificate = "tls/gateway.crt"
key = "tls/gateway.key"

[engine]
root = "data"
"""


def make_certificate(folder: Path) -> None:
    """What the documentation says: the authority once, a certificate each time."""
    subprocess.run([str(MAKE_CA), str(folder), NAME], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def company(known_names: None) -> Iterator[Gateway]:
    """The gateway of a company, on the settings above, with a writer."""
    with scratch("company") as home:
        make_certificate(home / "tls")
        gateway = Gateway(home, name=NAME, address=ADDRESS, port=443, config=SETTINGS)
        gateway.certificate = home / "tls/authority.crt"
        assert said_in_one_line(gateway.cli("serve"))
        gateway.start()
        try:
            with trusted(NAME, gateway.certificate):
                gateway.add_user(*WRITER)
                gateway.cli("project", "add", "gallery").must()
                gateway.cli("grant", "writer", "pusher", "gallery").must()
                yield gateway
        finally:
            gateway.stop()


def test_docker_signs_in_pushes_and_pulls_by_the_company_s_name(
    company: Gateway, docker: Docker, layout: Layout
) -> None:
    layout.add_image("v1", (3_000_000, 1000), seed=401)
    name = f"{NAME}/gallery/{docker.argv[0].strip('/').replace('/', '-')}:v1"
    docker.load(layout, "v1", name).must()
    docker.login(NAME, *WRITER).must()
    docker.push(name).must()
    docker.remove(name).must()
    docker.pull(name).must()
    docker.remove(name).must()


def test_podman_does_too(company: Gateway, podman: Podman, layout: Layout) -> None:
    layout.add_image("v1", (100_000,), seed=402)
    name = f"{NAME}/gallery/podman:v1"
    podman.load(layout, "v1", name).must()
    podman.login(NAME, *WRITER).must()
    podman.push(name).must()
    podman.remove(name).must()
    podman.pull(name).must()


def test_it_serves_what_is_initialised_and_nothing_else_is_needed(company: Gateway) -> None:
    company.stop()
    company.daemon.argv = (*company.daemon.argv[:-1], "serve")
    assert "Password" not in company.start()
    assert company.wire.ask("GET", "/health/ready").must(200).json["warnings"] == []
    company.wire.ask("GET", "/ca.crt").must(404)


def shown(company: Gateway) -> set[bytes]:
    """The certificates that many new connections are shown: every worker's."""
    found = set()
    for _ in range(12):
        with company.wire.connect() as connection:
            found.add(connection.certificate())
    return found


def soon(is_so: Callable[[], bool], seconds: float = 8) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(POLL_SECONDS)


@pytest.mark.parametrize("docker", DOCKER_PROGRAMS[:1], indirect=True, ids=["debian"])
def test_a_certificate_is_replaced_while_a_pull_is_under_way(company: Gateway, docker: Docker, layout: Layout) -> None:
    content = random.Random(403).randbytes(60_000_000)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    token = company.wire.token(WRITER, "repository:gallery/big:pull,push")
    company.wire.push_blob("gallery/big", token, content, digest)
    layout.add_image("v1", (40_000_000, 20_000_000), seed=404)
    name = f"{NAME}/gallery/replaced:v1"
    docker.load(layout, "v1", name).must()
    docker.login(NAME, *WRITER).must()
    docker.push(name).must()
    docker.remove(name).must()

    before = shown(company)
    accepted = len(company.events(kind="certificate.accepted"))
    pulled: list[Result] = []
    puller = threading.Thread(target=lambda: pulled.append(docker.pull(name)))
    with company.wire.connect() as connection:
        connection.send("GET", f"/v2/gallery/big/blobs/{digest}", token=token)
        answer = connection.open()
        received = answer.read(1_000_000)
        puller.start()
        make_certificate(company.home / "tls")
        soon(lambda: not shown(company) & before)
        received += answer.read()
    puller.join()
    docker.remove(name).must()

    assert hashlib.sha256(received).hexdigest() == digest.removeprefix("sha256:")
    assert pulled[0].ok, pulled[0].output
    assert len(shown(company)) == 1
    soon(lambda: len(company.events(kind="certificate.accepted")) == accepted + 1)
    assert company.events(kind="certificate.rejected") == []


def another_key(folder: Path) -> None:
    other = folder / "other"
    make_certificate(other)
    shutil.copyfile(other / "gateway.key", folder / "gateway.key")


def half_a_certificate(folder: Path) -> None:
    whole = (folder / "gateway.crt").read_text()
    (folder / "gateway.crt").write_text(whole[: len(whole) // 3])


def garbage(folder: Path) -> None:
    (folder / "gateway.crt").write_text("not a certificate\n")


def a_key_that_others_may_read(folder: Path) -> None:
    (folder / "gateway.key").chmod(0o644)


@pytest.mark.parametrize(
    "spoil", [another_key, *(pytest.param(each, marks=pytest.mark.long) for each in (half_a_certificate, garbage))]
)
def test_a_bad_pair_is_refused_and_the_old_one_stays(company: Gateway, spoil: Callable[[Path], None]) -> None:
    folder = company.home / "tls"
    before, rejected = shown(company), len(company.events(kind="certificate.rejected"))
    kept = {file.name: file.read_bytes() for file in folder.glob("gateway.*")}
    spoil(folder)
    try:
        soon(lambda: any(company.wire.ask("GET", "/health/ready").json["warnings"] for _ in range(4)))
        ready = company.wire.ask("GET", "/health/ready").must(200).json
        assert ready["status"] == "ready"
        assert shown(company) == before
        described = company.cli("cert", "show")
        assert not described.ok
        assert described.stderr.startswith("gateway: ")
        # Another worker may have told of it before the one that records it has looked.
        soon(lambda: len(company.events(kind="certificate.rejected")) > rejected)
        told = company.events(kind="certificate.rejected")
        assert len(told) == rejected + 1
        assert told[-1]["detail"]["reason"]
        assert "certificate rejected, the old one stays" in company.log.read_text()
    finally:
        for name, content in kept.items():
            (folder / name).write_bytes(content)
    soon(lambda: not any(company.wire.ask("GET", "/health/ready").json["warnings"] for _ in range(4)))
    assert shown(company) == before
    company.cli("cert", "show").must()


def test_only_the_company_s_name_is_answered(company: Gateway) -> None:
    company.wire.ask("GET", "/v2/", headers={"Host": NAME}).must(401)
    with company.wire.connect() as connection:
        connection.socket.sendall(b"GET /v2/ HTTP/1.1\r\nHost: other.company.com\r\n\r\n")
        assert connection.socket.recv(65536).split()[1] in (b"400", b"421")


def test_nobody_but_its_owner_reads_its_secrets(company: Gateway) -> None:
    secret = [file for file in (company.data / "keys").rglob("*") if file.is_file()]
    assert secret
    assert all(os.stat(file).st_mode & 0o077 == 0 for file in secret)
