from __future__ import annotations

import json
from typing import Any

from gateway.oci.digest import Algorithm, Digest
from gateway.oci.manifest import Manifest, load
from gateway.oci.media import OCI_MANIFEST
from gateway.oci.names import Repository, Tag
from gateway.records.adoption import Found, Known, holds_content, index, known, known_repositories
from gateway.records.content import Act
from gateway.records.mirror import hide_tag, names_of
from gateway.records.repositories import rows_of
from gateway.records.schema import repositories, tags
from tests.house import House
from tests.records.rows import column, written

UI = Repository("gallery/ui")
ACT = Act(1, "operator:0", makes_project=True)


def image(number: int, *layers: int) -> Manifest:
    """An image with a layer for each of the sizes."""
    config = descriptor("application/vnd.oci.image.config.v1+json", 2)
    listed = [descriptor("application/vnd.oci.image.layer.v1.tar", size) for size in layers]
    told = {"schemaVersion": 2, "config": config, "layers": listed, "annotations": {"n": str(number)}}
    return load(json.dumps(told).encode(), OCI_MANIFEST)


def descriptor(media_type: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": Digest.of(str(size).encode()).text, "size": size}


def entered(house: House, found: Found, before: dict[str, str] | None = None) -> Any:
    return written(house, lambda connection: index(connection, UI, found, Known(tags=before or {}), ACT).result)


def test_what_was_found_makes_project_and_repository_and_counts_each_layer_once(house: House) -> None:
    images = tuple(image(number, 100, 200) for number in range(600))
    found = Found(images, {f"v{number}": each.digest.text for number, each in enumerate(images)})
    assert entered(house, found) == 600
    (row,) = house.database.read_now(rows_of)
    assert (row.name, row.tags, row.manifests, row.blobs) == ("gallery/ui", 600, 600, 3)
    assert row.size_bytes == 302 + sum(len(each.content) for each in images)
    assert house.database.read_now(known_repositories) == (UI,)


def test_to_enter_it_again_changes_nothing(house: House) -> None:
    found = Found((image(1, 100),), {"v1": image(1, 100).digest.text})
    assert entered(house, found) == 1
    assert entered(house, found) == 0
    assert column(house, tags.c.moved_at) == [1]


def test_a_tag_that_somebody_moved_since_is_left_where_it_is(house: House) -> None:
    old, new, mine = image(1), image(2), image(3)
    entered(house, Found((old, new), {"v1": old.digest.text, "v2": old.digest.text}))
    before = {"v1": old.digest.text, "v2": old.digest.text}
    # While the registry was read, v1 was moved, v2 was removed and v3 was made.
    entered(house, Found((), {"v1": new.digest.text, "v3": new.digest.text}), before)
    written(house, lambda connection: connection.execute(tags.delete().where(tags.c.name == "v2")))
    entered(house, Found((mine,), dict.fromkeys(("v1", "v2", "v3"), mine.digest.text)), before)
    held = house.database.read_now(lambda connection: known(connection, UI))
    assert held.tags == {"v1": new.digest.text, "v3": new.digest.text}
    assert mine.digest.text in held.manifests


def test_a_repository_row_alone_is_no_content(house: House) -> None:
    assert not house.database.read_now(holds_content)
    entered(house, Found())
    assert column(house, repositories.c.name) == ["gallery/ui"]
    assert not house.database.read_now(holds_content)
    entered(house, Found((image(1),)))
    assert house.database.read_now(holds_content)


def test_a_tag_whose_manifest_was_deleted_since_does_not_enter(house: House) -> None:
    entered(house, Found((), {"v1": image(1).digest.text}))
    assert column(house, tags.c.name) == []


def test_a_tag_that_was_removed_since_stays_removed(house: House) -> None:
    new = image(1)
    entered(house, Found((new,)))
    written(house, lambda connection: hide_tag(connection, UI, Tag("v1"), new.digest, ACT))
    entered(house, Found((), {"v1": new.digest.text}))
    assert column(house, tags.c.name) == []
    assert house.database.read_now(lambda connection: known(connection, UI)).untagged == {"v1": new.digest.text}


def test_the_sha256_of_what_an_image_names_by_sha512_is_kept_and_such_images_are_counted(house: House) -> None:
    layer, plain = Digest.of(b"100", Algorithm.SHA512), Digest.of(b"100")
    named = image(1, 100)
    by_sha512 = load(named.content.replace(plain.text.encode(), layer.text.encode()), OCI_MANIFEST)
    found = Found((image(2, 200), by_sha512), twins={layer: plain})
    assert found.by_sha512 == 1
    entered(house, found)
    entered(house, found)
    assert house.database.read_now(lambda connection: names_of(connection, plain)) == (layer, plain)
