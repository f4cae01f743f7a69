"""The checks of `amfs doctor` for a bucket, from the credentials to what a purge can promise."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from amfs_core.doctor import Check, Diagnosis, Trial, ok, refused, skipped, warning
from amfs_core.errors import AMFSError, PermissionDeniedError
from amfs_s3.connection import Connection
from amfs_s3.doctor.reach import Reach
from amfs_s3.failures import RequestFailed, translate

if TYPE_CHECKING:
    from amfs_core.storage import StorageAdapter
    from amfs_s3.failures import Failure

_SOURCES = {
    "explicit": "the configuration's options",
    "env": "the AWS_* variables",
    "shared-credentials-file": "the shared credentials file",
    "config-file": "the AWS config file",
    "assume-role": "an assumed role",
    "assume-role-with-web-identity": "a role assumed with a web identity",
    "sso": "AWS SSO",
    "login": "aws login",
    "custom-process": "the profile's credential_process",
    "container-role": "the container's role",
    "iam-role": "the instance's role",
}
"""botocore's names of its providers (`botocore.credentials`)."""

_DENIED = "AccessDenied"
_SHOWN = 4
_EXPIRES_SOON = timedelta(minutes=5)


class S3Checks:
    """The checks of one adapter. `connect` returns its connection, or raises the reason why there
    is none."""

    def __init__(
        self,
        adapter: StorageAdapter,
        connect: Callable[[], Connection],
        client_options: Mapping[str, Any],
        prefix: str,
    ) -> None:
        self._adapter = adapter
        self._connect = connect
        self._client_options = client_options
        self._prefix = prefix
        self._reach: Reach  # from the first check on
        self._failure: Failure | None = None

    def all(self) -> Iterator[Check]:
        """Yield the checks in order: about 19 requests, 5 more where the adapter has not proved
        conditional writes that day."""
        yield Check("credentials", self._find_credentials)
        yield Check("endpoint", self._step(Reach.connect), ("credentials",))
        yield Check("tls", self._step(Reach.secure), ("endpoint",))
        yield Check("server", self._step(Reach.ask), ("endpoint", "tls"))
        yield Check("clock", self._step(Reach.compare_clocks), ("server",))
        yield Check("sign-in", self._sign_in, ("server",))
        yield Check("bucket", self._find_bucket, ("server", "sign-in"))
        yield from Trial(
            self._adapter, f".amfs-probe/{uuid.uuid4().hex}/", ("server", "sign-in", "bucket")
        ).checks()
        yield Check("versioning", self._read_versioning, ("server", "sign-in", "bucket"))
        yield Check("object lock", self._read_lock, ("server", "sign-in", "bucket"))

    def _find_credentials(self) -> Diagnosis:
        endpoint = self._connect().endpoint
        self._reach = Reach(endpoint, self._client_options)
        credentials = endpoint.credentials
        frozen = credentials.get_frozen_credentials()
        source = _SOURCES.get(credentials.method or "", credentials.method or "an unknown source")
        finding = f"{_shortened(frozen.access_key or '')} from {source}"
        if endpoint.settings.profile_name and credentials.method != "explicit":
            finding += f" (profile {endpoint.settings.profile_name!r})"
        # botocore says it nowhere else; credentials that never expire have no such attribute.
        expires: datetime | None = getattr(credentials, "_expiry_time", None)
        if expires is None:
            return ok(finding)
        finding += f", until {expires.astimezone(UTC):%Y-%m-%d %H:%M}Z"
        if expires - datetime.now(UTC) < _EXPIRES_SOON:
            return warning(finding, "sign in again, unless what gave them gives new ones by itself")
        return ok(f"{finding}, then refreshed")

    def _step(self, step: Callable[[Reach], Diagnosis]) -> Callable[[], Diagnosis]:
        # Looked up when called: only the first check finds out which endpoint there is to reach.
        return lambda: step(self._reach)

    def _sign_in(self) -> Diagnosis:
        """Ask for a page of the listing, which says more about what is wrong than most requests."""
        connection = self._connect()
        try:
            next(connection.transport.list(self._prefix, ""), None)
        except RequestFailed as error:
            self._failure = error.failure
            failed = self._translated(error.failure)
            # The server says AccessDenied only to a user it knows.
            if isinstance(failed, PermissionDeniedError) and error.failure.code != _DENIED:
                return refused(failed)
        return ok("the server accepts the credentials")

    def _find_bucket(self) -> Diagnosis:
        endpoint = self._connect().endpoint
        name, region = endpoint.settings.bucket, endpoint.region
        if self._failure is None:
            return ok(f"{name!r} is there, and requests for region {region!r} are accepted")
        if self._failure.code == _DENIED:
            return ok(f"{name!r} may not be listed; whether it is there shows below")
        return refused(self._translated(self._failure))

    def _translated(self, failure: Failure) -> AMFSError:
        return translate(failure, "list", self._connect().endpoint.where, self._prefix)

    def _read_versioning(self) -> Diagnosis:
        endpoint = self._connect().endpoint
        try:
            answer = endpoint.client.get_bucket_versioning(Bucket=endpoint.settings.bucket)
        except (ClientError, BotoCoreError) as error:
            return skipped(f"the server does not tell ({_code(error)})")
        status = answer.get("Status")
        if status is None:
            return ok("off: what `amfs purge` erases is gone")
        if status == "Suspended":
            return warning(
                "suspended: bodies from before stay as noncurrent versions",
                "let a lifecycle rule expire noncurrent versions (NoncurrentVersionExpiration)",
            )
        return warning(
            "on: what `amfs purge` erases stays as a noncurrent version, and so do scratch objects",
            "let a lifecycle rule expire noncurrent versions (NoncurrentVersionExpiration), or use "
            "a bucket without versioning: AMFS keeps versions of its own",
        )

    def _read_lock(self) -> Diagnosis:
        endpoint = self._connect().endpoint
        try:
            answer = endpoint.client.get_object_lock_configuration(Bucket=endpoint.settings.bucket)
        except (ClientError, BotoCoreError) as error:
            code = _code(error)
            if code == "ObjectLockConfigurationNotFoundError":
                return ok("off")
            return skipped(f"the server does not tell ({code})")
        retention = (
            answer.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention")
        )
        if retention is None:
            return ok("possible; no retention by default")
        mode = retention.get("Mode", "")
        span = (
            f"{retention['Days']} days"
            if "Days" in retention
            else f"{retention.get('Years')} years"
        )
        return warning(
            f"every object is kept for {span} ({mode}): `amfs purge` cannot erase before",
            "use a bucket without retention if memories of people are in it",
        )


def _code(error: ClientError | BotoCoreError) -> str:
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "?"))
    return type(error).__name__


def _shortened(access_key: str) -> str:
    """Return only as much of an access key id as tells two of them apart."""
    return f"…{access_key[-_SHOWN:]}" if len(access_key) > 2 * _SHOWN else "an access key"
