"""The page: docs/benchmarks.md, made from the figures of one run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import (
    beside,
    contention,
    conversations,
    depth,
    entries,
    interpreter,
    langgraph,
    load,
    looks,
    measure,
    money,
    pictures,
    server,
    shared_index,
    stores,
    summary,
    watch,
)
from benchmarks import requests as counting
from benchmarks.figure import Figure, Result
from benchmarks.peer import AMFS, RIVAL
from benchmarks.pictures import number
from benchmarks.scale import FULL, QUICK
from benchmarks.tables import grid, notes, shown, table, wrapped

SKIPPED = "skipped"
"""The section of parts that could not be measured to their end."""
COMMANDS = {scale.name: scale.command for scale in (FULL, QUICK)}


def write(result: Result, into: Path) -> Path:
    """Write the page and its pictures below a directory, and return the page's path."""
    page = into / "benchmarks.md"
    made = pictures.draw(result, into / "benchmarks")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n\n".join(_parts(result, made)) + "\n", encoding="utf-8")
    return page


def _parts(result: Result, made: Sequence[str]) -> Iterator[str]:
    yield "# Measured beside its peers"
    yield wrapped(
        f"AMFS {result.machine.get('AMFS', '').split(',')[0].removeprefix('amfs ')} beside what "
        "you would otherwise pick, and beside the physical limit. All figures are medians of one "
        f"run of each part (`{COMMANDS[result.scale]}`, {result.minutes:.0f} minutes, "
        f"{result.machine.get('CPU', '')}). Do not compare them with another machine's: compare "
        "the columns. `–` is what a peer can't do; the longer tables say why."
    )
    if skipped := list(result.of(SKIPPED)):
        yield "\n".join(
            wrapped(f"- **Skipped: {figure.operation}.** {figure.note}") for figure in skipped
        )
    yield "## In ten seconds"
    yield from summary.tables(result)
    yield from summary.losses(result)
    yield "## Pictures"
    for name in made:
        yield f"![{_ALT[name]}](benchmarks/{name}.svg)"
    yield from _sections(result)
    yield from _method(result)


_ALT = {
    "directory": "Operations per second on a directory, for each peer",
    "bucket": "Operations per second on a bucket of this machine, for each peer",
    "far": "Milliseconds on a bucket 20 ms away, for each peer",
    "depth": "Milliseconds of a write against the versions that the key has",
    "entries": "Milliseconds of lists and searches against the number of memories",
    "contention": "What eight processes on one key were told, and what was there afterwards",
    "money": "Dollars a month of three uses",
    "limits": "AMFS's rate as a part of the raw client's, with goals",
}


def _sections(result: Result) -> Iterator[str]:
    yield "## On a directory"
    yield "`make bench ONLY=disk`: operations per second."
    yield from table(result, beside.DISK, "/s")
    yield "CPU of the peer's process for one operation, in microseconds:"
    yield from table(result, beside.DISK, "µs CPU", unit=False)
    yield "## On a bucket 20 ms away"
    yield wrapped(
        "`make bench ONLY=far`: milliseconds for one operation. Round trips decide here: a "
        "twentieth is about how many follow each other. [Requests](#requests) has how many there "
        "are."
    )
    yield from table(result, beside.FAR, "ms")
    yield "## On a bucket of this machine"
    yield "`make bench ONLY=s3`: operations per second, MinIO behind the loopback, no delay."
    yield from table(result, beside.NEAR, "/s")
    yield "CPU of the client for one operation, in microseconds:"
    yield from table(result, beside.NEAR, "µs CPU", unit=False)
    yield from _contended(result)
    yield from _deep(result)
    yield from _many(result)
    yield from _watched(result)
    yield from _looked(result)
    yield from _stored(result)
    yield from _indexed(result)
    yield from _served(result)
    yield from _loaded(result)
    yield from _talked(result)
    yield from _graphs(result)
    yield from _requests(result)
    yield from _bills(result)
    yield from _goals(result)


