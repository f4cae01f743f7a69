"""`AMFSSaver`: checkpoints of LangGraph, shared by every process on the same memory."""

from __future__ import annotations

import builtins
import contextlib
import random
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    PendingWrite,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from amfs_agents.langgraph.awaitable import AwaitableSaver
from amfs_agents.langgraph.records import (
    Blob,
    Home,
    Packed,
    SavedCheckpoint,
    TaskWrites,
    in_order,
    task_writes,
)
from amfs_agents.langgraph.threads import Threads, View
from amfs_core.errors import CorruptEntryError, InvalidValueError
from amfs_core.memory import AgentMemory, AsyncAgentMemory

_WINDOW = 32
_MOST_KNOWN = 4096
_LOOKS = 3

T = TypeVar("T")

Key = tuple[str, str, str]
"""Thread, checkpoint namespace and id."""


class AMFSSaver(AwaitableSaver):
    """A checkpointer whose checkpoints are in AMFS, for graphs that run in any number of processes.

        saver = AMFSSaver(AgentMemory("host"))
        graph = builder.compile(checkpointer=saver)

    Thread ids and all other names are any text. Checkpoints are under the entity path `path`, as
    `serde` writes them (default: LangGraph's own serializer). Searches do not find them. The memory
    stays open. Safe to share between threads and event loops, and usable after a fork. The methods
    that begin with `a` run the others in a thread. When one that changes something is cancelled, it
    raises `CancelledError` once the outcome of the change is known.
    """

    def __init__(
        self,
        memory: AgentMemory | AsyncAgentMemory,
        *,
        path: str = "threads",
        serde: SerializerProtocol | None = None,
    ) -> None:
        super().__init__(serde=serde)
        memory = memory.memory if isinstance(memory, AsyncAgentMemory) else memory
        self._threads = Threads(memory, path)
        self._homes: OrderedDict[Key, dict[str, Home]] = OrderedDict()

    # -- reading -----------------------------------------------------------------------------

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return a checkpoint, or the newest of the thread and namespace; None when there is none.

        1 request per 1,000 objects of the namespace, and 1 for each of these that this process does
        not know: the checkpoint, each checkpoint that has one of its values, each task that wrote.
        Raises `CorruptEntryError` when a value is gone, as the hint explains.
        """

        def look() -> CheckpointTuple | None:
            view, saved = self._found(config)
            return None if saved is None else self._tuples([(view, saved)])[0]

        return _looked(look)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Yield the checkpoints of a thread, or of all threads for None, the newest id first.

        A namespace or an id in `config` restricts them too. `filter` has members of the metadata
        that must be equal, `before` is a config with an id that is greater than all that are
        yielded, and `limit` is the most to yield.

        1 request per 1,000 objects under the thread (or all threads), the other costs of
        `get_tuple` for each one yielded, and 1 for each one that the filter leaves out.
        """
        wanted = None if config is None else get_checkpoint_id(config)
        end = None if before is None else get_checkpoint_id(before)
        candidates = sorted(
            (
                (id_, number, view)
                for number, view in enumerate(self._views(config))
                for id_ in view.ids()
                if (not wanted or id_ == wanted) and (not end or id_ < end)
            ),
            reverse=True,
            key=lambda candidate: candidate[:2],
        )
        left = len(candidates) if limit is None else limit
        while candidates and left > 0:
            size = _WINDOW if filter else min(left, _WINDOW)
            window, candidates = candidates[:size], candidates[size:]
            entries = window[0][2].entries
            entries.load(ref for id_, _, view in window for ref in view.refs([id_]))
            pairs = [
                (view, saved)
                for id_, _, view in window
                if (saved := view.get(id_)) is not None and self._passes(saved, filter)
            ][:left]
            try:
                checkpoints = self._tuples(pairs)
            except _GoneError:  # erased since the listing, or not listed because of that
                each = (self.get_tuple(_config(saved)) for _, saved in pairs)
                checkpoints = [checkpoint for checkpoint in each if checkpoint is not None]
            yield from checkpoints
            left -= len(checkpoints)
            entries.forget()

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return for each channel the value at the nearest ancestor that has one, and the later
        writes to it, from which LangGraph rebuilds a `DeltaChannel`.

        1 request per 1,000 objects of the namespace, and 1 for each ancestor on the way, each value
        and each task that this process does not know.
        """
        return _looked(lambda: self._history(config, channels)) if channels else {}

    # -- writing -----------------------------------------------------------------------------

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint, and once it is durable return the config that names it.

        Only the values of the channels in `new_versions`, and values that the parent does not have,
        are written. 1 request, and a `get_tuple` of the parent when this saver neither put nor got
        it.
        Raises `InvalidValueError`, and writes nothing, when it takes more than `max_value_bytes`.
        """
        thread_id, checkpoint_ns, parent_id = _place(config)
        versions, values = checkpoint["channel_versions"], checkpoint["channel_values"]
        kept = self._homes_of((thread_id, checkpoint_ns, parent_id)) if parent_id else {}
        homes = {
            channel: kept[channel]
            for channel, version in versions.items()
            if channel not in new_versions and channel in kept and kept[channel].version == version
        }
        blobs = tuple(
            Blob(channel, versions.get(channel), self._packed(value))
            for channel, value in values.items()
            if channel not in homes
        )
        saved = SavedCheckpoint(
            thread_id,
            checkpoint_ns,
            checkpoint["id"],
            parent_id,
            self._packed(get_checkpoint_metadata(config, metadata)),
            self._packed({**checkpoint, "channel_values": {}}),
            blobs,
            homes,
        )
        self._threads.put(saved)
        self._know(saved)
        return _config(saved)

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store the writes of a task to a checkpoint, each exactly once.

        1 request for a task that has written nothing to this checkpoint before, or that this
        process knows; about 6 more for another one.
        """
        thread_id, checkpoint_ns, checkpoint_id = _place(config)
        if checkpoint_id is None:
            raise InvalidValueError("put_writes needs a config with a checkpoint_id")
        if writes:
            packed = [(channel, self._packed(value)) for channel, value in writes]
            together = task_writes(task_id, task_path, packed)
            self._threads.put_writes(thread_id, checkpoint_ns, checkpoint_id, together)

    # -- copying and erasing -----------------------------------------------------------------

    def delete_thread(self, thread_id: str) -> None:
        """Erase the contents of all checkpoints and writes of a thread, in all namespaces.

        Names and stubs stay (docs/langgraph.md). After a crash, call it again: it goes on. A run
        that is under way may leave something: end it first, or call this again.

        2 requests per 1,000 objects, and about 7 for each checkpoint and each task that wrote.
        """
        self._threads.erase_thread(str(thread_id))
        self._forget(str(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Erase permanently the contents of the checkpoints with these run ids in their metadata,
        and of the writes to them. Values that later checkpoints need stay with those.

        Raises `InvalidValueError`, before anything is erased, when a remaining checkpoint has a
        `DeltaChannel` that is rebuilt from an erased one.

        1 request per 1,000 objects of all threads, 1 for each checkpoint that this process does not
        know, 2 for each one erased before, and about 7 for each one erased now, each task that
        wrote to it, and 1 for each that has to keep a value of it. After a crash, call it again.
        """
        runs = set(run_ids)
        if not runs:
            return
        doomed: builtins.list[tuple[View, set[str]]] = []
        for view in self._threads.views(None):
            saved = builtins.list(view.newest_first())
            self._threads.finish(view)
            ids = {
                checkpoint.checkpoint_id
                for checkpoint in saved
                if self._metadata(checkpoint).get("run_id") in runs
            }
            if ids:
                self._check_stays(
                    view,
                    [checkpoint for checkpoint in saved if checkpoint.checkpoint_id not in ids],
                    ids,
                )
                doomed.append((view, ids))
        for view, ids in doomed:
            self._erase(view, ids)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all checkpoints and writes of a thread, in all namespaces, to another thread.

        1 request per 1,000 objects, 1 for each checkpoint and each task that this process does not
        know, and 1 for each copy. After a crash, call it again: it goes on.
        """
        if str(source_thread_id) == str(target_thread_id):
            return
        for view in self._threads.views(str(source_thread_id)):
            self._threads.copy(view, str(target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Erase permanently the contents of all checkpoints of threads except the newest of each
        namespace, or of all with the strategy "delete".

        For a graph with a `DeltaChannel`, the checkpoints from which the newest one is rebuilt stay
        too. The cost of reading all of them, 2 requests for each one erased before, and about 7 for
        each one erased now and each task that wrote to
        it. After a crash, call it again: it goes on.
        """
        if strategy not in ("keep_latest", "delete"):
            raise InvalidValueError(
                f"there is no strategy {strategy!r:.80}", hint="give 'keep_latest' or 'delete'"
            )
        for thread_id in map(str, thread_ids):
            if strategy == "delete":
                self.delete_thread(thread_id)
                continue
            for view in self._threads.views(thread_id):
                saved = builtins.list(view.newest_first())
                self._threads.finish(view)
                if saved:
                    stays = {saved[0].checkpoint_id} | self._rebuilt_from(view, saved[0])
                    self._erase(view, {checkpoint.checkpoint_id for checkpoint in saved} - stays)

    def get_next_version(self, current: str | None, channel: None) -> str:
        """Return a version after `current`: the next number, and a random one, so that two branches
        of a thread never give two values the same version."""
        number = 0 if current is None else int(str(current).partition(".")[0])
        return f"{number + 1:032}.{random.getrandbits(64):020}"

    # -- steps -------------------------------------------------------------------------------

    def _found(self, config: RunnableConfig) -> tuple[View, SavedCheckpoint | None]:
        """Look for a checkpoint, or the newest one."""
        thread_id, checkpoint_ns, checkpoint_id = _place(config)
        view = self._threads.view(thread_id, checkpoint_ns)
        return view, view.get(checkpoint_id) if checkpoint_id else view.newest()

    def _history(
        self, config: RunnableConfig, channels: Sequence[str]
    ) -> dict[str, DeltaChannelHistory]:
        written: dict[str, builtins.list[PendingWrite]] = {channel: [] for channel in channels}
        seeds: dict[str, Any] = {}
        view, target = self._found(config)
        for saved in _ancestors(view, target):
            missing = written.keys() - seeds.keys()
            if not missing:
                break
            for write in reversed(self._pending(view.writes(saved.checkpoint_id))):
                if write[1] in missing:
                    written[write[1]].append(write)
            seeds.update(self._values(view, saved, missing))
        history: dict[str, DeltaChannelHistory] = {}
        for channel, writes in written.items():
            history[channel] = {"writes": writes[::-1]}
            if channel in seeds:
                history[channel]["seed"] = seeds[channel]
        return history

    def _packed(self, value: Any) -> Packed:
        return Packed(*self.serde.dumps_typed(value))

    def _metadata(self, saved: SavedCheckpoint) -> CheckpointMetadata:
        metadata: CheckpointMetadata = self.serde.loads_typed(saved.metadata)
        return metadata

    def _passes(self, saved: SavedCheckpoint, filter: dict[str, Any] | None) -> bool:
        if not filter:
            return True
        metadata = self._metadata(saved)
        return all(metadata.get(name) == value for name, value in filter.items())

    def _views(self, config: RunnableConfig | None) -> builtins.list[View]:
        if config is None:
            return self._threads.views(None)
        place = config["configurable"]
        return self._threads.views(str(place["thread_id"]), place.get("checkpoint_ns"))

    def _tuples(
        self, pairs: builtins.list[tuple[View, SavedCheckpoint]]
    ) -> builtins.list[CheckpointTuple]:
        """Return checkpoints as LangGraph's tuples. Everything that they need is read together."""
        if pairs:
            pairs[0][0].entries.load(
                ref
                for view, saved in pairs
                for ref in (
                    *view.refs({home.checkpoint_id for home in saved.homes.values()}),
                    *view.task_refs([saved.checkpoint_id]),
                )
            )
        return [self._tuple(view, saved) for view, saved in pairs]

    def _tuple(self, view: View, saved: SavedCheckpoint) -> CheckpointTuple:
        self._know(saved)
        checkpoint: Checkpoint = self.serde.loads_typed(saved.checkpoint)
        checkpoint["channel_values"] = self._values(view, saved)
        return CheckpointTuple(
            _config(saved),
            checkpoint,
            self._metadata(saved),
            _config(saved, saved.parent_id) if saved.parent_id else None,
            self._pending(view.writes(saved.checkpoint_id)),
        )

    def _values(
        self, view: View, saved: SavedCheckpoint, channels: Iterable[str] | None = None
    ) -> dict[str, Any]:
        """Return the values of all channels that have one, or of some."""
        blobs = {blob.channel: blob for blob in saved.blobs}
        for channel, home in saved.homes.items():
            if channels is None or channel in channels:
                source = view.find(channel, home)
                if source is None:
                    raise _GoneError(saved, channel)
                blobs[channel] = source.blob
        return {
            channel: self.serde.loads_typed(blob.packed)
            for channel, blob in blobs.items()
            if channels is None or channel in channels
        }

    def _pending(self, tasks: builtins.list[TaskWrites]) -> builtins.list[PendingWrite]:
        return [
            (task_id, write.channel, self.serde.loads_typed(write.packed))
            for task_id, write in in_order(tasks)
        ]

    def _homes_of(self, key: Key) -> dict[str, Home]:
        """Return where the values of a checkpoint are; nothing for one that is not there."""
        homes = self._homes.get(key)
        if homes is None:
            saved = self._threads.view(*key[:2]).get(key[2])
            if saved is None:
                return {}
            homes = self._know(saved)
        return homes

    def _know(self, saved: SavedCheckpoint) -> dict[str, Home]:
        key = (saved.thread_id, saved.checkpoint_ns, saved.checkpoint_id)
        homes = self._homes[key] = saved.all_homes()
        if len(self._homes) > _MOST_KNOWN:
            self._homes.popitem(last=False)
        return homes

    def _forget(self, thread_id: str) -> None:
        for key in [*self._homes]:
            if key[0] == thread_id:
                self._homes.pop(key, None)

    def _erase(self, view: View, ids: set[str]) -> None:
        if ids:
            self._threads.erase(view, ids)
            self._homes.clear()

    def _rebuilt_from(self, view: View, saved: SavedCheckpoint) -> set[str]:
        """Return the ids of the ancestors from which the delta channels without a value in a
        checkpoint are rebuilt."""
        counters = self._metadata(saved).get("counters_since_delta_snapshot") or {}
        missing = set(counters) - saved.all_homes().keys()
        needed = set()
        for ancestor in _ancestors(view, saved):
            if not missing:
                break
            needed.add(ancestor.checkpoint_id)
            missing -= ancestor.all_homes().keys()
        return needed

    def _check_stays(
        self, view: View, staying: builtins.list[SavedCheckpoint], ids: set[str]
    ) -> None:
        for saved in staying:
            if needed := self._rebuilt_from(view, saved) & ids:
                raise InvalidValueError(
                    f"checkpoint {saved.checkpoint_id} of thread {saved.thread_id} has a "
                    f"DeltaChannel that is rebuilt from checkpoint {min(needed)} of a run to be "
                    "deleted",
                    hint="delete the thread, or the later runs too",
                    says_written=True,
                )


