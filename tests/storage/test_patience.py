"""A store that fails: what is tried again and for how long, and when nobody asks any more."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

from amfs import AgentMemory, CircuitOpenError
from amfs_core.errors import (
    BackendUnavailableError,
    InvalidValueError,
    WriteOutcomeUnknownError,
)
from amfs_core.storage import breaker as breaker_module
from amfs_core.storage import client as store_module
from amfs_core.storage import retry as patience_module
from amfs_core.storage.breaker import Breaker
from amfs_core.storage.metrics import Meter
from amfs_core.testing import Fault, FaultyAdapter, ModelAdapter
from amfs_core.versions import log as versions_module
from tests.conftest import ProxyFactory
from tests.support.known import known
from tests.support.proxy import Fault as WireFault
from tests.support.s3_store import Place
from tests.support.servers import VERSITY, Server, running

ALWAYS = 10_000


@dataclass
class Clock:
    """A clock that only moves when somebody sleeps, or when it is told to."""

    now: float = 1_000.0
    naps: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of what waits."""
    clock = Clock()
    for module in (breaker_module, patience_module, store_module, versions_module):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(tenacity.nap, "time", SimpleNamespace(sleep=clock.sleep))
    return clock


class Moody(ModelAdapter):
    """A store that refuses the first gets of each object."""

    def __init__(self, refusals: int) -> None:
        super().__init__()
        self._left: dict[str, int] = {}
        self._refusals = refusals

    def get(self, key: str) -> bytes | None:
        left = self._left.setdefault(key, self._refusals)
        if left:
            self._left[key] = left - 1
            raise BackendUnavailableError(f"not now: {key}", object_key=key)
        return super().get(key)


@pytest.fixture
def adapter() -> FaultyAdapter:
    return FaultyAdapter(ModelAdapter())


def memory_of(adapter: FaultyAdapter, patience: float) -> AgentMemory:
    memory = known(AgentMemory("agent", adapter=adapter, patience=patience))
    adapter.calls.clear()
    return memory


class TestOneTimeForACall:
    def test_all_requests_of_a_read_share_it(self, clock: Clock, adapter: FaultyAdapter) -> None:
        memory_of(adapter, 10).write("e", "k", 1)
        memory = memory_of(adapter, 10)  # which has not seen it, and so asks more than once
        started = clock.now
        adapter.inject(Fault.UNAVAILABLE, on="get", times=12)  # about 8 seconds of the 10
        adapter.inject(Fault.UNAVAILABLE, on="list", times=ALWAYS)

        with pytest.raises(BackendUnavailableError):
            memory.read("e", "k")

        assert clock.now - started <= 10

    def test_all_requests_of_a_write_that_lost_share_it(
        self, clock: Clock, adapter: FaultyAdapter
    ) -> None:
        memory_of(adapter, 10).write("e", "k", 1)
        memory = memory_of(adapter, 10)  # which takes the key for a new one
        started = clock.now
        adapter.inject(Fault.UNAVAILABLE, on="get", times=12)  # about 8 seconds of the 10
        adapter.inject(Fault.UNAVAILABLE, on="list", times=ALWAYS)

        with pytest.raises(BackendUnavailableError):
            memory.write("e", "k", 2)

        assert clock.now - started <= 10

    def test_a_write_that_lost_leaves_the_next_call_all_of_it(
        self, clock: Clock, adapter: FaultyAdapter
    ) -> None:
        memory_of(adapter, 10).write("e", "k", 1)
        memory = memory_of(adapter, 10)
        assert memory.write("e", "k", 2).version == 2
        clock.now += 100
        adapter.inject(Fault.UNAVAILABLE, on="get", times=3)
        assert memory.read("e", "k") == memory.read("e", "k", version=2)

    def test_a_listing_has_it_for_each_object(self, clock: Clock) -> None:
        adapter = Moody(12)
        writer = AgentMemory("agent", adapter=adapter, patience=10)
        for number in range(5):
            writer.write("e", f"k{number}", number)
        writer.close()  # the engine ends with it, and with that all that it knew
        started = clock.now

        assert len(AgentMemory("agent", adapter=adapter, patience=10).list()) == 5
        assert clock.now - started > 10

    def test_it_is_the_callers(self, clock: Clock, adapter: FaultyAdapter) -> None:
        adapter.inject(Fault.UNAVAILABLE, on="get", times=ALWAYS)
        started = clock.now

        with pytest.raises(BackendUnavailableError):
            memory_of(adapter, 3).read("e", "k", version=1)

        assert 2 <= clock.now - started <= 3

    @pytest.mark.parametrize("version", [1, None])
    def test_an_error_names_the_memory_of_the_call(
        self, clock: Clock, adapter: FaultyAdapter, version: int | None
    ) -> None:
        memory = memory_of(adapter, 0)
        adapter.inject(Fault.UNAVAILABLE, on="get", times=ALWAYS)

        with pytest.raises(BackendUnavailableError) as down:
            memory.read("e", "k", version=version)
        with pytest.raises(InvalidValueError) as wrong:
            memory.read("e", "k", version=version, min_confidence=2)

        for error in (down.value, wrong.value):
            assert (error.entity_path, error.key) == ("e", "k")

    def test_each_attempt_is_logged(
        self, clock: Clock, adapter: FaultyAdapter, caplog: pytest.LogCaptureFixture
    ) -> None:
        memory = memory_of(adapter, 10)
        adapter.inject(Fault.UNAVAILABLE, on="get", times=2)
        with caplog.at_level(logging.INFO, logger="amfs"):
            memory.read("e", "k", version=1)

        said = [
            record.message
            for record in caplog.records
            if record.message.startswith("tries again in")
        ]
        assert ["attempt 1" in said[0], "attempt 2" in said[1], len(said)] == [True, True, 2]
        assert "e/k/v1.json" in said[0]

    def test_none_is_one_attempt(self, clock: Clock, adapter: FaultyAdapter) -> None:
        adapter.inject(Fault.UNAVAILABLE, on="get", times=ALWAYS)

        with pytest.raises(BackendUnavailableError):
            memory_of(adapter, 0).read("e", "k", version=1)

        assert len(adapter.calls) == 1
        assert not clock.naps


