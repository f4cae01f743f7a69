"""The doorbell of a directory: the operating system says when something in it changed.

`watchfiles` asks inotify on Linux (inotify(7)), FSEvents on macOS. inotify watches directories one
by one: a watch for each is made at the start, and for new ones as they come. `docs/design/watch.md`
says what that costs and when it fails.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import watchfiles

from amfs_core.flag import Flag
from amfs_core.storage import NoDoorbell

_STEP_MS = 20
"""Milliseconds between two looks of watchfiles for changes that the system reported. A change rings
after one or two steps; without changes, 20 ms cost about 0.3% of a core."""

_LOOK_SECONDS = 1.0
"""Seconds between two looks whether the directory is still the one that is watched."""


class DirectoryListener:
    """Listens to everything below a directory, which need not exist yet.

    Names that begin with a dot never ring: no object has one.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory.rstrip(os.sep) or os.sep
        self._stopped = Flag()

    def listen(self, ring: Callable[[], None]) -> None:
        """Listen until stopped, or until the directory is created, removed or replaced."""
        nearest = _nearest(self._directory)
        if nearest == self._directory:
            self._watch(nearest, ring, self._is_object, recursive=True)
            return
        # A directory above may be large and busy: look only for the one name that leads down.
        down = next(path for path in _upwards(self._directory) if os.path.dirname(path) == nearest)
        self._watch(nearest, _do_nothing, lambda path: path == down, recursive=False)

    def stop(self) -> None:
        """End `listen` within a step."""
        self._stopped.set()

    def _watch(
        self,
        directory: str,
        ring: Callable[[], None],
        matters: Callable[[str], bool],
        *,
        recursive: bool,
    ) -> None:
        progress = _Progress(self._stopped, directory, self._directory, ring)

        def saw(change: watchfiles.Change, path: str) -> bool:
            if change is watchfiles.Change.deleted and path == directory:
                progress.gone = True  # another may have its name, and its inode, already
            if matters(path):
                progress.look_again()
                ring()
            return False  # what is yielded is also logged, at INFO, for every write

        try:
            for _ in watchfiles.watch(
                directory,
                watch_filter=saw,
                debounce=2 * _STEP_MS,
                step=_STEP_MS,
                stop_event=progress,
                rust_timeout=0,
                raise_interrupt=False,
                recursive=recursive,
                ignore_permission_denied=True,
            ):
                pass
        except FileNotFoundError:  # removed meanwhile
            return
        except OSError as error:
            # Most likely fs.inotify.max_user_watches is reached (ENOSPC). Trying again would walk
            # through all directories again.
            raise NoDoorbell(f"{directory} cannot be watched: {error}") from error

    def _is_object(self, path: str) -> bool:
        below = path[len(self._directory) :].split(os.sep)
        return not any(name.startswith(".") for name in below)


class _Progress:
    """watchfiles asks this at every step whether to stop: from the first time on, it is
    listening."""

    def __init__(
        self, stopped: Flag, directory: str, wanted: str, ring: Callable[[], None]
    ) -> None:
        self._stopped = stopped
        self._directory = directory
        self._wanted = wanted
        self._ring = ring
        self._watched = _identity(directory)
        self._listening = False
        self._look_at = 0.0
        self.gone = False

    def look_again(self) -> None:
        """Look at the next step whether the directory is still the watched one."""
        self._look_at = 0.0

    def is_set(self) -> bool:
        """True when there is nothing left to listen to."""
        if self._stopped.is_set() or self.gone:
            return True
        if not self._listening:
            self._listening = True
            self._ring()
        now = time.monotonic()
        if now < self._look_at:
            return False
        self._look_at = now + _LOOK_SECONDS
        replaced = _identity(self._directory) != self._watched
        return replaced or _nearest(self._wanted) != self._directory


def _do_nothing() -> None:
    pass


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _upwards(path: str) -> Iterator[str]:
    """Yield a path and every directory above it."""
    yield path
    while (above := os.path.dirname(path)) != path:
        path = above
        yield path


def _nearest(path: str) -> str:
    """Return the path, or the nearest directory above it that exists."""
    return next((directory for directory in _upwards(path) if os.path.isdir(directory)), os.sep)
