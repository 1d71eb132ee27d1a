"""The request as the endpoints see it: values parsed, limits kept, the caller known; and what they work with."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeAlias, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import inspect

from gateway.access.policy import Reach
from gateway.access.principals import Caller, Origin
from gateway.access.throttle import Budget
from gateway.administration import Administration
from gateway.api import cursors
from gateway.api.answers import Page
from gateway.api.replies import Reply, reply
from gateway.errors import BodyTooLarge, BodyTooSlow, Invalid
from gateway.oci.document import strict_json
from gateway.oci.names import ProjectName, Repository

Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
S = TypeVar("S", bound=msgspec.Struct)
T = TypeVar("T")

BODY_BYTES: Final = 64 * 1024
BODY_SECONDS: Final = 30
PARAMETERS: Final = 50
#: How much of a name that somebody made up is said back to them.
_SHOWN: Final = 60


class SignIn(Protocol):
    """Who a personal access token speaks for."""

    async def by_token(self, text: str, origin: Origin) -> Caller:
        """The caller; raises `Denied` for a token that is not believed, `TooManyRequests` after many of those."""
        ...


class Kept(Protocol):
    """Where answers are kept for a while, by name and owner, for every process that serves."""

    def begin(self, name: bytes, owner: bytes = b"") -> bytes | None:
        """None for the first under *name*, else what was kept; nothing (`b""`) while it is under way, or broke off."""
        ...

    def keep(self, name: bytes, answer: bytes, owner: bytes = b"") -> None: ...

    def drop(self, name: bytes, owner: bytes = b"") -> None: ...


class Gone(ConnectionError):
    """The client went away before its request was there or had its reply."""


@dataclass(frozen=True, slots=True)
class Parts:
    """
    What this edge is joined of.

    *cursor_key* seals cursors, *kept* has the answers that may be asked for again; *asked* bounds how often an address
    may ask, *working* how often an account may.
    """

    administration: Administration
    sign_in: SignIn
    cursor_key: bytes
    kept: Kept
    asked: Budget = field(default_factory=lambda: Budget(per_second=100, burst=1000))
    working: Budget = field(default_factory=lambda: Budget(per_second=50, burst=500))
    verifying: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))


@dataclass(slots=True)
class Request:
    """
    One request. *values* are what its path names, *asked* its query, *body* what it brings, each of its row's type.

    Header names are lower case. *administration* are the acts, under the condition of this request if it has one.
    """

    parts: Parts
    method: str
    path: str
    headers: Mapping[str, tuple[str, ...]]
    query: Sequence[tuple[str, str]]
    receive: Receive
    origin: Origin
    administration: Administration
    values: Mapping[str, str] = field(default_factory=dict)
    asked: Any = None
    body: Any = None
    caller: Caller = field(init=False)

    def header(self, name: str) -> str:
        """The header's value, several joined as a list; "" if it did not come."""
        return ", ".join(self.headers.get(name, ()))

    def query_as(self, kind: type[S]) -> S:
        assert isinstance(self.asked, kind)
        return self.asked

    def body_as(self, kind: type[S]) -> S:
        assert isinstance(self.body, kind)
        return self.body

    @property
    def project(self) -> ProjectName | None:
        """The project that the request is about, wherever it says so; raises `Invalid` and `NameInvalid`."""
        for name in ("project", "repository", "reach", "target"):
            text = self.values.get(name) or getattr(self.asked, name, None) or getattr(self.body, name, None)
            if not text or text.startswith(("sha256:", "sha512:")):
                continue
            match name:
                case "project":
                    return ProjectName.parse(text)
                case "reach":
                    return Reach.parse(text).project
                case _:
                    return Repository.parse(text.partition("@" if "@" in text else ":")[0]).project
        return None

    @property
    def position(self) -> str:
        """Where the page that is asked for begins: the position of its cursor, "" without one."""
        cursor = getattr(self.asked, "cursor", "")
        return cursors.unseal(self.parts.cursor_key, self._asked_text(), cursor) if cursor else ""

    def cursor_to(self, position: str) -> str | None:
        """The cursor of the page that begins after *position*; None for ""."""
        return cursors.seal(self.parts.cursor_key, self._asked_text(), position) if position else None

    def page(self, rows: Iterable[T], name: Callable[[T], str], view: Callable[[T], object]) -> Reply:
        """The part of *rows*, by *name*, that the request asks for, each as *view* tells it."""
        found, position = cursors.part(rows, name, self.position, self.asked.limit)
        return reply(Page([view(row) for row in found], self.cursor_to(position)))

    def _asked_text(self) -> str:
        filters = sorted((name, value) for name, value in self.query if name not in {"cursor", "limit"})
        return repr((self.path, filters))

    async def content(self) -> bytes:
        """
        The whole body, at most 64 KiB.

        Raises `BodyTooLarge`, `BodyTooSlow` when it is not there within 30 seconds, `Gone` when it breaks off.
        """
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await self._content()
        except TimeoutError:
            raise BodyTooSlow(f"Send the body within {BODY_SECONDS} seconds.") from None

    async def _content(self) -> bytes:
        promised = self.header("content-length")
        if promised.isdecimal() and int(promised[:19]) > BODY_BYTES:
            raise BodyTooLarge(f"Send at most {BODY_BYTES} bytes.")
        content = bytearray()
        more = True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Gone("the client went away before the end of its body")
            content += message.get("body", b"")
            more = message.get("more_body", False)
            if len(content) > BODY_BYTES:
                raise BodyTooLarge(f"Send at most {BODY_BYTES} bytes.")
        return bytes(content)


