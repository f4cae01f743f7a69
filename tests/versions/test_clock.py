"""The writer's clock never goes back, whatever the time of day does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amfs_core.versions import Clock
from amfs_core.versions import clock as clock_module


@given(st.lists(st.integers(-(10**7), 10**7), min_size=1, max_size=30))  # 5 minutes in all
def test_it_goes_on_while_the_time_of_day_goes_back_or_stands_still(steps: list[int]) -> None:
    wall = datetime(2026, 1, 1, tzinfo=UTC)

    class Day(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return wall

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock_module, "datetime", Day)
        clock, seen, latest = Clock(), [], wall
        for step in steps:
            wall += timedelta(microseconds=step)
            latest = max(latest, wall)
            seen.append(clock.now())
            assert seen[-1] >= wall
            assert seen[-1] <= latest + timedelta(microseconds=len(seen))  # not ahead for long
    assert all(time < next_one for time, next_one in pairwise(seen))


def test_a_clock_that_was_years_ahead_and_is_set_right_is_followed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    clock._last = datetime.now(UTC) + timedelta(days=1000)
    first, second = clock.now(), clock.now()
    assert first < second < datetime.now(UTC) + timedelta(minutes=1)
    assert len(caplog.messages) == 1 and "was set back from" in caplog.messages[0]


@pytest.mark.usefixtures("eager_threads")
def test_no_two_threads_get_the_same_time() -> None:
    clock = Clock()
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(lambda _: [clock.now() for _ in range(3_000)], range(8)))
    assert all(time < next_one for times in seen for time, next_one in pairwise(times))
    assert len({time for times in seen for time in times}) == 8 * 3_000
    assert clock.now() > max(times[-1] for times in seen)
