"""An auditor sees accounts, system roles and access lists, and can change none of them."""

from __future__ import annotations

import re

import pytest

from tests.console.browsing import Desk
from tests.console.stocked import team

SEEN = (
    "/console/users",
    "/console/users/jane",
    "/console/grants",
    "/console/projects/gallery/members",
    "/console/projects/gallery/robots",
    "/console/projects/gallery/access",
)


def test_an_auditor_sees_accounts_roles_and_grants_and_every_look_is_recorded(desk: Desk) -> None:
    team(desk)
    ann = desk.browser("ann", auditor=True)
    assert "jane user enabled" in ann.get("/console/users").words
    assert "ann auditor enabled" in ann.get("/console/users").words
    shown = ann.get("/console/users/jane")
    assert "gallery owner" in shown.words
    assert "Second factor off" in shown.words
    assert "reader puller gallery" in ann.get("/console/grants").words
    assert "reader puller the whole project" in ann.get("/console/projects/gallery/members").words
    for kind in ("account.list", "account.show", "grant.list"):
        event = desk.last(kind)
        assert (event["principal"], event["outcome"], event["action"]) == ("ann", "allowed", "review")


@pytest.mark.long
def test_pages_offer_an_auditor_nothing_that_would_be_refused(desk: Desk) -> None:
    team(desk)
    desk.browser("jane").fill("/console/projects/gallery/robots", name="ci", role="puller")
    ann = desk.browser("ann", auditor=True)
    for page in (*SEEN, "/console/projects", "/console/projects/gallery", "/console/audit", "/console/account"):
        sheet = ann.get(page)
        assert sheet.status == 200, page
        forms = set(re.findall(r'method="post" action="([^"]+)"', sheet.text))
        own = {form for form in forms if form.startswith(("/console/account", "/console/audit", "/console/sign-out"))}
        assert forms == own, page
        for target in re.findall(r'href="(/console/[^"]*)"', sheet.text):
            assert ann.get(target.replace("&amp;", "&")).status in {200, 303}, (page, target)


FORBIDDEN: tuple[tuple[str, dict[str, str]], ...] = (
    ("users/new", {"name": "evil", "administrator": "yes"}),
    ("users/ann/roles", {"administrator": "yes", "version": "x"}),
    ("users/jane/state", {"enabled": "no"}),
    ("users/jane/password", {"password": "another good one"}),
    ("users/jane/sign-out", {}),
    ("users/jane/second-factor", {}),
    ("users/jane/remove", {}),
    ("projects/gallery/members", {"principal": "ann", "role": "owner"}),
    ("projects/gallery/members/edit", {"principal": "reader", "reach": "gallery", "role": "owner", "version": "x"}),
    ("projects/gallery/members/remove", {"principal": "reader", "reach": "gallery", "version": "x"}),
    ("projects/gallery/robots", {"name": "ci", "role": "owner", "days": "90"}),
    ("projects/gallery/settings", {"public": "yes"}),
)


def test_an_auditor_changes_nothing(desk: Desk) -> None:
    team(desk)
    ann = desk.browser("ann", auditor=True)
    before = len(desk.house.records())
    for page, fields in FORBIDDEN:
        assert ann.post(f"/console/{page}", fields).status == 403, page
    events = [event for event in desk.house.records()[before:] if event["principal"] == "ann"]
    assert {event["kind"] for event in events if event["outcome"] == "allowed"} <= {"account.show", "grant.list"}
    assert len([event for event in events if event["outcome"] == "denied"]) == len(FORBIDDEN)


def test_an_auditor_sees_no_content(desk: Desk) -> None:
    stock = team(desk)
    pushed = stock.image("gallery/ui", "v1")
    ann = desk.browser("ann", auditor=True)
    assert "gallery/ui" not in ann.get("/console/projects/gallery").words
    for page in ("repositories/gallery/ui", "manifests/v1/gallery/ui", f"manifests/{pushed.digest}/gallery/ui"):
        assert ann.get(f"/console/{page}").status == 403


def test_grants_are_found_by_account_project_and_role(desk: Desk) -> None:
    team(desk)
    ann = desk.browser("ann", auditor=True)
    assert "3 grants" in ann.get("/console/grants").words
    assert "1 grant Who" in ann.get("/console/grants?account=reader").words
    assert "2 grants" in ann.get("/console/grants?project=gallery").words
    assert "2 grants" in ann.get("/console/grants?role=owner").words
    wrong = ann.get("/console/grants?account=No+Name&role=owner&project=gallery")
    assert (wrong.status, bool(wrong.error("account"))) == (422, True)
    assert (wrong.fields["role"], wrong.fields["project"]) == ("owner", "gallery")
