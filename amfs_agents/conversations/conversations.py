"""`Conversations`: all conversations in a memory, by user and agent."""

from __future__ import annotations

import builtins
import uuid
from datetime import UTC, datetime, timedelta

from amfs_agents.conversations.conversation import Conversation
from amfs_agents.conversations.records import About, Turn, TurnHit
from amfs_agents.names import segment, unsegment
from amfs_core import arguments
from amfs_core.errors import InvalidValueError
from amfs_core.format import MemoryEntry
from amfs_core.memory import AgentMemory, AsyncAgentMemory


class Conversations:
    """The conversations in a memory, which stays open.

        conversations = Conversations(AgentMemory("support-agent"))
        chat = conversations.open("ada", "support-agent", "ticket-17")
        chat.append("user", "Where is my parcel?")

    They are under the entity path `path`: a turn is the memory
    `<path>/turns/<user>/<agent>/<conversation>/<number>`. So a server's key can be limited to one
    user, and searches find each turn. `activity_interval` is how old, in seconds, the noted time of
    the last activity may be: 0 notes it with each turn, which costs a request.
    """

    def __init__(
        self,
        memory: AgentMemory | AsyncAgentMemory,
        *,
        path: str = "conversations",
        activity_interval: float | timedelta = 0.0,
    ) -> None:
        self._memory = memory.memory if isinstance(memory, AsyncAgentMemory) else memory
        self._path = path
        self._interval = arguments.seconds(activity_interval, "activity_interval")

    def open(self, user: str, agent: str, conversation_id: str | None = None) -> Conversation:
        """Return a conversation, which need not exist yet; without `conversation_id` a new one,
        with a UUID.

        No request. The three names are any text.
        """
        return Conversation(
            self._memory,
            self._path,
            user,
            agent,
            str(uuid.uuid4()) if conversation_id is None else conversation_id,
            activity_interval=self._interval,
        )

    def list(self, *, user: str | None = None, agent: str | None = None) -> list[About]:
        """Return what is known about the conversations of a user, an agent or both, or without
        either about all, the last active first.

        1 request per 1,000 versions of these records (of all records, without a user), and 1 for
        each conversation that has changed since this process looked; no turn is read.
        """
        entries = self._memory.list(self._under("about", user, agent))
        wanted = None if agent is None else segment(agent, "agent")
        known = [
            About.of(entry)
            for entry in entries
            if wanted is None or entry.entity_path.split("/")[-1] == wanted
        ]
        return sorted(known, key=lambda about: about.last_activity, reverse=True)

    def search(
        self,
        query: str,
        *,
        user: str | None = None,
        agent: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 10,
    ) -> builtins.list[TurnHit]:
        """Return the turns that answer a query best, the best first.

        Args:
            query: words, as for `AgentMemory.search`.
            user: only conversations of this user; None for all users.
            agent: only this user's conversations with this agent; needs `user`.
            since: only turns written at or after this time (an aware `datetime`).
            until: only turns written before this time.
            limit: return at most so many.

        Raises:
            InvalidValueError: there is an `agent` without a `user`.
            AMFSError: whatever `AgentMemory.search` raises.

        Cost: a search under that path, and about 2 requests for each turn found whose confidence an
        outcome has moved.
        """
        if agent is not None and user is None:
            raise InvalidValueError("a search by agent needs a user", hint="give both, or neither")
        hits = self._memory.search(
            query,
            entity_path=self._under("turns", user, agent),
            since=since,
            until=until,
            limit=limit,
        )
        return [
            TurnHit(Turn.of(self._as_said(hit.entry)), *_whose(hit.entry.entity_path), hit.score)
            for hit in hits
        ]

    def prune(
        self,
        *,
        inactive_for: float | timedelta,
        user: str | None = None,
        agent: str | None = None,
    ) -> int:
        """Erase permanently the conversations without activity for so long (seconds or
        `timedelta`); return how many. The cost of `list`, and of `Conversation.delete` for each.

        A turn that another process appends while its conversation is erased may be erased too.
        """
        age = timedelta(seconds=arguments.seconds(inactive_for, "inactive_for"))
        limit = datetime.now(UTC) - age
        old = [about for about in self.list(user=user, agent=agent) if about.last_activity < limit]
        for about in old:
            self.open(about.user, about.agent, about.conversation_id).delete()
        return len(old)

    def delete_user(self, user: str) -> int:
        """Erase everything of a user permanently; return the number of conversations.

        The cost of listing everything of the user, and of `Conversation.delete` for each
        conversation. After a crash, call it again: it goes on. Copies elsewhere (backups, other
        stores) are not touched.
        """
        whose = {(about.user, about.agent, about.conversation_id) for about in self.list(user=user)}
        for kind in ("turns", "chunks"):
            paths = self._memory.list_entity_paths(self._under(kind, user, None))
            whose.update(_whose(path) for path in paths)
        for names in sorted(whose):
            self.open(*names).delete()
        return len(whose)

    def _as_said(self, entry: MemoryEntry) -> MemoryEntry:
        """Return the first version of a turn: an outcome signs those that it adds."""
        if entry.version == 1:
            return entry
        return self._memory.history(entry.entity_path, entry.key)[0]

    def _under(self, kind: str, user: str | None, agent: str | None) -> str:
        names = [self._path, kind]
        if user is not None:
            names.append(segment(user, "user"))
            if agent is not None:
                names.append(segment(agent, "agent"))
        return "/".join(names)


def _whose(entity_path: str) -> tuple[str, str, str]:
    """Return user, agent and conversation, by the path of the turns or chunks."""
    user, agent, conversation_id = entity_path.split("/")[-3:]
    return unsegment(user), unsegment(agent), unsegment(conversation_id)
