"""A browser without a screen: asks the console's ASGI application, keeps its cookie, fills in its forms."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from gateway.access.credentials import Credentials
from gateway.access.passwords import HashingPool
from gateway.access.principals import Caller, Credential, CredentialKind, Principal
from gateway.access.sealing import Sealer
from gateway.access.secrets import Secrets
from gateway.administration import Administration, NewSession
from gateway.console.application import Console, make
from gateway.console.session import COOKIE
from gateway.engine.embedded.assembly import embedded
from gateway.records import accounts
from gateway.records.credentials import CredentialRecords
from gateway.records.keys import StoredKeys
from tests.house import OPERATOR, House, opened

HOST = "registry.test:5000"
WEEK = 7 * 86_400
PASSWORD = "correct horse battery"


@dataclass(frozen=True, slots=True)
class Sheet:
    """An answer, as a browser sees it."""

    status: int
    headers: tuple[tuple[str, str], ...]
    text: str

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name.lower()), "")

    @property
    def words(self) -> str:
        """The text a person reads: no tags, blanks as one."""
        bare = re.sub(r"<(script|style)\b.*?</\1>", " ", self.text, flags=re.DOTALL)
        return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", bare)).split())

    @property
    def heading(self) -> str:
        found = re.search(r"<h1>(.*?)</h1>", self.text, re.DOTALL)
        return " ".join(html.unescape(found[1]).split()) if found else ""

    @property
    def fields(self) -> dict[str, str]:
        """Every field of the page's forms, with what is filled in."""
        reader = _Fields()
        reader.feed(self.text)
        return reader.found

    def error(self, name: str) -> str:
        """What stands beside the field *name*; "" for nothing."""
        found = re.search(rf'id="{re.escape(name)}-error">(.*?)</span>', self.text, re.DOTALL)
        return html.unescape(found[1]).strip() if found else ""


