"""`Conversations`: turns once and in order, whose they are, chunks, and erasure."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from amfs import AgentMemory, InvalidValueError
from amfs_agents.conversations import Chunk, Conversation, Conversations, Turn
from tests.agents.counting import counted
from tests.agents.numbered import numbered
from tests.agents.processes import at_once

filled = partial(numbered, "turn", ("user", "assistant"))
Opens = Callable[[], AgentMemory]


@pytest.fixture
def conversations(memory: AgentMemory) -> Conversations:
    return Conversations(memory)


@pytest.fixture
def chat(conversations: Conversations) -> Conversation:
    return conversations.open("ada", "support", "c1")


def said(turns: list[Any]) -> list[Any]:
    return [turn.content for turn in turns]


class TestTurns:
    def test_a_turn_keeps_all_that_it_was_given(self, chat: Conversation) -> None:
        written = chat.append(
            "assistant",
            [{"type": "text", "text": "In Lisbon."}],
            model="m-1",
            usage={"input": 10, "output": 4},
            tool_calls=[{"name": "track", "arguments": {"id": 7}}],
            metadata={"trace": "t"},
            turn_id="turn-1",
        )
        assert chat.turns() == [written]
        assert (written.number, written.role, written.model) == (1, "assistant", "m-1")
        assert written.usage == {"input": 10, "output": 4}
        assert written.tool_calls == [{"name": "track", "arguments": {"id": 7}}]
        assert (written.metadata, written.turn_id) == ({"trace": "t"}, "turn-1")
        assert written.agent_id == "tests"

    def test_turns_by_limit_offset_end_role_and_time(self, chat: Conversation) -> None:
        turns = filled(chat, 6).turns()
        numbers = range(1, 7)

        def these(**conditions: Any) -> list[int]:
            return [turn.number for turn in chat.turns(**conditions)]

        assert these() == list(numbers)
        assert these(limit=2) == [1, 2]
        assert these(limit=2, offset=3) == [4, 5]
        assert these(offset=9) == []
        assert these(from_end=True, limit=2) == [5, 6]
        assert these(from_end=True, limit=2, offset=1) == [4, 5]
        assert these(from_end=True, offset=4) == [1, 2]
        assert these(from_end=True, offset=9, limit=1) == []
        assert these(role="assistant") == [2, 4, 6]
        assert these(role="assistant", from_end=True, limit=1) == [6]
        assert these(since=turns[2].written_at) == [3, 4, 5, 6]
        assert these(since=turns[1].written_at, until=turns[3].written_at) == [2, 3]

    @pytest.mark.parametrize(
        "wrong",
        [{"limit": 0}, {"limit": -1}, {"offset": -1}, {"since": datetime(2026, 1, 1)}],
    )
    def test_a_wrong_condition_is_refused(self, chat: Conversation, wrong: Any) -> None:
        with pytest.raises(InvalidValueError):
            chat.turns(**wrong)

    @pytest.mark.parametrize("content", [b"bytes", float("nan"), {1: 2}, {"a", "b"}])
    def test_a_value_that_json_cannot_carry_is_refused_before_anything_begins(
        self, conversations: Conversations, chat: Conversation, content: Any
    ) -> None:
        with pytest.raises(InvalidValueError):
            chat.append("user", content)
        with pytest.raises(InvalidValueError):
            chat.append("", "text")
        assert conversations.list() == []
        assert chat.about() is None
        assert chat.turns() == []

    def test_a_turn_appended_again_is_the_one_that_is_there(
        self, opens: Opens, chat: Conversation
    ) -> None:
        first = chat.append("user", "hello", turn_id="t-1")
        chat.append("user", "more", turn_id="t-2")
        elsewhere = Conversations(opens()).open("ada", "support", "c1")
        assert elsewhere.append("user", "hello", turn_id="t-1") == first
        assert said(chat.turns()) == ["hello", "more"]

    def test_a_conversation_that_was_pruned_goes_on_with_the_next_number(
        self, opens: Opens, chat: Conversation
    ) -> None:
        filled(chat, 5).prune(keep=0)
        assert chat.turns() == []
        elsewhere = Conversations(opens()).open("ada", "support", "c1")
        assert elsewhere.append("user", "on").number == 6
        assert said(chat.turns()) == ["on"]

    def test_a_turn_that_an_outcome_moved_stays_what_it_was(
        self, memory: AgentMemory, opens: Opens, chat: Conversation
    ) -> None:
        first = chat.append("user", "hello", turn_id="t-1")
        place = ("conversations/turns/ada/support/c1", "0000000001")
        memory.commit_outcome("run-1", "success", entries=[place])
        elsewhere = Conversations(opens()).open("ada", "support", "c1")
        assert elsewhere.append("user", "hello", turn_id="t-1") == first
        assert chat.turns() == elsewhere.turns() == [first]
        [hit] = Conversations(memory).search("hello")
        assert hit.turn == first

    def test_a_turn_that_was_deleted_in_the_middle_stays_away(
        self, memory: AgentMemory, chat: Conversation
    ) -> None:
        filled(chat, 3)
        memory.delete("conversations/turns/ada/support/c1", "0000000002")
        assert [turn.number for turn in chat.turns()] == [1, 3]
        assert chat.append("user", "four").number == 4


def _talk(memory: AgentMemory, number: int) -> None:
    chat = Conversations(memory).open("ada", "support", "shared")
    for step in range(8):
        chat.append("user", f"{number}.{step}")
    for step in range(3):
        chat.append("user", "the same", turn_id=f"same-{step}")


def test_processes_append_each_turn_once_and_in_their_order(store: Path, opens: Opens) -> None:
    at_once(_talk, store, 4)
    turns = Conversations(opens()).open("ada", "support", "shared").turns()
    assert [turn.number for turn in turns] == list(range(1, 36))
    for number in range(4):
        own = [turn.content for turn in turns if turn.content.startswith(f"{number}.")]
        assert own == [f"{number}.{step}" for step in range(8)]
    same = [turn.turn_id for turn in turns if turn.content == "the same"]
    assert sorted(same) == ["same-0", "same-1", "same-2"]


class TestAbout:
    def test_what_is_described_is_listed_and_the_rest_stays(
        self, conversations: Conversations, chat: Conversation
    ) -> None:
        chat.describe(title="A parcel", persona={"tone": "calm"})
        chat.describe(summary="It is in Lisbon.", metadata={"open": True})
        [about] = conversations.list(user="ada")
        assert about == chat.about()
        assert (about.user, about.agent, about.conversation_id) == ("ada", "support", "c1")
        assert (about.title, about.persona) == ("A parcel", {"tone": "calm"})
        assert (about.summary, about.metadata) == ("It is in Lisbon.", {"open": True})

    def test_the_last_activity_follows_the_turns(self, chat: Conversation) -> None:
        before = datetime.now(UTC)
        chat.append("user", "one")
        first = chat.about()
        second = chat.append("user", "two")
        about = chat.about()
        assert first is not None and about is not None
        assert before <= first.created_at == about.created_at
        assert first.last_activity < about.last_activity <= second.written_at

    def test_lists_are_by_user_and_agent_and_the_latest_comes_first(
        self, conversations: Conversations
    ) -> None:
        for user, agent, name in (
            ("ada", "support", "1"),
            ("ada", "sales", "2"),
            ("bob", "support", "3"),
            ("ada", "support", "4"),
            ("ad", "support", "5"),
        ):
            conversations.open(user, agent, name).append("user", "hello")

        def names(**whose: str) -> list[str]:
            return [about.conversation_id for about in conversations.list(**whose)]

        assert names() == ["5", "4", "3", "2", "1"]
        assert names(user="ada") == ["4", "2", "1"]
        assert names(user="ada", agent="support") == ["4", "1"]
        assert names(agent="support") == ["5", "4", "3", "1"]
        assert names(user="nobody") == []

    def test_names_may_be_any_text(self, conversations: Conversations) -> None:
        names = ("ada/lovelace", "50%", "c/1%2F")
        chat = conversations.open(*names)
        chat.append("user", "unmistakable")
        [about] = conversations.list(user="ada/lovelace")
        assert (about.user, about.agent, about.conversation_id) == names
        [hit] = conversations.search("unmistakable", user="ada/lovelace")
        assert (hit.user, hit.agent, hit.conversation_id) == names
        assert conversations.delete_user("ada/lovelace") == 1
        assert conversations.list() == []

    def test_a_conversation_without_a_name_gets_one(self, conversations: Conversations) -> None:
        conversation, other = conversations.open("ada", "a"), conversations.open("ada", "a")
        assert uuid.UUID(conversation.conversation_id) != uuid.UUID(other.conversation_id)


def test_a_search_finds_turns_of_a_user(conversations: Conversations) -> None:
    conversations.open("ada", "support", "1").append("user", "my parcel is in Lisbon")
    conversations.open("bob", "support", "2").append("user", "Lisbon is lovely")
    hits = conversations.search("Lisbon", user="ada")
    assert [(hit.conversation_id, hit.turn.content) for hit in hits] == [
        ("1", "my parcel is in Lisbon")
    ]
    assert len(conversations.search("Lisbon")) == 2
    assert conversations.search("Lisbon", user="ada", agent="sales") == []
    with pytest.raises(InvalidValueError, match="needs a user"):
        conversations.search("Lisbon", agent="support")


class TestChunks:
    def test_a_chunk_stands_for_its_turns_which_stay(self, chat: Conversation) -> None:
        filled(chat, 6)
        chunk = chat.compress(2, 4, "a summary", model="m", metadata={"by": "me"})
        context = chat.context()
        assert said(context) == ["turn 1", "a summary", "turn 5", "turn 6"]
        assert [type(part) for part in context] == [Turn, Chunk, Turn, Turn]
        assert said(chat.raw(chunk)) == ["turn 2", "turn 3", "turn 4"]
        assert len(chat.turns()) == 6
        assert said(chat.expand(chunk)) == said(chat.turns())
        assert chat.chunks() == []

    def test_a_chunk_of_chunks_can_be_taken_back_to_the_smaller_ones(
        self, chat: Conversation
    ) -> None:
        filled(chat, 6)
        chat.compress(1, 2, "first")
        chat.compress(3, 4, "second")
        whole = chat.compress(1, 5, "whole")
        assert said(chat.context()) == ["whole", "turn 6"]
        assert said(chat.expand(whole)) == ["first", "second", "turn 5", "turn 6"]

    @pytest.mark.parametrize(("first", "last"), [(0, 2), (3, 9), (4, 2), (9, 9)])
    def test_a_chunk_of_turns_that_are_not_there_is_refused(
        self, chat: Conversation, first: int, last: int
    ) -> None:
        filled(chat, 4)
        with pytest.raises(InvalidValueError, match=f"no turns {first} to {last}"):
            chat.compress(first, last, "a summary")

    @pytest.mark.parametrize(("first", "last"), [(1, 2), (4, 5), (3, 3), (2, 3)])
    def test_a_part_of_a_chunk_is_not_compressed_again(
        self, chat: Conversation, first: int, last: int
    ) -> None:
        filled(chat, 6).compress(2, 4, "a summary")
        with pytest.raises(InvalidValueError, match="overlap the chunk of 2 to 4"):
            chat.compress(first, last, "another")

    def test_chunks_outlive_the_turns_that_were_pruned(self, chat: Conversation) -> None:
        filled(chat, 4)
        chunk = chat.compress(1, 3, "a summary")
        assert chat.prune(keep=1, for_good=True) == 3
        assert said(chat.context()) == ["a summary", "turn 4"]
        assert chat.raw(chunk) == []


class TestErasure:
    def test_pruning_keeps_what_is_new_enough_or_the_newest(self, chat: Conversation) -> None:
        filled(chat, 5)
        assert chat.prune(older_than=3600) == 0
        assert chat.prune(keep=2, older_than=timedelta(hours=1)) == 0
        assert chat.prune(keep=2) == 3
        assert [turn.number for turn in chat.turns()] == [4, 5]
        assert chat.prune(older_than=0) == 2
        with pytest.raises(InvalidValueError, match="keep, older_than or both"):
            chat.prune()

    def test_pruned_turns_stay_in_the_history_unless_they_are_erased(
        self, memory: AgentMemory, chat: Conversation
    ) -> None:
        filled(chat, 2).prune(keep=0)
        path = "conversations/turns/ada/support/c1"
        assert memory.history(path, "0000000001")[0].value["content"] == "turn 1"
        filled(chat, 2).prune(keep=0, for_good=True)
        assert {entry.value for entry in memory.history(path, "0000000003")} == {None}

    def test_a_user_is_deleted_with_all_that_was_ever_said_and_nobody_else(
        self, store: Path, memory: AgentMemory, conversations: Conversations
    ) -> None:
        chat = conversations.open("ada", "support", "c1")
        filled(chat, 4).prune(keep=2)
        chat.append("user", "the secret word is Rumpelstiltskin")
        chat.compress(3, 4, "Rumpelstiltskin again")
        chat.describe(title="Rumpelstiltskin")
        conversations.open("ada", "sales", "c2").append("user", "Rumpelstiltskin too")
        other = conversations.open("bob", "support", "c3").append("user", "mine")
        assert conversations.search("Rumpelstiltskin")
        assert conversations.delete_user("ada") == 2
        assert conversations.delete_user("ada") == 0
        assert conversations.list(user="ada") == []
        assert conversations.search("Rumpelstiltskin") == []
        assert conversations.open("bob", "support", "c3").turns() == [other]
        assert memory.verify().ok
        memory.close()
        stored = b"".join(path.read_bytes() for path in store.parent.glob("store.db*"))
        assert b"Rumpelstiltskin" not in stored
        assert b"turn 1" not in stored
        assert b"mine" in stored

    def test_turns_whose_description_is_lost_are_deleted_with_their_user(
        self, memory: AgentMemory, conversations: Conversations, chat: Conversation
    ) -> None:
        filled(chat, 2)
        memory.purge("conversations/about/ada/support", "c1")
        assert conversations.delete_user("ada") == 1
        assert memory.list("conversations") == []

    def test_a_deleted_conversation_can_begin_again(self, opens: Opens, chat: Conversation) -> None:
        filled(chat, 3).delete()
        assert chat.about() is None
        elsewhere = Conversations(opens()).open("ada", "support", "c1")
        assert elsewhere.append("user", "new").number == 4
        assert said(chat.turns()) == ["new"]

    def test_conversations_without_activity_are_pruned(
        self, conversations: Conversations, chat: Conversation
    ) -> None:
        chat.append("user", "hello")
        assert conversations.prune(inactive_for=timedelta(hours=1)) == 0
        assert conversations.prune(inactive_for=0, user="bob") == 0
        assert conversations.prune(inactive_for=0) == 1
        assert conversations.list() == []


class TestRequests:
    def test_50_turns_are_read_in_51_requests_and_then_in_1(self, on_bucket: Opens) -> None:
        writer = on_bucket()
        filled(Conversations(writer).open("ada", "support", "c1"), 50)
        reader = on_bucket()
        chat = Conversations(reader).open("ada", "support", "c1")
        with counted(reader) as first:
            assert len(chat.turns()) == 50
        assert first == {"list": 1, "get": 50}
        with counted(reader) as second:
            assert chat.turns(from_end=True, limit=1)[0].number == 50
        assert second == {"list": 1}
        with counted(writer) as own:
            Conversations(writer).open("ada", "support", "c1").turns()
        assert own == {"list": 1}

    def test_a_turn_is_2_requests_and_1_within_the_interval(self, on_bucket: Opens) -> None:
        memory = on_bucket()
        chat = Conversations(memory).open("ada", "support", "c1")
        chat.append("user", "one")
        with counted(memory) as exact:
            chat.append("user", "two")
        assert exact == {"create": 2}
        rarely = Conversations(memory, activity_interval=60).open("ada", "support", "c1")
        rarely.append("user", "three", turn_id="t-3")
        with counted(memory) as cheap:
            rarely.append("user", "four")
        assert cheap == {"create": 1}
        with counted(memory) as named:
            rarely.append("user", "five", turn_id="t-5")
        assert named == {"list": 1, "create": 1}

    def test_a_list_reads_no_turn(self, on_bucket: Opens) -> None:
        writer = on_bucket()
        for name in "abc":
            filled(Conversations(writer).open("ada", "support", name), 3)
        reader = on_bucket()
        with counted(reader) as counts:
            assert len(Conversations(reader).list(user="ada")) == 3
        assert counts == {"list": 1, "get": 3}
