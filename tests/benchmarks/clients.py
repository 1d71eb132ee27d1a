"""The clients that make load, each a program of its own: wrk for requests, curl for streams, ours for small pushes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from tests.benchmarks.figures import Sample, costed
from tests.benchmarks.stand import Target

_LUA = Path(__file__).with_name("wrk.lua")
_SECONDS = 600
#: Without it Distribution finds no OCI manifest.
ACCEPT = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True, slots=True)
class Asking:
    """What wrk asks for: the paths in turn, with one method and body; *authorization* may be several, a line each."""

    paths: Sequence[str]
    authorization: str = ""
    method: str = "GET"
    body: str = ""
    body_type: str = ""


def requests(target: Target, asking: Asking, connections: int, seconds: int, scratch: Path) -> Sample:
    """Requests a second, with latencies, over *connections* that stay open; a refused request is an error."""
    with costed(target) as clock:
        found = json.loads(start_wrk(target, asking, connections, seconds, scratch).communicate()[0].splitlines()[-1])
    return clock.sample(
        found["requests"] / (found["microseconds"] / 1e6),
        p50_ms=found["p50"] / 1000,
        p99_ms=found["p99"] / 1000,
        errors=found["errors"],
    )


def start_wrk(target: Target, asking: Asking, connections: int, seconds: int, scratch: Path) -> subprocess.Popen[str]:
    """wrk, begun; the last line that it prints is what it found, as JSON."""
    listed = scratch / f"paths-{target.port}"
    listed.write_text("\n".join(asking.paths) + "\n")
    environment = {**os.environ, "PATHS": str(listed), "METHOD": asking.method, "ACCEPT": ACCEPT}
    optional = {"AUTHORIZATION": asking.authorization, "BODY": asking.body, "TYPE": asking.body_type}
    environment |= {name: value for name, value in optional.items() if value}
    threads = min(2, connections)
    argv = ["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(_LUA), target.url]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment)


def pull(target: Target, path: str, clients: int, authorization: str) -> Sample:
    """GB/s over so many curls at once, each of which pulls the whole of *path*."""
    argv = curl(target, authorization, "-o", "/dev/null", "-w", "%{http_code} %{size_download}\n", target.url + path)
    with costed(target) as clock:
        started = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(clients)]
        told = [each.communicate(timeout=_SECONDS)[0].split() for each in started]
    errors = sum(code != "200" for code, _ in told)
    return clock.sample(sum(int(size) for _, size in told) / clock.seconds / 1e9, errors=errors)


def push(target: Target, repository: str, files: Mapping[str, Path], authorization: str) -> Sample:
    """GB/s over one curl for each file, all at once, each from POST until PUT has been answered."""
    with costed(target) as clock:
        begun = [subprocess.Popen(_begin(target, repository, authorization), **_PIPED) for _ in files]
        places = [_location(target, each.communicate(timeout=_SECONDS)[0]) for each in begun]
        sent = [
            subprocess.Popen(_send(target, place, file, authorization), **_PIPED)
            for place, file in zip(places, files.values(), strict=True)
        ]
        places = [_location(target, each.communicate(timeout=_SECONDS)[0]) for each in sent]
        ended = [
            subprocess.Popen(_finish(target, place, digest, authorization), **_PIPED)
            for place, digest in zip(places, files, strict=True)
        ]
        codes = [each.communicate(timeout=_SECONDS)[0].split()[1] for each in ended]
    sent_bytes = sum(file.stat().st_size for file in files.values())
    return clock.sample(sent_bytes / clock.seconds / 1e9, errors=sum(code != "201" for code in codes))


def small_pushes(target: Target, repository: str, blobs: int, size: int, authorization: str, seed: str) -> Sample:
    """Blobs a second, pushed over 16 connections of two processes, each by POST and PUT."""
    told = {"port": target.port, "repository": repository, "authorization": authorization, "size": size}
    shares = [{**told, "count": blobs // 2, "connections": 8, "seed": f"{seed}/{number}"} for number in range(2)]
    return _own(target, "pusher", shares)


def heads(target: Target, path: str, authorization: str, connections: int, seconds: int) -> Sample:
    """HEADs a second, from one process or two."""
    told = {"port": target.port, "path": path, "authorization": authorization, "seconds": seconds, "accept": ACCEPT}
    count = min(2, connections)
    return _own(target, "header", [{**told, "connections": connections // count}] * count)


def _own(target: Target, program: str, shares: Sequence[Mapping[str, object]]) -> Sample:
    """Runs a program of ours once for each share of the work, all beginning together."""
    argv = [sys.executable, "-m", f"tests.benchmarks.{program}"]
    processes = [subprocess.Popen(argv, stdin=subprocess.PIPE, **_PIPED) for _ in shares]
    for share, each in zip(shares, processes, strict=True):
        _tell(each, json.dumps(share))
        if each.stdout is None or each.stdout.readline().strip() != "ready":
            raise RuntimeError(f"{program} did not begin")
    with costed(target) as clock:
        for each in processes:
            _tell(each, "go")
        found = [json.loads(each.communicate(timeout=_SECONDS)[0]) for each in processes]
    latencies = sorted(latency for each in found for latency in each["latencies"])
    # What a process spent before it was ready is not part of the work.
    clock.client_seconds = sum(each["processor"] for each in found)
    clock.seconds = max(each["ended"] for each in found) - min(each["begun"] for each in found)
    return clock.sample(
        len(latencies) / clock.seconds,
        p50_ms=latencies[len(latencies) // 2] * 1000 if latencies else None,
        p99_ms=latencies[int(len(latencies) * 0.99)] * 1000 if latencies else None,
        errors=sum(each["errors"] for each in found),
    )


def _tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def put(target: Target, repository: str, digest: str, file: Path, authorization: str) -> None:
    """Pushes a blob that is to be there; raises when the target does not take it."""
    if push(target, repository, {digest: file}, authorization).errors:
        raise RuntimeError(f"{target.name} did not take {digest}")


def put_manifest(
    target: Target, repository: str, tag: str, content: bytes, media_type: str, authorization: str
) -> None:
    """Pushes a manifest; raises when the target does not take it."""
    url = f"{target.url}/v2/{repository}/manifests/{tag}"
    argv = curl(target, authorization, "-X", "PUT", "-H", f"Content-Type: {media_type}", "--data-binary", "@-", url)
    ended = subprocess.run([*argv, "-f"], input=content, capture_output=True, timeout=60)
    if ended.returncode:
        raise RuntimeError(f"{target.name} did not take the manifest: {ended.stderr.decode()}")


def fetch(target: Target, path: str, authorization: str) -> tuple[float, int, str]:
    """One request: seconds until the last byte as curl counts them, handshake apart; status; the next page's path."""
    url = urljoin(target.url, path)
    written = "%{http_code} %{time_starttransfer} %{time_total} %{time_appconnect}\n"
    argv = curl(target, authorization, "-D", "-", "-o", "/dev/null", "-w", written, url)
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=_SECONDS)
    *head, last = ended.stdout.strip().splitlines()
    code, _, total, connected = last.split()
    links = [line.partition(":")[2].strip() for line in head if line.lower().startswith("link:")]
    return float(total) - float(connected), int(code), links[0].partition(">")[0].strip("<") if links else ""


