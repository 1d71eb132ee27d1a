"""`/v2/NAME/manifests/REFERENCE`: bytes in, the same bytes out, under the type they came with."""

from __future__ import annotations

import json

import pytest

from gateway.oci.media import DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, OCI_INDEX, OCI_MANIFEST
from tests.house import OPERATOR
from tests.protocol.harness import (
    CONFIG_TYPE,
    LAYER_TYPE,
    World,
    challenge_of,
    descriptor,
    image,
    index,
    limited,
    sha256,
    sha512,
)


def test_a_push_by_tag_tells_the_digest_and_where_it_is(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    content = world.push_image(token, name)
    with world.watching() as seen:
        answer = world.push_manifest(token, name, "v1", content)
    assert answer.status == 201
    assert answer.header("docker-content-digest") == sha256(content)
    assert answer.header("location") == f"/v2/{name}/manifests/{sha256(content)}"
    [event] = seen
    assert (event["kind"], event["outcome"], event["reference"]) == ("manifest.push", "allowed", "v1")
    assert (event["digest"], event["repository"], event["status"]) == (sha256(content), name, 201)


def test_get_and_head_agree_by_tag_and_by_digest(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    content = world.push_image(token, name, "v1")
    digest = sha256(content)
    for reference in ("v1", digest):
        got, looked = (
            world.ask(method, f"/v2/{name}/manifests/{reference}", token=token) for method in ("GET", "HEAD")
        )
        assert got.body == content
        assert got.told == looked.told
        assert got.header("content-type") == OCI_MANIFEST
        assert got.header("content-length") == str(len(content))
        assert got.header("docker-content-digest") == digest
        assert got.header("etag") == f'"{digest}"'
        assert ("immutable" in got.header("cache-control")) == (reference == digest)
        assert ("no-cache" in got.header("cache-control")) == (reference == "v1")


@pytest.mark.parametrize("accept", [(), ("*/*",), (DOCKER_MANIFEST,), (DOCKER_MANIFEST, DOCKER_MANIFEST_LIST)])
def test_what_is_stored_is_sent_whatever_is_accepted(world: World, accept: tuple[str, ...]) -> None:
    name = world.name()
    token = world.widest("alice", name)
    content = world.push_image(token, name, "v1")
    headers = [("Accept", value) for value in accept] + [("Accept-Encoding", "gzip")]
    answer = world.ask("GET", f"/v2/{name}/manifests/v1", token=token, headers=headers)
    assert (answer.status, answer.body, answer.header("content-encoding")) == (200, content, "")


def test_a_pull_is_recorded_and_a_look_is_not(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    content = world.push_image(token, name, "v1")
    with world.watching() as seen:
        world.ask("HEAD", f"/v2/{name}/manifests/v1", token=token)
        world.ask("HEAD", f"/v2/{name}/manifests/v2", token=token)
        world.ask("GET", f"/v2/{name}/manifests/v1", token=token)
    [event] = seen
    assert (event["kind"], event["reference"], event["digest"]) == ("manifest.pull", "v1", sha256(content))


@pytest.mark.parametrize("form", ['"{}"', "{}", 'W/"{}"', '"sha256:0", "{}"', "*"])
def test_a_manifest_one_has_is_not_sent_again(world: World, form: str) -> None:
    name = world.name()
    token = world.widest("alice", name)
    content = world.push_image(token, name, "v1")
    headers = {"If-None-Match": form.format(sha256(content))}
    for method in ("GET", "HEAD"):
        answer = world.ask(method, f"/v2/{name}/manifests/v1", token=token, headers=headers)
        assert (answer.status, answer.body, answer.header("etag")) == (304, b"", f'"{sha256(content)}"')


def test_a_manifest_one_has_not_is_sent(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    content = world.push_image(token, name, "v1")
    headers = {"If-None-Match": f'"{sha256(b"other")}"'}
    assert world.ask("GET", f"/v2/{name}/manifests/v1", token=token, headers=headers).body == content


def test_unknown_manifests_are_told_by_the_code_clients_know(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    world.push_image(token, name, "v1")
    for reference in ("v2", sha256(b"x"), sha512(b"x")):
        answer = world.ask("GET", f"/v2/{name}/manifests/{reference}", token=token)
        assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")
        looked = world.ask("HEAD", f"/v2/{name}/manifests/{reference}", token=token)
        assert (looked.status, looked.body, looked.header("content-length")) == (404, b"", "0")


def test_a_blob_is_no_manifest_and_a_manifest_no_blob(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    content = world.push_image(token, name, "v1", layer=b"a layer of its own")
    layer = sha256(b"a layer of its own")
    assert world.ask("GET", f"/v2/{name}/manifests/{layer}", token=token).status == 404
    assert world.ask("GET", f"/v2/{name}/blobs/{sha256(content)}", token=token).status in {200, 404}


def test_a_push_by_a_digest_that_is_not_the_bytes_own_is_refused(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    content = world.push_image(token, name)
    for digest in (sha256(b"x"), sha512(b"x")):
        answer = world.push_manifest(token, name, digest, content)
        assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


def test_a_malformed_digest_is_refused(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    answer = world.push_manifest(token, name, "sha256:baddigeststring", image(b"{}"))
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


@pytest.mark.parametrize("tag", [".a", "-a", "a" * 129, "@", "a%20b", "<script>", "%0a", "%00", ""])
def test_a_tag_that_is_none_is_refused_without_being_repeated(world: World, tag: str) -> None:
    name = world.name()
    answer = world.ask("GET", f"/v2/{name}/manifests/{tag}", token=world.widest("alice", name))
    assert (answer.status, answer.code, answer.header("content-type")) == (400, "TAG_INVALID", "application/json")
    assert b"<script>" not in answer.body


def test_a_sha512_digest_chooses_its_algorithm_and_is_echoed(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    content = world.push_image(token, name)
    digest = sha512(content)
    answer = world.push_manifest(token, name, digest, content)
    assert (answer.status, answer.header("docker-content-digest")) == (201, digest)
    assert answer.header("location") == f"/v2/{name}/manifests/{digest}"
    got = world.ask("GET", f"/v2/{name}/manifests/{digest}", token=token)
    assert (got.body, got.header("docker-content-digest")) == (content, digest)


def test_tags_may_be_named_with_a_push_by_digest(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    content = world.push_image(token, name)
    tags = [f"t{n}" for n in range(10)]
    target = f"{sha256(content)}?" + "&".join(f"tag={tag}" for tag in tags)
    answer = world.push_manifest(token, name, target, content)
    assert (answer.status, answer.header("oci-tag")) == (201, ", ".join(tags))
    for tag in tags:
        assert world.ask("GET", f"/v2/{name}/manifests/{tag}", token=token).body == content
    assert world.push_manifest(token, name, "v1?tag=v2", content).status == 400
    assert world.push_manifest(token, name, f"{sha256(content)}?tag=.bad", content).code == "TAG_INVALID"


def test_a_subject_is_told_back_even_if_it_is_not_here(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    world.push_image(token, name)
    subject = image(b"{}", b"elsewhere")
    for content, media_type in (
        (image(b"{}", subject=subject), OCI_MANIFEST),
        (index(subject=descriptor(subject, OCI_MANIFEST)), OCI_INDEX),
    ):
        answer = world.push_manifest(token, name, sha256(content), content, media_type)
        assert (answer.status, answer.header("oci-subject")) == (201, sha256(subject))


@pytest.mark.parametrize(
    ("content", "media_type", "code"),
    [
        (b"not json", OCI_MANIFEST, "MANIFEST_INVALID"),
        (b"[" * 5000, OCI_MANIFEST, "MANIFEST_INVALID"),
        (image(b"{}"), "", "MANIFEST_INVALID"),
        (image(b"{}"), "application/json", "MANIFEST_INVALID"),
        (image(b"{}"), "text/html", "MANIFEST_INVALID"),
        (image(b"{}"), DOCKER_MANIFEST, "MANIFEST_INVALID"),
        (image(b"{}"), "application/vnd.docker.distribution.manifest.v1+prettyjws", "MANIFEST_INVALID"),
        (image(b"{}", manifests=[]), OCI_MANIFEST, "MANIFEST_INVALID"),
        (image(b"{}", b"never pushed anywhere"), OCI_MANIFEST, "MANIFEST_BLOB_UNKNOWN"),
        (index((b"never pushed", OCI_MANIFEST)), OCI_INDEX, "MANIFEST_BLOB_UNKNOWN"),
        (b"", OCI_MANIFEST, "MANIFEST_INVALID"),
    ],
)
def test_a_manifest_that_is_none_is_refused_recorded_and_leaves_nothing(
    world: World, content: bytes, media_type: str, code: str
) -> None:
    name = world.name()
    token = world.widest("alice", name)
    world.push_blob(token, name, b"{}")
    with world.watching() as seen:
        answer = world.push_manifest(token, name, "v1", content, media_type)
    assert (answer.status, answer.code) == (400, code)
    assert [(event["kind"], event["outcome"]) for event in seen] == [("manifest.push", "failed")]
    assert world.ask("GET", f"/v2/{name}/manifests/v1", token=token).status == 404


def test_parameters_of_the_type_are_ignored(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    content = world.push_image(token, name)
    assert world.push_manifest(token, name, "v1", content, f"{OCI_MANIFEST}; charset=utf-8").status == 201
    got = world.ask("GET", f"/v2/{name}/manifests/v1", token=token)
    assert got.header("content-type") == OCI_MANIFEST


@pytest.mark.parametrize("size", [3_900_000])
def test_a_manifest_of_nearly_four_mebibytes_is_taken(world: World, size: int) -> None:
    name = world.name()
    token = world.widest("alice", name)
    world.push_blob(token, name, b"{}")
    content = image(b"{}", annotations={f"k{n}": "x" * 3900 for n in range(size // 3930)})
    assert world.push_manifest(token, name, "big", content).status == 201
    assert world.ask("GET", f"/v2/{name}/manifests/big", token=token).body == content


def test_a_manifest_over_the_limit_is_413_before_it_is_read_or_once_it_shows(world: World) -> None:
    name = world.name()
    small = limited(world, manifest_bytes=1000)
    token = world.widest("alice", name)
    promised = small.ask(
        "PUT",
        f"/v2/{name}/manifests/v1",
        token=token,
        headers={"Content-Length": str(10**15), "Content-Type": OCI_MANIFEST},
    )
    assert (promised.status, promised.code) == (413, "SIZE_INVALID")
    pieces = [b" " * 600, b" " * 600, b" " * 600]
    answer = small.ask("PUT", f"/v2/{name}/manifests/v1", token=token, body=pieces)
    assert (answer.status, answer.code) == (413, "SIZE_INVALID")


def test_an_encoded_manifest_is_refused(world: World) -> None:
    name = world.name()
    headers = {"Content-Encoding": "gzip", "Content-Type": OCI_MANIFEST}
    token = world.widest("alice", name)
    assert world.ask("PUT", f"/v2/{name}/manifests/v1", token=token, body=b"x", headers=headers).status == 415


def test_children_of_an_index_may_be_manifests_or_blobs(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    child = world.push_image(token, name)
    layer = b"a cached layer"
    world.push_blob(token, name, layer)
    content = index((child, OCI_MANIFEST), (layer, LAYER_TYPE))
    assert world.push_manifest(token, name, "multi", content, OCI_INDEX).status == 201
    assert world.ask("GET", f"/v2/{name}/manifests/{sha256(child)}", token=token).body == child


def test_layers_that_are_not_to_be_distributed_need_not_be_here(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    world.push_blob(token, name, b"{}")
    foreign = descriptor(b"elsewhere", "application/vnd.oci.image.layer.nondistributable.v1.tar")
    content = json.dumps(
        {
            "schemaVersion": 2,
            "config": descriptor(b"{}", CONFIG_TYPE),
            "layers": [{**foreign, "urls": ["http://169.254.169.254/"]}],
        }
    ).encode()
    assert world.push_manifest(token, name, "win", content).status == 201


def test_a_blob_of_another_repository_is_as_unknown_as_one_that_is_nowhere(world: World) -> None:
    mine, theirs = world.name("beta"), world.name()
    secret = b"a secret layer"
    world.push_blob(world.widest("alice", theirs), theirs, secret)
    token = world.widest("carol", mine)
    world.push_blob(token, mine, b"{}")
    known = world.push_manifest(token, mine, "t", image(b"{}", secret))
    unknown = world.push_manifest(token, mine, "t", image(b"{}", b"nowhere at all"))
    assert known.code == unknown.code == "MANIFEST_BLOB_UNKNOWN"
    text = known.body.decode().replace(sha256(secret), "D")
    assert text == unknown.body.decode().replace(sha256(b"nowhere at all"), "D")


def test_deleting_a_tag_leaves_its_manifest_and_its_other_tags(world: World) -> None:
    name = world.name()
    token = world.widest("dave", name)
    content = world.push_image(token, name, "v1", "v2")
    with world.watching() as seen:
        assert world.ask("DELETE", f"/v2/{name}/manifests/v1", token=token).status == 202
    [event] = seen
    assert (event["kind"], event["reference"], event["outcome"]) == ("tag.delete", "v1", "allowed")
    assert world.ask("GET", f"/v2/{name}/manifests/v1", token=token).status == 404
    assert world.ask("GET", f"/v2/{name}/manifests/v2", token=token).status == 200
    assert world.ask("GET", f"/v2/{name}/manifests/{sha256(content)}", token=token).status == 200
    assert world.ask("DELETE", f"/v2/{name}/manifests/v1", token=token).code == "MANIFEST_UNKNOWN"


def test_deleting_a_digest_takes_all_its_tags_at_once(world: World) -> None:
    name = world.name()
    token = world.widest("dave", name)
    digest = sha256(world.push_image(token, name, "v1", "v2"))
    with world.watching() as seen:
        assert world.ask("DELETE", f"/v2/{name}/manifests/{digest}", token=token).status == 202
    assert "manifest.delete" in [event["kind"] for event in seen]
    for reference in ("v1", "v2", digest):
        assert world.ask("HEAD", f"/v2/{name}/manifests/{reference}", token=token).status == 404
    assert world.ask("DELETE", f"/v2/{name}/manifests/{digest}", token=token).code == "MANIFEST_UNKNOWN"


def test_a_pusher_cannot_delete_anything(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    content = world.push_image(token, name, "v1")
    for target in ("manifests/v1", f"manifests/{sha256(content)}", f"blobs/{sha256(b'{}')}"):
        answer = world.ask("DELETE", f"/v2/{name}/{target}", token=token)
        told = challenge_of(answer)
        assert (answer.status, told["error"]) == (401, "insufficient_scope")
        assert told["scope"] == f"repository:{name}:delete"
        assert f"delete on {name}" in told["error_description"]
    assert world.ask("GET", f"/v2/{name}/manifests/v1", token=token).status == 200


def test_a_revoked_right_is_gone_from_tokens_that_carry_it(world: World) -> None:
    name = world.name("beta")
    world.push_image(world.widest("carol", name), name, "v1")
    world.house.run(world.acts.grants.add_grant(OPERATOR, "mallory", "puller", "beta"))
    token = world.widest("mallory", name)
    assert world.ask("GET", f"/v2/{name}/manifests/v1", token=token).status == 200
    world.house.run(world.acts.grants.remove_grant(OPERATOR, "mallory", "beta"))
    answer = world.ask("GET", f"/v2/{name}/manifests/v1", token=token)
    assert challenge_of(answer)["error"] == "invalid_token"


def test_without_the_right_to_pull_what_exists_and_what_does_not_are_one_answer(world: World) -> None:
    name = world.name()
    world.push_image(world.widest("alice", name), name, "v1")
    token = world.widest("carol", name, "alpha/none", "nobody/none")
    for method in ("GET", "HEAD"):
        answers = [
            world.ask(method, f"/v2/{target}/manifests/{tag}", token=token)
            for target in (name, "alpha/none", "nobody/none")
            for tag in ("v1", "v2")
        ]
        shapes = set()
        for target, answer in zip([t for t in (name, "alpha/none", "nobody/none") for _ in "12"], answers, strict=True):
            headers = {
                key: value.replace(target, "NAME") for key, value in answer.told.items() if key != "content-length"
            }
            shapes.add((answer.status, answer.body.decode().replace(target, "NAME"), str(headers)))
        assert len(shapes) == 1
