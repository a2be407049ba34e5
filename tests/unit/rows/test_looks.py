"""Which rows a sync reads: those that the ledger has not planned from the dates that they have now, and no others."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import pytest
from shop import MODEL, SERVERS, Shop, model_of, rows_task, utc
from sqlalchemy import insert

from jittask_prefect.rows import scan, template_planner
from jittask_prefect.rows.row_reading import Dated

Make = Callable[..., Shop]
TEN = datetime(2026, 3, 2, 10)
KEYS = {
    "text": ("key: str = Field(primary_key=True)", {"key": " it's 合同 {{x}} \\ \" "}),
    "uuid": (
        "key: uuid.UUID = Field(primary_key=True)",
        {"key": uuid.UUID("9b2f3c1e-0d4a-4b5f-8a6e-1f2d3c4b5a69")},
    ),
    "two": (
        "key: str = Field(primary_key=True)\n    no: int = Field(primary_key=True)",
        {"key": 'a"\\ü\n', "no": 7},
    ),
}


@pytest.fixture
def on(shop: Make, url: Callable[[str], str]) -> Callable[..., Shop]:
    """Make an app in a database of a kind; its first sync, which looks at all rows, is done."""

    def make(database: str, field: str = "at", **keys: Any) -> Shop:
        s = shop(field, app_json={"database": url(database)}, **keys)
        s.sync()
        return s

    return make


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the rows that syncs have read, emptied by the test."""
    found: list[str] = []
    real = template_planner.TemplatePlanner._row

    def row(self: Any, row: Dated, entries: Any) -> Any:
        found.append(row.key)
        return real(self, row, entries)

    monkeypatch.setattr(template_planner.TemplatePlanner, "_row", row)
    return found


def read(s: Shop, looked: list[str], instant: str | None = None) -> list[str]:
    """The keys of the rows that a sync reads."""
    looked.clear()
    s.sync(instant)
    return sorted(looked)


@pytest.mark.parametrize("database", SERVERS)
@pytest.mark.parametrize("field", ["at", "moment", "day"])
def test_a_row_is_read_once_for_each_date_that_it_has(
    on: Callable[..., Shop], looked: list[str], database: str, field: str
) -> None:
    s = on(database, field, timezone="Asia/Shanghai")
    values = {
        "at": datetime(2026, 3, 2, 18),
        "moment": utc("2026-03-02 10:00"),
        "day": date(2026, 3, 3),
    }
    others = {
        "at": datetime(2026, 3, 2, 19),
        "moment": utc("2026-03-02 11:00"),
        "day": date(2026, 3, 2),
    }
    s.save(id=1, **{field: values[field]})
    s.save(id=2, **{field: values[field]})
    assert read(s, looked) == []  # the hook has planned both
    s.raw(
        f"INSERT INTO bill (id, status, count, {field}) SELECT 3, 'open', 0, {field} FROM bill WHERE id = 1"
    )
    assert (read(s, looked), read(s, looked)) == (["3"], [])
    if field != "day":
        s.raw(
            f"UPDATE bill SET {field} = :at WHERE id = 2",
            at=others[field].replace(tzinfo=None),
        )
        s.raw(f"UPDATE bill SET {field} = {field} WHERE id = 1")
        assert (read(s, looked), read(s, looked)) == (["2"], [])
    s.at("2026-03-02 16:05").work()
    assert read(s, looked) == []


@pytest.mark.parametrize("database", SERVERS)
def test_many_rows_of_one_window_are_all_planned(
    on: Callable[..., Shop],
    looked: list[str],
    monkeypatch: pytest.MonkeyPatch,
    database: str,
) -> None:
    monkeypatch.setattr(scan, "PIECE", 600)  # and a piece is planned in parts of 500
    s = on(database)
    rows = [
        {"id": n, "status": "open", "count": 0, "at": TEN.replace(minute=n % 7)}
        for n in range(1, 1204)
    ]
    with s.app.engine().begin() as connection:
        connection.execute(insert(s.element("models.Bill").__table__), rows)
    report = s.sync("2026-03-02 08:01")
    every = sorted(str(n) for n in range(1, 1204))
    assert (
        report.problems,
        report.changes,
        sorted(e.row_key for e in s.entries()),
    ) == ([], 1203, every)
    assert read(s, looked, "2026-03-02 08:02") == []


@pytest.mark.parametrize("database", SERVERS)
@pytest.mark.parametrize("kind", KEYS)
def test_keys_of_any_kind(
    on: Callable[..., Shop], looked: list[str], database: str, kind: str
) -> None:
    column, values = KEYS[kind]
    source = "import uuid\n" + MODEL.replace(
        "id: int | None = Field(default=None, primary_key=True)", column
    )
    s = on(
        database,
        elements={"models/Bill": model_of(source), "tasks/Task": rows_task("at")},
    )
    with s.session() as session:
        session.add(s.element("models.Bill")(**values, at=TEN))
        session.commit()
    assert read(s, looked) == []
    assert [o.status for o in s.work("2026-03-02 10:00")] == ["completed"]


