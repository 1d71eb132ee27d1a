"""The probe: every row of the registry's table, asked through the whole application by those who may have nothing.

for each of: nobody · nobody with a token that names all rights · a low account likewise · the same without any right
    for each row:   the answer is the challenge, or what it says to anybody, or it is a finding
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from gateway.access.keys import KeyRing
from gateway.access.principals import ANONYMOUS, Principal
from gateway.access.scopes import TOKEN_ACTIONS, Access, scope_text
from gateway.access.tokens import Tokens
from gateway.app import Rooms, application
from gateway.canary.content import Canary, engine_of
from gateway.canary.stage import LOW, DeafLedger, StagedDirectory
from gateway.front import Application
from gateway.gate import Gate
from gateway.oci.media import OCI_MANIFEST
from gateway.registry import routes

#: Of no upload, and of the form that uploads' ids have.
_UPLOAD: Final = "00000000-0000-4000-8000-000000000000"
_BODIES: Final = frozenset({"PUT", "PATCH", "POST"})
#: The gateway itself cannot answer: nothing can be said of what it would have.
_UNSAID: Final = 500


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: *row* names the row of the table it is for."""

    method: str
    row: str
    target: str
    body: bytes = b""
    media_type: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    content: bytes
    """Headers and body, in which no part of the canary may stand."""
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Finding:
    """Who was answered what they may not be told: *why* says it in a sentence without the canary's names."""

    who: str
    row: str
    status: int
    why: str

    def __str__(self) -> str:
        return f"{self.row} as {self.who}: {self.status}, {self.why}"


@dataclass(frozen=True, slots=True)
class _Asker:
    who: str
    token: str = ""
    catalog: bool = False


