"""Memories that have looked at the manifest of their namespace."""

from __future__ import annotations

from typing import TypeVar

from amfs_core.memory.session import Session
from amfs_core.versions import GuardedClient

M = TypeVar("M", bound=Session)


def known(memory: M) -> M:
    """Have a memory look at the manifest, and return it: for tests that count, delay or spoil the
    requests of what comes next. What the look costs is tested in `tests/versions/test_manifests.py`
    and, on the wire, in `tests/s3/test_s3_budget.py`."""
    memory.engine.versions.manifests.for_writing()
    return memory


def told(memory: M, by: Session) -> M:
    """Have a memory know of the manifest what another one knows, and return it: for programs of
    faults, in which a look would meet faults in a thread of its own, in no certain order."""
    manifests = known(by).engine.stored.manifests
    stored = memory.engine.stored
    stored.manifests = manifests
    assert isinstance(stored.store, GuardedClient)
    stored.store.manifests = manifests
    return memory
