from __future__ import annotations

import asyncio
import json
import os
import pty
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.app import opened
from gateway.cli.importing import size_text
from gateway.oci.digest import Digest
from gateway.oci.names import Repository, parse_reference
from gateway.settings import Settings
from tests.cli.line import PROGRAM, Line, Said
from tests.services.clients import Skopeo
from tests.services.daemon import scratch
from tests.services.distribution import Registry, Way, running_registry
from tests.services.gateway import peak_memory_bytes, running_gateway
from tests.services.images import Layout
from tests.services.volume import IMAGE, WrittenVolume, digest_of, named

KEYS = {
    "source",
    "plan",
    "repositories",
    "copied",
    "already_there",
    "bytes",
    "seconds",
    "projects",
    "kept",
    "broken",
}
UI = "gallery/ui"


@pytest.fixture
def volume(tmp_path: Path) -> WrittenVolume:
    """Two repositories in two projects: three tags, and a signature without one."""
    written = WrittenVolume(tmp_path / "volume")
    image = written.image(UI, "v1", layers=[b"one", b"two"])
    written.index(UI, "multi", of=[image])
    written.image(UI, layers=[b"signed"], subject=named(image, IMAGE))
    written.image("garden/ui", "v1")
    return written


@pytest.fixture
def skopeo() -> Iterator[Skopeo]:
    with scratch("home") as home:
        yield Skopeo(home / "skopeo")


def manifest_in(folder: Path, repository: str, reference: str) -> bytes:
    with opened(Settings.for_data(folder, {})) as rooms:
        found = rooms.engine.manifests.find(Repository(repository), parse_reference(reference))
        return asyncio.run(found).content


def blob_in(folder: Path, repository: str, digest: str) -> bytes:
    with opened(Settings.for_data(folder, {})) as rooms:

        async def read() -> bytes:
            blob = await rooms.engine.blobs.find(Repository(repository), Digest(digest))
            return b"".join([piece async for piece in rooms.engine.blobs.read(blob, 0, blob.size_bytes - 1)])

        return asyncio.run(read())


# the command


def test_an_import_reports_what_came_and_again_what_was_there(line: Line, volume: WrittenVolume) -> None:
    first = line.done("import", str(volume.folder), "--json").json
    assert set(first) == KEYS
    assert first["copied"] == {"manifests": 4, "tags": 3, "blobs": 5, "linked": 0}
    assert (first["repositories"], first["kept"], first["broken"]) == (2, [], [])
    assert [(each["project"], each["new"]) for each in first["projects"]] == [("gallery", True), ("garden", True)]
    again = line.done("import", str(volume.folder), "--json").json
    assert again["copied"] == {"manifests": 0, "tags": 0, "blobs": 0, "linked": 0}
    assert (again["already_there"]["manifests"], again["already_there"]["tags"], again["bytes"]) == (4, 3, 0)
    assert [row["name"] for row in line.done("repository", "list", "--json").json] == [UI, "garden/ui"]
    events = line.events("--kind", "repository.import")
    assert len(events) == 4
    assert line.done("audit", "verify").status == 0


def test_a_plan_changes_nothing_and_one_project_comes_alone(line: Line, volume: WrittenVolume) -> None:
    said = line.done("import", str(volume.folder), "--plan")
    assert [row.split()[:3] for row in said.out.splitlines()[1:3]] == [["gallery", "yes", "1"], ["garden", "yes", "1"]]
    assert "would come; 0 broken." in said.out
    assert line.done("repository", "list", "--json").json == []
    line.done("import", str(volume.folder), "--project", "garden")
    assert [row["name"] for row in line.done("repository", "list", "--json").json] == ["garden/ui"]
    assert line("import", str(volume.folder), "--project", "nobody").status == 1


def test_what_is_broken_is_listed_and_makes_the_exit_status_1(line: Line, volume: WrittenVolume) -> None:
    volume.blob_file(digest_of(b"two")).write_bytes(b"2")
    said = line("import", str(volume.folder))
    assert said.status == 1
    assert f"  {UI} v1@sha256:" in said.out
    assert "its bytes have the digest" in said.out
    assert said.out.splitlines()[-1].endswith("; 2 broken.")
    told = line("import", str(volume.folder), "--json")
    assert told.status == 1
    assert {each["what"].partition("@")[0] for each in told.json["broken"]} == {"v1", "multi"}
    assert all(each["repository"] == UI and each["reason"] for each in told.json["broken"])


