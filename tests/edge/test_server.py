"""The process serves, stays alive, and stops when told: each test runs it as a real process."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from gateway.errors import Conflict, Invalid
from gateway.fleet import STARTUP_FAILED, Fleet
from gateway.protocol import EdgeLimits, bind
from gateway.server import Plan, Seat, Worker, serve
from tests.edge.serving import closed, read_reply, request, trusting, wait_until

BOTH = pytest.mark.parametrize("workers", [1, 2])


@pytest.fixture
def folder(tls_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tls_folder, tmp_path / "tls"))


@dataclass(slots=True)
class Member:
    process: subprocess.Popen[str]
    folder: Path
    port: int

    @contextlib.contextmanager
    def dial(self) -> Iterator[Any]:
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=15) as plain,
            trusting(self.folder).wrap_socket(plain, server_hostname="localhost") as wrapped,
        ):
            yield wrapped

    def ask(self, path: str = "/") -> Any:
        with self.dial() as connection:
            connection.sendall(request(path, "Connection: close"))
            return read_reply(connection).json

    def pids(self) -> dict[int, int]:
        """The process behind each worker's number, once all of two have answered."""
        found: dict[int, int] = {}
        end = time.monotonic() + 20
        while len(found) < 2 and time.monotonic() < end:
            with contextlib.suppress(OSError):
                shown = self.ask()
                found[shown["number"]] = shown["pid"]
        return found


@contextlib.contextmanager
def member(folder: Path, workers: int = 1, drain: float = 10.0) -> Iterator[Member]:
    """The gateway of nothing but the edge, in a group of processes of its own."""
    command = [sys.executable, "-m", "tests.edge.member", str(folder), str(workers), str(drain)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        port = int(line.split()[1]) if line.startswith("ready") else 0
        yield Member(process, folder, port)
    finally:
        process.kill()
        process.communicate(timeout=20)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except ConnectionRefusedError:
        return True
    return False


@BOTH
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_the_exit_status_is_zero(folder: Path, workers: int, sign: signal.Signals) -> None:
    with member(folder, workers) as running, running.dial() as busy, running.dial() as idle:
        idle.sendall(request("/"))
        assert not read_reply(idle).json["draining"]
        busy.sendall(request("/wait?1.5"))
        wait_until((folder / "waiting").exists)
        running.process.send_signal(sign)
        assert closed(idle)
        wait_until(lambda: refuses(running.port), 1.0)
        reply = read_reply(busy)
        assert reply.status == 200
        assert reply.json["draining"]
        assert running.process.wait(10) == 0
        assert len(list(folder.glob("ended-*"))) == workers


@BOTH
def test_a_drain_is_bounded(folder: Path, workers: int) -> None:
    with member(folder, workers, drain=0.5) as running, running.dial() as busy:
        busy.sendall(request("/wait?60"))
        wait_until((folder / "waiting").exists)
        began = time.monotonic()
        running.process.terminate()
        assert running.process.wait(15) == 0
        assert time.monotonic() - began < 8
        assert closed(busy)


@BOTH
def test_a_second_signal_ends_at_once(folder: Path, workers: int) -> None:
    with member(folder, workers, drain=60) as running, running.dial() as busy:
        busy.sendall(request("/wait?60"))
        wait_until((folder / "waiting").exists)
        running.process.terminate()
        time.sleep(0.5)
        assert running.process.poll() is None
        running.process.terminate()
        assert running.process.wait(5) == 1
        assert closed(busy)


def tell_group(process: subprocess.Popen[str]) -> None:
    """As systemd and supervisord do when told to."""
    os.killpg(process.pid, signal.SIGTERM)


def tell_both(process: subprocess.Popen[str]) -> None:
    """As `timeout` does."""
    process.terminate()
    # For longer than that the two are apart only on a machine that is very busy.
    time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)


@BOTH
@pytest.mark.parametrize("tell", [tell_group, tell_both])
def test_a_signal_to_the_whole_group_drains(folder: Path, workers: int, tell: Any) -> None:
    with member(folder, workers) as running, running.dial() as busy:
        busy.sendall(request("/wait?1.5"))
        wait_until((folder / "waiting").exists)
        tell(running.process)
        assert read_reply(busy).status == 200
        assert running.process.wait(10) == 0
        assert len(list(folder.glob("ended-*"))) == workers


