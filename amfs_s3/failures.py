"""Turns a request that failed into an error of AMFS, with a hint.

A `Failure` says how far the request got, and what the answer was: the HTTP status and S3's error
code ("Error responses", Amazon S3 API reference). One table then says what it means.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

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
from amfs_s3.answers import error_in

if TYPE_CHECKING:
    from amfs_s3.endpoint import Endpoint

Stage = Literal["credentials", "connect", "tls", "sent", "answered", "foreign"]
"""How far a request got: "answered" by S3, or by something else ("foreign")."""

_REGION = re.compile(r"expecting '([\w-]+)'")
_ENCRYPTION = re.compile(r"encryption|KMS", re.IGNORECASE)

_CREDENTIAL_CODES = {
    "SignatureDoesNotMatch": ("the secret access key is wrong", "check AWS_SECRET_ACCESS_KEY"),
    "InvalidAccessKeyId": ("the access key id is unknown there", "check AWS_ACCESS_KEY_ID"),
    "XAdminUserNotFound": (
        "the access key id is unknown there",
        "check AWS_ACCESS_KEY_ID",
    ),  # Versity
    "ExpiredToken": ("the session token has expired", "sign in again"),
    "InvalidToken": ("the session token is not valid", "sign in again"),
    "TokenRefreshRequired": ("the session token must be refreshed", "sign in again"),
    "RequestTimeTooSkewed": (
        "this machine's clock is off by more than 15 minutes",
        "set the clock",
    ),
    "RequestExpired": ("this machine's clock is off by more than 15 minutes", "set the clock"),
}
_REGION_CODES = (
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "TemporaryRedirect",
)
_FULL_CODES = (
    "XMinioStorageFull",
    "XMinioAdminBucketQuotaExceeded",
    "InsufficientStorage",
    "QuotaExceeded",  # Ceph
)
_SLOW_DOWN_CODES = ("SlowDown", "SlowDownRead", "SlowDownWrite", "TooManyRequests")
_SLOW_DOWN_SECONDS = 0.2  # when the server does not say how long
_ABSENT_CODES = ("NoSuchKey", "NoSuchVersion")
_REDIRECTION, _CLIENT_ERROR, _SERVER_ERROR = 300, 400, 500
_TRANSIENT = (408, 429)
_MOST_WORDS = 300


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that did not succeed: how far it got, and what the server said if it answered.

    `text` is the server's own words, or why there is no answer. `region` is where the bucket is,
    as S3 says. The server wants to be asked again after `retry_after` seconds.
    """

    stage: Stage
    status: int | None = None
    code: str | None = None
    text: str = ""
    region: str | None = None
    retry_after: float | None = None

    @property
    def is_about_credentials(self) -> bool:
        """True when the server refused the credentials themselves, so others may be accepted."""
        return self.code in _CREDENTIAL_CODES or self.stage == "credentials"

    @property
    def is_absent_object(self) -> bool:
        """True only when the server says that the bucket has no such object."""
        return self.code in _ABSENT_CODES