def _place(config: RunnableConfig) -> tuple[str, str, str | None]:
    """Return the thread, the checkpoint namespace, and the id if there is one."""
    place = config["configurable"]
    namespace = place.get("checkpoint_ns") or ""
    return str(place["thread_id"]), namespace, get_checkpoint_id(config)


def _config(saved: SavedCheckpoint, checkpoint_id: str | None = None) -> RunnableConfig:
    return {
        "configurable": {
            "thread_id": saved.thread_id,
            "checkpoint_ns": saved.checkpoint_ns,
            "checkpoint_id": checkpoint_id or saved.checkpoint_id,
        }
    }


def _ancestors(view: View, saved: SavedCheckpoint | None) -> Iterator[SavedCheckpoint]:
    """Yield the parent of a checkpoint, that one's parent, and so on; each once, as a checkpoint
    that was put again may be its own ancestor."""
    seen = set() if saved is None else {saved.checkpoint_id}
    ids: list[str] | None = None
    while saved is not None and saved.parent_id and saved.parent_id not in seen:
        seen.add(saved.parent_id)
        # Nearly always the checkpoints before it come next, so they are read together.
        ids = view.ids() if ids is None else ids
        if saved.parent_id in ids:
            at = ids.index(saved.parent_id)
            view.entries.load(view.refs(ids[at : at + _WINDOW]))
        saved = view.get(saved.parent_id)
        if saved is not None:
            yield saved


class _GoneError(Exception):
    """No listed checkpoint has a value; never leaves the saver."""

    def __init__(self, saved: SavedCheckpoint, channel: str) -> None:
        self.saved = saved
        self.channel = channel


def _looked(look: Callable[[], T]) -> T:
    """Return `look()`, which lists a namespace and reads some of it.

    While another process prunes it, or puts so many checkpoints that the listing takes several
    pages, `look` may miss the place of a value. It is then called again before the value counts as
    gone.
    """
    for _ in range(_LOOKS - 1):
        with contextlib.suppress(_GoneError):
            return look()
    try:
        return look()
    except _GoneError as gone:
        raise CorruptEntryError(
            f"the value of channel {gone.channel!r:.80} in checkpoint {gone.saved.checkpoint_id} "
            f"of thread {gone.saved.thread_id} was erased while the checkpoint was put",
            hint="delete the thread, or go on from an earlier checkpoint",
        ) from None
