"""A task's execution in the ledger: claimed, kept, finished, and `afterReturn` called once.

Each is one conditional update, which lets one through. Functions take a connection and never commit.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection, and_, bindparam, func, literal, select, update

from .keys import to_json
from .ledger import FINAL, Entry, entries, to_entry
from .prepared import prepared


def claim(
    connection: Connection,
    task_id: str,
    owner: str,
    run_id: str,
    now: datetime,
    seconds: float,
    *,
    in_batch: bool = False,
    wait: bool = True,
) -> bool:
    """Begin a task, in a flow run: the fence that lets one execution through.

    A pending task may begin; so may one whose worker died before (`died` is set by whoever takes over), and, in a flow
    run of its own, a failed one that is tried again. Completed and ended ones never begin again, whatever Prefect's
    state says.

    Args:
        connection: In a transaction.
        task_id: The task.
        owner: Who executes it.
        run_id: The flow run.
        now: The present instant.
        seconds: How long the claim holds without renewal.
        in_batch: The flow run is a batch's.
        wait: Wait for whoever has the entry locked; else it is as if it could not be claimed.
    """
    kind = connection.dialect.name
    if not wait and kind in ("mysql", "mariadb"):
        free = select(entries.c.task_id).where(entries.c.task_id == task_id).with_for_update(skip_locked=True)
        if connection.execute(free).first() is None:
            return False
    skip = not wait and kind == "postgresql"
    statement = prepared(connection, ("claim", in_batch, skip), partial(_claim, in_batch, skip))
    until = now + timedelta(seconds=seconds)
    cursor = statement.run(
        connection, [{"task": task_id, "by": owner, "run": run_id, "now": now, "until": until, "id": task_id}]
    )
    begun = bool(cursor.rowcount)
    cursor.close()
    return begun


def _claim(in_batch: bool, skip_locked: bool) -> Any:
    may = ("pending",) if in_batch else ("pending", "error")
    mine = [entries.c.task_id == bindparam("task"), entries.c.status.in_([literal(status) for status in may])]
    if skip_locked:
        other = entries.alias()
        free = select(other.c.task_id).where(other.c.task_id == bindparam("id")).with_for_update(skip_locked=True)
        mine.append(entries.c.task_id.in_(free.scalar_subquery()))
    values: dict[str, Any] = {
        "status": "executing",
        "owner": bindparam("by"),
        "flow_run_id": bindparam("run"),
        "lease_until": bindparam("until"),
        "attempt": entries.c.attempt + 1,
        "started": bindparam("now"),
        "finished": None,
        "outcome": None,
        "message": "",
        "returned": False,
    }
    if in_batch:
        values["batch"] = func.coalesce(entries.c.batch, 0)
    return update(entries).where(*mine).values(**values)


def renew(connection: Connection, owner: str, now: datetime, seconds: float) -> None:
    """Say that the owner's executions live."""
    mine = and_(entries.c.status == "executing", entries.c.owner == owner)
    connection.execute(update(entries).where(mine).values(lease_until=now + timedelta(seconds=seconds)))


def owner_of(connection: Connection, task_id: str) -> str | None:
    """Who executes a task; None where nobody does: it was ended."""
    mine = and_(entries.c.task_id == task_id, entries.c.status == "executing")
    found = connection.execute(select(entries.c.owner).where(mine)).scalar()
    return None if found is None else str(found)


def finish(
    connection: Connection,
    task_id: str,
    owner: str,
    *,
    status: str,
    outcome: str,
    message: str,
    result: Any,
    now: datetime,
    returned: bool = False,
) -> bool:
    """Record the end of an execution; False: it is no longer this owner's, and nothing of it may commit."""
    values = {
        "state": status,
        "how": outcome,
        "said": message,
        "gave": None if result is None else to_json(result),
        "now": now,
        "told": returned,
    }
    cursor = prepared(connection, "finish", _finish).run(connection, [{"task": task_id, "by": owner, **values}])
    mine = bool(cursor.rowcount)
    cursor.close()
    return mine


def _finish() -> Any:
    mine = (entries.c.task_id == bindparam("task"), entries.c.owner == bindparam("by"))
    values: dict[str, Any] = {
        "status": bindparam("state"),
        "outcome": bindparam("how"),
        "message": bindparam("said"),
        "result": bindparam("gave"),
        "finished": bindparam("now"),
        "owner": None,
        "lease_until": None,
        "dirty": False,
        "returned": bindparam("told"),
    }
    return update(entries).where(*mine, entries.c.status == "executing").values(**values)


def take_return(connection: Connection, task_id: str) -> bool:
    """The right to call `afterReturn`, given once for each end of a task."""
    once = and_(entries.c.task_id == task_id, entries.c.returned.is_(False), entries.c.status.in_(FINAL))
    return bool(connection.execute(update(entries).where(once).values(returned=True)).rowcount)


def unreturned(connection: Connection, before: datetime) -> list[Entry]:
    """The tasks that ended before an instant and whose `afterReturn` nobody has called: who was to do it died."""
    query = select(entries).where(entries.c.returned.is_(False), entries.c.finished < before)
    return [to_entry(record) for record in connection.execute(query)]
