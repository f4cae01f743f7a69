"""What a key may do with objects: the same as with the memories and outcomes that they are."""

from __future__ import annotations

from amfs_core.errors import AMFSError, CorruptEntryError
from amfs_core.format import (
    OUTCOME,
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


class ObjectRights:
    """The rights of one key.

    One that sees everything and signs as anybody may keep any bytes, as whoever has the store
    itself may. Of others each object is looked at: it must be a memory's version or an outcome that
    the key could have written another way, signed as the key signs, the next of its history. The
    manifest of the namespace is read by every key, and written by one without limits only.
    """

    def __init__(self, key: Key, store: StoreClient) -> None:
        self._key = key
        self._store = store
        self._sees_all = key.entity_paths is None
        self._writes_all = self._sees_all and key.agent_id is None

    def require_place(self, object_key: str) -> None:
        """Raise unless the key sees what an object of this name is about, as far as that shows."""
        namespace = _namespace(object_key)
        self._key.require_namespace(namespace)
        if self._sees_all:
            return
        parsed = _parsed(object_key)
        if parsed is None:
            raise _beyond("sees")
        if parsed.address is not None:
            self._key.require_path(parsed.address.entity_path)

    def require_prefix(self, prefix: str) -> None:
        """Raise where a listing would have to leave out what the key does not see, and so pass for
        a whole one; below all of its entity paths, only what it sees is listed."""
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
            raise Refusal(403, "forbidden", "this key sees memories only, below its entity paths")
        names = [unescape(name) or name for name in prefix[len(layout.entries) : -1].split("/")]
        path = "/".join(names)
        below = any(own.startswith(f"{path}/") for own in self._key.entity_paths or ())
        if path and not below:
            self._key.require_path(path)

    def lists(self, object_key: str) -> bool:
        """Whether an object is in the listings of this key. An outcome says only inside what it is
        about, so a key that sees some entity paths is shown none. The manifest is about everybody.
        """
        try:
            self.require_place(object_key)
        except Refusal:
            return False
        if self._sees_all:
            return True
        parsed = _parsed(object_key)
        return parsed is not None and parsed.kind is not OUTCOME

    def require_read(self, object_key: str, data: bytes | None) -> None:
        """Raise unless the key sees what an object says it is about."""
        if self._sees_all or data is None:
            return
        parsed = _parsed(object_key)
        if parsed is None or parsed.reference is None:
            return
        try:
            layout = Layout(_namespace(object_key))
            self._require_causes(decode_outcome(data, layout, parsed.reference))
        except CorruptEntryError as error:
            raise _beyond("sees") from error

    def require_write(self, object_key: str, data: bytes, *, replaces: bool) -> None:
        """Raise unless the key may keep these bytes there. Up to 1 request to the store."""
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
                403, "forbidden", f"this key writes memories and outcomes only: {error.problem}"
            ) from error
        raise _beyond("writes")

    def require_all(self, does: str) -> None:
        """Raise unless the key may keep any bytes."""
        if not self._writes_all:
            raise Refusal(403, "forbidden", f"only a key without limits {does}")

    def _require_version(self, layout: Layout, entry: MemoryEntry, *, replaces: bool) -> None:
        self._key.require_path(entry.entity_path)
        if replaces:
            if entry.erased is None:
                raise Refusal(403, "forbidden", "a version is replaced by its stub only")
            return
        if entry.purges:
            self._key.require_role("eraser")
        self._require_signer(entry.provenance.agent_id)
        if entry.version == 1:
            return
        address = layout.address(entry.entity_path, entry.key)
        body = self._store.get(address.object_key(entry.version - 1))
        if body is None:
            raise Refusal(403, "forbidden", "the version before this one is not there")
        try:
            before = decode_entry(body, layout.namespace, address, entry.version - 1)
        except AMFSError:  # damaged, and a writer may go on behind it
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
            raise Refusal(403, "forbidden", f"this key signs as {own!r}, and as nobody else")


def _namespace(object_key: str) -> str:
    name = object_key.partition("/")[0]
    return unescape(name) or name


def _parsed(object_key: str) -> Parsed | None:
    """Return what an object is by the table of kinds; None for one of no kind."""
    layout = _layout(_namespace(object_key))
    return None if layout is None else layout.parse_any(object_key)


def _layout(namespace: str) -> Layout | None:
    """Return the layout of a namespace; None for what cannot be one's name."""
    try:
        return Layout(namespace)
    except AMFSError:
        return None


def _beyond(does: str) -> Refusal:
    return Refusal(403, "forbidden", f"that is not an object that this key {does}")
