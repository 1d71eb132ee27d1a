"""THE TABLE, row by row: no credentials, the wrong role, the right role; and everything that is no row."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from gateway.access.refusals import wanted_scope
from gateway.audit.event import QUIET, STEPS, Kind
from gateway.change import Notes
from gateway.errors import Unavailable
from gateway.gate import Act
from gateway.oci.media import OCI_MANIFEST
from gateway.oci.names import Repository
from gateway.registry import routes
from gateway.registry.routes import OPEN, TABLE, Row
from tests.protocol.harness import World, challenge_of, image, limited, sha256

LAYER = b"a layer"
MANIFEST = image(b"{}", LAYER)
CATALOG = "registry:catalog:*"


@dataclass(frozen=True)
class Try:
    """A request of one row against repository *name*: where to, with what, and what the right role is answered."""

    target: str
    status: int
    body: bytes = b""
    media_type: str = ""


def requests(world: World, row: Row, name: str, token: str) -> Try:
    """What *row* is tried with; *token* may prepare what it needs."""
    layer, manifest = sha256(LAYER), sha256(MANIFEST)
    uploads = f"/v2/{name}/blobs/uploads/"
    fixed = {
        (routes.PING, "GET"): Try("/v2/", 200),
        (routes.PING, "HEAD"): Try("/v2/", 200),
        (routes.CATALOG, "GET"): Try("/v2/_catalog", 200),
        (routes.TAGS, "GET"): Try(f"/v2/{name}/tags/list", 200),
        (routes.REFERRERS, "GET"): Try(f"/v2/{name}/referrers/{manifest}", 200),
        (routes.BLOB, "GET"): Try(f"/v2/{name}/blobs/{layer}", 200),
        (routes.BLOB, "HEAD"): Try(f"/v2/{name}/blobs/{layer}", 200),
        (routes.BLOB, "DELETE"): Try(f"/v2/{name}/blobs/{sha256(b'loose')}", 202),
        (routes.UPLOADS, "POST"): Try(uploads, 202),
        (routes.WHOLE, "POST"): Try(f"{uploads}?digest={sha256(b'new')}", 201, b"new"),
        (routes.MOUNT, "POST"): Try(f"{uploads}?mount={layer}&from={name}", 201),
        (routes.BY_TAG, "GET"): Try(f"/v2/{name}/manifests/v1", 200),
        (routes.BY_DIGEST, "GET"): Try(f"/v2/{name}/manifests/{manifest}", 200),
        (routes.BY_TAG, "HEAD"): Try(f"/v2/{name}/manifests/v1", 200),
        (routes.BY_DIGEST, "HEAD"): Try(f"/v2/{name}/manifests/{manifest}", 200),
        (routes.BY_TAG, "PUT"): Try(f"/v2/{name}/manifests/v2", 201, MANIFEST, OCI_MANIFEST),
        (routes.BY_DIGEST, "PUT"): Try(f"/v2/{name}/manifests/{manifest}", 201, MANIFEST, OCI_MANIFEST),
        (routes.BY_TAG, "DELETE"): Try(f"/v2/{name}/manifests/v1", 202),
        (routes.BY_DIGEST, "DELETE"): Try(f"/v2/{name}/manifests/{manifest}", 202),
    }
    if row.pattern == routes.UPLOAD:
        location = world.begin(token, name)
        return {
            "GET": Try(location, 204),
            "PATCH": Try(location, 202, b"chunk"),
            "PUT": Try(f"{location}?digest={sha256(b'new')}", 201, b"new"),
            "DELETE": Try(location, 204),
        }[row.method]
    return fixed[row.pattern, row.method]


def send(world: World, row: Row, tried: Try, token: str = "") -> tuple[int, str, list[dict[str, object]]]:
    headers = {"Content-Type": tried.media_type} if tried.media_type else {}
    with world.watching() as seen:
        answer = world.ask(row.method, tried.target, token=token, body=tried.body, headers=headers)
    if answer.status == 401 or row.method == "HEAD":
        assert row.method != "HEAD" or answer.body == b""
    return answer.status, answer.header("www-authenticate"), seen


def scope_of(row: Row, name: str) -> str:
    """What the row's challenge asks for, said apart from the row."""
    if row.pattern in {routes.PING}:
        return ""
    if row.pattern == routes.CATALOG:
        return CATALOG
    actions = {"GET": "pull", "HEAD": "pull", "POST": "pull,push", "PATCH": "pull,push", "PUT": "pull,push"}
    wanted = actions.get(row.method, "delete")
    if row.pattern == routes.UPLOAD and row.method in {"GET", "DELETE"}:
        wanted = "push"
    return f"repository:{name}:{wanted}"


def identify(row: Row) -> str:
    return f"{row.method} {row.pattern}"


