"""Outcomes of using memories, and their effect on confidence."""

from amfs_core.outcomes import apply, evidence
from amfs_core.outcomes.records import Outcomes

__all__ = ["Outcomes", "apply", "evidence"]
