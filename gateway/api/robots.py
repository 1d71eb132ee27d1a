"""Robots: the accounts of programs, each of one project."""

from __future__ import annotations

from datetime import timedelta

from gateway.administration import Condition
from gateway.api.answers import Robot, Secret
from gateway.api.bodies import NewRobot, Rotation
from gateway.api.conditions import acts_if
from gateway.api.replies import Reply, done, reply, tagged
from gateway.api.request import Request


async def index(request: Request) -> Reply:
    """List the robots of a project"""
    rows = await request.administration.robots.list_robots(request.caller, request.values["project"])
    return request.page(rows, lambda row: row.name, Robot.of)


async def add(request: Request) -> Reply:
    """Add a robot that holds a role on the whole project"""
    body = request.body_as(NewRobot)
    name = f"{request.values['project']}+{body.name}"
    lasts = timedelta(seconds=body.expires_in_seconds)
    made = await request.administration.robots.add_robot(request.caller, name, body.role, expires=lasts)
    return reply(Secret.of(made), 201)


async def show(request: Request) -> Reply:
    """Show a robot of a project"""
    found = await request.administration.robots.show_robot(request.caller, _name(request))
    return reply(Robot.of(found)).and_headers(tagged(found))


async def rotate(request: Request) -> Reply:
    """Give a robot another secret and expiry"""
    body = request.body_as(Rotation)
    made = await acts_if(request, Condition.on_user, _name(request)).robots.rotate_robot(
        request.caller,
        _name(request),
        expires=timedelta(seconds=body.expires_in_seconds),
        overlap_seconds=body.overlap_seconds,
    )
    assert made.account is not None
    return reply(Secret.of(made)).and_headers(tagged(made.account))


async def end_overlap(request: Request) -> Reply:
    """End a robot's old secret before its time"""
    acts = acts_if(request, Condition.on_user, _name(request))
    robot = await acts.robots.end_overlap(request.caller, _name(request))
    return reply(Robot.of(robot)).and_headers(tagged(robot))


async def remove(request: Request) -> Reply:
    """Remove a robot with its grants"""
    acts = acts_if(request, Condition.on_user, _name(request))
    await acts.robots.remove_robot(request.caller, _name(request))
    return done()


def _name(request: Request) -> str:
    # Resolved through its project: a robot of another one cannot be named here.
    return f"{request.values['project']}+{request.values['robot']}"