class _Fields(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self._select = ""
        self._area = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "input" and "name" in given:
            if given.get("type") not in {"checkbox", "radio"} or "checked" in given:
                self.found[given["name"]] = given.get("value", "")
        elif tag == "select":
            self._select = given.get("name", "")
        elif tag == "option" and (self._select not in self.found or "selected" in given):
            self.found[self._select] = given.get("value", "")
        elif tag == "textarea":
            self._area = given.get("name", "")
            self.found[self._area] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._area = ""

    def handle_data(self, content: str) -> None:
        if self._area:
            self.found[self._area] += content.removeprefix("\n")


@dataclass(slots=True)
class Desk:
    """The console over a house, and whoever sits before it; each thing asked has a loop of its own, or *runner*'s."""

    house: House
    acts: Administration
    console: Console
    runner: Callable[[Any], Any] = asyncio.run

    def run(self, coroutine: Any) -> Any:
        return self.runner(coroutine)

    def browser(self, name: str = "", **roles: bool) -> Browser:
        """A browser, in which *name* (added if nobody is called that) is signed in."""
        browser = Browser(self)
        if name:
            self.user(name, **roles)
            browser.cookie = self.open_session(name).cookie
        return browser

    def user(self, name: str, **roles: bool) -> None:
        found = self.house.database.read_now(lambda connection: accounts.find(connection, name))
        if found is None:
            self.run(self.acts.accounts.add_user(OPERATOR, name, password=PASSWORD, **roles))

    def grant(self, name: str, role: str, reach: str) -> None:
        self.run(self.acts.grants.add_grant(OPERATOR, name, role, reach))

    def project(self, name: str, **facts: Any) -> None:
        self.run(self.acts.projects.add_project(OPERATOR, name, **facts))

    def open_session(self, name: str) -> NewSession:
        """A session of *name*, who has signed in somewhere."""
        account = self.house.database.read_now(lambda connection: accounts.get(connection, name))
        principal = Principal(account.kind, account.id, name)
        standing = self.run(self.house.directory.standing(principal))
        credential = Credential(CredentialKind.PASSWORD)
        caller = Caller(principal, OPERATOR.origin, credential, generation=standing.generation)
        opened: NewSession = self.run(self.acts.sessions.open(caller))
        return opened

    def last(self, kind: str) -> dict[str, Any]:
        """The newest event of *kind*."""
        return self.house.records(kind=kind)[-1]


@dataclass(slots=True)
class Browser:
    """Keeps one cookie and sends what browsers send."""

    desk: Desk
    cookie: str = ""
    agent: str = "browser/1"
    extra: dict[str, str] = field(default_factory=dict)

    def get(self, target: str, headers: Mapping[str, str] | None = None) -> Sheet:
        return self._ask("GET", target, headers or {"Sec-Fetch-Site": "same-origin"}, b"")

    def follow(self, sheet: Sheet) -> Sheet:
        """The page that *sheet* sends the browser to."""
        assert sheet.status == 303, (sheet.status, sheet.words)
        return self.get(sheet.header("location"))

    def post(
        self, target: str, fields: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> Sheet:
        """Sends a form as a page of ours would; its token is added unless the fields have one."""
        filled = dict(fields or {})
        if self.cookie and "csrf" not in filled:
            filled["csrf"] = self.csrf()
        sent = {"Origin": f"https://{HOST}", "Sec-Fetch-Site": "same-origin"} if headers is None else dict(headers)
        sent.setdefault("Content-Type", "application/x-www-form-urlencoded")
        return self._ask("POST", target, sent, urlencode(filled, doseq=True).encode())

    def fill(self, page: str, action: str = "", **fields: Any) -> Sheet:
        """Opens *page*, fills in *fields* over what its forms hold, and sends that to *action* or the page itself."""
        sheet = self.get(page)
        assert sheet.status == 200, (sheet.status, sheet.words)
        filled = {**sheet.fields, **{name.replace("__", "-"): value for name, value in fields.items()}}
        return self.post(action or page, {name: value for name, value in filled.items() if value is not None})

    def csrf(self) -> str:
        """The token that the forms of this browser's session carry."""
        session = self.desk.run(self.desk.acts.sessions.find(self.cookie, OPERATOR.origin))
        return str(session.csrf) if session is not None else ""

    def _ask(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Sheet:
        path, _, query = target.partition("?")
        sent = {"Host": HOST, "User-Agent": self.agent, **self.extra, **headers}
        if self.cookie:
            sent["Cookie"] = f"{COOKIE}={self.cookie}"
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "https",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in sent.items()],
            "client": ("192.0.2.10", 40000),
            "server": ("registry.test", 5000),
        }
        messages: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            messages.append(message)

        self.desk.run(self.desk.console(scope, receive, send))
        told = tuple((name.decode().lower(), value.decode("latin-1")) for name, value in messages[0]["headers"])
        content = b"".join(message.get("body", b"") for message in messages[1:])
        sheet = Sheet(messages[0]["status"], told, content.decode("utf-8", "replace"))
        for key, value in told:
            if key == "set-cookie" and value.startswith(f"{COOKIE}="):
                self.cookie = value.partition("=")[2].partition(";")[0]
        return sheet


@contextmanager
def desk_on(url: str, data: Path) -> Iterator[Desk]:
    """A console over a new, empty house on the database at *url*."""
    with opened(url, data) as house:
        secrets = Secrets(b"s" * 32)
        hashing = HashingPool(cost=4, workers=1)
        engine = embedded(data, house.database, uploads_per_owner=10, upload_seconds=600, trash_seconds=WEEK)
        keys = StoredKeys(house.database, secrets)
        acts = Administration(house.gate, house.database, engine, house.trail, secrets, hashing, keys, WEEK)
        stored = CredentialRecords(house.database)
        credentials = Credentials(stored, stored, secrets, hashing, stored, floor_seconds=0.0)
        forms = Sealer(secrets.console_forms, "carried form")
        console = make(acts, house.gate, acts.sign_in(credentials), forms, HOST)
        try:
            yield Desk(house, acts, console)
        finally:
            hashing.close()
