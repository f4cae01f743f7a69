"""Mending objects in a forked child.

Only the forking thread lives on in a child: a lock that another thread held stays held forever,
and the threads of a pool are gone. Objects that own either are registered here and make them again.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

import msgspec


class Forkable(Protocol):
    """Something that must be made usable again in a forked child."""

    def after_fork(self) -> None:
        """Replace locks, pools and connections; called in the child, before any other code."""


_forkables: weakref.WeakSet[Forkable] = weakref.WeakSet()


def register(forkable: Forkable) -> None:
    """Have `forkable.after_fork()` called in every forked child, for as long as it lives."""
    _forkables.add(forkable)


class _Kept(msgspec.Struct, gc=False):
    """An object that holds itself is never freed: no garbage collector looks at it."""

    what: object
    itself: _Kept | None = None


def keep_forever(client: object) -> None:
    """Keep a client inherited through a fork alive forever, even at interpreter exit.

    To free it would close its connections, which are the parent's too: on a connection with TLS
    that says goodbye to the server in the middle of what the parent is doing. A pool would wait for
    its threads, which the child does not have.
    """
    kept = _Kept(client)
    kept.itself = kept


def _mend() -> None:
    for forkable in list(_forkables):
        forkable.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_mend)