class TestWhatTheStoreAsksFor:
    def test_a_time_is_waited_in_full(self, clock: Clock, adapter: FaultyAdapter) -> None:
        attempts: list[float] = []

        def attempt() -> int:
            attempts.append(clock.now)
            if len(attempts) < 3:
                raise BackendUnavailableError("slow down", retry_after=2.0)
            return 7

        assert store_module.StoreClient(adapter, 10).patiently(attempt) == 7
        assert all(after - before >= 2 for before, after in itertools.pairwise(attempts))

    def test_one_longer_than_the_patience_ends_with_a_last_attempt(
        self, clock: Clock, adapter: FaultyAdapter
    ) -> None:
        attempts: list[float] = []

        def attempt() -> None:
            attempts.append(clock.now)
            raise BackendUnavailableError("slow down", retry_after=60.0)

        with pytest.raises(BackendUnavailableError) as raised:
            store_module.StoreClient(adapter, 10).patiently(attempt)

        assert [moment - attempts[0] for moment in attempts] == [0, 10]
        assert raised.value.retry_after == 60

    def test_it_is_read_from_the_answer(self, minio: Server, proxy: ProxyFactory) -> None:
        wire = proxy(minio)
        wire.retry_after = 7
        memory = Place.on(minio, minio.new_bucket(), wire.endpoint_url).memory("a", patience=0)
        wire.inject(WireFault.ERROR_503)

        with pytest.raises(BackendUnavailableError) as raised:
            memory.read("e", "k", version=1)

        assert raised.value.retry_after == 7

    def test_slow_down_without_a_time_is_heard(self, minio: Server, proxy: ProxyFactory) -> None:
        wire = proxy(minio)
        memory = Place.on(minio, minio.new_bucket(), wire.endpoint_url).memory("a", patience=0)
        wire.inject(WireFault.ERROR_503)

        with pytest.raises(BackendUnavailableError) as raised:
            memory.read("e", "k", version=1)

        assert raised.value.retry_after


