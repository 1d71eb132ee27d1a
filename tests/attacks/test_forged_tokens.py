"""Tokens that the gateway did not sign, or that say what it never says: none is believed."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.access.keys import public_jwk, thumbprint
from tests.attacks.site import Site, now, segment
from tests.house import OPERATOR
from tests.protocol.harness import Answer, challenge_of

TARGET = "/v2/alpha/app/manifests/v1"


def worthless(site: Site, answer: Answer) -> None:
    """The answer is a challenge that says `invalid_token`, and the trail knows it."""
    assert answer.status == 401, answer.body
    told = challenge_of(answer)
    assert told["error"] == "invalid_token"
    assert told["realm"] == f"https://localhost:{site.port}/token"
    assert answer.code == "UNAUTHORIZED"
    event = site.event_of(answer)
    assert (event["outcome"], event["reason"]) == ("denied", "invalid_token")


def test_real_token_is_believed(site: Site) -> None:
    assert site.ask("GET", TARGET, token=site.sign(site.claims("alice", "alpha/app"))).status == 200


def test_unsigned_and_symmetric_tokens_are_worthless(site: Site) -> None:
    claims = json.dumps(site.claims("alice", "alpha/app")).encode()
    key = site.ring().current()
    pem = key.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = key.public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    jwk = json.dumps(public_jwk(key.public)).encode()
    for alg in ("none", "None", "NONE", ""):
        for signature in ("", segment(b"\0" * 64)):
            told = json.dumps({"alg": alg, "kid": key.kid, "typ": "JWT"}).encode()
            worthless(site, site.ask("GET", TARGET, token=f"{segment(told)}.{segment(claims)}.{signature}"))
    for alg, digest in (("HS256", "sha256"), ("HS384", "sha384"), ("HS512", "sha512"), ("ES256", "sha256")):
        for secret in (pem, der, jwk, b""):
            told = json.dumps({"alg": alg, "kid": key.kid, "typ": "JWT"}).encode()
            signing = f"{segment(told)}.{segment(claims)}"
            signature = hmac.digest(secret, signing.encode(), digest)
            worthless(site, site.ask("GET", TARGET, token=f"{signing}.{segment(signature)}"))


def test_keys_of_strangers_sign_nothing(site: Site) -> None:
    claims = site.claims("alice", "alpha/app")
    own = site.ring().current()
    stranger = ec.generate_private_key(ec.SECP256R1())
    other = rsa.generate_private_key(65537, 2048)
    for kid in (own.kid, thumbprint(stranger.public_key()), "", "../../keys/secret", own.kid + "\n", "' OR 1=1 --"):
        token = jwt.encode(claims, stranger, "ES256", headers={"kid": kid})
        worthless(site, site.ask("GET", TARGET, token=token))
    worthless(site, site.ask("GET", TARGET, token=jwt.encode(claims, other, "RS256", headers={"kid": own.kid})))
    # psychic signatures: r = s = 0, and r or s out of range
    body = ".".join(site.sign(claims).split(".")[:2])
    for signature in (b"\0" * 64, b"\xff" * 64, b"\0" * 32 + b"\1" * 32):
        worthless(site, site.ask("GET", TARGET, token=f"{body}.{segment(signature)}"))


def test_keys_carried_or_pointed_to_by_the_token_are_not_looked_at(site: Site) -> None:
    stranger = ec.generate_private_key(ec.SECP256R1())
    claims = site.claims("alice", "alpha/app")
    own = site.ring().current().kid
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.3)
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/keys"
        for more in (
            {"jwk": public_jwk(stranger.public_key())},
            {"jku": url},
            {"x5u": url},
            {"x5c": ["MIIB"]},
            {"x5t": "x"},
            {"crit": ["exp"], "exp": 1},
            {"crit": []},
            {"b64": False},
            {"zip": "DEF"},
            {"cty": "JWT"},
        ):
            worthless(site, site.ask("GET", TARGET, token=jwt.encode(claims, stranger, "ES256", {"kid": own, **more})))
            header = {"alg": "ES256", "typ": "JWT", "kid": own, **more}
            worthless(site, site.ask("GET", TARGET, token=site.sign(claims, header)))
        with pytest.raises(TimeoutError):
            listener.accept()


def test_claims_are_what_we_write_and_of_the_types_we_write(site: Site) -> None:
    claims = site.claims("alice", "alpha/app")
    before, after = now() - 1000, now() + 1000
    wrong: list[dict[str, Any]] = [
        {"iss": value} for value in ("", "registry", "registry-gateway2", ["registry-gateway"], None, 1, {})
    ]
    wrong += [{"aud": value} for value in ("", "other", ["registry-gateway"], ["registry-gateway", "x"], None, "*")]
    exps: list[Any] = [None, str(now() + 100), float(now() + 100), True, -1, 2**63, 2**53, 10**400, before, [], "NaN"]
    wrong += [{"exp": value} for value in exps]
    wrong += [{"nbf": value} for value in (None, after, "1", 1.5, True, -5)]
    wrong += [{"iat": value} for value in (None, after, "1", 1.5, before - 100_000, True)]
    wrong += [{"iat": after, "nbf": after, "exp": after + 300}, {"iat": before, "exp": after}]
    wrong += [{"jti": value} for value in (None, "", 1, "x", "a" * 65, "a b c d e f g h i j")]
    wrong += [{"knd": value} for value in (None, "operator", "system", "anonymous", "", [], 3)]
    wrong += [{"pid": value} for value in (None, "1", -1, True, 1.0, 2**60)]
    wrong += [{"gen": None}, {"gen": "0"}, {"gen": -1}, {"prj": None}, {"prj": []}, {"prj": {"alpha": "1"}}]
    wrong += [{"sub": value} for value in (None, "", 7, "a\x00b", "a\nb", ["alice"])]
    for change in wrong:
        merged = {**claims, **change}
        worthless(site, site.ask("GET", TARGET, token=site.sign(merged)))
    for missing in claims:
        if missing == "access":
            continue
        rest = {name: value for name, value in claims.items() if name != missing}
        worthless(site, site.ask("GET", TARGET, token=site.sign(rest)))
    for payload in (b"", b"[]", b"null", b'"x"', b"{", b"\xff", b"[" * 5000, b'{"exp":NaN}', b'{"iss":1,"iss":2}'):
        worthless(site, site.ask("GET", TARGET, token=site.sign(payload)))


def test_generation_and_identity_of_others_are_refused_by_policy(site: Site) -> None:
    claims = site.claims("alice", "alpha/app")
    for change in ({"gen": claims["gen"] + 1}, {"pid": 999_999}, {"prj": {"alpha": 999}}):
        answer = site.ask("GET", TARGET, token=site.sign({**claims, **change}))
        assert answer.status == 401
        assert challenge_of(answer)["error"] == "invalid_token"


def test_malformed_access_grants_nothing(site: Site) -> None:
    claims = site.claims("alice", "alpha/app")
    entry = {"type": "repository", "name": "alpha/app", "actions": ["pull"]}
    for access in (
        None,
        {},
        "repository:alpha/app:pull",
        7,
        [entry] * 11,
        [{**entry, "actions": ["*"]}],
        [{**entry, "actions": "pull"}],
        [{**entry, "actions": [["pull"]]}],
        [{**entry, "type": "repository(plugin)"}],
        [{**entry, "type": ["repository"]}],
        [{**entry, "name": "alpha/*"}],
        [{**entry, "name": "*"}],
        [{**entry, "name": "ALPHA/app"}],
        [{**entry, "name": "alpha/app/"}],
        [{**entry, "name": "alpha/app\n"}],
        [{**entry, "name": ["alpha/app"]}],
        [{**entry, "name": None}],
        [None, 1, "x", []],
    ):
        answer = site.ask("GET", TARGET, token=site.sign({**claims, "access": access}))
        assert answer.status == 401, access
        assert challenge_of(answer)["error"] == "insufficient_scope"
        assert challenge_of(answer)["scope"] == "repository:alpha/app:pull"
    del claims["access"]
    assert challenge_of(site.ask("GET", TARGET, token=site.sign(claims)))["error"] == "insufficient_scope"


def test_texts_that_are_no_tokens_are_worthless(site: Site) -> None:
    real = site.widest("alice", "alpha/app")
    first, second, third = real.split(".")
    for text in (
        "x",
        "..",
        "a.b.c",
        real + ".",
        "." + real,
        real + "=",
        real[:-1],
        f"{first}.{second}",
        f"{first}.{second}.{third}.{third}",
        f"{first}.{second}.",
        f"{second}.{first}.{third}",
        real.swapcase(),
        real.replace(".", " . "),
        f"{real} {real}",
        f"{real},{real}",
        "A" * 8200,
        f"{first}.{'A' * 8000}.{third}",
        f'"{real}"',
        "\x80\xff",
    ):
        worthless(site, site.ask("GET", TARGET, token=text))


def test_credentials_work_in_their_own_plane_only(site: Site) -> None:
    token = site.widest("alice", "alpha/app")
    right = {"Authorization": "Basic " + __import__("base64").b64encode(b"alice:password of alice").decode()}
    plain = site.ask("GET", TARGET)
    assert (plain.status, "error" in challenge_of(plain)) == (401, False)
    for headers in (
        right,
        {"Cookie": f"token={token}; session={token}; __Host-gw={token}"},
        {"X-Authorization": f"Bearer {token}"},
        {"Proxy-Authorization": f"Bearer {token}"},
        {"Authorization": f"Token {token}"},
        {"Authorization": token},
        {"Authorization": f"Bearer\t{token}"},
    ):
        answer = site.ask("GET", TARGET, headers=headers)
        assert answer.status == 401
        assert answer.told == plain.told
        assert answer.body == plain.body
        assert site.events_of(answer) == []
    assert site.ask("GET", f"{TARGET}?access_token={token}&token={token}").status == 401
    assert site.ask("GET", TARGET, headers={"Authorization": f"bEARER   {token}  "}).status == 200
    assert site.ask("GET", "/token?service=registry-gateway", token=token).status == 401
    assert site.ask("GET", "/token?service=registry-gateway", headers={"Cookie": f"t={token}"}).json()["token"] != token
    twice = [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {site.widest('mallory')}")]
    for order in (twice, twice[::-1]):
        assert site.ask("GET", TARGET, headers=order).status in {400, 401}


def eventually(check: Callable[[], bool], seconds: float = 1.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if check():
            return True
        time.sleep(0.02)
    return check()


def test_rotated_keys_verify_and_revoked_ones_do_not(site: Site) -> None:
    token = site.widest("alice", "alpha/app")
    kid = jwt.get_unverified_header(token)["kid"]
    site.run(site.rooms.administration.keys.rotate_key(OPERATOR))
    assert [site.ask("GET", TARGET, token=token).status for _ in range(6)] == [200] * 6
    fresh = site.sign_in("alice", "", "repository:alpha/app:pull").json()["token"]
    assert jwt.get_unverified_header(fresh)["kid"] != kid
    site.run(site.rooms.administration.keys.revoke_key(OPERATOR, kid))
    # At once, on every worker; the connections of these requests spread over both.
    for _ in range(12):
        worthless(site, site.ask("GET", TARGET, token=token))
    assert site.ask("GET", TARGET, token=fresh).status == 200
    published = site.ask("GET", "/.well-known/jwks.json").json()["keys"]
    assert kid not in {key["kid"] for key in published}
    assert all(set(key) == {"crv", "kty", "x", "y", "kid", "use", "alg"} for key in published)
    site.tokens.clear()
    assert hashlib.sha256(site.widest("alice", "alpha/app").encode()).digest()
