"""`AMFSStore`: the long-term memory of LangGraph, shared by every process on the same memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from langgraph.store.base import (
    BaseStore,
    GetOp,
    IndexConfig,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
)

from amfs_agents.appending import append
from amfs_agents.cancellation import to_its_end
from amfs_agents.erasure import finish_purges
from amfs_agents.langgraph.filters import is_in, passes
from amfs_agents.langgraph.items import Namespace, Places, StoredItem, is_due
from amfs_agents.langgraph.meaning import Meaning, Vector, scores
from amfs_agents.langgraph.sweeper import Sweeper
from amfs_agents.listing import newest_versions
from amfs_core import arguments
from amfs_core.errors import InvalidValueError, VersionConflictError
from amfs_core.format import MemoryEntry, Visibility, values
from amfs_core.memory import AgentMemory, AsyncAgentMemory
from amfs_core.parallel import mapped

_THREADS = 32
_SWEEP_MINUTES = 5.0
_JUST_NOW = 3600.0
"""The age, in seconds, of the listing that a search by words may use, because one was made just
before it."""

Pair = tuple[StoredItem, MemoryEntry]


class AMFSStore(BaseStore):
    """A store whose items are memories of AMFS, which any number of processes may share.

        store = AMFSStore(AgentMemory("host"))
        graph = builder.compile(store=store)

    The labels of namespaces, and keys, are any text; values are JSON objects. Items are
    under the entity path `path`. With `index`, LangGraph's configuration of an embedder, a search
    with a query is by meaning, otherwise by words. `ttl` has LangGraph's defaults of times to live.
    A deleted item is erased, with its history; with `keep_deleted` its history stays. The memory
    stays open. Safe to share between threads and event loops, and usable after a fork.
    """

    supports_ttl = True

    def __init__(
        self,
        memory: AgentMemory | AsyncAgentMemory,
        *,
        path: str = "store",
        index: IndexConfig | None = None,
        ttl: TTLConfig | None = None,
        keep_deleted: bool = False,
    ) -> None:
        super().__init__()
        self._memory = memory.memory if isinstance(memory, AsyncAgentMemory) else memory
        self._path = path
        self._places = Places(self._memory.engine.layout, path)
        self._meaning = None if index is None else Meaning(index)
        self._keep_deleted = arguments.flag(keep_deleted, "keep_deleted")
        self.ttl_config = ttl
        self._sweeper = Sweeper(self.sweep_ttl)

    def address(self, namespace: Namespace, key: str) -> tuple[str, str]:
        """Return the entity path and the key of an item's memory: for `AgentMemory.history`, `read`
        as of a time, and `commit_outcome`. No request."""
        return self._places.entity_path(namespace), self._places.key(key)

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Do several operations: first all reads, then all writes, of which the last one for an
        item counts. The methods of `BaseStore` are batches of one operation.

        A get costs what `AgentMemory.read` does, and counts as a use of the memory (see
        `AgentMemory.commit_outcome`). A search, or a list of namespaces: 1 request per 1,000
        objects under the prefix, and 1 for each item that this process does not know. A put: 1,
        for an item that exists and that this process does not know about 6 more. A delete: about
        4, and 2 for each version; 2 when deleted items are kept. Each item whose time to live
        begins again: 1.

        Raises `InvalidValueError` for what JSON cannot carry exactly, before anything is written.
        """
        work = _Work.of(ops)
        if self._meaning is None:
            return self._done(work, {}, {})
        embeddings, texts, queries = self._meaning.embeddings, self._texts(work), work.queries()
        vectors = embeddings.embed_documents(texts) if texts else []
        asked = {query: embeddings.embed_query(query) for query in queries}
        return self._done(work, self._meaning.by_text(texts, vectors), asked)

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Do the same as `batch`: embed on the event loop, and everything else in a thread.

        When cancelled, it raises `CancelledError` once the outcome of the puts is known.
        """
        work = _Work.of(ops)
        if self._meaning is None:
            return await to_its_end(lambda: self._done(work, {}, {}))
        embeddings, texts, queries = self._meaning.embeddings, self._texts(work), work.queries()
        vectors = await embeddings.aembed_documents(texts) if texts else []
        answers = await asyncio.gather(*map(embeddings.aembed_query, queries))
        asked = dict(zip(queries, answers, strict=True))
        by_text = self._meaning.by_text(texts, vectors)
        return await to_its_end(lambda: self._done(work, by_text, asked))

    def sweep_ttl(self) -> int:
        """Erase the expired items, with all their versions; return how many.

        Expired items are no longer read in any case. The remains of erasures interrupted by a crash
        are removed
        too. 1 request per 1,000 objects of the store, 1 for each item that this process does
        not know, 2 for each one erased before, about 4 for each one erased now and 2 for each of
        its versions.
        """
        listed, now = newest_versions(self._memory, self._path), datetime.now(UTC)
        newest = [entry for _, entry in self._memory.engine.versions.get_each(listed.items())]
        finish_purges(self._memory, newest)
        over = [entry for entry in newest if entry.visibility(now) is Visibility.EXPIRED]
        return sum(mapped(self._sweep, over, _THREADS))

    def start_ttl_sweeper(self, sweep_interval_minutes: float | None = None) -> Future[None]:
        """Call `sweep_ttl` at intervals, in a thread of this process, as LangGraph's stores do.

        The interval is that of the configuration `ttl` (`sweep_interval_minutes`), else 5 minutes.
        Without `ttl` no thread is started. Cancelling the returned future ends the thread, and so
        does `stop_ttl_sweeper`. A sweep that fails is logged (logger "amfs") and tried again.
        """
        if not self.ttl_config:
            nothing: Future[None] = Future()
            nothing.set_result(None)
            return nothing
        configured = sweep_interval_minutes or self.ttl_config.get("sweep_interval_minutes")
        return self._sweeper.start(60 * float(configured or _SWEEP_MINUTES))

    def stop_ttl_sweeper(self, timeout: float | None = None) -> bool:
        """End the thread, after the sweep that is under way. False when that takes longer than
        `timeout` seconds (None: wait)."""
        return self._sweeper.stop(timeout)

    # -- steps -------------------------------------------------------------------------------

    def _texts(self, work: _Work) -> list[str]:
        """Return the texts to embed, each once."""
        texts: dict[str, None] = {}
        for op in work.puts.values():
            if op.value is not None and self._meaning is not None:
                texts.update(dict.fromkeys(self._meaning.texts(op.value, op.index).values()))
        return list(texts)

    def _done(
        self, work: _Work, vectors: Mapping[str, str], asked: Mapping[str, Vector]
    ) -> list[Result]:
        keep, drop = self._prepared(work, vectors)
        results: list[Result] = [None] * work.size
        self._get(work.gets, results)
        listed: dict[str, list[Pair]] = {}
        for number, op in work.searches.items():
            results[number] = self._search(op, listed, asked.get(op.query or ""))
        for number, listing in work.listings.items():
            results[number] = self._list_namespaces(listing, listed)
        mapped(lambda pair: self._keep(*pair), keep, _THREADS)
        mapped(lambda address: self._drop(*address), drop, _THREADS)
        return results

    def _get(self, gets: Mapping[int, GetOp], results: list[Result]) -> None:
        if not gets:
            return
        entries = self._memory.read_many(self.address(op.namespace, op.key) for op in gets.values())
        due = []
        for (number, op), entry in zip(gets.items(), entries, strict=True):
            if entry is not None:
                item = StoredItem.of(entry)
                results[number] = item.item()
                if op.refresh_ttl:
                    due.append((item, entry))
        self._refresh(due)

    def _search(
        self, op: SearchOp, listed: dict[str, list[Pair]], asked: Vector | None
    ) -> list[SearchItem]:
        arguments.version(op.offset, "offset", least=0)
        arguments.version(op.limit, "limit", least=0)
        pairs = [
            pair
            for pair in self._under(tuple(op.namespace_prefix), listed)
            if passes(pair[0].value, op.filter)
        ]
        pairs.sort(key=lambda pair: pair[0].updated_at, reverse=True)
        scored: list[tuple[float | None, Pair]] = [(None, pair) for pair in pairs]
        if op.query and asked is not None:
            cosines = scores(asked, [item for item, _ in pairs])
            scored = list(zip(cosines, pairs, strict=True))
        elif op.query and self._meaning is None:
            words = self._words(op.query, tuple(op.namespace_prefix), len(pairs))
            scored = [
                (words.get((entry.entity_path, entry.key)), (item, entry)) for item, entry in pairs
            ]
        # Items that answer the query come first, then those without a score, as in LangGraph's own
        # stores.
        scored.sort(key=lambda hit: float("-inf") if hit[0] is None else hit[0], reverse=True)
        page = scored[op.offset : op.offset + op.limit]
        if op.refresh_ttl:
            self._refresh([pair for _, pair in page])
        return [item.found(score) for score, (item, _) in page]

    def _words(self, query: str, prefix: Namespace, most: int) -> dict[tuple[str, str], float]:
        """Return the scores of a search by words among the items listed just before."""
        if not most:
            return {}
        above = self._places.above(prefix)
        hits = self._memory.search(query, entity_path=above, limit=1_000_000, max_age=_JUST_NOW)
        return {(hit.entry.entity_path, hit.entry.key): hit.score for hit in hits}

    def _list_namespaces(
        self, op: ListNamespacesOp, listed: dict[str, list[Pair]]
    ) -> list[Namespace]:
        arguments.version(op.offset, "offset", least=0)
        arguments.version(op.limit, "limit", least=0)
        conditions = op.match_conditions or ()
        prefix: Namespace = ()
        for condition in conditions:
            for label in condition.path:
                arguments.text(label, "namespace label")
            if condition.match_type == "prefix" and "*" not in condition.path:
                prefix = max(prefix, tuple(condition.path), key=len)
        namespaces = {
            item.namespace[: op.max_depth]
            for item, _ in self._under(prefix, listed)
            if all(is_in(item.namespace, condition) for condition in conditions)
        }
        return sorted(namespaces)[op.offset : op.offset + op.limit]

    def _under(self, prefix: Namespace, listed: dict[str, list[Pair]]) -> list[Pair]:
        """Return the items under a prefix of namespaces; nothing is listed twice in a batch."""
        path = self._places.above(prefix)
        if path not in listed:
            listed[path] = [(StoredItem.of(entry), entry) for entry in self._memory.list(path)]
        return [pair for pair in listed[path] if pair[0].namespace[: len(prefix)] == prefix]

    def _refresh(self, pairs: list[Pair]) -> None:
        """Begin the times to live again of items that were read."""
        now = datetime.now(UTC)
        due = [pair for pair in pairs if is_due(*pair, now)]
        mapped(lambda pair: self._begin_again(*pair), due, _THREADS)

    def _begin_again(self, item: StoredItem, entry: MemoryEntry) -> None:
        assert item.ttl is not None

        def same(value: Any) -> Any:
            if value != entry.value:  # put or deleted since, which began its time again
                raise _ChangedError
            return value

        with contextlib.suppress(_ChangedError):
            self._memory.update(entry.entity_path, entry.key, same, ttl=item.ttl * 60)

    def _sweep(self, entry: MemoryEntry) -> bool:
        """Erase an expired item, unless it was put again meanwhile."""
        place = entry.entity_path, entry.key
        try:
            return self._memory.purge(*place, expected_version=entry.version) > 0
        except VersionConflictError:
            return False

    def _prepared(
        self, work: _Work, vectors: Mapping[str, str]
    ) -> tuple[list[tuple[StoredItem, bool]], list[tuple[str, str]]]:
        """Return the items to store, each with whether a search by words should find it, and the
        memories of those to delete."""
        keep, drop, now = [], [], datetime.now(UTC)
        for op in work.puts.values():
            address = self.address(op.namespace, op.key)
            self._memory.engine.layout.address(*address)
            if op.value is None:
                drop.append(address)
                continue
            texts = self._meaning.texts(op.value, op.index) if self._meaning is not None else {}
            lifetime = None if op.ttl is None else arguments.number(op.ttl, "ttl")
            arguments.lifetime(lifetime and lifetime * 60)
            item = StoredItem(
                tuple(op.namespace),
                op.key,
                dict(op.value),
                now,
                now,
                lifetime,
                {name: vectors[text] for name, text in texts.items()},
            )
            keep.append((item, op.index is not False))
        return keep, drop

    def _keep(self, item: StoredItem, index: bool) -> None:
        def change(newest: MemoryEntry | None) -> dict[str, Any]:
            if newest is None or not newest.is_live():
                return item.json()
            return replace(item, created_at=StoredItem.of(newest).created_at).json()

        ttl = None if item.ttl is None else timedelta(minutes=item.ttl)
        append(self._memory, *self.address(item.namespace, item.key), change, ttl=ttl, index=index)

    def _drop(self, entity_path: str, key: str) -> None:
        if self._keep_deleted:
            self._memory.delete(entity_path, key)
        else:
            self._memory.purge(entity_path, key)


@dataclass(slots=True)
class _Work:
    """The operations of a batch, by their kind."""

    size: int = 0
    gets: dict[int, GetOp] = field(default_factory=dict)
    searches: dict[int, SearchOp] = field(default_factory=dict)
    listings: dict[int, ListNamespacesOp] = field(default_factory=dict)
    puts: dict[tuple[Namespace, str], PutOp] = field(default_factory=dict)

    @classmethod
    def of(cls, ops: Iterable[Op]) -> _Work:
        work = cls()
        for number, op in enumerate(ops):
            match op:
                case GetOp():
                    work.gets[number] = op
                case SearchOp():
                    work.searches[number] = op
                case ListNamespacesOp():
                    work.listings[number] = op
                case PutOp():
                    work.puts[tuple(op.namespace), op.key] = _checked(op)
                case _:
                    raise InvalidValueError(
                        f"operation {number} must be one of LangGraph's, not {type(op).__name__}"
                    )
            work.size = number + 1
        return work

    def queries(self) -> list[str]:
        return list(dict.fromkeys(op.query for op in self.searches.values() if op.query))


def _checked(op: PutOp) -> PutOp:
    """Return a put with a copy of its value, which is JSON that is an object."""
    if op.value is None:
        return op
    if not isinstance(op.value, Mapping):
        raise InvalidValueError(
            f"the value of an item must be a dict, not {type(op.value).__name__}"
        )
    return op._replace(value=values.copied(dict(op.value)))


class _ChangedError(Exception):
    """The item has changed since it was read; never leaves `_begin_again`."""
