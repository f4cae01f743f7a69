"""Objects that may not be read, among others that may.

One object that this user may not read is in nobody's way: it is left out where a damaged one is,
and named. But credentials that end refuse everything, and that nothing may be read says nothing of
what is there: so it is left out only while another object can be read. Otherwise the refusal is
raised, and never taken for absence.
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
    except PermissionDeniedError:  # which of them it is about is found out one by one

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


def holds(store: StoreClient, keys: Iterable[str]) -> bool:
    """True when one of the first of these objects may be read now."""
    for key in islice(keys, _WITNESSES):
        try:
            store.get(key)
        except PermissionDeniedError:
            continue
        return True
    return False