def curl(target: Target, authorization: str, *arguments: str) -> list[str]:
    """curl over HTTP/1.1, which all targets speak; it does not ask before it sends."""
    told = ["-H", f"Authorization: {authorization}"] if authorization else []
    return ["curl", "-sS", "--http1.1", "--cacert", str(target.ca), "-H", "Expect:", *told, *arguments]


def _begin(target: Target, repository: str, authorization: str) -> list[str]:
    url = f"{target.url}/v2/{repository}/blobs/uploads/"
    return curl(target, authorization, "-X", "POST", "-D", "-", "-o", "/dev/null", "-H", "Content-Length: 0", url)


def _send(target: Target, place: str, file: Path, authorization: str) -> list[str]:
    kind = "Content-Type: application/octet-stream"
    return curl(target, authorization, "-X", "PATCH", "-D", "-", "-o", "/dev/null", "-H", kind, "-T", str(file), place)


def _finish(target: Target, place: str, digest: str, authorization: str) -> list[str]:
    url = f"{place}{'&' if '?' in place else '?'}digest={digest}"
    return curl(target, authorization, "-X", "PUT", "-D", "-", "-o", "/dev/null", "-H", "Content-Length: 0", url)


def _location(target: Target, head: str) -> str:
    for line in head.splitlines():
        name, _, value = line.partition(":")
        if name.lower() == "location":
            return urljoin(target.url, value.strip())
    raise RuntimeError(f"{target.name} did not say where to upload: {head}")


_PIPED: Any = {"stdout": subprocess.PIPE, "text": True}
