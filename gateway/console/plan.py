"""The plan of the console: what a page, a place in the navigation and a tab of a project are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from starlette.responses import Response

from gateway.access.scopes import Action

if TYPE_CHECKING:
    from gateway.console.visit import Visit

Answer: TypeAlias = "Callable[[Visit], Awaitable[Response]]"

#: A form as browsers encode it, unless its page has room for a longer one.
FORM_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Page:
    """
    A page at *path* below `/console`, with Starlette's placeholders; *post* answers its form.

    Whoever is not signed in is sent to sign in first, unless the page is *open*. A POST has passed the checks of its
    origin and of the session's token before *post* sees it; to a *grave* page, by somebody who signed in a short while
    ago or confirms who they are. Its form has at most *form_bytes*.
    """

    path: str
    get: Answer | None = None
    post: Answer | None = None
    open: bool = False
    grave: bool = False
    form_bytes: int = FORM_BYTES


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the navigation; shown to those who have *needs* on the system, None: to everybody signed in."""

    label: str
    path: str
    needs: Action | None = None


@dataclass(frozen=True, slots=True)
class Tab:
    """A tab of every project, at *path* below it ("" is the project's own page); shown as `Place` is, by project."""

    label: str
    path: str
    needs: Action | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Pages that belong together, with their places in the navigation and tabs, in the order they are shown."""

    pages: tuple[Page, ...]
    places: tuple[Place, ...] = ()
    tabs: tuple[Tab, ...] = ()
