"""A paused app begins no occurrence, whatever flow runs Prefect has; the end of the pause brings them back by `missed`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from shop import Shop, model_of, rows_task, utc

from jittask_prefect.deploying.renew import renew
from jittask_prefect.ledger import pause
from jittask_prefect.ledger.rate import reserve
from jittask_prefect.ledger.tables import entries
from jittask_prefect.running.outcome import Run
from jittask_prefect.running.pause_watch import PauseWatch
from jittask_prefect.running.run import execute, execute_batch
from jittask_prefect.schedule.rate import read_rate

Make = Callable[..., Shop]
QUEUED = "not run: queued: the app is paused, until `jittask resume`"
DAILY: dict[str, Any] = {
    "e.json": {
        "type": "tasks.NormalType",
        "title": "Daily",
        "timerCfg": {
            "startTime": "2026-01-01 09:00:00",
            "repeat": {"repeatType": "day"},
        },
    },
    "inner.py": "def customFunc():\n    return 'done'\n",
}


@pytest.fixture(autouse=True)
def looks_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch looks once a second, and a test is faster."""
    monkeypatch.setattr("jittask_prefect.running.pause_watch.LOOK_SECONDS", 0.0)


def paused(s: Shop) -> Shop:
    assert pause.pause(s.app, s.now) == s.now
    return s


def test_a_pause_is_once_and_ends_once(shop: Make) -> None:
    s = paused(shop())
    later = s.now + timedelta(hours=1)
    assert pause.pause(s.app, later) == s.now
    assert pause.paused_since(s.app) == s.now
    assert pause.resume(s.app) == s.now
    assert pause.resume(s.app) is None and pause.paused_since(s.app) is None


def test_a_row_whose_run_was_there_waits_and_runs_after_the_pause(shop: Make) -> None:
    s = shop(missed={"policy": "all"})
    s.save(id=1, at=datetime(2026, 3, 2, 9, 0))
    s.sync()
    paused(s)
    [outcome] = s.work("2026-03-02 09:00")
    assert (outcome.status, outcome.message) == ("ended", QUEUED)
    assert s.tasks() == ["1 03-02 09:00 #1 pending"]
    s.sync("2026-03-02 09:01")
    assert s.work("2026-03-02 09:05") == []
    pause.resume(s.app)
    s.sync("2026-03-02 10:00")
    assert [o.status for o in s.work()] == ["completed"]
    assert s.row_count(1) == 1


def test_no_run_is_made_for_rows_of_a_paused_app(shop: Make) -> None:
    s = paused(shop())
    s.save(id=1, at=datetime(2026, 3, 2, 9, 0))
    s.sync()
    assert s.api.all_runs == {} and s.tasks() == ["1 03-02 09:00 #1 pending"]
    pause.resume(s.app)
    s.sync()
    assert len(s.api.all_runs) == 1


@pytest.mark.parametrize(("policy", "left"), [("all", "completed"), ("none", "missed")])
def test_missed_decides_after_the_pause(shop: Make, policy: str, left: str) -> None:
    s = paused(shop(missed={"policy": policy}))
    s.save(id=1, at=datetime(2026, 3, 2, 9, 0))
    s.sync("2026-03-02 10:00")
    pause.resume(s.app)
    s.sync("2026-03-02 11:00")
    s.work()
    assert s.tasks() == [f"1 03-02 09:00 #1 {left}"]


def test_a_batch_stops_after_the_row_at_work(shop: Make) -> None:
    """The pause comes while the second of 25 rows is at work: the other 23 wait."""
    inner = (
        "from jittask_prefect.ledger import pause\n"
        "from jittask_prefect.schedule import clock\n"
        "def customFunc(row):\n"
        "    row.count += 1\n"
        "    if row.id == 10:\n"
        "        pause.pause(app, clock.now())\n"
    )
    s = shop(inner=inner, missed={"policy": "all"})
    for key in range(1, 26):
        s.save(id=key, at=datetime(2026, 3, 2, 9, 0))
    s.sync()
    s.work("2026-03-02 09:00")
    assert [e.row_key for e in s.entries(status="completed")] == ["1", "10"]
    assert len(s.entries(status="pending", queue="waiting")) == 23
    pause.resume(s.app)
    s.sync("2026-03-02 09:30")
    s.work()
    assert {s.row_count(key) for key in range(1, 26)} == {1}


