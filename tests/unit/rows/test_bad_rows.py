"""Bad input: what a date column may hold, and what a table may lack. It is reported, and all others go on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest
from shop import GONE, Server, Shop, model_of, rows_task
from sqlalchemy import text

Make = Callable[..., Shop]
TEN = datetime(2026, 3, 2, 10)
MODEL = """
from datetime import date, datetime
from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel

class Bill(SQLModel, table=True):
    id: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    count: int = 0
    at: NaiveDatetime | None = None
    day: date | None = None
    moment: datetime | None = None
    until: date | None = None
    until_at: NaiveDatetime | None = None
    until_moment: datetime | None = None
    note: date | None = None
"""
DAILY = {"repeat": {"repeatType": "day"}}
GOOD: dict[str, Any] = {
    "at": TEN,
    "day": date(2026, 3, 3),
    "moment": datetime(2026, 3, 2, 10, tzinfo=UTC),
}


def made(on: Make, field: str, **keys: Any) -> Shop:
    """An app with a task on the field, and another one on the same model's `at`."""
    tasks = {"tasks/Task": rows_task(field, **keys), "tasks/Other": rows_task("at")}
    return on(elements={"models/Bill": model_of(MODEL), **tasks})


def lite(on: Make, server: Server, field: str, **keys: Any) -> Shop:
    if server.kind != "sqlite":
        pytest.skip("SQLite's: any value in any column")
    return made(on, field, **keys)


def put(s: Shop, key: int, **values: Any) -> None:
    s.insert(**{"id": key, "count": 0, **GOOD, **values})


def planned(s: Shop, template: str = "tasks.Task") -> set[str]:
    return {e.row_key for e in s.entries(template=template, status="pending")}


def reported(problems: list[str], rows: set[int], template: str = "tasks.Task") -> None:
    """Each bad row has a problem of one line that names its template and row, and no other row has one."""
    assert {p.partition(":")[0] for p in problems if p.startswith(template)} == {
        f"{template}, row {n}" for n in rows
    }
    assert all("\n" not in p for p in problems)


def bad_rows(s: Shop, field: str, *values: Any) -> None:
    """Rows 2, 4, 6 … are bad, among good ones: they alone are left out, and reported."""
    bad = {2 * n + 2: value for n, value in enumerate(values)}
    good = {2 * n + 1 for n in range(len(values) + 1)}
    for key in sorted({*bad, *good}):
        put(s, key)
    for key, value in bad.items():
        change(s, key, field, value)
    report = s.sync()
    assert planned(s) == {str(key) for key in good}
    reported(report.problems, set(bad))
    assert s.did() == [] and s.did("2026-03-02 08:01") == []


def change(s: Shop, key: int, field: str, value: Any) -> None:
    """What raw SQL makes of a row; on MariaDB as a connection without NO_ZERO_DATE may."""
    with s.app.engine().begin() as connection:
        if connection.dialect.name == "mysql":
            connection.exec_driver_sql("SET SESSION sql_mode = 'ALLOW_INVALID_DATES'")
        connection.execute(
            text(f"UPDATE bill SET {field} = :value WHERE id = :id"),
            {"value": value, "id": key},
        )
        if connection.dialect.name == "mysql":
            connection.exec_driver_sql("SET SESSION sql_mode = DEFAULT")


def others_planned(s: Shop, field: str, value: Any) -> list[str]:
    """Row 2 has the value, 1 and 3 are planned whatever becomes of it; what the sync reports."""
    for key in (1, 2, 3):
        put(s, key)
    change(s, 2, field, value)
    problems = s.sync().problems
    assert planned(s) - {"2"} == {"1", "3"}
    return [p for p in problems if p.startswith("tasks.Task")]


# SQLite holds whatever it is given

