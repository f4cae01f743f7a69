"""What a figure depends on: the machine and the versions. Neither host names nor paths."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

from benchmarks.peer import AGENTFS, AMFS, GRAPH, MEM0, RIVAL, Peer
from tests.support.servers import MODULES

_PACKAGES = ("amfs", "obstore", "boto3", "minio")
_OF_PEERS: dict[Peer, tuple[str, ...]] = {
    RIVAL: ("amfs", "amfs-adapter-s3", "amfs-adapter-filesystem"),
    GRAPH: ("langgraph", "langgraph-checkpoint-sqlite"),
    AGENTFS: ("agentfs-sdk",),
    MEM0: ("mem0ai",),
}

_TELL = """
import sys
from importlib.metadata import version
print(*(f"{name} {version(name)}" for name in sys.argv[1:]), sep=", ")
"""


def description() -> dict[str, str]:
    """Return what the page says about the machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "CPU": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "file system": _file_system(Path.cwd()),
        "Python": f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}",
        "S3 server": "MinIO " + MODULES["minio"].partition("@")[2].split("-")[1][:8],
        AMFS.name: ", ".join(
            f"{package} {importlib.metadata.version(package)}" for package in _PACKAGES
        ),
        "peers": "; ".join(
            _versions(peer, packages) for peer, packages in _OF_PEERS.items() if peer.installed
        ),
    }


def _processor() -> str:
    try:
        match = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        match = None
    return match[1] if match else platform.processor() or platform.machine()


def _file_system(path: Path) -> str:
    """Return the type of the file system that holds a path, as `df` says it."""
    if sys.platform != "linux":
        return "unknown"
    told = subprocess.run(
        ["df", "--output=fstype", str(path)], capture_output=True, text=True, check=True
    )
    return told.stdout.split()[-1]


def _versions(peer: Peer, packages: tuple[str, ...]) -> str:
    told = subprocess.run(
        [str(peer.python), "-I", "-c", _TELL, *packages],
        capture_output=True,
        text=True,
        check=True,
    )
    return told.stdout.strip()
