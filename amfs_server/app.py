"""The application: routing, and the steps that all requests go through."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from amfs_core.errors import AMFSError
from amfs_server import (
    conflicts,
    events,
    explorer,
    memories,
    objects,
    openapi,
    outcomes,
    problems,
    searches,
)
from amfs_server.calls import Call, json
from amfs_server.engines import Engines
from amfs_server.hub import Hubs
from amfs_server.keys import NOBODY, Key, Keys
from amfs_server.names import raw_path, segments
from amfs_server.operations import Metrics, Readiness
from amfs_server.problems import Refusal
from amfs_server.settings import Settings

if TYPE_CHECKING:
    from amfs_server.remote_tools import RemoteTools

Handler = Callable[[Call], Awaitable[Response]]

# The resource, and whether names follow it in the path.
_ROUTES: dict[tuple[str, bool], dict[str, Handler]] = {
    ("memories", False): {"GET": memories.listed},
    ("memories", True): {
        "GET": memories.read,
        "PUT": memories.write,
        "DELETE": memories.delete,
    },
    ("history", True): {"GET": memories.history},
    ("diff", True): {"GET": memories.difference},
    ("paths", False): {"GET": memories.paths},
    ("stats", False): {"GET": memories.stats},
    ("search", False): {"GET": searches.by_query, "POST": searches.by_body},
    ("outcomes", False): {"GET": outcomes.listed},
    ("outcomes", True): {"GET": outcomes.read, "PUT": outcomes.commit},
    ("conflicts", False): {"GET": conflicts.listed, "POST": conflicts.decide},
}
_OBJECTS: dict[bool, dict[str, Handler]] = {
    False: {"GET": objects.listed, "POST": objects.get_many},
    True: {"GET": objects.read, "PUT": objects.write, "DELETE": objects.delete},
}
"""The same for objects, whose paths do not begin with a namespace."""
_SMALLEST_ZIPPED = 1_000
_log = logging.getLogger("amfs.server")


def make_app(settings: Settings) -> Starlette:
    """Return the ASGI application, with its store open. On shutdown it closes what it opened.
    Raises `ConfigurationError` if the keys or the store cannot be opened."""
    server = _Server(settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await server.start()
        try:
            yield
        finally:
            await server.end()

    middleware = [Middleware(GZipMiddleware, minimum_size=_SMALLEST_ZIPPED)]
    if settings.origins:
        middleware.insert(
            0,
            Middleware(
                CORSMiddleware,
                allow_origins=settings.origins,
                allow_methods=("GET", "PUT", "POST", "DELETE"),
                allow_headers=(
                    *("authorization", "content-type", "if-match", "if-none-match"),
                    *("idempotency-key", "last-event-id", "amfs-agent", "amfs-session"),
                ),
                expose_headers=("etag", "location", "retry-after"),
            ),
        )
    app = Starlette(middleware=middleware, lifespan=lifespan)
    app.router.default = server  # Starlette's routes match the decoded path, where %2F is lost
    app.state.server = server
    return app


class _Server:
    """Answers requests: an ASGI application below the middleware."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys = None if settings.keys is None else Keys(settings.keys)
        self.engines = Engines(settings)
        self.stopping = asyncio.Event()
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="amfs-request")
        self._hubs = Hubs(settings.state, settings.events_interval)
        self._metrics = Metrics(self.engines, self._hubs)
        self._ready = Readiness(self.engines, settings.config.namespace)
        self._document = openapi.document()
        self._tools = _tools(self.engines, settings)
        self._running = contextlib.AsyncExitStack()
        self._idling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the background tasks."""
        self._idling = asyncio.create_task(self._hubs.end_idle())
        if self._tools is not None:
            await self._running.enter_async_context(self._tools.run())

    async def end(self) -> None:
        """End event streams, wait for requests in progress, and close the store."""
        self.stopping.set()
        if self._idling is not None:
            self._idling.cancel()
        await self._running.aclose()
        await self._hubs.end()
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self.engines.close)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        begun = time.monotonic()
        seen: dict[str, Any] = {"resource": "unknown", "key": None}
        try:
            response = await self._answer(request, seen)
        except Refusal as refusal:
            response = problems.of_refusal(refusal)
        except AMFSError as error:
            response = problems.of_error(error)
        except Exception:
            _log.exception("a request failed unexpectedly: %s %r", request.method, request.url.path)
            response = problems.of_fault()
        response.headers["x-content-type-options"] = "nosniff"
        try:
            await response(scope, receive, send)
        finally:
            method = request.method if request.method in _METHODS else "other"
            self._metrics.count(
                method=method,
                resource=seen["resource"],
                status=response.status_code,
                seconds=time.monotonic() - begun,
                key=seen["key"],
                path=raw_path(scope).decode("ascii", "replace"),
            )

    async def _answer(self, request: Request, seen: dict[str, Any]) -> Response:
        self._require_host(request)
        names = segments(raw_path(request.scope))
        if names == ["mcp"]:
            return self._mcp(request, seen)
        method = "GET" if request.method == "HEAD" else request.method
        if len(names) == 1 and names[0] in _OPERATIONS:
            seen["resource"] = names[0]
            _require_method(method, ("GET",))
            return await self._operation(names[0], request, seen)
        if len(names) == 1 and (page := explorer.page(names[0])) is not None:
            seen["resource"] = "explorer"
            _require_method(method, ("GET",))
            return page
        if names[0] == "objects":
            return await self._object(method, names[1:], request, seen)
        if len(names) < 3 or names[0] != "v1":
            raise Refusal(404, "not_found", "there is nothing at this path", hint="/openapi.json")
        _, namespace, resource, *rest = names
        is_watch = resource == "watch" and not rest
        handlers = _ROUTES.get((resource, bool(rest)))
        if handlers is None and not is_watch:
            raise Refusal(404, "not_found", "there is nothing at this path", hint="/openapi.json")
        seen["resource"] = resource
        key = self._key(request, seen)
        _require_method(method, ("GET",) if handlers is None else tuple(handlers))
        key.require_namespace(namespace)
        call = Call(request, key, namespace, rest, self.engines, self.settings, self._threads)
        if handlers is None:
            return await events.follow(call, self._hubs, self.stopping)
        return await handlers[method](call)

    def _mcp(self, request: Request, seen: dict[str, Any]) -> Response:
        seen["resource"] = "mcp"
        if self._tools is None:
            raise Refusal(404, "not_found", "MCP is not installed", hint="pip install 'amfs[mcp]'")
        key = self._key(request, seen)
        return Forwarded(self._tools.answering(key, request.headers))

    async def _object(
        self, method: str, names: list[str], request: Request, seen: dict[str, Any]
    ) -> Response:
        seen["resource"] = "objects"
        key = self._key(request, seen)
        handlers = _OBJECTS[bool(names)]
        _require_method(method, tuple(handlers))
        call = Call(request, key, "", names, self.engines, self.settings, self._threads)
        return await handlers[method](call)

    async def _operation(self, name: str, request: Request, seen: dict[str, Any]) -> Response:
        if name == "healthz":
            return json({"alive": True})
        if name == "readyz":
            return await self._ready.response(is_stopping=self.stopping.is_set())
        if name == "openapi.json":
            return json(self._document)
        key = self._key(request, seen)
        if key.namespaces is not None or key.entity_paths is not None:
            raise Refusal(
                403, "forbidden", "metrics cover the whole store; this key sees only a part of it"
            )
        return self._metrics.response()

    def _key(self, request: Request, seen: dict[str, Any]) -> Key:
        if self.keys is None:
            return NOBODY
        key = self.keys.find(request.headers.get("authorization"))
        seen["key"] = key.name
        return key

    def _require_host(self, request: Request) -> None:
        """When no key is required, refuse requests for other host names: a web site can point its
        own name at this machine, and browsers then let its pages in (DNS rebinding)."""
        if self.keys is not None:
            return
        host = request.headers.get("host", "")
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        if name.strip("[]").lower() not in self.settings.hosts:
            raise Refusal(
                421,
                "misdirected",
                "without keys this server answers only to this machine's own names",
                hint="use http://127.0.0.1, or start the server with --keys",
            )


def _tools(engines: Engines, settings: Settings) -> RemoteTools | None:
    """Return the handler of `/mcp`, or None when the SDK is not installed."""
    try:
        from amfs_server.remote_tools import RemoteTools
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("mcp", "mcp_types"):
            raise
        return None
    return RemoteTools(engines, settings)


class Forwarded(Response):
    """A response that another ASGI application produces."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the other application answer, and note its status."""

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.status_code = message["status"]
            await send(message)

        await self._app(scope, receive, noted)


_METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH")
_OPERATIONS = ("healthz", "readyz", "metrics", "openapi.json")


def _require_method(method: str, allowed: tuple[str, ...]) -> None:
    if method not in allowed:
        listed = ", ".join((*allowed, "HEAD") if "GET" in allowed else allowed)
        raise Refusal(405, "method_not_allowed", f"use one of {listed}", allow=listed)
