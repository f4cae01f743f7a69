"""The peers, each driven in a process and an environment of its own: `benchmarks/peers/`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.workplace import workplace
from tests.support.servers import REGION, Server

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parent / ".peers"
UNBOUND = 60.0
"""Seconds for what has no bound, such as to open."""
GRACE = 30.0
"""Seconds that an answer may come late: a piece of work looks at its time between two steps."""

Answer = dict[str, Any]
Place = dict[str, str]


@dataclass(frozen=True, slots=True)
class Peer:
    """A store that can be driven: its name on the page, its driver, and its environment."""

    name: str
    module: str
    environment: str = ""

    @property
    def python(self) -> Path:
        """The interpreter; without an environment of its own it is this one."""
        if not self.environment:
            return Path(sys.executable)
        return ENVIRONMENTS / self.environment / "bin" / "python"

    @property
    def installed(self) -> bool:
        """Whether its environment was made."""
        return not self.environment or (ENVIRONMENTS / self.environment / "done").exists()


AMFS = Peer("AMFS", "ours")
RIVAL = Peer("amfs 0.5 (PyPI)", "rival", "rival")
GRAPH = Peer("LangGraph SQLite", "langgraph_sqlite", "langgraph")
GRAPH_MEMORY = Peer("LangGraph memory", "langgraph_memory", "langgraph")
AGENTFS = Peer("AgentFS", "agentfs", "agentfs")
MEM0 = Peer("mem0 history", "mem0_history", "mem0")
FILES = Peer("files by hand", "files")
SQLITE = Peer("SQLite by hand", "sqlite_wal")
OBSTORE = Peer("obstore", "raw_obstore")
BOTO3 = Peer("boto3", "raw_boto3")
MINIO_PY = Peer("minio-py", "raw_minio")

ON_DISK = (AMFS, RIVAL, GRAPH, GRAPH_MEMORY, AGENTFS, MEM0, SQLITE, FILES)
ON_S3 = (AMFS, RIVAL, OBSTORE, BOTO3, MINIO_PY)


class CannotError(Exception):
    """A peer can't do it, or failed, or took too long; the message says which."""


class Driver:
    """A peer's process. One piece of work at a time."""

    def __init__(self, peer: Peer, home: Path) -> None:
        if not peer.installed:
            raise CannotError("could not be installed")
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        self.peer = peer
        # -I: neither this directory, nor variables, nor the user's packages are looked at, so that
        # the rival with our import names is the one that is installed in its environment.
        self._process = subprocess.Popen(
            [str(peer.python), "-I", str(HERE / "peers" / "drive.py"), peer.module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=home,
            env={**kept, "HOME": str(home), "MEM0_TELEMETRY": "False"},
        )

    def send(self, do: str, **how: Any) -> None:
        """Begin a piece of work."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **how}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise CannotError("its process ended") from error

    def answer(self, seconds: float) -> Answer:
        """Return what came of it; a process that takes much longer is ended."""
        assert self._process.stdout is not None
        watchdog = threading.Timer(seconds + GRACE, self._process.kill)
        watchdog.start()
        line = self._process.stdout.readline()
        watchdog.cancel()
        if not line:
            late = self._process.wait() == -signal.SIGKILL
            raise CannotError(f"more than {seconds:.0f} s" if late else "its process ended")
        answer: Answer = json.loads(line)
        if "cannot" in answer:
            raise CannotError(answer["cannot"])
        if "failed_with" in answer:
            raise CannotError(f"failed: {answer['failed_with'][:200]}")
        return answer

    def ask(self, do: str, *, wait: float = 0.0, **how: Any) -> Answer:
        """Do a piece of work. It is waited for as long as its bound, `seconds`, or longer."""
        self.send(do, **how)
        return self.answer(max(wait, how.get("seconds", UNBOUND)))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(5)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Places:
    """Makes new places, on disk and in a bucket, below one directory that is removed at the end."""

    root: Path

    def directory(self) -> Place:
        """Return a new directory."""
        return {"directory": tempfile.mkdtemp(dir=self.root), "agent": "bench"}

    def bucket(self, server: Server, endpoint_url: str = "") -> Place:
        """Return a new bucket, reached through another address if one is given."""
        return {
            "bucket": server.new_bucket(),
            "endpoint_url": endpoint_url or server.endpoint_url,
            "region": REGION,
            "access_key": server.access_key,
            "secret_key": server.secret_key,
            "agent": "bench",
        }


@contextmanager
def places() -> Iterator[Places]:
    """Give places in a new directory of the workplace, which keeps them until the run ends."""
    yield Places(Path(tempfile.mkdtemp(dir=workplace())))


@contextmanager
def drivers(peers: tuple[Peer, ...], home: Path) -> Iterator[dict[Peer, Driver | str]]:
    """Start a driver for each peer; instead of one that can't be started, the reason."""
    with ExitStack() as stack:
        started: dict[Peer, Driver | str] = {}
        for peer in peers:
            try:
                started[peer] = stack.enter_context(Driver(peer, home))
            except CannotError as reason:
                started[peer] = str(reason)
        yield started
