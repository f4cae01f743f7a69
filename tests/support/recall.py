"""How much of the evidence for LoCoMo's questions a search finds, for tests and benchmarks."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amfs_core.catalog.sqlite import fulltext

CATALOG = """
CREATE TABLE memory (
  id INTEGER PRIMARY KEY,
  prefix TEXT NOT NULL UNIQUE,
  entity_path TEXT NOT NULL,
  key TEXT NOT NULL,
  written_at TEXT NOT NULL,
  tags TEXT NOT NULL DEFAULT '[]',
  deleted INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX memory_sequence ON memory(entity_path, written_at, prefix);
"""
"""What a search reads of the catalog's table."""

UNDER = "(memory.entity_path = ? OR memory.entity_path > ? AND memory.entity_path < ?)"

Turn = dict[str, Any]
Representation = Callable[[Turn], Any]


def plain(turn: Turn) -> str:
    """Return the turn as "speaker: text caption"."""
    return f"{turn['speaker']}: {turn['text']} {turn.get('caption', '')}"


def dated(turn: Turn) -> str:
    """Return the turn with its date in front."""
    return f"{turn['date_time']} {plain(turn)}"


def record(turn: Turn) -> dict[str, str]:
    """Return the turn as an object with its date."""
    names = ("speaker", "text", "caption", "date_time")
    return {name: turn[name] for name in names if name in turn}


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns, and questions with the turns that answer them."""

    name: str
    turns: list[Turn]
    questions: list[tuple[str, frozenset[str]]]


@dataclass(slots=True)
class Corpus:
    """Conversations in one catalog, a memory per turn, in the order in which they were spoken."""

    connection: sqlite3.Connection
    turns: dict[int, tuple[str, str]] = field(default_factory=dict)


def connect(path: str = ":memory:") -> sqlite3.Connection:
    """Return an empty catalog with its index, set up as a catalog is."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA secure_delete = ON")
    connection.executescript(CATALOG + fulltext.SCHEMA)
    return connection


def load(directory: Path) -> list[Conversation]:
    """Return the conversations in a directory, without the questions that have no evidence."""
    conversations = []
    for path in sorted(directory.glob("*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        questions = [
            (question["question"], frozenset(question["evidence"]))
            for question in data["questions"]
            if question["evidence"]
        ]
        conversations.append(Conversation(path.stem, data["turns"], questions))
    return conversations


def corpus(
    conversations: Iterable[Conversation],
    value: Representation,
    *,
    sessions: bool = False,
    numbered: bool = False,
) -> Corpus:
    """Return an indexed corpus; `sessions`: each below its conversation, `numbered`: the keys."""
    made = Corpus(connect())
    rows: list[fulltext.Row] = []
    for conversation in conversations:
        for number, turn in enumerate(conversation.turns):
            id = len(rows) + 1
            path = conversation.name + (f"/session_{turn['session']}" if sessions else "")
            key = f"{number:04}" if numbered else turn["id"]
            made.connection.execute(
                "INSERT INTO memory (id, prefix, entity_path, key, written_at) VALUES (?,?,?,?,?)",
                (id, f"{path}/{key}/", path, key, f"2026-11-21T04:27:20.{id:06}Z"),
            )
            made.turns[id] = (conversation.name, turn["id"])
            rows.append((id, path, key, (), value(turn)))
    fulltext.add(made.connection, rows)
    return made


def recall(made: Corpus, conversation: Conversation, *, filtered: bool = True) -> list[float]:
    """Return, per question, the share of its evidence among the first 10."""
    name = conversation.name
    where, parameters = (UNDER, (name, f"{name}/", f"{name}0")) if filtered else ("1", ())
    shares = []
    for question, evidence in conversation.questions:
        hits = fulltext.search(
            made.connection, question, where=where, parameters=parameters, limit=10
        )
        top = {made.turns[id] for id, _ in hits}
        shares.append(len(top & {(name, turn) for turn in evidence}) / len(evidence))
    return shares


def mean(values: Iterable[float]) -> float:
    """Return the arithmetic mean."""
    listed = list(values)
    return sum(listed) / len(listed)
