"""Scenes about bytes: damaged files, a disk that cannot be read, no descriptors left, clients that vanish."""

from __future__ import annotations

import errno
import os
import resource
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.harness.figures import Figures
from tests.faults.harness.journal import Noun, Thing
from tests.faults.harness.load import injected, loaded
from tests.faults.harness.operations import (
    HERE,
    append,
    begin,
    content_of,
    finish,
    image_of,
    push_blob,
    push_image,
    push_manifest,
    sha256,
)
from tests.faults.harness.oracle import Oracle
from tests.faults.harness.site import Site, Unanswered, folder, running_site
from tests.faults.harness.striking import Mode, Part, Strike
from tests.services.wire import with_digest

_SMALL, _LARGE = 3000, 900_000


def _flip(file: Path) -> None:
    """A bit, and nothing that would tell of it."""
    status = file.stat()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    with file.open("r+b") as opened:
        opened.write(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def _shorten(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _lengthen(file: Path) -> None:
    with file.open("ab") as opened:
        opened.write(b"more")


def _empty(file: Path) -> None:
    os.truncate(file, 0)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "a flipped bit": _flip,
    "a truncated blob": _shorten,
    "a blob grown longer": _lengthen,
    "an empty blob": _empty,
    "a missing blob": Path.unlink,
}


def damaged(figures: Figures) -> None:
    """What is damaged on disk is never given out as whole, a check finds it, and a push heals it."""
    fault = "damaged blobs"
    with running_site() as site:
        numbers = range(2 * len(DAMAGE))
        sizes = [_LARGE if number % 2 else _SMALL for number in numbers]
        contents = [content_of(number, size) for number, size in zip(numbers, sizes, strict=True)]
        for content in contents:
            push_blob(site, content)
        # A process that has read a file whole and right believes it until the file changes: a new one begins anew.
        site.gateway.stop()
        for content, harm in zip(contents, [each for each in DAMAGE.values() for _ in range(2)], strict=True):
            harm(blob_file(site, content))
            injected(figures, fault)
        figures.recovered(fault, site.up())
        for content in contents:
            _pull_damaged(site, figures, fault, content)
        if site.command("check", "--deep").code != 1:
            figures.problem(fault, "check --deep found nothing wrong")
        begun = time.monotonic()
        for content in contents:
            push_blob(site, content)
        figures.recovered(fault, time.monotonic() - begun)
        Oracle(site, figures, fault).conclude()


def blob_file(site: Site, content: bytes) -> Path:
    """Where the bytes lie."""
    digest = sha256(content)[7:]
    return folder(site) / "blobs" / "sha256" / digest[:2] / digest


def _pull_damaged(site: Site, figures: Figures, fault: str, content: bytes) -> None:
    path = f"/v2/{HERE}/blobs/{sha256(content)}"
    try:
        answer = site.client.ask("GET", path)
    except Unanswered:
        return  # refused, or cut off before its end
    if answer.status == 200 and answer.body != content:
        figures.problem(fault, f"{path} was served with other bytes")
        with figures.line(fault) as line:
            line.wrong += 1
    if answer.status == 200 and answer.body == content:
        figures.problem(fault, f"{path} was not damaged at all")


def unreadable(figures: Figures) -> None:
    """A disk that does not give its bytes: at each read of a pull, and nothing wrong is ever whole."""
    fault = "I/O error"
    with running_site() as site:
        for number, size in enumerate((_SMALL, _LARGE)):
            content = content_of(number, size)
            push_blob(site, content)
            path = f"/v2/{HERE}/blobs/{sha256(content)}"
            for at in range(1, 12):
                site.server.arm(Strike(Mode.ERROR, at, Part.BEFORE, ("read", "open"), errno=errno.EIO))
                try:
                    answer = site.client.ask("GET", path, 200)
                    if answer.body != content:
                        figures.problem(fault, f"{path} was served with other bytes")
                        with figures.line(fault) as line:
                            line.wrong += 1
                except Unanswered:
                    pass
                found = site.server.struck()
                site.server.arm()
                injected(figures, fault, len(found))
                if not found:
                    break
        # The scrub of suspects reads them again, and finds nothing wrong.
        Oracle(site, figures, fault).conclude()


def no_descriptors(figures: Figures) -> None:
    """The process may open nothing more, for a while: it says so, and goes on by itself."""
    fault = "too many open files"
    with running_site() as site, loaded(site, figures, fault) as load:
        load.until(4)
        (pid,) = site.gateway.workers()
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        for _ in range(3):
            inside = len(os.listdir(f"/proc/{pid}/fd"))
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (inside - 2, before[1]))
            injected(figures, fault)
            time.sleep(1.0)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
            load.until(4)
        load.stop()
        Oracle(site, figures, fault).conclude()


