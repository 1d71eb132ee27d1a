"""A project that is full, or has a rule about its tags, as people see it through their clients."""

from __future__ import annotations

import pytest

from tests.journey.conftest import Open
from tests.services.clients import Skopeo
from tests.services.images import Layout

pytestmark = pytest.mark.journey

WRITER = ("writer", "writer's-long-password")


def test_a_client_is_told_of_the_quota_and_of_an_immutable_tag(opened: Open, skopeo: Skopeo, layout: Layout) -> None:
    with opened() as gateway:
        gateway.add_user(*WRITER)
        gateway.cli("project", "add", "gallery").must()
        gateway.cli("grant", "writer", "pusher", "gallery").must()
        gateway.cli("project", "set", "gallery", "--quota", "500KB", "--immutable", "v*").must()
        skopeo.login(gateway.registry, *WRITER).must()
        layout.add_image("small", (200_000,), seed=601)
        layout.add_image("big", (400_000,), seed=602)
        image = f"{gateway.registry}/gallery/ui:v1"
        skopeo.push(layout.source("small"), image).must()

        full = skopeo.push(layout.source("big"), f"{gateway.registry}/gallery/ui:big")
        assert not full.ok
        assert "The quota of project gallery is" in full.output
        assert "ask an owner or administrator for room" in full.output

        gateway.cli("project", "set", "gallery", "--quota", "none").must()
        moved = skopeo.push(layout.source("big"), image)
        assert not moved.ok
        assert "Tag v1 of gallery/ui is immutable (pattern v*)" in moved.output
        skopeo.push(layout.source("big"), f"{gateway.registry}/gallery/ui:big").must()
        skopeo.push(layout.source("small"), image).must()

        reasons = {event.get("reason") for event in gateway.events(outcome="denied")}
        assert {"quota_exceeded", "immutable_tag"} <= reasons
