"""Guesses by the thousand, tokens in the wrong places, and a hundred pushes of a tag that may be made once."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, urlencode

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.warnings import InsecureKeyLengthWarning

from gateway.access.keys import thumbprint
from gateway.access.throttle import ACCOUNT_FAILURES, ADDRESS_FAILURES
from tests.attacks.site import SERVICE, Site, password_of, segment
from tests.house import OPERATOR
from tests.protocol.harness import PASSWORD, World, basic, challenge_of, image, sha256, world_on

TARGET = "/v2/alpha/app/manifests/v1"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with world_on(f"sqlite:///{tmp_path / 'gateway.db'}", tmp_path) as made:
        yield made


def sign_in(world: World, name: str, password: str, address: str) -> int:
    query = urlencode({"service": "registry.test"})
    headers = {"Authorization": basic(name, password)}
    return world.ask("GET", f"/token?{query}", headers=headers, address=address).status


# guessing


def test_spraying_one_password_over_many_accounts_ends_after_fifty(world: World) -> None:
    statuses = [sign_in(world, f"user{number}", "Winter2026!", "198.51.100.7") for number in range(70)]
    assert statuses == [401] * ADDRESS_FAILURES + [429] * (70 - ADDRESS_FAILURES)
    # Those who come from elsewhere notice nothing, not even the accounts that were tried.
    assert sign_in(world, "alice", PASSWORD, "198.51.100.8") == 200


def test_spraying_from_one_subscriber_is_spraying_from_one_address(world: World) -> None:
    addresses = [f"2001:db8:1:2:{number:x}::1" for number in range(70)]
    statuses = [sign_in(world, f"user{n}", "Winter2026!", address) for n, address in enumerate(addresses)]
    assert Counter(statuses) == {401: ADDRESS_FAILURES, 429: 70 - ADDRESS_FAILURES}
    assert sign_in(world, "alice", PASSWORD, "2001:db8:1:3::1") == 200


def test_a_victim_is_not_locked_out_by_guesses_from_everywhere(world: World) -> None:
    for number in range(ACCOUNT_FAILURES):
        assert sign_in(world, "bob", f"guess {number}", f"203.0.{number // 200}.{number % 200 + 1}") == 401
    begun = time.monotonic()
    assert sign_in(world, "bob", PASSWORD, "192.0.2.77") == 200
    # Slower, that is all; and whoever guesses gets one try instead of five.
    assert 1.5 < time.monotonic() - begun < 6
    assert [sign_in(world, "bob", "guess", "192.0.2.78") for _ in range(2)] == [401, 429]
    assert sign_in(world, "carol", PASSWORD, "192.0.2.77") == 200


def test_robots_are_not_locked_out_by_those_who_know_their_names(world: World) -> None:
    made = world.house.run(world.acts.robots.add_robot(OPERATOR, "alpha+ci", "puller"))
    assert made.secret is not None
    for number in range(60):
        sign_in(world, "alpha+ci", f"gwr_{number}", f"203.0.113.{number % 60 + 1}")
    assert sign_in(world, "alpha+ci", made.secret, "203.0.113.1") == 200


def test_uploads_of_others_are_not_found_by_guessing(world: World) -> None:
    alice, dave = world.widest("alice", "alpha/app"), world.widest("dave", "alpha/app")
    numbers = [world.begin(alice, "alpha/app").rpartition("/")[2] for _ in range(20)]
    assert all(uuid.UUID(number).version == 4 for number in numbers)
    assert len({number[:8] for number in numbers}) == 20
    guessed = {world.ask("GET", f"/v2/alpha/app/blobs/uploads/{uuid.uuid4()}", token=dave).status for _ in range(300)}
    assert guessed == {404}
    near = [f"{numbers[0][:-1]}{digit:x}" for digit in range(16)]
    assert {world.ask("GET", f"/v2/alpha/app/blobs/uploads/{each}", token=dave).status for each in near} == {404}
    # The thief has the id; it is worth nothing in other hands, in another repository, or as a robot of the project.
    made = world.house.run(world.acts.robots.add_robot(OPERATOR, "alpha+ci", "maintainer"))
    assert made.secret is not None
    robot = world.sign_in("alpha+ci", "repository:alpha/app:*", password=made.secret).json()["token"]
    for token in (dave, robot, world.widest("root", "alpha/app")):
        for method, query in (("GET", ""), ("PATCH", ""), ("PUT", f"?digest={sha256(b'')}"), ("DELETE", "")):
            target = f"/v2/alpha/app/blobs/uploads/{numbers[0]}{query}"
            assert world.ask(method, target, token=token).status == 404
    assert world.ask("GET", f"/v2/alpha/app/blobs/uploads/{numbers[0]}", token=alice).status == 204


# our own signed and secret things, in the wrong places


def test_nothing_that_we_give_out_is_believed_as_anything_else(site: Site) -> None:
    robots = site.rooms.administration.robots
    made = site.run(robots.add_robot(OPERATOR, "alpha+crossing", "puller"))
    assert made.secret is not None
    bearer = site.widest("alice", "alpha/app")
    offline = str(site.sign_in("dave", "", offline_token="true").json()["refresh_token"])
    for text in (made.secret, offline, password_of("alice")):
        answer = site.ask("GET", TARGET, token=quote(text))
        assert (answer.status, challenge_of(answer)["error"]) == (401, "invalid_token")
    for name, secret in (
        ("alice", bearer),
        ("dave", offline),
        ("alice", made.secret),
        ("", bearer),
        ("", made.secret),
        (bearer[:60], bearer[:60]),
        ("alpha+crossing", offline),
        ("alpha+crossing", password_of("alice")),
    ):
        assert site.sign_in(name or "nobody", secret, address=site.address()).status == 401, name
    for grant in (bearer, made.secret, password_of("dave"), offline[: len(offline) // 2]):
        form = {"service": SERVICE, "grant_type": "refresh_token", "refresh_token": grant}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = site.ask("POST", "/token", body=urlencode(form).encode(), headers=headers, address=site.address())
        assert answer.status == 401
    site.run(robots.remove_robot(OPERATOR, "alpha+crossing"))


def test_no_other_key_of_ours_signs_tokens(site: Site) -> None:
    """The key of the certificate is as public in its name as it is secret; it is no key of tokens."""
    claims = site.claims("alice", "alpha/app")
    own = site.ring().current().kid
    for path in sorted((site.data / "tls").rglob("*.key")):
        key = load_pem_private_key(path.read_bytes(), None)
        for kid in (own, thumbprint(key.public_key())):  # type: ignore[arg-type]
            for alg in ("ES256", "ES384"):
                try:
                    token = jwt.encode(claims, key, alg, headers={"kid": kid})  # type: ignore[arg-type]
                except (ValueError, TypeError, jwt.InvalidKeyError):
                    continue
                assert site.ask("GET", TARGET, token=token).status == 401
    secret = (site.data / "keys" / "secret").read_bytes()
    for key in (secret, secret.strip(), secret.hex().encode()):
        with warnings.catch_warnings():
            # A forger is not held back by a warning: stripped, a random secret may be shorter than PyJWT likes.
            warnings.simplefilter("ignore", InsecureKeyLengthWarning)
            token = jwt.encode(claims, key, "HS256", headers={"kid": own})
        assert site.ask("GET", TARGET, token=token).status == 401


@pytest.mark.parametrize(
    "change",
    [
        {"kid": "../../../../dev/null"},
        {"kid": "/proc/self/environ"},
        {"kid": "' UNION SELECT 'x' --"},
        {"kid": "$(id)"},
        {"kid": ["own"]},
        {"kid": {"own": 1}},
        {"kid": None},
        {"kid": 0},
        {"kid": "A" * 43},
        {"kid": "\u0430" * 43},
        {"alg": "ES256 "},
        {"alg": "es256"},
        {"alg": ["ES256"]},
        {"alg": "RS256"},
        {"alg": "PS256"},
        {"alg": "EdDSA"},
        {"alg": "ES256K"},
        {"typ": "jwt"},
        {"typ": "at+jwt"},
        {"typ": "JWE"},
        {"typ": None},
        {"enc": "A256GCM"},
        {"epk": {}},
        {"p2c": 2**31},
        {"iv": ""},
        {"url": "https://localhost/"},
        {"nonce": "x"},
        {"x5t#S256": "x"},
        {"x5c": []},
        {"jwk": None},
        {"crit": ["b64"], "b64": False},
        {"": ""},
    ],
    ids=lambda change: json.dumps(change)[:40],
)
def test_heads_of_tokens_are_ours_to_the_letter(site: Site, change: dict[str, object]) -> None:
    told = {"alg": "ES256", "kid": site.ring().current().kid, "typ": "JWT", **change}
    answer = site.ask("GET", TARGET, token=site.sign(site.claims("alice", "alpha/app"), told))
    assert (answer.status, challenge_of(answer)["error"]) == (401, "invalid_token")


def test_encrypted_and_nested_tokens_are_none(site: Site) -> None:
    real = site.sign(site.claims("alice", "alpha/app"))
    nested = site.sign(json.dumps(real).encode(), {"alg": "ES256", "kid": site.ring().current().kid, "typ": "JWT"})
    parts = real.split(".")
    for text in (
        nested,
        ".".join([*parts, segment(b"x"), segment(b"y")]),
        json.dumps({"payload": parts[1], "signatures": [{"protected": parts[0], "signature": parts[2]}]}),
        json.dumps({"payload": parts[1], "protected": parts[0], "signature": parts[2]}).replace(" ", ""),
    ):
        assert site.ask("GET", TARGET, token=text).status == 401


# racing


def test_of_a_hundred_pushes_of_an_immutable_tag_one_wins(site: Site) -> None:
    projects = site.rooms.administration.projects
    site.run(projects.add_project(OPERATOR, "sealed"))
    site.run(projects.set_project(OPERATOR, "sealed", immutable=("v*",)))
    token = site.widest("root", "sealed/app")
    layers = [f"sealed layer {number}".encode() for number in range(10)]
    site.push_blob(token, "sealed/app", b"{}")
    for layer in layers:
        site.push_blob(token, "sealed/app", layer)
    contents = [image(b"{}", layer, annotations={"n": str(n)}) for n in range(10) for layer in layers]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda content: site.put(token, "sealed/app", "v1", content), contents))
    assert Counter(answer.status for answer in answers) == {201: 1, 403: 99}
    winner = site.ask("GET", "/v2/sealed/app/manifests/v1", token=token).body
    assert winner == next(content for content, answer in zip(contents, answers, strict=True) if answer.status == 201)
    # Again the same is no move; everything that would move or remove it is refused, by whatever way.
    assert site.put(token, "sealed/app", "v1", winner).status == 201
    listed = sha256(winner)
    for method, target in (("DELETE", "v1"), ("DELETE", listed)):
        assert site.ask(method, f"/v2/sealed/app/manifests/{target}", token=token).status == 403
    assert site.put(token, "sealed/app", f"{sha256(contents[-1])}?tag=v1", contents[-1]).status in {201, 403}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: site.ask("DELETE", "/v2/sealed/app/manifests/v1", token=token), range(16)))
    assert site.ask("GET", "/v2/sealed/app/manifests/v1", token=token).body == winner
    moves = site.events(repository="sealed/app", kind="manifest.push")
    allowed = [event for event in moves if event["outcome"] == "allowed" and event.get("reference") == "v1"]
    assert len(allowed) == 2
    assert Counter(event["outcome"] for event in moves)["denied"] >= 99


def test_a_deletion_that_races_with_a_rule_is_before_or_after_it(site: Site) -> None:
    projects = site.rooms.administration.projects
    site.run(projects.add_project(OPERATOR, "settling"))
    token = site.widest("root", "settling/app")
    for number in range(6):
        site.push_image(token, "settling/app", f"r{number}")
        with ThreadPoolExecutor(2) as pool:
            pattern = (f"r{number}",)
            ruled = pool.submit(asyncio.run, projects.set_project(OPERATOR, "settling", immutable=pattern))
            gone = pool.submit(site.ask, "DELETE", f"/v2/settling/app/manifests/r{number}", token=token).result()
            ruled.result()
        there = site.ask("GET", f"/v2/settling/app/manifests/r{number}", token=token).status
        assert (gone.status, there) in {(202, 404), (403, 200)}
        assert site.ask("DELETE", f"/v2/settling/app/manifests/r{number}", token=token).status in {403, 404}
