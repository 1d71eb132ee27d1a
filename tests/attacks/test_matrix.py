"""The matrix: every principal on every row of the table with every kind of credential; what it may is written here."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from gateway.access.principals import ANONYMOUS, Principal, PrincipalKind
from gateway.access.scopes import Access, Action
from gateway.access.tokens import Tokens
from gateway.oci.media import OCI_MANIFEST
from gateway.registry import routes
from gateway.registry.routes import TABLE, Row
from tests.house import OPERATOR
from tests.protocol.harness import ISSUER, PASSWORD, SERVICE, World, basic, challenge_of, image, sha256, world_on

#: Who may do what where, said apart from roles and policy.
MAY = {
    "": {"pub": "pull"},
    "mallory": {"pub": "pull"},
    "auditor": {"pub": "pull"},
    "bob": {"alpha": "pull", "pub": "pull"},
    "alice": {"alpha": "pull push", "pub": "pull push"},
    "dave": {"alpha": "pull push delete", "pub": "pull"},
    "carol": {"beta": "pull push", "pub": "pull"},
    "beta+ci": {"beta": "pull push delete", "pub": "pull"},
    "root": {"alpha": "pull push delete", "beta": "pull push delete", "pub": "pull push delete"},
}
PROJECTS = ("alpha", "beta", "pub")
#: Tokens; what they are is written in `credentials`.
HELD = ("asked for", "made out for everything", "without a right", "for another repository")
WORTHLESS = ("over", "of another service", "of another issuer", "of a password since changed", "of another account")
LAYER, MANIFEST = b"a layer", image(b"{}", b"a layer")
RIGHTS = [row for row in TABLE if row.pattern not in (routes.PING, routes.CATALOG)]
CASES = len(RIGHTS) * len(MAY) * len(PROJECTS) * len(HELD) + len(TABLE) * (len(WORTHLESS) + 4)


@dataclass(slots=True)
class Stage:
    world: World
    robot: str
    people: dict[str, Principal] = field(default_factory=dict)
    tokens: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def token(self, who: str, project: str, kind: str) -> str:
        """A token of *kind* for *who*, made once."""
        if (who, project, kind) not in self.tokens:
            self.tokens[who, project, kind] = self._made(who, project, kind)
        return self.tokens[who, project, kind]

    def _made(self, who: str, project: str, kind: str) -> str:
        whole = Access({f"{project}/known": frozenset(Action)})
        match kind:
            case "asked for":
                password = self.robot if "+" in who else PASSWORD
                answer = self.world.sign_in(who, f"repository:{project}/known:*", password=password)
                return str(answer.json()["token"])
            case "made out for everything":
                return self.signed(who, whole)
            case "without a right":
                return self.signed(who, Access())
            case "for another repository":
                return self.signed(who, Access({f"{project}/other": frozenset(Action)}))
            case "over":
                return self.signed(who, whole, ago=timedelta(hours=1))
            case "of another service":
                return self.signed(who, whole, service="registry.elsewhere")
            case "of another issuer":
                return self.signed(who, whole, issuer="https://registry.elsewhere")
            case "of a password since changed":
                return self.signed(who, whole, generation=7)
            case _:
                return self.signed("", whole, principal=Principal(PrincipalKind.USER, 999_999, who))

    def signed(
        self,
        who: str,
        access: Access,
        *,
        ago: timedelta = timedelta(),
        service: str = SERVICE,
        issuer: str = ISSUER,
        generation: int = 0,
        principal: Principal | None = None,
    ) -> str:
        """A token signed with the gateway's own key that says whatever it is to say."""
        made = Tokens(self.world.ring, issuer, service, 300)
        whose = principal or self.people[who]
        return made.issue(whose, access, generation=generation, projects={}, now=datetime.now(UTC) - ago).text


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    data = tmp_path_factory.mktemp("matrix")
    with world_on(f"sqlite:///{data / 'gateway.db'}", data) as world:
        made = world.house.run(world.acts.robots.add_robot(OPERATOR, "beta+ci", "maintainer"))
        assert made.secret is not None
        for who, project in (("alice", "alpha"), ("carol", "beta"), ("alice", "pub")):
            world.push_image(world.widest(who, f"{project}/known"), f"{project}/known", "v1", layer=LAYER)
        stage = Stage(world, made.secret, {"": ANONYMOUS})
        for who in MAY:
            if who:
                kind = PrincipalKind.ROBOT if "+" in who else PrincipalKind.USER
                account = world.house.run(_account(world, who))
                stage.people[who] = Principal(kind, account, who)
        yield stage


