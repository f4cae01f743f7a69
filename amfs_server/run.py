"""Running the server: how it listens, and how it ends."""

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
    """Ends event streams when it is told to exit; they would keep the server alive forever."""

    def __init__(self, config: uvicorn.Config, app: Starlette) -> None:
        super().__init__(config)
        self._app = app

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, and log the address."""
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
        """Start the shutdown."""
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
    """Serve until SIGTERM or Ctrl-C, then answer the requests in progress, and return.

    Args:
        settings: How the server works.
        host: The address to listen at. Without keys it must be an address of this machine only.
        port: The port, 0 to 65535; 0 chooses a free one.
        certificate: The certificate for TLS, a PEM file; needs `private_key`.
        private_key: The private key of the certificate.

    Raises:
        ConfigurationError: An argument is wrong, or the address is not available.
    """
    if settings.keys is None and not _is_local(host):
        raise ConfigurationError(
            f"without keys, everybody who can reach {host} could do everything",
            hint="create keys with `amfs key new` and use --keys FILE, or bind to 127.0.0.1",
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
        access_log=False,  # the application writes its own log
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
    # uvicorn raises the signal again after it has ended, for the previous handlers.
    before = {
        number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        server.run(sockets=[listening])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    _log.info("the server has stopped")


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address; if uvicorn could not bind, it would exit the program."""
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
            hint="is another program using the port?",
        ) from error
    return made


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
