"""Keys: who may do what. The file has only hashes, so nobody can read a key from it.

The file is JSON: `{"keys": [{"name": "ci", "sha256": "…", "role": "writer", "namespaces": ["prod"],
"entity_paths": ["checkout"], "agent_id": "ci"}]}`. A key is 256 random bits and cannot be guessed,
so one SHA-256 is as good as a slow hash.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
from pathlib import Path
from typing import Literal

import msgspec

from amfs_core.errors import ConfigurationError
from amfs_server.problems import Refusal

Role = Literal["reader", "writer", "eraser"]
_RANK: dict[Role, int] = {"reader": 0, "writer": 1, "eraser": 2}
_PREFIX = "amfs_"
_log = logging.getLogger("amfs.server")


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rights of one key.

    A `role` of reader may read, a writer may also write and delete, an eraser may also purge.
    `namespaces` and `entity_paths` are what the key sees; None means all. `agent_id` signs its
    writes; with None, the client names the agent.
    """

    name: str
    sha256: str
    role: Role = "reader"
    namespaces: list[str] | None = None
    entity_paths: list[str] | None = None
    agent_id: str | None = None

    def require_role(self, role: Role) -> None:
        """Raise unless this key has the role, or a role with more rights."""
        if _RANK[self.role] < _RANK[role]:
            raise Refusal(
                403,
                "forbidden",
                f"this needs the role {role}, but the key has the role {self.role}",
            )

    def require_namespace(self, namespace: str) -> None:
        """Raise unless this key sees a namespace. The error does not tell whether it exists."""
        if self.namespaces is not None and namespace not in self.namespaces:
            raise Refusal(403, "forbidden", "this key does not see that namespace")

    def sees(self, entity_path: str) -> bool:
        """Whether this key sees the memories under an entity path."""
        return self.entity_paths is None or any(
            entity_path == path or entity_path.startswith(path + "/") for path in self.entity_paths
        )

    def require_path(self, entity_path: str) -> None:
        """Raise unless this key sees an entity path. The error does not tell whether it exists."""
        if not self.sees(entity_path):
            raise Refusal(403, "forbidden", "this key does not see that entity path")

    def scope(self, under: str | None) -> str | None:
        """Return the entity path to look under when the client asks for `under`; None means all."""
        if under is not None:
            self.require_path(under)
            return under
        if self.entity_paths is None:
            return None
        if len(self.entity_paths) == 1:
            return self.entity_paths[0]
        raise Refusal(
            403,
            "forbidden",
            "this key sees only some entity paths",
            hint="name one of them with `under`",
        )


class _KeyFile(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[Key]


NOBODY = Key("local", "", "eraser")
"""Stands for a client of this machine, when no key is required."""


class Keys:
    """The keys of a file, reloaded when the file changes."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._keys: list[tuple[bytes, Key]] = []
        self._state: object = None
        self._load()

    def find(self, authorization: str | None) -> Key:
        """Return the key in an `Authorization` header. Raises a 401 when there is no key, or it is
        not in the file."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise _unauthorized("send a key: Authorization: Bearer amfs_…")
        self._reload()
        digest = hashlib.sha256(token.strip().encode()).hexdigest().encode()
        sent = None
        for known, key in self._keys:  # compare all, so that the time reveals nothing
            if hmac.compare_digest(known, digest):
                sent = key
        if sent is None:
            raise _unauthorized("this key is not known here")
        return sent

    def _reload(self) -> None:
        """Reload a changed file; keep the current keys if the file is invalid."""
        try:
            if _state(self.path) != self._state:
                self._load()
        except (OSError, ConfigurationError) as error:
            _log.error("cannot reload the keys, so the current ones stay: %s", error)

    def _load(self) -> None:
        state = _state(self.path)
        self._keys = [(key.sha256.encode(), key) for key in read(self.path)]
        self._state = state


def read(path: Path) -> list[Key]:
    """Return the keys of a file. Raises `ConfigurationError` with the file and the problem."""
    try:
        keys = msgspec.json.decode(path.read_bytes(), type=_KeyFile).keys
    except OSError as error:
        raise ConfigurationError(
            f"cannot read the file of keys {str(path)!r}: {error.strerror}",
            hint="create it with `amfs key new`",
        ) from error
    except msgspec.MsgspecError as error:
        raise ConfigurationError(f"the file of keys {str(path)!r} is invalid: {error}") from error
    for key in keys:
        if len(key.sha256) != 64 or set(key.sha256) - set("0123456789abcdef"):
            raise ConfigurationError(
                f"the file of keys {str(path)!r} is invalid: the sha256 of {key.name!r} is not 64 "
                "hexadecimal digits",
                hint="the file holds the hash of a key, never the key itself",
            )
    return keys


def add(
    path: Path,
    name: str,
    role: Role,
    *,
    namespaces: list[str] | None = None,
    entity_paths: list[str] | None = None,
    agent_id: str | None = None,
) -> str:
    """Create a key, add its hash to a file, and return the key, which cannot be recovered later.

    Creates the file, readable by this user only, if it does not exist. Raises `ConfigurationError`
    for a name that the file already has.
    """
    keys = read(path) if path.exists() else []
    if any(key.name == name for key in keys):
        raise ConfigurationError(
            f"there is already a key named {name!r}", hint="choose another name, or remove that key"
        )
    token = _PREFIX + secrets.token_urlsafe(32)
    digest = hashlib.sha256(token.encode()).hexdigest()
    keys.append(Key(name, digest, role, namespaces, entity_paths, agent_id))
    _write(path, keys)
    return token


def remove(path: Path, name: str) -> bool:
    """Remove a key from a file; return False when no key has that name."""
    keys = read(path)
    kept = [key for key in keys if key.name != name]
    if len(kept) == len(keys):
        return False
    _write(path, kept)
    return True


def _write(path: Path, keys: list[Key]) -> None:
    """Replace the file atomically: a server sees either the old file or the new one."""
    body = msgspec.json.format(msgspec.json.encode(_KeyFile(keys)), indent=2) + b"\n"
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(body)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ConfigurationError(
            f"cannot write the file of keys {str(path)!r}: {error.strerror}"
        ) from error


def _state(path: Path) -> object:
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


def _unauthorized(detail: str) -> Refusal:
    return Refusal(401, "unauthorized", detail, www_authenticate='Bearer realm="amfs"')