WITHIN = [  # texts that sort within the window
    "2026-03-02 24:00:00", "2026-03-02 10:60:00", "2026-03-02 ten", "2026-03-02Tnoon", "2026-03-02 10:00:00 CET",
    "2026-03-02 10:00:00+99:00",
]  # fmt: skip
# Texts, numbers and blobs that sort before or after all dates, and what sorts among dates that it is none of
OUTSIDE = ["", " ", 0, -1, 1772445600, 1772445600.5, 20260302, "2026", "tomorrow", "never", "März", "9999-99-99",
           "\u00ff", b"2026-03-02"]  # fmt: skip
BETWEEN = [
    "02.03.2026",
    "1.3.26",
    "2026-3-2",
    "2026-3-2 10:00",
    "2026/03/02",
    "31.12.9999",
    "2026-03-0x",
]
BELOW = [
    "",
    " ",
    0,
    -1,
    1772445600,
    1772445600.5,
    20260302,
    "02.03.2026",
    "1.3.26",
    "2026",
]


@pytest.mark.parametrize("field", ["at", "moment"])
def test_texts_within_the_window(on: Make, server: Server, field: str) -> None:
    bad_rows(lite(on, server, field), field, *WITHIN)


@pytest.mark.parametrize("field", ["at", "moment"])
def test_values_that_a_repeating_task_meets(
    on: Make, server: Server, field: str
) -> None:
    # a series that goes on may have begun at any time: whatever sorts before the window is read
    bad_rows(lite(on, server, field, **DAILY), field, *WITHIN, *BELOW)


@pytest.mark.parametrize("field", ["at", "moment", "day"])
def test_values_that_sort_out_of_the_window(
    on: Make, server: Server, field: str
) -> None:
    # reported at each sync is what sorts out of all dates; they keep no other row from its task
    s = lite(on, server, field)
    for key, value in enumerate([*OUTSIDE, *BETWEEN], 1):
        s.insert(id=key, count=0, **{field: value})
    put(s, 100)
    reported(s.sync().problems, set(range(1, len(OUTSIDE) + 1)))
    assert planned(s) == {"100"} and planned(s, "tasks.Other") == {"100"}
    reported(s.sync("2026-03-02 08:01").problems, set(range(1, len(OUTSIDE) + 1)))


@pytest.mark.parametrize(
    ("field", "value", "when"),
    [
        ("at", "2026-02-30 10:00:00", "2026-02-28 20:00"),
        ("day", "2026-02-30", "2026-02-28 20:00"),
        ("moment", "2026-3-2 10:00", "2026-12-31 20:00"),
        ("day", "2026/03/02", "2026-12-31 20:00"),
        ("day", "2027-00-00", "2026-12-31 20:00"),
    ],
)
def test_a_text_between_dates_is_reported_by_the_syncs_that_pass_it(
    on: Make, server: Server, field: str, value: str, when: str
) -> None:
    s = lite(on, server, field).at("2026-01-05 08:00")
    s.insert(id=1, count=0, **{field: value})
    reported(s.sync().problems, set())
    reported(s.sync(when).problems, {1})


@pytest.mark.parametrize("keys", [{}, DAILY], ids=["once", "daily"])
def test_texts_in_a_date_column(on: Make, server: Server, keys: dict[str, Any]) -> None:
    values = [
        "2026-03-03 00:00:00",
        "2026-03-03T00:00",
        "2026-03-03Z",
        "2026-03-03~",
        "",
        0,
        20260303,
    ]
    bad_rows(
        lite(on, server, "day", **keys),
        "day",
        *values,
        *(["2026-02-30"] if keys else []),
    )


@pytest.mark.parametrize("field", ["until", "until_at", "until_moment"])
def test_ends_that_cannot_be_read(on: Make, server: Server, field: str) -> None:
    s = lite(on, server, "at", **DAILY, endTimeType=2, endField=field)
    bad_rows(s, field, "tomorrow", "", 0, "2026-3-9", "24:00")


