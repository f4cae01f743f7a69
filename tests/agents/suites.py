"""The tests in the sources of an SDK, got once and run as they are."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.conftest import NOT_COVERED, REPOSITORY
from tests.support import servers

_PLUGINS = REPOSITORY / "tests" / "agents" / "plugins"


def sources(distribution: str) -> Path:
    """The sources of the installed version, kept between runs, with their tests."""
    number = version(distribution)
    name = f"{distribution.replace('-', '_')}-{number}"
    cache = servers.cache_directory()
    root = cache / name
    if root.exists():
        return root
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as directory:
        got = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:"),
                *("--dest", directory, f"{distribution}=={number}"),
            ],
            capture_output=True,
            text=True,
        )
        archives = list(Path(directory).glob("*.tar.gz"))
        if not archives:
            reason = f"{NOT_COVERED} the tests of {distribution} {number} can't be had"
            if os.environ.get("CI") == "true":
                pytest.fail(f"{reason}: {got.stderr[-500:]}")
            pytest.skip(reason)
        with tarfile.open(archives[0]) as archive:
            archive.extractall(directory, filter="data")
        try:
            (Path(directory) / name).rename(root)
        except OSError:  # another run was quicker
            assert root.exists()
    return root


def run(
    root: Path,
    files: Iterable[str],
    *,
    plugin: str,
    left_out: Iterable[str],
    options: Iterable[str] = (),
    variables: Mapping[str, str] | None = None,
) -> Counter[str]:
    """Run test files with a plugin; how many tests passed, failed and were skipped.

    What is `left_out` is named as `--deselect` wants it.
    """
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", plugin, "-p", "no:cacheprovider"]
            + ["-p", "no:schemathesis", "-p", "no:langsmith_plugin"]  # seconds to import
            + ["--basetemp", f"{directory}/t", "--junitxml", str(report), *options, *files]
            + [f"--deselect={name}" for name in left_out],
            cwd=root,
            env={
                **os.environ,
                "PYTHONPATH": f"{_PLUGINS}{os.pathsep}{REPOSITORY}",
                "PYTHONDONTWRITEBYTECODE": "1",
                "TMPDIR": directory,
                **(variables or {}),
            },
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert report.exists(), done.stdout + done.stderr
        suite = ET.parse(report).getroot()[0]
    counts = {kind: int(suite.get(kind, 0)) for kind in ("tests", "failures", "errors", "skipped")}
    bad = counts["failures"] + counts["errors"]
    assert not bad, done.stdout[-5000:]
    assert done.returncode == 0, done.stdout + done.stderr
    return Counter(passed=counts["tests"] - counts["skipped"], skipped=counts["skipped"])
