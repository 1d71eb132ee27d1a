"""What clients are told when a rule holds them off: status, code, message, and what the trail says of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.engine.embedded.assembly import embedded
from tests.house import OPERATOR
from tests.protocol.harness import Answer, World, image, limited, sha256


def ruled(world: World, **rules: Any) -> str:
    """A new project with *rules*; answers the name of a repository in it, for `root` to use."""
    name = f"ruled{next(world.numbers)}"
    world.house.run(world.acts.projects.add_project(OPERATOR, name))
    if rules:
        rule(world, name, **rules)
    return f"{name}/ui"


def rule(world: World, repository: str, **rules: Any) -> None:
    project = repository.partition("/")[0]
    world.house.run(world.acts.projects.set_project(OPERATOR, project, **rules))


def told(answer: Answer) -> str:
    [error] = answer.json()["errors"]
    return str(error["message"])


def denied(answer: Answer, *words: str) -> bool:
    return (answer.status, answer.code) == (403, "DENIED") and all(word in told(answer) for word in words)


def uploads_of(world: World, repository: str) -> list[str]:
    def look(connection: Any) -> list[str]:
        found = connection.exec_driver_sql("SELECT id, repository FROM uploads").all()
        return [row[0] for row in found if row[1] == repository]

    return world.house.database.read_now(look)


def test_a_whole_blob_that_does_not_fit_is_refused_before_it_is_read(world: World) -> None:
    name = ruled(world, quota_bytes=100)
    token = world.widest("root", name)
    with world.watching() as seen:
        answer = world.ask(
            "POST",
            f"/v2/{name}/blobs/uploads/?digest={sha256(b'x' * 101)}",
            token=token,
            body=b"x",
            cut=True,
            headers={"Content-Length": "101"},
        )
    assert denied(answer, "quota of project", "is 100 bytes and 0 bytes are used: 101 bytes more", "ask an owner")
    assert answer.json()["errors"][0]["detail"] == {"quota_bytes": 100, "used_bytes": 0, "wanted_bytes": 101}
    assert [(event["kind"], event["outcome"], event["reason"]) for event in seen] == [
        ("blob.push", "denied", "quota_exceeded")
    ]
    assert uploads_of(world, name) == []
    assert world.push_blob(token, name, b"x" * 100) == sha256(b"x" * 100)


def test_nothing_is_begun_in_a_full_project_but_what_it_holds_is_taken_again(world: World) -> None:
    name = ruled(world, quota_bytes=100)
    token = world.widest("root", name, f"{name}/other")
    world.push_blob(token, name, b"x" * 100)
    with world.watching() as seen:
        answer = world.ask("POST", f"/v2/{name}/blobs/uploads/", token=token)
    assert denied(answer, "nothing more fits")
    assert [(event["kind"], event["reason"]) for event in seen] == [("upload.begin", "quota_exceeded")]
    world.push_blob(token, f"{name}/other", b"x" * 100)
    mounted = world.ask(
        "POST",
        f"/v2/{name}/third/blobs/uploads/?mount={sha256(b'x' * 100)}&from={name}",
        token=world.widest("root", name, f"{name}/third"),
    )
    assert mounted.status == 201


def test_an_upload_that_does_not_fit_in_the_end_is_refused_and_gone(world: World) -> None:
    name = ruled(world, quota_bytes=100)
    token = world.widest("root", name)
    location = world.begin(token, name)
    assert world.ask("PATCH", location, token=token, body=[b"x" * 60, b"x" * 60]).status == 202
    with world.watching() as seen:
        answer = world.ask("PUT", f"{location}?digest={sha256(b'x' * 120)}", token=token)
    assert denied(answer, "120 bytes more do not fit")
    assert [(event["kind"], event["outcome"], event["reason"]) for event in seen] == [
        ("blob.push", "denied", "quota_exceeded")
    ]
    assert uploads_of(world, name) == []
    assert world.ask("GET", location, token=token).status == 404


def test_a_last_chunk_of_unknown_length_is_judged_when_all_of_it_has_come(world: World) -> None:
    name = ruled(world, quota_bytes=100)
    token = world.widest("root", name)
    location = world.begin(token, name)
    answer = world.ask("PUT", f"{location}?digest={sha256(b'x' * 120)}", token=token, body=[b"x" * 60, b"x" * 60])
    assert denied(answer, "120 bytes more do not fit")
    assert world.ask("HEAD", f"/v2/{name}/blobs/{sha256(b'x' * 120)}", token=token).status == 404
    assert uploads_of(world, name) == []


def test_a_whole_blob_of_unknown_length_that_does_not_fit_in_the_end_leaves_no_upload(world: World) -> None:
    name = ruled(world, quota_bytes=100)
    token = world.widest("root", name)
    path = f"/v2/{name}/blobs/uploads/?digest={sha256(b'x' * 120)}"
    with world.watching() as seen:
        answer = world.ask("POST", path, token=token, body=[b"x" * 60, b"x" * 60])
    assert denied(answer, "120 bytes more do not fit")
    assert [(event["kind"], event["outcome"], event["reason"]) for event in seen] == [
        ("blob.push", "denied", "quota_exceeded")
    ]
    assert uploads_of(world, name) == []


def test_a_stream_is_stopped_when_it_has_become_too_long(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.registry.uploads._ASKED_BYTES", 50)
    name = ruled(world, quota_bytes=100)
    token = world.widest("root", name)
    location = world.begin(token, name)
    answer = world.ask("PATCH", location, token=token, body=[b"x" * 60] * 50, cut=True)
    assert denied(answer, "120 bytes more do not fit")
    assert world.ask("GET", location, token=token).header("range") == "0-0"


def test_a_mount_that_does_not_fit_is_refused_and_becomes_no_upload(world: World) -> None:
    name = ruled(world, quota_bytes=100)
    source = ruled(world)
    token = world.widest("root", name, source)
    world.push_blob(token, source, b"y" * 101)
    with world.watching() as seen:
        answer = world.ask("POST", f"/v2/{name}/blobs/uploads/?mount={sha256(b'y' * 101)}&from={source}", token=token)
    assert denied(answer, "101 bytes more do not fit")
    assert [(event["kind"], event["reason"]) for event in seen if event["outcome"] == "denied"] == [
        ("blob.mount", "quota_exceeded")
    ]
    assert uploads_of(world, name) == []


def test_a_manifest_that_does_not_fit_is_refused_until_there_is_room(world: World) -> None:
    name = ruled(world)
    token = world.widest("root", name)
    world.push_image(token, name, "v1")
    detail = world.house.run(world.acts.projects.show_project(OPERATOR, name.partition("/")[0]))
    assert detail.project.used_bytes == detail.size_bytes
    rule(world, name, quota_bytes=detail.size_bytes)
    content = image(b"{}", b"a layer", annotations={"n": "2"})
    answer = world.push_manifest(token, name, "v2", content)
    assert denied(answer, "more do not fit")
    assert world.ask("DELETE", f"/v2/{name}/manifests/v1", token=token).status == 202
    assert denied(world.push_manifest(token, name, "v2", content))
    rule(world, name, unlimited=True)
    assert world.push_manifest(token, name, "v2", content).status == 201


def test_an_immutable_tag_answers_with_its_pattern(world: World) -> None:
    name = ruled(world, immutable=["v*"])
    token = world.widest("root", name)
    content = world.push_image(token, name, "v1")
    assert world.push_manifest(token, name, "v1", content).status == 201
    other = image(b"{}", b"a layer", annotations={"n": "2"})
    by_digest = f"/v2/{name}/manifests/{sha256(content)}"
    with world.watching() as seen:
        answers = [
            world.push_manifest(token, name, "v1", other),
            world.push_manifest(token, name, f"{sha256(other)}?tag=latest&tag=v1", other),
            world.ask("DELETE", f"/v2/{name}/manifests/v1", token=token),
            world.ask("DELETE", by_digest, token=token),
        ]
    for answer in answers:
        assert denied(answer, f"Tag v1 of {name} is immutable (pattern v*)", "owner")
        assert answer.json()["errors"][0]["detail"] == {"tag": "v1", "pattern": "v*"}
    assert [(event["kind"], event["outcome"], event["reason"]) for event in seen] == [
        ("manifest.push", "denied", "immutable_tag"),
        ("manifest.push", "denied", "immutable_tag"),
        ("tag.delete", "denied", "immutable_tag"),
        ("manifest.delete", "denied", "immutable_tag"),
    ]
    assert world.ask("HEAD", f"/v2/{name}/manifests/latest", token=token).status == 404
    assert world.ask("GET", f"/v2/{name}/manifests/v1", token=token).body == content
    assert world.push_manifest(token, name, "V1", other).status == 201


@pytest.mark.parametrize("whole", [False, True])
def test_read_only_tells_why_and_lets_pulls_and_logins_be(world: World, whole: bool) -> None:
    name = ruled(world)
    token = world.widest("root", name)
    content = world.push_image(token, name, "v1")
    location = world.begin(token, name)
    if whole:
        world.house.run(world.acts.read_only.turn_on(OPERATOR, "a new disk"))
        whose = "The gateway is read-only: a new disk."
    else:
        rule(world, name, read_only="a new disk")
        whose = f"Project {name.partition('/')[0]} is read-only: a new disk."
    layer = sha256(b"a layer")
    token = world.widest("root", name)
    try:
        with world.watching() as seen:
            answers = [
                world.ask("POST", f"/v2/{name}/blobs/uploads/", token=token),
                world.ask("POST", f"/v2/{name}/blobs/uploads/?digest={sha256(b'z')}", token=token, body=b"z"),
                world.ask(
                    "POST",
                    f"/v2/{name}/x/blobs/uploads/?mount={layer}&from={name}",
                    token=world.widest("root", name, f"{name}/x"),
                ),
                world.ask("PATCH", location, token=token, body=b"z"),
                world.ask("PUT", f"{location}?digest={sha256(b'z')}", token=token, body=b"z"),
                world.push_manifest(token, name, "v2", content),
                world.ask("DELETE", f"/v2/{name}/manifests/v1", token=token),
                world.ask("DELETE", f"/v2/{name}/manifests/{sha256(content)}", token=token),
                world.ask("DELETE", f"/v2/{name}/blobs/{layer}", token=token),
            ]
        assert [denied(answer, whose) for answer in answers] == [True] * len(answers)
        outcomes = [(event["outcome"], event["reason"]) for event in seen if event["outcome"] != "allowed"]
        assert outcomes == [("denied", "read_only")] * len(answers)
        assert world.ask("GET", f"/v2/{name}/manifests/v1", token=token).body == content
        assert world.ask("GET", f"/v2/{name}/blobs/{layer}", token=token).body == b"a layer"
        assert world.ask("DELETE", location, token=token).status == 204
        world.house.run(world.acts.projects.add_project(OPERATOR, f"added{next(world.numbers)}"))
    finally:
        world.house.run(world.acts.read_only.turn_off(OPERATOR))
    rule(world, name, read_only="")
    assert world.push_manifest(token, name, "v2", content).status == 201


def test_nobody_learns_of_a_rule_who_may_not_push(world: World) -> None:
    name = ruled(world, read_only="a secret plan", quota_bytes=0)
    answer = world.ask("POST", f"/v2/{name}/blobs/uploads/", token=world.widest("bob", name))
    assert answer.status == 401
    assert b"secret" not in answer.body


def test_a_disk_that_is_nearly_full_takes_no_uploads_and_all_else(world: World) -> None:
    name = ruled(world)
    token = world.widest("root", name)
    content = world.push_image(token, name, "v1")
    location = world.begin(token, name)
    full = limited(world, engine=embedded(world.house.data, world.house.database, free_bytes=2**60))
    with world.watching() as seen:
        answers = [
            full.ask("POST", f"/v2/{name}/blobs/uploads/", token=token),
            full.ask("POST", f"/v2/{name}/blobs/uploads/?digest={sha256(b'z')}", token=token, body=b"z"),
            full.ask("PATCH", location, token=token, body=b"z"),
            full.ask("PUT", f"{location}?digest={sha256(b'z')}", token=token, body=b"z"),
        ]
    for answer in answers:
        assert (answer.status, answer.code) == (507, "UNAVAILABLE")
        assert "disk is nearly full" in told(answer)
    assert {(event["outcome"], event["reason"]) for event in seen} == {("failed", "insufficient_storage")}
    assert full.ask("GET", f"/v2/{name}/manifests/v1", token=token).body == content
    assert full.push_manifest(token, name, "v2", content).status == 201
    assert full.ask("DELETE", f"/v2/{name}/manifests/v1", token=token).status == 202
    assert full.ask("DELETE", location, token=token).status == 204


def test_a_stream_is_stopped_when_the_disk_fills_up_and_gives_its_room_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.registry.uploads._ASKED_BYTES", 50)
    name = ruled(world)
    token = world.widest("root", name)
    location = world.begin(token, name)
    assert world.ask("PATCH", location, token=token, body=b"x" * 10).status == 202
    engine = embedded(world.house.data, world.house.database, free_bytes=2**60)
    asked: list[int] = []

    async def admit(repository: Any, **sizes: Any) -> None:
        asked.append(sizes["held_bytes"])
        if len(asked) > 2:
            await engine.admit(repository, **sizes)

    full = limited(world, engine=replace(engine, admit=admit))
    answer = full.ask("PATCH", location, token=token, body=[b"x" * 60] * 9, cut=True)
    assert answer.status == 507
    assert asked == [10, 70, 130]
    spool = next((world.house.data / "uploads").glob(f"*{location.rpartition('/')[2]}*"))
    assert spool.stat().st_size == 10
    assert world.ask("GET", location, token=token).header("range") == "0-9"
