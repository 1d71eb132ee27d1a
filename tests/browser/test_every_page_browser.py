"""Every page of the console, as everybody who may open it sees it: accessible, light, dark and on a phone."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser

from gateway.console.pages import GROUPS
from tests.browser.conftest import PASSWORD
from tests.browser.furnishing import (
    BUSY,
    DEEP,
    LONG_PROJECT,
    LONG_TAG,
    UNBROKEN,
    UNBROKEN_REACH,
    UNBROKEN_REPOSITORY,
    UNBROKEN_ROBOT,
    UNBROKEN_TAG,
    UNBROKEN_USER,
    Furnished,
    beside,
    furnish,
)
from tests.browser.looking import Looker, looking
from tests.services.gateway import Gateway

pytestmark = pytest.mark.long

#: Pages that are files to keep, or send the browser on.
NO_PAGE = {
    "/",
    "/audit/export",
    "/projects/{project}/audit/export",
    "/audit/evidence/key",
    "/audit/evidence/checkpoint",
    "/reviews/{number}/mark",
    "/reviews/{number}/sign-off",
    "/reviews/{number}/pack",
}


def content(found: Furnished) -> dict[str, str]:
    """Pages about what is kept, which a puller may open as well."""
    return {
        "repositories": "/projects/shop",
        "repositories-none": "/projects/shop?q=nothing",
        "repository": "/repositories/shop/web-ui",
        "repository-busy": f"/repositories/{BUSY}",
        "repository-next": f"/repositories/{BUSY}?after=build-0049",
        "repository-deep": f"/repositories/{DEEP}",
        "manifest-index": "/manifests/latest/shop/web-ui",
        "manifest-image": f"/manifests/{found.image}/shop/web-ui",
        "manifest-deep": f"/manifests/{LONG_TAG}/{DEEP}",
        "manifest-artifact": "/manifests/0.1.0/shop/chart",
        "access-mine": "/access",
        "grants-mine": "/grants",
        "access-mine-on-one": "/access?repository=shop/web-ui",
    }


def looked_after(found: Furnished) -> dict[str, str]:
    """Pages of a project's owner."""
    return {
        "remove-tag": "/removals/latest/shop/web-ui",
        "remove-tag-kept": "/removals/v1.4.2/shop/web-ui",
        "remove-manifest": f"/removals/{found.image}/shop/web-ui",
        "remove-manifest-deep": f"/removals/{LONG_TAG}/{DEEP}",
        "remove-repository": f"/repository-removals/{DEEP}",
        "deleted": "/deleted/shop/base",
        "deleted-of-project": "/projects/shop/deleted",
        "deleted-none": "/deleted/shop/web-ui",
        "tag-history": "/tag-history/moved/shop/base",
        "tag-history-of-one-gone": "/tag-history/gone/shop/base",
        "members": "/projects/shop/members",
        "member-edit": "/projects/shop/members/edit?principal=bob&reach=shop",
        "member-remove": "/projects/shop/members/remove?principal=bob&reach=shop",
        "robots": "/projects/shop/robots",
        "robot-rotate": "/projects/shop/robots/ci/rotate",
        "robot-remove": "/projects/shop/robots/ci/remove",
        "access-of-project": "/projects/shop/access",
        "access-of-repository": "/projects/shop/access?repository=shop/web-ui",
        "settings": "/projects/shop/settings",
        "retention": "/projects/shop/settings/retention",
        "retention-plan": "/projects/shop/settings/retention/plan",
        "retention-apply": "/projects/shop/settings/retention/apply",
        "audit-of-project": "/projects/shop/audit",
        "reviews-of-project": "/reviews?project=shop",
        "leak-to-revoke": "/audit/leak?credential=shop/ci&since=1d",
        "replay": "/audit/replay",
        "repository-not-there": "/repositories/shop/nothing",
        "manifest-not-there": "/manifests/nothing/shop/web-ui",
    }


