"""Bringing to the mirrors of a store what they lack of a namespace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from amfs_core.errors import AMFSError
from amfs_core.layers import Layered, Routed
from amfs_core.storage import StorageAdapter, WrappedAdapter
from amfs_core.upkeep.copy import catch_up


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What one mirror got: objects that it lacked (`copied`, of so many `bytes`), and content that
    the primary has erased (`erased`). `error` is why something is still lacking, else None."""

    mirror: str
    copied: int = 0
    erased: int = 0
    bytes: int = 0
    error: str | None = None


def catch_up_mirrors(
    adapter: StorageAdapter, namespace: str, patience: float
) -> tuple[CaughtUp, ...]:
    """Bring to each mirror what it lacks of a namespace. A mirror that fails is in no other one's
    way. For each what `catch_up` costs."""
    done = []
    for name, primary, mirror in _mirrors(adapter):
        try:
            report = catch_up(primary, mirror, namespace, patience=patience)
        except AMFSError as error:
            done.append(CaughtUp(name, error=str(error)))
        else:
            done.append(CaughtUp(name, report.copied, report.erased, report.bytes))
    return tuple(done)


def _mirrors(
    adapter: StorageAdapter, of: str = ""
) -> Iterator[tuple[str, StorageAdapter, StorageAdapter]]:
    """Yield each mirror in a store made of stores, with its name and its primary."""
    if isinstance(adapter, Layered):
        for number, mirror in enumerate(adapter.mirrors, start=1):
            yield f"{of}mirror {number}", adapter.inner, mirror.adapter
    if isinstance(adapter, Routed):
        for under, store in adapter.routes.items():
            yield from _mirrors(store, f"{of}{under}: ")
    if isinstance(adapter, WrappedAdapter):
        yield from _mirrors(adapter.inner, of)
