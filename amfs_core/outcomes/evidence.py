"""The arithmetic of evidence: how an outcome moves the confidence of a claim.

Written confidence is a prior, outcomes are observations, and confidence is the mean of the Beta
posterior. Sums commute, so outcomes that race give the same confidence in any order.
`docs/design/outcomes.md` gives the reasons for these numbers.
"""

from __future__ import annotations

from msgspec.structs import replace

from amfs_core.format import Evidence, MemoryEntry, OutcomeType

PRIOR_STRENGTH = 4
"""The number of observations for which the written confidence counts."""

WEIGHTS: dict[OutcomeType, tuple[float, float]] = {
    OutcomeType.SUCCESS: (1, 0),
    OutcomeType.MINOR_FAILURE: (0, 0.5),
    OutcomeType.FAILURE: (0, 1),
    OutcomeType.CRITICAL_FAILURE: (0, 2),
}
"""The amounts that each outcome adds to successes and to failures. They are multiples of a power of
two, so their sums are exact in floating point (below 2^52) and do not depend on their order."""


def confidence(prior: float, successes: float, failures: float) -> float:
    """Return the mean of the Beta posterior, from 0 to 1."""
    return (PRIOR_STRENGTH * prior + successes) / (PRIOR_STRENGTH + successes + failures)


def can_count(entry: MemoryEntry, used: int) -> bool:
    """True if an outcome about version `used` is about the claim of `entry`.

    False if the memory was deleted, has expired, or was written again since: a claim that was not
    used gets no blame. Once this is False, it stays False for every later version.
    """
    return entry.is_live() and entry.claimed_in <= used


def counted(entry: MemoryEntry, outcome_type: OutcomeType) -> tuple[float, Evidence]:
    """Return the confidence and evidence of `entry` with one more outcome counted in."""
    for_it, against_it = WEIGHTS[outcome_type]
    old = entry.evidence
    new = replace(
        old,
        successes=old.successes + for_it,
        failures=old.failures + against_it,
        prior=entry.confidence if old.prior is None else old.prior,
    )
    assert new.prior is not None
    return confidence(new.prior, new.successes, new.failures), new
