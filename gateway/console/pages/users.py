"""Users: who may sign in, and what they are in the system; administrators change it, auditors look."""

from __future__ import annotations

from starlette.responses import Response

from gateway.access.names import AccountName
from gateway.access.principals import PrincipalKind
from gateway.access.scopes import Action
from gateway.administration import Account, AccountDetail, Condition, edition_of
from gateway.console.form import Form
from gateway.console.frame import plural, render
from gateway.console.leaves import leaf
from gateway.console.plan import Group, Page, Place
from gateway.console.visit import Visit
from gateway.errors import Stale, Unknown


async def index(visit: Visit) -> Response:
    """The users, those whose name holds what was searched for."""
    wanted = visit.form.text("q").lower()
    accounts = await visit.acts.accounts.list_accounts(visit.caller)
    found = [each for each in accounts if each.kind is PrincipalKind.USER and wanted in each.name]
    users = leaf(found, lambda user: user.name, visit.form)
    return await render(visit, "users.html", leaf=users, wanted=wanted, may_manage=await _may_manage(visit))


async def new(visit: Visit, status: int = 200) -> Response:
    await visit.require(Action.MANAGE)
    return await render(visit, "user_new.html", status)


async def add(visit: Visit) -> Response:
    """Adds a user; a password that was generated is shown this once."""
    form = visit.form
    name, password = form.parsed("name", AccountName.parse), form.value("password")
    if name is not None:
        with form.blaming("password" if password else "name"):
            made = await visit.acts.accounts.add_user(
                visit.caller,
                name.name,
                administrator=form.checked("administrator"),
                auditor=form.checked("auditor"),
                password=password or None,
            )
            if made.secret is None:
                return visit.go(f"/users/{made.name}", said="added")
            return await render(visit, "user_secret.html", made=made, done="was added")
    return await new(visit, 422)


async def show(visit: Visit, status: int = 200) -> Response:
    """One user; and, for administrators, what they can do with it."""
    detail = await _detail(visit)
    account = detail.account
    roles = [(role, "yes") for role in ("administrator", "auditor") if getattr(account, role)]
    return await _page(visit, detail, Form([*roles, ("version", edition_of(account))]), status)


async def set_roles(visit: Visit) -> Response:
    """Gives and takes system roles, unless somebody else has done so since the page was opened."""
    detail, form = await _detail(visit), visit.form
    name = detail.account.name
    try:
        seen = Condition.on_user(name, frozenset({form.text("version")}))
        with form.blaming("administrator"):
            await visit.acts.expecting(seen).accounts.set_user(
                visit.caller, name, administrator=form.checked("administrator"), auditor=form.checked("auditor")
            )
            return visit.go(f"/users/{name}", said="saved")
    except Stale as stale:
        if not isinstance(stale.present, Account):
            raise Unknown(stale.message) from stale
        kept = [(field, value) for field, value in form.pairs if field != "version"]
        form = Form([*kept, ("version", edition_of(stale.present))])
        return await _page(visit, await _detail(visit), form, 409, stale.present)
    return await _page(visit, detail, form, 422)


async def set_enabled(visit: Visit) -> Response:
    """Disables or enables the user."""
    detail = await _detail(visit)
    name, enable = detail.account.name, visit.form.value("enabled") == "yes"
    with visit.form.blaming("enabled"):
        if enable:
            await visit.acts.accounts.enable(visit.caller, name)
        else:
            await visit.acts.accounts.disable(visit.caller, name)
        return visit.go(f"/users/{name}", said="enabled" if enable else "disabled")
    return await _page(visit, detail, visit.form, 422)


async def ask_password(visit: Visit, status: int = 200) -> Response:
    detail = await _detail(visit)
    return await render(visit, "user_password.html", status, account=detail.account)


async def set_password(visit: Visit) -> Response:
    """Another password; one that was generated is shown this once."""
    name, password = (await _detail(visit)).account.name, visit.form.value("password")
    with visit.form.blaming("password"):
        made = await visit.acts.accounts.set_password(visit.caller, name, password or None)
        if made.secret is None:
            return visit.go(f"/users/{name}", said="saved")
        return await render(visit, "user_secret.html", made=made, done="has a new password")
    return await ask_password(visit, 422)


async def sign_out(visit: Visit) -> Response:
    """Ends every session of the user."""
    name = (await _detail(visit)).account.name
    await visit.acts.sessions.end_all(visit.caller, name)
    return visit.go(f"/users/{name}", said="closed")


async def drop_factor(visit: Visit) -> Response:
    """Ends the user's second factor, for one who has lost phone and recovery codes."""
    name = (await _detail(visit)).account.name
    if name == visit.caller.principal.name:
        # One's own ends with a code, which is asked for there.
        return visit.go("/account/second-factor")
    await visit.acts.second_factor.disable_of(visit.caller, name)
    return visit.go(f"/users/{name}", said="factor-off")


async def ask_remove(visit: Visit, status: int = 200) -> Response:
    detail = await _detail(visit)
    name = detail.account.name
    return await render(
        visit,
        "confirm.html",
        status,
        trail=[("Users", "/users"), (name, f"/users/{name}"), ("Remove", "")],
        question=f"Remove user {name}?",
        told=[
            f"{plural(len(detail.grants), 'grant')} go with it, and all tokens and sessions, at once.",
            "A user added under this name later is another one. What this one did stays in the audit trail.",
            "To suspend somebody for a while, disable the user instead.",
        ],
        action=f"/users/{name}/remove",
        hidden=(),
        button="Remove user",
        back=f"/users/{name}",
        typed="",
    )


async def remove(visit: Visit) -> Response:
    name = (await _detail(visit)).account.name
    with visit.form.blaming(""):
        await visit.acts.accounts.remove_user(visit.caller, name)
        return visit.go("/users", said="removed")
    return await ask_remove(visit, 409)


async def _page(
    visit: Visit, detail: AccountDetail, form: Form, status: int = 200, changed: Account | None = None
) -> Response:
    factor = await visit.acts.second_factor.show(visit.caller, detail.account.name)
    may_manage = await _may_manage(visit)
    sessions = await visit.acts.sessions.list(visit.caller, detail.account.name) if may_manage else ()
    held = leaf(detail.grants, lambda grant: grant.reach, visit.query)
    values = {
        "detail": detail,
        "account": detail.account,
        "factor": factor,
        "sessions": sessions,
        "leaf": held,
        "may_manage": may_manage,
    }
    return await render(visit, "user.html", status, form=form, changed=changed, **values)


async def _may_manage(visit: Visit) -> bool:
    return Action.MANAGE in await visit.rights()


async def _detail(visit: Visit) -> AccountDetail:
    """The user that the page names; raises `Unknown`, for robots too."""
    name = AccountName.parse(visit.path["user"])
    return await visit.acts.accounts.show_account(visit.caller, name.name)


GROUP = Group(
    pages=(
        Page("/users", index),
        Page("/users/new", new, add, grave=True),
        Page("/users/{user}", show),
        Page("/users/{user}/roles", show, set_roles, grave=True),
        Page("/users/{user}/state", show, set_enabled),
        Page("/users/{user}/password", ask_password, set_password, grave=True),
        Page("/users/{user}/sign-out", show, sign_out),
        Page("/users/{user}/second-factor", show, drop_factor, grave=True),
        Page("/users/{user}/remove", ask_remove, remove, grave=True),
    ),
    places=(Place("Users", "/users", Action.REVIEW),),
)
