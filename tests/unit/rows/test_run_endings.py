"""States that somebody set in Prefect are put right within two syncs, with a word in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from shop import Shop

from jittask_prefect.ledger import transitions

Make = Callable[..., Shop]
FAILS = "def customFunc(row):\n    row.count += 1\n    if row.status == 'bad': raise ValueError('bad')\n"


@pytest.fixture
def s(shop: Make) -> Shop:
    """Rows 1 (which is done) and 2 (which fails), and 3, which is due in two hours."""
    made = shop(inner=FAILS)
    made.save(id=1, at=datetime(2026, 3, 2, 9, 0))
    made.save(id=2, at=datetime(2026, 3, 2, 9, 0), status="bad")
    made.save(id=3, at=datetime(2026, 3, 2, 11, 0))
    made.sync()
    made.work("2026-03-02 09:00")
    return made


def run_of(s: Shop, row: str) -> str:
    [entry] = s.entries(row_key=row)
    return str(entry.flow_run_id)


def change(s: Shop, run_id: str, kind: str, name: str | None = None) -> None:
    """Somebody sets a state in Prefect, now."""
    s.api.set_state(run_id, kind, name=name, force=True)
    s.api.all_runs[run_id]["state"]["timestamp"] = s.now.isoformat()


def two_syncs(s: Shop) -> None:
    for _ in range(2):
        s.now += timedelta(minutes=1)
        s.sync()


def state(s: Shop, run_id: str) -> str:
    run = s.api.run(run_id)
    return run.state_type if run else "MISSING"


@pytest.mark.parametrize(("row", "right"), [("1", "COMPLETED"), ("2", "FAILED")])
@pytest.mark.parametrize("kind", ["COMPLETED", "FAILED", "CANCELLED", "CRASHED"])
def test_a_changed_state_is_that_of_its_task_again(
    s: Shop, row: str, right: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = run_of(s, row)
    s.now += timedelta(minutes=1)
    change(s, run_id, kind)
    with caplog.at_level(logging.WARNING, "jittask"):
        two_syncs(s)
    # A failed task's run may be called Crashed: both say that it failed.
    also = ("FAILED", "CRASHED") if right == "FAILED" else (right,)
    assert state(s, run_id) in also
    said = f"it is {right} again, as its task is" in caplog.text
    assert said is (kind not in also)
    assert s.work() == [] and s.row_count(int(row)) <= 1


def test_a_cancelled_task_whose_run_somebody_calls_completed(s: Shop) -> None:
    [entry] = s.entries(row_key="3")
    run_id = run_of(s, "3")
    with s.app.engine().begin() as connection:
        about = (entry.task_id, "owner", run_id, s.now, 25.0)
        assert transitions.claim(connection, *about)
    with s.app.engine().begin() as connection:
        assert transitions.end(
            connection,
            entry.task_id,
            outcome="forced",
            message="ended: forced end",
            now=s.now,
            within=("executing",),
            dirty=False,
        )
    change(s, run_id, "COMPLETED")
    two_syncs(s)
    assert state(s, run_id) == "CANCELLED"


def test_a_run_that_is_paused_before_its_task_begins_gets_another(
    s: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = run_of(s, "3")
    change(s, run_id, "PAUSED", "Suspended")
    with caplog.at_level(logging.WARNING, "jittask"):
        two_syncs(s)
    assert state(s, run_id) == "CANCELLED"
    assert "Prefect has the run as Suspended" in caplog.text
    assert s.work("2026-03-02 10:30") == []  # not before it is due
    assert [o.status for o in s.work("2026-03-02 11:00")] == ["completed"]


def test_a_run_that_is_paused_while_its_function_works_is_running(s: Shop) -> None:
    [entry] = s.entries(row_key="3")
    run_id = run_of(s, "3")
    s.at("2026-03-02 11:00")
    with s.app.engine().begin() as connection:
        about = (entry.task_id, "owner", run_id, s.now, 600.0)
        assert transitions.claim(connection, *about)
    change(s, run_id, "PAUSED", "Suspended")
    two_syncs(s)
    assert state(s, run_id) == "RUNNING"


@pytest.mark.parametrize(("row", "right"), [("1", "COMPLETED"), ("2", "FAILED")])
def test_a_run_that_is_paused_and_whose_task_has_ended(
    s: Shop, row: str, right: str
) -> None:
    run_id = run_of(s, row)
    change(s, run_id, "PAUSED", "Suspended")
    two_syncs(s)
    assert state(s, run_id) == right


def test_a_deleted_run_of_a_task_that_waits(
    s: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    s.api.delete_run(run_of(s, "3"))
    with caplog.at_level(logging.WARNING, "jittask"):
        two_syncs(s)
    assert "tasks.Task 3: its flow run was deleted in Prefect" in caplog.text
    assert [o.status for o in s.work("2026-03-02 11:00")] == ["completed"]


def test_a_deleted_run_of_a_batch_is_said_once(
    shop: Make, caplog: pytest.LogCaptureFixture
) -> None:
    s = shop(dispatch="batch")
    for key in (1, 2, 3):
        s.save(id=key, at=datetime(2026, 3, 2, 11, 0))
    s.sync()
    [run_id] = s.api.all_runs
    s.api.delete_run(run_id)
    with caplog.at_level(logging.WARNING, "jittask"):
        two_syncs(s)
    said = [text for text in caplog.messages if "deleted in Prefect" in text]
    assert said == [
        "tasks.Task batch 1: its flow run was deleted in Prefect; another one follows"
    ]
    assert [o.status for o in s.work("2026-03-02 11:00")] == ["completed"] * 3


@pytest.mark.parametrize("row", ["1", "2"])
def test_a_deleted_run_of_a_task_that_has_ended(s: Shop, row: str) -> None:
    before = s.tasks(row_key=row)
    s.api.delete_run(run_of(s, row))
    two_syncs(s)
    assert s.tasks(row_key=row) == before


@pytest.mark.parametrize("kind", ["FAILED", "CANCELLED", "CRASHED"])
def test_a_changed_state_of_a_batch(shop: Make, kind: str) -> None:
    s = shop(dispatch="batch")
    for key in (1, 2):
        s.save(id=key, at=datetime(2026, 3, 2, 9, 0))
    s.sync()
    s.work("2026-03-02 09:00")
    [run_id] = s.api.all_runs
    s.now += timedelta(minutes=1)
    change(s, run_id, kind)
    two_syncs(s)
    assert state(s, run_id) == "COMPLETED"