def test_a_name_that_could_command_a_terminal_is_spelled_out(line: Line, volume: WrittenVolume) -> None:
    (volume.root / "repositories" / "\x1b[31mred" / "_manifests").mkdir(parents=True)
    said = line("import", str(volume.folder))
    assert said.status == 1
    assert "\x1b" not in said.out + said.err
    assert "\\x1b[31mred" in said.out


def test_progress_is_plain_lines_beside_the_report(line: Line, volume: WrittenVolume) -> None:
    said = line.done("import", str(volume.folder))
    assert said.err.splitlines() == [f"[1/2] {UI}", "[2/2] garden/ui"]
    assert said.out.splitlines()[0].split() == ["COPIED", "ALREADY", "THERE"]
    assert line.done("import", str(volume.folder), "--json").err == ""


def test_progress_is_a_bar_on_a_terminal(line: Line, volume: WrittenVolume) -> None:
    terminal, end = pty.openpty()
    command = [str(PROGRAM), "--data", str(line.folder), "import", str(volume.folder)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=end, env=environment, timeout=60)
    os.close(end)
    shown = os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    assert ended.returncode == 0
    assert "garden/ui" in shown
    assert "━" in shown
    assert "[1/2]" not in shown


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("nowhere",), 2),
        (("http://127.0.0.1:1", "--link"), 2),
        (("http://user:secret@127.0.0.1:1",), 2),
        (("http://127.0.0.1:1", "--username", "me"), 2),
        (("http://127.0.0.1:1",), 5),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(line: Line, words: tuple[str, ...], status: int) -> None:
    said = line("import", *words)
    assert said.status == status
    assert len(said.err.splitlines()) == 1
    assert "secret" not in said.err


