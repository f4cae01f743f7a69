"""The place of a bucket and its credentials, resolved by boto3 exactly as AWS users expect."""

from __future__ import annotations

import errno
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    ConfigurationError,
    PermissionDeniedError,
)
from amfs_curl import fault, is_address, shown
from amfs_s3.settings import Settings, require_header, require_text

if TYPE_CHECKING:
    import boto3
    import botocore.session
    from botocore.config import _S3Dict
    from botocore.credentials import Credentials, ReadOnlyCredentials
    from mypy_boto3_s3.client import S3Client

_AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
_AWS = "https://s3.amazonaws.com"
_DEFAULT_REGION = "us-east-1"
_PRIVATE_LINK = "bucket.vpce-"  # AWS names such hosts so; it is not the name of the bucket
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EIO)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A resolved bucket: its URL, region and credentials, and boto3's client for it."""

    settings: Settings
    url: str
    region: str
    virtual_hosted: bool
    ca_bundle: str | None
    credentials: Credentials = field(repr=False)
    known: deque[ReadOnlyCredentials] = field(repr=False)
    client: S3Client = field(repr=False)

    def frozen_credentials(self) -> ReadOnlyCredentials:
        """Return the credentials for a request, refreshed by botocore when they expire, which may
        take long."""
        frozen = self.credentials.get_frozen_credentials()
        if frozen != self.known[-1]:
            self.known.append(frozen)
        return frozen

    def secrets(self) -> list[str]:
        """Return the secrets that no message may show, without a request."""
        secrets = [secret for known in self.known for secret in (known.secret_key, known.token)]
        secrets.append(urlsplit(self.url).password)
        return [secret for secret in secrets if secret]

    @property
    def is_aws(self) -> bool:
        """True for Amazon's own service."""
        return _is_aws(self.url)

    @property
    def where(self) -> str:
        """The bucket and its endpoint, for messages."""
        return f"bucket {self.settings.bucket!r} at {self.place}"

    @property
    def place(self) -> str:
        """The URL without the user and password that some people put into it."""
        parts = urlsplit(self.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def resolve(settings: Settings) -> Endpoint:
    """Ask boto3 for endpoint, region and credentials. May read files, or ask an identity service.

    The credential chain is boto3's: arguments, environment, shared files and their profiles
    (assumed roles, SSO, external processes), container and instance metadata. The endpoint honours
    `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_S3` and a profile's `endpoint_url`.
    """
    import botocore.exceptions

    if settings.endpoint_url:
        _check(settings.endpoint_url, settings)
    try:
        return _resolved(settings)
    except (botocore.exceptions.BotoCoreError, ValueError) as error:
        refused = _refused_url(error)
        if refused is None:
            raise _translated(error, settings) from error
    # Checked here because boto3's own error repeats the whole URL from a variable or profile.
    _check(refused, settings)
    raise ConfigurationError(f"endpoint_url {shown(refused)!r} is not one that boto3 accepts")


def _resolved(settings: Settings) -> Endpoint:
    import boto3
    import botocore.session

    core = botocore.session.Session(profile=settings.profile_name)
    require_text(core.get_config_variable("profile"), "the name of the profile (AWS_PROFILE)")
    session = boto3.Session(
        botocore_session=core,
        aws_access_key_id=settings.aws_access_key_id,
        aws_secret_access_key=settings.aws_secret_access_key,
        aws_session_token=settings.aws_session_token,
        region_name=settings.region_name,
    )
    credentials, frozen = _credentials(session, settings)
    for name in ("access_key", "secret_key", "token"):
        require_header(getattr(frozen, name), f"the {name} of the AWS credentials")
    require_text(session.region_name, "the region (AWS_DEFAULT_REGION or the profile's)")
    virtual_hosted = _is_virtual_hosted(settings, settings.endpoint_url or _AWS)
    client = _client(core, session, settings, virtual_hosted=virtual_hosted)
    url = client.meta.endpoint_url.rstrip("/")
    if virtual_hosted != _is_virtual_hosted(settings, url):  # a variable or profile named it
        virtual_hosted = not virtual_hosted
        client = _client(core, session, settings, virtual_hosted=virtual_hosted)
    _check(url, settings)
    ca_bundle = core.get_config_variable("ca_bundle")
    if ca_bundle and not Path(ca_bundle).is_file():
        raise ConfigurationError(
            f"there is no file {ca_bundle!r}, which AWS_CA_BUNDLE or ca_bundle in the profile names"
        )
    return Endpoint(
        settings=settings,
        url=url,
        region=client.meta.region_name,
        virtual_hosted=virtual_hosted,
        ca_bundle=ca_bundle,
        credentials=credentials,
        known=deque([frozen], maxlen=4),
        client=client,
    )


def _credentials(
    session: boto3.Session, settings: Settings
) -> tuple[Credentials, ReadOnlyCredentials]:
    """Return boto3's credentials, and their present values."""
    from botocore.exceptions import BotoCoreError

    try:
        credentials = session.get_credentials()
        # Fetched here so that an expired SSO session, for example, is reported in boto3's own
        # words.
        frozen = None if credentials is None else credentials.get_frozen_credentials()
    except BotoCoreError:
        raise
    except Exception as error:  # a broken credential_process raises many kinds
        raise _no_credentials(error, settings) from error
    if credentials is None or frozen is None:
        raise ConfigurationError(
            f"no AWS credentials found for bucket {settings.bucket!r}",
            hint=(
                "set "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws configure`, "
                "or name a profile with AWS_PROFILE"
            ),
        )
    return credentials, frozen


def _no_credentials(error: Exception, settings: Settings) -> AMFSError:
    problem = " ".join(str(error).split())
    message = f"cannot get the credentials for bucket {settings.bucket!r}: {problem}"
    if isinstance(error, OSError) and error.errno in _SHORTAGES:
        return BackendUnavailableError(message)
    return ConfigurationError(
        message,
        hint="check credential_process and what it prints, and the profile that names it",
    )


def _check(url: str, settings: Settings) -> None:
    """Raise `ConfigurationError` for a URL that is not the URL of an endpoint."""
    if problem := fault(url):
        raise ConfigurationError(f"endpoint_url {shown(url)!r} {problem}")
    parts = urlsplit(url)
    host = parts.hostname or ""
    in_host = host.startswith(f"{settings.bucket.lower()}.") and not host.startswith(_PRIVATE_LINK)
    if _is_aws(url) and (in_host or parts.path.strip("/")):
        raise ConfigurationError(
            f"endpoint_url {shown(url)!r} contains the bucket",
            hint=(
                "give the URL of the service alone, "
                "such as https://s3.eu-west-1.amazonaws.com, or leave it out"
            ),
        )
    if settings.addressing_style == "virtual" and is_address(url):
        raise ConfigurationError(
            f"addressing_style 'virtual' puts the bucket before a host's name, and {shown(url)!r} "
            "has an address",
            hint="use 'path'",
        )


def _client(
    core: botocore.session.Session,
    session: boto3.Session,
    settings: Settings,
    *,
    virtual_hosted: bool,
) -> S3Client:
    """Make boto3's client. By default it may put the bucket in the name of any host."""
    from botocore.config import Config

    s3: _S3Dict = {"addressing_style": "virtual" if virtual_hosted else "path"}
    if core.get_config_variable("use_fips_endpoint"):
        # There is no global endpoint with FIPS, but botocore invents a name for one.
        s3["us_east_1_regional_endpoint"] = "regional"
    return session.client(
        "s3",
        region_name=session.region_name or _DEFAULT_REGION,
        endpoint_url=settings.endpoint_url,
        config=Config(
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.timeout,
            retries={"total_max_attempts": 1},
            max_pool_connections=settings.max_concurrency,
            request_checksum_calculation="when_required",
            s3=s3,
        ),
    )


def virtual_host_url(endpoint: Endpoint) -> str:
    """Return the endpoint with the bucket as part of its host name."""
    parts = urlsplit(endpoint.url)
    return f"{parts.scheme}://{endpoint.settings.bucket}.{parts.netloc}"


def _is_virtual_hosted(settings: Settings, url: str) -> bool:
    """AWS wants the bucket in the host name; most others, and certificates for dots, do not."""
    if settings.addressing_style != "auto":
        return settings.addressing_style == "virtual"
    return _is_aws(url) and "." not in settings.bucket


def _is_aws(url: str) -> bool:
    return (urlsplit(url).hostname or "").endswith(_AWS_DOMAINS)


def _refused_url(error: Exception) -> str | None:
    """Return the URL that boto3 does not accept, from a variable or a profile."""
    before, sign, url = str(error).partition("Invalid endpoint: ")
    return url if sign and not before else None


def _translated(error: Exception, settings: Settings) -> AMFSError:
    import botocore.exceptions as botocore

    bucket = settings.bucket
    if isinstance(error, botocore.ConfigParseError):
        return ConfigurationError(
            str(error),
            hint="see what `aws configure list` says about that file",
        )
    if isinstance(error, botocore.ProfileNotFound):
        return ConfigurationError(
            str(error),
            hint="name one that is in ~/.aws/config",
        )
    if isinstance(error, (botocore.SSOTokenLoadError, botocore.UnauthorizedSSOTokenError)):
        return PermissionDeniedError(
            str(error),
            hint="run `aws sso login`",
        )
    if isinstance(error, botocore.PartialCredentialsError):
        return ConfigurationError(
            str(error),
            hint="set both the access key id and the secret key",
        )
    if isinstance(error, botocore.CredentialRetrievalError):
        return PermissionDeniedError(f"credentials for bucket {bucket!r}: {error}")
    problem = " ".join(str(error).split())
    return ConfigurationError(
        f"cannot set up bucket {bucket!r}: {problem}",
        hint="check endpoint_url and AWS_ENDPOINT_URL, or region_name and AWS_DEFAULT_REGION",
    )
