"""Mending objects in a forked child.

Only the forking thread lives on in a child: a lock that another thread held stays held for ever,
and the threads of a pool are gone. Objects that own either are registered here and make them anew.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """Something that must be made usable again in a forked child."""

    def after_fork(self) -> None:
        """Replace locks, pools and connections; called in the child, before any other code."""


_forkables: weakref.WeakSet[Forkable] = weakref.WeakSet()


def register(forkable: Forkable) -> None:
    """Have `forkable.after_fork()` called in every forked child, for as long as it lives."""
    _forkables.add(forkable)


def _mend() -> None:
    for forkable in list(_forkables):
        forkable.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_mend)
