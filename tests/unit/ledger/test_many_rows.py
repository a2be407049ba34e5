"""Inserts of many rows say the same as an INSERT for each, and leave out the rows whose key is taken: on all three servers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest
from shop import Server, Shop
from sqlalchemy import insert, select, text
from sqlalchemy.exc import IntegrityError

from jittask_prefect.ledger.many_rows import COPIED, insert_all
from jittask_prefect.ledger.tables import entries, metadata

Make = Callable[..., Shop]
EAST = timezone(timedelta(hours=8))
ODD = (
    "",
    "合同",
    "a\tb",
    "a\nb\r",
    "\\N",
    "\\.",
    "a \"b\", 'c'",
    "%(a)s :x ?",
    "back\\slash",
)
"""Texts of which COPY's own signs are a part."""


def row(number: int, **values: Any) -> dict[str, Any]:
    return {
        "task_id": f"task {number}",
        "app": "shop",
        "template": "tasks.T",
        "row_key": str(number),
        "nominal": datetime(2026, 3, 1, 9, 0, 0, 7, EAST),
        "generation": number,
        "due": datetime(2026, 3, 1, 9, 0, 0, 123456, EAST),
        "created": datetime(2026, 3, 1, tzinfo=UTC),
        "start_value": datetime(2026, 3, 1, 9, 0, 0, 7),
        "end_value": None,
        "status": "pending",
        "message": ODD[number % len(ODD)],
        "dirty": number % 2 == 0,
        "attempt": 0,
        "returned": False,
        **values,
    }


def found(s: Shop) -> dict[str, str]:
    """The messages in the ledger, by task."""
    return {entry.task_id: entry.message for entry in s.entries()}


@pytest.fixture
def postgresql(on: Make, server: Server) -> Shop:
    if server.kind != "postgresql":
        pytest.skip("COPY is PostgreSQL's")
    return on()


@pytest.mark.parametrize("many", [1, COPIED - 1, COPIED, 3 * COPIED])
def test_values_come_back(on: Make, many: int) -> None:
    s = on()
    rows = [row(number) for number in range(many)]
    with s.app.engine().begin() as connection:
        insert_all(connection, entries, rows)
        read = select(*(entries.c[name] for name in rows[0]))
        got = connection.execute(read.order_by(entries.c.generation)).all()
    assert [tuple(record) for record in got] == [tuple(each.values()) for each in rows]


def test_an_hour_that_comes_twice(on: Make) -> None:
    # Python finds both times equal: an instant that rows share is converted once, an equal one is another
    from zoneinfo import ZoneInfo

    s, berlin = on(), ZoneInfo("Europe/Berlin")
    first = datetime(2026, 10, 25, 2, 30, tzinfo=berlin)
    dues = [first, first.replace(fold=1)]
    rows = [row(number, due=dues[number % 2]) for number in range(COPIED)]
    with s.app.engine().begin() as connection:
        insert_all(connection, entries, rows)
    hours = {entry.generation % 2: entry.due.hour for entry in s.entries()}
    assert hours == {0: 0, 1: 1}


@pytest.mark.parametrize("of", ["task_id", "identity"])
def test_a_key_that_is_taken_is_left_out(on: Make, of: str) -> None:
    s = on()
    there = row(5, message="there before")
    there |= {"row_key": "another"} if of == "task_id" else {"task_id": "another"}
    with s.app.engine().begin() as connection:
        connection.execute(insert(entries), [there])
    with s.app.engine().begin() as connection:
        connection.execute(insert(entries), [row(900)])
        insert_all(connection, entries, [row(number) for number in range(COPIED)])
        connection.execute(insert(entries), [row(901)])
    messages = found(s)
    assert len(messages) == COPIED + 2
    assert messages[str(there["task_id"])] == "there before"
    assert {f"task {n}" for n in (0, 4, 6, COPIED - 1, 900, 901)} <= set(messages)


def test_a_key_that_comes_twice_counts_once(on: Make) -> None:
    s = on()
    rows = [row(number) for number in range(COPIED)]
    with s.app.engine().begin() as connection:
        insert_all(connection, entries, [*rows, row(3, message="again")])
    assert len(found(s)) == COPIED
    assert found(s)["task 3"] == ODD[3]


def test_a_row_that_the_table_refuses_is_an_error(postgresql: Shop) -> None:
    s = postgresql
    rows = [row(number) for number in range(COPIED)]
    rows[7] |= {"status": None}
    with s.app.engine().begin() as connection:
        connection.execute(insert(entries), [row(900)])
        with pytest.raises(IntegrityError, match="status"):
            insert_all(connection, entries, rows)
        connection.execute(insert(entries), [row(901)])
    assert set(found(s)) == {"task 900", "task 901"}


def test_a_role_to_which_row_level_security_applies(postgresql: Shop) -> None:
    # PostgreSQL refuses COPY there: "COPY FROM not supported with row-level security"
    s, role = postgresql, f"jittask_rls_{uuid4().hex[:8]}"
    with s.app.engine().connect() as connection:
        for statement in (
            f"CREATE ROLE {role}",
            f"GRANT USAGE ON SCHEMA public TO {role}",
            f"GRANT SELECT, INSERT ON jittask_ledger TO {role}",
            "ALTER TABLE jittask_ledger ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY own ON jittask_ledger USING (app = 'shop')",
            f"SET LOCAL ROLE {role}",
        ):
            connection.execute(text(statement))
        insert_all(connection, entries, [row(n) for n in range(COPIED)])
        count = text("SELECT count(*) FROM jittask_ledger")
        assert connection.execute(count).scalar_one() == COPIED
        connection.rollback()


def test_many_rows_in_a_pipeline(postgresql: Shop) -> None:
    # as a hook sends the tasks of many rows in one round trip; psycopg has no COPY there
    s = postgresql
    with s.app.engine().begin() as connection:
        driver: Any = connection.connection.driver_connection
        with driver.pipeline():
            insert_all(connection, entries, [row(n) for n in range(COPIED)])
    assert len(found(s)) == COPIED


def test_the_schema_of_a_connection(postgresql: Shop) -> None:
    s = postgresql
    with s.app.engine().connect() as plain:
        connection = plain.execution_options(schema_translate_map={None: 'the "other'})
        connection.execute(text('CREATE SCHEMA "the ""other"'))
        metadata.create_all(connection)
        insert_all(connection, entries, [row(n) for n in range(COPIED)])
        count = text('SELECT count(*) FROM "the ""other".jittask_ledger')
        assert connection.execute(count).scalar_one() == COPIED
        connection.rollback()
    assert found(s) == {}
