"""A gateway that was killed: what was taken stays taken, what was kept stays kept, and nobody is let in anew."""

from __future__ import annotations

import signal
from urllib.parse import urlencode

import pytest

from tests.attacks.site import SERVICE, Site, password_of
from tests.house import OPERATOR
from tests.protocol.harness import sha256


@pytest.mark.alone
def test_revocations_uploads_and_the_throttle_outlive_the_process(site: Site) -> None:
    name, address = site.name(), site.address()
    grants = site.rooms.administration.grants
    site.run(grants.add_grant(OPERATOR, "mallory", "puller", "alpha/app"))
    taken = site.sign_in("mallory", "", "repository:alpha/app:pull").json()["token"]
    offline = site.sign_in("bob", "", offline_token="true").json()["refresh_token"]
    token = site.widest("alice", name)
    upload = site.begin(token, name)
    assert site.ask("PATCH", upload, token=token, body=b"before the crash").status == 202
    guesses = [site.sign_in("carol", f"guess {number}", address=address).status for number in range(7)]
    assert guesses[-1] == 429
    site.run(grants.remove_grant(OPERATOR, "mallory", "alpha/app"))
    site.restart(signal.SIGKILL)
    assert site.sign_in("carol", password_of("carol"), address=address).status == 429
    assert [site.ask("GET", "/v2/alpha/app/manifests/v1", token=taken).status for _ in range(4)] == [401] * 4
    assert site.ask("GET", upload, token=token).header("range") == "0-15"
    assert site.ask("PUT", f"{upload}?digest={sha256(b'before the crash')}", token=token).status == 201
    form = {"service": SERVICE, "grant_type": "refresh_token", "refresh_token": offline}
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert site.ask("POST", "/token", body=urlencode(form).encode(), headers=headers).status == 200
    assert site.rooms.trail.verify().fault == ""
