"""Running the server: where it listens, and how it ends."""

from __future__ import annotations

import ipaddress
import logging
import signal
import socket
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from amfs_core.errors import ConfigurationError
from amfs_server.app import make_app
from amfs_server.settings import Settings

_KEEP_ALIVE_SECONDS = 75
_GRACE_SECONDS = 20  # Kubernetes kills after 30

_log = logging.getLogger("amfs.server")


class _Server(uvicorn.Server):
    """Ends streams of events as soon as it is told to end: they would keep it alive forever."""

    def __init__(self, config: uvicorn.Config, app: Starlette) -> None:
        super().__init__(config)
        self._app = app

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say where."""
        await super().startup(sockets)
        if not self.started:
            return
        scheme = "https" if self.config.is_ssl else "http"
        for server in self.servers:
            for listening in server.sockets:
                host, port = listening.getsockname()[:2]
                place = f"[{host}]" if ":" in host else host
                _log.info("serving at %s://%s:%d", scheme, place, port)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end."""
        self._app.state.server.stopping.set()
        super().handle_exit(sig, frame)


def serve(
    settings: Settings,
    *,
    host: str,
    port: int,
    certificate: Path | None = None,
    private_key: Path | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; then answer what is under way, and return.

    Without keys it binds to this machine only: `ConfigurationError` otherwise.
    """
    if settings.keys is None and not _is_local(host):
        raise ConfigurationError(
            f"without keys the server would give {host} to everybody who reaches it",
            hint="make some with `amfs key new` and give --keys FILE, or bind to 127.0.0.1",
        )
    if (certificate is None) != (private_key is None):
        raise ConfigurationError("TLS needs both --certificate and --private-key")
    for path in (certificate, private_key):
        if path is not None and not path.is_file():
            raise ConfigurationError(f"there is no file {str(path)!r}")
    listening = _listening(host, port)
    app = make_app(settings)
    config = uvicorn.Config(
        app,
        access_log=False,  # the application writes its own
        log_level="warning",
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        ssl_certfile=certificate,
        ssl_keyfile=private_key,
        h11_max_incomplete_event_size=64 * 1024,
        ws="none",
    )
    server = _Server(config, app)
    # uvicorn raises the signal again once it has ended, for handlers of before.
    before = {one: signal.signal(one, signal.SIG_IGN) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.run(sockets=[listening])
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    _log.info("the server has ended")


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket at an address; uvicorn would end the program when there can be none."""
    try:
        ((family, kind, protocol, _, address), *_) = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        made = socket.socket(family, kind, protocol)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
        except BaseException:
            made.close()
            raise
    except OSError as error:
        raise ConfigurationError(
            f"the server cannot listen at {host}:{port}: {error.strerror or error}",
            hint="is another one using the port?",
        ) from error
    return made


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
