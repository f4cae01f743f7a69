"""What the tests of backups share: reading archives without AMFS, and judging what is in them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from amfs_core.storage import ObjectInfo
from amfs_local import LocalAdapter


def local(path: Path) -> LocalAdapter:
    return LocalAdapter(str(path), durability="none")


def objects(path: Path) -> dict[str, bytes]:
    """All objects of a directory, by their keys."""
    bodies: dict[str, bytes] = {}
    for directory, names, files in os.walk(path):
        names[:] = [name for name in names if not name.startswith(".")]  # comes and goes
        for file in (Path(directory) / name for name in files):
            bodies[file.relative_to(path).as_posix()] = file.read_bytes()
    return bodies


def extracted(place: Path, names: list[str], into: Path, namespace: str = "default") -> Path:
    """Open a chain of backups with tar and gzip alone."""
    into.mkdir()
    for name in names:
        parts = sorted((place / namespace / "archives" / name).glob("*.tar.gz"))
        assert parts
        for part in parts:
            subprocess.run(["gzip", "--test", part], check=True)
            subprocess.run(["tar", "-xzf", part, "-C", into], check=True)
    return into


def problems(root: Path, acknowledged: dict[str, int] | None = None) -> list[str]:
    """What is wrong with the namespace "default" in a directory, read without AMFS: a version whose
    predecessor is missing or another, a version that counts an outcome of which there is no record,
    an outcome about a version that is not there, a stub without an order; something that is missing
    although it was acknowledged (versions by memory).
    """
    findings: list[str] = []
    memories: dict[str, dict[int, Any]] = defaultdict(dict)
    for path in (root / "default" / "entries").rglob("v*.json"):
        body = path.read_bytes()
        covered, _, seal = body.rpartition(b',"sha256":"')
        if seal != hashlib.sha256(covered).hexdigest().encode() + b'"}':
            findings.append(f"{path} is damaged")
        version = json.loads(body)
        memories[f"{version['entity_path']}/{version['key']}"][version["version"]] = version
    bodies = (path.read_bytes() for path in (root / "default" / "outcomes").glob("*.json"))
    outcomes = {record["ref"]: record for record in map(json.loads, bodies)}
    for memory, versions in memories.items():
        findings += (f"{memory} {problem}" for problem in _problems(versions, outcomes))
    for ref, outcome in outcomes.items():
        for cause in outcome["causes"]:
            versions = memories.get(f"{cause['entity_path']}/{cause['key']}", {})
            if cause["version"] not in versions:
                findings.append(f"{ref} is about {cause}, which is not there")
    for memory, number in (acknowledged or {}).items():
        if number not in memories.get(memory, {}):
            findings.append(f"{memory} v{number} was acknowledged before, and is not there")
    return findings


def _problems(versions: dict[int, Any], outcomes: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the versions of one memory."""
    previous = None
    last_order = max(
        (number for number, fields in versions.items() if fields.get("purges")), default=0
    )
    for number in range(1, max(versions) + 1):
        version = versions.get(number)
        if version is None:
            yield f"v{number} is missing below v{max(versions)}"
            return
        if version["previous"] != previous:
            yield f"v{number} does not follow"
        previous = version.get("erased") or version["sha256"]
        ref = version["provenance"].get("outcome_ref")
        if ref is not None and ref not in outcomes:
            yield f"v{number} counts {ref}, of which there is no record"
        if "erased" in version and number > last_order:
            yield f"v{number} is erased, and nothing ordered it"


class Meanwhile(LocalAdapter):
    """A directory in which something is done once the listing of a namespace has passed an object.

    `phantoms` are listed and are not there, as what a store is creating. With `takes_back` they are
    listed until they are read, as what it took back then.
    """

    def __init__(self, root: Path, after: str = "", act: Callable[[], object] | None = None):
        super().__init__(str(root), durability="none")
        self.after = after
        self.act = act
        self.phantoms: set[str] = set()
        self.takes_back = False

    def get(self, key: str) -> bytes | None:
        if self.takes_back:
            self.phantoms.discard(key)
        return super().get(key)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        for info in self._with_phantoms(prefix, start_after):
            yield info
            if info.key == self.after and prefix.count("/") < 2 and self.act is not None:
                act, self.act = self.act, None
                act()
                yield from self._with_phantoms(prefix, info.key)  # as the next page has it
                return

    def _with_phantoms(self, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        waiting = sorted(
            key for key in self.phantoms if key.startswith(prefix) and key > start_after
        )
        for info in super().list(prefix, start_after):
            while waiting and waiting[0] < info.key:
                yield _phantom(waiting.pop(0))
            if info.key not in self.phantoms:
                yield info
        yield from map(_phantom, waiting)


def _phantom(key: str) -> ObjectInfo:
    return ObjectInfo(key, 100, datetime.now(UTC))