def test_another_column_that_cannot_be_read(on: Make, server: Server) -> None:
    # planning does not read it; the execution does, and its outcome tells of it
    s = lite(on, server, "at")
    assert others_planned(s, "note", "tomorrow") == []
    assert planned(s) == planned(s, "tasks.Other") == {"1", "2", "3"}
    assert len(s.work("2026-03-02 10:00")) == 6
    assert [s.row_count(key) for key in (1, 2, 3)] == [2, 0, 2]
    for entry in s.entries(row_key="2"):
        assert (entry.status, entry.outcome) == ("error", "failed")
        assert entry.message.startswith("error: ") and "'tomorrow'" in entry.message
    report = s.sync("2026-03-02 10:01")
    assert (report.actions, report.problems) == ([], [])


@pytest.mark.parametrize(
    ("value", "due"),
    [
        ("2026-03-02T10:00:00", "03-02 10:00"),
        ("2026-03-02 10:00", "03-02 10:00"),
        ("2026-03-02 10:00:00.5", "03-02 10:00"),
        ("2026-03-02 10", "03-02 10:00"),
        ("2026-03-02", "03-02 00:00"),
    ],
)
def test_iso_texts_are_dates(on: Make, server: Server, value: str, due: str) -> None:
    s = lite(on, server, "at").at("2026-03-01 18:00")
    put(s, 1, at=value)
    report = s.sync()
    assert report.problems == []
    assert [f"{e.due:%m-%d %H:%M}" for e in s.entries(template="tasks.Task")] == [due]
    assert s.did("2026-03-01 18:01") == []


ZONED = [
    "2026-03-02T18:00:00+08:00",
    "2026-03-02 10:00:00+00:00",
    "2026-03-02T10:00:00Z",
]


@pytest.mark.parametrize("value", ZONED)
def test_a_text_with_a_zone_in_a_column_of_instants(
    on: Make, server: Server, value: str
) -> None:
    s = lite(on, server, "moment", timezone="Asia/Tokyo")
    put(s, 1, moment=value)
    report = s.sync()
    assert report.problems == []
    assert [f"{e.due:%m-%d %H:%M}" for e in s.entries(template="tasks.Task")] == [
        "03-02 10:00"
    ]
    assert s.did("2026-03-02 08:01") == []


