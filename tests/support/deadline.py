"""A pytest plugin: every test ends in time, or fails and shows where it waits.

Only in the processes of `make pytest`, where nobody would see which test waits for itself. The
thread here is not the alarm that tests set themselves, and not that of `faulthandler`, whose end a
forked child would wait for.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from types import FrameType

import pytest

SECONDS = float(os.environ.get("TEST_DEADLINE", "900"))
"""On a slow machine the slowest test takes a tenth of that."""

_LAST = 60.0
"""Seconds for a test that was interrupted to end; then its process does."""


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):  # a process of pytest-xdist
        config.pluginmanager.register(_Deadline())


class _Deadline:
    def __init__(self) -> None:
        self._tests: SimpleQueue[str | None] = SimpleQueue()  # None: it has ended
        signal.signal(signal.SIGUSR2, _interrupt)
        threading.Thread(target=self._watch, daemon=True, name="deadline").start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._tests.put(item.nodeid)
        try:
            return (yield)
        finally:
            self._tests.put(None)

    def _watch(self) -> None:
        main = threading.main_thread().ident
        assert main is not None
        while True:
            test = self._tests.get()
            try:
                self._tests.get(timeout=SECONDS)
                continue
            except Empty:
                signal.pthread_kill(main, signal.SIGUSR2)
            try:
                self._tests.get(timeout=_LAST)
            except Empty:
                print(f"{test} cannot be interrupted", file=sys.__stderr__, flush=True)
                os._exit(1)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"the test has not ended after {SECONDS:.0f} s")
