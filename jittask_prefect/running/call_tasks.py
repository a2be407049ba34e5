"""The tasks of a call in the ledger: changed together, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from jittask_prefect.ledger import digest_calls, transitions
from jittask_prefect.ledger.transitions import Following
from jittask_prefect.running.calls import Call, End, Work, alike


def change_all(
    work: Work,
    call: Call,
    owner: str,
    change: Callable[[Connection, Sequence[str], str], bool],
) -> bool:
    """Change all tasks of a call; False, and none is changed, where a task is no longer the owner's.

    Args:
        work: The flow run's surroundings.
        call: The call.
        owner: Who has claimed the call.
        change: A transition of several tasks.
    """
    with work.app.engine(work.database).connect() as connection:
        digest_calls.lock(connection, call.ids)
        changed = change(connection, call.ids, owner)
        if changed:
            connection.commit()
    return changed


def finish_all(
    connection: Connection,
    ends: Sequence[End],
    owner: str,
    now: datetime,
    *,
    returned: bool,
    following: Following | None = None,
) -> bool:
    """Record the ends of a call's tasks. False: a task is no longer the owner's, and nothing of the call may commit.

    Args:
        connection: In the transaction of the call.
        ends: The tasks, each with its outcome.
        owner: Who has executed them.
        now: The present instant.
        returned: `afterReturn` has nothing to do.
        following: Of a call of one task: the task that is claimed in the same transaction.
    """
    if len(ends) == 1:
        [(entry, outcome)] = ends
        how: dict[str, Any] = {**vars(outcome), "now": now, "returned": returned}
        about = (connection, entry.task_id, owner)
        return transitions.finish(*about, **how, following=following)
    digest_calls.lock(connection, [entry.task_id for entry, _ in ends])
    return all(
        digest_calls.finish_all(
            connection,
            [entry.task_id for entry in tasks],
            owner,
            **vars(outcome),
            now=now,
            returned=returned,
        )
        for outcome, tasks in alike(ends)
    )


def leave_all(connection: Connection, call: Call, owner: str) -> set[str]:
    """Leave a call of which a task is no longer the owner's; those of its tasks that wait again, as if not begun.

    Whoever has ended a task need not kill this process: the function has returned, or has not begun.

    Args:
        connection: In a transaction.
        call: The call.
        owner: Who has claimed the call.
    """
    ids = call.ids
    digest_calls.lock(connection, ids)
    transitions.leave(connection, ids)
    if len(ids) == 1:
        return set()
    transitions.give_back(connection, ids, owner)
    return digest_calls.waiting(connection, ids)
