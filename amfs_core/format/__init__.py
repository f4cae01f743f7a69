"""Names and bytes as `docs/layout.md` publishes them; no I/O."""

from amfs_core.format import seal, strict_json, values
from amfs_core.format.entry import (
    MEMORY_TYPES,
    Draft,
    Evidence,
    MemoryEntry,
    Provenance,
    as_provisional,
    decode_entry,
    encode_entry,
    seal_entry,
    time_text,
)
from amfs_core.format.names import (
    MAX_OBJECT_KEY_BYTES,
    MAX_PREFIX_BYTES,
    MAX_SEGMENT_BYTES,
    MAX_VERSION,
    Address,
    Layout,
    checked_prefix,
    escape,
    unescape,
)
from amfs_core.format.outcome import Cause, Outcome, OutcomeType, decode_outcome, seal_outcome

__all__ = [
    "MAX_OBJECT_KEY_BYTES",
    "MAX_PREFIX_BYTES",
    "MAX_SEGMENT_BYTES",
    "MAX_VERSION",
    "MEMORY_TYPES",
    "Address",
    "Cause",
    "Draft",
    "Evidence",
    "Layout",
    "MemoryEntry",
    "Outcome",
    "OutcomeType",
    "Provenance",
    "as_provisional",
    "checked_prefix",
    "decode_entry",
    "decode_outcome",
    "encode_entry",
    "escape",
    "seal",
    "seal_entry",
    "seal_outcome",
    "strict_json",
    "time_text",
    "unescape",
    "values",
]
