"""A gateway under test in a directory of its own, and the one client that keeps the journal."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.harness.forking import ForkedGateway
from tests.faults.harness.inject.faulty_shadow import Shadow
from tests.faults.harness.journal import Journal
from tests.faults.harness.striking import Target
from tests.services.clients import Result
from tests.services.daemon import scratch
from tests.services.gateway import Gateway, printed_password
from tests.services.wire import Answer, Connection

PROJECT = "gallery"
REPOSITORIES = ("gallery/a", "gallery/b", "gallery/c")
_SCOPES = [f"repository:{name}:pull,push,delete" for name in REPOSITORIES]
_TOKEN_SECONDS = 200.0
#: What a gateway says that could do nothing: the client may try again.
_UNAVAILABLE = frozenset({500, 502, 503, 504, 507})


class Unanswered(Exception):
    """The gateway acknowledged nothing: it is gone, or it says that it cannot."""


@dataclass(slots=True)
class Client:
    """Somebody who signs in with a password and keeps one connection for as long as it holds."""

    gateway: Gateway
    who: tuple[str, str]
    scopes: Sequence[str] = field(default_factory=lambda: list(_SCOPES))
    _connection: Connection | None = None
    _token: str = ""
    _got: float = 0.0

    @property
    def token(self) -> str:
        """A token that will do for a while."""
        if not self._token or time.monotonic() - self._got > _TOKEN_SECONDS:
            with _answering():
                self._token = self.gateway.wire.token(self.who, *self.scopes)
            self._got = time.monotonic()
        return self._token

    def ask(
        self,
        method: str,
        path: str,
        *expected: int,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """The answer, which must be one of *expected* (any below 500 if none is); raises `Unanswered`."""
        token = self.token
        try:
            with _answering():
                if self._connection is None:
                    self._connection = self.gateway.wire.connect()
                answer = self._connection.request(method, path, token=token, body=body, headers=headers)
        except Unanswered:
            self.hang_up()
            raise
        if answer.headers.get("connection", "") == "close":
            self.hang_up()
        if answer.status in _UNAVAILABLE:
            raise Unanswered(f"{answer.status} {answer.body[:200]!r}")
        return answer.must(*expected) if expected else answer

    def hang_up(self) -> None:
        """Closes the connection; the next question opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def forget_token(self) -> None:
        """Signs in anew before the next question."""
        self._token = ""

    def alike(self, token: str = "") -> Client:
        """Another client, who has the same token."""
        other = Client(self.gateway, self.who, self.scopes)
        other._token, other._got = token or self.token, time.monotonic()
        return other


@dataclass(slots=True)
class Site:
    """A gateway of one process that can be struck; *commands* are struck by a plan of their own."""

    gateway: Gateway
    server: Target
    commands: Target
    shadow: Shadow | None
    who: tuple[str, str] = ("", "")
    journal: Journal = field(default_factory=Journal)
    client: Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = Client(self.gateway, self.who)

    def command(self, *arguments: str, stdin: str = "") -> Result:
        """One command, as a process of its own."""
        return self.gateway.cli(*arguments, stdin=stdin, timeout_seconds=120)

    def table(self, *arguments: str) -> list[dict[str, Any]]:
        """What a command lists."""
        listed: list[dict[str, Any]] = json.loads(self.command(*arguments, "--json").must().stdout)
        return listed

    @property
    def alive(self) -> bool:
        return self.gateway.daemon.is_running

    def fallen(self, within_seconds: float = 5.0) -> bool:
        """Whether the process is gone, or goes in a moment."""
        deadline = time.monotonic() + within_seconds
        while self.alive and time.monotonic() < deadline:
            time.sleep(0.01)
        return not self.alive

    def down(self) -> None:
        """Ends it at once, if it has not ended."""
        if self.alive:
            self.gateway.kill()
        self.client.hang_up()

    def lose_power(self) -> None:
        """Leaves on the disk what was synced; the process is gone already."""
        assert self.shadow is not None
        assert not self.alive
        self.shadow.lose_power()

    def up(self) -> float:
        """Starts it again; how many seconds it took until it answered."""
        self.server.arm()
        self.commands.arm()
        self.client.hang_up()
        begun = time.monotonic()
        self.gateway.start()
        self.answers()
        return time.monotonic() - begun

    def answers(self, within_seconds: float = 60.0) -> float:
        """Waits until it gives a token and takes it; how many seconds that took. Raises `Unanswered` if it has died."""
        begun = time.monotonic()
        while True:
            try:
                self.client.ask("GET", "/v2/", 200)
                return time.monotonic() - begun
            except Unanswered:
                if time.monotonic() - begun > within_seconds or not self.alive:
                    raise
                time.sleep(0.05)


@contextmanager
def running_site(
    *,
    power: bool = False,
    clock: bool = False,
    database: str = "",
    settings: str = "",
    port: int | None = None,
    ca: Path | None = None,
) -> Iterator[Site]:
    """
    A gateway as its first start makes it, with a project; the client is its administrator.

    With *power* it can lose what it never synced, with *clock* its clock can be wrong. *database* is the URL of a
    PostgreSQL database, *settings* TOML that the gateway is started with, with the *port* and the *ca* it names.
    """
    with scratch("faults") as home:
        plans = home / "plans"
        plans.mkdir()
        server, commands = Target(plans, "server"), Target(plans, "commands")
        place = {"FAULTS_ROOT": str(home / "data")}
        if power:
            place["FAULTS_SHADOW"] = str(home / "shadow")
        if clock:
            place["FAULTS_CLOCK"] = "1"
        if database:
            place |= {"FAULTS_POSTGRESQL": "1", "GATEWAY_DATABASE__URL": database}
        # What a test says of the machine is not to depend on how full its disk is.
        place |= {"GATEWAY_LIMITS__FREE_BYTES": "0", "GATEWAY_UPKEEP__SCRUB_BYTES_PER_SECOND": "0"}
        # Writes that were broken off stay open until they expire, and here they are many.
        place["GATEWAY_LIMITS__UPLOADS_PER_PRINCIPAL"] = "100000"
        shadow = Shadow(home / "data", home / "shadow") if power else None
        gateway = ForkedGateway(
            home, port=port, config=settings, place=place | server.environment(), commands=commands.environment()
        )
        gateway.certificate = ca or gateway.certificate
        site = Site(gateway, server, commands, shadow)
        try:
            _furnish(site)
            yield site
        finally:
            site.client.hang_up()
            if site.alive:
                gateway.stop()
            gateway.close()


def _furnish(site: Site) -> None:
    site.server.arm()
    site.commands.arm()
    site.who = ("admin", printed_password(site.gateway.start()))
    site.client = Client(site.gateway, site.who)
    # What an administrator pushes makes its project.
    site.client.ask("POST", f"/v2/{REPOSITORIES[0]}/blobs/uploads/", 202)
    if site.shadow is not None:
        # What is there before anything is struck was written long ago.
        site.shadow.settle()


def folder(site: Site) -> Path:
    """The data directory."""
    return site.gateway.data


@contextmanager
def _answering() -> Iterator[None]:
    """Whatever a connection dies of is no answer."""
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unanswered(repr(error)) from error
    except AssertionError as error:
        with suppress(ValueError):
            if int(str(error)[:3]) in _UNAVAILABLE:
                raise Unanswered(str(error)) from None
        raise
