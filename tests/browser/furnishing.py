"""A registry furnished with all that the console's pages can show: many of a thing and none, long names, odd values."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from gateway.access.policy import Need
from gateway.access.principals import Caller, Credential, CredentialKind, Principal
from gateway.access.scopes import Action
from gateway.administration import Administration
from gateway.app import Rooms, opened
from gateway.audit.event import Kind
from gateway.errors import Refusal
from gateway.oci.names import Repository
from gateway.records import accounts
from gateway.settings import Settings
from tests.administration.stocking import AMD64, EMPTY, Stock
from tests.browser.conftest import PASSWORD
from tests.house import OPERATOR, ORIGIN, House
from tests.services.gateway import Gateway

T = TypeVar("T")

ARM64 = {**AMD64, "architecture": "arm64", "variant": "v8"}
LONG_PROJECT = "platform-engineering-and-developer-experience-shared"
DEEP = "shop/payments/reconciliation-service/nightly-settlement-export/worker-with-a-long-name"
LONG_TAG = "2026.11.24-feature-4711-retry-the-export-when-the-settlement-window-moves-build-1290-linux-amd64-debug"
BUSY = "shop/busy"
#: Names without a place to break at.
UNBROKEN = "data_platform_shared"
UNBROKEN_REPOSITORY = f"{UNBROKEN}/ingest_pipeline_worker_service_nightly_export"
UNBROKEN_REACH = f"{UNBROKEN}/ingest_pipeline_worker_service_*"
UNBROKEN_TAG = "feature_4711_retry_the_export_when_the_settlement_window_moves"
UNBROKEN_ROBOT = "ingest_pipeline_nightly_export"
UNBROKEN_USER = "maximiliane_von_hohenstein_wartenberg"
_HISTORY = [
    {"created": "2026-01-01T00:00:00Z", "created_by": "ADD rootfs.tar.gz / # the base of it all"},
    {"created_by": "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "empty_layer": True},
    {"created": "2026-01-01T00:02:00Z", "created_by": "RUN /bin/sh -c apk add --no-cache " + "curl " * 40},
]


@dataclass(frozen=True, slots=True)
class Furnished:
    """What pages are opened by: the digests of an image and of the index that lists it."""

    image: str
    index: str


def beside(gateway: Gateway, act: Callable[[Rooms], T]) -> T:
    """What *act* answers, done beside the gateway's own processes, on the same data."""

    def done() -> T:
        with opened(Settings.for_data(gateway.data, {})) as rooms:
            return act(rooms)

    # The browser's own loop runs in this thread.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(done).result()


def stock_of(rooms: Rooms, name: str) -> Stock:
    """What *name*, who exists, pushes and pulls."""
    house = House(rooms.settings.data, rooms.database, rooms.ledger, rooms.directory, rooms.gate, rooms.trail)
    account = house.database.read_now(lambda connection: accounts.get(connection, name))
    caller = Caller(Principal(account.kind, account.id, name), ORIGIN, Credential(CredentialKind.PASSWORD))
    return Stock(house, rooms.engine, caller)


def furnish(rooms: Rooms) -> Furnished:
    """Fills the registry of *rooms*, whose administrator is root."""
    asyncio.run(_people(rooms.administration))
    jane = stock_of(rooms, "jane")
    found = _web_ui(jane)
    for number in range(60):
        jane.image(BUSY, f"build-{number:04}")
    jane.image(DEEP, LONG_TAG, "v2")
    jane.image("shop/base", "stable", "gone", "moved", layers=[b"gone"])
    unbroken = jane.image(UNBROKEN_REPOSITORY, UNBROKEN_TAG, f"old_{UNBROKEN_TAG}")
    jane.pull(UNBROKEN_REPOSITORY, unbroken, jane.who)
    _refused(rooms, stock_of(rooms, "bob").who)
    asyncio.run(_afterwards(rooms.administration))
    jane.image("shop/base", "moved", layers=[b"moved"])
    return found