def _contended(result: Result) -> Iterator[str]:
    kept = result.of(contention.SECTION, "kept")
    told = result.of(contention.SECTION, "acknowledged")
    rate = result.of(contention.SECTION, "/s")
    if not kept.operations:
        return
    reasons: list[str] = []

    def cell(peer: str, operation: str) -> str:
        there = kept.find(operation, peer)
        if there is None:
            return ""
        if there.value is None:
            reasons.append(f"{peer}, {operation}: {there.note}")
            return "–"
        acknowledged = told.value(operation, peer) or 0
        lost = acknowledged - there.value
        if there.note:
            reasons.append(f"{peer}, {operation}: {there.note}")
        text = f"{there.value:,.0f} of {acknowledged:,.0f}, {shown(rate.find(operation, peer))}"
        return f"**{lost:,.0f} lost**: {text}" if lost > 0 else text

    yield "## Eight processes on one key"
    yield wrapped(
        "`make bench ONLY=contention`. Each process writes the key, then each counts up one "
        "counter, in the way that its store offers for that. Given are what is there afterwards, "
        "what was acknowledged, and acknowledged operations per second. What was refused with an "
        "error is not lost, and is below the table."
    )
    yield grid(kept.peers, kept.operations, cell)
    yield from notes(reasons)


def _deep(result: Result) -> Iterator[str]:
    figures = result.of(depth.SECTION, "ms")
    grown = result.of(depth.SECTION, "times")
    if not figures.operations:
        return
    yield "## One key, ever more versions"
    yield wrapped(
        "`make bench ONLY=depth`. Milliseconds per write on the way to so many versions. A peer "
        "that keeps no versions overwrites. The last row is how much slower the last third of the "
        "measured steps is than the first third, without the first 50 versions."
    )
    for operation in (depth.DISK, depth.S3):
        peers = [peer for peer in figures.peers if figures.find(operation, peer)]
        ats = sorted(
            {figure.at for peer in peers for figure in figures.curve(operation, peer) if figure.at}
            & {10**power for power in range(1, 7)}
        )
        points = {
            (peer, figure.at): figure.value
            for peer in peers
            for figure in figures.curve(operation, peer)
        }

        def cell(row: str, peer: str, operation: str = operation, points=points) -> str:  # type: ignore[no-untyped-def]
            if row == "slower by":
                value = grown.value(f"{operation}: {depth.FLAT}", peer)
                return "" if value is None else f"{number(value)}×"
            value = points.get((peer, int(row.replace(",", ""))))
            return "" if value is None else number(value)

        yield grid([*(f"{at:,}" for at in ats), "slower by"], peers, cell, operation)
        stopped = {figure.peer: figure.note for figure in figures if figure.operation == operation}
        yield from notes([f"{peer}, {operation}: {note}" for peer, note in stopped.items() if note])


def _many(result: Result) -> Iterator[str]:
    figures = [figure for figure in result.of(entries.SECTION) if figure.at is not None]
    if not figures:
        return
    yield "## Lists and searches"
    yield wrapped(
        "`make bench ONLY=entries`. AMFS looks at the name of every object before it answers a "
        "list or a search, so nothing that another process wrote is missed; `max_age` answers "
        "from what was seen. Text is searched by words and ranked in AMFS and in the SQLite that "
        "is written by hand (FTS5, on this machine only); amfs 0.5 looks for the query as one "
        "piece of text."
    )
    reasons: list[str] = []
    named = {(f"{figure.operation}, {figure.at:,}", figure.peer): figure for figure in figures}

    def cell(row: str, peer: str) -> str:
        figure = named.get((row, peer))
        if figure is not None and figure.value is None:
            reasons.append(f"{peer}, {row}: {figure.note}")
            return "–"
        return shown(figure)

    rows = list(dict.fromkeys(row for row, _ in named))
    for where in ("directory", "bucket"):
        of_place = [row for row in rows if where in row]
        peers = list(dict.fromkeys(peer for row, peer in named if row in of_place))
        if of_place:
            yield grid(of_place, peers, cell)
    yield from notes(reasons)


def _watched(result: Result) -> Iterator[str]:
    if not list(result.of(watch.SECTION)):
        return
    yield "## Watch"
    yield wrapped(
        "`make bench ONLY=watch`. From the return of a write in one process to its delivery in "
        "another, and the CPU that a process takes each second while it waits, among 1,000 "
        "memories. AMFS waits for a doorbell here (inotify, bucket notifications) and looks by "
        "itself every 5 seconds; on AWS S3, which has no doorbell, half of that interval is the "
        "usual delay."
    )
    yield from table(result, watch.SECTION, "ms")
    yield from table(result, watch.SECTION, "ms CPU/s")


