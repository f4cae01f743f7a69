"""The user's settings of a bucket, checked before they are used."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from amfs_core import arguments
from amfs_core.errors import ConfigurationError
from amfs_core.spelling import did_you_mean

AddressingStyle = Literal["auto", "path", "virtual"]

ENCRYPTIONS = ("AES256", "aws:kms", "aws:kms:dsse")
"""S3's names of its kinds of encryption ("PutObject", Amazon S3 API reference)."""

# "Bucket naming rules", Amazon S3 user guide; capitals, underscores and 255 characters are what
# older buckets and other servers allow.
_BUCKET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TEXTS = ("endpoint_url", "region_name", "profile_name")
_HEADERS = (
    *("aws_access_key_id", "aws_secret_access_key", "aws_session_token"),
    "sse_kms_key_id",
)


@dataclass(frozen=True, slots=True)
class Settings:
    """A bucket and how to use it; None leaves a setting to boto3's own sources.

    Raises `ConfigurationError`, which begins with the name of the option and never has a value that
    may be secret.
    """

    bucket: str
    endpoint_url: str | None
    region_name: str | None
    profile_name: str | None
    aws_access_key_id: str | None = field(repr=False)
    aws_secret_access_key: str | None = field(repr=False)
    aws_session_token: str | None = field(repr=False)
    timeout: float
    connect_timeout: float
    max_concurrency: int
    server_side_encryption: str | None
    sse_kms_key_id: str | None
    addressing_style: AddressingStyle
    content_checksum: bool | None = None

    def __post_init__(self) -> None:
        if type(self.bucket) is not str:
            raise ConfigurationError(f"bucket must be text, not {type(self.bucket).__name__}")
        if not _BUCKET_NAME.fullmatch(self.bucket):
            raise ConfigurationError(
                f"bucket cannot be {self.bucket!r:.80}: its name is 3 to 63 letters, digits, dots "
                "and hyphens, without s3://"
            )
        for name in _TEXTS:
            require_text(getattr(self, name), name)
        for name in _HEADERS:
            require_header(getattr(self, name), name)
        for name in ("timeout", "connect_timeout"):
            arguments.timeout(getattr(self, name), name)
        if type(self.max_concurrency) is not int or self.max_concurrency < 1:
            raise ConfigurationError("max_concurrency must be a whole number of 1 or more")
        if self.server_side_encryption is not None:
            _require_one_of(ENCRYPTIONS, self.server_side_encryption, "server_side_encryption")
        _require_one_of(get_args(AddressingStyle), self.addressing_style, "addressing_style")
        if self.content_checksum is not None and type(self.content_checksum) is not bool:
            raise ConfigurationError("content_checksum must be true or false")


def require_text(value: object, name: str) -> None:
    """Raise `ConfigurationError` unless this is None or text on one line."""
    if value is None:
        return
    if type(value) is not str:
        raise ConfigurationError(f"{name} must be text, not {type(value).__name__}")
    if _CONTROL.search(value):
        raise ConfigurationError(
            f"{name} has a line break or another control character",
            hint="give it without",
        )


def require_header(value: object, name: str) -> None:
    """Raise `ConfigurationError` unless this is None or text that a header can carry."""
    require_text(value, name)
    if value is not None and not str(value).isascii():
        raise ConfigurationError(
            f"{name} has a character that is not ASCII, which such a setting never has",
            hint="copy it again",
        )


def _require_one_of(known: tuple[Any, ...], value: object, name: str) -> None:
    if type(value) is not str or value not in known:
        meant = did_you_mean(value, known) if type(value) is str else ""
        names = ", ".join(repr(choice) for choice in known)
        raise ConfigurationError(f"{name} must be one of {names}{meant}")
