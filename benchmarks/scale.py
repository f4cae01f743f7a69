"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """Amounts, and the seconds that each piece of a peer's work may take at most."""

    name: str
    command: str
    repetitions: int
    operations: int
    """Of one kind, by one peer, in one repetition."""
    seconds: float
    far_operations: int
    far_repetitions: int
    depth: int
    deepening: float
    sizes: tuple[int, ...]
    filling: float
    raw_operations: int
    """Where AMFS is compared with a raw client, at 32 threads."""
    aimed_turns: int
    """There, where the rate has a goal: fewer leave the median of a busy machine to luck."""
    scanned_on_s3: int
    scanned_on_disk: int
    watched: int
    idle: float
    """Seconds that a watch only waits."""
    contenders: int
    """Peers, of those on disk and of those on a bucket, that eight processes try."""
    additions: int
    """That each of the eight processes makes."""
    conversations: int
    loading: float


FULL = Scale(
    name="full",
    command="make bench",
    repetitions=5,
    operations=300,
    seconds=1.0,
    far_operations=10,
    far_repetitions=2,
    depth=10_000,
    deepening=30.0,
    sizes=(1_000, 10_000, 100_000),
    filling=45.0,
    raw_operations=2_000,
    aimed_turns=60,
    scanned_on_s3=20_000,
    scanned_on_disk=100_000,
    watched=100,
    idle=5.0,
    contenders=10,
    additions=40,
    conversations=10_000,
    loading=150.0,
)

QUICK = Scale(
    name="quick",
    command="make bench-quick",
    repetitions=2,
    operations=50,
    seconds=0.25,
    far_operations=5,
    far_repetitions=1,
    depth=500,
    deepening=1.0,
    sizes=(300,),
    filling=4.0,
    raw_operations=200,
    aimed_turns=8,
    scanned_on_s3=1_000,
    scanned_on_disk=2_000,
    watched=15,
    idle=2.0,
    contenders=2,
    additions=10,
    conversations=100,
    loading=4.0,
)
