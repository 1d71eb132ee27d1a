"""Robots: the accounts of programs, each of one project."""

from __future__ import annotations

from datetime import timedelta

from gateway.api.answers import Robot, Secret
from gateway.api.bodies import NewRobot, Rotation
from gateway.api.replies import Reply, done, reply
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


async def rotate(request: Request) -> Reply:
    """Give a robot another secret and expiry"""
    body = request.body_as(Rotation)
    made = await request.administration.robots.rotate_robot(
        request.caller,
        _name(request),
        expires=timedelta(seconds=body.expires_in_seconds),
        overlap_seconds=body.overlap_seconds,
    )
    return reply(Secret.of(made))


async def end_overlap(request: Request) -> Reply:
    """End a robot's old secret before its time"""
    return reply(Robot.of(await request.administration.robots.end_overlap(request.caller, _name(request))))


async def remove(request: Request) -> Reply:
    """Remove a robot with its grants"""
    await request.administration.robots.remove_robot(request.caller, _name(request))
    return done()


def _name(request: Request) -> str:
    # Resolved through its project: a robot of another one cannot be named here.
    return f"{request.values['project']}+{request.values['robot']}"
