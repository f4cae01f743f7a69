"""Proof that an endpoint honours `If-None-Match: *`, before anything is written to it.

A server that accepts the header and ignores it would let two writers both succeed. A scratch object
that is created twice shows it: the second create must be refused. What was proved is remembered for
a day in the user's cache directory.
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

from amfs_core.errors import BackendUnavailableError, ConditionalWritesUnsupportedError
from amfs_s3.endpoint import Endpoint
from amfs_s3.transport import RequestFailed, Transport

_VALID_SECONDS = 24 * 3600.0
_REMOVE_SECONDS, _PAUSE_SECONDS = 2.0, 0.05
_SERVER_ERROR = 500
_log = logging.getLogger("amfs")


def require_conditional_writes(endpoint: Endpoint, transport: Transport, prefix: str) -> None:
    """Return once it is proved that creates are conditional; raise otherwise.

    No request for AWS, or when it was proved within a day; else 3, on an object that is removed.
    """
    if endpoint.is_aws:  # "Conditional writes", Amazon S3 user guide, since 2024
        return
    mark = _mark(endpoint)
    if _is_fresh(mark):
        return
    scratch = f"{prefix}.amfs-probe/{uuid.uuid4().hex}"
    started = time.monotonic()
    try:
        created = transport.create(scratch, b"first")
        refused = not transport.create(scratch, b"second")
    except RequestFailed as error:
        if error.failure.stage in ("sent", "answered"):  # so it may have been applied
            _remove(transport, scratch, started)
        raise
    _remove(transport, scratch, time.monotonic())  # it answers, however long that took
    if not created:  # a conflict (409): that the second create succeeds proves nothing then
        raise BackendUnavailableError(
            f"{endpoint.where} reported a conflict on a new scratch object; try again",
            object_key=scratch,
        )
    if not refused:
        raise ConditionalWritesUnsupportedError(
            f"{endpoint.where} accepts If-None-Match but ignores it, so concurrent writers would "
            "overwrite each other; nothing was written. Use a server with conditional writes "
            "(AWS S3, MinIO, Ceph, Versity, R2)"
        )
    with contextlib.suppress(OSError):  # without a cache the proof is made again next time
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        os.utime(mark)


def _remove(transport: Transport, scratch: str, started: float) -> None:
    """Remove the scratch object, asking again until a few seconds after `started`: not for long a
    server that is silent."""
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


def _mark(endpoint: Endpoint) -> Path:
    identity = f"{endpoint.url}\n{endpoint.settings.bucket}".encode()
    name = hashlib.sha256(identity).hexdigest()[:32]
    return Path(platformdirs.user_cache_dir("amfs")) / "conditional-writes" / name


def _is_fresh(mark: Path) -> bool:
    try:
        return 0 <= time.time() - mark.stat().st_mtime < _VALID_SECONDS
    except OSError:
        return False
