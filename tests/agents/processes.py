"""Work done by several processes at once on one store."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from amfs import AgentMemory
from amfs_sqlite import SqliteAdapter


def at_once(
    work: Callable[..., Any], store: Path, count: int, *arguments: Any, seconds: float = 100
) -> list[Any]:
    """What `work(memory, number, *arguments)` returns in each of so many processes."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        barrier = manager.Barrier(count)
        with ProcessPoolExecutor(count, mp_context=context) as pool:
            running = [
                pool.submit(_started, work, barrier, store, number, arguments)
                for number in range(count)
            ]
            return [future.result(seconds) for future in running]


def _started(
    work: Callable[..., Any], barrier: Any, store: Path, number: int, arguments: tuple[Any, ...]
) -> Any:
    with (
        closing(SqliteAdapter(store)) as adapter,
        AgentMemory(f"process-{number}", adapter=adapter) as memory,
    ):
        barrier.wait(60)
        return work(memory, number, *arguments)
