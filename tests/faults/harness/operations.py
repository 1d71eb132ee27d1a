"""What clients do over HTTP, one write at a time: prepared, done once while it may be struck, and done again after."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.oci.media import OCI_INDEX, OCI_MANIFEST
from tests.faults.harness.journal import GONE, Acknowledged, Noun, Thing
from tests.faults.harness.site import REPOSITORIES, Site
from tests.services.wire import Answer, with_digest

HERE, THERE = REPOSITORIES[0], REPOSITORIES[1]
CONFIG = b"{}"


class Act(Protocol):
    """One write, prepared; called once while it may be struck, and once more by a client that tries again."""

    def __call__(self, *, again: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class Operation:
    """A kind of write; *prepare* makes the one with a number. *command* says that a process of its own does it."""

    name: str
    prepare: Callable[[Site, int], Act]
    command: bool = False


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def content_of(number: int, size_bytes: int = 3000) -> bytes:
    """Bytes that no other number has."""
    return hashlib.sha256(f"blob {number}".encode()).digest() * (size_bytes // 32 + 1)


def image_of(number: int, layer: bytes) -> bytes:
    """A manifest that no other number has."""
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(CONFIG), "size": len(CONFIG)}
    kind = "application/vnd.oci.image.layer.v1.tar+gzip"
    layers = [{"mediaType": kind, "digest": sha256(layer), "size": len(layer)}]
    fields = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers}
    return json.dumps({**fields, "annotations": {"number": str(number)}}).encode()


# the steps of clients, each of which says in the journal what it is about to do and what was acknowledged


def begin(site: Site, repository: str = HERE) -> str:
    location = site.client.ask("POST", f"/v2/{repository}/blobs/uploads/", 202).location
    site.journal.acknowledges(Thing(Noun.UPLOAD, repository, location), "0")
    return location


def append(site: Site, location: str, content: bytes, sent: int = 0) -> None:
    thing = Thing(Noun.UPLOAD, HERE, location)
    site.journal.intends(thing, str(sent + len(content)))
    headers = {"Content-Range": f"{sent}-{sent + len(content) - 1}"}
    site.client.ask("PATCH", location, 202, body=content, headers=headers)
    site.journal.acknowledges(thing, str(sent + len(content)))


def finish(site: Site, location: str, content: bytes, body: bytes | None = None, repository: str = HERE) -> None:
    digest = sha256(content)
    upload, blob = Thing(Noun.UPLOAD, repository, location), Thing(Noun.BLOB, repository, digest)
    site.journal.intends(upload, GONE)
    site.journal.intends(blob, digest)
    answer = site.client.ask("PUT", with_digest(location, digest), 201, body=body)
    site.journal.acknowledges(blob, digest, _audited(answer, "blob.push"))
    site.journal.observes(upload, GONE)


def push_blob(site: Site, content: bytes, repository: str = HERE) -> None:
    """As clients do: what is there is not sent again."""
    digest = sha256(content)
    if site.client.ask("HEAD", f"/v2/{repository}/blobs/{digest}", 200, 404).status == 200:
        site.journal.observes(Thing(Noun.BLOB, repository, digest), digest)
        return
    finish(site, begin(site, repository), content, content, repository)


def push_whole(site: Site, content: bytes) -> None:
    digest = sha256(content)
    blob = Thing(Noun.BLOB, HERE, digest)
    site.journal.intends(blob, digest)
    answer = site.client.ask("POST", f"/v2/{HERE}/blobs/uploads/?digest={digest}", 201, body=content)
    site.journal.acknowledges(blob, digest, _audited(answer, "blob.push"))


def cancel(site: Site, location: str, *, again: bool) -> None:
    thing = Thing(Noun.UPLOAD, HERE, location)
    site.journal.intends(thing, GONE)
    site.client.ask("DELETE", location, *((204, 404) if again else (204,)))
    site.journal.acknowledges(thing, GONE)


def mount(site: Site, content: bytes) -> None:
    digest = sha256(content)
    blob = Thing(Noun.BLOB, THERE, digest)
    site.journal.intends(blob, digest)
    answer = site.client.ask("POST", f"/v2/{THERE}/blobs/uploads/?mount={digest}&from={HERE}", 201)
    site.journal.acknowledges(blob, digest, _audited(answer, "blob.mount"))


def push_manifest(site: Site, content: bytes, tag: str = "", media_type: str = OCI_MANIFEST) -> None:
    digest = sha256(content)
    manifest, named = Thing(Noun.MANIFEST, HERE, digest), Thing(Noun.TAG, HERE, tag)
    site.journal.intends(manifest, digest)
    if tag:
        site.journal.intends(named, digest)
    headers = {"Content-Type": media_type}
    answer = site.client.ask("PUT", f"/v2/{HERE}/manifests/{tag or digest}", 201, body=content, headers=headers)
    site.journal.acknowledges(manifest, digest, _audited(answer, "manifest.push"))
    if tag:
        site.journal.observes(named, digest)


def push_image(site: Site, number: int, tag: str = "") -> bytes:
    """An image with its parts; gives its manifest."""
    layer = content_of(number)
    push_blob(site, CONFIG)
    push_blob(site, layer)
    manifest = image_of(number, layer)
    push_manifest(site, manifest, tag)
    return manifest


def index_of(manifest: bytes) -> bytes:
    entry = {"mediaType": OCI_MANIFEST, "digest": sha256(manifest), "size": len(manifest)}
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()


def remove(site: Site, thing: Thing, kind: str, *gone: Thing, again: bool) -> None:
    """Deletes a blob, a manifest or a tag; *gone* are what goes with it."""
    for each in (thing, *gone):
        site.journal.intends(each, GONE)
    noun = "blobs" if thing.noun is Noun.BLOB else "manifests"
    expected = (202, 404) if again else (202,)
    answer = site.client.ask("DELETE", f"/v2/{thing.place}/{noun}/{thing.name}", *expected)
    act = _audited(answer, kind) if answer.status == 202 else None
    site.journal.acknowledges(thing, GONE, act)
    for each in gone:
        site.journal.observes(each, GONE)


def _audited(answer: Answer, kind: str) -> Acknowledged:
    return Acknowledged(kind, answer.headers["x-request-id"])


# each as an operation


def _begins(site: Site, number: int) -> Act:
    return lambda *, again: begin(site) and None


def _appends(site: Site, number: int) -> Act:
    content, location = content_of(number), begin(site)
    append(site, location, content[:1000])

    def act(*, again: bool) -> None:
        sent = 1000
        if again:
            # The client asks how far it is, and goes on from there.
            upload = Thing(Noun.UPLOAD, HERE, location)
            answer = site.client.ask("GET", location, *((204, 404) if GONE in site.journal.values[upload] else (204,)))
            if answer.status == 404:
                site.journal.observes(upload, GONE)
                push_blob(site, content)
                return
            told = answer.headers["range"]
            sent = int(told.partition("-")[2]) + 1
            assert sent in {1000, len(content)}, told
            if sent == len(content):
                site.journal.observes(Thing(Noun.UPLOAD, HERE, location), str(sent))
                return
        append(site, location, content[sent:], sent)

    return act


def _finishes(site: Site, number: int) -> Act:
    content, location = content_of(number), begin(site)
    append(site, location, content)

    def act(*, again: bool) -> None:
        if not again:
            finish(site, location, content)
            return
        # The same request again; where the upload is gone, the blob is there or is pushed anew.
        digest = sha256(content)
        answer = site.client.ask("PUT", with_digest(location, digest), 201, 404)
        if answer.status == 201:
            site.journal.acknowledges(Thing(Noun.BLOB, HERE, digest), digest, _audited(answer, "blob.push"))
        else:
            push_blob(site, content)
        site.journal.observes(Thing(Noun.UPLOAD, HERE, location), GONE)

    return act


def _finishes_with_body(site: Site, number: int) -> Act:
    content, location = content_of(number, 300_000), begin(site)

    def act(*, again: bool) -> None:
        if again:
            push_blob(site, content)
        else:
            finish(site, location, content, content)

    return act


def _pushes_whole(site: Site, number: int) -> Act:
    return lambda *, again: push_whole(site, content_of(number))


def _cancels(site: Site, number: int) -> Act:
    location = begin(site)
    append(site, location, content_of(number))
    return lambda *, again: cancel(site, location, again=again)


def _mounts(site: Site, number: int) -> Act:
    content = content_of(number)
    push_blob(site, content)
    return lambda *, again: mount(site, content)


def _pushes_manifest(site: Site, number: int) -> Act:
    layer = content_of(number)
    push_blob(site, CONFIG)
    push_blob(site, layer)
    return lambda *, again: push_manifest(site, image_of(number, layer), f"v{number}")


def _moves_tag(site: Site, number: int) -> Act:
    push_image(site, 2 * number, "moving")
    push_blob(site, content_of(2 * number + 1))
    return lambda *, again: push_manifest(site, image_of(2 * number + 1, content_of(2 * number + 1)), "moving")


def _pushes_index(site: Site, number: int) -> Act:
    manifest = push_image(site, number)
    return lambda *, again: push_manifest(site, index_of(manifest), f"index-{number}", OCI_INDEX)


def _removes_tag(site: Site, number: int) -> Act:
    push_image(site, number, f"going-{number}")
    thing = Thing(Noun.TAG, HERE, f"going-{number}")
    return lambda *, again: remove(site, thing, "tag.delete", again=again)


def _removes_manifest(site: Site, number: int) -> Act:
    manifest = push_image(site, number, f"going-{number}")
    thing = Thing(Noun.MANIFEST, HERE, sha256(manifest))
    tag = Thing(Noun.TAG, HERE, f"going-{number}")
    return lambda *, again: remove(site, thing, "manifest.delete", tag, again=again)


def _removes_blob(site: Site, number: int) -> Act:
    content = content_of(number)
    push_blob(site, content)
    thing = Thing(Noun.BLOB, HERE, sha256(content))
    return lambda *, again: remove(site, thing, "blob.delete", again=again)


REQUESTS = (
    Operation("begin an upload", _begins),
    Operation("append to an upload", _appends),
    Operation("finish an upload", _finishes),
    Operation("finish an upload with its bytes", _finishes_with_body),
    Operation("push a blob in one request", _pushes_whole),
    Operation("cancel an upload", _cancels),
    Operation("mount a blob", _mounts),
    Operation("push a manifest", _pushes_manifest),
    Operation("move a tag", _moves_tag),
    Operation("push an index", _pushes_index),
    Operation("delete a tag", _removes_tag),
    Operation("delete a manifest", _removes_manifest),
    Operation("delete a blob", _removes_blob),
)