async def _account(world: World, who: str) -> int:
    stored = await world.registry.parts.credentials._accounts.account(who)
    assert stored is not None
    return stored.principal.id


def needed(row: Row) -> set[str]:
    """The rights that a row takes, from its method and path alone."""
    if row.method == "DELETE" and row.pattern != routes.UPLOAD:
        return {"delete"}
    if row.pattern == routes.UPLOAD and row.method in {"GET", "DELETE"}:
        return {"push"}
    return {"push", "pull"} if row.method in {"POST", "PUT", "PATCH"} else {"pull"}


def asked(row: Row, project: str) -> tuple[str, bytes, dict[str, str]]:
    """A request for *row* that can do no harm: what it would delete is not there, what it would push is."""
    nowhere = sha256(b"nowhere")
    known = f"{project}/known"
    path, _, _ = row.pattern.partition("?")
    deletes = row.method == "DELETE"
    digest = nowhere if deletes else sha256(LAYER) if row.pattern == routes.BLOB else sha256(MANIFEST)
    query = {
        routes.WHOLE: f"?digest={sha256(LAYER)}",
        routes.MOUNT: f"?mount={sha256(LAYER)}&from={known}",
        routes.UPLOAD: f"?digest={sha256(LAYER)}" if row.method == "PUT" else "",
    }.get(row.pattern, "")
    target = path.format(name=known, digest=digest, tag="v9" if deletes else "v1", id="0" * 32) + query
    if row.pattern in (routes.BY_TAG, routes.BY_DIGEST) and row.method == "PUT":
        return target, MANIFEST, {"Content-Type": OCI_MANIFEST}
    return target, LAYER if row.pattern == routes.WHOLE else b"", {}


def expected(who: str, project: str, kind: str, row: Row) -> str:
    """`passed`, or the error of the challenge."""
    if kind in {"without a right", "for another repository"}:
        return "insufficient_scope"
    if needed(row) <= set(MAY[who].get(project, "").split()):
        return "passed"
    # A token that was asked for carries no more than what its owner has; one that claims more is stale.
    return "insufficient_scope" if kind == "asked for" else "invalid_token"


@pytest.mark.parametrize("row", RIGHTS, ids=lambda row: f"{row.method} {row.pattern}")
def test_everybody_may_what_is_written_here_and_nothing_else(stage: Stage, row: Row) -> None:
    for who, project, kind in product(MAY, PROJECTS, HELD):
        target, body, headers = asked(row, project)
        token = stage.token(who, project, kind)
        answer = stage.world.ask(row.method, target, token=token, body=body, headers=headers)
        wanted = expected(who, project, kind, row)
        got = challenge_of(answer).get("error", "") if answer.status == 401 else "passed"
        assert got == wanted, (who, project, kind, answer)
        assert answer.status < 500, answer
        assert answer.status not in {403, 429}, answer


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.method} {row.pattern}")
def test_no_other_credential_opens_any_row(stage: Stage, row: Row) -> None:
    target, body, headers = asked(row, "alpha")
    for kind in WORTHLESS:
        token = stage.token("dave", "alpha", kind)
        answer = stage.world.ask(row.method, target, token=token, body=body, headers=headers)
        assert (answer.status, challenge_of(answer).get("error")) == (401, "invalid_token"), kind
    real = stage.token("dave", "alpha", "asked for")
    for sent in (
        {},
        {"Authorization": basic("dave", PASSWORD)},
        {"Authorization": "Basic " + base64.b64encode(f"dave:{real}".encode()).decode()},
        {"Cookie": f"token={real}; __Host-gw={real}"},
    ):
        answer = stage.world.ask(row.method, target, body=body, headers={**headers, **sent})
        assert (answer.status, "error" in challenge_of(answer)) == (401, False), sent


def test_what_there_was_is_still_there(stage: Stage) -> None:
    for project in PROJECTS:
        root = stage.world.widest("root", f"{project}/known")
        assert stage.world.ask("GET", f"/v2/{project}/known/manifests/v1", token=root).body == MANIFEST
        assert stage.world.ask("GET", f"/v2/{project}/known/blobs/{sha256(LAYER)}", token=root).body == LAYER
        tags = stage.world.ask("GET", f"/v2/{project}/known/tags/list", token=root).json()["tags"]
        assert tags == ["v1"]
    assert stage.world.house.trail.verify().fault == ""
