"""Annotations may be most of a manifest's bytes: nobody who goes through manifests reads them, and none is lost."""

from __future__ import annotations

import asyncio
import json
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Row, delete, insert, select, update

from gateway.change import Change, Notes
from gateway.oci.manifest import Manifest
from gateway.records import adoption, agreement, browsing, consequences, content, listings, retention, usage
from gateway.records import repositories as rows
from gateway.records.database import Database
from gateway.records.schema import manifest_annotations, manifests
from tests.contract.house import OTHER, UI, House, Houses, image

SUBJECT = image(b"{}", b"a layer")


@pytest.fixture
def house(database_url: str, tmp_path: Path) -> Iterator[House]:
    data = tmp_path / "data"
    data.mkdir()
    houses = Houses(database_url, data)
    yield houses.open()
    houses.close()


def referrer(number: int, *, size_bytes: int = 0, kind: str = "application/x") -> Manifest:
    """A manifest about the subject with annotations of so many bytes besides its number."""
    long = {"long": f"{number:04}" * (size_bytes // 4)} if size_bytes else {}
    return image(b"{}", b"a layer", subject=SUBJECT, annotations={"n": str(number), **long}, artifact_type=kind)


def kept(house: House, *found: Manifest) -> None:
    """Each is in the repository, under a tag of its own."""

    async def story() -> None:
        for number, manifest in enumerate(found):
            await house.put(UI, manifest, f"t{number:04}")

    asyncio.run(house.push_image(UI, "subject"))
    asyncio.run(story())


def told(connection: Connection) -> list[Row[Any]]:
    return list(connection.execute(select(manifests).order_by(manifests.c.digest)))


def annotated(connection: Connection) -> dict[str, Any]:
    return {row.digest: json.loads(row.content) for row in connection.execute(select(manifest_annotations))}


@pytest.mark.alone
def test_going_through_manifests_reads_none_of_their_annotations(house: House) -> None:
    large = [referrer(number, size_bytes=1_500_000) for number in range(100)]
    kept(house, *large)
    place = house.database.read_now(lambda connection: content.repository_id(connection, UI)) or 0
    tags = [f"t{number:04}" for number in range(100)]
    digests = [manifest.digest.text for manifest in large]
    looks: dict[str, Callable[[Connection], Any]] = {
        "tags": lambda each: listings.tag_summaries(each, UI),
        "summary": lambda each: listings.repository_summary(each, UI),
        "of a project": rows.rows_of,
        "amounts": lambda each: browsing.amounts(each, [place]),
        "a page of tags": lambda each: browsing.tags_named(each, place, tags),
        "manifests": lambda each: browsing.manifest_rows(each, place, digests),
        "what goes": lambda each: consequences.of_manifest(each, place, UI, SUBJECT.digest),
        "usage": lambda each: usage.measured(each, 1),
        "retention": lambda each: retention.tag_states(each, [UI]),
        "adoption": lambda each: adoption.known(each, UI),
    }
    took = {}
    for name, look in looks.items():
        house.database.read_now(look)
        begun = time.perf_counter()
        house.database.read_now(look)
        took[name] = time.perf_counter() - begun
    begun = time.perf_counter()
    none = asyncio.run(listings.referrers(house.database, UI, SUBJECT.digest, "", 1000, ["none"]))
    took["referrers"] = time.perf_counter() - begun
    assert none == ([], False)
    # With the annotations in their rows most took a second; with six times as many manifests of 4 MB, half a minute.
    assert {name: seconds for name, seconds in took.items() if seconds > 0.2} == {}


def test_others_have_their_turn_while_referrers_that_are_not_wanted_are_passed_over(house: House) -> None:
    kept(house)
    many = [referrer(number, kind=f"application/{'x' if number else 'wanted'}") for number in range(1500)]
    place = house.database.read_now(lambda connection: content.repository_id(connection, UI)) or 0
    told = {"repository_id": place, "pushed_at": 1, "pushed_by": "user:1"}
    found = [{**content.manifest_row(each, content.Act(1)), **told, "digest": each.digest.text} for each in many]
    with house.database.engine.begin() as connection:
        connection.execute(insert(manifests), found)
    turns, listed = 0, False

    async def look_on() -> None:
        nonlocal turns
        while not listed:
            turns += 1
            await asyncio.sleep(0)

    async def story(*types: str, limit: int = 1000) -> tuple[list[str], bool]:
        nonlocal listed, turns
        turns, listed = 0, False
        others = asyncio.create_task(look_on())
        page, more = await listings.referrers(house.database, UI, SUBJECT.digest, "", limit, types)
        listed = True
        await others
        return [each.digest.text for each in page], more

    assert asyncio.run(story("application/wanted")) == ([many[0].digest.text], False)
    assert turns > 4
    digests = sorted(each.digest.text for each in many)
    assert asyncio.run(story(limit=1500)) == (digests, False)
    assert asyncio.run(story(limit=1499)) == (digests[:1499], True)
    assert asyncio.run(story(limit=256)) == (digests[:256], True)
    assert asyncio.run(story("none", "\0")) == ([], False)


def test_referrers_are_told_with_the_annotations_they_have(house: House) -> None:
    small, large, none = referrer(1), referrer(2, size_bytes=100_000), image(b"{}", b"a layer", subject=SUBJECT)
    kept(house, small, large, none)
    found, more = asyncio.run(listings.referrers(house.database, UI, SUBJECT.digest, "", 9))
    assert {each.digest: each.annotations for each in found} == {
        each.digest: each.annotations for each in (small, large, none)
    }
    assert not more


def test_annotations_go_with_their_manifest_and_with_their_repository(house: House) -> None:
    first, second = referrer(1), referrer(2)
    kept(house, first, second)
    asyncio.run(house.push_image(OTHER, "v1"))
    asyncio.run(house.put(OTHER, first, "v2"))
    asyncio.run(house.commit(house.engine.manifests.delete(UI, first.digest, "user:1")))
    assert house.database.read_now(annotated).keys() == {first.digest.text, second.digest.text}
    for place in (OTHER, UI):
        house.apply(Change(lambda connection, place=place: content.remove_repository(connection, place) or Notes()))  # type: ignore[misc]
    assert house.database.read_now(annotated) == {}


def test_a_push_heals_annotations(house: House) -> None:
    manifest = referrer(1)
    kept(house, manifest)
    for damage in (update(manifest_annotations).values(content="{"), delete(manifest_annotations)):
        with house.database.engine.begin() as connection:
            connection.execute(damage)
        asyncio.run(house.put(UI, manifest, "again"))
        assert house.database.read_now(annotated) == {manifest.digest.text: {"n": "1"}}


def test_a_check_has_few_large_manifests_in_memory_at_once(house: House) -> None:
    kept(house, *(referrer(number, size_bytes=2_000_000) for number in range(40)))
    found: list[str] = []
    tracemalloc.start()
    try:
        page: list[Row[Any]] = []
        while page := house.database.read_now(
            partial(agreement.following, after=(page[-1].repository_id, page[-1].digest) if page else (0, ""))
        ):
            found += [row.digest for row in page]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found) == len(set(found)) == 41
    assert peak < 100 * 1024 * 1024


def test_annotations_of_before_are_moved_and_empty_ones_are_not_kept(database_url: str, tmp_path: Path) -> None:
    houses = Houses(database_url, tmp_path)
    house = houses.open()
    kept(
        house, *(referrer(number, size_bytes=number) for number in range(20)), image(b"{}", b"a layer", subject=SUBJECT)
    )
    expected = house.database.read_now(annotated)
    before = house.database.read_now(told)
    with house.database.engine.connect() as connection:
        connection.exec_driver_sql("ALTER TABLE manifests ADD COLUMN annotations TEXT NOT NULL DEFAULT '{}'")
        connection.exec_driver_sql(
            "UPDATE manifests SET annotations = (SELECT content FROM manifest_annotations AS each WHERE "
            "each.repository_id = manifests.repository_id AND each.digest = manifests.digest) "
            "WHERE digest IN (SELECT digest FROM manifest_annotations)"
        )
        connection.exec_driver_sql("DROP TABLE manifest_annotations")
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parents[2] / "migrations"))
        config.attributes["connection"] = connection
        scripts = ScriptDirectory.from_config(config).walk_revisions()
        [moving] = [script for script in scripts if script.path.endswith("_annotations.py")]
        command.stamp(config, str(moving.down_revision))
        command.upgrade(config, moving.revision)
    houses.close()

    database = Database.open(database_url, tmp_path)
    try:
        assert len(expected) == 20
        assert database.read_now(annotated) == expected
        assert database.read_now(told) == before
    finally:
        database.close()
