"""Strangers at the console: what they may learn by asking, and what they may make somebody else send."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from gateway.console import carrying
from tests.console.browsing import Desk
from tests.house import OPERATOR

FIELDS = (("principal", "mallory"), ("role", "owner"))
OF_A_PROJECT = (
    "/console/projects/{}",
    "/console/projects/{}/access",
    "/console/projects/{}/audit",
    "/console/projects/{}/deleted",
    "/console/projects/{}/members",
    "/console/projects/{}/settings",
    "/console/audit?project={}",
    "/console/audit/export?project={}",
    "/console/audit/who-pulled?target={}/app:v1",
    "/console/reviews?project={}",
    "/console/repositories/{}/app",
    "/console/deleted/{}/app",
    "/console/tag-history/v1/{}/app",
)


def test_a_link_to_the_sign_in_page_brings_no_form_with_it(desk: Desk) -> None:
    desk.user("root", administrator=True)
    sealed = carrying.seal(desk.console._parts.forms, "/console/projects/alpha/members", FIELDS)
    page = desk.browser().get(f"/console/sign-in?carried={sealed}")
    assert page.status == 200
    assert set(page.fields) == {"next", "name", "password"}
