"""From failed requests to the errors of the contract."""

from __future__ import annotations

from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    BucketNotFoundError,
    ConditionalWritesUnsupportedError,
    ConfigurationError,
    OutcomeUnknownError,
    PermissionDeniedError,
    StorageFullError,
)
from amfs_curl import Answer
from amfs_curl.curl import Unanswered
from amfs_http.answers import Problem, problem_in

_REFUSED = ("unauthorized", "forbidden", "permission_denied")
_WRONG = {
    *("invalid_key", "invalid_value", "configuration", "too_large", "method_not_allowed"),
    *("misdirected", "not_found", "unsupported_media_type"),
}
_UNAVAILABLE = ("backend_unavailable", "circuit_open", "overloaded", "too_slow")
_CLASSES: dict[str, type[AMFSError]] = {
    **dict.fromkeys(_REFUSED, PermissionDeniedError),
    **dict.fromkeys(_WRONG, ConfigurationError),
    **dict.fromkeys(_UNAVAILABLE, BackendUnavailableError),
    "storage_full": StorageFullError,
    "bucket_not_found": BucketNotFoundError,
    "conditional_writes_unsupported": ConditionalWritesUnsupportedError,
}
"""The error for each code of a problem. None of these requests was applied."""


def of_unanswered(error: Unanswered, what: str, key: str, *, creates: bool) -> AMFSError:
    """Return the error for a request without a complete answer; `what` says what it was to do.

    A create that was sent may have been applied: its outcome is unknown.
    """
    if error.stage == "sent" and creates:
        return OutcomeUnknownError(f"{what}: {error}", object_key=key)
    hint = "see whether the server runs: amfs doctor" if error.stage == "connect" else None
    return BackendUnavailableError(f"{what}: {error}", hint=hint, object_key=key)


def of_answer(answer: Answer, description: str, what: str, key: str, *, creates: bool) -> AMFSError:
    """Return the error for an answer other than the expected one. `description` describes an answer
    that no AMFS server sends."""
    problem = problem_in(answer)
    unclear = OutcomeUnknownError if creates else BackendUnavailableError
    if problem is None:
        return unclear(
            f"{what}: something other than AMFS answered ({description})",
            hint="check the URL, and any proxy on the way to the server",
            object_key=key,
        )
    # A code without a class is an internal error of the server, or an outcome unknown to it.
    kind = _CLASSES.get(problem.code, unclear)
    return kind(
        f"{what}: {problem.detail}",
        hint=_hint(problem),
        object_key=key,
        retry_after=_seconds(answer) if kind is BackendUnavailableError else None,
    )


def _hint(problem: Problem) -> str | None:
    if problem.code == "unauthorized":
        return "set AMFS_API_KEY to a key that the server knows (amfs key new)"
    if problem.code == "not_found":
        return "run the same release on the server"
    return problem.hint


def _seconds(answer: Answer) -> float | None:
    asked = answer.headers.get("retry-after", "")
    return float(asked) if asked.isascii() and asked.isdigit() else None