def vanishing(figures: Figures) -> None:
    """Clients that are gone in the middle of every phase; what they began can be ended, and nothing is left open."""
    fault = "clients that vanish"
    with running_site() as site:
        site.client.ask("GET", "/v2/", 200)
        number = 0
        open_before = _descriptors(site)
        for leave in (_abort, _close):
            for share in (0.0, 0.3, 0.6, 0.9, 1.0):
                for phase in (_in_handshake, _in_chunk, _in_finish, _in_whole, _in_manifest, _in_download):
                    number += 1
                    phase(site, number, share, leave)
                    injected(figures, fault)
        figures.recovered(fault, site.answers())
        site.client.hang_up()
        deadline = time.monotonic() + 10
        while _descriptors(site) > open_before + 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        if _descriptors(site) > open_before + 2:
            figures.problem(fault, f"{_descriptors(site) - open_before} descriptors are left open")
        Oracle(site, figures, fault).conclude()


def _descriptors(site: Site) -> int:
    (pid,) = site.gateway.workers()
    return len(os.listdir(f"/proc/{pid}/fd"))


def _abort(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _close(connection: socket.socket) -> None:
    connection.close()


Leave = Callable[[socket.socket], None]


def _in_handshake(site: Site, number: int, share: float, leave: Leave) -> None:
    raw = socket.create_connection((site.gateway.address, site.gateway.port), timeout=10)
    # The beginning of a client's first message.
    raw.sendall(bytes.fromhex("1603010200010001fc0303")[: int(11 * share)])
    leave(raw)


def _sent(site: Site, method: str, path: str, body: bytes, share: float, leave: Leave, kind: str = "") -> None:
    """A request of which a share is sent, and whose answer nobody waits for."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {site.gateway.registry}\r\nAuthorization: Bearer {site.client.token}\r\n"
    if kind:
        head += f"Content-Type: {kind}\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    with site.gateway.wire.connect() as connection:
        connection.socket.sendall(request[: int(len(request) * share)])
        leave(connection.socket)


def _in_chunk(site: Site, number: int, share: float, leave: Leave) -> None:
    content, location = content_of(number, 200_000), begin(site)
    thing = Thing(Noun.UPLOAD, HERE, location)
    _sent(site, "PATCH", location, content, share, leave)
    # How far it came is the gateway's to say, and it goes on from there: what arrived may be kept.
    sent = _settled(site, location)
    site.journal.observes(thing, str(sent))
    append(site, location, content[sent:], sent) if sent < len(content) else None
    finish(site, location, content)


def _settled(site: Site, location: str) -> int:
    """How much of an upload is there, once nobody writes to it."""
    before = -1
    while True:
        told = site.client.ask("GET", location, 204).headers["range"]
        now = int(told.partition("-")[2])
        if now == before:
            return now + 1 if now else 0
        before = now
        time.sleep(0.15)


def _in_finish(site: Site, number: int, share: float, leave: Leave) -> None:
    content, location = content_of(number, 200_000), begin(site)
    digest = sha256(content)
    site.journal.intends(Thing(Noun.BLOB, HERE, digest), digest)
    site.journal.intends(Thing(Noun.UPLOAD, HERE, location), "")
    _sent(site, "PUT", with_digest(location, digest), content, share, leave)
    push_blob(site, content)


def _in_whole(site: Site, number: int, share: float, leave: Leave) -> None:
    content = content_of(number, 100_000)
    digest = sha256(content)
    site.journal.intends(Thing(Noun.BLOB, HERE, digest), digest)
    _sent(site, "POST", f"/v2/{HERE}/blobs/uploads/?digest={digest}", content, share, leave)
    push_blob(site, content)


def _in_manifest(site: Site, number: int, share: float, leave: Leave) -> None:
    push_image(site, number)
    manifest = image_of(-number, content_of(number))
    digest, kind = sha256(manifest), "application/vnd.oci.image.manifest.v1+json"
    site.journal.intends(Thing(Noun.MANIFEST, HERE, digest), digest)
    _sent(site, "PUT", f"/v2/{HERE}/manifests/{digest}", manifest, share, leave, kind)
    push_manifest(site, manifest)


def _in_download(site: Site, number: int, share: float, leave: Leave) -> None:
    content = content_of(number, 2_000_000)
    push_blob(site, content)
    path = f"/v2/{HERE}/blobs/{sha256(content)}"
    with site.gateway.wire.connect() as connection:
        connection.send("GET", path, token=site.client.token)
        answer = connection.open()
        answer.read(int(len(content) * share))
        leave(connection.socket)
