"""Personal access tokens: what a user lets a program do in its place, and no more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.access.scopes import Action
from gateway.errors import Invalid
from gateway.oci.names import ProjectName

#: The longest life; a token without an end is a password nobody changes.
MOST_DAYS = 365
#: Live tokens of one account.
MOST_TOKENS = 100
MOST_PROJECTS = 50
NAME_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Bound:
    """
    What a credential may be used for, whatever its account may do: the actions, and the projects (None: all).

    A right on the system as a whole lies inside only where no project is named.
    """

    actions: frozenset[Action]
    projects: frozenset[str] | None = None

    def allows(self, action: Action, project: ProjectName | None) -> bool:
        """Whether *action* on *project*, or on the system (None), lies inside."""
        if action not in self.actions:
            return False
        return self.projects is None or (project is not None and project.name in self.projects)

    def reaches(self, project: ProjectName) -> bool:
        """Whether any right on *project* can lie inside."""
        return self.projects is None or project.name in self.projects

    @property
    def administers(self) -> bool:
        """Whether everything its account may administer lies inside, the account itself included."""
        return self.allows(Action.MANAGE, None)

    def told(self) -> dict[str, object]:
        """The bound as events and programs tell it."""
        projects = None if self.projects is None else sorted(self.projects)
        return {"actions": action_names(self.actions), "projects": projects}


def action_names(actions: frozenset[Action]) -> list[str]:
    """The actions, in the order they are always written."""
    return [action.value for action in Action if action in actions]


def parse_bound(actions: Iterable[str], projects: Iterable[str] | None) -> Bound:
    """
    The bound that names of actions and of projects (None: all) spell.

    Raises `Invalid` for no action, an unknown one, no project, more than 50, or a name outside the grammar. The
    projects need not exist: whether they do is nothing that is told here.
    """
    wanted = [text.strip() for text in actions if text.strip()]
    known = {action.value: action for action in Action}
    if not wanted or not set(wanted) <= set(known):
        raise Invalid(f"Say what the token may do: one or more of {', '.join(known)}.")
    bounded = frozenset(known[text] for text in wanted)
    if projects is None:
        return Bound(bounded)
    names = frozenset(ProjectName.parse(text.strip()).name for text in projects)
    if not 1 <= len(names) <= MOST_PROJECTS:
        raise Invalid(f"Name 1 to {MOST_PROJECTS} projects for the token, or none at all for every project.")
    return Bound(bounded, names)


def parse_name(text: str) -> str:
    """The name of a token: 1 to 64 printable characters, with no space around; raises `Invalid`."""
    name = text.strip()
    if not 1 <= len(name) <= NAME_CHARACTERS or not name.isprintable():
        raise Invalid(f"A token is named in 1 to {NAME_CHARACTERS} printable characters, as in: laptop, nightly build.")
    return name


def check_days(days: int) -> int:
    """*days* if a token may live so long; raises `Invalid`."""
    if not 1 <= days <= MOST_DAYS:
        raise Invalid(f"A token lives 1 to {MOST_DAYS} days; issue another one before it ends.")
    return days
