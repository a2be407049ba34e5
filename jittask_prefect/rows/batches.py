"""Rows of one template that are due at one instant share flow runs: batches of at most 1,000.

A batch's flow run names template and instant only. A row joins by being written down for a batch that has not begun,
and leaves by its task's end; neither changes the flow run. The hand-over asks Prefect first whether the run is still open.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    case,
    exists,
    func,
    not_,
    or_,
    select,
    tuple_,
)

from jittask_prefect.elements.app import App
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.errors import JittaskError
from jittask_prefect.ledger import limits
from jittask_prefect.ledger.entry import Entry, identity
from jittask_prefect.ledger.tables import entries, late_from, of_app

BATCH_SIZE = 1000  # rows of one flow run
DIGEST_SIZE = 10_000  # rows of one flow run of a digest, which may have many calls
AUTO = 20  # rows from which on they share a run, where `dispatch` is auto


@dataclass(frozen=True)
class Group:
    """Tasks of one template and instant that are to be handed over together.

    Attributes:
        template: The template's full name.
        due: The instant.
        opening: The later instant for which they wait, since their hours are closed until then.
    """

    template: str
    due: datetime
    opening: datetime | None = None

    def waits(self, now: datetime) -> ColumnElement[bool]:
        """Of an entry in a query: whether the task waits for the opening of the group, or, as the group, for none."""
        not_before = entries.c.not_before
        if self.opening is not None:
            return not_before == self.opening
        return or_(not_before.is_(None), not_before <= now)


def group_of(entry: Entry, now: datetime) -> Group:
    """The group of a task."""
    later = entry.not_before is not None and entry.not_before > now
    return Group(entry.template, entry.due, entry.not_before if later else None)


def shared(app: App, *how: str) -> list[str]:
    """The templates whose tasks are handed over in the given ways: `auto`, `batch`."""
    templates = [t for t in app.templates() if isinstance(t, DateFieldType)]
    return [
        t.fullName
        for t in templates
        if t.cfg.dispatched in how
        # Tasks that are skipped or replaced have flow runs of their own.
        and (t.cfg.concurrency is None or t.cfg.concurrency.overlap == "queue")
    ]


def groups(
    app: App,
    connection: Connection,
    now: datetime,
    limit: datetime,
    only: ColumnElement[bool] | None = None,
) -> tuple[list[Group], set[Group]]:
    """Tasks that are due up to an instant and are to be handed over, by template and instant.

    Args:
        app: The app.
        connection: To the ledger.
        now: The present instant.
        limit: The instant.
        only: Groups that have a task of which this is true.

    Returns:
        The groups that belong into batches, in the order of their instants; those that are too few.
    """
    always = shared(app, "batch")
    instant = (entries.c.template, entries.c.due)
    later = entries.c.not_before > now
    opening = case((later, entries.c.not_before)).label("opening")
    place = (*instant, opening)
    new = (
        *_to_hand_over(app),
        entries.c.due <= limit,
        late_from <= limit,
        entries.c.template.in_([*shared(app, "auto"), *always]),
    )
    # Grouped by the columns of a subquery: to PostgreSQL the same expression with parameters of its own is another one.
    counts = select(*place, entries.c.batch).where(*new)

    if only is not None:
        chosen = select(*instant).where(*new, only)
        counts = counts.where(tuple_(*instant).in_(chosen))

    of = counts.subquery().c
    found = (
        select(
            of.template,
            of.due,
            of.opening,
            func.count().label("number"),
            func.count(of.batch).label("batched"),
        )
        .group_by(of.template, of.due, of.opening)
        .subquery()
    )
    other = entries.alias("other")
    joins = exists().where(
        other.c.app == app.name,
        other.c.template == found.c.template,
        other.c.due == found.c.due,
        other.c.batch.is_not(None),
        other.c.status == "pending",
    )
    together: list[Group] = []
    few: set[Group] = set()

    for template, due, opens, number, batched, joined in connection.execute(
        select(found, case((found.c.number < AUTO, joins), else_=False))
    ):
        batch = template in always or number >= AUTO or batched or joined
        (together.append if batch else few.add)(Group(template, due, opens))

    return sorted(together, key=lambda g: (g.due, g.template)), few


def _to_hand_over(app: App) -> tuple[ColumnElement[bool], ...]:
    dirty = (entries.c.dirty.is_(True), entries.c.status == "pending")
    # A task outside the schedule has a flow run of its own.
    scheduled = entries.c.nominal.is_not(None)
    return (of_app(app.name), *dirty, scheduled, limits.not_in_line)


@dataclass
class Share:
    """Some tasks of a group, and the batch that takes them: an existing flow run, or the number of a new batch.

    Attributes:
        batch: The number.
        run_id: The flow run, where the batch exists.
        tasks: The tasks' ids.
        before: The flow runs that they had before.
        dead: Those of them whose worker died; the others gave up by themselves.
    """

    batch: int
    run_id: str | None
    tasks: list[str]
    before: set[str]
    dead: set[str]


def shares(
    app: App,
    connection: Connection,
    group: Group,
    now: datetime,
    closed: Collection[str] = (),
    workers: int = 1,
) -> list[Share]:
    """How a group's tasks are spread over batches: first over those that have not begun, then evenly over new ones.

    Each worker gets as many batches, unless a batch would have fewer than `AUTO` rows. Rows of a digest stay together.

    Args:
        app: The app.
        connection: To the ledger.
        group: The group.
        now: The present instant.
        closed: Flow runs that no row joins any more, whatever the ledger says.
        workers: How many workers there are.
    """
    most = _most_rows(app, group.template)
    of = (entries.c.template == group.template, entries.c.due == group.due)
    same = group.waits(now)
    joined = entries.c.dirty.is_(False) & (entries.c.status == "pending")
    clean = joined & same
    # A batch for another opening takes no row of this group, as if it had begun.
    at_work = entries.c.status.in_(("executing", "completed", "error"))
    begun = or_(at_work, joined & not_(same))
    place = (entries.c.batch, entries.c.flow_run_id)
    query = select(
        *place, func.count(case((clean, 1))), func.count(case((begun, 1)))
    ).where(of_app(app.name), *of, entries.c.batch.is_not(None))
    query = query.group_by(*place).order_by(entries.c.batch)
    batches = connection.execute(query).all()
    columns = (entries.c.task_id, entries.c.flow_run_id, entries.c.queue)
    rows = select(*columns).where(*of, same, *_to_hand_over(app))
    waiting = connection.execute(rows.order_by(entries.c.row_key)).all()

    found: list[Share] = []

    for number, run_id, there, at_work in batches:
        free = there and not at_work and there < most
        if run_id and free and run_id not in closed and waiting:
            part, waiting = waiting[: most - there], waiting[most - there :]
            found.append(_share(number, run_id, part))

    taken = {number for number, _, there, at_work in batches if there or at_work}
    unused = (number for number in count(1) if number not in taken)

    wanted = -(-len(waiting) // most)
    if most == BATCH_SIZE:  # rows of a digest stay together
        wanted = max(wanted, min(workers, len(waiting) // AUTO))
        if wanted > workers:  # else some workers have one more than others
            wanted = -(-wanted // workers) * workers

    for left in range(wanted, 0, -1):
        size = -(-len(waiting) // left)
        found.append(_share(next(unused), None, waiting[:size]))
        waiting = waiting[size:]

    return found


def _most_rows(app: App, template: str) -> int:
    """How many rows a flow run of a template has at most."""
    try:
        digest = app.template(template).cfg.digest
    except JittaskError:
        return BATCH_SIZE  # broken: its tasks wait
    return BATCH_SIZE if digest is None else DIGEST_SIZE


def _share(number: int, run_id: str | None, part: Sequence[Any]) -> Share:
    before = {r.flow_run_id for r in part if r.flow_run_id}
    gave_up = {r.flow_run_id for r in part if r.queue == limits.ADMITTED}
    return Share(number, run_id, [r.task_id for r in part], before, before - gave_up)


def number_and_size(connection: Connection, run_id: str) -> tuple[int, int] | None:
    """The number of a batch among those of its instant, and how many rows it has; None for no batch."""
    counts = select(func.max(entries.c.batch), func.count())
    number, size = connection.execute(
        counts.where(entries.c.flow_run_id == run_id, entries.c.batch.is_not(None))
    ).one()
    return (number, size) if size else None


def key(app: App, group: Group, number: int) -> str:
    """The idempotency key of a batch's flow run."""
    return identity(app.name, group.template, "", group.due, number)
