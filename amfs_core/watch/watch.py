"""Watching: every new version of every memory, each once, in order for each memory, none missed.

A watch polls: one listing says which versions are new (`feed`). A doorbell, where the store has
one, only makes the next poll come sooner. `docs/design/watch.md` says why.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from amfs_core import arguments, fork
from amfs_core.errors import InvalidValueError
from amfs_core.flag import Flag
from amfs_core.format import Address, MemoryEntry
from amfs_core.versions import VersionLog
from amfs_core.watch.feed import Feed
from amfs_core.watch.poller import Poller

Callback = Callable[[MemoryEntry], object]

DEFAULT_INTERVAL = 5.0
"""Seconds between two polls where no doorbell rings."""

_END_SECONDS = 0.5

_log = logging.getLogger("amfs")
_open: weakref.WeakSet[Watch] = weakref.WeakSet()


class Watch:
    """The new versions of every memory under an entity path, as they come.

    Iterate it, with `for` or `async for`, to get entries, or give it a callback, which is called
    for each in one background thread. It follows writes of every process, including tombstones and
    erased versions. Each version comes once; versions of one memory come in order, and those of
    different memories by `written_at`, as far as one poll can tell. It is a context manager, also
    an async one.

    A poll costs 1 request per 1,000 objects under the path and 1 for each new version that this
    process has not seen. It comes every `interval` seconds (give or take a fifth, so that many
    watches do not ask in step), and at once when the store's doorbell rings.

    While the store is not available a watch waits longer and longer, up to 60 s, and misses
    nothing. The iteration raises a failure that waiting does not cure (`PermissionDeniedError`,
    `BucketNotFoundError`, `ConfigurationError`); iterating again tries again. With a callback the
    failure is logged (logger "amfs") and tried again in the same way. `error` has it in both cases.
    If a callback raises an `Exception`, that is logged and the watch goes on. `SystemExit`, or
    anything else that is not an `Exception`, ends the watch: it is logged, stays in `error`, and
    its entry does not count as delivered.

    A damaged version is logged once. Its memory waits for it, and each poll tries it again; all
    other memories go on.
    """

    def __init__(
        self,
        versions: VersionLog,
        entity_path: str | None = None,
        callback: Callback | None = None,
        *,
        interval: float | None = None,
        since: str | None = None,
    ) -> None:
        if callback is not None:
            arguments.function(callback, "callback")
        seconds = _checked_interval(interval)
        self._callback = callback
        self._feed = Feed(versions, entity_path, _checked_since(since))
        self._poller = Poller(
            self._feed,
            versions.store,
            seconds,
            listed=since is None,
            tolerant=callback is not None,
        )
        self._thread: threading.Thread | None = None
        fork.register(self)
        _open.add(self)
        if callback is not None:
            self._thread = _in_background(self._run)

    def after_fork(self) -> None:
        """Have no thread in a forked child: iterating works there, with its own doorbell, and a
        watch with a callback is over."""
        self._thread = None
        self._poller.after_fork(over=self._callback is not None)

    # -- what users ask ----------------------------------------------------------------------

    @property
    def cursor(self) -> str:
        """What was delivered so far, as text: `since=` continues from there, in any process.

        An entry counts as delivered once the iteration has returned it (so in the body of a loop
        the cursor includes the loop's entry), or once the callback has returned or raised (so in
        the callback the cursor is still before its entry). About 4 characters for each memory
        under the path; making it takes about 2 ms per 1,000 memories. No request.
        """
        return self._feed.cursor

    @property
    def is_current(self) -> bool:
        """Whether everything that the newest poll found was delivered. No request."""
        return self._feed.is_current

    def delivered(self) -> dict[Address, int]:
        """Return the newest version of each memory that was delivered so far: the cursor's content,
        as a dict. No request."""
        return self._feed.delivered()

    def take(self) -> list[MemoryEntry]:
        """Return the entries that are ready, up to 1,000; if there are none, wait for the next poll
        and return what it brought, which may be nothing.

        For callers that pass entries on in batches. Costs and raises what iterating does.
        """
        self._refuse_with_callback()
        if self._feed.first() is None:
            self._poller.fill(Flag(), once=True)
        taken: list[MemoryEntry] = []
        while not self._poller.over.is_set() and (entry := self._feed.deliver()) is not None:
            taken.append(entry)
        return taken

    @property
    def error(self) -> BaseException | None:
        """Why the last poll failed, or what ended the watch; None when neither happened."""
        return self._poller.error

    def cancel(self) -> None:
        """End the watch: iterations stop, and no callback begins any more.

        Returns at once, or after up to a second when a callback or a request is under way; the
        background thread ends with that. Cancelling twice is fine.
        """
        self._poller.end()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_END_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await _in_thread(self.cancel)

    def __iter__(self) -> Iterator[MemoryEntry]:
        return self

    def __next__(self) -> MemoryEntry:
        self._refuse_with_callback()
        while not self._poller.over.is_set():
            entry = self._feed.deliver()
            if entry is not None:
                return entry
            self._poller.fill(Flag())
        raise StopIteration

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> MemoryEntry:
        self._refuse_with_callback()
        while not self._poller.over.is_set():
            # Taken here and not in the thread: if this task is cancelled, nothing has been taken.
            entry = self._feed.deliver()
            if entry is not None:
                return entry
            abandoned = Flag()
            try:
                await _in_thread(lambda abandoned=abandoned: self._poller.fill(abandoned))  # type: ignore[misc]
            except BaseException:  # cancelled, most likely: the thread is not to wait on
                abandoned.set()
                _in_background(self._poller.drop_bell)
                raise
        raise StopAsyncIteration

    # -- the callback ------------------------------------------------------------------------

    def _run(self) -> None:
        callback = self._callback
        assert callback is not None
        try:
            while not self._poller.over.is_set():
                self._poller.fill(self._poller.over)
                entry = self._feed.first()
                if entry is None or self._poller.over.is_set():
                    continue
                try:
                    callback(entry)
                except Exception:
                    _log.exception(
                        "the callback of a watch raised for version %d of %s/%s",
                        entry.version,
                        entry.entity_path,
                        entry.key,
                    )
                self._feed.deliver()
        except BaseException as error:
            # Nobody waits for this thread, and `threading` says nothing about a SystemExit.
            self._poller.error = error
            _log.critical("a watch with a callback ended: %r", error, exc_info=True)
        finally:
            self._poller.end()

    def _refuse_with_callback(self) -> None:
        if self._callback is not None:
            raise InvalidValueError(
                "this watch calls its callback",
                hint="to iterate, make a watch without one",
            )


async def _in_thread(work: Callable[[], None]) -> None:
    """Do `work` in a thread of its own: a watch would keep one of the loop's few threads from other
    work for as long as it waits."""
    import asyncio  # slow to import, and not needed to iterate with `for`

    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if done.done():  # cancelled
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        error: BaseException | None = None
        try:
            work()
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, error)

    _in_background(run)
    await done


def _in_background(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, name="amfs-watch", daemon=True)
    thread.start()
    return thread


def _checked_interval(interval: float | None) -> float:
    if interval is None:
        return DEFAULT_INTERVAL
    seconds = arguments.seconds(interval, "interval")
    if seconds == 0:
        raise InvalidValueError("interval must be more than 0 seconds")
    return seconds


def _checked_since(since: object) -> str | None:
    if since is None or type(since) is str:
        return since
    raise InvalidValueError(
        f'since must be a cursor, "beginning" or None, not {type(since).__name__}'
    )


@atexit.register
def _cancel_all() -> None:
    """End all threads in order, before the interpreter takes away what they use."""
    for watch in list(_open):
        watch.cancel()
