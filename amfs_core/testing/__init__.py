"""The conformance kit: tests that hold storage adapters to the contract of `amfs_core.storage`.

`ModelAdapter` is the contract as a program; `FaultyAdapter` makes an adapter fail on purpose.
`amfs_core.testing.cases` has the pytest cases and `amfs_core.testing.machine` the Hypothesis state
machines; they need the extra `testing` and are imported by their own names. The README beside this
file shows an adapter and its test file.
"""

import sys

from amfs_core.testing.faults import Call, Crash, Fault, FaultyAdapter
from amfs_core.testing.model import ModelAdapter

__all__ = ["Call", "Crash", "Fault", "FaultyAdapter", "ModelAdapter"]

if "pytest" in sys.modules:  # so that a failing case shows the values it compared
    sys.modules["pytest"].register_assert_rewrite(
        "amfs_core.testing.cases", "amfs_core.testing.machine"
    )
