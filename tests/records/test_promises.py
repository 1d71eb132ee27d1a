"""Promises: counted where they lie, as whoever read all the intents would count them, and gone with their intents."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, func, insert, select

from gateway.oci.digest import Digest
from gateway.oci.names import ProjectName, Repository
from gateway.records import intents, promises
from gateway.records.behind_tables import promises as rows
from gateway.records.database import Database
from gateway.records.schema import blobs, links, manifests, projects, repositories
from gateway.records.schema import intents as intent_rows
from tests.house import House, opened, prepare

UI, API, ELSEWHERE, LONGER = (Repository(name) for name in ("gallery/ui", "gallery", "garden/ui", "gallery2/ui"))
GALLERY = ProjectName("gallery")
DIGESTS = [f"sha256:{number:064x}" for number in range(6)]
A, B, C, D, *_ = DIGESTS
BLOB_PUSH, MANIFEST_PUSH = "blob.push", "manifest.push"

Begun = list[tuple[str, str, Repository, dict[str, Any]]]


def push(digest: str, size_bytes: int, layers: Mapping[str, int], names: Collection[str] = ()) -> dict[str, Any]:
    told = {"digest": digest, "pushed": digest, "tags": ["v1"], "owner": "", "size_bytes": size_bytes}
    return {**told, "names": [*layers, *names], "layers": dict(layers)}


def written(house: House, write: Callable[[Connection], object]) -> None:
    database = house.database
    with database.lock(), database.writer() as connection:
        database.begin(connection)
        write(connection)
        connection.exec_driver_sql("COMMIT")


def begin(connection: Connection, begun: Begun) -> None:
    for intent_id, kind, repository, act in begun:
        intents.begin(connection, intent_id, kind, repository, act, {}, now=1)


def hold(connection: Connection, held: Mapping[Repository, Collection[str]]) -> None:
    """Lets repositories hold blobs and manifests of those digests."""
    numbers = {
        name: connection.execute(insert(projects).values(name=name, public=False, created_at=1)).inserted_primary_key[0]
        for name in sorted({repository.project.name for repository in held})
    }
    known = set[str]()
    for repository, digests in held.items():
        values = {"project_id": numbers[repository.project.name], "name": repository.name, "created_at": 1}
        place = connection.execute(insert(repositories).values(values)).inserted_primary_key[0]
        for digest in digests:
            if digest not in known:
                connection.execute(insert(blobs).values(digest=digest, size_bytes=1, created_at=1))
            known.add(digest)
            connection.execute(insert(links).values(repository_id=place, digest=digest, created_at=1))
            told = {"media_type": "", "size_bytes": 1, "pushed_at": 1, "pushed_by": ""}
            connection.execute(insert(manifests).values(repository_id=place, digest=digest, **told))


def beside(house: House, sizes: Mapping[str, int], but: Collection[str] = (), table: Any = links) -> int:
    return house.database.read_now(lambda found: promises.bytes_beside(found, GALLERY, table, sizes, but))


def promised(house: House) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for row in house.database.read_now(lambda connection: connection.execute(select(rows)).all()):
        found.setdefault(row.intent_id, {})[row.digest] = row.size_bytes
    return found


def named(house: House, repository: Repository, *texts: str, but: Collection[str] = ()) -> frozenset[str]:
    digests = [Digest.parse(text) for text in texts]
    return house.database.read_now(lambda connection: promises.named(connection, repository, digests, but))


SIZES = st.dictionaries(st.sampled_from(DIGESTS), st.integers(0, 9), max_size=4)
ACTS = st.one_of(
    st.tuples(
        st.just(BLOB_PUSH),
        st.builds(
            lambda *told: dict(zip(("digest", "size_bytes"), told, strict=True)),
            st.sampled_from(DIGESTS),
            st.integers(0, 9),
        ),
    ),
    st.tuples(st.just(MANIFEST_PUSH), st.builds(push, st.sampled_from(DIGESTS), st.integers(1, 9), SIZES)),
)
PLACES = st.sampled_from([UI, API, ELSEWHERE, LONGER])


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Any:
    data = tmp_path_factory.mktemp("promises")
    with opened(f"sqlite:///{data / 'gateway.db'}", data) as house:
        yield house


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    acts=st.lists(st.tuples(PLACES, ACTS), max_size=6),
    sizes=SIZES,
    held=st.sets(st.sampled_from(DIGESTS), max_size=2),
    but=st.sets(st.sampled_from(["0", "1"])),
)
def test_what_is_promised_is_what_all_acts_together_bring_each_digest_once(
    empty: House,
    acts: list[tuple[Repository, tuple[str, dict[str, Any]]]],
    sizes: dict[str, int],
    held: set[str],
    but: set[str],
) -> None:
    begun = [(str(number), kind, repository, act) for number, (repository, (kind, act)) in enumerate(acts)]
    of_blobs, of_manifests = dict[str, int](), dict[str, int]()
    for intent_id, kind, repository, act in begun:
        if repository.project == GALLERY and intent_id not in but:
            layers = act["layers"] if kind == MANIFEST_PUSH else {act["digest"]: act["size_bytes"]}
            own = {act["digest"]: act["size_bytes"]} if kind == MANIFEST_PUSH else {}
            for into, more in ((of_blobs, layers), (of_manifests, own)):
                into.update({digest: max(size, into.get(digest, 0)) for digest, size in more.items()})
    new = {digest: size for digest, size in sizes.items() if digest not in held}
    found: list[int] = []

    def look(connection: Connection) -> None:
        begin(connection, begun)
        hold(connection, {UI: held, ELSEWHERE: DIGESTS})
        for table in (links, manifests):
            found.append(promises.bytes_beside(connection, GALLERY, table, new, but))

    with empty.database.lock(), empty.database.writer() as connection:
        empty.database.begin(connection)
        look(connection)
        connection.exec_driver_sql("ROLLBACK")

    for among, answer in zip((of_blobs, of_manifests), found, strict=True):
        together = {digest: max(among.get(digest, 0), new.get(digest, 0)) for digest in {*among, *new} - held}
        assert answer == sum(together.values()) - sum(new.values())


def test_promises_are_counted_by_project_once_each_and_without_what_it_holds(house: House) -> None:
    begun: Begun = [
        ("one", BLOB_PUSH, UI, {"digest": A, "size_bytes": 100}),
        ("two", MANIFEST_PUSH, API, push(D, 7, {A: 130, B: 10, C: 1000})),
        ("three", MANIFEST_PUSH, UI, push(D, 7, {B: 20})),
        ("other", BLOB_PUSH, ELSEWHERE, {"digest": B, "size_bytes": 5000}),
        ("longer", BLOB_PUSH, LONGER, {"digest": B, "size_bytes": 5000}),
        ("gone", "blob.delete", UI, {"digest": C}),
    ]
    written(house, lambda connection: begin(connection, begun))
    written(house, lambda connection: hold(connection, {API: [C], ELSEWHERE: [A]}))

    assert beside(house, {}) == 130 + 20
    assert beside(house, {A: 50}) == 80 + 20
    assert beside(house, {A: 500, B: 20}) == 0
    assert beside(house, {}, ["two"]) == 100 + 20
    assert beside(house, {}, table=manifests) == 7
    assert beside(house, {}, ["two", "three"], manifests) == 0


def test_what_a_push_names_is_found_in_its_repository_until_it_ends(house: House) -> None:
    act = push(D, 7, {A: 1}, names=[B])
    written(house, lambda connection: begin(connection, [("one", MANIFEST_PUSH, UI, act)]))
    written(house, lambda connection: begin(connection, [("two", BLOB_PUSH, UI, {"digest": C, "size_bytes": 1})]))

    assert named(house, UI, A, B, C, D) == {A, B}
    assert named(house, UI, A, but=["one"]) == named(house, API, A) == frozenset()

    written(house, lambda connection: intents.end(connection, "one"))
    assert named(house, UI, A, B) == frozenset()
    assert promised(house) == {"two": {C: 1}}


def test_what_an_act_promises_later_takes_the_place_of_what_it_promised(house: House) -> None:
    act = push(D, 7, {A: 1, B: 2})
    written(house, lambda connection: begin(connection, [("one", MANIFEST_PUSH, UI, act)]))
    assert promised(house) == {"one": {A: 1, B: 2, D: 7}}

    written(house, lambda connection: intents.amend(connection, "one", {**act, "layers": {A: 5}}))
    assert promised(house) == {"one": {A: 5, B: 0, D: 7}}


def test_what_may_be_large_is_not_read_by_those_who_begin_beside_it(house: House) -> None:
    layers = {f"sha256:{number:064x}": 1 for number in range(1000)}
    act = {**push(D, 7, layers), "known": False, "before": {"v1": sorted(layers)}}
    written(house, lambda connection: begin(connection, [("one", MANIFEST_PUSH, UI, act)]))

    longest = select(func.max(func.length(intent_rows.c.act)))
    assert house.database.read_now(lambda connection: connection.execute(longest).scalar_one()) < 500
    [left] = house.database.read_now(lambda connection: intents.open_intents(connection, 2))
    assert left.act == {name: value for name, value in act.items() if name not in {"names", "layers"}}


def test_acts_that_are_open_at_the_upgrade_keep_what_they_promise(database_url: str, tmp_path: Path) -> None:
    prepare(database_url, tmp_path)
    database = Database.open(database_url, tmp_path)
    acts: list[tuple[str, dict[str, Any]]] = [
        (MANIFEST_PUSH, {**push(D, 7, {A: 1}, names=[B]), "before": {"v1": [C]}}),
        (BLOB_PUSH, {"digest": C, "size_bytes": 4, "owner": "", "upload": "x"}),
        ("tag.delete", {"tags": ["v1"]}),
    ]
    with database.engine.connect() as connection:
        connection.exec_driver_sql("DROP TABLE promises")
        connection.exec_driver_sql("ALTER TABLE intents DROP COLUMN before")
        for number, (kind, act) in enumerate(acts):
            told = {"id": str(number), "kind": kind, "repository": UI.name, "event": "{}", "begun_at": 1}
            connection.execute(insert(intent_rows).values(act=json.dumps(act), **told))
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parents[2] / "migrations"))
        config.attributes["connection"] = connection
        scripts = ScriptDirectory.from_config(config).walk_revisions()
        [step] = [script for script in scripts if script.path.endswith("_promises.py")]
        command.stamp(config, str(step.down_revision))
        command.upgrade(config, step.revision)
        command.stamp(config, "head")
    database.close()

    with opened(database_url, tmp_path) as house:
        assert promised(house) == {"0": {A: 1, B: 0, D: 7}, "1": {C: 4}}
        assert beside(house, {}) == 5
        left = house.database.read_now(lambda connection: intents.open_intents(connection, 2))
        kept = [{name: value for name, value in act.items() if name not in {"names", "layers"}} for _, act in acts]
        assert [intent.act for intent in left] == kept
        written(house, lambda connection: [intents.end(connection, intent.id) for intent in left])
        assert promised(house) == {}