@pytest.mark.parametrize("row", TABLE, ids=identify)
def test_without_credentials_every_row_is_a_challenge_and_no_event(world: World, row: Row) -> None:
    name = world.name()
    dave = world.widest("dave", name)
    world.push_image(dave, name, "v1", layer=LAYER)
    tried = requests(world, row, name, dave)
    for project in (name, "nobody/none", "pub/none"):
        target = tried.target.replace(name, project)
        status, challenge, seen = send(world, row, Try(target, 0, tried.body, tried.media_type))
        assert status == 401
        assert challenge.startswith("Bearer realm=")
        assert "error=" not in challenge
        scope = scope_of(row, project)
        assert f'scope="{scope}"' in challenge if scope else "scope=" not in challenge
        assert seen == []


@pytest.mark.parametrize("row", [row for row in TABLE if row.needs is not routes.nothing], ids=identify)
def test_the_wrong_role_is_refused_and_recorded_on_every_row(world: World, row: Row) -> None:
    name = world.name()
    dave = world.widest("dave", name)
    world.push_image(dave, name, "v1", layer=LAYER)
    tried = requests(world, row, name, dave)
    lesser = "mallory" if row.needs is routes.pull else "alice" if row.needs is routes.delete else "bob"
    status, challenge, seen = send(world, row, tried, world.widest(lesser, name))
    assert status == 401
    assert 'error="insufficient_scope"' in challenge
    assert f'scope="{scope_of(row, name)}"' in challenge
    [event] = seen
    assert (event["kind"], event["outcome"], event["reason"]) == (row.kind.value, "denied", "insufficient_scope")
    assert (event["principal"], event["repository"], event["project"]) == (lesser, name, "alpha")
    if "manifests/" in tried.target:
        assert event["reference"] == tried.target.rpartition("/")[2]
    if row.pattern in {routes.BLOB, routes.BY_DIGEST, routes.REFERRERS}:
        assert event["digest"] == tried.target.rpartition("/")[2]
    assert world.ask("GET", f"/v2/{name}/manifests/v1", token=dave).status == 200, "nothing came of it"


@pytest.mark.parametrize("row", TABLE, ids=identify)
def test_the_right_role_is_allowed_and_recorded_where_it_is_due(world: World, row: Row) -> None:
    name = world.name()
    dave = world.widest("dave", name)
    world.push_image(dave, name, "v1", layer=LAYER)
    world.push_blob(dave, name, b"loose")
    tried = requests(world, row, name, dave)
    token = world.token("dave", CATALOG) if row.catalog else dave
    status, _, seen = send(world, row, tried, token)
    assert status == tried.status
    kind = Kind.BLOB_MOUNT if row.pattern == routes.MOUNT else row.kind
    due = [] if kind in QUIET | STEPS else [(kind.value, "allowed", "dave")]
    told = [(event["kind"], event["outcome"], event["principal"]) for event in seen]
    assert [each for each in told if each[0] == kind.value] == due
    assert {outcome for _, outcome, _ in told} <= {"allowed"}


def test_an_act_that_cannot_be_recorded_is_not_acknowledged(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    name = world.name()
    dave = world.widest("dave", name)
    world.push_image(dave, name, "v1", layer=LAYER)

    async def full(ledger: object, act: Act) -> Notes:
        raise Unavailable("The trail cannot be written now.", retry_after_seconds=7)

    targets = [
        ("GET", f"/v2/{name}/manifests/v1"),
        ("GET", f"/v2/{name}/blobs/{sha256(LAYER)}"),
        ("DELETE", f"/v2/{name}/manifests/v1"),
        ("POST", f"/v2/{name}/blobs/uploads/"),
        ("GET", "/token"),
    ]
    with monkeypatch.context() as patched:
        patched.setattr(type(world.house.ledger), "commit", full)
        for method, target in targets:
            answer = world.ask(method, target, token="" if target == "/token" else dave)
            assert (answer.status, answer.code, answer.header("retry-after")) == (503, "UNAVAILABLE", "7")
            assert LAYER not in answer.body
    assert world.ask("GET", f"/v2/{name}/manifests/v1", token=dave).status == 200


# everything that is no row


@pytest.mark.parametrize("row", [*TABLE, *OPEN], ids=lambda row: f"{row.method} {row.pattern}")
def test_a_known_address_tells_the_methods_it_answers(world: World, row: Row) -> None:
    path = row.pattern.partition("?")[0]
    for word, value in (("{name}", "a/b"), ("{digest}", sha256(b"x")), ("{id}", "1"), ("{tag}", "v1")):
        path = path.replace(word, value)
    for method in ("OPTIONS", "TRACE", "PROPFIND", "get", "CONNECT"):
        with world.watching() as seen:
            answer = world.ask(method, path)
        assert (answer.status, answer.code) == (405, "UNSUPPORTED")
        assert row.method in answer.header("allow").split(", ")
        assert seen == []


def test_a_method_is_what_it_is_whatever_headers_say(world: World) -> None:
    name = world.name()
    dave = world.widest("dave", name)
    world.push_image(dave, name, "v1")
    answer = world.ask(
        "GET", f"/v2/{name}/manifests/v1?_method=DELETE", token=dave, headers={"X-HTTP-Method-Override": "DELETE"}
    )
    assert answer.status == 200
    assert world.ask("GET", f"/v2/{name}/manifests/v1", token=dave).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1/",
        "/v2/x",
        "/v2/x/y/z",
        "/v2//",
        "/v2/manifests/v1",
        "/v2/blobs/uploads/",
        "/token/",
        "/tok%65n",
        "/v2%2f",
        "/api/x",
        "/../etc/passwd",
        "/v2/../token",
        "/v2/%2e%2e/token",
        "/v2/alpha/app/manifests/../../token",
        "/v2/\\..\\token",
        "/V2/",
    ],
)
def test_any_other_address_is_nothing_and_says_so_in_the_envelope(world: World, path: str) -> None:
    answer = world.ask("GET", path)
    assert answer.status == 404
    assert answer.header("content-type") == "application/json"
    assert answer.code == "UNKNOWN"


