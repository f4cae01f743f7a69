"""The SDKs' own tests, run as they are: AMFS stands where their own storage does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.agents import suites

SESSIONS = "tests/memory/test_session.py"
SUFFIX = "tests/memory/test_compaction_suffix.py"
COMPACTION = (
    "tests/memory/test_openai_responses_compaction_session.py::TestOpenAIResponsesCompactionSession"
)

INTERNALS = [
    # Each of them reaches into the connections, locks or tables of SQLiteSession.
    f"{SESSIONS}::test_sqlite_session_close_closes_worker_thread_connections",
    f"{SESSIONS}::test_sqlite_session_reaps_connections_from_exited_worker_threads",
    f"{SESSIONS}::test_sqlite_session_closes_retired_connections_before_the_next_allocation",
    f"{SESSIONS}::test_sqlite_session_keeps_connections_of_live_worker_threads",
    f"{SESSIONS}::test_sqlite_session_pop_item_skips_corrupt_most_recent",
    f"{SESSIONS}::test_sqlite_session_pop_item_returns_none_after_dropping_only_corrupt_rows",
    f"{SESSIONS}::test_sqlite_session_get_items_limit_skips_corrupt_newest_rows",
    f"{SESSIONS}::test_sqlite_session_get_items_session_settings_limit_skips_corrupt_rows",
    f"{SESSIONS}::test_sqlite_session_file_lock_is_shared_across_instances",
    f"{SESSIONS}::test_sqlite_session_failed_clear_session_rolls_back",
    f"{SESSIONS}::test_sqlite_session_failed_pop_item_releases_write_lock",
    f"{SESSIONS}::test_sqlite_session_rollback_failure_evicts_connection",
    f"{SESSIONS}::test_sqlite_session_close_retries_quarantined_connection",
    f"{SESSIONS}::test_sqlite_session_post_commit_cancellation_propagates_after_known_outcome",
    f"{SUFFIX}::test_suffix_transaction_rolls_back_failed_insert[sqlite]",
    f"{SUFFIX}::test_cancelled_suffix_transaction_settles_before_newer_append[sqlite]",
    f"{SUFFIX}::test_failed_encrypted_suffix_transaction_preserves_original_tokens[sqlite-False]",
    f"{SUFFIX}::test_failed_encrypted_suffix_transaction_preserves_original_tokens[sqlite-True]",
    f"{COMPACTION}::test_settled_pop_failure_invalidates_response_chain",
    f"{COMPACTION}::test_settled_clear_failure_invalidates_response_chain",
]
OTHERWISE = [
    # A session of AMFS has nothing to close, and refuses what JSON cannot carry with its own error
    # (test_sessions.py has that one).
    f"{SESSIONS}::test_sqlite_session_closed_rejects_empty_add_items",
    f"{SESSIONS}::test_sqlite_session_failed_add_items_releases_write_lock",
]

OF_SQLITE = [
    # The tables, statements and connections of LangGraph's own; what its two classes do not share.
    "tests/test_store.py::test_vector_store_initialization",
    "tests/test_store.py::test_nonnull_migrations",
    "tests/test_store.py::test_sql_injection_vulnerability",
    "tests/test_async_store.py::test_vector_store_initialization",
    "tests/test_async_store.py::test_no_running_loop",
    "tests/test_sqlite.py::TestSqliteSaver::test_informative_async_errors",
    "tests/test_sqlite.py::TestSqliteSaver::test_checkpoint_search_sql_injection_prevention",
    "tests/test_delta_parent_walk.py::test_walk_step_looks_up_the_parent_by_primary_key",
    # A dot in the name of a filter is a path for SQLite; for LangGraph's store in memory it is not.
    "tests/test_store.py::test_filter_keys_with_hyphens_and_digits",
    "tests/test_sqlite.py::TestSqliteSaver::test_metadata_filter_keys_with_hyphens_and_digits",
    # Where labels are joined with dots a batch refuses those with dots. Here they are not joined.
    "tests/test_store.py::test_batch_rejects_invalid_namespace_labels",
    "tests/test_async_store.py::test_abatch_rejects_invalid_namespace_labels",
    "tests/test_async_store.py::test_sync_methods_reject_invalid_namespace_labels",
    # 6,000 operations: seconds.
    "tests/test_async_store.py::test_large_batches_async",
]

# 6,000 and 60,000 operations: minutes.
LARGE = [
    "tests/test_async_store.py::test_large_batches",
    "tests/test_async_store.py::test_large_batches_async",
]
OF_POSTGRES = [
    # The tables, statements and connections of LangGraph's own; what its two classes do not share.
    "tests/test_store.py::test_escape_like_literal",
    "tests/test_store.py::test_namespace_match_pattern",
    "tests/test_store.py::test_nonnull_migrations",
    "tests/test_async_store.py::test_no_running_loop",
    "tests/test_async_store.py::test_abatch_uses_single_pool_checkout",
    # Where labels are joined with dots a batch refuses those with dots. Here they are not joined.
    "tests/test_store.py::test_batch_rejects_invalid_namespace_labels",
    "tests/test_async_store.py::test_abatch_rejects_invalid_namespace_labels",
    "tests/test_async_store.py::test_sync_methods_reject_invalid_namespace_labels",
    # Rows whose time is over are returned there until they are swept, unless told otherwise. Here
    # they never are.
    "tests/test_store.py::test_omit_expired_disabled_preserves_expired_rows",
    "tests/test_async_store.py::test_omit_expired_disabled_preserves_expired_rows",
]
ASLEEP = [
    f"tests/test_{name}.py::test_store_ttl" for name in ("store", "async_store")
]  # 17 seconds each


def test_the_session_tests_of_the_openai_agents_sdk_pass() -> None:
    counts = suites.run(
        suites.sources("openai-agents"),
        [
            SESSIONS,
            SUFFIX,
            COMPACTION.partition("::")[0],
            "tests/memory/test_session_limit.py",
            "tests/memory/test_compaction_model_visibility.py",
            "tests/test_hitl_session_scenario.py",
        ],
        plugin="amfs_sessions",
        left_out=[*INTERNALS, *OTHERWISE],
    )
    assert counts["passed"] >= 268
    assert counts["skipped"] == 0


def test_the_memory_tool_tests_of_the_anthropic_sdk_pass(tmp_path: Path) -> None:
    tests = suites.sources("anthropic") / "tests/lib/tools/memory_tools/test_filesystem.py"
    shutil.copy(tests, tmp_path)  # away from a conftest.py that is about the API
    counts = suites.run(
        tmp_path,
        [tests.name],
        plugin="amfs_memory_tool",
        left_out=[],
        # Memories have no symbolic links and no permission bits.
        options=["-k", "not symlink and not umask", "-o", "asyncio_mode=auto"],
    )
    assert counts["passed"] >= 62
    assert counts["skipped"] == 0


def test_the_tests_of_langgraphs_savers_and_stores_pass(tmp_path: Path) -> None:
    # Away from the packages beside them, which are those that are tested there.
    shutil.copytree(suites.sources("langgraph-checkpoint-sqlite") / "tests", tmp_path / "tests")
    counts = suites.run(
        tmp_path,
        [
            f"tests/test_{name}.py"
            for name in (
                *("store", "async_store", "sqlite", "aiosqlite"),
                *("delta_parent_walk", "delta_channel_migration", "get_delta_channel_history"),
            )
        ],
        plugin="amfs_langgraph",
        left_out=OF_SQLITE,
        options=["-o", "asyncio_mode=auto"],
    )
    assert counts["passed"] >= 114
    assert counts["skipped"] == 0


@pytest.mark.parametrize("kind", ["local", "sqlite", "postgres"])
def test_the_tests_of_langgraphs_store_in_postgresql_pass(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    shutil.copytree(suites.sources("langgraph-checkpoint-postgres") / "tests", tmp_path / "tests")
    variables = {"AMFS_TEST_STORE": kind}
    if kind == "postgres":
        variables["AMFS_TEST_DSN"] = request.getfixturevalue("postgres").dsn
    asleep = [] if kind == "sqlite" else ASLEEP
    counts = suites.run(
        tmp_path,
        ["tests/test_store.py", "tests/test_async_store.py"],
        plugin="amfs_langgraph_postgres",
        left_out=[*OF_POSTGRES, *LARGE, *asleep],
        # pipe, pool: how the store holds its connections to a server. halfvec: how pgvector keeps
        # vectors, and (in the tests of scores) a distance that is not the angle.
        options=["-o", "asyncio_mode=auto", "-k", "not pipe and not pool and not halfvec"],
        variables=variables,
    )
    assert counts["passed"] == (89 if kind == "sqlite" else 87)
    assert counts["skipped"] == 0
