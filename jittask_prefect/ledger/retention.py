"""Retention: finished tasks leave the ledger some time after their end; tasks that identity needs stay.

A row that lives keeps two of its finished tasks at most, however often it repeats: the one of its highest generation,
which the next reschedule counts on from, and the last one that was planned from its present dates, so that a save plans
nothing anew. A scheduled task keeps its last occurrence, which the overview shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    delete,
    exists,
    func,
    or_,
    select,
)

from jittask_prefect.ledger import state_table
from jittask_prefect.ledger.tables import FINAL, entries, of_app

CURSOR, BORDER = "retention:cursor", "retention:border"
"""Names in `jittask_state`: the last task that was looked at; and the instant before which records are gone."""
AT_ONCE = 1000
"""Tasks that are looked at in one transaction."""


@dataclass(frozen=True)
class Pruned:
    """The answer of `prune`.

    Attributes:
        looked_at: How many finished tasks were looked at.
        removed: How many of them are gone.
        end: No finished task is left to be looked at; the next call begins again.
    """

    looked_at: int
    removed: int
    end: bool


def prune(connection: Connection, app: str, before: datetime) -> Pruned:
    """Remove finished tasks, as many as one transaction should, going on where the last call stopped.

    Args:
        connection: In a transaction.
        app: The app's name.
        before: Tasks that were due and ended before this instant are removed.
    """
    c = entries.c
    start = _cursor(connection, app)
    over = (c.returned.is_(True), c.finished < before, of_app(app))
    query = select(c.task_id, c.finished, c.status, c.due, c.dirty).where(*over)
    if start is not None:
        query = query.where(c.finished >= start[0], _behind(*start))
    query = query.order_by(c.finished, c.task_id).limit(AT_ONCE)
    found = connection.execute(query).all()
    old = [
        each.task_id
        for each in found
        if each.status in FINAL and each.due < before and not each.dirty
    ]
    removed = _remove(connection, old)

    end = len(found) < AT_ONCE
    last = None if end else f"{found[-1].finished.isoformat()} {found[-1].task_id}"
    state_table.put(connection, app, CURSOR, last)
    if removed:
        _move_border(connection, app, before)
    return Pruned(len(found), removed, end)


def begin_again(connection: Connection, app: str) -> None:
    """Have the next call of `prune` look at all finished tasks, from the first one on."""
    state_table.put(connection, app, CURSOR, None)


def border(connection: Connection, app: str) -> datetime | None:
    """The instant before which records are gone; None where none was removed yet."""
    text = state_table.get(connection, app, BORDER)
    return None if text is None else datetime.fromisoformat(text)


def may_be_gone(connection: Connection, app: str, begun: datetime | None) -> bool:
    """Whether a task may have been removed whose flow run began at an instant; None: the run begins now."""
    removed = border(connection, app)
    return begun is not None and removed is not None and begun < removed


def _remove(connection: Connection, tasks: list[str]) -> int:
    """Remove those of some finished tasks that nothing needs; how many. The database finds them by their ids alone."""
    if not tasks:
        return 0
    c = entries.c
    query = select(c.task_id).where(c.task_id.in_(tasks), ~_needed())
    gone = list(connection.execute(query).scalars())
    if not gone:
        return 0
    # Somebody may have retried a task meanwhile. Not by the plain column, whose index SQLite would take.
    still = func.coalesce(c.status, "").in_(FINAL)
    return int(
        connection.execute(delete(entries).where(c.task_id.in_(gone), still)).rowcount
    )


def _needed() -> ColumnElement[bool]:
    """That a finished task is needed: of its highest generation, or of its row's present dates, none is later."""
    c, other = entries.c, entries.alias("other")
    same = and_(
        other.c.app == c.app,
        other.c.template == c.template,
        other.c.row_key == c.row_key,
        other.c.nominal.is_not(None),
    )
    later = or_(
        other.c.generation > c.generation,
        and_(other.c.generation == c.generation, other.c.nominal > c.nominal),
    )
    # In the order of the identity's index, by which the database finds a row's tasks.
    planned = (other.c.start_value.is_not(None), other.c.nominal > c.nominal)
    newest = ~exists().where(same, later)
    of_present_dates = and_(c.start_value.is_not(None), ~exists().where(same, *planned))
    living = or_(c.row_key == "", c.anchor.is_not(None))
    return and_(c.nominal.is_not(None), living, or_(newest, of_present_dates))


def _cursor(connection: Connection, app: str) -> tuple[datetime, str] | None:
    text = state_table.get(connection, app, CURSOR)
    if text is None:
        return None
    finished, _, task_id = text.partition(" ")
    return datetime.fromisoformat(finished), task_id


def _behind(finished: datetime, task_id: str) -> ColumnElement[bool]:
    c = entries.c
    return or_(c.finished > finished, and_(c.finished == finished, c.task_id > task_id))


def _move_border(connection: Connection, app: str, before: datetime) -> None:
    known = border(connection, app)
    if known is None or known < before:
        text = before.astimezone(UTC).isoformat()
        state_table.put(connection, app, BORDER, text)
