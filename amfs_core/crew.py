"""A crew of threads that share the work of a call, and do without threads where there can be none.

`ThreadPoolExecutor` is not used: its locks are not re-entrant, so a signal handler that hands out
work while the main thread does so waits for itself, and it refuses all work once the interpreter
has begun to end. Here the calling thread does its part of the work, and all of it if need be.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import TypeVar

from amfs_core import fork

A = TypeVar("A")
T = TypeVar("T")


class Crew:
    """Does the work of calls in up to `most` threads, the callers' own not counted.

    Takes no lock: a deque gives out the right to start a thread in one step, and answers come
    through a `SimpleQueue`, which is re-entrant. So a signal handler may use it at any moment.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self.after_fork()
        fork.register(self)

    def after_fork(self) -> None:
        """Have no thread at work in a forked child."""
        self._free: deque[None] = deque((None,) * self._most)

    def each(self, work: Callable[[A], T], items: Iterable[A]) -> list[T]:
        """Return `work(item)` for every item, in the items' order.

        After a failure no more items are begun; those under way are waited for, and the first
        failure by the items' order is raised. An interrupt of the caller waits for nothing.
        """
        todo = deque(enumerate(items))
        total = len(todo)
        results: dict[int, T] = {}
        errors: dict[int, BaseException] = {}
        ended: SimpleQueue[None] = SimpleQueue()

        def take() -> None:
            while True:
                try:
                    index, item = todo.popleft()
                except IndexError:
                    return
                try:
                    results[index] = work(item)
                except BaseException as error:
                    errors[index] = error
                    todo.clear()

        threads = 0
        try:
            while threads < total - 1 and todo and self._start(take, ended):
                threads += 1
            take()
            for error in tuple(errors.values()):
                if not isinstance(error, Exception):
                    raise error
            for _ in range(threads):
                ended.get()
        finally:
            todo.clear()
        if errors:
            raise errors[min(errors)]
        return [results[index] for index in range(total)]

    def begin(self, work: Callable[[], T]) -> Callable[[], T]:
        """Begin some work, and return a function that waits for it and gives its result. Where no
        thread can be had the work is done when the result is asked for."""
        outcome: list[tuple[T | None, BaseException | None]] = []
        ended: SimpleQueue[None] = SimpleQueue()

        def run() -> None:
            try:
                outcome.append((work(), None))
            except BaseException as error:
                outcome.append((None, error))

        started = self._start(run, ended)

        def result() -> T:
            if started:
                ended.get()
            else:
                run()
            value, error = outcome[0]
            if error is not None:
                raise error
            return value  # type: ignore[return-value]

        return result

    def _start(self, run: Callable[[], None], ended: SimpleQueue[None]) -> bool:
        """Run something in a thread, and then put to `ended`; False when no thread can be had."""
        free = self._free  # after a fork there is another
        try:
            free.pop()
        except IndexError:
            return False

        def in_thread() -> None:
            try:
                run()
            finally:
                free.append(None)
                ended.put(None)

        try:
            threading.Thread(target=in_thread, name=self._name, daemon=False).start()
        except RuntimeError:  # the interpreter ends, or the system gives no more threads
            free.append(None)
            return False
        return True
