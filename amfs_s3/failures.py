"""From the failures of two HTTP clients to the errors of AMFS, each with its mend.

What a client reports is first reduced to a `Failure`: how far the request got, the HTTP status, and
S3's error code ("Error responses", Amazon S3 API reference). One table then says what it means.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

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

if TYPE_CHECKING:
    from amfs_s3.endpoint import Endpoint

Stage = Literal["credentials", "connect", "tls", "sent", "answered"]

_STATUS = re.compile(r"status: (\d{3})\b")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_DELETE_CODE = re.compile(r"DeleteObjects request failed .*\(code: (\w+)\)", re.DOTALL)
_KIND = re.compile(r"HttpError \{\s*kind: (\w+)")
_REGION = re.compile(r"<Region>([\w-]+)</Region>|expecting '([\w-]+)'")
_ENCRYPTION = re.compile(
    r"<Message>[^<]*(?:encryption|KMS)|: [^:]*(?:encryption|KMS)", re.IGNORECASE
)
_TLS_SIGNS = ("InvalidCertificate", "InvalidContentType", "certificate", "HandshakeFailure", "Tls")

_CREDENTIAL_MENDS = {
    "SignatureDoesNotMatch": "the secret access key is wrong; check AWS_SECRET_ACCESS_KEY",
    "InvalidAccessKeyId": "the access key id is unknown there; check AWS_ACCESS_KEY_ID",
    "XAdminUserNotFound": "the access key id is unknown there; check AWS_ACCESS_KEY_ID",  # Versity
    "ExpiredToken": "the session token has expired; sign in again",
    "InvalidToken": "the session token is not valid; sign in again",
    "TokenRefreshRequired": "the session token must be refreshed; sign in again",
    "RequestTimeTooSkewed": "this machine's clock is off by more than 15 minutes; set the clock",
    "RequestExpired": "this machine's clock is off by more than 15 minutes; set the clock",
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
_SLOW_DOWN_SECONDS = 0.2  # where the server does not say how long
_ABSENT_CODES = ("NoSuchKey", "NoSuchVersion")
_CLIENT_ERROR, _SERVER_ERROR = 400, 500


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that did not succeed: how far it got, and what the server said if it answered.

    `retry_after` is in how many seconds the server wants to be asked again, where it said so.
    """

    stage: Stage
    status: int | None = None
    code: str | None = None
    text: str = ""
    retry_after: float | None = None

    @property
    def is_absent_object(self) -> bool:
        """True only when the server says that the bucket has no such object."""
        return self.code in _ABSENT_CODES


def from_obstore(error: Exception) -> Failure:
    """Read an exception of obstore, which carries status and body only as text, and no headers."""
    text = str(error)
    if "External AWS credential provider" in text:  # botocore's error, from where obstore asked it
        return Failure("credentials", text=_first_line(text).partition("provider: ")[2])
    kind = _KIND.search(text)
    if kind is not None:
        if kind[1] != "Connect":
            return Failure("sent", text=_first_line(text))
        stage: Stage = "tls" if any(sign in text for sign in _TLS_SIGNS) else "connect"
        return Failure(stage, text=_cause_of_connect(text))
    status = _STATUS.search(text)
    if status is None and "redirect without LOCATION" in text:  # S3's, to another region
        return Failure("answered", 301, "PermanentRedirect", text)
    if status is None and (refused := _DELETE_CODE.search(text)):  # in an answer with status 200
        return Failure("answered", 403 if refused[1] == "AccessDenied" else 500, refused[1], text)
    if status is None:
        return Failure("sent", text=_first_line(text))
    code = _CODE.search(text)
    return Failure("answered", int(status[1]), code[1] if code else None, text)


def from_boto(error: Exception) -> Failure:
    """Read an exception of botocore."""
    import botocore.exceptions as botocore

    if isinstance(error, botocore.ClientError):
        response = error.response
        code = response.get("Error", {}).get("Code")
        answer = response.get("ResponseMetadata", {})
        asked = answer.get("HTTPHeaders", {}).get("retry-after", "")
        # The other form, a date (RFC 9110, section 10.2.3), no S3 server is known to use.
        seconds = float(asked) if asked.isascii() and asked.isdigit() else None
        return Failure("answered", answer.get("HTTPStatusCode"), code, str(error), seconds)
    if isinstance(
        error,
        (
            botocore.CredentialRetrievalError,
            botocore.NoCredentialsError,
            botocore.SSOError,
            botocore.TokenRetrievalError,
        ),
    ):
        return Failure("credentials", text=_first_line(str(error)))
    if isinstance(error, botocore.SSLError):
        return Failure("tls", text=str(error))
    if isinstance(error, (botocore.EndpointConnectionError, botocore.ConnectTimeoutError)):
        return Failure("connect", text=str(error))
    return Failure("sent", text=str(error))


