"""Rows of one template that are due at one instant share flow runs: batches of at most 500.

A batch's flow run names template and instant only. A row joins by being written down for a batch that has not begun,
and leaves by its task's end; neither needs a call to Prefect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    case,
    func,
    select,
    tuple_,
)

from jittask_prefect.elements.app import App
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.ledger import limits
from jittask_prefect.ledger.ending import (
    RESTORED,
    Patience,
    came_to_nothing,
    ending_of,
    never_begun,
)
from jittask_prefect.ledger.entry import identity
from jittask_prefect.ledger.tables import FINAL, entries
from jittask_prefect.prefect_api.answers import FlowRun

MOST = 500  # rows of one flow run
AUTO = 20  # rows from which on they share one, where `dispatch` is auto
QUIET = timedelta(
    seconds=25
)  # a batch of which no row is at work for so long has no process any more
_GROUPS = 100
Ending = tuple[str, str, str]


@dataclass(frozen=True)
class Group:
    """Tasks of one template and instant that are to be handed over together."""

    template: str
    due: datetime


def groups(
    app: App,
    connection: Connection,
    limit: datetime,
    only: ColumnElement[bool] | None = None,
) -> tuple[list[Group], set[Group]]:
    """Tasks that are due up to an instant and are to be handed over, by template and instant.

    Args:
        app: The app.
        connection: To the ledger.
        limit: The instant.
        only: Groups that have a task of which this is true.

    Returns:
        Those that belong into batches, in the order of their instants; those that are too few for it.
    """
    always = dispatched(app, "batch")
    new = (
        entries.c.dirty.is_(True),
        entries.c.status == "pending",
        entries.c.due <= limit,
        limits.not_in_line,
    )
    query = select(
        entries.c.template, entries.c.due, func.count(), func.count(entries.c.batch)
    )
    mine = entries.c.template.in_([*dispatched(app, "auto"), *always])
    query = query.where(*new, mine).group_by(entries.c.template, entries.c.due)
    if only is not None:
        place = (entries.c.template, entries.c.due)
        asked = connection.execute(
            select(*place).where(*new, mine, only).distinct()
        ).all()
        if not asked:
            return [], set()
        query = query.where(tuple_(*place).in_([tuple(group) for group in asked]))
    found: list[Group] = []
    few: list[Group] = []
    for template, due, waiting, batched in connection.execute(query):
        ours = template in always or waiting >= AUTO or batched
        (found if ours else few).append(Group(template, due))
    joining: set[Group] = set()
    for start in range(0, len(few), _GROUPS):
        some = few[start : start + _GROUPS]
        same = tuple_(entries.c.template, entries.c.due).in_(
            [(g.template, g.due) for g in some]
        )
        waits = (entries.c.batch.is_not(None), entries.c.status == "pending")
        joined = (
            select(entries.c.template, entries.c.due).where(same, *waits).distinct()
        )
        joining |= {Group(*record) for record in connection.execute(joined)}
    return sorted([*found, *joining], key=lambda g: (g.due, g.template)), set(
        few
    ) - joining


def dispatched(app: App, *how: str) -> list[str]:
    """The templates whose tasks are handed over in one of these ways."""
    # What is skipped or replaced has a flow run of its own.
    of = [
        t
        for t in app.templates()
        if isinstance(t, DateFieldType) and t.cfg.dispatch in how
    ]
    return [
        t.fullName
        for t in of
        if t.cfg.concurrency is None or t.cfg.concurrency.overlap == "queue"
    ]


@dataclass
class Share:
    """Some tasks of a group, and the batch that takes them: an existing flow run, or the number of a new one.

    Attributes:
        batch: The number.
        run_id: The flow run, where there is one.
        tasks: The tasks' ids.
        before: The flow runs that they had before.
        dead: Those of them whose worker died; the others gave up by themselves.
    """

    batch: int
    run_id: str | None
    tasks: list[str]
    before: set[str]
    dead: set[str]


def shares(connection: Connection, group: Group) -> Iterator[Share]:
    """How a group's tasks are spread over batches: first over those that have not begun, then evenly over new ones."""
    of = (entries.c.template == group.template, entries.c.due == group.due)
    clean = case(
        (entries.c.dirty.is_(False) & (entries.c.status == "pending"), 1), else_=0
    )
    begun = case(
        (entries.c.status.in_(("executing", "completed", "error")), 1), else_=0
    )
    query = select(
        entries.c.batch, entries.c.flow_run_id, func.sum(clean), func.sum(begun)
    )
    query = query.where(*of, entries.c.batch.is_not(None)).group_by(
        entries.c.batch, entries.c.flow_run_id
    )
    batches = connection.execute(query.order_by(entries.c.batch)).all()
    new = (entries.c.dirty.is_(True), entries.c.status == "pending", limits.not_in_line)
    columns = (entries.c.task_id, entries.c.flow_run_id, entries.c.outcome)
    waiting = connection.execute(
        select(*columns).where(*of, *new).order_by(entries.c.row_key)
    ).all()
    for number, run_id, there, at_work in batches:
        if run_id and there and not at_work and there < MOST and waiting:
            room = MOST - int(there)  # MariaDB sums decimals
            part, waiting = waiting[:room], waiting[room:]
            yield _share(number, run_id, part)
    taken = {number for number, _, there, at_work in batches if there or at_work}
    free = (number for number in count(1) if number not in taken)
    for left in range(-(-len(waiting) // MOST), 0, -1):
        size = -(-len(waiting) // left)
        yield _share(next(free), None, waiting[:size])
        waiting = waiting[size:]


def _share(number: int, run_id: str | None, part: Sequence[Any]) -> Share:
    before = {r.flow_run_id for r in part if r.flow_run_id}
    gave_up = {r.flow_run_id for r in part if r.outcome == limits.ADMITTED}
    return Share(number, run_id, [r.task_id for r in part], before, before - gave_up)


def key(app: App, group: Group, number: int) -> str:
    """The idempotency key of a batch's flow run."""
    return identity(app.name, group.template, "", group.due, number)


def fate(
    connection: Connection,
    run: FlowRun | None,
    due: datetime,
    now: datetime,
    patience: Patience,
) -> Ending | bool | None:
    """What a batch's flow run means for a task of it that still waits.

    Args:
        connection: To the ledger.
        run: The flow run; None where it is gone.
        due: When it is due.
        now: The present instant.
        patience: How long a run may take to begin.

    Returns:
        True: the task needs another flow run. An ending: the task has ended. None: it is to wait.
    """
    if run is None or came_to_nothing(run):
        return True
    kind = run.state_type
    if kind in ("COMPLETED", "FAILED") and run.start_time:
        return True  # it joined too late; or the ledger is an older copy, and the run's results say what was done
    if kind == "RUNNING":
        last = _last_sign(connection, run.id)
        return (
            (last is not None and now - last > QUIET)
            or (last is None and never_begun(run, due, now, patience))
            or None
        )
    return ending_of(run) or never_begun(run, due, now, patience) or None


def _last_sign(connection: Connection, run_id: str) -> datetime | None:
    """When a batch was last at work; now and later while one of its rows is."""
    mine = entries.c.flow_run_id == run_id
    ends = select(func.max(entries.c.finished)).where(
        mine, entries.c.outcome != "died"
    )  # a sync writes that
    leases = select(func.max(entries.c.lease_until)).where(
        mine, entries.c.status == "executing"
    )
    signs = [connection.execute(query).scalar() for query in (ends, leases)]
    return max((sign for sign in signs if sign is not None), default=None)


def results_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Ending]:
    """The endings that a batch's artifact has, by task id."""
    found = {}
    for row in rows:
        status, outcome = str(row.get("status")), str(row.get("outcome"))
        if status in FINAL:
            said = str(row.get("reason") or "done")
            found[str(row.get("taskId"))] = (status, outcome, f"{said} ({RESTORED})")
    return found
