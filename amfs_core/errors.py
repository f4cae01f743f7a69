"""Every error AMFS raises. All derive from `AMFSError`, name what they are about, and say the mend.

Errors survive pickling, so that they can cross process pools, and keep the original exception as
their cause. They never carry credentials.
"""

from __future__ import annotations


class AMFSError(Exception):
    """Base of every error here; catch it to catch them all.

    The attributes that do not apply are None. `retry_after` is how many seconds the store asked
    to be left alone, when it did.
    """

    def __init__(
        self,
        message: str,
        *,
        entity_path: str | None = None,
        key: str | None = None,
        version: int | None = None,
        object_key: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.entity_path = entity_path
        self.key = key
        self.version = version
        self.object_key = object_key
        self.retry_after = retry_after


class InvalidKeyError(AMFSError):
    """A namespace, entity path or key that cannot be a name in every store."""


class InvalidValueError(AMFSError):
    """A value or argument that JSON cannot carry exactly, or that is out of its range.

    Nothing was written.
    """


class VersionConflictError(AMFSError):
    """`expected_version` was not the newest version. Nothing was written.

    `expected` is what the caller gave, `actual` the newest version there is (0: none).
    """

    def __init__(
        self,
        message: str,
        *,
        expected: int = 0,
        actual: int = 0,
        entity_path: str | None = None,
        key: str | None = None,
    ) -> None:
        super().__init__(message, entity_path=entity_path, key=key, version=actual)
        self.expected = expected
        self.actual = actual


class OutcomeUnknownError(AMFSError):
    """An adapter sent a create and cannot say whether it was applied; it may still land later."""


class WriteOutcomeUnknownError(OutcomeUnknownError):
    """A write ran out of patience while its outcome was unknown: it may have landed, or still land.

    `write_id` and `version` say what to ask for: `AgentMemory.find_write` tells whether it landed.
    """

    def __init__(
        self,
        message: str,
        *,
        write_id: str = "",
        version: int = 0,
        entity_path: str | None = None,
        key: str | None = None,
        object_key: str | None = None,
    ) -> None:
        super().__init__(
            message, entity_path=entity_path, key=key, version=version, object_key=object_key
        )
        self.write_id = write_id


class WriteManyError(AMFSError):
    """Some items of `write_many` were not written; the others were.

    `entries` has the written entry of each item, or None; `errors` maps the index of each item
    that was not written to its error. The first of them is the cause.
    """

    def __init__(
        self,
        message: str,
        *,
        entries: tuple[object | None, ...] = (),
        errors: dict[int, AMFSError] | None = None,
    ) -> None:
        super().__init__(message)
        self.entries = entries
        self.errors = errors or {}


class OutcomeConflictError(AMFSError):
    """An outcome is recorded under this reference already, and says something else.

    `outcome_ref` is the reference. Nothing was written.
    """

    def __init__(
        self, message: str, *, outcome_ref: str = "", object_key: str | None = None
    ) -> None:
        super().__init__(message, object_key=object_key)
        self.outcome_ref = outcome_ref


class OutcomePendingError(AMFSError):
    """An outcome is recorded, but the confidence of some of its memories has not been moved yet.

    `outcome` is the recorded `Outcome`; `errors` maps `(entity_path, key)` of each memory that is
    still to be moved to its error. The first of them is the cause.
    """

    def __init__(
        self,
        message: str,
        *,
        outcome_ref: str = "",
        outcome: object | None = None,
        errors: dict[tuple[str, str], AMFSError] | None = None,
        object_key: str | None = None,
    ) -> None:
        super().__init__(message, object_key=object_key)
        self.outcome_ref = outcome_ref
        self.outcome = outcome
        self.errors = errors or {}


class CommitUnknownError(OutcomeUnknownError):
    """`commit_outcome` ran out of patience while it was unknown whether the record landed: it may
    have, or still land. No confidence was moved.

    `outcome_ref` is its reference: commit it again, which resumes it if it is there.
    """

    def __init__(
        self, message: str, *, outcome_ref: str = "", object_key: str | None = None
    ) -> None:
        super().__init__(message, object_key=object_key)
        self.outcome_ref = outcome_ref


class CorruptEntryError(AMFSError):
    """An object's bytes are not what was written: damaged, foreign, or at the wrong place."""


class ConditionalWritesUnsupportedError(AMFSError):
    """The endpoint ignores or refuses `If-None-Match: *`, so writing to it would lose memories."""


class BackendUnavailableError(AMFSError):
    """The storage cannot be reached or used now; nothing was changed by the failed request."""


class CircuitOpenError(BackendUnavailableError):
    """The storage has been down for a while, so this request was not even sent.

    It carries the last failure as its cause. `retry_after` is in how many seconds a request will
    be sent again, to find out.
    """


class StorageFullError(AMFSError):
    """The storage has no space left, or none that is this user's. Nothing was written."""


class PermissionDeniedError(AMFSError):
    """The storage refused the credentials or the operation."""


class BucketNotFoundError(AMFSError):
    """The bucket does not exist at the endpoint."""


class ConfigurationError(AMFSError):
    """A setting is missing, misspelt or impossible."""
