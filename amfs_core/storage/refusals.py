"""Objects that may not be read, among others that may.

An object this user may not read never blocks access to others: it is left out and named, like a
damaged one. But credentials that expired refuse everything, and then nothing is known about what is
there. So an object is left out only while another one can be read. Otherwise the refusal is raised,
and never taken for absence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from amfs_core.errors import PermissionDeniedError
from amfs_core.parallel import each
from amfs_core.storage.client import StoreClient

_READERS = 32
_WITNESSES = 10

Refused = Callable[[str, PermissionDeniedError], None]
"""Told the key of an object that may not be read, and why."""


def get_allowed(
    store: StoreClient, keys: Iterable[str], refused: Refused
) -> Iterator[tuple[str, bytes | None]]:
    """Yield what `StoreClient.get_many` does of the objects that may be read; tell of the others.

    1 request each, and 1 more for some when one of them is refused.
    """
    pending = dict.fromkeys(keys)
    try:
        for key, body in store.get_many(list(pending)):
            del pending[key]
            yield key, body
    except PermissionDeniedError:  # asked one by one, to find out which of them it is about

        def ask(key: str) -> tuple[str, bytes | None, PermissionDeniedError | None]:
            try:
                return key, store.get(key), None
            except PermissionDeniedError as refusal:
                return key, None, refusal

        for answer in each(ask, list(pending), _READERS):
            key, body, refusal = answer.result()
            if refusal is None:
                yield key, body
            else:
                refused(key, refusal)


def require_others(
    store: StoreClient, refusals: Iterable[PermissionDeniedError], others: Iterable[str]
) -> None:
    """Raise the first refusal, if there is one, unless another object may be read now.

    `others` are keys of objects that were read before: the first 10 are asked for, until one may be
    read. No request without a refusal.
    """
    refusal = next(iter(refusals), None)
    if refusal is None:
        return
    for key in islice(others, _WITNESSES):
        try:
            store.get(key)
        except PermissionDeniedError:
            continue
        return
    raise refusal
