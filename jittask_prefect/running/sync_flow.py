"""The sync as a flow: rows, ledger and flow runs together; then the deployments and pages."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import datetime, timedelta
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from jittask_prefect.deploying import renew
from jittask_prefect.dialogs import flows as dialogs
from jittask_prefect.elements.app import App
from jittask_prefect.errors import PrefectApiError
from jittask_prefect.ledger import guard
from jittask_prefect.ledger.guard import connect
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.prefect_api.flow_names import refuse_foreign
from jittask_prefect.prefect_api.names import app_tag, of_app
from jittask_prefect.records import overview_page, template_pages
from jittask_prefect.rows import sync
from jittask_prefect.rows.flow_runs import set_left
from jittask_prefect.rows.plan import Report
from jittask_prefect.rows.run_endings import SYNC, end_left
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
        if report is None:
            return Completed(message="another sync is at work")
        for line in [*report.problems, *report.calendars, *report.deployments]:
            logger.warning(line)
        changed = [a.as_dict() for a in report.actions if a.action != "skip"]
        if changed:
            logger.info("plan: %s", json.dumps(changed, ensure_ascii=False))
        return Completed(message=_message(report))

    def name() -> str:
        due = due_of(this_flow_run()).astimezone(app.zone)
        return f"sync · {due:%Y-%m-%d %H:%M}"

    return flow(name=of_app(app.name, SYNC), flow_run_name=name, **options())(
        jittask_sync
    )


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
    api = connect(app)
    guard.require(app, api, again=True)

    def after(report: Report) -> None:
        for database, entry in report.died:
            follow_up(app, database, entry, now)
        end_left(app, api, dialogs.NAMES, now, this)
        changes = renew.renew(app, api, clock.now())
        report.deployments = [str(change) for change in changes]
        try:
            template_pages.refresh(app, api, clock.now())
            overview_page.refresh(app, api, clock.now())
        except PrefectApiError as error:  # the sync has done its work
            log.warning("the app's pages are left to the next sync: %s", error)

    owner = new_owner()
    return sync.run(app, api, now, owner, since=since, clock=clock.now, after=after)
