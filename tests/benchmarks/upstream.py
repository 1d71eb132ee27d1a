"""In front of a registry that runs already: what the way through costs, and how fast one moves in or out."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import ssl
import subprocess
import time
from http.client import HTTPSConnection
from pathlib import Path

from tests.benchmarks import clients, memory
from tests.benchmarks.clients import Asking
from tests.benchmarks.content import image_manifest, make_file
from tests.benchmarks.figures import Book, Case, Sample
from tests.benchmarks.pusher import small_blobs
from tests.benchmarks.sizes import MIB, Sizes
from tests.benchmarks.stand import PROJECT, Distribution, Gateway, Stand, Target, command
from tests.services.images import OCI_MANIFEST

REPOSITORY = f"{PROJECT}/behind"
_NOTE = (
    "The registry behind serves in clear to the gateway, and over its own TLS, without a credential, to the client "
    "that goes straight to it. nginx is the ceiling of a pull: in front of the same registry as the gateway, it checks "
    "no digest, no right, and records nothing; its static file is what TLS and the client cost here at all."
)


def measure_front(stand: Stand, sizes: Sizes, book: Book) -> None:
    """Pulls, pushes and manifests through the gateway and straight to the same registry, in turns."""
    files = stand.directory / "front"
    files.mkdir()
    with stand.behind() as (gateway, straight):
        both: list[Target] = [gateway, straight]
        with stand.reading(_url_behind(gateway), straight.content) as reading:
            _measure_pull(stand, files, sizes, book, [*both, reading])
        _measure_push(files, sizes, book, both)
        _measure_manifests(stand, sizes, book, gateway, straight)


def _measure_pull(stand: Stand, files: Path, sizes: Sizes, book: Book, targets: list[Target]) -> None:
    gateway, straight, _ = targets
    assert isinstance(gateway, Gateway)
    digest, big = make_file(files, sizes.big_bytes)
    clients.put(straight, REPOSITORY, digest, big, "")

    def pulled(target: Target, _: int) -> Sample:
        return clients.pull(target, target.path(REPOSITORY, digest), 1, target.authorization(REPOSITORY))

    name = f"in front of a registry: pull {sizes.big_bytes // MIB} MiB"
    case = Case(name, "front", "GB/s", bytes=sizes.big_bytes, note=_NOTE)
    with stand.nginx(front_of=_url_behind(gateway)) as passing, stand.nginx(files) as static:
        book.alternate(case, [*targets, passing, static], sizes.rounds, pulled)
    big.unlink()


def _measure_push(files: Path, sizes: Sizes, book: Book, both: list[Target]) -> None:
    def pushed(target: Target, _: int) -> Sample:
        digest, file = make_file(files, sizes.big_bytes)
        try:
            return clients.push(target, REPOSITORY, {digest: file}, target.authorization(REPOSITORY))
        finally:
            file.unlink()

    # Memory that a virtual machine has never used, or has given back, comes slowly: not counted is who takes it first.
    for target in both:
        pushed(target, 0)
    name = f"in front of a registry: push {sizes.big_bytes // MIB} MiB"
    case = Case(name, "front", "GB/s", bytes=sizes.big_bytes, note=_NOTE)
    book.alternate(case, both, 2 * sizes.heavy_rounds, pushed)


def _measure_manifests(stand: Stand, sizes: Sizes, book: Book, gateway: Gateway, straight: Distribution) -> None:
    blobs = small_blobs("behind", 8, sizes.small_bytes)
    for blob, digest in blobs:
        file = stand.directory / "front" / digest.partition(":")[2]
        file.write_bytes(blob)
        clients.put(gateway, REPOSITORY, digest, file, gateway.authorization(REPOSITORY))
    manifest = image_manifest([(digest, sizes.small_bytes) for _, digest in blobs], (blobs[0][1], sizes.small_bytes))
    clients.put_manifest(gateway, REPOSITORY, "v1", manifest, OCI_MANIFEST, gateway.authorization(REPOSITORY))
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    for what, reference in (("digest", digest), ("tag", "v1")):
        path = f"/v2/{REPOSITORY}/manifests/{reference}"

        def asked(target: Target, _: int, path: str = path) -> Sample:
            asking = Asking([path], target.authorization(REPOSITORY))
            return clients.requests(target, asking, 16, sizes.request_seconds, stand.directory)

        case = Case(
            f"in front of a registry: manifest GET by {what}, 16 connections", "front", "requests/s", note=_NOTE
        )
        book.alternate(case, [gateway, straight], sizes.rounds, asked)


def measure_front_memory(stand: Stand, sizes: Sizes, book: Book) -> None:
    """What each of many slow streams adds to the memory of a gateway that has done nothing else."""
    case = Case("in front of a registry: memory for each slow stream", "front-memory", "MiB", "less")
    for name, count in (("pull", sizes.pulls), ("upload", sizes.uploads)):
        with stand.behind() as (gateway, straight):
            digest, file = make_file(stand.directory, sizes.pull_bytes)
            clients.put(straight, REPOSITORY, digest, file, "")
            file.unlink()
            told: dict[str, object] = {"state": name, "count": count, "bytes": 1 << 30}
            told["path"] = gateway.path(REPOSITORY, digest)
            rest = memory.held(gateway, REPOSITORY, {}, sizes.hold_seconds)
            found = memory.held(gateway, REPOSITORY, told, sizes.hold_seconds)
        each = (found.value - rest.value) / count
        case.samples[f"gateway in front, {name}"] = [Sample(each, found.seconds, errors=found.errors)]
    book.tell(book.add(case))


def measure_adoption(stand: Stand, sizes: Sizes, book: Book) -> None:
    """Manifests a second that `gateway adopt` indexes from a registry on this machine."""
    with stand.behind() as (gateway, straight):
        _fill_images(straight, stand.directory, sizes.adopted)
        gateway.daemon.stop()
        begun = time.perf_counter()
        command(gateway.data, "adopt", _url_behind(gateway))
        took = time.perf_counter() - begun
        case = Case(f"adopt a registry of {sizes.adopted:,} manifests", "adopt", "manifests/s")
        case.samples["gateway"] = [Sample(sizes.adopted / took, took)]
        book.tell(book.add(case))


def measure_import(stand: Stand, sizes: Sizes, book: Book) -> None:
    """A volume of big blobs brought into the embedded engine, and copied by `cp -r`."""
    with stand.behind() as (gateway, straight):
        files = stand.directory / "volume-files"
        files.mkdir()
        made = [make_file(files, sizes.push_bytes) for _ in range(sizes.imported)]
        for digest, file in made:
            clients.put(straight, REPOSITORY, digest, file, "")
        parts = [(digest, sizes.push_bytes) for digest, _ in made]
        clients.put_manifest(straight, REPOSITORY, "v1", image_manifest(parts, parts[0]), OCI_MANIFEST, "")
        shutil.rmtree(files)
        gateway.daemon.stop()
        case = Case(
            f"import a volume of {sizes.imported} × {sizes.push_bytes // MIB} MiB",
            "import",
            "GB/s",
            note="Imported bytes are hashed and synced; `cp -r` is followed by a sync of what it wrote.",
        )
        targets = {"gateway import": _imported, "cp -r": _copied}
        # As with pushes, who first takes memory that a virtual machine has never used is not counted.
        for number in range(1 + 2 * sizes.heavy_rounds):
            for name in list(targets) if number % 2 else list(reversed(targets)):
                os.sync()
                sample = targets[name](stand, straight.content, sizes)
                if number:
                    case.samples.setdefault(name, []).append(sample)
        book.tell(book.add(case))


def _imported(stand: Stand, volume: Path, sizes: Sizes) -> Sample:
    data = stand.fresh_data()
    begun = time.perf_counter()
    command(data, "import", str(volume))
    took = time.perf_counter() - begun
    shutil.rmtree(data)
    return Sample(sizes.imported * sizes.push_bytes / took / 1e9, took)


def _copied(stand: Stand, volume: Path, sizes: Sizes) -> Sample:
    copy = stand.directory / "copy"
    begun = time.perf_counter()
    subprocess.run(["cp", "-r", str(volume), str(copy)], check=True)
    for path in copy.rglob("data"):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    took = time.perf_counter() - begun
    shutil.rmtree(copy)
    return Sample(sizes.imported * sizes.push_bytes / took / 1e9, took)


def _fill_images(straight: Distribution, scratch: Path, count: int) -> None:
    """So many manifests, each with a tag of its own, in repositories of a hundred."""
    blob, digest = small_blobs("adopted", 1, 1024)[0]
    file = scratch / "adopted"
    file.write_bytes(blob)
    told = json.loads(image_manifest([(digest, 1024)], (digest, 1024)))
    connection = HTTPSConnection("127.0.0.1", straight.port, context=ssl.create_default_context(cafile=straight.ca))
    for number in range(count):
        repository = f"{PROJECT}/adopted{number // 100}"
        if number % 100 == 0:
            clients.put(straight, repository, digest, file, "")
        manifest = json.dumps({**told, "annotations": {"number": str(number)}})
        path = f"/v2/{repository}/manifests/t{number}"
        connection.request("PUT", path, manifest, {"Content-Type": OCI_MANIFEST})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 201:
            raise RuntimeError(f"the registry did not take manifest {number}")
    connection.close()


def _url_behind(gateway: Gateway) -> str:
    lines = (gateway.data / "gateway.toml").read_text().splitlines()
    return next(line.split('"')[1] for line in lines if line.startswith("url = "))
