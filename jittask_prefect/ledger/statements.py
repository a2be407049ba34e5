"""The prepared statements of a claim and of an execution's end; `transitions` says when they are used.

Parameters: `task`, `by` (the owner), `run`, `now`, `until` and `seconds` (the lease); `state`, `how`, `why`, `gave`,
`done` (the end); `next` (the task that is claimed with the end); `place` (`CLAIMED`, or null where the function begins at once).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BindParameter,
    Connection,
    Float,
    Select,
    Update,
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

from jittask_prefect.ledger.lease_time import caller_time, clock
from jittask_prefect.ledger.prepared import Prepared
from jittask_prefect.ledger.tables import CLAIMED, UtcDateTime, entries

FREE: dict[str, Any] = {
    "owner": None,
    "lease_until": None,
    "queue": None,
    "progress": None,
}
"""The columns of a task that nobody executes."""


_BY_KEY = "FORCE INDEX (PRIMARY)"


def update_task() -> Update:
    """An UPDATE of a task by its id, which locks that task alone.

    MariaDB may find the task by its status instead, or read all. Then the statement locks its neighbours too, and
    whoever closes several tasks at once meets a deadlock.
    """
    statement = update(entries).with_hint(_BY_KEY, dialect_name="mysql")
    return statement.with_hint(_BY_KEY, dialect_name="mariadb")


def update_tasks(task_ids: Sequence[str]) -> Update:
    """An UPDATE of tasks by their ids, which locks these alone."""
    return update_task().where(entries.c.task_id.in_(task_ids))


def by_key(query: Select[Any]) -> Select[Any]:
    """A SELECT of tasks by their ids that locks these alone, in the order of their ids."""
    found = query.with_hint(entries, _BY_KEY, "mysql")
    return found.with_hint(entries, _BY_KEY, "mariadb")


def claim(in_batch: bool) -> Update:
    """Begin a task: pending, or an error of this flow run, where the run is the task's own."""
    may = entries.c.status == literal("pending")
    if not in_batch:
        failed = entries.c.status == literal("error")
        may = or_(may, and_(failed, entries.c.flow_run_id == bindparam("run")))
    mine = entries.c.task_id == bindparam("task")
    return update_task().where(mine, may).values(**claimed(in_batch))


def claimed(in_batch: bool) -> dict[str, Any]:
    """The values of a claimed task's columns, with the parameters of `claimer`."""
    values: dict[str, Any] = {
        "status": "executing",
        "owner": bindparam("by"),
        "flow_run_id": bindparam("run"),
        "lease_until": clock(
            bindparam("until", type_=UtcDateTime()), bindparam("seconds", type_=Float())
        ),
        "attempt": entries.c.attempt + 1,
        "started": bindparam("now"),
        "finished": None,
        "queue": None,
        "progress": bindparam("place"),
        "outcome": None,
        "message": "",
        "returned": False,
    }
    if in_batch:
        values["batch"] = func.coalesce(entries.c.batch, 0)
    else:
        values["first_run_id"] = _first_run()
    return values


def _first_run() -> Any:
    """The id of a made task's first run: its worker may be quicker than the caller, who notes the id too."""
    made = entries.c.func_name.is_not(None)
    first = func.coalesce(entries.c.first_run_id, bindparam("run"))
    return case((made, first), else_=entries.c.first_run_id)


def finish() -> Update:
    """End a task that its owner executes."""
    return update_task().where(_owned(entries)).values(**_finished())


def finish_and_claim() -> Update:
    """Finish one task and claim another, unless the first is somebody else's.

    The first is locked first, and nobody waits for the other: whoever closes several tasks at once cannot be in the
    way.
    """
    finished, taken = _finished(), claimed(in_batch=True)
    first, other = entries.alias("mine"), entries.alias("other")
    mine = select(first.c.task_id).where(_owned(first)).with_for_update()
    free = select(other.c.task_id).where(
        other.c.task_id == bindparam("next"), exists(mine)
    )
    unlocked = free.with_for_update(skip_locked=True).scalar_subquery()
    waits = and_(
        entries.c.task_id == bindparam("next"),
        entries.c.status == literal("pending"),
    )
    values = {
        name: case(
            (entries.c.task_id == bindparam("task"), _typed(name, finished)),
            else_=_typed(name, taken),
        )
        for name in {**finished, **taken}
    }
    # Asked before any row is changed: PostgreSQL locks no row that the same statement has changed.
    both = entries.c.task_id.in_(
        [bindparam("task"), func.coalesce(unlocked, bindparam("task"))]
    )
    return update(entries).where(both, _owned(entries) | waits).values(**values)


def _typed(name: str, values: dict[str, Any]) -> Any:
    """A column's new value in a CASE, where the database cannot tell a parameter's type by the column."""
    column = entries.c[name]
    value = values.get(name, column)
    if isinstance(value, BindParameter):
        return bindparam(value.key, type_=column.type)
    if isinstance(value, str):
        return literal_column(f"'{value}'")  # written out: a parameter less
    if value is None or value is False:
        return null() if value is None else false()
    return value


def _owned(table: Any) -> Any:
    mine = (table.c.task_id == bindparam("task"), table.c.owner == bindparam("by"))
    return and_(*mine, table.c.status == literal("executing"))


def _finished() -> dict[str, Any]:
    return {
        **FREE,
        "status": bindparam("state"),
        "outcome": bindparam("how"),
        "message": bindparam("why"),
        "result": bindparam("gave"),
        "finished": bindparam("now"),
        "dirty": False,
        "returned": bindparam("done"),
    }


# Parts of transitions


def claimer(
    owner: str, run_id: str, now: datetime, seconds: float, begun: bool
) -> dict[str, Any]:
    """The parameters of a claim."""
    until, place = caller_time(now, seconds), None if begun else CLAIMED
    about = {"by": owner, "run": run_id, "now": now, "until": until}
    return {**about, "seconds": seconds, "place": place}


def unlocked(connection: Connection, task_id: str) -> bool:
    """Whether nobody has an entry locked: MariaDB's UPDATE has no SKIP LOCKED."""
    if connection.dialect.name == "sqlite":
        return True
    mine = select(entries.c.task_id).where(entries.c.task_id == task_id)
    free = mine.with_for_update(skip_locked=True)
    return connection.execute(free).first() is not None


def executing(task_id: str, owner: str | None) -> tuple[Any, ...]:
    """The condition that an owner executes a task."""
    return entries.c.task_id == task_id, *owned(owner)


def owned(owner: str | None) -> tuple[Any, ...]:
    """The condition that an owner executes whatever task."""
    return entries.c.owner == owner, entries.c.status == "executing"


def changed(connection: Connection, statement: Prepared, given: dict[str, Any]) -> int:
    """How many entries a prepared statement has changed."""
    changed, _ = statement.once(connection, given)
    return changed