@dataclass(frozen=True, slots=True)
class LeakProbe:
    """
    Asks for the canary; `look` answers what was found, nothing while all is well. Writes nothing anywhere.

    A look takes some hundred requests inside this process, which no network, database or disk is asked for.
    """

    canary: Canary
    ledger: DeafLedger
    application: Application
    tokens: Tokens
    host: str
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    @classmethod
    def of(cls, rooms: Rooms) -> LeakProbe:
        """A probe of the application as *rooms* make it: their policy, their keys, and what this process remembers."""
        canary = Canary.fresh()
        ledger = DeafLedger(canary)
        gate = Gate(StagedDirectory(rooms.directory, canary), ledger, verdicts=rooms.gate.verdicts)
        tokens = rooms.settings.tokens
        ring = KeyRing(rooms.stored_keys, rooms.directory.version)
        return cls(
            canary,
            ledger,
            application(replace(rooms, gate=gate, engine=engine_of(canary)), list),
            Tokens(ring, tokens.issuer, tokens.service, tokens.lifetime_seconds),
            rooms.settings.server.names[0],
        )

    async def look(self) -> tuple[Finding, ...]:
        """
        What was answered that should not have been.

        Raises `Unavailable` when there is no key to sign a token with, or the records cannot be read.
        """
        await self.tokens.refresh()
        found: list[Finding] = []
        for asker in self._askers():
            for ask in self._asks():
                found += await self._try(asker, ask)
        found += await self._try_the_token_endpoint()
        found += await self._try_mounting()
        return tuple(found)

    def _askers(self) -> Iterator[_Asker]:
        every = frozenset(TOKEN_ACTIONS)
        all_of_it = Access({self.canary.repository.name: every})
        yield _Asker("nobody")
        yield _Asker("nobody with a token", self._token(ANONYMOUS, all_of_it))
        yield _Asker("an account with a token that names the canary", self._token(LOW, all_of_it))
        yield _Asker("an account without a right", self._token(LOW, Access(catalog=True)), catalog=True)

    def _token(self, principal: Principal, access: Access) -> str:
        return self.tokens.issue(principal, access, generation=0, projects={}, now=self.now()).text

    def _asks(self) -> Iterator[Ask]:
        canary = self.canary
        layer, manifest = canary.layer.digest.text, canary.manifest.digest.text
        for row in routes.TABLE:
            digest = layer if row.pattern == routes.BLOB else manifest
            queries = {routes.WHOLE: f"?digest={layer}", routes.MOUNT: f"?mount={layer}&from={canary.repository}"}
            path = row.pattern.partition("?")[0].format(
                name=canary.repository, digest=digest, tag=canary.tag, id=_UPLOAD
            )
            query = queries.get(row.pattern, "")
            if row.pattern == routes.UPLOAD and row.method == "PUT":
                query = f"?digest={layer}"
            pushes = row.method == "PUT" and row.pattern in {routes.BY_TAG, routes.BY_DIGEST}
            body = canary.manifest.content if pushes else canary.secret.encode() if row.method in _BODIES else b""
            yield Ask(row.method, f"{row.method} {row.pattern}", path + query, body, OCI_MANIFEST if pushes else "")

    async def _try(self, asker: _Asker, ask: Ask) -> list[Finding]:
        answer = await self._ask(ask, asker.token)
        passed, self.ledger.passed[:] = tuple(self.ledger.passed), []
        why = ""
        if self.canary.secret.encode() in answer.content:
            why = "it holds what the canary holds"
        elif passed:
            why = f"the gate let {', '.join(passed)} pass"
        elif answer.status not in self._harmless(asker, ask) and answer.status < _UNSAID:
            why = "and not the challenge"
        elif ask.row.endswith(routes.CATALOG) and self.canary.repository.name.encode() in answer.body:
            why = "the catalog lists the canary"
        return [Finding(asker.who, ask.row, answer.status, why)] if why else []

    @staticmethod
    def _harmless(asker: _Asker, ask: Ask) -> frozenset[int]:
        """What may be answered, besides that the gateway cannot answer now."""
        greeted = asker.token and ask.row.endswith(f" {routes.PING}")
        listed = asker.catalog and ask.row.endswith(routes.CATALOG)
        return frozenset({401, 200} if greeted or listed else {401})

    async def _try_the_token_endpoint(self) -> list[Finding]:
        scope = scope_text(self.canary.repository, TOKEN_ACTIONS)
        answer = await self._ask(Ask("GET", "", f"{routes.TOKEN}?scope={scope}"), "")
        if answer.status != 200 or not _carries(answer.body, self.canary):
            return []
        return [Finding("nobody", f"GET {routes.TOKEN}", 200, "the token carries a right on the canary")]

    async def _try_mounting(self) -> list[Finding]:
        here, there = self.canary.repository, self.canary.neighbour
        access = Access({name.name: frozenset(TOKEN_ACTIONS) for name in (here, there)})
        target = f"/v2/{there}/blobs/uploads/?mount={self.canary.layer.digest}&from={here}"
        answer = await self._ask(Ask("POST", "", target), self._token(LOW, access))
        self.ledger.passed.clear()
        if answer.status != 201:
            return []
        return [Finding("an account next door", f"POST {routes.MOUNT}", 201, "the canary's layer was mounted")]

    async def _ask(self, ask: Ask, token: str) -> Answer:
        path, _, query = ask.target.partition("?")
        headers = [(b"host", self.host.encode()), (b"content-length", b"%d" % len(ask.body))]
        if ask.media_type:
            headers.append((b"content-type", ask.media_type.encode()))
        if token:
            headers.append((b"authorization", b"Bearer " + token.encode()))
        scope = {
            "type": "http",
            "method": ask.method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 0),
        }
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": ask.body, "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        # Clients are not held up for it by more than one request.
        await asyncio.sleep(0)
        await self.application(scope, receive, send)
        body = b"".join(message.get("body", b"") for message in sent)
        headers_told = b"\n".join(name + b": " + value for name, value in sent[0]["headers"])
        return Answer(sent[0]["status"], headers_told + b"\n\n" + body, body)


def _carries(reply: bytes, canary: Canary) -> bool:
    """Whether the token in *reply* carries any right on the canary."""
    payload = str(json.loads(reply)["token"]).split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return any(entry["name"] == canary.repository.name and entry["actions"] for entry in claims["access"])
