"""Checks, the probe of any store, and findings about disks."""

from amfs_core.doctor.check import (
    DEADLINE,
    Check,
    Diagnosis,
    examine,
    labelled,
    ok,
    problem,
    refused,
    skipped,
    warning,
)
from amfs_core.doctor.disk import LITTLE_SPACE, lasting, size_text
from amfs_core.doctor.probe import Trial, checks_of

__all__ = [
    "DEADLINE",
    "LITTLE_SPACE",
    "Check",
    "Diagnosis",
    "Trial",
    "checks_of",
    "examine",
    "labelled",
    "lasting",
    "ok",
    "problem",
    "refused",
    "size_text",
    "skipped",
    "warning",
]
