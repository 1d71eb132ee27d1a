"""The token endpoint: credentials and wanted scopes come in, a bearer with the allowed part of them goes out.

read the ask ─▶ believed? ─▶ policy.granted ─▶ sign-in and issue, one commit ─▶ the bearer
                   └ no: denied, recorded, 401 or 429
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import NoReturn

from gateway.access.credentials import Belief, Believed, Disbelieved, account_name
from gateway.access.policy import granted
from gateway.access.principals import ANONYMOUS, Caller, CredentialKind, Principal, PrincipalKind
from gateway.access.scopes import Access, Action, parse_scopes
from gateway.access.secrets import PERSONAL_PREFIX
from gateway.access.throttle import Budget
from gateway.access.tokens import IssuedToken
from gateway.audit.event import Event, Kind
from gateway.change import Change, together
from gateway.errors import Invalid, Refusal, TooManyRequests, Unauthorized
from gateway.gate import Passage
from gateway.oci.media import essence
from gateway.oci.names import Repository
from gateway.registry.authentication import Basic, read_basic, stranger
from gateway.registry.replies import NO_STORE, Reply, json_reply, problem, refused_grant
from gateway.registry.request import Request, read_fields

FORM_BYTES = 64 * 1024
#: What containerd calls itself.
CONTAINERD = "containerd-client"
_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request for a token asks: for whom, for what, and whether an offline token is wanted besides."""

    belief: Belief | None
    wanted: Access
    offline: bool = False
    client: str = ""
    scope_told: bool = False


async def get(request: Request) -> Reply:
    """`GET /token` (token specification): Basic or nothing, scopes in the query."""
    _check_service(request, request.parameter("service"))
    try:
        basic = read_basic(request.headers.get("authorization", ()))
    except Unauthorized as refusal:
        await _deny(request, refusal, "malformed_credential")
    belief = None if basic is None else await _believe(request, basic, request.parameter("account"))
    wanted = parse_scopes(request.parameters("scope"))
    offline = request.parameter("offline_token") == "true"
    return await _issue(request, Ask(belief, wanted, offline, _client(request.parameter("client_id"))))


async def post(request: Request) -> Reply:
    """`POST /token` (OAuth 2.0, RFC 6749 §4.3 and §6): grants of a password and of an offline token, by form."""
    try:
        if essence(request.header("content-type")) != _FORM:
            return problem(415, "UNSUPPORTED", f"Send a form: Content-Type {_FORM}.")
        content = await request.body(FORM_BYTES)
        fields = read_fields(content.decode("utf-8", "replace"))
        return await _issue(request, await _read_form(request, fields))
    except Refusal as refusal:
        return refused_grant(refusal)


async def _read_form(request: Request, fields: tuple[tuple[str, str], ...]) -> Ask:
    form = dict(reversed(fields))
    wanted = parse_scopes(value for name, value in fields if name == "scope")
    client = _client(form.get("client_id", ""))
    service = _check_service(request, form.get("service", ""))
    credentials = request.parts.credentials
    match form.get("grant_type", ""):
        case "password":
            if not form.get("username") or not form.get("password"):
                raise Invalid("Send username and password.", detail={"error": "invalid_request"})
            belief = await credentials.believe(form["username"], form["password"], request.origin)
            return Ask(belief, wanted, form.get("access_type") == "offline", client, True)
        case "refresh_token":
            if not form.get("refresh_token"):
                raise Invalid("Send refresh_token.", detail={"error": "invalid_request"})
            belief = await _believe_refresh(request, form["refresh_token"], service)
            return Ask(belief, wanted, client=client, scope_told=True)
        case "":
            raise Invalid("Send grant_type: password or refresh_token.", detail={"error": "invalid_request"})
        case _:
            raise Invalid("Send a grant_type of password or refresh_token.", detail={"error": "unsupported_grant_type"})


async def _believe(request: Request, basic: Basic, account: str) -> Belief:
    if not basic.name:
        # containerd hands an offline token over as the password of nobody.
        return await _believe_refresh(request, basic.secret, request.parts.service)
    if account and account_name(account) != account_name(basic.name):
        refusal = Unauthorized("Ask with the account that signs in, or leave account out.")
        await _deny(request, refusal, "account_mismatch", name=account_name(basic.name))
    return await request.parts.credentials.believe(basic.name, basic.secret, request.origin)


async def _believe_refresh(request: Request, token: str, service: str) -> Belief:
    # Clients that were told an empty name take whatever secret they hold for an offline token.
    if token.startswith(PERSONAL_PREFIX):
        return await request.parts.credentials.believe_personal(token, request.origin)
    return await request.parts.credentials.believe_offline(token, service, request.origin)