def reviewed(found: Furnished) -> dict[str, str]:
    """Pages of an auditor."""
    return {
        "audit": "/audit",
        "audit-denied": "/audit?outcome=denied&since=24h",
        "audit-none": "/audit?principal=nobody",
        "audit-wrong": "/audit?since=yesterday&digest=x",
        "event": "/audit/events/40",
        "event-first": "/audit/events/1",
        "event-not-there": "/audit/events/999999",
        "verify": "/audit/verify",
        "evidence": "/audit/evidence",
        "who-pulled-form": "/audit/who-pulled",
        "who-pulled": f"/audit/who-pulled?target={found.index}",
        "who-pulled-none": f"/audit/who-pulled?target=sha256:{'0' * 64}",
        "who-pulled-wrong": "/audit/who-pulled?target=~",
        "leak-form": "/audit/leak",
        "leak": "/audit/leak?credential=jane&since=30d",
        "leak-none": "/audit/leak?credential=shop/ci&since=1d",
        "reviews": "/reviews",
        "review-signed": "/reviews/1",
        "review": "/reviews/2",
        "replay": "/audit/replay",
        "access-of-account": "/access?account=bob&repository=shop/base",
        "access-of-one-disabled": "/access?account=gone.away",
        "access-wrong": "/access?account=nobody",
    }


def administered(_: Furnished) -> dict[str, str]:
    """Pages of an administrator alone."""
    return {
        "projects": "/projects",
        "projects-found": "/projects?q=team-1",
        "projects-none": "/projects?q=nothing",
        "project-new": "/projects/new",
        "project-long": f"/projects/{LONG_PROJECT}",
        "members-long": f"/projects/{LONG_PROJECT}/members",
        "members-none": "/projects/team-2/members",
        "robots-none": "/projects/team-2/robots",
        "retention-none": "/projects/team-2/settings/retention/plan",
        "project-remove": "/projects/shop/settings/remove",
        "users": "/users",
        "users-none": "/users?q=nothing",
        "user": "/users/bob",
        "user-disabled": "/users/gone.away",
        "user-new": "/users/new",
        "user-password": "/users/bob/password",
        "user-remove": "/users/bob/remove",
        "system": "/system",
        "signing-keys": "/system/keys",
        "not-found": "/nothing",
    }


def own(_: Furnished) -> dict[str, str]:
    """Pages about oneself."""
    return {
        "account": "/account",
        "tokens": "/account/tokens",
        "token-revoke": "/account/tokens/1/revoke",
        "sessions": "/account/sessions",
        "second-factor": "/account/second-factor",
    }


def refused(_: Furnished) -> dict[str, str]:
    """What a puller is refused."""
    return {
        "first": "/projects",
        "refused-members": "/projects/shop/members",
        "refused-users": "/users",
        "refused-removal": "/removals/latest/shop/web-ui",
    }


def unbroken(_: Furnished) -> dict[str, str]:
    """Pages about names that are long, and hold nothing to break them at."""
    project, place = f"/projects/{UNBROKEN}", UNBROKEN_REPOSITORY
    grant = f"principal={UNBROKEN_USER}&reach={UNBROKEN_REACH}"
    return {
        "unbroken-found": f"/projects?q={UNBROKEN}",
        "unbroken-project": project,
        "unbroken-repository": f"/repositories/{place}",
        "unbroken-manifest": f"/manifests/{UNBROKEN_TAG}/{place}",
        "unbroken-history": f"/tag-history/{UNBROKEN_TAG}/{place}",
        "unbroken-removal": f"/removals/{UNBROKEN_TAG}/{place}",
        "unbroken-repository-removal": f"/repository-removals/{place}",
        "unbroken-deleted": f"/deleted/{place}",
        "unbroken-project-deleted": f"{project}/deleted",
        "unbroken-members": f"{project}/members",
        "unbroken-member-edit": f"{project}/members/edit?{grant}",
        "unbroken-member-remove": f"{project}/members/remove?{grant}",
        "unbroken-robots": f"{project}/robots",
        "unbroken-rotate": f"{project}/robots/{UNBROKEN_ROBOT}/rotate",
        "unbroken-robot-remove": f"{project}/robots/{UNBROKEN_ROBOT}/remove",
        "unbroken-settings": f"{project}/settings",
        "unbroken-plan": f"{project}/settings/retention/plan",
        "unbroken-remove": f"{project}/settings/remove",
        "unbroken-access": f"{project}/access?repository={place}",
        "unbroken-audit": f"{project}/audit",
        "unbroken-access-of": f"/access?account={UNBROKEN_USER}&repository={place}",
        "unbroken-user": f"/users/{UNBROKEN_USER}",
        "unbroken-user-remove": f"/users/{UNBROKEN_USER}/remove",
        "unbroken-grants": f"/grants?account={UNBROKEN_USER}",
        "unbroken-search": f"/audit?repository={place}",
        "unbroken-pulls": f"/audit/who-pulled?target={place}:{UNBROKEN_TAG}",
        "unbroken-leak": f"/audit/leak?credential={UNBROKEN}/{UNBROKEN_ROBOT}&since=1d",
        "unbroken-leak-touched": "/audit/leak?credential=jane&since=1d",
    }


