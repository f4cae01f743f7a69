"""`StorageAdapterCases`: the storage contract as pytest cases, for the author of an adapter.

Subclass it in a test file and override the fixture `adapter`; pytest does the rest.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from typing import ClassVar, TypeVar

import pytest

from amfs_core.format import MAX_OBJECT_KEY_BYTES, MAX_PREFIX_BYTES, Layout
from amfs_core.storage import StorageAdapter, adopted

T = TypeVar("T")

DEADLINE = 60.0
"""Seconds after which a forked child or a thread counts as hanging."""

# Their order differs between bytes, UTF-16 units, whole segments and a directory walk.
TRICKY_ORDER = (
    "order/-.json",
    "order/A.json",
    "order/a b.json",
    "order/a-b.json",
    "order/a.json",
    "order/a/b-c/x.json",
    "order/a/b.json",
    "order/a/b/c.json",
    "order/a/b0.json",
    "order/a0.json",
    "order/a0/b.json",
    "order/ab.json",
    "order/v1.json",
    "order/v10.json",
    "order/v2.json",
    "order/~.json",
    "order/é.json",
    "order/ÿ/x.json",
    "order/漢字.json",
    "order/\ue000.json",  # the last private character of 16 bits is before …
    "order/\uffee.json",
    "order/😀.json",  # … this one in UTF-8, and after it in UTF-16
    "order/😀/x.json",
)

# The layout makes such segments, so every store must keep them exactly.
AWKWARD_SEGMENTS = (
    "inside spaces  two",
    "~tilde",
    "-dash",
    "--",
    "_",
    "+plus+",
    "a+b=c,d@e",
    "@",
    "=",
    ",",
    "%25",
    "%2F",
    "%2E",
    "%2E%2E",
    "%00",
    "a%20b",
    "(paren)[bracket]{brace}",
    "semi;colon&amp;'quote'`tick`",
    "$HOME!#^",
    "Ünïcödé",
    "é",  # composed …
    "e\u0301",  # … and decomposed: two different keys
    "case",
    "Case",
    "CASE",
    "Straße",
    "ΣΊΣΥΦΟΣ",
    "İstanbul",
    "עברית",
    "\u202ertl",
    "नमस्ते",
    "漢字",
    "🧠",
    "👩‍👩‍👧‍👦",
    "\u00a0",
    "\u200b",
    "\ufeff",
    "CON",
    "nul.txt",
    "index.html",
    "x.json",
    "null",
)


class StorageAdapterCases:
    """The contract of `amfs_core.storage.StorageAdapter`, one claim per case.

        class TestMyAdapter(StorageAdapterCases):
            @pytest.fixture
            def adapter(self):
                return MyAdapter(...)

    The fixture returns an adapter for an empty store, a new one for every case.
    """

    rings: ClassVar[bool] = False
    """Whether a doorbell of this store certainly rings for every create. Set it to True where it
    does."""

    @pytest.fixture
    def adapter(self) -> Iterator[StorageAdapter] | StorageAdapter:
        """Override this: an adapter over an empty store."""
        raise NotImplementedError("override the fixture `adapter` of StorageAdapterCases")

    # -- creating ----------------------------------------------------------------------------

    def test_it_says_how_configuration_names_it(self, adapter: StorageAdapter) -> None:
        """`backend_type` is a name."""
        assert isinstance(adapter.backend_type, str)
        assert adapter.backend_type

    def test_it_does_what_it_declares(self, adapter: StorageAdapter) -> None:
        """The store does nothing optional that `capabilities` does not declare."""
        store = adopted(adapter)
        declared = store.capabilities
        assert (store.changes() is not None) == declared.changes
        if not declared.location:
            assert store.location is None
        if not declared.checks:
            assert not list(store.checks())
        if not declared.batch:
            assert not store.create_many({"together/a.json": b"one"})
            assert store.get("together/a.json") is None
        if not declared.doorbell:
            assert store.doorbell("") is None

    def test_create_makes_an_object_that_get_returns(self, adapter: StorageAdapter) -> None:
        """A created object is there at once, complete."""
        assert adapter.create("a/b.json", b"one") is True
        assert adapter.get("a/b.json") == b"one"

    def test_create_is_refused_where_there_is_an_object(self, adapter: StorageAdapter) -> None:
        """The second create returns False and changes nothing."""
        assert adapter.create("a/b.json", b"one") is True
        assert adapter.create("a/b.json", b"two") is False
        assert adapter.create("a/b.json", b"one") is False
        assert adapter.get("a/b.json") == b"one"

    def test_create_is_refused_where_replace_put_an_object(self, adapter: StorageAdapter) -> None:
        """It makes no difference how the object was made."""
        adapter.replace("a/b.json", b"one")
        assert adapter.create("a/b.json", b"two") is False
        assert adapter.get("a/b.json") == b"one"

    def test_of_sixteen_creates_at_once_exactly_one_wins(self, adapter: StorageAdapter) -> None:
        """Only the winner's bytes are kept."""
        for round_ in range(10):
            key = f"race/{round_}.json"
            bodies = [f"writer {number} of {key}".encode() * 50 for number in range(16)]

            def create(body: bytes, key: str = key) -> bool:
                # False may also mean "a conflict, and nothing landed": then the writer tries again.
                while not (created := adapter.create(key, body)) and adapter.get(key) is None:
                    pass
                return created

            won = together([lambda body=body: create(body) for body in bodies])  # type: ignore[misc]
            assert won.count(True) == 1
            assert adapter.get(key) == bodies[won.index(True)]

    def test_a_created_object_is_seen_by_every_thread(self, adapter: StorageAdapter) -> None:
        """A create that has returned is visible to all later reads."""
        adapter.create("a/b.json", b"one")
        assert together([lambda: adapter.get("a/b.json")] * 8) == [b"one"] * 8

    # -- bodies ------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"", id="empty"),
            pytest.param(bytes(range(256)), id="every-byte"),
            pytest.param(b"\r\n\n\r\x00\x1a", id="line-ends"),
            pytest.param(b"\xff\xfe\xfd", id="not-utf-8"),
            pytest.param(b"0123456789abcdef" * 65536, id="1-MiB"),
            pytest.param(os.urandom(1024 * 1024 + 1), id="1-MiB-random"),
        ],
    )
    def test_bodies_come_back_byte_for_byte(self, adapter: StorageAdapter, body: bytes) -> None:
        """Nothing is added, cut, decoded or compressed visibly."""
        adapter.create("body.json", body)
        assert adapter.get("body.json") == body
        assert dict(adapter.get_many(["body.json"])) == {"body.json": body}
        assert [info.size for info in adapter.list("")] == [len(body)]

    def test_objects_that_are_created_together_are_created_each(
        self, adapter: StorageAdapter
    ) -> None:
        """All objects whose key is free, none of the others, and no object for two callers."""
        batching = adopted(adapter)
        if not batching.capabilities.batch:
            pytest.skip("this store does not create objects together: it is optional")
        assert list(batching.create_many({})) == []
        adapter.create("many/k7/v1.json", b"taken")
        bodies = {f"many/k{number}/v1.json": f"body {number}".encode() for number in range(600)}
        created = batching.create_many(bodies)
        assert sorted(created) == sorted(bodies.keys() - {"many/k7/v1.json"})
        assert dict(adapter.get_many(bodies)) == {**bodies, "many/k7/v1.json": b"taken"}
        assert list(batching.create_many(bodies)) == []

        def race(mine: int) -> list[str]:
            wanted = {f"race/k{number}/v1.json": b"%d" % mine for number in range(200)}
            return list(batching.create_many(wanted))

        with ThreadPoolExecutor(4) as threads:
            won = [key for keys in threads.map(race, range(4)) for key in keys]
        assert len(won) == len(set(won)) == 200

    # -- getting -----------------------------------------------------------------------------

    def test_get_of_what_is_not_there_is_none(self, adapter: StorageAdapter) -> None:
        """In an empty store, beside an object, and below a missing directory."""
        assert adapter.get("a/b.json") is None
        adapter.create("a/b.json", b"one")
        assert adapter.get("a/c.json") is None
        assert adapter.get("b/c/d.json") is None

    def test_get_many_gives_every_key_once_and_none_for_absent(
        self, adapter: StorageAdapter
    ) -> None:
        """Whatever the order, each key has its own bytes."""
        bodies = {f"many/{number}.json": f"body {number}".encode() for number in range(60)}
        for key, body in bodies.items():
            adapter.create(key, body)
        absent = {f"many/absent-{number}.json": None for number in range(10)}
        wanted = [*absent, *bodies]
        pairs = list(adapter.get_many(iter(wanted)))
        assert sorted(key for key, _ in pairs) == sorted(wanted)
        assert dict(pairs) == {**bodies, **absent}
        assert list(adapter.get_many([])) == []

    # -- listing -----------------------------------------------------------------------------

    def test_an_empty_store_lists_nothing(self, adapter: StorageAdapter) -> None:
        """No object, no error."""
        assert list(adapter.list("")) == []
        assert list(adapter.list("a/b/")) == []

    def test_list_is_in_the_byte_order_of_keys(self, adapter: StorageAdapter) -> None:
        """The order of whole keys in UTF-8: neither by segment, nor by locale, nor by UTF-16
        unit."""
        for key in reversed(TRICKY_ORDER):
            adapter.create(key, key.encode())
        in_order = sorted(TRICKY_ORDER, key=str.encode)
        assert keys(adapter, "") == in_order
        assert keys(adapter, "order/") == in_order

    def test_list_starts_after_any_key(self, adapter: StorageAdapter) -> None:
        """`start_after` is exclusive and need not exist."""
        for key in TRICKY_ORDER:
            adapter.create(key, b"")
        in_order = sorted(TRICKY_ORDER, key=str.encode)
        for after in [*in_order, "order/a/", "order/a/b", "order/a/b/", "order/v", "z", "0"]:
            rest = [key for key in in_order if key.encode() > after.encode()]
            assert keys(adapter, "", after) == rest, after
            assert keys(adapter, "order/", after) == rest, after

    def test_a_prefix_is_of_whole_segments(self, adapter: StorageAdapter) -> None:
        """`a/` does not list `ab/…` nor `a.json`; a deeper prefix gives what is below it."""
        for key in TRICKY_ORDER:
            adapter.create(key, b"")
        for prefix in ("order/a/", "order/a/b/", "order/a0/", "order/😀/", "order/b/", "ord/"):
            expected = sorted(TRICKY_ORDER, key=str.encode)
            assert keys(adapter, prefix) == [key for key in expected if key.startswith(prefix)]
            after = f"{prefix}b.json"
            assert keys(adapter, prefix, after) == [
                key for key in expected if key.startswith(prefix) and key.encode() > after.encode()
            ]

    def test_list_tells_sizes_and_times(self, adapter: StorageAdapter) -> None:
        """`size` is of the body; `modified` is an aware time near the store's clock."""
        adapter.create("a/b.json", b"12345")
        (info,) = adapter.list("a/")
        assert (info.key, info.size) == ("a/b.json", 5)
        assert info.modified.tzinfo is not None
        assert abs(info.modified - datetime.now(UTC)) < timedelta(days=1)

    def test_list_gives_all_of_more_than_two_pages(self, adapter: StorageAdapter) -> None:
        """2,050 objects: nothing is cut at 1,000, doubled at a page's edge or out of order."""
        names = [f"pages/{number:05}.json" for number in range(2050)]
        with ThreadPoolExecutor(16) as threads:
            assert all(threads.map(lambda key: adapter.create(key, b"x"), names))
        assert keys(adapter, "pages/") == names
        assert keys(adapter, "pages/", names[999]) == names[1000:]
        assert keys(adapter, "pages/", names[1000]) == names[1001:]

        objects = iter(adapter.list("pages/"))
        seen = [next(objects).key]
        adapter.delete(names[0])  # already given
        adapter.create("pages/zzz.json", b"new")  # may or may not be given
        adapter.create("pages.json", b"outside")
        seen += [info.key for info in objects]
        assert [key for key in seen if key != "pages/zzz.json"] == names

    def test_a_listing_may_be_left_and_others_begun(self, adapter: StorageAdapter) -> None:
        """Listings under way do not disturb each other."""
        names = [f"left/{number}.json" for number in range(5)]
        for key in names:
            adapter.create(key, b"x")
        first, second = iter(adapter.list("left/")), iter(adapter.list("left/"))
        assert [next(first).key, next(second).key, next(first).key] == [
            names[0],
            names[0],
            names[1],
        ]
        del first
        assert [info.key for info in second] == names[1:]

    # -- replacing and deleting --------------------------------------------------------------

    def test_replace_writes_over_what_is_there_and_where_nothing_is(
        self, adapter: StorageAdapter
    ) -> None:
        """Also a longer body by a shorter one."""
        adapter.replace("new.json", b"made")
        adapter.create("old.json", b"a long body" * 100)
        adapter.replace("old.json", b"short")
        assert adapter.get("new.json") == b"made"
        assert adapter.get("old.json") == b"short"
        assert keys(adapter, "") == ["new.json", "old.json"]

    def test_a_reader_meets_the_old_or_the_new_body_never_a_mixture(
        self, adapter: StorageAdapter
    ) -> None:
        """`replace` is atomic."""
        bodies = [bytes([letter]) * 200_000 for letter in b"ab"]
        adapter.create("swap.json", bodies[0])
        done = threading.Event()

        def replace() -> bool:
            try:
                for number in range(20):
                    adapter.replace("swap.json", bodies[number % 2])
            finally:
                done.set()
            return True

        def read() -> bool:
            whole = True
            while not done.is_set() and whole:
                whole = adapter.get("swap.json") in bodies
            return whole

        assert together([replace, read, read]) == [True, True, True]

    def test_delete_removes_and_does_not_mind_absence(self, adapter: StorageAdapter) -> None:
        """After it the key is free; neighbours stay."""
        adapter.delete("a/b.json")
        adapter.create("a/b.json", b"one")
        adapter.create("a/c.json", b"two")
        adapter.delete("a/b.json")
        adapter.delete("a/b.json")
        assert adapter.get("a/b.json") is None
        assert keys(adapter, "") == ["a/c.json"]
        assert adapter.create("a/b.json", b"again") is True

    # -- keys --------------------------------------------------------------------------------

    @pytest.mark.parametrize("segment", AWKWARD_SEGMENTS, ids=ascii)
    def test_an_awkward_key_is_kept_exactly(self, adapter: StorageAdapter, segment: str) -> None:
        """As a file's and as a directory's name: listed and got as it was created."""
        for key in (f"awkward/{segment}", f"deep/{segment}/{segment}/v1.json"):
            assert adapter.create(key, key.encode()) is True
            assert adapter.get(key) == key.encode()
            assert keys(adapter, key.rpartition("/")[0] + "/") == [key]
            assert adapter.create(key, b"other") is False

    def test_awkward_keys_are_all_different(self, adapter: StorageAdapter) -> None:
        """Each is its own object: nothing folds case, normalises or unescapes."""
        wanted = {f"all/{segment}/v1.json" for segment in AWKWARD_SEGMENTS}
        for key in wanted:
            assert adapter.create(key, key.encode()) is True
        assert keys(adapter, "all/") == sorted(wanted, key=str.encode)
        assert dict(adapter.get_many(wanted)) == {key: key.encode() for key in wanted}

    @pytest.mark.parametrize("text", ["x" * 255, "é" * 127, "漢" * 85, "😀" * 63])
    def test_a_segment_of_255_bytes_is_kept(self, adapter: StorageAdapter, text: str) -> None:
        """The longest segment of the layout, as a file and as a directory."""
        for key in (f"long/{text}", f"deep/{text}/v1.json"):
            assert adapter.create(key, b"long") is True
            assert adapter.get(key) == b"long"
            assert keys(adapter, key.rpartition("/")[0] + "/") == [key]

    def test_the_longest_key_of_the_layout_is_kept(self, adapter: StorageAdapter) -> None:
        """An object key of 1,024 bytes, less the bytes reserved for the prefix."""
        address = Layout("n").address("/".join(["e" * 199] * 4), "k" * 69)
        key = address.object_key(9_999_999_999)
        assert len(key) == MAX_OBJECT_KEY_BYTES - MAX_PREFIX_BYTES
        assert adapter.create(key, b"deep") is True
        assert adapter.get(key) == b"deep"
        assert keys(adapter, "") == [key]

    # -- threads, forks, the end -------------------------------------------------------------

    def test_it_works_from_many_threads_at_once(self, adapter: StorageAdapter) -> None:
        """Sixteen threads create, get, list, replace and delete, each under its own prefix."""

        def work(name: str) -> list[str]:
            for number in range(10):
                key = f"threads/{name}/{number}.json"
                assert adapter.create(key, key.encode())
                assert adapter.get(key) == key.encode()
            adapter.replace(f"threads/{name}/0.json", b"replaced")
            adapter.delete(f"threads/{name}/1.json")
            assert adapter.get(f"threads/{name}/0.json") == b"replaced"
            return keys(adapter, f"threads/{name}/")

        names = [f"t{number:02}" for number in range(16)]
        listings = together([lambda name=name: work(name) for name in names])  # type: ignore[misc]
        left = [0, *range(2, 10)]
        assert listings == [[f"threads/{name}/{number}.json" for number in left] for name in names]
        assert len(keys(adapter, "threads/")) == 16 * 9

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
    def test_it_works_in_a_forked_child_and_on_in_the_parent(self, adapter: StorageAdapter) -> None:
        """An adapter used before a fork works after it, on both sides."""
        adapter.create("before.json", b"before")
        assert adapter.get("before.json") == b"before"
        in_forked_child(lambda: _use("child", adapter))
        _use("parent", adapter)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
    def test_it_works_in_a_child_forked_while_other_threads_use_it(
        self, adapter: StorageAdapter
    ) -> None:
        """No lock held by a thread of the parent stays held in the child."""
        adapter.create("before.json", b"before")
        done = threading.Event()

        def busy(name: str) -> bool:
            number = 0
            while not done.is_set():
                adapter.create(f"busy/{name}-{number}.json", b"x" * 1000)
                adapter.get(f"busy/{name}-{number}.json")
                number += 1
            return number > 0

        def fork_often() -> bool:
            try:
                for number in range(5):
                    in_forked_child(lambda number=number: _use(f"child-{number}", adapter))  # type: ignore[misc]
            finally:
                done.set()
            return True

        work = [lambda name=name: busy(name) for name in "abcd"]
        assert all(together([fork_often, *work], seconds=3 * DEADLINE))
        _use("parent", adapter)

    def test_a_change_log_names_what_was_created_since(self, adapter: StorageAdapter) -> None:
        """By `create` and by `create_many`; a position serves any number of questions."""
        log = adopted(adapter).changes()
        if log is None:
            pytest.skip("this store has no change log")
        adapter.create("log/before.json", b"one")
        position = log.position(make=True)
        assert position is not None
        answer = log.since(position)
        assert answer is not None
        adapter.create("log/a.json", b"one")
        assert not adapter.create("log/before.json", b"two")
        together = adopted(adapter)
        if together.capabilities.batch:
            together.create_many({"log/b/c.json": b"1", "log/é.json": b"2"})
        else:
            adapter.create("log/b/c.json", b"1")
            adapter.create("log/é.json", b"2")
        created = {"log/a.json", "log/b/c.json", "log/é.json"}
        for start in (position, answer[0]):
            later = log.since(start)
            assert later is not None
            assert created <= set(later[1])
            assert set(later[1]) <= {*created, "log/before.json"}
            last = log.since(later[0])
            assert last is not None
            assert not set(last[1])

    def test_a_change_log_misses_nothing_of_many_writers(self, adapter: StorageAdapter) -> None:
        """A reader that asks again and again gets every object as soon as it is there."""
        log = adopted(adapter).changes()
        if log is None:
            pytest.skip("this store has no change log")
        adapter.create("busy/first.json", b"one")
        position = log.position(make=True)
        assert position is not None
        acknowledged: list[str] = []

        def write(writer: int) -> None:
            for number in range(25):
                key = f"busy/{writer}/{number}.json"
                assert adapter.create(key, b"one")
                acknowledged.append(key)

        heard: set[str] = set()
        with ThreadPoolExecutor(8) as pool:
            writers = [pool.submit(write, number) for number in range(8)]
            is_over = False
            while not is_over:
                is_over = all(future.done() for future in writers)
                before = list(acknowledged)
                answer = log.since(position)
                assert answer is not None
                position, keys = answer
                heard.update(keys)
                assert heard.issuperset(before)
            for future in writers:
                future.result()
        assert len(heard) == 200

    def test_close_twice_is_fine(self, adapter: StorageAdapter) -> None:
        """After use, and without any."""
        adapter.create("a.json", b"one")
        adapter.close()
        adapter.close()

    def test_the_doorbell_waits_no_longer_than_it_is_told(self, adapter: StorageAdapter) -> None:
        """It is None, or a doorbell that can be waited for and closed: `close` ends a wait."""
        doorbell = adapter.doorbell("bell/")
        if doorbell is None:
            return
        started = time.monotonic()
        assert doorbell.wait(0.01) in (True, False)
        while doorbell.wait(0.2):  # it may ring when it begins to listen
            assert time.monotonic() - started < DEADLINE, "it rings though nothing changes"

        def wait() -> bool:
            while doorbell.wait(2 * DEADLINE):
                pass
            return True

        def close() -> bool:
            doorbell.close()
            doorbell.close()
            return True

        assert together([wait, close]) == [True, True]

    def test_the_doorbell_rings_for_a_creation_under_its_prefix(
        self, adapter: StorageAdapter
    ) -> None:
        """Where the store says so itself, with `rings`; a doorbell is allowed to fail."""
        doorbell = adapter.doorbell("bell/") if self.rings else None
        if doorbell is None:
            pytest.skip("this store has no doorbell that is sure to ring")
        with closing(doorbell):
            for number in range(3):
                while doorbell.wait(0.5):  # it may ring when it begins to listen, and too often
                    pass
                adapter.create(f"bell/{number}/v1.json", b"ring")
                assert doorbell.wait(DEADLINE)


