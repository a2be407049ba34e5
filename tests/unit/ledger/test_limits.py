"""`concurrency` of a template and `maxConcurrency` of an app: queue, skip, replace; leases are the slots."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from shop import COUNT, Shop, rows_task, utc
from sqlalchemy import Connection, Update, event, select, text, update
from waiting import WAITING

from jittask_prefect.errors import ConfigError
from jittask_prefect.ledger import limits, state_table, transitions
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.tables import entries
from jittask_prefect.running.calls import Call, Work
from jittask_prefect.running.outcome import Outcome, Run, Summary
from jittask_prefect.running.rows_of_instant import RowsOfInstant
from jittask_prefect.running.run import execute, execute_batch

Make = Callable[..., Shop]
TEN = datetime(2026, 3, 2, 10)
NOW = "2026-03-02 10:00"
ONE = "1 of 1 executions of tasks.Task are at work"


def three(
    shop: Make, overlap: str = "queue", limit: int = 1, **keys: Any
) -> tuple[Shop, list[Entry]]:
    """Three rows that are due now, with their own flow runs; the first of them is at work elsewhere."""
    s = shop(
        inner=COUNT,
        concurrency={"limit": limit, "overlap": overlap},
        dispatch="row",
        **keys,
    )
    for key in (1, 2, 3):
        s.save(id=key, at=TEN)
    s.sync(NOW)
    found = s.entries()
    begin(s, found[0], "elsewhere")
    return s, [e for e in found if e.due == s.now]


def begin(s: Shop, entry: Entry, owner: str, at: datetime | None = None) -> None:
    with s.app.engine().begin() as connection:
        assert transitions.claim(
            connection, entry.task_id, owner, f"run of {owner}", at or s.now, 25
        )


def done(s: Shop, entry: Entry, owner: str) -> None:
    about: dict[str, Any] = {
        "status": "completed",
        "outcome": "completed",
        "message": "",
        "result": None,
    }
    with s.app.engine().begin() as connection:
        assert transitions.finish(connection, entry.task_id, owner, **about, now=s.now)


def made(s: Shop) -> int:
    return len(s.api.runs())


def states(s: Shop) -> list[str]:
    return [f"{e.row_key} {e.status} {e.outcome}" for e in s.entries()]


def test_one_too_many_waits_a_moment_and_then_gives_its_flow_run_up(shop: Make) -> None:
    s, (_, second, _) = three(shop)
    slept: list[float] = []
    outcome = s.run(second, slept.append)
    assert (outcome.status, outcome.message) == ("ended", f"not run: queued: {ONE}")
    assert 2.5 <= sum(slept) <= 3.5 and s.row(2).count == 0
    [entry] = [e for e in s.entries() if e.row_key == "2"]
    assert (entry.status, entry.queue, entry.dirty, entry.attempt) == (
        "pending",
        "waiting",
        True,
        0,
    )
    assert entry.message == f"queued: {ONE}"


def test_a_slot_that_becomes_free_meanwhile_is_taken(shop: Make) -> None:
    s, (first, second, _) = three(shop)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            done(s, first, "elsewhere")

    assert (s.run(second, sleep).status, len(slept)) == ("completed", 3)


def test_those_that_wait_go_on_in_the_order_of_their_due_times(shop: Make) -> None:
    s = shop(
        inner=COUNT, concurrency={"limit": 2}, dispatch="row", missed={"policy": "all"}
    )
    for key, at in ((1, 10), (2, 9), (3, 8), (4, 7)):
        s.save(id=key, at=datetime(2026, 3, 2, at))
    s.sync(NOW)
    fourth, third, second, first = s.entries()
    begin(s, first, "a")
    begin(s, second, "b")
    for entry in (third, fourth):
        assert s.run(entry).message.startswith(
            "not run: queued: 2 of 2 executions of tasks.Task"
        )
    before = made(s)
    s.sync()
    assert made(s) == before, "no slot, no flow run"
    done(s, first, "a")
    s.sync()
    assert made(s) == before + 1
    [turn] = [e for e in s.entries() if e.status == "pending" and not e.dirty]
    assert (turn.row_key, turn.outcome) == ("4", None) and turn.flow_run_id not in (
        None,
        fourth.flow_run_id,
    )
    # Its place is held for it: one that comes by is not let past, however free the slot looks.
    s.save(id=5, at=TEN)
    assert s.run(next(e for e in s.entries() if e.row_key == "5")).outcome == "skipped"
    assert s.run(turn).status == "completed"


def test_a_task_that_is_claimed_while_places_are_given_keeps_its_claim(
    shop: Make,
) -> None:
    s, (first, second, third) = three(shop)
    for entry in (second, third):
        s.run(entry)
    done(s, first, "elsewhere")
    claimed: list[Entry] = []

    def claim_first(connection: Connection, clause: Any, *_: Any) -> None:
        """Claim the tasks just before a place is held."""
        if isinstance(clause, Update) and clause.table is entries and not claimed:
            for entry in (second, third):
                claimed.append(entry)
                of = (entry.task_id, "batch", "its run", s.now, 25)
                assert transitions.claim(connection, *of, in_batch=True)

    engine = s.app.engine()
    event.listen(engine, "before_execute", claim_first)
    limit = s.app.template("tasks.Task").cfg.concurrency
    limits.admit(engine, s.app.name, 99, lambda _: limit, s.now)
    event.remove(engine, "before_execute", claim_first)
    found = [(e.status, e.owner, e.queue) for e in s.entries() if e.row_key != "1"]
    assert claimed and found == [("executing", "batch", None)] * 2


def test_a_place_is_not_held_for_ever(shop: Make) -> None:
    s, (first, second, third) = three(shop)
    s.run(second)
    done(s, first, "elsewhere")
    s.sync()
    assert s.run(third).outcome == "skipped"
    s.now += timedelta(seconds=61)
    assert s.run(third).status == "completed"


def test_the_slot_of_a_dead_worker_becomes_free_with_its_lease(shop: Make) -> None:
    s, (_, second, _) = three(shop)
    s.now += timedelta(seconds=24)
    assert s.run(second).outcome == "skipped"
    s.now += timedelta(seconds=2)
    assert s.run(second, run_id="later").status == "completed"


def test_skip_ends_the_task_and_plans_what_comes_next(shop: Make) -> None:
    s, (_, second, _) = three(shop, "skip", repeat={"repeatType": "day"})
    slept: list[float] = []
    outcome = s.run(second, slept.append)
    assert (outcome.status, outcome.outcome, outcome.message) == (
        "ended",
        "skipped",
        f"not run: {ONE}",
    )
    assert slept == [] and s.row(2).count == 0
    assert [
        f"{e.due:%d} {e.status} {e.outcome} {e.message}" for e in s.entries(row_key="2")
    ] == [
        f"02 ended skipped not run: {ONE}",
        "03 pending None ",
    ]


def test_replace_ends_the_one_that_began_first(shop: Make) -> None:
    s, (_, second, third) = three(shop, "replace", 2)
    begin(s, second, "later", s.now + timedelta(seconds=1))
    assert s.run(third).status == "completed"
    assert states(s) == ["1 ended forced", "2 executing None", "3 completed completed"]
    [old] = s.entries(row_key="1")
    assert old.message == "ended: forced end: a later execution replaces it"


def test_replace_waits_for_the_end_of_the_process(shop: Make) -> None:
    s, (first, second, _) = three(shop, "replace")
    ended: list[str] = []

    def end(task_id: str) -> None:
        ended.append(task_id)
        assert s.row(2).count == 0, "the later one must not have begun"
        done(s, first, "elsewhere")

    run = Run("run", second.due)
    assert (
        execute(
            s.app, second.template, second.task_id, run, lambda: s.now, end=end
        ).status
        == "completed"
    )
    assert ended == [first.task_id]


def test_the_cap_of_the_app_counts_all_templates(shop: Make) -> None:
    s = shop(
        inner=COUNT,
        dispatch="row",
        app_json={"maxConcurrency": 1},
        more={"tasks/Other": rows_task("at", inner=COUNT, dispatch="row")},
    )
    s.save(id=1, at=TEN)
    s.sync(NOW)
    one, other = s.entries()
    begin(s, one, "elsewhere")
    assert (
        s.run(other).message
        == "not run: queued: 1 of 1 executions of the app are at work"
    )
    done(s, one, "elsewhere")
    s.sync()
    s.work()
    assert [(e.template, e.status) for e in s.entries()] == [
        (one.template, "completed"),
        (other.template, "completed"),
    ] and s.row(1).count == 1


def test_a_batch_is_one_execution(shop: Make) -> None:
    s = shop(inner=COUNT, concurrency={"limit": 1}, dispatch="batch")
    for key in range(1, 6):
        s.save(id=key, at=TEN)
    s.sync(NOW)
    [run_id] = {e.flow_run_id for e in s.entries()}
    ended = execute_batch(
        s.app, "tasks.Task", utc(NOW), Run(str(run_id), s.now), lambda: s.now
    )
    assert str(ended) == "5 rows: 5 done"


def test_a_batch_without_a_slot_leaves_its_rows_to_another_flow_run(shop: Make) -> None:
    s = shop(inner=COUNT, concurrency={"limit": 1}, dispatch="batch")
    s.save(id=9, at=TEN - timedelta(hours=1))
    for key in (1, 2, 3):
        s.save(id=key, at=TEN)
    s.sync(NOW)
    first, *rest = s.entries()
    begin(s, first, "elsewhere")
    [run_id] = {e.flow_run_id for e in rest}
    slept: list[float] = []
    ended = execute_batch(
        s.app,
        "tasks.Task",
        utc(NOW),
        Run(str(run_id), s.now),
        lambda: s.now,
        sleep=slept.append,
    )
    assert str(ended) == f"not run: queued: {ONE}" and slept
    assert {(e.status, e.queue, e.dirty) for e in s.entries(due=utc(NOW))} == {
        ("pending", "waiting", True)
    }
    s.sync()
    assert {e.flow_run_id for e in s.entries(due=utc(NOW))} == {run_id}, "no slot yet"
    done(s, first, "elsewhere")
    s.sync()
    [again] = {e.flow_run_id for e in s.entries(due=utc(NOW))}
    assert again != run_id and s.api.all_runs[str(run_id)]["state_type"] != "CRASHED"
    ended = execute_batch(
        s.app, "tasks.Task", utc(NOW), Run(str(again), s.now), lambda: s.now
    )
    assert str(ended) == "3 rows: 3 done"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_a_batch_counts_another_that_was_claimed_after_its_rows_were_read(
    shop: Make, url: Callable[[str], str], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MariaDB counts as of the first read of a transaction."""
    s = shop(
        concurrency={"limit": 1}, dispatch="batch", app_json={"database": url(kind)}
    )
    s.save(id=1, at=TEN)
    s.save(id=2, at=TEN - timedelta(minutes=1))
    s.sync(NOW)

    def calls(entry: Entry) -> RowsOfInstant:
        run, template = (
            Run(str(entry.flow_run_id), entry.due),
            s.app.template("tasks.Task"),
        )
        work = Work(
            s.app, "", template, run, lambda: s.now, lambda _: None, Summary(), None
        )
        return RowsOfInstant(work, entry.due)

    first, second = (calls(entry) for entry in s.entries())
    begun: list[Any] = []
    claim = transitions.claim

    def later(*args: Any, **keys: Any) -> bool:
        monkeypatch.setattr(transitions, "claim", claim)
        begun.append(second.claim("second"))
        return claim(*args, **keys)

    monkeypatch.setattr(transitions, "claim", later)
    found = first.claim("first")
    assert isinstance(begun[0], Call) and isinstance(found, limits.Full)
    assert sum(e.status == "executing" for e in s.entries()) == 1


