"""What a run showed, as a table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tests.torture.final import Final
from tests.torture.history import WRITES, History
from tests.torture.violation import Violation


@dataclass(frozen=True, slots=True)
class Report:
    """Counts of a run. `gave_up` said that nothing was written, `unknown` that it is not known."""

    store: str
    operations: int
    writes: int
    acknowledged: int
    conflicts: int
    gave_up: int
    unknown: int
    killed: int
    versions: int
    outcomes: int
    delivered: int
    faults: Counter[str]
    kills: int
    server_kills: int
    seconds: float
    violations: tuple[Violation, ...]

    @property
    def ok(self) -> bool:
        return not self.violations

    def __str__(self) -> str:
        rows = [
            ("store", self.store),
            ("operations", f"{self.operations} ({self.writes} writing)"),
            ("done", self.acknowledged),
            ("lost a race with expected_version", self.conflicts),
            ("gave up, nothing written", self.gave_up),
            ("gave up, said that it is unknown", self.unknown),
            ("ended by a kill", self.killed),
            ("versions, outcomes", f"{self.versions}, {self.outcomes}"),
            ("delivered by watches", self.delivered),
            ("kills of processes, of the server", f"{self.kills}, {self.server_kills}"),
            ("faults", sum(self.faults.values())),
            *((f"    {name}", count) for name, count in sorted(self.faults.items())),
            ("seconds", f"{self.seconds:.0f}"),
            ("violations", len(self.violations)),
            *((f"    {rule}", count) for rule, count in sorted(self._rules().items())),
        ]
        table = "\n".join(f"{name:<36} {value}" for name, value in rows)
        return "\n".join([table, *(f"  {violation}" for violation in self.violations[:20])])

    def _rules(self) -> Counter[str]:
        return Counter(violation.rule for violation in self.violations)


def judged(
    store: str,
    history: History,
    final: Final,
    violations: list[Violation],
    seconds: float,
    *,
    kills: int,
    crashes: int,
) -> Report:
    """Return the report of a run."""
    statuses = Counter(operation.status for operation in history.operations)
    return Report(
        store=store,
        operations=len(history.operations),
        writes=sum(operation.kind in WRITES for operation in history.operations),
        acknowledged=statuses["ok"],
        conflicts=statuses["conflict"],
        gave_up=statuses["failed"],
        unknown=statuses["unknown"] + statuses["pending"],
        killed=statuses["killed"],
        versions=sum(map(len, final.chains.values())),
        outcomes=len(final.outcomes),
        delivered=sum(len(watch.delivered) for watch in history.watches),
        faults=history.faults,
        kills=kills,
        server_kills=crashes,
        seconds=seconds,
        violations=tuple(violations),
    )
