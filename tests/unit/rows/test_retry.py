"""Retry in the UI runs again what failed and nothing else; the record of what was done, or ended, stays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from shop import Shop, model_of, utc

from jittask_prefect.ledger import retries, transitions
from jittask_prefect.prefect_api.answers import OWN
from jittask_prefect.running.outcome import Run
from jittask_prefect.running.run import execute

Make = Callable[..., Shop]
TEN = datetime(2026, 3, 2, 10)
FAIL = """
CALLS = []
def customFunc(row):
    CALLS.append(row.id)
    row.count += 1
    if row.status == "bad":
        raise ValueError(f"row {row.id} is bad")
    return row.id
"""


def retry(s: Shop, run_id: str) -> dict[str, Any]:
    """Press Retry, and let a worker take the run up; the run."""
    s.app.module("tasks.Task", "inner").CALLS.clear()
    s.api.set_state(run_id, "SCHEDULED", force=True)
    s.work()
    return s.api.all_runs[run_id]


def calls(s: Shop) -> list[int]:
    return list(s.app.module("tasks.Task", "inner").CALLS)


def batch(make: Make, bad: tuple[int, ...], **keys: Any) -> tuple[Shop, str]:
    """Five rows in a batch, some of which fail; its run, which has ended."""
    s = make(inner=FAIL, dispatch="batch", **keys)
    for key in range(1, 6):
        s.save(id=key, at=TEN, status="bad" if key in bad else "open")
    s.sync()
    [run] = s.api.all_runs
    s.work("2026-03-02 10:00")
    return s, run


def test_of_a_batch_the_rows_that_failed_and_no_others(on: Make) -> None:
    s, run = batch(on, bad=(2, 4))
    assert s.api.all_runs[run]["state_type"] == "FAILED"
    s.save(id=2, status="mended")
    found = retry(s, run)
    assert sorted(calls(s)) == [2, 4]
    assert (found["state_type"], found["state"]["message"]) == (
        "FAILED",
        "2 rows: 1 done, 1 failed",
    )
    assert Counter(e.outcome for e in s.entries()) == {"completed": 4, "failed": 1}
    s.save(id=4, status="mended")
    found = retry(s, run)
    assert (calls(s), found["state_type"]) == ([4], "COMPLETED")
    assert {e.outcome for e in s.entries()} == {"completed"} and [
        s.row_count(k) for k in range(1, 6)
    ] == [1] * 5
    for minute in (1, 2):
        s.sync(f"2026-03-02 10:0{minute}")
    assert len(s.api.all_runs) == 1 and found["state_type"] == "COMPLETED"


def test_of_a_batch_in_one_attempt(shop: Make) -> None:
    s, run = batch(shop, bad=(2,), retries=2)
    assert [e.attempt for e in s.entries(row_key="2")] == [3]
    retry(s, run)
    assert calls(s) == [2] and [
        (e.attempt, e.status) for e in s.entries(row_key="2")
    ] == [(4, "error")]


def test_of_a_batch_whose_process_dies_before_a_row_begins(on: Make) -> None:
    """The run's table names the failures from before Retry; these rows go on in another run."""
    s, run = batch(on, bad=(2, 4))
    found = s.api.all_runs[run]
    s.api.set_state(run, "SCHEDULED", force=True)
    with s.app.engine().begin() as connection:
        retries.retry_batch(
            connection, s.app.name, "tasks.Task", utc("2026-03-02 10:00"), run
        )
    s.api._state(found, "CRASHED")
    for key in (2, 4):
        s.save(id=key, status="mended")
    s.sync("2026-03-02 10:01")
    assert {e.row_key for e in s.entries(status="pending")} == {"2", "4"}
    s.work("2026-03-02 10:02")
    assert {e.outcome for e in s.entries()} == {"completed"}
    assert len(s.api.all_runs) == 2


def test_of_a_batch_whose_slot_is_taken_in_another_run(shop: Make) -> None:
    s, run = batch(shop, bad=(2, 4), concurrency={"limit": 1})
    s.save(id=9, at=datetime(2026, 3, 2, 9, 59))
    [other] = s.entries(row_key="9")
    with s.app.engine().begin() as connection:
        assert transitions.claim(
            connection, other.task_id, "elsewhere", "elsewhere", s.now, 25
        )
    found = retry(s, run)
    assert calls(s) == [] and found["state_type"] == "CANCELLED"
    assert {e.row_key: e.queue for e in s.entries(status="pending")} == {
        "2": "waiting",
        "4": "waiting",
    }
    done = {
        "status": "completed",
        "outcome": "completed",
        "message": "",
        "result": None,
    }
    with s.app.engine().begin() as connection:
        assert transitions.finish(
            connection, other.task_id, "elsewhere", now=s.now, **done
        )
    s.sync("2026-03-02 10:01")
    s.work("2026-03-02 10:01")
    assert sorted(calls(s)) == [2, 4] and len(s.api.all_runs) == 2


