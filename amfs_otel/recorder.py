"""Spans and durations, with the errors of AMFS in them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from opentelemetry import metrics, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from amfs_core.errors import AMFSError

T = TypeVar("T")
Attributes = Mapping[str, str | int | float | bool]

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Recorder:
    """Records with one provider of traces and one of metrics. None means the global one."""

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None,
        meter_provider: metrics.MeterProvider | None,
    ) -> None:
        from amfs import __version__

        self._tracer = trace.get_tracer("amfs", __version__, tracer_provider)
        meter = metrics.get_meter("amfs", __version__, meter_provider)
        self._durations = {
            SpanKind.INTERNAL: meter.create_histogram(
                "amfs.operation.duration",
                "s",
                "How long operations on memories took.",
                explicit_bucket_boundaries_advisory=_SECONDS,
            ),
            SpanKind.CLIENT: meter.create_histogram(
                "amfs.store.request.duration",
                "s",
                "How long requests to the store took.",
                explicit_bucket_boundaries_advisory=_SECONDS,
            ),
        }

    @contextmanager
    def span(
        self, name: str, kind: SpanKind, attributes: Attributes, labels: Attributes
    ) -> Iterator[Span]:
        """Record a block: a span, the parent of all spans inside it, and a duration.

        The span gets `attributes` and `labels`. The duration gets only `labels`, which take few
        values.
        """
        span = self._tracer.start_span(name, kind=kind, attributes={**attributes, **labels})
        begun = time.perf_counter()
        failed: dict[str, str] = {}
        try:
            with trace.use_span(
                span, end_on_exit=False, record_exception=False, set_status_on_exception=False
            ):
                yield span
        except BaseException as error:
            failed["error.type"] = fail(span, error)
            raise
        finally:
            span.end()
            self._durations[kind].record(time.perf_counter() - begun, {**labels, **failed})

    def stream(
        self,
        name: str,
        attributes: Attributes,
        labels: Attributes,
        start: Callable[[], Iterator[T]],
    ) -> Iterator[T]:
        """Record a request whose answer is read piece by piece. Its span has no children, because
        the work between two pieces is not part of it."""
        span = self._tracer.start_span(
            name, kind=SpanKind.CLIENT, attributes={**attributes, **labels}
        )
        failed: dict[str, str] = {}
        waited, count = 0.0, 0
        begun = time.perf_counter()
        try:
            pieces = iter(start())
            while True:
                try:
                    piece = next(pieces)
                except StopIteration:
                    return
                finally:
                    waited += time.perf_counter() - begun
                count += 1
                yield piece
                begun = time.perf_counter()
        except GeneratorExit:  # the reader has enough
            raise
        except BaseException as error:
            failed["error.type"] = fail(span, error)
            raise
        finally:
            span.set_attribute("amfs.store.objects", count)
            span.end()
            self._durations[SpanKind.CLIENT].record(waited, {**labels, **failed})


def fail(span: Span, error: BaseException) -> str:
    """Note an error in a span, and return the name of its kind."""
    kind = error.code if isinstance(error, AMFSError) else type(error).__qualname__
    if span.is_recording():
        span.record_exception(error)
        span.set_attribute("error.type", kind)
        span.set_status(Status(StatusCode.ERROR, str(error)))
    return kind
