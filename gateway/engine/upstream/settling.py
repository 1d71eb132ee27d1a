"""Settling: what became of the acts that were begun in the registry behind and never recorded; it is asked.

intent ─▶ is there now what was to be there (or gone what was to go)?
             ├─ yes ─▶ the records are brought up to it
             ├─ no  ─▶ nothing was done
             └─ it cannot say now ─▶ the intent stays
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from gateway.change import Notes
from gateway.engine.upstream.answers import is_absent, plain_in, promised
from gateway.engine.upstream.client import Answer, Client
from gateway.engine.upstream.holds import Hold, Holds
from gateway.engine.upstream.intention import WAITING_SECONDS
from gateway.engine.upstream.naming import Naming
from gateway.engine.upstream.sessions import COPIED_BYTES_PER_SECOND
from gateway.errors import ContentRefusal, UpstreamFailed, UpstreamUnavailable
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.manifest import Manifest, load
from gateway.oci.media import MANIFEST_MEDIA_TYPES, essence
from gateway.oci.names import Repository, Tag
from gateway.records import content, mirror, precedence, uploads
from gateway.records.content import Act
from gateway.records.database import Database
from gateway.records.intents import Intent

_ACCEPT: Final = {"Accept": ", ".join(sorted(MANIFEST_MEDIA_TYPES))}


def _nothing(connection: Any) -> Notes:
    return Notes()


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether an act was done, and *apply*, which brings the records up to what is there."""

    happened: bool
    apply: Callable[[Any], Notes] = _nothing


@dataclass(frozen=True, slots=True)
class _Blob:
    """A blob in the registry behind; *plain* is the SHA-256 of its bytes, if it names that."""

    size_bytes: int
    plain: Digest | None

    def may_be(self, size_bytes: int, twin: str | None) -> bool:
        """Whether it can be *size_bytes* that were sent, with the SHA-256 *twin* if that is known."""
        differs = twin is not None and self.plain is not None and self.plain.text != twin
        return size_bytes == self.size_bytes and not differs


