"""Health, readiness and metrics, for operators."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping

import msgspec
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from amfs_core import storage
from amfs_core.storage import Degraded
from amfs_server.engines import Engines
from amfs_server.hub import Hubs

_READY_SECONDS = 2.0  # an answer is reused for this long, so that probes do not become a load
_DEGRADED: tuple[tuple[str, str, Callable[[Degraded], float]], ...] = (
    ("down", "1 while the primary store is known to be down.", lambda state: float(state.is_down)),
    ("waiting", "Writes that wait for the primary store.", lambda state: state.waiting),
    (
        "conflicts",
        "Writes that could not be replayed (see amfs conflicts).",
        lambda state: state.conflicts,
    ),
    (
        "since_seconds",
        "Unix time since which writes have been waiting; 0 when none wait.",
        lambda state: 0.0 if state.since is None else state.since.timestamp(),
    ),
)

_LAGS = {
    "waiting": "Objects that wait to be copied to a mirror.",
    "left_out": "Objects that a mirror did not get (amfs copy copies them).",
    "differing": "Objects whose bytes in a mirror differ from the primary's.",
}
_access = logging.getLogger("amfs.access")


class Metrics:
    """Counts requests, and collects the counts of engines and hubs."""

    def __init__(self, engines: Engines, hubs: Hubs) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "amfs_http_requests",
            "Answered requests.",
            ("method", "resource", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "amfs_http_request_seconds",
            "Duration of requests in seconds.",
            ("method", "resource"),
            registry=self._registry,
        )
        self._registry.register(_Store(engines, hubs))

    def count(
        self,
        *,
        method: str,
        resource: str,
        status: int,
        seconds: float,
        key: str | None,
        path: str,
    ) -> None:
        """Count an answered request, and write its line in the access log."""
        self._requests.labels(method, resource, str(status)).inc()
        if resource != "watch":  # a stream lasts as long as its client wants
            self._seconds.labels(method, resource).observe(seconds)
        if _access.isEnabledFor(logging.INFO):
            line = {
                "method": method,
                "path": path,
                "status": status,
                "milliseconds": round(seconds * 1000, 1),
                "key": key,
            }
            _access.info("%s", msgspec.json.encode(line).decode())

    def response(self) -> Response:
        """Return all counts in the Prometheus text format."""
        return Response(
            generate_latest(self._registry), media_type="text/plain; version=0.0.4; charset=utf-8"
        )


class _Store(Collector):
    """The counts of engines and hubs."""

    def __init__(self, engines: Engines, hubs: Hubs) -> None:
        self._engines = engines
        self._hubs = hubs

    def collect(self) -> Iterator[Metric]:
        """Yield the counts of requests to the store, and of clients that follow events."""
        requests = CounterMetricFamily(
            "amfs_store_requests", "Requests to the store.", labels=("namespace", "kind")
        )
        totals = {
            name: CounterMetricFamily(f"amfs_store_{name}", text, labels=("namespace",))
            for name, text in (
                ("bytes_read", "Bytes read in bodies."),
                ("bytes_written", "Bytes written in bodies."),
                ("retries", "Requests that were repeated."),
                ("conflicts", "Creates that lost to another writer."),
                ("cache_hits", "Objects read without a request."),
                ("outages", "Times that the store was found to be down."),
                ("refused", "Requests not sent because the store was known to be down."),
            )
        }
        engines = self._engines.metrics()
        for namespace, metrics in engines.items():
            for kind, count in metrics.requests.items():
                requests.add_metric((namespace, kind), count)
            for name, family in totals.items():
                family.add_metric((namespace,), getattr(metrics, name))
        yield requests
        yield from totals.values()
        yield CounterMetricFamily(
            "amfs_index_queries",
            "Statements sent to the index that search uses.",
            # All engines share the index, and each reports what all of them sent.
            max((metrics.index_queries for metrics in engines.values()), default=0),
        )
        for name, text in _LAGS.items():
            gauge = GaugeMetricFamily(f"amfs_mirror_{name}", text, labels=("mirror",))
            for lag in self._engines.store.mirror_lags():
                gauge.add_metric((lag.mirror,), getattr(lag, name))
            yield gauge
        yield from self._fallback(engines)
        yield GaugeMetricFamily(
            "amfs_event_clients", "Clients that follow events now.", self._hubs.clients
        )
        yield GaugeMetricFamily(
            "amfs_watchers", "Paths that are watched for these clients.", len(self._hubs)
        )

    @staticmethod
    def _fallback(metrics: Mapping[str, storage.Metrics]) -> Iterator[Metric]:
        """Yield the state of the fallback: what waits while the primary store is down."""
        for name, text, value in _DEGRADED:
            gauge = GaugeMetricFamily(f"amfs_fallback_{name}", text, labels=("namespace",))
            for namespace, counted in metrics.items():
                if counted.degraded is not None:
                    gauge.add_metric((namespace,), value(counted.degraded))
            yield gauge


class Readiness:
    """Whether the store can be used; checked at most every 2 seconds."""

    def __init__(self, engines: Engines, namespace: str) -> None:
        self._engines = engines
        self._namespace = namespace
        self._asking = asyncio.Lock()
        self._asked = -_READY_SECONDS
        self._ok = False

    async def response(self, *, is_stopping: bool) -> Response:
        """Return 200 or 503, without details about the store, because anybody may ask."""
        async with self._asking:
            if time.monotonic() - self._asked >= _READY_SECONDS and not is_stopping:
                memory = self._engines.memory(self._namespace, None, None)
                health = await asyncio.to_thread(memory.health)
                self._ok, self._asked = health.ok, time.monotonic()
        ready = self._ok and not is_stopping
        return Response(
            msgspec.json.encode({"ready": ready}), 200 if ready else 503, None, "application/json"
        )
