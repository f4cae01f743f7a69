"""MCP over HTTP: the tools for clients with a key."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from mcp.server.mcpserver import Context
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from amfs_server.engines import Engines
from amfs_server.keys import Key
from amfs_server.settings import Settings
from amfs_server.subscriptions import CALLER, CallersBus
from amfs_server.tools import Opened, make_server


class RemoteTools:
    """The handler of `/mcp`. Requests are independent, so any server may answer the next one.

    A key that sees exactly one namespace works in that one. Other keys choose a namespace with the
    header `AMFS-Namespace`; the default is the configured one. Subscribers are notified only of
    memories that their key sees.
    """

    def __init__(self, engines: Engines, settings: Settings) -> None:
        self._engines = engines
        self._configured = settings.config.namespace
        local = [f"[{name}]:*" if ":" in name else f"{name}:*" for name in settings.hosts]
        bus = CallersBus(lambda namespace: engines.memory(namespace, None, None).watch())
        self._manager = StreamableHTTPSessionManager(
            app=make_server(self._opened, bus)._lowlevel_server,
            stateless=True,
            security_settings=TransportSecuritySettings(
                enable_dns_rebinding_protection=settings.keys is None,
                allowed_hosts=[*settings.hosts, *local],
                allowed_origins=[*(f"http://{place}" for place in local), *settings.origins],
            ),
            max_request_body_size=settings.max_body_bytes,
        )

    def run(self) -> AbstractAsyncContextManager[None]:
        """Answer requests until the block ends."""
        return self._manager.run()

    def answering(self, key: Key, headers: Headers) -> ASGIApp:
        """Return the application that answers a request with this key. Raises `Refusal` for a
        namespace that the key does not see."""
        namespace = headers.get("amfs-namespace")
        if namespace is None:
            only = key.namespaces or []
            namespace = only[0] if len(only) == 1 else self._configured
        key.require_namespace(namespace)

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            CALLER.set((key, namespace))
            await self._manager.asgi_app(scope, receive, send)

        return answer

    def _opened(self, context: Context[Any, Any]) -> tuple[Opened, Key]:
        key, namespace = CALLER.get()
        headers = context.headers or {}
        agent = key.agent_id or headers.get("amfs-agent")
        return self._engines.memory(namespace, agent, headers.get("amfs-session")), key
