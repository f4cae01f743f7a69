"""`python -m benchmarks.touched`: what an operation touches, counted by Valgrind's cachegrind.

Between two requests the caches of a processor fill with the server's and the kernel's things, so
what an operation costs is how many cache lines it touches rather than how long it takes in a loop
(`docs/design/speed.md`). Here a second-level cache of 512 KiB is emptied before each operation, and
what it then has to fetch is counted, so it hardly matters what else the machine does. What the
kernel touches for it is not in it. Takes three minutes.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable

import click

from amfs_core.memory import AgentMemory
from amfs_core.testing import ModelAdapter
from benchmarks.s3 import LEAST, VALUE, check_by_hand, sealed_by_hand, unsealed

COUNT = 200
WARM = 50
_EMPTIED = bytearray(2 * 1024 * 1024)
_CACHEGRIND = (
    "valgrind",
    "--tool=cachegrind",
    "--cache-sim=yes",
    "--LL=524288,8,64",
    "--cachegrind-out-file=/dev/null",
)
_TOTALS = ("I +refs", "LLi misses", "LLd misses")


class Shelf(ModelAdapter):
    """Objects in a dict, and nothing else: what is left is what AMFS does."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: dict[str, bytes] = {}

    def create(self, key: str, data: bytes) -> bool:
        self.bodies[key] = data
        return True

    def get(self, key: str) -> bytes | None:
        return self.bodies.get(key)


def operations() -> dict[str, Callable[[int], object]]:
    """Return the operations by name; each is done with the numbers from 0 on."""
    shelf = Shelf()
    writer = AgentMemory("bench", adapter=shelf, namespace="bench")
    for number in range(COUNT + WARM):
        writer.write("known", f"k{number}", VALUE)
    reader = AgentMemory("bench", adapter=shelf, namespace="bench")  # an empty cache
    fields = unsealed(shelf.bodies["bench/entries/known/k0/v1.json"])

    def put_sealed(number: int) -> None:
        shelf.create(f"raw/k{number}/v1.json", sealed_by_hand(fields))

    def get_checked(number: int) -> None:
        check_by_hand(shelf.get(f"bench/entries/known/k{number}/v1.json") or b"")

    return {
        "nothing": lambda number: None,
        "write": lambda number: writer.write("new", f"k{number}", VALUE),
        f"write / {LEAST}": put_sealed,
        "read of a version": lambda number: reader.read("known", f"k{number}", version=1),
        f"read / {LEAST}": get_checked,
    }


def work(name: str) -> None:
    """Do an operation many times, each time with an empty cache."""
    operation = operations()[name]
    for number in range(WARM):
        operation(number)
    for number in range(WARM, WARM + COUNT):
        _EMPTIED.count(b"\x01")
        operation(number)


def totals(name: str) -> list[int]:
    """Return what cachegrind counts for the work: instructions, lines of code, lines of data."""
    command = (*_CACHEGRIND, sys.executable, "-m", "benchmarks.touched", name)
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    matches = [re.search(rf"{total}: +([\d,]+)", said) for total in _TOTALS]
    return [int(match[1].replace(",", "")) for match in matches if match]


@click.command()
@click.argument("name", required=False)
def main(name: str | None) -> None:
    """Print instructions, and lines of 64 bytes, for each operation."""
    if name is not None:
        work(name)
        return
    if shutil.which("valgrind") is None:
        raise click.ClickException("this needs valgrind, which Debian has under that name")
    first, *others = operations()
    nothing = totals(first)
    for operation in others:
        counts = zip(totals(operation), nothing, strict=True)
        instructions, code, data = ((ours - theirs) / COUNT for ours, theirs in counts)
        print(
            f"{operation}: {code + data:,.0f} lines, {code:,.0f} of them code; "
            f"{instructions:,.0f} instructions"
        )


if __name__ == "__main__":
    main()
