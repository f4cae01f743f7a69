"""Where objects are: the public layout, and the reversible escaping of names in it.

    <namespace>/<folder of the kind>/…        the kinds are those of `amfs_core.format.kinds`

Keys here are relative to the adapter's prefix or root. The rules are the same on every backend, so
that a name that would not fit one of them is refused by all: a store can be copied anywhere.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from amfs_core.errors import ConfigurationError, InvalidKeyError
from amfs_core.format.kinds import KINDS, MANIFEST, OUTCOME, VERSION, Kind

MAX_SEGMENT_BYTES = 255
"""Longest escaped segment: NAME_MAX of Linux, macOS and Windows file systems."""

MAX_OBJECT_KEY_BYTES = 1024
"""Longest whole object key: the limit of Amazon S3 ("Object key naming", S3 user guide)."""

MAX_PREFIX_BYTES = 128
"""What an adapter's prefix may take of it, so that the same names fit under every prefix."""

MAX_VERSION = 9_999_999_999
"""Highest version number: the length of every object key is known before it is needed."""

_OUTCOME_SUFFIX = ".json"
_VERSION_NAME_BYTES = len(f"/v{MAX_VERSION}.json")
_SHORT = (MAX_OBJECT_KEY_BYTES - MAX_PREFIX_BYTES - _VERSION_NAME_BYTES) // 4
"""Characters that fit into an object key whatever they are: in UTF-8 each takes 4 bytes at most."""

# Control characters (C0, DEL, C1), the line and paragraph separators, and the two code points that
# XML 1.0 cannot carry (S3 lists keys in XML); then `%`, `\`, `/` and what Windows refuses. The set
# is fixed code points on purpose: a Unicode category would change with the version of Python, and
# one name would become two objects.
_ESCAPED = re.compile('[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff%\\\\/<>:"|?*]')
_MAX_PREFIXES = 16_384
_PLAIN = f"{string.ascii_letters}{string.digits}_-"
_ESCAPED_AT_START = (".", " ")
_ESCAPED_AT_END = (".", " ")
_VERSION_NAME = re.compile(r"v([1-9][0-9]{0,9})\.json", re.ASCII)
_LIKE_VERSION_NAME = re.compile(r"v[0-9]+\.json", re.ASCII | re.IGNORECASE)
_ESCAPE_SEQUENCE = re.compile(r"(?:%[0-9A-F]{2})+", re.ASCII)
_BY_FOLDER = {kind.folder: kind for kind in KINDS}


def escape(segment: str, what: str = "key") -> str:
    """Return the one object key segment that stands for `segment`.

    Raises `InvalidKeyError` when it is empty, not text, not valid UTF-8 (a lone surrogate), or
    over 255 bytes once escaped. `what` names the segment in that error.
    """
    if not segment:
        raise InvalidKeyError(
            f"the {what} is empty",
            hint="give it at least one character",
        )
    if len(segment) <= MAX_SEGMENT_BYTES and not segment.lstrip(_PLAIN):  # what most names are
        return segment
    escaped = _ESCAPED.sub(_percent, segment)
    if escaped.startswith(_ESCAPED_AT_START):
        escaped = _percent(escaped[0]) + escaped[1:]
    if escaped.endswith(_ESCAPED_AT_END):
        escaped = escaped[:-1] + _percent(escaped[-1])
    if _LIKE_VERSION_NAME.fullmatch(escaped):
        escaped = escaped.replace(".", "%2E")
    try:
        size = len(escaped.encode())
    except UnicodeEncodeError as error:
        raise InvalidKeyError(
            f"the {what} {segment!r} has a lone surrogate, which UTF-8 cannot carry"
        ) from error
    if size > MAX_SEGMENT_BYTES:
        raise InvalidKeyError(
            f"the {what} {_shortened(segment)} takes {size} bytes once escaped",
            hint=f"the limit is {MAX_SEGMENT_BYTES}",
        )
    return escaped


def unescape(segment: str) -> str | None:
    """Return the name that `segment` stands for, or None where `escape` would not have made it."""
    try:
        name = _ESCAPE_SEQUENCE.sub(_unpercent, segment)
        return name if escape(name) == segment else None
    except (UnicodeDecodeError, InvalidKeyError):
        return None


