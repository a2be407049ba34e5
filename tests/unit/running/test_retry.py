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
from jittask_prefect.running.retry import Retried, retry_failed

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


def test_a_task_whose_run_prefect_has_forgotten_stays(shop: Make) -> None:
    s = shop()
    [run_id] = failed(s, 1)
    del s.api.all_runs[run_id]
    assert retry_failed(s.app, s.api) == Retried(gone=1)
    assert [entry.status for entry in s.entries()] == ["error"]


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
