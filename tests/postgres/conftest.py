"""What the tests of PostgreSQL share: a store in a schema of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from amfs_postgres import PostgresAdapter
from amfs_postgres.index import PostgresIndex
from tests.support.postgres import Postgres, new_schema


@pytest.fixture
def adapter(postgres: Postgres) -> Iterator[PostgresAdapter]:
    with closing(PostgresAdapter(postgres.dsn, new_schema())) as made:
        yield made


@pytest.fixture
def index(postgres: Postgres) -> Iterator[PostgresIndex]:
    with closing(PostgresIndex(postgres.dsn, new_schema())) as made:
        yield made
