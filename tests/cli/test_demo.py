"""The demo is the first thing that a stranger runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from pydoc_data.topics import topics

from amfs import AgentMemory
from amfs_local import LocalAdapter
from tests.support.postgres import Postgres
from tests.support.servers import REGION, Server

REPOSITORY = Path(__file__).resolve().parents[2]


def demo(directory: Path, *arguments: str, **variables: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AMFS_")}
    done = subprocess.run(
        [sys.executable, "-m", "amfs.demo", *arguments],
        cwd=directory,
        env={**kept, "PYTHONPATH": str(REPOSITORY), **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_the_demo_shows_everything_and_loses_nothing(tmp_path: Path) -> None:
    said = demo(tmp_path)
    assert f"{len(topics)} of {len(topics)} topics are identical" in said
    assert "all is well" in said
    assert ["python/notes/booleans", "12", "12", "24", "0"] in map(str.split, said.splitlines())
    assert "v1.json … v24.json" in said
    assert "amfs --store .amfs-demo ls" in said or "-m amfs" in said
    assert "AMFS_S3_BUCKET" in said
    assert len(said.splitlines()) < 60
    assert max(map(len, said.splitlines())) <= 120


def test_the_demo_leaves_a_store_to_look_around_in(tmp_path: Path) -> None:
    demo(tmp_path)
    demo(tmp_path)  # it starts afresh
    adapter = LocalAdapter(str(tmp_path / ".amfs-demo"))
    with AgentMemory("visitor", adapter=adapter, namespace="default") as memory:
        assert memory.verify().ok
        assert len(memory.history("python/notes", "while")) == 24
        authors = {entry.provenance.agent_id for entry in memory.list()}
        assert authors == {"ada", "grace"}
        reference = memory.read("python/reference", "lambda")
        assert reference is not None and reference.value == topics["lambda"]


def test_the_demo_keeps_away_from_what_is_in_a_store_already(tmp_path: Path) -> None:
    adapter = LocalAdapter(str(tmp_path / "mine"))
    with AgentMemory("me", adapter=adapter, namespace="default") as memory:
        memory.write("my", "own", 1)
        said = demo(tmp_path, "--store", "mine")
        assert [entry.key for entry in memory.list()] == ["own"]
    assert "--store mine --namespace demo-" in said
    assert not (tmp_path / ".amfs-demo").exists()


def test_the_same_demo_runs_on_a_bucket(tmp_path: Path, minio: Server) -> None:
    bucket = minio.new_bucket()
    variables = {
        "AMFS_S3_BUCKET": bucket,
        "AMFS_S3_ENDPOINT": minio.endpoint_url,
        "AWS_ACCESS_KEY_ID": minio.access_key,
        "AWS_SECRET_ACCESS_KEY": minio.secret_key,
        "AWS_DEFAULT_REGION": REGION,
    }
    said = demo(tmp_path, **variables)
    assert "all is well" in said and bucket in said
    assert minio.secret_key not in said
    listing = minio.boto3_client().list_objects_v2(Bucket=bucket, Prefix="amfs/demo-")
    assert listing["KeyCount"] == len(topics) + 3 * 24
    assert not list(tmp_path.iterdir())


def test_a_database_is_shown_without_the_password_of_its_dsn(
    tmp_path: Path, postgres: Postgres
) -> None:
    said = demo(tmp_path, "--store", postgres.new_database())
    assert "AMFS demo: postgresql://" in said and "--store postgresql://… --namespace" in said
    assert postgres.password not in said


def test_a_store_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    done = subprocess.run(
        [sys.executable, "-m", "amfs.demo", "--store", "file"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("amfs demo: ") and done.stderr.count("\n") == 1
