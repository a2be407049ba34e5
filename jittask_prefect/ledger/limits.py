"""How many executions run at a time: of a template (`concurrency` in e.json) and of an app (`maxConcurrency`).

The leases of executions are the slots: a living process renews its own, and that of a dead one runs out. They are
counted in the transaction that claims a task, in turn: each locks one row of the ledger before it counts. A task that
finds no slot free, and is to queue, gives its flow run up and waits in the ledger; when a slot becomes free it is let
through in the order of due times, and holds its place, by a lease too, until it begins.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Connection, and_, case, func, literal_column, or_, select, update

from jittask_prefect.elements.app import App
from jittask_prefect.elements.config import Concurrency
from jittask_prefect.elements.types import Meta
from jittask_prefect.errors import JittaskError
from jittask_prefect.ledger import ledger
from jittask_prefect.ledger.ledger import Entry, entries, states

QUEUED = "queued"  # the outcome of a pending task that waits for a slot
_earlier = entries.alias()
_first = or_(
    entries.c.nominal.is_(None),
    ~select(_earlier.c.task_id)
    .where(
        _earlier.c.template == entries.c.template,
        _earlier.c.row_key == entries.c.row_key,
        _earlier.c.due < entries.c.due,
        _earlier.c.nominal.is_not(None),
        _earlier.c.status.in_(ledger.OPEN),
    )
    .exists(),
)  # no earlier occurrence of the same row, or schedule, is open
NEXT = "next"  # of one whose turn it is, until it has another flow run
HELD_SECONDS = 60.0  # that a place is held for a task that was let through
_TURN = "turn"
_PLACE = "next:"
in_line = and_(entries.c.status == "pending", entries.c.outcome == QUEUED)
not_in_line = entries.c.outcome.is_distinct_from(QUEUED)


@dataclass(frozen=True)
class Full:
    """Why a task cannot begin now, and what is to be done with it.

    Attributes:
        overlap: `queue`, `skip` or `replace`.
        reason: In words.
        oldest: The tasks that would have to end for it, the one that began first in front.
    """

    overlap: Literal["queue", "skip", "replace"]
    reason: str
    oldest: tuple[str, ...] = ()


def full(
    connection: Connection, app: App, template: Meta, entry: Entry, now: datetime
) -> Full | None:
    """Whether a task that this transaction has claimed is one too many; the caller then undoes the claim.

    Args:
        connection: In the transaction of the claim.
        app: The app.
        template: The task's template.
        entry: The task as it was before: the place that was held for it is not counted.
        now: The present instant.
    """
    _in_turn(connection)
    found = [o for o in _owners(connection, now) if o.owner != entry.owner]
    same = [o for o in found if o.template == template.fullName]
    of = template.cfg.concurrency
    if of is not None and len(same) > of.limit:
        at_work = [
            o.task for o in same if o.began is not None and o.task != entry.task_id
        ]
        reason = (
            f"{of.limit} of {of.limit} executions of {template.fullName} are at work"
        )
        return Full(of.overlap, reason, tuple(at_work[: len(same) - of.limit]))
    most = app.cfg.maxConcurrency
    if len(found) > most:
        return Full("queue", f"{most} of {most} executions of the app are at work")
    return None


def queue(connection: Connection, full: Full, *tasks: Any) -> int:
    """Have pending tasks wait for a slot, by conditions; how many."""
    values = {
        "dirty": True,
        "outcome": QUEUED,
        "message": f"queued: {full.reason}",
        "owner": None,
        "lease_until": None,
    }
    return connection.execute(
        update(entries).where(entries.c.status == "pending", *tasks).values(**values)
    ).rowcount


def waiting(connection: Connection, now: datetime) -> bool:
    """Whether tasks wait for a slot."""
    return (
        connection.execute(
            select(entries.c.task_id).where(in_line, entries.c.due <= now).limit(1)
        ).first()
        is not None
    )


def let_through(app: App, database: str, now: datetime) -> None:
    """Hand the free slots to the tasks that wait for one, oldest first: their flow runs can be made.

    Args:
        app: The app.
        database: Whose ledger.
        now: The present instant.
    """
    with app.engine(database).connect() as connection:
        if not waiting(connection, now):
            return
    with app.engine(database).begin() as connection:
        _in_turn(connection)
        taken: dict[str, int] = defaultdict(int)
        for owner in _owners(connection, now):
            taken[owner.template] += 1
        ours = (in_line, entries.c.due <= now, _first)
        oldest = (
            select(entries.c.template)
            .where(*ours)
            .group_by(entries.c.template)
            .order_by(func.min(entries.c.due))
        )
        for template in connection.execute(oldest).scalars().all():
            free = app.cfg.maxConcurrency - sum(taken.values())
            if (of := _concurrency(app, template)) is not None:
                free = min(free, of.limit - taken[template])
            alone = case(
                (entries.c.batch.is_(None), entries.c.task_id),
                else_=literal_column("''"),
            )
            which = select(entries.c.due, alone).where(
                *ours, entries.c.template == template
            )
            order = (
                which.group_by(entries.c.due, alone)
                .order_by(entries.c.due, alone)
                .limit(max(0, free))
            )
            for due, task in connection.execute(order).all():
                one = (
                    entries.c.task_id == task
                    if task
                    else and_(entries.c.due == due, entries.c.batch.is_not(None))
                )
                mine = select(entries.c.task_id).where(
                    *ours, entries.c.template == template, one
                )
                ids = connection.execute(mine).scalars().all()
                place = {
                    "owner": _PLACE + (task or f"{template} {due.isoformat()}"),
                    "message": "",
                    "outcome": NEXT,
                }
                until = now + timedelta(seconds=HELD_SECONDS)
                held = update(entries).where(entries.c.task_id.in_(ids))
                connection.execute(held.values(**place, lease_until=until))
                taken[template] += 1


@dataclass(frozen=True)
class _Owner:
    template: str
    owner: str
    task: str
    began: datetime | None


def _owners(connection: Connection, now: datetime) -> list[_Owner]:
    """Who has a slot: a batch is one execution, whatever the number of its rows."""
    held = and_(entries.c.status == "pending", entries.c.due <= now)
    live = (or_(entries.c.status == "executing", held), entries.c.lease_until > now)
    began = func.min(entries.c.started)
    query = select(
        entries.c.template, entries.c.owner, func.min(entries.c.task_id), began
    ).where(*live)
    found = connection.execute(
        query.group_by(entries.c.template, entries.c.owner).order_by(began)
    )
    return [_Owner(*record) for record in found]


def _in_turn(connection: Connection) -> None:
    """Wait until nobody else counts: this transaction has the lock from now on."""
    lock = update(states).where(states.c.name == _TURN).values(value="")
    if not connection.execute(lock).rowcount and not ledger.insert_once(
        connection, states, {"name": _TURN, "value": ""}
    ):
        connection.execute(lock)


def _concurrency(app: App, template: str) -> Concurrency | None:
    try:
        return app.template(template).cfg.concurrency
    except JittaskError:
        return None  # it does not load: its tasks wait for that
