"""My tokens: personal access tokens, each for what it is needed for, each shown once."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from gateway.access.scopes import Action
from gateway.administration import PersonalTokenRow
from gateway.console.frame import render
from gateway.console.plan import Group, Page
from gateway.console.visit import Visit
from gateway.errors import Invalid, Unknown

LIVES: Final = (("30", "30 days"), ("90", "90 days"), ("180", "180 days"), ("365", "a year"))
#: The actions, with what each is for.
ACTIONS: Final = (
    (Action.PULL.value, "Pull", "Fetch images; what docker login needs at least."),
    (Action.PUSH.value, "Push", "Upload images."),
    (Action.DELETE.value, "Delete", "Remove tags, manifests and repositories."),
    (Action.MANAGE.value, "Manage", "Members, robots and settings, by the API."),
    (Action.REVIEW.value, "Review", "Read the audit trail, by the API."),
)


async def index(visit: Visit, status: int = 200) -> Response:
    """One's tokens, and a form to make another."""
    tokens = await visit.acts.personal_tokens.list(visit.caller)
    return await render(visit, "tokens.html", status, tokens=tokens, lives=LIVES, actions=ACTIONS)


async def issue(visit: Visit) -> Response:
    """Makes a token, and shows it this once."""
    form = visit.form
    projects, actions = form.text("projects").replace(",", " ").split(), form.values("actions")
    days = form.parsed("days", _days)
    if not actions:
        form.blame("actions", "Choose at least one thing that the token may do.")
    if form.sound and days is not None:
        with form.blaming("name" if not projects else "projects"):
            made = await visit.acts.personal_tokens.issue(
                visit.caller, form.text("name"), actions, projects or None, days
            )
            return await render(visit, "token_secret.html", made=made)
    return await index(visit, 422)


async def ask_revoke(visit: Visit) -> Response:
    token = await _mine(visit)
    return await render(
        visit,
        "confirm.html",
        trail=[("My account", "/account"), ("Tokens", "/account/tokens"), (token.name, "")],
        question=f"Revoke the token {token.name}?",
        told=["Whatever uses it is refused at once. It cannot be brought back; another one can be made."],
        action=f"/account/tokens/{token.id}/revoke",
        hidden=(),
        button="Revoke token",
        back="/account/tokens",
        typed="",
    )


async def revoke(visit: Visit) -> Response:
    token = await _mine(visit)
    await visit.acts.personal_tokens.revoke(visit.caller, token.id)
    return visit.go("/account/tokens", said="revoked")


async def _mine(visit: Visit) -> PersonalTokenRow:
    """The token that the page names, if it is the caller's own; raises `Unknown` for everybody else's."""
    tokens = await visit.acts.personal_tokens.list(visit.caller)
    token = next((each for each in tokens if str(each.id) == visit.path["number"]), None)
    if token is None:
        raise Unknown("You have no such token (any more); go back to your tokens.")
    return token


def _days(text: str) -> int:
    if text not in dict(LIVES):
        raise Invalid("Choose how long the token lasts.")
    return int(text)


GROUP = Group(
    pages=(
        Page("/account/tokens", index, issue, grave=True),
        Page("/account/tokens/{number}/revoke", ask_revoke, revoke),
    )
)
