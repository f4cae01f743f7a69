"""Whether obstore can be used in this process, and what becomes of its clients where it cannot.

obstore runs on a Tokio runtime made at its first request, whose threads a fork does not copy: in
the child every request would wait for ever. There is no way to ask obstore, so the question is
whether it had been imported when this process was forked.
"""

from __future__ import annotations

import os
import sys

import msgspec


class _Process:
    inherited_runtime = False


def obstore_works() -> bool:
    """True unless this process was forked from one that had obstore loaded."""
    return not _Process.inherited_runtime


class _Kept(msgspec.Struct, gc=False):
    """One that holds itself is never freed: no garbage collector looks at it."""

    what: object
    itself: _Kept | None = None


def keep_for_ever(client: object) -> None:
    """Have a client that was inherited through a fork never be freed, at the end neither.

    To free one closes its connections, which are tasks of the runtime. The threads of that are not
    here, and what one of them had locked at the moment of the fork stays locked: the child would
    wait for it in the middle of letting go.
    """
    kept = _Kept(client)
    kept.itself = kept


def _note_fork() -> None:
    if "obstore" in sys.modules:
        _Process.inherited_runtime = True


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_note_fork)