@pytest.mark.parametrize("value", ZONED)
def test_a_text_with_a_zone_in_a_column_without(
    on: Make, server: Server, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    # what it means nobody knows: reported and not planned, by the sync and by a save that does not touch it
    s = lite(on, server, "at", filter="Q('count','<',9)")
    for key in (1, 2):
        put(s, key)
    change(s, 2, "at", value)
    report = s.sync()
    reported(report.problems, {2})
    assert "without a zone" in report.problems[0] and planned(s) == {"1"}
    s.save(id=2, count=1)
    assert planned(s) == {"1"} and s.did() == []
    assert any(
        m.startswith("tasks.Task, row 2:") and "without a zone" in m
        for m in caplog.messages
    )
    s.save(
        id=2, at=datetime(2026, 3, 2, 11, tzinfo=UTC)
    )  # assigned, it is stored without its zone
    assert [
        f"{e.due:%H:%M}" for e in s.entries(template="tasks.Task", row_key="2")
    ] == ["11:00"]
    assert s.did() == []


def test_many_bad_rows(on: Make, server: Server) -> None:
    s = lite(on, server, "at", **DAILY)
    with s.app.engine().begin() as connection:
        rows = [(n, "" if n % 3 == 0 else "2026-03-02 10:00:00") for n in range(1200)]
        connection.exec_driver_sql(
            "INSERT INTO bill (id, count, at) VALUES (?, 0, ?)", rows
        )
    report = s.sync()
    assert planned(s) == {str(n) for n in range(1200) if n % 3}
    of_task = [p for p in report.problems if p.startswith("tasks.Task")]
    assert any("row 0" in p for p in of_task)
    assert (
        len("\n".join(of_task)) < 40_000
    )  # a table full of them does not flood the report


# A row that was planned, and cannot be read any more

UNREADABLE = {
    "sqlite": ["tomorrow", "", 0],
    "postgresql": ["infinity", "-infinity"],
    "mariadb": ["0000-00-00"],
}
SAID = {
    "tomorrow": "isoformat string: 'tomorrow'", "": "isoformat string: ''", 0: "argument must be str",
    "infinity": "too large (after year 10K): 'infinity'", "-infinity": "too small (before year 1): '-infinity'",
    "0000-00-00": "a row's date \"0000-00-00",
}  # fmt: skip


def planned_then_bad(s: Shop, kind: str, field: str) -> dict[int, Any]:
    """Row 1 stays as it was; the others, planned as well, become unreadable."""
    bad = dict(enumerate(UNREADABLE[kind], 2))
    for key in (1, *bad):
        put(s, key)
    s.sync()
    assert len(planned(s)) == 1 + len(bad)
    for key, value in bad.items():
        change(s, key, field, value)
    return bad


@pytest.mark.parametrize("field", ["at", "note"])
def test_when_it_is_due(on: Make, server: Server, field: str) -> None:
    # an execution always has an outcome; never does the function see a row whose date could not be looked at
    s = made(on, "at")
    bad = planned_then_bad(s, server.kind, field)
    outcomes = s.work("2026-03-02 10:00")
    assert len(outcomes) == 2 * (1 + len(bad))  # two templates
    readable = (
        field == "note" and server.kind == "mariadb"
    )  # its driver gives a zero date as a text
    assert [s.row_count(key) for key in (1, *bad)] == [
        2,
        *([2] if readable else [0] * len(bad)),
    ]
    for key, value in {1: None, **bad}.items():
        entries = s.entries(row_key=str(key))
        assert {e.template for e in entries} == {"tasks.Task", "tasks.Other"} and len(
            entries
        ) == 2
        for entry in entries:
            if key == 1 or readable:
                assert (entry.status, entry.outcome, entry.message) == (
                    "completed",
                    "completed",
                    "",
                )
            else:
                assert (entry.status, entry.outcome) == ("error", "failed")
                assert (
                    entry.message.startswith("error: ") and SAID[value] in entry.message
                )
    assert s.did("2026-03-02 10:01") == []


def test_when_its_template_is_edited(on: Make, server: Server) -> None:
    # every row with an open task is looked at
    s = made(on, "at")
    planned_then_bad(s, server.kind, "at")
    s.config(
        timerCfg={
            "startField": "at",
            "startOffset": {"offsetType": 1, "offset": 1, "offsetUnit": "hour"},
        }
    )
    s.sync("2026-03-02 08:01")
    pending = s.entries(template="tasks.Task", row_key="1", status="pending")
    assert [f"{e.due:%H:%M}" for e in pending] == ["11:00"]


# PostgreSQL: infinity, and years before Christ


def pg(on: Make, server: Server, field: str, **keys: Any) -> Shop:
    if server.kind != "postgresql":
        pytest.skip("PostgreSQL's")
    return made(on, field, **keys)


@pytest.mark.parametrize("field", ["at", "day", "moment"])
def test_starts_before_christ(on: Make, server: Server, field: str) -> None:
    bad_rows(pg(on, server, field, **DAILY), field, "0044-03-15 BC", "4713-01-01 BC")


@pytest.mark.parametrize("field", ["at", "day", "moment"])
def test_a_start_since_ever(on: Make, server: Server, field: str) -> None:
    # like 0001-01-01 it is never due, or it is reported
    s = pg(on, server, field, **DAILY)
    others_planned(s, field, "-infinity")
    assert "2" not in planned(s)


@pytest.mark.parametrize("value", ["infinity", "12026-03-02"])
@pytest.mark.parametrize("field", ["at", "day", "moment"])
def test_a_start_after_all_dates(
    on: Make, server: Server, field: str, value: str
) -> None:
    # beyond every window: never due, and no other row's trouble
    s = pg(on, server, field, **DAILY)
    assert others_planned(s, field, value) == []
    assert "2" not in planned(s)


@pytest.mark.parametrize("value", ["infinity", "12026-03-02", "-infinity"])
@pytest.mark.parametrize("field", ["until", "until_at", "until_moment", "note"])
def test_dates_that_python_does_not_know(
    on: Make, server: Server, field: str, value: str
) -> None:
    # a note is not read: planned; `-infinity` as an end: ended; another end: the row is planned, or reported
    end = {} if field == "note" else {"endTimeType": 2, "endField": field}
    s = pg(on, server, "at", **DAILY, **end)
    problems = others_planned(s, field, value)
    if field == "note":
        assert problems == [] and "2" in planned(s)
    elif value == "-infinity":
        assert problems == [] and "2" not in planned(s)
    else:
        assert "2" in planned(s) or any(
            p.startswith("tasks.Task, row 2:") for p in problems
        )


def test_the_last_instant_east_of_greenwich(on: Make, server: Server) -> None:
    # "never" of an aware column, shown in the connection's zone, lies in the year 10000
    s = pg(on, server, "at", **DAILY, endTimeType=2, endField="until_moment")
    name = s.app.engine().url.database
    s.raw(f"ALTER DATABASE {name} SET timezone = 'Asia/Shanghai'")
    s.app.engine().dispose()
    try:
        problems = others_planned(s, "until_moment", "9999-12-31 23:59:59+00")
        assert "2" in planned(s) or any(
            p.startswith("tasks.Task, row 2:") for p in problems
        )
    finally:
        s.raw(f"ALTER DATABASE {name} RESET timezone")


# MariaDB: zero dates


def maria(on: Make, server: Server, field: str, **keys: Any) -> Shop:
    if server.kind != "mariadb":
        pytest.skip("MariaDB's")
    return made(on, field, **keys)


@pytest.mark.parametrize("field", ["at", "day", "moment"])
def test_zero_dates(on: Make, server: Server, field: str) -> None:
    bad_rows(
        maria(on, server, field, **DAILY),
        field,
        "0000-00-00",
        "2026-00-00",
        "2026-02-00",
        "2026-02-31",
    )


@pytest.mark.parametrize("field", ["until", "until_at", "until_moment"])
def test_a_zero_date_as_the_end(on: Make, server: Server, field: str) -> None:
    # no date: whether the series goes on nobody knows
    s = maria(on, server, "at", **DAILY, endTimeType=2, endField=field)
    bad_rows(s, field, "0000-00-00", "2026-00-00", "2026-02-00")


@pytest.mark.parametrize("field", ["at", "day", "moment", "note"])
def test_a_zero_date_that_nobody_looks_at(on: Make, server: Server, field: str) -> None:
    s = maria(on, server, "at" if field == "note" else field)
    problems = others_planned(s, field, "0000-00-00")
    assert problems == [] and ("2" in planned(s)) is (field == "note")


# All: the ends of the calendar, and what a table lacks

FIRST, LAST = datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59)
ENDS: dict[str, tuple[date, date]] = {
    "day": (FIRST.date(), LAST.date()),
    "at": (FIRST, LAST),
    "moment": (FIRST.replace(tzinfo=UTC), LAST.replace(tzinfo=UTC)),
}


