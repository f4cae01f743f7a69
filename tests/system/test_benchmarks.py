"""The benchmarks: drivers do what they are told, figures are compared, and the page is made."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import find, langgraph, money, page
from benchmarks.__main__ import main
from benchmarks.compare import Change, Verdict
from benchmarks.figure import Figure, Result
from benchmarks.measure import Comparison, Sample
from benchmarks.peer import AMFS, FILES, OBSTORE, RIVAL, SQLITE, CannotError, Driver, Peer
from benchmarks.peers import peak
from benchmarks.requests import ENTRIES, UNITS

RATE = "/s"


def figure(*samples: float, unit: str = RATE, peer: str = "AMFS", **fields: object) -> Figure:
    return Figure("on a directory", "write, new key", peer, unit, samples, **fields)  # type: ignore[arg-type]


def result(*figures: Figure) -> Result:
    return Result({"CPU": "a processor, 2 cores", "AMFS": "amfs 0.1.0"}, "full", 12.0, [*figures])


# --- figures and their comparison ----------------------------------------------------------------


def test_a_figure_is_its_median_and_its_spread() -> None:
    measurement = figure(3, 1, 2, goal=2)
    assert (measurement.value, measurement.spread, measurement.met) == (2, (1, 3), True)


def test_of_times_less_is_better_and_of_rates_more() -> None:
    assert figure(1.4, unit="ms", goal=1.5).met
    assert not figure(1.4, goal=1.5).met


def test_the_spread_of_many_single_operations_is_the_middle_half() -> None:
    low, high = figure(*range(101)).spread
    assert 23 < low < 26
    assert 74 < high < 77


def test_a_result_is_read_as_it_was_saved(tmp_path: Path) -> None:
    saved = result(figure(1, 2, 3), Figure("s", "o", "p", "ms", note="no versions", at=10))
    saved.save(tmp_path / "a" / "result.json")
    assert Result.load(tmp_path / "a" / "result.json") == saved


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (figure(90, 100, 110), figure(50, 60, 70), Verdict.WORSE),
        (figure(90, 100, 110), figure(150, 160, 170), Verdict.BETTER),
        (figure(90, 100, 110), figure(85, 95, 105), Verdict.SAME),
        (figure(90, 100, 110, unit="ms"), figure(150, 160, 170, unit="ms"), Verdict.WORSE),
        (figure(100), figure(85), Verdict.SAME),
        (figure(100), figure(60), Verdict.WORSE),
        (figure(1, unit="PUT"), figure(2, unit="PUT"), Verdict.WORSE),
        (figure(400, unit="kept"), figure(399, unit="kept"), Verdict.WORSE),
        (figure(50, unit="kept"), figure(60, unit="kept"), Verdict.BETTER),
        (figure(0, unit="GET"), figure(0, unit="GET"), Verdict.SAME),
    ],
)
def test_worse_is_what_is_worse_beyond_the_spread(
    before: Figure, after: Figure, verdict: Verdict
) -> None:
    assert Change(before, after).verdict is verdict


def test_nothing_before_and_nothing_after_is_not_a_change() -> None:
    none = Figure("s", "delete", "AMFS", "DELETE", (0,))
    assert Change(none, none).ratio == 1


def compared(tmp_path: Path, before: Result, after: Result) -> tuple[int, str]:
    before.save(tmp_path / "a.json")
    after.save(tmp_path / "b.json")
    paths = [str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    done = CliRunner().invoke(main, ["compare", *paths])
    return done.exit_code, done.output


def test_comparing_fails_if_a_figure_got_worse(tmp_path: Path) -> None:
    code, printed = compared(tmp_path, result(figure(90, 100, 110)), result(figure(50, 60, 70)))
    assert code == 1
    assert "WORSE" in printed
    assert "-40 %" in printed


def test_a_peer_that_got_worse_is_not_a_failure(tmp_path: Path) -> None:
    before, after = figure(9, 10, peer="obstore"), figure(4, 5, peer="obstore")
    code, printed = compared(tmp_path, result(before), result(after))
    assert code == 0
    assert "WORSE" in printed


def test_comparing_succeeds_if_nothing_did(tmp_path: Path) -> None:
    other = figure(1, 2, 3, peer="obstore")
    code, printed = compared(tmp_path, result(figure(9, 10), other), result(figure(19, 20)))
    assert code == 0
    assert "1 better, 0 worse" in printed
    assert f"only in a.json: {other.name}" in " ".join(printed.split())


def test_ratios_are_formed_within_a_repetition() -> None:
    pairs = tuple((Sample(rate, 10.0), Sample(2 * rate, 5.0)) for rate in (100.0, 1000.0, 10.0))
    made = {
        measurement.unit: measurement
        for measurement in Comparison("x", "raw", pairs, 0.4, 1.5).figures()
        if ":" in measurement.name
    }
    assert made["×"].samples == (0.5, 0.5, 0.5)
    assert made["×"].met
    assert made["times"].samples == (2.0, 2.0, 2.0)
    assert made["times"].met is False


def test_the_requests_of_a_refresh_are_those_of_one(tmp_path: Path) -> None:
    asked = {
        (measurement.operation.rpartition(", ")[2], measurement.unit): measurement.value
        for measurement in find._local(tmp_path, 1_000, 1)
        if ": requests, " in measurement.operation
    }
    assert asked == {
        ("cold", "LIST"): 1,
        ("cold", "GET"): 1_001,  # with the manifest
        ("nothing new", "LIST"): 1,
        ("nothing new", "GET"): 0,
        ("10 new", "LIST"): 1,
        ("10 new", "GET"): 10,
    }


# --- money ---------------------------------------------------------------------------------------


def counted(peer: Peer, operation: str, **requests: float) -> Iterator[Figure]:
    for unit in UNITS:
        yield Figure("requests", operation, peer.name, unit, (requests.get(unit, 0),))


def test_a_month_costs_its_requests_and_its_bytes() -> None:
    use = money.Use("u", "", {"write": 1_000_000}, memories=10, versions=1_000_000)
    run = result(*counted(AMFS, "write", PUT=1, GET=2, DELETE=9))
    dollars = money.dollars(run, AMFS.name, use)
    assert dollars == pytest.approx(5 + 0.8 + 0.023)
    assert money.dollars(run, RIVAL.name, use) is None


def test_a_list_is_paid_by_the_page_and_by_what_it_gets() -> None:
    use = money.Use("u", "", {}, memories=2_500, looks=1_000, news=10_000)
    again = f"list {ENTRIES}, again"
    run = result(*counted(AMFS, again, LIST=1), *counted(RIVAL, again, LIST=1, GET=ENTRIES))
    pages = 1_000 * 3 * 0.005 / 1_000
    assert money.dollars(run, AMFS.name, use) == pytest.approx(pages + 10_000 * 0.0004 / 1_000)
    everything = 1_000 * 2_500 * 0.0004 / 1_000
    assert money.dollars(run, RIVAL.name, use) == pytest.approx(pages + everything)


def test_prices_are_those_of_the_page_of_costs() -> None:
    text = (page_directory() / "cost.md").read_text()
    assert f"{money.PUT * 1000:g}" in text
    assert f"GET = {money.GET * 1000:g} / 1_000" in text
    assert f"${money.STORED * 1e9:g} for a GB" in text


def page_directory() -> Path:
    return Path(page.__file__).parent.parent / "docs"


# --- the page ------------------------------------------------------------------------------------


def saved_run() -> Result:
    """A run with a figure of every kind, small."""
    disk, far = "on a directory", "on a bucket 20 ms away"
    return result(
        Figure("durability", disk, "AMFS", "", note="fsync"),
        Figure(disk, "write, new key", "AMFS", "/s", (900, 1000, 1100)),
        Figure(disk, "write, new key", "AMFS", "µs CPU", (70, 80, 90)),
        Figure(disk, "write, new key", "SQLite by hand", "/s", (2900, 3000, 3100)),
        Figure(disk, "read, by version", "AMFS", "/s", (5000,)),
        Figure(disk, "read, by version", "AgentFS", "/s", note="no versions"),
        Figure(far, "read, cold", "AMFS", "ms", (41, 42)),
        Figure(far, "read, cold", "boto3", "ms", (50, 51)),
        Figure("depth", "write at depth, on a directory", "AMFS", "ms", (1,), at=10),
        Figure("depth", "write at depth, on a directory", "AMFS", "ms", (1.1,), at=100),
        Figure("contention", "write, bucket", "amfs 0.5 (PyPI)", "acknowledged", (80,)),
        Figure("contention", "write, bucket", "amfs 0.5 (PyPI)", "kept", (61,)),
        Figure("contention", "write, bucket", "amfs 0.5 (PyPI)", "/s", (10,)),
        Figure("entries", "list, again, directory", "AMFS", "ms", (30,), at=1_000),
        Figure("entries", "list, again, directory", "AMFS", "ms", (300,), at=10_000),
        Figure("LangGraph", "step of a graph, 8 processes", "AMFS, SQLite", "/s", (600,)),
        Figure("LangGraph", "thread of 100 steps", "AMFS, SQLite", "kB", (1000,)),
        Figure("skipped", "far", "AMFS", "", note="toxiproxy can't be had here"),
        Figure("load", "LoCoMo's turns", "AMFS", "s", note="SKIPPED: the data is not here"),
        Figure("limits", "bucket: write, 32 threads: rate", "AMFS", "×", (0.9, 0.91), goal=0.95),
        Figure("interpreter", "bucket: write, 32 threads", "obstore put", "×", (0.93,), at=20),
        Figure("interpreter", "bucket: write, 32 threads", "obstore put", "times", (1.1,), at=20),
        Figure("interpreter", "bucket: write, 32 threads", "obstore put", "×", (0.88,), at=40),
        Figure("interpreter", "bucket: write, 32 threads", "obstore put", "times", (1.2,), at=40),
    )


def test_the_page_is_made_of_a_saved_run(tmp_path: Path) -> None:
    written = page.write(saved_run(), tmp_path)
    text = written.read_text()
    assert "| write, new key | 1,000/s |" in text
    assert "- AgentFS: no versions (read, by version)" in text
    assert "- write, new key (on a directory): SQLite by hand 3×" in text
    assert "**19 lost**: 61 of 80" in text
    assert "| step of a graph, 8 processes | 600/s |" in text
    assert "- **Skipped: far.** toxiproxy can't be had here" in text
    assert "SKIPPED: the data is not here" in text
    assert "| bucket: write, 32 threads: rate | 0.905 | 0.9 to 0.91 | ≥ 0.95 | **missed** |" in text
    assert "| bucket: write, 32 threads | 0.93×, 1.1 | 0.88×, 1.2 |" in text
    pictures = re.findall(r"\]\((benchmarks/\w+\.svg)\)", text)
    assert "benchmarks/directory.svg" in pictures
    assert all((tmp_path / name).stat().st_size < 200_000 for name in pictures)


def test_of_parts_that_were_measured_apart_one_page_is_made(tmp_path: Path) -> None:
    first = result(
        Figure("shared index", "build", "PostgreSQL", "s", (1.0,)),
        Figure("looks", "nothing new", "SQLite", "ms", (2.0,)),
        Figure("looks", "nothing new", "bucket", "ms", (7.0,)),
    )
    again = result(Figure("looks", "nothing new", "SQLite", "ms", (3.0,)))
    paths = [tmp_path / "first.json", tmp_path / "again.json"]
    first.save(paths[0])
    again.save(paths[1])
    made = CliRunner().invoke(main, ["page", *map(str, paths), "--into", str(tmp_path)])
    assert made.exit_code == 0, made.output
    text = (tmp_path / "benchmarks.md").read_text()
    assert "| build, s | 1 s |" in text
    assert "| nothing new | 7 ms | 3 ms |" in text
    assert "24 minutes" in text


def test_the_same_run_gives_the_same_page_and_pictures(tmp_path: Path) -> None:
    made = []
    for name in ("one", "other"):
        page.write(saved_run(), tmp_path / name)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        made.append([path.read_bytes() for path in files])
    assert made[0] == made[1]


def test_graphs_are_measured_with_the_same_steps_on_each_peer(tmp_path: Path) -> None:
    left = []
    for peer in langgraph.PEERS:
        (tmp_path / peer).mkdir()
        with ExitStack() as stack:
            saver, store = langgraph._opened(peer, tmp_path / peer, stack)
            step, put = langgraph._steps(saver, store, "t"), langgraph._puts(saver, store, "p")
            for number in range(3):
                step(number)
                put(number)
            checkpoints = list(saver.list({"configurable": {"thread_id": "t"}}))
            states = [
                (checkpoint.checkpoint["channel_values"], checkpoint.pending_writes)
                for checkpoint in checkpoints
            ]
            left.append((states, sorted(item.key for item in store.search(("items",)))))
    assert left[0] == left[1] == left[2]
    assert len(left[0][0]) == 3


# --- drivers -------------------------------------------------------------------------------------


@dataclass
class Opened:
    """A driver with its peer open in a directory of its own."""

    driver: Driver
    directory: Path


@pytest.fixture(params=[AMFS, FILES, SQLITE], ids=lambda peer: peer.module)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    (tmp_path / "store").mkdir()
    with Driver(request.param, tmp_path) as driver:
        place = {"directory": str(tmp_path / "store"), "agent": "test"}
        told = driver.ask("open", place=place)
        assert "fsync" in told["durability"]
        yield Opened(driver, tmp_path / "store")


def test_a_driver_does_what_it_is_told(opened: Opened) -> None:
    ask = opened.driver.ask
    assert ask("write", keys="k", count=20, seconds=10.0, threads=4)["done"] == 20
    assert ask("write", keys="k", count=20, seconds=10.0)["done"] == 20
    ask("reopen")
    assert ask("read", keys="k", count=20, seconds=10.0)["done"] == 20
    assert ask("read_version", keys="k", count=20, seconds=10.0)["done"] == 20
    assert ask("fill", source="notes", count=5, seconds=10.0)["done"] == 5
    assert ask("list", seconds=5.0)["entries"] == 25
    assert [depth for depth, _ in ask("deepen", key="d", depth=20, seconds=10.0)["curve"]] == [
        10,
        20,
    ]
    assert ask("append", key="one", count=3, seconds=5.0, writer=0)["done"] == 3
    assert ask("survived", key="one")["versions"] == 3
    assert ask("add", key="counter", count=4, seconds=5.0)["done"] == 4
    assert ask("counted", key="counter")["count"] == 4
    assert ask("peak")["megabytes"] > 5


def test_a_peer_that_cannot_do_the_work_is_named_and_the_run_goes_on(tmp_path: Path) -> None:
    with Driver(FILES, tmp_path) as driver:
        driver.ask("open", place={"directory": str(tmp_path), "agent": "test"})
        with pytest.raises(CannotError, match="no text search"):
            driver.ask("search", seconds=1.0, most=1)
        with pytest.raises(CannotError, match="failed: AssertionError: k-0 is gone"):
            driver.ask("read", keys="k", count=1, seconds=1.0)
        assert driver.ask("write", keys="k", count=1, seconds=5.0)["done"] == 1


def test_work_ends_when_its_time_is_over(tmp_path: Path) -> None:
    with Driver(FILES, tmp_path) as driver:
        driver.ask("open", place={"directory": str(tmp_path), "agent": "test"})
        assert driver.ask("write", keys="k", count=10**9, seconds=0.05)["done"] < 10**6


def test_a_peer_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotError, match="could not be installed"):
        Driver(Peer("nobody", "files", "nowhere"), tmp_path)


def test_the_driver_of_the_rival_refuses_to_measure_amfs(tmp_path: Path) -> None:
    drive = Path(page.__file__).parent / "peers" / "drive.py"
    done = subprocess.run(
        [sys.executable, "-I", str(drive), RIVAL.module],
        cwd=tmp_path,
        input=json.dumps({"do": "peak"}),
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert not done.stdout


def test_pinned_versions_name_no_registry() -> None:
    pinned = list((Path(page.__file__).parent / "peers").glob("*.txt"))
    assert pinned
    for path in pinned:
        assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in path.read_text().split())


def test_every_raw_client_is_driven_in_this_environment() -> None:
    assert OBSTORE.python == Path(sys.executable)


# --- memory --------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can forget a peak")
def test_the_peak_of_memory_is_of_what_came_after_it_was_forgotten() -> None:
    buffer = bytearray(80_000_000)
    assert buffer
    before = peak.megabytes()
    del buffer
    peak.forget()
    assert peak.megabytes() < before - 40
