"""Reasoning chains: the steps of an agent's work, as they come, and its result (docs/chains.md)."""

from amfs_agents.chains.chain import Chain
from amfs_agents.chains.chains import Chains
from amfs_agents.chains.records import About, Branching, ChainClosedError, Result, Step
from amfs_agents.chains.step_watch import StepWatch

__all__ = [
    "About",
    "Branching",
    "Chain",
    "ChainClosedError",
    "Chains",
    "Result",
    "Step",
    "StepWatch",
]