async def _issue(request: Request, ask: Ask) -> Reply:
    belief = ask.belief
    if isinstance(belief, Disbelieved):
        if belief.aggregated:
            raise belief.refusal
        await _deny(request, belief.refusal, belief.reason, name=belief.name, change=belief.change)
    caller = stranger(request)
    if belief is None:
        # Each costs a signature and an event, and nobody answers for it: a flood of them is not let in.
        _spend(request.parts.anonymous, request.origin.address, "Ask less often, or sign in.")
    else:
        caller = Caller(
            belief.principal,
            request.origin,
            belief.credential,
            generation=belief.generation,
            bound=belief.bound,
            personal_token=belief.personal_token,
            offline_token=belief.offline_token,
        )
    async with request.parts.gate.passage(caller, Kind.TOKEN_ISSUE) as passage:
        if belief is not None and _makes_offline(belief, ask):
            # That a right password was refused is an event.
            _spend(request.parts.lasting, f"user:{belief.principal.id}", "Log in less often.")
        issued, access = await _sign(request, caller, ask)
        passage.note(detail={"id": issued.id, "wanted": ask.wanted.texts(), "granted": access.texts()})
        offline_token = await _commit(passage, request, belief, ask)
        return _reply(issued, access, offline_token, ask)


async def _sign(request: Request, caller: Caller, ask: Ask) -> tuple[IssuedToken, Access]:
    parts = request.parts
    names = {Repository(name).project for name in ask.wanted.repositories}
    projects = await parts.gate.directory.projects(names)
    standing = await parts.gate.directory.standing(caller.principal, offline_token=caller.offline_token)
    now = parts.now()
    access = granted(caller, ask.wanted, standing, projects, now)
    ids = {project.name.name: project.id for project in projects}
    named = {Repository(name).project.name for name in access.repositories}
    await parts.tokens.refresh()
    bound = {name: number for name, number in ids.items() if name in named}
    # Up to version 1.7, containerd keeps its token for the whole push, and cannot send a manifest twice.
    pushes = any(Action.PUSH in actions for actions in access.repositories.values())
    issued = parts.tokens.issue(
        caller.principal,
        access,
        generation=caller.generation,
        projects=bound,
        now=now,
        personal_token=caller.personal_token,
        offline_token=caller.offline_token,
        at_least_seconds=parts.containerd_push_seconds if pushes and ask.client == CONTAINERD else 0,
    )
    return issued, access


async def _commit(passage: Passage, request: Request, belief: Believed | None, ask: Ask) -> str:
    """Makes sign-in and issue durable, together with what they change; answers the offline token, "" if none is due."""
    if belief is None:
        await passage.seal()
        return ""
    changes: list[Change] = [] if belief.change is None else [belief.change]
    offline_token = ""
    if _makes_offline(belief, ask):
        parts = request.parts
        offline_token, change = parts.credentials.new_offline_token(
            belief.principal, belief.generation, parts.service, ask.client, request.origin
        )
        changes.append(change)
    signed_in = Event(Kind.SIGN_IN, passage.caller)
    if changes:
        await passage.commit(together(*changes), signed_in)
    else:
        await passage.seal(signed_in)
    return offline_token


def _makes_offline(belief: Believed, ask: Ask) -> bool:
    # A robot has its secret, and who came with a token of any kind has that: nothing is made that outlives it.
    return ask.offline and belief.credential.kind is CredentialKind.PASSWORD


def _spend(budget: Budget, key: str, advice: str) -> None:
    wait_seconds = budget.spend(key)
    if wait_seconds:
        raise TooManyRequests(advice, retry_after_seconds=wait_seconds)


def _reply(issued: IssuedToken, access: Access, offline_token: str, ask: Ask) -> Reply:
    told: dict[str, object] = {
        # Readers of GET want the one name, readers of POST the other.
        "token": issued.text,
        "access_token": issued.text,
        "expires_in": issued.expires_in_seconds,
        "issued_at": issued.issued_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if ask.scope_told:
        told |= {"scope": " ".join(access.texts()), "token_type": "Bearer"}
    if offline_token:
        told["refresh_token"] = offline_token
    return json_reply(200, told, NO_STORE)


async def _deny(
    request: Request, refusal: Refusal, reason: str, *, name: str = "", change: Change | None = None
) -> NoReturn:
    # The claimed name is what the trail is searched by; that nobody proved to bear it stands in the kind and the id.
    principal = Principal(PrincipalKind.ANONYMOUS, 0, name) if name else ANONYMOUS
    caller = Caller(principal, request.origin)
    await request.parts.gate.deny(caller, Kind.SIGN_IN, refusal, reason=reason, change=change)


def _check_service(request: Request, named: str) -> str:
    if named and named != request.parts.service:
        raise Invalid(
            "Ask for the service that the challenge names, or name none.", detail={"error": "invalid_request"}
        )
    return request.parts.service


def _client(text: str) -> str:
    return "".join(letter for letter in text[:200] if letter.isprintable())
