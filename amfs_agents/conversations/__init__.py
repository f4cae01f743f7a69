"""Conversations: turns in order, summaries beside them, by user and agent
(docs/conversations.md)."""

from amfs_agents.conversations.conversation import Conversation
from amfs_agents.conversations.conversations import Conversations
from amfs_agents.conversations.records import About, Chunk, Turn, TurnHit

__all__ = ["About", "Chunk", "Conversation", "Conversations", "Turn", "TurnHit"]
