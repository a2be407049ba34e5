"""Runs of schedules whose process died before the ledger knew of them: they get an entry, and so another run.

A run that a schedule made stands in the ledger from its claim on. Where worker or machine die between Prefect's Pending
and the claim, the run stays as it is for ever, on a self-hosted server. Where its process alone died it is Crashed, and
the hook of that enters it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import or_, select

from jittask_prefect.elements.app import App
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import JittaskError
from jittask_prefect.ledger import transitions
from jittask_prefect.ledger.ending import Patience, never_begun, since
from jittask_prefect.ledger.entry import Entry, new_entry
from jittask_prefect.ledger.tables import entries
from jittask_prefect.ledger.transitions import DIED
from jittask_prefect.prefect_api.answers import FlowRun
from jittask_prefect.prefect_api.client import PAGE, Api
from jittask_prefect.rows.handover import deployments_of

SYNC = "jittask.sync"
# A sync that began so long ago, and has not the lease, has died; a dialog; a run that names no task.
SYNC_LEFT, DIALOG_LEFT, OTHER_LEFT = (
    timedelta(minutes=5),
    timedelta(minutes=10),
    timedelta(minutes=15),
)
log = logging.getLogger("jittask")


def entry_of(
    app: App, template: Meta, run_id: str, due: datetime, auto: bool, now: datetime
) -> Entry:
    """The ledger entry of a scheduled template's run.

    Args:
        app: The app.
        template: The template.
        run_id: The run.
        due: When it was to start.
        auto: A schedule made it: it stands for an occurrence, and no other run does.
        now: The present instant.
    """
    nominal = None
    if auto:
        series = template.series()
        occurrence = series.due_at(due) if series else None
        nominal = occurrence.nominal if occurrence else due
    return new_entry(
        task_id=run_id, app=app.name, template=template.fullName, nominal=nominal, due=due, created=now, flow_run_id=run_id,
        dirty=False,
    )  # fmt: skip


def scheduled(app: App) -> list[str]:
    """The names of the scheduled templates."""
    return [
        template.fullName
        for template in app.templates()
        if not isinstance(template, DateFieldType)
    ]


def take_up(app: App, api: Api, names: Sequence[str], now: datetime) -> None:
    """Enter the runs that nobody will begin, so that the hand-over makes another run of each.

    One that is only slow is refused: the claim lets one execution through.

    Args:
        app: The app.
        api: Prefect.
        names: The scheduled templates.
        now: The present instant.

    Raises:
        PrefectApiError: Prefect cannot be reached.
    """
    found = api.runs(
        limit=PAGE,
        sort="EXPECTED_START_TIME_ASC",
        deployments=deployments_of(app, names),
        flow_runs={"state": {"type": {"any_": ["PENDING", "RUNNING"]}}},
    )
    patience = Patience(api)
    left = [run for run in found if _left(run, now, patience)]
    if not left:
        return
    ids = [run.id for run in left]
    query = select(entries.c.task_id, entries.c.flow_run_id)
    query = query.where(or_(entries.c.task_id.in_(ids), entries.c.flow_run_id.in_(ids)))
    with app.engine().connect() as connection:
        known = {value for record in connection.execute(query) for value in record}
    for run in left:
        if (
            run.id not in known
            and "taskId" not in run.parameters
            and not enter(app, run, now)
        ):
            api.set_state(run.id, "CRASHED", message=DIED, force=True)


def _left(run: FlowRun, now: datetime, patience: Patience) -> bool:
    if run.parameters.get("template"):
        return never_begun(run, _due(run), now, patience)
    return now - since(run) > OTHER_LEFT


def end_left(
    app: App, api: Api, dialogs: Sequence[str], now: datetime, this: str | None
) -> None:
    """Set the syncs and dialogs Crashed whose worker died: the ledger has no entry of these.

    Args:
        app: The app; the caller holds the lease of its sync, so no other sync is at work.
        api: Prefect.
        dialogs: The deployments of the dialogs.
        now: When the lease was taken: a sync that took it over since then began later.
        this: The flow run of the sync that is at work; absent where a command does it.

    Raises:
        PrefectApiError: Prefect cannot be reached.
    """
    at_work = {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}
    for names, left in (([SYNC], SYNC_LEFT), (dialogs, DIALOG_LEFT)):
        for run in api.runs(deployments=deployments_of(app, names), flow_runs=at_work):
            if run.id != this and now - since(run) > left:
                api.set_state(run.id, "CRASHED", message=DIED, force=True)


def enter(app: App, run: FlowRun, now: datetime) -> bool:
    """Write down a run whose process died as a task that is to get another one.

    Args:
        app: The app.
        run: The run, which no entry has.
        now: The present instant.

    Returns:
        False where it is no scheduled task's, or its occurrence has another run.
    """
    about = run.parameters
    if not about.get("template") or set(about) != {"template"}:
        return False
    try:
        template = app.template(about["template"])
    except JittaskError:
        return True  # another sync finds it again, once it loads
    if isinstance(template, DateFieldType):
        return False  # a person's run that names no row
    entry = entry_of(app, template, run.id, _due(run), run.auto_scheduled, now)
    with app.engine().begin() as connection:
        if not transitions.enter(connection, replace(entry, dirty=True)):
            return False
    log.warning(
        "%s, due %s: its worker died before it began; it gets another run",
        template.fullName,
        entry.due,
    )
    return True


def _due(run: FlowRun) -> datetime:
    return run.expected_start_time
