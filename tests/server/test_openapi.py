"""The description of the API, and what a program that knows nothing else finds wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from amfs_server import openapi
from amfs_server.app import _OBJECTS, _OPERATIONS, _ROUTES
from tests.support.served import serving

CONFIG = Path(__file__).parent / "schemathesis.toml"
EXAMPLES = os.environ.get("AMFS_TEST_EXAMPLES", "20")
SEED = os.environ.get("AMFS_TEST_SEED", "1")


@pytest.mark.slow
def test_schemathesis_finds_nothing_wrong(tmp_path: Path) -> None:
    with serving(tmp_path / "store") as server:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run"),
                *(f"{server.url}/openapi.json", "--max-examples", EXAMPLES, "--seed", SEED),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
        assert " passed" in done.stdout
        assert not [line for line in server.lines if "Traceback" in line]


def test_everything_that_is_routed_is_described() -> None:
    described = {
        (path.split("/")[3], method.upper())
        for path, operations in openapi.document()["paths"].items()
        if path.startswith("/v1/")
        for method in operations
        if method != "parameters"
    }
    routed = {(name, method) for (name, _), methods in _ROUTES.items() for method in methods}
    assert described == routed | {("watch", "GET")}
    others = {
        path.strip("/"): {method.upper() for method in operations} - {"PARAMETERS"}
        for path, operations in openapi.document()["paths"].items()
        if path[1:3] != "v1"
    }
    assert others.pop("objects") == set(_OBJECTS[False])
    assert others.pop("objects/{namespace}/{object}") == set(_OBJECTS[True])
    assert set(others) == set(_OPERATIONS) - {"openapi.json"}
    assert len(openapi.document()["paths"]) + 1 < 20  # an API that a person reads in one sitting
