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

from amfs_core.errors import ConditionalWritesUnsupportedError
from amfs_s3.endpoint import Endpoint
from amfs_s3.transport import RequestFailed, Transport

_VALID_SECONDS = 24 * 3600.0
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
    transport.create(scratch, b"first")
    refused = not transport.create(scratch, b"second")
    try:
        transport.delete(scratch)
    except RequestFailed as error:
        _log.warning("could not remove the scratch object %r: %s", scratch, error.failure.code)
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


def _mark(endpoint: Endpoint) -> Path:
    identity = f"{endpoint.url}\n{endpoint.settings.bucket}".encode()
    name = hashlib.sha256(identity).hexdigest()[:32]
    return Path(platformdirs.user_cache_dir("amfs")) / "conditional-writes" / name


def _is_fresh(mark: Path) -> bool:
    try:
        return 0 <= time.time() - mark.stat().st_mtime < _VALID_SECONDS
    except OSError:
        return False
