"""Finished tasks leave the ledger after the app's `retention`; nothing that was done is done again for that."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from shop import Shop, utc
from sqlalchemy import insert, select

from jittask_prefect import InvalidTime
from jittask_prefect.errors import UnknownTask
from jittask_prefect.ledger import retention
from jittask_prefect.ledger.entry import new_entry
from jittask_prefect.ledger.tables import entries
from jittask_prefect.prefect_api import answers
from jittask_prefect.rows.entering import enter_dead_run
from jittask_prefect.rows.planning import plan
from jittask_prefect.rows.pruning import prune_all
from jittask_prefect.running.outcome import Outcome, Run
from jittask_prefect.running.run import execute

Make = Callable[..., Shop]
TEN = datetime(2026, 3, 2, 10)
DAY = timedelta(days=1)


def prune(s: Shop, before: str) -> int:
    removed = []
    prune_all(s.app, utc(before), s.now, lambda _database, count: removed.append(count))
    return sum(removed)


def finished(s: Shop, number: int, **values: object) -> None:
    """Enter tasks that ended on 2 March, a second apart, as executions of a schedule long ago."""
    first = datetime(2026, 3, 2, 10, tzinfo=UTC)
    rows = []
    for n in range(number):
        due = first + n * timedelta(seconds=1)
        about = {
            "task_id": f"old-{n:05}",
            "app": s.app.name,
            "template": "tasks.Daily",
            "due": due,
            "nominal": due,
            "created": due,
            "finished": due,
            "status": "completed",
            "outcome": "completed",
            "dirty": False,
            "returned": True,
        }
        rows.append(new_entry(**(about | values)).values())
    with s.app.engine().begin() as connection:
        connection.execute(insert(entries), rows)


def test_a_sync_removes_finished_tasks_after_ninety_days(shop: Make) -> None:
    s = shop(repeat={"repeatType": "hour"})
    s.save(id=1, at=TEN, count=0)
    s.sync("2026-03-02 09:59")
    for hour in range(10, 15):
        s.work(f"2026-03-02 {hour}:00")
    assert [e.due.hour for e in s.entries(status="completed")] == [10, 11, 12, 13, 14]

    s.sync("2026-05-31 12:30")
    dues = [f"{e.due:%m-%d %H:%M}" for e in s.entries(status="completed")]
    assert dues == ["03-02 13:00", "03-02 14:00"]

    s.sync("2026-06-15 12:30")
    assert s.entries(status="completed") == []
    assert s.did("2026-06-15 12:31") == []


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_a_row_that_lives_keeps_its_last_task_and_plans_nothing_anew(
    shop: Make, url: Callable[[str], str], kind: str
) -> None:
    s = shop(app_json={"database": url(kind)})
    s.save(id=1, at=TEN, count=0)
    s.save(id=2, at=TEN, count=0)
    s.save(id=3, at=datetime(2026, 3, 2, 9), count=0)
    s.save(id=3, at=datetime(2026, 3, 2, 11), count=0)
    s.sync()
    s.work("2026-03-02 11:00")
    s.drop(2)
    s.sync("2026-03-02 11:01")
    assert s.tasks() == [
        "3 03-02 09:00 #1 superseded",
        "1 03-02 10:00 #1 completed",
        "2 03-02 10:00 #1 completed",
        "3 03-02 11:00 #2 completed",
    ]

    s.sync("2026-09-01 08:00")
    kept = ["1 03-02 10:00 #1 completed", "3 03-02 11:00 #2 completed"]
    assert s.tasks() == kept

    s.save(id=1, status="paid")
    s.save(id=3, status="paid")
    assert s.did("2026-09-01 08:01") == []
    assert s.tasks() == kept

    s.save(id=3, at=datetime(2026, 9, 1, 10))
    assert s.tasks() == [*kept, "3 09-01 10:00 #3 pending"]


def test_a_date_that_goes_away_and_comes_back_is_not_recorded_as_missed(
    shop: Make,
) -> None:
    s = shop()
    s.save(id=1, at=TEN, count=0)
    s.sync()
    s.work("2026-03-02 10:00")
    s.save(id=1, at=datetime(2026, 12, 1, 10))
    s.sync("2026-03-02 10:01")
    s.save(id=1, at=TEN)
    s.sync("2026-03-02 10:02")

    s.sync("2026-12-31 08:00")
    s.save(id=1, status="paid")
    s.sync("2026-12-31 08:01")

    assert {e.outcome for e in s.entries()} == {"completed", "superseded"}
    assert s.row_count(1) == 1


def test_open_failed_and_unsettled_tasks(shop: Make) -> None:
    """Open tasks stay, however old. Failed ones go. So does a task with a future date only once that has passed."""
    s = shop()
    finished(s, 1, task_id="failed", status="error", nominal=None)
    finished(s, 1, task_id="open", status="pending", finished=None, returned=False, nominal=None)  # fmt: skip
    finished(s, 1, task_id="dirty", dirty=True, nominal=None)
    finished(s, 1, task_id="unreturned", returned=False, nominal=None)
    finished(s, 1, task_id="ahead", due=utc("2027-01-01 00:00"), nominal=None)
    s.at("2026-12-01 08:00")

    assert prune(s, "2026-06-01") == 1
    left = {e.task_id for e in s.entries(template="tasks.Daily")}
    assert left == {"open", "dirty", "unreturned", "ahead"}


def test_a_scheduled_task_keeps_its_last_occurrence(shop: Make) -> None:
    s = shop()
    finished(s, 3)
    s.at("2026-12-01 08:00")
    assert prune(s, "2026-06-01") == 2
    assert [e.task_id for e in s.entries()] == ["old-00002"]
    assert prune(s, "2026-06-01") == 0


def test_a_sync_removes_some_and_the_next_goes_on(shop: Make) -> None:
    s = shop()
    finished(s, 6001)
    s.sync("2026-12-01 08:00")
    assert len(s.entries()) == 1001
    s.sync("2026-12-01 08:01")
    assert [e.task_id for e in s.entries()] == ["old-06000"]


def test_another_apps_tasks_stay(shop: Make) -> None:
    s = shop()
    finished(s, 3, app="other")
    s.at("2026-12-01 08:00")
    assert prune(s, "2026-06-01") == 0
    with s.app.engine().connect() as connection:
        assert len(connection.execute(select(entries)).all()) == 3


def test_a_border_that_a_sync_may_cross_is_refused(shop: Make) -> None:
    s = shop(missed={"lookback": 10 * 86400})
    s.sync("2026-03-02 08:00")
    s.at("2026-12-01 08:00")
    with pytest.raises(InvalidTime, match="allowed: until 2026-01-20 08:00"):
        prune(s, "2026-02-01")
    assert prune(s, "2026-01-20 08:00") == 0


def test_no_sync_looks_back_beyond_the_records(shop: Make) -> None:
    s = shop()
    finished(s, 2)
    s.sync("2026-12-01 08:00")
    with s.app.engine().connect() as connection:
        assert retention.border(connection, s.app.name) == utc("2026-09-02 08:00")
    with pytest.raises(InvalidTime, match="allowed: from 2026-09-02 08:00 on"):
        s.sync("2026-12-01 08:02", since="2026-08-01 00:00")
    with pytest.raises(InvalidTime, match="allowed: from 2026-09-02 08:00 on"):
        plan(s.app, s.now, utc("2026-08-01 00:00"))
    assert s.sync("2026-12-01 08:02", since="2026-09-03 00:00").problems == []


DAILY = {
    "tasks/Daily": {
        "e.json": {
            "type": "tasks.NormalType", "title": "Daily", "missed": {"policy": "all"},
            "timerCfg": {"startTime": "2026-03-01 09:00:00", "repeat": {"repeatType": "day"}},
        },
        "inner.py": "RUNS = []\ndef customFunc():\n    RUNS.append(1)\n",
    }
}  # fmt: skip


def scheduled(s: Shop, run: Run) -> Outcome:
    now = s.now
    return execute(s.app, "tasks.Daily", None, run, lambda: now)


def test_retry_of_an_old_run_of_a_schedule_does_nothing_twice(shop: Make) -> None:
    """The ledger has forgotten the first run, which Prefect may keep for longer."""
    s = shop(more=DAILY)
    first, second = utc("2026-03-02 09:00"), utc("2026-03-03 09:00")
    for due in (first, second):
        run = Run(f"{due:%d}", due, auto=True)
        assert scheduled(s.at(f"{due:%Y-%m-%d %H:%M}"), run).status == "completed"
    s.sync("2026-12-01 08:00")
    assert [e.task_id for e in s.entries()] == ["03"]

    again = Run("02", first, auto=True, begun=first)
    with pytest.raises(UnknownTask, match="began on 2026-03-02 and has left"):
        scheduled(s, again)
    kept = scheduled(s, Run("03", second, auto=True, begun=second))
    assert kept.message == "nothing ran: this run has completed the task before"
    assert s.app.module("tasks.Daily", "inner").RUNS == [1, 1]
    assert [e.task_id for e in s.entries()] == ["03"]


def test_a_run_that_begins_long_after_its_due_time_begins(shop: Make) -> None:
    s = shop(more=DAILY)
    finished(s, 2)
    s.sync("2026-12-01 08:00")
    late = Run("late", utc("2026-03-05 09:00"), auto=True)
    assert scheduled(s, late).status == "completed"


def test_retry_of_an_old_run_by_hand_does_nothing_twice(shop: Make) -> None:
    s = shop(inner="def customFunc(row):\n    row.count += 1\n")
    s.save(id=1, at=datetime(2027, 1, 1), count=0)
    s.at("2026-03-02 08:00")
    now = s.now
    about = (s.app, "tasks.Task", None)
    execute(*about, Run("by-hand", now), lambda: now, row="1")
    s.sync("2026-12-01 08:00")
    assert [e.status for e in s.entries()] == ["pending"]

    with pytest.raises(UnknownTask, match="has left the ledger"):
        execute(*about, Run("by-hand", now, begun=now), lambda: s.now, row="1")
    assert s.row_count(1) == 1


def test_an_old_crashed_run_whose_records_are_gone_gets_no_other(shop: Make) -> None:
    s = shop(more=DAILY)
    finished(s, 2)
    s.sync("2026-12-01 08:00")
    crashed = {
        "id": "crashed",
        "name": "Daily",
        "state": {"type": "CRASHED"},
        "expected_start_time": "2026-03-02T09:00:00Z",
        "start_time": "2026-03-02T09:00:01Z",
        "parameters": {"template": "tasks.Daily"},
        "auto_scheduled": True,
    }
    assert not enter_dead_run(s.app, answers.flow_run(crashed), s.now)
    lately = crashed | {"start_time": "2026-11-30T09:00:01Z"}
    assert enter_dead_run(s.app, answers.flow_run(lately), s.now)


def test_a_row_whose_tasks_end_by_themselves(shop: Make) -> None:
    """The last date of a series that ended is kept: a save records no date as missed."""
    dates = {"repeatType": "custom", "dates": ["2026-03-02", "2026-03-03"]}
    s = shop("day", repeat=dates)
    s.save(id=1, day=date(2026, 3, 2), count=0)
    s.sync("2026-03-02 08:00")
    for day in ("2026-03-02 09:00", "2026-03-03 09:00"):
        s.sync(day)
        s.work(day)
    s.sync("2026-09-01 08:00")
    before = s.tasks()
    s.save(id=1, day=date(2026, 3, 2), status="paid")
    s.save(id=1, status="sent")
    assert s.tasks() == before and len(before) == 1


def test_a_role_that_may_not_delete_is_named_and_the_sync_goes_on(shop: Make) -> None:
    s = shop()
    finished(s, 2)
    s.save(id=1, at=datetime(2026, 12, 1, 10), count=0)
    refusal = "CREATE TRIGGER keep BEFORE DELETE ON jittask_ledger BEGIN SELECT RAISE(ABORT, 'no right'); END"
    s.raw(refusal)
    report = s.sync("2026-12-01 08:00")
    [said] = report.problems
    assert "tasks beyond the retention of 90 days stay" in said and "no right" in said
    assert report.created == 1