@pytest.mark.parametrize(
    "keys",
    [
        {},
        DAILY,
        {"repeat": {"repeatType": "year"}},
        {"repeat": {"repeatType": "minute"}, "endTimeType": 1, "endTime": "2026-03-01"},
        {"startOffset": {"offsetType": 1, "offset": 1, "offsetUnit": "year"}},
        {
            "startOffset": {
                "offsetType": -1,
                "offset": 1_000_000_000,
                "offsetUnit": "month",
            }
        },
        {
            "startOffset": {
                "offsetType": 1,
                "offset": 1_000_000_000,
                "offsetUnit": "second",
            }
        },
        {"skipHoliday": 1, "calendar": "CN", "holidayPolicy": "nearest"},
    ],
    ids=[
        "once",
        "daily",
        "yearly",
        "minutes",
        "year after",
        "months before",
        "seconds after",
        "holidays",
    ],
)
def test_the_ends_of_the_calendar(on: Make, keys: dict[str, Any]) -> None:
    # years 1 and 9999: nothing runs, and nothing is to report; by the hook (1, 2) and by the sync (3, 4)
    tasks = {f"tasks/{field}": rows_task(field, **keys) for field in ENDS}
    s = on(elements={"models/Bill": model_of(MODEL), **tasks})
    for key, index in ((1, 0), (2, 1), (3, 0), (4, 1)):
        values = {field: ends[index] for field, ends in ENDS.items()}
        if key < 3:
            s.save(id=key, **values)
        else:
            s.insert(id=key, count=0, **values)
    report = s.sync()
    assert report.problems == [] and s.tasks(status="pending") == []
    assert s.did("2026-03-02 08:01") == []


