"""A ledger that grows in one sync: PostgreSQL knows how many entries there are before the sync is over."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from shop import Shop
from sqlalchemy import text

from jittask_prefect.ledger import planned_rows


def test_a_first_sync_of_many_rows_has_them_counted(
    shop: Callable[..., Shop], url: Callable[[str], str]
) -> None:
    s = shop(app_json={"database": url("postgresql")})
    values = [f"({key}, '2026-03-02 10:00', '', 0)" for key in range(1, 1501)]
    s.raw(f"INSERT INTO bill (id, at, status, count) VALUES {', '.join(values)}")
    s.sync()
    with s.app.engine().connect() as connection:
        query = "SELECT reltuples FROM pg_class WHERE oid = 'jittask_ledger'::regclass"
        assert connection.execute(text(query)).scalar_one() >= 1000


def test_the_table_is_counted_where_the_connection_finds_it(
    shop: Callable[..., Shop], url: Callable[[str], str]
) -> None:
    s = shop(app_json={"database": url("postgresql")})
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    with s.app.engine().begin() as connection:
        there = connection.execute(text("SELECT current_schema()")).scalar_one()
        places = {"schema_translate_map": {None: there}}
        planned_rows.count_rows(connection.execution_options(**places))
