"""A mount from start to end."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import Any

from amfs import AgentMemory
from amfs_agents.mount.rescue import Rescue
from amfs_core.errors import ConfigurationError

_THREADS = 10
_SIGNALLED = 8  # results of fuse_main: the loop ended by a signal, or by an error of the device


def mount(
    memory: AgentMemory,
    directory: str,
    *,
    writes: bool,
    max_age: float,
    rescue: Rescue,
    mounted: Callable[[], None],
) -> None:
    """Show a memory as a directory until it is unmounted or a signal comes.

    `mounted` is called once it can be used. Raises `ConfigurationError` where it cannot be mounted.
    """
    point = _checked(directory, memory.adapter.location, rescue.directory)
    fuse = _fuse()
    from amfs_agents.mount.operations import Operations

    was_mounted = False
    working_directory = os.getcwd()

    def begun() -> None:
        nonlocal was_mounted
        was_mounted = True
        os.chdir(working_directory)  # libfuse changed it, and settings may name relative files
        mounted()

    operations = Operations(memory, writes=writes, max_age=max_age, rescue=rescue, mounted=begun)
    try:
        _program(fuse)(operations, point, **_options(fuse, writes))
    except RuntimeError as error:  # fuse_main reports only a number
        if was_mounted and error.args == (_SIGNALLED,):
            return
        raise ConfigurationError(
            f"{directory!r} could not be mounted",
            hint="what FUSE says of it stands above; amfs mount needs /dev/fuse, and the right to "
            "use it",
        ) from error


def _options(fuse: Any, writes: bool) -> dict[str, Any]:
    options: dict[str, Any] = {
        "foreground": True,
        "fsname": "amfs",
        "ro": not writes,
        "default_permissions": True,
        # The kernel caches neither names, sizes nor contents, because others write too.
        "entry_timeout": 0,
        "attr_timeout": 0,
        "negative_timeout": 0,
        "direct_io": True,
        "hard_remove": True,  # otherwise a file that is removed while it is open is renamed first
    }
    if sys.platform == "linux":
        options |= {"subtype": "amfs", "auto_unmount": True}
    if fuse.fuse_version_major == 3:
        options["max_idle_threads"] = _THREADS  # libfuse calls its own default invalid
    return options


def _fuse() -> Any:
    try:
        import mfusepy
    except OSError as error:
        raise ConfigurationError(
            f"FUSE is not there: {error}",
            hint="install it: apt install fuse3, or macFUSE on macOS",
        ) from error
    return mfusepy


def _program(fuse: Any) -> Any:
    class Program(fuse.FUSE):  # type: ignore[misc]
        """mfusepy's, which drops the open file of a truncate and the flags of a rename: to exchange
        two names would overwrite one of them."""

        def truncate_fuse_3(self, path: bytes | None, length: int, file: Any) -> int:
            answer: int = self.ftruncate(path, length, file)
            return answer

        def rename_fuse_3(self, old: bytes, new: bytes, flags: int) -> int:
            names = (name.decode(self.encoding, self.errors) for name in (old, new))
            answer: int = self.operations.rename(*names, flags)
            return answer

    return Program


def _checked(directory: str, location: str | None, rescue: str) -> str:
    """Return the real path of a directory that can be mounted on."""
    try:
        point = os.path.realpath(directory)
        is_empty = not os.listdir(point)
    except OSError as error:
        raise _unusable(directory, error) from error
    if not is_empty:
        raise ConfigurationError(
            f"{directory!r} is not empty, and a mount would hide what is in it",
            hint="mount on an empty directory",
        )
    for what, place in (("the store", _local(location)), ("what is rescued", rescue)):
        if place is not None and (_is_in(place, point) or _is_in(point, place)):
            raise ConfigurationError(
                f"{directory!r} and {what} ({place}) are within each other, so the mount would "
                "wait for itself",
                hint="mount elsewhere",
            )
    return point


def _unusable(directory: str, error: OSError) -> ConfigurationError:
    if error.errno == errno.ENOTCONN:
        ends = "umount" if sys.platform == "darwin" else "fusermount3 -u"
        return ConfigurationError(
            f"{directory!r} is a mount whose program was killed",
            hint=f"remove it: {ends} {directory}",
        )
    return ConfigurationError(
        f"{directory!r} cannot be mounted on: {error.strerror}",
        hint="name an empty directory that is there",
    )


def _local(location: str | None) -> str | None:
    """Return the path of a store on this machine."""
    scheme, _, path = (location or "").partition("://")
    return os.path.realpath(path) if scheme in ("file", "sqlite") else None


def _is_in(inner: str, outer: str) -> bool:
    return os.path.commonpath([inner, outer]) == outer
