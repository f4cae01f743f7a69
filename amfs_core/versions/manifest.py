"""The manifest of a namespace as this process knows it, and until when it may rely on that.

`docs/design/manifest.md` says what goes wrong without it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from amfs_core import fork
from amfs_core.errors import BackendUnavailableError, PermissionDeniedError, UnknownFeatureError
from amfs_core.format import (
    Feature,
    Layout,
    Manifest,
    decode_manifest,
    seal_manifest,
)
from amfs_core.parallel import new_lock
from amfs_core.storage import StoreClient
from amfs_core.versions.write_id import new_write_id

LEASE = 60.0
"""Seconds for which a writer relies on what it read."""

_NEVER = float("-inf")
_LONGEST_STEP = 64  # versions of the manifest that are asked for together, at most

# It must count while the machine is suspended, which `time.monotonic` does not.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


running: Callable[[], float] = partial(time.clock_gettime, _CLOCK)
"""Returns the seconds since the machine was started, suspends included. Without a frame of its own:
every write asks (`docs/design/speed.md`)."""


class _Seen(NamedTuple):
    """A version of the manifest, None for "there is none", and its bytes."""

    manifest: Manifest | None
    bodies: tuple[bytes, ...] = ()


class Manifests:
    """All versions of the manifest of one namespace, as they are in the store.

    `may_read` is True once this process may read the namespace; it may write there until
    `writes_until`, by the clock of `running`. Safe to share between threads.
    """

    def __init__(self, store: StoreClient, layout: Layout) -> None:
        self.layout = layout
        self.may_read = False
        self.writes_until = _NEVER
        self._store = store
        self._origin = store.origin  # nobody writes by what a cache or a mirror has
        self._seen = _Seen(None)
        self.after_fork()
        fork.register(self)

    def after_fork(self) -> None:
        """Take a new lock in a forked child."""
        self._lock = new_lock()

    @property
    def bodies(self) -> tuple[bytes, ...]:
        """The bytes of all versions that were seen, the first one first."""
        return self._seen.bodies

    def texts(self) -> tuple[str, ...]:
        """Return the same as text, each checked; `CorruptEntryError` names one that is damaged."""
        for number, body in enumerate(self.bodies, start=1):
            decode_manifest(body, self.layout, number)
        return tuple(body.decode() for body in self.bodies)

    def for_reading(self) -> Manifest | None:
        """Return the manifest once this release is known to know all that readers must know.

        0 requests once it has been read, else 1 where there is none. Raises `UnknownFeatureError`,
        `CorruptEntryError` or `PermissionDeniedError` where this process may not.
        """
        with self._lock:
            if not self.may_read:
                if self._origin is self._store:  # then a write relies on the same answer
                    with contextlib.suppress(UnknownFeatureError):
                        self.for_writing()
                else:
                    self._look(self._store)
                self._allow_reading()
            return self._seen.manifest

    def for_writing(self) -> Manifest | None:
        """Return the manifest once this release is known to know all that writers must know.

        0 requests within 60 s of the last look, else 1 where nothing is new. Raises as
        `for_reading`.
        """
        with self._lock:
            if running() >= self.writes_until:
                asked = running()  # before: what was answered may have been true until then only
                self._look(self._origin)
                self._allow_reading()
                self._require_known(writes=True)
                self.writes_until = asked + LEASE
            return self._seen.manifest

    def look(self) -> Manifest | None:
        """Look for a newer one now, and return the newest, whatever it asks for. 1 request where
        nothing is new. Raises as `for_reading`, but never `UnknownFeatureError`."""
        with self._lock:
            self._look(self._origin)
            return self._seen.manifest

    def change(
        self, features: Callable[[Mapping[str, Feature]], Mapping[str, Feature]]
    ) -> Manifest:
        """Append a version of the manifest that has other features, and return it.

        `features` gives all that are to hold, from those that hold now; it is called again when
        another process came first. A look, and 1 request. Raises as `for_writing`, and
        `OutcomeUnknownError` when it is unknown whether it was created.
        """
        write_id = new_write_id()
        while True:
            before = self.look()
            self._require_known(writes=True)
            made, body = seal_manifest(
                Manifest(
                    namespace=self.layout.namespace,
                    version=1 if before is None else before.version + 1,
                    features=features({} if before is None else before.features),
                    written_at=datetime.now(UTC),
                    write_id=write_id,
                    previous=None if before is None else before.sha256,
                    sha256="",
                    extra={} if before is None else before.extra,
                )
            )
            stored_body = self._store.settle(self.layout.manifest_key(made.version), body)
            if stored_body == body:
                self.writes_until = _NEVER  # the next write sees it
                return made

    def _allow_reading(self) -> None:
        self.may_read = False
        self._require_known(writes=False)
        self.may_read = True

    def _require_known(self, *, writes: bool) -> None:
        manifest = self._seen.manifest
        if manifest is None:
            return
        manifest.require_known(self.layout.manifest_key(manifest.version), writes=writes)

    def _look(self, store: StoreClient) -> None:
        """Read what comes after the versions that were seen.

        Numbers have no gaps, so the first that is absent is the end. One is asked for, then two
        together, then four, and so on.
        """
        bodies = list(self._seen.bodies)
        step = 1
        while True:
            numbers = range(len(bodies) + 1, len(bodies) + 1 + step)
            new_bodies = self._get(store, numbers)
            for number in numbers:
                body = new_bodies[number]
                if body is None:
                    self._keep(bodies)
                    return
                bodies.append(body)
            step = min(2 * step, _LONGEST_STEP)

    def _keep(self, bodies: list[bytes]) -> None:
        if len(bodies) > len(self._seen.bodies):
            newest = decode_manifest(bodies[-1], self.layout, len(bodies))
            self._seen = _Seen(newest, tuple(bodies))
            self.may_read, self.writes_until = False, _NEVER  # what it asks for is looked at first

    def _get(self, store: StoreClient, numbers: range) -> dict[int, bytes | None]:
        keys = {self.layout.manifest_key(number): number for number in numbers}
        try:
            if len(keys) == 1:
                return {number: store.get(key) for key, number in keys.items()}
            return {keys[key]: body for key, body in store.get_many(keys)}
        except BackendUnavailableError as error:
            # Every process needs it, also one whose own objects are in another store of `routes`.
            namespace = self.layout.namespace
            error.noting(f"every process reads the manifest of the namespace {namespace!r}")
            raise
        except PermissionDeniedError as denial:
            # AWS says so of an absent object too, to whoever may list by a prefix only.
            there = self._listed(store, denial)
            return {
                number: store.get(key) if key in there else None for key, number in keys.items()
            }

    def _listed(self, store: StoreClient, denial: PermissionDeniedError) -> frozenset[str]:
        try:
            return frozenset(info.key for info in store.list(self.layout.manifests))
        except PermissionDeniedError:
            raise PermissionDeniedError(
                f"{denial.problem}; nobody may use a namespace without reading its manifest",
                hint=denial.hint or f"permit reading what is below {self.layout.manifests}",
                object_key=denial.object_key,
            ) from denial
