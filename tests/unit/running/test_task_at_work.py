"""`app.task` in a function and in the code that it calls; `app.calendar()` is the calendar of that task there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import pytest
from shop import Shop, model_of, rows_task

from jittask_prefect.running.trial import run_here

Make = Callable[..., Shop]
NAMES = ["taskId", "fullName", "dueTime", "nominalTime", "level", "attempt"]
ABOUT = f"""
def told():
    return {{name: str(getattr(app.task, name)) for name in {NAMES}}}
"""
ROW = ABOUT + "def customFunc(row):\n    return told()\n"
ASYNC = (
    ABOUT
    + "import asyncio\nasync def customFunc(row):\n    await asyncio.sleep(0)\n    return told()\n"
)


def about(s: Shop, number: int = 0) -> Any:
    return s.entries()[number].returned_value


@pytest.mark.parametrize("inner", [ROW, ASYNC], ids=["function", "coroutine"])
@pytest.mark.parametrize(
    "keys", [{"dispatch": "row"}, {"dispatch": "batch", "parallel": 2}], ids=str
)
def test_a_row_task_knows_its_due_time_before_and_after_the_holiday(
    shop: Make, inner: str, keys: dict[str, Any]
) -> None:
    # Saturday 7 March moves to Monday the 9th.
    s = shop("day", workdaysOnly=1, inner=inner, app_json={"horizon": 240}, **keys)
    s.save(id=1, day=date(2026, 3, 7))
    s.save(id=2, day=date(2026, 3, 9))
    s.sync()
    s.work("2026-03-09 00:00")
    for entry in s.entries():
        assert entry.returned_value == {
            "taskId": entry.task_id, "fullName": "tasks.Task", "dueTime": "2026-03-09 00:00:00+00:00",
            "nominalTime": f"2026-03-0{7 if entry.row_key == '1' else 9} 00:00:00+00:00",
            "level": "None", "attempt": "1",
        }  # fmt: skip


def test_each_attempt_has_its_number(shop: Make) -> None:
    inner = "seen = []\ndef customFunc(row):\n    seen.append(app.task.attempt)\n    assert len(seen) == 3\n    return seen\n"
    s = shop(inner=inner, retries=2)
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.sync()
    s.work("2026-03-02 10:00")
    assert about(s) == [1, 2, 3]


def test_outside_a_function_there_is_none(shop: Make) -> None:
    s = shop(inner=ROW)
    assert s.app.task is None
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    found = run_here(s.app, "tasks.Task", "1", s.now, dry=True)["result"]
    assert (found["taskId"], found["fullName"], found["attempt"]) == (
        "here",
        "tasks.Task",
        "1",
    )
    assert s.app.task is None


def test_the_calendar_without_a_name_is_that_of_the_task_at_work(shop: Make) -> None:
    """6 January is a holiday in Bavaria, and none in Berlin; the office is shut on the 6th and the 7th."""
    asks = "from datetime import date\ndef customFunc(row):\n    return str(app.calendar().nextWorkday(date(2026, 1, 5)))\n"
    own = {
        "calendar": "office",
        "calendars": {"office": {"closed": ["2026-01-06/2026-01-07"]}},
    }
    elements = {
        "models/Bill": model_of(),
        "tasks/Bavaria": rows_task("at", inner=asks, calendar="DE-BY"),
        "tasks/Berlin": rows_task("at", inner=asks, calendar="DE-BE"),
        "tasks/Own": rows_task("at", inner=asks),
    }
    s = shop(elements=elements, app_json=own)
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.sync()
    s.work("2026-03-02 10:00")
    found = {e.template: e.returned_value for e in s.entries()}
    assert {name: found[f"tasks.{name}"] for name in ("Bavaria", "Berlin", "Own")} == {
        "Bavaria": "2026-01-07", "Berlin": "2026-01-06", "Own": "2026-01-08",
    }  # fmt: skip
    assert repr(s.app.calendar()) == "<working days of own calendar>"
    assert s.app.calendar("DE-BY").isWorkday(date(2026, 1, 6)) is False