def translate(failure: Failure, verb: str, where: str, object_key: str) -> AMFSError:
    """Return the error for a request that failed; `verb` is what it was to do, "create" say.

    A create that was sent and not clearly refused may have been applied: its outcome is unknown.
    """
    what = f"cannot {verb} {object_key!r} in {where}"
    if failure.stage == "credentials":
        return PermissionDeniedError(
            f"{what}: the credentials cannot be refreshed ({failure.text}); sign in again",
            object_key=object_key,
        )
    if failure.stage == "tls":
        return ConfigurationError(
            f"{what}: TLS failed ({failure.text}); check that the endpoint speaks https and that "
            "its certificate is trusted (AWS_CA_BUNDLE names a private authority's)",
            object_key=object_key,
        )
    if failure.stage == "connect":
        return BackendUnavailableError(
            f"{what}: no connection ({failure.text}); check endpoint_url and that it is up",
            object_key=object_key,
        )
    if failure.stage == "sent":
        return _unanswered(f"{what}: no whole answer ({failure.text})", verb, object_key)
    return _answered(failure, what, verb, where, object_key)


def redacted(error: BaseException | None, endpoint: Endpoint) -> BaseException | None:
    """Return a client's exception for use as a cause, free of credentials.

    Servers echo what they were sent: S3 answers a wrong signature with the canonical request, in
    which the session token stands.
    """
    from botocore.exceptions import BotoCoreError

    try:
        frozen = endpoint.credentials.get_frozen_credentials()
    except BotoCoreError:  # they cannot be refreshed, so what may have to be hidden is not known
        return RuntimeError(type(error).__name__)
    in_url = urlsplit(endpoint.url).password
    secrets = [one for one in (frozen.secret_key, frozen.token, in_url) if one]
    # botocore's ClientError has the whole answer as an attribute.
    shown = "" if error is None else f"{error}{error!r}{vars(error)!r}"
    if not any(secret in shown for secret in secrets):
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
            f"{where} does not exist; create it (`aws s3 mb`) or check its name and endpoint_url",
            object_key=object_key,
        )
    if code in _REGION_CODES or status in (301, 307):
        region = _REGION.search(failure.text)
        mend = f"set region_name to {region[1] or region[2]!r}" if region else "set region_name"
        return ConfigurationError(
            f"{what}: it is in another region ({said}); {mend}", object_key=object_key
        )
    if code in _FULL_CODES:
        return StorageFullError(
            f"{what}: it is full ({said}); free some space there, or raise the quota. "
            "Nothing was written",
            object_key=object_key,
        )
    if code in _CREDENTIAL_MENDS:
        return PermissionDeniedError(
            f"{what}: {_CREDENTIAL_MENDS[code]} ({said})", object_key=object_key
        )
    if status in (401, 403):
        return PermissionDeniedError(
            f"{what}: these credentials have no permission for it ({said}); "
            "ask for s3:GetObject, s3:PutObject and s3:ListBucket on it",
            object_key=object_key,
        )
    if status in (400, 501) and _ENCRYPTION.search(failure.text):
        return ConfigurationError(
            f"{what}: the server cannot encrypt as asked ({said}); give it a key service, "
            "or leave out server_side_encryption",
            object_key=object_key,
        )
    if status == 501 and verb in ("create", "write"):
        return ConditionalWritesUnsupportedError(
            f"{where} does not implement If-None-Match ({said}), so writes could be lost there; "
            "use a server with conditional writes",
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
            f"{what}: the server answered {said} without saying that the object is absent; "
            "is endpoint_url that of an S3 service?",
            object_key=object_key,
        )
    return ConfigurationError(f"{what}: the server answered {said}", object_key=object_key)


def _unanswered(message: str, verb: str, object_key: str) -> AMFSError:
    kind = OutcomeUnknownError if verb == "create" else BackendUnavailableError
    return kind(message, object_key=object_key)


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


def _cause_of_connect(text: str) -> str:
    """Return the deepest message that the HTTP client gives for a connection that failed."""
    messages = re.findall(r'(?:message|error): "([^"]+)"', text)
    if messages:
        return str(messages[-1])
    named = re.findall(r"\b(InvalidCertificate\([^)]*\)|InvalidContentType|TimedOut)", text)
    return " ".join(str(named[-1]).split()) if named else _first_line(text)
