"""Late tasks wait for their opening hours: pending, with the instant of the opening in `not_before`.

The hand-over makes another flow run, for the opening. The instant stays when the task is claimed: from there on the task
counts as due, for `missed`, lateness and *overdue*.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, case, update

from jittask_prefect.ledger import statements
from jittask_prefect.ledger.statements import FREE, update_task
from jittask_prefect.ledger.tables import entries


def wait_for_opening(
    connection: Connection, opening: datetime, message: str, *tasks: Any
) -> int:
    """Have pending tasks wait for an opening, in another flow run; how many do. Condition: pending.

    Args:
        connection: In a transaction.
        opening: The instant.
        message: Why, for people.
        tasks: Conditions: which tasks.
    """
    mine = (entries.c.status == "pending", *tasks)
    statement = update(entries).where(*mine)
    values = _waiting(opening, message).items()
    return connection.execute(statement.ordered_values(*values)).rowcount


def retry_at_opening(
    connection: Connection, task_id: str, owner: str, opening: datetime, message: str
) -> bool:
    """Have a task that failed wait for an opening, to be tried again; False: the task is no longer this owner's.

    Condition: the task is executing, and the owner's. The attempt counts.

    Args:
        connection: In a transaction.
        task_id: The task.
        owner: Who executed the task.
        opening: The instant.
        message: Why the task waits, for people.
    """
    mine = update_task().where(*statements.executing(task_id, owner))
    values = {"status": "pending", **_waiting(opening, message)}
    return bool(connection.execute(mine.ordered_values(*values.items())).rowcount)


def _waiting(opening: datetime, message: str) -> dict[Any, Any]:
    # A row leaves its batch. The run before the batch: MariaDB's later assignments see the earlier ones.
    run = case((entries.c.batch.is_(None), entries.c.flow_run_id), else_=None)
    return {
        "flow_run_id": run,
        "batch": None,
        "dirty": True,
        "not_before": opening,
        "message": message,
        **FREE,
    }
