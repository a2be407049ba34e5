"""What is pending beyond the horizon: `jittask pending`, and the records up to a later end, from the rows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, update

from jittask_prefect import App
from jittask_prefect.ledger import watermarks
from jittask_prefect.ledger.tables import entries
from jittask_prefect.records import upcoming
from jittask_prefect.records.record import PENDING_FIELDS
from jittask_prefect.rows import scan
from jittask_prefect.schedule import clock
from jittask_prefect.schedule.instants import TICK
from jittask_prefect.testing import FakePrefect, build_app, deploy

NOW = datetime(2026, 9, 28, 1, 0, tzinfo=UTC)  # a Monday, 09:00 in Shanghai
END = datetime(2026, 11, 1, tzinfo=UTC)
MODEL = """
from datetime import date
from sqlmodel import Field, SQLModel


class Contract(SQLModel, table=True):
    __tablename__ = "contract"
    id: int | None = Field(default=None, primary_key=True)
    endDate: date | None = None
    checkDate: date | None = None
    status: str = "active"
"""
INNER = {"inner.py": "def customFunc(rowData):\n    return rowData.id\n"}
ROWS = {
    "type": "tasks.DateFieldType",
    "modelPath": "models.Contract",
    "filter": "Q(status='active')",
}
ELEMENTS: dict[str, Any] = {
    "models/Contract": {
        "e.json": {"type": "models.NormalType", "title": "Contract"},
        "model.py": MODEL,
    },
    # The day of the week before, at nine; a holiday moves it on.
    "tasks/Remind": {
        "e.json": {
            **ROWS,
            "title": "Remind",
            "timerCfg": {
                "startField": "endDate",
                "startOffset": {
                    "offsetType": -1,
                    "offset": 7,
                    "offsetUnit": "day",
                    "time": "09:00",
                },
                "repeat": {"repeatType": "normal"},
                "skipHoliday": 1,
            },
        },
        **INNER,
    },
    "tasks/Check": {
        "e.json": {
            **ROWS,
            "title": "Check",
            "timerCfg": {
                "startField": "checkDate",
                "startOffset": {"offsetType": 0, "time": "10:00"},
                "repeat": {"repeatType": "week"},
            },
        },
        **INNER,
    },
    "tasks/Daily": {
        "e.json": {
            "type": "tasks.NormalType",
            "title": "Daily",
            "timerCfg": {
                "startTime": "2026-01-01 18:00:00",
                "repeat": {"repeatType": "day"},
                "skipHoliday": 1,
            },
        },
        "inner.py": "def customFunc():\n    return 1\n",
    },
}


@pytest.fixture
def prefect() -> FakePrefect:
    return FakePrefect()


@pytest.fixture
def app(tmp_path: Path, prefect: FakePrefect, monkeypatch: pytest.MonkeyPatch) -> App:
    monkeypatch.setattr(clock, "now", lambda: NOW)
    made = build_app(
        tmp_path / "shop", ELEMENTS, timezone="Asia/Shanghai", calendar="CN"
    )
    deploy(made, prefect, NOW)
    return made


def save(app: App, **values: Any) -> None:
    with app.session() as s:
        s.merge(app.getElement("models.Contract")(**values))
        s.commit()


def raw(app: App, statement: Any) -> None:
    """What no hook sees."""
    with app.engine().begin() as connection:
        connection.execute(statement)


def table(app: App) -> Any:
    return app.getElement("models.Contract").__table__


def pending(
    app: App, name: str, until: datetime = END, most: int = 100
) -> list[tuple[str | None, str]]:
    found = upcoming.pending(app.template(name), until, NOW, most)
    assert found.problems == []
    return [(item.row, f"{item.due:%m-%d %H:%M}") for item in found.records]


# --- pending ---------------------------------------------------------------------------------------------------------


def test_from_the_ledger_and_then_from_the_rows(app: App, prefect: FakePrefect) -> None:
    save(
        app, id=1, endDate=date(2026, 10, 6)
    )  # due September 29, 09:00: at the horizon's very end
    prefect.sync(app, NOW)
    # National Day is October 1 to 7, so what was to be on the 1st is on the 8th.
    raw(
        app, insert(table(app)).values(id=2, endDate=date(2026, 10, 8), status="active")
    )
    raw(
        app, insert(table(app)).values(id=3, endDate=date(2026, 10, 7), status="active")
    )
    raw(app, insert(table(app)).values(id=4, endDate=date(2026, 10, 7), status="ended"))
    raw(app, insert(table(app)).values(id=5, endDate=None, status="active"))
    found = upcoming.pending(app.template("tasks.Remind"), END, NOW, 10).records
    assert [
        (
            i.row,
            f"{i.due:%m-%d %H:%M}",
            f"{i.nominal:%m-%d}",
            i.moved,
            i.ledger_due is not None,
        )
        for i in found
    ] == [
        ("1", "09-29 09:00", "09-29", None, True),
        ("3", "09-30 09:00", "09-30", None, False),
        ("2", "10-08 09:00", "10-01", "National Day", False),
    ]
    assert found[0].as_dict(PENDING_FIELDS) == {
        "fullName": "tasks.Remind",
        "row": "1",
        "taskId": found[0].task_id,
        "status": "pending",
        "dueTime": "2026-09-29T09:00:00+08:00",
        "nominal": "2026-09-29T09:00:00+08:00",
        "movedBy": None,
        "inLedger": True,
    }
    # The ids are those that the tasks get when their time has come.
    later = datetime(2026, 10, 7, 3, 0, tzinfo=UTC)
    made = {
        a.row: a.task_id
        for a in prefect.sync(app, later).actions
        if a.action == "create" and a.row == "2"
    }
    assert made == {"2": found[2].task_id}


def test_another_app_in_the_same_database_has_tasks_of_its_own(app: App) -> None:
    save(app, id=1, endDate=date(2026, 10, 6))
    raw(app, update(entries).values(app="other", due=NOW))
    found = upcoming.pending(app.template("tasks.Remind"), END, NOW, 10).records
    assert [(f"{i.due:%m-%d}", i.ledger_due) for i in found] == [("09-29", None)]


def test_a_window_ends_where_it_is_said(app: App) -> None:
    save(app, id=1, checkDate=date(2026, 10, 5))
    due = datetime(2026, 10, 12, 2, 0, tzinfo=UTC)
    assert pending(app, "tasks.Check", due) == [("1", "10-05 10:00")]
    assert pending(app, "tasks.Check", due + TICK) == [
        ("1", "10-05 10:00"),
        ("1", "10-12 10:00"),
    ]


def test_the_ledger_s_next_one_of_a_row_is_told_once(app: App) -> None:
    save(
        app, id=1, checkDate=date(2026, 10, 5)
    )  # the hook writes the first, which is beyond the horizon
    found = upcoming.pending(
        app.template("tasks.Check"), datetime(2026, 10, 20, tzinfo=UTC), NOW, 10
    ).records
    assert [(f"{i.due:%m-%d}", i.ledger_due is not None) for i in found] == [
        ("10-05", True),
        ("10-12", False),
        ("10-19", False),
    ]
    assert len({i.task_id for i in found}) == 3


def test_what_no_hook_saw_counts_beyond_the_horizon(
    app: App, prefect: FakePrefect
) -> None:
    save(app, id=1, endDate=date(2026, 10, 27))
    save(app, id=2, endDate=date(2026, 10, 27))
    prefect.sync(app, NOW)
    raw(
        app,
        update(table(app))
        .where(table(app).c.id == 1)
        .values(endDate=date(2026, 10, 28)),
    )
    raw(app, delete(table(app)).where(table(app).c.id == 2))
    assert pending(app, "tasks.Remind") == [("1", "10-21 09:00")]


def test_what_was_ended_is_not_pending(app: App, prefect: FakePrefect) -> None:
    save(app, id=1, checkDate=date(2026, 10, 5))
    save(app, id=2, checkDate=date(2026, 9, 29))
    prefect.sync(app, NOW)
    assert pending(app, "tasks.Check", datetime(2026, 10, 7, tzinfo=UTC)) == [
        ("2", "09-29 10:00"),
        ("1", "10-05 10:00"),
        ("2", "10-06 10:00"),
    ]
    svc = app.getElement("services.TaskSvc")
    for item in upcoming.pending(app.template("tasks.Check"), END, NOW, 2).records:
        assert svc.forcedEnd(item.task_id)["changed"]
    assert pending(app, "tasks.Check", datetime(2026, 10, 7, tzinfo=UTC)) == [
        ("2", "10-06 10:00")
    ]


def test_the_first_of_many_whatever_the_order_of_the_rows(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "PIECE", 4)
    monkeypatch.setattr(upcoming, "CHUNK", 3)
    days = {1: 20, 2: 15, 3: 10, 4: 16, 5: 15, 6: 9}
    raw(
        app,
        insert(table(app)).values(
            [
                {"id": n, "checkDate": date(2026, 10, day), "status": "active"}
                for n, day in days.items()
            ]
        ),
    )
    wanted = [
        ("6", "10-09"),
        ("3", "10-10"),
        ("2", "10-15"),
        ("5", "10-15"),
        ("4", "10-16"),
        ("6", "10-16"),
    ]
    for most in (1, 3, 4, 6):
        assert [
            (row, day[:5]) for row, day in pending(app, "tasks.Check", most=most)
        ] == wanted[:most]
    assert (
        len(pending(app, "tasks.Check")) == 2 + 3 + 4 + 3 + 3 + 4
    )  # weekly, until October 31


def test_an_overdue_task_and_one_outside_the_schedule_are_there_too(
    app: App, prefect: FakePrefect
) -> None:
    save(app, id=1, checkDate=date(2026, 9, 21))
    prefect.sync(app, NOW, since=datetime(2026, 9, 27, tzinfo=UTC))
    svc = app.getElement("services.TaskSvc")
    svc.createTimerTask(
        "tasks.Check",
        "2026-10-20 00:00:00",
        "customFunc",
        "tasks.DateFieldType",
        {"rowData": 1},
    )
    later = datetime(2026, 9, 28, 3, 0, tzinfo=UTC)
    found = upcoming.pending(
        app.template("tasks.Check"), datetime(2026, 10, 6, tzinfo=UTC), later, 10
    ).records
    assert [(i.row, f"{i.due:%m-%d}", i.status) for i in found] == [
        ("1", "09-28", "overdue"),
        ("1", "10-05", "pending"),
    ]
    assert (None, "10-20 00:00") in pending(app, "tasks.Check")


def test_before_any_sync_and_after_an_edit_the_rows_answer_from_now_on(
    app: App, prefect: FakePrefect
) -> None:
    raw(
        app, insert(table(app)).values(id=1, endDate=date(2026, 10, 6), status="active")
    )
    assert pending(app, "tasks.Remind") == [("1", "09-29 09:00")]
    prefect.sync(app, NOW)
    with app.engine().begin() as connection:
        memory = watermarks.memories(connection, app.name)["tasks.Remind"]
        watermarks.remember(
            connection, app.name, "tasks.Remind", replace(memory, config="another")
        )
    raw(
        app, insert(table(app)).values(id=2, endDate=date(2026, 10, 5), status="active")
    )
    raw(
        app, insert(table(app)).values(id=3, endDate=date(2026, 10, 7), status="active")
    )
    # Row 2 is due this very moment, so it is not to come.
    assert pending(app, "tasks.Remind") == [("1", "09-29 09:00"), ("3", "09-30 09:00")]


def test_without_a_ledger(tmp_path: Path) -> None:
    app = build_app(
        tmp_path / "bare",
        ELEMENTS,
        ready=False,
        timezone="Asia/Shanghai",
        calendar="CN",
    )
    with app.engine().begin() as connection:
        table(app).create(connection)
        connection.execute(
            insert(table(app)).values(id=1, endDate=date(2026, 10, 6), status="active")
        )
    assert pending(app, "tasks.Remind") == [("1", "09-29 09:00")]


def test_a_disabled_template_has_none(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(app, id=1, checkDate=date(2026, 10, 5))
    for name in ("tasks.Check", "tasks.Daily"):
        template = app.template(name)
        monkeypatch.setattr(type(template), "enable", False)
        raw(app, delete(entries))
        assert pending(app, name) == []


def test_of_a_schedule(app: App, prefect: FakePrefect) -> None:
    until = datetime(2026, 10, 10, tzinfo=UTC)
    dues = ["09-28 18:00", "09-29 18:00", "09-30 18:00", "10-08 18:00", "10-09 18:00"]
    assert pending(app, "tasks.Daily", until) == [(None, due) for due in dues]
    assert pending(app, "tasks.Daily", until, most=2) == [
        (None, due) for due in dues[:2]
    ]
    # One that was ended before it began is none any more.
    run = prefect.create_run(
        prefect.all_deployments["tasks.Daily"]["id"],
        key="auto",
        name="x",
        due=datetime(2026, 9, 29, 10, 0, tzinfo=UTC),
        tags=[],
        parameters={"template": "tasks.Daily"},
    )
    app.getElement("services.TaskSvc").forcedEnd(run.id)
    assert pending(app, "tasks.Daily", until) == [
        (None, due) for due in dues if due != "09-29 18:00"
    ]


def test_a_row_that_cannot_be_read_is_a_sentence(app: App) -> None:
    save(app, id=2, endDate=date(2026, 10, 27))
    with app.engine().begin() as connection:
        connection.exec_driver_sql(
            "insert into contract (id, endDate, status) values (1, '2026-10-soon', 'active')"
        )
    found = upcoming.pending(app.template("tasks.Remind"), END, NOW, 10)
    assert [(item.row, f"{item.due:%m-%d %H:%M}") for item in found.records] == [
        ("2", "10-20 09:00")
    ]
    (problem,) = found.problems
    assert problem.startswith("tasks.Remind, row 1: its date cannot be read: ")
    assert "2026-10-soon" in problem


def test_the_last_occurrences_of_a_long_series(app: App) -> None:
    row = app.getElement("models.Contract")(
        id=1, checkDate=date(2020, 1, 6)
    )  # a Monday
    series = app.template("tasks.Check").series(row)
    assert series is not None
    before = datetime(
        2026, 9, 28, 2, 0, tzinfo=UTC
    )  # a Monday, 10:00, which is no more in it
    found = upcoming.latest(series, datetime(2020, 1, 1, tzinfo=UTC), before, 3)
    assert [f"{o.due:%m-%d}" for o in found] == ["09-07", "09-14", "09-21"]
    assert (
        len(upcoming.latest(series, datetime(2026, 1, 1, tzinfo=UTC), before, 1000))
        == 38
    )
    assert upcoming.latest(series, before, before, 3) == []


# --- getTaskRecords --------------------------------------------------------------------------------------------------


def records(app: App, *args: Any, **more: Any) -> list[tuple[str, str | None, str]]:
    found = app.getElement("services.TaskSvc").getTaskRecords(*args, **more)
    assert len({r["taskId"] for r in found}) == len(found)
    return [(r["fullName"], r["row"], r["dueTime"][5:16]) for r in found]


@pytest.fixture
def three(app: App, prefect: FakePrefect) -> App:
    """A task within the horizon, a moved one beyond it that the ledger knows, and a weekly one from October 5 on."""
    save(app, id=1, endDate=date(2026, 10, 6))
    save(app, id=2, endDate=date(2026, 10, 8))
    save(app, id=3, checkDate=date(2026, 10, 5))
    prefect.sync(app, NOW)
    return app


R1 = ("tasks.Remind", "1", "09-29T09:00")
R2 = ("tasks.Remind", "2", "10-08T09:00")
C1, C2, C3 = (("tasks.Check", "3", f"10-{day}T10:00") for day in ("05", "12", "19"))


def test_records_beyond_the_horizon(three: App) -> None:
    end = "2026-10-20"
    assert records(three, status="pending", endTime=end) == [C3, C2, R2, C1, R1]
    assert records(three, endTime=end) == [C3, C2, R2, C1, R1]
    assert records(three, "tasks.Check", "pending", endTime=end) == [C3, C2, C1]
    assert records(three, "tasks.Remind", "pending", endTime=end) == [R2, R1]
    assert records(three, None, "pending", "2026-10-06", end) == [C3, C2, R2]
    assert records(
        three, None, "pending", "2026-10-05 10:00:00", "2026-10-12 10:00:00"
    ) == [R2, C1]
    assert records(three, status="completed", endTime=end) == []
    svc = three.getElement("services.TaskSvc")
    new = svc.getTaskRecords(status="pending", endTime=end)[0]
    assert new == {
        "taskId": new["taskId"],
        "fullName": "tasks.Check",
        "title": "Check",
        "status": "pending",
        "dueTime": "2026-10-19T10:00:00+08:00",
        **dict.fromkeys(
            ("startTime", "endTime", "duration", "lateness", "result", "url")
        ),
        "row": "3",
        "message": "",
    }


def test_records_beyond_the_horizon_are_what_the_rows_say(three: App) -> None:
    raw(
        three,
        update(table(three))
        .where(table(three).c.id == 2)
        .values(endDate=date(2026, 10, 20)),
    )
    raw(three, delete(table(three)).where(table(three).c.id == 3))
    moved = ("tasks.Remind", "2", "10-13T09:00")
    assert records(three, status="pending", endTime="2026-10-20") == [moved, R1]
    assert records(three, status="pending") == [
        R2,
        C1,
        R1,
    ]  # what the ledger holds, until a sync sees the row


def test_records_without_an_end_are_what_is_known(three: App) -> None:
    assert records(three, status="pending") == [
        R2,
        C1,
        R1,
    ]  # the ledger's: the hooks wrote each row's next task
    assert records(three, status="pending", endTime="2026-09-29 09:00:00") == []
    assert records(three, status="pending", endTime="2026-09-29 09:00:01") == [R1]


def test_records_beyond_the_horizon_in_pages(three: App) -> None:
    whole = [C3, C2, R2, C1, R1]
    for limit in (1, 2, 3):
        found = []
        for offset in range(0, 6, limit):
            found += records(
                three,
                status="pending",
                endTime="2026-10-20",
                limit=limit,
                offset=offset,
            )
        assert found == whole
    assert records(three, status="pending", endTime="2026-10-20", limit=0) == []


def test_many_due_at_one_instant_are_in_one_page_each(app: App) -> None:
    rows = [
        {"id": n, "endDate": date(2026, 10, 27), "status": "active"}
        for n in range(1, 8)
    ]
    raw(app, insert(table(app)).values(rows))
    found = []
    for offset in (0, 3, 6):
        found += records(app, status="pending", endTime=END, limit=3, offset=offset)
    assert sorted(str(row) for _, row, _ in found) == [
        "1",
        "2",
        "3",
        "4",
        "5",
        "6",
        "7",
    ]


def test_records_of_a_repeat_look_from_the_end_back(app: App) -> None:
    for n in (1, 2, 3):
        save(app, id=n, checkDate=date(2026, 10, n))
    found = records(app, status="pending", endTime="2027-10-01 00:00:00", limit=2)
    # October 1, 2, 3 of 2026 are a Thursday, a Friday and a Saturday; September 30, 2027, is a Thursday.
    assert [(row, due) for _, row, due in found] == [
        ("1", "09-30T10:00"),
        ("3", "09-25T10:00"),
    ]


def test_one_row_that_cannot_be_read_keeps_no_other_from_being_shown(
    three: App, caplog: pytest.LogCaptureFixture
) -> None:
    with three.engine().begin() as connection:
        connection.exec_driver_sql(
            "insert into contract (id, checkDate, status) values (9, '2026-09-soon', 'active')"
        )
    assert records(three, status="pending", endTime="2026-10-20") == [
        C3,
        C2,
        R2,
        C1,
        R1,
    ]
    assert "tasks.Check, row 9: its date cannot be read: " in caplog.text


def test_one_template_that_cannot_be_planned_keeps_no_other_from_being_shown(
    three: App, caplog: pytest.LogCaptureFixture
) -> None:
    with three.engine().begin() as connection:
        connection.exec_driver_sql(
            "alter table contract rename column checkDate to inspectDate"
        )
    # Of Remind what its rows say, of Check what the ledger knows.
    assert records(three, status="pending", endTime="2026-10-20") == [R2, C1, R1]
    assert "tasks.Check: tasks beyond the horizon are not known" in caplog.text
