"""What signals do to an adapter at whatever moment they come: handlers, forks, interrupts.

Each function here makes a claim about any adapter with `create_many`; the caller looks at what only
its kind of store has.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import itertools
import os
import random
import signal
import threading
import warnings
from collections.abc import Callable, Iterator

from amfs_core.storage import StorageAdapter
from amfs_core.testing.cases import keys


class Interrupted(BaseException):
    """What a handler of Ctrl-C would raise."""


def forked(work: Callable[[], object]) -> int:
    """Fork a child that does the work and exits with 0; return its process id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return child
    try:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.dump_traceback_later(30, exit=True)  # a hang says where it is
        work()
        os._exit(0)
    except BaseException as error:
        os.write(2, f"{error!r}\n".encode())
    finally:
        os._exit(1)


@contextlib.contextmanager
def alarms(
    handler: Callable[[], object], first: float, later: float | None = None
) -> Iterator[None]:
    """Have the handler called after `first` seconds, and again and again, each time `later` seconds
    (by default as long) after it ended: not before, or a slow one would pile up."""
    pause = first if later is None else later
    is_over = False

    def handle(signum: int, frame: object) -> None:
        handler()
        if not is_over:
            signal.setitimer(signal.ITIMER_REAL, pause)

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, first)
    try:
        yield
    finally:
        is_over = True  # first: an alarm that came by now is handled after any of these calls
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def within(seconds: float) -> contextlib.AbstractContextManager[None]:
    """Fail in what takes longer than so many seconds, wherever it waits."""

    def end() -> None:
        raise TimeoutError(f"not ended after {seconds:.0f} s")

    return alarms(end, seconds)


def handlers_use(adapter: StorageAdapter, times: int) -> None:
    """A handler uses the store while the main thread does, so many times: nothing fails."""
    handled = itertools.count()
    failures: list[BaseException] = []
    done = 0

    def use() -> None:
        nonlocal done
        own = next(handled)
        try:
            assert adapter.create(f"h/{own}.json", bytes(100)) is True
            assert adapter.get(f"h/{own}.json") == bytes(100)
            many = {f"i/{own}-{number}.json": b"one" for number in range(3)}
            assert len(adapter.create_many(many)) == 3
            done += 1
        except BaseException as error:
            failures.append(error)

    made = 0
    with alarms(use, 0.004):
        while done < times:
            made += 1
            _write(adapter, made)
            adapter.replace(f"m/{made}.json", b"two")
            list(adapter.list("m/", f"m/{made - 1}.json"))
    assert not failures
    assert len(keys(adapter, "h/")) * 3 == len(keys(adapter, "i/")) >= 3 * times
    assert len(keys(adapter, "n/")) == made * 20


def handlers_fork(
    adapter: StorageAdapter, times: int, pause: float, child: Callable[[int], object]
) -> tuple[int, set[str]]:
    """A handler forks so many times, while the main thread and three others use the store, which
    the main thread closes now and then: every child does its work. Return how many there were, and
    the keys that this process was told of."""
    children: dict[int, int] = {}
    written: list[str] = []
    is_over = False

    def fork() -> None:
        number = len(children)
        children[number] = 0
        children[number] = forked(lambda: child(number))

    def work(own: int) -> None:
        for number in itertools.count():
            if is_over:
                return
            key = f"t/{own}/{number}.json"
            assert adapter.create(key, bytes(100)) is True
            written.append(key)
            assert adapter.get(key) is not None

    threads = [threading.Thread(target=work, args=(own,)) for own in range(3)]
    for thread in threads:
        thread.start()
    try:
        with alarms(fork, 0.01, pause):
            number = 0
            while len(children) < times:
                number += 1
                written.extend(_write(adapter, number))
                if number % 10 == 0:
                    adapter.close()
    finally:
        is_over = True
        for thread in threads:
            thread.join()
    assert [os.waitpid(child, 0)[1] for child in children.values()] == [0] * len(children)
    return len(children), set(written)


def interrupts(
    adapter: StorageAdapter, times: int, delay: tuple[float, float], look: Callable[[], object]
) -> BaseException:
    """A handler raises so many times, each so many seconds after work began; `look` is called after
    each, while the frames that were interrupted still live. Return the last interrupt, with them.
    """
    dice = random.Random(7)
    is_armed = False

    def interrupt(signum: int, frame: object) -> None:
        if is_armed:
            raise Interrupted

    def work() -> None:
        for number in itertools.count():
            adapter.create(f"m/{os.urandom(8).hex()}.json", bytes(200))
            adapter.create_many({f"n/{os.urandom(8).hex()}.json": b"z" for _ in range(20)})
            adapter.replace("a.json", str(number).encode())
            list(adapter.list("m/"))

    adapter.create("a.json", b"one")
    # Hypothesis times the garbage collector in a callback, in which an exception is lost.
    callbacks, gc.callbacks[:] = gc.callbacks[:], []
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(times):
            try:
                is_armed = True
                # Again, should it be lost in a finalizer, where exceptions are ignored.
                signal.setitimer(signal.ITIMER_REAL, dice.uniform(*delay), 0.2)
                work()
            except Interrupted as error:
                is_armed = False
                kept = error  # and so are the frames
            look()
            assert kept.__traceback__ is not None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.callbacks[:] = callbacks
    return kept


def _write(adapter: StorageAdapter, number: int) -> list[str]:
    """Write one object and a batch, and return their keys."""
    assert adapter.create(f"m/{number}.json", bytes(200)) is True
    many = {f"n/{number}-{n}.json": bytes(50) for n in range(20)}
    assert len(adapter.create_many(many)) == 20
    return [f"m/{number}.json", *many]
