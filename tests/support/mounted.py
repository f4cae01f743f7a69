"""A mount in a process of its own, as `amfs mount` makes it; whether this machine can have one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import REPOSITORY

SECONDS = 30.0
_REFUSED = "Operation not permitted"  # as in a container without the right to mount


class MountUnavailableError(Exception):
    """This machine cannot mount; the text says why."""


def require() -> None:
    """Raise `MountUnavailableError` where nothing can be mounted."""
    if shutil.which("fusermount3") is None:
        raise MountUnavailableError("there is no fusermount3: apt install fuse3")
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        raise MountUnavailableError(f"/dev/fuse: {error.strerror}") from error


class Mounted:
    """One mount: where it is, and what it said."""

    def __init__(
        self,
        point: Path,
        store: str,
        *arguments: str,
        before: Sequence[str] = (),
        cwd: Path = REPOSITORY,
        **variables: str,
    ) -> None:
        self.point = point
        self.lines: list[str] = []
        self._ready = threading.Event()
        self.is_mounted = False
        self.process = subprocess.Popen(
            [
                *(*before, sys.executable, "-m", "amfs", "--store", store, "--no-cache"),
                *("mount", str(point), *arguments),
            ],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._ready.wait(SECONDS)
        if not self.is_mounted:
            self.process.kill()
            self.ended()
            said = self.said
            raise (MountUnavailableError if _REFUSED in said else AssertionError)(said)

    @property
    def said(self) -> str:
        """All that it printed so far."""
        return "\n".join(self.lines)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if line.startswith("mounted on "):
                self.is_mounted = True
                self._ready.set()
        self._ready.set()

    def stop(self, how: int = signal.SIGINT) -> int:
        """End it, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.ended()

    def ended(self) -> int:
        """Wait for its end, and return its exit code."""
        try:
            code = self.process.wait(SECONDS)
        finally:
            self.process.kill()
            self.process.wait()
            self._reader.join(SECONDS)
            assert self.process.stdout is not None
            self.process.stdout.close()
        return code


def _mount_points() -> list[str]:
    return [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]


@contextmanager
def mounting(
    point: Path, store: Path | str, *arguments: str, **variables: str
) -> Iterator[Mounted]:
    """Mount a store on a directory that is made for it."""
    point.mkdir(parents=True, exist_ok=True)
    mounted = Mounted(point, str(store), *arguments, **variables)
    try:
        yield mounted
    finally:
        mounted.stop()
        if point in map(Path, _mount_points()):  # left by a test that killed it, and failed
            subprocess.run(["fusermount3", "-u", str(point)], check=True)
