"""Rows that are due together share a flow run: dispatch, joining, leaving, failures, deaths; on all three servers."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from shop import Shop, utc

from jittask_prefect.errors import PrefectApiError
from jittask_prefect.ledger import handover_marks, transitions
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.tables import entries
from jittask_prefect.rows import batches, settling
from jittask_prefect.rows.handover import hand_over
from jittask_prefect.rows.plan import Report
from jittask_prefect.running.outcome import Run
from jittask_prefect.running.run import execute_batch
from jittask_prefect.running.run_end import record_end

Make = Callable[..., Shop]
TEN, ELEVEN = datetime(2026, 3, 2, 10), datetime(2026, 3, 2, 11)
FAIL = """
import os
def customFunc(row):
    row.count += 1
    if row.status == "bad":
        raise ValueError(f"row {row.id} is bad")
    return row.id
"""


def fill(s: Shop, keys: range, at: datetime = TEN, **fields: Any) -> None:
    cls = s.element("models.Bill")
    with s.session() as session:
        session.add_all([cls(id=key, at=at, **fields) for key in keys])
        session.commit()


def runs(s: Shop) -> list[tuple[str, dict[str, str], str]]:
    return [
        (r["name"], r["parameters"], r["state_type"])
        for r in s.api.all_runs.values()
        if "due" in r["parameters"]
    ]


def names(s: Shop) -> list[str]:
    return [name for name, _, _ in runs(s)]


def outcomes(s: Shop) -> Counter[str]:
    return Counter(e.outcome or e.status for e in s.entries())


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flow runs of at most 500 rows, so that a test of two runs needs fewer rows."""
    monkeypatch.setattr(batches, "BATCH_SIZE", 500)


