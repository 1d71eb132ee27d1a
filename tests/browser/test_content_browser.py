"""What is kept, in a real browser: hostile content runs nothing, and every page is looked at light, dark and narrow."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
from playwright.sync_api import Browser

from gateway.access.principals import Caller, Credential, CredentialKind, Principal
from gateway.app import opened
from gateway.records import accounts
from gateway.settings import Settings
from tests.administration.stocking import AMD64, Stock
from tests.browser.conftest import PASSWORD
from tests.browser.looking import Looker, looking
from tests.console.test_hostile_content import SOME_OR_ALL, hostile_image
from tests.house import ORIGIN, House
from tests.services.gateway import Gateway

T = TypeVar("T")

ARM64 = {**AMD64, "architecture": "arm64", "variant": "v8"}


def stocked(gateway: Gateway, name: str, push: Callable[[Stock], T]) -> T:
    """What *push* answers, given what *name* pushes; beside the gateway's own processes, on the same data."""

    def beside() -> T:
        with opened(Settings.for_data(gateway.data, {})) as rooms:
            house = House(rooms.settings.data, rooms.database, rooms.ledger, rooms.directory, rooms.gate, rooms.trail)
            account = house.database.read_now(lambda connection: accounts.get(connection, name))
            caller = Caller(Principal(account.kind, account.id, name), ORIGIN, Credential(CredentialKind.PASSWORD))
            return push(Stock(house, rooms.engine, caller))

    # The browser's own loop runs in this thread.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(beside).result()


def furnish(gateway: Gateway) -> None:
    gateway.cli("project", "add", "shop").must()
    gateway.cli("project", "set", "shop", "--immutable", "v*").must()
    for name in ("ann", "bob"):
        gateway.add_user(name, PASSWORD)
    for name, role, reach in (("root", "owner", "shop"), ("ann", "pusher", "shop/web-*"), ("bob", "puller", "shop")):
        gateway.cli("grant", "add", name, role, reach, *(["--expires", "90d"] if name == "bob" else [])).must()


