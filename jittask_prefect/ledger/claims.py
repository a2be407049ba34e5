"""A task's execution in the ledger: claimed, kept, finished, and `afterReturn` called once.

Each is one conditional update, which lets one through. Functions take a connection and never commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import (
    BindParameter,
    Connection,
    and_,
    bindparam,
    case,
    exists,
    false,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    update,
)

from jittask_prefect.ledger.keys import to_json
from jittask_prefect.ledger.ledger import FINAL, OPEN, Entry, close, entries, to_entry
from jittask_prefect.ledger.prepared import prepared
from jittask_prefect.rows.plan import DONE


def claim(
    connection: Connection,
    task_id: str,
    owner: str,
    run_id: str,
    now: datetime,
    seconds: float,
    *,
    in_batch: bool = False,
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
    """
    until = now + timedelta(seconds=seconds)
    given = {"task": task_id, "by": owner, "run": run_id, "now": now, "until": until}
    cursor = prepared(connection, ("claim", in_batch), partial(_claim, in_batch)).run(
        connection, [given]
    )
    begun = bool(cursor.rowcount)
    cursor.close()
    return begun


def _claim(in_batch: bool) -> Any:
    may = ("pending",) if in_batch else ("pending", "error")
    mine = [
        entries.c.task_id == bindparam("task"),
        entries.c.status.in_([literal(status) for status in may]),
    ]
    return update(entries).where(*mine).values(**_begun(in_batch))


def _begun(in_batch: bool) -> dict[str, Any]:
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
    return values


