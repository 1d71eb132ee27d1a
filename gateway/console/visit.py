"""A visit: one request of a browser, as pages see it, and what pages work with."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import quote, unquote, urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from gateway.access.policy import Allowed, Need, judge
from gateway.access.principals import ANONYMOUS, Caller, Origin
from gateway.access.scopes import Action
from gateway.access.sealing import Sealer
from gateway.administration import Administration, Finding, Session, SignIn
from gateway.console.form import Form
from gateway.errors import Denied, Unavailable
from gateway.gate import Gate
from gateway.oci.names import ProjectName

if TYPE_CHECKING:
    from gateway.console.frame import Frame

ROOT: Final = "/console"
#: A path of ours with a query of ours: nothing a browser could take for another host.
_LOCAL: Final = re.compile(r"/console(?:/[A-Za-z0-9._~%+@:*-]+)*/?(?:\?[A-Za-z0-9._~%+@:*/=&-]*)?", re.ASCII)


Surroundings: TypeAlias = Callable[[], Awaitable[Sequence[Finding]]]


async def nothing() -> Sequence[Finding]:
    """Finds nothing: of a console without a machine of its own."""
    return ()


@dataclass(frozen=True, slots=True)
class Parts:
    """
    What the console is joined of.

    *host* is how clients call the registry, for the commands that pages show; *forms* seals what travels through
    signing in; *surroundings* finds how the machine is, for administrators.
    """

    administration: Administration
    gate: Gate
    sign_in: SignIn
    frame: Frame
    forms: Sealer
    host: str
    surroundings: Surroundings = nothing


@dataclass(slots=True)
class Visit:
    """
    One request. *form* is what its body holds, of a GET what its query holds; *path* what the page's path names;
    *query* what the address holds after its question mark, nothing if that could not be read.

    Pages that are not open always have a *session*. *cookie* is what the browser is to send from now on, "" for what
    it sends already.
    """

    parts: Parts
    request: Request
    origin: Origin
    session: Session | None
    form: Form
    path: Mapping[str, str]
    cookie: str = ""
    query: Form = field(default_factory=Form)
    _rights: dict[str, frozenset[Action]] = field(default_factory=dict)

    @property
    def acts(self) -> Administration:
        return self.parts.administration

    @property
    def caller(self) -> Caller:
        """Who is signed in; nobody on an open page without a session."""
        return self.session.caller if self.session is not None else Caller(ANONYMOUS, self.origin)

    @property
    def query_text(self) -> str:
        """What the address holds after its question mark, as it was sent."""
        return bytes(self.request.scope["query_string"]).decode("latin-1")

    async def rights(self, project: ProjectName | None = None) -> frozenset[Action]:
        """Of managing and reviewing, what the caller may do on *project*, or on the system; looking is no event."""
        name = project.name if project is not None else ""
        if name not in self._rights:
            gate, caller = self.parts.gate, self.caller
            standing = await gate.directory.standing(caller.principal) if self.session is not None else None
            found = await gate.directory.project(project) if project is not None else None
            now = datetime.now(UTC)
            self._rights[name] = frozenset(
                action
                for action in (Action.MANAGE, Action.REVIEW)
                if isinstance(judge(caller, Need(action, project), standing, found, now), Allowed)
            )
        return self._rights[name]

    async def ensure_rights(self) -> None:
        """What the caller may do on the system is known after this: nothing, while nobody can look."""
        try:
            await self.rights()
        except Unavailable:
            self._rights[""] = frozenset()

    async def require(self, action: Action) -> None:
        """Raises `Denied` unless the caller has *action* on the system: no form is to be filled in for nothing."""
        if action not in await self.rights():
            raise Denied(f"{action} on the system is missing; ask an administrator.")

    async def trail(self, project: ProjectName | None = None) -> str:
        """Where the caller reads the trail, or else that of *project*; "" for who may read neither."""
        if Action.REVIEW in await self.rights():
            return "/audit"
        own = project is not None and Action.REVIEW in await self.rights(project)
        return f"/projects/{project}/audit" if own else ""

    def go(self, path: str, *, said: str = "", fragment: str = "", **query: str) -> Response:
        """
        Sends the browser on to *path* below `/console`, where the sentence *said* of `frame.SAID` is shown, and to the
        part of the page that *fragment* names.
        """
        text = address(path, **query, **({"said": said} if said else {}))
        return RedirectResponse(f"{text}#{fragment}" if fragment else text, 303)

    def go_on(self, address: str) -> Response:
        """Sends the browser on to *address*, which `local` has looked at."""
        return RedirectResponse(local(address), 303)


def address(path: str, **query: str) -> str:
    """The address of *path* below `/console`, as links and redirects spell it."""
    text = ROOT + quote(path, safe="/@:+~")
    return f"{text}?{urlencode(query)}" if query else text


def local(text: str) -> str:
    """*text* if it is the address of a page of the console, else that of its first page: no redirect leaves us."""
    # A browser takes `%2e` for a dot, too.
    steps = [unquote(part) for part in text.partition("?")[0].split("/")]
    if _LOCAL.fullmatch(text) is None or any(step in {".", ".."} for step in steps):
        return f"{ROOT}/"
    return text
