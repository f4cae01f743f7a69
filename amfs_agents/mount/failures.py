"""Errors of the store as error numbers, and the log line that has the details."""

from __future__ import annotations

import errno
import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from amfs_core.errors import (
    AMFSError,
    InvalidKeyError,
    InvalidValueError,
    PermissionDeniedError,
    StorageFullError,
    VersionConflictError,
)

_log = logging.getLogger("amfs")

_NUMBERS: tuple[tuple[type[AMFSError], int], ...] = (
    (InvalidKeyError, errno.EINVAL),
    (InvalidValueError, errno.EFBIG),  # any bytes are a value, so it is too large
    (VersionConflictError, errno.ESTALE),
    (StorageFullError, errno.ENOSPC),
    (PermissionDeniedError, errno.EACCES),
)

_Operation = TypeVar("_Operation", bound=Callable[..., Any])


def answered(operation: _Operation) -> _Operation:
    """Make a kernel operation end with its result or an `OSError`, whatever goes wrong.

    The log gets what the error number cannot say: the subject of the operation, and why it failed.
    """

    def about(files: Any, arguments: tuple[Any, ...]) -> str:
        path, number = arguments[0], arguments[-1]
        return repr(files.path_of(number) if path is None else path)

    @functools.wraps(operation)
    def answer(files: Any, *arguments: Any) -> Any:
        try:
            return operation(files, *arguments)
        except OSError:
            raise  # said by its number
        except VersionConflictError as error:  # logged where the content was kept
            raise OSError(errno.ESTALE, error.reason) from error
        except AMFSError as error:
            number = _number(error)
            _log.warning("%s %s: %s", operation.__name__, about(files, arguments), error.reason)
            raise OSError(number, error.reason) from error
        except Exception as error:
            _log.exception("%s %s failed", operation.__name__, about(files, arguments))
            raise OSError(errno.EIO, str(error)) from error

    return answer  # type: ignore[return-value]


def _number(error: AMFSError) -> int:
    return next((number for kind, number in _NUMBERS if isinstance(error, kind)), errno.EIO)
