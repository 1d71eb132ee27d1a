"""Scopes: requested access, as the token specification spells it, and the access a token carries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.errors import NameInvalid
from gateway.oci.names import Repository


class Action(StrEnum):
    """What can be done. The first three are what tokens speak of; the others live in policy only."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"
    MANAGE = "manage"
    REVIEW = "review"


#: The actions a token may carry, in the order they are written.
TOKEN_ACTIONS = (Action.PULL, Action.PUSH, Action.DELETE)
#: Scopes honoured in one request; more are ignored, as unknown ones are.
SCOPES = 10
CATALOG = "registry:catalog:*"


def scope_text(repository: Repository, actions: Iterable[Action]) -> str:
    """The token text of *actions* on *repository*: `repository:gallery/ui:pull,push`."""
    wanted = frozenset(actions)
    return f"repository:{repository}:{','.join(action.value for action in TOKEN_ACTIONS if action in wanted)}"


@dataclass(frozen=True, slots=True)
class Access:
    """Access to repositories by name, and whether the catalog is included; the same value is wanted, granted, held."""

    repositories: Mapping[str, frozenset[Action]] = field(default_factory=dict)
    catalog: bool = False

    def includes(self, action: Action, repository: Repository) -> bool:
        return action in self.repositories.get(repository.name, frozenset())

    def texts(self) -> tuple[str, ...]:
        """The scopes that spell this access, in the order they were asked for."""
        texts = [scope_text(Repository(name), actions) for name, actions in self.repositories.items() if actions]
        return (*texts, CATALOG) if self.catalog else tuple(texts)

    def claims(self) -> list[dict[str, object]]:
        """The `access` claim of a token (token specification, "Claim Set"), one entry a resource."""
        entries: list[dict[str, object]] = [
            {"type": "repository", "name": name, "actions": [a.value for a in TOKEN_ACTIONS if a in actions]}
            for name, actions in self.repositories.items()
            if actions
        ]
        if self.catalog:
            entries.append({"type": "registry", "name": "catalog", "actions": ["*"]})
        return entries


def parse_scopes(values: Iterable[str]) -> Access:
    """
    The access that the `scope` parameters *values* ask for; each may hold several scopes, split by spaces.

    The grammar is the token specification's, `type[(class)]:name:actions`. Overlapping scopes are joined. Malformed
    scopes, unknown types and unknown actions are ignored, never an error; `*` asks for every action. At most 10
    scopes are honoured.
    """
    repositories: dict[str, frozenset[Action]] = {}
    catalog = False
    texts = [text for value in values for text in value.split(" ") if text]
    for text in texts[:SCOPES]:
        if text == CATALOG:
            catalog = True
            continue
        parsed = _repository_scope(text)
        if parsed is not None:
            repository, actions = parsed
            repositories[repository.name] = repositories.get(repository.name, frozenset()) | actions
    return Access(repositories, catalog)


def _repository_scope(text: str) -> tuple[Repository, frozenset[Action]] | None:
    kind, first, rest = text.partition(":")
    name, last, wanted = rest.rpartition(":")
    if not first or not last or kind.partition("(")[0] != "repository":
        return None
    try:
        repository = Repository.parse(name)
    except NameInvalid:
        return None
    asked = frozenset(wanted.split(","))
    if "*" in asked:
        return repository, frozenset(TOKEN_ACTIONS)
    return repository, frozenset(action for action in TOKEN_ACTIONS if action.value in asked)


def read_claims(entries: object) -> Access | None:
    """
    The access an `access` claim carries, or None if it is not a list of at most 10 entries.

    An entry that is malformed, has a class, a wildcard or an illegal name grants nothing.
    """
    if not isinstance(entries, list) or len(entries) > SCOPES:
        return None
    repositories: dict[str, frozenset[Action]] = {}
    catalog = False
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("actions"), list):
            continue
        kind, name, actions = entry.get("type"), entry.get("name"), entry["actions"]
        if kind == "registry" and name == "catalog" and actions == ["*"]:
            catalog = True
        elif kind == "repository" and isinstance(name, str):
            try:
                repository = Repository.parse(name)
            except NameInvalid:
                continue
            held = frozenset(action for action in TOKEN_ACTIONS if action.value in actions)
            repositories[repository.name] = repositories.get(repository.name, frozenset()) | held
    return Access(repositories, catalog)
