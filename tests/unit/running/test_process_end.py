"""The end of an execution from outside: whose clock says that a process of another host is gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from shop import Shop, utc

from jittask_prefect.errors import JittaskError
from jittask_prefect.ledger import lease_time
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.running import process_end
from jittask_prefect.running.process_end import await_gone
from jittask_prefect.schedule import clock

Make = Callable[..., Shop]
AHEAD = timedelta(seconds=60)


def executing(s: Shop, until: datetime) -> Entry:
    """A task that a process of another host executes."""
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.sync("2026-03-02 10:00")
    [task] = s.entries()
    mine = {"owner": "elsewhere:1:1", "lease_until": until, "started": s.now}
    s.api.set_state(str(task.flow_run_id), "RUNNING")
    return replace(task, status="executing", **mine)


def wait(s: Shop, task: Entry, now: datetime) -> None:
    await_gone(s.app, "", s.api, task, lambda: now)


def test_the_databases_clock_says_whether_the_lease_holds(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host whose clock is ahead still waits for the process; a host whose clock is behind does not."""
    real = clock.now()
    monkeypatch.setattr(process_end, "END_SECONDS", 0.5)
    s = shop()
    task = executing(s, real + AHEAD / 2)
    lease_time.use_clock_of_caller(False)
    try:
        with pytest.raises(JittaskError, match="was still there"):
            wait(s, task, real + AHEAD)
        wait(s, replace(task, lease_until=real - AHEAD), real - 2 * AHEAD)
    finally:
        lease_time.use_clock_of_caller()


def test_tests_set_the_callers_clock(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_end, "END_SECONDS", 0.5)
    s = shop()
    task = executing(s, utc("2026-03-02 10:00") + timedelta(seconds=25))
    with pytest.raises(JittaskError, match="was still there"):
        wait(s, task, s.now)
    wait(s, task, s.now + AHEAD)
    assert s.api.all_runs[str(task.flow_run_id)]["state_type"] == "CANCELLED"