class TestBreaker:
    def test_it_opens_when_nothing_answers_for_the_whole_patience(
        self, clock: Clock, adapter: FaultyAdapter, caplog: pytest.LogCaptureFixture
    ) -> None:
        memory = memory_of(adapter, 3)
        adapter.inject(Fault.UNAVAILABLE, on="get", times=ALWAYS)
        with pytest.raises(BackendUnavailableError):
            memory.read("e", "k", version=1)
        while not memory.metrics.outages:  # the last wait of a call may end before its time does
            with pytest.raises(BackendUnavailableError):
                memory.read("e", "k", version=1)
        sent, started, refused = len(adapter.calls), clock.now, memory.metrics.refused

        with pytest.raises(CircuitOpenError) as raised:
            memory.read("e", "k", version=1)
        with pytest.raises(CircuitOpenError):
            memory.write("e", "k", 1)

        assert clock.now == started
        assert len(adapter.calls) == sent
        assert memory.metrics.refused - refused == 2
        assert memory.metrics.requests["get"] == sent + 1  # the manifest, before
        assert isinstance(raised.value.__cause__, BackendUnavailableError)
        assert str(raised.value.__cause__) in str(raised.value)
        assert raised.value.retry_after
        assert [
            record.levelno for record in caplog.records if "has not answered" in record.message
        ] == [logging.WARNING]

    def test_it_asks_again_by_itself_and_an_answer_closes_it(
        self, clock: Clock, adapter: FaultyAdapter, caplog: pytest.LogCaptureFixture
    ) -> None:
        memory = memory_of(adapter, 0)
        memory.write("e", "k", 1)
        adapter.inject(Fault.UNAVAILABLE, on="get", times=ALWAYS)
        self._open(memory, clock)
        adapter.clear()
        clock.sleep(40)

        entry = memory.read("e", "k")

        assert entry is not None
        assert memory.read("e", "k") == entry
        assert any("answers again" in record.message for record in caplog.records)

    def test_failures_before_a_long_rest_do_not_count(
        self, clock: Clock, adapter: FaultyAdapter
    ) -> None:
        memory = memory_of(adapter, 10)
        adapter.inject(Fault.UNAVAILABLE, on="get", times=ALWAYS)
        with pytest.raises(BackendUnavailableError):
            memory.read("e", "k", version=1)
        adapter.clear()
        clock.sleep(3600)
        adapter.inject(Fault.UNAVAILABLE, on="get", times=1)

        assert memory.read("e", "k", version=1) is None  # tried again, as ever

    def test_while_it_is_down_it_is_asked_less_and_less(
        self, clock: Clock, adapter: FaultyAdapter
    ) -> None:
        memory = memory_of(adapter, 0)
        adapter.inject(Fault.UNAVAILABLE, on="get", times=ALWAYS)
        self._open(memory, clock)
        asked: list[float] = []
        for _ in range(3_000):
            clock.sleep(0.1)
            before = len(adapter.calls)
            with pytest.raises(BackendUnavailableError):
                memory.read("e", "k", version=1)
            asked += [clock.now] * (len(adapter.calls) - before)

        gaps = [after - before for before, after in itertools.pairwise(asked)]
        assert gaps[0] < 3
        assert max(gaps) < 37
        assert 10 <= len(asked) <= 20

    def test_a_call_that_waits_is_told_that_it_opened(
        self, clock: Clock, adapter: FaultyAdapter
    ) -> None:
        memory = memory_of(adapter, 100)
        adapter.inject(Fault.LOST_ANSWER)
        adapter.inject(Fault.UNAVAILABLE, on="get", times=ALWAYS)
        adapter.inject(Fault.UNAVAILABLE, on="create", times=ALWAYS)

        with pytest.raises(WriteOutcomeUnknownError):  # it may have been written, and it was
            memory.write("e", "k", 1)

        adapter.clear()
        clock.sleep(40)
        assert memory.history("e", "k")[0].value == 1

    @staticmethod
    def _open(memory: AgentMemory, clock: Clock) -> None:
        while not memory.metrics.outages:
            with pytest.raises(BackendUnavailableError):
                memory.read("e", "other", version=1)
            clock.sleep(0.5)

    @given(
        st.lists(
            st.tuples(st.floats(0, 20), st.sampled_from(["fails", "answers", "late answer"])),
            max_size=60,
        ),
        st.floats(0, 20),
    )
    def test_it_keeps_its_promises(self, steps: list[tuple[float, str]], patience: float) -> None:
        """It refuses only after a streak that was long enough and had no rest in it, and never for
        longer than a pause; any answer ends it."""
        clock = Clock()
        least = max(patience, 1.0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(breaker_module, "time", clock)
            breaker = Breaker(patience, Meter())
            streak: list[float] = []
            is_open, let_through = False, clock.now
            for wait, what in steps:
                clock.now += wait
                if what == "late answer":
                    breaker.answered()
                    streak, is_open = [], False
                    continue
                try:
                    breaker.admit()
                except CircuitOpenError as error:
                    assert is_open
                    assert clock.now - let_through <= 36
                    assert error.retry_after is not None and 0 < error.retry_after <= 36
                    continue
                let_through = clock.now
                if what == "fails":
                    if streak and not is_open and clock.now - streak[-1] > least:
                        streak = []
                    streak.append(clock.now)
                    is_open = is_open or (len(streak) >= 3 and clock.now - streak[0] >= least)
                    breaker.failed(BackendUnavailableError("down"), clock.now)
                else:
                    streak, is_open = [], False
                    breaker.answered()


class TestARealServer:
    def test_it_goes_down_and_comes_back(self) -> None:
        with running(VERSITY) as server:
            place = Place.on(server, server.new_bucket())
            memory = place.memory("agent", patience=1)
            memory.write("e", "k", 1)
            server.kill()
            while not memory.metrics.outages:
                with pytest.raises(BackendUnavailableError):
                    memory.read("e", "k")
            sent = sum(memory.metrics.requests.values())
            with pytest.raises(CircuitOpenError):
                memory.write("e", "k", 2)
            assert sum(memory.metrics.requests.values()) == sent

            server.start()
            deadline = time.monotonic() + 60
            answered = threading.Event()
            while not answered.is_set() and time.monotonic() < deadline:
                try:
                    memory.write("e", "k", 2)
                    answered.set()
                except CircuitOpenError as error:
                    answered.wait(error.retry_after)  # what a caller should do

            assert [entry.value for entry in memory.history("e", "k")] == [1, 2]
            assert memory.metrics.outages == 1