def test_a_person_tries_a_batch_again_during_the_pause(shop: Make) -> None:
    inner = "def customFunc(row):\n    row.count += 1\n    if row.status == 'bad': raise ValueError\n"
    s = shop(inner=inner, dispatch="batch")
    for key in (1, 2):
        s.save(id=key, at=datetime(2026, 3, 2, 9, 0), status="bad")
    s.sync()
    s.work("2026-03-02 09:00")
    paused(s)
    s.raw("UPDATE bill SET status = 'good'")
    [run_id] = s.api.all_runs
    s.api.set_state(run_id, "SCHEDULED", name="AwaitingRetry")
    s.work()
    assert [o.status for o in s.entries()] == ["completed", "completed"]


def test_a_single_failed_task_is_tried_again_during_the_pause(shop: Make) -> None:
    inner = "def customFunc(row):\n    row.count += 1\n    if row.status == 'bad': raise ValueError\n"
    s = shop(inner=inner)
    s.save(id=1, at=datetime(2026, 3, 2, 9, 0), status="bad")
    s.sync()
    s.work("2026-03-02 09:00")
    paused(s)
    s.raw("UPDATE bill SET status = 'good'")
    [run_id] = s.api.all_runs
    s.api.set_state(run_id, "SCHEDULED", name="AwaitingRetry")
    assert [o.status for o in s.work()] == ["completed"]


def test_what_somebody_asks_for_runs_during_the_pause(shop: Make) -> None:
    s = paused(shop(more={"tasks/Daily": DAILY}))
    service = s.app.getElement("services.TaskSvc")
    service.createTimerTask("tasks.Daily", s.now, "customFunc", "tasks.NormalType")
    assert [o.result for o in s.work()] == ["done"]
    run = Run("by-hand", s.now)
    assert execute(s.app, "tasks.Daily", None, run, lambda: s.now).status == "completed"


def test_a_run_of_the_schedule_waits(shop: Make) -> None:
    s = paused(shop(more={"tasks/Daily": DAILY}))
    s.at("2026-03-02 09:00")
    run = Run("scheduled", s.now, auto=True)
    outcome = execute(s.app, "tasks.Daily", None, run, lambda: s.now)
    assert outcome.message == QUEUED
    pause.resume(s.app)
    s.sync("2026-03-02 09:00")
    assert [o.status for o in s.work()] == ["completed"]


def test_the_deployments_of_tasks_rest_and_the_others_go_on(shop: Make) -> None:
    s = paused(shop(more={"tasks/Daily": DAILY}))
    changes = [str(change) for change in renew(s.app, s.api, s.now)]
    rests = {name: d["paused"] for name, d in s.api.all_deployments.items()}
    assert {name for name, it in rests.items() if it} == {"tasks.Task", "tasks.Daily"}
    assert "tasks.Daily changed: paused" in changes
    assert renew(s.app, s.api, s.now) == []
    s.again()  # a deploy does not wake them
    assert s.api.all_deployments["tasks.Daily"]["paused"]
    pause.resume(s.app)
    renew(s.app, s.api, s.now)
    assert not any(d["paused"] for d in s.api.all_deployments.values())


def test_occurrences_of_the_pause_are_looked_for_after_it(shop: Make) -> None:
    """Three days of pause, with a renewal each day: the fill begins at the first lost occurrence."""
    s = shop(more={"tasks/Daily": DAILY})
    renew(s.app, s.api, s.now)
    s.at("2026-03-02 08:30")
    paused(s)
    for day in (2, 3, 4):
        renew(s.app, s.api, utc(f"2026-03-0{day} 08:45"))
    pause.resume(s.app)
    told = [str(change) for change in renew(s.app, s.api, utc("2026-03-05 08:00"))]
    assert (
        "tasks.Daily made good: 3 due without a run, 2026-03-02 09:00 to 2026-03-04 09:00 UTC"
        in told
    )


