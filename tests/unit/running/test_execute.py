"""One execution: who may begin, what commits together, and how it ends. `now` is given; nothing waits for a clock."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from shop import COUNT, Shop, rows_task, utc
from sqlalchemy import text, update

from jittask_prefect.errors import PrefectApiError, UnknownTask
from jittask_prefect.ledger import transitions
from jittask_prefect.ledger.entry import Entry, owners_of
from jittask_prefect.ledger.tables import OPEN, entries
from jittask_prefect.rows import sync
from jittask_prefect.running import rated
from jittask_prefect.running.attempt import Attempt
from jittask_prefect.running.flows import state_of
from jittask_prefect.running.function import after_return, next_of_row
from jittask_prefect.running.outcome import Run, label_of
from jittask_prefect.running.run import execute

Make = Callable[..., Shop]
TEN = datetime(2026, 3, 2, 10)
DUE = utc("2026-03-02 10:00")
TYPE = """
from jittask_prefect import DateFieldType

class Audited(DateFieldType):
    seen = []

    def afterReturn(self, task):
        self.seen.append((task.status, task.result))
        if task.status == "error":
            raise RuntimeError("afterReturn is broken")
"""
AUDITED = {
    "tasks/Audited": {
        "e.json": {"type": "tasks.Meta", "title": "Audited"},
        "type.py": TYPE,
    }
}


def due_row(shop: Make, inner: str = COUNT, **keys: Any) -> tuple[Shop, Entry]:
    """A row that is due now."""
    s = shop(inner=inner, **keys)
    s.save(id=1, at=TEN)
    s.sync("2026-03-02 10:00")
    return s, s.entries()[0]


def test_two_executions_of_one_task(shop: Make) -> None:
    s, task = due_row(shop)
    assert s.run(task).status == "completed"
    again = s.run(task, run_id="another")
    assert (again.status, again.outcome) == ("completed", "skipped")
    assert again.message == "nothing ran: the task was completed before"
    assert label_of(again) is None  # nothing ended it by itself
    state = state_of(again)
    assert (state.type.value, state.message) == (
        "COMPLETED",
        "nothing ran: the task was completed before",
    )
    assert s.row(1).count == 1


def test_a_second_execution_while_the_first_is_at_work(shop: Make) -> None:
    s, task = due_row(shop)
    with s.app.engine().begin() as connection:
        assert transitions.claim(connection, task.task_id, "somebody", "run", s.now, 25)
    assert s.run(task).message == "not run: the task is executing"
    assert s.row(1).count == 0


def test_a_claim_takes_down_its_flow_run(shop: Make) -> None:
    # forcedEnd stops the run that executes, whichever that is
    s, task = due_row(shop)
    s.run(task, run_id="made by hand")
    assert s.entries()[0].flow_run_id == "made by hand"


def test_a_run_that_prefect_starts_a_moment_early_waits_for_its_time(
    shop: Make,
) -> None:
    # measured: 5 of 12 runs began 0.05 to 0.37 s before they were due
    s, task = due_row(shop)
    s.now = DUE - timedelta(milliseconds=370)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        s.now += timedelta(seconds=seconds)

    outcome = execute(
        s.app,
        task.template,
        task.task_id,
        Run("run", task.due),
        lambda: s.now,
        sleep=sleep,
    )

    assert (outcome.status, slept) == ("completed", [0.37])
    assert s.entries()[0].started == DUE


def test_effect_and_completion_are_one_commit(shop: Make) -> None:
    inner = "def customFunc(row):\n    row.count += 1\n    with app.session() as s:\n        s.commit()\n    1 / 0\n"
    s, task = due_row(shop, inner)
    outcome = s.run(task)
    assert (outcome.status, outcome.message) == (
        "error",
        "error: ZeroDivisionError: division by zero",
    )
    assert s.row(1).count == 0  # a commit in the row's session only flushes
    assert s.tasks() == ["1 03-02 10:00 #1 failed"]


def test_a_failing_constraint_is_the_tasks_failure(shop: Make) -> None:
    inner = (
        "def customFunc(row):\n    Bill = type(row)\n    with app.session() as s:\n"
        "        s.add(Bill(id=2, count=1))\n        s.commit()\n        s.add(Bill(id=2))\n        s.expunge(row)\n"
    )
    s, task = due_row(shop, inner)
    s.raw("CREATE UNIQUE INDEX one ON bill (id, count)")
    s.save(id=3)
    outcome = s.run(task)
    assert outcome.status == "error" and "IntegrityError" in outcome.message
    assert s.row(2) is None


def test_the_changes_of_the_function_commit_with_its_completion(shop: Make) -> None:
    inner = "def customFunc(row):\n    row.status = 'done'\n    return {'id': row.id}\n"
    s, task = due_row(shop, inner)
    assert s.run(task).result == {"id": 1}
    [entry] = s.entries()
    assert (s.row(1).status, entry.result, entry.finished) == ("done", '{"id": 1}', DUE)


def test_retries_with_a_delay(shop: Make) -> None:
    inner = (
        "TRIES = []\ndef customFunc(row):\n    row.count += 1\n    TRIES.append(1)\n    if len(TRIES) < 3:\n"
        "        raise ValueError(len(TRIES))\n    return len(TRIES)\n"
    )
    s, task = due_row(shop, inner, retries=2, retryDelay=7)
    slept: list[float] = []
    outcome = s.run(task, sleep=slept.append)
    assert (outcome.status, outcome.result) == ("completed", 3)
    assert (sum(slept), max(slept)) == (7 + 7, rated.LOOK_AT_LIST_SECONDS)
    [entry] = s.entries()
    assert (entry.attempt, s.row(1).count) == (3, 1)


def test_retries_come_to_an_end(shop: Make) -> None:
    s, task = due_row(
        shop, "def customFunc(row):\n    raise ValueError('no')\n", retries=1
    )
    slept: list[float] = []
    assert s.run(task, sleep=slept.append).message == "error: ValueError: no"
    assert (s.entries()[0].attempt, len(slept)) == (2, 1)


@pytest.mark.parametrize("policy", ["none", "latest"])
def test_a_retry_after_a_long_delay_is_not_missed(shop: Make, policy: str) -> None:
    inner = "TRIES = []\ndef customFunc(row):\n    TRIES.append(1)\n    if len(TRIES) < 3: raise ValueError\n"
    keys = {
        "retries": 2,
        "retryDelay": 7200,
        "missed": {"policy": policy},
        "repeat": {"repeatType": "hour"},
    }
    s, task = due_row(shop, inner, **keys)

    def sleep(seconds: float) -> None:
        s.now += timedelta(seconds=seconds)

    run = Run("run", task.due)
    outcome = execute(
        s.app, task.template, task.task_id, run, lambda: s.now, sleep=sleep
    )
    assert outcome.status == "completed"


def test_a_task_that_is_ended_between_two_attempts(shop: Make) -> None:
    s, task = due_row(
        shop, "def customFunc(row):\n    raise ValueError('no')\n", retries=5
    )

    def end(_seconds: float) -> None:
        with s.app.engine().begin() as connection:
            transitions.end(
                connection,
                task.task_id,
                outcome="forced",
                message="x",
                now=s.now,
                within=OPEN,
            )

    assert s.run(task, sleep=end).outcome == "forced"
    assert s.tasks() == ["1 03-02 10:00 #1 forced"]


BLOCKING = (
    "import threading\nGO, DONE = threading.Event(), threading.Event()\n"
    "def customFunc(row):\n    try:\n        row.count += 1\n        with app.session() as s:\n            s.flush()\n"
    "        GO.wait(20)\n        row.count += 10\n    finally:\n        DONE.set()\n"
)


def test_a_function_that_does_not_return(shop: Make) -> None:
    s, task = due_row(shop, BLOCKING, timeout=0.3)
    outcome = s.run(task)
    assert (outcome.status, outcome.outcome, outcome.message) == (
        "error",
        "timeout",
        "error: still running after 0.3 s",
    )
    with (
        s.app.engine().begin() as connection
    ):  # not locked: another writer gets through at once
        connection.execute(text("PRAGMA busy_timeout = 0"))
        connection.execute(text("UPDATE bill SET status = 'free'"))
    inner = s.app.module("tasks.Task", "inner")
    inner.GO.set()
    assert inner.DONE.wait(5)
    _join_zombies(task)
    assert (s.row(1).count, s.row(1).status) == (
        0,
        "free",
    )  # nor does what it does later commit
    assert s.tasks() == ["1 03-02 10:00 #1 timeout"]


def _join_zombies(task: Entry) -> None:
    for thread in threading.enumerate():
        if thread.name == f"jittask {task.task_id}":
            thread.join(10)
            assert not thread.is_alive()


def test_a_timeout_with_a_retry_and_the_first_attempt_comes_back(shop: Make) -> None:
    # the attempt that was given up has the same owner: it must not complete the task of its successor
    inner = (
        "import threading\nGO, TRIES = threading.Event(), []\n"
        "def customFunc(row):\n    TRIES.append(1)\n    if len(TRIES) == 1:\n        GO.wait(20)\n"
        "        return 'late'\n    row.count += 1\n    return 'second'\n"
    )
    s, task = due_row(shop, inner, timeout=0.3, retries=1)

    def come_back(_seconds: float) -> None:
        s.app.module("tasks.Task", "inner").GO.set()
        _join_zombies(task)

    outcome = s.run(task, sleep=come_back)
    assert (outcome.status, outcome.result, s.row(1).count) == (
        "completed",
        "second",
        1,
    )
    assert s.entries()[0].result == '"second"'


def dead(s: Shop, task: Entry) -> datetime:
    """A worker claims the task and dies; the instant at which its lease is over."""
    with s.app.engine().begin() as connection:
        assert transitions.claim(
            connection, task.task_id, "dead", str(task.flow_run_id), s.now, 25
        )
    return s.now + timedelta(seconds=26)


def test_a_worker_that_died_with_retries_left(shop: Make) -> None:
    s, task = due_row(shop, retries=1)
    [first] = s.api.all_runs.values()
    s.api._state(first, "RUNNING")
    s.now = dead(s, task)
    report = s.sync()
    assert report.died == [] and report.created == 1
    assert first["state_type"] == "CRASHED"  # not left as running for ever
    assert [o.status for o in s.work()] == ["completed"]
    with s.app.engine().begin() as connection:  # the dead one was only slow
        transitions.renew(connection, "dead", s.now, 25)
        assert owners_of(connection, [task.task_id]) == {None}
        assert not transitions.finish(
            connection,
            task.task_id,
            "dead",
            status="completed",
            outcome="completed",
            message="",
            result=1,
            now=s.now,
        )
    assert (s.row(1).count, s.entries()[0].attempt) == (1, 2)


def test_a_death_without_retries_waits_for_prefect(shop: Make) -> None:
    """A person may have cancelled the run: only Prefect knows."""
    s, task = due_row(shop)
    s.now = dead(s, task)
    s.api.down = True
    with pytest.raises(PrefectApiError):
        s.sync()
    assert s.entries()[0].status == "executing"
    s.api.down = False
    s.sync()
    assert s.entries()[0].outcome == "died"


def test_a_worker_that_died_without_retries(shop: Make) -> None:
    s, task = due_row(shop)
    s.now = dead(s, task)
    report = s.sync()
    assert [(d, e.task_id) for d, e in report.died] == [("", task.task_id)]
    [entry] = s.entries()
    assert (entry.status, entry.outcome, entry.message) == (
        "error",
        "died",
        "error: worker died",
    )
    assert [r["state_type"] for r in s.api.all_runs.values()] == ["CRASHED"]


def test_a_lease_that_still_holds(shop: Make) -> None:
    s, task = due_row(shop, retries=1)
    dead(s, task)
    s.now += timedelta(seconds=25)
    assert s.sync().created == 0 and s.entries()[0].status == "executing"


def test_a_process_that_lost_its_task_commits_nothing(shop: Make) -> None:
    s, task = due_row(
        shop,
        BLOCKING.replace(
            "        with app.session() as s:\n            s.flush()\n", ""
        ),
        retries=1,
    )
    inner, outcomes = s.app.module("tasks.Task", "inner"), []
    thread = threading.Thread(target=lambda: outcomes.append(s.run(task)))
    thread.start()
    for _ in range(500):
        if s.entries()[0].status == "executing":
            break
    s.now += timedelta(seconds=30)
    s.sync()  # taken over
    inner.GO.set()
    thread.join(10)
    assert outcomes[0].status == "ended" and s.row(1).count == 0
    assert s.tasks() == ["1 03-02 10:00 #1 pending"]


def test_completed_is_never_tried_again_and_failed_is(shop: Make) -> None:
    s, _ = due_row(
        shop,
        "def customFunc(row):\n    row.count += 1\n    if row.status == 'open': raise ValueError\n",
    )
    run = next(iter(s.api.all_runs))
    s.work()
    s.save(id=1, status="mended")
    s.api.set_state(run, "SCHEDULED", force=True)  # Retry in the UI
    assert [o.status for o in s.work()] == ["completed"]
    s.api.set_state(run, "SCHEDULED", force=True)
    assert [(o.status, o.outcome) for o in s.work()] == [("completed", "skipped")]
    assert s.row(1).count == 1 and s.tasks() == ["1 03-02 10:00 #1 completed"]


def test_a_task_that_is_not_in_the_ledger(shop: Make) -> None:
    s, _ = due_row(shop)
    with pytest.raises(UnknownTask):
        execute(s.app, "tasks.Task", "nobody", Run("run", DUE), lambda: s.now)


@pytest.mark.parametrize(
    "inner",
    [
        "import asyncio\nasync def customFunc(row):\n    await asyncio.sleep(0)\n    row.count += 1\n    return 'a'\n",
        "async def later(row):\n    row.count += 1\n    return 'a'\ndef customFunc(row):\n    return later(row)\n",
    ],
)
def test_async_functions(shop: Make, inner: str) -> None:
    s, task = due_row(shop, inner)
    assert (s.run(task).result, s.row(1).count) == ("a", 1)


@pytest.mark.parametrize(
    "error",
    ["SystemExit(3)", "KeyboardInterrupt()", "GeneratorExit()", "BaseException('x')"],
)
def test_a_function_that_wants_out(shop: Make, error: str) -> None:
    s, task = due_row(
        shop, f"def customFunc(row):\n    row.count += 1\n    raise {error}\n"
    )
    assert s.run(task).status == "error"
    assert s.row(1).count == 0 and s.tasks() == ["1 03-02 10:00 #1 failed"]


@pytest.mark.parametrize(
    "error",
    [
        r"ValueError('nul \0 and half a pair \ud800')",
        "type('E', (Exception,), {'__str__': lambda self: 1 / 0})()",
    ],
)
def test_an_exception_that_no_database_takes(shop: Make, error: str) -> None:
    s, task = due_row(shop, f"def customFunc(row):\n    raise {error}\n")
    assert s.run(task).status == "error"
    assert s.tasks() == ["1 03-02 10:00 #1 failed"]


SILENT = "type('B', (), {'__str__': lambda s: 1 / 0, '__repr__': lambda s: 1 / 0})()"
ODD = [
    "object()",
    "{(1, 2): 3}",
    "[float('nan'), float('inf')]",
    "{1, 2}",
    "b'x'",
    "row",
    r"'half \ud800, nul \0'",
]


@pytest.mark.parametrize(
    "value", [*ODD, "'x' * 100_000", "(lambda l: (l.append(l), l)[1])([])", SILENT]
)
def test_a_result_that_json_cannot_hold(shop: Make, value: str) -> None:
    # the function has done its work: what it returns must not undo it
    s, task = due_row(
        shop, f"def customFunc(row):\n    row.count += 1\n    return {value}\n"
    )
    assert s.run(task).status == "completed"
    json.loads(s.entries()[0].result or "")
    assert s.row(1).count == 1


def test_after_return_once_and_its_failure_is_harmless(shop: Make) -> None:
    task = {
        **rows_task(
            "at",
            inner="def customFunc(row):\n    if row.id == 1: 1 / 0\n    return 'r'\n",
        ),
    }
    task["e.json"]["type"] = "tasks.Audited"
    s = shop(more={**AUDITED, "tasks/Task": task})
    s.save(id=1, at=TEN)
    s.save(id=2, at=TEN)
    s.sync("2026-03-02 10:00")
    assert sorted(o.status for o in s.work()) == ["completed", "error"]
    seen = s.element("tasks.Audited").seen
    assert sorted(seen) == [
        ("completed", "r"),
        ("error", "error: ZeroDivisionError: division by zero"),
    ]
    for entry in s.entries():
        assert not after_return(s.app, "", entry.task_id)
    assert len(seen) == 2


def test_after_return_follows_every_end_of_a_task_that_is_tried_again(
    shop: Make,
) -> None:
    task = rows_task(
        "at", inner="def customFunc(row):\n    if row.status == 'open': 1 / 0\n"
    )
    task["e.json"]["type"] = "tasks.Audited"
    s = shop(more={**AUDITED, "tasks/Task": task})
    s.save(id=1, at=TEN)
    s.sync("2026-03-02 10:00")
    s.work()
    s.save(id=1, status="mended")
    [entry] = s.entries()
    s.run(entry, run_id=str(entry.flow_run_id))  # Retry in the UI
    assert [status for status, _ in s.element("tasks.Audited").seen] == [
        "error",
        "completed",
    ]


def test_after_return_that_a_dead_process_owes_is_called_by_the_next_sync(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    s, task = due_row(shop)
    s.now = dead(s, task)

    def away(*_: Any) -> None:
        s.api.down = True
        s.api.ping()

    # The sync that saw the death never came to it.
    with monkeypatch.context() as patch, pytest.raises(PrefectApiError):
        patch.setattr(sync, "settle_waiting", away)
        s.sync()
    s.api.down = False
    assert s.entries()[0].outcome == "died"
    assert s.sync().died == []  # another process may just be about to
    s.now += timedelta(minutes=2)
    [(database, entry)] = s.sync().died
    assert after_return(s.app, database, entry.task_id)
    assert s.sync().died == []


@pytest.mark.parametrize(
    ("how", "inner"),
    [
        ("completed", COUNT),
        ("error", "def customFunc(row):\n    1 / 0\n"),
        ("forced", COUNT),
    ],
)
def test_a_repeating_row_goes_on_however_a_task_ended(
    shop: Make, how: str, inner: str
) -> None:
    # weekly, with a horizon of a day: the next one is known at once, not a week later
    s, task = due_row(shop, inner, repeat={"repeatType": "week"})
    if how == "forced":
        with s.app.engine().begin() as connection:
            transitions.end(
                connection, task.task_id, outcome="forced", message="x", now=s.now
            )
        next_of_row(s.app, "", task, s.now)
    else:
        s.work()
    assert s.tasks()[1:] == ["1 03-09 10:00 #1 pending"]
    s.sync("2026-03-08 11:00")
    assert len(s.work("2026-03-09 10:00")) == 1


def test_the_function_changes_its_own_date(shop: Make) -> None:
    inner = "from datetime import timedelta\ndef customFunc(row):\n    row.count += 1\n    row.at += timedelta(hours=1)\n"
    s, _ = due_row(shop, inner)
    assert [o.status for o in s.work()] == ["completed"]
    assert s.tasks() == ["1 03-02 10:00 #1 completed", "1 03-02 11:00 #2 pending"]
    s.sync("2026-03-02 10:01")
    assert [o.status for o in s.work("2026-03-02 11:00")] == ["completed"]
    assert s.row(1).count == 2


def test_the_function_changes_what_its_filter_asks_for(shop: Make) -> None:
    s, _ = due_row(
        shop, "def customFunc(row):\n    row.status = 'paid'\n", filter="Q('status','=','open')",
        repeat={"repeatType": "hour"}, endTimeType=1, endTime="2026-03-02 12:00:00",
    )  # fmt: skip
    s.work()
    assert s.tasks() == [
        "1 03-02 10:00 #1 completed", "1 03-02 11:00 #1 superseded", "1 03-02 12:00 #1 superseded",
    ]  # fmt: skip


def test_the_function_deletes_its_own_row(shop: Make) -> None:
    inner = (
        "def customFunc(row):\n    with app.session() as s:\n        s.delete(row)\n"
    )
    s, _ = due_row(shop, inner, repeat={"repeatType": "day"})
    assert [o.status for o in s.work()] == ["completed"]
    assert s.row(1) is None
    assert s.tasks(status="pending") == []


def test_the_function_rolls_back(shop: Make) -> None:
    inner = "def customFunc(row):\n    row.count += 1\n    with app.session() as s:\n        s.rollback()\n    return 1\n"
    s, task = due_row(shop, inner)
    assert s.run(task).status == "completed"
    assert s.row(1).count == 0


def test_a_save_by_somebody_else_while_the_function_is_at_work(shop: Make) -> None:
    # the row that the function holds is the old one: what comes next is planned from what the database has
    inner = (
        "def customFunc(row):\n    from datetime import datetime\n    from sqlmodel import Session\n"
        "    with Session(app.engine()) as other:\n        mine = other.get(type(row), row.id)\n"
        "        mine.at = datetime(2026, 3, 2, 15)\n        other.commit()\n"
    )
    s, task = due_row(shop, inner)
    assert s.run(task).status == "completed"
    assert s.tasks() == ["1 03-02 10:00 #1 completed", "1 03-02 15:00 #2 pending"]


# Scheduled tasks

DAILY = {
    "e.json": {
        "type": "tasks.NormalType", "title": "Daily",
        "timerCfg": {"startTime": "2026-03-01 09:00:00", "repeat": {"repeatType": "day"}},
    },
    "inner.py": "RUNS = []\ndef customFunc():\n    RUNS.append(1)\n    return len(RUNS)\n",
}  # fmt: skip


def daily(shop: Make, **keys: Any) -> Shop:
    return shop(
        elements={"tasks/Daily": {**DAILY, "e.json": {**DAILY["e.json"], **keys}}}
    )


def scheduled(s: Shop, run_id: str, due: str, auto: bool = True) -> tuple[str, str]:
    now = s.now
    outcome = execute(
        s.app, "tasks.Daily", None, Run(run_id, utc(due), auto), lambda: now
    )
    return outcome.status, outcome.message


def test_two_runs_of_one_scheduled_instant(shop: Make) -> None:
    s = daily(shop).at("2026-03-02 09:00")
    assert scheduled(s, "first", "2026-03-02 09:00") == ("completed", "")
    second = (
        "ended",
        "not run: the task is ended (not run: another run has this occurrence)",
    )
    assert scheduled(s, "second", "2026-03-02 09:00") == second
    assert (
        scheduled(s, "second", "2026-03-02 09:00") == second
    )  # and Retry in the UI changes nothing
    assert [(e.task_id, e.outcome) for e in s.entries()] == [
        ("first", "completed"),
        ("second", "skipped"),
    ]
    assert s.app.module("tasks.Daily", "inner").RUNS == [1]


def test_a_run_that_a_person_made_is_apart_from_the_schedule(shop: Make) -> None:
    s = daily(shop, enable=0).at("2026-03-02 09:00")
    assert scheduled(s, "a", "2026-03-02 09:00", auto=False)[0] == "completed"
    assert scheduled(s, "b", "2026-03-02 09:00", auto=False)[0] == "completed"


@pytest.mark.parametrize(
    ("keys", "due", "message"),
    [
        ({"enable": 0}, "2026-03-02 09:00", "ended: the task is disabled"),
        ({}, "2026-03-02 09:30", "ended: no longer an occurrence of the schedule"),
    ],
)
def test_a_scheduled_run_that_is_none_any_more(
    shop: Make, keys: dict[str, Any], due: str, message: str
) -> None:
    s = daily(shop, **keys).at("2026-03-02 09:30")
    assert scheduled(s, "run", due) == ("ended", message)
    assert s.app.module("tasks.Daily", "inner").RUNS == []
    assert [e.outcome for e in s.entries()] == ["superseded"]


@pytest.mark.parametrize(
    ("policy", "now", "status"),
    [
        (
            "none",
            "2026-03-02 09:01",
            "completed",
        ),  # grace, a minute: on time under every policy
        ("none", "2026-03-02 09:02", "ended"),
        ("latest", "2026-03-02 23:00", "completed"),
        ("latest", "2026-03-03 09:00", "ended"),  # the next one is due
        ("all", "2026-03-05 09:00", "completed"),
    ],
)
def test_a_scheduled_run_that_is_late(
    shop: Make, policy: str, now: str, status: str
) -> None:
    s = daily(shop, missed={"policy": policy}).at(now)
    found = scheduled(s, "run", "2026-03-02 09:00")
    assert found[0] == status and (
        status == "completed" or found[1].startswith("missed: ")
    )
    assert [e.outcome for e in s.entries()] == [
        "completed" if status == "completed" else "missed"
    ]


def test_the_watch_over_a_lease_is_off_once_the_task_is_done(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A look at the lease after the completion committed finds no owner: it must not end the process before afterReturn.
    from jittask_prefect.running import lease

    monkeypatch.setattr(lease, "LOOK_SECONDS", 0.001)
    s, task = due_row(shop)
    lost: list[bool] = []
    real = Attempt.run

    def lingering(self: Any) -> Any:
        outcome = real(self)
        threading.Event().wait(
            0.05
        )  # the completion is committed, and the watch still looks
        return outcome

    monkeypatch.setattr(Attempt, "run", lingering)
    now = s.now
    run = Run("run", task.due)
    assert (
        execute(
            s.app,
            task.template,
            task.task_id,
            run,
            lambda: now,
            lost=lambda: lost.append(True),
        ).status
        == "completed"
    )
    assert lost == []


def test_the_watch_over_a_lease_notices_an_end_from_outside(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jittask_prefect.running import lease

    monkeypatch.setattr(lease, "LOOK_SECONDS", 0.001)
    # Between claim and begin an end leaves no process to tell.
    source = BLOCKING.replace(
        "        with app.session() as s:\n            s.flush()\n",
        "        BEGUN.set()\n",
    )
    s, task = due_row(shop, f"{source}\nBEGUN = threading.Event()\n")
    inner, noticed = s.app.module("tasks.Task", "inner"), threading.Event()

    def lost() -> None:
        noticed.set()
        inner.GO.set()

    now, outcomes = s.now, []
    run = Run("run", task.due)
    thread = threading.Thread(
        target=lambda: outcomes.append(
            execute(s.app, task.template, task.task_id, run, lambda: now, lost=lost)
        )
    )
    thread.start()
    assert inner.BEGUN.wait(20)
    with s.app.engine().begin() as connection:
        connection.execute(
            update(entries).values(status="ended", outcome="forced", owner=None)
        )
    assert noticed.wait(10)
    thread.join(10)
    assert outcomes[0].status == "ended" and s.row(1).count == 0
