"""A Ceph cluster of one machine in a temporary directory: a monitor, a store in memory, a gateway.

Needs `ceph-mon`, `ceph-osd`, `radosgw` and `ceph-common` (Debian's names). It listens on 127.0.0.1
only and keeps its objects in memory.

    python -m tests.support.ceph      # starts one, says where it is, and ends it with Ctrl-C
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from tests.support.servers import Server, ServerProcess, ServerUnavailableError, free_port

PROGRAMS = (
    *("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin"),
)
_COMMAND_SECONDS = 60.0

_CONFIGURATION = """[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon_port},v1:127.0.0.1:{old_mon_port}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
run dir = {directory}
log file = {directory}/$name.log
admin socket = {directory}/$name.asok
keyring = {directory}/keyring
pid file =
mon data = {directory}/mon
osd data = {directory}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon data avail crit = 1
mon warn on insecure global id reclaim = false
[client.gateway]
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw enable usage log = false
"""


def missing() -> list[str]:
    """The programs that are not there."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def version() -> str:
    """What the gateway says it is, such as "16.2.15"."""
    told = subprocess.run(["radosgw", "--version"], capture_output=True, text=True, check=True)
    return told.stdout.split()[2]


_KEYS: dict[str, dict[str, str]] = {
    "mon.": {"mon": "allow *"},
    "client.admin": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
    "client.gateway": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
    "osd.0": {"mon": "allow profile osd", "osd": "allow *", "mgr": "allow *"},
}


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """A gateway with a cluster of its own, for as long as the block lasts."""
    if missing():
        raise ServerUnavailableError(f"Ceph can't be had: no {', '.join(missing())}")
    with (
        tempfile.TemporaryDirectory(prefix="amfs-ceph-", ignore_cleanup_errors=True) as directory,
        contextlib.ExitStack() as processes,
    ):
        yield _Cluster(Path(directory), processes).start()


class _Cluster:
    def __init__(self, directory: Path, processes: contextlib.ExitStack) -> None:
        self._directory = directory
        self._processes = processes
        self._port = free_port()
        self._fsid = str(uuid.uuid4())
        self._environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(directory)}
        self._configuration = directory / "ceph.conf"
        self._keyring = str(directory / "keyring")

    def start(self) -> Server:
        """Start monitor, store and gateway in turn; `ServerUnavailableError` names the first that
        does not come up."""
        mon_port, old_mon_port = free_port(), free_port()
        self._configuration.write_text(
            _CONFIGURATION.format(
                fsid=self._fsid,
                mon_port=mon_port,
                old_mon_port=old_mon_port,
                directory=self._directory,
                port=self._port,
            )
        )
        self._make_keys()
        (self._directory / "osd").mkdir()
        monmap = str(self._directory / "monmap")
        address = f"[v2:127.0.0.1:{mon_port},v1:127.0.0.1:{old_mon_port}]"
        self._run("monmaptool", "--create", "--fsid", self._fsid, "--addv", "a", address, monmap)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", self._keyring)
        self._launch("ceph-mon", "-i", "a")
        store = str(uuid.uuid4())
        self._run("ceph", "osd", "new", store)
        self._run("ceph", "osd", "crush", "add", "osd.0", "1", "root=default", "host=here")
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", store)
        self._launch("ceph-osd", "-i", "0")
        gateway = self._launch("radosgw", "-n", "client.gateway")
        server = Server(
            name="ceph",
            endpoint_url=f"http://127.0.0.1:{self._port}",
            access_key=secrets.token_hex(8),
            secret_key=secrets.token_hex(20),
            process=gateway,
        )
        keys = ("--access-key", server.access_key, "--secret", server.secret_key)
        self._run("radosgw-admin", "user", "create", "--uid=amfs", "--display-name=amfs", *keys)
        server.start()
        return server

    def _make_keys(self) -> None:
        """Make one keyring for all, which the monitor takes in when it is made."""
        Path(self._keyring).touch(0o600)
        for name, rights in _KEYS.items():
            caps = [part for kind, cap in rights.items() for part in ("--cap", kind, cap)]
            self._run("ceph-authtool", self._keyring, "-n", name, "--gen-key", *caps)

    def _run(self, program: str, *arguments: str) -> None:
        command = [program, "-c", str(self._configuration), *arguments]
        try:
            subprocess.run(
                command,
                env=self._environment,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_COMMAND_SECONDS,
                check=True,
            )
        except subprocess.CalledProcessError as error:
            raise ServerUnavailableError(f"{program} failed: {error.stderr[-2000:]}") from error
        except subprocess.TimeoutExpired as error:
            raise ServerUnavailableError(f"{program} {arguments[:3]} does not end") from error

    def _launch(self, program: str, *arguments: str) -> ServerProcess:
        aside = self._directory / f"{program}.process"
        aside.mkdir()
        process = ServerProcess(
            [program, "-c", str(self._configuration), "-f", *arguments], self._environment, aside
        )
        process.launch()
        self._processes.callback(process.terminate)
        time.sleep(0.5)
        if not process.alive:
            raise ServerUnavailableError(f"{program} did not start: {process.log}")
        return process


def main() -> None:
    """Run a cluster until interrupted."""
    with running() as server:
        print(server.endpoint_url, server.access_key, server.secret_key, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
