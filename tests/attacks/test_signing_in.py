"""Signing in with what is wrong, malformed, guessed, somebody else's, or no longer right."""

from __future__ import annotations

import base64
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from urllib.parse import urlencode

import pytest

from tests.attacks.site import SERVICE, Site, password_of
from tests.house import OPERATOR
from tests.protocol.harness import Answer

DEFAULTS = (
    *("admin", "password", "Password1", "Harbor12345", "changeme", "secret", "root", "toor", "registry", "gateway"),
    *("docker", "letmein", "12345678", "password123", "P@ssw0rd", "Admin123!", "administrator", "qwerty123", "default"),
    *("welcome1", "test1234", "guest", "public", "private", "minioadmin", "admin123", "nexus123", "artifactory"),
    *("postgres", "adminadmin", "admin@123"),
)


def comparable(answer: Answer) -> tuple[object, ...]:
    headers = [(name, value) for name, value in answer.headers if name not in {"x-request-id", "date"}]
    return answer.status, headers, answer.body


def grant(site: Site, address: str = "127.0.0.1", **fields: str) -> Answer:
    form = urlencode({"service": SERVICE, **fields}).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return site.ask("POST", "/token", body=form, headers=headers, address=address)


@pytest.mark.alone
def test_wrong_unknown_and_disabled_are_one_answer_in_one_time(site: Site) -> None:
    accounts = site.rooms.administration.accounts
    site.run(accounts.add_user(OPERATOR, "erin", password=password_of("erin")))
    site.run(accounts.disable(OPERATOR, "erin"))
    answers, times = [], []
    long = "x" * 73
    for name, password in (
        ("alice", "wrong password"),
        ("nobody-here", "wrong password"),
        ("erin", password_of("erin")),
        ("bob", long),
        ("nobody-here", long),
        ("alpha+ci", "gwr_wrong"),
        ("Not A Name\u2603", "x"),
        ("root", "null\0null"),
    ):
        address = site.address()
        begun = time.monotonic()
        answers.append(site.sign_in(name, password, address=address))
        times.append(time.monotonic() - begun)
        posted = grant(site, site.address(), grant_type="password", username=name, password=password)
        assert posted.status == 401
        assert posted.json()["error"] == "invalid_grant"
    assert len({comparable(answer)[0] for answer in answers}) == 1
    assert all(comparable(answer) == comparable(answers[0]) for answer in answers)
    assert min(times) >= 0.25
    assert max(times) < 2.5
    reasons = {site.event_of(answer)["reason"] for answer in answers}
    assert reasons == {"wrong_secret", "unknown_account", "account_disabled"}


def test_malformed_basic_is_refused_never_a_fault(site: Site) -> None:
    def encoded(content: bytes) -> str:
        return "Basic " + base64.b64encode(content).decode()

    good = encoded(b"alice:" + password_of("alice").encode())
    for value in (
        encoded(b":"),
        encoded(b"alice:"),
        encoded(b"alice"),
        encoded(b"\xff\xfe:\xff"),
        encoded(b"alice:\0"),
        encoded(b"a\r\nb:c"),
        encoded(b"\0:\0"),
        encoded(b"alice:" + b"x" * 8000),
        "Basic !!!!",
        "Basic",
        "Basic ",
        good[:-1],
        good + "=",
        good.replace("Basic ", "Basic:"),
        "Digest username=alice",
        "Bearer x",
        "Negotiate",
        "\xe9\xff",
    ):
        answer = site.ask("GET", f"/token?service={SERVICE}", headers={"Authorization": value}, address=site.address())
        assert answer.status in {400, 401}, value
        assert site.event_of(answer)["outcome"] == "denied", value
    nobody = site.ask("GET", f"/token?service={SERVICE}")
    assert nobody.status == 200
    twice = [("Authorization", good), ("Authorization", good)]
    assert site.ask("GET", f"/token?service={SERVICE}", headers=twice).status in {400, 401}
    assert site.ask("GET", f"/token?service={SERVICE}&account=bob", headers={"Authorization": good}).status == 401


def test_no_default_password_opens_anything(site: Site) -> None:
    def guess(number: int) -> int:
        # Every guess from another address: the throttle must not be what refuses.
        return site.sign_in("admin", DEFAULTS[number], address=f"127.7.1.{number + 1}").status

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(guess, range(len(DEFAULTS)))) == {401}


