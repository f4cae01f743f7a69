"""Writes and reads on one S3 server, beside raw obstore with the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import obstore
from obstore.store import S3Store

from amfs import AgentMemory
from amfs_s3 import S3Adapter
from benchmarks.figure import Figure
from benchmarks.measure import Work, compare
from benchmarks.scale import Scale
from benchmarks.workplace import serving
from tests.servers import MINIO, REGION, Server

VALUE = {"text": "what the agent learnt " * 22, "steps": list(range(20)), "source": "run-17"}
BODY = b"x" * 1000
THREADS = 32


def raw_store(server: Server, bucket: str) -> S3Store:
    """Return obstore's own client of a bucket, with nothing of AMFS about it."""
    return S3Store(
        bucket,
        config={
            "endpoint": server.endpoint_url,
            "region": REGION,
            "access_key_id": server.access_key,
            "secret_access_key": server.secret_key,
        },
        client_options={"allow_http": True, "timeout": timedelta(seconds=10)},
        retry_config={"max_retries": 0},
    )


def comparisons(scale: Scale) -> Iterator[Figure]:
    """Yield writes, and reads of a version, beside raw puts and gets."""
    with serving(MINIO) as server:
        yield from _comparisons(server, scale)


def _comparisons(server: Server, scale: Scale) -> Iterator[Figure]:
    bucket = server.new_bucket()
    raw = raw_store(server, bucket)
    adapter = S3Adapter(
        bucket,
        endpoint_url=server.endpoint_url,
        region_name=REGION,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
    )
    memory = AgentMemory("bench", adapter=adapter, namespace="bench")

    def write(repetition: int) -> Work:
        return lambda number: memory.write(f"load/{repetition}", f"k{number}", VALUE)

    def put(repetition: int) -> Work:
        return lambda number: obstore.put(
            raw, f"raw/{repetition}/k{number}", BODY, mode="create", use_multipart=False
        )

    yield from compare(
        f"bucket: write, {THREADS} threads",
        "obstore put",
        write,
        put,
        count=scale.raw_operations,
        threads=THREADS,
        repetitions=scale.repetitions,
        least_speed=0.95,
        most_cpu=1.3,
    ).figures()

    def read(repetition: int) -> Work:
        fresh = AgentMemory("bench", adapter=adapter, namespace="bench")  # an empty cache
        return lambda number: fresh.read(f"load/{repetition}", f"k{number}", version=1)

    def get(repetition: int) -> Work:
        return lambda number: obstore.get(raw, f"raw/{repetition}/k{number}").bytes()

    yield from compare(
        f"bucket: read of a version, {THREADS} threads",
        "obstore get",
        read,
        get,
        count=scale.raw_operations,
        threads=THREADS,
        repetitions=scale.repetitions,
        least_speed=0.95,
        most_cpu=1.3,
    ).figures()
    adapter.close()