def shop_of(shop: Stock) -> str:
    """A shop of two repositories; the digest of the image in it."""
    source = {"org.opencontainers.image.source": "https://git.example.com/shop/web"}
    history = [
        {"created": "2026-01-01T00:00:00Z", "created_by": "ADD rootfs.tar.gz / # the base of it all"},
        {
            "created_by": "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "empty_layer": True,
        },
        {"created": "2026-01-01T00:02:00Z", "created_by": "RUN /bin/sh -c apk add --no-cache " + "curl " * 40},
    ]
    layers = [b"base" * 5000, b"curl" * 800]
    image = shop.image("shop/web-ui", config={**AMD64, "history": history}, layers=layers, annotations=source)
    other = shop.image("shop/web-ui", "arm", config={**ARM64, "history": history}, layers=layers)
    shop.index(
        "shop/web-ui",
        "v1.4.2",
        "latest",
        children=[
            (image, {"platform": {"os": "linux", "architecture": "amd64"}}),
            (other, {"platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}}),
        ],
    )
    for number, kind in enumerate(("application/vnd.cncf.notary.signature", "application/spdx+json")):
        shop.about("shop/web-ui", image, kind, layer=b"%d" % number)
    shop.image("shop/base", "stable")
    shop.pull("shop/web-ui", image, shop.who)
    return image.digest.text


def sign_in(window: Looker) -> None:
    window.open("/console/")
    window.fill(name="root", password=PASSWORD)
    window.press("Sign in")


@pytest.mark.long
def test_pages_of_content_are_accessible_light_dark_and_narrow(gateway: Gateway, chromium: Browser) -> None:
    furnish(gateway)
    digest = stocked(gateway, "root", shop_of)
    pages = {
        "repositories": "/projects/shop",
        "repositories-none": "/projects/shop?q=nothing",
        "repository": "/repositories/shop/web-ui",
        "manifest-index": "/manifests/latest/shop/web-ui",
        "manifest-image": f"/manifests/{digest}/shop/web-ui",
        "remove-tag": "/removals/latest/shop/web-ui",
        "remove-tag-kept": "/removals/v1.4.2/shop/web-ui",
        "remove-manifest": f"/removals/{digest}/shop/web-ui",
        "remove-repository": "/repository-removals/shop/base",
        "access-of-repository": "/projects/shop/access?repository=shop/web-ui",
        "access-of-account": "/access?account=ann&repository=shop/base",
        "access-mine": "/access",
        "access-wrong": "/access?account=nobody",
    }
    stocked(gateway, "root", lambda shop: shop.image("shop/base", "gone", "moved", layers=[b"gone"]))
    for tag in ("gone", "moved"):
        gateway.cli("tag", "remove", f"shop/base:{tag}").must()
    stocked(gateway, "root", lambda shop: shop.image("shop/base", "moved", layers=[b"moved"]))
    gateway.cli("retention", "set", "shop", "--matching", "stable").must()
    pages |= {
        "deleted": "/deleted/shop/base",
        "deleted-of-project": "/projects/shop/deleted",
        "deleted-none": "/deleted/shop/web-ui",
        "tag-history": "/tag-history/moved/shop/base",
        "retention": "/projects/shop/settings/retention",
        "retention-plan": "/projects/shop/settings/retention/plan",
        "retention-apply": "/projects/shop/settings/retention/apply",
        "evidence": "/audit/evidence",
        "verify": "/audit/verify",
        "system": "/system",
    }
    with looking(chromium, f"https://{gateway.registry}") as window:
        sign_in(window)
        for name, path in pages.items():
            window.open(f"/console{path}")
            window.look(name)
        window.open("/console/deleted/shop/base")
        window.press("Restore moved")
        window.look("restore-asked")
        window.open("/console/projects/shop/settings/retention")
        window.fill(last="none")
        window.press("Save")
        window.look("retention-wrong")
        window.open("/console/audit/verify")
        window.press("Verify")
        window.look("verified")
        window.open("/console/system")
        assert all(window.says(words) for words in ("of the space on the data", "more days", "end is whole"))
        window.fill(reason="Moving to another disk")
        window.press("Make it read-only")
        window.look("system-read-only")
        window.press("Take changes again")


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_a_tag_is_removed_in_a_browser(gateway: Gateway, chromium: Browser, scripts: bool) -> None:
    project = "market" if scripts else "stall"
    gateway.cli("project", "add", project).must()
    stocked(gateway, "root", lambda market: market.image(f"{project}/ui", "one", "two"))
    with looking(chromium, f"https://{gateway.registry}", scripts=scripts) as window:
        sign_in(window)
        window.open(f"/console/projects/{project}")
        window.press(f"{project}/ui")
        window.press("one")
        window.press("Remove tag")
        assert window.says("its manifest stays")
        window.press("Remove tag")
        assert window.says("Removed.")
        assert window.page.get_by_role("link", name="one", exact=True).count() == 0
        assert window.says("two")


@pytest.mark.parametrize("corpus", SOME_OR_ALL, ids=["some", "all"])
def test_nothing_that_a_pusher_writes_runs(gateway: Gateway, chromium: Browser, corpus: tuple[str, ...]) -> None:
    project = f"den{len(corpus)}"
    gateway.cli("project", "add", project).must()
    stocked(gateway, "root", lambda den: [hostile_image(den, f"{project}/r{n}", text) for n, text in enumerate(corpus)])
    with looking(chromium, f"https://{gateway.registry}") as window:
        sign_in(window)
        for number, text in enumerate(corpus):
            for path in (
                f"manifests/v1/{project}/r{number}",
                f"manifests/index/{project}/r{number}",
                f"repositories/{project}/r{number}",
            ):
                window.open(f"/console/{path}")
                assert window.page.evaluate("window.hit === undefined && top.hit === undefined"), (path, text)
            window.page.goto(f"{window.address}/console/projects/{project}")
            window.fill(q=text)
            window.press("Find")
            assert window.page.locator("#q").input_value() == text
            assert window.page.evaluate("window.hit === undefined"), text
