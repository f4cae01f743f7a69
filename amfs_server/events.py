"""`watch` as server-sent events (the HTML standard, section 9.2).

The `id` of an event is the client's position: the log that numbered the event and the number, and,
during the replay from the beginning, also the memory sent last. See `docs/design/events.md`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import re
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from amfs_core.errors import AMFSError, BackendUnavailableError, InvalidValueError
from amfs_server.calls import Call
from amfs_server.event_log import Event
from amfs_server.hub import Hub, Hubs
from amfs_server.problems import Refusal

BEGINNING = "beginning"
COMMENT_SECONDS = 15.0
"""Seconds between comments on an idle stream: proxies cut silent connections, often after 30 s."""

_RETRY_MILLISECONDS = 2_000
_AT_ONCE = 100
_SEND_SECONDS = 30.0  # a client that accepts nothing for this long is disconnected; it may return
_REST_SECONDS = 1.0
_log = logging.getLogger("amfs.server")
_ID = re.compile(r"([0-9a-f]{8})-([0-9]{1,18})(?:-([A-Za-z0-9_-]{1,3000}))?", re.ASCII)


class Position(NamedTuple):
    """The position of a client: after an event of a log and, during the replay from the beginning,
    after a version of a memory."""

    log: str
    number: int
    told: tuple[str, str, int] | None = None
    is_beginning: bool = False

    def __str__(self) -> str:
        text = f"{self.log}-{self.number}"
        if not self.is_beginning:
            return text
        told = json.dumps(list(self.told or ())).encode()
        return f"{text}-{base64.urlsafe_b64encode(told).decode().rstrip('=')}"

    @classmethod
    def parsed(cls, text: str) -> Position:
        """Return the position that an id stands for. Raises `InvalidValueError`."""
        match = _ID.fullmatch(text)
        wrong = InvalidValueError(
            "this is not the id of an event",
            hint='send an id unchanged, "beginning", or nothing to start now',
        )
        if match is None:
            raise wrong
        if match[3] is None:
            return cls(match[1], int(match[2]))
        try:
            padded = match[3] + "=" * (-len(match[3]) % 4)
            told = json.loads(base64.b64decode(padded, b"-_", validate=True))
            if told == []:
                return cls(match[1], int(match[2]), None, True)
            entity_path, key, version = told
            if type(entity_path) is str and type(key) is str and type(version) is int:
                return cls(match[1], int(match[2]), (entity_path, key, version), True)
        except (binascii.Error, ValueError, TypeError, RecursionError) as error:
            raise wrong from error
        raise wrong


async def follow(call: Call, hubs: Hubs, stopping: asyncio.Event) -> Response:
    """`GET` the new versions as they arrive."""
    call.only("under", "since")
    under = call.key.scope(call.text("under"))
    since = call.header("last-event-id") or call.text("since")
    start = None if since in (None, BEGINNING) else Position.parsed(since or "")
    engine = call.engines.engine(call.namespace)
    engine.layout.entity_prefix(under)
    if hubs.clients >= call.settings.max_streams:
        raise Refusal(503, "overloaded", "too many clients follow events", retry_after="5")
    hub = await hubs.join(engine, under)
    try:
        position = await _start(hub, start, beginning=since == BEGINNING)
    except BaseException:
        hubs.leave(engine, under)
        raise
    stream = _Stream(hub, position, stopping)
    return EventStream(stream, lambda: hubs.leave(engine, under))


async def _start(hub: Hub, start: Position | None, *, beginning: bool) -> Position:
    """Return the position at which a client starts."""
    if start is None or start.is_beginning:
        # Versions written before now are not new. And a server that has just restarted may not yet
        # have seen all versions that existed when the client's replay started.
        while not hub.is_current and not hub.is_over:
            await hub.wait(hub.last, _REST_SECONDS)
    if start is None:
        return Position(hub.log.id, hub.last, None, beginning)
    _require_known(hub, start)
    return start


def _require_known(hub: Hub, position: Position) -> None:
    last = max(hub.last, hub.log.last())
    if position.log == hub.log.id and hub.log.first() - 1 <= position.number <= last:
        return
    raise Refusal(
        410,
        "gone",
        "the event with this id is no longer remembered here",
        hint="list the memories and follow from now on, or follow with since=beginning",
    )


class _Stream:
    """The bytes for one client."""

    def __init__(self, hub: Hub, position: Position, stopping: asyncio.Event) -> None:
        self._hub = hub
        self._position = position
        self._stopping = stopping

    @property
    def _is_over(self) -> bool:
        return self._stopping.is_set() or self._hub.is_over

    async def parts(self) -> AsyncIterator[bytes]:
        """Yield the bytes to send next."""
        # An id without data is not an event, but a client that reconnects now will send this id.
        yield f"retry: {_RETRY_MILLISECONDS}\nid: {self._position}\n\n".encode()
        if self._position.is_beginning:
            async for part in self._beginning():
                yield part
        while not self._is_over:
            events = await asyncio.to_thread(self._hub.log.after, self._position.number, _AT_ONCE)
            if not events:
                before = self._hub.last
                waiting = asyncio.ensure_future(self._hub.wait(before, COMMENT_SECONDS))
                stopping = asyncio.ensure_future(self._stopping.wait())
                await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                stopping.cancel()
                if self._hub.last == before:
                    yield b": still here\n\n"
                continue
            if self._position.number < self._hub.log.first() - 1:
                return  # the client is too slow: later events are forgotten; a reconnect says so
            for event in events:
                if self._is_over:
                    return
                position = Position(self._hub.log.id, event.number)
                told = await self._event(event, position)
                self._position = position
                if told is not None:
                    yield told

    async def _beginning(self) -> AsyncIterator[bytes]:
        """Yield every version that existed when the client started, sorted by name. Later versions
        have a number in the log and follow from there."""
        number, told = self._position.number, self._position.told
        delivered = await asyncio.to_thread(self._hub.delivered)
        for (entity_path, key), newest in delivered.items():
            if told is not None and (entity_path, key) < told[:2]:
                continue
            first = told[2] + 1 if told is not None and (entity_path, key) == told[:2] else 1
            later = await asyncio.to_thread(self._hub.log.numbered_after, number, entity_path, key)
            for version in range(first, newest + 1):
                if self._is_over:
                    return
                if version in later:
                    continue
                told = entity_path, key, version
                position = Position(self._hub.log.id, number, told, is_beginning=True)
                part = await self._event(Event(-1, entity_path, key, version), position)
                self._position = position
                if part is not None:
                    yield part
        _require_known(self._hub, self._position)
        self._position = Position(self._hub.log.id, number)
        yield f"id: {self._position}\n\n".encode()

    async def _event(self, event: Event, position: Position) -> bytes | None:
        """Return an event, waiting while the store does not answer; None if it cannot be read."""
        while not self._is_over:
            try:
                payload = await self._hub.payload(event)
            except BackendUnavailableError:
                await asyncio.sleep(_REST_SECONDS)
                continue
            if payload is None:
                return None
            return b"id: %s\ndata: %s\n\n" % (str(position).encode(), payload)
        return None


class EventStream(Response):
    """A response that lasts until the client leaves or is too slow, or the server ends."""

    def __init__(self, stream: _Stream, leave: Callable[[], None]) -> None:
        super().__init__(
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )
        del self.headers["content-length"]
        self._stream = stream
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        sending = asyncio.ensure_future(self._send(send))
        leaving = asyncio.ensure_future(_until_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            sending.cancel()
            try:
                await sending
            except (asyncio.CancelledError, TimeoutError, Refusal):
                pass  # the client left, was too slow, or needs events that are forgotten
            except AMFSError as error:
                _log.warning("disconnected an event client, which may reconnect: %s", error)
            finally:
                self._leave()

    async def _send(self, send: Send) -> None:
        start = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        await send(start)
        async for part in self._stream.parts():
            async with asyncio.timeout(_SEND_SECONDS):
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
