"""What each of several processes does to one thread and one store of LangGraph.

In a module of its own, as each process imports it: the tests import much more.
"""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import uuid6

from amfs import AgentMemory
from amfs_agents.langgraph import AMFSSaver, AMFSStore

STEPS = 6
FIRST = "00000000-0000"
"""The id of a checkpoint that all processes write to."""


def place(thread: Any, ns: str = "", id_: str | None = None) -> Any:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ns, "checkpoint_id": id_}}


def put(
    saver: Any,
    thread: Any = "t",
    parent: Any = None,
    values: dict[str, Any] | None = None,
    new: dict[str, Any] | None = None,
    ns: str = "",
    id_: str | None = None,
    **metadata: Any,
) -> Any:
    """Put a checkpoint with values, of which `new` came with it at these versions."""
    versions = {}
    if parent is not None:
        parent_tuple = saver.get_tuple(parent)
        versions = {} if parent_tuple is None else dict(parent_tuple.checkpoint["channel_versions"])
    versions.update(new or {})
    checkpoint = {
        **empty_checkpoint(),
        "id": id_ or str(uuid6(clock_seq=-1)),
        "channel_values": values or {},
        "channel_versions": versions,
    }
    config = place(thread, ns, parent and parent["configurable"]["checkpoint_id"])
    return saver.put(config, checkpoint, {"source": "loop", **metadata}, new or {})


def run(memory: AgentMemory, number: int) -> list[str]:
    """Put checkpoints, writes and items; the ids of the checkpoints."""
    saver, store = AMFSSaver(memory), AMFSStore(memory)
    parent, ids = None, []
    for step in range(STEPS):
        values = {"who": number, "step": step}
        new = {"step": f"{number}.{step}"} | ({} if step else {"who": str(number)})
        parent = put(saver, parent=parent, values=values, new=new)
        saver.put_writes(parent, [("step", step)], f"task-{number}")
        saver.put_writes(place("t", "", FIRST), [("p", number)], "one task of all")
        store.put(("shared",), f"{number}.{step}", {"step": step})
        store.put(("shared",), "one item of all", {"who": number, "step": step})
        ids.append(parent["configurable"]["checkpoint_id"])
    return ids