@pytest.mark.parametrize(
    ("dispatch", "rows", "shared", "own"),
    [
        ("auto", 19, 0, 19), ("auto", 20, 1, 0), ("auto", 500, 1, 0), ("auto", 1000, 1, 0), ("auto", 1001, 2, 0),
        ("batch", 1, 1, 0), ("batch", 40, 1, 0), ("row", 40, 0, 40), (None, 20, 1, 0),
    ],
)  # fmt: skip
def test_dispatch(
    shop: Make, dispatch: str | None, rows: int, shared: int, own: int
) -> None:
    s = shop(**({"dispatch": dispatch} if dispatch else {}))
    fill(s, range(1, rows + 1))
    s.sync()
    assert len(runs(s)) == shared
    assert (
        len([r for r in s.api.all_runs.values() if "taskId" in r["parameters"]]) == own
    )
    assert s.work("2026-03-02 10:00")
    assert outcomes(s) == {"completed": rows}
    assert [s.row_count(key) for key in {1, (rows + 1) // 2, rows}] == [1] * len(
        {1, (rows + 1) // 2, rows}
    )
    s.sync()
    assert {state for _, _, state in runs(s)} <= {"COMPLETED"}


@pytest.mark.parametrize("server", ["sqlite"], indirect=True)
def test_a_batch_names_template_number_of_rows_and_instant(
    on: Make, small: None
) -> None:
    s = on(title="Remind")
    fill(s, range(1, 601))
    s.sync()
    parameters = {"template": "tasks.Task", "due": "2026-03-02T10:00:00+00:00"}
    assert [(n, p) for n, p, _ in runs(s)] == [
        ("Remind · 300 rows · 2026-03-02 10:00", parameters), ("Remind · 300 rows · 2026-03-02 10:00 (2)", parameters)
    ]  # fmt: skip
    assert Counter(e.batch for e in s.entries()) == {1: 300, 2: 300}
    s.work("2026-03-02 10:00")
    assert outcomes(s) == {"completed": 600}
    assert s.did() == []
    # each instant has its own
    fill(s, range(1000, 1030), ELEVEN)
    s.sync()
    assert names(s)[2:] == ["Remind · 30 rows · 2026-03-02 11:00"]


def test_a_row_that_joins_leaves_or_moves_needs_no_call(on: Make) -> None:
    s = on()
    fill(s, range(1, 31))
    s.sync()
    calls = len(s.api.all_runs)
    s.save(id=100, at=TEN)
    s.save(id=1, at=None)
    s.drop(2)
    s.sync()
    assert len(s.api.all_runs) == calls and [state for *_, state in runs(s)] == [
        "SCHEDULED"
    ]
    s.save(id=3, at=ELEVEN)  # has a run of its own: too few are due then
    s.sync()
    assert len(s.api.all_runs) == calls + 1
    s.raw("UPDATE bill SET at = NULL WHERE id = 4")  # nobody saw it
    fill(s, range(200, 201))  # joins, and no sync was since
    s.work("2026-03-02 10:00")
    assert [s.row_count(k) for k in (5, 100, 200, 1, 3, 4)] == [1, 1, 1, 0, 0, 0]
    assert [(e.outcome, e.message) for e in s.entries(row_key="4")] == [
        ("superseded", "superseded: the row has no date, or the filter is not met")
    ]
    s.sync()
    assert [e.row_key for e in s.entries(status="pending")] == ["3"]
    assert s.did() == []


def test_a_batch_that_all_rows_have_left(on: Make) -> None:
    s = on()
    fill(s, range(1, 31))
    s.sync()
    for key in range(1, 31):
        s.drop(key)
    s.sync()
    [(_, _, state)] = runs(s)
    assert state == "CANCELLED"
    fill(s, range(1, 31))
    s.sync()
    assert [state for *_, state in runs(s)] == ["CANCELLED", "SCHEDULED"]
    s.work("2026-03-02 10:00")
    assert outcomes(s) == {"superseded": 30, "completed": 30}


def test_a_run_that_could_not_be_dropped_takes_no_rows(
    on: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its label is set before its state: a person's Cancel of that run would pass for ours."""
    s = on()
    fill(s, range(1, 31))
    s.sync()
    [first] = s.api.all_runs
    for key in range(1, 31):
        s.drop(key)

    def refused(*_: Any, **__: Any) -> None:
        raise PrefectApiError("refused")

    with monkeypatch.context() as patch:
        patch.setattr(s.api, "set_state", refused)
        s.sync()
    fill(s, range(1, 31))
    s.sync()
    _, second = s.api.all_runs
    assert {e.flow_run_id for e in s.entries(status="pending")} == {second}
    s.api.set_state(second, "CANCELLED")
    s.sync()
    assert outcomes(s) == {"superseded": 30, "forced": 30}
    s.work("2026-03-02 10:00")
    assert len(s.api.all_runs) == 2 and s.row_count(5) == 0
    assert s.api.all_runs[first]["state_type"] == "CANCELLED"


def test_a_row_that_fails_touches_no_other(on: Make) -> None:
    s = on("at", inner=FAIL)
    fill(s, range(1, 31))
    for key in (7, 8):
        s.save(id=key, status="bad")
    s.sync()
    s.work("2026-03-02 10:00")
    assert outcomes(s) == {"completed": 28, "failed": 2}
    assert [s.row_count(k) for k in (6, 7, 8, 9)] == [1, 0, 0, 1]
    [run] = s.api.all_runs.values()
    assert (run["state_type"], run["state"]["message"]) == (
        "FAILED",
        "30 rows: 28 done, 2 failed",
    )
    table = s.api.tables[run["id"]]
    assert [(r["row"], r["status"], r["reason"]) for r in table[:3]] == [
        ("7", "error", "error: ValueError: row 7 is bad"), ("8", "error", "error: ValueError: row 8 is bad"),
        ("1", "completed", ""),
    ]  # fmt: skip
    assert len(table) == 30
    assert s.did() == []


def test_retries_come_after_the_others(on: Make) -> None:
    flaky = "tries = {}\ndef customFunc(row):\n    tries[row.id] = tries.get(row.id, 0) + 1\n    row.count += 1\n"
    flaky += "    if row.id == 1 and tries[1] < 3: raise ValueError('again')\n    if row.id == 2: raise ValueError('no')\n"
    s = on("at", inner=flaky, retries=2, retryDelay=0)
    fill(s, range(1, 26))
    s.sync()
    s.work("2026-03-02 10:00")
    assert outcomes(s) == {"completed": 24, "failed": 1}
    assert [(e.row_key, e.attempt) for e in s.entries() if e.attempt > 1] == [
        ("1", 3),
        ("2", 3),
    ]
    table = s.api.tables[next(iter(s.api.all_runs))]
    assert [r["row"] for r in table][-1] == "1"


def test_a_cancelled_run_ends_its_rows_and_a_deleted_one_is_made_again(
    on: Make,
) -> None:
    s = on()
    fill(s, range(1, 31))
    s.sync()
    [run] = s.api.all_runs
    s.api.delete_run(run)
    s.sync()
    [again] = s.api.all_runs
    assert again != run
    s.api.set_state(again, "CANCELLING")
    s.sync()
    assert outcomes(s) == {"forced": 30}
    s.work("2026-03-02 10:00")
    assert len(s.api.all_runs) == 1 and s.row_count(5) == 0


@pytest.mark.parametrize("state", ["CANCELLING", "CANCELLED", "COMPLETED"])
def test_a_new_row_joins_no_batch_that_a_person_has_ended(on: Make, state: str) -> None:
    s = on()
    fill(s, range(1, 31))
    s.sync()
    [run] = s.api.all_runs
    s.api._state(s.api.all_runs[run], state)
    s.save(id=100, at=TEN)
    # as in the background after the save, before any sync
    row = [("tasks.Task", s.entries(row_key="100")[0].row_key)]
    hand_over(s.app, "", s.api, s.now, Report(), rows=row)
    [late] = s.entries(row_key="100")
    assert late.flow_run_id not in (None, run) and (late.batch, late.dirty) == (
        2,
        False,
    )
    s.sync("2026-03-02 08:01")
    s.work("2026-03-02 10:00")
    assert s.row_count(100) == 1 and s.row_count(5) == 0
    assert [e.status for e in s.entries(row_key="100")] == ["completed"]


@pytest.mark.parametrize("begun", ["executing", "completed", "error"])
def test_a_new_row_joins_no_batch_that_has_begun(on: Make, begun: str) -> None:
    """Whatever Prefect shows: a row at work, or one that was done, is enough."""
    s = on()
    fill(s, range(1, 31))
    s.sync()
    [run] = s.api.all_runs
    first = s.entries()[0].task_id
    with s.app.engine().begin() as connection:
        claim = (connection, first, "me", run, s.now, 25)
        assert transitions.claim(*claim, in_batch=True)
        if begun != "executing":
            how = {**DONE, "status": begun}
            assert transitions.finish(connection, first, "me", now=s.now, **how)
    s.save(id=100, at=TEN)
    hand_over(s.app, "", s.api, s.now, Report())
    [late] = s.entries(row_key="100")
    assert (late.batch, late.dirty) == (2, False)
    assert late.flow_run_id not in (None, run)


LATE = """
from sqlmodel import Session
def customFunc(row):
    row.count += 1
    if row.id == 3:
        with Session(app.engine()) as session:
            session.add(type(row)(id=100, at=row.at))
            session.commit()
"""


def test_a_batch_looks_again_before_its_end(on: Make) -> None:
    """A row that joins while the last row is at work is done by the same flow run."""
    s = on(inner=LATE, dispatch="batch")
    fill(s, range(1, 4))
    s.sync()
    [run] = s.api.all_runs
    s.work("2026-03-02 10:00")
    assert [s.row_count(key) for key in (1, 2, 3, 100)] == [1, 1, 1, 1]
    assert [e.flow_run_id for e in s.entries(row_key="100")] == [run]
    assert outcomes(s) == {"completed": 4} and len(s.api.all_runs) == 1


def test_a_cancel_just_before_a_row_joins_does_not_end_that_row(
    on: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is written into the batch first, and the batch's run asked for then."""
    s = on()
    fill(s, range(1, 31))
    s.sync()
    [run] = s.api.all_runs
    s.save(id=100, at=TEN)
    real = handover_marks.batch_joined

    def after_a_cancel(*args: Any) -> None:
        s.api._state(s.api.all_runs[run], "CANCELLED")
        real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(handover_marks, "batch_joined", after_a_cancel)
        hand_over(s.app, "", s.api, s.now, Report())
    [late] = s.entries(row_key="100")
    assert late.flow_run_id not in (None, run) and not late.dirty
    s.sync("2026-03-02 08:01")
    s.work("2026-03-02 10:00")
    assert outcomes(s) == {"forced": 30, "completed": 1}
    assert s.row_count(100) == 1 and s.row_count(5) == 0


def test_a_run_that_a_row_joins_while_it_is_dropped_bears_no_label(
    on: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person's Cancel of that run would pass for ours, and the row would run in spite of it."""
    s = on()
    fill(s, range(1, 31))
    s.sync()
    [run] = s.api.all_runs
    for key in range(1, 31):
        s.drop(key)
    real = s.api.mark

    def after_a_row_has_joined(run_id: str, why: str) -> None:
        monkeypatch.setattr(s.api, "mark", real)
        s.save(id=200, at=TEN)
        [late] = s.entries(row_key="200")
        with s.app.engine().begin() as connection:
            handover_marks.batch_joined(connection, [late.task_id], 1, run)
        real(run_id, why)

    monkeypatch.setattr(s.api, "mark", after_a_row_has_joined)
    s.sync()
    assert s.api.all_runs[run]["state_type"] == "SCHEDULED"
    s.api.set_state(run, "CANCELLED")
    s.sync("2026-03-02 08:01")
    s.work("2026-03-02 10:00")
    assert outcomes(s) == {"superseded": 30, "forced": 1}
    assert s.row_count(200) == 0


def test_a_new_row_asks_for_its_batch_once(on: Make) -> None:
    s = on()
    fill(s, range(1, 31))
    s.sync()
    [run] = s.api.all_runs
    s.save(id=100, at=TEN)
    s.save(id=101, at=TEN)
    s.api.calls.clear()
    hand_over(s.app, "", s.api, s.now, Report())
    assert s.api.calls.count("run") == 1
    assert [e.flow_run_id for e in s.entries(row_key="101")] == [run]


def test_forced_end_of_a_row_and_of_a_batch(on: Make) -> None:
    s = on()
    fill(s, range(1, 31))
    s.sync()
    s.api.serve(s.app)
    service = s.element("services.TaskSvc")
    [five] = s.entries(row_key="5")
    assert service.forcedEnd(five.task_id)["changed"] is True
    [(_, _, state)] = runs(s)
    assert state == "SCHEDULED"
    assert service.forcedEnd(five.flow_run_id) == {
        "taskId": five.flow_run_id, "previousStatus": "pending", "status": "ended", "changed": True
    }  # fmt: skip
    assert outcomes(s) == {"forced": 30}
    assert service.forcedEnd(five.flow_run_id)["changed"] is False
    assert [state for *_, state in runs(s)] == ["CANCELLED"]


def test_a_process_that_is_about_to_end_begins_no_other_row(on: Make) -> None:
    inner = (
        "import threading\nBEGUN, FIRST, SECOND, GO = [], *(threading.Event() for _ in range(3))\n"
        "def customFunc(row):\n    BEGUN.append(str(row.id))\n    (SECOND if FIRST.is_set() else FIRST).set()\n"
        "    GO.wait(20)\n"
    )
    s = on(inner=inner, dispatch="batch")
    fill(s, range(1, 4))
    s.sync()
    s.at("2026-03-02 10:00")
    [run] = s.api.all_runs
    of = s.app.module("tasks.Task", "inner")
    begun: list[list[str]] = []

    def lost() -> None:
        of.GO.set()  # the function returns while the process says that it leaves
        of.SECOND.wait(0.5)
        begun.append(list(of.BEGUN))

    def end() -> None:
        assert of.FIRST.wait(20)
        with s.app.engine().begin() as connection:
            [first] = [e for e in s.entries() if e.row_key == of.BEGUN[0]]
            about = {"outcome": "forced", "message": "", "within": ("executing",)}
            assert transitions.end(connection, first.task_id, now=s.now, **about)

    ender = threading.Thread(target=end)
    ender.start()
    due, name = utc("2026-03-02 10:00"), s.entries()[0].template
    execute_batch(s.app, name, due, Run(run, due), lambda: s.now, lost=lost)
    ender.join()
    assert [len(rows) for rows in begun] == [1]
    assert outcomes(s) == {"forced": 1, "completed": 2}


DONE: dict[str, Any] = {
    "status": "completed",
    "outcome": "completed",
    "message": "",
    "result": 7,
}


def go_on(s: Shop, first: Entry, then: Entry, owner: str = "me") -> tuple[bool, bool]:
    """End the first one's execution and begin the other's in one statement: whether each was to be had."""
    following = transitions.Following(then.task_id, "its run", 25)
    with s.app.engine().begin() as connection:
        mine = transitions.finish(
            connection, first.task_id, owner, now=s.now, following=following, **DONE
        )
    return mine, following.claimed


def two(on: Make, swapped: bool = False) -> tuple[Shop, Entry, Entry]:
    """Two rows that are due, the first of them (`swapped`: the second) at work, and given first."""
    s = on(dispatch="batch")
    fill(s, range(1, 3))
    s.sync()
    s.at("2026-03-02 10:00")
    first, then = reversed(s.entries()) if swapped else s.entries()
    with s.app.engine().begin() as connection:
        assert transitions.claim(
            connection, first.task_id, "me", "its run", s.now, 25, in_batch=True
        )
    return s, first, then


@pytest.mark.parametrize("swapped", [False, True])
def test_one_statement_ends_a_row_and_begins_another(on: Make, swapped: bool) -> None:
    s, first, then = two(on, swapped)
    assert go_on(s, first, then) == (True, True)
    done, at_work = reversed(s.entries()) if swapped else s.entries()
    assert (done.status, done.outcome, done.result, done.finished, done.owner) == (
        "completed", "completed", "7", s.now, None
    )  # fmt: skip
    assert (done.attempt, done.flow_run_id, done.started) == (1, "its run", s.now)
    assert (at_work.status, at_work.owner, at_work.attempt, at_work.flow_run_id) == (
        "executing",
        "me",
        1,
        "its run",
    )
    assert (at_work.started, at_work.finished, at_work.outcome, at_work.batch) == (
        s.now,
        None,
        None,
        1,
    )
    assert at_work.lease_until == utc("2026-03-02 10:00:25")


def test_the_other_row_is_no_longer_to_be_had(on: Make) -> None:
    s, first, then = two(on)
    with s.app.engine().begin() as connection:
        assert transitions.end(
            connection, then.task_id, outcome="forced", message="", now=s.now
        )
    assert go_on(s, first, then) == (True, False)
    assert [(e.status, e.attempt) for e in s.entries()] == [
        ("completed", 1),
        ("ended", 0),
    ]


def test_an_execution_that_was_ended_begins_nothing_either(on: Make) -> None:
    s, first, then = two(on)
    assert go_on(s, first, then, owner="somebody else") == (False, False)
    assert [(e.status, e.owner) for e in s.entries()] == [
        ("executing", "me"),
        ("pending", None),
    ]


def test_a_row_that_somebody_has_locked_is_not_waited_for(on: Make) -> None:
    s, first, then = two(on)
    if s.app.engine().dialect.name == "sqlite":
        pytest.skip("SQLite locks no rows")
    mine = entries.c.task_id == then.task_id
    with s.app.engine().begin() as connection:
        connection.execute(entries.update().where(mine).values(message="locked"))
        assert go_on(s, first, then) == (True, False)


@pytest.mark.parametrize(
    "swapped", [False, True]
)  # whichever the database comes to first
def test_who_closes_both_rows_at_once_is_not_in_the_way(
    on: Make, swapped: bool
) -> None:
    s, first, then = two(on, swapped)
    if s.app.engine().dialect.name == "sqlite":
        pytest.skip("SQLite locks no rows")
    got: list[tuple[bool, bool]] = []
    other = threading.Thread(target=lambda: got.append(go_on(s, first, then)))
    with s.app.engine().begin() as connection:
        assert transitions.end(
            connection,
            first.task_id,
            outcome="forced",
            message="",
            now=s.now,
            within=("executing",),
        )
        other.start()
        other.join(0.5)  # it waits for the first one
        assert other.is_alive()
        assert transitions.end(
            connection, then.task_id, outcome="forced", message="", now=s.now
        )  # a deadlock raises
    other.join(30)
    assert got == [(False, False)]


SPOILED = """
from sqlalchemy import event
SEEN = []

def boom(session):
    raise ValueError("the commit fails")

def customFunc(row):
    SEEN.append(row.id)
    row.count += 1
    if SEEN == [1]:
        with app.session() as session:
            event.listen(session, "before_commit", boom)
"""


@pytest.mark.parametrize("retries", [0, 1])
def test_a_commit_that_fails_has_claimed_nothing(on: Make, retries: int) -> None:
    s = on(inner=SPOILED, retries=retries, retryDelay=0, dispatch="batch")
    fill(s, range(1, 4))
    s.sync()
    s.work("2026-03-02 10:00")
    assert [1, 2, 3, 1][: 3 + retries] == s.app.module("tasks.Task", "inner").SEEN
    assert [(e.outcome, e.attempt) for e in s.entries()] == [
        ("completed", 2) if retries else ("failed", 1), ("completed", 1), ("completed", 1)
    ]  # fmt: skip
    assert [s.row_count(key) for key in (1, 2, 3)] == [retries, 1, 1]


def test_a_row_that_was_claimed_and_not_begun_is_not_lost_with_its_batch(
    on: Make,
) -> None:
    """The commit that ends a row claims the next; what ends the batch between them is no reason not to run that one."""
    s = on(dispatch="batch")
    fill(s, range(1, 4))
    s.sync()
    [run] = s.api.all_runs
    s.at("2026-03-02 10:00")

    def told(_entry: Entry, _outcome: object) -> None:
        raise RuntimeError("no task run of that name")

    with pytest.raises(RuntimeError):
        execute_batch(
            s.app,
            "tasks.Task",
            utc("2026-03-02 10:00"),
            Run(run, s.now),
            lambda: s.now,
            told=told,
        )
    assert [(e.status, e.attempt, e.owner) for e in s.entries()] == [
        ("completed", 1, None), ("pending", 0, None), ("pending", 0, None)
    ]  # fmt: skip
    s.api._state(s.api.all_runs[run], "FAILED")
    s.sync("2026-03-02 10:01")
    s.work("2026-03-02 10:01:01")
    assert [s.row_count(key) for key in (1, 2, 3)] == [1, 1, 1]


def test_a_batch_that_died_is_taken_up_again(on: Make) -> None:

    s = on()
    fill(s, range(1, 31))
    s.sync()
    [run] = s.api.all_runs
    s.at("2026-03-02 10:00")
    begun = s.entries()[:2]
    with (
        s.app.engine().begin() as connection
    ):  # one was done, one is at work, and then the process is gone
        for entry in begun:
            assert transitions.claim(
                connection, entry.task_id, "dead:1:x", run, s.now, 25, in_batch=True
            )
        done = {
            "status": "completed",
            "outcome": "completed",
            "message": "",
            "result": None,
        }
        assert transitions.finish(
            connection, begun[0].task_id, "dead:1:x", now=s.now, **done
        )
    s.api._state(s.api.all_runs[run], "RUNNING")
    s.api.all_runs[run]["state"]["timestamp"] = s.now.isoformat()
    s.sync("2026-03-02 10:00:20")  # its lease holds
    assert [state for *_, state in runs(s)] == ["RUNNING"]
    s.sync("2026-03-02 10:00:30")
    assert [state for *_, state in runs(s)] == ["CRASHED", "SCHEDULED"]
    s.work("2026-03-02 10:00:31")
    assert outcomes(s) == {"completed": 29, "died": 1}
    assert s.did() == []


def test_retries_left_when_it_died(on: Make) -> None:

    s = on(retries=1)
    fill(s, range(1, 31))
    s.sync()
    [run] = s.api.all_runs
    s.at("2026-03-02 10:00")
    with s.app.engine().begin() as connection:
        assert transitions.claim(
            connection,
            s.entries()[3].task_id,
            "dead:1:x",
            run,
            s.now,
            25,
            in_batch=True,
        )
    s.api._state(s.api.all_runs[run], "CRASHED")
    s.sync("2026-03-02 10:00:40")
    s.work("2026-03-02 10:01:20")
    assert outcomes(s) == {"completed": 30}
    assert sorted(e.attempt for e in s.entries())[-2:] == [1, 2]


def test_an_older_copy_of_the_ledger_repeats_nothing(on: Make) -> None:
    s = on("at", inner=FAIL)
    fill(s, range(1, 31))
    s.save(id=9, status="bad")
    s.sync()
    s.work("2026-03-02 10:00")
    s.raw(
        "UPDATE jittask_ledger SET status = 'pending', outcome = NULL, finished = NULL, returned = :no, attempt = 0",
        no=False,
    )
    s.sync("2026-03-02 10:10")
    s.work("2026-03-02 10:11")
    assert [s.row_count(k) for k in (1, 9, 29)] == [1, 0, 1]
    assert outcomes(s) == {"completed": 29, "failed": 1}
    assert "according to Prefect" in s.entries()[0].message


def test_a_row_that_joins_a_batch_that_is_over(on: Make) -> None:
    s = on()
    fill(s, range(1, 31))
    s.sync()
    [run] = s.api.all_runs
    s.work("2026-03-02 10:00")
    s.save(id=100, at=TEN)  # due at once: within the look-back
    s.raw(
        "UPDATE jittask_ledger SET flow_run_id = :run, batch = 1, dirty = :no WHERE row_key = '100'",
        run=run,
        no=False,
    )
    s.sync("2026-03-02 10:00:30")
    s.work("2026-03-02 10:00:31")
    assert s.row_count(100) == 1 and outcomes(s) == {"completed": 31}


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
def test_two_batches_share_nothing(on: Make, small: None) -> None:
    # one flow run does the other's rows neither before nor after it
    from jittask_prefect.running.outcome import Run
    from jittask_prefect.running.run import execute_batch

    s = on()
    fill(s, range(1, 601))
    s.sync()
    first, second = s.api.all_runs
    s.at("2026-03-02 10:00")
    due = utc("2026-03-02 10:00")
    ended = execute_batch(s.app, "tasks.Task", due, Run(second, due), lambda: s.now)
    assert (len(ended.tasks), str(ended)) == (300, "300 rows: 300 done")
    again = execute_batch(s.app, "tasks.Task", due, Run(second, due), lambda: s.now)
    assert (
        str(again)
        == "nothing ran: the rows of this run have ended before: 300 completed"
    )
    assert (
        len(
            execute_batch(
                s.app, "tasks.Task", due, Run(first, due), lambda: s.now
            ).tasks
        )
        == 300
    )
    assert outcomes(s) == {"completed": 600}


def test_never_early(on: Make) -> None:
    from jittask_prefect.running.outcome import Run
    from jittask_prefect.running.run import execute_batch

    s = on()
    fill(s, range(1, 21))
    s.sync()
    slept: list[float] = []
    s.at("2026-03-02 09:59:58")
    due = utc("2026-03-02 10:00")

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        s.at("2026-03-02 10:00")

    execute_batch(
        s.app,
        "tasks.Task",
        due,
        Run(next(iter(s.api.all_runs)), due),
        lambda: s.now,
        sleep=sleep,
    )
    assert slept == [2.0]


def test_a_batch_far_ahead_is_asked_for_once(
    on: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = on()
    fill(s, range(1, 101), ELEVEN)
    fill(s, range(200, 205), TEN)
    s.sync()
    asked: list[int] = []
    real = s.api.runs

    def counting(**filters: Any) -> Any:
        if ids := filters.get("flow_runs", {}).get("id", {}).get("any_", []):
            asked.append(len(ids))
        return real(**filters)

    monkeypatch.setattr(s.api, "runs", counting)
    s.sync("2026-03-02 08:01")
    assert asked == [6]  # five runs of their own, and the batch of a hundred rows
    [batch] = [i for i, r in s.api.all_runs.items() if "due" in r["parameters"]]
    s.api.delete_run(batch)
    s.sync("2026-03-02 08:02")
    assert names(s) == ["Task · 100 rows · 2026-03-02 11:00"]


def test_a_batch_that_lost_a_row_is_asked_for_and_left_alone(on: Make) -> None:
    s = on(dispatch="batch")
    fill(s, range(1, 4), ELEVEN)
    s.sync()
    s.save(id=1, at=None)
    s.sync("2026-03-02 08:01")
    assert [e.status for e in s.entries()].count("ended") == 1
    assert settling.settle_waiting(s.app, "", s.api, s.now, lambda: None) == []
    assert not s.entries(dirty=True)


def test_a_process_that_leaves_leaves_after_return_to_who_has_ended_its_row(
    on: Make,
) -> None:
    s = on(dispatch="batch")
    fill(s, range(1, 4))
    s.sync()
    first, *_ = s.entries()
    with s.app.engine().begin() as connection:
        assert transitions.claim(
            connection,
            first.task_id,
            "me:1:x",
            str(first.flow_run_id),
            s.now,
            25,
            in_batch=True,
        )
        about = {"outcome": "forced", "message": "ended: forced end", "now": s.now}
        assert transitions.end(
            connection, first.task_id, within=("executing",), **about
        )
    record_end(s.app, str(first.flow_run_id), s.now)
    [ended] = s.entries(row_key=first.row_key)
    assert (ended.status, ended.returned) == ("ended", False)
    assert [(e.status, e.dirty) for e in s.entries() if e.task_id != first.task_id] == [
        ("pending", True)
    ] * 2


def test_a_run_that_ends_before_its_rows_have_joined_is_followed_by_another(
    on: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = on(dispatch="batch")
    fill(s, range(1, 4))
    s.sync()
    [dead] = s.api.all_runs
    s.at("2026-03-02 10:00")
    s.api.set_state(dead, "CRASHED")
    record_end(s.app, dead, s.now)
    real, made = s.api.create_run, list[str]()

    def create_run(*about: Any, **keys: Any) -> Any:
        run = real(*about, **keys)
        if run.id != dead and run.id not in made:
            made.append(run.id)
            if len(made) == 1:  # a worker takes it at once, finds no rows, and ends
                s.api.set_state(run.id, "COMPLETED")
        return run

    monkeypatch.setattr(s.api, "create_run", create_run)
    hand_over(s.app, "", s.api, s.now, Report())
    assert {e.flow_run_id for e in s.entries()} == {made[1]}
    assert s.work("2026-03-02 10:01")
    assert outcomes(s) == {"completed": 3}


def test_groups_of_a_few(on: Make) -> None:
    s = on()
    with s.app.engine().connect() as connection:
        assert batches.groups(s.app, connection, s.now, utc("2026-03-03 10:00")) == (
            [],
            set(),
        )
    fill(s, range(1, 6))
    fill(s, range(10, 40), ELEVEN)
    with s.app.engine().connect() as connection:
        found = batches.groups(s.app, connection, s.now, utc("2026-03-03 10:00"))
    ten, eleven = (
        batches.Group("tasks.Task", utc(f"2026-03-02 {hour}:00")) for hour in (10, 11)
    )
    assert found == ([eleven], {ten})


@pytest.mark.parametrize(("dispatch", "rows"), [("batch", 3), ("auto", 20)])
def test_rows_that_are_saved_during_a_hand_over_share_a_run_too(
    on: Make, monkeypatch: pytest.MonkeyPatch, dispatch: str, rows: int
) -> None:
    s = on(dispatch=dispatch)
    real, saved = batches.groups, [range(1, rows + 1)]

    def meanwhile(*args: Any) -> Any:
        found = real(*args)
        if saved:
            fill(s, saved.pop())
        return found

    monkeypatch.setattr(batches, "groups", meanwhile)
    s.sync()
    assert (
        names(s) == [f"Task · {rows} rows · 2026-03-02 10:00"]
        and len(s.api.all_runs) == 1
    )
    assert {(e.batch, e.dirty) for e in s.entries()} == {(1, False)}


def test_a_row_that_takes_too_long(on: Make) -> None:
    slow = "import threading\nGO = threading.Event()\ndef customFunc(row):\n    row.count += 1\n"
    s = on(
        "at",
        inner=slow + "    if row.status == 'slow':\n        GO.wait(20)\n",
        timeout=2,
    )
    fill(s, range(1, 26))
    s.save(id=3, status="slow")
    s.sync()
    s.work("2026-03-02 10:00")
    assert outcomes(s) == {"completed": 24, "timeout": 1}
    s.app.module("tasks.Task", "inner").GO.set()
    assert [s.row_count(k) for k in (2, 3, 4)] == [1, 0, 1]


def test_what_a_function_does_in_its_session_commits_with_its_row(on: Make) -> None:
    inner = "from sqlalchemy import text\ndef customFunc(row):\n    with app.session() as session:\n"
    inner += "        session.execute(text(f'UPDATE bill SET count = count + 1 WHERE id = {row.id + 1000}'))\n"
    inner += "    if row.status == 'bad':\n        raise ValueError('bad')\n"
    s = on("at", inner=inner)
    fill(s, range(1, 26))
    fill(s, range(1001, 1026), datetime(2030, 1, 1))
    s.save(id=7, status="bad")
    s.sync()
    s.work("2026-03-02 10:00")
    assert [s.row_count(1000 + key) for key in (1, 6, 7, 8, 25)] == [1, 1, 0, 1, 1]


@pytest.mark.parametrize(
    ("rows", "workers", "runs_made"),
    [
        *((100, 1, 1), (100, 3, 3), (59, 3, 2), (30, 3, 1), (600, 3, 3), (600, 1, 2)),
        (1600, 3, 6),  # four would leave one worker two of them
    ],
)
def test_each_worker_has_as_many_flow_runs_of_an_instant(
    shop: Make, small: None, rows: int, workers: int, runs_made: int
) -> None:
    s = shop()
    s.api.all_workers = workers
    fill(s, range(1, rows + 1))
    s.sync()
    assert len(runs(s)) == runs_made
    sizes = Counter(e.batch for e in s.entries())
    assert max(sizes.values()) - min(sizes.values()) <= 1
    s.work("2026-03-02 10:00")
    assert outcomes(s) == {"completed": rows}
