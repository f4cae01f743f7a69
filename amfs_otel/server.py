"""Requests to an AMFS server as spans, children of its clients' spans."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import wrapt
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

_MODULE = "amfs_server.app"
_providers: list[tuple[Any, Any]] = []
_is_registered: list[bool] = []


def patch(tracer_provider: Any, meter_provider: Any) -> None:
    """Start recording every application made from now on. Imports no server by itself."""
    _providers.append((tracer_provider, meter_provider))
    if not _is_registered:
        _is_registered.append(True)
        wrapt.register_post_import_hook(_wrap, _MODULE)


def unpatch() -> None:
    """Stop recording new applications."""
    _providers.clear()


def _wrap(module: ModuleType) -> None:
    make_app: Callable[..., Any] = module.make_app

    def made(*args: Any, **kwargs: Any) -> Any:
        app = make_app(*args, **kwargs)
        if _providers:
            tracer_provider, meter_provider = _providers[-1]
            app.add_middleware(
                OpenTelemetryMiddleware,
                tracer_provider=tracer_provider,
                meter_provider=meter_provider,
                default_span_details=span_details,
                exclude_spans=["receive", "send"],
            )
        return app

    module.make_app = made  # type: ignore[attr-defined]


def span_details(scope: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Return the name of a request's span: its resource, so that there are few names."""
    parts = str(scope.get("path", "")).split("/")[1:]
    if parts[0] == "v1" and len(parts) > 2:
        route = f"/v1/{{namespace}}/{parts[2]}" + ("/{name}" if len(parts) > 3 else "")
    elif parts[0] == "objects":
        route = "/objects/{key}" if len(parts) > 1 else "/objects"
    else:
        route = f"/{parts[0]}" if len(parts) == 1 else "/"
    return f"{scope.get('method', 'HTTP')} {route}", {"http.route": route}
