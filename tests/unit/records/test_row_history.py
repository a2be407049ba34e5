"""`jittask row`: every task of a row, past and to come, and why each is when it is."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, update

from jittask_prefect import App, ArgumentError, UnknownElement
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.filters.expression import parse
from jittask_prefect.ledger.tables import entries
from jittask_prefect.records import text
from jittask_prefect.records.filter_text import filter_text
from jittask_prefect.records.row_history import (
    FIELDS,
    RowHistory,
    TemplateHistory,
    row_history,
)
from jittask_prefect.schedule import clock
from jittask_prefect.testing import FakePrefect, at, build_app, deploy

NOW = datetime(2026, 9, 28, 1, 0, tzinfo=UTC)  # a Monday, 09:00 in Shanghai
MODELS = """
from datetime import date, datetime
from sqlmodel import Field, SQLModel


class Contract(SQLModel, table=True):
    __tablename__ = "contract"
    id: int | None = Field(default=None, primary_key=True)
    endDate: date | None = None
    status: str = "active"
    level: int | None = None
"""
LINES = """
from datetime import date
from sqlmodel import Field, SQLModel


class Line(SQLModel, table=True):
    __tablename__ = "line"
    order: str = Field(primary_key=True)
    no: int = Field(primary_key=True)
    shipBy: date
