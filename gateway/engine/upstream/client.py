"""Speaking with the registry behind: whole answers, streams both ways, and nothing it says is believed blindly."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from yarl import URL

from gateway.engine.upstream import lines, places
from gateway.engine.upstream.circuit import REST_SECONDS, Circuit, Turn
from gateway.engine.upstream.credential import Credential
from gateway.engine.upstream.flow import Flow, Streamed, headers_of, whole
from gateway.engine.upstream.lines import READS, Lines, Patience
from gateway.engine.upstream.slots import Shares, Use
from gateway.errors import Lack, UpstreamDistrust, UpstreamFailed, UpstreamSlow, UpstreamUnavailable
from gateway.oci.media import essence

#: A manifest has at most 4 MiB.
LIMIT_BYTES = 4 * 1024 * 1024 + 64 * 1024
_LITTLE_BYTES = 64 * 1024
_GREETING = "/v2/"
#: How long is waited for an answer to a greeting that somebody waits for, and between the two that it takes.
_GREETING_SECONDS = 5.0
_PAUSE_SECONDS = 1.0
#: How long whoever wants to know how the peer is waits for that.
_LOOK_SECONDS = 2.0
_VERSION = "Docker-Distribution-Api-Version"
_PATIENCE = Patience()
_SHARES = Shares()

__all__ = ["LIMIT_BYTES", "Answer", "Client", "Patience", "Peer", "Shares", "Streamed"]

_log = logging.getLogger("gateway.upstream")


@dataclass(frozen=True, slots=True)
class Peer:
    """
    The registry behind us: `http://HOST:PORT` or `https://HOST[:PORT][/PREFIX]`, and our own credential there.

    Raises `Invalid` for any other *url*. With *ca_file* it is trusted only if that CA has issued its certificate.
    """

    url: str
    username: str = ""
    password: str = field(default="", repr=False)
    ca_file: Path | None = None

    def __post_init__(self) -> None:
        places.home(self.url)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer read whole; the names of its headers are lower-case. *method* is what was asked with."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    method: str = "GET"


class Client:
    """
    Requests to one peer, in paths below its `/v2/`; connections are made when they are needed, by the loop that runs.

    Whatever keeps an answer from coming is an `UpstreamFailed`, or an `UpstreamSlow` when it took too long; *uncertain*
    if it was a write that may have arrived. After five of them in a row every request is refused for some seconds, by
    `UpstreamUnavailable`; so is one for which all connections of its kind are in use, and that counts against nobody.
    A registry that stumbles over five requests, and answers others or greets, goes on being asked.
    Nothing of what a caller of the gateway sent goes along but what is passed in here. *words* gives the message of a
    refusal for whoever asks otherwise than from behind a gateway.
    """

    def __init__(
        self,
        peer: Peer,
        patience: Patience = _PATIENCE,
        shares: Shares = _SHARES,
        words: Callable[[UpstreamUnavailable], str] | None = None,
    ) -> None:
        self._home = places.home(peer.url)
        self._ca_file = peer.ca_file
        self._patience = patience
        self._shares = shares
        self._words = words
        self._circuit = Circuit()
        self._credential = Credential(self._home, peer.username, peer.password, self._fetch)
        self._lines: dict[asyncio.AbstractEventLoop, Lines] = {}
        self._watching: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None

    async def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        limit_bytes: int = LIMIT_BYTES,
        scope: str = "",
        extra_seconds: float = 0,
    ) -> Answer:
        """The answer, read whole, whatever its status; more than *limit_bytes* of it raise `UpstreamFailed`.

        *scope* is what a token has to allow, as in `repository:gallery/ui:pull`. What is known to take long is given
        *extra_seconds* more.
        """
        async with self._held().slots.taken(Use.ANSWER):
            with self._watched(method):
                async with asyncio.timeout(self._patience.answer_seconds + extra_seconds) as deadline:
                    answer = await self._answer(method, path, headers, content, scope)
                    return await self._whole(method, answer, limit_bytes, deadline)

    def open(
        self, path: str, *, headers: Mapping[str, str] | None = None, scope: str = ""
    ) -> AbstractAsyncContextManager[Streamed]:
        """A GET whose body is read as it comes; leaving before its end closes the connection."""
        return self._open(path, headers, scope)

    async def send(
        self,
        method: str,
        path: str,
        body: AsyncIterator[bytes],
        *,
        headers: Mapping[str, str] | None = None,
        scope: str = "",
    ) -> Answer:
        """
        Streams *body*, chunked, no faster than the peer takes it; the answer as of `ask`.

        What *body* itself raises is raised as it is, and the peer sees a request that broke off.
        """
        if not self._credential.proven:
            # A body can be sent only once: how to sign in has to be known before.
            await self.ask("GET", _GREETING, limit_bytes=_LITTLE_BYTES)
        flow = Flow(body, self._patience)
        async with self._held().slots.taken(Use.UPLOAD):
            with self._watched(method, flow):
                async with asyncio.timeout(self._patience.answer_seconds) as flow.deadline:
                    answer = await self._answer(method, path, headers, flow.pieces(), scope)
                    return await self._whole(method, answer, LIMIT_BYTES, flow.deadline)

    def local(self, location: str, repository: str) -> str:
        """
        The path and query, for `ask` and `send`, of a `Location` that is an upload of *repository* on our peer.

        Raises `UpstreamFailed` for any other.
        """
        return places.upload(self._home, location, repository)

    def refuse(self, answer: Answer | Streamed) -> UpstreamFailed:
        """
        What to raise for an answer that makes no sense; nothing that the peer wrote is in it.

        It is uncertain when a write ended with an error of the peer's own, or with a success that is none.
        """
        uncertain = answer.method not in READS and (answer.status >= 500 or answer.status < 300)
        if answer.status == 429:
            message, uncertain = "The registry behind is asked too often; try again later.", False
        elif answer.status >= 500:
            message = f"The registry behind has failed with status {answer.status}; try again later."
        else:
            message = "The registry behind gives an answer that no registry gives; check its url."
        refusal = UpstreamFailed(message, uncertain=uncertain)
        self._put(refusal)
        return refusal

    @property
    def trouble(self) -> str:
        """Why the peer is left alone now, in a sentence; "" if it is not."""
        return self._circuit.trouble

    async def look(self) -> None:
        """
        Greets the peer if it has not been heard for five seconds, so that `trouble` tells how it is now.

        One that does not answer a second greeting either, a second later, is left alone. This takes two seconds at
        most, and for a peer that takes longer `trouble` tells it later; however many look, the peer is greeted by one.
        """
        if self._circuit.trouble or self._circuit.silent_seconds < REST_SECONDS:
            return
        looking = self._looking
        if looking is None or not _goes_on(looking):
            looking = self._looking = asyncio.get_running_loop().create_task(self._look())
        await asyncio.wait((looking,), timeout=_LOOK_SECONDS)

    async def close(self) -> None:
        """Lets go of the connections that the loop which runs has open."""
        for task in (self._asking, self._looking, self._watching):
            if task is not None and task.get_loop() is asyncio.get_running_loop():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        held = self._lines.pop(asyncio.get_running_loop(), None)
        if held is not None:
            await held.session.close()

    @asynccontextmanager
    async def _open(self, path: str, headers: Mapping[str, str] | None, scope: str) -> AsyncIterator[Streamed]:
        async with self._held().slots.taken(Use.DOWNLOAD):
            with self._watched("GET"):
                async with asyncio.timeout(self._patience.answer_seconds):
                    answer = await self._answer("GET", path, headers, None, scope)
            try:
                yield Streamed(answer, self._patience, self._broke_off, self._circuit.answered)
            except UpstreamUnavailable as refusal:
                self._put(refusal)
                raise
            finally:
                if not answer.closed:
                    answer.close()

    async def _answer(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None,
        body: bytes | AsyncIterator[bytes] | None,
        scope: str,
    ) -> aiohttp.ClientResponse:
        """The head of the answer, signed in; not one that refuses our credential."""
        held, credential = self._held(), self._credential
        authorization = await credential.authorization(scope)
        answer = await held.follow(method, path, headers or {}, authorization, body)
        if answer.status == 401 and self._is_own(answer) and (body is None or isinstance(body, bytes)):
            answer.close()
            renewed = await credential.renewed(answer.headers.getall("WWW-Authenticate", []), scope, authorization)
            if renewed:
                answer = await held.follow(method, path, headers or {}, renewed, body)
        if answer.status >= 500:
            self._failed(_failure(answer.status), particular=_is_particular(answer))
            return answer
        self._circuit.alive()
        if answer.status in (401, 403) and self._is_own(answer):
            answer.close()
            credential.forget(scope)
            raise credential.refused()
        credential.proven = True
        return answer

    async def _whole(
        self, method: str, answer: aiohttp.ClientResponse, limit: int, deadline: asyncio.Timeout
    ) -> Answer:
        deadline.reschedule(asyncio.get_running_loop().time() + self._patience.answer_seconds)
        async with answer:
            content = await whole(answer, limit)
        if answer.status < 500:
            self._circuit.answered()
        return Answer(answer.status, headers_of(answer), content, method)

    def _is_own(self, answer: aiohttp.ClientResponse) -> bool:
        """Whether the peer itself has answered, and not a storage that it redirects to."""
        return places.same_origin(answer.url, self._home)

    async def _fetch(self, url: URL, headers: Mapping[str, str]) -> tuple[int, bytes]:
        answer = await self._held().request("GET", url, headers)
        async with answer:
            return answer.status, await whole(answer, _LITTLE_BYTES)

    @contextmanager
    def _watched(self, method: str, flow: Flow | None = None, *, greeting: bool = False) -> Iterator[None]:
        """
        Every way in which a connection may fail becomes a refusal, and counts against the peer.

        Who is not *greeting* is refused while the peer is left alone.
        """
        try:
            if not greeting:
                self._circuit.enter()
            yield
        except lines.FAILURES as error:
            if flow is not None and flow.error is not None:
                raise flow.error from None
            refusal = lines.told(error, method)
            self._failed(refusal.message)
            self._put(refusal)
            raise refusal from error
        except UpstreamUnavailable as refusal:
            self._put(refusal)
            raise

    def _put(self, refusal: UpstreamUnavailable) -> None:
        if self._words is not None:
            refusal.message = self._words(refusal)

    def _held(self) -> Lines:
        loop = asyncio.get_running_loop()
        held = self._lines.get(loop)
        if held is None:
            self._lines = {each: kept for each, kept in self._lines.items() if not each.is_closed()}
            held = self._lines[loop] = Lines(self._home, self._ca_file, self._patience, self._shares)
        return held

    def _failed(self, why: str, *, particular: bool = False) -> None:
        match self._circuit.failed(why, particular=particular):
            case Turn.OPENED:
                self._opened(why)
            case Turn.DOUBTFUL if not _goes_on(self._asking):
                self._asking = asyncio.get_running_loop().create_task(self._ask_whether(why))

    def _broke_off(self, refusal: UpstreamUnavailable) -> None:
        # Of a body that is cut, the reason may be that very content; of one that does not come, hardly.
        self._failed(refusal.message, particular=isinstance(refusal, UpstreamFailed))

    def _leave_alone(self, why: str) -> None:
        self._circuit.open(why)
        self._opened(why)

    def _opened(self, why: str) -> None:
        _log.warning("%s It is left alone until it answers again.", why)
        # One that sleeps since it was open before goes on.
        if not _goes_on(self._watching):
            self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def _ask_whether(self, why: str) -> None:
        """Opens the circuit if the peer does not even greet, and has answered nobody meanwhile."""
        # That it cannot be asked now, for all connections are in use, says nothing of it.
        with suppress(UpstreamUnavailable):
            if await self._greeted() and self._circuit.doubtful:
                self._leave_alone(why)

    async def _look(self) -> None:
        """Opens the circuit if the peer answers neither of two greetings, nor anybody else meanwhile."""
        with suppress(UpstreamUnavailable):
            seconds = min(_GREETING_SECONDS, self._patience.answer_seconds)
            if await self._greeted(seconds):
                await asyncio.sleep(_PAUSE_SECONDS)
                why = await self._greeted(seconds)
                if why and not self._circuit.trouble and self._circuit.silent_seconds > REST_SECONDS:
                    self._leave_alone(why)

    async def _greeted(self, seconds: float | None = None) -> str:
        """
        Why the peer does not even greet within so many *seconds*, in a sentence; "" if it does.

        Raises `UpstreamUnavailable` if it could not be asked. It is asked while the circuit is open too, and takes no
        try from anybody.
        """
        try:
            async with self._held().slots.taken(Use.ANSWER):
                with self._watched("GET", greeting=True):
                    async with asyncio.timeout(seconds or self._patience.answer_seconds) as deadline:
                        head = await self._answer("GET", _GREETING, None, None, "")
                        answer = await self._whole("GET", head, _LITTLE_BYTES, deadline)
        except UpstreamDistrust as refusal:
            # It was the registry that said that our credential will not do.
            why = "" if refusal.lack in {Lack.CREDENTIAL, Lack.RIGHT} else refusal.message
        except (UpstreamFailed, UpstreamSlow) as refusal:
            return refusal.message
        else:
            why = _failure(answer.status) if answer.status >= 500 else ""
        if not why:
            self._circuit.answered()
        return why

    async def _watch(self) -> None:
        # Nobody may come while we say that we are not ready, or always the one for whom the registry has nothing but
        # failures: what opened by itself has to close by itself.
        while self._circuit.trouble:
            await asyncio.sleep(REST_SECONDS)
            with suppress(UpstreamUnavailable):
                await self._greeted()
        _log.warning("The registry behind answers again.")


def _goes_on(task: asyncio.Task[None] | None) -> bool:
    return task is not None and not task.done() and task.get_loop() is asyncio.get_running_loop()


def _failure(status: int) -> str:
    return f"The registry behind has failed with status {status}."


def _is_particular(answer: aiohttp.ClientResponse) -> bool:
    """Whether a registry itself says that it has failed at what it was asked; a proxy in its place says 502 to 504."""
    own = _VERSION in answer.headers or essence(answer.headers.get("Content-Type")).endswith("json")
    return answer.status == 500 and own
