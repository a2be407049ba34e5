"""The flows that prefect.yaml points at: one for each task Type of an app, and the sync.

Prefect is imported here, in `prefect_api` and in the worker only. A flow takes keys (template, task id), never row data
or arguments: the server hydrates parameters, and shows them to everybody.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.runtime import flow_run as runtime
from prefect.states import Cancelled, Completed, Failed
from sqlalchemy import update

from .. import clock
from ..elements.app import _LOG, App, use_app
from ..prefect_api import connect
from ..rows import ledger, sync
from ..rows.ledger import entries
from .execute import Outcome, Run, after_return, execute, locate, me, next_of_row

SYNC = "jittask.sync"
SYNC_NAME = "jittask_sync"
log = logging.getLogger("jittask")
AnyFlow = Any  # Flow[P, R]: its parameters differ by Type


def flows_of(path: Path) -> dict[str, AnyFlow]:
    """The flows of an app, by the name that an entrypoint uses.

    Args:
        path: The app folder.
    """
    app = App(path)
    use_app(app)
    found = {name.partition(".")[2]: _type_flow(app, name) for name in app.types()}
    return {**found, SYNC_NAME: _sync_flow(app)}


def _type_flow(app: App, name: str) -> AnyFlow:
    async def run(template: str, taskId: str | None = None) -> State[Any]:
        """Run one task of a template of this Type."""
        context = FlowRunContext.get()
        assert context is not None and context.flow_run is not None
        of = context.flow_run
        this = Run(str(of.id), of.expected_start_time or clock.now(), of.auto_scheduled)
        logger = get_run_logger()
        token = _LOG.set(logger)
        try:
            lost = _exit_hard(app, this.id)
            outcome = await asyncio.to_thread(execute, app, template, taskId, this, clock.now, lost=lost)
        finally:
            _LOG.reset(token)
        if outcome.result is not None:
            logger.info("result: %s", ledger.to_json(outcome.result))
        return state_of(outcome)

    run.__name__ = run.__qualname__ = name.partition(".")[2]
    made = flow(
        name=name,
        flow_run_name=_run_name(app),
        log_prints=True,
        validate_parameters=False,
        persist_result=False,
        on_cancellation=[_on_end(app, "forced", "ended: cancelled in Prefect")],
        on_crashed=[_on_end(app, "died", "error: worker died")],
    )
    return made(run)


def state_of(outcome: Outcome) -> State[Any]:
    """The flow run's final state for an outcome."""
    if outcome.status == "completed":
        text = "" if outcome.result is None else ledger.to_json(outcome.result)
        return Completed(message=text[:1000] or None)
    if outcome.status == "error":
        name = "TimedOut" if outcome.outcome == "timeout" else "Failed"
        return Failed(name=name, message=outcome.message)
    return Cancelled(message=outcome.message)


def _run_name(app: App) -> Callable[[], str]:
    """A flow run's name: the one that sync gave it, or template and due time for a run of a schedule."""

    def name() -> str:
        context = FlowRunContext.get()
        of = context.flow_run if context else None
        template = runtime.parameters.get("template")
        if of is None or not of.auto_scheduled or template not in app.names("tasks"):
            return str(runtime.name)
        due = of.expected_start_time or clock.now()
        return (
            sync.plain(app.template(template).title)
            + f" · {due.astimezone(app.template(template).timer.zone):%Y-%m-%d %H:%M}"
        )

    return name


def _exit_hard(app: App, run_id: str) -> Callable[[], None]:
    """How the process of an ended execution ends: say so to Prefect, then leave at once, whatever the function does."""

    def leave() -> None:
        try:
            connect(app.path).set_state(run_id, "CANCELLED", message="ended", force=True)
        finally:
            os._exit(0)

    return leave


def _on_end(app: App, outcome: str, message: str) -> Callable[[Any, FlowRun, State[Any]], None]:
    """What Prefect's worker calls when a run was cancelled or its process died."""

    def hook(_flow: Any, flow_run: FlowRun, _state: State[Any]) -> None:
        record_end(app, str(flow_run.parameters.get("taskId") or flow_run.id), outcome, message, clock.now())

    return hook


def record_end(app: App, task_id: str, outcome: str, message: str, now: datetime) -> None:
    """Record in the ledger that an execution was ended from outside, then `afterReturn` and the next occurrence.

    A task whose worker died, and which has retries left, begins again instead.
    """
    found = locate(app, task_id)
    if found is None:
        return
    database, entry = found
    if outcome == "died":
        retries = app.template(entry.template).cfg.retries
        with app.engine(database).begin() as connection:
            again = update(entries).where(
                entries.c.task_id == entry.task_id, entries.c.status == "executing", entries.c.attempt <= retries
            )
            values = {"status": "pending", "owner": None, "lease_until": None, "flow_run_id": None, "dirty": True}
            if connection.execute(again.values(**values)).rowcount:
                return
    status = "error" if outcome == "died" else "ended"
    within = ("executing",) if outcome == "died" else ("pending", "executing")
    with app.engine(database).begin() as connection:
        if ledger.close(
            connection, entry.task_id, outcome=outcome, message=message, now=now, status=status, within=within
        ):
            connection.execute(update(entries).where(entries.c.task_id == entry.task_id).values(dirty=False))
    if after_return(app, database, entry.task_id):
        next_of_row(app, database, entry, now)


def _sync_flow(app: App) -> AnyFlow:
    async def jittask_sync() -> State[Any]:
        """Bring rows, ledger and flow runs together."""
        logger = get_run_logger()
        token = _LOG.set(logger)
        try:
            report = await asyncio.to_thread(run_sync, app, clock.now())
        finally:
            _LOG.reset(token)
        if report is None:
            return Completed(message="another sync is at work")
        for problem in report.problems:
            logger.warning(problem)
        changed = [a.as_dict() for a in report.actions if a.action != "skip"]
        if changed:
            logger.info("plan: %s", json.dumps(changed, ensure_ascii=False))
        return Completed(message=f"{report.created} runs made, {report.ended} ended, {len(report.problems)} problems")

    return flow(name=SYNC, validate_parameters=False, persist_result=False)(jittask_sync)


def run_sync(app: App, now: datetime, since: datetime | None = None) -> sync.Report | None:
    """One sync against the app's Prefect, with what follows for tasks whose worker died."""
    report = sync.run(app, connect(app.path), now, me(), since=since, clock=clock.now)
    for database, entry in report.died if report else []:
        if after_return(app, database, entry.task_id):
            next_of_row(app, database, entry, now)
    return report
