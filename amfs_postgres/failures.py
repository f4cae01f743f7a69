"""From PostgreSQL's errors to those of the contract."""

from __future__ import annotations

import re

import psycopg

from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    ConfigurationError,
    OutcomeUnknownError,
    PermissionDeniedError,
    StorageFullError,
)
from amfs_postgres.connections import BusyError, NoAnswerError

# A connection that could not be made has no code, and its message may be in another language: it
# then counts as "unavailable", which is never wrong. The second of each pair is PgBouncer's
# message.
_NO_SIGN_IN = re.compile(
    r"password authentication failed|no such user|no password supplied|role \".*\" does not exist"
    r"|no pg_hba\.conf entry|authentication failed|not permitted to log in"
    r"|permission denied for database"
)
_NO_DATABASE = re.compile(r"database \".*\" does not exist|no such database")
_NO_TLS = re.compile(
    r"server does not support SSL|certificate verify failed|root certificate file"
    r"|invalid sslmode|could not load private key|certificate file"
)

_UNKNOWN_STATES = ("08", "40003")
"""Beginnings of codes of lost connections and of statements with an unknown outcome."""


def translated(
    error: psycopg.Error, text: str, key: str, verb: str, server: str, *, creates: bool = False
) -> AMFSError:
    """Return the error of the contract for one of psycopg's.

    `text` is its message, without secrets. `creates` says that a create was sent: if it may have
    been applied, its outcome is unknown.
    """
    what = f"cannot {verb} {key!r} at {server}: {text}" if key else f"{server}: {text}"
    state = error.sqlstate
    if state is None:
        return _without_code(error, what, text, key, creates=creates)
    if creates and not _was_rolled_back(error, state):
        return OutcomeUnknownError(what, object_key=key)
    if state == "25006":
        return PermissionDeniedError(
            what,
            hint=(
                "this server, database or role may only be read; among several servers "
                "target_session_attrs=read-write finds the primary"
            ),
            object_key=key,
        )
    if state == "42501" or state.startswith("28"):
        return PermissionDeniedError(
            what,
            hint="grant it to this role (docs/security.md has the statements), or name another one",
            object_key=key,
        )
    if state == "53100":
        return StorageFullError(
            what, hint="free some space on the server", says_written=True, object_key=key
        )
    if state == "3D000":
        return ConfigurationError(what, hint="create the database first", object_key=key)
    if state in ("XX001", "XX002"):
        return ConfigurationError(
            what,
            hint="the table or its index is damaged: restore it, or REINDEX if it is the index",
            object_key=key,
        )
    if state.startswith("42"):
        return ConfigurationError(
            what,
            hint="the schema's tables are not as AMFS made them: name another schema",
            object_key=key,
        )
    return BackendUnavailableError(what, object_key=key)


def _was_rolled_back(error: psycopg.Error, state: str) -> bool:
    """Whether the server reported that a statement failed before its commit, and still runs."""
    severity = error.diag.severity_nonlocalized
    return severity == "ERROR" and not state.startswith(_UNKNOWN_STATES)


def _without_code(
    error: psycopg.Error, what: str, text: str, key: str, *, creates: bool
) -> AMFSError:
    if creates:
        return OutcomeUnknownError(what, object_key=key)
    if _NO_SIGN_IN.search(text):
        return PermissionDeniedError(
            what, hint="check the user and password, and pg_hba.conf", object_key=key
        )
    if _NO_DATABASE.search(text):
        return ConfigurationError(what, hint="create the database first", object_key=key)
    if _NO_TLS.search(text):
        return ConfigurationError(what, hint="check sslmode and sslrootcert", object_key=key)
    if isinstance(error, BusyError):
        hint = "raise max_connections, or see what the server waits for"
    elif isinstance(error, NoAnswerError):
        hint = "see what the server waits for, or raise timeout"
    else:
        hint = "check host and port, and that the server runs"
    return BackendUnavailableError(what, hint=hint, object_key=key)


def said(error: psycopg.Error) -> str:
    """Return the message of an error, in one line."""
    text = error.diag.message_primary or str(error) or type(error).__name__
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())
