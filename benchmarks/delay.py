"""A network of 20 ms: toxiproxy between a client and a server of this machine."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import servers
from tests.support.servers import STOP_SECONDS, ServerUnavailableError, free_port, locate

MILLISECONDS = 20
"""Added to every answer, so to every round trip."""


@contextmanager
def delayed(endpoint_url: str) -> Iterator[str]:
    """Yield the address of a server behind such a network."""
    program = locate("toxiproxy-server")
    if program is None:
        raise ServerUnavailableError("toxiproxy can't be had here")
    control, through = free_port(), free_port()
    upstream = urllib.parse.urlsplit(endpoint_url).netloc
    proxy = {"name": "s3", "listen": f"127.0.0.1:{through}", "upstream": upstream, "enabled": True}
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "proxies.json"
        config.write_text(json.dumps([proxy]))
        process = subprocess.Popen(
            [str(program), "-host", "127.0.0.1", "-port", str(control), "-config", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _slow_down(control, process)
            yield f"http://127.0.0.1:{through}"
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


def _slow_down(control: int, process: subprocess.Popen[bytes]) -> None:
    """Ask for the delay, as soon as toxiproxy listens."""
    toxic = {
        "type": "latency",
        "stream": "downstream",
        "attributes": {"latency": MILLISECONDS},
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{control}/proxies/s3/toxics", json.dumps(toxic).encode()
    )
    deadline = time.monotonic() + servers.START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(request, timeout=5):
                return
        except urllib.error.URLError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServerUnavailableError("toxiproxy did not start") from error
            time.sleep(0.05)
