"""Clocks as oracles: what is forbidden takes as long as what is not there, and known bytes as long as new ones."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from gateway.access.principals import ANONYMOUS
from gateway.access.scopes import Access, Action
from tests.protocol.harness import SERVICE, World, sha256, world_on

pytestmark = pytest.mark.alone

THERE, SIBLING, ELSEWHERE = "alpha/app", "alpha/zzz", "alphq/app"
ROUNDS = 60


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    data = tmp_path_factory.mktemp("timing")
    with world_on(f"sqlite:///{data / 'gateway.db'}", data) as made:
        made.push_image(made.widest("alice", THERE), THERE, "v1", layer=b"a secret layer")
        yield made


def medians(rounds: int, *acts: Callable[[], object]) -> Sequence[float]:
    """The median seconds that each of *acts* takes, done in turns so that what slows one slows all."""
    taken: list[list[float]] = [[] for _ in acts]
    for number in range(rounds):
        # Whoever comes first in a round pays for what the round before left behind: that one changes too.
        for place in (*range(number % len(acts), len(acts)), *range(number % len(acts))):
            begun = time.perf_counter()
            acts[place]()
            taken[place].append(time.perf_counter() - begun)
    return [statistics.median(each) for each in taken]


def alike_once(measure: Callable[[], Sequence[float]], within: float) -> bool:
    """
    Whether what was measured differs by no more than the factor *within*, in one of three tries.

    A machine that was busy elsewhere for a moment is no oracle; a difference of the code is there every time.
    """
    for _ in range(3):
        measured = measure()
        if max(measured) <= min(measured) * within:
            return True
    return False


@pytest.mark.parametrize("who", ["", "mallory"])
@pytest.mark.parametrize(
    "path",
    ["manifests/v1", f"blobs/{sha256(b'a secret layer')}", "tags/list", f"referrers/{sha256(b'x')}"],
)
def test_forbidden_and_absent_take_the_same_time(world: World, who: str, path: str) -> None:
    names = (THERE, SIBLING, ELSEWHERE)
    token = everything(world, names) if not who else world.widest(who, *names)
    acts = [ask(world, f"/v2/{name}/{path}", token) for name in names]
    for act in acts:
        act()
    assert alike_once(lambda: medians(ROUNDS, *acts), 1.25)


def test_the_next_page_of_the_catalog_does_not_tell_of_what_is_hidden(world: World) -> None:
    token = world.token("mallory", "registry:catalog:*")
    acts = [ask(world, f"/v2/_catalog?n=1&last={last}", token, 200) for last in (THERE, SIBLING, ELSEWHERE)]
    assert alike_once(lambda: medians(ROUNDS // 2, *acts), 1.3)


def test_a_mount_that_is_refused_takes_the_same_time_whatever_is_there(world: World) -> None:
    token = world.widest("carol", "beta/own", THERE)
    layer, nothing = sha256(b"a secret layer"), sha256(b"no such layer")

    def mount(source: str, digest: str) -> Callable[[], object]:
        def act() -> None:
            target = f"/v2/beta/own/blobs/uploads/?mount={digest}&from={source}"
            answer = world.ask("POST", target, token=token)
            assert answer.status == 202
            assert world.ask("DELETE", answer.header("location"), token=token).status == 204

        return act

    acts = [mount(THERE, layer), mount(THERE, nothing), mount(SIBLING, layer), mount(ELSEWHERE, layer)]
    assert alike_once(lambda: medians(25, *acts), 1.5)


def test_bytes_that_others_hold_take_as_long_to_push_as_new_ones(world: World) -> None:
    """Nothing but a whole push is ever answered: knowing a digest spares no byte, and the time tells nothing."""
    size, number = 512 * 1024, iter(range(100_000))
    token, owner = world.widest("carol", "beta/pushed"), world.widest("alice", THERE)

    def fresh() -> bytes:
        return b"%020d" % next(number) + bytes(size)

    held = [fresh() for _ in range(40)]
    for content in held:
        world.push_blob(owner, THERE, content)
    waiting = iter(held)
    acts = (
        lambda: world.push_blob(token, "beta/pushed", next(waiting)),
        lambda: world.push_blob(token, "beta/pushed", fresh()),
    )
    assert alike_once(lambda: medians(12, *acts), 1.5)


def everything(world: World, names: Sequence[str]) -> str:
    """A token of nobody that says it may do all."""
    parts = world.registry.parts
    access = Access({name: frozenset(Action) for name in names})
    return parts.tokens.issue(ANONYMOUS, access, generation=0, projects={}, now=parts.now()).text


def ask(world: World, target: str, token: str, status: int = 401) -> Callable[[], object]:
    def act() -> None:
        assert world.ask("GET", target, token=token).status == status

    return act


def test_tokens_of_these_tests_are_real(world: World) -> None:
    assert world.registry.parts.service == SERVICE
    assert world.ask("GET", "/v2/", token=everything(world, (THERE,))).status == 200
