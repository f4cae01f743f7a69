"""`python -m benchmarks.search_speed`: indexing and searching 100,000 memories of 0.5 KB.

Each memory is turns of LoCoMo in a row, so every word of a question is in thousands of memories.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import click

from amfs_core.catalog.sqlite import fulltext
from benchmarks.search_quality import DATA
from tests.support.recall import UNDER, Conversation, connect, load, plain

BYTES = 500
PER_PATH = 500
LIVE = "memory.deleted = 0"


def values(conversations: list[Conversation], count: int) -> list[str]:
    """Return texts of 0.5 KB, each from somewhere in a conversation."""
    draw = random.Random(1)
    made = []
    for number in range(count):
        turns = conversations[number // PER_PATH % len(conversations)].turns
        at = draw.randrange(len(turns))
        words = ""
        while len(words) < BYTES:
            words += f" {plain(turns[at % len(turns)])}"
            at += 1
        made.append(words[:BYTES])
    return made


def milliseconds(queries: list[str], search: Callable[[str], object]) -> str:
    """Return the median and the 95th percentile of the CPU time, after one round to warm up."""
    for query in queries:
        search(query)
    spent = []
    for query in queries:
        begin = time.process_time()
        search(query)
        spent.append((time.process_time() - begin) * 1000)
    spent.sort()
    return f"p50 {spent[len(spent) // 2]:.1f} ms, p95 {spent[len(spent) * 95 // 100]:.1f} ms"


@click.command()
@click.option("--count", default=100_000, help="Memories.")
@click.option("--data", type=Path, default=DATA, help="Where the conversations are.")
def main(count: int, data: Path) -> None:
    """Print what indexing a memory and a search cost."""
    conversations = load(data)
    texts = values(conversations, count)
    connection = connect("")
    connection.execute("PRAGMA cache_size = -65536")  # as a catalog has it
    connection.execute("PRAGMA journal_mode = MEMORY")
    paths = [f"conversation{number // PER_PATH}" for number in range(count)]
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO memory (id, prefix, entity_path, key, written_at) VALUES (?, ?, ?, ?, ?)",
        (
            (at + 1, f"{path}/{at}/", path, str(at), f"2026-11-21T04:27:20.{at:06}Z")
            for at, path in enumerate(paths)
        ),
    )
    connection.execute("COMMIT")
    begin = time.process_time()
    connection.execute("BEGIN")
    for start in range(0, count, 5000):
        batch = range(start, min(start + 5000, count))
        rows = ((at + 1, paths[at], str(at), (), texts[at]) for at in batch)
        fulltext.add(connection, rows)
    connection.execute("COMMIT")
    spent = time.process_time() - begin
    print(f"index: {spent / count * 1e6:.0f} µs for a memory of {BYTES} bytes")

    draw = random.Random(2)
    questions = [
        question for conversation in conversations for question, _ in conversation.questions
    ]
    questions = draw.sample(questions, 200)
    words = sorted({word for words in texts[:2000] for word in words.split() if word.isalpha()})
    short = [" ".join(draw.sample(words, draw.choice((2, 3)))) for _ in range(200)]

    def everywhere(query: str) -> object:
        return fulltext.search(connection, query, where=LIVE)

    def in_one_path(query: str) -> object:
        path = paths[len(query) * 997 % count]
        parameters = (path, f"{path}/", f"{path}0")
        return fulltext.search(
            connection, query, where=f"{LIVE} AND {UNDER}", parameters=parameters
        )

    print(f"questions of LoCoMo, everywhere: {milliseconds(questions, everywhere)}")
    print(f"two or three words, everywhere: {milliseconds(short, everywhere)}")
    print(f"questions of LoCoMo, in one path: {milliseconds(questions, in_one_path)}")


if __name__ == "__main__":
    main()
