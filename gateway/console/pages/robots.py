"""Robots of a project: new ones, new secrets for those there are, and those that go."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from starlette.responses import Response

from gateway.access.names import RobotName
from gateway.access.policy import Role
from gateway.access.scopes import Action
from gateway.administration import Account, Condition, NewSecret, edition_of
from gateway.console.form import Form
from gateway.console.frame import render, render_project
from gateway.console.leaves import leaf
from gateway.console.pages.members import ROLES
from gateway.console.plan import Group, Page, Tab
from gateway.console.visit import Visit
from gateway.errors import Invalid, Stale, Unknown
from gateway.oci.names import ProjectName

LIVES: Final = (("30", "30 days"), ("90", "90 days"), ("180", "180 days"), ("365", "a year"))
OVERLAPS: Final = (
    ("0", "at once"),
    ("3600", "in an hour"),
    ("86400", "in a day"),
    ("604800", "in a week"),
)


async def index(visit: Visit, status: int = 200, overtaken: str = "") -> Response:
    """The robots of the project; and, for who manages it, a form to add one."""
    project, wanted = ProjectName.parse(visit.path["project"]), visit.query.text("q").lower()
    robots = await visit.acts.robots.list_robots(visit.caller, project.name)
    found = leaf([robot for robot in robots if wanted in robot.name], lambda robot: robot.name, visit.query)
    values = {"leaf": found, "all": len(robots), "wanted": wanted, "roles": ROLES, "lives": LIVES}
    return await render_project(
        visit, project, "robots.html", status, edition_of=edition_of, overtaken=overtaken, **values
    )


async def add(visit: Visit) -> Response:
    """Adds a robot, and shows its secret this once."""
    project, form = ProjectName.parse(visit.path["project"]), visit.form
    robot = form.parsed("name", lambda text: RobotName.parse(f"{project}+{text}"))
    life = form.parsed("days", _days)
    form.parsed("role", Role.parse)
    if form.sound and robot is not None and life is not None:
        with form.blaming("name"):
            made = await visit.acts.robots.add_robot(visit.caller, str(robot), form.value("role"), expires=life)
            return await _shown(visit, project, made, "added")
    return await index(visit, 422)


async def ask_rotate(visit: Visit) -> Response:
    """One robot, to be given another secret."""
    robot = _robot(visit)
    account = await _found(visit, robot)
    return await _rotating(visit, robot, account, Form([("version", edition_of(account))]))


async def rotate(visit: Visit) -> Response:
    """
    Gives the robot another secret, and shows it this once; the old one works for as long as was chosen.

    Not if somebody else has done so since the form was opened: the secret that they handed out would stop working.
    """
    robot, form = _robot(visit), visit.form
    life, overlap = form.parsed("days", _days), form.parsed("overlap", _overlap)
    if form.sound and life is not None and overlap is not None:
        try:
            robots = visit.acts.expecting(_seen(visit, robot)).robots
            with form.blaming("overlap"):
                made = await robots.rotate_robot(visit.caller, str(robot), expires=life, overlap_seconds=overlap)
                return await _shown(visit, robot.project, made, "rotated", overlap)
        except Stale as stale:
            present = _present(stale)
            kept = [(name, value) for name, value in form.pairs if name != "version"]
            filled = Form([*kept, ("version", edition_of(present))])
            return await _rotating(visit, robot, present, filled, 409, changed=True)
    return await _rotating(visit, robot, await _found(visit, robot), form, 422)


async def end_overlap(visit: Visit) -> Response:
    """Ends the old secret before its time, unless it is another one than the list had."""
    robot = _robot(visit)
    try:
        await visit.acts.expecting(_seen(visit, robot)).robots.end_overlap(visit.caller, str(robot))
    except Stale as stale:
        _present(stale)
        return await index(visit, 409, f"{stale.message} No secret was ended; this is how it is now.")
    return visit.go(f"/projects/{robot.project}/robots", said="overlap-ended")


async def ask_remove(visit: Visit) -> Response:
    robot = _robot(visit)
    await _found(visit, robot)
    place = f"/projects/{robot.project}/robots"
    return await render(
        visit,
        "confirm.html",
        trail=[("Projects", "/projects"), (robot.project.name, f"/projects/{robot.project}"), ("Robots", place)],
        question=f"Remove {robot}?",
        told=[
            "Its secret and all tokens got with it stop working at once.",
            "Its grants go with it; a robot added under this name later is another one.",
        ],
        action=f"{place}/{robot.name}/remove",
        hidden=(),
        button="Remove robot",
        back=place,
        typed="",
    )


async def remove(visit: Visit) -> Response:
    robot = _robot(visit)
    await visit.acts.robots.remove_robot(visit.caller, str(robot))
    return visit.go(f"/projects/{robot.project}/robots", said="removed")


async def _rotating(
    visit: Visit, robot: RobotName, account: Account, form: Form, status: int = 200, *, changed: bool = False
) -> Response:
    values = {"robot": account, "name": robot.name, "lives": LIVES, "overlaps": OVERLAPS, "changed": changed}
    return await render_project(visit, robot.project, "robot_rotate.html", status, form=form, **values)


def _seen(visit: Visit, robot: RobotName) -> Condition:
    """That the robot is still the one that the form was opened on."""
    return Condition.on_user(str(robot), frozenset({visit.form.text("version")}))


def _present(stale: Stale) -> Account:
    """The robot as it is now; raises `Unknown` if there is none any more."""
    if not isinstance(stale.present, Account):
        raise Unknown(stale.message) from stale
    return stale.present


async def _shown(visit: Visit, project: ProjectName, made: NewSecret, done: str, overlap: int = 0) -> Response:
    old = dict(OVERLAPS).get(str(overlap), "")
    return await render_project(visit, project, "robot_secret.html", made=made, done=done, old=old)


async def _found(visit: Visit, robot: RobotName) -> Account:
    robots = await visit.acts.robots.list_robots(visit.caller, robot.project.name)
    account = next((each for each in robots if each.name == str(robot)), None)
    if account is None:
        raise Unknown(f"There is no robot {robot} (any more); go back to the robots of the project.")
    return account


def _robot(visit: Visit) -> RobotName:
    return RobotName.parse(f"{visit.path['project']}+{visit.path['robot']}")


def _days(text: str) -> timedelta:
    if text not in dict(LIVES):
        raise Invalid("Choose how long the secret lasts.")
    return timedelta(days=int(text))


def _overlap(text: str) -> int:
    if text not in dict(OVERLAPS):
        raise Invalid("Choose when the old secret stops working.")
    return int(text)


GROUP = Group(
    pages=(
        Page("/projects/{project}/robots", index, add),
        Page("/projects/{project}/robots/{robot}/rotate", ask_rotate, rotate),
        Page("/projects/{project}/robots/{robot}/end-overlap", index, end_overlap),
        Page("/projects/{project}/robots/{robot}/remove", ask_remove, remove),
    ),
    tabs=(Tab("Robots", "/robots", Action.REVIEW),),
)
