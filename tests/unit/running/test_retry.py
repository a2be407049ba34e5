"""Failed tasks run again in bulk: their flow runs wait again, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from shop import Shop
from sqlalchemy import update

from jittask_prefect.errors import UnknownElement
from jittask_prefect.ledger import transitions
from jittask_prefect.ledger.tables import entries
from jittask_prefect.running.outcome import Run
from jittask_prefect.running.retry import Retried, retry_failed
from jittask_prefect.running.run import execute

Make = Callable[..., Shop]


def failed(s: Shop, rows: int) -> list[str]:
    """The flow runs of some rows whose tasks failed, in the order of the rows."""
    for row in range(1, rows + 1):
        s.save(id=row, at=datetime(2026, 3, 2, 10, row))
    s.sync()
    found = sorted(s.entries(), key=lambda entry: entry.due)
    for entry in found:
        run_id = str(entry.flow_run_id)
        with s.app.engine().begin() as connection:
            about = (entry.task_id, "owner", run_id, s.now, 25.0)
            assert transitions.claim(connection, *about)
            assert transitions.finish(
                connection,
                entry.task_id,
                "owner",
                status="error",
                outcome="failed",
                message="error: ValueError",
                result=None,
                now=s.now + timedelta(minutes=entry.due.minute),
            )
        s.api.set_state(run_id, "FAILED")
    return [str(entry.flow_run_id) for entry in found]


def states(s: Shop, runs: list[str]) -> list[str]:
    found = [s.api.run(run_id) for run_id in runs]
    return [run.state_name if run else "missing" for run in found]


def test_all_failed_tasks_wait_again_and_a_second_call_finds_them_waiting(
    shop: Make,
) -> None:
    s = shop()
    runs = failed(s, 2)
    name = s.entries()[0].template
    assert retry_failed(s.app, s.api, name) == Retried(tasks=2, runs=2)
    assert states(s, runs) == ["AwaitingRetry", "AwaitingRetry"]
    assert {entry.status for entry in s.entries()} == {"error"}
    assert retry_failed(s.app, s.api) == Retried(open=2)


def test_since_leaves_earlier_failures_alone(shop: Make) -> None:
    s = shop()
    first, second = failed(s, 2)
    since = s.now + timedelta(minutes=2)
    assert retry_failed(s.app, s.api, since=since) == Retried(tasks=1, runs=1)
    assert states(s, [first, second]) == ["Failed", "AwaitingRetry"]


def test_a_task_whose_run_prefect_has_no_longer_gets_another(shop: Make) -> None:
    s = shop(missed={"policy": "none"})
    [run_id] = failed(s, 1)
    s.api.delete_run(run_id)
    assert retry_failed(s.app, s.api) == Retried(lost=1)
    assert retry_failed(s.app, s.api) == Retried()
    s.sync("2026-03-02 12:00")
    assert [outcome.status for outcome in s.work()] == ["completed"]
    assert s.tasks() == ["1 03-02 10:01 #1 completed"] and s.row_count(1) == 1
    [entry] = s.entries()
    assert entry.attempt == 2 and entry.flow_run_id != run_id


def test_all_rows_of_a_batch_that_prefect_has_no_longer(shop: Make) -> None:
    """One of three rows was completed: the two others share a new batch."""
    inner = "def customFunc(row):\n    row.count += 1\n    if row.status == 'bad': raise ValueError\n"
    s = shop(inner=inner, dispatch="batch")
    for key in (1, 2, 3):
        status = "open" if key == 1 else "bad"
        s.save(id=key, at=datetime(2026, 3, 2, 9, 0), status=status)
    s.sync()
    s.work("2026-03-02 09:00")
    s.raw("UPDATE bill SET status = 'good'")
    [run_id] = s.api.all_runs
    s.api.delete_run(run_id)
    assert retry_failed(s.app, s.api, "tasks.Task") == Retried(lost=2)
    s.sync("2026-03-02 09:10")
    assert [outcome.status for outcome in s.work()] == ["completed", "completed"]
    assert [s.row_count(key) for key in (1, 2, 3)] == [1, 1, 1]


def test_a_task_of_a_schedule_whose_run_is_gone(shop: Make) -> None:
    inner = "tries = []\ndef customFunc():\n    tries.append(1)\n    if len(tries) == 1: raise ValueError\n    return 'done'\n"
    timer = {"startTime": "2026-01-01 08:00:00", "repeat": {"repeatType": "day"}}
    about = {"type": "tasks.NormalType", "title": "Daily", "timerCfg": timer}
    s = shop(more={"tasks/Daily": {"e.json": about, "inner.py": inner}})
    run = Run("a-run-of-the-schedule", s.now, auto=True)
    failed = execute(s.app, "tasks.Daily", None, run, lambda: s.now)
    assert failed.status == "error"
    assert retry_failed(s.app, s.api) == Retried(lost=1)
    s.sync("2026-03-02 12:00")
    assert [outcome.result for outcome in s.work()] == ["done"]


def test_a_batch_counts_all_its_failed_rows(shop: Make) -> None:
    """A batch runs the rows again that failed in it, also those that failed before `since`."""
    s = shop()
    first, second = failed(s, 2)
    with s.app.engine().begin() as connection:
        connection.execute(
            update(entries)
            .where(entries.c.flow_run_id == second)
            .values(flow_run_id=first)
        )
    since = s.now + timedelta(minutes=2)
    assert retry_failed(s.app, s.api, since=since) == Retried(tasks=2, runs=1)
    assert states(s, [first]) == ["AwaitingRetry"]


def test_an_unknown_template(shop: Make) -> None:
    s = shop()
    with pytest.raises(UnknownElement):
        retry_failed(s.app, s.api, "tasks.None")
