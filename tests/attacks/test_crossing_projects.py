"""Members of one project against another: nothing of it can be read, changed, detected, or brought over."""

from __future__ import annotations

import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from urllib.parse import quote

import jwt
import pytest
from sqlalchemy import func, select

from gateway.oci.media import OCI_INDEX
from gateway.records.schema import uploads
from tests.attacks.site import CONFIG_TYPE, LAYER_TYPE, OCI_MANIFEST, SECRET_LAYER, UPLOADS, Site, head, read_answer
from tests.house import OPERATOR
from tests.protocol.harness import Answer, challenge_of, descriptor, image, index, sha256

L1 = sha256(SECRET_LAYER)
NOWHERE = sha256(b"no such bytes anywhere")


def same(one: Answer, other: Answer, *swaps: tuple[str, str]) -> bool:
    """Whether two answers tell the same, once what was asked about is written the same."""

    def told(answer: Answer) -> str:
        headers = sorted((name, value) for name, value in answer.headers if name not in {"x-request-id", "date"})
        text = repr((answer.status, headers, answer.body))
        for existing, missing in swaps:
            # Lengths may differ by the length of the name only.
            assert len(existing) == len(missing)
            text = text.replace(missing, existing)
        return text

    return told(one) == told(other)


@pytest.mark.parametrize("who", ["mallory", "carol", "auditor", ""])
def test_what_may_not_be_pulled_cannot_be_told_from_what_is_not_there(site: Site, who: str) -> None:
    digest = sha256(site.manifest)
    asked = ("repository:alpha/app:*", "repository:alpha/zzz:*", "repository:alphq/app:*")
    token = site.token(who, *asked) if who else ""
    plain = site.token("", *asked)
    # Strangers that are refused again and again are not remembered every time: these come from elsewhere.
    address = site.address()
    for each in {token, plain}:
        for method, path in (
            ("GET", "/v2/{}/manifests/v1"),
            ("HEAD", "/v2/{}/manifests/v1"),
            ("GET", "/v2/{}/manifests/v9"),
            ("GET", f"/v2/{{}}/manifests/{digest}"),
            ("HEAD", f"/v2/{{}}/blobs/{L1}"),
            ("GET", f"/v2/{{}}/blobs/{L1}"),
            ("GET", f"/v2/{{}}/blobs/{NOWHERE}"),
            ("DELETE", f"/v2/{{}}/blobs/{L1}"),
            ("DELETE", "/v2/{}/manifests/v1"),
            ("DELETE", f"/v2/{{}}/manifests/{digest}"),
            ("PUT", "/v2/{}/manifests/v1"),
            ("GET", "/v2/{}/tags/list"),
            ("GET", "/v2/{}/tags/list?n=1&last=a"),
            ("GET", f"/v2/{{}}/referrers/{digest}"),
            ("POST", "/v2/{}/blobs/uploads/"),
            ("POST", f"/v2/{{}}/blobs/uploads/?digest={L1}"),
            ("POST", f"/v2/{{}}/blobs/uploads/?mount={L1}&from=beta/src"),
            ("GET", f"/v2/{{}}/blobs/uploads/{uuid.uuid4()}"),
            ("PATCH", f"/v2/{{}}/blobs/uploads/{uuid.uuid4()}"),
            ("PUT", f"/v2/{{}}/blobs/uploads/{uuid.uuid4()}?digest={L1}"),
            ("DELETE", f"/v2/{{}}/blobs/uploads/{uuid.uuid4()}"),
        ):
            there, sibling, elsewhere = (
                site.ask(method, path.format(name), token=each, address=address)
                for name in ("alpha/app", "alpha/zzz", "alphq/app")
            )
            assert there.status == 401, (method, path)
            assert ("error" in challenge_of(there)) == bool(each)
            assert same(there, sibling, ("alpha/app", "alpha/zzz"))
            assert same(there, elsewhere, ("alpha", "alphq"))


