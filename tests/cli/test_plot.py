"""The pictures of `amfs stats --plot`."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest

from amfs import AgentMemory, plot
from amfs.plot import MOST_BARS, Picture
from tests.cli.test_cli import (
    HOSTILE,
    START,
    documents,
    empty_surroundings,  # noqa: F401
    ok,
    refused,
)

MAGIC = {"svg": b"<?xml", "png": b"\x89PNG\r\n\x1a\n", "pdf": b"%PDF-"}
BEGIN = datetime(2024, 12, 1, tzinfo=UTC)


def texts(svg: bytes) -> list[str]:
    root = ElementTree.fromstring(svg)
    return [
        "".join(element.itertext()).strip()
        for element in root.iter("{http://www.w3.org/2000/svg}text")
    ]


def drawn(agents: dict[str, int], span: timedelta = timedelta(days=1)) -> Picture:
    """A picture of as many memories as the agents have, with two versions each."""
    count = sum(agents.values())
    times = [BEGIN + span * (number / count) for number in range(count)]
    return Picture(
        title="default",
        memories=times,
        versions=sorted([*times, *times]),
        agents=agents,
        types={"fact": count, "belief": 0},
        confidences=[number / count for number in range(count)],
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", plot.FORMATS)
def test_a_picture_is_a_file_of_its_kind_and_the_same_each_time(kind: str) -> None:
    picture = drawn({"a": 2, "b": 1})
    assert plot.draw(picture, kind).startswith(MAGIC[kind])
    assert plot.draw(picture, kind) == plot.draw(picture, kind)


def test_the_same_picture_comes_from_another_process() -> None:
    ok("write", "e", "k", "1")
    for name in ("one.svg", "two.svg"):
        subprocess.run([*START, "stats", "--plot", name], check=True, capture_output=True)
    assert Path("one.svg").read_bytes() == Path("two.svg").read_bytes()


def test_titles_names_and_counts_are_in_the_picture_as_text() -> None:
    with AgentMemory("planner") as memory:
        memory.write("e", "a", 1, confidence=0.7)
        memory.write("e", "a", 2, confidence=0.7)
        memory.write("e", "b", 1, memory_type="belief")
        memory.write("other", "c", 1)
    with AgentMemory("tester") as memory:
        memory.write("e", "c", 1)
        memory.write("e", "d", 1)
        memory.delete("e", "d")
    counts = ok("stats", "e", "--plot", "picture.svg")
    assert counts == ok("stats", "e")
    svg = Path("picture.svg").read_bytes()
    labels = texts(svg)
    assert b"<title>default: e \xc2\xb7 3 live memories</title>" in svg
    assert {"default: e · 3 live memories", "6 versions", "4 memories"} <= set(labels)
    for title in ("Growth", "Memories by agent", "Memories by type", "Confidence"):
        assert title in labels
    for axis in ("time in the store (UTC)", "number so far", "memories", "confidence (0 to 1)"):
        assert axis in labels
    for name in ("planner", "tester", "fact", "belief", "experience", "procedure"):
        assert name in labels


def test_a_picture_counts_what_the_listing_and_the_list_have() -> None:
    with AgentMemory("planner") as memory:
        memory.write_many(
            {"entity_path": "e", "key": str(key), "value": version, "confidence": 0.5}
            for key in range(3)
            for version in range(2)
        )
        memory.delete("e", "0")
        picture = plot.picture(memory)
    assert (len(picture.memories), len(picture.versions)) == (3, 7)
    assert picture.memories == sorted(picture.memories)
    assert (dict(picture.agents), picture.confidences) == ({"planner": 2}, [0.5, 0.5])
    assert picture.types == {"fact": 2, "belief": 0, "experience": 0, "procedure": 0}


def test_many_agents_share_one_bar_and_none_is_lost() -> None:
    agents = Counter({f"agent-{number}": number + 1 for number in range(MOST_BARS + 5)})
    labels = texts(plot.draw(drawn(dict(agents)), "svg"))
    assert "5 others" in labels and str(1 + 2 + 3 + 4 + 5) in labels
    assert f"agent-{MOST_BARS + 4}" in labels and "agent-4" not in labels


def test_long_names_that_differ_in_the_middle_stay_different() -> None:
    names = [f"checkout-service-agent-{number}@cluster-eu-west.example.com" for number in range(9)]
    labels = texts(plot.draw(drawn(dict.fromkeys(names, 1)), "svg"))
    shown = {label for label in labels if "agent-" in label}
    assert len(shown) == len(names) and all(len(label) <= 26 for label in shown)


@pytest.mark.slow
@pytest.mark.parametrize("kind", plot.FORMATS)
@pytest.mark.parametrize(
    ("agents", "span"),
    [
        ({"a": 1}, timedelta(0)),
        ({HOSTILE: 2, "$x^2$": 1, "智能体-结账服务-重试模式-生产环境": 1}, timedelta(days=1)),
        ({"👋 <agent> & co": 200, "العربية": 100}, timedelta(days=730)),
    ],
)
def test_any_name_and_any_span_of_time_can_be_drawn(
    agents: dict[str, int], span: timedelta, kind: str
) -> None:
    data = plot.draw(drawn(agents, span), kind)
    assert data.startswith(MAGIC[kind])
    if kind == "svg":
        assert ("$x^2$" in texts(data)) == ("$x^2$" in agents)


def test_a_memory_without_live_versions_is_drawn_too() -> None:
    ok("write", "e", "k", "1")
    ok("rm", "e", "k")
    ok("stats", "--plot", "picture.png")
    assert Path("picture.png").read_bytes().startswith(MAGIC["png"])


def test_confidence_counts_in_the_step_that_begins_with_it() -> None:
    assert plot.steps([0.3, 0.6, 0.7, 1.0]) == [0, 0, 0, 1, 0, 0, 1, 1, 0, 1]


def test_a_plot_that_cannot_be_drawn_is_one_line_of_error_and_leaves_no_file(
    tmp_path: Path,
) -> None:
    assert "nothing to draw" in refused("stats", "--plot", "picture.svg")
    assert "nothing to draw under nowhere" in refused("stats", "nowhere", "--plot", "picture.svg")
    ok("write", "e", "k", "1")
    assert "must end with .svg, .png, .pdf" in refused("stats", "--plot", "picture.gif")
    assert "no-such-directory" in refused("stats", "--plot", "no-such-directory/picture.svg")
    assert [path.name for path in tmp_path.iterdir()] == [".amfs"]


def test_without_the_extra_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None; sys.argv[0] = 'amfs'\n"
        "from amfs.__main__ import main; main()"
    )
    command = [sys.executable, "-c", code, "stats", "--plot", "picture.svg"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("amfs: pictures need the extra 'plot': pip install 'amfs[plot]'")
    assert done.stderr.count("\n") == 1


def test_only_a_picture_needs_matplotlib() -> None:
    ok("write", "e", "k", "1")
    code = "import sys, amfs.cli.upkeep, amfs.plot; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert documents("stats", "--json")[0]["versions"] == 1
