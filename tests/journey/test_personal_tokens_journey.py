"""A personal token as the password of a real client: it pushes within its bound, and ends where it was revoked."""

from __future__ import annotations

import pytest

from tests.journey.conftest import Open
from tests.services.clients import Docker, Skopeo
from tests.services.images import Layout

pytestmark = pytest.mark.journey

WRITER = ("writer", "writer's-long-password")


def test_a_client_signs_in_with_a_token_and_goes_no_further_than_it(
    opened: Open, skopeo: Skopeo, docker: Docker, layout: Layout
) -> None:
    with opened(workers=2) as gateway:
        gateway.add_user(*WRITER)
        for project in ("gallery", "museum"):
            gateway.cli("project", "add", project).must()
            gateway.cli("grant", "writer", "pusher", project).must()
        words = ("--user", "writer", "--actions", "pull,push", "--project", "gallery", "--json")
        made = gateway.cli("token", "issue", "laptop", *words).json()
        layout.add_image("v1", (200_000,), seed=701)
        inside, outside = (f"{gateway.registry}/{project}/ui:v1" for project in ("gallery", "museum"))

        assert not skopeo.login(gateway.registry, "reader", made["token"]).ok
        skopeo.login(gateway.registry, "writer", made["token"]).must()
        docker.login(gateway.registry, "writer", made["token"]).must()
        skopeo.push(layout.source("v1"), inside).must()
        skopeo.inspect(inside).must()
        assert not skopeo.push(layout.source("v1"), outside).ok
        assert gateway.cli("token", "list", "--personal", "--json").json()[0]["used"]

        gateway.cli("token", "revoke", "--personal", str(made["id"])).must()
        assert not skopeo.inspect(inside).ok
        assert not docker.login(gateway.registry, "writer", made["token"]).ok
        skopeo.login(gateway.registry, *WRITER).must()
        skopeo.push(layout.source("v1"), outside).must()
        assert made["token"] not in str(gateway.events())
        assert gateway.is_trail_whole()
