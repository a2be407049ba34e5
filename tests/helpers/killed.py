"""Processes that are killed at a failpoint: a process finds its function by the name of a module, so not in a test."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from failpoints import arm

from jittask_prefect import App
from jittask_prefect.ledger import lease_time
from jittask_prefect.prefect_api.client import PrefectApi
from jittask_prefect.rows import sync
from jittask_prefect.running.lease import new_owner
from jittask_prefect.running.outcome import Run
from jittask_prefect.running.run import execute
from jittask_prefect.schedule import clock

NAME = "tasks.KillReminder"


def one_sync(
    folder: Path, url: str, now: datetime, point: str | None, nth: int
) -> None:
    """A process: one sync as of an instant, killed at a failpoint."""
    clock.now = lambda: now
    lease_time.use_clock_of_caller()
    app, api = App(folder), PrefectApi(url)
    if point:
        arm(point, nth, api)
    assert sync.run(app, api, now, new_owner(), clock=lambda: now)


def one_run(
    folder: Path, url: str, now: datetime, task: str, run: str, point: str | None
) -> None:
    """A process: one flow run, as worker and flow do it, killed at a failpoint."""
    clock.now = lambda: now
    lease_time.use_clock_of_caller()
    app, api = App(folder), PrefectApi(url)
    api.set_state(run, "RUNNING", force=True)
    if point:
        arm(point, 1, api)
    outcome = execute(
        app, NAME, task, Run(run, now), lambda: now, lost=lambda: os._exit(0)
    )
    kind = {"completed": "COMPLETED", "error": "FAILED", "ended": "CANCELLED"}[
        outcome.status
    ]
    api.set_state(run, kind, message=outcome.message, force=True)
