"""The frame: templates, what every page shows around its content, and how values are spelled in them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse, Response

from gateway.access.rules import size_text
from gateway.access.scopes import Action
from gateway.console.assets import Assets
from gateway.console.plan import Group, Tab
from gateway.console.session import CSRF_FIELD
from gateway.console.visit import ROOT, Visit, address
from gateway.oci.names import ProjectName

#: What a page says after an act that sent the browser there, by the word in its address; nothing else is ever said.
SAID: Final = {
    "added": "Added.",
    "saved": "Saved.",
    "removed": "Removed.",
    "restored": "Restored.",
    "applied": "Applied: what is not kept any more was moved to the trash.",
    "revoked": "Revoked.",
    "enabled": "Enabled.",
    "disabled": "Disabled.",
    "password": "The password was changed. Sessions and tokens got with the old one are worth nothing any more.",
    "overlap-ended": "The old secret was ended; only the new one works.",
    "closed": "The session was ended.",
    "others-closed": "All other sessions were ended.",
    "factor-off": "The second factor was removed.",
    "signed-out": "You are signed out.",
    "signed-off": "The review was signed off.",
}
_UNITS: Final = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


class Frame:
    """Renders the templates of the console in its frame; *groups* fill the navigation."""

    def __init__(self, groups: Sequence[Group], assets: Assets) -> None:
        self._places = tuple(place for group in groups for place in group.places)
        self._tabs = tuple(tab for group in groups for tab in group.tabs)
        loader = PackageLoader("gateway.console", "templates")
        self._templates = Environment(
            loader=loader,
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            # What is installed does not change while it runs: no page looks whether it did.
            auto_reload=False,
        )
        self._templates.globals.update(asset=assets.address, url=address, ROOT=ROOT)
        self._templates.filters.update(moment=moment, day=day, until=until, ago=ago, size=size_text, plural=plural)

    async def page(self, visit: Visit, template: str, status: int = 200, **values: Any) -> Response:
        """*template* with *values*, framed for whoever visits; see `templates/layout.html` for what it may fill."""
        rights = await visit.rights()
        session = visit.session
        text = self._templates.get_template(template).render(
            me=session.caller.principal.name if session is not None else "",
            csrf=session.csrf if session is not None else "",
            csrf_field=CSRF_FIELD,
            places=_shown(self._places, rights),
            here=visit.request.scope["path"],
            said=values.pop("said", "") or _said(visit),
            whole_trail=Action.REVIEW in rights,
            form=values.pop("form", visit.form),
            host=visit.parts.host,
            now=datetime.now(UTC),
            **values,
        )
        return HTMLResponse(text, status)

    async def project_tabs(self, visit: Visit, project: ProjectName) -> tuple[Tab, ...]:
        """The tabs of *project* that the caller may open."""
        return _shown(self._tabs, await visit.rights(project))


async def render(visit: Visit, template: str, status: int = 200, **values: Any) -> Response:
    """The page that *template* makes of *values*; a *form* of the values is shown instead of the visit's own."""
    return await visit.parts.frame.page(visit, template, status, **values)


async def render_project(
    visit: Visit, project: ProjectName, template: str, status: int = 200, **values: Any
) -> Response:
    """As `render`, for a page of *project*, with its tabs; the template extends `project_layout.html`."""
    tabs = await visit.parts.frame.project_tabs(visit, project)
    rights = await visit.rights(project)
    return await render(visit, template, status, project=project.name, tabs=tabs, rights=rights, **values)


def _said(visit: Visit) -> str:
    return SAID.get(visit.query.value("said"), "") if visit.request.method in {"GET", "HEAD"} else ""


def _shown(things: Sequence[Any], rights: frozenset[Action]) -> tuple[Any, ...]:
    return tuple(thing for thing in things if thing.needs is None or thing.needs in rights)


def moment(time: datetime | None, otherwise: str = "never") -> Markup:
    """A time as people read it, in UTC to the minute; *otherwise* when there is none."""
    if time is None:
        return Markup('<span class="quiet">{}</span>').format(otherwise)
    exact = time.astimezone(UTC)
    return _time(exact, f"{exact.day} {exact:%b %Y, %H:%M} UTC", exact.strftime("%Y-%m-%d %H:%M:%S UTC"))


def day(time: datetime | None, otherwise: str = "never") -> Markup:
    """The day of a time, in UTC."""
    if time is None:
        return Markup('<span class="quiet">{}</span>').format(otherwise)
    exact = time.astimezone(UTC)
    return _time(exact, f"{exact.day} {exact:%b %Y}", exact.strftime("%Y-%m-%d %H:%M:%S UTC"))


def until(time: datetime | None, otherwise: str = "no end") -> Markup:
    """The last day, in UTC, of what ends at a time."""
    return day(time - timedelta(seconds=1) if time is not None else None, otherwise)


def ago(time: datetime | None, otherwise: str = "never") -> Markup:
    """How long ago a time was, or how far ahead it lies, in one unit; the exact time shows when pointed at."""
    if time is None:
        return Markup('<span class="quiet">{}</span>').format(otherwise)
    exact = time.astimezone(UTC)
    seconds = (datetime.now(UTC) - exact).total_seconds()
    return _time(exact, _distance(seconds), exact.strftime("%Y-%m-%d %H:%M:%S UTC"))


def _distance(seconds: float) -> str:
    left = int(abs(seconds))
    if left < 30:
        return "just now"
    length, unit = next(each for each in _UNITS if left >= 2 * each[0])
    left //= length
    return f"{plural(left, unit)} ago" if seconds > 0 else f"in {plural(left, unit)}"


def _time(exact: datetime, shown: str, title: str) -> Markup:
    machine = exact.isoformat(timespec="seconds")
    # Nothing in it needs escaping, and a page has a hundred of them.
    return Markup(f'<time datetime="{machine}" title="{title}">{shown}</time>')  # noqa: S704


def plural(count: int, noun: str, many: str = "") -> str:
    """`1 tag`, `2 tags`, `1,204 repositories`."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"
