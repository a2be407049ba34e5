"""How many executions run at a time: of a template (`concurrency` in e.json) and of an app (`maxConcurrency`).

The leases of executions are the places: a living process renews its own, and that of a dead process runs out. They are
counted in the transaction that claims a task, after a lock on a row of `jittask_state`: only one counts at a time. A
task that finds no place, and is to queue, gives its flow run up and waits in the ledger. When a place is free the tasks
are admitted in the order of their due times; each holds its place, by a lease too, until it begins.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from sqlalchemy import (
    Connection,
    Engine,
    and_,
    case,
    func,
    literal_column,
    or_,
    select,
    update,
)

from jittask_prefect.ledger import state_table
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.lease_time import caller_time, clock
from jittask_prefect.ledger.tables import OPEN, entries, outside_schedule

Overlap = Literal["queue", "skip", "replace"]
WAITING, ADMITTED = "waiting", "admitted"
"""Values of `queue`: the task waits for a place; the task holds a place, until it has another flow run."""
HELD_SECONDS = 60.0  # that a place is held for a task that was admitted
in_line = and_(entries.c.status == "pending", entries.c.queue == WAITING)
not_in_line = entries.c.queue.is_distinct_from(WAITING)
admitted = entries.c.queue == ADMITTED
_COUNTING = "turn"
_PLACE = "next:"
_earlier = entries.alias()
_first = or_(
    outside_schedule,
    ~select(_earlier.c.task_id)
    .where(
        _earlier.c.app == entries.c.app,
        _earlier.c.template == entries.c.template,
        _earlier.c.row_key == entries.c.row_key,
        _earlier.c.due < entries.c.due,
        _earlier.c.nominal.is_not(None),
        _earlier.c.status.in_(OPEN),
    )
    .exists(),
)  # no earlier occurrence of the same row, or schedule, is open


class TemplateLimit(Protocol):
    """The `concurrency` of an e.json."""

    @property
    def limit(self) -> int: ...

    @property
    def overlap(self) -> Overlap: ...


@dataclass(frozen=True)
class Full:
    """Why a task cannot begin now, and how the task goes on.

    Attributes:
        overlap: `queue`, `skip` or `replace`.
        reason: In words.
        oldest: The tasks that would have to end, the longest at work first.
        opening: Until when the task waits, where its opening hours are the reason.
    """

    overlap: Overlap
    reason: str
    oldest: tuple[str, ...] = ()
    opening: datetime | None = None


def full(
    connection: Connection,
    entry: Entry,
    of_template: TemplateLimit | None,
    of_app: int,
    now: datetime,
) -> Full | None:
    """Whether a task that this transaction has claimed exceeds a limit; the caller then undoes the claim.

    Args:
        connection: In the transaction of the claim.
        entry: The task before its claim: a place that was held for the task is not counted.
        of_template: The limit of the task's template.
        of_app: The limit of the app.
        now: The present instant.
    """
    state_table.lock(connection, entry.app, _COUNTING)
    places = _places(connection, entry.app, now)
    found = [place for place in places if place.owner != entry.owner]
    same = [place for place in found if place.template == entry.template]

    if of_template is not None and len(same) > of_template.limit:
        limit = of_template.limit
        at_work = [
            place.task
            for place in same
            if place.began is not None and place.task != entry.task_id
        ]
        reason = f"{limit} of {limit} executions of {entry.template} are at work"

        return Full(of_template.overlap, reason, tuple(at_work[: len(same) - limit]))

    if len(found) > of_app:
        return Full("queue", f"{of_app} of {of_app} executions of the app are at work")

    return None


def queue(connection: Connection, full: Full, *tasks: Any) -> int:
    """Have tasks, given by conditions, wait for a place; how many do. Condition: pending."""
    values = {
        "dirty": True,
        "queue": WAITING,
        "message": f"queued: {full.reason}",
        "owner": None,
        "lease_until": None,
    }
    mine = (entries.c.status == "pending", *tasks)

    return connection.execute(update(entries).where(*mine).values(**values)).rowcount


def waiting(connection: Connection, app: str, now: datetime) -> bool:
    """Whether tasks of an app wait for a place."""
    mine = (in_line, entries.c.app == app, entries.c.due <= now)
    query = select(entries.c.task_id).where(*mine).limit(1)

    return connection.execute(query).first() is not None


def needs_place(
    connection: Connection,
    app: str,
    of_template: Callable[[str], TemplateLimit | None],
    now: datetime,
) -> bool:
    """Whether a task of an app waits that begins once a place is free; a task that waits for its template does not.

    Args:
        connection: To the ledger.
        app: The app's name.
        of_template: The limit of a template, by its name.
        now: The present instant.
    """
    mine = (in_line, entries.c.app == app, entries.c.due <= now, _first)
    query = select(entries.c.template).where(*mine).distinct()
    templates = connection.execute(query).scalars().all()
    taken = Counter(p.template for p in _places(connection, app, now) if templates)

    return any(
        own is None or taken[name] < own.limit
        for name in templates
        for own in [of_template(name)]
    )


def free_places(
    connection: Connection,
    app: str,
    template: str,
    of_app: int,
    of_template: Callable[[str], TemplateLimit | None],
    now: datetime,
) -> int:
    """How many more executions of a template may begin; none while others wait for a place.

    Args:
        connection: To the ledger.
        app: The app's name.
        template: The template's full name.
        of_app: The limit of the app.
        of_template: The limit of a template, by its name.
        now: The present instant.
    """
    if needs_place(connection, app, of_template, now):
        return 0
    places = _places(connection, app, now)
    free = of_app - len(places)
    if (own := of_template(template)) is not None:
        free = min(free, own.limit - sum(p.template == template for p in places))
    return max(0, free)


def admit(
    engine: Engine,
    app: str,
    of_app: int,
    of_template: Callable[[str], TemplateLimit | None],
    now: datetime,
    *only: Any,
) -> None:
    """Give the free places to the tasks that wait, oldest first: their flow runs can be made.

    Args:
        engine: To the ledger.
        app: The app's name.
        of_app: The limit of the app.
        of_template: The limit of a template, by its name.
        now: The present instant.
        only: Conditions: others go on waiting.
    """
    with engine.connect() as connection:
        if not waiting(connection, app, now):
            return

    with engine.begin() as connection:
        state_table.lock(connection, app, _COUNTING)
        taken: dict[str, int] = defaultdict(int)

        for place in _places(connection, app, now):
            taken[place.template] += 1

        ours = and_(in_line, entries.c.app == app, entries.c.due <= now, _first, *only)
        templates = select(entries.c.template).where(ours)
        templates = templates.group_by(entries.c.template)
        oldest = templates.order_by(func.min(entries.c.due))

        for template in connection.execute(oldest).scalars().all():
            free = of_app - sum(taken.values())
            if (own := of_template(template)) is not None:
                free = min(free, own.limit - taken[template])

            mine = and_(ours, entries.c.template == template)
            taken[template] += _admit(connection, template, mine, max(0, free), now)


def _admit(
    connection: Connection, template: str, mine: Any, free: int, now: datetime
) -> int:
    """Hold places for the oldest tasks of a template, a batch's rows together; how many places.

    Condition: the tasks are pending, and still wait for a place.
    """
    alone = case(
        (entries.c.batch.is_(None), entries.c.task_id), else_=literal_column("''")
    )
    order = select(entries.c.due, alone).where(mine).group_by(entries.c.due, alone)
    oldest = connection.execute(order.order_by(entries.c.due, alone).limit(free)).all()
    places = 0

    for due, task in oldest:
        batch = and_(entries.c.due == due, entries.c.batch.is_not(None))
        together = entries.c.task_id == task if task else batch
        query = select(entries.c.task_id).where(mine, together)
        tasks = connection.execute(query).scalars().all()
        place = {
            "owner": _PLACE + (task or f"{template} {due.isoformat()}"),
            "message": "",
            "queue": ADMITTED,
            "lease_until": clock(caller_time(now, HELD_SECONDS), HELD_SECONDS),
        }
        # A batch's process may have claimed a task since.
        held = update(entries).where(entries.c.task_id.in_(tasks), in_line)
        places += connection.execute(held.values(**place)).rowcount > 0

    return places


@dataclass(frozen=True)
class _Place:
    template: str
    owner: str
    task: str
    began: datetime | None


def _places(connection: Connection, app: str, now: datetime) -> list[_Place]:
    """The places that are taken or held: a batch takes a single place, whatever the number of its rows."""
    held = and_(entries.c.status == "pending", entries.c.due <= now)
    live = (
        entries.c.app == app,
        or_(entries.c.status == "executing", held),
        entries.c.lease_until > clock(caller_time(now)),
    )
    began = func.min(entries.c.started)
    owner = (entries.c.template, entries.c.owner)
    query = select(*owner, func.min(entries.c.task_id), began).where(*live)
    found = connection.execute(query.group_by(*owner).order_by(began))

    return [_Place(*record) for record in found]
