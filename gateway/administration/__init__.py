"""The acts of administrators, each through the gate; shared by every edge that administers.

`administration.accounts.add_user(caller, "writer")`, `administration.grants.add_grant(caller, "writer", "pusher",
"gallery")`: one noun a module, one verb a method.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from gateway.access.credentials import Credentials
from gateway.access.passwords import HashingPool
from gateway.access.secrets import Secrets
from gateway.administration.accounts import Accounts
from gateway.administration.adoption import Adoption, Adoptions, Source, planned
from gateway.administration.audit import FIELDS, Audit, Place
from gateway.administration.codes import Codes
from gateway.administration.contents import Contents
from gateway.administration.doctor import Doctor, Finding, State
from gateway.administration.editions import Condition, Conditional, edition_of
from gateway.administration.effective import AccountAccess, Effective, Explained, RepositoryAccess
from gateway.administration.evidence import Evidence
from gateway.administration.exports import Exports
from gateway.administration.fates import Adopted, Fate
from gateway.administration.grants import Grants
from gateway.administration.histories import Histories, TagHistory, TagMove
from gateway.administration.keys import KeyRow, Keys
from gateway.administration.looks import Looks
from gateway.administration.newcomers import Arrival, Newcomer, Newcomers, planned_users
from gateway.administration.offline_tokens import OfflineTokens
from gateway.administration.personal_tokens import PersonalTokens
from gateway.administration.platforms import Platforms
from gateway.administration.projects import Projects
from gateway.administration.read_only import ReadOnlySwitch
from gateway.administration.replay import Difference, Proposal, Replay, Replays, Verb
from gateway.administration.repositories import Repositories
from gateway.administration.retention import Retentions
from gateway.administration.reviews import ReviewDetail, Reviews
from gateway.administration.robots import ROBOT_LIFE, Robots
from gateway.administration.second_factor import Confirmed, Enrolment, SecondFactor, SecondFactorState
from gateway.administration.sessions import NewSession, Session, Sessions
from gateway.administration.signing_in import SecondFactorNeeded, SignIn
from gateway.administration.tracing import Leak, Pull, Touched, Trace, Tracing
from gateway.administration.trash import Trash, TrashRow
from gateway.administration.values import AccountDetail, Answer, Freeze, NewSecret, ProjectDetail, TagRow
from gateway.administration.views import Consequences, ManifestView, RepositoryEntry, Shelf, TagEntry
from gateway.audit.trail import Trail
from gateway.engine.port import Engine
from gateway.gate import Gate
from gateway.records.accounts import Account, OfflineTokenRow
from gateway.records.database import Database
from gateway.records.grants import GrantRow
from gateway.records.keys import StoredKeys
from gateway.records.personal_tokens import PersonalTokenRow
from gateway.records.projects import ProjectRow
from gateway.records.repositories import RepositoryRow
from gateway.records.searches import SavedSearch
from gateway.records.sessions import SessionRow

__all__ = [
    "FIELDS",
    "ROBOT_LIFE",
    "Account",
    "AccountAccess",
    "AccountDetail",
    "Administration",
    "Adopted",
    "Adoption",
    "Answer",
    "Arrival",
    "Condition",
    "Confirmed",
    "Consequences",
    "Difference",
    "Enrolment",
    "Explained",
    "Fate",
    "Finding",
    "Freeze",
    "GrantRow",
    "KeyRow",
    "Leak",
    "ManifestView",
    "NewSecret",
    "NewSession",
    "Newcomer",
    "OfflineTokenRow",
    "PersonalTokenRow",
    "Place",
    "ProjectDetail",
    "ProjectRow",
    "Proposal",
    "Pull",
    "Replay",
    "RepositoryAccess",
    "RepositoryEntry",
    "RepositoryRow",
    "ReviewDetail",
    "SavedSearch",
    "SecondFactorNeeded",
    "SecondFactorState",
    "Session",
    "SessionRow",
    "Shelf",
    "SignIn",
    "Source",
    "State",
    "TagEntry",
    "TagHistory",
    "TagMove",
    "TagRow",
    "Touched",
    "Trace",
    "TrashRow",
    "Verb",
    "edition_of",
    "planned",
    "planned_users",
]


@dataclass(frozen=True, slots=True)
class Administration:
    """
    Every act of administration, by noun; each takes the caller first, and is recorded whether allowed or refused.

    `Denied` when the caller lacks the right, `Unknown`, `Conflict` and `Invalid` as each act says, `Unavailable` when
    the trail cannot take the event.
    """

    gate: Gate
    database: Database
    engine: Engine
    trail: Trail
    secrets: Secrets
    hashing: HashingPool
    stored_keys: StoredKeys
    trash_seconds: int = 0
    grace_seconds: int = 86_400
    platforms: Platforms = field(default_factory=Platforms)
    exporting: Exports = field(default_factory=Exports)
    looks: Looks = field(default_factory=Looks)
    #: Shorter ones, of those who may only pull: they take no place of those who review.
    glances: Looks = field(default_factory=lambda: Looks(threads=1))
    _codes: Codes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_codes", Codes(self.database, self.secrets))

    def expecting(self, condition: Condition) -> Administration:
        """
        The same acts for one edit of what *condition* is about: `Stale`, and nothing done, unless it holds.

        It is looked at in the very transaction that changes it.
        """
        return replace(self, gate=replace(self.gate, ledger=Conditional(self.gate.ledger, condition)))

    @property
    def accounts(self) -> Accounts:
        return Accounts(self.gate, self.database, self.hashing)

    @property
    def projects(self) -> Projects:
        return Projects(self.gate, self.database, self.engine)

    @property
    def read_only(self) -> ReadOnlySwitch:
        return ReadOnlySwitch(self.gate, self.database)

    @property
    def grants(self) -> Grants:
        return Grants(self.gate, self.database)

    @property
    def robots(self) -> Robots:
        return Robots(self.gate, self.database, self.secrets)

    @property
    def offline_tokens(self) -> OfflineTokens:
        return OfflineTokens(self.gate, self.database)

    @property
    def personal_tokens(self) -> PersonalTokens:
        return PersonalTokens(self.gate, self.database, self.secrets)

    @property
    def sessions(self) -> Sessions:
        return Sessions(self.gate, self.database, self.secrets)

    @property
    def second_factor(self) -> SecondFactor:
        return SecondFactor(self.gate, self.database, self.secrets, self._codes)

    def sign_in(self, credentials: Credentials) -> SignIn:
        """Signing in with the *credentials* that the whole process believes."""
        return SignIn(self.gate, self.database, self.secrets, credentials, self._codes, self.hashing)

    @property
    def repositories(self) -> Repositories:
        return Repositories(self.gate, self.database, self.engine)

    @property
    def trash(self) -> Trash:
        return Trash(self.gate, self.database, self.engine)

    @property
    def histories(self) -> Histories:
        return Histories(self.gate, self.database, self.trail, self.glances)

    @property
    def retention(self) -> Retentions:
        return Retentions(self.gate, self.database, self.engine, self.trail, self.trash_seconds, self.grace_seconds)

    @property
    def contents(self) -> Contents:
        kept = (self.gate, self.database, self.engine, self.trail)
        return Contents(*kept, self.platforms, self.secrets, self.trash_seconds)

    @property
    def effective(self) -> Effective:
        return Effective(self.gate, self.database)

    @property
    def adoptions(self) -> Adoptions:
        return Adoptions(self.gate, self.database)

    @property
    def newcomers(self) -> Newcomers:
        return Newcomers(self.gate, self.database)

    @property
    def audit(self) -> Audit:
        return Audit(self.gate, self.trail, self.database, self.looks)

    @property
    def reviews(self) -> Reviews:
        return Reviews(self.gate, self.database, self.trail, self.evidence, self.looks)

    @property
    def replays(self) -> Replays:
        return Replays(self.gate, self.database, self.trail, self.looks)

    @property
    def tracing(self) -> Tracing:
        return Tracing(self.gate, self.database, self.trail, self.secrets, self.hashing, self.looks)

    @property
    def evidence(self) -> Evidence:
        return Evidence(self.gate, self.database, self.trail, self.secrets)

    @property
    def keys(self) -> Keys:
        return Keys(self.gate, self.stored_keys)

    @property
    def doctor(self) -> Doctor:
        return Doctor(self.gate, self.database, self.secrets)
