"""Errors as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import math
from typing import Any

import msgspec
from starlette.responses import Response

from amfs import documents
from amfs_core import errors
from amfs_core.errors import AMFSError

TYPE_PREFIX = "urn:amfs:problem:"

STATUSES: dict[type[AMFSError], int] = {
    errors.InvalidKeyError: 400,
    errors.InvalidValueError: 400,
    errors.VersionConflictError: 412,
    errors.OutcomeConflictError: 409,
    errors.OutcomePendingError: 503,
    errors.OutcomeUnknownError: 504,
    errors.WriteOutcomeUnknownError: 504,
    errors.CommitUnknownError: 504,
    errors.CorruptEntryError: 500,
    errors.UnknownFeatureError: 500,
    errors.ConditionalWritesUnsupportedError: 500,
    errors.BackendUnavailableError: 503,
    errors.CircuitOpenError: 503,
    errors.DegradedError: 503,
    errors.StorageFullError: 507,
    errors.PermissionDeniedError: 502,
    errors.BucketNotFoundError: 502,
    errors.ConfigurationError: 500,
    errors.WriteManyError: 500,
    AMFSError: 500,
}
"""The status of each class of errors. 502 means that the store refuses this server, not the client.
"""

TITLES = {
    "unauthorized": "A key is required",
    "forbidden": "This key may not do that",
    "not_found": "There is no such thing",
    "no_object": "There is no such object",
    "object_exists": "The object exists already",
    "method_not_allowed": "This method does not apply here",
    "too_large": "The request is too large",
    "too_slow": "The request took too long to arrive",
    "unsupported_media_type": "The body must be JSON",
    "misdirected": "This server does not answer to that name",
    "gone": "The position is no longer known here",
    "overloaded": "Too many clients",
    "internal": "Internal error of the server",
}


class Refusal(Exception):
    """A request that the server refuses for a reason of its own, not the store's."""

    def __init__(
        self, status: int, code: str, detail: str, *, hint: str | None = None, **headers: str
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.hint = hint
        self.headers = {name.replace("_", "-"): text for name, text in headers.items()}


class ProblemResponse(Response):
    """A problem document."""

    media_type = "application/problem+json"


def of_refusal(refusal: Refusal) -> Response:
    """Return the answer to a refused request."""
    return _problem(
        refusal.status,
        {
            "type": TYPE_PREFIX + refusal.code,
            "title": TITLES[refusal.code],
            "status": refusal.status,
            "detail": refusal.detail,
            "code": refusal.code,
            "hint": refusal.hint,
        },
        refusal.headers,
    )


def of_error(error: AMFSError) -> Response:
    """Return the answer to a request that ended with an `AMFSError`."""
    status = next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
    described = documents.error(error)
    hint = described.pop("hint")
    if status == 504 and isinstance(error, errors.WriteOutcomeUnknownError):
        hint = (
            "use GET with ?version= to see whether the version has this write_id, or send the same "
            "request again with this write_id as its Idempotency-Key"
        )
    document = {
        "type": TYPE_PREFIX + error.code,
        "title": error.code.replace("_", " ").capitalize(),
        "status": status,
        "detail": described.pop("problem"),
        "hint": hint,
        **described,
    }
    headers = {}
    if status == 503:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after or 1)))
    if isinstance(error, errors.VersionConflictError) and error.actual:
        headers["etag"] = f'"{error.actual}"'
    return _problem(status, document, headers)


def of_fault() -> Response:
    """Return the answer to a request that failed because of a bug, without details."""
    return of_refusal(
        Refusal(500, "internal", "the request failed unexpectedly; see the server's log")
    )


def _problem(status: int, document: dict[str, Any], headers: dict[str, str]) -> Response:
    return ProblemResponse(msgspec.json.encode(document), status, headers)
