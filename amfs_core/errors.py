"""Every error AMFS raises. All derive from `AMFSError`, name what they are about, and give a hint.

Errors survive pickling, so that they can cross process pools, and keep the original exception as
their cause. They never carry credentials.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

Written = Literal["nothing", "unknown", "some"]
"""What a failed call has written: nothing, unknown, or a part of it."""

Origin = Literal["store", "layer", "process"]
"""Whose failure an error was."""


class AMFSError(Exception):
    """Base of every error here; catch it to catch them all.

    `problem` says what is wrong, `hint` what to do about it, and the error's text has both. `code`
    names the kind of error for programs and never changes; `written` says what the failed call has
    written. `retry_after` is for how many seconds the store asked not to be called, if it did.
    `origin` says whose failure it was: the store's, that of another store behind it ("layer"), or
    this process's own, which says nothing about any store. Attributes that do not apply are
    None.
    """

    code: ClassVar[str] = "error"
    written: Written = "nothing"
    origin: Origin = "store"

    def __init__(
        self,
        problem: str,
        *,
        hint: str | None = None,
        says_written: bool = False,
        entity_path: str | None = None,
        key: str | None = None,
        version: int | None = None,
        object_key: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.problem = problem
        self.hint = hint
        self._says_written = says_written
        super().__init__(self._text())
        self.entity_path = entity_path
        self.key = key
        self.version = version
        self.object_key = object_key
        self.retry_after = retry_after

    def at(self, place: str, *, says_written: bool | None = None) -> Self:
        """Put a place, such as "line 7", before the problem, and return this error.

        `says_written` is whether the text ends with "Nothing was written."; None: as before.
        """
        self.problem = f"{place}: {self.problem}"
        if says_written is not None:
            self._says_written = says_written
        self.args = (self._text(),)
        return self

    def noting(self, remark: str) -> Self:
        """Put a remark in parentheses after the problem, and return this error."""
        self.problem = f"{self.problem} ({remark})"
        self.args = (self._text(),)
        return self

    @property
    def reason(self) -> str:
        """The problem and the hint, without a word about what was written."""
        return self.problem if self.hint is None else f"{self.problem}; {self.hint}"

    def _text(self) -> str:
        reason = self.reason
        return f"{reason.removesuffix('.')}. Nothing was written." if self._says_written else reason


class InvalidKeyError(AMFSError):
    """A namespace, entity path or key that cannot be a name in every store."""

    code = "invalid_key"


class InvalidValueError(AMFSError):
    """A value or argument that JSON cannot carry exactly, or that is out of its range.

    Nothing was written.
    """

    code = "invalid_value"


class VersionConflictError(AMFSError):
    """`expected_version` was not the newest version. Nothing was written.

    `expected` is what the caller gave, `actual` the newest version there is (0: none).
    """

    code = "version_conflict"

    def __init__(
        self,
        problem: str,
        *,
        hint: str | None = None,
        expected: int = 0,
        actual: int = 0,
        entity_path: str | None = None,
        key: str | None = None,
    ) -> None:
        super().__init__(problem, hint=hint, entity_path=entity_path, key=key, version=actual)
        self.expected = expected
        self.actual = actual


class OutcomeUnknownError(AMFSError):
    """An adapter sent a create and cannot say whether it was applied; it may still land later."""

    code = "outcome_unknown"
    written = "unknown"


class WriteOutcomeUnknownError(OutcomeUnknownError):
    """A write ran out of patience while its outcome was unknown: it may have landed, or still land.

    `AgentMemory.find_write` takes `write_id` and `version`, and says whether it landed.
    """

    code = "write_outcome_unknown"

    def __init__(
        self,
        problem: str,
        *,
        hint: str | None = None,
        write_id: str = "",
        version: int = 0,
        entity_path: str | None = None,
        key: str | None = None,
        object_key: str | None = None,
    ) -> None:
        super().__init__(
            problem,
            hint=hint,
            entity_path=entity_path,
            key=key,
            version=version,
            object_key=object_key,
        )
        self.write_id = write_id


class WriteManyError(AMFSError):
    """Some items of `write_many` were not written; the others were.

    `entries` has the written entry of each item, or None; `errors` maps the index of each item
    that was not written to its error. The first of them is the cause.
    """

    code = "write_many"
    written = "some"

    def __init__(
        self,
        problem: str,
        *,
        hint: str | None = None,
        entries: tuple[object | None, ...] = (),
        errors: dict[int, AMFSError] | None = None,
    ) -> None:
        super().__init__(problem, hint=hint)
        self.entries = entries
        self.errors = errors or {}


class OutcomeConflictError(AMFSError):
    """An outcome is recorded under this reference already, and says something else.

    `outcome_ref` is the reference. Nothing was written.
    """

    code = "outcome_conflict"

    def __init__(
        self,
        problem: str,
        *,
        hint: str | None = None,
        outcome_ref: str = "",
        object_key: str | None = None,
    ) -> None:
        super().__init__(problem, hint=hint, object_key=object_key)
        self.outcome_ref = outcome_ref


class OutcomePendingError(AMFSError):
    """An outcome is recorded, but the confidence of some of its memories has not been moved yet.

    `outcome` is the recorded `Outcome`; `errors` maps `(entity_path, key)` of each memory that is
    still to be moved to its error. The first of them is the cause.
    """

    code = "outcome_pending"
    written = "some"

    def __init__(
        self,
        problem: str,
        *,
        hint: str | None = None,
        outcome_ref: str = "",
        outcome: object | None = None,
        errors: dict[tuple[str, str], AMFSError] | None = None,
        object_key: str | None = None,
    ) -> None:
        super().__init__(problem, hint=hint, object_key=object_key)
        self.outcome_ref = outcome_ref
        self.outcome = outcome
        self.errors = errors or {}


class CommitUnknownError(OutcomeUnknownError):
    """`commit_outcome` ran out of patience while it was unknown whether the record landed: it may
    have, or still land. No confidence was moved.

    `outcome_ref` is its reference: commit it again, which resumes it if it is there.
    """

    code = "commit_unknown"

    def __init__(
        self,
        problem: str,
        *,
        hint: str | None = None,
        outcome_ref: str = "",
        object_key: str | None = None,
    ) -> None:
        super().__init__(problem, hint=hint, object_key=object_key)
        self.outcome_ref = outcome_ref


class CorruptEntryError(AMFSError):
    """An object's bytes are not what was written: damaged, foreign, or at the wrong place."""

    code = "corrupt_entry"


