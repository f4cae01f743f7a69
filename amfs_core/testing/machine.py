"""Hypothesis state machines: random programs, run on an adapter and on a model of it.

`AdapterMachine` compares an adapter with `ModelAdapter`. `VersionsMachine` lets several writers
append versions over an adapter that loses answers, delivers late, lags and kills them, and compares
what they see with a plain list of what must be there. Subclass one, override `make_adapter`, and
give its `TestCase` a name that pytest collects.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from amfs_core.errors import (
    BackendUnavailableError,
    VersionConflictError,
    WriteOutcomeUnknownError,
)
from amfs_core.format import MemoryEntry
from amfs_core.memory import AgentMemory
from amfs_core.storage import StorageAdapter, adopted
from amfs_core.testing.faults import Crash, Fault, FaultyAdapter
from amfs_core.testing.model import ModelAdapter
from amfs_core.versions import Clock

_DIRECTORIES = ("a", "A", "ab", "a b", "a-", "a0", "%2E", "é", "e\u0301", "\uffee", "😀")
_FILES = tuple(f"{name}.json" for name in (*_DIRECTORIES, "v1", "v10", "v2"))

_prefixes = st.lists(st.sampled_from(_DIRECTORIES), max_size=3).map(
    lambda names: "".join(f"{name}/" for name in names)
)
_keys = st.builds(lambda prefix, file: prefix + file, _prefixes, st.sampled_from(_FILES))
_bodies = st.one_of(st.binary(max_size=40), st.just(b"x" * 70_000))


class AdapterMachine(RuleBasedStateMachine):
    """Random programs of every verb: the adapter's answers are the model's, call by call."""

    def make_adapter(self) -> StorageAdapter:
        """Override this: an adapter over an empty store. It is closed at the end of each run."""
        raise NotImplementedError("override make_adapter of AdapterMachine")

    def __init__(self) -> None:
        super().__init__()
        self.model = ModelAdapter()
        self.adapter = self.make_adapter()
        self._position: str | None = None
        self._created: set[str] = set()

    @rule(key=_keys, body=_bodies)
    def create(self, key: str, body: bytes) -> None:
        """True exactly where the key was free."""
        created = self.adapter.create(key, body)
        assert created is self.model.create(key, body)
        if created:
            self._created.add(key)

    @rule()
    def look(self) -> None:
        """Where there is a change log, it names all that was created since the last look."""
        log = adopted(self.adapter).changes()
        if log is None:
            return
        answer = None if self._position is None else log.since(self._position)
        if answer is None:
            self._position = log.position(make=True)
        else:
            self._position, named = answer
            assert self._created <= set(named)
        self._created.clear()

    @rule(wanted=st.lists(_keys, max_size=8, unique=True), body=_bodies)
    def create_many(self, wanted: list[str], body: bytes) -> None:
        """Where objects are created together: only those whose key was free, and each of these
        after another try."""
        store = adopted(self.adapter)
        if not store.capabilities.batch:
            return
        bodies = {key: key.encode() + body for key in wanted}
        created = store.create_many(bodies)
        assert all(self.model.create(key, bodies[key]) for key in created)
        assert len(set(created)) == len(created)
        self._created.update(bodies)
        for key in bodies.keys() - created:
            again = self.adapter.create(key, bodies[key])
            assert again is self.model.create(key, bodies[key])
            if not again:
                self._created.discard(key)

    @rule(key=_keys)
    def get(self, key: str) -> None:
        """The bytes, or None."""
        assert self.adapter.get(key) == self.model.get(key)

    @rule(wanted=st.lists(_keys, max_size=8, unique=True))
    def get_many(self, wanted: list[str]) -> None:
        """Every key once, in any order."""
        pairs = sorted(self.adapter.get_many(wanted))
        assert pairs == sorted(self.model.get_many(wanted))

    @rule(prefix=_prefixes, after=st.one_of(st.just(""), _keys, _prefixes))
    def list_some(self, prefix: str, after: str) -> None:
        """Keys and sizes, in byte order."""
        listing = [(info.key, info.size) for info in self.adapter.list(prefix, after)]
        assert listing == [(info.key, info.size) for info in self.model.list(prefix, after)]

    @rule(key=_keys, body=_bodies)
    def replace(self, key: str, body: bytes) -> None:
        """Whether or not there is an object."""
        self.adapter.replace(key, body)
        self.model.replace(key, body)

    @rule(key=_keys)
    def delete(self, key: str) -> None:
        """Whether or not there is an object."""
        self.adapter.delete(key)
        self.model.delete(key)
        self._created.discard(key)

    @invariant()
    def everything_is_listed(self) -> None:
        """The whole store is the model's."""
        listing = [(info.key, info.size) for info in self.adapter.list("")]
        assert listing == [(info.key, info.size) for info in self.model.list("")]

    def teardown(self) -> None:
        """Close the adapter."""
        self.adapter.close()