def read_query(text: str) -> Sequence[tuple[str, str]]:
    """The parameters of a query, in order, each once; raises `Invalid`."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=PARAMETERS)
    except ValueError:
        raise Invalid(f"Send at most {PARAMETERS} parameters.") from None
    seen: set[str] = set()
    for name, value in pairs:
        if name in seen:
            raise Invalid(f"Send the parameter {name[:60]} once.", detail={"field": name[:60]})
        if not value.isprintable():
            raise Invalid("Send parameters without control characters.", detail={"field": name[:60]})
        seen.add(name)
    return pairs


def read_struct(kind: type[S], pairs: Sequence[tuple[str, str]]) -> S:
    """A query as its *kind*; raises `Invalid` with the parameter that is wrong or unknown."""
    try:
        return _timely(msgspec.convert(dict(pairs), kind, strict=False), "query")
    except msgspec.ValidationError as error:
        raise _invalid(error, kind, "Correct the query") from None


def read_value(name: str, text: str, kind: Any) -> str:
    """What a path names, as text, if it is of its *kind*; raises `Invalid`."""
    try:
        return str(msgspec.convert(text, kind, strict=False))
    except msgspec.ValidationError as error:
        raise _invalid(error, kind, f"Correct {name} in the path", name) from None


def read_body(kind: type[S], content: bytes) -> S:
    """A JSON body as its *kind*, read strictly; raises `Invalid` with the field that is wrong or unknown."""
    try:
        return _timely(msgspec.convert(strict_json(content, limit_bytes=BODY_BYTES), kind), "body")
    except msgspec.ValidationError as error:
        raise _invalid(error, kind, "Correct the body") from None
    except ValueError as error:
        raise Invalid(str(error)) from None


def _timely(struct: S, where: str) -> S:
    """*struct* if each of its times is one in UTC too: at either end of the calendar an offset can lead beyond it."""
    for name in struct.__struct_fields__:
        value = getattr(struct, name)
        if isinstance(value, datetime):
            try:
                value.astimezone(UTC)
            except OverflowError:
                raise Invalid(
                    f"Correct the {where}: {name} lies beyond the calendar.", detail={"field": name}
                ) from None
    return struct


def _invalid(error: msgspec.ValidationError, kind: Any, what: str, field: str = "") -> Invalid:
    text, _, path = str(error).partition(" - at ")
    within = path.strip("`").removeprefix("$.").removeprefix("$")
    place = field or within
    if text.startswith("Invalid enum value"):
        text = f"{text}; known are {', '.join(_words(kind, within))}"
    if text.startswith("Object ") and "field `" in text:
        # A field that is missing or unknown is named in the sentence itself.
        name = text.partition("field `")[2].removesuffix("`")[:_SHOWN]
        text = f"{text.partition('field `')[0]}field `{name}`"
        place = f"{place}.{name}" if place else name
    told = {"field": place[:_SHOWN]} if place else {}
    return Invalid(f"{what}: {text[:1].lower()}{text[1:]}.", detail=told)


def _words(kind: Any, place: str) -> list[str]:
    """The words that a value at *place* of a *kind* can be."""
    found = _alternatives(inspect.type_info(kind))
    for step in re.findall(r"[^.\[\]]+", place):
        found = [each for outer in found for inner in _inside(outer, step) for each in _alternatives(inner)]
    enums = [str(each.value) for kind in found if isinstance(kind, inspect.EnumType) for each in kind.cls]
    return enums + [str(each) for kind in found if isinstance(kind, inspect.LiteralType) for each in kind.values]


def _alternatives(kind: inspect.Type) -> list[inspect.Type]:
    match kind:
        case inspect.UnionType():
            return [each for inner in kind.types for each in _alternatives(inner)]
        case inspect.Metadata():
            return _alternatives(kind.type)
        case _:
            return [kind]


def _inside(kind: inspect.Type, step: str) -> list[inspect.Type]:
    match kind:
        case inspect.StructType():
            return [each.type for each in kind.fields if each.encode_name == step]
        case inspect.ListType() | inspect.VarTupleType() | inspect.SetType() | inspect.FrozenSetType():
            return [kind.item_type]
        case _:
            return []