def test_a_gateway_in_front_of_another_registry_imports_nothing(line: Line, volume: WrittenVolume) -> None:
    config = line.folder / "front.toml"
    config.write_text(f'[engine]\nkind = "upstream"\nurl = "http://127.0.0.1:1"\nroot = "{line.folder}"\n')
    ended = subprocess.run(
        [str(PROGRAM), "--config", str(config), "import", str(volume.folder)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 4, ended.stderr


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB"), (1 << 60, "1048576.0 TiB")],
)
def test_sizes_are_told_in_the_unit_that_fits(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.long
def test_twenty_thousand_tags_of_five_gigabytes_come_in_bounded_memory(line: Line) -> None:
    with scratch("big") as home:
        volume = WrittenVolume(home / "volume")
        volume.fill(repositories=40, tags=20_000, layer_bytes=2_680_000, layers=2_000)
        command = [str(PROGRAM), "--data", str(line.folder), "import", str(volume.folder), "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            peak = 0
            # Not what wait4 tells: that counts the memory of the process that started it as well.
            while not select.select([process.stdout], [], [], 0.5)[0]:
                peak = max(peak, peak_memory_bytes(process.pid))
            report = json.loads(process.stdout.read())
        print(report["copied"], report["bytes"], report["seconds"], f"peak {peak >> 20} MiB")
        assert process.returncode == 0
        assert 0 < peak < 256 << 20
        assert (report["copied"]["tags"], report["broken"]) == (20_000, [])
        assert report["bytes"] > 5 << 30
        again = line.done("import", str(volume.folder), "--json").json
        assert (again["bytes"], again["already_there"]["tags"]) == (0, 20_000)
        assert again["seconds"] < 60
    assert line.done("audit", "verify").status == 0


# real registries


def pushed(skopeo: Skopeo, layout: Layout, registry: Registry) -> tuple[list[str], list[str]]:
    """Fills a real registry with an image and an index; the digests of the manifests and of the blobs."""
    image = layout.add_image("v1", [300_000, 1])
    index, images = layout.add_index("multi", [5_000])
    for tag in ("v1", "multi"):
        options = ["--all", "--dest-tls-verify=false"]
        if registry.username:
            options += ["--dest-creds", f"{registry.username}:{registry.password}"]
        skopeo.push(layout.source(tag), f"127.0.0.1:{registry.port}/{UI}:{tag}", *options).must()
    every = [image, *images]
    blobs = [blob.digest for each in every for blob in (each.config, *each.layers)]
    return [index.digest, *(each.manifest.digest for each in every)], blobs


@pytest.mark.parametrize("way", list(Way))
def test_any_registry_is_read_through_its_api(line: Line, skopeo: Skopeo, way: Way) -> None:
    with scratch("old") as home, running_registry(home, way) as registry:
        layout = Layout.create(home / "layout")
        manifests, blobs = pushed(skopeo, layout, registry)
        options = ["--username", registry.username, "--password-stdin"] if registry.username else []
        options += ["--ca-file", str(registry.ca_file)] if registry.ca_file else []
        secret = registry.password.encode()
        said = line.program("import", registry.url, "--json", *options, stdin=secret)
        assert (said.status, said.json["broken"]) == (0, []), said
        assert (said.json["copied"]["tags"], said.json["copied"]["manifests"]) == (2, len(manifests) + 1)
        again = line.program("import", registry.url, "--json", *options, stdin=secret)
        assert (again.json["copied"]["manifests"], again.json["already_there"]["tags"]) == (0, 2)
        for digest in manifests:
            assert manifest_in(line.folder, UI, digest) == layout.read(digest)
        for digest in blobs:
            assert blob_in(line.folder, UI, digest) == layout.read(digest)


def test_a_registry_that_sends_wrong_bytes_is_not_believed(line: Line, skopeo: Skopeo) -> None:
    with scratch("old") as home, running_registry(home) as registry:
        layout = Layout.create(home / "layout")
        image = layout.add_image("v1", [300_000])
        layout.add_image("good", [1_000], seed=1)
        for tag in ("v1", "good"):
            skopeo.push(layout.source(tag), f"127.0.0.1:{registry.port}/{UI}:{tag}", "--dest-tls-verify=false").must()
        volume = WrittenVolume(registry.content)
        layer = volume.blob_file(image.layers[0].digest)
        layer.write_bytes(b"x" * layer.stat().st_size)
        said = line("import", registry.url, "--json")
        assert said.status == 1
        assert [each["what"].partition("@")[0] for each in said.json["broken"]] == ["v1"]
        assert [row["name"] for row in line.done("tag", "list", UI, "--json").json] == ["good"]


def test_the_volume_of_a_real_registry_comes_while_the_gateway_runs_and_is_pulled_byte_for_byte(
    line: Line, skopeo: Skopeo
) -> None:
    with scratch("old") as home, running_gateway(name="localhost") as gateway:
        layout = Layout.create(home / "layout")
        with running_registry(home) as registry:
            manifests, blobs = pushed(skopeo, layout, registry)
            imported = gateway.cli("import", str(registry.content), "--json").json()
        assert imported["broken"] == []
        assert imported["copied"]["tags"] == 2
        gateway.cli("project", "set", "gallery", "--public").must()
        trusted = home / "trusted"
        trusted.mkdir()
        (trusted / "ca.crt").write_bytes(gateway.certificate.read_bytes())
        pulled = Layout.create(home / "pulled")
        for tag in ("v1", "multi"):
            reference = f"{gateway.registry}/{UI}:{tag}"
            skopeo.pull(reference, pulled.source(tag), "--all", "--src-cert-dir", str(trusted)).must()
        assert all(pulled.read(digest) == layout.read(digest) for digest in (*manifests, *blobs))
        assert gateway.is_trail_whole()


def test_a_registry_that_lists_referrers_is_followed_to_them(line: Line, volume: WrittenVolume) -> None:
    with running_gateway(name="localhost") as gateway:
        gateway.cli("import", str(volume.folder)).must()
        gateway.add_user("mover", "mover's-long-password", "--admin")
        said: Said = line.program(
            "import",
            f"https://{gateway.registry}",
            "--json",
            *("--ca-file", str(gateway.certificate), "--username", "mover", "--password-stdin"),
            stdin=b"mover's-long-password\n",
        )
        assert (said.status, said.json["broken"]) == (0, []), said
        assert said.json["copied"]["manifests"] == 4
    assert blob_in(line.folder, UI, digest_of(b"signed")) == b"signed"
