"""A plan in the ledger: supersede, forget marks, insert, mark. In another order a mark would be lost, or stand wrongly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from shop import Shop

from jittask_prefect.ledger import planned_rows
from jittask_prefect.ledger.planned_rows import KeptTimes
from jittask_prefect.rows.follow import apply_all
from jittask_prefect.rows.plan import Action

Make = Callable[..., Shop]
TEN, ELEVEN = datetime(2026, 3, 2, 10), datetime(2026, 3, 2, 11)
DUE = datetime(2026, 3, 2, 11, tzinfo=UTC)
STEPS = ("supersede", "forget_dates", "end_lives", "plan", "remember_dates")


def test_the_order_of_a_plan(shop: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def noted(name: str) -> Callable[..., None]:
        real = getattr(planned_rows, name)

        def call(*args: Any) -> None:
            order.append(name)
            real(*args)

        return call

    s = shop()
    for name in STEPS:
        monkeypatch.setattr(planned_rows, name, noted(name))
    with s.app.engine().begin() as connection:
        apply_all(connection, s.app.name, [], "models.Bill", s.now)
    assert order == list(STEPS)


def test_marks_are_forgotten_before_a_task_is_written_with_marks(shop: Make) -> None:
    """A task that is made, and a task that is known again, stand for the row's present dates; others do not."""
    s = shop()
    for key in (1, 2):
        s.save(id=key, at=TEN)
    first, second = s.entries()
    made = Action(
        "reschedule",
        "tasks.Task",
        "1",
        "new",
        DUE,
        "moved",
        nominal=DUE,
        anchor=DUE,
        generation=2,
        closes=(first.task_id,),
        times=KeptTimes(ELEVEN),
        again=True,
    )
    known = replace(made, action="skip", row="2", task_id=second.task_id, closes=())
    with s.app.engine().begin() as connection:
        apply_all(connection, s.app.name, [made, known], "models.Bill", s.now)
    marks = [(e.row_key, e.generation, e.status, e.start_value) for e in s.entries()]
    assert marks == [
        ("1", 1, "ended", None),
        ("2", 1, "pending", ELEVEN),
        ("1", 2, "pending", ELEVEN),
    ]


def test_tasks_that_wait_and_missed_tasks_are_written_together(shop: Make) -> None:
    """Whatever a task says of itself, all tasks of a piece are inserted by one statement, with the same columns."""
    s = shop()
    waiting = Action(
        "create",
        "tasks.Task",
        "1",
        "first",
        DUE,
        "due within the horizon",
        nominal=DUE,
        anchor=DUE,
        generation=1,
        times=KeptTimes(ELEVEN),
    )
    missed = replace(
        waiting, row="2", task_id="second", reason="missed", missed=True, times=None
    )
    level = replace(waiting, row="3", task_id="third", level="warning")
    with s.app.engine().begin() as connection:
        plan = [waiting, missed, level]
        apply_all(connection, s.app.name, plan, "models.Bill", s.now)
    found = [
        (e.task_id, e.status, e.outcome, e.message, e.start_value, e.level, e.dirty)
        for e in s.entries()
    ]
    assert sorted(found) == [
        ("first", "pending", None, "", ELEVEN, None, True),
        ("second", "ended", "missed", "missed", None, None, False),
        ("third", "pending", None, "", ELEVEN, "warning", True),
    ]
