"""A backup that is taken while images are pushed, restored elsewhere, and asked for all that was acknowledged."""

from __future__ import annotations

import hashlib
import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.services.clients import Result
from tests.services.daemon import scratch
from tests.services.gateway import Gateway, running_gateway
from tests.services.images import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST
from tests.services.wire import Wire

WRITER = ("writer", "writer's-long-password")
APP = "gallery/app"
PUSHED_FIRST, PUSHED_LATER = 5, 12


@dataclass(slots=True)
class Pusher:
    """Pushes one image after the other, and remembers what was acknowledged."""

    wire: Wire
    acknowledged: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    ended: threading.Event = field(default_factory=threading.Event)
    news: threading.Condition = field(default_factory=threading.Condition)
    failure: BaseException | None = None

    def run(self) -> None:
        number = 0
        try:
            while not self.ended.is_set():
                self._push(f"v{number}", random.Random(number))
                number += 1
                with self.news:
                    self.news.notify_all()
        except BaseException as error:
            self.failure = error
            raise

    def until(self, count: int) -> dict[str, bytes]:
        """What is acknowledged once *count* images are."""
        with self.news:
            assert self.news.wait_for(lambda: len(self.acknowledged) >= count or self.failure, timeout=60)
            assert self.failure is None
            return dict(self.acknowledged)

    def _push(self, tag: str, randomness: random.Random) -> None:
        token = self.wire.token(WRITER, f"repository:{APP}:pull,push")
        parts = [(OCI_CONFIG, json.dumps({"tag": tag}).encode()), (OCI_LAYER, randomness.randbytes(200_000))]
        named = []
        for media_type, content in parts:
            digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
            self.wire.push_blob(APP, token, content, digest)
            self.blobs[digest] = content
            named.append({"mediaType": media_type, "digest": digest, "size": len(content)})
        image = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": named[0], "layers": named[1:]}
        content = json.dumps(image).encode()
        headers = {"Content-Type": OCI_MANIFEST}
        path = f"/v2/{APP}/manifests/{tag}"
        self.wire.ask("PUT", path, token=token, body=content, headers=headers).must(201)
        self.acknowledged[tag] = content


@contextmanager
def pushing(gateway: Gateway) -> Iterator[Pusher]:
    pusher = Pusher(gateway.wire)
    thread = threading.Thread(target=pusher.run)
    thread.start()
    try:
        yield pusher
    finally:
        pusher.ended.set()
        thread.join()


@pytest.mark.long
def test_a_backup_of_a_gateway_that_is_pushed_to_serves_everything_elsewhere() -> None:
    with scratch("backup") as place, running_gateway(workers=2) as gateway:
        target = place / "backups"
        gateway.add_user(*WRITER)
        gateway.cli("project", "add", "gallery").must()
        gateway.cli("grant", "writer", "pusher", "gallery").must()
        robot = gateway.cli("robot", "add", "gallery/ci", "puller", "--json").json()
        with pushing(gateway) as pusher:
            first = pusher.until(PUSHED_FIRST)
            taken_first = gateway.cli("backup", str(target), "--json").json()
            second = pusher.until(PUSHED_LATER)
            taken_second = gateway.cli("backup", str(target), "--json").json()
        assert taken_first["damaged"] == taken_second["damaged"] == []
        assert taken_second["blobs"]["already_there"] == taken_first["blobs"]["copied"]
        assert taken_second["blobs"]["copied"] == taken_second["records"]["blobs"] - taken_first["records"]["blobs"]
        for name, acknowledged, source in (
            ("first", first, Path(taken_first["snapshot"])),
            ("second", second, target),
        ):
            home = place / name
            home.mkdir()
            restored(gateway, home, source).must()
            serves(home, pusher, acknowledged, (robot["name"], robot["secret"]))


def restored(gateway: Gateway, home: Path, source: Path) -> Result:
    # The command's own --data counts, not the one of the gateway that runs.
    return gateway.cli("restore", str(source), "--data", str(home / "data"))


def serves(home: Path, pusher: Pusher, acknowledged: dict[str, bytes], robot: tuple[str, str]) -> None:
    """Whether a gateway on the restored directory knows everybody, and has every byte that was acknowledged."""
    there = Gateway(home)
    there.start()
    try:
        for basic in (WRITER, robot):
            token = there.wire.token(basic, f"repository:{APP}:pull")
            with there.wire.connect() as connection:
                for tag, manifest in acknowledged.items():
                    pulled = connection.request("GET", f"/v2/{APP}/manifests/{tag}", token=token).must(200)
                    assert pulled.body == manifest
                    for named in (pulled.json["config"], *pulled.json["layers"]):
                        path = f"/v2/{APP}/blobs/{named['digest']}"
                        assert (
                            connection.request("GET", path, token=token).must(200).body == pusher.blobs[named["digest"]]
                        )
        again = Pusher(there.wire)
        again._push("after", random.Random("after"))
        assert there.is_trail_whole()
        (event,) = there.events(kind="storage.restore")
        assert event["outcome"] == "allowed"
    finally:
        assert there.stop() == 0
