"""The manifests are valid, and the steps of the image work in a plain directory."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from amfs_server import keys
from tests.conftest import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
USER = 10001


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_follows_the_schema_of_kubernetes(path: Path) -> None:
    for document in documents(path):
        if document["kind"] != "Kustomization":
            kubernetes_validate.validate(document, "1.30", strict=True)


def test_the_kustomization_names_every_manifest() -> None:
    (base,) = documents(DEPLOY / "kubernetes" / "kustomization.yaml")
    assert set(base["resources"]) == {path.name for path in MANIFESTS} - {"kustomization.yaml"}


def test_the_manifests_fit_together() -> None:
    manifests = {manifest["kind"]: manifest for path in MANIFESTS for manifest in documents(path)}
    deployment = manifests["Deployment"]["spec"]
    (container,) = deployment["template"]["spec"]["containers"]
    labels = deployment["template"]["metadata"]["labels"]
    for selector in (
        deployment["selector"]["matchLabels"],
        manifests["Service"]["spec"]["selector"],
        manifests["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    ports = {port["name"] for port in container["ports"]}
    assert manifests["Service"]["spec"]["ports"][0]["targetPort"] in ports
    names = {volume["name"] for volume in deployment["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == names
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert deployment["template"]["spec"]["securityContext"]["runAsUser"] == USER


def instructions() -> list[tuple[str, str]]:
    """The instructions of the image, in order, without comments and continuation lines."""
    text = re.sub(r"\\\n\s*", " ", (DEPLOY / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


def test_the_image_runs_as_nobody_in_particular_and_is_looked_after() -> None:
    arguments = dict(instructions())
    assert arguments["USER"] == f"{USER}:{USER}"
    assert "healthz" in arguments["HEALTHCHECK"]
    assert "HOME=/state" in arguments["ENV"]


def test_every_package_is_in_the_image() -> None:
    copied = {text.split()[0] for name, text in instructions() if name == "COPY"}
    packages = {path.parent.name for path in REPOSITORY.glob("amfs*/__init__.py")}
    assert packages <= copied


def build(tmp_path: Path, placed: Callable[[str], str]) -> dict[str, str]:
    """Do what the image's instructions say in a directory; return its environment."""
    source = tmp_path / "source"
    source.mkdir()
    environment: dict[str, str] = {}
    for name, text in instructions():
        if name == "COPY" and not text.startswith("--from"):
            *sources, target = text.split()
            for source_path in sources:
                path = REPOSITORY / source_path
                if path.is_dir():
                    ignored = shutil.ignore_patterns("__pycache__")
                    shutil.copytree(path, source / target, ignore=ignored)
                else:
                    shutil.copy(path, source / target)
        elif name == "RUN":
            command = placed(text).replace("python -m venv", f"{sys.executable} -m venv")
            subprocess.run(["sh", "-ec", command], cwd=source, check=True, timeout=600)
        elif name == "ENV":
            pairs = (pair.partition("=") for pair in shlex.split(placed(text)))
            environment |= {variable: value for variable, _, value in pairs}
    return environment


def answered(url: str, server: subprocess.Popen[str]) -> None:
    """Return once the server listens."""
    until = time.monotonic() + 60
    while server.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=5) as answer:
                assert answer.status == 200
                return
        except OSError:
            time.sleep(0.05)  # until it listens
    server.kill()
    raise AssertionError(server.communicate()[1])


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become the user of the image")
def test_the_steps_of_the_image_give_a_server(tmp_path: Path) -> None:
    state, keys_file = tmp_path / "state", tmp_path / "keys" / "keys.json"
    places = {"/opt/amfs": tmp_path / "amfs", "/state": state, "/keys/": f"{keys_file.parent}/"}

    def placed(text: str) -> str:
        for inside, outside in places.items():
            text = text.replace(inside, str(outside))
        return text

    environment = build(tmp_path, placed)
    keys_file.parent.mkdir()
    token = keys.add(keys_file, "me", "eraser")
    os.chown(keys_file, USER, USER)
    for path in (tmp_path, *tmp_path.parents):
        path.chmod(path.stat().st_mode | 0o011)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    arguments = dict(instructions())
    command = [*yaml.safe_load(arguments["ENTRYPOINT"]), *json.loads(placed(arguments["CMD"]))]
    command[command.index("0.0.0.0")] = "127.0.0.1"
    become = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups")
    server = subprocess.Popen(
        [*become, *command, "--port", port],
        cwd="/",
        env={**environment, "AMFS_ROOT": str(state / "memories")},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        answered(url, server)
        request = urllib.request.Request(
            f"{url}/v1/default/memories/e/k",
            b'{"value": 1}',
            {"content-type": "application/json", "authorization": f"Bearer {token}"},
            method="PUT",
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 201
        check = arguments["HEALTHCHECK"].partition("CMD ")[2].replace("8420", port)
        subprocess.run([sys.executable, *json.loads(check)[1:]], check=True, timeout=30)
        (made,) = (state / "memories").rglob("v1.json")
        assert made.stat().st_uid == USER
    finally:
        server.send_signal(signal.SIGTERM)
        _, told = server.communicate(timeout=60)
    assert server.returncode == 0, told
    assert token not in told
