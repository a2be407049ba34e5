"""A condition of SQLAlchemy means at the save, in the scan and at the due moment what the Q filter of the same words means."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import pytest
from shop import Shop, model_of, rows_task

from jittask_prefect import now, today
from jittask_prefect.filters import where
from jittask_prefect.records.row_history import row_history
from jittask_prefect.rows.template_planner import fingerprint

OPEN = "Q('status', 'in', ['open', 'late']) & Q('until', '>=', Q.today())"
TEN = datetime(2026, 3, 2, 10)
TODAY, YESTERDAY = date(2026, 3, 2), date(2026, 3, 1)


def bills(s: Shop) -> Any:
    return s.element("models.Bill")


def declare(s: Shop, make: Callable[[Any], Any]) -> None:
    """Give the task a condition, as a decorated function has."""
    template = s.element("tasks.Task")
    template.filter = where.read(make(bills(s)), bills(s))


def is_open(bill: Any) -> Any:
    return bill.status.in_({"open", "late"}) & (bill.until >= today())


def story(s: Shop) -> list[list[str]]:
    """What becomes of rows that are saved, changed past the ORM, and due."""
    said = []
    s.save(id=1, at=TEN, until=TODAY)
    s.save(id=2, at=TEN, until=TODAY, status="paid")
    s.save(id=3, at=TEN, until=YESTERDAY)
    s.save(id=4, at=TEN)
    said.append(s.tasks())
    for key, status, until in ((5, "late", TODAY), (6, "paid", TODAY), (7, "open", YESTERDAY)):  # fmt: skip
        s.insert(id=key, at=TEN, status=status, until=until, count=0)
    said.append(s.did())
    s.save(id=2, status="late")
    s.save(id=1, until=YESTERDAY)
    said.append(s.tasks())
    s.save(id=1, until=TODAY)
    s.raw("UPDATE bill SET status = 'paid' WHERE id = 5")
    s.at("2026-03-02 10:00")
    said.append([s.run(e).status for e in s.entries(status="pending")])
    said.append(s.tasks())
    return said


@pytest.mark.parametrize("form", ["Q", "SQLAlchemy"])
def test_a_condition_does_what_the_q_filter_does(
    on: Callable[..., Shop], form: str
) -> None:
    s = on(filter=OPEN) if form == "Q" else on()
    if form == "SQLAlchemy":
        declare(s, is_open)

    assert story(s) == [
        ["1 03-02 10:00 #1 pending"],
        ["create 5 03-02 10:00"],
        [
            "1 03-02 10:00 #1 superseded",
            "2 03-02 10:00 #1 pending",
            "5 03-02 10:00 #1 pending",
        ],
        ["completed", "completed", "ended"],
        [
            "1 03-02 10:00 #1 superseded",
            "1 03-02 10:00 #2 completed",
            "2 03-02 10:00 #1 completed",
            "5 03-02 10:00 #1 superseded",
        ],
    ]


def test_a_time_that_moves_is_bound_at_each_look(shop: Callable[..., Shop]) -> None:
    """The statement of the save is kept; its times are those of each save."""
    s = shop(field="day", startOffset={"offsetType": 1, "offset": 9, "offsetUnit": "day"})  # fmt: skip
    declare(s, lambda bill: bill.at > now(hours=1))
    s.save(id=1, day=TODAY, at=datetime(2026, 3, 2, 9, 1))
    s.save(id=2, day=TODAY, at=datetime(2026, 3, 2, 9, 0))
    s.at("2026-03-02 08:30")
    s.save(id=3, day=TODAY, at=datetime(2026, 3, 2, 9, 1))
    s.save(id=4, day=TODAY, at=datetime(2026, 3, 2, 9, 31))
    assert [entry.row_key for entry in s.entries()] == ["1", "4"]


def test_two_tasks_of_a_model_keep_their_conditions(shop: Callable[..., Shop]) -> None:
    """One SELECT asks both."""
    other = {"tasks/Other": rows_task("at")}
    s = shop(more=other)
    declare(s, lambda bill: bill.status == "open")
    template = s.element("tasks.Other")
    template.filter = where.read(bills(s).status == "late", bills(s))
    s.save(id=1, at=TEN)
    s.save(id=2, at=TEN, status="late")
    assert [(e.template, e.row_key) for e in s.entries()] == [
        ("tasks.Task", "1"),
        ("tasks.Other", "2"),
    ]


LINES = """
from pydantic import NaiveDatetime
from sqlmodel import Field, Relationship, SQLModel