def test_of_a_completed_batch_nothing_and_it_stays_completed(shop: Make) -> None:
    s, run = batch(shop, bad=())
    found = retry(s, run)
    assert calls(s) == [] and found["state"] == {
        "type": "COMPLETED", "name": "Completed", "message": "nothing ran: the rows of this run have ended before: 5 completed",
    }  # fmt: skip
    assert {e.outcome for e in s.entries()} == {"completed"}


def test_of_an_ended_batch_nothing_and_it_says_why(shop: Make) -> None:
    s = shop(inner=FAIL, dispatch="batch")
    s.save(id=1, at=TEN)
    s.sync()
    [run] = s.api.all_runs
    s.api.set_state(run, "CANCELLED", message="enough")
    s.sync("2026-03-02 10:00")
    found = retry(s, run)
    assert calls(s) == [] and found["state"] == {
        "type": "CANCELLED", "name": "Cancelled", "message": "not run: the rows of this run have ended before: 1 ended",
    }  # fmt: skip


def test_of_a_completed_row_nothing_and_its_run_stays_completed(shop: Make) -> None:
    s = shop(inner=FAIL, dispatch="row")
    s.save(id=1, at=TEN)
    s.sync()
    [run] = s.api.all_runs
    s.work("2026-03-02 10:00")
    before = s.entries()
    found = retry(s, run)
    assert calls(s) == [] and found["state"] == {
        "type": "COMPLETED", "name": "Completed", "message": "nothing ran: this run has completed the task before",
    }  # fmt: skip
    assert s.entries() == before and s.row(1).count == 1


def test_of_a_run_whose_task_another_run_has_completed_nothing_and_it_is_completed(
    shop: Make,
) -> None:
    s = shop(inner=FAIL, dispatch="row")
    s.save(id=1, at=TEN)
    s.sync()
    [run] = s.api.all_runs
    [task] = s.entries()
    s.now = utc("2026-03-02 10:00")
    assert s.run(task, run_id="another").status == "completed"
    found = retry(s, run)
    assert calls(s) == [] and found["state"] == {
        "type": "COMPLETED", "name": "Completed", "message": "nothing ran: the task was completed before",
    }  # fmt: skip
    assert OWN not in found.get("labels", {}) and s.row(1).count == 1


def test_of_a_row_that_failed_its_task(shop: Make) -> None:
    s = shop(inner=FAIL, dispatch="row", retries=1)
    s.save(id=1, at=TEN, status="bad")
    s.sync()
    [run] = s.api.all_runs
    s.work("2026-03-02 10:00")
    found = retry(s, run)
    assert (calls(s), found["state_type"]) == ([1], "FAILED")
    s.save(id=1, status="mended")
    assert (retry(s, run)["state_type"], s.row(1).count) == ("COMPLETED", 1)


@pytest.mark.parametrize("how", ["superseded", "cancelled"])
def test_of_an_ended_row_nothing_and_it_says_why(shop: Make, how: str) -> None:
    s = shop(inner=FAIL, dispatch="row")
    s.save(id=1, at=TEN)
    s.sync()
    [run] = s.api.all_runs
    if how == "superseded":
        s.save(id=1, at=None)
    else:
        s.api.set_state(run, "CANCELLED", message="enough")
    s.sync("2026-03-02 10:00")
    [ended] = s.entries()
    found = retry(s, run)
    assert calls(s) == [] and found["state_type"] == "CANCELLED"
    assert found["state"]["message"] == f"not run: the task is ended ({ended.message})"


def test_of_a_scheduled_run_what_failed_and_not_what_was_done(shop: Make) -> None:
    daily = {"startTime": "2026-03-01 10:00:00", "repeat": {"repeatType": "day"}}
    inner = "CALLS = []\nBAD = [1]\ndef customFunc():\n    CALLS.append(1)\n    assert not BAD\n    return len(CALLS)\n"
    about = {"type": "tasks.NormalType", "title": "Daily", "timerCfg": daily}
    s = shop(
        elements={
            "models/Bill": model_of(),
            "tasks/Daily": {"e.json": about, "inner.py": inner},
        }
    )
    s.at("2026-03-02 10:00")
    run, module = (
        Run("auto", utc("2026-03-02 10:00"), True),
        s.app.module("tasks.Daily", "inner"),
    )
    found = [execute(s.app, "tasks.Daily", None, run, lambda: s.now).status]
    module.BAD.clear()
    for _ in range(2):
        found.append(
            (outcome := execute(s.app, "tasks.Daily", None, run, lambda: s.now)).status
        )
    assert found == ["error", "completed", "completed"] and module.CALLS == [1, 1]
    assert (outcome.message, outcome.result) == (
        "nothing ran: this run has completed the task before",
        2,
    )
    assert [(e.status, e.attempt) for e in s.entries()] == [("completed", 2)]
