"""The explorer in a real browser: what a person sees, and what a hostile memory cannot do."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from amfs_core.memory import AgentMemory
from amfs_local import LocalAdapter
from amfs_server import explorer, keys
from tests.support import node
from tests.support.served import serving

SCRIPT = Path(__file__).parent / "explorer.js"
PICTURES = os.environ.get("AMFS_TEST_PICTURES", "")  # where to keep what it looked like
EVIL = "<script>alert(2)</script><img src=x onerror=alert(3)>"


@pytest.mark.slow
def test_a_person_finds_follows_and_compares_memories(tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("NOT TESTED in a browser: there is no chromium")
    place = tmp_path / "node"
    place.mkdir()
    node.installed(place, "playwright-core@1")
    shutil.copy(SCRIPT, place / SCRIPT.name)
    root = tmp_path / "store"
    with AgentMemory("ann", adapter=LocalAdapter(root)) as memory:
        memory.write("sea/birds", "pelican", {"name": "pelican", "fish": 3}, tags=["bird"])
        memory.write("sea/birds", "pelican", {"name": "pelican", "fish": 5, "nest": True})
        memory.commit_outcome("spring-count", "failure", entries=[("sea/birds", "pelican")])
        memory.write("checkout-service", "retry-pattern", {"max_retries": 3})
        memory.write("evil", "<img src=x onerror=alert(1)>", EVIL)
    with AgentMemory("bob", adapter=LocalAdapter(root)) as memory:
        memory.write("checkout-service/eu", "limit", "ten at once")
    with serving(root) as server:
        done = subprocess.run(
            ["node", SCRIPT.name, browser, str(tmp_path / "profile"), server.url, PICTURES],
            cwd=place,
            capture_output=True,
            text=True,
            timeout=180,
        )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    seen: dict[str, list[Any]] = defaultdict(list)
    for line in done.stdout.splitlines():
        told = json.loads(line)
        seen[told["name"]].append(told["value"])
    assert not seen["dialog"] and not seen["error"] and not seen["console"], seen
    assert "sea/birds/pelican" in seen["memories"][0] and len(seen["memories"][0]) == 4
    assert {"sea/", "birds", "checkout-service/", "eu"} <= set(seen["tree"][0])
    assert seen["found"] == [["sea/birds/pelican"]]
    assert seen["opened"] == ["sea/birds/pelican"]
    assert json.loads(seen["value"][0]) == {"name": "pelican", "fish": 5, "nest": True}
    assert json.loads(seen["first"][0]) == {"name": "pelican", "fish": 3}
    assert seen["circles"] == [3]
    assert seen["evil"] == [EVIL] and seen["images"] == [0]
    assert "live/k" in seen["live"][0] and "just now" in seen["live"][0]
    assert seen["outcomes"] == [["spring-count"]]
    assert {"ann", "bob"} <= set(seen["agents"][0])
    assert seen["ground"] == ["rgb(20, 24, 28)"] and seen["overflow"] == [0]
    hosts = {host for host in seen["hosts"][0] if host != "data:"}
    assert hosts == {server.url.removeprefix("http://")}


def test_the_page_loads_nothing_from_elsewhere_and_nothing_inline(tmp_path: Path) -> None:
    with serving(tmp_path / "store") as server, server.client() as client:
        for name in ("/", "/explorer.js", "/explorer.css"):
            answer = client.get(name)
            assert answer.status_code == 200
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy
            outside = re.findall(r"https?://[^\s\"')]+", answer.text)
            assert set(outside) <= {"http://www.w3.org/2000/svg"}
        html = client.get("/").text
    assert "innerHTML" not in client_script() and "eval(" not in client_script()
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=", html)


def client_script() -> str:
    page = explorer.page("explorer.js")
    assert page is not None
    return bytes(page.body).decode()


def test_the_page_needs_no_key_and_shows_nothing_without_one(tmp_path: Path) -> None:
    keys.add(tmp_path / "keys.json", "me", "reader")
    options = ("--keys", str(tmp_path / "keys.json"))
    with serving(tmp_path / "store", *options) as server, server.client() as client:
        assert client.get("/").status_code == 200
        assert client.get("/v1/default/memories").status_code == 401
