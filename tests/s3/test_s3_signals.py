"""A signal handler that uses a bucket while the very first operation on it is under way.

That one imports, resolves, finds credentials and proves conditional writes;
`tests/memory/test_signals.py` interrupts what comes later.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.servers import Server

SIGNALS = int(os.environ.get("AMFS_TEST_SIGNALS", "12"))  # 200 in the long form
END_SECONDS = 60.0

PROGRAM = """
import faulthandler, os, signal, sys
from amfs import AgentMemory
from amfs_s3 import S3Adapter

bucket, endpoint, key, secret = sys.argv[1:]
memory = AgentMemory("a", adapter=S3Adapter(
    bucket, endpoint_url=endpoint, region_name="us-east-1",
    aws_access_key_id=key, aws_secret_access_key=secret))

def save(*_):
    faulthandler.dump_traceback_later(40, exit=True)  # a hang says where it is
    memory.write("last", "k", "saved")
    os.write(1, b"saved\\n")
    os._exit(0)

signal.signal(signal.SIGTERM, save)
os.write(1, b"ready\\n")
memory.write("first", "k", 1)
while True:
    signal.pause()
"""


def interrupted(server: Server, cache: Path, after: float) -> list[str]:
    """Signal a program some seconds after its first operation began; return what it stored."""
    bucket = server.new_bucket()
    arguments = (bucket, server.endpoint_url, server.access_key, server.secret_key)
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=os.environ | {"XDG_CACHE_HOME": str(cache)},  # nothing is proved there yet
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n", child.stderr and child.stderr.read()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(after)  # the moment is random: none of them is waited for
        child.send_signal(signal.SIGTERM)
        out, err = child.communicate(timeout=END_SECONDS)
    finally:
        child.kill()
        child.wait()
    assert (child.returncode, out) == (0, "saved\n"), err
    listed = server.boto3_client().list_objects_v2(Bucket=bucket)
    return [stored["Key"] for stored in listed["Contents"]]


def test_a_signal_handler_may_write_while_the_first_operation_connects_and_proves(
    minio: Server, tmp_path: Path
) -> None:
    moments = random.Random(7)
    delays = [moments.choice((0.1, 0.4, 1.0)) * moments.random() for _ in range(SIGNALS)]
    caches = [tmp_path / str(number) for number in range(SIGNALS)]
    with ThreadPoolExecutor(2) as pool:
        stores = list(pool.map(interrupted, [minio] * SIGNALS, caches, delays))
    for stored in stores:
        assert any("/entries/last/k/" in key for key in stored)
