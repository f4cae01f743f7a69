"""What is written and searched for: pieces of real text, the topics of Python's own help."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

from thin import Item

PATHS = 100
_TEXT = " ".join(" ".join(topics.values()).split())
_WORDS = sorted({word for word in _TEXT.split() if word.isalpha() and len(word) > 4})
_LENGTH = 300  # characters; with the fields around them about 0.5 KB


def text(number: int, length: int = _LENGTH) -> str:
    """Return a piece of text, always the same for a number."""
    start = number * 7919 % (len(_TEXT) - length)  # a prime, so that pieces repeat late
    return _TEXT[start : start + length]


def place_of(keys: str, number: int) -> tuple[str, str]:
    """Return the entity path and the key of the memory with this number."""
    return f"project-{number % PATHS}", f"{keys}-{number}"


def notes(count: int, keys: str = "note", begin: int = 0) -> Iterator[Item]:
    """Yield memories of one text each, under 100 paths."""
    for number in range(begin, count):
        yield Item(*place_of(keys, number), {"text": text(number), "number": number})


def conversations(count: int, turns: int = 50) -> Iterator[Item]:
    """Yield the turns of conversations, one after the other."""
    for number in range(count):
        for turn in range(turns):
            said = {"speaker": "ab"[turn % 2], "text": text(number * turns + turn, 120)}
            yield Item(f"conversation-{number}", f"turn-{turn:03}", said)


def locomo(directory: str) -> Iterator[Item]:
    """Yield the turns of the LoCoMo conversations in a directory."""
    for path in sorted(Path(directory).glob("*.json")):
        for turn in json.loads(path.read_text(encoding="utf-8"))["turns"]:
            said = {name: turn[name] for name in ("speaker", "text", "date_time")}
            yield Item(f"locomo-{path.stem}", turn["id"].replace(":", "-"), said)


def queries(count: int) -> list[str]:
    """Return queries of two or three words, always the same."""
    dice = random.Random(2)
    return [" ".join(dice.choices(_WORDS, k=dice.choice([2, 3]))) for _ in range(count)]