@BOTH
def test_a_second_signal_to_the_whole_group_ends_at_once(folder: Path, workers: int) -> None:
    with member(folder, workers, drain=60) as running, running.dial() as busy:
        busy.sendall(request("/wait?60"))
        wait_until((folder / "waiting").exists)
        for _ in range(2):
            tell_group(running.process)
            time.sleep(0.5)
        assert running.process.wait(5) == 1
        assert closed(busy)


def test_a_worker_that_the_system_refuses_to_start_is_tried_again_and_the_other_serves_on(folder: Path) -> None:
    with member(folder, 2) as running:
        first = running.pids()
        (folder / "full").touch()
        with running.dial() as busy:
            busy.sendall(request("/wait?3"))
            wait_until((folder / "waiting").exists)
            shown = {number: pid for number, pid in first.items() if (folder / f"waiting-{pid}").exists()}
            (idle,) = first.keys() - shown.keys()
            os.kill(first[idle], signal.SIGKILL)
            wait_until((folder / "refused").exists)
            reply = read_reply(busy)
            assert reply.status == 200
        assert running.process.poll() is None
        (folder / "full").unlink()
        second = running.pids()
        assert second[1 - idle] == first[1 - idle]
        assert second[idle] != first[idle]
        running.process.terminate()
        assert running.process.wait(15) == 0


def test_a_gateway_that_the_system_gives_no_process_at_its_start_says_so(folder: Path) -> None:
    (folder / "full").touch()
    with member(folder, 2) as running:
        assert running.process.wait(20) == STARTUP_FAILED
        assert running.process.stderr is not None
        told = running.process.stderr.read()
        assert "no worker can be started: Resource temporarily unavailable" in told
        assert "Traceback" not in told


def test_a_killed_worker_is_replaced_and_the_other_serves_on(folder: Path) -> None:
    with member(folder, 2) as running:
        first = running.pids()
        assert set(first) == {0, 1}
        os.kill(first[0], signal.SIGKILL)
        wait_until(lambda: running.ask()["number"] == 1)
        wait_until(lambda: running.ask()["pid"] not in first.values(), 20)
        second = running.pids()
        assert second[1] == first[1]
        assert second[0] != first[0]
        running.process.terminate()
        assert running.process.wait(15) == 0


def put_pair(authority: trustme.CA, folder: Path, name: str) -> None:
    leaf = authority.issue_cert(name)
    leaf.private_key_pem.write_to_path(folder / "leaf.key")
    leaf.cert_chain_pems[0].write_to_path(folder / "leaf.crt")


def damage(authority: trustme.CA, folder: Path) -> None:
    (folder / "leaf.crt").write_bytes(b"garbage")


def mistake(authority: trustme.CA, folder: Path) -> None:
    put_pair(authority, folder, "mail.example")


@BOTH
def test_a_malformed_certificate_ends_no_process(folder: Path, workers: int) -> None:
    first, end, rest = (folder / "leaf.crt").read_text().partition("-----END CERTIFICATE-----\n")
    der = ssl.PEM_cert_to_DER_cert(first + end)
    # Its version is 8, which is found only once it is looked at.
    strange = der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07", 1)
    assert strange != der
    with member(folder, workers) as running:
        before = running.ask()["pid"] if workers == 1 else running.pids()
        (folder / "leaf.crt").write_text(ssl.DER_cert_to_PEM_cert(strange) + rest)
        time.sleep(3.5)
        assert running.process.poll() is None
        assert (running.ask()["pid"] if workers == 1 else running.pids()) == before
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(15) == 0
        assert "7 is not a valid X509 version" in (running.process.stderr.read() if running.process.stderr else "")


def test_a_look_that_fails_does_not_end_the_parent(caplog: pytest.LogCaptureFixture) -> None:
    looks: list[int] = []

    def look() -> None:
        looks.append(len(looks))
        if len(looks) == 3:
            signal.raise_signal(signal.SIGTERM)
        raise ZeroDivisionError

    def never(number: int, report: Any) -> Any:
        raise AssertionError

    ready: list[bool] = []
    assert Fleet(0, never, [], look, 1.0).run(lambda: ready.append(True)) == 0
    assert (looks, ready) == ([0, 1, 2], [True])
    assert len([each for each in caplog.records if each.exc_info]) == 3


