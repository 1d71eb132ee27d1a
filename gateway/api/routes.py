"""THE TABLE: what can be asked of the administration, what right each row needs, and what it is called in the trail.

The acts judge for themselves, each in its passage; what the table says of rights is what readers are told, what a
repeated answer is judged by, and what the tests hold the acts to.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

from msgspec import Struct

from gateway.access.names import RobotName, is_robot
from gateway.access.policy import Need
from gateway.access.scopes import Action
from gateway.administration import Consequences, Leak, ManifestView, Replay, SavedSearch, TagMove, Trace
from gateway.administration import RepositoryEntry as Entry
from gateway.administration import TagEntry as TagSeen
from gateway.administration.effective import is_oneself
from gateway.api import (
    access,
    answers,
    bodies,
    contents,
    evidence,
    grants,
    kept,
    projects,
    repositories,
    retention,
    reviews,
    robots,
    system,
    tokens,
    tracing,
    trail,
    trash,
    users,
    words,
)
from gateway.api.answers import Page
from gateway.api.replies import NDJSON, Reply
from gateway.api.request import Request
from gateway.audit.event import Kind
from gateway.audit.overview import Overview
from gateway.errors import Invalid, Unknown
from gateway.oci.names import Repository

Endpoint: TypeAlias = Callable[[Request], Awaitable[Reply]]
Needs: TypeAlias = Callable[[Request], tuple[Need, ...]]

PREFIX: Final = "/api/v1"


def anyone(_: Request) -> tuple[Need, ...]:
    """Any account; the answer has what it may see"""
    return ()


def administrator(_: Request) -> tuple[Need, ...]:
    """An administrator"""
    return (Need(Action.MANAGE),)


def auditor(_: Request) -> tuple[Need, ...]:
    """An administrator or auditor"""
    return (Need(Action.REVIEW),)


def owner(request: Request) -> tuple[Need, ...]:
    """An owner of the project; where none is named, an administrator"""
    return (Need(Action.MANAGE, request.project),)


def reviewer(request: Request) -> tuple[Need, ...]:
    """An administrator, an auditor, or, for what concerns a project, its owner"""
    return (Need(Action.REVIEW, request.project),)


def oneself(_: Request) -> tuple[Need, ...]:
    """The user whose they are, with a token that may administer; for another user's, an administrator"""
    return ()


def of_user(request: Request) -> tuple[Need, ...]:
    """The user itself, with a token that may administer; or an administrator"""
    return () if request.caller.principal.name == request.values["user"] else (Need(Action.MANAGE),)


def looker(request: Request) -> tuple[Need, ...]:
    """Whoever manages the account: an administrator, or the owner of a robot's project; with `plan`, who reviews it"""
    credential, action = request.body.credential, Action.REVIEW if request.body.plan else Action.MANAGE
    return (Need(action, RobotName.parse(credential).project if is_robot(credential) else None),)


def searcher(_: Request) -> tuple[Need, ...]:
    """Whoever may run the search"""
    return ()


def puller(request: Request) -> tuple[Need, ...]:
    """Whoever may pull from the repository"""
    return (Need(Action.PULL, Repository.parse(request.values["repository"])),)


def pusher(request: Request) -> tuple[Need, ...]:
    """Whoever may push to the repository"""
    return (Need(Action.PUSH, Repository.parse(request.values["repository"])),)


def asker(request: Request) -> tuple[Need, ...]:
    """The account itself; an administrator or auditor; of what concerns a project, its owner"""
    mine = is_oneself(request.caller, request.values["user"])
    return () if mine else (Need(Action.REVIEW, request.project),)


def deleter(request: Request) -> tuple[Need, ...]:
    """Whoever may delete in the repository"""
    return (Need(Action.DELETE, Repository.parse(request.values["repository"])),)