def _percent(character: re.Match[str] | str) -> str:
    text = character if isinstance(character, str) else character.group()
    return "".join(f"%{byte:02X}" for byte in text.encode())


def _unpercent(match: re.Match[str]) -> str:
    return bytes.fromhex(match.group().replace("%", "")).decode()


def _shortened(text: str) -> str:
    return repr(text) if len(text) <= 40 else repr(text[:40]) + "…"


def checked_prefix(prefix: object) -> str:
    """Return an adapter's prefix, which is empty or ends with `/`, the slash added if need be.

    Raises `ConfigurationError` unless it is names joined by single slashes, up to 128 bytes.
    """
    if type(prefix) is not str:
        raise ConfigurationError(f"prefix must be text, not {type(prefix).__name__}")
    if prefix and not prefix.endswith("/"):
        prefix += "/"
    if any(part in ("", ".", "..") for part in prefix.split("/")[:-1]):
        raise ConfigurationError(f"prefix {prefix!r} must be names joined by single slashes")
    if len(prefix.encode()) > MAX_PREFIX_BYTES:
        raise ConfigurationError(f"prefix {prefix!r} is longer than {MAX_PREFIX_BYTES} bytes")
    return prefix


def require_text(name: object, what: str) -> str:
    """Return `name` if it is exactly a `str`; raise `InvalidKeyError` naming `what` otherwise."""
    if type(name) is not str:
        raise InvalidKeyError(f"the {what} must be text, not {type(name).__name__}")
    return name


class Address(msgspec.Struct, frozen=True, gc=False):
    """One memory: its entity path and key, and the prefix under which its versions are."""

    entity_path: str
    key: str
    prefix: str

    def __str__(self) -> str:
        return f"{self.entity_path}/{self.key}"

    def is_under(self, entity_path: str | None) -> bool:
        """True for a memory of the entity path or of a deeper one; of any for None."""
        return entity_path is None or f"{self.entity_path}/".startswith(f"{entity_path}/")

    def object_key(self, version: int) -> str:
        """Return the object key of one version."""
        return f"{self.prefix}v{version}.json"


