"""Metrics about the rounds of `amfs tend`, served in the Prometheus text format."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click
from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from amfs_core.errors import ConfigurationError

if TYPE_CHECKING:
    from amfs_core.upkeep.tend import TendReport


class Figures:
    """Counts rounds and serves the counts for as long as the process runs.

    `address` is `[HOST:]PORT`; without a host, only this machine can connect.
    """

    def __init__(self, namespace: str, address: str) -> None:
        host, _, port = address.rpartition(":")
        if not port.isdecimal() or not 0 < int(port) < 65_536:
            raise click.BadParameter(f"--metrics must be [HOST:]PORT, not {address!r}")
        self._registry = CollectorRegistry()
        self._namespace = namespace
        self._rounds = self._counter("rounds", "Rounds that succeeded.")
        self._failures = self._counter("failures", "Rounds that failed.")
        self._outcomes = self._counter("outcomes", "Interrupted outcomes that were finished.")
        self._mirrored = self._counter("mirrored", "Objects copied to or erased from mirrors.")
        self._mirror_failures = self._counter(
            "mirror_failures", "Times a mirror could not be completed."
        )
        self._backups = self._counter("backups", "Backups that were made.")
        self._pruned = self._counter("pruned", "Backups that were removed.")
        self._last = self._gauge("tend_last_seconds", "Unix time of the last successful round.")
        self._took = self._gauge("tend_took_seconds", "Duration of the last round.")
        self._as_of = self._gauge("backup_as_of_seconds", "Unix time of the newest backup's state.")
        self._kept = self._gauge("backup_kept", "Backups that can be restored.")
        try:
            start_http_server(int(port), host or "127.0.0.1", self._registry)
        except OSError as error:
            raise ConfigurationError(
                f"cannot serve metrics at {address}: {error.strerror or error}",
                hint="choose another port, or stop the program that listens there",
            ) from error

    def _counter(self, name: str, text: str) -> Counter:
        made = Counter(f"amfs_tend_{name}", text, ("namespace",), registry=self._registry)
        return made.labels(self._namespace)

    def _gauge(self, name: str, text: str) -> Gauge:
        made = Gauge(f"amfs_{name}", text, ("namespace",), registry=self._registry)
        return made.labels(self._namespace)

    def count(self, report: TendReport) -> None:
        """Count a round that succeeded."""
        self._rounds.inc()
        self._outcomes.inc(report.outcomes)
        self._mirrored.inc(sum(mirror.copied + mirror.erased for mirror in report.mirrors))
        self._mirror_failures.inc(sum(mirror.error is not None for mirror in report.mirrors))
        self._backups.inc(report.backup is not None)
        self._last.set(time.time())
        self._took.set(report.took)
        if report.pruned is not None:
            self._pruned.inc(len(report.pruned.removed))
            self._kept.set(len(report.pruned.kept))
            if report.pruned.kept:
                self._as_of.set(report.pruned.kept[-1].as_of.timestamp())

    def count_failure(self) -> None:
        """Count a round that failed."""
        self._failures.inc()
