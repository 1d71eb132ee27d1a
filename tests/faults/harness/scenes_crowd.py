"""Scenes with many at once: a hundred clients on one thing, and sweeps among everything that could lose a race."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from gateway.oci.media import OCI_INDEX, OCI_MANIFEST
from tests.faults.harness.figures import Figures
from tests.faults.harness.journal import GONE, Acknowledged, Noun, Thing
from tests.faults.harness.load import companion, injected
from tests.faults.harness.operations import (
    CONFIG,
    HERE,
    THERE,
    content_of,
    finish,
    image_of,
    index_of,
    mount,
    push_blob,
    push_image,
    push_manifest,
    sha256,
)
from tests.faults.harness.operations import begin as begin_upload
from tests.faults.harness.oracle import Oracle
from tests.faults.harness.site import Client, Site, Unanswered, running_site

CROWD = 100


def crowd(figures: Figures, clients: int = CROWD) -> None:
    """A hundred clients push one blob, move one tag, and make one project, each at the same moment."""
    fault = "a hundred clients at once"
    with running_site() as site:
        site.client.ask("GET", "/v2/", 200)
        sites = [companion(site) for _ in range(clients)]
        for each in sites:
            # Signing in a hundred times is another test's affair.
            each.client = site.client.alike()
        content = content_of(1, 200_000)
        _together(figures, fault, sites, lambda each, _: finish(each, begin_upload(each), content, content))
        site.journal.observes(Thing(Noun.BLOB, HERE, sha256(content)), sha256(content))
        push_blob(site, CONFIG)
        _one_tag(figures, fault, site, sites, content)
        # One address may have two hundred connections, and these have one each.
        for each in sites:
            each.client.hang_up()
        _one_project(figures, fault, site, clients)
        figures.recovered(fault, site.answers())
        Oracle(site, figures, fault).conclude()


def _together(figures: Figures, fault: str, sites: list[Site], act: Callable[[Site, int], object]) -> None:
    """All do it at once; nobody may be refused."""
    barrier = threading.Barrier(len(sites))

    def one(number: int) -> None:
        barrier.wait(30)
        try:
            act(sites[number], number)
        except (Unanswered, AssertionError) as error:
            figures.problem(fault, f"client {number}: {error}")

    with ThreadPoolExecutor(len(sites)) as threads:
        list(threads.map(one, range(len(sites))))
    injected(figures, fault, len(sites))


def _one_tag(figures: Figures, fault: str, site: Site, sites: list[Site], layer: bytes) -> None:
    manifests = [image_of(number, layer) for number in range(len(sites))]
    tag = Thing(Noun.TAG, HERE, "contended")

    def move(each: Site, number: int) -> None:
        digest = sha256(manifests[number])
        headers = {"Content-Type": OCI_MANIFEST}
        answer = each.client.ask("PUT", f"/v2/{HERE}/manifests/contended", 201, body=manifests[number], headers=headers)
        act = Acknowledged("manifest.push", answer.headers["x-request-id"])
        site.journal.acknowledges(Thing(Noun.MANIFEST, HERE, digest), digest, act)

    _together(figures, fault, sites, move)
    # They were done in one order, which the trail tells: the tag is where the last one put it.
    pushes = [event for event in site.gateway.events(kind="manifest.push") if event.get("reference") == "contended"]
    site.journal.observes(tag, str(pushes[-1]["digest"]))
    before = [event.get("before") for event in pushes]
    if len({str(each) for each in before}) != len(pushes):
        figures.problem(fault, "two moves of a tag began from the same place")


def _one_project(figures: Figures, fault: str, site: Site, clients: int) -> None:
    """An administrator's push makes the project it goes to; a hundred make it once."""
    repository = "fresh/one"
    scopes = [f"repository:{repository}:pull,push,delete"]
    first = Client(site.gateway, site.who, scopes)
    sites = []
    for _ in range(clients):
        each = companion(site)
        each.client = first.alike()
        sites.append(each)

    def push(each: Site, number: int) -> None:
        content = content_of(100 + number)
        finish(each, begin_upload(each, repository), content, content, repository)

    _together(figures, fault, sites, push)
    made = [event for event in site.gateway.events(kind="project.add") if event.get("project") == "fresh"]
    if len(made) != 1:
        figures.problem(fault, f"the project was made {len(made)} times")
    site.client.scopes = [*site.client.scopes, *scopes]
    site.client.forget_token()
    for each in sites:
        each.client.hang_up()


def races(figures: Figures, seconds: float = 20.0) -> None:
    """Sweeps without any grace, one after the other, among pushes, mounts, moved tags, indexes and deletions."""
    fault = "sweeps racing clients"
    with running_site() as site:
        stopping = threading.Event()
        roles = (_pushes_images, _mounts_blobs, _moves_tags, _pushes_indexes)
        threads = [
            threading.Thread(target=_race, args=(site, figures, fault, role, number, stopping))
            for number, role in enumerate(roles)
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            ended = site.command("sweep", "--grace", "0s", "--json")
            if not ended.ok:
                figures.problem(fault, f"sweep: {ended.output[-300:]}")
            injected(figures, fault)
        stopping.set()
        for thread in threads:
            thread.join()
        figures.recovered(fault, site.answers())
        Oracle(site, figures, fault).conclude()


Role = Callable[[Site, int, random.Random], None]


def _race(site: Site, figures: Figures, fault: str, role: Role, number: int, stopping: threading.Event) -> None:
    mine, chance = companion(site), random.Random(number)
    turn = 10_000_000 * (number + 1)
    while not stopping.is_set():
        turn += 1
        # Without any grace, a blob may go before its manifest comes: a client begins again, and comes through.
        for attempt in range(50):
            try:
                role(mine, turn, chance)
                break
            except Unanswered:
                time.sleep(0.01)
            except AssertionError as error:
                if attempt == 49:
                    figures.problem(fault, f"{role.__name__}: {error}")
    mine.client.hang_up()


def _pushes_images(site: Site, turn: int, chance: random.Random) -> None:
    push_image(site, turn, f"pushed-{turn % 5}")


def _mounts_blobs(site: Site, turn: int, chance: random.Random) -> None:
    content = content_of(turn)
    push_blob(site, content)
    mount(site, content)
    # Nothing names them: either may have gone again.
    for place in (HERE, THERE):
        site.journal.intends(Thing(Noun.BLOB, place, sha256(content)), GONE)


def _moves_tags(site: Site, turn: int, chance: random.Random) -> None:
    """A tag goes back and forth between two images whose layers others share."""
    number = 5_000_000 + chance.randrange(4)
    layer = content_of(number)
    push_blob(site, CONFIG)
    push_blob(site, layer)
    push_manifest(site, image_of(number, layer), "back-and-forth")
    with suppress(AssertionError):
        site.client.ask("DELETE", f"/v2/{HERE}/manifests/back-and-forth", 202)
        site.journal.intends(Thing(Noun.TAG, HERE, "back-and-forth"), GONE)


def _pushes_indexes(site: Site, turn: int, chance: random.Random) -> None:
    manifest = push_image(site, turn)
    push_manifest(site, index_of(manifest), f"index-{turn % 5}", OCI_INDEX)