@dataclass(frozen=True, slots=True)
class Row:
    """
    *path* is below `/api/v1`; what stands in braces is one segment of it, percent-escaped where need be.

    *answer* is what a reply of *status* holds: None for nothing, `bytes` for a stream of *media_type*. *once* rows
    honour `Idempotency-Key`: they show a secret. *edits* rows honour `If-Match`, and answer the `ETag` of what they
    leave, as *tagged* rows do of what they show. *conflicts* says of a GET that it may not be possible as things are:
    409, as of any change.
    """

    method: str
    path: str
    endpoint: Endpoint
    needs: Needs
    kind: Kind
    answer: Any
    query: type[Struct] = bodies.Nothing
    body: type[Struct] | None = None
    status: int = 200
    media_type: str = NDJSON
    once: bool = False
    edits: bool = False
    tagged: bool = False
    conflicts: bool = False


USERS = "/users"
USER = "/users/{user}"
PROJECTS = "/projects"
PROJECT = "/projects/{project}"
ROBOTS = "/projects/{project}/robots"
ROBOT = "/projects/{project}/robots/{robot}"
GRANTS = "/grants"
GRANT = "/grants/{principal}/{reach}"
REPOSITORIES = "/repositories"
REPOSITORY = "/repositories/{repository}"
TAGS = "/repositories/{repository}/tags"
TAG = "/repositories/{repository}/tags/{tag}"
MANIFEST = "/repositories/{repository}/manifests/{reference}"
RETENTION = "/projects/{project}/retention"
TRASH = "/trash"
CHECKPOINTS = "/audit/checkpoints"
EVENTS = "/audit/events"
SEARCHES = "/audit/searches"
REVIEWS = "/reviews"
REVIEW = "/reviews/{id}"
FINDING = "/reviews/{id}/findings/{finding}"
PERSONAL = "/personal-tokens"
OFFLINE = "/offline-tokens"
KEYS = "/keys"

