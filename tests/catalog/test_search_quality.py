"""Search finds the evidence for real questions, however the memories are written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from amfs_core.catalog import words as word_search
from tests.support.recall import (
    Conversation,
    Representation,
    corpus,
    dated,
    load,
    mean,
    plain,
    recall,
    record,
)


@pytest.fixture(scope="module")
def conversations(locomo: Path) -> list[Conversation]:
    return load(locomo)


class Together:
    """All conversations in one corpus, and what is found there, worked out once."""

    def __init__(self, conversations: list[Conversation]) -> None:
        self.conversations = conversations
        self.corpus = corpus(conversations, dated)
        self._shares: dict[bool, list[list[float]]] = {}

    def shares(self, *, filtered: bool) -> list[list[float]]:
        """The recall of each question, by conversation."""
        if filtered not in self._shares:
            self._shares[filtered] = self.recalled(filtered=filtered)
        return self._shares[filtered]

    def recalled(self, *, filtered: bool) -> list[list[float]]:
        return [
            recall(self.corpus, conversation, filtered=filtered)
            for conversation in self.conversations
        ]


@pytest.fixture(scope="module")
def together(conversations: list[Conversation]) -> Together:
    return Together(conversations)


@pytest.mark.parametrize(
    ("value", "sessions", "numbered"),
    [
        (dated, False, False),
        (dated, True, True),
        (record, False, True),
        (record, True, False),
        (plain, False, False),
        (plain, True, True),
    ],
)
def test_evidence_is_found_in_each_conversation_however_it_is_written(
    conversations: list[Conversation], value: Representation, sessions: bool, numbered: bool
) -> None:
    shares = [
        recall(corpus([conversation], value, sessions=sessions, numbered=numbered), conversation)
        for conversation in conversations
    ]
    assert mean(map(mean, shares)) >= 0.77
    assert mean(share for each in shares for share in each) >= 0.76
    assert min(map(mean, shares)) >= 0.70


def test_evidence_is_found_among_all_conversations_without_a_filter(together: Together) -> None:
    assert mean(map(mean, together.shares(filtered=False))) >= 0.77


def test_a_filter_to_one_conversation_ranks_as_if_there_were_no_other(together: Together) -> None:
    alone = [recall(corpus([each], dated), each) for each in together.conversations]
    assert together.shares(filtered=True) == alone


@pytest.mark.parametrize("filtered", [False, True])
def test_looking_at_the_best_alone_loses_nothing(
    together: Together, filtered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_scored = together.shares(filtered=filtered)
    monkeypatch.setattr(word_search, "_NARROW", 0)
    best_scored = together.recalled(filtered=filtered)
    assert mean(map(mean, best_scored)) >= mean(map(mean, all_scored)) - 0.005