PAGES = {
    "root": (administered, looked_after, content, reviewed, own),
    "ann": (reviewed, own),
    "jane": (looked_after, content),
    "bob": (content, own, refused),
}


@pytest.fixture(scope="module")
def found(gateway: Gateway) -> Furnished:
    return beside(gateway, furnish)


def sign_in(window: Looker, name: str) -> None:
    window.open("/console/")
    window.fill(name=name, password=PASSWORD)
    window.press("Sign in")


@pytest.mark.parametrize("who", PAGES)
def test_every_page_is_accessible_light_dark_and_on_a_phone(
    gateway: Gateway, chromium: Browser, found: Furnished, who: str
) -> None:
    with looking(chromium, f"https://{gateway.registry}") as window:
        sign_in(window, who)
        for pages in PAGES[who]:
            for name, path in pages(found).items():
                window.open(f"/console{path}")
                window.look(f"{who}-{name}")


def test_a_long_name_without_a_place_to_break_at_is_cut_off_nowhere(
    gateway: Gateway, chromium: Browser, found: Furnished
) -> None:
    with looking(chromium, f"https://{gateway.registry}") as window:
        sign_in(window, "root")
        for name, path in unbroken(found).items():
            window.open(f"/console{path}")
            assert window.page.locator("h1").inner_text() not in {"Not found", "Not possible"}, path
            window.look(name)


def test_a_digest_is_copied_whole(gateway: Gateway, chromium: Browser, found: Furnished) -> None:
    with looking(chromium, f"https://{gateway.registry}") as window:
        window.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        sign_in(window, "bob")
        window.open("/console/manifests/latest/shop/web-ui")
        window.page.get_by_role("button", name=f"Copy {found.image}").first.click()
        window.page.get_by_text("Copied.").wait_for(state="attached")
        assert window.page.evaluate("navigator.clipboard.readText()") == found.image
        window.press("Copy it")
        window.page.wait_for_function(f"async () => (await navigator.clipboard.readText()).endsWith('@{found.index}')")


def test_no_page_is_left_out() -> None:
    nothing = Furnished("sha256:a", "sha256:b")
    looked = {path.partition("?")[0] for pages in PAGES["root"] for path in pages(nothing).values()}
    answered = [page for group in GROUPS for page in group.pages if page.get is not None and not page.open]
    seen = {page.get for page in answered if any(re.fullmatch(_pattern(page.path), path) for path in looked)}
    assert [page.path for page in answered if page.get not in seen and page.path not in NO_PAGE] == []


def _pattern(path: str) -> str:
    """Of the paths that a page answers."""
    return "".join(
        ".+" if piece.endswith(":path}") else "[^/]+" if piece.startswith("{") else re.escape(piece)
        for piece in re.split(r"(\{[^}]*\})", path)
    )