def test_two_apps_in_one_database_are_paused_apart(
    shop: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = paused(shop())
    url = f"sqlite:///{s.folder / 'test.db'}"
    elements = {"models/Bill": model_of(), "tasks/Task": rows_task()}
    other = Shop(tmp_path / "other", monkeypatch, elements, name="other", database=url)
    assert pause.paused_since(other.app) is None
    other.app.close()


def test_a_database_that_is_away_is_told_of(
    shop: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = paused(shop())
    watch = PauseWatch(s.app)
    assert watch.wait() is not None
    s.raw("DROP TABLE jittask_state")
    assert watch.wait() is not None  # as it was seen last
    assert PauseWatch(s.app).wait() is None
    assert "nobody can tell whether the app is paused" in caplog.text


def test_a_batch_during_the_pause_begins_nothing(shop: Make) -> None:
    s = paused(shop(dispatch="batch"))
    s.save(id=1, at=datetime(2026, 3, 2, 9, 0))
    s.at("2026-03-02 09:00")
    with s.app.engine().begin() as connection:
        connection.execute(entries.update().values(flow_run_id="run", batch=1))
    summary = execute_batch(
        s.app, "tasks.Task", s.now, Run("run", s.now), lambda: s.now
    )
    assert str(summary) == QUEUED and s.row_count(1) == 0


@pytest.mark.parametrize("rows", [1, 3])
def test_a_row_that_waits_for_its_rate_does_not_begin_in_the_pause(
    shop: Make, rows: int
) -> None:
    """The pause comes while the second begin of a minute waits: of a row with a run of its own, and of a batch."""
    dispatch = "batch" if rows > 1 else "row"
    s = shop(rate="1/minute", missed={"policy": "all"}, dispatch=dispatch)
    for key in range(1, rows + 1):
        s.save(id=key, at=datetime(2026, 3, 2, 9, 0))
    s.sync()
    s.at("2026-03-02 09:00")
    limit = s.app.template("tasks.Task").cfg.rate
    assert limit is not None
    reserve(s.app.engine(), s.app.name, "tasks.Task", read_rate(limit), s.now)
    [run_id] = s.api.all_runs
    run, waits = Run(run_id, s.now), list[float]()

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        pause.pause(s.app, s.now)

    how: dict[str, Any] = {"sleep": sleep}
    if rows > 1:
        summary = execute_batch(s.app, "tasks.Task", s.now, run, lambda: s.now, **how)
        assert str(summary) == QUEUED
    else:
        [entry] = s.entries()
        outcome = execute(s.app, "tasks.Task", entry.task_id, run, lambda: s.now, **how)
        assert outcome.message == QUEUED
    assert waits and sum(waits) == 60
    assert [(e.status, e.attempt) for e in s.entries()] == [("pending", 0)] * rows
    pause.resume(s.app)
    s.config(rate="1000/second")  # the waits of the others would be real ones
    s.sync("2026-03-02 09:30")
    s.work()
    assert [s.row_count(key) for key in range(1, rows + 1)] == [1] * rows


def test_a_retry_that_waits_for_its_rate_goes_on_in_the_pause(shop: Make) -> None:
    """A task at work goes on with its retries; the other rows of its batch wait."""
    inner = (
        "from jittask_prefect.ledger import pause\n"
        "from jittask_prefect.schedule import clock\n"
        "def customFunc(row):\n"
        "    tried = app.path / 'tried'\n"
        "    if not tried.exists():\n"
        "        tried.touch()\n"
        "        pause.pause(app, clock.now())\n"
        "        raise ValueError('not yet')\n"
        "    row.count += 1\n"
    )
    s = shop(inner=inner, rate="1/minute", retries=1, dispatch="batch")
    for key in (1, 2):
        s.save(id=key, at=datetime(2026, 3, 2, 9, 0))
    s.sync()
    s.at("2026-03-02 09:00")
    [run_id] = s.api.all_runs
    run = Run(run_id, s.now)
    execute_batch(
        s.app, "tasks.Task", s.now, run, lambda: s.now, sleep=lambda seconds: None
    )
    found = {e.row_key: (e.status, e.attempt) for e in s.entries()}
    assert found == {"1": ("completed", 2), "2": ("pending", 0)}
