"""What every change of content needs to know beside its nouns: the time, who acts, and whether its project is there."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from gateway.change import Change, Notes
from gateway.errors import Unavailable
from gateway.oci.names import ProjectName, Repository
from gateway.records.content import Act

_PROJECTS: Final = 4096


class Acts:
    """
    Makes changes of content, and remembers which projects exist.

    Making a project moves policy, and a change must say so before it is applied. A project this process has seen is
    taken to exist; if it was removed since, the change refuses with `Unavailable`, and the next one knows better.
    With *done* the changes record what has been done elsewhere: no rule holds them off.
    """

    def __init__(self, clock: Callable[[], float] = time.time, *, done: bool = False) -> None:
        self._clock = clock
        self._done = done
        self._seen: OrderedDict[str, None] = OrderedDict()

    def now(self) -> int:
        return int(self._clock())

    def saw(self, project: ProjectName) -> None:
        """*project* was found in the records, not made by what is still to be committed."""
        self._seen[project.name] = None
        if len(self._seen) > _PROJECTS:
            self._seen.popitem(last=False)

    def knows(self, project: ProjectName) -> bool:
        """Whether *project* is taken to exist."""
        return project.name in self._seen

    def change(self, repository: Repository, apply: Callable[[object, Act], Notes], owner: str = "") -> Change:
        """A change of *repository*, whose project it may make."""
        makes_project = repository.project.name not in self._seen
        act = Act(self.now(), owner, makes_project, self._done)

        def run(connection: object) -> Notes:
            try:
                notes = apply(connection, act)
            except Unavailable:
                self._seen.pop(repository.project.name, None)
                raise
            if not notes.also:
                self.saw(repository.project)
            return notes

        return Change(run, policy=makes_project, repositories=(repository,))
