"""Versions as objects, by hand: what the raw clients and the hand-written files share."""

from __future__ import annotations

import json
from collections.abc import Iterable

from thin import Thin, Value


class Objects(Thin):
    """`path/key/v<n>.json`, and what this process knows to be the newest.

    A known key costs one put or one get: the least there is. So a read does not see what another
    process wrote since, which AMFS's does at the same price.
    """

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def put(self, name: str, data: bytes) -> bool:
        """Create an object; false if there is one."""
        raise NotImplementedError

    def get(self, name: str) -> bytes:
        """Return the bytes of an object."""
        raise NotImplementedError

    def names(self, prefix: str) -> Iterable[str]:
        """Return the names of all objects whose names begin so."""
        raise NotImplementedError

    def write(self, path: str, key: str, value: Value) -> None:
        place = f"{path}/{key}"
        at = self._known.get(place, 0) + 1
        data = json.dumps(value).encode()
        while not self.put(f"{place}/v{at}.json", data):
            at = max(at, self._newest(place)) + 1
        self._known[place] = at

    def read(self, path: str, key: str) -> Value | None:
        place = f"{path}/{key}"
        at = self._known.get(place) or self._newest(place)
        if not at:
            return None
        self._known[place] = at
        return self.read_version(path, key, at)

    def read_version(self, path: str, key: str, version: int) -> Value:
        value: Value = json.loads(self.get(f"{path}/{key}/v{version}.json"))
        return value

    def versions(self, path: str, key: str) -> list[Value]:
        newest = self._newest(f"{path}/{key}")
        return [self.read_version(path, key, number) for number in range(1, newest + 1)]

    def add_one(self, path: str, key: str) -> None:
        place = f"{path}/{key}"
        while True:
            at = self._newest(place)
            count = self.read_version(path, key, at)["count"] if at else 0
            if self.put(f"{place}/v{at + 1}.json", json.dumps({"count": count + 1}).encode()):
                return

    def list(self) -> int:
        newest: dict[str, int] = {}
        for name in self.names(""):
            place, _, file = name.rpartition("/")
            newest[place] = max(newest.get(place, 0), _number(file))
        return len([self.get(f"{place}/v{at}.json") for place, at in newest.items()])

    def _newest(self, place: str) -> int:
        files = (name.rpartition("/")[2] for name in self.names(f"{place}/"))
        return max(map(_number, files), default=0)


def _number(file: str) -> int:
    return int(file[1:].partition(".")[0])
