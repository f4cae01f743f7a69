"""`Chains`: all chains in a memory, by agent."""

from __future__ import annotations

import uuid

from amfs_agents.chains.chain import Chain
from amfs_agents.chains.records import About
from amfs_agents.names import segment
from amfs_core.memory import AgentMemory, AsyncAgentMemory


class Chains:
    """The reasoning chains in a memory, which stays open.

        chains = Chains(AgentMemory("planner"))
        chain = chains.open("planner", "task-17")
        chain.append("thought", "The parcel may be in Lisbon.")

    They are under the entity path `path`: a step is the memory
    `<path>/steps/<agent>/<chain>/<number>`, so a search finds it.
    """

    def __init__(self, memory: AgentMemory | AsyncAgentMemory, *, path: str = "chains") -> None:
        self._memory = memory.memory if isinstance(memory, AsyncAgentMemory) else memory
        self._path = path

    def open(self, agent: str, chain_id: str | None = None) -> Chain:
        """Return a chain, which need not exist yet; without `chain_id` a new one, with a UUID.

        No request. Both names are any text.
        """
        name = str(uuid.uuid4()) if chain_id is None else chain_id
        return Chain(self._memory, self._path, agent, name)

    def list(self, *, agent: str | None = None) -> list[About]:
        """Return what is known about the chains of an agent, or of all agents, the newest first.

        1 request per 1,000 versions of what is known about them, and 1 for each chain that has
        changed since this process looked; no step is read.
        """
        under = f"{self._path}/about"
        if agent is not None:
            under = f"{under}/{segment(agent, 'agent')}"
        known = [About.of(entry) for entry in self._memory.list(under)]
        return sorted(known, key=lambda about: about.created_at, reverse=True)