class Settling:
    """Asks the registry behind what became of intents; changes nothing there."""

    def __init__(self, client: Client, database: Database, data: Path, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._database = database
        self._naming = Naming(client, database)
        self._holds = Holds(data)
        self._clock = clock

    def under_way(self) -> frozenset[str]:
        """The ids of intents whose acts some process is about to do or to record; asked after the intents are read."""
        return self._holds.held()

    async def hold(self, intent: Intent) -> Hold | None:
        """
        The intent held, so that whoever begins on the same tags and digests waits; None while somebody is at it.

        What is found out while it is held is still so when it is recorded, as far as what passes here goes.
        """
        hold = self._holds.take(intent.id, again=True)
        try:
            meeting = await self._database.read(
                lambda found: precedence.meeting(found, intent.repository, intent.kind, intent.act, intent.id)
            )
            busy = self._holds.still(meeting)
        except BaseException:
            hold.release()
            raise
        if busy:
            hold.release()
        return None if busy else hold

    def lasting_seconds(self, intent: Intent) -> float:
        """So much longer than others the registry behind may go on with the act when nobody waits for it any more."""
        return WAITING_SECONDS + 2 * int(intent.act.get("size_bytes", 0)) / COPIED_BYTES_PER_SECOND

    async def find_out(self, intent: Intent) -> Finding:
        """
        What became of *intent*.

        Raises `UpstreamUnavailable` when the registry behind does not say, or another act has to end first;
        `ValueError` for an intent of an act that is not done there.
        """
        match intent.kind:
            case "manifest.push":
                finding = await self._pushed_manifest(intent)
            case "manifest.delete":
                finding = await self._deleted_manifest(intent)
            case "tag.delete":
                # It is hidden here in the transaction that ends its intent, or not at all.
                finding = Finding(False)
            case "blob.push":
                finding = await self._pushed_blob(intent)
            case "blob.mount":
                finding = await self._mounted_blob(intent)
            case "blob.delete":
                finding = await self._deleted_blob(intent)
            case _:
                raise ValueError(f"nothing is known of how {intent.kind} ends")
        if await self._database.read(lambda found: content.project_exists(found, intent.repository.project)):
            return finding
        # Its project was removed since, and does not come back by itself.
        return Finding(finding.happened)

    # manifests

    async def _pushed_manifest(self, intent: Intent) -> Finding:
        digest, repository = _digest(intent), intent.repository
        answer = await self._manifest(repository, digest.text)
        if answer is None:
            return Finding(False)
        manifest = _loaded(answer, digest, Digest.parse(intent.act.get("pushed", digest.text)))
        places = {name: await self._place(repository, Tag(name)) for name in intent.act["tags"]}
        moved = [Tag(name) for name, place in places.items() if place == digest.text]
        if not moved and await self._found(repository, digest) is not None:
            # Registries give out a blob of the same bytes as the manifest: that it is there says nothing then.
            return Finding(False)
        unknown = _moved_on(intent, places)
        happened = bool(moved or unknown) or not places or await self._brought(intent, digest)
        if happened and not moved:
            unknown = sorted(places)
        act = Act(int(self._clock()), intent.act["owner"], done=True)

        def apply(connection: Any) -> Notes:
            shown = [
                tag for tag in moved if not mirror.hidden_since(connection, repository, tag, digest, intent.begun_at)
            ]
            notes = mirror.index_manifest(connection, repository, manifest, shown, act)
            return replace(notes, detail={"tags_unknown": unknown}) if unknown else notes

        return Finding(happened, apply)

    async def _brought(self, intent: Intent, digest: Digest) -> bool:
        """
        Whether the manifest, which is there, came by this push, wherever its tags are by now.

        Asked after it was found: whoever else has brought it by then is on record, or about to be. Nobody who brings
        it later is taken for them.
        """
        if intent.act.get("known", True):
            return False
        known, coming = await self._database.read(
            lambda found: (
                mirror.knows_manifest(found, intent.repository, digest),
                mirror.is_coming(found, intent.repository, digest, intent.id),
            )
        )
        if coming and not known:
            raise UpstreamUnavailable(f"Another push of {digest} has to end first.")
        return not known

    async def _deleted_manifest(self, intent: Intent) -> Finding:
        digest, repository = _digest(intent), intent.repository
        gone = [digest]
        if digest.algorithm is not Algorithm.SHA256:
            kept = await self._database.read(lambda found: content.find_manifest(found, repository, digest))
            gone += [Digest.of(kept[2])] if kept is not None else []
        if await self._manifest(repository, gone[-1].text) is not None:
            return Finding(False)

        def apply(connection: Any) -> Notes:
            if mirror.pushed_since(connection, repository, gone[-1], intent.begun_at):
                return Notes(digest=digest.text)
            notes = [mirror.drop_manifest(connection, repository, each) for each in gone]
            return replace(notes[-1], digest=digest.text)

        return Finding(True, apply)

    async def _manifest(self, repository: Repository, reference: str) -> Answer | None:
        """The manifest, None if the registry behind says that it has none."""
        path = f"/v2/{repository}/manifests/{reference}"
        answer = await self._client.ask("GET", path, headers=_ACCEPT, scope=_pull(repository))
        if is_absent(answer):
            return None
        if answer.status != 200:
            raise self._client.refuse(answer)
        return answer

    async def _place(self, repository: Repository, tag: Tag) -> str:
        """The digest at which the tag is there, "" if there is no such tag."""
        answer = await self._manifest(repository, tag.name)
        return "" if answer is None else Digest.of(answer.content).text

    # blobs

    async def _pushed_blob(self, intent: Intent) -> Finding:
        digest, repository = _digest(intent), intent.repository
        found = await self._found(repository, digest)
        # Of this digest it was there before, and what was sent are other bytes: they cannot have been taken.
        if found is None or not found.may_be(intent.act["size_bytes"], intent.act.get("twin")):
            return Finding(False)
        act = Act(int(self._clock()), intent.act["owner"], done=True)

        def apply(connection: Any) -> Notes:
            uploads.remove(connection, intent.act["upload"])
            if found.plain is not None:
                mirror.keep_twin(connection, digest, found.plain)
            return content.link_blob(connection, repository, digest, found.size_bytes, act)

        return Finding(True, apply)

    async def _mounted_blob(self, intent: Intent) -> Finding:
        digest, repository = _digest(intent), intent.repository
        found = await self._found(repository, digest)
        if found is None:
            return Finding(False)
        act = Act(int(self._clock()), done=True)

        def apply(connection: Any) -> Notes:
            notes = content.link_blob(connection, repository, digest, found.size_bytes, act)
            return replace(notes, detail={"from": intent.act["source"]})

        return Finding(True, apply)

    async def _deleted_blob(self, intent: Intent) -> Finding:
        repository = intent.repository
        names = [_digest(intent), *(Digest.parse(twin) for twin in intent.act.get("twins", ()))]
        for digest in names:
            if await self._found(repository, digest) is not None:
                return Finding(False)
            # A 404 without words may be anybody's: what is forgotten here is forgotten because a registry said so.
            answer = await self._client.ask("GET", _blob(repository, digest), scope=_pull(repository))
            if not await self._naming.lacks(repository, digest, answer):
                raise self._client.refuse(answer)

        def apply(connection: Any) -> Notes:
            for digest in names:
                mirror.drop_link(connection, repository, digest)
            return Notes(digest=names[0].text)

        return Finding(True, apply)

    async def _found(self, repository: Repository, digest: Digest) -> _Blob | None:
        """The blob as the registry behind has it, None if there is none."""
        answer = await self._client.ask("HEAD", _blob(repository, digest), scope=_pull(repository))
        if await self._naming.lacks(repository, digest, answer):
            return None
        length, told = answer.headers.get("content-length", ""), promised(answer)
        # Asked by SHA-512, some name the SHA-256 of the same bytes.
        lies = told is not None and told.algorithm is digest.algorithm and told != digest
        if answer.status != 200 or lies or not length.isdecimal():
            raise self._client.refuse(answer)
        return _Blob(int(length), plain_in(answer))


def _moved_on(intent: Intent, places: Mapping[str, str]) -> list[str]:
    """The tags of a push that are now where they neither were nor were to be: they may have been there in between."""
    before = intent.act.get("before")
    if before is None:
        return []
    expected = {name: {"", intent.act["digest"], *before.get(name, ())} for name in places}
    return sorted(name for name, place in places.items() if place not in expected[name])


def _loaded(answer: Answer, digest: Digest, pushed: Digest) -> Manifest:
    """What was answered for *digest*, under the digest by which it was *pushed*."""
    try:
        manifest = load(answer.content, essence(answer.headers.get("content-type")))
    except ContentRefusal as refusal:
        raise UpstreamFailed("The registry behind sends a manifest that cannot be read.") from refusal
    if manifest.digest != digest:
        raise UpstreamFailed(f"The registry behind has other bytes than those of {digest}.")
    return replace(manifest, digest=pushed)


def _digest(intent: Intent) -> Digest:
    return Digest.parse(intent.act["digest"])


def _blob(repository: Repository, digest: Digest) -> str:
    return f"/v2/{repository}/blobs/{digest}"


def _pull(repository: Repository) -> str:
    return f"repository:{repository}:pull"
