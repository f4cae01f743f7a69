"""Whether a store can be used now."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from amfs_core.catalog import Index, IndexHealth
from amfs_core.errors import AMFSError
from amfs_core.storage import Degraded, Lag
from amfs_core.versions import VersionLog


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the store can be read now. `latency` is in seconds; `error` says why not. `mirrors`
    says how far each mirror is behind, where the store has some, `degraded` what waits in its
    fallback, where it has one, and `index` whether the index can be used, where there is one."""

    ok: bool
    backend_type: str
    latency: float
    error: AMFSError | None = None
    mirrors: tuple[Lag, ...] = ()
    degraded: Degraded | None = None
    index: IndexHealth | None = None


def check(
    versions: VersionLog, degraded: Callable[[], Degraded | None], index: Index | None = None
) -> Health:
    """Ask the store for the first object of the namespace, whatever its manifest says, and the
    index for a sign of life. `degraded` says what waits. 1 request to each; never raises."""
    started = time.monotonic()
    error: AMFSError | None = None
    try:
        next(versions.unguarded().store.list(versions.layout.root), None)
    except AMFSError as problem:
        error = problem
    except Exception as problem:  # an adapter that breaks the contract, or was closed
        error = AMFSError(
            f"the store failed unexpectedly: {str(problem) or type(problem).__name__}"
        )
        error.__cause__ = problem
    latency = time.monotonic() - started
    store = versions.store
    lags = tuple(store.mirror_lags())
    index_health = None if index is None else index.health()
    return Health(error is None, store.backend_type, latency, error, lags, degraded(), index_health)
