"""Leases go by the database's clock: a caller whose clock is wrong takes nothing from anybody."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection
from sqlalchemy.dialects import mysql, postgresql, sqlite

from jittask_prefect.ledger import lease_time, state_table, transitions
from jittask_prefect.ledger.entry import find_entry, living_tasks, new_entry
from jittask_prefect.schedule import clock

YEARS = timedelta(days=3650)


@pytest.fixture(autouse=True)
def _database_clock() -> Iterator[None]:
    lease_time.use_clock_of_caller(False)
    yield
    lease_time.use_clock_of_caller()


def claimed(connection: Connection, now: datetime) -> datetime:
    """A task is claimed by a caller whose clock says `now`; until when."""
    made = new_entry(task_id="t", app="a", template="t", due=now, created=now)
    transitions.enter(connection, made)
    assert transitions.claim(connection, "t", "me", "run", now, 25)
    found = find_entry(connection, "t")
    assert found is not None and found.lease_until is not None
    return found.lease_until


@pytest.mark.parametrize("wrong", [-YEARS, timedelta(), YEARS])
def test_a_claim_holds_by_the_databases_clock(
    connection: Connection, wrong: timedelta
) -> None:
    now = clock.now()
    until = claimed(connection, now + wrong)
    assert abs(until - now - timedelta(seconds=25)) < timedelta(seconds=10)
    for other in (-YEARS, timedelta(), YEARS):
        assert living_tasks(connection, "a", now + other) == {"t"}
    transitions.renew(connection, "me", now - wrong, -5)
    assert living_tasks(connection, "a", now + wrong) == set()


def test_the_syncs_lease_does_too(connection: Connection) -> None:
    now = clock.now()
    lease = ("a", "sync")
    assert state_table.take_lease(connection, *lease, "one", now - YEARS, 25)
    assert not state_table.take_lease(connection, *lease, "two", now + YEARS, 25)
    assert state_table.take_lease(connection, *lease, "one", now, -1)
    assert state_table.take_lease(connection, *lease, "two", now - YEARS, 25)


def test_tests_set_the_callers_clock(connection: Connection) -> None:
    lease_time.use_clock_of_caller()
    now = datetime(2026, 3, 2, 10, tzinfo=UTC)
    assert claimed(connection, now) == now + timedelta(seconds=25)
    assert living_tasks(connection, "a", now + timedelta(seconds=25)) == {"t"}
    assert living_tasks(connection, "a", now + timedelta(seconds=26)) == set()


def test_the_clock_is_written_as_each_database_has_it() -> None:
    texts = {
        dialect.name: str(lease_time.clock(None, 25).compile(dialect=dialect))
        for dialect in (sqlite.dialect(), postgresql.dialect(), mysql.dialect())
    }
    assert "strftime('%Y-%m-%d %H:%M:%f', 'now'" in texts["sqlite"]
    assert "clock_timestamp()" in texts["postgresql"]
    assert "UTC_TIMESTAMP(6)" in texts["mysql"]


@pytest.mark.parametrize("wrong", [-YEARS, timedelta(), YEARS])
def test_the_database_says_whether_a_lease_is_over(
    connection: Connection, wrong: timedelta
) -> None:
    now, ten = clock.now(), timedelta(seconds=10)
    assert lease_time.is_over(connection, now - ten, now + wrong)
    assert not lease_time.is_over(connection, now + ten, now + wrong)


def test_the_caller_says_whether_a_lease_is_over_in_tests(
    connection: Connection,
) -> None:
    lease_time.use_clock_of_caller()
    now = datetime(2026, 3, 2, 10, tzinfo=UTC)
    assert not lease_time.is_over(connection, now, now)
    assert lease_time.is_over(connection, now, now + timedelta(seconds=1))