@pytest.mark.parametrize("database", SERVERS)
def test_a_repeat_is_read_when_it_comes_within_the_horizon(
    on: Callable[..., Shop], looked: list[str], database: str
) -> None:
    s = on(database, "day", repeat={"repeatType": "day"}, startOffset={"time": "09:30"})
    s.sync()
    s.raw(
        "INSERT INTO bill (id, status, count, day) VALUES (1, 'open', 0, '2026-02-01')"
    )
    s.raw(
        "INSERT INTO bill (id, status, count, day) VALUES (2, 'open', 0, '2026-03-04')"
    )
    assert read(s, looked, "2026-03-02 08:01") == ["1"]
    assert s.tasks() == ["1 03-02 09:30 #1 pending"]
    assert read(s, looked, "2026-03-02 09:29") == []
    assert read(s, looked, "2026-03-02 09:30") == ["1"]
    assert read(s, looked, "2026-03-02 09:31") == []
    assert s.tasks() == ["1 03-02 09:30 #1 pending", "1 03-03 09:30 #1 pending"]
    assert read(s, looked, "2026-03-03 09:31") == ["1", "2"]


@pytest.mark.parametrize("database", SERVERS)
@pytest.mark.parametrize("kind", ["year", "month"])
def test_years_and_months_are_asked_for_by_the_day(
    on: Callable[..., Shop], looked: list[str], database: str, kind: str
) -> None:
    s = on(database, "moment", repeat={"repeatType": kind}, timezone="Asia/Shanghai")
    s.sync()
    # 3 March in Shanghai begins at 16:00 UTC on the 2nd; of the year before, and other days
    for key, at in enumerate(
        [
            "2020-03-02 16:00",
            "2021-03-03 02:00",
            "2020-03-09 00:00",
            "2020-07-20 00:00",
        ],
        1,
    ):
        s.raw(
            f"INSERT INTO bill (id, status, count, moment) VALUES ({key}, 'open', 0, '{at}:00.000000')"
        )
    s.sync("2026-03-02 08:01")
    assert sorted(looked) == ["1", "2"]
    assert s.tasks() == ["1 03-02 16:00 #1 pending", "2 03-03 02:00 #1 pending"]


@pytest.mark.parametrize("database", SERVERS)
def test_a_changed_end_is_a_changed_row(
    on: Callable[..., Shop], looked: list[str], database: str
) -> None:
    s = on(database, repeat={"repeatType": "hour"}, endTimeType=2, endField="until")
    s.save(id=1, at=datetime(2026, 3, 2, 7), until=date(2026, 3, 2))
    s.save(id=2, at=datetime(2026, 3, 2, 7))
    assert read(s, looked, "2026-03-02 08:01") == [
        "1",
        "2",
    ]  # 08:00 of the next day has come within the horizon
    assert [t for t in s.tasks(row_key="1")][-1] == "1 03-02 23:00 #1 pending"
    s.raw("UPDATE bill SET until = '2026-03-03' WHERE id = 1")
    s.raw("UPDATE bill SET until = '2026-03-02' WHERE id = 2")
    assert read(s, looked, "2026-03-02 08:02") == ["1", "2"]
    assert [s.tasks(row_key=key, status="pending")[-1] for key in "12"] == [
        "1 03-03 08:00 #1 pending",
        "2 03-02 23:00 #1 pending",
    ]
    # which of the rows of an hourly task are due in the minute that is new, the database cannot say
    assert read(s, looked, "2026-03-02 08:03") == ["1", "2"]


def test_there_and_back_behind_the_hooks_is_seen(
    on: Callable[..., Shop], looked: list[str]
) -> None:
    s = on("sqlite")
    s.save(id=1, at=TEN)
    s.sync()
    s.save(id=1, at=datetime(2026, 3, 2, 11))
    s.raw("UPDATE bill SET at = '2026-03-02 10:00:00.000000'")
    assert read(s, looked) == ["1"]
    assert s.tasks() == [
        "1 03-02 10:00 #1 superseded",
        "1 03-02 10:00 #3 pending",
        "1 03-02 11:00 #2 superseded",
    ]


def test_what_was_superseded_at_its_time_is_looked_at_again(
    on: Callable[..., Shop], looked: list[str]
) -> None:
    s = on("sqlite", filter="Q('status','=','open')", repeat={"repeatType": "hour"})
    s.save(id=1, at=TEN)
    s.sync()
    s.raw("UPDATE bill SET status = 'paid'")
    s.work("2026-03-02 10:00")
    s.sync()
    s.raw("UPDATE bill SET status = 'open'")
    assert read(s, looked, "2026-03-02 10:30") == ["1"]
    assert (
        s.tasks(status="pending")[0] == "1 03-02 10:00 #2 pending"
    )  # within lookback: due at once


def test_a_touched_row_of_which_raw_sql_moved_the_date(
    on: Callable[..., Shop], looked: list[str]
) -> None:
    s = on("sqlite", repeat={"repeatType": "day"})
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.sync("2026-03-02 09:45")
    s.raw("UPDATE bill SET at = '2026-03-02 09:30:00.000000'")
    s.save(
        id=1, status="other"
    )  # the hook sees the new date, and that no date was changed
    assert read(s, looked) == ["1"]
    assert s.tasks(status="pending")[0] == "1 03-02 09:30 #2 pending"