def test_scopes_that_are_not_held_are_not_granted(site: Site) -> None:
    def granted(name: str, *scopes: str) -> dict[str, list[str]]:
        claims = jwt.decode(site.sign_in(name, "", *scopes).json()["token"], options={"verify_signature": False})
        return {entry["name"]: entry["actions"] for entry in claims["access"]}

    assert granted("bob", "repository:alpha/app:pull,push,delete,*") == {"alpha/app": ["pull"]}
    assert granted("alice", "repository:alpha/app:*,manage,review") == {"alpha/app": ["pull", "push"]}
    for scope in (
        "repository:*:pull",
        "repository:alpha/*:pull",
        "repository:beta/x:pull,push",
        "repository:alpha2/app:pull",
        "repository:alpha-x/app:pull",
        "repository:ALPHA/app:pull",
        "repository:alpha/app/:pull",
        "repository:alpha//app:pull",
        "repository:alpha/../beta/x:pull",
        "repository:localhost:5000/alpha/app:pull",
        "repository:alpha/app:PULL",
        "repository:alpha/app",
        "registry:catalog:pull",
        "registry:*:*",
        "*:*:*",
        "project:alpha:*",
        "\0:\0:\0",
    ):
        assert granted("alice", scope) == {}, scope
    assert granted("alice", "repository:alpha/sub/deep:pull") == {"alpha/sub/deep": ["pull"]}
    many = granted("alice", *(f"repository:alpha/n{number}:pull" for number in range(50)))
    assert len(many) == 10
    joined = " ".join(["repository:pub/a:pull"] * 200)
    assert granted("alice", joined) == {"pub/a": ["pull"]}
    assert granted("", "repository:pub/a:pull,push", "registry:catalog:*") == {"pub/a": ["pull"]}


def test_a_pusher_deletes_nothing(site: Site) -> None:
    token = site.widest("alice", "alpha/app")
    child = site.manifest
    content = index((child, OCI_MANIFEST))
    assert site.put(token, "alpha/app", "all", content, OCI_INDEX).status == 201
    for target in ("manifests/v1", f"manifests/{sha256(child)}", f"blobs/{L1}", f"manifests/{sha256(content)}"):
        answer = site.ask("DELETE", f"/v2/alpha/app/{target}", token=token)
        assert answer.status == 401
        assert challenge_of(answer)["error"] == "insufficient_scope"
        assert site.event_of(answer)["outcome"] == "denied"
    assert site.ask("GET", "/v2/alpha/app/manifests/v1", token=token).body == child


def test_methods_are_what_they_are(site: Site) -> None:
    token = site.widest("dave", "alpha/app")
    for headers in ({"X-HTTP-Method-Override": "DELETE"}, {"X-Method-Override": "DELETE"}, {"X-HTTP-Method": "DELETE"}):
        assert site.ask("GET", "/v2/alpha/app/manifests/v1?_method=DELETE", token=token, headers=headers).status == 200
    for method in ("OPTIONS", "PROPFIND", "LOCK", "MOVE", "TRACE", "SEARCH"):
        answer = site.ask(method, "/v2/alpha/app/manifests/v1", token=token)
        assert answer.status in {400, 405}, method
        if answer.status == 405:
            assert answer.header("allow") == "DELETE, GET, HEAD, PUT" or set(answer.header("allow").split(", ")) == {
                "GET",
                "HEAD",
                "PUT",
                "DELETE",
            }
    for method in ("get", "Get", "CONNECT", "GET\t", "G E T", "XXXXXXXXXXXXXXXXXXXXXXXXXXXXX"):
        assert site.ask(method, "/v2/alpha/app/manifests/v1", token=token).status == 400, method
    assert site.ask("GET", "/v2/alpha/app/manifests/v1", token=token).status == 200


