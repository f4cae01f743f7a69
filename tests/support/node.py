"""Packages of npm in a directory of a test, for clients and public suites in JavaScript."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def installed(directory: Path, *packages: str) -> Path:
    """Return the directory with the packages in it; skip, and say so loudly, where there can be
    none: they are not part of the project's own language."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip(f"NOT TESTED with {', '.join(packages)}: there is no node or npm")
    (directory / "package.json").write_text('{"type": "module"}')
    command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", *packages]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"NOT TESTED with {', '.join(packages)}: npm says {done.stderr[-500:]}")
    return directory