async def _people(acts: Administration) -> None:
    roles: tuple[tuple[str, bool], ...] = (("ann", True), ("jane", False), ("bob", False), ("gone.away", False))
    for name, auditor in (*roles, ("maximiliane.von-und-zu-hohenstein-wartenberg", False)):
        await acts.accounts.add_user(OPERATOR, name, password=PASSWORD, auditor=auditor)
    await acts.accounts.disable(OPERATOR, "gone.away")
    for number in range(9):
        await acts.projects.add_project(OPERATOR, f"team-{number}", public=number % 3 == 0)
    await acts.accounts.add_user(OPERATOR, UNBROKEN_USER, password=PASSWORD)
    for name in ("shop", LONG_PROJECT, UNBROKEN):
        await acts.projects.add_project(OPERATOR, name)
    await acts.projects.set_project(OPERATOR, "shop", immutable=["v*"], quota_bytes=10 << 30)
    await acts.projects.set_project(OPERATOR, "team-1", quota_bytes=10 << 30, read_only="Moving to another place")
    for name, role, reach, days in (
        ("jane", "owner", "shop", None),
        ("bob", "puller", "shop", 90),
        ("bob", "pusher", "shop/payments/*", 1),
        ("jane", "pusher", "team-1", None),
        ("jane", "owner", UNBROKEN, None),
        (UNBROKEN_USER, "maintainer", UNBROKEN_REACH, None),
        ("maximiliane.von-und-zu-hohenstein-wartenberg", "maintainer", f"{LONG_PROJECT}/a-repository-*", None),
    ):
        expires = timedelta(days=days) if days else None
        await acts.grants.add_grant(OPERATOR, name, role, reach, expires=expires)
    for name in ("shop/ci", "shop/nightly-settlement-export", "team-1/ci", f"{UNBROKEN}/{UNBROKEN_ROBOT}"):
        await acts.robots.add_robot(OPERATOR, name, "pusher")
    await acts.robots.rotate_robot(OPERATOR, "shop/ci", overlap_seconds=86_400)


def _web_ui(shop: Stock) -> Furnished:
    """A repository with an index of two platforms and an attestation, signed and described; its digests."""
    source = {"org.opencontainers.image.source": "https://git.example.com/shop/web", "com.example.note": "line\n" * 3}
    layers = [b"base" * 5000, b"curl" * 800]
    image = shop.image("shop/web-ui", config={**AMD64, "history": _HISTORY}, layers=layers, annotations=source)
    other = shop.image("shop/web-ui", "arm", config={**ARM64, "history": _HISTORY}, layers=layers)
    proof = shop.image("shop/web-ui", config={"os": "unknown", "architecture": "unknown"}, layers=[b"in-toto"])
    about = {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": image.digest.text,
    }
    index = shop.index(
        "shop/web-ui",
        "v1.4.2",
        "latest",
        children=[
            (image, {"platform": {"os": "linux", "architecture": "amd64"}}),
            (other, {"platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}}),
            (proof, {"platform": {"os": "unknown", "architecture": "unknown"}, "annotations": about}),
        ],
    )
    for subject in (image, index):
        for number, kind in enumerate(("application/vnd.cncf.notary.signature", "application/spdx+json")):
            shop.about("shop/web-ui", subject, kind, layer=b"%d" % number)
    cosign = index.digest.text.replace(":", "-") + ".sig"
    shop.image("shop/web-ui", cosign, layer_type="application/vnd.dev.cosign.simplesigning.v1+json")
    kind = "application/vnd.cncf.helm.config.v1+json"
    shop.image("shop/chart", "0.1.0", config=b"{}", config_type=EMPTY, artifactType=kind)
    shop.pull("shop/web-ui", index, shop.who)
    return Furnished(image.digest.text, index.digest.text)


def _refused(rooms: Rooms, who: Caller) -> None:
    """A burst of pushes that are refused, from somebody who may only pull."""
    repository = Repository.parse("shop/web-ui")

    async def pushes() -> None:
        for number in range(25):
            facts = {"repository": repository.name, "project": "shop", "reference": f"v{number}"}
            with suppress(Refusal):
                async with rooms.gate.passage(who, Kind.MANIFEST_PUSH, Need(Action.PUSH, repository), **facts):
                    raise AssertionError("a puller pushed")

    asyncio.run(pushes())


async def _afterwards(acts: Administration) -> None:
    """What is removed, kept, saved and reviewed; review 1 is signed off, review 2 is not."""
    for tag in ("gone", "moved"):
        await acts.repositories.remove_tag(OPERATOR, "shop/base", tag)
    await acts.repositories.remove_tag(OPERATOR, UNBROKEN_REPOSITORY, f"old_{UNBROKEN_TAG}")
    await acts.personal_tokens.issue(OPERATOR, "laptop", ["pull", "push"], ["shop"], 90, account="root")
    await acts.retention.set(OPERATOR, "shop", matching=["stable", "v*"], last=10)
    now = datetime.now(UTC) + timedelta(minutes=1)
    for project in ("team-2", None):
        begun = await acts.reviews.begin(OPERATOR, now - timedelta(days=30), now, project=project)
        if project is not None:
            for each in begun.findings:
                await acts.reviews.mark(OPERATOR, begun.review.number, each.number, "fine", "as agreed")
            await acts.reviews.sign_off(OPERATOR, begun.review.number, "looked through")
