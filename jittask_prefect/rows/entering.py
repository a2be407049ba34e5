"""Runs of schedules that the ledger does not know yet: they enter at their claim, or when their process died before."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from jittask_prefect.elements.app import App
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.errors import JittaskError, UnknownTask
from jittask_prefect.ledger import retention, transitions
from jittask_prefect.ledger.entry import Entry, new_entry
from jittask_prefect.prefect_api.answers import FlowRun

log = logging.getLogger("jittask")


def entry_of(
    app: App, name: str, run_id: str, due: datetime, auto: bool, now: datetime
) -> Entry:
    """The ledger entry of a scheduled template's run; of a template that does not load, the due time is nominal.

    Args:
        app: The app.
        name: The template's full name.
        run_id: The run.
        due: When the run was to start.
        auto: A schedule made the run, which alone stands for its occurrence.
        now: The present instant.
    """
    nominal = due if auto else None
    with suppress(JittaskError):
        series = app.template(name).series() if auto else None
        if series and (occurrence := series.due_at(due)):
            nominal = occurrence.nominal
    return new_entry(
        task_id=run_id,
        app=app.name,
        template=name,
        nominal=nominal,
        due=due,
        created=now,
        flow_run_id=run_id,
        dirty=False,
    )


def enter(connection: Connection, entry: Entry, begun: datetime | None) -> bool:
    """Write down the task of a flow run that names none, as `transitions.enter` does.

    Args:
        connection: In a transaction.
        entry: The task.
        begun: When the flow run began for the first time; None: it begins now.

    Raises:
        UnknownTask: Its task may have been done, and have left the ledger since; somebody has pressed Retry.
    """
    entered = transitions.enter(connection, entry)
    if entered and retention.may_be_gone(connection, entry.app, begun):
        raise UnknownTask(
            f"the task of this flow run began on {begun:%Y-%m-%d} and has left the ledger since (`retention`): "
            "make a new run"
        )
    return entered


def scheduled(app: App, *, or_broken: bool = False) -> list[str]:
    """The names of the scheduled templates; also of those that do not load just now, if wanted."""
    loaded = {t.fullName: isinstance(t, DateFieldType) for t in app.templates()}
    names = app.names("tasks") if or_broken else loaded

    return [name for name in names if not loaded.get(name, False)]


def loads(app: App, run: FlowRun) -> bool:
    """Whether the template of a run loads just now."""
    try:
        app.template(run.parameters["template"])
    except JittaskError:
        return False

    return True


def enter_dead_run(app: App, run: FlowRun, now: datetime) -> bool:
    """Write down a run whose process died as a task that is to get another run.

    Args:
        app: The app.
        run: The run, which no entry has.
        now: The present instant.

    Returns:
        False where the run is no scheduled task's, or its occurrence has, or may have had, another run.
    """
    about = run.parameters
    if not about.get("template") or set(about) != {"template"}:
        return False
    try:
        template = app.template(about["template"])
    except JittaskError:
        return True  # another sync finds the run again, once the template loads
    if isinstance(template, DateFieldType):
        return False  # a person's run that names no row
    due = run.expected_start_time
    entry = entry_of(app, template.fullName, run.id, due, run.auto_scheduled, now)
    with app.engine().begin() as connection:
        if retention.may_be_gone(connection, app.name, run.start_time):
            return False
        if not transitions.enter(connection, replace(entry, dirty=True)):
            return False
    log.warning(
        "%s, due %s: the run's worker died before the task began; another run follows",
        template.fullName,
        due,
    )
    return True