def twin(connection: Connection, entry: Entry, now: datetime) -> str | None:
    """Whether another task of the same row and instant stands in the way of one that waits; asked before its claim.

    Two series of a row, that of its former date and the present one, may meet in an instant. One of them is run: a
    task of an earlier generation that has not begun is closed here, and the other cannot claim it any more.

    Args:
        connection: In the transaction of the claim.
        entry: The task; only one of a later generation than the first can have a twin that it has to ask for.
        now: The present instant.

    Returns:
        `done`: the other was completed, and this one is closed. `busy`: the other is at work. None: nothing does.
    """
    if not entry.row_key or entry.generation < 2:
        return None
    query = select(entries.c.task_id, entries.c.status, entries.c.generation).where(
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
        close(
            connection,
            entry.task_id,
            outcome="superseded",
            message=f"superseded: {DONE}",
            now=now,
        )
        return "done"
    for other in others:
        if other.status == "pending" and other.generation > entry.generation:
            continue  # it asks for this one
        why = "superseded: a later task of the row, due at the same instant, is run"
        if not close(
            connection, other.task_id, outcome="superseded", message=why, now=now
        ):
            return "busy"
    return None


def has_twin() -> Any:
    """Of an entry in a query: whether `twin` is to be asked."""
    other = entries.alias("twin")
    same = [other.c[name] == entries.c[name] for name in ("template", "row_key", "due")]
    alive = (
        other.c.task_id != entries.c.task_id,
        other.c.anchor.is_not(None),
        other.c.status.in_((*OPEN, "completed")),
    )
    return and_(entries.c.generation > 1, exists().where(*same, *alive))


def renew(connection: Connection, owner: str, now: datetime, seconds: float) -> None:
    """Say that the owner's executions live."""
    mine = and_(entries.c.status == "executing", entries.c.owner == owner)
    connection.execute(
        update(entries).where(mine).values(lease_until=now + timedelta(seconds=seconds))
    )


def owner_of(connection: Connection, task_id: str) -> str | None:
    """Who executes a task; None where nobody does: it was ended."""
    mine = and_(entries.c.task_id == task_id, entries.c.status == "executing")
    found = connection.execute(select(entries.c.owner).where(mine)).scalar()
    return None if found is None else str(found)


def retry_batch(
    connection: Connection, template: str, due: datetime, run_id: str
) -> None:
    """Have the rows that failed in a batch's flow run wait again: somebody has pressed Retry."""
    failed = (
        entries.c.template == template,
        entries.c.due == due,
        entries.c.flow_run_id == run_id,
    )
    values = {
        "status": "pending",
        "outcome": None,
        "message": "",
        "finished": None,
        "dirty": False,
    }
    connection.execute(
        update(entries).where(*failed, entries.c.status == "error").values(**values)
    )


def give_back(connection: Connection, task_id: str, owner: str) -> bool:
    """Have a task that was claimed and not begun wait again, in another flow run; whether it was the owner's."""
    mine = and_(
        entries.c.task_id == task_id,
        entries.c.owner == owner,
        entries.c.status == "executing",
    )
    waits = {
        "status": "pending",
        "owner": None,
        "lease_until": None,
        "started": None,
        "dirty": True,
    }
    again = update(entries).where(mine).values(**waits, attempt=entries.c.attempt - 1)
    return bool(connection.execute(again).rowcount)


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
    """Record the end of an execution; False: it is no longer this owner's, and nothing of it may commit.

    Args:
        connection: In a transaction.
        task_id: The task.
        owner: Who executed it.
        status: Its new status.
        outcome: How it ended.
        message: Why.
        result: What the function returned.
        now: The present instant.
        returned: `afterReturn` has nothing to do.
        following: A task of a batch that the owner is to go on with: claimed likewise, where it is to be had without
            waiting; on PostgreSQL by the same statement.
    """
    given = {
        "task": task_id,
        "by": owner,
        "state": status,
        "how": outcome,
        "said": message,
        "gave": None if result is None else to_json(result),
        "now": now,
        "told": returned,
    }
    name, make = "finish", _finish
    together = (
        following is not None and connection.dialect.name == "postgresql"
    )  # one round trip less
    if following is not None and together:
        until = now + timedelta(seconds=following.seconds)
        given |= {"next": following.task_id, "run": following.run_id, "until": until}
        name, make = "both", _both
    cursor = prepared(connection, name, make).run(connection, [given])
    changed = cursor.rowcount
    cursor.close()
    if following is not None and together:
        following.claimed = changed == 2
    elif following is not None and changed and _free(connection, following.task_id):
        about = (following.task_id, owner, following.run_id, now, following.seconds)
        following.claimed = claim(connection, *about, in_batch=True)
    return bool(changed)


@dataclass
class Following:
    """The task that an owner goes on with: which, in which flow run, its lease in seconds, whether it was claimed."""

    task_id: str
    run_id: str
    seconds: float
    claimed: bool = False


def _finish() -> Any:
    return update(entries).where(_executed()).values(**_ended())


def _both() -> Any:
    """End one task and begin another, unless the first is somebody else's.

    The first is locked first, and the other is not waited for: who closes several tasks at once cannot be in the way.
    """
    ended, begun = _ended(), _begun(in_batch=True)
    waits = [
        entries.c.task_id == bindparam("next"),
        entries.c.status == literal("pending"),
    ]
    first, other = entries.alias("mine"), entries.alias("other")
    mine = select(first.c.task_id).where(_executed(first))
    free = select(other.c.task_id).where(
        other.c.task_id == bindparam("next"), exists(mine.with_for_update())
    )
    waits.append(
        entries.c.task_id == free.with_for_update(skip_locked=True).scalar_subquery()
    )
    values = {
        name: case(
            (entries.c.task_id == bindparam("task"), _of(name, ended)),
            else_=_of(name, begun),
        )
        for name in {**ended, **begun}
    }
    some = entries.c.task_id.in_(
        [bindparam("task"), bindparam("next")]
    )  # for the planner
    return update(entries).where(some, or_(_executed(), and_(*waits))).values(**values)


def _of(name: str, values: dict[str, Any]) -> Any:
    column = entries.c[name]
    value = values.get(name, column)
    if isinstance(value, BindParameter):
        return bindparam(value.key, type_=column.type)
    if isinstance(value, str):
        return literal_column(f"'{value}'")  # written out: one parameter less for each
    if value is None or value is False:
        return null() if value is None else false()
    return value


def _free(connection: Connection, task_id: str) -> bool:
    """Whether nobody has an entry locked: MariaDB's UPDATE cannot say itself that it does not wait."""
    if connection.dialect.name == "sqlite":
        return True
    free = (
        select(entries.c.task_id)
        .where(entries.c.task_id == task_id)
        .with_for_update(skip_locked=True)
    )
    return connection.execute(free).first() is not None


def _executed(of: Any = entries) -> Any:
    mine = (of.c.task_id == bindparam("task"), of.c.owner == bindparam("by"))
    return and_(*mine, of.c.status == literal("executing"))


def _ended() -> dict[str, Any]:
    return {
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


def take_return(connection: Connection, task_id: str) -> bool:
    """The right to call `afterReturn`, given once for each end of a task."""
    once = and_(
        entries.c.task_id == task_id,
        entries.c.returned.is_(False),
        entries.c.status.in_(FINAL),
    )
    return bool(
        connection.execute(update(entries).where(once).values(returned=True)).rowcount
    )


def unreturned(connection: Connection, before: datetime) -> list[Entry]:
    """The tasks that ended before an instant and whose `afterReturn` nobody has called: who was to do it died."""
    query = select(entries).where(
        entries.c.returned.is_(False), entries.c.finished < before
    )
    return [to_entry(record) for record in connection.execute(query)]