def test_guessing_is_throttled_and_nobody_else_is_locked_out(site: Site) -> None:
    here, there = site.address(), site.address()
    statuses = [site.sign_in("carol", f"guess {number}", address=here).status for number in range(9)]
    assert statuses[:5] == [401] * 5
    assert set(statuses[5:]) == {429}
    wrong = site.sign_in("carol", "one more guess", address=here)
    right = site.sign_in("carol", password_of("carol"), address=here)
    assert right.status == wrong.status == 429
    # A second may pass between the two.
    told = [
        each.body.replace(f" {each.header('retry-after')} second".encode(), b" N second") for each in (right, wrong)
    ]
    assert told[0] == told[1]
    assert b" N second" in told[0]
    assert 1 <= int(right.header("retry-after")) <= 900
    assert abs(int(right.header("retry-after")) - int(wrong.header("retry-after"))) <= 1
    assert site.sign_in("carol", password_of("carol"), address=there).status == 200
    posted = grant(site, here, grant_type="password", username="carol", password=password_of("carol"))
    assert posted.status == 429


def test_guesses_all_at_once_meet_the_throttle_too(site: Site) -> None:
    address = site.address()
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda n: site.sign_in("bob", f"guess {n}", address=address).status, range(24)))
    # Two workers, each of which may let a handful through before it knows of the other's.
    assert answers.count(401) <= 12
    assert answers.count(401) + answers.count(429) == 24


def test_token_grants_of_others_are_refused(site: Site) -> None:
    offline = site.sign_in("dave", "", offline_token="true").json()["refresh_token"]
    assert grant(site, grant_type="refresh_token", refresh_token=offline).status == 200
    assert grant(site, grant_type="refresh_token", refresh_token=offline, service="another").status == 400
    answer = grant(site, grant_type="refresh_token", refresh_token=offline, scope="repository:beta/x:pull,push,delete")
    assert answer.json()["scope"] == ""
    for wrong in (offline[:-1] + ("0" if offline[-1] != "0" else "1"), offline.upper(), "gwo_", "x", offline + " "):
        assert grant(site, site.address(), grant_type="refresh_token", refresh_token=wrong).status == 401
    for fields in (
        {"grant_type": "password", "username": "dave", "password": offline},
        {"grant_type": "password", "username": offline, "password": offline},
    ):
        assert grant(site, site.address(), **fields).status == 401
    for kind in ("client_credentials", "authorization_code", "urn:ietf:params:oauth:grant-type:jwt-bearer", "PASSWORD"):
        answer = grant(site, grant_type=kind, username="dave", password=password_of("dave"))
        assert (answer.status, answer.json()["error"]) == (400, "unsupported_grant_type")
    for fields in ({}, {"grant_type": "password"}, {"grant_type": "refresh_token"}, {"grant_type": ""}):
        assert grant(site, **fields).status == 400
    form = b"grant_type=password&username=dave&password=x&password=" + password_of("dave").encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert site.ask("POST", "/token", body=form, headers=headers, address=site.address()).status == 401
    assert site.ask("POST", "/token", body=form, headers={"Content-Type": "application/json"}).status == 415
    big = b"x=" + b"y" * 70_000
    assert site.ask("POST", "/token", body=big, headers=headers).status == 413
    assert site.ask("POST", "/token", body=b"&".join([b"a=1"] * 500), headers=headers).status == 400
    assert site.ask("POST", "/token", body=b"\xff\xfe%00%zz=%", headers=headers).status == 400
    tokens = site.rooms.administration.offline_tokens
    site.run(tokens.revoke_tokens(OPERATOR, "dave"))
    assert grant(site, site.address(), grant_type="refresh_token", refresh_token=offline).status == 401