"""
INNER = {
    "inner.py": "def customFunc(rowData):\n    return {'of': str(rowData.endDate)}\n"
}
REMIND: dict[str, Any] = {
    "type": "tasks.DateFieldType",
    "title": "Remind",
    "modelPath": "models.Contract",
    "filter": "Q(status='active')",
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
}
HOURLY = {
    "startField": "endDate",
    "startOffset": {"offsetType": 0, "time": "10:00"},
    "skipHoliday": 1,
}
ELEMENTS: dict[str, Any] = {
    "models/Contract": {
        "e.json": {"type": "models.NormalType", "title": "Contract"},
        "model.py": MODELS,
    },
    "models/Line": {
        "e.json": {"type": "models.NormalType", "title": "Line"},
        "model.py": LINES,
    },
    "tasks/Remind": {"e.json": REMIND, **INNER},
    "tasks/Off": {"e.json": {**REMIND, "title": "Off", "enable": 0}, **INNER},
    "tasks/Often": {
        "e.json": {
            **REMIND,
            "title": "Often",
            "filter": "Q(level__gte=3)",
            "timerCfg": {**HOURLY, "repeat": {"repeatType": "hour", "period": 12}},
        },
        **INNER,
    },
    "tasks/Ship": {
        "e.json": {
            **REMIND,
            "title": "Ship",
            "modelPath": "models.Line",
            "filter": "",
            "timerCfg": {"startField": "shipBy", "repeat": {"repeatType": "normal"}},
        },
        **INNER,
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


def save(app: App, model: str = "models.Contract", **values: Any) -> None:
    with app.session() as s:
        s.merge(app.getElement(model)(**values))
        s.commit()


def seen(
    app: App, key: str, now: datetime = NOW, count: int = 5, past: int = 100
) -> RowHistory:
    return row_history(app, "models.Contract", key, now, count, past)


def part(found: RowHistory, name: str = "tasks.Remind") -> TemplateHistory:
    return next(p for p in found.parts if p.template == name)


def told(of: TemplateHistory) -> list[tuple[str, str, tuple[str, ...]]]:
    return [
        (line.status, f"{line.due:%m-%d %H:%M}" if line.due else "–", line.notes)
        for line in of.records
    ]


def raw(app: App, statement: Any) -> None:
    with app.engine().begin() as connection:
        connection.execute(statement)


def test_what_is_to_come_and_why_it_is_when_it_is(app: App) -> None:
    save(app, id=42, endDate=date(2026, 10, 8))
    found = seen(app, "42")
    assert [p.template for p in found.parts] == [
        "tasks.Off",
        "tasks.Often",
        "tasks.Remind",
    ]
    remind = part(found)
    assert remind.state == ""
    assert remind.origin == "7 days before `endDate` (2026-10-08), at 09:00"
    (line,) = remind.records
    # October 1 to 7 is National Day.
    assert (f"{line.nominal:%m-%d %H:%M}", f"{line.due:%m-%d %H:%M}", line.moved) == (
        "10-01 09:00",
        "10-08 09:00",
        "National Day",
    )
    assert line.notes == ("its flow run is made 24 hours before",)
    assert line.ledger_due == line.due and line.generation == 1
    assert part(found, "tasks.Off").state == "the template is disabled (`enable` is 0)"
    assert (
        part(found, "tasks.Often").state
        == "the filter is not met: Q('level', '>=', 3), but `level` is empty"
    )


def test_another_app_in_the_same_database_has_rows_of_its_own(app: App) -> None:
    save(app, id=42, endDate=date(2026, 10, 8))
    raw(app, update(entries).values(app="other"))
    (record,) = part(seen(app, "42")).records
    assert (record.ledger_due, record.notes) == (
        None,
        ("beyond the horizon (24 hours)",),
    )


def test_the_life_of_a_row(app: App, prefect: FakePrefect) -> None:
    save(app, id=42, endDate=date(2026, 10, 6))  # due September 29
    save(app, id=42, endDate=date(2026, 10, 7))  # September 30
    prefect.sync(app, NOW)
    due = datetime(2026, 9, 30, 1, 0, tzinfo=UTC)
    with at(due):
        prefect.sync(app, due)
        prefect.run_due(app, due)
        save(app, id=42, endDate=date(2026, 10, 30))  # October 23
    remind = part(seen(app, "42", due))
    first, second, third = remind.records
    assert [(line.status, f"{line.due:%m-%d}") for line in remind.records] == [
        ("ended", "09-29"),
        ("completed", "09-30"),
        ("pending", "10-23"),
    ]
    assert (
        first.notes[0]
        == "from another date of the row: then 2026-09-29 09:00 was the start"
    )
    assert first.notes[1] == "superseded: now due 2026-09-30 09:00"
    assert second.notes == (
        "from another date of the row: then 2026-09-30 09:00 was the start",
    )
    assert third.notes == ("its flow run is made 24 hours before",)
    assert [line.generation for line in remind.records] == [1, 2, 3]
    data = second.as_dict(FIELDS)
    assert data["result"] == {"of": "2026-10-07"}
    assert (data["outcome"], data["startTime"], data["flowRun"]) == (
        "completed",
        "2026-09-30T09:00:00+08:00",
        next(iter(prefect.all_runs)),
    )
    few = part(seen(app, "42", due, past=1))
    assert ([f"{line.due:%m-%d}" for line in few.records], few.earlier) == (
        ["09-30", "10-23"],
        1,
    )


def test_what_the_next_sync_will_do_is_said(app: App, prefect: FakePrefect) -> None:
    for key in (1, 2, 3):
        save(app, id=key, endDate=date(2026, 10, 6))
    table = app.getElement("models.Contract").__table__
    raw(app, update(table).where(table.c.id == 1).values(endDate=date(2026, 10, 7)))
    raw(app, update(table).where(table.c.id == 2).values(status="ended"))
    raw(app, delete(table).where(table.c.id == 3))
    raw(app, insert(table).values(id=4, endDate=date(2026, 10, 6), status="active"))
    first, second = part(seen(app, "1")).records
    assert first.notes == (
        "from another date of the row: then 2026-09-29 09:00 was the start",
        "the next sync puts it to Wed 2026-09-30 09:00",
    )
    assert second.notes == ("beyond the horizon (24 hours)",)
    assert part(seen(app, "2")).records[0].notes == (
        "the next sync ends it: the filter is not met: Q('status', '=', 'active'), but `status` is 'ended'",
    )
    gone = seen(app, "3")
    assert not gone.exists
    assert part(gone).state == "the row is gone"
    assert told(part(gone)) == [
        ("pending", "09-29 09:00", ("the next sync ends it: the row is gone",))
    ]
    (new,) = part(seen(app, "4")).records
    assert (new.status, new.notes, new.ledger_due) == (
        "pending",
        ("the next sync makes it",),
        None,
    )
    made = {
        a.row: a.task_id for a in prefect.sync(app, NOW).actions if a.action == "create"
    }
    assert made == {"4": new.task_id}


def test_the_next_few_and_what_a_holiday_leaves_out(app: App) -> None:
    save(app, id=1, endDate=date(2026, 9, 30), level=3)
    often = part(seen(app, "1", count=3), "tasks.Often")
    # Every twelve hours, but not on National Day.
    assert [(s, d) for s, d, _ in told(often)] == [
        ("pending", "09-30 10:00"),
        ("pending", "09-30 22:00"),
        ("none", "–"),
        ("pending", "10-08 10:00"),
    ]
    dropped = often.records[2]
    assert dropped.moved == "National Day"
    assert dropped.notes == ("skipped", "14 of them, the last 2026-10-07 22:00")
    assert len({line.task_id for line in often.records}) == 4
    assert (
        len([line for line in part(seen(app, "1"), "tasks.Often").records if line.due])
        == 5
    )


@pytest.mark.parametrize(
    ("values", "state", "end"),
    [
        ({"endDate": None}, "`endDate` is empty", ""),
        ({"endDate": date(9999, 12, 31)}, "", ""),  # on December 24, 9999, it would be
        (
            {"endDate": date(1, 1, 1)},
            "`endDate` (0001-01-01) is at the edge of the calendar, which means never",
            "",
        ),
        (
            {"endDate": date(2026, 1, 19)},
            "",
            "nothing more is due; the last was Mon 2026-01-12 09:00 CST",
        ),
        ({"endDate": date(2026, 10, 30)}, "", ""),
        ({"endDate": date(2077, 1, 11)}, "", ""),
    ],
)
def test_why_a_row_has_no_tasks(
    app: App, values: dict[str, Any], state: str, end: str
) -> None:
    table = app.getElement("models.Contract").__table__
    raw(app, insert(table).values(id=1, status="active", **values))
    remind = part(seen(app, "1"))
    assert (remind.state, remind.end) == (state, end)
    assert len(remind.records) == (0 if state or end else 1)


def test_a_template_that_is_gone(app: App) -> None:
    save(app, id=42, endDate=date(2026, 10, 6))
    shutil.rmtree(app.path / "tasks/Remind")
    again = App(app.path)
    remind = part(row_history(again, "models.Contract", "42", NOW, 5, 100))
    assert remind.state == "the template is gone, or does not load (`jittask check`)"
    assert [(line.status, f"{line.due:%m-%d %H:%M %Z}") for line in remind.records] == [
        ("pending", "09-29 09:00 CST")
    ]


def test_a_key_of_several_columns(app: App) -> None:
    save(app, "models.Line", order="A", no=7, shipBy=date(2026, 9, 30))
    for key in ('["A",7]', '[ "A", 7 ]', '["A", "7"]'):
        found = row_history(app, "models.Line", key, NOW, 5, 100)
        assert (found.key, found.exists, len(found.parts[0].records)) == (
            '["A",7]',
            True,
            1,
        )
    table = app.getElement("models.Line").__table__
    raw(app, delete(table))
    found = row_history(app, "models.Line", '["A", 7]', NOW, 5, 100)
    assert (found.key, found.exists, len(found.parts[0].records)) == (
        '["A",7]',
        False,
        1,
    )


@pytest.mark.parametrize(
    ("model", "key", "error", "said"),
    [
        (
            "models.No",
            "1",
            UnknownElement,
            "its models are models.Contract, models.Line",
        ),
        ("tasks.Remind", "1", UnknownElement, "'tasks.Remind' is no model of test"),
        (
            "models.Contract",
            "x",
            ArgumentError,
            r"'x' is no key of models.Contract; allowed: id \(int\)",
        ),
        (
            "models.Contract",
            "9" * 30,
            ArgumentError,
            r"is no key of models.Contract; allowed: id \(int\)",
        ),
        (
            "models.Contract",
            "99",
            ArgumentError,
            "has no row '99', and the ledger no task of one; some .*: 42",
        ),
        (
            "models.Line",
            "A",
            ArgumentError,
            r"allowed: a JSON list \[order \(str\), no \(int\)\]",
        ),
        ("models.Line", '["A"]', ArgumentError, "a JSON list"),
        ("models.Line", '["A", null]', ArgumentError, "a JSON list"),
    ],
)
def test_what_is_no_row(
    app: App, model: str, key: str, error: type[Exception], said: str
) -> None:
    save(app, id=42, endDate=date(2026, 10, 6))
    with pytest.raises(error, match=said):
        row_history(app, model, key, NOW, 5, 100)


def test_without_a_ledger(tmp_path: Path) -> None:
    app = build_app(
        tmp_path / "bare",
        ELEMENTS,
        ready=False,
        timezone="Asia/Shanghai",
        calendar="CN",
    )
    table = app.getElement("models.Contract").__table__
    with app.engine().begin() as connection:
        table.create(connection)
        connection.execute(
            insert(table).values(id=1, endDate=date(2026, 10, 6), status="active")
        )
    assert told(part(seen(app, "1"))) == [
        ("pending", "09-29 09:00", ("the next sync makes it",))
    ]


# --- filters ---------------------------------------------------------------------------------------------------------


def test_which_part_of_a_filter_is_not_met(app: App) -> None:
    save(app, id=1, endDate=date(2026, 10, 6), status="late", level=2)
    template = app.template("tasks.Remind")
    assert isinstance(template, DateFieldType)

    def of(text: str) -> list[str]:
        template.filter = parse(text)
        reason = part(seen(app, "1")).state
        return reason.removeprefix("the filter is not met: ").split("; ") * bool(reason)

    assert of("") == []
    assert of("Q(status='late') & Q(level=2)") == []
    assert of(
        "Q(status='late') & Q(level__gt=2) & Q(endDate__lt=Q.today(days=-1))"
    ) == [
        "Q('level', '>', 2), but `level` is 2",
        "Q('endDate', '<', Q.today(days=-1)), but `endDate` is 2026-10-06",
    ]
    assert of("~Q(status='late')") == [
        "~Q('status', '=', 'late'), but `status` is 'late'"
    ]
    assert of("Q(level=1) | Q(status='x')") == [
        "Q('level', '=', 1) | Q('status', '=', 'x'), but `level` is 2 and `status` is 'late'"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Q('a', 'in', [1, 'x', None])",
        "Q('b__c', '>', Q.now(hours=2))",
        "(Q('a', '=', True) | ~Q('b', '=', 1.5)) & ~(Q('c', '=', 1) & Q('d', '=', 2))",
    ],
)
def test_a_filter_is_written_as_it_is_read(text: str) -> None:
    assert filter_text(parse(text).tree) == text
    assert parse(filter_text(parse(text).tree)).tree == parse(text).tree


# --- as text ---------------------------------------------------------------------------------------------------------


def test_as_lines(app: App, prefect: FakePrefect) -> None:
    save(app, id=42, endDate=date(2026, 10, 6))
    save(app, id=42, endDate=date(2026, 10, 8))
    prefect.sync(app, NOW)
    first, second = part(seen(app, "42")).records
    lines = list(text.row(seen(app, "42")))
    start = lines.index("tasks.Remind (Remind)")
    assert lines[0] == "models.Contract 42"
    assert lines[start - 1 :] == [
        "",
        "tasks.Remind (Remind)",
        "  7 days before `endDate`, at 09:00 (Asia/Shanghai); a legal holiday (CN) moves it to the next working day.",
        "  From 7 days before `endDate` (2026-10-08), at 09:00.",
        "  Tue 2026-09-29 09:00 CST  ended       from another date of the row: then 2026-09-29 09:00 was the start; "
        + first.message,
        f"      task {first.task_id}",
        "  Thu 2026-10-08 09:00 CST  pending     National Day moved it from Thu 2026-10-01 09:00; "
        "its flow run is made 24 hours before",
        f"      task {second.task_id}, generation 2",
    ]


def test_a_row_of_no_date_field_task_and_one_that_is_gone() -> None:
    assert list(text.row(RowHistory("models.Notice", "1\n2", True, []))) == [
        "models.Notice 1\\n2",
        "models.Notice has no date-field task.",
    ]
    assert next(text.row(RowHistory("models.Notice", "合同", False, []))) == (
        "models.Notice 合同, which is gone: its row is not in the table"
    )


def test_as_data(app: App) -> None:
    save(app, id=42, endDate=date(2026, 10, 8))
    raw(app, delete(entries))
    data = json.loads(json.dumps(seen(app, "42").as_dict()))
    assert {k: v for k, v in data.items() if k != "templates"} == {
        "model": "models.Contract",
        "row": "42",
        "exists": True,
    }
    off, _, remind = data["templates"]
    assert (off["fullName"], off["noTasksBecause"], off["tasks"]) == (
        "tasks.Off",
        "the template is disabled (`enable` is 0)",
        [],
    )
    (task,) = remind["tasks"]
    assert task | {"taskId": ""} == {
        **dict.fromkeys(
            ("outcome", "result", "generation", "startTime", "endTime", "flowRun")
        ),
        "status": "pending",
        "dueTime": "2026-10-08T09:00:00+08:00",
        "nominal": "2026-10-01T09:00:00+08:00",
        "movedBy": "National Day",
        "taskId": "",
        "why": ["beyond the horizon (24 hours)"],
        "inLedger": False,
        "message": "",
    }
