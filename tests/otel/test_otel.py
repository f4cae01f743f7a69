"""Traces and metrics in OpenTelemetry: what is recorded, below what, and that values never are."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from amfs_core.errors import BackendUnavailableError, VersionConflictError
from amfs_core.memory import AgentMemory
from amfs_core.memory.async_memory import AsyncAgentMemory
from amfs_core.storage import StoreClient
from amfs_http import HttpAdapter
from amfs_local import LocalAdapter
from amfs_otel import AMFSInstrumentor
from amfs_sqlite import SqliteAdapter
from tests.conftest import REPOSITORY
from tests.support.served import Served, serving_here

SECRET = "xyzzyplugh"


class Recorded:
    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.traces = TracerProvider()
        self.traces.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.metrics = MeterProvider([self.reader])

    def spans(self) -> list[ReadableSpan]:
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def tree(self) -> list[tuple[str, str | None]]:
        """Each span and the one it is below."""
        spans = self.spans()
        names = {span.context.span_id: span.name for span in spans if span.context}
        return [
            (span.name, names.get(span.parent.span_id) if span.parent else None) for span in spans
        ]

    def durations(self, name: str) -> dict[str, int]:
        """How often each operation or request was measured."""
        data = self.reader.get_metrics_data()
        counts: dict[str, int] = {}
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name != name:
                        continue
                    for point in metric.data.data_points:
                        labels = dict(point.attributes or {})
                        kind = labels.get("amfs.operation") or labels.get("amfs.store.request")
                        counts[str(kind)] = counts.get(str(kind), 0) + point.count
        return counts


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    made = Recorded()
    instrumentor = AMFSInstrumentor()
    instrumentor.instrument(tracer_provider=made.traces, meter_provider=made.metrics)
    yield made
    instrumentor.uninstrument()


def test_an_operation_is_a_span_with_its_requests_below(tmp_path: Path, recorded: Recorded) -> None:
    with AgentMemory("ann", adapter=LocalAdapter(tmp_path), namespace="team") as memory:
        memory.write("shop", "k", SECRET)
        memory.read("shop", "k")
        memory.search(SECRET)
    assert recorded.tree() == [
        ("amfs.write", None),
        ("amfs.store.get", "amfs.write"),  # the manifest
        ("amfs.store.create", "amfs.write"),
        ("amfs.read", None),
        ("amfs.store.get", "amfs.read"),
        ("amfs.search", None),
        ("amfs.store.list", "amfs.search"),
    ]
    write, _, create, *_ = recorded.spans()
    assert dict(write.attributes or {}) == {
        "amfs.operation": "write",
        "amfs.namespace": "team",
        "amfs.agent_id": "ann",
        "amfs.entity_path": "shop",
        "amfs.key": "k",
        "amfs.version": 1,
    }
    assert create.kind is SpanKind.CLIENT
    assert (create.attributes or {})["amfs.store.key"] == "team/entries/shop/k/v1.json"
    assert (create.attributes or {})["amfs.store.created"] is True
    assert not [span for span in recorded.spans() if SECRET in span.to_json()]
    assert recorded.durations("amfs.operation.duration") == {"write": 1, "read": 1, "search": 1}
    requests = recorded.durations("amfs.store.request.duration")
    assert requests == {"create": 1, "get": 2, "list": 1}


def test_requests_in_threads_are_below_their_operation(tmp_path: Path, recorded: Recorded) -> None:
    items = [{"entity_path": "e", "key": f"k{number}", "value": number} for number in range(20)]
    with serving_here(LocalAdapter(tmp_path / "s")) as url:
        with AgentMemory("a", adapter=HttpAdapter(url)) as memory:
            memory.write_many(items)
        # Those of the client: the server, in this process, has its own.
        spans = [
            span
            for span in recorded.spans()
            if span.name == "amfs.store.create"
            and (span.attributes or {})["amfs.store.backend"] == "http"
        ]
        (many,) = [span for span in recorded.spans() if span.name == "amfs.write_many"]
        assert many.context is not None
        assert {span.parent and span.parent.span_id for span in spans} == {many.context.span_id}
        assert len(spans) == len(items)


def test_a_batch_of_a_store_is_one_request(tmp_path: Path, recorded: Recorded) -> None:
    with AgentMemory("a", adapter=SqliteAdapter(tmp_path / "s.db")) as memory:
        memory.write_many([{"entity_path": "e", "key": f"k{n}", "value": n} for n in range(20)])
    assert recorded.tree() == [
        ("amfs.write_many", None),
        ("amfs.store.get", "amfs.write_many"),  # the manifest
        ("amfs.store.create_many", "amfs.write_many"),
    ]


def test_awaited_operations_are_below_the_span_of_their_task(
    tmp_path: Path, recorded: Recorded
) -> None:
    async def work() -> None:
        async with AsyncAgentMemory(AgentMemory("a", adapter=LocalAdapter(tmp_path))) as memory:
            await memory.write("e", "k", 1)

            async def more(old: int) -> int:
                return old + 1

            await memory.update("e", "k", more)
            await memory.update("e", "k", lambda old: old + 1)

    with recorded.traces.get_tracer("test").start_as_current_span("task"):
        asyncio.run(work())
    operations = [(name, above) for name, above in recorded.tree() if ".store." not in name]
    assert operations == [
        ("task", None),
        ("amfs.write", "task"),
        ("amfs.update", "task"),
        ("amfs.update", "task"),
    ]
    assert ("amfs.store.create", "amfs.update") in recorded.tree()


def test_an_error_is_named_by_its_code(tmp_path: Path, recorded: Recorded) -> None:
    with AgentMemory("a", adapter=LocalAdapter(tmp_path)) as memory:
        memory.write("e", "k", 1)
        with pytest.raises(VersionConflictError):
            memory.write("e", "k", 2, expected_version=7)
    failed = [span for span in recorded.spans() if span.status.status_code is StatusCode.ERROR]
    assert [span.name for span in failed] == ["amfs.write"]
    assert (failed[0].attributes or {})["error.type"] == "version_conflict"


def test_a_store_that_does_not_answer_is_seen_in_each_request(
    tmp_path: Path, recorded: Recorded
) -> None:
    memory = AgentMemory("a", adapter=HttpAdapter("http://127.0.0.1:9"), patience=0.2)
    with pytest.raises(BackendUnavailableError):
        memory.read("e", "k")
    failed = [span for span in recorded.spans() if span.status.status_code is StatusCode.ERROR]
    assert failed[0].name == "amfs.read"
    assert {span.name for span in failed[1:]} == {"amfs.store.list", "amfs.store.get"}
    assert all((span.attributes or {})["error.type"] for span in failed)


def test_uninstrumented_code_is_what_it_was(tmp_path: Path) -> None:
    before = {name: getattr(AgentMemory, name) for name in ("write", "read", "search", "list")}
    own = dict(vars(AgentMemory))
    made, recorded = StoreClient.__init__, Recorded()
    instrumentor = AMFSInstrumentor()
    for _ in range(2):
        instrumentor.instrument(tracer_provider=recorded.traces, meter_provider=recorded.metrics)
        assert AgentMemory.write is not before["write"]
        instrumentor.uninstrument()
    assert {name: getattr(AgentMemory, name) for name in before} == before
    assert set(vars(AgentMemory)) == set(own)
    assert StoreClient.__init__ is made
    with AgentMemory("a", adapter=LocalAdapter(tmp_path)) as memory:
        memory.write("e", "k", 1)
    assert not recorded.spans()


def test_a_request_to_the_server_goes_on_from_its_clients_trace(
    tmp_path: Path, recorded: Recorded
) -> None:
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    with serving_here(LocalAdapter(tmp_path)) as url:
        httpx.put(
            f"{url}/v1/team/memories/e/k",
            json={"value": SECRET},
            headers={"traceparent": f"00-{trace}-{parent}-01"},
            trust_env=False,
        ).raise_for_status()
    assert recorded.tree() == [
        ("PUT /v1/{namespace}/memories/{name}", None),
        ("amfs.write", "PUT /v1/{namespace}/memories/{name}"),
        ("amfs.store.get", "amfs.write"),  # the manifest
        ("amfs.store.create", "amfs.write"),
    ]
    assert {f"{span.context.trace_id:032x}" for span in recorded.spans() if span.context} == {trace}
    assert recorded.spans()[0].parent is not None


@pytest.mark.slow
def test_the_launcher_of_opentelemetry_needs_no_line_of_code(tmp_path: Path) -> None:
    launcher = Path(sys.executable).with_name("opentelemetry-instrument")
    variables = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "OTEL_TRACES_EXPORTER": "console",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
    }
    finished = subprocess.run(
        [str(launcher), sys.executable, "-m", "amfs", "write", "e", "k", "1"],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 0, finished.stderr
    assert set(re.findall(r'"name": "(amfs\.[a-z_.]+)"', finished.stdout)) == {
        "amfs.write",
        "amfs.store.get",
        "amfs.store.create",
    }


def test_a_server_without_opentelemetry_serves(tmp_path: Path) -> None:
    served = Served(before=("--store", str(tmp_path / "s")))
    try:
        with served.client() as client:
            assert client.put("/v1/t/memories/e/k", json={"value": 1}).status_code == 201
    finally:
        assert served.stop() == 0