@pytest.mark.parametrize("spoil", [damage, mistake])
def test_killed_workers_are_replaced_while_the_pair_on_disk_is_bad(folder: Path, spoil: Any) -> None:
    with member(folder, 2) as running:
        first = running.pids()
        authority = trustme.CA()
        put_pair(authority, folder, "localhost")
        authority.cert_pem.write_to_path(folder / "ca.crt")
        # The parent looks once a second, like each of them.
        time.sleep(2.5)
        assert running.pids() == first
        spoil(authority, folder)
        time.sleep(2.5)
        for pid in first.values():
            os.kill(pid, signal.SIGKILL)
        # Only the renewed pair is trusted by now.
        second = running.pids()
        assert set(second) == {0, 1}
        assert not set(second.values()) & set(first.values())


def test_workers_do_not_outlive_their_parent(folder: Path) -> None:
    with member(folder, 2) as running:
        pids = running.pids()
        running.process.kill()
        wait_until(lambda: all(gone(pid) for pid in pids.values()), 15)


@BOTH
def test_a_worker_holds_no_core_and_may_open_many_files(folder: Path, workers: int) -> None:
    with member(folder, workers) as running:
        shown = running.ask()
        assert shown["core"] == [0, 0]
        assert shown["files"][0] == min(shown["files"][1], 1 << 20)
        assert shown["dumpable"] == 0


@BOTH
@pytest.mark.parametrize("fault", ["refuse", "fail"])
def test_a_worker_that_cannot_start_ends_the_whole(folder: Path, workers: int, fault: str) -> None:
    (folder / fault).touch()
    with member(folder, workers) as running:
        status = running.process.wait(20)
        assert status == (STARTUP_FAILED if workers == 2 or fault == "fail" else 1)


def nobody(seat: Seat) -> Worker:
    raise AssertionError("no worker may start")


def plan(folder: Path, port: int = 0, bind: str = "127.0.0.1") -> Plan:
    return Plan(bind, port, folder / "leaf.crt", folder / "leaf.key", EdgeLimits(hosts=frozenset()))


def test_a_taken_port_is_a_conflict_before_any_worker_starts(folder: Path) -> None:
    (taken,) = bind("127.0.0.1", 0)
    with taken, pytest.raises(Conflict, match=r'is taken: .*--port \(with make: make up ARGS="--port PORT"\)\.$'):
        serve(nobody, plan(folder, taken.getsockname()[1]))


@pytest.mark.parametrize("address", ["192.0.2.1", "no.such.host.invalid", "300.1.1.1"])
def test_an_address_of_another_machine_is_invalid(folder: Path, address: str) -> None:
    with pytest.raises(Invalid, match=f"{address} is not an address of this machine"):
        serve(nobody, plan(folder, bind=address))


def test_a_privileged_port_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    class Unprivileged(socket.socket):
        bind = refuse  # type: ignore[assignment]

    monkeypatch.setattr(socket, "socket", Unprivileged)
    with pytest.raises(Invalid, match="Port 443 needs a privilege"):
        bind("127.0.0.1", 443)


def test_a_bad_pair_is_refused_before_the_port_is_touched(folder: Path) -> None:
    (folder / "leaf.key").chmod(0o644)
    (taken,) = bind("127.0.0.1", 0)
    with taken, pytest.raises(Invalid, match="chmod 600"):
        serve(nobody, plan(folder, taken.getsockname()[1]))


def test_localhost_listens_on_both_families_and_one_port() -> None:
    sockets = bind("localhost", 0)
    try:
        assert len({each.getsockname()[1] for each in sockets}) == 1
    finally:
        for each in sockets:
            each.close()


def test_a_certificate_is_replaced_under_load_on_two_workers(folder: Path) -> None:
    errors: list[BaseException] = []
    stop = threading.Event()

    def pull(running: Member) -> None:
        try:
            with running.dial() as connection:
                while not stop.is_set():
                    connection.sendall(request("/"))
                    assert read_reply(connection).status == 200
        except BaseException as problem:
            errors.append(problem)

    with member(folder, 2) as running:
        pullers = [threading.Thread(target=pull, args=(running,)) for _ in range(6)]
        for puller in pullers:
            puller.start()
        time.sleep(0.3)
        authority = trustme.CA()
        put_pair(authority, folder, "localhost")
        authority.cert_pem.write_to_path(folder / "ca.crt")

        def renewed() -> bool:
            with contextlib.suppress(OSError):
                return len({running.ask()["number"] for _ in range(12)}) == 2
            return False

        wait_until(renewed, 10)
        stop.set()
        for puller in pullers:
            puller.join(10)
        assert errors == []
