"""The acts of administrators, each through the gate; shared by every edge that administers.

`administration.accounts.add_user(caller, "writer")`, `administration.grants.add_grant(caller, "writer", "pusher",
"gallery")`: one noun a module, one verb a method.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.access.passwords import HashingPool
from gateway.access.secrets import Secrets
from gateway.administration.accounts import Accounts
from gateway.administration.adoption import Adoption, Adoptions, Source, planned
from gateway.administration.audit import FIELDS, Audit, Place
from gateway.administration.doctor import Doctor, Finding, State
from gateway.administration.fates import Adopted, Fate
from gateway.administration.grants import Grants
from gateway.administration.keys import KeyRow, Keys
from gateway.administration.newcomers import Arrival, Newcomer, Newcomers, planned_users
from gateway.administration.offline_tokens import OfflineTokens
from gateway.administration.projects import Projects
from gateway.administration.read_only import ReadOnlySwitch
from gateway.administration.replay import Difference, Proposal, Replay, Replays, Verb
from gateway.administration.repositories import Repositories
from gateway.administration.reviews import CheckpointOf, ReviewDetail, Reviews
from gateway.administration.robots import ROBOT_LIFE, Robots
from gateway.administration.tracing import Leak, Pull, Touched, Trace, Tracing
from gateway.administration.values import AccountDetail, Answer, Freeze, NewSecret, ProjectDetail, TagRow
from gateway.audit.trail import Trail
from gateway.engine.port import Engine
from gateway.gate import Gate
from gateway.records.accounts import Account, OfflineTokenRow
from gateway.records.database import Database
from gateway.records.grants import GrantRow
from gateway.records.keys import StoredKeys
from gateway.records.projects import ProjectRow
from gateway.records.repositories import RepositoryRow
from gateway.records.searches import SavedSearch

__all__ = [
    "FIELDS",
    "ROBOT_LIFE",
    "Account",
    "AccountDetail",
    "Administration",
    "Adopted",
    "Adoption",
    "Answer",
    "Arrival",
    "Difference",
    "Fate",
    "Finding",
    "Freeze",
    "GrantRow",
    "KeyRow",
    "Leak",
    "NewSecret",
    "Newcomer",
    "OfflineTokenRow",
    "Place",
    "ProjectDetail",
    "ProjectRow",
    "Proposal",
    "Pull",
    "Replay",
    "RepositoryRow",
    "ReviewDetail",
    "SavedSearch",
    "Source",
    "State",
    "TagRow",
    "Touched",
    "Trace",
    "Verb",
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
    checkpoint: CheckpointOf = lambda: None
    """What a signed checkpoint of the chain says, for evidence packs; None where none are made."""

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
    def repositories(self) -> Repositories:
        return Repositories(self.gate, self.database, self.engine)

    @property
    def adoptions(self) -> Adoptions:
        return Adoptions(self.gate, self.database)

    @property
    def newcomers(self) -> Newcomers:
        return Newcomers(self.gate, self.database)

    @property
    def audit(self) -> Audit:
        return Audit(self.gate, self.trail, self.database)

    @property
    def reviews(self) -> Reviews:
        return Reviews(self.gate, self.database, self.trail, self.checkpoint)

    @property
    def replays(self) -> Replays:
        return Replays(self.gate, self.database, self.trail)

    @property
    def tracing(self) -> Tracing:
        return Tracing(self.gate, self.database, self.trail, self.secrets, self.hashing)

    @property
    def keys(self) -> Keys:
        return Keys(self.gate, self.stored_keys)

    @property
    def doctor(self) -> Doctor:
        return Doctor(self.gate, self.database, self.secrets)