class Payer(SQLModel, table=True):
    id: int = Field(primary_key=True)
    active: bool = True

class Bill(SQLModel, table=True):
    id: int = Field(primary_key=True)
    at: NaiveDatetime
    count: int = 0
    payer_id: int | None = Field(default=None, foreign_key="payer.id")
    payer: Payer | None = Relationship()
"""


def test_rows_of_other_tables_decide_at_the_sync_and_the_due_moment(
    shop: Callable[..., Shop],
) -> None:
    s = shop(elements={"models/Bill": model_of(LINES), "tasks/Task": rows_task("at")})
    payer = bills(s).payer.property.mapper.class_
    payer.metadata.create_all(s.app.engine(), tables=[payer.__table__])
    declare(s, lambda bill: lambda: bill.payer.has(payer.active))
    s.raw("INSERT INTO payer (id, active) VALUES (1, 1), (2, 0)")
    s.save(id=1, at=TEN, payer_id=1)
    s.save(id=2, at=TEN, payer_id=2)
    s.save(id=3, at=TEN)
    assert s.tasks() == ["1 03-02 10:00 #1 pending"]

    s.insert(id=4, at=TEN, payer_id=1, count=0)
    assert s.did() == ["create 4 03-02 10:00"]
    s.save(id=2, payer_id=1)
    assert [e.row_key for e in s.entries()] == ["1", "2", "4"]
    s.raw("UPDATE payer SET active = 0")
    s.at("2026-03-02 10:00")
    for entry in s.entries(status="pending"):
        s.run(entry)
    assert {entry.outcome for entry in s.entries()} == {"superseded"}


def test_what_a_row_does_not_meet_is_said_in_sql(shop: Callable[..., Shop]) -> None:
    s = shop()
    declare(s, is_open)
    s.save(id=1, at=TEN, until=TODAY)
    s.raw("UPDATE bill SET status = 'paid' WHERE id = 1")
    found = row_history(s.app, "models.Bill", "1", s.now, 5, 5)
    (line,) = found.parts[0].records
    assert line.notes == (
        "the next sync ends it: the filter is not met: bill.status IN ('late', 'open'), but `status` is 'paid'",
    )


def test_the_database_s_clock_is_a_warning_of_check(shop: Callable[..., Shop]) -> None:
    import sqlalchemy as sa

    s = shop()
    declare(s, lambda bill: bill.at > sa.func.now())
    (text,) = (t for t in s.app.warnings(s.now) if "func.now" in t)
    assert text.startswith("tasks.Task: func.now() is the clock of the database")


def test_the_fingerprint_stands_on_the_filter_s_text(shop: Callable[..., Shop]) -> None:
    """Declared tasks keep the text of their condition in `cfg.filter`."""
    s = shop(filter=OPEN)
    before = fingerprint(s.element("tasks.Task"))
    s.config(filter=OPEN.replace("late", "new"))
    assert fingerprint(s.element("tasks.Task")) != before


@pytest.mark.parametrize("make", [is_open, lambda bill: bill.at > now()])
def test_reading_a_condition_twice_gives_one_text(
    shop: Callable[..., Shop], make: Any
) -> None:
    s = shop()
    texts = {where.read(make(bills(s)), bills(s)).text for _ in range(3)}
    assert len(texts) == 1
