"""Many gets at once on S3: one that fails costs no answer of the others."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from amfs_core.errors import BackendUnavailableError, PermissionDeniedError
from amfs_core.storage import StoreClient
from amfs_s3 import S3Adapter

KEYS = [f"k{number}" for number in range(200)]


class Unreliable(S3Adapter):
    """Answers without a server; each key of `failing` fails once, with `error`."""

    def __init__(self, failing: set[str], error: type[Exception]) -> None:
        super().__init__("bucket", endpoint_url="http://127.0.0.1:9", max_concurrency=8)
        self.asked: Counter[str] = Counter()
        self._failing = failing
        self._error = error
        self._noting = threading.Lock()

    def get(self, key: str) -> bytes | None:
        with self._noting:
            self.asked[key] += 1
            fails = key in self._failing
            self._failing.discard(key)
        if fails:
            raise self._error(key)
        return key.encode()


def test_answers_that_came_beside_a_failure_are_not_asked_for_again() -> None:
    adapter = Unreliable(set(KEYS[::10]), BackendUnavailableError)
    bodies = dict(StoreClient(adapter).get_many(KEYS))
    assert bodies == {key: key.encode() for key in KEYS}
    assert adapter.asked.total() <= len(KEYS) + 20
    adapter.close()


def test_a_failure_that_waiting_does_not_cure_is_raised_after_the_answers() -> None:
    adapter = Unreliable({KEYS[3]}, PermissionDeniedError)
    bodies = {}
    with pytest.raises(PermissionDeniedError):
        for key, data in adapter.get_many(KEYS[:8]):
            bodies[key] = data
    assert set(bodies) <= set(KEYS[:8]) - {KEYS[3]}
    assert set(bodies) >= set(KEYS[:3])
    assert not adapter._failing
    adapter.close()
