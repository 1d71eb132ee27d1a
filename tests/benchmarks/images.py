"""Whole images, pushed and pulled by skopeo: one alone, and a crowd at once."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.figures import Book, Case, Sample, costed
from tests.benchmarks.sizes import KIB, MIB
from tests.benchmarks.stand import PROJECT, Target
from tests.benchmarks.transfers import Field
from tests.services.images import Layout

_SECONDS = 600
_NOTE = "skopeo brings its token along: Distribution has no token endpoint of its own to ask."


def measure_images(field: Field, book: Book) -> None:
    sizes = field.sizes
    _race(field, book, "skopeo", [sizes.layer_bytes] * sizes.layers, 1, sizes.heavy_rounds)
    crowd = [sizes.crowd_layer_bytes] * sizes.layers
    _race(field, book, f"{sizes.crowd} skopeos at once", crowd, sizes.crowd, min(2, sizes.heavy_rounds))


def _race(field: Field, book: Book, who: str, layers: Sequence[int], count: int, rounds: int) -> None:
    size = f"{layers[0] // MIB} MiB" if layers[0] >= MIB else f"{layers[0] // KIB} KiB"
    moved = sum(layers) * count
    pushed = Case(f"{who}: push an image of {len(layers)} × {size}", "images", "seconds", "less", _NOTE, moved)
    pulled = Case(f"{who}: pull an image of {len(layers)} × {size}", "images", "seconds", "less", _NOTE, moved)
    for number in range(rounds):
        # skopeo remembers what a registry has: whatever must be uploaded is new.
        layout = Layout.create(field.scratch / f"layout-{count}-{number}")
        for each in range(count):
            layout.add_image(f"i{each}", layers, seed=os.getpid() * 1000 + number * 100 + each + count * 10_000)
        for target in field.registries:
            sample = _together(target, [_push(field, target, layout, each) for each in range(count)])
            pushed.samples.setdefault(target.name, []).append(sample)
        for target in field.registries:
            sample = _together(target, [_pull(field, target, each) for each in range(count)])
            pulled.samples.setdefault(target.name, []).append(sample)
            shutil.rmtree(field.scratch / "pulled", ignore_errors=True)
        shutil.rmtree(layout.directory)
    for case in (pushed, pulled):
        book.tell(book.add(case))


def _together(target: Target, commands: Sequence[Sequence[str]]) -> Sample:
    with costed(target) as clock:
        piped = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        started = [subprocess.Popen(argv, env=_environment(), **piped) for argv in commands]  # type: ignore[call-overload]
        codes = [each.wait(_SECONDS) for each in started]
    return clock.sample(clock.seconds, errors=sum(code != 0 for code in codes))


def _push(field: Field, target: Target, layout: Layout, number: int) -> list[str]:
    return [*_copy("dest", field, target, number), layout.source(f"i{number}"), _name(target, number)]


def _pull(field: Field, target: Target, number: int) -> list[str]:
    to = field.scratch / "pulled" / str(number)
    to.mkdir(parents=True)
    return [*_copy("src", field, target, number), _name(target, number), f"dir:{to}"]


def _copy(side: str, field: Field, target: Target, number: int) -> list[str]:
    authorities = field.scratch / "authorities"
    authorities.mkdir(exist_ok=True)
    shutil.copyfile(target.ca, authorities / "ca.crt")
    token = target.authorization(_repository(number)).partition(" ")[2]
    argv = ["skopeo", "copy", "--insecure-policy", "-q"]
    return [*argv, f"--{side}-cert-dir", str(authorities), f"--{side}-registry-token", token]


def _repository(number: int) -> str:
    return f"{PROJECT}/crowd{number}"


def _name(target: Target, number: int) -> str:
    return f"docker://127.0.0.1:{target.port}/{_repository(number)}:v1"


def _environment() -> dict[str, str]:
    """The caller's, without what would send the client elsewhere."""
    dropped = {"REGISTRY_AUTH_FILE", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"}
    return {key: value for key, value in os.environ.items() if key not in dropped} | {"TMPDIR": str(Path("/tmp"))}
