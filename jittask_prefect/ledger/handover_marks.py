"""The second machine: how far Prefect reflects a task. Its columns are `dirty`, `flow_run_id` and `batch`.

Drawn in `jittask_prefect.ledger`. No function here changes a task's status.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, select, update

from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.tables import FINAL, OPEN, entries

# dirty → clean


def run_made(connection: Connection, task_id: str, run_id: str) -> None:
    """Note the flow run of a task of `createTimerTask`. A task that ended meanwhile stays dirty: its run is cancelled.

    Condition for clean: the task is open.
    """
    mine = entries.c.task_id == task_id
    connection.execute(update(entries).where(mine).values(flow_run_id=run_id))
    # The caller of `createTimerTask` gets this run's id; a task of a row is known by its own.
    made = (mine, entries.c.func_name.is_not(None), entries.c.first_run_id.is_(None))
    connection.execute(update(entries).where(*made).values(first_run_id=run_id))
    open_ = (mine, entries.c.status.in_(OPEN))
    connection.execute(update(entries).where(*open_).values(dirty=False))


def runs_made(connection: Connection, made: Sequence[tuple[Entry, str]]) -> None:
    """Note the flow runs that the hand-over has made for tasks.

    Condition: the attempt is that of the entry: another attempt has another run, and notes that run. Condition for
    clean: the task is pending: a task that ended meanwhile stays dirty, and its run is cancelled next.
    """
    if not made:
        return

    of = [{"task": e.task_id, "tried": e.attempt, "run": run} for e, run in made]
    mine = (
        entries.c.task_id == bindparam("task"),
        entries.c.attempt == bindparam("tried"),
    )
    run = update(entries).where(*mine).values(flow_run_id=bindparam("run"))
    connection.execute(run, of)
    waits = (*mine, entries.c.status == "pending")
    clean = update(entries).where(*waits).values(dirty=False, queue=None)
    connection.execute(clean, of)


def batch_joined(
    connection: Connection, tasks: Sequence[str], batch: int, run_id: str
) -> None:
    """Note the batch that tasks are in. Condition: pending; a task that ended meanwhile stays unchanged."""
    mine = (entries.c.task_id == bindparam("task"), entries.c.status == "pending")
    values = {"batch": batch, "flow_run_id": run_id, "dirty": False, "queue": None}
    statement = update(entries).where(*mine).values(**values)
    connection.execute(statement, [{"task": task} for task in tasks])


def end_shown(connection: Connection, tasks: Sequence[str]) -> None:
    """Note that Prefect shows the end of tasks. Condition: they have ended; a failed task may begin again meanwhile."""
    mine = (entries.c.task_id.in_(tasks), entries.c.status.in_(FINAL))
    connection.execute(update(entries).where(*mine).values(dirty=False))


# clean → dirty


def batch_left(connection: Connection, tasks: Sequence[str], run_id: str) -> None:
    """Take tasks out of a batch whose run takes none any more. Condition: pending, and in that batch."""
    mine = (
        entries.c.task_id == bindparam("task"),
        entries.c.status == "pending",
        entries.c.flow_run_id == run_id,
    )
    values = {"batch": None, "flow_run_id": None, "dirty": True}
    statement = update(entries).where(*mine).values(**values)
    connection.execute(statement, [{"task": task} for task in tasks])


def batch_stopped(connection: Connection, run_id: str) -> dict[str, tuple[str, str]]:
    """Take the waiting rows out of a batch whose worker stops; template and key by task. They stay rows of a batch."""
    mine = _waiting(run_id)
    columns = (entries.c.template, entries.c.row_key, entries.c.task_id)
    found = connection.execute(select(*columns).where(*mine)).all()
    values = {"flow_run_id": None, "dirty": True}
    tasks = entries.c.task_id == bindparam("task")
    if found:
        statement = update(entries).where(tasks, *mine).values(**values)
        connection.execute(statement, [{"task": each.task_id} for each in found])
    return {each.task_id: (each.template, each.row_key) for each in found}


def run_lost(connection: Connection, task_id: str, run_id: str | None) -> None:
    """Have a task get another flow run. Condition: pending, and still of that flow run."""
    mine = (
        entries.c.task_id == task_id,
        entries.c.flow_run_id == run_id,
        entries.c.status == "pending",
    )
    connection.execute(update(entries).where(*mine).values(dirty=True))


def cancel_again(connection: Connection, runs: Sequence[str]) -> None:
    """Have live flow runs cancelled whose tasks are ended, as in an older copy of Prefect. Condition: ended."""
    mine = (entries.c.flow_run_id.in_(runs), entries.c.status == "ended")
    connection.execute(update(entries).where(*mine).values(dirty=True))


def waiting_rows(connection: Connection, run_id: str) -> bool:
    """Whether rows of a flow run wait for their begin."""
    query = select(entries.c.task_id).where(*_waiting(run_id)).limit(1)
    return connection.execute(query).first() is not None


def _waiting(run_id: str) -> tuple[ColumnElement[bool], ...]:
    mine = (entries.c.flow_run_id == run_id, entries.c.status == "pending")
    return *mine, entries.c.queue.is_(None)


def open_runs(connection: Connection, runs: Sequence[str]) -> set[Any]:
    """Those of some flow runs that have an open task."""
    query = select(entries.c.flow_run_id).where(
        entries.c.flow_run_id.in_(runs), entries.c.status.in_(OPEN)
    )
    return set(connection.execute(query.distinct()).scalars())
