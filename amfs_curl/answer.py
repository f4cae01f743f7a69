"""A server's answer to one request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Answer:
    """One complete HTTP answer. Header names are in lower case.

    `sent_twice` is True when the request may have been sent before, on a connection that was lost:
    then a refusal may be the answer to the second one, because the first was applied.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    sent_twice: bool = False

    @property
    def description(self) -> str:
        """A description that helps to find out who answered, without query and credentials."""
        parts = [f"status {self.status}"]
        if kind := self.headers.get("content-type"):
            parts.append(kind.partition(";")[0][:_SHOWN])
        if "location" in self.headers:
            parts.append(f"a redirect to {_host(self.headers['location'])}")
        if "content-range" in self.headers:
            parts.append("a part of an object")
        if encoding := self.headers.get("content-encoding"):
            parts.append(f"encoded as {encoding[:_SHOWN]}")
        begins = " ".join(self.body[: 4 * _SHOWN].decode(errors="replace").split())[:_SHOWN]
        if begins:
            parts.append(f"beginning with {begins!r}")
        return ", ".join(parts)


def _host(location: str) -> str:
    try:
        return repr(urlsplit(location).hostname or "the same host")[:_SHOWN]
    except ValueError:
        return "somewhere"
