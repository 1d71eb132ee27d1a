"""How much a run measures: `--short` proves the code in a minute, the default fits a coffee, `--full` is the record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MIB: Final = 1 << 20
KIB: Final = 1 << 10


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes in bytes, times in seconds; every case runs `rounds` times for each target, the targets taking turns,
    and those that write much `heavy_rounds`."""

    mode: str
    workers: tuple[int, ...]
    rounds: int
    heavy_rounds: int
    request_seconds: int
    big_bytes: int
    pull_bytes: int
    push_bytes: int
    small_blobs: int
    wide_connections: tuple[int, ...]
    head_connections: tuple[int, ...]
    layer_bytes: int
    crowd_layer_bytes: int
    crowd: int
    new_users: int
    tag_counts: tuple[int, ...]
    peer_tags: int
    repository_counts: tuple[int, ...]
    peer_repositories: int
    referrers: int
    event_counts: tuple[int, ...]
    adopted: int
    imported: int
    idle_connections: int
    pulls: int
    uploads: int
    hold_seconds: float
    commit_seconds: float
    clients: int = 8
    layers: int = 8
    small_bytes: int = 16 * KIB


SHORT: Final = Sizes(
    mode="short",
    workers=(2,),
    rounds=1,
    heavy_rounds=1,
    request_seconds=1,
    big_bytes=64 * MIB,
    pull_bytes=16 * MIB,
    push_bytes=8 * MIB,
    small_blobs=100,
    wide_connections=(16,),
    head_connections=(16,),
    layer_bytes=1 * MIB,
    crowd_layer_bytes=KIB,
    crowd=4,
    new_users=4,
    tag_counts=(1_000, 10_000),
    peer_tags=10_000,
    repository_counts=(100, 1_000),
    peer_repositories=1_000,
    referrers=1_000,
    event_counts=(1_000, 10_000),
    adopted=100,
    imported=2,
    idle_connections=100,
    pulls=20,
    uploads=10,
    hold_seconds=0.3,
    commit_seconds=1,
)
DEFAULT: Final = Sizes(
    mode="default",
    workers=(1, 2),
    rounds=3,
    heavy_rounds=2,
    request_seconds=2,
    big_bytes=1024 * MIB,
    pull_bytes=256 * MIB,
    push_bytes=128 * MIB,
    small_blobs=1_000,
    wide_connections=(1, 16, 64),
    head_connections=(1, 16, 64),
    layer_bytes=32 * MIB,
    crowd_layer_bytes=4 * MIB,
    crowd=20,
    new_users=12,
    tag_counts=(1_000, 10_000, 100_000, 1_000_000),
    peer_tags=100_000,
    repository_counts=(100, 1_000, 10_000, 100_000),
    peer_repositories=10_000,
    referrers=10_000,
    event_counts=(10_000, 100_000, 1_000_000),
    adopted=2_000,
    imported=16,
    idle_connections=1_000,
    pulls=200,
    uploads=50,
    hold_seconds=3,
    commit_seconds=4,
)
FULL: Final = Sizes(
    mode="full",
    workers=(1, 2),
    rounds=5,
    heavy_rounds=5,
    request_seconds=5,
    big_bytes=1024 * MIB,
    pull_bytes=256 * MIB,
    push_bytes=128 * MIB,
    small_blobs=1_000,
    wide_connections=(1, 16, 64),
    head_connections=(1, 16, 64),
    layer_bytes=32 * MIB,
    crowd_layer_bytes=32 * MIB,
    crowd=20,
    new_users=50,
    tag_counts=(1_000, 10_000, 100_000, 1_000_000),
    peer_tags=1_000_000,
    repository_counts=(100, 1_000, 10_000, 100_000),
    peer_repositories=100_000,
    referrers=10_000,
    event_counts=(10_000, 100_000, 1_000_000, 10_000_000),
    adopted=20_000,
    imported=16,
    idle_connections=1_000,
    pulls=200,
    uploads=50,
    hold_seconds=5,
    commit_seconds=10,
)
