"""Cancel in Prefect closes a task, whatever reason is given; what the ledger ended itself bears a label."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest
from shop import Shop

from jittask_prefect.ledger import transitions
from jittask_prefect.prefect_api.answers import OWN

Make = Callable[..., Shop]
TEN = datetime(2026, 3, 2, 10)
REASONS = [
    "", "by hand", "ended: wrong customer", "missed: too late anyway", "not run: stop it", "superseded: by hand",
    "ended: forced end", "ended: the execution is no longer this worker's",
]  # fmt: skip


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("dispatch", ["row", "batch"])
def test_cancel_closes_whatever_the_reason(
    shop: Make, dispatch: str, reason: str
) -> None:
    s = shop(dispatch=dispatch)
    s.save(id=1, at=TEN)
    s.sync()
    [run] = s.api.all_runs
    s.api.set_state(run, "CANCELLED", message=reason)
    for minute in (1, 2):
        s.sync(f"2026-03-02 08:0{minute}")
    assert s.tasks() == ["1 03-02 10:00 #1 forced"] and len(s.api.all_runs) == 1
    assert s.work("2026-03-02 10:00") == [] and s.row(1).count == 0


@pytest.mark.parametrize("dispatch", ["row", "batch"])
@pytest.mark.parametrize("state", ["CANCELLED", "CANCELLING"])
@pytest.mark.parametrize("retries", [0, 3])
def test_cancel_closes_though_the_worker_died(
    shop: Make, retries: int, state: str, dispatch: str
) -> None:
    s = shop(dispatch=dispatch, retries=retries)
    s.save(id=1, at=TEN)
    s.sync()
    [run] = s.api.all_runs
    s.at("2026-03-02 10:00")
    with s.app.engine().begin() as connection:
        assert transitions.claim(
            connection, s.entries()[0].task_id, "dead:1:x", run, s.now, 25
        )
    s.api._state(s.api.all_runs[run], state, None, "ended: enough")
    s.api.all_runs[run]["state"]["timestamp"] = s.now.isoformat()
    for minute in (1, 2):
        s.sync(f"2026-03-02 10:0{minute}")
    assert s.tasks() == ["1 03-02 10:00 #1 forced"] and len(s.api.all_runs) == 1
    assert s.api.all_runs[run]["state_type"] == "CANCELLED"


@pytest.mark.parametrize("dispatch", ["row", "batch"])
def test_a_run_that_is_tried_again_may_be_cancelled_by_a_person(
    shop: Make, dispatch: str
) -> None:
    """A run that gave up bears a label; the flow empties it when somebody presses Retry."""
    s = shop(dispatch=dispatch)
    s.save(id=1, at=TEN)
    s.sync()
    [run] = s.api.all_runs
    for reason in ("broken", ""):
        s.api.mark(run, reason)
    s.api.set_state(run, "CANCELLED")
    s.sync("2026-03-02 08:01")
    assert s.tasks() == ["1 03-02 10:00 #1 forced"] and len(s.api.all_runs) == 1


def test_what_the_ledger_ends_itself_is_labelled_and_what_a_person_ends_is_not(
    shop: Make,
) -> None:
    s = shop(dispatch="row")
    for key in (1, 2):
        s.save(id=key, at=TEN)
    s.sync()
    first, second = (str(e.flow_run_id) for e in s.entries())
    s.save(id=1, at=None)
    s.element("services.TaskSvc").forcedEnd(s.entries(row_key="2")[0].task_id)
    s.sync("2026-03-02 08:01")
    assert {r["state_type"] for r in s.api.all_runs.values()} == {"CANCELLED"}
    assert s.api.all_runs[first]["labels"] == {
        OWN: "superseded"
    } and OWN not in s.api.all_runs[second].get("labels", {})


def test_a_run_that_failed_by_an_exception_of_ours_is_no_failure_of_the_task(
    shop: Make,
) -> None:
    """The reason may read like a function's error: only the label counts."""
    s = shop(dispatch="row")
    s.save(id=1, at=TEN)
    s.sync()
    [run] = s.api.all_runs
    s.api.all_runs[run]["start_time"] = "2026-03-02T10:00:00+00:00"
    s.api.mark(run, "exception")
    s.api.set_state(run, "FAILED", message="error: the database is away")
    s.sync("2026-03-02 10:00:30")
    assert s.tasks() == ["1 03-02 10:00 #1 pending"] and len(s.api.all_runs) == 2