@dataclass(frozen=True, slots=True)
class _Fact:
    """One version that is known to be in the store, by its raw bytes."""

    token: str
    write_id: str
    written_at: datetime
    deleted: bool
    body: bytes


class _SkewedClock(Clock):
    """The clock of a writer, wrong by a fixed time."""

    def __init__(self, skew: timedelta) -> None:
        super().__init__()
        self._skew = skew

    def now(self) -> datetime:
        return super().now() + self._skew


@dataclass(slots=True)
class _Writer:
    """An agent. A patient one survives every fault; a hasty one gives up at the first."""

    memory: AgentMemory
    patient: bool
    seen: dict[tuple[str, str], int]


# A deeper entity path that looks like a memory of the first could confuse listings.
_MEMORIES = (("e", "k"), ("e", "k2"), ("e/k", "v1x"))
# `verify` reports clocks that are more than some minutes ahead.
_WRITERS = ((False, timedelta()), (False, timedelta(minutes=5)), (True, -timedelta(days=1)))

_indexes = st.integers(0, len(_WRITERS) - 1)
_memories = st.sampled_from(_MEMORIES)
_skips = st.integers(0, 5)


class VersionsMachine(RuleBasedStateMachine):
    """Writers, readers and faults in any order, against a list of what is in the store.

    After every step the store is inspected below all caches, byte by byte: acknowledged versions
    are there, nothing is doubled, changed or missing, the chain is closed and times do not
    decrease. Every answer must be exactly the truth, or, where another writer came in between, a
    state between the start and the end of the call.
    """

    def make_adapter(self) -> StorageAdapter:
        """Override this to run over a store of your own; by default it is `ModelAdapter`."""
        return ModelAdapter()

    def __init__(self) -> None:
        super().__init__()
        self.inner = self.make_adapter()
        self.faulty = FaultyAdapter(self.inner)
        self.truth: dict[tuple[str, str], list[_Fact]] = {name: [] for name in _MEMORIES}
        self.under_way: set[str] = set()
        self.floating: set[str] = set()
        self.returned: dict[tuple[tuple[str, str], int], MemoryEntry] = {}
        self.stale = 0
        self.tokens = 0

    @initialize()
    def start(self) -> None:
        """Make the writers."""
        self.writers = [self._writer(index) for index in range(len(_WRITERS))]

    def _writer(self, index: int) -> _Writer:
        patient, skew = _WRITERS[index]
        memory = AgentMemory(f"w{index}", adapter=self.faulty, patience=60 if patient else 0)
        memory._versions.clock = _SkewedClock(skew)
        return _Writer(memory, patient, {})

    # -- faults ------------------------------------------------------------------------------

    @rule(
        fault=st.sampled_from([Fault.LOST_ANSWER, Fault.LOST_REQUEST, Fault.CONFLICT, Fault.LATE]),
        skip=st.integers(0, 1),
        times=st.integers(1, 2),
    )
    def break_creates(self, fault: Fault, skip: int, times: int) -> None:
        """Coming creates lose their answer, get lost, meet a conflict or are late."""
        self.faulty.inject(fault, skip=skip, times=times)

    @rule(
        fault=st.sampled_from([Fault.UNAVAILABLE, Fault.CRASH_BEFORE, Fault.CRASH_AFTER]),
        verb=st.sampled_from(["create", "get", "list"]),
        skip=st.integers(0, 2),
    )
    def break_anything(self, fault: Fault, verb: str, skip: int) -> None:
        """A coming request is refused, or its process dies before or after it."""
        self.faulty.inject(fault, on=verb, skip=skip)

    @rule(count=st.integers(0, 4))
    def let_listings_lag(self, count: int) -> None:
        """Listings hide the newest creations from now on."""
        self.stale = count
        self.faulty.hide_newest(count)

    @rule()
    def heal(self) -> None:
        """All planned faults are cancelled; late creates stay late."""
        self.faulty.clear()
        self.stale = 0

    @rule()
    def deliver(self) -> None:
        """Late creates arrive."""
        self.faulty.deliver()
        self._look()

    @rule(skip=_skips)
    def deliver_in_between(self, skip: int) -> None:
        """Late creates arrive between two requests of a writer."""
        self.faulty.before(self.deliver, skip=skip)

    @rule(index=_indexes, name=_memories, skip=_skips)
    def write_in_between(self, index: int, name: tuple[str, str], skip: int) -> None:
        """A writer writes between two requests of another."""
        self.faulty.before(lambda: self.write(index, name), skip=skip)

    # -- writing -----------------------------------------------------------------------------

    @rule(index=_indexes, name=_memories)
    def write(self, index: int, name: tuple[str, str]) -> None:
        """Append, whatever the newest version is."""
        token = self._token()
        self._append(index, name, token, lambda m: m.write(*name, {"token": token}))

    @rule(index=_indexes, name=_memories)
    def update(self, index: int, name: tuple[str, str]) -> None:
        """Build on the newest version; `_look` checks that it was the newest."""
        token = self._token()

        def change(old: Any) -> Any:
            return {"token": token, "on": old and old["token"]}

        self._append(index, name, token, lambda m: m.update(*name, change))

    @rule(index=_indexes, name=_memories, offset=st.integers(-2, 1), known=st.booleans())
    def write_expecting(self, index: int, name: tuple[str, str], offset: int, known: bool) -> None:
        """Append only if the newest version is the expected one."""
        token = self._token()
        least = len(self.truth[name])
        expected = max(0, least + (0 if known else offset))
        try:
            self._append(
                index,
                name,
                token,
                lambda m: m.write(*name, {"token": token}, expected_version=expected),
            )
        except VersionConflictError as error:
            assert error.expected == expected
            assert error.actual != expected
            assert least <= error.actual <= len(self.truth[name])
            assert self._place(name, token) is None
        if (place := self._place(name, token)) is not None:
            assert place == expected + 1

    @rule(index=_indexes, name=_memories)
    def delete(self, index: int, name: tuple[str, str]) -> None:
        """Append a tombstone, or nothing where nothing is live."""
        self._append(index, name, f"tombstone of w{index}", lambda m: m.delete(*name))

    def _append(
        self,
        index: int,
        name: tuple[str, str],
        token: str,
        call: Callable[[AgentMemory], MemoryEntry | None],
    ) -> None:
        """Run a call that may append `token`, and compare its answer with its effect."""
        writer = self.writers[index]
        least = len(self.truth[name])
        # One writer's tombstones are all alike: an earlier call's may land during this one.
        earlier = token in self.floating
        self.under_way.add(token)
        try:
            entry = call(writer.memory)
        except WriteOutcomeUnknownError as error:
            self._look()
            assert not writer.patient
            landed = self._by_write_id(name, error.write_id)
            assert landed in (None, error.version)
            landed_entry = self._reader().find_write(*name, error.write_id, version=error.version)
            assert (landed_entry and landed_entry.version) == landed
            if landed is None:
                self.floating.add(token)
        except BackendUnavailableError:
            self._look()
            assert not writer.patient
            assert earlier or not self._landed_since(name, least, token)
        except Crash:
            self._look()
            if not self._landed_since(name, least, token):
                self.floating.add(token)
            self.writers[index] = self._writer(index)
        else:
            self._look()
            if entry is None:
                assert token.startswith("tombstone")
                assert None in self._states(name, least)
                assert earlier or not self._landed_since(name, least, token)
            else:
                fact = self.truth[name][entry.version - 1]
                assert (fact.token, fact.write_id) == (token, entry.provenance.write_id)
                self._saw(writer, name, entry)
        finally:
            self._look()
            self.under_way.discard(token)

    # -- reading -----------------------------------------------------------------------------

    @rule(index=_indexes, name=_memories)
    def read(self, index: int, name: tuple[str, str]) -> None:
        """The newest version, however stale the listing."""
        least = len(self.truth[name])
        for writer, entry in self._ask(index, lambda m: m.read(*name)):
            assert (entry and entry.version) in self._states(name, least)
            self._saw(writer, name, entry)

    @rule(index=_indexes, name=_memories)
    def read_from_memory(self, index: int, name: tuple[str, str]) -> None:
        """With `max_age` it may be an older one, but never older than one seen before."""
        for writer, entry in self._ask(index, lambda m: m.read(*name, max_age=3600)):
            assert (entry and entry.version) in self._states(name, writer.seen.get(name, 0))
            self._saw(writer, name, entry)

    @rule(index=_indexes, name=_memories, number=st.integers(0, 50))
    def read_version(self, index: int, name: tuple[str, str], number: int) -> None:
        """A given version is what it was when it was acknowledged; the next one is not there."""
        least = len(self.truth[name])
        version = number % (least + 1) + 1
        for writer, entry in self._ask(index, lambda m: m.read(*name, version=version)):
            assert entry is not None or version > least
            self._saw(writer, name, entry)

    @rule(index=_indexes, name=_memories, number=st.integers(0, 50), late=st.booleans())
    def read_at(self, index: int, name: tuple[str, str], number: int, late: bool) -> None:
        """What was newest at a moment."""
        facts = self.truth[name]
        least = len(facts)
        moment = facts[number % least].written_at if facts else datetime.now(UTC)
        moment -= timedelta(microseconds=0 if late else 1)
        for writer, entry in self._ask(index, lambda m: m.read(*name, at=moment)):
            allowed = set()
            for newest in range(least, len(facts) + 1):
                until = [fact for fact in facts[:newest] if fact.written_at <= moment]
                allowed.add(len(until) if until and not until[-1].deleted else None)
            assert (entry and entry.version) in allowed
            self._saw(writer, name, entry)

    @rule(index=_indexes, name=_memories)
    def history(self, index: int, name: tuple[str, str]) -> None:
        """All versions in order; where listings lag, at least those that were seen before."""
        seen, least = self.writers[index].seen.get(name, 0), len(self.truth[name])
        for writer, entries in self._ask(index, lambda m: m.history(*name)):
            assert [entry.version for entry in entries] == list(range(1, len(entries) + 1))
            assert len(entries) >= (seen if self.stale else least)
            for entry in entries:
                self._saw(writer, name, entry)

    @rule(index=_indexes)
    def list_newest(self, index: int) -> None:
        """The newest live version of every memory; where listings lag, one that was newest."""
        least = {name: 0 if self.stale else len(facts) for name, facts in self.truth.items()}
        for writer, entries in self._ask(index, lambda m: m.list()):
            newest_entries = {(entry.entity_path, entry.key): entry for entry in entries}
            assert len(newest_entries) == len(entries)
            for name in _MEMORIES:
                entry = newest_entries.get(name)
                assert (entry and entry.version) in self._states(name, least[name])
                self._saw(writer, name, entry)

    def _ask(self, index: int, call: Callable[[AgentMemory], Any]) -> list[tuple[_Writer, Any]]:
        """Return the writer and its answer; nothing when a fault kept it from answering."""
        writer = self.writers[index]
        try:
            return [(writer, call(writer.memory))]
        except BackendUnavailableError:
            assert not writer.patient
        except Crash:
            self.writers[index] = self._writer(index)
        finally:
            self._look()
        return []

    def _states(self, name: tuple[str, str], least: int) -> set[int | None]:
        """Return the versions that may be read while the newest one moves from `least` to the
        present one."""
        facts = self.truth[name]
        numbers = range(least, len(facts) + 1)
        return {None if not number or facts[number - 1].deleted else number for number in numbers}

    def _saw(self, writer: _Writer, name: tuple[str, str], entry: MemoryEntry | None) -> None:
        """Check an entry against the store and against every earlier answer of that version."""
        if entry is None:
            return
        fact = self.truth[name][entry.version - 1]
        assert entry.value == json.loads(fact.body)["value"]
        assert (entry.deleted, entry.provenance.written_at) == (fact.deleted, fact.written_at)
        assert self.returned.setdefault((name, entry.version), entry) == entry
        writer.seen[name] = max(entry.version, writer.seen.get(name, 0))

    # -- the truth ---------------------------------------------------------------------------

    @invariant()
    def the_store_is_what_it_was(self) -> None:
        """Every version that was ever there is still there, byte for byte."""
        self._look()
        for name, facts in self.truth.items():
            for number, fact in enumerate(facts, 1):
                assert self.inner.get(_object_key(name, number)) == fact.body

    def _look(self) -> None:
        """Note new versions, and check that each is allowed and follows the last."""
        for name, facts in self.truth.items():
            while body := self.inner.get(_object_key(name, len(facts) + 1)):
                facts.append(self._fact(name, facts, body))

    def _fact(self, name: tuple[str, str], facts: list[_Fact], body: bytes) -> _Fact:
        fields = json.loads(body)
        covered, _, _ = body.rpartition(b',"sha256":"')
        assert hashlib.sha256(covered).hexdigest() == fields["sha256"]
        assert (fields["entity_path"], fields["key"], fields["version"]) == (*name, len(facts) + 1)
        before = facts[-1] if facts else None
        assert fields["previous"] == (before and json.loads(before.body)["sha256"])
        value, provenance = fields["value"], fields["provenance"]
        fact = _Fact(
            token=f"tombstone of {provenance['agent_id']}" if value is None else value["token"],
            write_id=provenance["write_id"],
            written_at=datetime.fromisoformat(provenance["written_at"]),
            deleted=fields["deleted"],
            body=body,
        )
        assert fact.token in self.under_way | self.floating, "nobody is writing this"
        every = [other_fact for others in self.truth.values() for other_fact in others]
        assert fact.write_id not in {other_fact.write_id for other_fact in every}, "doubled"
        if not fact.deleted:
            assert fact.token not in {other_fact.token for other_fact in every}, "doubled"
        if before:
            assert fact.written_at >= before.written_at
        if value and "on" in value:
            assert value["on"] == (None if before is None or before.deleted else before.token)
        return fact

    def _token(self) -> str:
        self.tokens += 1
        return f"t{self.tokens}"

    def _place(self, name: tuple[str, str], token: str) -> int | None:
        tokens = [fact.token for fact in self.truth[name]]
        return tokens.index(token) + 1 if token in tokens else None

    def _by_write_id(self, name: tuple[str, str], write_id: str) -> int | None:
        write_ids = [fact.write_id for fact in self.truth[name]]
        return write_ids.index(write_id) + 1 if write_id in write_ids else None

    def _landed_since(self, name: tuple[str, str], least: int, token: str) -> bool:
        return token in [fact.token for fact in self.truth[name][least:]]

    def _reader(self) -> AgentMemory:
        """Return a memory with an empty cache and no faults."""
        return AgentMemory("reader", adapter=self.inner)

    def teardown(self) -> None:
        """All late creates arrive; a new process then finds everything, and `verify` reports
        nothing."""
        self.deliver()
        reader = self._reader()
        report = reader.verify()
        assert report.ok, report.findings
        assert report.versions == sum(len(facts) for facts in self.truth.values())
        for name, facts in self.truth.items():
            history = reader.history(*name)
            assert [entry.provenance.write_id for entry in history] == [
                fact.write_id for fact in facts
            ]
            newest = reader.read(*name)
            assert (newest and newest.version) in self._states(name, len(facts))
        for memory in (reader, *(writer.memory for writer in getattr(self, "writers", ()))):
            memory.close()
        self.faulty.close()


def _object_key(name: tuple[str, str], version: int) -> str:
    """Return where the layout puts a version of a memory whose names need no escaping."""
    return f"default/entries/{name[0]}/{name[1]}/v{version}.json"