class UnknownFeatureError(AMFSError):
    """The namespace uses a feature that this release of AMFS does not know, and which whoever reads
    or writes there must know. Nothing was read or written.

    `feature` is its name, `since` the first release that knows it.
    """

    code = "unknown_feature"

    def __init__(
        self,
        problem: str,
        *,
        hint: str | None = None,
        feature: str = "",
        since: str = "",
        object_key: str | None = None,
    ) -> None:
        super().__init__(problem, hint=hint, object_key=object_key)
        self.feature = feature
        self.since = since


class ConditionalWritesUnsupportedError(AMFSError):
    """The endpoint ignores or refuses `If-None-Match: *`, so writing to it would lose memories."""

    code = "conditional_writes_unsupported"


class BackendUnavailableError(AMFSError):
    """The storage cannot be reached or used now; nothing was changed by the failed request."""

    code = "backend_unavailable"


class CircuitOpenError(BackendUnavailableError):
    """The storage has been down for a while, so this request was not even sent.

    It has the last failure as its cause. After `retry_after` seconds a request will be sent again,
    to find out.
    """

    code = "circuit_open"


class DegradedError(BackendUnavailableError):
    """Something that cannot be done while writes wait in a fallback store: the primary is down, or
    they have not been replayed yet, or a conflict among them is to be decided. Nothing was done.
    """

    code = "degraded"


class StorageFullError(AMFSError):
    """The storage has no space left, or none for this user. Nothing was written."""

    code = "storage_full"


class PermissionDeniedError(AMFSError):
    """The storage refused the credentials or the operation."""

    code = "permission_denied"


class BucketNotFoundError(AMFSError):
    """The bucket does not exist at the endpoint."""

    code = "bucket_not_found"


class ConfigurationError(AMFSError):
    """A setting is missing, misspelt or impossible."""

    code = "configuration"
