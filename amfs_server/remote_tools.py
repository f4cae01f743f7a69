"""MCP over HTTP: the tools for whoever has a key."""

from __future__ import annotations

from typing import Any

from mcp.server.mcpserver import Context
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings

from amfs_server.engines import Engines
from amfs_server.keys import NOBODY, Key, Keys
from amfs_server.settings import Settings
from amfs_server.tools import Opened, WatchBus, make_server


def session_manager(
    engines: Engines, keys: Keys | None, settings: Settings
) -> StreamableHTTPSessionManager:
    """Return what answers `/mcp`, each request by itself: any server may answer the next one.

    A key that sees one namespace works in that, another in the one of the header `AMFS-Namespace`,
    by default the configured one. Without keys resources can be subscribed to; with them they
    cannot, since a subscriber would hear of names that its key does not see.
    """
    configured = settings.config.namespace

    def opened(context: Context[Any, Any]) -> tuple[Opened, Key]:
        headers = context.headers or {}
        key = NOBODY if keys is None else keys.find(headers.get("authorization"))
        namespace = headers.get("amfs-namespace")
        if namespace is None:
            only = key.namespaces or []
            namespace = only[0] if len(only) == 1 else configured
        key.require_namespace(namespace)
        agent = key.agent_id or headers.get("amfs-agent")
        return engines.memory(namespace, agent, headers.get("amfs-session")), key

    bus = None
    if keys is None:
        bus = WatchBus(lambda: engines.memory(configured, None, None).watch())
    local = [f"[{name}]:*" if ":" in name else f"{name}:*" for name in settings.hosts]
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=keys is None,
        allowed_hosts=[*settings.hosts, *local],
        allowed_origins=[*(f"http://{place}" for place in local), *settings.origins],
    )
    return StreamableHTTPSessionManager(
        app=make_server(opened, bus)._lowlevel_server,
        stateless=True,
        security_settings=security,
        max_request_body_size=settings.max_body_bytes,
    )