def broken(on: Make, **more: Any) -> Shop:
    """The app with one more template, which is to be broken: tasks.Early on models.Gone."""
    elements = {
        "models/Bill": model_of(MODEL),
        "tasks/Task": rows_task("at"),
        "tasks/Other": rows_task("day"),
    }
    return on(elements={**elements, "models/Gone": model_of(GONE), "tasks/Early": rows_task("day", model="models.Gone"),
                        **more})  # fmt: skip


def others_go_on(s: Shop, name: str = "tasks.Early") -> None:
    put(s, 1)
    report = s.sync()
    assert [p.partition(":")[0] for p in report.problems] == [name]
    assert planned(s) == {"1"} and planned(s, "tasks.Other") == {"1"}
    s.save(id=2, **GOOD)
    assert planned(s) == {"1", "2"}
    assert {o.status for o in s.work("2026-03-03 00:00")} == {"completed"}


def test_no_table(on: Make) -> None:
    s = broken(on)
    s.raw("DROP TABLE gone")
    others_go_on(s)


def test_a_column_that_the_table_lacks(on: Make) -> None:
    s = broken(on)
    s.raw("ALTER TABLE gone DROP COLUMN day")
    others_go_on(s)


def test_a_column_that_the_task_does_not_use_and_the_table_lacks(on: Make) -> None:
    s = broken(on, **{"models/Gone": model_of(GONE + "    extra: int = 0\n")})
    s.raw("INSERT INTO gone (id, day, extra) VALUES (1, '2026-03-03', 0)")
    s.raw("ALTER TABLE gone DROP COLUMN extra")
    put(s, 1)
    assert s.sync().problems == []
    assert planned(s) == {"1"} and planned(s, "tasks.Early") == {"1"}


@pytest.mark.parametrize(
    "keys",
    [
        {"filter": "Q('nothing','=',1)"},
        {"filter": "Q('day__name','=',1)"},
        {"filter": "Q('day','=','tomorrow')"},
        {"endTimeType": 2, "endField": "nothing"},
        {"endTimeType": 2, "endField": "id"},
    ],
)
def test_a_filter_or_field_that_the_model_lacks(on: Make, keys: dict[str, Any]) -> None:
    others_go_on(
        broken(on, **{"tasks/Early": rows_task("day", model="models.Gone", **keys)})
    )


@pytest.mark.parametrize(
    "keys",
    [{"filter": "Q('nothing','=',1)"}, {"endTimeType": 2, "endField": "nothing"}],
)
def test_a_broken_template_beside_good_ones_on_one_model(
    on: Make, keys: dict[str, Any]
) -> None:
    others_go_on(broken(on, **{"tasks/Early": rows_task("at", **keys)}))


def test_a_model_that_does_not_load(on: Make) -> None:
    s = broken(on)
    s.again(**{"models/Gone": {**model_of(GONE), "model.py": "1 / 0"}})
    others_go_on(s)


def test_a_bad_row_of_two_templates_is_reported_for_both(
    on: Make, server: Server
) -> None:
    s = lite(on, server, "at")
    for key in (1, 2):
        put(s, key, **({"at": "2026-03-02 24:00:00"} if key == 1 else {}))
    report = s.sync()
    assert sorted(p.partition(",")[0] for p in report.problems) == [
        "tasks.Other",
        "tasks.Task",
    ]
    assert planned(s) == {"2"} and planned(s, "tasks.Other") == {"2"}
