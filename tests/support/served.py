"""A server of AMFS in a process of its own, as `amfs serve` starts it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn

from amfs_core.storage import StorageAdapter
from amfs_server import app as application
from amfs_server.settings import Settings
from tests.conftest import REPOSITORY

START_SECONDS = 30.0
END_SECONDS = 40.0


class Served:
    """One server: where it listens, and what it said."""

    def __init__(self, *arguments: str, before: tuple[str, ...] = (), **variables: str) -> None:
        self.lines: list[str] = []
        self._listening = threading.Event()
        self.url = ""
        port = () if "--port" in arguments else ("--port", "0")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "amfs", *before, "serve", *port, *arguments],
            cwd=REPOSITORY,
            env={**os.environ, **variables},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._listening.wait(START_SECONDS) or not self.url:
            self.process.kill()
            self.process.wait()
            raise AssertionError("\n".join(self.lines))

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            if match := re.search(r"serving at (\S+)", line):
                self.url = match[1]
                self._listening.set()
        self._listening.set()

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def client(self, key: str | None = None, timeout: float = 30.0) -> httpx.Client:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=timeout, trust_env=False)

    def stop(self, how: int = signal.SIGTERM) -> int:
        """End it, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            code = self.process.wait(END_SECONDS)
        finally:
            self.process.kill()
            self.process.wait()
        self._reader.join(END_SECONDS)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code


@contextmanager
def serving(root: Path, *arguments: str, **variables: str) -> Iterator[Served]:
    """Serve a directory."""
    state = ("--state", str(root.parent / "events"))
    served = Served(*state, *arguments, before=("--store", str(root)), **variables)
    try:
        yield served
    finally:
        served.stop()


@contextmanager
def serving_here(adapter: StorageAdapter, keys: Path | None = None) -> Iterator[str]:
    """Serve a store in a thread of this process: its URL. Quicker to start than a process."""
    app = application.make_app(Settings(adapter=adapter, keys=keys))
    # With its protocol named: for others asyncio leaves the wait of small answers on.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen(100)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(END_SECONDS)
        listening.close()
    assert not thread.is_alive()
