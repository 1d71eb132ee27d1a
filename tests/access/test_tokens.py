"""Tokens: believed when they are exactly what we sign, and a plain `invalid_token` for everything else."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access import tokens as module
from gateway.access.keys import KeyState, new_key, public_jwk
from gateway.access.principals import ANONYMOUS, Principal, PrincipalKind
from gateway.access.scopes import Access, Action, parse_scopes
from gateway.access.tokens import Bearer, IssuedToken, Tokens
from gateway.errors import Unauthorized
from tests.access.keeping import NOW, KeptKeys

WRITER = Principal(PrincipalKind.USER, 7, "writer")
ROBOT = Principal(PrincipalKind.ROBOT, 8, "gallery+ci")
ACCESS = parse_scopes(["repository:gallery/ui:pull,push registry:catalog:*"])
ISSUED = int(NOW.timestamp())
MISSING = object()
KEPT = KeptKeys.fresh()


def make(
    kept: KeptKeys = KEPT, *, lifetime_seconds: int = 300, issuer: str = "gateway", service: str = "registry"
) -> Tokens:
    return Tokens(kept.ring(), issuer, service, lifetime_seconds)


def issue(tokens: Tokens, principal: Principal = WRITER, access: Access = ACCESS) -> IssuedToken:
    return tokens.issue(principal, access, generation=3, projects={"gallery": 5}, now=NOW)


def base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def claims(**changes: object) -> dict[str, object]:
    """What a genuine token claims, with changes; `MISSING` leaves a claim out."""
    genuine: dict[str, object] = {
        "iss": "gateway",
        "sub": "writer",
        "aud": "registry",
        "exp": ISSUED + 300,
        "nbf": ISSUED,
        "iat": ISSUED,
        "jti": "a" * 22,
        "access": ACCESS.claims(),
        "knd": "user",
        "pid": 7,
        "gen": 3,
        "prj": {"gallery": 5},
    }
    return {name: value for name, value in (genuine | changes).items() if value is not MISSING}


def signed(payload: bytes, header: dict[str, object] | bytes | None = None) -> str:
    """A token with a true signature of ours over whatever it says."""
    key = KEPT.current()
    assert key.private is not None
    if header is None:
        header = {"alg": "ES256", "kid": key.kid, "typ": "JWT"}
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    signing_input = f"{base64url(raw)}.{base64url(payload)}"
    signature = jwt.get_algorithm_by_name("ES256").sign(signing_input.encode(), key.private)
    return f"{signing_input}.{base64url(signature)}"


def claiming(**changes: object) -> str:
    return signed(json.dumps(claims(**changes)).encode())


def headed(**changes: object) -> str:
    header: dict[str, object] = {"alg": "ES256", "kid": KEPT.current().kid, "typ": "JWT"}
    header = {name: value for name, value in (header | changes).items() if value is not MISSING}
    return signed(json.dumps(claims()).encode(), header)


def assert_worthless(text: str, now: Any = NOW, tokens: Tokens | None = None) -> None:
    with pytest.raises(Unauthorized) as refused:
        (tokens or make()).verify(text, now)
    assert refused.value.error == "invalid_token"
    assert refused.value.message == "The token is not valid (any more): get another one."


@pytest.mark.parametrize("principal", [WRITER, ROBOT, ANONYMOUS])
def test_what_is_issued_is_believed(principal: Principal) -> None:
    tokens = make()
    issued = issue(tokens, principal)

    for _ in range(2):
        assert tokens.verify(issued.text, NOW) == Bearer(
            principal, ACCESS, 3, {"gallery": 5}, issued.id, KEPT.current().kid, NOW + timedelta(seconds=300)
        )


def test_every_process_believes_what_another_issued() -> None:
    assert make().verify(issue(make()).text, NOW).principal == WRITER


def test_an_issued_token_is_what_the_specification_names() -> None:
    issued = issue(make())
    header = jwt.get_unverified_header(issued.text)
    # Read by a library that is asked for everything.
    read = jwt.decode(
        issued.text,
        KEPT.current().public,
        algorithms=["ES256"],
        audience="registry",
        issuer="gateway",
        options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
    )

    assert header == {"alg": "ES256", "typ": "JWT", "kid": KEPT.current().kid}
    assert (read["exp"], read["nbf"], read["iat"]) == (ISSUED + 300, ISSUED, ISSUED)
    assert read["jti"] == issued.id
    assert read["access"] == [
        {"type": "repository", "name": "gallery/ui", "actions": ["pull", "push"]},
        {"type": "registry", "name": "catalog", "actions": ["*"]},
    ]
    assert (issued.expires_in_seconds, issued.issued_at) == (300, NOW)
    assert issued.text not in repr(issued)


def test_anonymous_tokens_have_an_empty_subject() -> None:
    read = jwt.decode(issue(make(), ANONYMOUS).text, options={"verify_signature": False})

    assert read["sub"] == ""


def test_tokens_of_the_most_scopes_stay_below_the_limit() -> None:
    names = [f"{'p' * 64}/{'r' * 130}{number:04d}" for number in range(10)]
    access = Access({name: frozenset({Action.PULL, Action.PUSH, Action.DELETE}) for name in names}, True)
    tokens = make()
    issued = tokens.issue(WRITER, access, generation=1, projects={"p" * 64: 2**40}, now=NOW)

    assert len(issued.text) < 8192
    # The catalog is an entry of its own; at most ten are asked for altogether.
    ten = Access(access.repositories)
    assert tokens.verify(tokens.issue(WRITER, ten, generation=1, projects={}, now=NOW).text, NOW).access == ten


def test_a_genuine_token_made_here_is_believed() -> None:
    # What the cases below differ from must itself be right.
    assert make().verify(claiming(), NOW).principal == WRITER


@pytest.mark.parametrize("lifetime", [59, 901, 0, -1])
def test_no_life_outside_the_bounds_can_be_configured(lifetime: int) -> None:
    with pytest.raises(ValueError, match="60 to 900"):
        make(lifetime_seconds=lifetime)


def test_no_algorithm_but_ours_is_believed() -> None:
    text = issue(make()).text
    _, payload, signature = text.split(".")
    kid = KEPT.current().kid
    for algorithm in ("none", "None", "HS256", "ES384", "es256", "RS256", "EdDSA", "ES256K", "", None, 0, ["ES256"]):
        header = base64url(json.dumps({"alg": algorithm, "kid": kid, "typ": "JWT"}).encode())
        assert_worthless(f"{header}.{payload}.{signature}")
        assert_worthless(f"{header}.{payload}.")
        assert_worthless(f"{header}.{payload}")


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_public_key_is_no_shared_secret(algorithm: str) -> None:
    public = KEPT.current().public
    secrets = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint),
        json.dumps(public_jwk(public)).encode(),
        b"",
    ]
    for secret in secrets:
        header = base64url(json.dumps({"alg": algorithm, "kid": KEPT.current().kid, "typ": "JWT"}).encode())
        signing_input = f"{header}.{base64url(json.dumps(claims()).encode())}"
        signature = jwt.get_algorithm_by_name(algorithm).sign(signing_input.encode(), secret)
        assert_worthless(f"{signing_input}.{base64url(signature)}")
        assert_worthless(f"{signing_input}.{base64url(signature[:64].ljust(64, b'0'))}")


def test_no_key_but_ours_is_believed_wherever_the_header_points() -> None:
    stranger = new_key(KeyState.CURRENT, NOW)
    assert stranger.private is not None
    rogue = rsa.generate_private_key(65537, 2048)
    jwk = public_jwk(stranger.public)
    extras: list[dict[str, Any]] = [
        {},
        {"jwk": jwk},
        {"jku": "https://127.0.0.1:1/keys"},
        {"x5u": "https://127.0.0.1:1/chain"},
        {"x5c": ["MIIB"]},
    ]
    for kid in (stranger.kid, KEPT.current().kid):
        for extra in extras:
            assert_worthless(jwt.encode(claims(), stranger.private, algorithm="ES256", headers={"kid": kid} | extra))
        assert_worthless(jwt.encode(claims(), rogue, algorithm="RS256", headers={"kid": kid}))
        other = ec.generate_private_key(ec.SECP384R1())
        assert_worthless(jwt.encode(claims(), other, algorithm="ES384", headers={"kid": kid}))


@pytest.mark.parametrize(
    "name", ["jwk", "jku", "x5c", "x5u", "x5t", "x5t#S256", "crit", "b64", "zip", "cty", "epk", "x"]
)
@pytest.mark.parametrize("value", [None, [], ["exp"], "", {}, False])
def test_no_header_but_ours_is_believed_even_signed(name: str, value: object) -> None:
    assert_worthless(headed(**{name: value}))


@pytest.mark.parametrize(
    "kid", [MISSING, None, 0, [], {}, "", "a", "a" * 43, "../../etc/passwd", "' or 1=1 --", "a" * 42 + "\n"]
)
def test_a_kid_is_looked_up_and_nothing_else(kid: object) -> None:
    assert_worthless(headed(kid=kid))


@pytest.mark.parametrize("kind", [MISSING, None, "", "jwt", "at+jwt", "JWE", ["JWT"], 1])
def test_a_token_says_that_it_is_one(kind: object) -> None:
    assert_worthless(headed(typ=kind))


@pytest.mark.parametrize("issuer", [MISSING, None, "", "gatewa", "gateway/", "Gateway", ["gateway"], {"gateway": 1}, 1])
def test_another_issuers_token_is_worthless(issuer: object) -> None:
    assert_worthless(claiming(iss=issuer))


@pytest.mark.parametrize("service", [MISSING, None, "", "registr", "registry ", ["registry"], ["other", "registry"], 1])
def test_a_token_for_another_service_is_worthless(service: object) -> None:
    assert_worthless(claiming(aud=service))


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    "value", [MISSING, None, "", str(ISSUED + 300), ISSUED + 300.5, float("nan"), True, 2**63, -1, [], {}]
)
def test_times_are_whole_numbers(name: str, value: object) -> None:
    assert_worthless(claiming(**{name: value}))


@pytest.mark.parametrize("name", ["jti", "sub", "knd", "pid", "gen", "prj"])
@pytest.mark.parametrize(
    "value", [MISSING, None, [], True, 1.5, -1, "\ud800", {"gallery": "5"}, {"gallery": True}, 2**60]
)
def test_every_claim_is_required_and_of_its_type(name: str, value: object) -> None:
    assert_worthless(claiming(**{name: value}))


@pytest.mark.parametrize(
    "changes",
    [
        {"knd": "operator"},
        {"knd": "system"},
        {"knd": "anonymous"},
        {"knd": "anonymous", "sub": ""},
        {"knd": "user", "sub": ""},
        {"pid": 0},
        {"sub": "writer\n"},
        {"jti": "short"},
        {"jti": "x" * 65},
    ],
)
def test_only_those_who_sign_in_are_in_a_token(changes: dict[str, object]) -> None:
    assert_worthless(claiming(**changes))


@pytest.mark.parametrize(
    ("life", "believed"), [(59, False), (60, True), (300, True), (900, True), (901, False), (0, False), (-300, False)]
)
def test_no_life_outside_the_bounds_is_believed(life: int, believed: bool) -> None:
    text = claiming(exp=ISSUED + life)
    if believed:
        assert make().verify(text, NOW).principal == WRITER
    else:
        assert_worthless(text)


@pytest.mark.parametrize(("seconds", "believed"), [(-31, False), (-30, True), (0, True), (329.9, True), (330, False)])
def test_a_token_is_good_from_its_issue_to_its_end_and_thirty_seconds_about(seconds: float, believed: bool) -> None:
    tokens, now = make(), NOW + timedelta(seconds=seconds)
    text = issue(tokens).text
    for _ in range(2):
        if believed:
            assert tokens.verify(text, now).principal == WRITER
        else:
            assert_worthless(text, now, tokens)


def test_a_token_that_was_believed_is_not_believed_after_its_end() -> None:
    tokens = make()
    text = issue(tokens).text
    tokens.verify(text, NOW)

    assert_worthless(text, NOW + timedelta(seconds=330), tokens)


def test_a_token_that_was_believed_is_not_believed_by_a_clock_that_was_put_back() -> None:
    tokens = make()
    text = issue(tokens).text
    assert tokens.verify(text, NOW).principal == WRITER

    with pytest.raises(Unauthorized):
        tokens.verify(text, NOW - timedelta(days=1))
    assert tokens.verify(text, NOW).principal == WRITER


@pytest.mark.parametrize("name", ["nbf", "iat"])
def test_a_token_of_the_future_is_worthless(name: str) -> None:
    later = {"nbf": ISSUED + 31} if name == "nbf" else {"iat": ISSUED + 31, "exp": ISSUED + 331}

    assert_worthless(claiming(**later))


@pytest.mark.parametrize(
    "access",
    [
        MISSING,
        None,
        {},
        {"type": "repository"},
        "repository:gallery/ui:pull",
        [{"type": "repository", "name": "gallery/ui", "actions": ["pull"]}] * 11,
        [None, 1, "x", [], {}],
        [{"type": "repository", "name": "gallery/ui", "actions": ["*"]}],
        [{"type": "repository", "name": "gallery/ui", "actions": "pull"}],
        [{"type": "repository", "name": "gallery/ui", "actions": ["manage", "PULL", None, 1, ["pull"]]}],
        [{"type": "repository(plugin)", "name": "gallery/ui", "actions": ["pull"]}],
        [{"type": "repository", "name": "gallery/*", "actions": ["pull"]}],
        [{"type": "repository", "name": "GALLERY/ui", "actions": ["pull"]}],
        [{"type": "repository", "name": "gallery/ui/", "actions": ["pull"]}],
        [{"type": "repository", "name": ["gallery/ui"], "actions": ["pull"]}],
        [{"type": ["repository"], "name": "gallery/ui", "actions": ["pull"]}],
        [{"type": "registry", "name": "catalog", "actions": ["pull"]}],
    ],
)
def test_malformed_access_grants_nothing(access: object) -> None:
    bearer = make().verify(claiming(access=access), NOW)

    assert not any(bearer.access.repositories.values())
    assert not bearer.access.catalog


@pytest.mark.parametrize(
    "bend",
    [
        lambda text: "",
        lambda text: text[:-1],
        lambda text: text + "A",
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text + ".",
        lambda text: text + ".e30",
        lambda text: text.replace(".", "..", 1),
        lambda text: text.replace(".", "=.", 1),
        lambda text: text + "=",
        lambda text: text[:50] + "!" + text[50:],
        lambda text: text[:50] + "é" + text[50:],
        lambda text: text[:50] + "\0" + text[50:],
        lambda text: text.rpartition(".")[0] + "." + "A" * 86,
        lambda text: ".".join([*text.split(".")[:2], ""]),
        lambda text: ".".join(reversed(text.split("."))),
        lambda text: text.upper(),
    ],
)
def test_a_bent_token_is_worthless(bend: Callable[[str], str]) -> None:
    assert_worthless(bend(issue(make()).text))


def test_every_altered_byte_of_header_and_claims_is_noticed() -> None:
    tokens = make()
    text = issue(tokens).text
    for position, letter in enumerate(text.rpartition(".")[0]):
        if letter != ".":
            assert_worthless(text[:position] + ("A" if letter != "A" else "B") + text[position + 1 :], NOW, tokens)


def test_too_big_a_token_is_not_read() -> None:
    assert_worthless(claiming(filling="x" * 8192))
    assert make().verify(claiming(filling="x" * 4000), NOW).principal == WRITER


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"1",
        b'"x"',
        b"{",
        b"\xff",
        b"[" * 5000,
        b'{"exp":' + b"9" * 5000 + b"}",
        json.dumps(claims()).encode()[:-1] + b',"sub":"admin"}',
    ],
)
def test_even_signed_nonsense_is_worthless(payload: bytes) -> None:
    assert_worthless(signed(payload))


@pytest.mark.parametrize(
    "header", [b"", b"null", b"[]", b"{", b"\xff", b"[" * 180, b'{"alg":"ES256"}', b'{"alg":"none","alg":"ES256"}']
)
def test_signed_under_nonsense_is_worthless(header: bytes) -> None:
    assert_worthless(signed(json.dumps(claims()).encode(), header))


def test_a_name_that_stands_twice_in_the_header_is_worthless() -> None:
    kid = KEPT.current().kid
    header = f'{{"alg":"none","alg":"ES256","typ":"JWT","kid":"{kid}"}}'.encode()

    assert_worthless(signed(json.dumps(claims()).encode(), header))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec=None)) | st.binary().map(lambda content: content.decode("latin-1")))
def test_any_text_is_an_invalid_token_and_never_a_fault(text: str) -> None:
    assert_worthless(text)


@settings(max_examples=200, deadline=None)
@given(st.binary(), st.binary(), st.binary(min_size=64, max_size=64))
def test_any_three_segments_are_an_invalid_token(header: bytes, payload: bytes, signature: bytes) -> None:
    assert_worthless(".".join(base64url(part) for part in (header, payload, signature)))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(claims())), json_values)
def test_any_signed_claim_is_believed_whole_or_refused(name: str, value: object) -> None:
    try:
        bearer = make().verify(claiming(**{name: value}), NOW)
    except Unauthorized:
        return
    assert type(bearer.principal.id) is int
    assert type(bearer.generation) is int
    assert all(type(number) is int for number in bearer.projects.values())
    assert bearer.principal.name.isprintable()


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(["alg", "typ", "kid", "jwk", "crit"]) | st.text(), json_values, max_size=4))
def test_any_signed_header_but_ours_is_an_invalid_token(header: dict[str, object]) -> None:
    assert_worthless(signed(json.dumps(claims()).encode(), json.dumps(header).encode()))


def test_a_key_that_was_rotated_verifies_in_its_grace_and_a_revoked_one_not_at_all() -> None:
    kept = KeptKeys.fresh()
    tokens = make(kept, lifetime_seconds=900)
    text = issue(tokens).text
    tokens.verify(text, NOW)

    kept.rotate(NOW)
    assert tokens.verify(text, NOW + timedelta(seconds=800)).principal == WRITER
    fresh = tokens.issue(WRITER, ACCESS, generation=3, projects={}, now=NOW)
    assert jwt.get_unverified_header(fresh.text)["kid"] == kept.current().kid
    # The grace ended by the key's own clock, though the token says it is good.
    kept.keys = [
        dataclasses.replace(key, retires_at=NOW) if key.state is KeyState.PREVIOUS else key for key in kept.keys
    ]
    kept.version += 1
    assert_worthless(text, NOW, tokens)


def test_a_revoked_key_counts_at_once_even_for_tokens_believed_before() -> None:
    kept = KeptKeys.fresh()
    tokens = make(kept)
    text = issue(tokens).text
    tokens.verify(text, NOW)

    kept.revoke(kept.current().kid)

    assert_worthless(text, NOW, tokens)


def test_the_next_keys_tokens_are_believed_by_whoever_has_not_yet_seen_the_rotation() -> None:
    kept = KeptKeys.fresh()
    elsewhere = KeptKeys(list(kept.keys))
    kept.rotate(NOW)

    assert make(elsewhere).verify(issue(make(kept)).text, NOW).principal == WRITER


def test_a_token_seen_again_is_not_read_again_and_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT", 3)
    tokens = make()
    first = issue(tokens).text
    assert tokens.verify(first, NOW) is tokens.verify(first, NOW)
    for _ in range(10):
        tokens.verify(issue(tokens).text, NOW)
    for _ in range(10):
        with pytest.raises(Unauthorized):
            tokens.verify(first[:-2] + "xx", NOW)

    assert len(tokens._verified) == 3
