"""What is wrong with a store, from its configuration to a verdict, and what fixes it.

The adapter says what there is to look at in its kind of store; what holds for all is here. Nothing
is changed but scratch objects, which are removed.
"""

from amfs.doctor.diagnose import diagnose

__all__ = ["diagnose"]