class RequestFailed(Exception):
    """A request failed; `failure` says how. Callers see it only as the cause of another error."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure

    def __str__(self) -> str:
        failure = self.failure
        answer = " ".join(str(part) for part in (failure.status, failure.code) if part)
        return ": ".join(part for part in (answer, failure.text) if part)


def answered(answer: Answer) -> Failure | None:
    """Read an answer that is not a success; None if it is not an answer that S3 gives.

    S3's own errors have an `<Error>` document. Without one, a refusal counts only if it has no body
    at all, as some servers send it. Any answer may say that a server is overloaded or broken.
    """
    fields = error_in(answer)
    if answer.status < _REDIRECTION or (answer.status < _CLIENT_ERROR and fields is None):
        return None
    transient = answer.status >= _SERVER_ERROR or answer.status in _TRANSIENT
    if fields is None and answer.body and not transient:
        return None
    fields = fields or {}
    asked = answer.headers.get("retry-after", "")
    return Failure(
        "answered",
        answer.status,
        fields.get("Code") or None,
        " ".join(fields.get("Message", "").split())[:_MOST_WORDS],
        fields.get("Region") or None,
        # No S3 server is known to use the other form, a date (RFC 9110, section 10.2.3).
        float(asked) if asked.isascii() and asked.isdigit() else None,
    )


def not_from_s3(description: str, answer: Answer) -> Failure:
    """Return the failure for an answer that S3 does not give."""
    return Failure("foreign", answer.status, text=description)


def translate(failure: Failure, verb: str, where: str, object_key: str) -> AMFSError:
    """Return the error for a failed request; `verb` is what it was to do, such as "create".

    A create that was sent and not clearly refused may have been applied: its outcome is unknown.
    """
    what = f"cannot {verb} {object_key!r} in {where}"
    if failure.stage == "credentials":
        return PermissionDeniedError(
            f"{what}: the credentials cannot be refreshed ({failure.text})",
            hint="sign in again",
            object_key=object_key,
        )
    if failure.stage == "tls":
        return ConfigurationError(
            f"{what}: TLS failed ({failure.text})",
            hint=(
                "check that the endpoint speaks https and that "
                "its certificate is trusted (AWS_CA_BUNDLE names a private authority's)"
            ),
            object_key=object_key,
        )
    if failure.stage == "connect":
        return BackendUnavailableError(
            f"{what}: no connection ({failure.text})",
            hint="check endpoint_url and that it is up",
            object_key=object_key,
        )
    if failure.stage == "sent":
        return _unanswered(f"{what}: no whole answer ({failure.text})", verb, object_key)
    if failure.stage == "foreign":
        return _unanswered(
            f"{what}: something that is not S3 answered ({failure.text})",
            verb,
            object_key,
            hint="check endpoint_url, and for a proxy or a network's sign-in page in between",
        )
    return _answered(failure, what, verb, where, object_key)


def redacted(failure: Failure, endpoint: Endpoint) -> Failure:
    """Return a failure without credentials in its text: servers echo what they were sent."""
    clean = failure.text
    for secret in endpoint.secrets():
        clean = clean.replace(secret, "[redacted]")
    return failure if clean == failure.text else replace(failure, text=clean)


def redacted_cause(error: BaseException | None, endpoint: Endpoint) -> BaseException | None:
    """Return an exception for use as a cause, free of credentials."""
    shown = "" if error is None else f"{error}{error!r}{vars(error)!r}"
    secrets = [secret for secret in endpoint.secrets() if secret in shown]
    if not secrets:
        return error
    clean = str(error)
    for secret in secrets:
        clean = clean.replace(secret, "[redacted]")
    return RuntimeError(clean)


def _answered(failure: Failure, what: str, verb: str, where: str, object_key: str) -> AMFSError:
    status, code = failure.status or 0, failure.code
    said = f"{status} {code}" if code else str(status)
    if code == "NoSuchBucket":
        return BucketNotFoundError(
            f"{where} does not exist",
            hint="create it (`aws s3 mb`) or check its name and endpoint_url",
            object_key=object_key,
        )
    if code in _REGION_CODES or status in (301, 307):
        named = _REGION.search(failure.text)
        region = failure.region or (named[1] if named else None)
        hint = f"set region_name to {region!r}" if region else "set region_name"
        return ConfigurationError(
            f"{what}: it is in another region ({said})", hint=hint, object_key=object_key
        )
    if code in _FULL_CODES:
        return StorageFullError(
            f"{what}: it is full ({said})",
            hint="free some space there, or raise the quota",
            says_written=True,
            object_key=object_key,
        )
    if code in _CREDENTIAL_CODES:
        problem, hint = _CREDENTIAL_CODES[code]
        return PermissionDeniedError(
            f"{what}: {problem} ({said})", hint=hint, object_key=object_key
        )
    if status in (401, 403):
        return PermissionDeniedError(
            f"{what}: these credentials have no permission for it ({said})",
            hint="ask for s3:GetObject, s3:PutObject and s3:ListBucket on it",
            object_key=object_key,
        )
    if status in (400, 501) and _ENCRYPTION.search(failure.text):
        return ConfigurationError(
            f"{what}: the server cannot encrypt as asked ({said})",
            hint="give it a key service, or leave out server_side_encryption",
            object_key=object_key,
        )
    if status == 501 and verb in ("create", "write"):
        return ConditionalWritesUnsupportedError(
            f"{where} does not implement If-None-Match ({said}), so writes could be lost there",
            hint="use a server with conditional writes",
            object_key=object_key,
        )
    if status >= _SERVER_ERROR or status in (408, 429):
        failed = _unanswered(f"{what}: the server answered {said}", verb, object_key)
        failed.retry_after = failure.retry_after
        if failed.retry_after is None and (code in _SLOW_DOWN_CODES or status == 429):
            failed.retry_after = _SLOW_DOWN_SECONDS
        return failed
    if status == 404:
        return BackendUnavailableError(
            f"{what}: the server answered {said} without saying that the object is absent",
            hint="is endpoint_url the URL of an S3 service?",
            object_key=object_key,
        )
    words = f": {failure.text}" if failure.text else ""
    return ConfigurationError(f"{what}: the server answered {said}{words}", object_key=object_key)


def _unanswered(problem: str, verb: str, object_key: str, *, hint: str | None = None) -> AMFSError:
    kind = OutcomeUnknownError if verb == "create" else BackendUnavailableError
    return kind(problem, hint=hint, object_key=object_key)
