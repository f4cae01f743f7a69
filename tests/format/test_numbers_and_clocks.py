"""Numbers that would be rounded are refused, and clocks that are ahead are named."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from amfs.cli import amfs as program
from amfs_core.errors import InvalidValueError
from amfs_core.format import strict_json
from amfs_core.memory import AgentMemory
from amfs_core.testing import ModelAdapter
from amfs_local import LocalAdapter

ROUNDED = [
    *("1e-400", "12345678901234567890.5", "0.1234567890123456789", "1e400", "-1e400"),
    *("1e-99999999999999999999", "-1e99999999999999999999"),
    *("9007199254740993.0", "1.00000000000000001", "4.9e-325", "0.30000000000000001"),
    *("1e-99999999999999999999", "1e99999999999999999999"),
]
KEPT = [
    *(
        "0.1",
        "1.0",
        "0.10",
        "1.50",
        "1e2",
        "1E+2",
        "-0.0",
        "0.0",
        "1e-7",
        "5e-324",
        "0e-999",
        "0e-99999999999999999999",
    ),
    *("1.7976931348623157e308", "123456.789", "0.30000000000000004", "1e22", "100000000000000.5"),
    *("0e99999999999999999999", "-0.0e-99999999999999999999"),
]


@pytest.mark.parametrize("text", ROUNDED)
@pytest.mark.parametrize("form", ["{}", '{{"a": [1, {}]}}'])
def test_a_number_that_would_be_rounded_is_refused_by_every_command(
    tmp_path: Path, text: str, form: str
) -> None:
    store = ["--store", str(tmp_path / "store")]
    value = form.format(text)
    done = CliRunner().invoke(program, [*store, "write", "e", "k", "--", value])
    assert done.exit_code == 2 and f"the number {text} would be rounded" in done.stderr
    line = f'{{"entity_path": "e", "key": "k", "value": {value}}}\n'
    (tmp_path / "lines.jsonl").write_text(line)
    done = CliRunner().invoke(program, [*store, "import", str(tmp_path / "lines.jsonl")])
    assert done.exit_code == 2 and f"the number {text} would be rounded" in done.stderr
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("text", KEPT)
def test_a_number_in_another_spelling_is_kept(text: str) -> None:
    assert strict_json.parsed(text) == json.loads(text)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_that_json_writes_is_read(number: float) -> None:
    assert strict_json.parsed(json.dumps(number)) == number


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-1e8, max_value=1e8))
def test_fifteen_digits_are_always_kept(number: object) -> None:
    assert strict_json.parsed(f"{number}") == float(str(number))


def test_a_number_in_the_store_is_read_however_it_is_written() -> None:
    """The rule is for what people type: another program's version is what it is."""
    with pytest.raises(InvalidValueError):
        strict_json.parsed("0.12345678901234567890")


# -- clocks ----------------------------------------------------------------------------------


class Ahead:
    """The clock of a machine that is years ahead."""

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(days=1000)


def test_a_clock_that_was_ahead_is_named_by_verify_the_doctor_and_the_writer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = LocalAdapter(tmp_path)
    wrong = AgentMemory("wrong", adapter=adapter)
    wrong._versions.clock = Ahead()  # type: ignore[assignment]
    wrong.write("e", "k", 1)
    memory = AgentMemory("right", adapter=adapter)
    memory.write("e", "fine", 1)
    assert memory.read("e", "k")
    with caplog.at_level(logging.WARNING, "amfs"):
        first, second = memory.write("e", "k", 2), memory.write("e", "k", 3)
    assert first.provenance.written_at == second.provenance.written_at
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1 and "e/k v1" in warnings[0] and "in the future" in warnings[0]
    report = memory.verify()
    assert not report.ok
    (finding,) = report.findings
    assert finding.object_key.endswith("e/k/v3.json") and "in the future" in finding.problem
    done = CliRunner().invoke(program, ["--store", str(tmp_path), "doctor", "--json"])
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert any("in the future" in check["found"] for check in told)


def test_a_clock_that_is_minutes_ahead_is_not_complained_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    adapter = ModelAdapter()
    memory = AgentMemory("a", adapter=adapter)
    entry = memory.write("e", "k", 1)
    assert memory.write("e", "k", 2).provenance.written_at >= entry.provenance.written_at
    assert memory.verify().ok and not caplog.records
