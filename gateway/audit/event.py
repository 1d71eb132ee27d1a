"""The event: what one pass through the gate was, as a value, in a closed vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Self

from gateway.access.principals import Caller

#: No value of an event is longer; a longer one is cut and the event says so.
VALUE_CHARACTERS = 512


class Kind(StrEnum):
    """Every kind of event: noun.verb. Adding one here is all it takes to make it searchable."""

    # the registry
    REGISTRY_PING = "registry.ping"
    SIGN_IN = "account.sign_in"
    TOKEN_ISSUE = "token.issue"  # noqa: S105 - the name of a kind
    MANIFEST_PULL = "manifest.pull"
    MANIFEST_HEAD = "manifest.head"
    MANIFEST_PUSH = "manifest.push"
    MANIFEST_DELETE = "manifest.delete"
    TAG_DELETE = "tag.delete"
    BLOB_PULL = "blob.pull"
    BLOB_PULL_ENDED = "blob.pull.ended"
    BLOB_HEAD = "blob.head"
    BLOB_PUSH = "blob.push"
    BLOB_MOUNT = "blob.mount"
    BLOB_DELETE = "blob.delete"
    UPLOAD_BEGIN = "upload.begin"
    UPLOAD_APPEND = "upload.append"
    UPLOAD_STATUS = "upload.status"
    UPLOAD_CANCEL = "upload.cancel"
    TAGS_LIST = "tags.list"
    REFERRERS_LIST = "referrers.list"
    CATALOG_LIST = "catalog.list"
    # administration
    ACCOUNT_ADD = "account.add"
    ACCOUNT_SET = "account.set"
    ACCOUNT_LIST = "account.list"
    ACCOUNT_SHOW = "account.show"
    ACCOUNT_DISABLE = "account.disable"
    ACCOUNT_ENABLE = "account.enable"
    ACCOUNT_PASSWORD = "account.password"  # noqa: S105 - the name of a kind
    ACCOUNT_REMOVE = "account.remove"
    PROJECT_ADD = "project.add"
    PROJECT_SET = "project.set"
    PROJECT_LIST = "project.list"
    PROJECT_SHOW = "project.show"
    PROJECT_REMOVE = "project.remove"
    GRANT_ADD = "grant.add"
    GRANT_REMOVE = "grant.remove"
    GRANT_LIST = "grant.list"
    ROBOT_ADD = "robot.add"
    ROBOT_LIST = "robot.list"
    ROBOT_ROTATE = "robot.rotate"
    ROBOT_REMOVE = "robot.remove"
    OFFLINE_TOKEN_LIST = "offline_token.list"  # noqa: S105 - the name of a kind
    OFFLINE_TOKEN_REVOKE = "offline_token.revoke"  # noqa: S105 - the name of a kind
    PERSONAL_TOKEN_ISSUE = "personal_token.issue"  # noqa: S105 - the name of a kind
    PERSONAL_TOKEN_LIST = "personal_token.list"  # noqa: S105 - the name of a kind
    PERSONAL_TOKEN_REVOKE = "personal_token.revoke"  # noqa: S105 - the name of a kind
    PERSONAL_TOKEN_USE = "personal_token.use"  # noqa: S105 - the name of a kind
    SECOND_FACTOR_BEGIN = "second_factor.begin"
    SECOND_FACTOR_CONFIRM = "second_factor.confirm"
    SECOND_FACTOR_DISABLE = "second_factor.disable"
    SECOND_FACTOR_CODES = "second_factor.codes"
    SECOND_FACTOR_SHOW = "second_factor.show"
    SESSION_OPEN = "session.open"
    SESSION_USE = "session.use"
    SESSION_LIST = "session.list"
    SESSION_END = "session.end"
    ACCESS_ASK = "access.ask"
    REPOSITORY_LIST = "repository.list"
    REPOSITORY_SHOW = "repository.show"
    REPOSITORY_REMOVE = "repository.remove"
    REPOSITORY_ADOPT = "repository.adopt"
    REPOSITORY_IMPORT = "repository.import"
    ACCOUNT_IMPORT = "account.import"
    DOCTOR_RUN = "gateway.doctor"
    CHECK_RUN = "gateway.check"
    CHECK_REPAIR = "gateway.check.repair"
    STORAGE_BACKUP = "storage.backup"
    STORAGE_BACKUP_ENDED = "storage.backup.ended"
    STORAGE_RESTORE = "storage.restore"
    STORAGE_SWEEP = "storage.sweep"
    STORAGE_SWEEP_BEGUN = "storage.sweep.begun"
    TAG_LIST = "tag.list"
    TAG_HISTORY = "tag.history"
    TAG_RESTORE = "tag.restore"
    MANIFEST_RESTORE = "manifest.restore"
    TRASH_LIST = "trash.list"
    TRASH_EMPTY = "trash.empty"
    TRASH_EMPTY_BEGUN = "trash.empty.begun"
    RETENTION_SET = "retention.set"
    RETENTION_PLAN = "retention.plan"
    RETENTION_APPLY = "retention.apply"
    MANIFEST_SHOW = "manifest.show"
    AUDIT_LIST = "audit.list"
    AUDIT_SHOW = "audit.show"
    AUDIT_EXPORT = "audit.export"
    AUDIT_VERIFY = "audit.verify"
    AUDIT_KEY = "audit.key"
    AUDIT_CHECKPOINT = "audit.checkpoint"
    AUDIT_SINKS = "audit.sinks"
    AUDIT_DELIVERY = "audit.delivery"
    AUDIT_RETAIN = "audit.retain"
    AUDIT_OVERVIEW = "audit.overview"
    AUDIT_REPLAY = "audit.replay"
    AUDIT_TRACE = "audit.trace"
    SEARCH_SAVE = "search.save"
    SEARCH_LIST = "search.list"
    SEARCH_REMOVE = "search.remove"
    REVIEW_BEGIN = "review.begin"
    REVIEW_LIST = "review.list"
    REVIEW_SHOW = "review.show"
    REVIEW_MARK = "review.mark"
    REVIEW_SIGN_OFF = "review.sign_off"
    REVIEW_EXPORT = "review.export"
    CREDENTIAL_LEAK = "credential.leak"
    KEY_LIST = "key.list"
    KEY_ADD = "key.add"
    KEY_ROTATE = "key.rotate"
    KEY_REVOKE = "key.revoke"
    CERTIFICATE_SHOW = "certificate.show"
    READ_ONLY_SET = "read_only.set"
    READ_ONLY_SHOW = "read_only.show"
    # the gateway itself
    CERTIFICATE_ACCEPTED = "certificate.accepted"
    CERTIFICATE_REJECTED = "certificate.rejected"
    INTEGRITY_FAILURE = "integrity.failure"
    AUDIT_BREAK = "audit.break"
    LEAK_FOUND = "leak.found"
    GATEWAY_INITIALISE = "gateway.initialise"
    GATEWAY_MIGRATE = "gateway.migrate"
    GATEWAY_START = "gateway.start"
    GATEWAY_STOP = "gateway.stop"
    CONFIGURATION_CHANGE = "configuration.change"


#: Kinds that are an event only when the gate refuses them: no step of a client that merely looks.
QUIET = frozenset({Kind.REGISTRY_PING, Kind.MANIFEST_HEAD, Kind.BLOB_HEAD})
#: Kinds that are an event when refused or failed, not when they succeed: the event is that of the act they belong to.
STEPS = frozenset(
    {
        Kind.UPLOAD_BEGIN,
        Kind.UPLOAD_APPEND,
        Kind.UPLOAD_STATUS,
        Kind.UPLOAD_CANCEL,
        Kind.PERSONAL_TOKEN_USE,
        Kind.SESSION_USE,
    }
)
#: What moves tags, removes them or brings them back; *before* and *after* say where they pointed.
TAG_MOVES = (Kind.MANIFEST_PUSH, Kind.MANIFEST_DELETE, Kind.TAG_DELETE, Kind.TAG_RESTORE, Kind.MANIFEST_RESTORE)


class Outcome(StrEnum):
    ALLOWED = "allowed"
    DENIED = "denied"
    FAILED = "failed"


_TEXTS = ("project", "repository", "reference", "digest", "action", "reason", "grant")


@dataclass(frozen=True, slots=True)
class Event:
    """
    What happened, before it is sealed: who, from where, what, on what, with what outcome and why.

    Fields that say nothing are empty. *time* is UTC. *before*, *after* and *detail* are small JSON-able mappings;
    nothing secret is ever put in one.
    """

    kind: Kind
    caller: Caller
    outcome: Outcome = Outcome.ALLOWED
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    project: str = ""
    repository: str = ""
    reference: str = ""
    digest: str = ""
    action: str = ""
    reason: str = ""
    grant: str = ""
    status: int = 0
    bytes: int | None = None
    duration_ms: int | None = None
    before: Mapping[str, object] | None = None
    after: Mapping[str, object] | None = None
    detail: Mapping[str, object] | None = None

    def but(self, **changes: object) -> Self:
        """This event with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]  # the field names are the callers' own

    def record(self) -> dict[str, object]:
        """The event as the mapping that is sealed and shown: JSON-able, empty fields left out, every value capped."""
        caller = self.caller
        record: dict[str, object] = {
            "time": time_text(self.time),
            "kind": self.kind.value,
            "outcome": self.outcome.value,
            "principal": clean(caller.principal.name),
            "principal_kind": caller.principal.kind.value,
            "principal_id": caller.principal.id,
            "credential": caller.credential.kind.value,
            "address": clean(caller.origin.address),
            "request_id": clean(caller.origin.request_id),
        }
        origin = caller.origin
        if caller.credential.id:
            record["credential_id"] = clean(caller.credential.id)
        if origin.agent:
            record["agent"] = clean(origin.agent)
        if origin.peer_address != origin.address:
            record["peer_address"] = clean(origin.peer_address)
        for name in _TEXTS:
            text = getattr(self, name)
            if text:
                record[name] = clean(text)
        # Noted before the act; what was refused then was answered with another. A body that was cut had begun with it.
        if self.status and (self.outcome is Outcome.ALLOWED or self.kind is Kind.BLOB_PULL_ENDED):
            record["status"] = self.status
        if self.bytes is not None:
            record["bytes"] = self.bytes
        if self.duration_ms is not None:
            record["duration_ms"] = self.duration_ms
        for name, mapping in (("before", self.before), ("after", self.after), ("detail", self.detail)):
            if mapping is not None:
                record[name] = _clean_value(mapping)
        return record


@dataclass(frozen=True, slots=True)
class Repeated:
    """An event like one that was recorded before, its *like*, but for its moment, its request and the grant used."""

    like: Mapping[str, object]
    time: datetime
    request_id: str
    grant: str

    def record(self) -> dict[str, object]:
        """As `Event.record`."""
        return {**self.like, "time": time_text(self.time), "request_id": self.request_id, "grant": self.grant}


def time_text(time: datetime) -> str:
    """*time* as events spell it: UTC, microseconds, comparable as text."""
    return f"{time.astimezone(UTC).isoformat(timespec='microseconds')[:-6]}Z"


def clean(text: str) -> str:
    """*text* as the trail keeps it: valid Unicode, at most 512 characters, a cut shown by its last one."""
    if len(text) > VALUE_CHARACTERS:
        text = text[: VALUE_CHARACTERS - 1] + "…"
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _clean_value(value: object) -> object:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean(str(name)): _clean_value(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean_value(inner) for inner in value]
    if value is None or isinstance(value, bool | int):
        return value
    return clean(str(value))