def test_catalog_shows_only_what_may_be_pulled_and_skips_nothing(site: Site) -> None:
    projects, grants = site.rooms.administration.projects, site.rooms.administration.grants
    for name in ("math", "math-voila"):
        site.run(projects.add_project(OPERATOR, name))
        site.run(grants.add_grant(OPERATOR, "carol", "pusher", name))
    names = ["math", "math-voila", "math-voila/x", "math/x", "math/x-y", "math/x/y"]
    for name in names:
        site.push_image(site.widest("carol", name), name, "0.1.2")
    catalog = site.token("carol", "registry:catalog:*")
    listed, last = [], ""
    for _ in range(20):
        answer = site.ask("GET", f"/v2/_catalog?n=1&last={quote(last, safe='')}", token=catalog)
        page = answer.json()["repositories"]
        if not page:
            break
        listed += page
        last = page[-1]
    assert [name for name in listed if name.startswith("math")] == sorted(names)
    assert not [name for name in listed if name.startswith("alpha")]
    assert listed == sorted(set(listed))
    for other in ("mallory", "auditor"):
        seen = site.ask("GET", "/v2/_catalog", token=site.token(other, "registry:catalog:*")).json()["repositories"]
        assert not [name for name in seen if not name.startswith("pub/")]
    assert (
        "alpha/app"
        in site.ask("GET", "/v2/_catalog", token=site.token("root", "registry:catalog:*")).json()["repositories"]
    )
    for token in (site.token(""), site.token("root"), site.token("", "registry:catalog:*"), ""):
        assert site.ask("GET", "/v2/_catalog", token=token).status == 401
    token = site.widest("carol", "math/x")
    for tag in ("0.1.20", "0.1.3", "0.1.2-1"):
        assert site.put(token, "math/x", tag, image(b"{}", b"a layer")).status == 201
    tags, last = [], ""
    while page := site.ask("GET", f"/v2/math/x/tags/list?n=1&last={last}", token=token).json()["tags"]:
        tags += page
        last = page[-1]
    assert tags == ["0.1.2", "0.1.2-1", "0.1.20", "0.1.3"]


def test_revoked_grant_ends_pulls_pushes_and_open_uploads_at_once(site: Site) -> None:
    grants = site.rooms.administration.grants
    name = site.name()
    site.run(grants.add_grant(OPERATOR, "mallory", "pusher", name))
    token = site.sign_in("mallory", "", f"repository:{name}:pull,push").json()["token"]
    content = site.push_image(token, name, "v1", b"layer of mallory")
    upload = site.begin(token, name)
    assert site.ask("PATCH", upload, token=token, body=b"12345").status == 202
    # A chunk is under way while the grant goes: it may end, but it counts for nothing.
    with site.connect() as wire:
        bearer = ("Authorization", f"Bearer {token}")
        wire.sendall(head("PATCH", upload, [bearer, ("Content-Length", "10")], "localhost"))
        wire.sendall(b"67890")
        site.run(grants.remove_grant(OPERATOR, "mallory", name))
        wire.sendall(b"abcde")
        late = read_answer(wire)
    assert late.status == 401
    assert challenge_of(late)["error"] == "invalid_token"
    for _ in range(4):
        for method, target in (
            ("PATCH", upload),
            ("PUT", f"{upload}?digest={sha256(b'12345')}"),
            ("GET", upload),
            ("DELETE", upload),
            ("GET", f"/v2/{name}/manifests/v1"),
            ("GET", f"/v2/{name}/blobs/{sha256(b'layer of mallory')}"),
            ("POST", f"/v2/{name}/blobs/uploads/"),
        ):
            answer = site.ask(method, target, token=token, body=b"more" if method in {"PATCH"} else None)
            assert answer.status == 401, (method, target)
            assert challenge_of(answer)["error"] == "invalid_token"
        assert site.put(token, name, "v2", content).status == 401
    site.run(grants.add_grant(OPERATOR, "mallory", "pusher", name))
    fresh = site.sign_in("mallory", "", f"repository:{name}:pull,push").json()["token"]
    answer = site.ask("GET", upload, token=fresh)
    assert (answer.status, answer.header("range")) == (204, "0-4")
    assert site.ask("PATCH", upload, token=fresh, body=b"67890").status == 202
    assert site.ask("PUT", f"{upload}?digest={sha256(b'1234567890')}", token=fresh).status == 201
    site.run(grants.remove_grant(OPERATOR, "mallory", name))


