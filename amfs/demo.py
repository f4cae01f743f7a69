"""`make demo`: two agents, one store, and real text.

    python -m amfs.demo                       # a new directory, .amfs-demo
    python -m amfs.demo --store PLACE
    AMFS_S3_BUCKET=… python -m amfs.demo      # the same program on a bucket

The text is the reference of the Python language, which every Python has in `pydoc_data.topics`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from pydoc_data.topics import topics

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.text import Text
from rich.tree import Tree

from amfs import AgentMemory
from amfs.cli.output import compact, counted, grid, plain
from amfs.config import load, open_store, shown_place
from amfs.config.places import read_place
from amfs_core.errors import AMFSError
from amfs_core.format import Layout, MemoryEntry
from amfs_core.storage import StorageAdapter

DIRECTORY = ".amfs-demo"
REFERENCE = "python/reference"
NOTES = "python/notes"
AGENTS = ("ada", "grace")
CONTESTED = ("booleans", "lambda", "while")
ROUNDS = 12  # writes of each agent to each contested key


@dataclass(frozen=True, slots=True)
class Place:
    """Where the demo runs: a store in the form of `--store`, or None for the configured bucket."""

    store: str | None
    namespace: str

    def open(self) -> StorageAdapter:
        """Open the store."""
        return load().open_adapter() if self.store is None else open_store(self.store)

    def memory(self, agent: str, adapter: StorageAdapter) -> AgentMemory:
        """Open the memory as one agent."""
        return AgentMemory(agent, adapter=adapter, namespace=self.namespace)

    def shown(self, adapter: StorageAdapter) -> str:
        """Return the demo's name for the store."""
        if self.store is None:
            return f"bucket {os.environ['AMFS_S3_BUCKET']}"
        return shown_place(self.store, adapter)

    @property
    def options(self) -> str:
        """The options that `amfs` needs for this store. A DSN may have a password: left out."""
        is_database = self.store is not None and read_place(self.store, {})[0] == "postgres"
        shown = "postgresql://…" if is_database else self.store
        store = "" if self.store is None else f" --store {shown}"
        chosen = os.environ.get("AMFS_NAMESPACE") or "default"
        return store + ("" if self.namespace == chosen else f" --namespace {self.namespace}")


class Screen:
    """Prints the steps."""

    def __init__(self) -> None:
        width = None if sys.stdout.isatty() else 100
        self.console = Console(highlight=False, width=width)
        self._step = 0

    def step(self, title: str) -> None:
        """Begin a step."""
        self._step += 1
        self.console.print(Text(f"{self._step}. {title}", style="bold"))

    def line(self, text: str, style: str = "") -> None:
        """Print a line of a step."""
        self.console.print(Text(f"   {text}", style=style), soft_wrap=True)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print rows of a step."""
        self.indented(grid(columns, rows, self.console.width - 3))

    def indented(self, shown: RenderableType) -> None:
        """Print anything below the title of a step."""
        self.console.print(Padding(shown, (0, 0, 0, 3)))


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; return 1 when something is lost or wrong, 2 on an error."""
    parser = argparse.ArgumentParser(prog="python -m amfs.demo", description=__doc__.split("\n")[0])
    parser.add_argument("--store", metavar="PLACE", help="where to run")
    try:
        return run(_place(parser.parse_args(arguments).store), Screen())
    except (AMFSError, OSError) as error:
        print(f"amfs demo: {plain(str(error))}", file=sys.stderr)
        return 2


def _place(store: str | None) -> Place:
    # Unless the demo creates its own directory, a namespace of its own keeps its memories separate.
    own = f"demo-{time.strftime('%Y%m%d-%H%M%S')}"
    if store is not None:
        return Place(store, own)
    if os.environ.get("AMFS_STORE"):
        return Place(os.environ["AMFS_STORE"], own)
    if os.environ.get("AMFS_S3_BUCKET"):
        return Place(None, own)
    if os.path.isdir(DIRECTORY) and not os.path.islink(DIRECTORY):
        shutil.rmtree(DIRECTORY)
    return Place(DIRECTORY, os.environ.get("AMFS_NAMESPACE") or "default")


def run(place: Place, screen: Screen) -> int:
    """Run all steps; return 1 when something is lost or wrong."""
    adapter = place.open()
    store = escape(place.shown(adapter))
    screen.console.print(f"[bold]AMFS demo[/]: {store}, namespace {place.namespace}\n")
    try:
        with place.memory(AGENTS[0], adapter) as ada, place.memory(AGENTS[1], adapter) as grace:
            _import(screen, ada, grace)
            kept = _contend(screen, place, ada)
            same = _read_back(screen, grace)
            _look_back(screen, ada)
            report = ada.verify()
            screen.step("Verify: every version's SHA-256, its place, and the chain of each memory")
            verdict = (
                "all is well" if report.ok else counted(len(report.findings), "finding", "findings")
            )
            screen.line(f"{report.versions} versions of {report.memories} memories: {verdict}")
            _show_objects(screen, place, adapter)
    finally:
        adapter.close()
    _say_next(screen, place)
    return 0 if kept and same and report.ok else 1


def _import(screen: Screen, ada: AgentMemory, grace: AgentMemory) -> None:
    screen.step("Two agents import the Python language reference: one memory per topic")
    names = sorted(topics)
    for memory, mine in ((ada, names[::2]), (grace, names[1::2])):
        started = time.monotonic()
        entries = memory.write_many(
            {"entity_path": REFERENCE, "key": name, "value": topics[name], "tags": ["imported"]}
            for name in mine
        )
        size = sum(len(topics[name]) for name in mine)
        spent = time.monotonic() - started
        screen.line(
            f"{memory.agent_id:5} wrote {len(entries)} memories, {size:,} characters, {spent:.1f} s"
        )


