"""MCP over HTTP: the tools for whoever has a key."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from mcp.server.mcpserver import Context
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from amfs_server.engines import Engines
from amfs_server.keys import NOBODY, Key, Keys
from amfs_server.settings import Settings
from amfs_server.subscriptions import CALLER, Caller, CallersBus
from amfs_server.tools import Opened, make_server


class RemoteTools:
    """What answers `/mcp`, each request by itself: any server may answer the next one.

    A key that sees one namespace works in that, another in the one of the header `AMFS-Namespace`,
    by default the configured one. Subscribers hear of what their key sees.
    """

    def __init__(self, engines: Engines, keys: Keys | None, settings: Settings) -> None:
        self._engines = engines
        self._keys = keys
        self._configured = settings.config.namespace
        local = [f"[{name}]:*" if ":" in name else f"{name}:*" for name in settings.hosts]
        bus = CallersBus(lambda namespace: engines.memory(namespace, None, None).watch())
        self._manager = StreamableHTTPSessionManager(
            app=make_server(self._opened, bus)._lowlevel_server,
            stateless=True,
            security_settings=TransportSecuritySettings(
                enable_dns_rebinding_protection=keys is None,
                allowed_hosts=[*settings.hosts, *local],
                allowed_origins=[*(f"http://{place}" for place in local), *settings.origins],
            ),
            max_request_body_size=settings.max_body_bytes,
        )

    def run(self) -> AbstractAsyncContextManager[None]:
        """Answer requests while the block runs."""
        return self._manager.run()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; raises the refusal of a key that may not make it."""
        CALLER.set(self._caller(Headers(scope=scope)))
        await self._manager.asgi_app(scope, receive, send)

    def _caller(self, headers: Mapping[str, str]) -> Caller:
        key = NOBODY if self._keys is None else self._keys.find(headers.get("authorization"))
        namespace = headers.get("amfs-namespace")
        if namespace is None:
            only = key.namespaces or []
            namespace = only[0] if len(only) == 1 else self._configured
        key.require_namespace(namespace)
        return key, namespace

    def _opened(self, context: Context[Any, Any]) -> tuple[Opened, Key]:
        headers = context.headers or {}
        key, namespace = self._caller(headers)
        agent = key.agent_id or headers.get("amfs-agent")
        return self._engines.memory(namespace, agent, headers.get("amfs-session")), key
