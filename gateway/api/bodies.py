"""What requests bring: bodies and queries, as strict values; a field or parameter not named here is refused."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.api import words

# queries


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters."""


class Paging(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which part of a list."""

    limit: words.PageSize = 100
    cursor: words.Cursor = ""


class OfProject(Paging, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A list, of one project or of all."""

    project: words.Project | None = None


class ReviewsWanted(OfProject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A list of reviews."""

    every_project: Annotated[bool, Meta(description="Those that looked at every project alone.")] = False
    open: Annotated[bool, Meta(description="Those that are not signed off alone.")] = False


class OfPrincipal(Paging, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A list, of one user or robot or of all."""

    principal: words.Principal | None = None


class GrantsWanted(OfPrincipal, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whose grants, and where."""

    project: words.Project | None = None


class OfAccount(Paging, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A list, of one user; without, your own."""

    account: words.UserName | None = None


class Within(Struct, frozen=True, forbid_unknown_fields=True):
    """Of everything, or of one project."""

    project: words.Project | None = None


class Browsed(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A page of what is looked through, which may hold fewer than there is room for."""

    containing: Annotated[str, Meta(max_length=128, description="What the name contains.")] = ""
    limit: Annotated[int, Meta(ge=1, le=200, description="The most items of one page.")] = 50
    cursor: words.Cursor = ""


class Force(Struct, frozen=True, forbid_unknown_fields=True):
    """Whether to remove what is not empty."""

    force: bool = False


class Question(Struct, frozen=True, forbid_unknown_fields=True):
    """Whether somebody may do something."""

    principal: Annotated[words.Principal, Meta(description="A user, a robot as `PROJECT+NAME`, or `anonymous`.")]
    action: words.ActionWord
    target: Annotated[
        str, Meta(description="`REPOSITORY`, with or without `:TAG`.", extra_json_schema={"maxLength": 330})
    ]


class Filters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which events; what is left away excludes nothing."""

    project: words.Project | None = None
    repository: words.Repository | None = None
    principal: Annotated[str, Meta(max_length=255, description="Who did it, as the trail spells it.")] = ""
    kind: Annotated[str, Meta(max_length=64, description="As in `manifest.push`, or `manifest.*` for a noun.")] = ""
    outcome: words.OutcomeWord | None = None
    digest: Annotated[str, Meta(max_length=255)] = ""
    address: Annotated[str, Meta(max_length=64)] = ""
    since: Annotated[words.Moment | None, Meta(description="From then on.")] = None
    until: Annotated[words.Moment | None, Meta(description="Before then.")] = None


class FiltersPaged(Filters, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which events, a page at a time, the newest first."""

    limit: words.PageSize = 100
    cursor: words.Cursor = ""


# bodies


class NewUser(Struct, frozen=True, forbid_unknown_fields=True):
    name: words.UserName
    administrator: bool = False
    auditor: bool = False
    password: words.Password | None = None


class UserChanges(Struct, frozen=True, forbid_unknown_fields=True):
    """What is left away stays as it is."""

    administrator: bool | UnsetType = UNSET
    auditor: bool | UnsetType = UNSET


class NewPassword(Struct, frozen=True, forbid_unknown_fields=True):
    password: words.Password | None = None


class NewProject(Struct, frozen=True, forbid_unknown_fields=True):
    name: words.Project
    public: bool = False


class ProjectChanges(Struct, frozen=True, forbid_unknown_fields=True):
    """What is left away stays as it is. A quota is an administrator's to say, the rest the owner's."""

    public: bool | UnsetType = UNSET
    quota_bytes: Annotated[int, Meta(ge=0, le=2**62)] | UnsetType | None = UNSET
    immutable: (
        Annotated[
            words.TagPatterns, Meta(description="Patterns of tags that are never moved; they replace all that were.")
        ]
        | UnsetType
    ) = UNSET
    read_only: (
        Annotated[str, Meta(max_length=200, description="Why nothing may be pushed or deleted; empty: it may.")]
        | UnsetType
    ) = UNSET


class NewRobot(Struct, frozen=True, forbid_unknown_fields=True):
    name: words.RobotName
    role: words.Role
    expires_in_seconds: words.Lasts = 90 * 86400


class Rotation(Struct, frozen=True, forbid_unknown_fields=True):
    expires_in_seconds: words.Lasts = 90 * 86400
    overlap_seconds: Annotated[
        int, Meta(ge=0, le=30 * 86400, description="How long the old secret stays good beside the new one.")
    ] = 0


class GrantWanted(Struct, frozen=True, forbid_unknown_fields=True):
    role: words.Role
    expires_in_seconds: words.Lasts | None = None


class ReadOnlyWanted(Struct, frozen=True, forbid_unknown_fields=True):
    reason: Annotated[
        str, Meta(max_length=200, description="Why the whole gateway takes no changes; empty: it takes them.")
    ]


class TagRestored(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the tag shall point, if not where it did last; *force* moves it even from where it points now."""

    to: words.Digest | None = None
    force: bool = False


class RetentionWanted(Struct, frozen=True, forbid_unknown_fields=True):
    """What keeps a tag; any one of them does. With none, everything is kept."""

    last: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)] | None, Meta(description="So many tags of each repository.")
    ] = None
    matching: words.TagPatterns = []
    within_days: Annotated[
        Annotated[int, Meta(ge=1, le=36_500)] | None, Meta(description="Pulled or pushed within so many days.")
    ] = None


class Against(Struct, frozen=True, forbid_unknown_fields=True):
    """
    *checkpoints* as they were made, and *key*, the public key in PEM that they must be signed with.

    Without a key, by one that the database knows: whoever rules the database could have put it there.
    """

    checkpoints: Annotated[list[words.Statement], Meta(min_length=1, max_length=100)]
    key: Annotated[str, Meta(max_length=2000)] | None = None


class NewReview(Struct, frozen=True, forbid_unknown_fields=True):
    """*until* is exclusive; without a project, of all of them."""

    since: words.Moment
    until: words.Moment
    project: words.Project | None = None


class Said(Struct, frozen=True, forbid_unknown_fields=True):
    """What is said of a finding; a follow-up needs a note."""

    mark: Literal["fine", "follow_up"]
    note: words.Remark = ""


class SignOff(Struct, frozen=True, forbid_unknown_fields=True):
    """*shown* is that of the review as it was looked at: what was marked otherwise since is not signed."""

    note: words.Remark = ""
    shown: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")] = ""


class Traced(Struct, frozen=True, forbid_unknown_fields=True):
    """What was pulled: `sha256:…`, `REPOSITORY@sha256:…`, or `REPOSITORY:TAG` as it was at a time."""

    target: Annotated[str, Meta(max_length=400)]
    at: words.Moment | None = None
    sealed: Annotated[bool, Meta(description="Look through sealed months too; takes longer.")] = False


class Proposed(Struct, frozen=True, forbid_unknown_fields=True):
    """A change of grants that is not made; *role* is for a grant alone."""

    verb: Literal["grant", "revoke"]
    principal: words.Principal
    reach: words.Reach
    role: words.Role | None = None
    days: Annotated[int, Meta(ge=1, le=365)] = 30


class LeakTold(Struct, frozen=True, forbid_unknown_fields=True):
    """
    *credential* is an account's name, `offline:7` for an offline token (or its number alone), or `personal:7` for a
    personal token; `user:12` is a user called 12. *force* ends the last administrator's too.
    """

    credential: Annotated[str, Meta(max_length=140)]
    since: words.Moment
    plan: bool = False
    force: bool = False


class SearchWanted(Struct, frozen=True, forbid_unknown_fields=True):
    """Filters as they are typed; `24h` goes on to mean a day before it is asked."""

    filters: Annotated[dict[str, Annotated[str, Meta(max_length=512)]], Meta(max_length=9)]

    @property
    def project(self) -> str:
        """The project that the search is about, if it is about one."""
        return self.filters.get("project", "")

    @property
    def repository(self) -> str:
        return self.filters.get("repository", "")
