"""How pages take longer as there is more to list: tags, repositories, referrers, events."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from urllib.parse import quote

from gateway.access.secrets import Secrets
from gateway.audit.trail import Search
from gateway.records.database import Database
from gateway.records.trail import SqlTrail
from tests.benchmarks import fill
from tests.benchmarks.figures import Book, Case, Sample
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.stand import ADMINISTRATOR, PASSWORD, Distribution, Gateway, Stand, Target, command

_REPEATS = 9
_PAGE = 100
_CATALOG = "registry:catalog:*"


def measure_tags(stand: Stand, sizes: Sizes, book: Book) -> None:
    data = stand.fresh_data()
    with fill.filling(data) as (_, connection):
        for count in sizes.tag_counts:
            fill.add_tags(connection, f"tags{count}/all", count)
    with stand.gateway(1, data=data) as gateway:
        for count in sizes.tag_counts:
            repository = f"tags{count}/all"
            authorization = _administrator(gateway, f"repository:{repository}:pull")
            pages = {"first": "", "middle": fill.tag_name(count // 2), "last": fill.tag_name(count - _PAGE - 1)}
            case = Case(f"tags/list, a page of {_PAGE} of {count:,} tags", "scale-tags", "ms", "less")
            for page, last in pages.items():
                path = f"/v2/{repository}/tags/list?n={_PAGE}&last={last}"
                case.samples[f"gateway, {page} page"] = times(gateway, path, authorization)
            book.tell(book.add(case))
    with stand.distribution() as peer:
        case = Case("tags/list, every tag (Distribution 2.8 has no pages)", "scale-tags-peer", "ms", "less")
        for count in (each for each in sizes.tag_counts if each <= sizes.peer_tags):
            _peer_tags(peer, f"bench/tags{count}", count)
            authorization = peer.authorization(f"bench/tags{count}")
            case.samples[f"{count:,}"] = times(peer, f"/v2/bench/tags{count}/tags/list", authorization, 3)
        book.tell(book.add(case))


def measure_catalog(stand: Stand, sizes: Sizes, book: Book) -> None:
    data = stand.fresh_data()
    with fill.filling(data) as (_, connection):
        fill.add_repositories(connection, "few", range(10))
    fill.add_users(data, ["ten"], PASSWORD)
    command(data, "grant", "add", "ten", "puller", "few")
    there = 0
    with stand.gateway(1, data=data) as gateway:
        for count in sizes.repository_counts:
            with fill.filling(data) as (_, connection):
                for number in range(100):
                    fill.add_repositories(connection, f"p{number:02}", range(there // 100, count // 100))
            there = count
            book.tell(book.add(_catalog(gateway, count)))
    with stand.distribution() as peer:
        case = Case(f"_catalog, the last page of {_PAGE} (Distribution)", "scale-catalog-peer", "ms", "less")
        for count in (each for each in sizes.repository_counts if each <= sizes.peer_repositories):
            _peer_repositories(peer, count)
            path = f"/v2/_catalog?n={_PAGE}&last={quote(f'p/r{count - _PAGE:07}')}"
            case.samples[f"{count:,}"] = times(peer, path, peer.authorization(), 3)
        book.tell(book.add(case))


def _catalog(gateway: Gateway, count: int) -> Case:
    case = Case(f"_catalog, a page of {_PAGE} of {count:,} repositories", "scale-catalog", "ms", "less")
    administrator = _administrator(gateway, _CATALOG)
    last = quote(f"p99/r{max(0, count // 100 - _PAGE):07}")
    askers = {
        "administrator, first page": ("", administrator),
        "administrator, last page": (last, administrator),
        "user who may see 10": ("", f"Bearer {gateway.token('ten', PASSWORD, [_CATALOG])['token']}"),
    }
    for name, (after, authorization) in askers.items():
        case.samples[name] = times(gateway, f"/v2/_catalog?n={_PAGE}&last={after}", authorization)
    return case


def measure_referrers(stand: Stand, sizes: Sizes, book: Book) -> None:
    data = stand.fresh_data()
    subject = "sha256:" + "ab" * 32
    with fill.filling(data) as (_, connection):
        fill.add_referrers(connection, "about/it", subject, sizes.referrers)
        fill.add_referrers(connection, "about2/it", subject, 10)
    with stand.gateway(1, data=data) as gateway:
        case = Case(f"referrers, {sizes.referrers:,} of one subject", "scale-referrers", "ms", "less")
        path = f"/v2/about/it/referrers/{subject}"
        authorization = _administrator(gateway, "repository:about/it:pull")
        case.samples["first page of 1,000"] = times(gateway, path, authorization)
        case.samples["last page"] = times(gateway, f"{path}?last={quote('sha256:f')}", authorization)
        authorization = _administrator(gateway, "repository:about2/it:pull")
        case.samples["all of 10"] = times(gateway, f"/v2/about2/it/referrers/{subject}", authorization)
        book.tell(book.add(case))


def measure_audit(stand: Stand, sizes: Sizes, book: Book) -> None:
    """The trail's own pages, without a network between."""
    data = stand.fresh_data()
    for count in sizes.event_counts:
        with fill.filling(data) as (_, connection):
            fill.add_events(connection, data, count)
        database = Database.open(f"sqlite:///{data / 'gateway.db'}", data)
        try:
            secrets = Secrets.load(data / "keys")
            trail = SqlTrail(database, secrets.trail, secrets.checkpoints)
            case = Case(f"audit list, a page of {_PAGE} of {count:,} events", "scale-audit", "ms", "less")
            for name, search in searches(count).items():
                case.samples[name] = _timed(partial(trail.page, search, limit=_PAGE), 5)
            book.tell(book.add(case))
        finally:
            database.close()


