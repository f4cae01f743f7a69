"""Work at the same time, in threads that live as long as the call that wants it.

The pools of `concurrent.futures` guard their state with locks that a signal handler may come back
to: a handler that uses the memory while the main thread is handing out work would wait forever.
They also refuse work once the interpreter has begun to end, although saving at exit is what
programs do.
Here work passes through `queue.SimpleQueue`, which may be used from a signal handler. Where no
thread can be started, or a handler came in the middle of a change that threads would have to wait
for, the calling thread does the work.
"""

from __future__ import annotations

import _thread
import contextvars
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, repeat
from queue import SimpleQueue
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

A = TypeVar("A")
B = TypeVar("B")


class Done(Generic[A, B]):
    """An item and its result: `result` returns what the work returned, or raises its error."""

    __slots__ = ("_error", "_value", "index", "item")

    def __init__(self, index: int, item: A) -> None:
        self.index = index
        self.item = item
        self._value: B | None = None
        self._error: BaseException | None = None

    def result(self) -> B:
        """Return what the work returned for the item; raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def do(self, work: Callable[[A], B]) -> None:
        """Do the work for the item, and keep the result."""
        try:
            self._value = work(self.item)
        except BaseException as error:
            self._error = error


def each(work: Callable[[A], B], items: Iterable[A], threads: int) -> Iterator[Done[A, B]]:
    """Yield items with the result of `work(item)`, in their order, up to `threads` at a time.

    Items are taken as they are needed: at most twice as many as there are threads are waiting or
    done. If the caller stops iterating, work under way is finished and no more is begun.
    """
    remaining = enumerate(items)
    waiting: SimpleQueue[Done[A, B] | None] = SimpleQueue()
    done: SimpleQueue[Done[A, B]] = SimpleQueue()
    early: dict[int, Done[A, B]] = {}  # done before one that comes first
    is_over = False

    def serve() -> None:
        while (task := waiting.get()) is not None and not is_over:
            task.do(work)
            done.put(task)

    begun = task_count = yielded = 0
    try:
        for index, item in islice(remaining, 2 * threads):
            waiting.put(Done(index, item))
            task_count += 1
            if begun < threads and _can_start(serve):
                begun += 1
        while yielded < task_count:
            while yielded not in early:
                if begun:
                    task = done.get()
                else:  # no thread could be started
                    task = waiting.get_nowait()  # type: ignore[assignment]
                    task.do(work)
                early[task.index] = task
            task = early.pop(yielded)
            yielded += 1
            yield task
            for index, item in islice(remaining, 1):
                waiting.put(Done(index, item))
                task_count += 1
    finally:
        is_over = True
        for _ in range(begun):
            waiting.put(None)


def mapped(work: Callable[[A], B], items: Iterable[A], threads: int) -> list[B]:
    """Return `work(item)` for every item, in their order, up to `threads` at a time.

    All are done, even if some fail; then the first error is raised, if there was one.
    """
    return [task.result() for task in list(each(work, items, threads))]


def until_failure(
    work: Callable[[A], B], items: Iterable[A], threads: int, failures: type[Exception]
) -> Iterator[Done[A, B]]:
    """Yield what was done without an error, until one of these `failures` comes: then no more items
    are taken, what is under way is yielded all the same, and the first failure is raised at the
    end. Any other error is raised at once."""
    failure: Exception | None = None

    def wanted() -> Iterator[A]:
        for item in items:
            if failure is not None:
                return
            yield item

    for done in each(work, wanted(), threads):
        try:
            done.result()
        except failures as error:
            failure = failure or error
        else:
            yield done
    if failure is not None:
        raise failure


def beside(aside: Callable[[], object], work: Callable[[], B]) -> B:
    """Return `work()`, done here, while a thread does `aside()`. What `aside` raises comes first,
    whatever became of the work; an interrupt of the work waits for nothing."""
    both: SimpleQueue[Done[None, object]] = SimpleQueue()

    def serve() -> None:
        task: Done[None, object] = Done(0, None)
        task.do(lambda _: aside())
        both.put(task)

    if not _can_start(serve):
        aside()
        return work()
    try:
        result = work()
    except Exception:
        both.get().result()
        raise
    both.get().result()
    return result


def ahead(items: Iterator[A]) -> Iterator[A]:
    """Yield the items of an iterator, each fetched while the caller is busy with the one before."""

    def fetch(_: None) -> list[A]:
        return list(islice(items, 1))

    for task in each(fetch, repeat(None), 1):  # one thread: an iterator is not for two
        fetched = task.result()
        if not fetched:
            return
        yield fetched[0]


def new_lock() -> threading.RLock:
    """Return a re-entrant lock for what is changed by threads that somebody waits for.

    A signal handler that comes while its thread has the lock gets it again. Threads that the
    handler starts do not, and while it waits for them nobody lets go of the lock. So none are
    started where the main thread, in which Python calls handlers, has such a lock
    (`docs/design/signals.md`).
    """
    lock = threading.RLock()
    _locks[id(lock)] = lock
    return lock


_locks: WeakValueDictionary[int, threading.RLock] = WeakValueDictionary()


def _can_start(serve: Callable[[], None]) -> bool:
    if threading.get_ident() == threading.main_thread().ident and _has_a_lock():
        return False
    # Not `threading.Thread`: its own locks are of the kind that this module does without.
    try:
        # The caller's context, such as a trace, holds for the work too.
        _thread.start_new_thread(contextvars.copy_context().run, (serve,))
    except RuntimeError:  # the interpreter ends, or the system has no more threads
        return False
    return True


def _has_a_lock() -> bool:
    locks = (reference() for reference in _locks.valuerefs())
    # `threading.Condition` asks so too; there is no documented way.
    return any(lock._is_owned() for lock in locks if lock is not None)  # type: ignore[attr-defined]
