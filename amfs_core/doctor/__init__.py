"""What a check is, and the probe of any store."""

from amfs_core.doctor.check import (
    DEADLINE,
    Check,
    Diagnosable,
    Diagnosis,
    examine,
    ok,
    problem,
    refused,
    skipped,
    warning,
)
from amfs_core.doctor.probe import Trial

__all__ = [
    "DEADLINE",
    "Check",
    "Diagnosable",
    "Diagnosis",
    "Trial",
    "examine",
    "ok",
    "problem",
    "refused",
    "skipped",
    "warning",
]
