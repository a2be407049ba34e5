"""The values of zone and calendar that occur in a table, and the rows that have them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from shop import Shop
from zoned_shop import zoned

from jittask_prefect.rows import own_columns
from jittask_prefect.rows.own_columns import OwnColumns
from jittask_prefect.rows.scan import Scan

Make = Callable[..., Shop]
WINDOW = datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC)
LONG = "x" * 100


def filled(make: Make, **timer: Any) -> Shop:
    """Rows of noon on 2 March in six places, each 100 days apart from another of the same place."""
    s = make(elements=zoned(**timer))
    zones = ("Asia/Tokyo", "asia/tokyo", "Asia/Tokyo ", None, "", LONG)
    for number, zone in enumerate(zones):
        for later in (0, 1):
            at = datetime(2026, 3, 2, 12) if not later else datetime(2026, 6, 10, 12)
            key = 2 * number + later + 1
            s.insert(
                "zoned_visit",
                id=key,
                at=at,
                zone=zone,
                region="JP",
                status="x",
                count=0,
            )
    return s


def visit(s: Shop, key: int, at: datetime, zone: str) -> None:
    """A row that no hook has seen."""
    s.insert("zoned_visit", id=key, at=at, zone=zone, status="x", count=0)


def asked(s: Shop, condition: Any) -> list[int]:
    model = s.element("models.Visit")
    with s.app.engine().connect() as connection:
        query = sa.select(model.id).where(condition).order_by(model.id)
        found = connection.execute(query)
        return list(found.scalars())


def test_each_spelling_is_a_value_of_its_own(on: Make) -> None:
    s = filled(on, timezoneField="zone")
    own = OwnColumns(s.app.template("tasks.Task"))  # type: ignore[arg-type]
    with s.app.engine().connect() as connection:
        found = own.pairs(connection, sa.true())
    assert found is not None
    assert sorted(found, key=str) == sorted(
        [
            (zone, None)
            for zone in ("Asia/Tokyo", "asia/tokyo", "Asia/Tokyo ", "", "x" * 64)
        ],
        key=str,
    )
    assert asked(s, own.among([("Asia/Tokyo", None)])) == [1, 2]
    assert asked(s, own.among([("", None), ("x" * 64, None)])) == [7, 8, 9, 10, 11, 12]


def test_both_columns_together(on: Make) -> None:
    s = filled(on, timezoneField="zone", calendarField="region", workdaysOnly=1)
    s.raw("UPDATE zoned_visit SET region = 'DE' WHERE id = 2")
    own = OwnColumns(s.app.template("tasks.Task"))  # type: ignore[arg-type]
    assert asked(s, own.among([("Asia/Tokyo", "JP")])) == [1]
    assert asked(s, own.among([("Asia/Tokyo", "DE"), ("", "JP")])) == [2, 7, 8, 9, 10]


def test_a_window_asks_for_the_rows_that_are_due_in_their_zones(on: Make) -> None:
    s = filled(on, timezoneField="zone")
    visit(s, 20, datetime(2026, 3, 3, 5), "Asia/Tokyo")
    visit(s, 21, datetime(2026, 3, 3, 5), "UTC")
    visit(s, 22, datetime(2026, 3, 1, 20), "America/New_York")
    scan = Scan(s.app.template("tasks.Task"), s.now, s.app.engine().dialect.name)  # type: ignore[arg-type]
    with s.app.engine().connect() as connection:
        pairs = scan.pairs(connection, WINDOW)
    condition = scan.condition(WINDOW, pairs)
    # 05:00 on the 3rd is the 2nd in Tokyo, by UTC; 20:00 on the 1st in New York likewise.
    assert asked(s, condition) == [1, 3, 5, 7, 9, 11, 20, 22]
    wide = asked(s, scan.condition(WINDOW))
    assert set(wide) >= {1, 3, 5, 7, 9, 11, 20, 21, 22}
    assert not {2, 4, 6, 8, 10, 12} & set(wide)


@pytest.mark.parametrize("most", [3, 1000])
def test_too_many_values_cost_time_and_no_task(
    shop: Make, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(own_columns, "MOST", most)
    s = shop(elements=zoned(timezoneField="zone"))
    s.sync("2026-03-01 20:00")
    for number in range(1, 21):
        visit(s, number, datetime(2026, 3, 2, 12), f"nowhere {number}")
    visit(s, 30, datetime(2026, 3, 3, 3), "Asia/Tokyo")
    visit(s, 31, datetime(2026, 3, 3, 3), "nowhere")
    did = s.did()
    assert len(did) == 21
    assert did[-1] == "create 30 03-02 18:00"
    assert s.did() == []


@pytest.mark.parametrize(
    ("rule", "step"),
    [
        ({}, "SEARCH zoned_visit USING INDEX"),
        ({"startOffset": [{"name": f"n{n}", "offsetType": 1, "offset": n, "offsetUnit": "day"} for n in (3, 14, 30)]}, "MULTI-INDEX OR"),
    ],
)  # fmt: skip
def test_sqlite_reads_few_rows_by_the_index_of_their_dates(
    shop: Make, rule: dict[str, Any], step: str
) -> None:
    """In the order of its keys SQLite would read the whole table."""
    s = shop(elements=zoned(timezoneField="zone", **rule))
    numbers = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 20000)"
    at = "strftime('%Y-%m-%d %H:%M:%S.000000', 1700000000 + n * 7200, 'unixepoch')"
    s.raw(
        f"INSERT INTO zoned_visit (id, at, status, count) {numbers} SELECT n, {at}, 'x', 0 FROM c"
    )
    s.raw("CREATE INDEX by_at ON zoned_visit (at)")
    s.raw("ANALYZE")
    scan = Scan(s.app.template("tasks.Task"), s.now, "sqlite")  # type: ignore[arg-type]
    with s.app.engine().connect() as connection:
        condition = scan.condition(WINDOW, scan.pairs(connection, WINDOW))
        assert condition is not None
        binds = {"literal_binds": True}
        query = scan.query(condition).compile(connection, compile_kwargs=binds)
        steps = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}").all()
    assert step in " ".join(str(found[-1]) for found in steps)


def test_half_a_table_is_read_in_the_order_of_its_keys(shop: Make) -> None:
    s = shop(elements=zoned(timezoneField="zone", repeat={"repeatType": "hour"}))
    scan = Scan(s.app.template("tasks.Task"), s.now, "sqlite")  # type: ignore[arg-type]
    condition = scan.condition(WINDOW)
    assert condition is not None
    assert "ORDER BY zoned_visit.id" in str(scan.query(condition))
