"""The rights of a key for objects: the same as for the memories and outcomes in them."""

from __future__ import annotations

from amfs_core.errors import AMFSError, CorruptEntryError
from amfs_core.format import (
    MANIFEST,
    OUTCOME,
    VERSION,
    Layout,
    MemoryEntry,
    Outcome,
    Parsed,
    decode_entry,
    decode_outcome,
    unescape,
)
from amfs_core.storage import StoreClient
from amfs_server.keys import Key
from amfs_server.problems import Refusal

_SEEN_BY_NAME = (VERSION, MANIFEST)
"""Kinds whose names say who sees them. What an outcome is about is in its content."""


class ObjectRights:
    """The rights of one key.

    A key that sees everything and signs as anybody may store any bytes, like a user with direct
    access to the store. For other keys, each object is checked: it must be a memory's version or an
    outcome that the key could have written through the API, with the right signature, as the next
    version of its history. Every key may read the manifest of the namespace; only a key without
    limits may write it.
    """

    def __init__(self, key: Key, store: StoreClient) -> None:
        self._key = key
        self._store = store
        self._sees_all = key.entity_paths is None
        self._writes_all = self._sees_all and key.agent_id is None

    def require_place(self, object_key: str) -> None:
        """Raise unless the key sees the subject of an object, as far as the object's name tells."""
        namespace = _namespace(object_key)
        self._key.require_namespace(namespace)
        if self._sees_all:
            return
        parsed = _parsed(object_key)
        if parsed is not None and parsed.kind is VERSION and parsed.address is not None:
            self._key.require_path(parsed.address.entity_path)
        elif parsed is None or parsed.kind not in (OUTCOME, MANIFEST):
            raise _beyond("sees")  # also for a kind for which nobody has said here who sees it

    def require_prefix(self, prefix: str) -> None:
        """Raise when a listing would leave out objects that the key does not see, and would so look
        complete. A prefix above the key's entity paths is allowed; only those paths are listed."""
        if not prefix:
            return
        namespace = _namespace(prefix)
        self._key.require_namespace(namespace)
        layout = _layout(namespace)
        if self._sees_all:
            return
        if layout is not None and prefix == layout.manifests:
            return
        if layout is None or not prefix.startswith(layout.entries):
            raise Refusal(403, "forbidden", "this key sees only memories under its entity paths")
        names = [unescape(name) or name for name in prefix[len(layout.entries) : -1].split("/")]
        path = "/".join(names)
        below = any(own.startswith(f"{path}/") for own in self._key.entity_paths or ())
        if path and not below:
            self._key.require_path(path)

    def lists(self, object_key: str) -> bool:
        """Whether this key's listings include an object. An outcome's name does not tell its
        memories, so a key limited to some entity paths sees no outcomes listed. Every key sees the
        manifest listed."""
        try:
            self.require_place(object_key)
        except Refusal:
            return False
        if self._sees_all:
            return True
        parsed = _parsed(object_key)
        return parsed is not None and parsed.kind in _SEEN_BY_NAME

    def require_read(self, object_key: str, data: bytes | None) -> None:
        """Raise unless the key sees the memories named in an object."""
        if self._sees_all or data is None:
            return
        parsed = _parsed(object_key)
        if parsed is not None and parsed.kind in _SEEN_BY_NAME:
            return  # `require_place` has looked at its name
        if parsed is None or parsed.kind is not OUTCOME or parsed.reference is None:
            raise _beyond("sees")
        try:
            layout = Layout(_namespace(object_key))
            self._require_causes(decode_outcome(data, layout, parsed.reference))
        except CorruptEntryError as error:
            raise _beyond("sees") from error

    def require_write(self, object_key: str, data: bytes, *, replaces: bool) -> None:
        """Raise unless the key may store these bytes under this name. Up to 1 request."""
        if self._writes_all:
            return
        parsed = _parsed(object_key)
        try:
            if parsed is not None and parsed.address is not None:
                layout = Layout(_namespace(object_key))
                entry = decode_entry(data, layout.namespace, parsed.address, parsed.number)
                self._require_version(layout, entry, replaces=replaces)
                return
            if parsed is not None and parsed.reference is not None and not replaces:
                layout = Layout(_namespace(object_key))
                outcome = decode_outcome(data, layout, parsed.reference)
                self._require_causes(outcome)
                self._require_signer(outcome.agent_id)
                return
        except CorruptEntryError as error:
            raise Refusal(
                403, "forbidden", f"this key may write only memories and outcomes: {error.problem}"
            ) from error
        raise _beyond("writes")

    def require_all(self, does: str) -> None:
        """Raise unless the key may store any bytes. `does` says what it would do, as in "removes
        objects"."""
        if not self._writes_all:
            raise Refusal(403, "forbidden", f"only a key without limits {does}")

    def _require_version(self, layout: Layout, entry: MemoryEntry, *, replaces: bool) -> None:
        self._key.require_path(entry.entity_path)
        if replaces:
            if entry.erased is None:
                raise Refusal(403, "forbidden", "only a stub may replace a version")
            return
        if entry.purges:
            self._key.require_role("eraser")
        self._require_signer(entry.provenance.agent_id)
        if entry.version == 1:
            return
        address = layout.address(entry.entity_path, entry.key)
        body = self._store.get(address.object_key(entry.version - 1))
        if body is None:
            raise Refusal(403, "forbidden", "the version before this one does not exist")
        try:
            before = decode_entry(body, layout.namespace, address, entry.version - 1)
        except AMFSError:  # it is damaged; a writer may add the next version nevertheless
            return
        if entry.previous != (before.erased or before.sha256):
            raise Refusal(403, "forbidden", "this version does not continue its history")

    def _require_causes(self, outcome: Outcome) -> None:
        if not self._sees_all and not outcome.causes:
            raise _beyond("sees")
        for cause in outcome.causes:
            self._key.require_path(cause.entity_path)

    def _require_signer(self, agent_id: str) -> None:
        own = self._key.agent_id
        if own is not None and agent_id != own:
            raise Refusal(403, "forbidden", f"this key signs only as {own!r}")


def _namespace(object_key: str) -> str:
    name = object_key.partition("/")[0]
    return unescape(name) or name


def _parsed(object_key: str) -> Parsed | None:
    """Return the parsed name of an object, or None if it is not one of the known kinds."""
    layout = _layout(_namespace(object_key))
    return None if layout is None else layout.parse_any(object_key)


def _layout(namespace: str) -> Layout | None:
    """Return the layout of a namespace, or None for an invalid name."""
    try:
        return Layout(namespace)
    except AMFSError:
        return None


def _beyond(does: str) -> Refusal:
    return Refusal(403, "forbidden", f"this is not an object that this key {does}")