class Parsed(NamedTuple):
    """What an object of the layout is, by its key: its kind, and what of that kind.

    `address` is the memory of a version, `reference` that of an outcome; `number` is the number of
    a version or of a manifest, 0 for an outcome.
    """

    kind: Kind
    address: Address | None = None
    reference: str | None = None
    number: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """Object keys of one namespace."""

    namespace: str
    root: str = field(init=False, repr=False)
    _prefixes: dict[str, str] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        name = require_text(self.namespace, "namespace")
        object.__setattr__(self, "root", escape(name, "namespace") + "/")

    @property
    def entries(self) -> str:
        """Prefix of all versions of all memories."""
        return f"{self.root}{VERSION.folder}/"

    @property
    def outcomes(self) -> str:
        """Prefix of all outcomes."""
        return f"{self.root}{OUTCOME.folder}/"

    @property
    def manifests(self) -> str:
        """Prefix of all versions of the manifest."""
        return f"{self.root}{MANIFEST.folder}/"

    def manifest_key(self, number: int) -> str:
        """Return the object key of one version of the manifest."""
        return f"{self.manifests}v{number}.json"

    def parse_any(self, object_key: str) -> Parsed | None:
        """Return what an object of the namespace is; None for one of no kind of the layout."""
        if not object_key.startswith(self.root):
            return None
        kind = _BY_FOLDER.get(object_key[len(self.root) :].partition("/")[0])
        if kind is VERSION:
            version = self.parse(object_key)
            return None if version is None else Parsed(kind, version[0], number=version[1])
        if kind is OUTCOME:
            reference = self.parse_outcome(object_key)
            return None if reference is None else Parsed(kind, reference=reference)
        if kind is MANIFEST:
            number = self.parse_manifest(object_key)
            return None if number is None else Parsed(kind, number=number)
        return None

    def outcome_key(self, outcome_ref: str) -> str:
        """Return the object key of an outcome; `InvalidKeyError` when its name cannot be one.

        The reference is one segment of at most 255 bytes once escaped, `.json` included, which
        always fits into an object key.
        """
        name = escape(require_text(outcome_ref, "outcome reference"), "outcome reference")
        size = len(name.encode()) + len(_OUTCOME_SUFFIX)
        if size > MAX_SEGMENT_BYTES:
            raise InvalidKeyError(
                f"the outcome reference {_shortened(outcome_ref)} takes {size} bytes once escaped, "
                f"{_OUTCOME_SUFFIX} included",
                hint=f"the limit is {MAX_SEGMENT_BYTES}",
            )
        return f"{self.outcomes}{name}{_OUTCOME_SUFFIX}"

    def parse_outcome(self, object_key: str) -> str | None:
        """Return the reference of the outcome that an object is; None for anything else."""
        if not object_key.startswith(self.outcomes) or not object_key.endswith(_OUTCOME_SUFFIX):
            return None
        name = object_key[len(self.outcomes) : -len(_OUTCOME_SUFFIX)]
        fits = len(name.encode()) + len(_OUTCOME_SUFFIX) <= MAX_SEGMENT_BYTES
        return unescape(name) if fits else None

    def parse_manifest(self, object_key: str) -> int | None:
        """Return which version of the manifest an object is; None for anything else."""
        if not object_key.startswith(self.manifests):
            return None
        version = _VERSION_NAME.fullmatch(object_key, len(self.manifests))
        return None if version is None else int(version[1])

    def entity_prefix(self, entity_path: str | None) -> str:
        """Return the prefix of all memories under an entity path; None: of all there are."""
        if entity_path is None:
            return self.entries
        path = require_text(entity_path, "entity path")
        return self._prefixes.get(path) or self._prefix(path)

    def address(self, entity_path: str, key: str) -> Address:
        """Return the address of a memory; `InvalidKeyError` when its name cannot be one."""
        if type(entity_path) is not str or type(key) is not str:
            require_text(entity_path, "entity path")
            require_text(key, "key")
        prefix = self._prefixes.get(entity_path) or self._prefix(entity_path)
        prefix = f"{prefix}{escape(key)}/"
        if len(prefix) < _SHORT:
            return Address(entity_path, key, prefix)
        size = len(prefix.encode()) - 1 + _VERSION_NAME_BYTES
        if size > MAX_OBJECT_KEY_BYTES - MAX_PREFIX_BYTES:
            raise InvalidKeyError(
                f"the object key of {_shortened(f'{entity_path}/{key}')} could take {size} bytes",
                hint=(
                    f"the limit is {MAX_OBJECT_KEY_BYTES - MAX_PREFIX_BYTES} "
                    f"({MAX_OBJECT_KEY_BYTES} less {MAX_PREFIX_BYTES} kept for the store's prefix)"
                ),
                entity_path=entity_path,
                key=key,
            )
        return Address(entity_path, key, prefix)

    def _prefix(self, entity_path: str) -> str:
        """Make the prefix of an entity path, and remember it while there are not too many."""
        segments = (escape(segment, "entity path segment") for segment in entity_path.split("/"))
        prefix = f"{self.entries}{'/'.join(segments)}/"
        if len(self._prefixes) >= _MAX_PREFIXES:
            self._prefixes.clear()
        self._prefixes[entity_path] = prefix
        return prefix

    def split(self, object_key: str) -> tuple[str, int] | None:
        """Return the prefix and the number of what looks like a version; None for anything else.

        A quick look for long listings: `parse` says whether it really is one.
        """
        slash = object_key.rfind("/") + 1
        version = _VERSION_NAME.fullmatch(object_key, slash)
        return None if version is None else (object_key[:slash], int(version[1]))

    def parse(self, object_key: str) -> tuple[Address, int] | None:
        """Return what version of what memory an object is; None for anything else."""
        if not object_key.startswith(self.entries):
            return None
        *names, version_name = object_key[len(self.entries) :].split("/")
        if not names:
            return None
        *names, key = names
        version = _VERSION_NAME.fullmatch(version_name)
        entity = [unescape(name) for name in names]
        name = unescape(key)
        if version is None or name is None or not entity or None in entity:
            return None
        prefix = object_key[: -len(version_name)]
        return Address("/".join(part for part in entity if part), name, prefix), int(version[1])
