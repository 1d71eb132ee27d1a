"""Small requests: manifests and heads by tag, heads of blobs, tokens; and what a flood of passwords does to them."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path
from urllib.parse import urlencode

from tests.benchmarks import clients
from tests.benchmarks.clients import Asking
from tests.benchmarks.figures import Book, Case, Sample, costed
from tests.benchmarks.fill import add_users
from tests.benchmarks.stand import ADMINISTRATOR, PASSWORD, PROJECT, Gateway, Stand, Target, basic
from tests.benchmarks.transfers import REPOSITORY, TAG, Field

MANIFEST = f"/v2/{REPOSITORY}/manifests/{TAG}"


def measure_requests(field: Field, book: Book) -> None:
    field.fill_image()
    sizes = field.sizes
    blob = f"/v2/{REPOSITORY}/blobs/{field.small[0]}"
    cases = (
        ("manifest GET by tag", "GET", MANIFEST, sizes.wide_connections),
        ("manifest HEAD by tag", "HEAD", MANIFEST, sizes.head_connections),
        ("blob HEAD", "HEAD", blob, sizes.head_connections),
    )
    for name, method, path, counts in cases:
        for count in counts:

            def measure(target: Target, _: int, method: str = method, path: str = path, count: int = count) -> Sample:
                authorization = target.authorization(REPOSITORY)
                if method == "HEAD":
                    return clients.heads(target, path, authorization, count, sizes.request_seconds)
                return clients.requests(
                    target, Asking([path], authorization), count, sizes.request_seconds, field.scratch
                )

            plural = "s" if count > 1 else ""
            case = Case(f"{name}, {count} connection{plural}", "requests", "requests/s")
            book.alternate(case, field.registries, sizes.rounds, measure)


def measure_audit_cost(field: Field, stand: Stand, book: Book) -> None:
    """The same gateway with its trail and with an imitation that keeps nothing."""
    sizes = field.sizes
    with stand.gateway(1, name="audit on") as audited, stand.gateway(1, name="audit off", audited=False) as unaudited:
        for target in (audited, unaudited):
            _copy_image(field, target)

        def measure(target: Target, _: int) -> Sample:
            asking = Asking([MANIFEST], target.authorization(REPOSITORY))
            return clients.requests(target, asking, 64, sizes.request_seconds, field.scratch)

        case = Case("manifest GET, 64 connections, with the trail and with an imitation", "audit-cost", "requests/s")
        book.alternate(case, [audited, unaudited], sizes.rounds, measure)


def _copy_image(field: Field, target: Target) -> None:
    before, field.registries = field.registries, [target]
    small, field.small = field.small, []
    try:
        field.fill_image()
    finally:
        field.registries, field.small = before, small


def measure_tokens(field: Field, book: Book) -> None:
    gateways: list[Target] = [each for each in field.registries if isinstance(each, Gateway)]
    query = urlencode({"scope": f"repository:{REPOSITORY}:pull,push"})
    path = f"/token?{query}"

    def asked(name: str, count: int, asking: dict[str, Asking]) -> None:
        def measure(target: Target, _: int) -> Sample:
            return clients.requests(target, asking[target.name], count, field.sizes.request_seconds, field.scratch)

        case = Case(f"token: {name}, {count} connections", "tokens", "tokens/s")
        book.alternate(case, gateways, field.sizes.rounds, measure)

    robots: dict[str, Asking] = {}
    kept: dict[str, Asking] = {}
    people: dict[str, Asking] = {}
    for target in gateways:
        assert isinstance(target, Gateway)
        robots[target.name] = Asking([path], basic(f"{PROJECT}+ci", target.secret))
        people[target.name] = Asking([path], basic(ADMINISTRATOR, PASSWORD))
        offline = target.token(ADMINISTRATOR, PASSWORD, [], offline_token="true")["refresh_token"]
        form = {"grant_type": "refresh_token", "service": "registry-gateway", "refresh_token": offline}
        form |= {"client_id": "bench", "scope": f"repository:{REPOSITORY}:pull"}
        kept[target.name] = Asking(["/token"], "", "POST", urlencode(form), "application/x-www-form-urlencoded")
    asked("robot secret", 16, robots)
    asked("offline token", 16, kept)
    asked("password, repeated", 16, people)
    _measure_first_passwords(field, book, gateways, path)


def _measure_first_passwords(field: Field, book: Book, gateways: list[Target], path: str) -> None:
    """Users that nobody has verified yet: each sign-in pays for bcrypt."""
    count = field.sizes.new_users

    def measure(target: Target, number: int) -> Sample:
        assert isinstance(target, Gateway)
        names = [f"u{number}x{each}" for each in range(count)]
        add_users(target.data, names, PASSWORD)
        with costed(target) as clock:
            times, errors = _in_turn(target, path, names)
        times.sort()
        return clock.sample(
            count / clock.seconds,
            p50_ms=times[len(times) // 2] * 1000,
            p99_ms=times[int(len(times) * 0.99)] * 1000,
            errors=errors,
        )

    case = Case(f"token: password, first time, {count} people at once, 4 in flight", "tokens", "tokens/s")
    book.alternate(case, gateways, field.sizes.rounds, measure)


def _in_turn(target: Target, path: str, names: list[str]) -> tuple[list[float], int]:
    waiting, times, codes = list(names), [], []

    def work() -> None:
        while waiting:
            took, code, _ = clients.fetch(target, path, basic(waiting.pop(), PASSWORD))
            times.append(took)
            codes.append(code)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times, sum(code != 200 for code in codes)


def measure_flood(field: Field, book: Book) -> None:
    """Manifest pulls alone, and beside 50 clients that try passwords."""
    field.fill_image()
    seconds = field.sizes.request_seconds
    gateways: list[Target] = [each for each in field.registries if isinstance(each, Gateway)]

    def pulled(target: Target, _: int) -> Sample:
        asking = Asking([MANIFEST], target.authorization(REPOSITORY))
        return clients.requests(target, asking, 16, seconds, field.scratch)

    def flooded(target: Target, number: int) -> Sample:
        asking = Asking([MANIFEST], target.authorization(REPOSITORY))
        flood = _flood(target, seconds + 1, field.scratch)
        time.sleep(0.3)
        try:
            return clients.requests(target, asking, 16, seconds, field.scratch)
        finally:
            flood.communicate()

    book.alternate(Case("manifest GET, 16 connections, alone", "flood", "requests/s"), gateways, 1, pulled)
    name = "manifest GET, 16 connections, beside 50 that try passwords"
    book.alternate(Case(name, "flood", "requests/s"), gateways, 1, flooded)


def _flood(target: Target, seconds: int, scratch: Path) -> subprocess.Popen[str]:
    directory = scratch / "flood"
    directory.mkdir(exist_ok=True)
    return clients.start_wrk(target, Asking(["/token"], basic("nobody", "guess")), 50, seconds, directory)
