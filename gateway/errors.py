"""Every refusal the gateway can utter, as one tree.

Refusal                          code, message, detail
├─ ContentRefusal                what was asked of content cannot be done
│  ├─ NameInvalid                a repository name outside the grammar
│  ├─ NameUnknown                no such repository
│  ├─ TagInvalid                 a tag outside the grammar
│  ├─ DigestInvalid              malformed, unsupported, or not that of the bytes
│  ├─ SizeInvalid                the length promised is not the length sent
│  ├─ PaginationNumberInvalid    `n` is not a number, or negative
│  ├─ BlobUnknown
│  ├─ BlobUploadUnknown
│  ├─ BlobUploadInvalid          the upload cannot go on like this
│  │  ├─ RangeInvalid            the chunk does not start where the upload stands
│  │  └─ UploadBusy              another request is writing to the upload
│  ├─ RangeNotSatisfiable        no byte of the blob lies in the requested range
│  ├─ ManifestUnknown
│  ├─ ManifestInvalid
│  │  ├─ ManifestTooLarge
│  │  └─ MediaTypeUnsupported
│  ├─ ManifestBlobUnknown        the manifest names content this repository does not hold
│  └─ ContentReferenced          a manifest in the repository still needs it
├─ AccessRefusal                 who asks may not
│  ├─ Unauthorized               another credential could help: becomes the challenge
│  ├─ Denied                     no credential can help
│  │  └─ AgainstRule             a rule of the project or the gateway forbids it, whoever asks
│  │     ├─ QuotaExceeded        the project would hold more than it may
│  │     ├─ TagImmutable         the tag may not be moved or removed
│  │     └─ ReadOnly             nothing may be changed now
│  └─ TooManyRequests            retry_after_seconds
├─ CapabilityRefusal             the gateway cannot, now or ever
│  ├─ Unsupported
│  ├─ BodyTooLarge
│  ├─ BodyTooSlow                a small body that takes longer than it may
│  ├─ InsufficientStorage        the disk has no room for more uploads
│  └─ Unavailable                retry_after_seconds; try again later
│     ├─ DatabaseDamaged         the file that holds the records is damaged; a backup has to be restored
│     ├─ ContentDamaged          the stored bytes are not those that were pushed; a push heals them
│     └─ UpstreamUnavailable     the registry behind us cannot be asked now
│        ├─ UpstreamFailed       it answered wrongly, or broke off
│        │  └─ UpstreamDistrust  it and we do not trust each other, as we are configured
│        └─ UpstreamSlow         it took longer than it may
└─ AdministrationRefusal         an administrator's act cannot be done
   ├─ Unknown                    no such account, project, grant, key…
   ├─ Conflict                   it exists already, or something depends on it
   │  ├─ Stale                   it is not what its editor saw any more
   │  └─ Occupied                others are at the same work, of which there is only one at a time
   └─ Invalid                    a value outside its grammar

Anything else that is raised is a fault: 500, a request id, a traceback in our own log, nothing leaked.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar


class Refusal(Exception):
    """
    An error the caller may be told.

    *message* is one sentence that says what to do next and never holds a secret; *detail* is what a program may read.
    *code* is the distribution specification's (spec.md, "Error Codes") where it has one.
    """

    code: ClassVar[str] = "UNKNOWN"

    def __init__(self, message: str, *, detail: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail: Mapping[str, object] = detail or {}

    @property
    def reason(self) -> str:
        """What the trail says of it."""
        return self.code.lower()


# content


class ContentRefusal(Refusal):
    """What was asked of content cannot be done."""


class NameInvalid(ContentRefusal):
    code = "NAME_INVALID"


class NameUnknown(ContentRefusal):
    code = "NAME_UNKNOWN"


class TagInvalid(ContentRefusal):
    code = "TAG_INVALID"


class DigestInvalid(ContentRefusal):
    code = "DIGEST_INVALID"


class SizeInvalid(ContentRefusal):
    code = "SIZE_INVALID"


class PaginationNumberInvalid(ContentRefusal):
    code = "PAGINATION_NUMBER_INVALID"


class BlobUnknown(ContentRefusal):
    code = "BLOB_UNKNOWN"


class BlobUploadUnknown(ContentRefusal):
    code = "BLOB_UPLOAD_UNKNOWN"


class BlobUploadInvalid(ContentRefusal):
    code = "BLOB_UPLOAD_INVALID"


class RangeInvalid(BlobUploadInvalid):
    """
    A chunk that does not start where the upload stands; the upload stays usable.

    *offset* is the number of bytes the upload holds, for the `Range` header of the reply.
    """

    code = "RANGE_INVALID"

    def __init__(self, message: str, *, offset: int) -> None:
        super().__init__(message, detail={"offset": offset})
        self.offset = offset


class UploadBusy(BlobUploadInvalid):
    """Another request is writing to this upload; the upload stays usable."""


class RangeNotSatisfiable(ContentRefusal):
    """A `Range` no byte of the blob lies in; *size_bytes* is for `Content-Range: bytes */size`."""

    code = "RANGE_INVALID"

    def __init__(self, message: str, *, size_bytes: int) -> None:
        super().__init__(message, detail={"size": size_bytes})
        self.size_bytes = size_bytes


class ManifestUnknown(ContentRefusal):
    code = "MANIFEST_UNKNOWN"


class ManifestInvalid(ContentRefusal):
    code = "MANIFEST_INVALID"


class ManifestTooLarge(ManifestInvalid):
    code = "SIZE_INVALID"


class MediaTypeUnsupported(ManifestInvalid):
    """A manifest whose `Content-Type` is missing or not one the gateway keeps."""


class ManifestBlobUnknown(ContentRefusal):
    """The manifest names content this repository does not hold; *missing* lists the digests."""

    code = "MANIFEST_BLOB_UNKNOWN"

    def __init__(self, message: str, *, missing: tuple[str, ...]) -> None:
        super().__init__(message, detail={"missing": list(missing)})
        self.missing = missing


class ContentReferenced(ContentRefusal):
    code = "DENIED"

    @property
    def reason(self) -> str:
        # No right is missing: whoever searches for denials does not look for this.
        return "content_referenced"


# access


class AccessRefusal(Refusal):
    """Who asks may not."""


class Unauthorized(AccessRefusal):
    """
    Another credential could help: the edge answers 401 with its challenge.

    *scope* is the access to ask for, as token text ("" for none); *error* is the challenge's `error` parameter (RFC
    6750 §3.1: `invalid_token`, `insufficient_scope`) or "" when the request carried no credential.
    """

    code = "UNAUTHORIZED"

    def __init__(self, message: str, *, scope: str = "", error: str = "", detail: Mapping[str, object] | None = None):
        super().__init__(message, detail=detail)
        self.scope = scope
        self.error = error


class Denied(AccessRefusal):
    """No credential can help."""

    code = "DENIED"


class AgainstRule(Denied):
    """A rule of the project or the gateway forbids it, whoever asks; the rule can be changed, the request need not."""


class QuotaExceeded(AgainstRule):
    """The project would hold more than its quota."""

    @property
    def reason(self) -> str:
        return "quota_exceeded"


class TagImmutable(AgainstRule):
    """The tag exists and may neither be moved nor removed."""

    @property
    def reason(self) -> str:
        return "immutable_tag"


class ReadOnly(AgainstRule):
    """The project, or the whole gateway, takes no changes of content now."""

    @property
    def reason(self) -> str:
        return "read_only"


class TooManyRequests(AccessRefusal):
    """Try again after *retry_after_seconds*, a whole number."""

    code = "TOOMANYREQUESTS"

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


# capability


class CapabilityRefusal(Refusal):
    """The gateway cannot, now or ever."""


class Unsupported(CapabilityRefusal):
    code = "UNSUPPORTED"


class BodyTooLarge(CapabilityRefusal):
    code = "SIZE_INVALID"


class BodyTooSlow(CapabilityRefusal):
    code = "SIZE_INVALID"


class InsufficientStorage(CapabilityRefusal):
    """The disk is so full that what is left is kept for deletions, administration and the trail."""

    code = "UNAVAILABLE"

    @property
    def reason(self) -> str:
        return "insufficient_storage"


class Unavailable(CapabilityRefusal):
    """
    Nothing was acknowledged; the same request may succeed after *retry_after_seconds*.

    *uncertain* says that it may have been done all the same: nobody knows until it is looked for.
    """

    code = "UNAVAILABLE"

    def __init__(self, message: str, *, retry_after_seconds: int = 5, uncertain: bool = False) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        self.uncertain = uncertain


class DatabaseDamaged(Unavailable):
    """The file that holds the records is not whole any more: to try again is no use, to restore a backup is."""


class ContentDamaged(Unavailable):
    """The stored bytes are not those that were pushed: whoever pushes them again heals them."""


class UpstreamUnavailable(Unavailable):
    """
    The registry behind us cannot be asked now: it does not answer, or has failed so often that it is left alone.

    *uncertain* says that it may have done what it was asked: nobody knows until it is asked again.
    """


class UpstreamFailed(UpstreamUnavailable):
    """It answered with an error of its own, with something that is no answer of a registry, or broke off."""


class Lack(StrEnum):
    """What is missing for the registry behind and the gateway to trust each other."""

    CREDENTIAL = "credential"
    """It asks for one, and there is none."""
    RIGHT = "right"
    """It refuses the one there is."""
    TRUST = "trust"
    """Nobody who is trusted vouches for its certificate."""
    TLS = "tls"
    """It speaks none that can be trusted."""
    AUTHORITY = "authority"
    """The file that names who is trusted cannot be read."""


class UpstreamDistrust(UpstreamFailed):
    """It refuses our credential, or we its certificate: trying again does not help, but mending what is *lack*ing."""

    def __init__(self, message: str, lack: Lack) -> None:
        super().__init__(message)
        self.lack = lack


class UpstreamSlow(UpstreamUnavailable):
    """It took longer than it may."""


# administration


class AdministrationRefusal(Refusal):
    """An administrator's act cannot be done."""


class Unknown(AdministrationRefusal):
    code = "UNKNOWN"


class Conflict(AdministrationRefusal):
    code = "CONFLICT"


class Stale(Conflict):
    """
    It is not what its editor saw any more, or there is none; *present* is what it is now, None if there is none.
    """

    code = "STALE"

    def __init__(self, message: str, *, present: object) -> None:
        super().__init__(message)
        self.present = present


class Occupied(Conflict):
    """Others are at the same work, of which there is only one at a time."""


class Invalid(AdministrationRefusal):
    code = "INVALID"
