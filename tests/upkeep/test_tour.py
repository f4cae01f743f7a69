"""`amfs copy` through every kind of store and back: nothing but the place changes."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from amfs_core.memory import AgentMemory
from amfs_local import LocalAdapter
from tests.conftest import REPOSITORY
from tests.support.postgres import Postgres, new_schema
from tests.support.servers import REGION, Server


def files(root: Path) -> dict[str, bytes]:
    """The objects of a directory; what else a store keeps beside them has a dot before its name."""
    with closing(LocalAdapter(root)) as adapter:
        return {info.key: adapter.get(info.key) or b"" for info in adapter.list("")}


def fill(root: Path) -> None:
    """Two namespaces with histories, an outcome, two erased memories, names of all kinds,
    and one that expires."""
    with closing(LocalAdapter(root)) as adapter:
        for namespace in ("default", "other: %/\n"):
            with AgentMemory("a", adapter=adapter, namespace=namespace) as memory:
                for number in range(4):
                    memory.write("checkout/ü", "k 👋/v1.json", {"n": number}, tags=["x"])
                    memory.write("checkout", f"k{number}", "😀" * number)
                soon = datetime.now(UTC) + timedelta(days=1)
                memory.write("checkout", "expires", None, expires_at=soon)
                memory.read("checkout", "k1")
                memory.commit_outcome("deploy-1", "success")
                memory.purge("checkout", "k2")
                memory.write("checkout", "secret", "once")
                memory.write("checkout", "secret", "twice")
                memory.purge("checkout", "secret")


def test_a_copy_through_every_kind_of_store_is_the_same_byte_for_byte(
    tmp_path: Path, postgres: Postgres, minio: Server
) -> None:
    fill(tmp_path / "first")
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": minio.endpoint_url,
        "AWS_ACCESS_KEY_ID": minio.access_key,
        "AWS_SECRET_ACCESS_KEY": minio.secret_key,
        "AWS_DEFAULT_REGION": REGION,
    }
    separator = "&" if "?" in postgres.dsn else "?"
    stops = [
        str(tmp_path / "first"),
        f"sqlite:///{tmp_path / 'store.db'}",
        f"{postgres.dsn}{separator}schema={new_schema()}",
        f"s3://{minio.new_bucket()}/tour",
        str(tmp_path / "last"),
    ]

    def amfs(*arguments: str) -> str:
        ran = subprocess.run(
            [sys.executable, "-m", "amfs", *arguments],
            env=environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    copied = [
        json.loads(amfs("copy", "--json", source, place))
        for source, place in itertools.pairwise(stops)
    ]
    assert files(tmp_path / "last") == files(tmp_path / "first")
    assert len({report["copied"] for report in copied}) == 1
    for namespace in ("default", "other: %/\n"):
        said = {
            amfs("--store", place, "--namespace", namespace, "log", "--json", "checkout", "k1")
            for place in stops
        }
        assert len(said) == 1
        for place in stops:
            assert json.loads(amfs("--store", place, "--namespace", namespace, "verify", "--json"))[
                "ok"
            ]
