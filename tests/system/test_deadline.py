"""A test that hangs is named, and the others are run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY

TESTS = """
import threading

def test_that_waits_for_itself():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()

def test_that_comes_after_it():
    pass
"""


def test_a_test_that_hangs_fails_where_it_does_and_the_next_one_is_run(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "--numprocesses", "1"),
            *("-p", "tests.support.deadline", "-p", "no:cacheprovider"),
            *("--basetemp", tmp_path / "its"),  # or it would remove what earlier runs have left
            *("-c", "pyproject.toml", "--rootdir", tmp_path, tmp_path / "test_it.py"),
        ],
        cwd=REPOSITORY,
        env={**os.environ, "TEST_DEADLINE": "2", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1, run.stderr
    assert "1 failed, 1 passed" in run.stdout
    assert ">       lock.acquire()" in run.stdout
    assert "TimeoutError: the test has not ended after 2 s" in run.stdout
