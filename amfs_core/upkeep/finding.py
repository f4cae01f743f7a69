"""What `verify` finds."""

from __future__ import annotations

from dataclasses import dataclass

from amfs_core.errors import CorruptEntryError, PermissionDeniedError


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem: the object that has it, what is wrong, and what fixes it.

    `repairable` is True for a problem that `verify` fixes when it is asked to: an outcome that was
    recorded and not counted into all its memories yet. Nothing is damaged or lost by that.
    """

    object_key: str
    problem: str
    hint: str
    repairable: bool = False

    def __str__(self) -> str:
        return f"{self.object_key}: {self.problem} ({self.hint})"

    @classmethod
    def foreign(cls, object_key: str) -> Finding:
        """Return the finding that AMFS did not make an object."""
        hint = "move it out of the store; AMFS never reads it"
        return cls(object_key, "it is not an object of this layout", hint)

    @classmethod
    def refused(cls, object_key: str, error: PermissionDeniedError) -> Finding:
        """Return the finding that an object may not be read, so that it was not checked."""
        return cls(object_key, error.problem, error.hint or "give this user access to it")

    @classmethod
    def absent(cls, object_key: str) -> Finding:
        """Return the finding that an object is listed but absent."""
        problem = "it is listed and absent: it is being created, or it was lost"
        return cls(object_key, problem, "verify again; if it stays so, restore it from a copy")

    @classmethod
    def damaged(cls, object_key: str, error: CorruptEntryError) -> Finding:
        """Return the finding that an object could not be read."""
        problem = error.problem.removeprefix(f"{object_key}: ")
        return cls(object_key, problem, error.hint or "restore it from a copy")