# fmt: off
TABLE: Final = (
    Row("GET",    USERS, users.index, auditor, Kind.ACCOUNT_LIST, Page[answers.User], query=bodies.Paging),
    Row("POST",   USERS, users.add, administrator, Kind.ACCOUNT_ADD, answers.Secret,
        body=bodies.NewUser, status=201, once=True),
    Row("GET",    USER, users.show, auditor, Kind.ACCOUNT_SHOW, answers.UserDetail, tagged=True),
    Row("PATCH",  USER, users.change, administrator, Kind.ACCOUNT_SET, answers.User,
        body=bodies.UserChanges, edits=True),
    Row("DELETE", USER, users.remove, administrator, Kind.ACCOUNT_REMOVE, None, status=204, edits=True),
    Row("POST",   USER + "/disable", users.disable, administrator, Kind.ACCOUNT_DISABLE, answers.User, edits=True),
    Row("POST",   USER + "/enable", users.enable, administrator, Kind.ACCOUNT_ENABLE, answers.User, edits=True),
    Row("POST",   USER + "/password", users.set_password, administrator, Kind.ACCOUNT_PASSWORD, answers.Secret,
        body=bodies.NewPassword, once=True),
    Row("DELETE", USER + "/offline-tokens", system.revoke_offline_tokens, administrator, Kind.OFFLINE_TOKEN_REVOKE,
        answers.Revoked),
    Row("DELETE", USER + "/personal-tokens", tokens.revoke_all, of_user, Kind.PERSONAL_TOKEN_REVOKE,
        answers.Revoked),
    Row("DELETE", USER + "/sessions", tokens.end_sessions, administrator, Kind.SESSION_END, answers.Revoked),
    Row("DELETE", USER + "/second-factor", tokens.disable_second_factor, administrator, Kind.SECOND_FACTOR_DISABLE,
        None, status=204),
    Row("GET",    USER + "/access", access.of_account, asker, Kind.ACCESS_ASK, access.AccountRights,
        query=bodies.Within),
    Row("GET",    PROJECTS, projects.index, anyone, Kind.PROJECT_LIST, Page[answers.Project], query=bodies.Paging),
    Row("POST",   PROJECTS, projects.add, administrator, Kind.PROJECT_ADD, answers.Project,
        body=bodies.NewProject, status=201, tagged=True),
    Row("GET",    PROJECT, projects.show, owner, Kind.PROJECT_SHOW, answers.ProjectDetail, tagged=True),
    Row("PATCH",  PROJECT, projects.change, owner, Kind.PROJECT_SET, answers.Project,
        body=bodies.ProjectChanges, edits=True),
    Row("DELETE", PROJECT, projects.remove, administrator, Kind.PROJECT_REMOVE, None,
        query=bodies.Force, status=204, edits=True),
    Row("GET",    PROJECT + "/contents", contents.repositories, anyone, Kind.REPOSITORY_LIST, Page[Entry],
        query=bodies.Browsed),
    Row("GET",    RETENTION, retention.show, owner, Kind.RETENTION_PLAN, kept.Retention, tagged=True),
    Row("PUT",    RETENTION, retention.keep, owner, Kind.RETENTION_SET, kept.Retention,
        body=bodies.RetentionWanted, edits=True),
    Row("GET",    RETENTION + "/plan", retention.plan, owner, Kind.RETENTION_PLAN, Page[kept.Decided],
        query=bodies.Paging),
    Row("POST",   RETENTION + "/apply", retention.apply, owner, Kind.RETENTION_PLAN, Page[kept.Gone]),
    Row("GET",    ROBOTS, robots.index, reviewer, Kind.ROBOT_LIST, Page[answers.Robot], query=bodies.Paging),
    Row("POST",   ROBOTS, robots.add, owner, Kind.ROBOT_ADD, answers.Secret,
        body=bodies.NewRobot, status=201, once=True),
    Row("GET",    ROBOT, robots.show, reviewer, Kind.ROBOT_LIST, answers.Robot, tagged=True),
    Row("POST",   ROBOT + "/rotate", robots.rotate, owner, Kind.ROBOT_ROTATE, answers.Secret,
        body=bodies.Rotation, once=True, edits=True),
    Row("POST",   ROBOT + "/end-overlap", robots.end_overlap, owner, Kind.ROBOT_ROTATE, answers.Robot, edits=True),
    Row("DELETE", ROBOT, robots.remove, owner, Kind.ROBOT_REMOVE, None, status=204, edits=True),
    Row("GET",    GRANTS, grants.index, reviewer, Kind.GRANT_LIST, Page[answers.Grant], query=bodies.GrantsWanted),
    Row("GET",    GRANT, grants.show, reviewer, Kind.GRANT_LIST, answers.Grant, tagged=True),
    Row("PUT",    GRANT, grants.give, owner, Kind.GRANT_ADD, answers.Grant, body=bodies.GrantWanted, edits=True),
    Row("DELETE", GRANT, grants.take, owner, Kind.GRANT_REMOVE, None, status=204, edits=True),
    Row("GET",    "/can", grants.ask, reviewer, Kind.ACCESS_ASK, answers.Answer, query=bodies.Question),
    Row("GET",    REPOSITORIES, repositories.index, anyone, Kind.REPOSITORY_LIST, Page[answers.Repository],
        query=bodies.OfProject),
    Row("GET",    REPOSITORY, repositories.show, puller, Kind.REPOSITORY_SHOW, answers.Repository),
    Row("DELETE", REPOSITORY, repositories.remove, deleter, Kind.REPOSITORY_REMOVE, None, status=204),
    Row("GET",    TAGS, repositories.tags, puller, Kind.TAG_LIST, Page[answers.Tag], query=bodies.Paging),
    Row("DELETE", TAG, repositories.untag, deleter, Kind.TAG_DELETE, None, status=204),
    Row("GET",    TAG + "/history", trash.tag_history, puller, Kind.TAG_HISTORY, Page[TagMove], query=bodies.Paging),
    Row("POST",   TAG + "/restore", trash.restore_tag, pusher, Kind.TAG_RESTORE, kept.Restored,
        body=bodies.TagRestored),
    Row("GET",    REPOSITORY + "/contents", contents.tags, puller, Kind.TAG_LIST, Page[TagSeen],
        query=bodies.Browsed),
    Row("GET",    REPOSITORY + "/removal", contents.removing_repository, deleter, Kind.REPOSITORY_SHOW, Consequences),
    Row("GET",    REPOSITORY + "/access", access.who, reviewer, Kind.ACCESS_ASK, access.Holders, query=bodies.Paging),
    Row("GET",    REPOSITORY + "/access/{principal}", access.explain, reviewer, Kind.ACCESS_ASK, access.Holder),
    Row("GET",    REPOSITORY + "/trash", trash.of_repository, deleter, Kind.TRASH_LIST, Page[kept.Trashed],
        query=bodies.Paging),
    Row("DELETE", REPOSITORY + "/trash", trash.empty_repository, deleter, Kind.TRASH_EMPTY, kept.Dropped),
    Row("GET",    MANIFEST, contents.manifest, puller, Kind.MANIFEST_SHOW, ManifestView),
    Row("DELETE", MANIFEST, trash.remove_manifest, deleter, Kind.MANIFEST_DELETE, None, status=204),
    Row("GET",    MANIFEST + "/removal", contents.removing, deleter, Kind.MANIFEST_SHOW, Consequences),
    Row("POST",   MANIFEST + "/restore", trash.restore_manifest, pusher, Kind.MANIFEST_RESTORE, kept.Restored),
    Row("GET",    TRASH, trash.index, owner, Kind.TRASH_LIST, Page[kept.Trashed], query=bodies.OfProject),
    Row("DELETE", TRASH, trash.empty, administrator, Kind.TRASH_EMPTY, kept.Dropped),
    Row("GET",    EVENTS, trail.index, reviewer, Kind.AUDIT_LIST, answers.Events, query=bodies.FiltersPaged),
    Row("GET",    EVENTS + "/{id}", trail.show, reviewer, Kind.AUDIT_SHOW, words.Event),
    Row("GET",    "/audit/export", trail.export, reviewer, Kind.AUDIT_EXPORT, bytes, query=bodies.Filters),
    Row("POST",   "/audit/verify", trail.verify, auditor, Kind.AUDIT_VERIFY, answers.Verified),
    Row("POST",   "/audit/verify-against", evidence.verify_against, auditor, Kind.AUDIT_VERIFY, answers.Verified,
        body=bodies.Against),
    Row("GET",    "/audit/key", evidence.key, auditor, Kind.AUDIT_KEY, kept.PublicKey),
    Row("GET",    CHECKPOINTS, evidence.index, auditor, Kind.AUDIT_CHECKPOINT, Page[kept.Checkpoint],
        query=bodies.Paging),
    Row("POST",   CHECKPOINTS, evidence.make, auditor, Kind.AUDIT_CHECKPOINT, kept.Checkpoint, status=201),
    Row("GET",    "/audit/sinks", evidence.sinks, auditor, Kind.AUDIT_SINKS, Page[kept.Sink], query=bodies.Paging),
    Row("GET",    "/audit/overview", tracing.overview, reviewer, Kind.AUDIT_OVERVIEW, Overview, query=bodies.Filters),
    Row("GET",    "/audit/who-pulled", tracing.who_pulled, reviewer, Kind.AUDIT_TRACE, Trace, query=bodies.Traced),
    Row("POST",   "/audit/replay", tracing.replay, reviewer, Kind.AUDIT_REPLAY, Replay, body=bodies.Proposed),
    Row("POST",   "/audit/leak", tracing.leak, looker, Kind.CREDENTIAL_LEAK, Leak, body=bodies.LeakTold),
    Row("GET",    SEARCHES, tracing.searches, anyone, Kind.SEARCH_LIST, Page[SavedSearch], query=bodies.Paging),
    Row("PUT",    SEARCHES + "/{search}", tracing.save_search, searcher, Kind.SEARCH_SAVE, SavedSearch,
        body=bodies.SearchWanted),
    Row("DELETE", SEARCHES + "/{search}", tracing.remove_search, anyone, Kind.SEARCH_REMOVE, None, status=204),
    Row("GET",    REVIEWS, reviews.index, reviewer, Kind.REVIEW_LIST, Page[reviews.Review], query=bodies.ReviewsWanted),
    Row("POST",   REVIEWS, reviews.begin, reviewer, Kind.REVIEW_BEGIN, reviews.ReviewDetail,
        body=bodies.NewReview, status=201),
    Row("GET",    REVIEW, reviews.show, reviewer, Kind.REVIEW_SHOW, reviews.ReviewDetail),
    Row("GET",    FINDING, reviews.show_finding, reviewer, Kind.REVIEW_SHOW, reviews.Finding, tagged=True),
    Row("PUT",    FINDING, reviews.mark, reviewer, Kind.REVIEW_MARK, reviews.Finding, body=bodies.Said, edits=True),
    Row("POST",   REVIEW + "/sign-off", reviews.sign_off, reviewer, Kind.REVIEW_SIGN_OFF, reviews.Review,
        body=bodies.SignOff),
    Row("GET",    REVIEW + "/pack", reviews.pack, reviewer, Kind.REVIEW_EXPORT, bytes, media_type=reviews.ZIP,
        conflicts=True),
    Row("GET",    PERSONAL, tokens.index, oneself, Kind.PERSONAL_TOKEN_LIST, Page[answers.PersonalToken],
        query=bodies.OfAccount),
    Row("DELETE", PERSONAL + "/{id}", tokens.revoke, oneself, Kind.PERSONAL_TOKEN_REVOKE, None, status=204),
    Row("GET",    "/sessions", tokens.sessions, oneself, Kind.SESSION_LIST, Page[answers.Session],
        query=bodies.OfAccount),
    Row("GET",    OFFLINE, system.offline_tokens, administrator, Kind.OFFLINE_TOKEN_LIST, Page[answers.OfflineToken],
        query=bodies.OfPrincipal),
    Row("DELETE", OFFLINE + "/{id}", system.revoke_offline_token, administrator, Kind.OFFLINE_TOKEN_REVOKE, None,
        status=204),
    Row("GET",    KEYS, system.keys, administrator, Kind.KEY_LIST, Page[answers.Key], query=bodies.Paging),
    Row("POST",   KEYS + "/rotate", system.rotate_key, administrator, Kind.KEY_ROTATE, answers.Key),
    Row("POST",   KEYS + "/{kid}/revoke", system.revoke_key, administrator, Kind.KEY_REVOKE, None, status=204),
    Row("GET",    "/read-only", system.read_only, auditor, Kind.READ_ONLY_SHOW, answers.ReadOnly),
    Row("PUT",    "/read-only", system.set_read_only, administrator, Kind.READ_ONLY_SET, None,
        body=bodies.ReadOnlyWanted, status=204),
)
# fmt: on

