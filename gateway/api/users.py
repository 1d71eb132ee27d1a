"""Users: who may sign in, and what they are in the system; robots too, where nothing but the account is concerned."""

from __future__ import annotations

from msgspec import UNSET

from gateway.access.principals import PrincipalKind
from gateway.administration import Condition
from gateway.api.answers import Secret, User, UserDetail
from gateway.api.bodies import NewPassword, NewUser, UserChanges
from gateway.api.conditions import acts_if
from gateway.api.replies import Reply, done, reply, tagged
from gateway.api.request import Request


async def index(request: Request) -> Reply:
    """List the users"""
    rows = await request.administration.accounts.list_accounts(request.caller)
    users = [row for row in rows if row.kind is PrincipalKind.USER]
    return request.page(users, lambda row: row.name, User.of)


async def add(request: Request) -> Reply:
    """Add a user"""
    body = request.body_as(NewUser)
    made = await request.administration.accounts.add_user(
        request.caller,
        body.name,
        administrator=body.administrator,
        auditor=body.auditor,
        password=body.password,
    )
    return reply(Secret.of(made), 201).and_headers(("Location", f"/api/v1/users/{made.name}"))


async def show(request: Request) -> Reply:
    """Show a user or robot with its grants"""
    detail = await request.administration.accounts.show_account(request.caller, request.values["user"])
    return reply(UserDetail.of(detail)).and_headers(tagged(detail.account))


async def change(request: Request) -> Reply:
    """Give or take system roles"""
    name, body = request.values["user"], request.body_as(UserChanges)
    acts = acts_if(request, Condition.on_user, name)
    account = await acts.accounts.set_user(
        request.caller,
        name,
        administrator=None if body.administrator is UNSET else body.administrator,
        auditor=None if body.auditor is UNSET else body.auditor,
    )
    return reply(User.of(account)).and_headers(tagged(account))


async def disable(request: Request) -> Reply:
    """Suspend everything a user or robot can do, at once"""
    name = request.values["user"]
    acts = acts_if(request, Condition.on_user, name)
    account = await acts.accounts.disable(request.caller, name)
    return reply(User.of(account)).and_headers(tagged(account))


async def enable(request: Request) -> Reply:
    """Undo a suspension"""
    name = request.values["user"]
    acts = acts_if(request, Condition.on_user, name)
    account = await acts.accounts.enable(request.caller, name)
    return reply(User.of(account)).and_headers(tagged(account))


async def set_password(request: Request) -> Reply:
    """Give a user another password; tokens got with the old one are worth nothing any more"""
    body = request.body_as(NewPassword)
    made = await request.administration.accounts.set_password(request.caller, request.values["user"], body.password)
    return reply(Secret.of(made))


async def remove(request: Request) -> Reply:
    """Remove a user with its grants"""
    name = request.values["user"]
    acts = acts_if(request, Condition.on_user, name)
    await acts.accounts.remove_user(request.caller, name)
    return done()
