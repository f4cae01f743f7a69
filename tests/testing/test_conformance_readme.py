"""The adapter and the test file in the conformance kit's README are what they are said to be."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import amfs_core.testing
from tests.conftest import SHARED_MEMORY

README = Path(amfs_core.testing.__file__).parent / "README.md"
PACKAGES = Path(amfs_core.__file__).parent.parent


@pytest.fixture
def files() -> Iterator[Path]:
    """The README's Python blocks, each in the file that its first line names.

    In memory where that can be had: the adapter waits for the disk after each of thousands of
    objects, which on some disks takes minutes.
    """
    blocks = re.findall(r"```python\n# (\S+)\n(.*?)```", README.read_text(), re.DOTALL)
    assert [name for name, _ in blocks] == ["sqlite_adapter.py", "test_sqlite_adapter.py"]
    memory = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as directory:
        for name, code in blocks:
            Path(directory, name).write_text(code)
        yield Path(directory)


def _pytest(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir=.",
        f"--basetemp={directory / 'tests'}",
        *arguments,
    ]
    environment = os.environ | {
        "PYTHONPATH": str(PACKAGES),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # of the frameworks that are installed here too
        "TMPDIR": str(directory),
    }
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=300
    )


def test_the_adapter_of_the_readme_passes_the_kit(files: Path) -> None:
    result = _pytest(files)
    assert result.returncode == 0, result.stdout + result.stderr
    passed = re.search(r"(\d+) passed", result.stdout)
    assert passed is not None
    assert int(passed[1]) > 70


@pytest.mark.parametrize(
    ("right", "wrong", "caught_by"),
    [
        pytest.param(
            "INSERT OR IGNORE",
            "INSERT OR REPLACE",
            "test_create_is_refused_where_there_is_an_object",
            id="create-overwrites",
        ),
        pytest.param(
            "ORDER BY k LIMIT",
            "ORDER BY CAST(k AS TEXT) COLLATE NOCASE LIMIT",
            "test_list_is_in_the_byte_order_of_keys",
            id="list-folds-case",
        ),
        pytest.param(
            "while isinstance(rows := self._run(sql, low, end, after), list):",
            "if isinstance(rows := self._run(sql, low, end, after), list):",
            "test_list_gives_all_of_more_than_two_pages",
            id="list-stops-after-a-page",
        ),
        pytest.param(
            "k = ?", "lower(k) = lower(?)", "test_awkward_keys_are_all_different", id="get-folds"
        ),
    ],
)
def test_the_kit_catches_an_adapter_that_is_wrong(
    files: Path, right: str, wrong: str, caught_by: str
) -> None:
    adapter = files / "sqlite_adapter.py"
    code = adapter.read_text()
    assert right in code
    adapter.write_text(code.replace(right, wrong))
    result = _pytest(files, "-k", caught_by)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "1 failed" in result.stdout
