"""`Conversation`: the turns of one conversation, and what is known about it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from amfs_agents.conversations.records import About, Chunk, Turn
from amfs_agents.fields import value
from amfs_agents.names import segment
from amfs_agents.sequence import Sequence
from amfs_core import arguments
from amfs_core.errors import InvalidValueError
from amfs_core.format import values
from amfs_core.memory import AgentMemory


class Conversation:
    """One conversation of a user with an agent; `Conversations.open` makes it, without a request.

    Any number of processes may have it open. Safe to share between threads.
    """

    def __init__(
        self,
        memory: AgentMemory,
        path: str,
        user: str,
        agent: str,
        conversation_id: str,
        *,
        activity_interval: float,
    ) -> None:
        self.user = user
        self.agent = agent
        self.conversation_id = conversation_id
        self._memory = memory
        self._interval = activity_interval
        self._noted_at: float | None = None
        self._key = segment(conversation_id, "conversation_id")
        whose = f"{segment(user, 'user')}/{segment(agent, 'agent')}"
        self._about_path = f"{path}/about/{whose}"
        self._turns = Sequence(memory, f"{path}/turns/{whose}/{self._key}")
        self._chunks = Sequence(memory, f"{path}/chunks/{whose}/{self._key}")

    def append(
        self,
        role: str,
        content: Any,
        *,
        model: str | None = None,
        usage: Any = None,
        tool_calls: Any = None,
        metadata: Any = None,
        turn_id: str | None = None,
    ) -> Turn:
        """Append a turn and return it, once it is durable.

        Args:
            role: any text, such as "user", "assistant" or "tool".
            content: what was said: any JSON value.
            model: the model that said it; None if there is none.
            usage: any JSON value, such as a count of tokens.
            tool_calls: any JSON value.
            metadata: any JSON value of your own.
            turn_id: the name of the turn. Appending it again, after an error or in another process,
                returns the turn that is there, as long as it is there. Without a name each call
                appends a turn, exactly once.

        Raises:
            InvalidValueError: JSON cannot carry an argument; nothing was written.
            AMFSError: whatever `AgentMemory.write` raises.

        Cost: 2 requests, for the time of the last activity and the turn; 1 within
        `activity_interval` of the last. With a `turn_id`, one listing more.
        """
        turn = value(
            role=arguments.text(role, "role"),
            content=content,
            model=None if model is None else arguments.text(model, "model"),
            usage=usage,
            tool_calls=tool_calls,
            metadata=metadata,
        )
        values.copied(turn, "turn")
        # Before the turn, so that a conversation with turns is always known and can be deleted.
        self._note_activity()
        return Turn.of(self._turns.append(turn, write_id=turn_id))

    def turns(
        self,
        *,
        limit: int | None = None,
        offset: int = 0,
        from_end: bool = False,
        role: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Turn]:
        """Return turns, oldest first.

        Args:
            limit: return at most so many; None for all.
            offset: skip so many first.
            from_end: count `limit` and `offset` from the newest turn.
            role: only turns of this role.
            since: only turns written at or after this time (an aware `datetime`).
            until: only turns written before this time.

        Cost: 1 request per 1,000 turns ever appended, and 1 for each that this process has not read
        or written: a conversation of 50 turns takes 51 the first time and 1 from then on.
        """
        start = None if since is None else arguments.moment(since, "since")
        end = None if until is None else arguments.moment(until, "until")
        arguments.version(offset, "offset", least=0)
        if limit is not None:
            arguments.count(limit, "limit")
        turns = [
            turn
            for turn in map(Turn.of, self._turns.entries())
            if (role is None or turn.role == role)
            and (start is None or turn.written_at >= start)
            and (end is None or turn.written_at < end)
        ]
        if from_end:
            turns = turns[: len(turns) - offset] if offset <= len(turns) else []
            return turns if limit is None else turns[-limit:]
        return turns[offset:] if limit is None else turns[offset : offset + limit]

    def about(self) -> About | None:
        """Return what is known about the conversation; None if it was never begun, or was deleted.

        The cost of a read.
        """
        entry = self._memory.read(self._about_path, self._key)
        return None if entry is None else About.of(entry)

    def describe(
        self,
        *,
        title: str | None = None,
        persona: Any = None,
        summary: Any = None,
        metadata: Any = None,
    ) -> None:
        """Set what is known about the conversation; arguments that are None change nothing.

        1 request, and a read more the first time. Settings by two processes at the same time are
        both kept.
        """
        told = value(
            title=None if title is None else arguments.text(title, "title"),
            persona=persona,
            summary=summary,
            metadata=metadata,
        )
        self._update(lambda old: {**old, **told})

    def compress(
        self, first: int, last: int, content: Any, *, model: str | None = None, metadata: Any = None
    ) -> Chunk:
        """Let `content`, such as a summary, stand for the turns `first` to `last` in `context`.

        The turns themselves stay as they are. A chunk may stand for turns that smaller chunks
        already stand for, as long as it includes each of them whole.

        A listing of turns and one of chunks, and 1 request. Raises `InvalidValueError` when there
        are no such turns, or when they are only a part of the turns of another chunk.
        """
        turns = [turn for turn in self.turns() if first <= turn.number <= last]
        if not turns or (turns[0].number, turns[-1].number) != (first, last):
            raise InvalidValueError(
                f"conversation {self.conversation_id!r} has no turns {first} to {last}",
                hint="give the numbers of two existing turns, the earlier first",
            )
        for chunk in self.chunks():
            if chunk.overlaps(first, last) and not first <= chunk.first <= chunk.last <= last:
                raise InvalidValueError(
                    f"turns {first} to {last} overlap the chunk of {chunk.first} to {chunk.last}",
                    hint="expand that chunk, or include all of its turns",
                )
        summary = value(first=first, last=last, content=content, model=model, metadata=metadata)
        return Chunk.of(self._chunks.append(summary))

    def chunks(self) -> list[Chunk]:
        """Return the chunks in use now, in the order of their turns. The cost of a listing."""
        counting: list[Chunk] = []
        for chunk in reversed([Chunk.of(entry) for entry in self._chunks.entries()]):
            if not any(newer.overlaps(chunk.first, chunk.last) for newer in counting):
                counting.append(chunk)
        return sorted(counting, key=lambda chunk: chunk.first)

    def context(self) -> list[Turn | Chunk]:
        """Return the compressed conversation: chunks, and the turns without a chunk, in order.

        A listing of turns and one of chunks.
        """
        chunks = self.chunks()
        parts: list[tuple[int, Turn | Chunk]] = [(chunk.first, chunk) for chunk in chunks]
        parts += [
            (turn.number, turn)
            for turn in self.turns()
            if not any(chunk.contains(turn.number, turn.number) for chunk in chunks)
        ]
        return [part for _, part in sorted(parts, key=lambda part: part[0])]

    def raw(self, chunk: Chunk) -> list[Turn]:
        """Return the turns that a chunk stands for. A listing of turns."""
        return [turn for turn in self.turns() if chunk.contains(turn.number, turn.number)]

    def expand(self, chunk: Chunk) -> list[Turn | Chunk]:
        """Delete a chunk, so that its turns (or the smaller chunks under it) are used again; return
        the new `context`. A listing of turns, one of chunks, a read and 1 request."""
        self._chunks.delete([chunk.number])
        return self.context()

    def prune(
        self,
        *,
        keep: int | None = None,
        older_than: float | timedelta | None = None,
        for_good: bool = False,
    ) -> int:
        """Remove turns: all but the newest `keep`, or those written longer ago than `older_than`
        (seconds or `timedelta`), or, with both arguments, those to which both apply. Return how
        many were removed.

        They are deleted: their histories stay. With `for_good` their contents are erased. Chunks
        stay. A listing, and 2 requests for each turn; about 7 `for_good`.
        """
        if keep is None and older_than is None:
            raise InvalidValueError("give keep, older_than or both")
        turns = self.turns()
        if keep is not None:
            arguments.version(keep, "keep", least=0)
            turns = turns[: max(0, len(turns) - keep)]
        if older_than is not None:
            age = timedelta(seconds=arguments.seconds(older_than, "older_than"))
            limit = datetime.now(UTC) - age
            turns = [turn for turn in turns if turn.written_at < limit]
        numbers = [turn.number for turn in turns]
        if for_good:
            self._turns.purge(numbers)
            return len(numbers)
        return self._turns.delete(numbers)

    def delete(self) -> int:
        """Erase the conversation permanently: turns (including pruned ones), chunks, and what is
        known about it. Return how many versions were erased.

        About 7 requests for each turn and chunk. After a crash, call it again: it goes on.
        """
        self._noted_at = None
        erased = self._turns.purge_all() + self._chunks.purge_all()
        # Last, so that it is found again until nothing is left.
        return erased + self._memory.purge(self._about_path, self._key)

    def _note_activity(self) -> None:
        now = time.monotonic()
        if self._noted_at is None or now - self._noted_at >= self._interval:
            self._update(lambda old: old)
            self._noted_at = now

    def _update(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        def changed(old: Any) -> dict[str, Any]:
            now = datetime.now(UTC).isoformat()
            new = change(old or {"created_at": now, "last_activity": now})
            return {**new, "last_activity": max(now, new["last_activity"])}

        self._memory.update(self._about_path, self._key, changed)