@pytest.mark.parametrize(
    "name",
    [
        "ALPHA/app",
        "alpha/App",
        "alpha//app",
        "alpha/",
        "-a",
        "a..b",
        "a/../b",
        "a" * 256,
        "alpha/%61pp",
        "a%2Fb",
        "a%00b",
    ],
)
def test_a_name_that_is_none_or_is_escaped_is_refused(world: World, name: str) -> None:
    for target in (f"/v2/{name}/manifests/v1", f"/v2/{name}/tags/list", f"/v2/{name}/blobs/uploads/"):
        answer = world.ask("POST" if target.endswith("/") else "GET", target, token=world.token("alice"))
        assert (answer.status, answer.code) == (400, "NAME_INVALID")


def test_an_escaped_separator_gives_no_second_reading(world: World) -> None:
    answer = world.ask("GET", "/v2/alpha/manifests/x%2Fmanifests%2Fv1", token=world.token("alice"))
    assert (answer.status, answer.code) == (400, "NAME_INVALID")


def test_every_answer_has_a_number_of_its_own_that_is_the_one_in_the_trail(world: World) -> None:
    token = world.widest("bob", "alpha/x")
    with world.watching() as seen:
        answer = world.ask("PUT", "/v2/alpha/x/manifests/v1", token=token, headers={"X-Request-Id": "f" * 32})
    assert answer.header("x-request-id") == seen[0]["request_id"] != "f" * 32
    numbers = {world.ask("GET", path).header("x-request-id") for path in ("/", "/v2/", "/v2", "/token", "/v2/A/b")}
    assert len(numbers) == 5


def test_where_a_request_came_from_is_in_the_trail(world: World) -> None:
    token = world.widest("bob", "alpha/x")
    with world.watching() as seen:
        world.ask(
            "PUT",
            "/v2/alpha/x/manifests/v1",
            token=token,
            address="203.0.113.9",
            headers={"User-Agent": "docker/29", "X-Forwarded-For": "1.2.3.4"},
        )
    assert (seen[0]["address"], seen[0]["agent"]) == ("203.0.113.9", "docker/29")


def test_too_many_parameters_are_refused_everywhere(world: World) -> None:
    answer = world.ask("GET", "/v2/_catalog?" + "&".join("a=b" for _ in range(200)))
    assert (answer.status, answer.code) == (400, "INVALID")


def test_the_right_that_is_missing_is_told_where_the_repository_may_be_known(world: World) -> None:
    name = world.name()
    answer = world.ask("POST", f"/v2/{name}/blobs/uploads/", token=world.widest("bob", name))
    description = challenge_of(answer)["error_description"]
    assert f"push on {name} is missing" in description
    assert "puller on alpha" in description
    assert "alpha" not in challenge_of(
        world.ask("POST", f"/v2/{name}/blobs/uploads/", token=world.widest("carol", name))
    )["error_description"].replace(name, "")


def test_a_fault_is_in_the_log_with_its_number(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(host: str) -> str:
        raise KeyError(host)

    broken = limited(world, realm_for=fails)
    with caplog.at_level(logging.ERROR, "gateway.registry"):
        answer = broken.ask("GET", "/v2/")
    assert answer.status == 500
    assert answer.header("x-request-id") in caplog.text
    looked = broken.ask("HEAD", "/v2/")
    assert (looked.status, looked.body, looked.header("content-length")) == (500, b"", "0")


def test_needs_and_challenges_are_the_same_thing() -> None:
    """A scope that a challenge asks for covers every need: a client that got it is not challenged again."""
    request: Callable[..., object] = type("Asked", (), {"repository": Repository("a/b")})
    for row in TABLE:
        if row.needs is not routes.mount:
            needs = row.needs(request())  # type: ignore[arg-type]
            assert all(need.action.value in wanted_scope(needs) for need in needs)
