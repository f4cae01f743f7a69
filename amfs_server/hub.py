"""Hubs: each is one watch, shared by all clients that follow the same entity path."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
import time
from collections import OrderedDict
from pathlib import Path

import msgspec

from amfs import documents
from amfs_core.errors import AMFSError, CorruptEntryError, InvalidValueError
from amfs_core.memory import Namespace
from amfs_core.watch import Watch
from amfs_server.event_log import Event, EventLog

_KEEP_SECONDS = 30.0  # between saves of the watch's cursor, which may be large
_REST_SECONDS = 1.0
_IDLE_SECONDS = 60.0
_END_SECONDS = 10.0
_MOST_PAYLOADS = 1_000

_log = logging.getLogger("amfs.server")


class Hub:
    """Follows one entity path of one namespace, numbers each new version in its log, and wakes the
    clients. It polls like a single watch, whatever the number of clients."""

    def __init__(
        self,
        engine: Namespace,
        entity_path: str | None,
        state: Path | None,
        interval: float,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.engine = engine
        path = None if state is None else state / _file_name(engine, entity_path)
        self.log = EventLog(path)
        since = self.log.cursor
        try:
            self._watch = Watch(engine.stored, entity_path, interval=interval, since=since)
        except InvalidValueError as error:  # returning clients start over
            _log.error("the log of events %s is rebuilt: %s", path, error)
            self.log.reset()
            since = None
            self._watch = Watch(engine.stored, entity_path, interval=interval)
        self._kept_at = time.monotonic()
        self._over = threading.Event()
        self._loop = loop
        self._news = asyncio.Event()
        self._payloads: OrderedDict[tuple[str, str, int], asyncio.Future[bytes | None]]
        self._payloads = OrderedDict()
        self.is_current = since is None
        self.last = self.log.append((), self._watch.cursor) if since is None else self.log.last()
        self._thread = threading.Thread(target=self._follow, name="amfs-events", daemon=True)
        self._thread.start()

    def delivered(self) -> dict[tuple[str, str], int]:
        """Return the newest delivered version of each memory, sorted by name."""
        known = self._watch.delivered()
        return dict(
            sorted(((place.entity_path, place.key), version) for place, version in known.items())
        )

    async def wait(self, number: int, seconds: float) -> None:
        """Wait until there is an event after `number`, the hub has caught up or ended, or so many
        seconds have passed."""
        news = self._news
        if self.last > number or self._over.is_set():
            return
        try:
            async with asyncio.timeout(seconds):
                await news.wait()
        except TimeoutError:
            return

    async def payload(self, event: Event) -> bytes | None:
        """Return a version as JSON, encoded once for all clients, or None if it can no longer be
        read."""
        name = event[1:]
        known = self._payloads.get(name)
        if known is not None and self._is_erased(event):
            del self._payloads[name]
            known = None
        if known is None:
            known = asyncio.ensure_future(asyncio.to_thread(self._read, event))
            self._payloads[name] = known
            if len(self._payloads) > _MOST_PAYLOADS:
                self._payloads.popitem(last=False)
        try:
            return await asyncio.shield(known)
        except AMFSError:
            self._payloads.pop(name, None)
            raise

    def _is_erased(self, event: Event) -> bool:
        """Whether a purge of the version is known; its cached JSON must then not be sent again."""
        address = self.engine.layout.address(event.entity_path, event.key)
        head = self.engine.stored.cache.head(address)
        return head is not None and event.version < head.purged

    def _read(self, event: Event) -> bytes | None:
        address = self.engine.layout.address(event.entity_path, event.key)
        try:
            entry = self.engine.stored.get(address, event.version)
        except CorruptEntryError as damage:
            _log.warning("skipped an event: %s", damage)
            return None
        return None if entry is None else msgspec.json.encode(documents.entry(entry))

    @property
    def is_over(self) -> bool:
        """Whether the hub has ended."""
        return self._over.is_set()

    def end(self) -> None:
        """End the watch, and save its position."""
        self._over.set()
        self._watch.cancel()
        self._thread.join(_END_SECONDS)
        if not self._thread.is_alive():
            self.log.close()

    def _follow(self) -> None:
        trouble: str | None = None
        # Versions taken from the watch but not yet in the log; the watch's cursor includes them.
        taken: list[tuple[str, str, int]] = []
        while not self._over.is_set():
            try:
                if not taken:
                    taken = [
                        (entry.entity_path, entry.key, entry.version)
                        for entry in self._watch.take()
                    ]
                self._keep(taken)
                taken, trouble = [], None
            except Exception as error:  # retry, whether the watch or the log's disk failed
                if str(error) != trouble:  # log each streak of the same error once
                    level = logging.WARNING if isinstance(error, AMFSError) else logging.ERROR
                    _log.log(level, "events wait: %s", error)
                trouble = str(error)
                self._over.wait(_REST_SECONDS)
        try:
            self.log.append(taken, self._watch.cursor)
        except Exception as error:
            _log.error("cannot save the position in the events: %s", error)
        self._wake()

    def _keep(self, versions: list[tuple[str, str, int]]) -> None:
        now = time.monotonic()
        is_due = now - self._kept_at > _KEEP_SECONDS
        if versions or is_due:
            self.last = self.log.append(versions, self._watch.cursor if is_due else None)
        if is_due:
            self._kept_at = now
        caught_up = self._watch.is_current and not self.is_current
        self.is_current = self.is_current or self._watch.is_current
        if versions or caught_up:
            self._wake()

    def _wake(self) -> None:
        def wake() -> None:
            self._news.set()
            self._news = asyncio.Event()

        try:
            self._loop.call_soon_threadsafe(wake)
        except RuntimeError:  # the loop is closed, so no client waits
            return


class Hubs:
    """The hubs of the server. Each starts with the first client of a path, and ends a minute after
    the last client has left."""

    def __init__(self, state: Path | None, interval: float) -> None:
        self._state = state
        self._interval = interval
        self._hubs: dict[tuple[str, str | None], Hub] = {}
        self._clients: dict[tuple[str, str | None], int] = {}
        self._idle_since: dict[tuple[str, str | None], float] = {}
        self._making = asyncio.Lock()

    @property
    def clients(self) -> int:
        """The number of clients that follow events now."""
        return sum(self._clients.values())

    def __len__(self) -> int:
        return len(self._hubs)

    async def join(self, engine: Namespace, entity_path: str | None) -> Hub:
        """Return the hub of a path for one more client; create it if necessary."""
        place = engine.name, entity_path
        async with self._making:
            hub = self._hubs.get(place)
            loop = asyncio.get_running_loop()
            if hub is None or hub.engine.is_closed:
                if hub is not None:
                    await asyncio.to_thread(hub.end)
                hub = await asyncio.to_thread(
                    Hub, engine, entity_path, self._state, self._interval, loop
                )
                self._hubs[place] = hub
            self._clients[place] = self._clients.get(place, 0) + 1
            return hub

    def leave(self, engine: Namespace, entity_path: str | None) -> None:
        """Stop counting a client that has left."""
        place = engine.name, entity_path
        self._clients[place] -= 1
        if not self._clients[place]:
            self._idle_since[place] = time.monotonic()

    async def end_idle(self) -> None:
        """While the server runs, end hubs that nobody has followed for a minute."""
        while True:
            await asyncio.sleep(_IDLE_SECONDS / 4)
            async with self._making:
                for place, hub in list(self._hubs.items()):
                    idle = time.monotonic() - self._idle_since.get(place, time.monotonic())
                    if not self._clients.get(place) and idle > _IDLE_SECONDS:
                        del self._hubs[place]
                        await asyncio.to_thread(hub.end)

    async def end(self) -> None:
        """End all hubs; each saves its position."""
        async with self._making:
            hubs, self._hubs = list(self._hubs.values()), {}
            await asyncio.gather(*(asyncio.to_thread(hub.end) for hub in hubs))


def _file_name(engine: Namespace, entity_path: str | None) -> str:
    """Return a file name that is unique for each store, namespace and path."""
    place = engine.versions.store.location, engine.name, entity_path
    return f"{hashlib.sha256(repr(place).encode()).hexdigest()[:32]}.events.sqlite"