def _looked(result: Result) -> Iterator[str]:
    if not list(result.of(looks.SECTION)):
        return
    yield "## A look with nothing new"
    yield wrapped(
        "`make bench ONLY=looks`: a search when nothing was written since the last one. Stores "
        "with a [change log](design/changes.md) are asked what is new; a bucket is listed."
    )
    for unit in ("ms", "LIST", "times"):
        yield from table(result, looks.SECTION, unit)


def _talked(result: Result) -> Iterator[str]:
    if not list(result.of(conversations.SECTION)):
        return
    yield "## Conversations of agents"
    yield wrapped(
        "`make bench ONLY=conversations`: [conversations](conversations.md) of 50 turns, written "
        "turn by turn by eight processes, then read by a new one."
    )
    for unit in ("turns", "s", "/s", "ms", "requests", "MB", "ms a conversation"):
        yield from table(result, conversations.SECTION, unit)


def _stored(result: Result) -> Iterator[str]:
    figures = result.of(stores.SECTION)
    if not list(figures):
        return
    yield "## One store beside the other"
    yield wrapped(
        "`make bench ONLY=stores`: [the stores](stores.md) on this machine, and LangGraph's on the "
        "same databases, opened as its documentation does. Then 10,000 conversations of "
        f"{stores.TURNS} turns, by one process, each conversation written together. The rates of "
        "eight processes are those of all together. Each store flushes as it does by default. "
        "Searches are among these turns, the first one by a new process, which fetches them all."
    )
    for unit in ("/s", "turns", "s", "bytes", "ms"):
        yield from table(result, stores.SECTION, unit)
    stopped = [figure for figure in figures if figure.note.startswith("stopped")]
    yield from notes([f"{figure.peer}: {figure.note} ({figure.operation})" for figure in stopped])


def _indexed(result: Result) -> Iterator[str]:
    figures = result.of(shared_index.SECTION)
    if not list(figures):
        return
    yield "## An index for all agents"
    yield wrapped(
        "`make bench ONLY=index`: a hundred agents in ten processes on one bucket, of whom each "
        "searches once, [with an index in PostgreSQL](search.md#an-index-for-all-agents) and with "
        "a catalog for each process. Time and requests are those of all together."
    )
    on_a_bucket = [figure for figure in figures if figure.peer in shared_index.WAYS]
    among_many = [figure for figure in figures if figure.peer not in shared_index.WAYS]
    yield _by_unit(on_a_bucket)
    yield wrapped(
        "The catalog itself, with words that are distributed as in text, two of them in every "
        "memory and in every question: the time to fill it, its size, and that of a search."
    )
    yield _by_unit(among_many)


def _by_unit(figures: Sequence[Figure]) -> str:
    """Return a table whose rows are operations, and once more for each other unit."""
    named = {(f"{figure.operation}, {figure.unit}", figure.peer): figure for figure in figures}
    rows = list(dict.fromkeys(row for row, _ in named))
    peers = list(dict.fromkeys(peer for _, peer in named))
    return grid(rows, peers, lambda row, peer: shown(named.get((row, peer))))


def _served(result: Result) -> Iterator[str]:
    figures = result.of(server.SECTION)
    if not list(figures):
        return
    yield "## Over HTTP"
    yield wrapped(
        "`make bench ONLY=server`: [`amfs serve`](http.md) beside the library, both on the same "
        "bucket of this machine, whose two cores the bucket, the server and its clients share. "
        "Then clients that follow events: the memory that each takes in the server, the store's "
        "listings while nothing happens, and from a write until the last client has it."
    )
    followers = [figure for figure in figures if "clients" in figure.peer]
    yield _by_unit([figure for figure in figures if figure not in followers])
    yield _by_unit(followers)


