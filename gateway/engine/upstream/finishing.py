"""The end of an upload: an intent, the blob made in the registry behind us, and its link here with the event."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from gateway.change import Change, Notes
from gateway.engine.port import Blob, Upload
from gateway.engine.upstream.holds import Holds
from gateway.engine.upstream.intention import Intention
from gateway.engine.upstream.sessions import Sessions
from gateway.engine.upstream.turns import Stand, Turn
from gateway.errors import BlobUploadUnknown, DigestInvalid
from gateway.oci.digest import Digest
from gateway.records import content, foresight, mirror, uploads
from gateway.records.acts import Acts
from gateway.records.content import Act


class Finishing:
    """One upload on its way to become *blob*; keeps its turn until it is there, or has failed, or is dropped."""

    def __init__(
        self,
        sessions: Sessions,
        holds: Holds,
        turn: Turn,
        upload: Upload,
        stand: Stand,
        blob: Blob,
    ) -> None:
        self._sessions = sessions
        self._turn = turn
        self._upload = upload
        self._stand = stand
        self._blob = blob
        self._over = False
        # The SHA-256 of what was sent, if this process or the row knows it.
        self._plain = Digest(stand.prefix_digest) if stand.prefix_digest else None
        twin = {} if self._plain in (None, blob.digest) else {"twin": stand.prefix_digest}

        # Without a way back to this: dropped unapplied, it lets go of its turn at once.
        def check(connection: Any, but: Collection[str]) -> None:
            foresight.blob_comes(connection, upload.repository, blob.digest, blob.size_bytes, but)

        self._intention = Intention(
            holds,
            "blob.push",
            upload.repository,
            {
                "digest": blob.digest.text,
                "size_bytes": blob.size_bytes,
                "owner": upload.owner,
                "upload": upload.id,
                **twin,
            },
            check,
        )

    def change(self, acts: Acts) -> Change:
        """The change that links the blob once it has been made; it keeps the turn until it is released."""
        linked = acts.change(self._upload.repository, self._apply, self._upload.owner)
        return self._intention.around(replace(linked, release=self._turn.release), self._run, self._drop)

    def _apply(self, connection: Any, act: Act) -> Notes:
        try:
            uploads.remove(connection, self._upload.id)
            if self._plain is not None:
                mirror.keep_twin(connection, self._blob.digest, self._plain)
            return content.link_blob(connection, self._upload.repository, self._blob.digest, self._blob.size_bytes, act)
        finally:
            self._turn.discard()

    async def _run(self) -> None:
        try:
            told = await self._sessions.complete(self._upload.repository, self._stand, self._blob.digest)
            self._plain = self._plain or told
        except (DigestInvalid, BlobUploadUnknown):
            self._over = True
            self._turn.discard()
            raise
        except BaseException:
            self._turn.release()
            raise

    def _drop(self, connection: Any) -> None:
        if self._over:
            uploads.remove(connection, self._upload.id)
