"""Where a run works: one directory, which is removed when the run ends."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

from tests.support.servers import Program, Server, running


@functools.cache
def workplace() -> Path:
    """Return the directory, on the file system of the working directory.

    Nothing in it is removed before the process ends. An ext4 without a journal passes over each
    inode that was removed in the last five minutes, one by one, before a new file gets one
    (`recently_deleted` in fs/ext4/ialloc.c): what keeps files was measured up to ten times as slow
    after another part had tidied up, and what keeps one database was not.
    """
    path = Path(tempfile.mkdtemp(dir=Path.cwd(), prefix=".bench-"))
    atexit.register(clear)
    return path


def clear() -> None:
    """Remove the directory, if there is one: of a million files that takes minutes."""
    if workplace.cache_info().currsize:
        shutil.rmtree(workplace(), ignore_errors=True)


def serving(program: Program) -> AbstractContextManager[Server]:
    """Run a server there for as long as the block lasts."""
    return running(program, inside=workplace())
