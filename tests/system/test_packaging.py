"""The distribution, as a user gets it: a wheel in a fresh environment."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", target, ROOT, cwd=ROOT)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, its core dependencies, and none of its extras."""
    home = tmp_path_factory.mktemp("fresh")
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    run(python, "-m", "pip", "install", "-q", "-c", constraints, wheel, cwd=home)
    return python


def test_the_wheel_has_every_package_typed_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    adapters = {"amfs_local", "amfs_postgres", "amfs_s3", "amfs_sqlite", "amfs_http"}
    doors = {"amfs_agents", "amfs_otel", "amfs_server"}
    packages = {"amfs", "amfs_core", "amfs_curl", *adapters, *doors}
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == packages
    assert {f"{package}/py.typed" for package in packages} <= set(names)
    assert not [name for name in names if name.startswith("tests")]


def test_a_fresh_install_writes_and_reads_a_directory(python: Path, tmp_path: Path) -> None:
    program = (
        "from amfs import AgentMemory\n"
        "from amfs_local import LocalAdapter\n"
        "with AgentMemory('a', adapter=LocalAdapter('store')) as memory:\n"
        "    memory.write('svc', 'k', {'n': 1})\n"
        "    print(memory.read('svc', 'k').value['n'], memory.verify().ok)\n"
    )
    assert run(python, "-c", program, cwd=tmp_path).split() == ["1", "True"]


def test_a_fresh_install_reads_a_configuration_file_and_brings_no_pydantic(
    python: Path, tmp_path: Path
) -> None:
    (tmp_path / "amfs.yaml").write_text("namespace: filed\npatience: soon\n")
    program = (
        "import importlib.util\n"
        "from amfs import AgentMemory, ConfigurationError\n"
        "try:\n"
        "    AgentMemory('a')\n"
        "except ConfigurationError as error:\n"
        "    print(error)\n"
        "print(importlib.util.find_spec('pydantic'))\n"
    )
    said = run(python, "-c", program, cwd=tmp_path).splitlines()
    assert said == ["amfs.yaml line 2: 'patience': it must be seconds, 0 or more", "None"]


def test_without_its_extra_the_command_says_what_to_install(python: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(python), "-m", "amfs", "ls"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "amfs[cli]" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_its_extra_s3_says_what_to_install(python: Path, tmp_path: Path) -> None:
    program = (
        "from amfs import AgentMemory, ConfigurationError\n"
        "try:\n"
        "    AgentMemory('a')\n"
        "except ConfigurationError as error:\n"
        "    print(error)\n"
    )
    said = run(python, "-c", program, cwd=tmp_path, AMFS_S3_BUCKET="bucket")
    assert "amfs[s3]" in said


def test_without_its_extra_postgres_says_what_to_install(python: Path, tmp_path: Path) -> None:
    program = (
        "from amfs import ConfigurationError, open_store\n"
        "try:\n"
        "    open_store('postgresql:///memories')\n"
        "except ConfigurationError as error:\n"
        "    print(error)\n"
        "try:\n"
        "    import amfs_postgres\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    assert run(python, "-c", program, cwd=tmp_path).count("amfs[postgres]") == 2


def test_with_its_extras_the_installed_command_works(
    python: Path, wheel: Path, tmp_path: Path
) -> None:
    constraints = ROOT / "constraints.txt"
    run(python, "-m", "pip", "install", "-q", "-c", constraints, f"{wheel}[all]", cwd=tmp_path)
    amfs = python.with_name("amfs")
    run(amfs, "--store", "store", "write", "svc", "k", "7", cwd=tmp_path)
    assert '"value": 7' in run(
        amfs, "--store", "store", "--json", "read", "svc", "k", cwd=tmp_path
    ).replace('"value":7', '"value": 7')
    run(python, "-c", "import amfs_s3; amfs_s3.S3Adapter('bucket')", cwd=tmp_path)
    program = "import amfs_postgres as a; a.PostgresAdapter('postgresql:///memories')"
    run(python, "-c", program, cwd=tmp_path)
