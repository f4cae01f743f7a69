"""One request, in the form that handlers use."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from amfs_core.errors import InvalidValueError
from amfs_core.format import strict_json
from amfs_core.memory import AgentMemory
from amfs_core.spelling import did_you_mean
from amfs_server.engines import Engines
from amfs_server.keys import Key
from amfs_server.problems import Refusal
from amfs_server.settings import Settings

T = TypeVar("T")

MOST_PAGE = 1_000
_LONGEST_HEADER = 1_024
_TRUE, _FALSE = ("true", "1"), ("false", "0")


@dataclass(frozen=True, slots=True)
class Call:
    """A request with a known key. `names` are the path segments after the resource."""

    request: Request
    key: Key
    namespace: str
    names: list[str]
    engines: Engines
    settings: Settings
    threads: ThreadPoolExecutor

    async def with_memory(self, work: Callable[[AgentMemory], T]) -> T:
        """Return the result of `work(memory)`, run in a thread because it waits for the store."""

        def call() -> T:
            with self._memory() as memory:
                return work(memory)

        return await self.in_thread(call)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Return the result of `work`, run in a thread with this request's context."""
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, lambda: context.run(work))

    def _memory(self) -> AgentMemory:
        agent = self.key.agent_id
        requested = self.header("amfs-agent")
        if agent is not None and requested not in (None, agent):
            raise Refusal(403, "forbidden", f"this key signs only as {agent!r}")
        session = self.header("amfs-session")
        return self.engines.memory(self.namespace, agent or requested, session)

    def header(self, name: str) -> str | None:
        """Return a header's text, or None when it was not sent."""
        text = self.request.headers.get(name)
        if text is None:
            return None
        if not text.strip() or len(text) > _LONGEST_HEADER:
            raise InvalidValueError(f"the header {name} is empty or too long")
        return text.strip()

    # -- the query ---------------------------------------------------------------------------

    def only(self, *known: str) -> None:
        """Raise for an unknown parameter, so that a typo cannot widen a search."""
        for name in self.request.query_params:
            if name not in known:
                listed = ", ".join(known) or "none"
                raise InvalidValueError(
                    f"there is no parameter {name!r:.80}", hint=f"known parameters: {listed}"
                )

    def text(self, name: str) -> str | None:
        """Return a parameter's text, or None without it. Raises when it was sent twice."""
        values = self.request.query_params.getlist(name)
        if len(values) > 1:
            raise InvalidValueError(f"the parameter {name} was sent {len(values)} times")
        return values[0] if values else None

    def texts(self, name: str) -> list[str] | None:
        """Return all texts of a parameter, or None when it was not sent."""
        return self.request.query_params.getlist(name) or None

    def whole(self, name: str) -> int | None:
        """Return a parameter as a whole number."""
        text = self.text(name)
        if text is None:
            return None
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise InvalidValueError(f"{name} must be a whole number, not {text!r:.80}")
        return int(text)

    def limit(self, default: int) -> int:
        """Return the size of a page, 1 to `MOST_PAGE`."""
        limit = self.whole("limit")
        if limit is None:
            return default
        if not 1 <= limit <= MOST_PAGE:
            raise InvalidValueError(f"limit must be from 1 to {MOST_PAGE}")
        return limit

    def number(self, name: str) -> float | None:
        """Return a parameter as a number."""
        text = self.text(name)
        if text is None:
            return None
        try:
            return float(text)
        except ValueError as error:
            raise InvalidValueError(f"{name} must be a number, not {text!r:.80}") from error

    def flag(self, name: str) -> bool:
        """Return a parameter as true or false; false when it was not sent."""
        text = self.text(name)
        if text is None or text in _FALSE:
            return False
        if text in _TRUE:
            return True
        raise InvalidValueError(f"{name} must be true or false, not {text!r:.80}")

    def moment(self, name: str) -> datetime | None:
        """Return a parameter as a time with its time zone."""
        text = self.text(name)
        return None if text is None else moment(text, name)

    # -- the body ----------------------------------------------------------------------------

    async def body(self, known: Collection[str]) -> dict[str, Any]:
        """Return the body, a JSON object. Raises for unknown fields, and for numbers that would be
        rounded."""
        kind = self.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json" and not kind.endswith("+json"):
            raise Refusal(
                415,
                "unsupported_media_type",
                f"the body is {kind or 'of no type'}",
                hint="send it with Content-Type: application/json",
            )
        if self.request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Refusal(415, "unsupported_media_type", "the body is compressed")
        data = await self.data()
        try:
            fields = strict_json.parsed(data.decode())
        except UnicodeDecodeError as error:
            raise InvalidValueError(f"byte {error.start + 1} of the body is not UTF-8") from error
        except strict_json.NotJSONError as error:
            raise InvalidValueError(f"the body is not JSON: {error}") from error
        if type(fields) is not dict:
            raise InvalidValueError("the body must be a JSON object")
        for name in fields:
            if name not in known:
                meant = did_you_mean(name, known)
                raise InvalidValueError(f"there is no field {name!r:.80}{meant}")
        return fields

    async def data(self) -> bytes:
        """Return the body as it was sent."""
        most = self.settings.max_body_bytes
        too_large = Refusal(413, "too_large", f"the limit is {most:,} bytes", connection="close")
        declared = self.request.headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > most:
            raise too_large
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.settings.body_seconds):
                async for part in self.request.stream():
                    size += len(part)
                    if size > most:
                        raise too_large
                    parts.append(part)
        except TimeoutError as error:
            raise Refusal(
                408,
                "too_slow",
                f"the body did not arrive within {self.settings.body_seconds:g} s",
                connection="close",
            ) from error
        except ClientDisconnect as error:
            raise Refusal(400, "too_slow", "the client went away") from error
        return b"".join(parts)


def moment(text: object, name: str) -> datetime:
    """Return text as a time with its time zone."""
    try:
        if not isinstance(text, str):
            raise ValueError("not text")
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidValueError(
            f"{name} must be a time such as 2026-11-21T04:27:20Z, not {text!r:.80}"
        ) from error
    return time  # `AgentMemory` refuses a time without a time zone


def json(document: Any, status: int = 200, **headers: str) -> Response:
    """Return an answer with a JSON document."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Response(msgspec.json.encode(document), status, named, "application/json")