def keys(adapter: StorageAdapter, prefix: str, start_after: str = "") -> list[str]:
    """Return the keys of a listing, in its order."""
    return [info.key for info in adapter.list(prefix, start_after)]


def together(work: list[Callable[[], T]], *, seconds: float = DEADLINE) -> list[T]:
    """Run every callable in its own thread, all started at the same moment; return their results.

    Raises the first error; `AssertionError` when a thread hangs.
    """
    start = threading.Barrier(len(work))
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    def run(index: int, call: Callable[[], T]) -> None:
        try:
            start.wait(seconds)
            results[index] = call()
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=run, args=(index, call), daemon=True)
        for index, call in enumerate(work)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]
    return [results[index] for index in range(len(work))]


def in_forked_child(work: Callable[[], object], *, seconds: float = DEADLINE) -> None:
    """Run `work` in a forked child; `AssertionError` with its trace when it fails or hangs."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_report, args=(work, sender))
    with warnings.catch_warnings():
        # Python 3.12 warns about forks beside threads; this tests that they work.
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    sender.close()
    try:
        assert receiver.poll(seconds), f"the forked child hung for {seconds} s"
        failure = receiver.recv()
    except EOFError:
        failure = "the forked child died without a word"
    finally:
        child.join(1)
        child.kill()
        child.join()
        receiver.close()
    assert failure is None, failure


def _report(work: Callable[[], object], sender: Connection) -> None:
    try:
        work()
    except BaseException:
        sender.send(traceback.format_exc())
    else:
        sender.send(None)


def _use(name: str, adapter: StorageAdapter) -> None:
    """Do a little of everything under one prefix."""
    assert adapter.get("before.json") == b"before"
    assert adapter.create(f"use/{name}/1.json", b"one") is True
    assert adapter.create(f"use/{name}/1.json", b"two") is False
    assert dict(adapter.get_many([f"use/{name}/1.json"])) == {f"use/{name}/1.json": b"one"}
    adapter.replace(f"use/{name}/2.json", b"two")
    assert keys(adapter, f"use/{name}/") == [f"use/{name}/1.json", f"use/{name}/2.json"]
    adapter.delete(f"use/{name}/2.json")
    assert adapter.get(f"use/{name}/2.json") is None