def test_mounting_tells_and_brings_nothing(site: Site) -> None:
    own = site.name("beta")
    token = site.widest("carol", own, "alpha/app")
    for query in (
        f"mount={L1}&from=alpha/app",
        f"mount={NOWHERE}&from=alpha/app",
        f"mount={L1}&from=alpha/zzz",
        f"mount={L1}&from=nowhere/zzz",
        f"mount={L1}",
        f"mount={L1}&from=",
        f"mount={L1}&from=../alpha/app",
        f"mount={L1}&from={own}",
        "mount=junk&from=alpha/app",
        f"from=alpha/app&mount={L1}&from={own}",
        f"mount={L1}&from=alpha%2Fapp",
    ):
        answer = site.ask("POST", f"/v2/{own}/blobs/uploads/?{query}", token=token)
        assert answer.status == 202, query
        assert [name for name, _ in answer.headers if name not in {"date", "x-request-id"}] == [
            name
            for name, _ in site.ask("POST", f"/v2/{own}/blobs/uploads/", token=token).headers
            if name not in {"date", "x-request-id"}
        ]
        assert site.ask("DELETE", answer.header("location"), token=token).status == 204
    assert site.ask("HEAD", f"/v2/{own}/blobs/{L1}", token=token).status == 404
    # A right that the token does not carry does not count, though its owner has it.
    grants = site.rooms.administration.grants
    site.run(grants.add_grant(OPERATOR, "carol", "puller", "alpha/app"))
    try:
        narrow = site.sign_in("carol", "", f"repository:{own}:pull,push").json()["token"]
        query = f"/v2/{own}/blobs/uploads/?mount={L1}&from=alpha/app"
        assert site.ask("POST", query, token=narrow).status == 202
        wide = site.sign_in("carol", "", f"repository:{own}:pull,push", "repository:alpha/app:pull").json()["token"]
    finally:
        site.run(grants.remove_grant(OPERATOR, "carol", "alpha/app"))
    assert site.ask("POST", query, token=wide).status == 202
    assert site.ask("HEAD", f"/v2/{own}/blobs/{L1}", token=token).status == 404


def test_naming_a_digest_gives_nothing_and_tells_nothing(site: Site) -> None:
    own = site.name("beta")
    token = site.widest("carol", own)
    config = site.push_blob(token, own, b"{}")
    assert config

    def refused(digest: str, size: int) -> Answer:
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(b"{}", CONFIG_TYPE),
            "layers": [{"mediaType": LAYER_TYPE, "digest": digest, "size": size}],
        }
        return site.put(token, own, "t", json.dumps(document).encode())

    known, random = refused(L1, len(SECRET_LAYER)), refused(NOWHERE, len(SECRET_LAYER))
    assert (known.status, known.code) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert same(known, random, (L1, NOWHERE))
    children = [
        site.put(token, own, "t", index((content, OCI_MANIFEST)), OCI_INDEX)
        for content in (site.manifest, image(b"{}", b"no such layer"))
    ]
    assert [each.code for each in children] == ["MANIFEST_BLOB_UNKNOWN"] * 2
    # Foreign layers need not exist: naming them must not make them readable.
    document = json.loads(image(b"{}"))
    document["layers"] = [{"mediaType": "application/vnd.x.foreign.y", "digest": L1, "size": len(SECRET_LAYER)}]
    assert site.put(token, own, "foreign", json.dumps(document).encode()).status == 201
    assert site.ask("GET", f"/v2/{own}/blobs/{L1}", token=token).status == 404
    assert site.ask("GET", f"/v2/{own}/manifests/{sha256(site.manifest)}", token=token).status == 404
    assert site.ask("GET", f"/v2/{own}/blobs/{sha256(site.manifest)}", token=token).status == 404
    subject = image(b"{}", subject=site.manifest)
    assert site.put(token, own, "about", subject).status == 201
    seen = site.ask("GET", f"/v2/alpha/app/referrers/{sha256(site.manifest)}", token=site.widest("alice", "alpha/app"))
    assert seen.json()["manifests"] == []
    upload = site.begin(token, own)
    assert site.ask("PUT", f"{upload}?digest={L1}", token=token).status == 400
    assert site.ask("POST", f"/v2/{own}/blobs/uploads/?digest={L1}", token=token, body=b"other").status == 400
    assert site.ask("HEAD", f"/v2/{own}/blobs/{L1}", token=token).status == 404