def test_the_claim_comes_before_the_lock_and_the_lock_before_the_count(
    shop: Make, url: Callable[[str], str]
) -> None:
    """Claimed while the lock is waited for; and a place that was taken meanwhile is counted."""
    s = shop(
        concurrency={"limit": 1},
        dispatch="row",
        app_json={"database": url("postgresql")},
    )
    for key in (1, 2):
        s.save(id=key, at=TEN)
    s.sync(NOW)
    first, second = s.entries()
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(s.run(second)))
    row = select(entries.c.task_id).where(entries.c.task_id == second.task_id)
    waits = text(WAITING["postgresql"])
    with s.app.engine().begin() as connection:
        state_table.lock(connection, s.app.name, "turn")
        claim = (connection, first.task_id, "elsewhere", "its run", s.now, 25)
        assert transitions.claim(*claim)
        thread.start()
        with s.app.engine().connect() as other:
            while not other.execute(waits).scalar():
                assert thread.is_alive(), "the lock was not waited for"
                other.rollback()
            free = row.with_for_update(skip_locked=True)
            assert other.execute(free).first() is None, "the task was not claimed yet"
    thread.join(30)
    assert [outcome.message for outcome in outcomes] == [f"not run: queued: {ONE}"]
    assert states(s) == ["1 executing None", "2 pending None"]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_many_at_once_are_never_more_than_the_limit(
    shop: Make, url: Callable[[str], str], kind: str
) -> None:
    s = shop(
        inner=COUNT,
        concurrency={"limit": 2},
        dispatch="row",
        app_json={"database": url(kind)},
    )
    for key in range(8):
        s.save(id=key + 1, at=TEN)
    s.sync(NOW)
    found, begun = s.entries(), []
    start = threading.Barrier(len(found))
    limit = s.app.template("tasks.Task").cfg.concurrency

    def claim(entry: Entry) -> None:
        start.wait()
        with s.app.engine().begin() as connection:
            assert transitions.claim(
                connection, entry.task_id, entry.row_key, "run", s.now, 25
            )
            if limits.full(connection, entry, limit, s.app.cfg.maxConcurrency, s.now):
                connection.rollback()
            else:
                begun.append(entry.row_key)

    threads = [threading.Thread(target=claim, args=[entry]) for entry in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(begun) == 2
    assert sum(e.status == "executing" for e in s.entries()) == 2


def test_what_waits_can_be_ended_and_moved(shop: Make) -> None:
    s, (_, second, third) = three(shop)
    s.run(second)
    s.run(third)
    with s.app.engine().begin() as connection:
        assert transitions.end(
            connection,
            second.task_id,
            outcome="forced",
            message="ended: forced end",
            now=s.now,
        )
    s.save(id=3, at=TEN + timedelta(days=1))
    assert states(s)[1:] == ["2 ended forced", "3 ended superseded", "3 pending None"]
    with s.app.engine().connect() as connection:
        assert not limits.waiting(connection, s.app.name, s.now)


def test_a_failed_task_that_is_tried_again_by_hand_is_not_lost(shop: Make) -> None:
    s, (_, second, _) = three(shop)
    with s.app.engine().begin() as connection:
        connection.execute(
            update(entries)
            .where(entries.c.task_id == second.task_id)
            .values(status="error")
        )
    outcome = s.run(second, run_id=str(second.flow_run_id))
    assert (
        outcome.message == f"not run: {ONE}"
        and s.entries(row_key="2")[0].status == "error"
    )


def test_a_batch_cannot_skip_or_replace(shop: Make) -> None:
    for overlap in ("skip", "replace"):
        s = shop(
            inner=COUNT, concurrency={"limit": 1, "overlap": overlap}, dispatch="batch"
        )
        with pytest.raises(
            ConfigError,
            match=f"{overlap} with dispatch batch; allowed: queue, or dispatch row",
        ):
            s.app.template("tasks.Task")
