"""A large import: LoCoMo's conversations, and 10,000 conversations of 50 turns, then searched."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figure import Figure
from benchmarks.peer import (
    AGENTFS,
    AMFS,
    FILES,
    GRAPH,
    MEM0,
    RIVAL,
    SQLITE,
    CannotError,
    Driver,
    Peer,
    Place,
    drivers,
    places,
)
from benchmarks.scale import Scale
from benchmarks.search_quality import DATA

SECTION = "load"
TURNS = 50
LOCOMO = "LoCoMo's turns"
LOADED, TOOK, ALL_OF_IT = "memories loaded", "loading", "loading all 500,000, reckoned"
RATE = "loading, rate"
PEAK, PEAK_LISTED = "peak memory, loading", "peak memory, first search"
FIRST, SEARCH = "first search, cold", "search, again"
WHOLE = 10_000 * TURNS
SEARCHING = 10.0
_PEERS = (AMFS, RIVAL, GRAPH, AGENTFS, SQLITE, FILES)
_WITH_SEARCH = (AMFS, SQLITE, RIVAL)


def locomo(scale: Scale) -> Iterator[Figure]:
    """Yield the seconds of importing LoCoMo; without the data, a figure that says so."""
    if not DATA.is_dir():
        yield Figure(SECTION, LOCOMO, AMFS.name, "s", note="SKIPPED: the data is not here")
        return
    with places() as made, drivers((*_PEERS, MEM0), made.root) as started:
        for peer, driver in started.items():
            try:
                if not isinstance(driver, Driver):
                    raise CannotError(driver)
                driver.ask("open", place=made.directory())
                answer = driver.ask("fill", source="locomo", directory=str(DATA), seconds=30.0)
            except CannotError as reason:
                yield Figure(SECTION, LOCOMO, peer.name, "s", note=str(reason))
                continue
            note = f"{answer['done']:,} turns"
            yield Figure(SECTION, LOCOMO, peer.name, "s", (answer["seconds"],), note)


def conversations(scale: Scale) -> Iterator[Figure]:
    """Yield what loading takes, in time and memory, as far as the time allows; then a search."""
    with places() as made:
        for peer in _WITH_SEARCH:
            with drivers((peer,), made.root) as started:
                driver = started[peer]
                try:
                    if not isinstance(driver, Driver):
                        raise CannotError(driver)
                    yield from _loaded(peer, driver, made.directory(), scale)
                except CannotError as reason:
                    yield Figure(SECTION, LOADED, peer.name, "memories", note=str(reason))


def _loaded(peer: Peer, driver: Driver, place: Place, scale: Scale) -> Iterator[Figure]:
    driver.ask("open", place=place)
    driver.ask("forget_peak")
    answer = driver.ask(
        "fill", source="conversations", count=scale.conversations, seconds=scale.loading
    )
    done, seconds = answer["done"], answer["seconds"]
    short = "" if answer["whole"] else f"stopped after {scale.loading:.0f} s"
    yield Figure(SECTION, LOADED, peer.name, "memories", (done,), short)
    yield Figure(SECTION, TOOK, peer.name, "s", (seconds,), short)
    if done < WHOLE:
        yield Figure(SECTION, ALL_OF_IT, peer.name, "s", (seconds / done * WHOLE,))
    yield Figure(SECTION, RATE, peer.name, "/s", (done / seconds,))
    yield Figure(SECTION, RATE, peer.name, "µs CPU", (answer["cpu"] / done * 1e6,))
    yield Figure(SECTION, PEAK, peer.name, "MB", (driver.ask("peak")["megabytes"],))
    driver.ask("reopen")
    driver.ask("forget_peak")
    # The first search reads everything: it may take as long as the loading.
    searched = driver.ask("search", seconds=SEARCHING, most=50, wait=2 * scale.loading)
    yield Figure(SECTION, FIRST, peer.name, "s", (searched["first"],), f"among {done:,}")
    times = tuple(1000 * time for time in searched["times"])
    yield Figure(SECTION, SEARCH, peer.name, "ms", times, f"among {done:,}")
    yield Figure(SECTION, PEAK_LISTED, peer.name, "MB", (driver.ask("peak")["megabytes"],))