def test_content_deleted_in_one_project_lives_on_in_the_other(site: Site) -> None:
    one, other = site.name("alpha"), site.name("beta")
    mine, theirs = site.widest("dave", one), site.widest("carol", other)
    content = site.push_image(mine, one, "v1", b"shared layer")
    site.push_image(theirs, other, "v1", b"shared layer")
    layer = sha256(b"shared layer")
    assert site.ask("DELETE", f"/v2/{one}/blobs/{layer}", token=mine).status == 405
    for token, name in ((mine, one), (theirs, other)):
        assert [site.ask("GET", f"/v2/{name}/blobs/{layer}", token=token).status for _ in range(4)] == [200] * 4
    assert site.ask("DELETE", f"/v2/{one}/manifests/{sha256(content)}", token=mine).status == 202
    assert site.ask("DELETE", f"/v2/{one}/blobs/{layer}", token=mine).status == 202
    assert [site.ask("GET", f"/v2/{one}/blobs/{layer}", token=mine).status for _ in range(6)] == [404] * 6
    assert [site.ask("GET", f"/v2/{one}/manifests/v1", token=mine).status for _ in range(4)] == [404] * 4
    assert site.ask("GET", f"/v2/{other}/blobs/{layer}", token=theirs).body == b"shared layer"
    assert site.ask("GET", f"/v2/{other}/manifests/v1", token=theirs).body == content


def test_uploads_are_their_beginners_and_their_repositorys(site: Site) -> None:
    name, elsewhere = site.name(), site.name()
    alice = site.widest("alice", name, elsewhere)
    upload = site.begin(alice, name)
    assert site.ask("PATCH", upload, token=alice, body=b"first").status == 202
    number = upload.rpartition("/")[2]
    dave = site.widest("dave", name, elsewhere)
    root = site.widest("root", name, elsewhere)
    ghost = site.ask("GET", f"/v2/{name}/blobs/uploads/{uuid.uuid4()}", token=dave)
    assert (ghost.status, ghost.code) == (404, "BLOB_UPLOAD_UNKNOWN")
    for token, repository in ((dave, name), (root, name), (alice, elsewhere), (dave, elsewhere)):
        place = f"/v2/{repository}/blobs/uploads/{number}"
        assert same(site.ask("GET", place, token=token), ghost)
        assert site.ask("PATCH", place, token=token, body=b"stolen").status == 404
        assert site.ask("PUT", f"{place}?digest={sha256(b'first')}", token=token).status == 404
        assert site.ask("DELETE", place, token=token).status == 404
    for bent in (
        number.upper(), number[:-1], number + "0", number.replace("-", ""), "..", "%2e%2e", "a" * 200, "\u00e9",
        f"{number}%00", f"{number}%20", f"%20{number}", f"{number}%2f", "0" * 36, "%ff%fe",
    ):  # fmt: skip
        answer = site.ask("GET", f"/v2/{name}/blobs/uploads/{quote(bent, safe='%')}", token=alice)
        assert answer.status in {400, 404}, bent
    assert site.ask("GET", f"{upload}?_state=forged", token=alice).header("range") == "0-4"
    assert site.ask("PUT", f"{upload}?digest={sha256(b'first')}", token=alice).status == 201
    assert site.ask("GET", upload, token=alice).status == 404


def test_bodies_that_do_not_keep_their_length_leave_what_was_acknowledged(site: Site) -> None:
    name = site.name()
    token = site.widest("alice", name)
    upload = site.begin(token, name)
    bearer = ("Authorization", f"Bearer {token}")
    raw = head("PATCH", upload, [bearer, ("Content-Length", "10")], "localhost", close=False)
    with site.connect() as wire:
        # Ten bytes, and ten more that would be another request.
        wire.sendall(raw + b"0123456789" + b"abcdefghij" + b"\r\n\r\n")
        assert read_answer(wire).status in {202, 400}
    assert site.ask("GET", upload, token=token).header("range") == "0-9"
    with site.connect() as wire:
        wire.sendall(raw + b"abcde")
    for _ in range(50):
        answer = site.ask("GET", upload, token=token)
        assert answer.status == 204
        held = int(answer.header("range").removeprefix("0-")) + 1
        if held == 15:
            break
    assert held in {10, 15}
    rest = b"abcdefghij"[held - 10 :]
    for wrong in ("5-9", f"{held + 5}-{held + 9}", "x", "0-", "-5", "5-1", f"{held}-{10**30}"):
        answer = site.ask("PATCH", upload, token=token, body=b"zzzzz", headers={"Content-Range": wrong})
        assert answer.status in {400, 416}, wrong
    assert site.ask("PATCH", upload, token=token, body=rest).status == 202
    assert site.ask("PUT", f"{upload}?digest={sha256(b'0123456789abcdefghij')}", token=token).status == 201


