"""Executors: several on one list of calls, each with an owner, a lease and a connection of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime

import pytest
from shop import Shop, utc

from jittask_prefect.running.calls import Call, Work
from jittask_prefect.running.executor import work_off
from jittask_prefect.running.outcome import Run, Summary
from jittask_prefect.running.rows_of_instant import RowsOfInstant

Make = Callable[..., Shop]
TEN = datetime(2026, 3, 2, 10)
TWO_AT_ONCE = """
import threading
BOTH = threading.Barrier(2)
def customFunc(row):
    if row.id <= 2:
        BOTH.wait(20)
    row.count += 1
"""


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_several_executors_work_off_one_list(
    shop: Make, url: Callable[[str], str], kind: str
) -> None:
    """Two calls are at work at once, and each row is done once."""
    s = shop(inner=TWO_AT_ONCE, dispatch="batch", app_json={"database": url(kind)})
    for key in range(1, 31):
        s.save(id=key, at=TEN)
    s.sync()
    [run_id] = s.api.all_runs
    s.at("2026-03-02 10:00")
    due, now = utc("2026-03-02 10:00"), s.now
    template, run = s.app.template("tasks.Task"), Run(run_id, due)
    summary = Summary()
    work = Work(
        s.app, "", template, run, lambda: now, lambda _seconds: None, summary, None
    )
    calls = RowsOfInstant(work, due)
    threads = [
        threading.Thread(target=work_off, args=(work, calls)) for _executor in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert str(summary) == "30 rows: 30 done"
    assert [s.row_count(key) for key in range(1, 31)] == [1] * 30
    assert {(e.status, e.attempt) for e in s.entries()} == {("completed", 1)}


def test_a_call_has_the_attempt_of_its_tasks(shop: Make) -> None:
    s = shop()
    s.save(id=1, at=TEN)
    s.sync()
    [task] = s.entries()
    call = Call([task])
    assert (call.ids, call.attempt) == ([task.task_id], 0)
    assert call.name == f"jittask {task.task_id}"
