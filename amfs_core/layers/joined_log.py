"""`JoinedLog`: the change logs of several stores as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from amfs_core.storage import ChangeLog

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[str]).decode


class JoinedLog:
    """A `ChangeLog` whose position is the list of all its logs' positions.

    Of what the log with the number `index` names, only the keys count for which `owns(index, key)`.
    """

    def __init__(self, logs: Sequence[ChangeLog], owns: Callable[[int, str], bool]) -> None:
        self.audit = min(log.audit for log in logs)
        self._logs = logs
        self._owns = owns

    def position(self, *, make: bool) -> str | None:
        """Return where all logs end; None when one of them does not say."""
        positions = [log.position(make=make) for log in self._logs]
        return None if None in positions else _encode(positions).decode()

    def since(self, position: str) -> tuple[str, list[str]] | None:
        """Ask every log; None when one of them cannot tell."""
        try:
            earlier = _decode(position)
        except msgspec.DecodeError:
            return None
        if len(earlier) != len(self._logs):
            return None
        positions: list[str] = []
        keys: list[str] = []
        for index, (log, earlier_position) in enumerate(zip(self._logs, earlier, strict=True)):
            answer = log.since(earlier_position)
            if answer is None:
                return None
            positions.append(answer[0])
            keys += [key for key in answer[1] if self._owns(index, key)]
        return _encode(positions).decode(), keys
