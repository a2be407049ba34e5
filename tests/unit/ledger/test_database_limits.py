"""Limits of a real database: of time, of connections; its clock; after how long a silent client's locks are free."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import make_url

from jittask_prefect.ledger import database_limits

Url = Callable[[str], str]


def connected(url: str, **settings: object) -> Connection:
    """A connection with some settings of PostgreSQL; its engine goes with it."""
    options = " ".join(f"-c{name}={value}" for name, value in settings.items())
    own = make_url(url).update_query_dict({"options": options} if options else {})
    return create_engine(own).connect()


@pytest.fixture
def postgres(url: Url) -> str:
    return url("postgresql")


def limits(connection: Connection) -> dict[str, float]:
    with connection:
        return {
            limit.name: limit.seconds
            for limit in database_limits.time_limits(connection)
        }


def test_no_limit_is_told_where_there_is_none(postgres: str) -> None:
    assert limits(connected(postgres)) == {}


def test_the_limits_of_a_connection(postgres: str) -> None:
    of_connection = connected(
        postgres, statement_timeout="5s", idle_in_transaction_session_timeout="2min"
    )
    assert limits(of_connection) == {
        "idle_in_transaction_session_timeout": 120, "statement_timeout": 5,
    }  # fmt: skip


def test_the_limits_of_mariadb(url: Url) -> None:
    engine = create_engine(url("mariadb"))
    with engine.connect() as connection:
        connection.execute(text("SET SESSION idle_transaction_timeout = 7"))
        [limit] = database_limits.time_limits(connection)
        assert (limit.name, limit.seconds, limit.of_transaction) == (
            "idle_transaction_timeout", 7, True,
        )  # fmt: skip
        assert (database_limits.connection_limit(connection) or 0) > 1
    engine.dispose()


def test_a_silent_clients_locks(postgres: str) -> None:
    """Idle time, and then as many questions as the setting says."""
    keys = {
        "tcp_keepalives_idle": 30, "tcp_keepalives_interval": 10, "tcp_keepalives_count": 3,
    }  # fmt: skip
    with connected(postgres, **keys) as connection:
        assert database_limits.silence_seconds(connection) == 60


@pytest.fixture
def role(postgres: str) -> Iterator[str]:
    name, admin = f"jittask_limited_{os.getpid()}", create_engine(postgres)
    with admin.begin() as connection:
        connection.execute(text(f"CREATE ROLE {name} CONNECTION LIMIT 3"))
    yield name
    with admin.begin() as connection:
        connection.execute(text(f"DROP ROLE {name}"))
    admin.dispose()


def test_the_connections_that_a_role_gets(postgres: str, role: str) -> None:
    with connected(postgres) as connection:
        most = connection.execute(text("SHOW max_connections")).scalar_one()
        given = database_limits.connection_limit(connection)
    assert given is not None and int(most) - 20 < given < int(most)
    with connected(postgres, role=role) as connection:
        assert database_limits.connection_limit(connection) == 3


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_the_databases_clock(url: Url, kind: str) -> None:
    """A reader whose clock is 30 s behind finds the database ahead."""
    engine = create_engine(url(kind))
    with engine.connect() as connection:
        low, high = database_limits.clock_offset(
            connection, lambda: datetime.now(UTC) - timedelta(seconds=30)
        )
    engine.dispose()
    assert low <= 30 <= high + 0.1 and high - low < 5


def test_sqlite_has_no_limits(url: Url) -> None:
    engine = create_engine(url("sqlite"))
    with engine.connect() as connection:
        assert database_limits.time_limits(connection) == []
        assert database_limits.silence_seconds(connection) is None
        assert database_limits.connection_limit(connection) is None
    engine.dispose()
