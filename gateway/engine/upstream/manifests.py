"""Manifests: asked of the registry behind each time by tag, kept in memory by digest, known here once they passed."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any, Final

from gateway.change import Change, Notes
from gateway.engine.port import StoredManifest
from gateway.engine.upstream.answers import (
    complaints,
    is_absent,
    is_unsupported,
    promised,
    require_manifest,
)
from gateway.engine.upstream.client import Answer, Client
from gateway.engine.upstream.holds import Holds
from gateway.engine.upstream.intention import Intention
from gateway.engine.upstream.naming import Naming
from gateway.engine.upstream.sharing import Sharing
from gateway.engine.upstream.testimony import SCHEMA1
from gateway.errors import (
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestTooLarge,
    ManifestUnknown,
    Refusal,
    Unsupported,
    UpstreamFailed,
    UpstreamUnavailable,
)
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.manifest import Manifest
from gateway.oci.media import MANIFEST_MEDIA_TYPES, essence
from gateway.oci.names import Reference, Repository, Tag
from gateway.records import content, foresight, mirror
from gateway.records.acts import Acts
from gateway.records.content import Act
from gateway.records.database import Database
from gateway.records.recent import Recent

#: Without all of them some registries would convert what they have.
_ACCEPT: Final = {"Accept": ", ".join(sorted(MANIFEST_MEDIA_TYPES | SCHEMA1))}
_INVALID: Final = frozenset(
    {"MANIFEST_INVALID", "MANIFEST_UNVERIFIED", "TAG_INVALID", "NAME_INVALID", "DIGEST_INVALID"}
)
#: Registries refuse these without urls; others then have to be there.
_FOREIGN: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
_REMEMBERED_BYTES: Final = 32 * 1024 * 1024
#: What an entry costs beside its content.
_ENTRY_BYTES: Final = 512
#: Larger ones are read by another thread: they would hold up everybody else's requests.
_INLINE_BYTES: Final = 128 * 1024


class UpstreamManifests:
    """
    Manifests of the registry behind.

    What comes from there is given out only if it is what it is said to be: its digest, its media type, its form.
    """

    def __init__(self, client: Client, database: Database, acts: Acts, holds: Holds) -> None:
        self._client = client
        self._database = database
        self._acts = acts
        self._holds = holds
        self._naming = Naming(client, database)
        self._recent: Recent[StoredManifest] = Recent(database.versions, _REMEMBERED_BYTES, _weight)
        self._hidden: Recent[Mapping[str, str]] = Recent(database.versions, _REMEMBERED_BYTES, _hidden_weight)
        self._sharing: Sharing[StoredManifest] = Sharing()

    async def find(self, repository: Repository, reference: Reference) -> StoredManifest:
        version = self._recent.version(repository)
        known = self._recent.find(repository, reference, version)
        if isinstance(reference, Digest):
            if known is not None:
                return known
            if reference.algorithm is not Algorithm.SHA256:
                return await self._kept(repository, reference) or await self._fetch(repository, reference, None)
        key = repository, reference, version
        return await self._sharing.ask(key, lambda: self._fetch(repository, reference, known))

    def put(self, repository: Repository, manifest: Manifest, tags: Sequence[Tag], owner: str = "") -> Change:
        plain = mirror.twin(manifest)
        names = [tag.name for tag in tags]
        required = [digest.text for digest in manifest.required]
        unseen: list[tuple[Tag, str]] = []

        def check(connection: Any, but: Collection[str]) -> None:
            mirror.require_undeleted(connection, repository, manifest, but)
            coming = foresight.manifest_comes(connection, repository, manifest, tags, but)
            unseen[:] = coming.unseen
            told.update(mirror.starting_point(connection, repository, plain.digest, tags, but))
            told.update(layers=dict(coming.layers))

        told: dict[str, object] = {
            "digest": plain.digest.text,
            "pushed": manifest.digest.text,
            "tags": names,
            "owner": owner,
            "names": required,
            "size_bytes": len(manifest.content),
            **({"index": True} if manifest.is_index else {}),
        }
        intention = Intention(self._holds, "manifest.push", repository, told, check)

        async def run() -> None:
            await self._require_plain(repository, manifest)
            for tag, pattern in unseen:
                await self._require_free(repository, tag, pattern, plain.digest)
            for number, name in enumerate(names or [plain.digest.text]):
                try:
                    await self._send(repository, plain, name)
                except UpstreamUnavailable as refusal:
                    refusal.uncertain = refusal.uncertain or number > 0
                    raise
                except Refusal as refusal:
                    if number:
                        message = f"Only {', '.join(names[:number])} could be moved; push the manifest again."
                        raise UpstreamFailed(message, uncertain=True) from refusal
                    raise

        def apply(connection: Any, act: Act) -> Notes:
            return mirror.index_manifest(connection, repository, manifest, tags, act)

        return intention.around(self._acts.change(repository, apply, owner), run)

    def delete(self, repository: Repository, digest: Digest, owner: str = "") -> Change:
        told: dict[str, object] = {"digest": digest.text}
        gone = [digest]

        def check(connection: Any, but: Collection[str]) -> None:
            going = foresight.manifest_goes(connection, repository, digest, but)
            if mirror.knows_manifest(connection, repository, digest):
                names = {digest, Digest(str(going.get("twin", digest.text)))}
                mirror.require_no_layer(connection, repository, sorted(names), but)
            told.update(going)

        intention = Intention(self._holds, "manifest.delete", repository, told, check)

        async def run() -> None:
            if digest.algorithm is not Algorithm.SHA256:
                kept = await self._kept(repository, digest)
                if kept is None:
                    raise _unknown(repository, digest)
                # Pushed by one digest, it is held by another; both go.
                gone.append(Digest.of(kept.content))
            await self._remove(repository, gone[-1])

        def apply(connection: Any) -> Notes:
            notes = [mirror.drop_manifest(connection, repository, each) for each in gone]
            return replace(notes[-1], digest=digest.text)

        return intention.around(Change(apply, repositories=(repository,)), run)

    def untag(self, repository: Repository, tag: Tag, owner: str = "") -> Change:
        hidden: list[Digest] = []
        # Nothing is done there, only asked: but no push may come between the answer and what is made of it.
        intention = Intention(
            self._holds,
            "tag.delete",
            repository,
            {"tags": [tag.name]},
            lambda connection, _: foresight.tag_goes(connection, repository, tag),
        )

        async def run() -> None:
            hidden.append(await self._where(repository, tag))

        def apply(connection: Any, act: Act) -> Notes:
            return mirror.hide_tag(connection, repository, tag, hidden[-1], act)

        return intention.around(self._acts.change(repository, apply), run)

    # asking

    async def _fetch(
        self, repository: Repository, reference: Reference, known: StoredManifest | None
    ) -> StoredManifest:
        """By tag, what is *known* is asked about, and need not be sent again if the tag still points at it."""
        version = self._recent.version(repository)
        headers = _ACCEPT if known is None else {**_ACCEPT, "If-None-Match": f'"{known.digest}"'}
        path = f"/v2/{repository}/manifests/{reference}"
        answer = await self._client.ask("GET", path, headers=headers, scope=_pull(repository))
        if is_absent(answer) or await self._is_blob(repository, reference, answer):
            raise _unknown(repository, reference)
        if answer.status == 304 and known is not None:
            found = known
        elif answer.status == 200:
            found = await self._read(repository, reference, answer, version)
        else:
            raise self._client.refuse(answer)
        if isinstance(reference, Tag):
            if await self._is_hidden(repository, reference, found.digest):
                raise _unknown(repository, reference)
            self._recent.keep(repository, reference, version, found)
        self._recent.keep(repository, found.digest, version, found)
        return found

    async def _read(self, repository: Repository, reference: Reference, answer: Answer, version: int) -> StoredManifest:
        media_type = essence(answer.headers.get("content-type"))
        if media_type in SCHEMA1:
            raise Unsupported("This manifest is in Docker's first format, which has no digest; push the image again.")
        told = promised(answer)
        algorithm = reference.algorithm if isinstance(reference, Digest) else Algorithm.SHA256
        digest = Digest.of(answer.content, algorithm)
        if isinstance(reference, Digest) and digest != reference:
            raise UpstreamFailed(f"The registry behind has other bytes than those of {reference}.")
        if told is not None and told.algorithm is algorithm and told != digest:
            raise UpstreamFailed("The registry behind sends other bytes than it says.")
        known = self._recent.find(repository, digest, version)
        if known is not None and known.media_type == media_type:
            return known
        if len(answer.content) > _INLINE_BYTES:
            await asyncio.to_thread(require_manifest, answer.content, media_type)
        else:
            require_manifest(answer.content, media_type)
        return StoredManifest(digest, media_type, answer.content)

    async def _is_blob(self, repository: Repository, reference: Reference, answer: Answer) -> bool:
        """Whether *answer* means that *reference* is a blob: a registry stumbles over one that it takes for JSON."""
        if not (isinstance(reference, Digest) and answer.status == 500 and complaints(answer)):
            return False
        path = f"/v2/{repository}/blobs/{reference}"
        return (await self._client.ask("HEAD", path, scope=_pull(repository))).status == 200

    async def _kept(self, repository: Repository, digest: Digest) -> StoredManifest | None:
        found = await self._database.read(lambda connection: content.find_manifest(connection, repository, digest))
        return None if found is None else StoredManifest(*found)

    async def _is_hidden(self, repository: Repository, tag: Tag, digest: Digest) -> bool:
        version = self._hidden.version(repository)
        hidden = self._hidden.find(repository, "", version)
        if hidden is None:
            hidden = await self._database.read(lambda connection: mirror.hidden_tags(connection, repository))
            self._hidden.keep(repository, "", version, hidden)
        return hidden.get(tag.name) == digest.text

    async def _where(self, repository: Repository, tag: Tag) -> Digest:
        """The digest that a visible tag points at."""
        path = f"/v2/{repository}/manifests/{tag}"
        answer = await self._client.ask("HEAD", path, headers=_ACCEPT, scope=_pull(repository))
        if is_absent(answer, bodiless=True):
            raise _unknown(repository, tag)
        digest = promised(answer)
        if answer.status != 200 or digest is None:
            raise self._client.refuse(answer)
        if await self._is_hidden(repository, tag, digest):
            raise _unknown(repository, tag)
        return digest

    async def _require_free(self, repository: Repository, tag: Tag, pattern: str, digest: Digest) -> None:
        """Raises `TagImmutable` if a tag that may not be moved points elsewhere than at *digest*."""
        try:
            found = await self._where(repository, tag)
        except ManifestUnknown:
            return
        if found != digest:
            raise foresight.taken(repository, tag, pattern)

    # changing

    async def _require_plain(self, repository: Repository, manifest: Manifest) -> None:
        """
        Raises `ManifestInvalid` for what is named by another digest than its SHA-256. By that alone the registry behind
        keeps things: it looks for manifests by no other, and its garbage collection takes blobs that are named so.
        """
        for digest in manifest.references:
            if digest.algorithm is not Algorithm.SHA256:
                kept = await self._kept(repository, digest)
                plain = await self._naming.plain(repository, digest) if kept is None else Digest.of(kept.content)
                remedy = f"Name {digest} as {plain}" if plain else f"Push {digest} by its SHA-256 and name it by that"
                raise ManifestInvalid(f"{remedy}: the registry behind keeps everything by SHA-256 only.")

    async def _send(self, repository: Repository, manifest: Manifest, name: str) -> None:
        answer = await self._client.ask(
            "PUT",
            f"/v2/{repository}/manifests/{name}",
            headers={"Content-Type": manifest.media_type},
            content=manifest.content,
            scope=f"repository:{repository}:pull,push",
        )
        if answer.status == 201:
            told = promised(answer)
            if told is not None and told.algorithm is Algorithm.SHA256 and told != manifest.digest:
                raise UpstreamFailed("The registry behind took other bytes than were sent.", uncertain=True)
            return
        raise self._refused(repository, manifest, answer)

    def _refused(self, repository: Repository, manifest: Manifest, answer: Answer) -> Refusal:
        told = complaints(answer)
        codes = [code for code, _ in told]
        named = {_digest_of(detail) for code, detail in told if code == ManifestBlobUnknown.code}
        if answer.status == 500 and (elsewhere := _elsewhere(manifest, named)):
            # Its own error, and yet an answer: it looks at what a manifest names before it keeps anything.
            return ManifestInvalid(
                f"The registry behind does not take {elsewhere}, which lies elsewhere: its operator can allow the urls "
                "of such layers (validation.manifests.urls.allow), and each must have some."
            )
        if answer.status >= 500:
            return self._client.refuse(answer)
        if ManifestBlobUnknown.code in codes:
            missing = tuple(digest.text for digest in manifest.references if digest.text in named)
            shown = missing[0] if missing else "what it names"
            return ManifestBlobUnknown(f"Push {shown} to {repository} first, then this manifest.", missing=missing)
        if is_unsupported(answer):
            return Unsupported("The registry behind takes no such manifests.")
        if answer.status == 413 or "SIZE_INVALID" in codes:
            return ManifestTooLarge("Push a smaller manifest; the registry behind does not take this one.")
        found = next((code for code in codes if code in _INVALID), "")
        if found:
            return ManifestInvalid(f"The registry behind does not take this manifest: {found}.")
        return self._client.refuse(answer)

    async def _remove(self, repository: Repository, digest: Digest) -> None:
        if not await self._knows(repository, digest):
            await self._require_no_blob(repository, digest)
        path = f"/v2/{repository}/manifests/{digest}"
        answer = await self._client.ask("DELETE", path, scope=f"repository:{repository}:delete")
        if answer.status in {202, 204}:
            return
        if is_absent(answer):
            if await self._knows(repository, digest):
                return
            raise _unknown(repository, digest)
        if is_unsupported(answer):
            raise Unsupported("The registry behind deletes nothing; its operator can enable storage.delete there.")
        raise self._client.refuse(answer)

    async def _require_no_blob(self, repository: Repository, digest: Digest) -> None:
        """Raises `ManifestUnknown` for a blob: asked to delete it as a manifest, a registry does, whatever names it."""
        answer = await self._client.ask("HEAD", f"/v2/{repository}/blobs/{digest}", scope=_pull(repository))
        if answer.status == 200:
            raise _unknown(repository, digest)
        if not is_absent(answer, bodiless=True):
            raise self._client.refuse(answer)

    async def _knows(self, repository: Repository, digest: Digest) -> bool:
        return await self._database.read(lambda found: mirror.knows_manifest(found, repository, digest))


def _elsewhere(manifest: Manifest, refused: Set[str]) -> Digest | None:
    """The first layer that need not be in the registry, or has urls, among those whose digests were *refused*."""
    for layer in manifest.layers:
        if layer.digest.text in refused and (layer.urls or layer.media_type == _FOREIGN):
            return layer.digest
    return None


def _digest_of(detail: object) -> str:
    found = detail.get("digest", detail.get("Digest")) if isinstance(detail, dict) else detail
    return found if isinstance(found, str) else ""


def _unknown(repository: Repository, reference: Reference) -> ManifestUnknown:
    return ManifestUnknown(f"{repository} holds no manifest {reference}.")


def _pull(repository: Repository) -> str:
    return f"repository:{repository}:pull"


def _weight(manifest: StoredManifest) -> int:
    return len(manifest.content) + _ENTRY_BYTES


def _hidden_weight(hidden: Mapping[str, str]) -> int:
    return _ENTRY_BYTES * (1 + len(hidden))
