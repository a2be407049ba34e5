"""Statements given to the driver itself say and read the same as through SQLAlchemy: on all three servers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from shop import Shop
from sqlalchemy import bindparam, insert, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import IntegrityError

from jittask_prefect.ledger.prepared import FEW, prepared
from jittask_prefect.ledger.tables import entries

Make = Callable[..., Shop]
VALUES = {
    "task_id": "a",
    "app": "shop",
    "template": "tasks.T%s :x ?",
    "row_key": "合同 '1' %(a)s",
    "due": datetime(2026, 3, 1, 9, 0, 0, 123456, timezone(timedelta(hours=8))),
    "created": datetime(2026, 3, 1, tzinfo=UTC),
    "start_value": datetime(2026, 3, 1, 9, 0, 0, 7),
    "end_value": None,
    "dirty": True,
    "returned": False,
    "message": "",
    "status": "pending",
    "generation": 3,
    "attempt": 0,
}
COLUMNS = list(VALUES)


def test_values_come_back_as_sqlalchemy_gives_them(on: Make) -> None:
    read = [entries.c[name] for name in COLUMNS]
    with on().app.engine().begin() as connection:
        prepared(connection, "test insert", lambda: insert(entries), COLUMNS).run(
            connection, [VALUES]
        ).close()
        plain = connection.execute(select(*read)).one()
        query = prepared(
            connection,
            "test select",
            lambda: select(*read).where(entries.c.due == bindparam("at")),
        )
        [found] = query.records(query.run(connection, [{"at": VALUES["due"]}]))
    assert tuple(found) == tuple(plain)
    assert dict(zip(COLUMNS, found, strict=True)) == VALUES


@pytest.mark.parametrize("many", [1, FEW, FEW + 1, 100])
def test_each_of_many(on: Make, many: int) -> None:
    s = on()
    with s.app.engine().begin() as connection:
        rows = [VALUES | {"task_id": str(n), "row_key": str(n)} for n in range(many)]
        prepared(connection, "test insert", lambda: insert(entries), COLUMNS).run(
            connection, rows
        ).close()
    assert sorted(e.row_key for e in s.entries()) == sorted(str(n) for n in range(many))


def test_an_error_is_sqlalchemys(on: Make) -> None:
    s = on()
    with pytest.raises(IntegrityError), s.app.engine().begin() as connection:
        prepared(connection, "test insert", lambda: insert(entries), COLUMNS).run(
            connection, [VALUES, VALUES]
        )
    assert s.entries() == []


def test_the_texts_of_instants_in_sqlite() -> None:
    """As SQLAlchemy writes datetimes: texts of earlier versions stand in the same table, and are compared with new ones."""
    dialect = sqlite.dialect()
    of = entries.c.due.type.dialect_impl(dialect)
    write = of.bind_processor(dialect)
    assert write is not None
    east = timezone(timedelta(hours=8))
    assert write(datetime(2026, 3, 1, 9, 0, 0, 7, east)) == "2026-03-01 01:00:00.000007"
    assert write(datetime(12, 1, 2, tzinfo=UTC)) == "0012-01-02 00:00:00.000000"
    assert write(None) is None