_Node: TypeAlias = "dict[str, Any]"


def _tree() -> _Node:
    """The rows by the segments of their paths; under "" stand those that end there, by method."""
    root: _Node = {}
    for row in TABLE:
        node = root
        for segment in row.path[1:].split("/"):
            node = node.setdefault("{}" if segment.startswith("{") else segment, {})
        node.setdefault("", {})[row.method] = row
    return root


_ROOT: Final = _tree()


def find(raw_path: str) -> tuple[Mapping[str, Row], tuple[str, ...]]:
    """
    The rows that answer at *raw_path*, below `/api/v1` and as it was sent, by method; and its segments, decoded.

    Raises `Unknown` for a path that names nothing, `Invalid` for one that is no text.
    """
    try:
        segments = tuple(unquote(part, errors="strict") for part in raw_path.split("/")[1:])
    except UnicodeDecodeError:
        raise Invalid("Write the path in percent-encoded UTF-8.") from None
    node: Any = _ROOT
    for segment in segments:
        # The empty word is the table's own: no segment of a path is empty.
        node = (node.get(segment) or node.get("{}")) if segment and node else None
    if not node or "" not in node:
        raise Unknown("There is nothing at this address; see /api/v1/openapi.json for what there is.")
    return node[""], segments


def values(row: Row, segments: tuple[str, ...]) -> dict[str, str]:
    """What stands in the place of each name in braces."""
    named = zip(row.path[1:].split("/"), segments, strict=True)
    return {pattern[1:-1]: segment for pattern, segment in named if pattern.startswith("{")}
