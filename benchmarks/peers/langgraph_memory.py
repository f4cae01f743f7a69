"""LangGraph's InMemoryStore: what its tutorials begin with."""

from __future__ import annotations

from langgraph.store.memory import InMemoryStore
from langgraph_sqlite import Graph


class Peer(Graph):
    """The store in the memory of one process."""

    package = "langgraph"
    lasting = False
    durability = "nothing is kept"

    def __init__(self, place: dict[str, str]) -> None:
        self.store = InMemoryStore()
