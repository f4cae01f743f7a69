"""Writes and reads on one S3 server, beside raw obstore with the same objects."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import obstore
from obstore.store import S3Store

from amfs_core.memory import AgentMemory
from amfs_s3 import S3Adapter
from benchmarks.figure import Figure
from benchmarks.measure import Work, compare
from benchmarks.scale import Scale
from benchmarks.workplace import serving
from tests.support.servers import MINIO, REGION, Server

VALUE = {"text": "what the agent learnt " * 22, "steps": list(range(20)), "source": "run-17"}
BODY = b"x" * 1000
THREADS = 32
WRITE = f"bucket: write, {THREADS} threads"
READ = f"bucket: read of a version, {THREADS} threads"
LEAST = "obstore, JSON and SHA-256"
"""The least that anyone does who keeps such bodies."""
APART = "a core each"
Works = Callable[[int], Work]
_encode, _decode = msgspec.json.Encoder().encode, msgspec.json.Decoder().decode


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


def puts(raw: S3Store, path: str, body: bytes) -> Works:
    """Return raw creates, under keys as deep as ours: a server makes a directory for each of their
    segments."""

    def of(repetition: int) -> Work:
        key = f"raw/{path}/entries/load/{repetition}"
        return lambda number: obstore.put(
            raw, f"{key}/k{number}/v1.json", body, mode="create", use_multipart=False
        )

    return of


def gets(raw: S3Store, path: str) -> Works:
    """Return raw gets of what `puts` created."""

    def of(repetition: int) -> Work:
        key = f"raw/{path}/entries/load/{repetition}"
        return lambda number: obstore.get(raw, f"{key}/k{number}/v1.json").bytes()

    return of


def unsealed(body: bytes) -> dict[str, Any]:
    """Return what a body of ours says, all but its seal."""
    fields: dict[str, Any] = _decode(body)
    del fields["sha256"]
    return fields


def sealed_by_hand(fields: dict[str, Any]) -> bytes:
    """Return a body as ours, with JSON and SHA-256 alone."""
    covered = _encode(fields)[:-1]
    return covered + f',"sha256":"{hashlib.sha256(covered).hexdigest()}"}}'.encode()


def check_by_hand(body: bytes) -> None:
    """Decode such a body, and compare its SHA-256."""
    assert _decode(body)["sha256"] == hashlib.sha256(body[:-77]).hexdigest()


def comparisons(scale: Scale) -> Iterator[Figure]:
    """Yield writes, and reads of a version, beside raw puts and gets of the same bytes; then beside
    `LEAST`; then with the server on another core."""
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
    fields = unsealed(body)

    def write(path: str) -> Works:
        return lambda repetition: (
            lambda number: memory.write(f"{path}/{repetition}", f"k{number}", VALUE)
        )

    def put_sealed(repetition: int) -> Work:
        def work(number: int) -> None:
            key = f"raw/sealed/entries/load/{repetition}/k{number}/v1.json"
            body = sealed_by_hand(fields)
            obstore.put(raw, key, body, mode="create", use_multipart=False)

        return work

    def read(repetition: int) -> Work:
        fresh = AgentMemory("bench", adapter=adapter, namespace="bench")  # an empty cache
        return lambda number: fresh.read(f"load/{repetition}", f"k{number}", version=1)

    def get_checked(repetition: int) -> Work:
        key = f"raw/sealed/entries/load/{repetition}"

        def work(number: int) -> None:
            check_by_hand(obstore.get(raw, f"{key}/k{number}/v1.json").bytes().to_bytes())

        return work

    def compared(
        name: str, ours: Works, raw_name: str, other: Works, *, aimed: bool = False
    ) -> Iterator[Figure]:
        return compare(
            name,
            raw_name,
            ours,
            other,
            # Many short turns: what else the machine does then hits both alike.
            count=scale.raw_operations // 4,
            repetitions=scale.aimed_turns if aimed else scale.repetitions * 4,
            threads=THREADS,
            least_speed=0.95 if aimed else None,
            most_cpu=1.3 if aimed else None,
        ).figures()

    put, get = puts(raw, "load", body), gets(raw, "load")
    yield from compared(WRITE, write("load"), "obstore put", put, aimed=True)
    yield from compared(READ, read, "obstore get", get, aimed=True)
    yield from compared(f"{WRITE} / {LEAST}", write("least"), LEAST, put_sealed)
    yield from compared(f"{READ} / {LEAST}", read, LEAST, get_checked)
    with apart(server):
        put = puts(raw, "apart", body)
        yield from compared(f"{WRITE}, {APART}", write("apart"), "obstore put", put)
        yield from compared(f"{READ}, {APART}", read, "obstore get", get)
    adapter.close()


@contextmanager
def apart(server: Server) -> Iterator[None]:
    """Have this process and the server keep to a core of their own each, where that is possible,
    as they do on machines of their own: neither takes the other's time, or empties its caches."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    theirs = server.process.pid
    if len(cores) < 2 or theirs is None:
        yield
        return
    _keep_to(os.getpid(), {cores[0]})
    _keep_to(theirs, {*cores[1:]})
    try:
        yield
    finally:
        _keep_to(os.getpid(), {*cores})
        _keep_to(theirs, {*cores})


def _keep_to(process: int, cores: set[int]) -> None:
    for thread in Path(f"/proc/{process}/task").iterdir():
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(int(thread.name), cores)
