"""Every transition of a task, each as a conditional UPDATE (or INSERT) that lets a single caller through.

The states are drawn in `jittask_prefect.ledger`. Functions take a connection in a transaction and never commit. Plans
of rows, many tasks at once, stand in `planned_rows`; the tasks of a digest's call in `digest_calls`; waits for opening
hours in `opening`; retries that a person asks for in `retries`; the queue for limits in `limits`; the removal of finished
tasks in `retention`; marks that concern Prefect alone in `handover_marks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, case, delete, or_, update

from jittask_prefect.ledger import statements
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.keys import to_json
from jittask_prefect.ledger.lease_time import caller_time, clock
from jittask_prefect.ledger.prepared import Prepared, insert_once, prepared
from jittask_prefect.ledger.statements import FREE, update_task, update_tasks
from jittask_prefect.ledger.tables import CLAIMED, FINAL, LEFT, entries

DIED = "error: worker died"
FORCED = "ended: forced end"

# The statements of each row of a batch

_At = Connection | Engine


def _claiming(at: _At, in_batch: bool) -> Prepared:
    return prepared(at, ("claim", in_batch), partial(statements.claim, in_batch))


def _finishing(at: _At) -> Prepared:
    return prepared(at, "finish", statements.finish)


def _finishing_and_claiming(at: _At) -> Prepared:
    return prepared(at, "finish and claim", statements.finish_and_claim)


def prepare(engine: Engine) -> None:
    """Compile the statements that each row of a batch needs on PostgreSQL, without a connection."""
    _claiming(engine, in_batch=True)
    _finishing(engine)
    _finishing_and_claiming(engine)


# nothing → pending


def enter(connection: Connection, entry: Entry) -> bool:
    """Write down a task that is new; False where its id or its identity is taken.

    For tasks of `createTimerTask` and for runs that a schedule, or a person, made: these enter at their claim, or when
    they are ended or taken up before that. Tasks of rows are planned.
    """
    return insert_once(connection, entries, entry.values())


def withdraw(connection: Connection, task_id: str) -> None:
    """Remove a task that `createTimerTask` wrote and Prefect refused: its caller gets an error, and nothing is kept."""
    connection.execute(delete(entries).where(entries.c.task_id == task_id))


# pending → executing


def claim(
    connection: Connection,
    task_id: str,
    owner: str,
    run_id: str,
    now: datetime,
    seconds: float,
    *,
    in_batch: bool = False,
    begun: bool = True,
) -> bool:
    """Begin a task, in a flow run: the fence that lets a single execution through; whether the task was claimed.

    Condition: the task is pending; or the task ended as an error in this flow run, which is its own (Retry in the UI
    keeps the run's id). Completed and ended tasks never begin again, whatever Prefect's state says. Nor does a task
    that failed in another run: this run was late.

    Args:
        connection: In a transaction.
        task_id: The task.
        owner: Who executes the task.
        run_id: The flow run.
        now: The present instant.
        seconds: How long the claim holds without renewal.
        in_batch: The flow run is a batch's.
        begun: The function begins at once; else `begin` says when it does.
    """
    given = {"task": task_id, **statements.claimer(owner, run_id, now, seconds, begun)}
    statement = _claiming(connection, in_batch)
    return statements.changed(connection, statement, given) == 1


# executing → executing


def renew(connection: Connection, owner: str, now: datetime, seconds: float) -> None:
    """Say that the owner's executions live. Condition: they are executing, and the owner's."""
    mine = (entries.c.status == "executing", entries.c.owner == owner)
    until = clock(caller_time(now, seconds), seconds)
    connection.execute(update(entries).where(*mine).values(lease_until=until))


def begin(connection: Connection, task_ids: Sequence[str], owner: str) -> bool:
    """Say that a call's function begins now: until then a dead process costs no attempt. False: a task is another's.

    Condition: the tasks are executing, and the owner's.
    """
    statement = update_tasks(task_ids).where(*statements.owned(owner))
    begun = connection.execute(statement.values(progress=None)).rowcount
    return begun == len(task_ids)


def next_attempt(connection: Connection, task_ids: Sequence[str], owner: str) -> bool:
    """Count a further attempt of a call, which has not begun; False: a task is no longer this owner's.

    Condition: the tasks are executing, and the owner's.
    """
    values = {"attempt": entries.c.attempt + 1, "progress": CLAIMED}
    statement = update_tasks(task_ids).where(*statements.owned(owner))
    return connection.execute(statement.values(**values)).rowcount == len(task_ids)


# executing → completed, error, ended: by the owner


@dataclass
class Following:
    """The task that an owner goes on with, and whether that task was claimed.

    Attributes:
        task_id: The task.
        run_id: Its flow run.
        seconds: How long the claim holds without renewal.
        begun: As of `claim`.
        claimed: Whether the task was claimed.
    """

    task_id: str
    run_id: str
    seconds: float
    begun: bool = True
    claimed: bool = False


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
    following: Following | None = None,
) -> bool:
    """Record the end of an execution: completed, error or ended. False: nothing of the execution may commit.

    Condition: the task is executing, and the owner's.

    Args:
        connection: In a transaction.
        task_id: The task.
        owner: Who executed the task.
        status: Its new status.
        outcome: How the task ended.
        message: Why.
        result: The function's result.
        now: The present instant.
        returned: `afterReturn` has nothing to do.
        following: A task of the batch that the owner is to go on with: claimed in the same transaction, where nobody
            has that task locked; on PostgreSQL by the same statement.
    """
    given = {
        "task": task_id,
        "by": owner,
        "state": status,
        "how": outcome,
        "why": message,
        "gave": None if result is None else to_json(result),
        "now": now,
        "done": returned,
    }
    if following is not None and connection.dialect.name == "postgresql":
        about = (following.run_id, now, following.seconds, following.begun)
        claimer = statements.claimer(owner, *about)
        given |= claimer | {"next": following.task_id}
        statement = _finishing_and_claiming(connection)
        changed = statements.changed(connection, statement, given)
        following.claimed = changed == 2
        return changed > 0
    statement = _finishing(connection)
    finished = statements.changed(connection, statement, given) > 0
    if (
        following is not None
        and finished
        and statements.unlocked(connection, following.task_id)
    ):
        of = (following.task_id, owner, following.run_id, now, following.seconds)
        begun = following.begun
        following.claimed = claim(connection, *of, in_batch=True, begun=begun)
    return finished


# executing → pending


def give_back(connection: Connection, task_ids: Sequence[str], owner: str) -> int:
    """Have a call's tasks wait again in the same flow run, as if they had not been claimed; how many were the owner's.

    Condition: the task is executing, and the owner's. Where the flow run ends first, the verdict gives the task another.
    """
    values = {"status": "pending", "started": None, "dirty": False, **FREE}
    again = update_tasks(task_ids).where(*statements.owned(owner))
    attempt = entries.c.attempt - 1
    return connection.execute(again.values(**values, attempt=attempt)).rowcount


def retry(
    connection: Connection, entry: Entry, retries: int, *, same_run: bool = False
) -> bool:
    """Have a task whose process died wait for another flow run, or in the same one; whether the task does.

    Condition: the task is executing, still by that owner, and has retries left; or its function has not begun, so that
    the attempt does not count. The dead flow run's id stays until the next one is made: the hand-over ends that run,
    unless a person has cancelled the run.

    Args:
        connection: In a transaction.
        entry: The task.
        retries: How often the task may be tried again.
        same_run: Other processes go on with the flow run, and take the task again.
    """
    claimed = entries.c.progress == CLAIMED
    may = or_(entries.c.attempt <= retries, claimed)
    again = update_task().where(*statements.executing(entry.task_id, entry.owner), may)
    attempt = entries.c.attempt - case((claimed, 1), else_=0)
    # The attempt first: MariaDB's later assignments see the earlier ones.
    values = {"attempt": attempt, "status": "pending", "dirty": not same_run, **FREE}
    return bool(connection.execute(again.ordered_values(*values.items())).rowcount)


# pending, executing → ended, error: by others than the owner


def end(
    connection: Connection,
    task_id: str,
    *,
    outcome: str,
    message: str,
    now: datetime,
    within: Sequence[str] = ("pending",),
    dirty: bool = True,
) -> bool:
    """End a task that is not to run, or to run any longer; whether this call did.

    Condition: the task is in a state of `within`.

    Args:
        connection: In a transaction.
        task_id: The task.
        outcome: forced, superseded, missed or skipped. `afterReturn` is not called for superseded tasks.
        message: Why.
        now: The present instant.
        within: The states.
        dirty: Prefect has not been told.
    """
    values = {"status": "ended", "returned": outcome == "superseded", "dirty": dirty}
    return _close(connection, task_id, within, outcome, message, now, values)


def end_killed(
    connection: Connection, entry: Entry, message: str, now: datetime
) -> bool:
    """End a task as forced whose process was killed for that end; whether this call did.

    Condition: the task died since, in that very execution: whoever saw the process gone wrote its death down first.
    A call of `afterReturn` for the death is not repeated.

    Args:
        connection: In a transaction.
        entry: The task as its process was killed.
        message: Why.
        now: The present instant.
    """
    same = (
        entries.c.outcome == "died",
        entries.c.started == entry.started,
        entries.c.attempt == entry.attempt,
    )
    values = {"status": "ended", "dirty": True}
    within, task_id = ("error",), entry.task_id
    return _close(connection, task_id, within, "forced", message, now, values, *same)


def leave(connection: Connection, task_ids: Sequence[str]) -> None:
    """Say that the function of ended tasks has returned: its process is not to be killed. Condition: ended."""
    ended = update_tasks(task_ids).where(entries.c.status == "ended")
    connection.execute(ended.values(progress=LEFT))


def fail(
    connection: Connection, entry: Entry, now: datetime, *, dirty: bool = True
) -> bool:
    """End a task as an error, since its worker died; whether this call did.

    Condition: the task is executing, still by that owner.
    """
    values = {"status": "error", "returned": False, "dirty": dirty}
    mine = entries.c.owner == entry.owner
    within, task_id = ("executing",), entry.task_id
    return _close(connection, task_id, within, "died", DIED, now, values, mine)


def _close(
    connection: Connection,
    task_id: str,
    within: Sequence[str],
    outcome: str,
    message: str,
    now: datetime,
    values: dict[str, Any],
    *also: Any,
) -> bool:
    about = {"outcome": outcome, "message": message, "finished": now, **FREE}
    mine = (entries.c.task_id == task_id, entries.c.status.in_(within), *also)
    statement = update_task().where(*mine).values(**about, **values)
    return bool(connection.execute(statement).rowcount)


def restore(
    connection: Connection,
    task_id: str,
    *,
    status: str,
    outcome: str,
    message: str,
    run_id: str,
    started: datetime,
    finished: datetime,
) -> None:
    """Record that a pending task was done, according to Prefect: the ledger is an older copy.

    Condition: the task is pending.
    """
    values = {
        "status": status,
        "outcome": outcome,
        "message": message,
        "flow_run_id": run_id,
        "started": started,
        "finished": finished,
        "dirty": False,
        "returned": True,
    }
    mine = (entries.c.task_id == task_id, entries.c.status == "pending")
    connection.execute(update_task().where(*mine).values(**values))


# completed, error, ended: once


def take_return(connection: Connection, task_id: str) -> bool:
    """Take the right to call `afterReturn`, which is given once for each end of a task.

    Condition: the task has ended, and nobody has taken the right.
    """
    once = (
        entries.c.task_id == task_id,
        entries.c.returned.is_(False),
        entries.c.status.in_(FINAL),
    )
    taken = connection.execute(update_task().where(*once).values(returned=True))
    return bool(taken.rowcount)
