"""Proof that an endpoint honours `If-None-Match: *`, before anything is written to it.

A server that accepts the header and ignores it would let two writers both succeed. The proof
creates a scratch object twice: the server must refuse the second create. The object must then be in
a listing and be read back, which fails if the endpoint's URL already contains the bucket. A proof
is remembered for a day in the user's cache directory, where there is one.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
import uuid
from pathlib import Path

import platformdirs

from amfs_core.errors import (
    BackendUnavailableError,
    ConditionalWritesUnsupportedError,
    ConfigurationError,
)
from amfs_s3.endpoint import Endpoint
from amfs_s3.failures import RequestFailed
from amfs_s3.transport import Transport

_VALID_SECONDS = 24 * 3600.0
_REMOVE_SECONDS, _PAUSE_SECONDS = 2.0, 0.05
_SERVER_ERROR = 500
_log = logging.getLogger("amfs")


def require_conditional_writes(endpoint: Endpoint, transport: Transport, prefix: str) -> None:
    """Return once creates are proved to be conditional; raise otherwise.

    No request for AWS, or when it was proved within a day; else 5, on an object that is removed.
    """
    if endpoint.is_aws:  # "Conditional writes", Amazon S3 user guide, since 2024
        return
    mark = _mark(endpoint)
    if _is_fresh(mark):
        return
    scratch = f"{prefix}.amfs-probe/{uuid.uuid4().hex}/object"
    started = time.monotonic()
    try:
        created = transport.create(scratch, b"first")
        refused = not transport.create(scratch, b"second")
        is_readable = created and refused and _is_found(transport, scratch)
    except RequestFailed as error:
        if error.failure.stage in ("sent", "answered"):  # so it may have been applied
            _remove(transport, scratch, started)
        raise
    _remove(transport, scratch, time.monotonic())  # the server answers, however long it took
    if not created:  # a conflict (409): then the success of the second create proves nothing
        raise BackendUnavailableError(
            f"{endpoint.where} reported a conflict on a new scratch object",
            hint="try again",
            object_key=scratch,
        )
    if not refused:
        raise ConditionalWritesUnsupportedError(
            f"{endpoint.where} accepts If-None-Match but ignores it, so concurrent writers would "
            "overwrite each other",
            hint=(
                "nothing was written. Use a server with conditional writes "
                "(AWS S3, MinIO, Ceph, Versity, R2)"
            ),
        )
    if not is_readable:
        raise ConfigurationError(
            f"an object just created in {endpoint.where} is in no listing there, or has other "
            "contents",
            hint=(
                "nothing was written. Is the bucket a part of endpoint_url already? Give the "
                "URL of the service alone"
            ),
            object_key=scratch,
        )
    if mark is None:
        return
    with contextlib.suppress(OSError):  # then the next process makes the proof again
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        os.utime(mark)


def _remove(transport: Transport, scratch: str, started: float) -> None:
    """Remove the scratch object, and ask again until a few seconds after `started`, so as not to
    wait long for a silent server."""
    code: str | None = "no answer"
    while time.monotonic() - started < _REMOVE_SECONDS:
        try:
            return transport.delete(scratch)
        except RequestFailed as error:
            code = error.failure.code
            if error.failure.status is not None and error.failure.status < _SERVER_ERROR:
                break
        time.sleep(_PAUSE_SECONDS)
    _log.warning("could not remove the scratch object %r: %s", scratch, code)
    return None


def _is_found(transport: Transport, scratch: str) -> bool:
    """True if the scratch object is listed under its name and reads back as it was created."""
    try:
        page = next(transport.list(scratch.removesuffix("object"), ""), [])
    except RequestFailed as error:
        if error.failure.is_absent_object:  # a listing came back for the name of an object
            return False
        raise
    return [info.key for info in page] == [scratch] and transport.get(scratch) == b"first"


def _mark(endpoint: Endpoint) -> Path | None:
    """Return the file that records the proof; None where there is no cache directory."""
    # "listed": earlier releases left marks of a proof that did not list.
    identity = f"listed\n{endpoint.url}\n{endpoint.settings.bucket}".encode()
    name = hashlib.sha256(identity).hexdigest()[:32]
    try:
        directory = Path(platformdirs.user_cache_dir("amfs"))
    except (RuntimeError, KeyError, OSError):  # no HOME, and no entry in the list of users
        return None
    return directory / "conditional-writes" / name


def _is_fresh(mark: Path | None) -> bool:
    if mark is None:
        return False
    try:
        return 0 <= time.time() - mark.stat().st_mtime < _VALID_SECONDS
    except OSError:
        return False