class _Start:
    """Lets the agents' processes start at the same moment."""

    barrier: Barrier | None = None

    @classmethod
    def set(cls, barrier: Barrier) -> None:
        cls.barrier = barrier


def write_notes(place: Place, agent: str) -> tuple[dict[str, int], int]:
    """Write an agent's notes on the contested keys, line by line.

    Returns how many writes were acknowledged for each key, and how many races were lost.
    """
    acknowledged = dict.fromkeys(CONTESTED, 0)
    adapter = place.open()
    with place.memory(agent, adapter) as memory:
        memory.health()  # connect first, or the process that connects faster would win the race
        if _Start.barrier:
            _Start.barrier.wait(timeout=60)
        for number in range(ROUNDS):
            for name in CONTESTED:
                lines = [line.strip() for line in topics[name].splitlines() if line[-1:].isalpha()]
                note = {"round": number + 1, "quote": lines[number % len(lines)]}
                memory.write(NOTES, name, note, memory_type="experience")
                acknowledged[name] += 1
        conflicts = memory.metrics.conflicts
    adapter.close()
    return acknowledged, conflicts


def _contend(screen: Screen, place: Place, memory: AgentMemory) -> bool:
    screen.step("Both agents, in separate processes, write the same keys at the same time")
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(len(AGENTS))
    with ProcessPoolExecutor(len(AGENTS), spawn, _Start.set, (barrier,)) as processes:
        done = list(processes.map(write_notes, [place] * len(AGENTS), AGENTS))
    rows, kept = [], True
    for name in CONTESTED:
        acknowledged = [counts[name] for counts, _ in done]
        versions = [entry.version for entry in memory.history(NOTES, name)]
        kept = kept and versions == list(range(1, sum(acknowledged) + 1))
        shown = (*acknowledged, len(versions), sum(acknowledged) - len(versions))
        rows.append((f"{NOTES}/{name}", *map(str, shown)))
    screen.table(("memory", *(f"by {agent}" for agent in AGENTS), "versions", "lost"), rows)
    collisions = sum(lost for _, lost in done)
    screen.line(f"{collisions} times an agent lost the race for a version, and wrote the next one")
    return kept


def _read_back(screen: Screen, memory: AgentMemory) -> bool:
    screen.step("Read back: each agent sees what the other wrote")
    values = {entry.key: entry.value for entry in memory.list(REFERENCE)}
    same = [values.get(name) == text for name, text in topics.items()].count(True)
    screen.line(f"{same} of {len(topics)} topics are identical to the original text")
    return same == len(values) == len(topics)


def _look_back(screen: Screen, memory: AgentMemory) -> None:
    name = CONTESTED[0]
    history = memory.history(NOTES, name)
    screen.step(f"The first and last versions in the history of {NOTES}/{name}")
    screen.table(("version", "written", "agent", "value"), map(_row, [*history[:3], *history[-2:]]))
    difference = memory.diff(NOTES, name, 1, len(history))
    screen.step(f"The difference between v1 and v{len(history)}")
    for change in difference.changes:
        shown = f"{change.path}: {compact(change.old)} → {compact(change.new)}"
        screen.line(shown if len(shown) <= 96 else shown[:95] + "…")


def _row(entry: MemoryEntry) -> tuple[str, ...]:
    provenance = entry.provenance
    written = f"{provenance.written_at:%H:%M:%S.%f}"
    return f"v{entry.version}", written, provenance.agent_id, compact(entry.value)


def _show_objects(screen: Screen, place: Place, adapter: StorageAdapter) -> None:
    screen.step("The objects: one file per version, readable with any tool")
    tree: dict[str, int] = {}
    root = Layout(place.namespace).entries
    for info in adapter.list(root):
        tree[info.key] = info.size
    shown = Tree(Text(root), guide_style="dim")
    for entity, keys in ((NOTES, CONTESTED), (REFERENCE, sorted(topics)[:3])):
        branch = shown.add(f"{entity}/")
        for name in keys:
            prefix = f"{root}{entity}/{name}/"
            sizes = [size for key, size in tree.items() if key.startswith(prefix)]
            files = "v1.json" if len(sizes) == 1 else f"v1.json … v{len(sizes)}.json"
            branch.add(Text(f"{name}/ {files}, {sum(sizes):,} bytes"))
        more = len({key.rsplit("/", 2)[1] for key in tree if f"/{entity}/" in key}) - len(keys)
        if more:
            branch.add(f"… and {more} more")
    screen.indented(shown)
    screen.line(f"{len(tree)} objects, {sum(tree.values()):,} bytes")


def _program() -> str:
    """Return how to call `amfs` from here, whether or not the environment is activated."""
    beside = Path(sys.executable).with_name("amfs")
    if shutil.which("amfs") or not beside.exists():
        return "amfs"
    return os.path.relpath(beside)


def _say_next(screen: Screen, place: Place) -> None:
    command = f"{_program()}{place.options}"
    screen.console.print()
    screen.line("Try next:", "bold")
    for arguments in (
        "ls",
        f"read {REFERENCE} lambda",
        f"log {NOTES} {CONTESTED[0]}",
        f"diff {NOTES} {CONTESTED[0]} 1 2",
        "write my-project first-memory '{\"works\": true}'",
        f"export {REFERENCE} -o reference.jsonl",
    ):
        screen.line(f"  {command} {arguments}")
    screen.line("The same demo on a bucket of AWS, R2, MinIO or any S3-compatible service:", "bold")
    screen.line("  export AMFS_S3_BUCKET=my-bucket AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…")
    screen.line("  export AMFS_S3_ENDPOINT=http://localhost:9000    # leave it out for AWS")
    screen.line("  make demo")


if __name__ == "__main__":
    sys.exit(main())