def _loaded(result: Result) -> Iterator[str]:
    figures = result.of(load.SECTION)
    if not list(figures):
        return
    loaded = result.of(load.SECTION, "memories").value(load.LOADED, AMFS.name) or 0
    yield "## A large load"
    yield wrapped(
        "`make bench ONLY=locomo` and `make bench ONLY=load`: LoCoMo's turns, and conversations of "
        f"{load.TURNS} turns, into a directory by the best means that each peer has for many "
        f"writes. This run loaded {loaded:,.0f} of {load.WHOLE:,} memories with AMFS; "
        "`make bench-load` loads all of them, however long it takes. AMFS makes one object, so "
        "one create, for each memory."
    )
    reasons: list[str] = []
    rows = {
        figure.operation + (", CPU" if "CPU" in figure.unit else ""): figure.unit
        for figure in figures
    }

    def cell(row: str, peer: str) -> str:
        figure = result.of(load.SECTION, rows[row]).find(row.removesuffix(", CPU"), peer)
        if figure is not None and figure.value is None:
            reasons.append(f"{peer}, {row}: {figure.note}")
            return "–"
        return shown(figure)

    yield grid(list(rows), figures.peers, cell)
    yield from notes(reasons)


def _graphs(result: Result) -> Iterator[str]:
    figures = result.of(langgraph.SECTION)
    if not list(figures):
        return
    yield "## LangGraph"
    yield wrapped(
        "`make bench ONLY=langgraph`: [AMFSSaver and AMFSStore](langgraph.md) beside LangGraph's "
        "SqliteSaver and SqliteStore, opened as its documentation does. A step of a graph is a "
        "checkpoint, with a list of 20 messages and a text of 3 kB that never changes, and what "
        "one task wrote. The rates of eight processes are those of all together."
    )
    yield from table(result, langgraph.SECTION, "/s")
    yield from table(result, langgraph.SECTION, "kB")
    yield from notes(
        [f"{figure.peer}, {figure.operation}: {figure.note}" for figure in figures if figure.note]
    )


def _requests(result: Result) -> Iterator[str]:
    units = {unit: result.of(counting.SECTION, unit) for unit in counting.UNITS}
    if not units["PUT"].operations:
        return
    reasons: list[str] = []

    def cell(operation: str, peer: str) -> str:
        figure = units["PUT"].find(operation, peer)
        if figure is None or figure.value is None:
            reasons.append(f"{peer}, {operation}: {figure.note if figure else ''}")
            return "–"
        asked = {unit: figures.value(operation, peer) or 0 for unit, figures in units.items()}
        return " + ".join(f"{number:g} {unit}" for unit, number in asked.items() if number) or "0"

    yield "## Requests"
    yield wrapped(
        "`make bench ONLY=requests`: counted at the wire, for one operation. HEAD is counted as "
        "GET and COPY as PUT, as the bill does. [What it costs](cost.md) has AMFS's own table."
    )
    yield grid(units["PUT"].operations, units["PUT"].peers, cell)
    yield from notes(reasons)


def _bills(result: Result) -> Iterator[str]:
    bills = {
        use.name: {peer.name: money.dollars(result, peer.name, use) for peer in (AMFS, RIVAL)}
        for use in money.USES
    }
    if any(spent is None for bill in bills.values() for spent in bill.values()):
        return

    def cell(use: str, column: str) -> str:
        bill = bills[use]
        if column == "ratio":
            return f"{number((bill[RIVAL.name] or 0) / (bill[AMFS.name] or 1))}×"
        return f"${bill[column] or 0:,.2f}"

    yield "## Dollars"
    yield wrapped(
        "From the requests above, at the prices of [What it costs](cost.md): $0.005 for 1,000 "
        "PUT, COPY, POST or LIST, $0.0004 for 1,000 GET, $0.023 for a GB stored for a month; "
        f"versions of {money.BYTES:,} bytes. The requests of a list are scaled from "
        f"{counting.ENTRIES} memories to the number in the use. No service was asked for a bill."
    )
    yield grid([*bills], [AMFS.name, RIVAL.name, "ratio"], cell, "a month")
    yield "\n".join(wrapped(f"- {use.name}: {use.what}.", "  ") for use in money.USES)


