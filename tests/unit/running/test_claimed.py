"""A process that dies between claim and begin: the function has not begun, so the task waits again, without retries too."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from patience import PATIENCE
from shop import Shop, utc

from jittask_prefect.ledger import transitions
from jittask_prefect.running.attempt import Attempt
from jittask_prefect.running.outcome import Run
from jittask_prefect.running.run import execute, execute_batch

Make = Callable[..., Shop]
TEN, DUE, NAME = datetime(2026, 3, 2, 10), utc("2026-03-02 10:00"), "tasks.Task"


def killed(
    s: Shop, patch: pytest.MonkeyPatch, holder: Any, name: str, dispatch: str
) -> None:
    """Run the flow run in a process that dies where it calls a function."""
    [run_id] = s.api.all_runs
    [entry] = s.entries()
    run, now = Run(run_id, DUE), s.now

    def work() -> None:
        patch.setattr(holder, name, lambda *_args, **_keys: os._exit(9))
        if dispatch == "batch":
            execute_batch(s.app, NAME, DUE, run, lambda: now)
        execute(s.app, NAME, entry.task_id, run, lambda: now)

    s.app.engine().dispose()
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(60 * PATIENCE)
    assert process.exitcode == 9


@pytest.mark.parametrize("dispatch", ["row", "batch"])
@pytest.mark.parametrize(
    ("holder", "name", "after"),
    [
        (transitions, "begin", ("pending", 0, None)),
        (Attempt, "run", ("error", 1, "died")),
    ],
)
def test_a_process_that_dies_before_and_after_the_begin(
    shop: Make,
    url: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    dispatch: str,
    holder: Any,
    name: str,
    after: tuple[str, int, str | None],
) -> None:
    s = shop(dispatch=dispatch, app_json={"database": url("postgresql")})
    s.save(id=1, at=TEN)
    s.sync()
    s.at("2026-03-02 10:00")
    killed(s, monkeypatch, holder, name, dispatch)
    s.sync("2026-03-02 10:05")
    [entry] = s.entries()
    assert (entry.status, entry.attempt, entry.outcome) == after


def test_a_row_that_waits_for_a_place_is_not_claimed(
    shop: Make, monkeypatch: pytest.MonkeyPatch, url: Callable[[str], str]
) -> None:
    json = {"database": url("postgresql"), "maxConcurrency": 1}
    s = shop(dispatch="row", app_json=json)
    for key in (1, 2):
        s.save(id=key, at=TEN)
    s.sync()
    first, second = s.at("2026-03-02 10:00").entries()
    with s.app.engine().begin() as connection:
        about = (first.task_id, "elsewhere", str(first.flow_run_id), s.now, 25.0)
        assert transitions.claim(connection, *about)
    now, seen = s.now, list[tuple[str, int]]()

    def waits(_seconds: float) -> None:
        [entry] = s.entries(task_id=second.task_id)
        seen.append((entry.status, entry.attempt))

    run = Run(str(second.flow_run_id), DUE)
    execute(s.app, NAME, second.task_id, run, lambda: now, sleep=waits)
    assert set(seen) == {("pending", 0)}
