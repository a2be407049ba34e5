"""Executors: several on one list of calls, each with an owner, a lease and a connection of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime

import pytest
from patience import PATIENCE
from shop import Shop, utc

from jittask_prefect.running.attempt_thread import AttemptThread
from jittask_prefect.running.calls import Call, Work
from jittask_prefect.running.executor import THREAD, work_off
from jittask_prefect.running.outcome import Run, Summary
from jittask_prefect.running.rows_of_instant import RowsOfInstant
from jittask_prefect.running.run import execute_batch

Make = Callable[..., Shop]
TEN = datetime(2026, 3, 2, 10)
TWO_AT_ONCE = """
import threading
BOTH = threading.Barrier(2)
def customFunc(row):
    if row.id <= 2:
        BOTH.wait(20)
    row.count += 1
"""


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_several_executors_work_off_one_list(
    shop: Make, url: Callable[[str], str], kind: str
) -> None:
    """Two calls are at work at once, and each row is done once."""
    s = shop(inner=TWO_AT_ONCE, dispatch="batch", app_json={"database": url(kind)})
    for key in range(1, 31):
        s.save(id=key, at=TEN)
    s.sync()
    [run_id] = s.api.all_runs
    s.at("2026-03-02 10:00")
    due, now = utc("2026-03-02 10:00"), s.now
    template, run = s.app.template("tasks.Task"), Run(run_id, due)
    summary = Summary()
    work = Work(
        s.app, "", template, run, lambda: now, lambda _seconds: None, summary, None
    )
    calls = RowsOfInstant(work, due)
    threads = [
        threading.Thread(target=work_off, args=(work, calls)) for _executor in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert str(summary) == "30 rows: 30 done"
    assert [s.row_count(key) for key in range(1, 31)] == [1] * 30
    assert {(e.status, e.attempt) for e in s.entries()} == {("completed", 1)}


def test_a_call_has_the_attempt_of_its_tasks(shop: Make) -> None:
    s = shop()
    s.save(id=1, at=TEN)
    s.sync()
    [task] = s.entries()
    call = Call([task])
    assert (call.ids, call.attempt) == ([task.task_id], 0)
    assert call.name == f"jittask {task.task_id}"


def batch(s: Shop) -> Summary:
    """Run the batch of the rows that are due."""
    [run_id] = s.api.all_runs
    due, now = utc("2026-03-02 10:00"), s.now
    run = Run(run_id, due)
    return execute_batch(s.app, "tasks.Task", due, run, lambda: now)


def ready(make: Make, rows: int, **keys: object) -> Shop:
    s = make(dispatch="batch", **keys)
    for key in range(1, rows + 1):
        s.save(id=key, at=TEN)
    s.sync()
    return s.at("2026-03-02 10:00")


NOTES_THREAD = """
import threading, time
THREADS = []
def customFunc(row):
    THREADS.append(threading.get_ident())
    time.sleep({seconds})
    row.count += 1
"""


def test_the_time_limit_is_that_of_each_row_not_of_all(shop: Make) -> None:
    """Four rows that take 0.4 s each have a limit of 1 s: none is over its limit, and one thread runs all."""
    inner = NOTES_THREAD.format(seconds=0.4 * PATIENCE)
    s = ready(shop, 4, inner=inner, timeout=1.0 * PATIENCE)
    assert str(batch(s)) == "4 rows: 4 done"
    threads = s.app.module("tasks.Task", "inner").THREADS
    assert len(threads) == 4 and set(threads) != {threading.get_ident()}
    assert len(set(threads)) == 1


ONE_STAYS = """
import threading
GO, THREADS = threading.Event(), {}
def customFunc(row):
    THREADS[row.id] = threading.get_ident()
    if row.id == 2:
        GO.wait(60)
    row.count += 1
"""


def test_rows_after_a_row_that_does_not_return_have_another_thread(shop: Make) -> None:
    s = ready(shop, 4, inner=ONE_STAYS, timeout=1.0 * PATIENCE)
    summary = batch(s)
    inner = s.app.module("tasks.Task", "inner")
    inner.GO.set()
    assert {e.row_key: o.outcome for e, o in summary.tasks} == {
        "1": "completed",
        "2": "timeout",
        "3": "completed",
        "4": "completed",
    }
    assert inner.THREADS[1] == inner.THREADS[2] != inner.THREADS[3] == inner.THREADS[4]
    assert [s.row_count(key) for key in range(1, 5)] == [1, 0, 1, 1]


def test_an_interruption_lets_the_row_at_work_end_and_no_other_begin(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The waiting thread is interrupted, as by a signal; the row at work has a second, which nobody waits for."""
    s = ready(shop, 3, inner=NOTES_THREAD.format(seconds=1.0))
    start, seen = AttemptThread.start, list[threading.Event]()

    class Interrupted(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            inner = s.app.module("tasks.Task", "inner")
            while not inner.THREADS:
                threading.Event().wait(0.01)
            raise KeyboardInterrupt

    def watched(self: AttemptThread, work: Callable[[], None], name: str) -> object:
        done = start(self, work, name)
        if name != THREAD:  # the lease's
            return done
        seen.append(done)
        return Interrupted()

    monkeypatch.setattr(AttemptThread, "start", watched)
    with pytest.raises(KeyboardInterrupt):
        batch(s)
    assert seen[0].wait(20 * PATIENCE)
    assert [s.row_count(key) for key in range(1, 4)] == [1, 0, 0]
    assert [e.status for e in s.entries()] == ["completed", "pending", "pending"]
