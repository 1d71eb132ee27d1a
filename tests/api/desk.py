"""The API as programs meet it: the registry's world behind it, tokens for everybody in it, and a small client."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from gateway.answers import Answers
from gateway.api.application import Api
from gateway.api.request import Parts
from gateway.audit.trail import Search
from tests.house import OPERATOR
from tests.protocol.harness import PASSWORD, World, world_on

ACTIONS = ("pull", "push", "delete", "manage", "review")
CURSOR_KEY = b"a key for the cursors of tests.."
#: Beside those of the world: an owner of each private project.
OWNERS = (("olga", "alpha"), ("oscar", "beta"))
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; *complete* is whether the reply reached its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def problem(self) -> dict[str, Any]:
        """The problem that is told."""
        assert self.headers["content-type"] == "application/problem+json", self.body
        told: dict[str, Any] = self.json()
        assert told["status"] == self.status
        assert told["request_id"] == self.headers["x-request-id"]
        assert told["type"].startswith("urn:registry-gateway:problem:")
        return told


@dataclass(slots=True)
class Desk:
    """Everything behind one API."""

    world: World
    api: Api
    tokens: dict[str, str] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def acts(self) -> Any:
        return self.world.acts

    def run(self, coroutine: Any) -> Any:
        return self.world.house.run(coroutine)

    def token(self, user: str, *, actions: tuple[str, ...] = ACTIONS, projects: tuple[str, ...] | None = None) -> str:
        """A personal access token of *user*; the widest there is unless told otherwise, and then always the same."""
        widest = actions == ACTIONS and projects is None
        if widest and user in self.tokens:
            return self.tokens[user]
        name = f"token {next(self.numbers)}"
        made = self.run(self.acts.personal_tokens.issue(OPERATOR, name, actions, projects, 30, account=user))
        if widest:
            self.tokens[user] = made.secret
        return str(made.secret)

    def ask(
        self,
        user: str,
        method: str,
        target: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        token: str = "",
        raw: bytes | None = None,
        deaf_after: int | None = None,
        stuck_after: int | None = None,
        address: str = "192.0.2.20",
    ) -> Answer:
        """One request by *user* ("" for nobody), with *body* as JSON, or with *raw* as it is."""
        return asyncio.run(
            self.asking(
                user,
                method,
                target,
                body,
                headers=headers,
                token=token,
                raw=raw,
                deaf_after=deaf_after,
                stuck_after=stuck_after,
                address=address,
            )
        )

    async def asking(
        self,
        user: str,
        method: str,
        target: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        token: str = "",
        raw: bytes | None = None,
        deaf_after: int | None = None,
        stuck_after: int | None = None,
        address: str = "192.0.2.20",
    ) -> Answer:
        content = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        sent = dict(headers or {})
        if body is not None:
            sent.setdefault("Content-Type", JSON)
        if content:
            sent.setdefault("Content-Length", str(len(content)))
        text = token or (self.tokens.get(user, "") if user else "")
        if text:
            sent.setdefault("Authorization", f"Bearer {text}")
        return await self.carry(
            method, target, sent, content, deaf_after=deaf_after, stuck_after=stuck_after, address=address
        )

    async def carry(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        content: bytes,
        *,
        deaf_after: int | None = None,
        stuck_after: int | None = None,
        address: str = "192.0.2.20",
    ) -> Answer:
        """One request to the application as it is."""
        path, _, query = target.partition("?")
        coming: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": content, "more_body": False}]
        told: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            await asyncio.sleep(0)
            return coming.pop(0) if coming else {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            await asyncio.sleep(0)
            if deaf_after is not None and len(told) >= deaf_after:
                raise ConnectionResetError
            if stuck_after is not None and len(told) >= stuck_after:
                await asyncio.Event().wait()
            told.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
            "client": (address, 40000),
        }
        await self.api(scope, receive, send)
        if not told:
            return Answer(0, {}, b"", False)
        named = {name.decode(): value.decode("latin-1") for name, value in told[0]["headers"]}
        sent = b"".join(message["body"] for message in told[1:])
        complete = len(told) > 1 and not told[-1]["more_body"]
        if complete:
            self._check(method, told[0]["status"], named, sent)
        return Answer(told[0]["status"], named, sent, complete)

    @staticmethod
    def _check(method: str, status: int, headers: Mapping[str, str], content: bytes) -> None:
        """What holds for every whole reply."""
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert len(headers["x-request-id"]) == 32
        assert not {name for name in headers if name.startswith("access-control-")}
        assert "set-cookie" not in headers
        if method == "HEAD" or status == 204:
            assert content == b""
        elif "content-length" in headers:
            assert int(headers["content-length"]) == len(content)
        if status >= 400 and method != "HEAD":
            assert headers["content-type"] == "application/problem+json"

    def events_of(self, answer: Answer) -> list[dict[str, Any]]:
        """The events of the request that *answer* answers."""
        newest = self.world.house.trail.page(Search(), limit=20)
        found = [event.record() for event in newest]
        return [event for event in reversed(found) if event["request_id"] == answer.headers["x-request-id"]]

    def project(self) -> str:
        """A new private project that no other test uses."""
        name = f"p{next(self.numbers)}"
        self.run(self.acts.projects.add_project(OPERATOR, name))
        return name

    def user(self) -> str:
        """A new user that no other test uses, with its token."""
        name = f"user{next(self.numbers)}"
        self.run(self.acts.accounts.add_user(OPERATOR, name, password=PASSWORD))
        self.token(name)
        return name

    def grant(self, user: str, role: str, reach: str) -> None:
        self.run(self.acts.grants.add_grant(OPERATOR, user, role, reach))

    def image(self, repository: str, *tags: str) -> str:
        """An image pushed into *repository* of a project in which root may; its digest as the tag list tells it."""
        self.world.push_image(self.world.widest("root", repository), repository, *tags)
        return repository.replace("/", "%2F")


@contextmanager
def desk_on(url: str, data: Path) -> Iterator[Desk]:
    """A desk on an empty database, with the world's users and an owner of each project, all with their tokens."""
    with world_on(url, data, trash_seconds=86400) as world:
        acts = world.acts
        sign_in = acts.sign_in(world.registry.parts.credentials)
        desk = Desk(world, Api(Parts(acts, sign_in, CURSOR_KEY, Answers(data / "answers", b"k" * 32))))
        for name, project in OWNERS:
            desk.run(acts.accounts.add_user(OPERATOR, name, password=PASSWORD))
            desk.grant(name, "owner", project)
        for name in ("root", "auditor", "olga", "oscar", "alice", "bob", "dave", "carol", "mallory"):
            desk.token(name)
        yield desk
