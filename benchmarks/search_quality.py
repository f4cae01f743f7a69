"""`python -m benchmarks.search_quality`: what each ingredient of the ranking is worth.

Evidence recall at 10 over LoCoMo's questions, each searched within its conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
from rich.console import Console
from rich.table import Table

from amfs_core.catalog import words as word_search
from amfs_core.ranking import bm25, stems, terms
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

Change = tuple[Any, str, Any]
"""A module, the name of something in it, and what to put there."""

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "locomo"

ABLATIONS: dict[str, list[Change]] = {
    "all of it": [],
    "no neighbours": [(bm25, "NEAR", (0.0, 0.0))],
    "only the next neighbours": [(bm25, "NEAR", (0.4, 0.0))],
    "no stems": [(terms, "stem", lambda word: word)],
    "no irregular forms": [(stems, "_IRREGULAR", {})],
    "question words count": [(terms, "_QUESTION_WORDS", frozenset())],
    "lengths do not count (b = 0)": [(bm25, "B", 0.0)],
    "lengths as usual (b = 0.75)": [(bm25, "B", 0.75)],
    "presence only (k1 = 0.01)": [(bm25, "K1", 0.01)],
    "all terms equally rare": [(bm25, "rarity", lambda holders, memories: 1.0)],
}
GRID = {
    "K1": (0.8, 1.2, 1.6),
    "B": (0.3, 0.4, 0.5),
    "NEAR": ((0.3, 0.15), (0.4, 0.2), (0.5, 0.25)),
}


@contextmanager
def changed(changes: Sequence[Change]) -> Iterator[None]:
    """Run the code inside with some names of the modules changed."""
    with ExitStack() as stack:
        for module, name, value in changes:
            stack.enter_context(patch.object(module, name, value))
        _forget_terms()
        yield
    _forget_terms()


def _forget_terms() -> None:
    terms._terms_of_word.cache_clear()
    terms._terms_of_token.cache_clear()


def recalls(
    conversations: list[Conversation], value: Representation, **options: bool
) -> list[list[float]]:
    """Return the recall of every question, a list per conversation."""
    return [
        recall(corpus([conversation], value, **options), conversation)
        for conversation in conversations
    ]


def row(table: Table, name: str, shares: list[list[float]]) -> None:
    each = [mean(conversation_shares) for conversation_shares in shares]
    pooled = mean(share for conversation_shares in shares for share in conversation_shares)
    table.add_row(name, *(f"{value:.3f}" for value in (*each, mean(each), pooled)))


def headed(title: str, first: str, conversations: list[Conversation]) -> Table:
    table = Table(title=title)
    for name in (first, *(conversation.name for conversation in conversations), "mean", "pooled"):
        table.add_column(name, justify="left" if name == first else "right")
    return table


def representations(conversations: list[Conversation]) -> Table:
    """Return the recall of every way to write a turn down."""
    table = headed("ways to write a turn", "value", conversations)
    for value in (dated, record, plain):
        row(table, value.__name__, recalls(conversations, value))
        row(table, f"{value.__name__}, by session", recalls(conversations, value, sessions=True))
        row(table, f"{value.__name__}, numbered", recalls(conversations, value, numbered=True))
        together = corpus(conversations, value)
        for filtered in (True, False):
            name = f"{value.__name__}, all together, {'filtered' if filtered else 'no filter'}"
            row(
                table,
                name,
                [
                    recall(together, conversation, filtered=filtered)
                    for conversation in conversations
                ],
            )
            with patch.object(word_search, "_NARROW", 0):
                row(
                    table,
                    f"{name}, as among many",
                    [
                        recall(together, conversation, filtered=filtered)
                        for conversation in conversations
                    ],
                )
    return table


def ablations(conversations: list[Conversation]) -> Table:
    """Return the recall without each of the ingredients."""
    table = headed("what each ingredient is worth (dated)", "ranking", conversations)
    for name, changes in ABLATIONS.items():
        with changed(changes):
            row(table, name, recalls(conversations, dated))
    return table


def left_out(conversations: list[Conversation], progress: Callable[[str], None]) -> Table:
    """Return what each conversation gets with the constants that are best for the others."""
    corpora = [corpus([conversation], dated) for conversation in conversations]
    tried: dict[tuple[Any, ...], list[float]] = {}
    for values in product(*GRID.values()):
        progress(f"trying {values} …")
        with changed([(bm25, name, value) for name, value in zip(GRID, values, strict=True)]):
            pairs = zip(corpora, conversations, strict=True)
            tried[values] = [mean(recall(made, conversation)) for made, conversation in pairs]
    table = Table(title="constants chosen on the other conversations")
    for name in ("conversation", *GRID, "recall with these", "with ours", "worst in the grid"):
        table.add_column(name)
    ours = tried[bm25.K1, bm25.B, bm25.NEAR]
    for at, conversation in enumerate(conversations):

        def others(values: tuple[Any, ...], at: int = at) -> float:
            return sum(tried[values]) - tried[values][at]

        best = max(tried, key=others)
        figures = (tried[best][at], ours[at], min(each[at] for each in tried.values()))
        table.add_row(conversation.name, *map(str, best), *(f"{figure:.3f}" for figure in figures))
    means = [mean(each) for each in tried.values()]
    table.caption = (
        f"means in the grid: {min(means):.3f} to {max(means):.3f}, ours {mean(ours):.3f}"
    )
    return table


@click.command()
@click.option("--data", type=Path, default=DATA, help="Where the conversations are.")
def main(data: Path) -> None:
    """Print what search finds, and what each part of the ranking is worth."""
    conversations = load(data)
    console = Console()
    if not console.is_terminal:
        console.width = 140
    console.print(representations(conversations))
    console.print(ablations(conversations))
    with console.status("choosing constants …") as status:
        console.print(left_out(conversations, status.update))


if __name__ == "__main__":
    main()
