"""The sync as a flow: rows, ledger and flow runs together; then the deployments and pages."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from jittask_prefect.deploying import next_names, renew
from jittask_prefect.deploying.deployments import deployments_now
from jittask_prefect.dialogs import flows as dialogs
from jittask_prefect.elements.app import App
from jittask_prefect.errors import PrefectApiError
from jittask_prefect.ledger import guard, state_table
from jittask_prefect.ledger.guard import connect
from jittask_prefect.ledger.hindrance import naming_rights
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.prefect_api.flow_names import refuse_foreign
from jittask_prefect.prefect_api.names import app_tag, of_app
from jittask_prefect.records import overview_page, template_pages
from jittask_prefect.rows import sync
from jittask_prefect.rows.flow_runs import set_left, sync_name
from jittask_prefect.rows.plan import Report
from jittask_prefect.rows.run_endings import SYNC, end_left
from jittask_prefect.running import figures
from jittask_prefect.running.flow_context import (
    due_of,
    options,
    task_log,
    this_flow_run,
)
from jittask_prefect.running.function import follow_up
from jittask_prefect.running.lease import new_owner
from jittask_prefect.schedule import clock

LATE_SECONDS = 30.0
IDLE, IDLE_MARK = "Idle", "idle:"
"""The name of the state in which a sync without work is Completed, and how the names begin by which such runs are remembered.

Each run has a name of its own: after a time without a worker many syncs begin at once, and a value has 255 characters."""
ENDED_BY = timedelta(seconds=45)
"""After this time a sync that had nothing to do has ended in Prefect too."""
log = logging.getLogger("jittask")


def sync_flow(app: App) -> Any:
    """The flow `jittask.sync` of an app."""

    async def jittask_sync() -> State[Any]:
        """Bring rows, ledger and flow runs together."""
        run_id, flow_id = str(this_flow_run().id), str(this_flow_run().flow_id)
        with task_log() as logger:
            api = await asyncio.to_thread(connect, app)
            own = of_app(app.name, SYNC)
            await asyncio.to_thread(refuse_foreign, api, flow_id, own)
            await asyncio.to_thread(drop_late_syncs, app, api, clock.now())
            report = await asyncio.to_thread(run_sync, app, clock.now(), this=run_id)
            if report is None or not _did(report):
                await asyncio.to_thread(leave_one_idle, app, api, run_id, clock.now())
        if report is None:
            return Completed(name=IDLE, message="another sync is at work")
        if not _did(report):
            return Completed(name=IDLE, message="nothing to do")
        for line in [*report.problems, *report.calendars, *report.deployments]:
            logger.warning(line)
        changed = [a.as_dict() for a in report.actions if a.action != "skip"]
        if changed:
            logger.info("plan: %s", json.dumps(changed, ensure_ascii=False))
        return Completed(message=_message(report))

    def name() -> str:
        return sync_name(app, due_of(this_flow_run()))

    return flow(name=of_app(app.name, SYNC), flow_run_name=name, **options())(
        jittask_sync
    )


def _did(report: Report) -> bool:
    """Whether a sync changed something, or has something to say."""
    said = [*report.problems, *report.calendars, *report.deployments, *report.died]
    return bool(report.created or report.ended or report.changes or said)


def leave_one_idle(app: App, api: Api, run_id: str, now: datetime) -> None:
    """Delete the flow run of the last sync without work, and remember this: idle syncs would bury the tasks' runs.

    The state table remembers them, so that nobody asks Prefect for a list. A run that may not have ended yet stays until later.

    Args:
        app: The app.
        api: Prefect.
        run_id: The flow run of this sync, which had nothing to do.
        now: The present instant.
    """
    with app.engine().connect() as connection:
        known = state_table.starting_with(connection, app.name, IDLE_MARK)
    marks: dict[str, str | None] = {IDLE_MARK + run_id: now.isoformat()}
    for mark, at in known.items():
        if now - datetime.fromisoformat(at) < ENDED_BY or mark in marks:
            continue
        try:
            api.delete_run(mark.removeprefix(IDLE_MARK))
            marks[mark] = None
        except PrefectApiError as error:
            log.debug("%s is left to the next sync: %s", mark, error)
    with app.engine().begin() as connection:
        for mark, value in marks.items():
            state_table.put(connection, app.name, mark, value)


def _message(report: Report) -> str:
    made, ended, problems = report.created, report.ended, len(report.problems)
    message = f"{made} runs made, {ended} ended, {problems} problems"
    changes = len(report.deployments)
    return message + (f", {changes} changes to deployments" if changes else "")


def drop_late_syncs(app: App, api: Api, now: datetime) -> int:
    """Cancel syncs that no worker began in time, since the next one does their work.

    After an hour without a worker there are sixty, and a worker starts them all at once.

    Returns:
        How many were cancelled.
    """
    found = api.deployments(app_tag(app.name)).get(SYNC)
    if found is None:
        return 0
    late = {
        "deployment_id": {"any_": [found.id]},
        "state": {"type": {"any_": ["SCHEDULED"]}},
        "expected_start_time": {
            "before_": (now - timedelta(seconds=LATE_SECONDS)).isoformat()
        },
    }
    message = "a later sync does its work"
    runs = api.runs(flow_runs=late)
    return sum(set_left(api, run.id, "CANCELLED", message) for run in runs)


def rest_schedules(app: App, now: datetime) -> None:
    """Pause the tasks' deployments of a paused app at once, whatever sync is at work.

    No lease is needed: each sync that begins later reads the pause in the app's database, and wants the same value. A sync that
    read the app before the pause may set the field back; the next sync pauses again, and no task begins meanwhile.

    Args:
        app: The app, which is paused.
        now: The present instant.

    Raises:
        PrefectApiError: Prefect cannot be reached; the next sync pauses them.
    """
    api = connect(app)
    guard.require(app, api, again=True)
    there = api.deployments(app_tag(app.name))
    for wanted in deployments_now(app, now):
        found = there.get(wanted.name)
        if found is not None and wanted.paused and not found.paused:
            api.change_deployment(found.id, {"paused": True})


def run_sync(
    app: App, now: datetime, since: datetime | None = None, *, this: str | None = None
) -> Report | None:
    """Run a sync against the app's Prefect; then follow up deaths, renew deployments and pages.

    Args:
        app: The app.
        now: The present instant.
        since: Start of the window, instead of the last sync.
        this: The flow run of the sync.

    Returns:
        The report; None while another sync is at work.
    """
    owner, begun_at = new_owner(), time.monotonic()
    with naming_rights(app):
        api = connect(app)
        elsewhere = guard.require(app, api, again=True)
        after = partial(_after, app, api, now, this)
        about = (app, api, now, owner)
        report = sync.run(*about, since=since, clock=clock.now, after=after)
    if report is not None and elsewhere:
        report.problems.append(elsewhere)
    if report is not None:
        figures.synced(app, time.monotonic() - begun_at, clock.now(), report.down)
    return report


def _after(app: App, api: Api, now: datetime, this: str | None, report: Report) -> None:
    """Follow up deaths, renew deployments and pages; the sync still holds its lease."""
    for database, entry in report.died:
        follow_up(app, database, entry, now)
    end_left(app, api, dialogs.NAMES, now, this)
    changes = renew.renew(app, api, clock.now())
    report.deployments = [str(change) for change in changes]
    try:
        next_names.name_next_runs(app, api, clock.now())
        template_pages.refresh(app, api, clock.now())
        overview_page.refresh(app, api, clock.now())
    except PrefectApiError as error:  # the sync has done its work
        log.warning("pages, and names of runs, are left to the next sync: %s", error)
