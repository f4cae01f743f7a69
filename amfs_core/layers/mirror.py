"""Mirrors: stores that have every object of a primary store too (docs/design/layers.md)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    CircuitOpenError,
    OutcomeUnknownError,
)
from amfs_core.format import Address
from amfs_core.layers.stored_version import decoded, version_of
from amfs_core.parallel import each
from amfs_core.storage import StorageAdapter, StoreClient

_AT_ONCE = 16
_MOST_DIFFERING = 1_000
_MOST_REACHED = 10_000
_MOST_BEFORE = 64  # versions; a mirror that lacks more was never brought up to date

_log = logging.getLogger("amfs")


@dataclass(frozen=True, slots=True)
class Mirror:
    """A store that gets every object of the primary store: before a write returns (`wait`), or soon
    after."""

    adapter: StorageAdapter
    wait: bool = False


class MirrorStore:
    """One mirror as it is written to and read: one attempt at a time, and few while it is down."""

    def __init__(self, name: str, adapter: StorageAdapter) -> None:
        self.name = name
        self.adapter = adapter
        self.client = StoreClient(adapter, 0.0, name)
        self.error: AMFSError | None = None
        self._differing: set[str] = set()
        self._known: set[str] = set()
        self._reached: dict[str, int] = {}  # by memory, a version up to which all are here

    @property
    def differing(self) -> int:
        """How many objects were met here that have other bytes in the primary."""
        return len(self._differing)

    def has_any(self, prefix: str) -> bool:
        """Whether there is anything in the namespace of a key or prefix: an empty mirror knows
        nothing of what is absent. 1 request, once it is found to have something none."""
        namespace, slash, _ = prefix.partition("/")
        root = f"{namespace}{slash}" if slash else ""
        if root not in self._known and next(self.client.list(root), None) is not None:
            self._known.add(root)
        return root in self._known

    def create(self, key: str, body: bytes, primary: StorageAdapter) -> None:
        """Create an object here as it is in the primary; of a version the ones before it, if they
        are missing, too. What is here with other bytes stays, but for the content of a version that
        the primary has erased.

        1 request; 1 more when it is here; and 1 more for a version when it was not this process
        that brought the one before.
        """
        version = version_of(key)
        if version is not None:
            _, address, number = version
            self._create_before(address, number, primary)
        self._create(key, body)
        if version is not None:
            self._note_reached(address.prefix, number)

    def _create_before(self, address: Address, number: int, primary: StorageAdapter) -> None:
        """Create the missing versions before one, in their order: whoever looks for the newest
        version in this store trusts that none below it is missing."""
        missing: list[str] = []
        while number > 1 and self._reached.get(address.prefix, 0) < number - 1:
            number -= 1
            key = address.object_key(number)
            if self.client.get(key) is not None or len(missing) >= _MOST_BEFORE:
                break
            missing.append(key)
        for key in reversed(missing):
            body = primary.get(key)
            if body is not None:
                self._create(key, body)

    def _note_reached(self, prefix: str, number: int) -> None:
        if len(self._reached) >= _MOST_REACHED:
            self._reached.clear()
        self._reached[prefix] = max(number, self._reached.get(prefix, 0))

    def _create(self, key: str, body: bytes) -> None:
        if self.client.create(key, body):
            return
        existing_body = self.client.get(key)
        if existing_body is None:
            raise BackendUnavailableError(
                f"{self.name} refused to create {key} but has no such object", object_key=key
            )
        if existing_body == body:
            return
        here, there = decoded(key, existing_body), decoded(key, body)
        if here is not None and there is not None and there.erased == here.sha256:
            self.client.replace(key, body)
            return
        if (
            here is None
            or there is None
            or here.erased is None
            or here.erased not in (there.sha256, there.erased)
        ):
            self._note_difference(key)

    def create_together(self, objects: Mapping[str, bytes]) -> set[str]:
        """Create what can be created together here, and return the keys of what was: never a
        version before which one may be missing."""
        if not self.client.capabilities.batch:
            return set()
        first = {key: body for key, body in objects.items() if self._may_be_next(key)}
        here = set(self.client.create_many(first))
        for key in here:
            if (version := version_of(key)) is not None:
                self._note_reached(version[1].prefix, version[2])
        return here

    def _may_be_next(self, key: str) -> bool:
        version = version_of(key)
        return version is None or self._reached.get(version[1].prefix, 0) >= version[2] - 1

    def create_many(self, objects: Mapping[str, bytes], primary: StorageAdapter) -> Collection[str]:
        """Create objects here, together where that is possible, and return the keys of those that
        are here now. Raises nothing."""
        here = self.create_together(objects)
        rest = [key for key in objects if key not in here]
        for done in each(lambda key: self.create(key, objects[key], primary), rest, _AT_ONCE):
            try:
                done.result()
            except AMFSError as error:
                self.error = error
            else:
                here.add(done.item)
        return here

    def _note_difference(self, key: str) -> None:
        if key not in self._differing and len(self._differing) < _MOST_DIFFERING:
            self._differing.add(key)
            _log.error(
                "%s is in %s with other bytes than in the primary store, and stays as it is: find "
                "out which of the two is right",
                key,
                self.name,
            )


class WaitedMirror(MirrorStore):
    """A mirror that has an object before the write of it returns."""

    def require(self, key: str) -> None:
        """Raise `CircuitOpenError` while the mirror is known to be down: then nothing is to be
        written to the primary either. No request but one now and then to find out."""
        if not self.client.is_down:
            return
        try:
            self.client.get(key)
        except AMFSError as error:
            self.error = error
            raise CircuitOpenError(
                f"{self.name} is to have every object before a write returns, and does not "
                f"answer: {error.problem}",
                hint="set wait: false, or take the mirror out, to go on without it",
                object_key=key,
                retry_after=error.retry_after,
            ) from error

    def confirm(self, key: str, body: bytes | None, primary: StorageAdapter) -> None:
        """Return once an object is here that the primary has. `body` is None for one that was taken
        there: its creator may have died before it was here.

        Raises `OutcomeUnknownError` when the mirror fails: the object is there and the write is not
        done, so it is for the caller to ask again.
        """
        try:
            if body is None:
                if self.client.get(key) is not None:
                    return
                body = primary.get(key)
                if body is None:  # a conflict, after which nothing is there
                    return
            self.create(key, body, primary)
        except AMFSError as error:
            self.error = error
            unknown = OutcomeUnknownError(
                f"{key} is in the primary store, but it is unknown whether it is in {self.name}: "
                f"{error.problem}",
                hint=error.hint,
                object_key=key,
            )
            unknown.origin = "layer"
            raise unknown from error
        self.error = None

    def write(self, work: Callable[[], None]) -> None:
        """Do what is done here before it is in the primary."""
        try:
            work()
        except AMFSError as error:
            self.error = error
            error.origin = "layer"
            raise
        self.error = None
