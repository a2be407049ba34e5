"""`rate` in an execution: the wait stands before the row is read, holds the claim, and is no part of the time limit."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from patience import PATIENCE
from shop import Shop, utc

from jittask_prefect.ledger import transitions
from jittask_prefect.running import rated
from jittask_prefect.running.outcome import Run, Summary
from jittask_prefect.running.run import execute_batch

Make = Callable[..., Shop]
TEN = datetime(2026, 3, 2, 10)


def ready(
    make: Make, rows: int, *, url: str = "sqlite:///test.db", **keys: Any
) -> Shop:
    s = make(**{"dispatch": "batch", "app_json": {"database": url}, **keys})
    for key in range(1, rows + 1):
        s.save(id=key, at=TEN)
    s.sync()
    return s.at("2026-03-02 10:00")


def batch(s: Shop, sleep: Callable[[float], None], **keys: Any) -> Summary:
    [run_id] = s.api.all_runs
    due, now = utc("2026-03-02 10:00"), s.now
    about = (s.app, "tasks.Task", due, Run(run_id, due), lambda: now)
    return execute_batch(*about, **{"sleep": sleep, **keys})


def waits(slept: list[float]) -> float:
    return round(sum(slept), 3)


@pytest.mark.parametrize("parallel", [1, 4])
def test_each_row_waits_for_its_begin(shop: Make, parallel: int) -> None:
    """By a clock that stands still the waits are 0, 2, 4, … seconds."""
    s, slept = ready(shop, 5, rate="30/minute", parallel=parallel), list[float]()
    assert str(batch(s, slept.append)) == "5 rows: 5 done"
    assert waits(slept) == 0 + 2 + 4 + 6 + 8
    assert max(slept) <= rated.LOOK_AT_LIST_SECONDS


def test_an_attempt_counts_as_a_begin(shop: Make) -> None:
    fails = "def customFunc(row):\n    raise ValueError('no')\n"
    s = ready(shop, 1, rate="60/minute", retries=2, inner=fails)
    slept: list[float] = []
    assert len(batch(s, slept.append).failed) == 1
    assert waits(slept) == 0 + 1 + 2


def test_the_row_is_read_after_the_wait(shop: Make) -> None:
    s = ready(shop, 2, rate="1/hour")
    moved: list[float] = []

    def sleep(seconds: float) -> None:
        if not moved:
            s.raw("UPDATE bill SET at = '2026-03-05 10:00:00.000000' WHERE id = 2")
        moved.append(seconds)

    summary = batch(s, sleep)
    assert [outcome.status for _, outcome in summary.tasks] == ["completed", "ended"]
    assert (s.row_count(1), s.row_count(2)) == (1, 0)
    assert waits(moved) == 3600


def test_the_wait_is_no_part_of_the_time_limit(shop: Make) -> None:
    s = ready(shop, 2, rate="60/minute", timeout=1.0)
    pause = threading.Event()
    assert (
        str(batch(s, lambda seconds: pause.wait(1.2 * seconds) and None))
        == "2 rows: 2 done"
    )


def test_a_scheduled_task_waits_too(shop: Make) -> None:
    inner = "def customFunc():\n    return 1\n"
    timer = {"startTime": "2026-03-02 10:00:00"}
    task = {
        "type": "tasks.NormalType",
        "title": "T",
        "timerCfg": timer,
        "rate": "1/minute",
    }
    s = shop(elements={"tasks/Task": {"e.json": task, "inner.py": inner}})
    s.at("2026-03-02 10:00")
    from jittask_prefect.running.run import execute

    slept: list[float] = []
    for number in range(2):
        run, now = Run(f"run-{number}", s.now), s.now
        outcome = execute(
            s.app, "tasks.Task", None, run, lambda now=now: now, sleep=slept.append
        )
        assert outcome.status == "completed"
    assert waits(slept) == 60


def test_a_late_process_reserves_anew(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was stopped for longer than a second would begin beside the begins of others."""
    monkeypatch.setattr(rated, "LATE_SECONDS", 0.2)
    s, slept, pause = ready(shop, 2, rate="60/minute"), list[float](), threading.Event()

    def sleep(seconds: float) -> None:
        if len(slept) == 0:
            pause.wait(1.5)
        slept.append(seconds)

    assert str(batch(s, sleep)) == "2 rows: 2 done"
    assert waits(slept) == 1 + 2


def test_rows_that_wait_are_given_back_where_the_process_must_leave(
    shop: Make, url: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row at work is ended; the rows that wait for their begins have not begun, and go on in another run."""
    from jittask_prefect.running import lease

    monkeypatch.setattr(lease, "LOOK_SECONDS", 0.1)
    at_work = (
        "import threading\nGO, BEGUN, WHO = threading.Event(), threading.Event(), []\n"
        "def customFunc(row):\n    WHO.append(row.id)\n    BEGUN.set()\n    GO.wait(60)\n"
    )
    s = ready(shop, 6, url=url("postgresql"), rate="1/day", parallel=3, inner=at_work)
    inner, left, pause = (
        s.app.module("tasks.Task", "inner"),
        threading.Event(),
        threading.Event(),
    )
    thread = threading.Thread(
        target=lambda: batch(s, lambda _: pause.wait(0.05) and None, lost=left.set),
        daemon=True,
    )
    thread.start()
    assert inner.BEGUN.wait(20 * PATIENCE)
    while len(s.entries(status="executing")) < 3:
        pause.wait(0.05)
    [first] = [
        e for e in s.entries(status="executing") if e.row_key == str(inner.WHO[0])
    ]
    with s.app.engine().begin() as connection:
        about: dict[str, Any] = {"outcome": "forced", "message": "end", "now": s.now}
        assert transitions.end(
            connection, first.task_id, **about, within=("executing",)
        )
    assert left.wait(20 * PATIENCE)
    inner.GO.set()
    thread.join(20 * PATIENCE)
    assert sorted(e.status for e in s.entries()) == ["ended"] + ["pending"] * 5
    assert {e.attempt for e in s.entries(status="pending")} == {0}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
@pytest.mark.parametrize("dispatch", ["row", "batch"])
def test_a_process_that_dies_in_the_wait_costs_no_attempt(
    shop: Make, url: Callable[[str], str], kind: str, dispatch: str
) -> None:
    """The first row is done, the second one is claimed and waits: its function has not begun, so it waits again."""
    s = ready(shop, 2, url=url(kind), dispatch=dispatch, rate="1/hour")

    def dies(seconds: float) -> None:
        if seconds > 0:
            os._exit(9)

    process = multiprocessing.get_context("fork").Process(
        target=lambda: works(s, dispatch, dies)
    )
    s.app.engine().dispose()
    process.start()
    process.join(60 * PATIENCE)
    assert process.exitcode == 9
    [dead] = s.entries(status="executing")
    assert (dead.attempt, dead.progress) == (1, "claimed")
    s.sync("2026-03-02 10:05")
    [again] = s.entries(task_id=dead.task_id)
    assert (again.status, again.attempt, again.outcome) == ("pending", 0, None)
    assert again.flow_run_id != dead.flow_run_id


def works(s: Shop, dispatch: str, sleep: Callable[[float], None]) -> None:
    if dispatch == "batch":
        batch(s, sleep)
    for entry in s.entries():
        s.run(entry, sleep=sleep, run_id=str(entry.flow_run_id))
