"""In front of a registry whose files can be read: pulls come from them, and are no whole if they are damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.journey.conftest import Open
from tests.services.clients import Skopeo
from tests.services.daemon import scratch
from tests.services.distribution import running_registry
from tests.services.images import Layout

pytestmark = pytest.mark.journey

PASSWORD = "a password of this test"


def test_skopeo_pulls_what_lies_in_the_registrys_files(
    opened: Open, skopeo: Skopeo, layout: Layout, client_home: Path
) -> None:
    layer = layout.add_image("v1", [2_000_000]).layers[0].digest.partition(":")[2]
    with scratch("behind") as directory, running_registry(directory) as registry:
        # A copy, so that what is read from it differs from what comes through the registry.
        volume = directory / "copy"
        volume.mkdir()
        environment = {
            "GATEWAY_ENGINE__KIND": "upstream",
            "GATEWAY_ENGINE__URL": registry.url,
            "GATEWAY_ENGINE__VOLUME": str(volume),
        }
        with opened(environment=environment) as gateway:
            gateway.cli("project", "add", "gallery").must()
            gateway.add_user("writer", PASSWORD)
            gateway.cli("grant", "writer", "pusher", "gallery").must()
            name = f"{gateway.registry}/gallery/ui:v1"
            skopeo.login(gateway.registry, "writer", PASSWORD).must()
            skopeo.push(layout.source("v1"), name).must()
            shutil.copytree(registry.content, volume, dirs_exist_ok=True)

            def pulled(tag: str) -> bool:
                target = Layout.create(client_home / tag)
                return skopeo.pull(name, target.source("v1")).ok

            assert pulled("whole")
            file = volume / f"docker/registry/v2/blobs/sha256/{layer[:2]}/{layer}/data"
            file.write_bytes(bytes(file.stat().st_size))
            assert not pulled("damaged")
            (ended,) = [each for each in gateway.events(kind="blob.pull.ended") if layer in each["digest"]][:1]
            assert ended["outcome"] == "failed"
            file.unlink()
            assert pulled("gone")
            assert gateway.cli("doctor").output.count("upstream volume") == 1
