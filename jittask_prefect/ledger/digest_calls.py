"""Transitions of calls: the tasks of a digest are claimed, ended and put back together.

Whoever writes several tasks of a call locks them first, in the order of their ids: two who do so at once wait for each
other's end, and never in a circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, or_, select

from jittask_prefect.ledger import statements
from jittask_prefect.ledger.entry import Entry, to_entries
from jittask_prefect.ledger.keys import to_json
from jittask_prefect.ledger.statements import FREE, owned, update_tasks
from jittask_prefect.ledger.tables import entries


def lock(
    connection: Connection, task_ids: Sequence[str], *, wait: bool = True
) -> list[str]:
    """Lock tasks in the order of their ids; those that are locked now.

    Args:
        connection: In a transaction.
        task_ids: The tasks.
        wait: Wait for tasks that somebody else has locked; else leave them out.
    """
    ids = sorted(task_ids)
    alone = len(ids) == 1 and wait
    if alone or connection.dialect.name == "sqlite":
        return ids  # nothing can meet in a circle; SQLite's first write locks all
    mine = select(entries.c.task_id).where(entries.c.task_id.in_(ids))
    query = statements.by_key(mine.order_by(entries.c.task_id))
    locked = query.with_for_update(skip_locked=not wait)
    return list(connection.execute(locked).scalars())


# pending → executing


def claim_all(
    connection: Connection,
    task_ids: Sequence[str],
    owner: str,
    run_id: str,
    now: datetime,
    seconds: float,
    *,
    wait: bool,
) -> list[str]:
    """Claim the tasks of a call, none of which has begun; those that were claimed, in the given order.

    Condition: the task is pending.

    Args:
        connection: In a transaction.
        task_ids: The tasks.
        owner: Who executes them.
        run_id: The batch's flow run.
        now: The present instant.
        seconds: How long the claim holds without renewal.
        wait: As of `lock`.
    """
    free = lock(connection, task_ids, wait=wait)
    given = statements.claimer(owner, run_id, now, seconds, begun=False)
    statement = update_tasks(free).where(entries.c.status == "pending")
    values = statements.claimed(in_batch=True)
    connection.execute(statement.values(**values), given)
    mine = (entries.c.owner == owner, entries.c.status == "executing")
    query = select(entries.c.task_id).where(entries.c.task_id.in_(free), *mine)
    claimed = set(connection.execute(query).scalars())
    return [task_id for task_id in task_ids if task_id in claimed]


# executing → completed, error, ended: by the owner


def finish_all(
    connection: Connection,
    task_ids: Sequence[str],
    owner: str,
    *,
    status: str,
    outcome: str,
    message: str,
    result: Any,
    now: datetime,
    returned: bool,
) -> bool:
    """Record the same end of several tasks of a call. False: nothing of the execution may commit.

    Condition: all are executing, and the owner's. Arguments as of `transitions.finish`; all tasks of the call are
    locked.
    """
    values = {
        "status": status,
        "outcome": outcome,
        "message": message,
        "result": None if result is None else to_json(result),
        "finished": now,
        "dirty": False,
        "returned": returned,
        **FREE,
    }
    statement = update_tasks(task_ids).where(*owned(owner)).values(**values)
    return connection.execute(statement).rowcount == len(task_ids)


# executing → pending, since another task of the call was ended


def waiting(connection: Connection, task_ids: Sequence[str]) -> set[str]:
    """Those of some tasks that wait."""
    mine = (entries.c.task_id.in_(task_ids), entries.c.status == "pending")
    return set(connection.execute(select(entries.c.task_id).where(*mine)).scalars())


def tasks_of(connection: Connection, task: Entry) -> list[Entry]:
    """The tasks of the call that a task is at work in: one owner claims a call at one instant."""
    same = (*owned(task.owner), entries.c.started == task.started)
    mine = (entries.c.flow_run_id == task.flow_run_id, *same)
    return to_entries(connection.execute(select(entries).where(*mine)))


def put_back(connection: Connection, task: Entry, task_ids: Sequence[str]) -> None:
    """Have tasks wait again whose call was at work with a task that somebody has ended; the attempt does not count.

    Their flow run takes them again, or, where its process leaves, another one. Condition: executing, in that very call.

    Args:
        connection: In a transaction.
        task: A task of the call, as it was before.
        task_ids: The tasks.
    """
    if task_ids:
        same = (*owned(task.owner), entries.c.started == task.started)
        values = _WAITS | {"attempt": entries.c.attempt - 1}
        connection.execute(update_tasks(task_ids).where(*same).values(**values))


def put_back_killed(connection: Connection, task: Entry) -> list[Entry]:
    """As `put_back`, where the process was killed for the end, and its worker may have written the tasks down as dead.

    Condition: they died, or wait for a retry, after that very call. Tasks that died get another flow run.

    Returns:
        The tasks.
    """
    of_call = (
        entries.c.app == task.app,
        entries.c.template == task.template,
        entries.c.due == task.due,
        entries.c.started == task.started,
        entries.c.task_id != task.task_id,
    )
    died = and_(entries.c.status == "error", entries.c.outcome == "died")
    waits = and_(entries.c.status == "pending", entries.c.attempt > 0)
    query = select(entries).where(*of_call, or_(died, waits))
    found = to_entries(connection.execute(query))
    attempt = {"attempt": entries.c.attempt - 1}
    for status, where, values in (
        ("error", died, _WAITS | attempt | {"dirty": True}),
        ("pending", waits, attempt),
    ):
        ids = [each.task_id for each in found if each.status == status]
        if ids:
            connection.execute(update_tasks(ids).where(where).values(**values))
    return found


_WAITS: dict[str, Any] = {
    "status": "pending",
    "outcome": None,
    "message": "",
    "started": None,
    "finished": None,
    "dirty": False,
    "returned": False,
    **FREE,
}
"""The columns of a task that waits as if it had not begun."""
