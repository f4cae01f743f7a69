"""The records of a thread, and their form as values of memories.

A checkpoint is one memory. It has the values of the channels that changed with it, and for every
other channel it names the checkpoint whose memory has the value, so each value is stored once. The
writes of a task to a checkpoint are another memory.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from langgraph.checkpoint.base import WRITES_IDX_MAP, writes_sort_key

from amfs_core.errors import InvalidValueError
from amfs_core.format import MemoryEntry

ChannelVersion = str | int | float | None


class Packed(NamedTuple):
    """A serialized value: the name of the form, and bytes."""

    kind: str
    data: bytes

    def json(self) -> dict[str, str]:
        """Return it as JSON."""
        return {"type": self.kind, "base64": base64.b64encode(self.data).decode()}

    @classmethod
    def of(cls, value: dict[str, str]) -> Packed:
        """Return what was JSON."""
        return cls(value["type"], base64.b64decode(value["base64"]))


class Blob(NamedTuple):
    """The value of a channel at a version; None: before channels had versions."""

    channel: str
    version: ChannelVersion
    packed: Packed

    def json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"channel": self.channel, "version": self.version, **self.packed.json()}

    @classmethod
    def of(cls, value: dict[str, Any]) -> Blob:
        """Return what was JSON."""
        return cls(value["channel"], value["version"], Packed.of(value))


class Home(NamedTuple):
    """The home of a channel's value: the checkpoint whose memory has it, and its version."""

    version: ChannelVersion
    checkpoint_id: str


@dataclass(frozen=True, slots=True)
class SavedCheckpoint:
    """A checkpoint as it is stored.

    `checkpoint` is without `channel_values`: `blobs` are the values that came with it, and `homes`
    says where the values of the other channels are. `carried` are values that only other
    checkpoints refer to.
    """

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str
    parent_id: str | None
    metadata: Packed
    checkpoint: Packed
    blobs: tuple[Blob, ...] = ()
    homes: dict[str, Home] = field(default_factory=dict)
    carried: tuple[Blob, ...] = ()

    def json(self) -> dict[str, Any]:
        """Return it as the value of a memory."""
        return {
            "thread_id": self.thread_id,
            "checkpoint_ns": self.checkpoint_ns,
            "checkpoint_id": self.checkpoint_id,
            "parent_id": self.parent_id,
            "metadata": self.metadata.json(),
            "checkpoint": self.checkpoint.json(),
            "blobs": [blob.json() for blob in self.blobs],
            "homes": {channel: home._asdict() for channel, home in self.homes.items()},
            "carried": [blob.json() for blob in self.carried],
        }

    @classmethod
    def of(cls, entry: MemoryEntry) -> SavedCheckpoint:
        """Return the checkpoint that a memory holds."""
        value = entry.value
        try:
            return cls(
                value["thread_id"],
                value["checkpoint_ns"],
                value["checkpoint_id"],
                value["parent_id"],
                Packed.of(value["metadata"]),
                Packed.of(value["checkpoint"]),
                tuple(map(Blob.of, value["blobs"])),
                {channel: Home(**home) for channel, home in value["homes"].items()},
                tuple(map(Blob.of, value["carried"])),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise _foreign(entry, "checkpoint") from error

    def blob(self, channel: str, version: ChannelVersion) -> Blob | None:
        """Return the value of a channel at a version if it is stored here."""
        for blob in (*self.blobs, *self.carried):
            if (blob.channel, blob.version) == (channel, version):
                return blob
        return None

    def all_homes(self) -> dict[str, Home]:
        """Return the home of each channel that has a value."""
        own = {blob.channel: Home(blob.version, self.checkpoint_id) for blob in self.blobs}
        return {**self.homes, **own}

    def carrying(self, earlier: SavedCheckpoint) -> SavedCheckpoint:
        """Return it with the values that were stored under its name before."""
        more = [
            blob
            for blob in (*earlier.blobs, *earlier.carried)
            if self.blob(blob.channel, blob.version) is None
        ]
        return replace(self, carried=(*self.carried, *more))


class SavedWrite(NamedTuple):
    """A write of a task to a channel. `number` counts the writes of a task from 0; special ones,
    such as an error, have the negative numbers that LangGraph gives them."""

    number: int
    channel: str
    task_path: str
    packed: Packed


@dataclass(frozen=True, slots=True)
class TaskWrites:
    """All writes of a task to a checkpoint."""

    task_id: str
    writes: tuple[SavedWrite, ...]

    def json(self) -> dict[str, Any]:
        """Return it as the value of a memory."""
        return {
            "task_id": self.task_id,
            "writes": [
                {
                    "number": write.number,
                    "channel": write.channel,
                    "task_path": write.task_path,
                    **write.packed.json(),
                }
                for write in self.writes
            ],
        }

    @classmethod
    def of(cls, entry: MemoryEntry) -> TaskWrites:
        """Return the writes that a memory holds."""
        value = entry.value
        try:
            return cls(
                value["task_id"],
                tuple(
                    SavedWrite(
                        write["number"], write["channel"], write["task_path"], Packed.of(write)
                    )
                    for write in value["writes"]
                ),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _foreign(entry, "task's writes") from error

    def onto(self, earlier: TaskWrites) -> TaskWrites:
        """Return these writes merged with earlier ones of the task: of two with the same number the
        first stays, but a special one is replaced."""
        writes = {write.number: write for write in earlier.writes}
        for write in self.writes:
            if write.number < 0 or write.number not in writes:
                writes[write.number] = write
        return TaskWrites(self.task_id, tuple(writes.values()))


def task_writes(task_id: str, task_path: str, writes: Sequence[tuple[str, Packed]]) -> TaskWrites:
    """Return the writes of one call, with the numbers that LangGraph gives them."""
    indexed = {}
    for index, (channel, packed) in enumerate(writes):
        number = WRITES_IDX_MAP.get(channel, index)
        indexed[number] = SavedWrite(number, channel, task_path, packed)
    return TaskWrites(task_id, tuple(indexed.values()))


def in_order(tasks: Sequence[TaskWrites]) -> list[tuple[str, SavedWrite]]:
    """Return task ids and writes in the order in which a run applies them."""
    pairs = [(task.task_id, write) for task in tasks for write in task.writes]
    return sorted(
        pairs, key=lambda pair: writes_sort_key(pair[1].task_path, pair[0], pair[1].number)
    )


def _foreign(entry: MemoryEntry, what: str) -> InvalidValueError:
    return InvalidValueError(
        f"{entry.entity_path}/{entry.key} is not a {what} of LangGraph",
        hint="delete it, or give the saver another path",
        entity_path=entry.entity_path,
        key=entry.key,
    )
