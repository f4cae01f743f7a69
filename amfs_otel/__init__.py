"""Traces and metrics of AMFS in OpenTelemetry.

from amfs_otel import AMFSInstrumentor

AMFSInstrumentor().instrument()     # before the first memory is made; opentelemetry-instrument does
this
"""

from amfs_otel.instrumentor import AMFSInstrumentor

__all__ = ["AMFSInstrumentor"]
