"""Diagnosis of a store, from its configuration to its memories, with hints for every problem.

Each adapter brings the checks for its kind of store; the checks for all stores are here. Checks
create and remove scratch objects; they change nothing else.
"""

from amfs.doctor.check_memories import other_namespace
from amfs.doctor.diagnose import diagnose

__all__ = ["diagnose", "other_namespace"]
