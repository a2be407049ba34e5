"""Whose turn it is: with `missed: all`, what is late of a scheduled task, or of a row, runs in order, one by one.

Prefect has a run for each occurrence, and a worker begins several beside each other. One that began too early waits a
moment where only one is before it; else it waits in the ledger like one that finds no slot (`rows/limits.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select

from jittask_prefect.elements.app import App
from jittask_prefect.elements.types import Meta
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.tables import OPEN, entries
from jittask_prefect.prefect_api.client import PAGE, Api
from jittask_prefect.rows.run_states import deployments_of

WAITING = ("SCHEDULED", "PENDING", "RUNNING", "CANCELLING")


@dataclass(frozen=True)
class Wait:
    """Why it is not its turn; `long` where more than one comes first."""

    reason: str
    long: bool


Turn = Callable[[str, Meta, Entry], Wait | None]
"""Asked with the database and the entry of a task that is not claimed yet."""
Before = list[tuple[datetime, datetime | None]]
"""What was due earlier and has not ended: when each was due, and when it was begun."""


def of_task(
    app: App, database: str, connect: Callable[[], Api], template: Meta, entry: Entry
) -> Callable[[], Before]:
    """What comes before a task that is not claimed yet: of its row, or of its schedule.

    Args:
        app: The app.
        database: Where the task's entry is.
        connect: Gives Prefect, which knows the runs of a schedule that have not begun.
        template: The template.
        entry: The task.
    """
    if entry.nominal is None:
        return list  # a person's run is apart from the schedule
    if not entry.row_key:
        return lambda: [
            *_entered(app, database, entry.due, template, [""]),
            *_not_entered(app, connect(), template, entry),
        ]
    return lambda: _entered(app, database, entry.due, template, [entry.row_key])


def of_batch(
    app: App, database: str, template: Meta, due: datetime
) -> Callable[[], Before]:
    """What comes before a batch: earlier occurrences of its rows."""
    mine = (
        entries.c.template == template.fullName,
        entries.c.due == due,
        entries.c.status == "pending",
    )
    return lambda: _entered(
        app, database, due, template, select(entries.c.row_key).where(*mine)
    )


def look(
    template: Meta, due: datetime, before: Callable[[], Before], now: datetime
) -> Wait | None:
    """Whether others come first, which are due earlier and have not ended: where one of them, or this one, is late.

    Args:
        template: The template.
        due: When this one was due.
        before: Tells what comes before.
        now: The present instant.

    Raises:
        PrefectApiError: Prefect cannot be reached.
    """
    if template.cfg.missed.policy != "all":
        return None
    grace, found = timedelta(seconds=template.cfg.missed.grace), before()
    if not found or (
        now - due <= grace and all((begun or now) - at <= grace for at, begun in found)
    ):
        return None
    first = min(at for at, _ in found).astimezone(template.timer.zone)
    return Wait(f"what was due {first:%Y-%m-%d %H:%M} comes first", long=len(found) > 1)


def _entered(
    app: App, database: str, due: datetime, template: Meta, rows: Any
) -> Before:
    """Of some rows (a schedule's own have an empty key) the earlier tasks that the ledger knows."""
    earlier = (
        entries.c.template == template.fullName,
        entries.c.due < due,
        entries.c.nominal.is_not(None),
    )
    query = select(entries.c.due, entries.c.started).where(
        *earlier, entries.c.status.in_(OPEN)
    )
    with app.engine(database).connect() as connection:
        return [
            (one.due, one.started)
            for one in connection.execute(query.where(entries.c.row_key.in_(rows)))
        ]


def _not_entered(app: App, api: Api, template: Meta, entry: Entry) -> Before:
    """The earlier runs of a schedule that the ledger does not know yet."""
    until = entry.due.astimezone(UTC).isoformat()
    runs = api.runs(
        limit=PAGE,
        sort="EXPECTED_START_TIME_ASC",
        deployments=deployments_of(app, [template.fullName]),
        flow_runs={
            "state": {"type": {"any_": list(WAITING)}},
            "expected_start_time": {"before_": until},
        },
    )
    made = {run.id: run.expected_start_time for run in runs if run.auto_scheduled}
    with app.engine().connect() as connection:
        known = set(
            connection.execute(
                select(entries.c.task_id).where(entries.c.task_id.in_(made))
            ).scalars()
        )
    return [
        (due, None)
        for run_id, due in made.items()
        if run_id not in known and due < entry.due
    ]