def test_parallel_writers_of_one_upload_never_mix(site: Site) -> None:
    name = site.name()
    token = site.widest("alice", name)
    for _ in range(3):
        upload = site.begin(token, name)
        pieces = [bytes([65 + number]) * 100_000 for number in range(8)]
        with ThreadPoolExecutor(8) as pool:
            appended = [pool.submit(site.ask, "PATCH", upload, token=token, body=piece) for piece in pieces]
            answers = [each.result().status for each in appended]
        assert set(answers) <= {202, 409, 416}
        assert answers.count(202) >= 1
        assert site.ask("GET", upload, token=token).header("range") == f"0-{answers.count(202) * 100_000 - 1}"
        assert site.ask("DELETE", upload, token=token).status == 204
    upload, content = site.begin(token, name), b"x" * 300_000
    with ThreadPoolExecutor(8) as pool:
        target = f"{upload}?digest={sha256(content)}"
        finished = list(pool.map(lambda _: site.ask("PUT", target, token=token, body=content).status, range(8)))
    # Each that was answered 201 had sent it all.
    assert finished.count(201) >= 1
    assert set(finished) <= {201, 404, 409, 416}
    assert site.ask("GET", f"/v2/{name}/blobs/{sha256(content)}", token=token).body == content


def test_parallel_pushes_of_one_tag_leave_one_whole_winner(site: Site) -> None:
    name = site.name()
    token = site.widest("alice", name)
    layers = [f"layer {number}".encode() for number in range(50)]
    site.push_blob(token, name, b"{}")
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda layer: site.push_blob(token, name, layer), layers))
        contents = [image(b"{}", layer) for layer in layers] * 2
        answers = list(pool.map(lambda content: site.put(token, name, "v1", content), contents))
    assert {answer.status for answer in answers} == {201}
    winner = site.ask("GET", f"/v2/{name}/manifests/v1", token=token)
    assert winner.body in contents
    moves = site.events(repository=name, kind="manifest.push")
    assert len(moves) == 100
    # Each says what the tag was before: the chain of moves has no gap.
    for before, after in pairwise(moves):
        assert after["before"]["tags"].get("v1") == before["after"]["tags"]["v1"]
    assert moves[-1]["after"]["tags"]["v1"] == sha256(winner.body)


def test_open_uploads_are_bounded_by_account(site: Site) -> None:
    name = site.name("alpha")
    token, other = site.widest("dave", name), site.widest("alice", name)
    statuses = [site.ask("POST", f"/v2/{name}/blobs/uploads/", token=token).status for _ in range(UPLOADS + 5)]
    assert statuses.count(202) <= UPLOADS
    assert statuses[-1] == 429
    assert site.ask("POST", f"/v2/{name}/blobs/uploads/?mount={L1}&from=alpha/app", token=token).status == 429
    whole = site.ask("POST", f"/v2/{name}/blobs/uploads/?digest={NOWHERE}", token=token, body=b"whole")
    assert whole.status == 429
    assert [event["kind"] for event in site.events_of(whole)] == ["blob.push"], "one request, one event"
    assert site.ask("POST", f"/v2/{name}/blobs/uploads/", token=other).status == 202


def test_broken_off_single_requests_leave_no_upload_behind(site: Site) -> None:
    name = site.name("beta")
    token = site.widest("carol", name)
    bearer = ("Authorization", f"Bearer {token}")
    target = f"/v2/{name}/blobs/uploads/?digest={NOWHERE}"
    for _ in range(UPLOADS + 5):
        with site.connect() as wire:
            wire.sendall(head("POST", target, [bearer, ("Content-Length", "10")], "localhost") + b"half")
    for _ in range(100):
        # The gateway may need a moment to see that its clients are gone.
        answer = site.ask("POST", target, token=token, body=b"x")
        if answer.code == "DIGEST_INVALID":
            break
        time.sleep(0.1)
    assert answer.code == "DIGEST_INVALID"
    for _ in range(100):
        if not open_uploads(site, name):
            break
        time.sleep(0.1)
    assert open_uploads(site, name) == 0


def open_uploads(site: Site, name: str) -> int:
    count = select(func.count()).where(uploads.c.repository == name)
    return int(site.rooms.database.read_now(lambda connection: connection.execute(count).scalar_one()))
