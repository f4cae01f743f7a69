"""Subscriptions of MCP: subscribers are notified of changed memories."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar

from mcp.server.subscriptions import InMemorySubscriptionBus, ServerEvent
from mcp.shared.subscriptions import ResourceUpdated

from amfs_core.watch import Watch
from amfs_server.keys import Key
from amfs_server.names import encoded, name_before

SCHEME = "amfs://memory/"

Listener = Callable[[ServerEvent], None]
Caller = tuple[Key, str]
"""The key that a request was made with, and its namespace."""

CALLER: ContextVar[Caller] = ContextVar("amfs_mcp_caller")
"""Set during a request, because the SDK does not tell its bus whose subscription it is."""


def uri_of(entity_path: str, key: str) -> str:
    """Return the URI of a memory as a resource."""
    return SCHEME + encoded(*entity_path.split("/"), key)


class WatchBus(InMemorySubscriptionBus):
    """Notifies subscribers of what a watch delivers. The watch runs only while there are
    subscribers."""

    def __init__(self, watch: Callable[[], Watch]) -> None:
        super().__init__()
        self._start = watch
        self._watch: Watch | None = None
        self._is_starting = False

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Register a listener; the first one starts the watch."""
        unsubscribe = super().subscribe(listener)
        if self._watch is None and not self._is_starting:
            self._is_starting = True
            loop = asyncio.get_running_loop()
            threading.Thread(target=self._follow, args=(loop,), daemon=True).start()

        def leave() -> None:
            unsubscribe()
            if not self._listeners and self._watch is not None:
                watch, self._watch = self._watch, None
                watch.cancel()

        return leave

    @property
    def has_listeners(self) -> bool:
        """Whether there are subscribers."""
        return bool(self._listeners)

    def _follow(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self._watch = watch = self._start()
        finally:
            self._is_starting = False
        if not self._listeners:  # all have left in the meantime
            self._watch = None
            watch.cancel()
            return
        for entry in watch:
            event = ResourceUpdated(uri=uri_of(entry.entity_path, entry.key))
            asyncio.run_coroutine_threadsafe(self.publish(event), loop)


class CallersBus:
    """Notifies each subscriber of the memories that its key sees, in its namespace."""

    def __init__(self, watch: Callable[[str], Watch]) -> None:
        self._watch = watch
        self._buses: dict[str, WatchBus] = {}

    async def publish(self, event: ServerEvent) -> None:
        """Notify all subscribers in every namespace."""
        for bus in list(self._buses.values()):
            await bus.publish(event)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Register a listener for the caller of this request."""
        key, namespace = CALLER.get()
        bus = self._buses.get(namespace)
        if bus is None:
            bus = self._buses[namespace] = WatchBus(lambda: self._watch(namespace))

        def hear(event: ServerEvent) -> None:
            if isinstance(event, ResourceUpdated) and not key.sees(_entity_path(event.uri)):
                return
            listener(event)

        unsubscribe = bus.subscribe(hear)

        def leave() -> None:
            unsubscribe()
            if not bus.has_listeners and self._buses.get(namespace) is bus:
                del self._buses[namespace]

        return leave


def _entity_path(uri: str) -> str:
    return name_before(uri.removeprefix(SCHEME))[0]
