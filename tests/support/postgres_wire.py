"""A proxy before PostgreSQL that cuts the next INSERT's connection at a chosen message.

It reads the protocol (PostgreSQL, "Message Formats") as far as to know where messages begin, so
connections through it must not be encrypted.
"""

from __future__ import annotations

import contextlib
import enum
import socket
import struct
import threading
from collections.abc import Iterator
from types import TracebackType

_FLUSH = b"H" + struct.pack("!i", 4)  # answer, but do not commit


class Cut(enum.Enum):
    """What becomes of the next INSERT."""

    REQUEST = "it never reaches the server"
    COMMIT = "the server says INSERT 0 1, is cut off, and never commits"
    ANSWER = "it is committed, and nothing is answered"
    READY = "it is committed; its answer comes, but not that the server is ready"
    SILENCE = "it is committed, and nothing is answered nor cut"


class Wire:
    """Listens on a port of its own, for as long as the block lasts."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._cut: Cut | None = None
        self.cuts = 0
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Wire:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for sock in (self._listener, *self._sockets):
            _close(sock)

    def cut_next(self, cut: Cut) -> None:
        """Choose what becomes of the next INSERT, and only of that."""
        self._cut = cut

    def cut_idle(self) -> None:
        """Cut all connections as they are, as a pooler or a firewall does."""
        sockets, self._sockets = self._sockets, []
        for sock in sockets:
            _close(sock)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                for sock in (client, server):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets += [client, server]
                pair = _Pair(client, server)
                for work in (self._carry_requests, self._carry_answers):
                    threading.Thread(target=work, args=(pair,), daemon=True).start()

    def _carry_requests(self, pair: _Pair) -> None:
        with pair.closing(), contextlib.suppress(OSError):
            pair.server.sendall(_startup(pair.client))
            for kind, message in _messages(pair.client):
                if kind == b"P" and b"INSERT INTO" in message and self._cut is not None:
                    pair.cut, self._cut = self._cut, None
                    self.cuts += 1
                if pair.cut is Cut.REQUEST:
                    return
                is_commit = pair.cut is Cut.COMMIT and kind == b"S"
                pair.server.sendall(_FLUSH if is_commit else message)

    @staticmethod
    def _carry_answers(pair: _Pair) -> None:
        with pair.closing(), contextlib.suppress(OSError):
            for kind, message in _messages(pair.server):
                if pair.cut is Cut.SILENCE:
                    continue
                is_over = kind == b"Z"  # and so it is committed
                if is_over and pair.cut in (Cut.ANSWER, Cut.READY):
                    return
                if pair.cut is Cut.ANSWER:
                    continue
                pair.client.sendall(message)
                if pair.cut is Cut.COMMIT and kind == b"C":
                    return


class _Pair:
    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.cut: Cut | None = None

    @contextlib.contextmanager
    def closing(self) -> Iterator[None]:
        try:
            yield
        finally:
            _close(self.client)
            _close(self.server)


def _close(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


def _exactly(source: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = source.recv(size - len(data))
        if not more:
            raise ConnectionError("the other side hung up")
        data += more
    return data


def _startup(client: socket.socket) -> bytes:
    """The first message, which has no kind."""
    size = _exactly(client, 4)
    return size + _exactly(client, struct.unpack("!i", size)[0] - 4)


def _messages(source: socket.socket) -> Iterator[tuple[bytes, bytes]]:
    while True:
        kind = _exactly(source, 1)
        size = _exactly(source, 4)
        yield kind, kind + size + _exactly(source, struct.unpack("!i", size)[0] - 4)
