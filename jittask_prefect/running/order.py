"""Whose turn it is: with `missed: all`, late occurrences run in the order of their due times.

Prefect has a run for each occurrence, and a worker begins several at once. An occurrence
that begins too early waits a moment in its process for a single earlier occurrence, and in
the ledger for more, as for a slot (`ledger/limits.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import select

from jittask_prefect.elements.app import App
from jittask_prefect.elements.types import Meta
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.tables import OPEN, entries
from jittask_prefect.prefect_api.api import PAGE, Api
from jittask_prefect.rows.flow_runs import deployments_of

WAITING = ("SCHEDULED", "PENDING", "RUNNING", "CANCELLING")


@dataclass(frozen=True)
class Wait:
    """Why an occurrence has to wait.

    Attributes:
        reason: In words.
        long: Several others come first, or its hours are closed.
        opening: Until when it waits, where its opening hours are the reason.
    """

    reason: str
    long: bool
    opening: datetime | None = None


class Earlier(NamedTuple):
    """An occurrence that was due earlier and has not ended; `begun` None: not begun either."""

    due: datetime
    begun: datetime | None


def wait_of_task(
    app: App,
    database: str,
    connect: Callable[[], Api] | None,
    template: Meta,
    entry: Entry,
    now: datetime,
) -> Wait | None:
    """Why a task has to wait for earlier occurrences of its row, or of its schedule.

    Args:
        app: The app.
        database: The database of the task's entry.
        connect: Gives Prefect, which knows the runs of a schedule that have not begun; absent the ledger alone is asked.
        template: The template.
        entry: The task.
        now: The present instant.

    Raises:
        PrefectApiError: Prefect cannot be reached.
    """
    if template.cfg.missed.policy != "all" or entry.nominal is None:
        return None  # a person's run is apart from the schedule
    earlier = _in_ledger(app, database, template, entry.due, [entry.row_key])
    if not entry.row_key and connect is not None:
        earlier += _in_prefect(app, connect(), template, entry.due)
    return _wait(template, entry.due, earlier, now)


def wait_of_batch(
    app: App, database: str, template: Meta, due: datetime, now: datetime
) -> Wait | None:
    """Why a batch has to wait for earlier occurrences of its rows."""
    if template.cfg.missed.policy != "all":
        return None
    batch = (
        entries.c.app == app.name,
        entries.c.template == template.fullName,
        entries.c.due == due,
        entries.c.status == "pending",
    )
    rows = select(entries.c.row_key).where(*batch)
    return _wait(template, due, _in_ledger(app, database, template, due, rows), now)


def _wait(
    template: Meta, due: datetime, earlier: Sequence[Earlier], now: datetime
) -> Wait | None:
    """Earlier occurrences come first where any of them, or the present occurrence, is late."""
    grace = timedelta(seconds=template.cfg.missed.grace)
    late = now - due > grace or any((e.begun or now) - e.due > grace for e in earlier)
    if not earlier or not late:
        return None
    first = min(e.due for e in earlier).astimezone(template.timer.zone)
    reason = f"what was due {first:%Y-%m-%d %H:%M} comes first"
    return Wait(reason, long=len(earlier) > 1)


def _in_ledger(
    app: App, database: str, template: Meta, due: datetime, rows: Any
) -> list[Earlier]:
    """Earlier tasks of some rows that the ledger knows; a schedule's tasks have an empty key."""
    mine = (
        entries.c.app == app.name,
        entries.c.template == template.fullName,
        entries.c.due < due,
        entries.c.nominal.is_not(None),
        entries.c.status.in_(OPEN),
        entries.c.row_key.in_(rows),
    )
    query = select(entries.c.due, entries.c.started).where(*mine)
    with app.engine(database).connect() as connection:
        return [Earlier(*record) for record in connection.execute(query)]


def _in_prefect(app: App, api: Api, template: Meta, due: datetime) -> list[Earlier]:
    """Earlier runs of a schedule that the ledger does not know yet."""
    runs = api.runs(
        limit=PAGE,
        sort="EXPECTED_START_TIME_ASC",
        deployments=deployments_of(app, [template.fullName]),
        flow_runs={
            "state": {"type": {"any_": list(WAITING)}},
            "expected_start_time": {"before_": due.astimezone(UTC).isoformat()},
        },
    )
    made = {run.id: run.expected_start_time for run in runs if run.auto_scheduled}
    query = select(entries.c.task_id).where(entries.c.task_id.in_(made))
    with app.engine().connect() as connection:
        known = set(connection.execute(query).scalars())
    return [
        Earlier(at, None) for run, at in made.items() if run not in known and at < due
    ]
