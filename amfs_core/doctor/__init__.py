"""What a check is, the probe of any store, and what a disk is."""

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
from amfs_core.doctor.mounts import Mount, mount_of
from amfs_core.doctor.probe import Trial

__all__ = [
    "DEADLINE",
    "Check",
    "Diagnosable",
    "Diagnosis",
    "Mount",
    "Trial",
    "examine",
    "mount_of",
    "ok",
    "problem",
    "refused",
    "skipped",
    "warning",
]
