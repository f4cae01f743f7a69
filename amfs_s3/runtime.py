"""Whether obstore can be used in this process.

obstore runs on a Tokio runtime made at its first request, whose threads a fork does not copy: in
the child every request would wait for ever. There is no way to ask obstore, so the question is
whether it had been imported when this process was forked.
"""

from __future__ import annotations

import os
import sys


class _Process:
    inherited_runtime = False


def obstore_works() -> bool:
    """True unless this process was forked from one that had obstore loaded."""
    return not _Process.inherited_runtime


def _note_fork() -> None:
    if "obstore" in sys.modules:
        _Process.inherited_runtime = True


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_note_fork)
