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


def test_evidence_is_found_among_all_conversations_without_a_filter(
    conversations: list[Conversation],
) -> None:
    together = corpus(conversations, dated)
    assert (
        mean(mean(recall(together, conversation, filtered=False)) for conversation in conversations)
        >= 0.77
    )


def test_a_filter_to_one_conversation_ranks_as_if_there_were_no_other(
    conversations: list[Conversation],
) -> None:
    together = corpus(conversations, dated)
    for conversation in conversations:
        assert recall(together, conversation) == recall(corpus([conversation], dated), conversation)


@pytest.mark.parametrize("filtered", [False, True])
def test_looking_at_the_best_alone_loses_nothing(
    conversations: list[Conversation], filtered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = corpus(conversations, dated)
    all_scored = [
        recall(together, conversation, filtered=filtered) for conversation in conversations
    ]
    monkeypatch.setattr(word_search, "_NARROW", 0)
    best_scored = [
        recall(together, conversation, filtered=filtered) for conversation in conversations
    ]
    assert mean(map(mean, best_scored)) >= mean(map(mean, all_scored)) - 0.005
