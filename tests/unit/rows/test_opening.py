"""Late work waits for the opening hours: what an outage left over, retries, `createTimerTask` where asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from shop import Shop, utc
from sqlalchemy import update
from zoned_shop import zoned

from jittask_prefect.errors import ArgumentError
from jittask_prefect.ledger import transitions
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.tables import entries
from jittask_prefect.records import listing, text
from jittask_prefect.records.record import of_entry
from jittask_prefect.running.outcome import Run
from jittask_prefect.running.run import execute, execute_batch
from jittask_prefect.task_svc.service import TaskSvc

Make = Callable[..., Shop]
OFFICE = {"from": "08:00", "to": "18:00"}
TEN = datetime(2026, 3, 2, 10)
FAILS_ONCE = """
import os
def customFunc(row):
    row.count += 1
    if app.task.attempt == 1:
        raise ValueError("no answer")
    return app.task.attempt
"""
WAITS = "outside its opening hours: waits until 2026-03-03 08:00 (UTC)"


def fill(s: Shop, keys: range, at: datetime = TEN, **fields: Any) -> None:
    cls = s.element("models.Bill")
    with s.session() as session:
        session.add_all([cls(id=key, at=at, **fields) for key in keys])
        session.commit()


def one(s: Shop) -> Entry:
    [entry] = s.entries()
    return entry


def waiting(s: Shop) -> list[tuple[str, str]]:
    """The flow runs that wait: task or batch, and when they begin."""
    return [
        (
            "batch" if "due" in run["parameters"] else "task",
            f"{datetime.fromisoformat(run['expected_start_time']):%d %H:%M}",
        )
        for run in s.api.all_runs.values()
        if run["state_type"] == "SCHEDULED"
    ]


def status(s: Shop) -> tuple[str, float | None]:
    shown = of_entry(s.app, one(s), s.now).as_dict(("status", "lateness"))
    return shown["status"], shown["lateness"]


# What an outage left over


def test_what_comes_late_at_night_waits_for_the_opening(on: Make) -> None:
    s = on(window=OFFICE)
    s.save(id=1, at=TEN)
    s.sync()
    [outcome] = s.work("2026-03-02 22:00")  # no worker ran since ten
    assert (outcome.status, outcome.message) == ("ended", f"not run: {WAITS}")
    entry = one(s)
    assert (entry.status, entry.attempt, entry.message) == ("pending", 0, WAITS)
    assert entry.not_before == utc("2026-03-03 08:00")
    assert status(s) == ("pending", None)
    assert WAITS in "\n".join(text.pending([of_entry(s.app, entry, s.now)]))
    s.sync("2026-03-02 22:01")
    assert waiting(s) == [("task", "03 08:00")]
    assert s.work("2026-03-03 07:59") == []
    assert [o.status for o in s.work("2026-03-03 08:00")] == ["completed"]
    assert (one(s).status, s.row_count(1)) == ("completed", 1)
    assert status(s) == ("completed", 0.0)
    assert s.did() == [] and waiting(s) == []


def test_the_sync_leaves_a_task_that_waits_alone(shop: Make) -> None:
    s = shop(window=OFFICE)
    s.save(id=1, at=TEN)
    s.sync()
    s.work("2026-03-02 22:00")
    for minute in range(1, 5):
        assert s.did(f"2026-03-02 22:0{minute}") == []
    assert waiting(s) == [("task", "03 08:00")]
    assert Counter(r["state_type"] for r in s.api.all_runs.values()) == {
        "SCHEDULED": 1,
        "CANCELLED": 1,
    }


def test_a_row_that_changes_meanwhile_ends_the_task_that_waits(shop: Make) -> None:
    s = shop(window=OFFICE)
    s.save(id=1, at=TEN)
    s.sync()
    s.work("2026-03-02 22:00")
    s.sync()
    s.save(id=1, at=datetime(2026, 3, 3, 12))
    s.sync()
    assert s.tasks() == ["1 03-02 10:00 #1 superseded", "1 03-03 12:00 #2 pending"]
    assert waiting(s) == [("task", "03 12:00")]


def test_a_person_who_cancels_the_run_that_waits_ends_the_task(shop: Make) -> None:
    s = shop(window=OFFICE)
    s.save(id=1, at=TEN)
    s.sync()
    s.work("2026-03-02 22:00")
    s.sync()
    s.api.set_state(str(one(s).flow_run_id), "CANCELLING")
    s.sync("2026-03-02 22:05")
    assert (one(s).status, one(s).outcome) == ("ended", "forced")


def test_what_is_on_time_begins_also_where_the_hours_have_closed(shop: Make) -> None:
    s = shop(window=OFFICE)
    s.save(id=1, at=datetime(2026, 3, 2, 17, 59, 50))
    s.sync()
    assert [o.status for o in s.work("2026-03-02 18:00")] == ["completed"]
    # 60 s is the usual `missed.grace`.
    s.save(id=2, at=datetime(2026, 3, 3, 17, 59, 50))
    s.sync()
    s.at("2026-03-03 18:00").now += timedelta(seconds=51)
    assert [o.status for o in s.work()] == ["ended"]
    assert s.entries(row_key="2")[0].not_before == utc("2026-03-04 08:00")


def test_inside_the_hours_late_work_runs_at_once(shop: Make) -> None:
    s = shop(window=OFFICE)
    s.save(id=1, at=TEN)
    s.sync()
    assert [o.status for o in s.work("2026-03-02 17:00")] == ["completed"]
    assert status(s) == ("completed", 7 * 3600.0)


def test_rows_in_a_batch_wait_together(on: Make) -> None:
    s = on(window=OFFICE)
    fill(s, range(1, 41))
    s.sync()
    assert waiting(s) == [("batch", "02 10:00")]
    s.work("2026-03-02 22:00")
    assert {(e.status, e.not_before, e.batch) for e in s.entries()} == {
        ("pending", utc("2026-03-03 08:00"), None)
    }
    s.sync("2026-03-02 22:01")
    s.sync("2026-03-02 22:02")
    assert waiting(s) == [("batch", "03 08:00")]
    s.work("2026-03-03 08:00")
    assert [o.status for o in s.work()] == []
    assert Counter(e.status for e in s.entries()) == {"completed": 40}
    assert {s.row_count(key) for key in range(1, 41)} == {1}


def test_the_rest_of_a_batch_that_works_past_the_closing_waits(shop: Make) -> None:
    s = shop(window=OFFICE)
    fill(s, range(1, 31), datetime(2026, 3, 2, 17, 55))
    s.sync()
    moments = iter([utc("2026-03-02 17:55")] * 40)
    s.at("2026-03-02 17:55")

    def later() -> datetime:
        return next(moments, utc("2026-03-02 18:30"))

    [run] = [r for r in s.api.all_runs.values() if "due" in r["parameters"]]
    due = utc("2026-03-02 17:55")
    summary = execute_batch(s.app, "tasks.Task", due, Run(run["id"], due), later)
    done = Counter(e.status for e in s.entries())
    assert 0 < done["completed"] < 30 and done["completed"] + done["pending"] == 30
    assert summary.queued == WAITS
    assert {e.not_before for e in s.entries(status="pending")} == {utc("2026-03-03 08:00")}  # fmt: skip


def test_each_row_waits_for_the_hours_of_its_own_zone(shop: Make) -> None:
    # 2 March, 09:00 UTC: 18:00 in Tokyo, where nobody works any more when the worker comes back; 10:00 in Berlin.
    s = shop(elements=zoned("moment", timezoneField="zone", window=OFFICE, task={"dispatch": "batch"}))  # fmt: skip
    s.at("2026-03-02 00:00")
    for zone in ("Asia/Tokyo", "Europe/Berlin"):
        s.save("models.Visit", moment=utc("2026-03-02 08:30"), zone=zone)
    s.sync()
    s.work("2026-03-02 09:30")
    assert [(e.row_key, e.status, e.not_before) for e in s.entries()] == [
        ("1", "pending", utc("2026-03-02 23:00")),
        ("2", "completed", None),
    ]
    s.sync("2026-03-02 09:31")
    assert waiting(s) == [("batch", "02 23:00")]
    s.work("2026-03-02 23:00")
    assert Counter(e.status for e in s.entries()) == {"completed": 2}


def test_a_scheduled_task_waits_too(shop: Make) -> None:
    timer = {"startTime": "2026-03-01 10:00:00", "repeat": {"repeatType": "day"}}
    about = {"type": "tasks.NormalType", "title": "Daily", "timerCfg": {**timer, "window": OFFICE}}  # fmt: skip
    daily = {"e.json": about, "inner.py": "def customFunc():\n    return 1\n"}
    s = shop(more={"tasks/Daily": daily})
    s.at("2026-03-02 22:00")
    run = Run("a" * 8, utc("2026-03-02 10:00"), auto=True)
    outcome = execute(s.app, "tasks.Daily", None, run, lambda: s.now)
    assert outcome.message == f"not run: {WAITS}"
    assert one(s).nominal == utc("2026-03-02 10:00")
    s.sync("2026-03-02 22:01")
    assert waiting(s) == [("task", "03 08:00")]
    assert [o.status for o in s.work("2026-03-03 08:00")] == ["completed"]


# `missed`


@pytest.mark.parametrize("policy", ["none", "latest", "all"])
def test_it_counts_as_due_at_the_opening(shop: Make, policy: str) -> None:
    s = shop(window=OFFICE, missed={"policy": policy})
    s.save(id=1, at=TEN)
    s.sync()
    s.work("2026-03-02 22:00")
    s.sync()
    assert [o.status for o in s.work("2026-03-03 08:00")] == ["completed"]


def test_a_sync_that_comes_late_at_night_plans_it_for_the_opening(shop: Make) -> None:
    s = shop(window=OFFICE, missed={"policy": "none"})
    s.sync()
    s.insert(id=1, status="open", at=TEN, count=0)
    s.insert(id=2, status="open", at=datetime(2026, 3, 2, 17), count=0)
    s.sync("2026-03-02 22:00")
    assert s.tasks() == ["1 03-02 10:00 #1 pending", "2 03-02 17:00 #1 pending"]
    s.work()
    s.sync()
    assert len(s.work("2026-03-03 08:00")) == 2
    assert Counter(e.status for e in s.entries()) == {"completed": 2}


def test_of_two_that_are_due_by_then_the_latest_runs(shop: Make) -> None:
    daily = {"repeat": {"repeatType": "day"}, "window": OFFICE}
    s = shop(**daily, missed={"policy": "latest"})
    s.save(id=1, at=datetime(2026, 3, 2, 8))
    s.sync()
    s.work("2026-03-02 22:00")  # of the 2nd: waits for the 3rd, which has its own
    s.sync()
    s.work("2026-03-03 08:00")
    assert s.tasks(status="ended") == ["1 03-02 08:00 #1 missed"]
    assert s.tasks(status="completed") == ["1 03-03 08:00 #1 completed"]
    assert s.row_count(1) == 1


# Retries


def test_a_retry_in_the_evening_waits_for_the_morning(on: Make) -> None:
    s = on(window=OFFICE, inner=FAILS_ONCE, retries=1, retryDelay=120)
    s.save(id=1, at=datetime(2026, 3, 2, 17, 59))
    s.sync()
    s.work("2026-03-02 17:59")
    entry = one(s)
    assert (entry.status, entry.attempt, entry.owner) == ("pending", 1, None)
    assert entry.message == f"attempt 1 failed (error: ValueError: no answer); {WAITS}"
    assert s.row_count(1) == 0
    s.sync("2026-03-02 18:00")
    assert waiting(s) == [("task", "03 08:00")]
    assert [o.result for o in s.work("2026-03-03 08:00")] == [2]
    assert (one(s).status, one(s).attempt, s.row_count(1)) == ("completed", 2, 1)


@pytest.mark.parametrize(
    "keys",
    [
        {"repeat": {"repeatType": "day"}},
        {
            "startOffset": [
                {"name": "first", "offsetType": 0},
                {"name": "second", "offsetType": 1, "offset": 1, "offsetUnit": "day"},
            ]
        },
    ],
    ids=["repeat", "levels"],
)
@pytest.mark.parametrize(
    ("policy", "done"),
    [("latest", ["missed", "completed"]), ("all", ["completed", "completed"])],
)
def test_a_retry_that_waits_beside_a_later_occurrence(
    shop: Make, keys: dict[str, Any], policy: str, done: list[str]
) -> None:
    """Of Monday and of Tuesday, which both wait for Wednesday morning."""
    hours = {**OFFICE, "weekdays": [1, 3]}
    about = {"window": hours, "missed": {"policy": policy}, **keys}
    once = "app.task.attempt == 1"
    inner = FAILS_ONCE.replace(once, f"{once} and app.task.nominalTime.day == 2")
    s = shop(**about, inner=inner, retries=1, retryDelay=120, app_json={"horizon": 72})
    s.save(id=1, at=datetime(2026, 3, 2, 17, 59))
    s.sync()
    s.work("2026-03-02 17:59")
    s.sync("2026-03-02 18:00")
    s.work("2026-03-04 08:00")
    s.sync("2026-03-04 08:00")
    s.work()
    found = [e.outcome or e.status for e in s.entries() if e.due <= s.now]
    assert found == done


def test_a_retry_by_day_is_tried_at_once(shop: Make) -> None:
    s = shop(window=OFFICE, inner=FAILS_ONCE, retries=1)
    s.save(id=1, at=TEN)
    s.sync()
    assert [o.result for o in s.work("2026-03-02 10:00")] == [2]


def test_the_retry_of_a_dead_worker_waits(shop: Make) -> None:
    s = shop(window=OFFICE, retries=1)
    s.save(id=1, at=datetime(2026, 3, 2, 17, 59))
    s.sync()
    entry = one(s)
    with s.app.engine().begin() as connection:
        about = (entry.task_id, "w:1:x", str(entry.flow_run_id))
        assert transitions.claim(connection, *about, utc("2026-03-02 17:59"), 25)
    dead = one(s)
    with s.app.engine().begin() as connection:
        assert transitions.retry(connection, dead, 1)
    s.sync("2026-03-02 18:01")
    s.work()
    assert (one(s).status, one(s).not_before) == ("pending", utc("2026-03-03 08:00"))
    s.sync("2026-03-02 18:02")
    assert [o.status for o in s.work("2026-03-03 08:00")] == ["completed"]


def test_rows_of_a_batch_that_fail_in_the_evening_are_tried_in_the_morning(
    shop: Make,
) -> None:
    s = shop(window=OFFICE, inner=FAILS_ONCE, retries=1, retryDelay=120, dispatch="batch")  # fmt: skip
    fill(s, range(1, 4), datetime(2026, 3, 2, 17, 59))
    s.sync()
    s.work("2026-03-02 17:59")
    assert {(e.status, e.attempt, e.batch) for e in s.entries()} == {("pending", 1, None)}  # fmt: skip
    s.sync("2026-03-02 18:00")
    assert waiting(s) == [("batch", "03 08:00")]
    s.work("2026-03-03 08:00")
    assert {(e.status, e.attempt) for e in s.entries()} == {("completed", 2)}


def test_a_persons_retry_runs_at_once(shop: Make) -> None:
    s = shop(window=OFFICE, inner=FAILS_ONCE)
    s.save(id=1, at=TEN)
    s.sync()
    assert [o.status for o in s.work("2026-03-02 10:00")] == ["error"]
    s.at("2026-03-02 22:00")
    s.api.set_state(str(one(s).flow_run_id), "SCHEDULED", name="AwaitingRetry")
    assert [o.status for o in s.work()] == ["completed"]


def test_a_persons_retry_of_a_batch_runs_at_once(shop: Make) -> None:
    s = shop(window=OFFICE, inner=FAILS_ONCE, dispatch="batch")
    fill(s, range(1, 4))
    s.sync()
    s.work("2026-03-02 10:00")
    assert {e.status for e in s.entries()} == {"error"}
    s.at("2026-03-02 22:00")
    s.api.set_state(str(s.entries()[0].flow_run_id), "SCHEDULED", name="AwaitingRetry")
    s.work()
    assert {e.status for e in s.entries()} == {"completed"}


# `createTimerTask`


def created(s: Shop, at: str, **keys: Any) -> dict[str, Any]:
    service = TaskSvc(s.app, s.api)
    return service.createTimerTask("tasks.Task", at, "services.Count.one", "tasks.DateFieldType", **keys)  # fmt: skip


COUNT = {
    "services/Count": {
        "e.json": {"type": "services.NormalType", "title": "Count"},
        "service.py": "class Count:\n    def one(self):\n        return app.task.attempt\n",
    }
}


def test_code_waits_for_the_hours_only_where_it_asks(shop: Make) -> None:
    s = shop(window=OFFICE, more=COUNT)
    assert created(s, "2026-03-02 22:00:00")["startTime"] == "2026-03-02T22:00:00+00:00"
    assert one(s).not_before is None
    assert [o.result for o in s.work("2026-03-02 22:00")] == [1]
    later = created(s, "2026-03-02 22:00:00", window=True)
    assert later["startTime"] == "2026-03-03T08:00:00+00:00"
    assert [o.result for o in s.work("2026-03-03 08:00")] == [1]
    # Inside the hours nothing moves; but what comes too late waits as well.
    asked = created(s, "2026-03-03 09:00:00", window=True)
    assert asked["startTime"] == "2026-03-03T09:00:00+00:00"
    assert [o.status for o in s.work("2026-03-03 20:00")] == ["ended"]
    s.sync()
    assert [o.result for o in s.work("2026-03-04 08:00")] == [1]


@pytest.mark.parametrize(
    ("hours", "window", "said"),
    [
        (None, True, "window True, of tasks.Task without any; allowed: a task with"),
        (OFFICE, "yes", "window 'yes'; allowed: True or False"),
    ],
)
def test_code_that_asks_for_hours_that_are_not_there(
    shop: Make, hours: Any, window: Any, said: str
) -> None:
    s = shop(**({"window": hours} if hours else {}), more=COUNT)
    with pytest.raises(ArgumentError, match=said):
        created(s, "2026-03-02 22:00:00", window=window)
    assert s.entries() == []


# Records


def test_it_is_overdue_from_the_opening_on(shop: Make) -> None:
    s = shop(window=OFFICE)
    s.save(id=1, at=TEN)
    s.sync()
    s.work("2026-03-02 22:00")

    def of(status: str) -> int:
        wanted = listing.RecordFilter(status=status)
        return len(listing.records(s.app, s.api, s.now, wanted))

    assert (of("pending"), of("overdue")) == (1, 0)
    s.at("2026-03-03 09:00")
    assert (of("pending"), of("overdue")) == (0, 1)
    assert status(s) == ("overdue", 3600.0)
    with s.app.engine().begin() as connection:
        connection.execute(update(entries).values(not_before=None))
    assert status(s) == ("overdue", 23 * 3600.0)
