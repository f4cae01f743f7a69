"""How the server lives and ends: health, counts, signals, TLS."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from amfs_core.memory import AgentMemory
from amfs_local import LocalAdapter
from amfs_server import keys
from tests.conftest import REPOSITORY
from tests.support.s3_store import Place
from tests.support.served import Served, serving
from tests.support.servers import Server


def test_alive_and_ready(tmp_path: Path) -> None:
    with serving(tmp_path / "store") as server, server.client() as client:
        assert client.get("/healthz").json() == {"alive": True}
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()) == (200, {"ready": True})


def test_not_ready_while_the_store_does_not_answer(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        variables = {
            "AMFS_S3_ENDPOINT": endpoint,
            "AWS_ACCESS_KEY_ID": "key-id-of-nobody",
            "AWS_SECRET_ACCESS_KEY": "secret-of-nobody",
            "AMFS_PATIENCE": "0",
        }
        server = Served("--log", before=("--store", "s3://my-bucket/amfs/"), **variables)
        try:
            with server.client() as client:
                assert client.get("/healthz").status_code == 200
                answer = client.get("/readyz")
                assert (answer.status_code, answer.json()) == (503, {"ready": False})
                refused = client.get("/v1/default/memories/e/k")
                assert refused.status_code == 503 and refused.headers["retry-after"]
                assert refused.json()["code"] == "backend_unavailable"
        finally:
            server.stop()
        assert "secret-of-nobody" not in "\n".join(server.lines)


def test_counts_for_prometheus(tmp_path: Path) -> None:
    with serving(tmp_path / "store") as server, server.client() as client:
        for number in range(3):
            client.put("/v1/team/memories/e/k", json={"value": number})
        client.get("/v1/team/memories/e/absent")
        client.get("/nothing/at/all")
        text = client.get("/metrics").text
    assert 'amfs_http_requests_total{method="PUT",resource="memories",status="201"} 3.0' in text
    assert 'amfs_http_requests_total{method="GET",resource="memories",status="404"} 1.0' in text
    assert 'amfs_http_requests_total{method="GET",resource="unknown",status="404"} 1.0' in text
    assert 'amfs_store_requests_total{kind="create",namespace="team"} 3.0' in text
    assert re.search(r'amfs_http_request_seconds_count\{method="PUT",resource="memories"\} 3', text)


def test_all_requests_share_one_engine(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with AgentMemory("filler", adapter=LocalAdapter(root)) as memory:
        memory.write_many([{"entity_path": "e", "key": f"k{n}", "value": n} for n in range(100)])
    with serving(root) as server, server.client() as client:
        for _ in range(10):
            assert len(client.get("/v1/default/memories").json()["entries"]) == 100
        text = client.get("/metrics").text
    assert 'amfs_store_requests_total{kind="get",namespace="default"} 101.0' in text


def test_an_acknowledged_write_survives_the_end_of_the_server(tmp_path: Path) -> None:
    root = tmp_path / "store"
    acknowledged: list[tuple[int, int]] = []
    with serving(root) as server:

        def work(writer: int) -> None:
            with server.client() as client:
                number = 0
                while True:
                    path = f"/v1/default/memories/e/k{writer}"
                    try:
                        answer = client.put(path, json={"value": number})
                    except httpx.TransportError:
                        return
                    assert answer.status_code == 201
                    acknowledged.append((writer, answer.json()["version"]))
                    number += 1

        threads = [threading.Thread(target=work, args=(writer,)) for writer in range(8)]
        for thread in threads:
            thread.start()
        while len(acknowledged) < 100:
            time.sleep(0.01)  # load is what is waited for
        assert server.stop(signal.SIGTERM) == 0
        for thread in threads:
            thread.join(30)
    with AgentMemory("reader", adapter=LocalAdapter(root)) as reader:
        for writer in range(8):
            versions = [version for author, version in acknowledged if author == writer]
            assert [entry.version for entry in reader.history("e", f"k{writer}")] == versions
        assert reader.verify().ok
    assert not [line for line in server.lines if "Traceback" in line]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_well(tmp_path: Path, how: int) -> None:
    with serving(tmp_path / "store") as server:
        with server.client() as client:
            client.put("/v1/default/memories/e/k", json={"value": 1})
        assert server.stop(how) == 0
        assert server.lines[-1] == "amfs: the server has stopped"


def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = subprocess.run(
            [sys.executable, "-m", "amfs", "serve", "--port", str(taken.getsockname()[1])],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 2
    assert "cannot listen at 127.0.0.1:" in done.stderr and "Traceback" not in done.stderr


def test_with_tls(tmp_path: Path) -> None:
    certificate, private_key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(private_key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    tls = ("--certificate", str(certificate), "--private-key", str(private_key))
    with serving(tmp_path / "store", *tls) as server:
        assert server.url.startswith("https://")
        trusted = ssl.create_default_context(cafile=str(certificate))
        with httpx.Client(base_url=server.url, verify=trusted, trust_env=False) as client:
            assert client.put("/v1/default/memories/e/k", json={"value": 1}).status_code == 201


def test_a_request_that_never_ends_does_not_stay(tmp_path: Path) -> None:
    with serving(tmp_path / "store") as server:
        head = (
            b"PUT /v1/default/memories/e/k HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
        )
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as slow:
            slow.sendall(head)
            with server.client() as client:
                assert client.get("/healthz").status_code == 200
            slow.shutdown(socket.SHUT_WR)
            while slow.recv(65536):
                pass
        with server.client() as client:
            assert client.get("/v1/default/memories/e/k").status_code == 404
        assert not [line for line in server.lines if "Traceback" in line]


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /v1/default/memories/" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /" + b"%00" * 50 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"PUT /v1/d/memories/e/k HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
    ],
    ids=["noise", "version", "long", "nul", "length"],
)
def test_malformed_requests_are_refused_and_leave_no_trace(tmp_path: Path, raw: bytes) -> None:
    with serving(tmp_path / "store") as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
            client.sendall(raw)
            client.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert not answer or answer.split()[1] in (b"400", b"404", b"414", b"421", b"431", b"505")
        with server.client() as other:
            assert other.get("/healthz").status_code == 200
        assert not [line for line in server.lines if "Traceback" in line]


def test_a_bucket_over_http_with_keys(minio: Server, tmp_path: Path) -> None:
    place = Place.on(minio, minio.new_bucket())
    token = keys.add(tmp_path / "keys.json", "all", "eraser", agent_id="ann")
    variables = {
        "AMFS_S3_ENDPOINT": place.endpoint_url,
        "AWS_ACCESS_KEY_ID": place.access_key,
        "AWS_SECRET_ACCESS_KEY": place.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    options = ("--keys", str(tmp_path / "keys.json"), "--state", str(tmp_path / "events"))
    server = Served(*options, before=("--store", f"s3://{place.bucket}/amfs/"), **variables)
    try:
        with server.client(token) as client:
            path = "/v1/default/memories/e/k"
            assert client.put(path, json={"value": 1}).status_code == 201
            assert client.get(path).json()["provenance"]["agent_id"] == "ann"
            assert client.get("/v1/default/search?q=k").json()["hits"][0]["key"] == "k"
    finally:
        assert server.stop() == 0
    with place.memory("reader") as reader:
        entry = reader.read("e", "k")
        assert entry is not None and entry.value == 1
