"""Turning traces and metrics on and off, as every OpenTelemetry instrumentation does."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from amfs_otel import operations, requests, server
from amfs_otel.recorder import Recorder


class AMFSInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # its package has no types
    """Records what memories do, what stores are asked for, and what a server of AMFS answers.

    `instrument(tracer_provider=…, meter_provider=…)` turns it on, by default with the providers
    that are set globally; `uninstrument()` turns it off. What is recorded: a span and a duration
    for each operation (`amfs.write`, `amfs.search`, …) and below it for each request to the store
    (`amfs.store.create`, …). Names of memories are in it, values never. Memories that were opened
    before show their operations, and no requests.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return what has to be installed: nothing, as this is of AMFS itself."""
        return ()

    def _instrument(self, **given: Any) -> None:
        recorder = Recorder(given.get("tracer_provider"), given.get("meter_provider"))
        operations.patch(recorder)
        requests.patch(recorder)
        server.patch(given.get("tracer_provider"), given.get("meter_provider"))

    def _uninstrument(self, **given: Any) -> None:
        operations.unpatch()
        requests.unpatch()
        server.unpatch()
