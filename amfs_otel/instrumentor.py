"""Turning traces and metrics on and off, as every OpenTelemetry instrumentation does."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from amfs_otel import operations, requests, server
from amfs_otel.recorder import Recorder


class AMFSInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # its package has no types
    """Records operations on memories, requests to stores, and answers of an AMFS server.

    `instrument(tracer_provider=…, meter_provider=…)` turns it on, by default with the providers
    that are set globally; `uninstrument()` turns it off. It records a span and a duration for each
    operation (`amfs.write`, `amfs.search`, …) and below it for each request to the store
    (`amfs.store.create`, …). Spans contain names of memories, never values. Memories opened before
    show their operations but not their requests.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the packages that must be installed: none, because this one is part of AMFS."""
        return ()

    def _instrument(self, **options: Any) -> None:
        recorder = Recorder(options.get("tracer_provider"), options.get("meter_provider"))
        operations.patch(recorder)
        requests.patch(recorder)
        server.patch(options.get("tracer_provider"), options.get("meter_provider"))

    def _uninstrument(self, **options: Any) -> None:
        operations.unpatch()
        requests.unpatch()
        server.unpatch()