def searches(count: int) -> dict[str, Search]:
    """A search by every filter, and where filters meet, of a trail with *count* events."""
    middle = fill.event_time(count // 2)
    return {
        "no filter": Search(),
        "project": Search(project="p007"),
        "repository": Search(repository="p007/r0107"),
        "principal": Search(principal="p007+ci"),
        "kind, most": Search(kind="manifest.pull"),
        "kind, one in 1,000": Search(kind="manifest.push"),
        "kind.*": Search(kind="manifest.*"),
        "outcome, one in 1,000": Search(outcome="denied"),
        "digest": Search(digest=fill.event_digest(77)),
        "address": Search(address="10.0.7.7"),
        "since": Search(since=middle),
        "until": Search(until=middle),
        "nobody's": Search(principal="nobody"),
        "project and outcome": Search(project="p000", outcome="denied"),
        "project without any such outcome": Search(project="p007", outcome="denied"),
        "an hour in the middle, denied": Search(since=middle, until=middle + timedelta(hours=1), outcome="denied"),
    }


def _timed(work: Callable[[], object], repeats: int) -> list[Sample]:
    found = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        took = time.perf_counter() - begun
        found.append(Sample(took * 1000, took))
        if took > 10:
            break
    return found


def times(target: Target, path: str, authorization: str, repeats: int = _REPEATS) -> list[Sample]:
    """Milliseconds from request to last byte on one connection; the first, which opens it, is left out."""
    trusted = ssl.create_default_context(cafile=str(target.ca))
    connection = http.client.HTTPSConnection("127.0.0.1", target.port, context=trusted, timeout=300)
    found = []
    try:
        for number in range(repeats + 1):
            begun = time.perf_counter()
            connection.request("GET", path, headers={"Authorization": authorization})
            answer = connection.getresponse()
            answer.read()
            took = time.perf_counter() - begun
            if number:
                found.append(Sample(took * 1000, took, errors=int(answer.status != 200)))
    finally:
        connection.close()
    return found


def _administrator(gateway: Gateway, scope: str) -> str:
    return f"Bearer {gateway.token(ADMINISTRATOR, PASSWORD, [scope])['token']}"


def _peer_tags(peer: Distribution, repository: str, count: int) -> None:
    """Names where Distribution lists them; what they would point at, it does not look for."""
    directory = peer.content / "docker/registry/v2/repositories" / repository / "_manifests/tags"
    directory.mkdir(parents=True)
    for number in range(count):
        (directory / fill.tag_name(number)).touch()


def _peer_repositories(peer: Distribution, count: int) -> None:
    for number in range(count):
        directory = peer.content / f"docker/registry/v2/repositories/p/r{number:07}/_layers"
        directory.mkdir(parents=True, exist_ok=True)
