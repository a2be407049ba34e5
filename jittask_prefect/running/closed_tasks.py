"""Tasks that are ended in the ledger from outside, and the calls that they were at work in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection

from jittask_prefect.ledger import digest_calls, transitions
from jittask_prefect.ledger.entry import Entry


@dataclass
class Closed:
    """The effect of an end on the ledger.

    Attributes:
        ended: The tasks that were still in the state that they were given in.
        left: Other tasks of their calls, which wait again.
    """

    ended: list[Entry] = field(default_factory=list)
    left: list[Entry] = field(default_factory=list)


def end_all(
    connection: Connection, tasks: Sequence[Entry], message: str, now: datetime
) -> Closed:
    """End tasks; the others of their calls wait again.

    Args:
        connection: In a transaction.
        tasks: The tasks, each in its state of now.
        message: Why they end.
        now: The present instant.
    """
    found = [digest_calls.tasks_of(connection, task) for task in one_of_each(tasks)]
    ids = {task.task_id for task in tasks}
    locked = ids.union(*({each.task_id for each in call} for call in found))
    digest_calls.lock(connection, list(locked))
    closed = Closed()
    for task in tasks:
        if transitions.end(
            connection,
            task.task_id,
            outcome="forced",
            message=message,
            now=now,
            within=(task.status,),
        ):
            closed.ended.append(task)
    gone = {task.task_id for task in closed.ended}
    for call in found:
        left = [each for each in call if each.task_id not in gone]
        if len(left) < len(call):
            digest_calls.put_back(connection, call[0], [e.task_id for e in left])
            closed.left += left
    return closed


def one_of_each(tasks: Sequence[Entry]) -> list[Entry]:
    """A task of each call of batches that tasks are at work in."""
    at_work = (task for task in tasks if task.status == "executing")
    of_batches = (task for task in at_work if task.batch is not None)
    return list({(task.owner, task.started): task for task in of_batches}.values())
