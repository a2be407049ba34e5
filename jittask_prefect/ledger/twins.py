"""Twins: two tasks of a row that are due at the same instant. Only one of them runs.

Two series of a row, that of its former date and the present one, may meet in an instant.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, and_, exists, select

from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.tables import OPEN, entries
from jittask_prefect.ledger.transitions import end

DONE = "another task of the row, due at the same instant, was done"


def end_twins(
    connection: Connection, entry: Entry, now: datetime
) -> Literal["done", "busy"] | None:
    """End the twins of a task that waits, before its claim; or end the task itself for a twin that was completed.

    A twin of an earlier generation that has not begun is ended here, and cannot be claimed any more.

    Args:
        connection: In the transaction of the claim.
        entry: The task; only a task of a later generation than the first may have a twin.
        now: The present instant.

    Returns:
        `done`: the other was completed, and the task is ended. `busy`: the other is at work. None: no twin is in the way.
    """
    if not entry.row_key or entry.generation < 2:
        return None
    query = select(entries.c.task_id, entries.c.status, entries.c.generation).where(
        entries.c.app == entry.app,
        entries.c.template == entry.template,
        entries.c.row_key == entry.row_key,
        entries.c.due == entry.due,
        entries.c.task_id != entry.task_id,
        entries.c.anchor.is_not(None),
        entries.c.status.in_((*OPEN, "completed")),
    )
    if connection.dialect.name != "sqlite":
        query = query.with_for_update()
    others = connection.execute(query).all()
    if any(other.status == "completed" for other in others):
        why = f"superseded: {DONE}"
        end(connection, entry.task_id, outcome="superseded", message=why, now=now)
        return "done"
    for other in others:
        if other.status == "pending" and other.generation > entry.generation:
            continue  # the twin asks for this task
        why = "superseded: a later task of the row, due at the same instant, is run"
        if not end(
            connection, other.task_id, outcome="superseded", message=why, now=now
        ):
            return "busy"
    return None


def has_twin() -> Any:
    """Of an entry in a query: whether `end_twins` is to be asked."""
    other = entries.alias("twin")
    same = [
        other.c[name] == entries.c[name]
        for name in ("app", "template", "row_key", "due")
    ]
    alive = (
        other.c.task_id != entries.c.task_id,
        other.c.anchor.is_not(None),
        other.c.status.in_((*OPEN, "completed")),
    )
    return and_(entries.c.generation > 1, exists().where(*same, *alive))