def test_changed_password_and_disabled_account_end_everything_at_once(site: Site) -> None:
    accounts, grants = site.rooms.administration.accounts, site.rooms.administration.grants
    site.run(accounts.add_user(OPERATOR, "frank", password=password_of("frank")))
    site.run(grants.add_grant(OPERATOR, "frank", "puller", "alpha"))
    first = site.sign_in("frank", "", "repository:alpha/app:pull", offline_token="true").json()
    target = "/v2/alpha/app/manifests/v1"
    # Both workers believe the password by now, without hashing it.
    assert [site.sign_in("frank").status for _ in range(8)] == [200] * 8
    assert site.ask("GET", target, token=first["token"]).status == 200
    site.run(accounts.set_password(OPERATOR, "frank", "another password"))
    assert [site.ask("GET", target, token=first["token"]).status for _ in range(8)] == [401] * 8
    assert [site.ask("GET", "/v2/", token=first["token"]).status for _ in range(4)] == [401] * 4
    assert [site.sign_in("frank", address=site.address()).status for _ in range(4)] == [401] * 4
    again = grant(site, site.address(), grant_type="refresh_token", refresh_token=first["refresh_token"])
    assert again.status == 401
    second = site.sign_in("frank", "another password", "repository:alpha/app:pull").json()["token"]
    assert site.ask("GET", target, token=second).status == 200
    site.run(accounts.disable(OPERATOR, "frank"))
    assert [site.ask("GET", target, token=second).status for _ in range(8)] == [401] * 8
    assert [site.ask("GET", "/v2/", token=second).status for _ in range(4)] == [401] * 4
    assert site.sign_in("frank", "another password", address=site.address()).status == 401
    site.run(accounts.enable(OPERATOR, "frank"))
    site.run(accounts.remove_user(OPERATOR, "frank"))
    site.run(accounts.add_user(OPERATOR, "frank", password="another password"))
    site.run(grants.add_grant(OPERATOR, "frank", "puller", "alpha"))
    # An account of the same name is another account.
    assert [site.ask("GET", target, token=second).status for _ in range(4)] == [401] * 4


def test_robots_are_held_to_their_project_secret_and_time(site: Site) -> None:
    robots, grants = site.rooms.administration.robots, site.rooms.administration.grants
    made = site.run(robots.add_robot(OPERATOR, "beta+ci", "pusher"))
    assert made.secret is not None
    token = site.sign_in("beta+ci", made.secret, "repository:beta/x:*", "repository:alpha/app:*").json()["token"]
    assert site.ask("GET", "/v2/alpha/app/manifests/v1", token=token).status == 401
    assert site.ask("GET", "/v2/beta/x/tags/list", token=token).status == 404
    assert site.ask("POST", "/v2/beta/x/blobs/uploads/", token=token).status == 202
    for name in ("alpha+ci", "beta+other", "beta+ci+ci", "alpha/ci", "ci"):
        assert site.sign_in(name, made.secret, address=site.address()).status == 401
    rotated = site.run(robots.rotate_robot(OPERATOR, "beta+ci", expires=timedelta(days=1)))
    assert rotated.secret is not None
    assert site.ask("GET", "/v2/beta/x/tags/list", token=token).status == 401
    assert site.sign_in("beta+ci", made.secret, address=site.address()).status == 401
    assert site.sign_in("beta+ci", rotated.secret).status == 200
    site.run(robots.remove_robot(OPERATOR, "beta+ci"))
    assert site.sign_in("beta+ci", rotated.secret, address=site.address()).status == 401
    site.run(grants.add_grant(OPERATOR, "mallory", "puller", "alpha/app", expires=timedelta(seconds=60)))
    short = site.sign_in("mallory", "", "repository:alpha/app:pull").json()["token"]
    assert site.ask("GET", "/v2/alpha/app/manifests/v1", token=short).status == 200
    site.run(grants.remove_grant(OPERATOR, "mallory", "alpha/app"))
    assert [site.ask("GET", "/v2/alpha/app/manifests/v1", token=short).status for _ in range(6)] == [401] * 6


def test_pulls_go_on_while_passwords_are_guessed_in_parallel(site: Site) -> None:
    token = site.widest("alice", "alpha/app")
    stop = threading.Event()

    def guess(number: int) -> None:
        while not stop.is_set():
            site.sign_in(f"user{number}", "guess", address=f"127.9.{number}.1")

    with ThreadPoolExecutor(12) as pool:
        running = [pool.submit(guess, number) for number in range(12)]
        times = []
        for _ in range(40):
            begun = time.monotonic()
            assert site.ask("GET", "/v2/alpha/app/manifests/v1", token=token).status == 200
            times.append(time.monotonic() - begun)
        stop.set()
        for each in running:
            each.result()
    assert sorted(times)[len(times) // 2] < 0.5
