"""Writes and reads on one S3 server, beside raw obstore with the same objects."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta

import msgspec
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
WRITE = f"bucket: write, {THREADS} threads"
READ = f"bucket: read of a version, {THREADS} threads"
LEAST = "JSON with a SHA-256"
"""The least that anyone does on top of a request who keeps such bodies."""


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
    """Yield writes, and reads of a version, beside raw puts and gets of the same bytes; then beside
    the same with `LEAST` on top."""
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
    memory.write("load/0", "example", VALUE)
    body = adapter.get("bench/entries/load/0/example/v1.json") or b""
    fields = json.loads(body)
    del fields["sha256"]
    encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder().decode

    def write(repetition: int) -> Work:
        return lambda number: memory.write(f"load/{repetition}", f"k{number}", VALUE)

    def write_beside(repetition: int) -> Work:
        return lambda number: memory.write(f"beside/{repetition}", f"k{number}", VALUE)

    def put(repetition: int) -> Work:
        # Keys as deep as ours, since a server makes a directory for each of their segments.
        return lambda number: obstore.put(
            raw,
            f"raw/put/entries/load/{repetition}/k{number}/v1.json",
            body,
            mode="create",
            use_multipart=False,
        )

    def put_sealed(repetition: int) -> Work:
        def work(number: int) -> None:
            covered = encode(fields)[:-1]
            sealed = covered + f',"sha256":"{hashlib.sha256(covered).hexdigest()}"}}'.encode()
            key = f"raw/sealed/entries/load/{repetition}/k{number}/v1.json"
            obstore.put(raw, key, sealed, mode="create", use_multipart=False)

        return work

    def read(repetition: int) -> Work:
        fresh = AgentMemory("bench", adapter=adapter, namespace="bench")  # an empty cache
        return lambda number: fresh.read(f"load/{repetition}", f"k{number}", version=1)

    def get(repetition: int) -> Work:
        key = f"raw/put/entries/load/{repetition}"
        return lambda number: obstore.get(raw, f"{key}/k{number}/v1.json").bytes()

    def get_checked(repetition: int) -> Work:
        key = f"raw/sealed/entries/load/{repetition}"

        def work(number: int) -> None:
            found = obstore.get(raw, f"{key}/k{number}/v1.json").bytes().to_bytes()
            assert decode(found)["sha256"] == hashlib.sha256(found[:-77]).hexdigest()

        return work

    for name, ours, raw_name, other, speed, cpu in (
        (WRITE, write, "obstore put", put, 0.95, 1.3),
        (
            f"{WRITE} / {LEAST}",
            write_beside,
            "JSON, SHA-256 and obstore put",
            put_sealed,
            None,
            None,
        ),
        (READ, read, "obstore get", get, 0.95, 1.3),
        (f"{READ} / {LEAST}", read, f"obstore get, {LEAST}", get_checked, None, None),
    ):
        yield from compare(
            name,
            raw_name,
            ours,
            other,
            # Many short turns: what else the machine does then hits both alike.
            count=scale.raw_operations // 4,
            repetitions=scale.repetitions * 4,
            threads=THREADS,
            least_speed=speed,
            most_cpu=cpu,
        ).figures()
    adapter.close()