def _goals(result: Result) -> Iterator[str]:
    aimed = [figure for figure in result.figures if figure.goal is not None]
    if not aimed:
        return
    yield "## Beside the limit"
    yield wrapped(
        "`make bench ONLY=raw-s3`, `raw-local`, `raw-find` and `startup`: AMFS and the raw means "
        "in one process, in turns; a ratio is formed within a repetition. CPU is of that process."
    )
    lines = ["| goal | is | spread | wanted | |", "| --- | ---: | ---: | ---: | --- |"]
    for figure in aimed:
        if not figure.samples:
            continue
        sign = "≥" if figure.more_is_better else "≤"
        low, high = figure.spread
        unit = "" if figure.unit in ("×", "times") else f" {figure.unit}"
        at = "" if figure.at is None else f", {figure.at:,}"
        where = "" if figure.peer == AMFS.name else f", {figure.peer}"  # a kind of store of AMFS
        lines.append(
            f"| {figure.operation}{at}{where} | {number(figure.value or 0)}{unit} | "
            f"{number(low)} to {number(high)} | {sign} {figure.goal:g} | "
            f"{'met' if figure.met else '**missed**'} |"
        )
    yield "\n".join(lines)
    others = [
        figure
        for figure in result.of(measure.SECTION)
        if figure.peer == AMFS.name and figure.goal is None and figure.unit not in ("/s", "µs CPU")
    ]
    yield "Without a goal:"
    yield "\n".join(
        [
            "| | |",
            "| --- | ---: |",
            *(f"| {figure.operation} | {shown(figure)} |" for figure in others),
        ]
    )
    yield from _interpreted(result)


def _interpreted(result: Result) -> Iterator[str]:
    rates = result.of(interpreter.SECTION, "×")
    cpu = result.of(interpreter.SECTION, "times")
    if not rates.operations:
        return
    yield "### What the interpreter allows"
    yield wrapped(
        "`make bench ONLY=interpreter`: the raw call itself, followed by so many microseconds of "
        "Python that do nothing, beside the raw call alone: its rate, and the CPU. [What an "
        "operation costs](design/speed.md) says what AMFS does in that time."
    )
    points = {
        (rate.operation, f"{rate.at} µs"): f"{number(rate.value or 0)}×, {number(other.value or 0)}"
        for rate, other in zip(rates, cpu, strict=True)
    }
    columns = list(dict.fromkeys(column for _, column in points))
    yield grid(rates.operations, columns, lambda row, column: points.get((row, column), ""))


def _method(result: Result) -> Iterator[str]:
    yield "## Method"
    yield "\n".join(wrapped(line, "  ") for line in _METHOD)
    yield "The machine and the versions:"
    yield "\n".join(wrapped(f"- {name}: {what}", "  ") for name, what in result.machine.items())
    yield "## Limits"
    yield "\n".join(wrapped(line, "  ") for line in _LIMITS)


_METHOD = (
    "- `make bench` measures everything and writes this page; `make bench ONLY=depth` measures one "
    "part and prints it; `make bench-quick` takes less of everything, in three minutes. Each run "
    "is saved in `bench-results/`, and `make bench-compare A=old.json B=new.json` says what "
    "became better or worse beyond the spread.",
    "- Each peer has a process and an environment of its own, pinned in `benchmarks/peers/`, and a "
    "thin driver there. The PyPI package `amfs` has this project's import names: its driver runs "
    "isolated, and refuses to run if it finds anything but that package.",
    "- The peers take turns within each repetition, in an order that moves on. The first "
    "repetition warms up. Figures are medians; the spread is from the least to the most, and of "
    "many single operations the middle half. Curves, lists and loads are measured once.",
    "- A piece of work ends when its time is over; a rate is of what was done by then.",
    "- A value is 300 characters of text. `known`: a key that the process wrote or read before. "
    "`cold`: by a process that knows nothing. `obstore`, `boto3`, `minio-py` and `files by hand` "
    "are the least that could be done: they read the version that they know, where AMFS asks for "
    "a newer one; their list gets one value after the other.",
    "- `fsync`: a write that returned is on the disk, and is there after the machine's power "
    "fails. Each peer is used as its documentation opens it. amfs 0.5 renames a file without "
    "fsync, and in a bucket copies, deletes and puts, so a crash between these leaves no current "
    "version.",
    "- The delay is toxiproxy's: 20 ms on the way back. Requests are counted by the proxy of the "
    "tests.",
)
_LIMITS = (
    "- One machine, one disk, a MinIO behind the loopback that shares the processors with its "
    "clients. A real service has other latencies, and limits of its own.",
    "- Not measured: AWS S3 itself, several machines, values above 1 kB, search by meaning, how "
    "good what is found is (see [how search ranks](design/search.md)).",
    "- The peers do other things too: LangGraph searches by meaning with an embedder, mem0 draws "
    "facts out of conversations, AgentFS is a file system. Only what they share with AMFS is here.",
    "- A store in one process's memory, or a database on one machine, answers sooner than any "
    "bucket can. The figures say by how much.",
)
