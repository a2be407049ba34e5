"""The flows that prefect.yaml points at: one for each task Type of an app, and the sync.

Prefect is imported here, in `prefect_api` and in the worker only. A flow takes keys (template, task id), never row data
or arguments: the server hydrates parameters, and shows them to everybody.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.logging.handlers import APILogHandler
from prefect.runtime import flow_run as runtime
from prefect.settings import get_current_settings
from prefect.states import Cancelled, Completed, Failed
from sqlalchemy.exc import SQLAlchemyError

from jittask_prefect.deploying import renew
from jittask_prefect.dialogs import flows as dialogs
from jittask_prefect.elements.app import App, use_app
from jittask_prefect.elements.databases import DEFAULT
from jittask_prefect.elements.loader import TASK_LOG
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import JittaskError, PrefectApiError
from jittask_prefect.ledger import limits
from jittask_prefect.ledger.entry import Entry, entries_of_run
from jittask_prefect.ledger.keys import to_json
from jittask_prefect.ledger.tables import OPEN
from jittask_prefect.ledger.transitions import DIED
from jittask_prefect.prefect_api import answers
from jittask_prefect.prefect_api.client import BY_HAND, Api
from jittask_prefect.prefect_api.names import app_tag, prefect_name, timed_name
from jittask_prefect.records import template_pages
from jittask_prefect.rows import sync
from jittask_prefect.rows.handover import hand_over
from jittask_prefect.rows.plan import Report
from jittask_prefect.rows.settling import SYNC, end_left, settle_reported
from jittask_prefect.running import forced
from jittask_prefect.running.batch import execute_batch, record_batch
from jittask_prefect.running.begin import REPLACED, TAKEN, Outcome, Run, label_of
from jittask_prefect.running.execute import execute, locate, me
from jittask_prefect.running.form_actions import form_actions
from jittask_prefect.running.order import Wait, look, of_batch, of_task
from jittask_prefect.running.parameters import Refusals, asked
from jittask_prefect.running.task import after_return, next_of_row
from jittask_prefect.schedule import clock
from jittask_prefect.server.selection import connect
from jittask_prefect.warm import pipe_messages

SYNC_NAME = "jittask_sync"
LATE_SECONDS = 30.0
LEAVE_SECONDS = 3.0  # what a process that must go takes at most to say so
log = logging.getLogger("jittask")
AnyFlow = Any  # Flow[P, R]: its parameters differ by Type


def flows_of(app: App) -> dict[str, AnyFlow]:
    """The flows of an app, which is this process's current one, by the name that an entrypoint uses."""
    use_app(app)
    if not any(isinstance(handler, _ToRun) for handler in log.handlers):
        log.addHandler(_ToRun())
    found = {name.partition(".")[2]: _type_flow(app, name) for name in app.types()}
    return {
        **found,
        SYNC_NAME: _sync_flow(app),
        **dialogs.flows_of(app, _storage(), form_actions),
    }


class _ToRun(logging.Handler):
    """What the package itself says during a flow run (a function's traceback above all) belongs to the run's log."""

    def emit(self, record: logging.LogRecord) -> None:
        if FlowRunContext.get() is not None:
            logging.getLogger("prefect.flow_runs").handle(record)


def _type_flow(app: App, name: str) -> AnyFlow:
    async def run(
        template: str = "", taskId: str | None = None, due: str | None = None
    ) -> State[Any]:
        """Run one task of a template of this Type, or a batch: those of its rows that are due at an instant."""
        context = FlowRunContext.get()
        assert context is not None and context.flow_run is not None
        of = context.flow_run
        this = Run(str(of.id), _due(of), of.auto_scheduled)
        logger = get_run_logger()
        token = TASK_LOG.set(logger)
        try:
            of_what = await asyncio.to_thread(asked, app, template, taskId, due)
            if of_what.due is not None:
                return await asyncio.to_thread(
                    _run_batch, app, template, of_what.due, this
                )
            lost, end = (
                partial(_leave, _say_ended, app, this.id),
                partial(_replace, app),
            )
            outcome = await asyncio.to_thread(
                execute,
                app,
                template,
                taskId,
                this,
                clock.now,
                lost=lost,
                end=end,
                turn=partial(_turn, app),
            )
            await asyncio.to_thread(_make_way, app, template)
        except Refusals as error:
            logger.error("not run: %s", error)
            await asyncio.to_thread(_mark, app, this.id, "refused")
            return Failed(message=f"not run: {error}")
        except Exception:
            await asyncio.to_thread(
                _mark, app, this.id, "exception"
            )  # of ours: the function's own is an outcome
            raise
        except asyncio.CancelledError:
            # SIGTERM: Prefect's worker ends this run, or itself. The function's thread would keep the process alive.
            _leave(_say_terminated, app, this.id)
            raise
        finally:
            TASK_LOG.reset(token)
        if outcome.outcome == "skipped":
            logger.warning(outcome.message)
        if outcome.result is not None:
            logger.info("result: %s", to_json(outcome.result))
        if why := label_of(outcome):
            await asyncio.to_thread(_mark, app, this.id, why)
        return state_of(outcome)

    run.__name__ = run.__qualname__ = name.partition(".")[2]
    made = flow(
        name=name,
        flow_run_name=_run_name(app),
        log_prints=True,
        validate_parameters=False,
        persist_result=False,
        result_storage=_storage(),
        on_cancellation=[_on_end(app, "forced", BY_HAND)],
        on_crashed=[_on_end(app, "died", DIED)],
    )
    done = made(run)
    setattr(done, pipe_messages.ENDED, partial(_ended, app))
    return done


def _mark(app: App, run_id: str, why: str) -> None:
    """Label this run: it ends by itself, no person ends it, which an older copy of the ledger has to know."""
    try:
        connect(app.path).mark(run_id, why)
    except PrefectApiError as error:
        log.warning("run %s is not labelled as %s: %s", run_id, why, error)


def _due(of: FlowRun) -> datetime:
    """When a run was to start. Before Python 3.13 Prefect gives pendulum's, which has no zone once days are added."""
    at = of.expected_start_time
    return datetime.fromisoformat(at.isoformat()).astimezone(UTC) if at else clock.now()


def _turn(app: App, database: str, template: Meta, entry: Entry) -> Wait | None:
    before = of_task(app, database, partial(connect, app.path), template, entry)
    return look(template, entry.due, before, clock.now())


def _turn_of_batch(app: App, name: str, due: datetime) -> Wait | None:
    template = app.template(name)
    database = (
        app.database_of(template.model_name)
        if isinstance(template, DateFieldType)
        else DEFAULT
    )
    return look(template, due, of_batch(app, database, template, due), clock.now())


def _run_batch(app: App, template: str, due: datetime, this: Run) -> State[Any]:
    try:
        every = app.template(template).cfg.rowRuns == "all"
    except JittaskError:
        every = False  # it does not load: its rows wait

    def told(entry: Entry, outcome: Outcome) -> None:
        if every or outcome.status == "error":
            name = f"{(entry.model or template).partition('.')[2]} {entry.row_key}"
            try:
                _row_named(name)(outcome, return_state=True)
            except Exception as error:  # noqa: BLE001  of Prefect's engine; the ledger is the record, this only shows it
                log.warning(
                    "%s has no task run: %s: %s", name, type(error).__name__, error
                )

    lost = partial(_leave, _say_row_ended, app, this.id)
    turn = partial(_turn_of_batch, app, template, due)
    ended = execute_batch(
        app, template, due, this, clock.now, lost=lost, told=told, turn=turn
    )
    record_batch(connect(app.path), this.id, ended)
    _make_way(app, template)
    if not ended.tasks:
        log.warning(str(ended))
    if ended.failed:
        return Failed(message=str(ended))
    if ended.done:
        return Completed(message=str(ended))
    _mark(
        app,
        this.id,
        "broken" if ended.broken else "queued" if ended.queued else "skipped",
    )
    return Cancelled(message=str(ended))


def _replace(app: App, task_id: str) -> None:
    """End the execution that another one of its template replaces."""
    found = locate(app, task_id)
    if found is not None and found[1].status in OPEN:
        forced.end(app, connect(app.path), *found, REPLACED, clock.now)


def _make_way(app: App, template: str) -> None:
    """After an execution: those that wait for its slot are handed over."""
    try:
        of = app.template(template)
        database = (
            app.database_of(of.model_name) if isinstance(of, DateFieldType) else DEFAULT
        )
        with app.engine(database).connect() as connection:
            if not limits.waiting(connection, app.name, clock.now()):
                return
        hand_over(app, database, connect(app.path), clock.now(), Report(), rows=())
    except (JittaskError, SQLAlchemyError) as error:
        log.warning("what waits for a slot is left to the next sync: %s", error)


@task(name="row", persist_result=False)
def _row(outcome: Outcome) -> State[Any]:
    """A row of a batch, as the UI shows it; its record is the ledger's."""
    return state_of(outcome)


def _row_named(text: str) -> Any:
    """The task `row` whose run gets this name: by a callable, for Prefect fills a text with the run's parameters."""
    name = prefect_name(text)
    return _row.with_options(task_run_name=lambda: name)


def state_of(outcome: Outcome) -> State[Any]:
    """The flow run's final state for an outcome."""
    if outcome.status == "completed":
        nothing_ran = outcome.message if outcome.outcome == "skipped" else ""
        text = nothing_ran if outcome.result is None else to_json(outcome.result)
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
        try:
            named = app.template(template)
        except JittaskError:
            return str(runtime.name)  # it does not load: the flow says so
        return timed_name(named.title, _due(of), named.timer.zone)

    return name


def _leave(say: Callable[[App, str], None], app: App, run_id: str) -> None:
    """End this process, whatever the function does: say why, and wait for that no longer than a moment.

    What cannot be said here (the function's own transaction may lock the database) the worker's hooks or the next
    sync find out: the exit code is 1 then.
    """
    said = threading.Event()

    def last() -> None:
        say(app, run_id)
        said.set()
        APILogHandler().flush()

    thread = threading.Thread(target=last, name="jittask-leave", daemon=True)
    thread.start()
    thread.join(LEAVE_SECONDS)
    os._exit(0 if said.is_set() else 1)


def _say_ended(app: App, run_id: str) -> None:
    """The ledger has ended the task, so Prefect's run ends too; or another execution has taken it over."""
    found = locate(app, run_id)
    if found is not None and found[1].status in OPEN:
        connect(app.path).set_state(run_id, "CRASHED", message=DIED, force=True)
        return
    message = found[1].message if found else ""
    api = connect(app.path)
    if not message:
        api.mark(run_id, "taken")
    api.set_state(run_id, "CANCELLED", message=message or TAKEN.message, force=True)


def _say_row_ended(app: App, run_id: str) -> None:
    """A row of a batch was ended while it was at work: the others go on in another run, unless all were ended."""
    run = connect(app.path).run(run_id)
    if run is not None and run.state_type in ("CANCELLING", "CANCELLED"):
        _say_terminated(app, run_id)
        return
    message = (
        "a row of it was ended while it was at work: the others go on in another run"
    )
    connect(app.path).set_state(run_id, "CRASHED", message=message, force=True)
    record_end(app, run_id, "died", DIED, clock.now())


def _say_terminated(app: App, run_id: str) -> None:
    """The process was told to end: by a Cancel, or because the worker ends."""
    api = connect(app.path)
    run = api.run(run_id)
    if run is not None and run.state_type in ("CANCELLING", "CANCELLED"):
        kind, outcome, message = "CANCELLED", "forced", run.message or BY_HAND
    else:
        kind, outcome, message = "CRASHED", "died", DIED
    api.set_state(run_id, kind, message=message, force=True)
    record_end(app, run_id, outcome, message, clock.now(), run)


def _ended(app: App, run_id: str) -> str | None:
    """Why the ledger has ended what a flow run had to do; None where something of it is open, or nothing was ended."""
    found: list[Entry] = []
    try:
        for database in app.databases():
            with app.engine(database).connect() as connection:
                found += entries_of_run(connection, run_id)
    except SQLAlchemyError as error:
        log.warning("not known whether run %s was ended: %s", run_id, error)
    messages = [entry.message for entry in found if entry.outcome == "forced"]
    return (
        messages[0]
        if messages and not any(entry.status in OPEN for entry in found)
        else None
    )


def _on_end(app: App, outcome: str, message: str) -> Any:
    """What Prefect's worker calls, by these names, when a run was cancelled or its process died."""

    def hook(flow: Any, flow_run: FlowRun, state: State[Any]) -> None:
        # By the run, not the task: a task that was taken up again belongs to another run by now.
        # Without the state: where the process was told to end, it holds an exception.
        record_end(
            app,
            str(flow_run.id),
            outcome,
            message,
            clock.now(),
            answers.flow_run(flow_run.model_dump(mode="json", exclude={"state"})),
        )

    return hook


def record_end(
    app: App,
    run_id: str,
    outcome: str,
    message: str,
    now: datetime,
    run: answers.FlowRun | None = None,
) -> None:
    """Record in the ledger that a flow run was ended from outside, then `afterReturn` and the next occurrence.

    A task whose worker died, and which has retries left, begins again instead; so do the rows of a batch that were not
    begun, and the run of a schedule (`run`, as Prefect has it) that the ledger does not know yet.
    """
    cancelled = message if outcome == "forced" else None
    left = settle_reported(app, run_id, now, cancelled=cancelled, run=run)
    for database, entry in left:
        if after_return(app, database, entry.task_id):
            next_of_row(app, database, entry, now)


def _sync_flow(app: App) -> AnyFlow:
    async def jittask_sync() -> State[Any]:
        """Bring rows, ledger and flow runs together."""
        logger = get_run_logger()
        token = TASK_LOG.set(logger)
        try:
            await asyncio.to_thread(
                drop_late_syncs, app, connect(app.path), clock.now()
            )
            context = FlowRunContext.get()
            this = str(context.flow_run.id) if context and context.flow_run else None
            report = await asyncio.to_thread(run_sync, app, clock.now(), this=this)
        finally:
            TASK_LOG.reset(token)
        if report is None:
            return Completed(message="another sync is at work")
        for problem in report.problems:
            logger.warning(problem)
        for line in [*report.calendars, *report.deployments]:
            logger.warning(line)
        changed = [a.as_dict() for a in report.actions if a.action != "skip"]
        if changed:
            logger.info("plan: %s", json.dumps(changed, ensure_ascii=False))
        said = f"{report.created} runs made, {report.ended} ended, {len(report.problems)} problems"
        more = (
            f", {len(report.deployments)} changes to deployments"
            if report.deployments
            else ""
        )
        return Completed(message=said + more)

    def name() -> str:
        context = FlowRunContext.get()
        due = _due(context.flow_run) if context and context.flow_run else clock.now()
        return f"sync · {due.astimezone(app.zone):%Y-%m-%d %H:%M}"

    options: dict[str, Any] = {
        "validate_parameters": False,
        "persist_result": False,
        "result_storage": _storage(),
    }
    return flow(name=SYNC, flow_run_name=name, **options)(jittask_sync)


def _storage() -> Path | None:
    """Where results would lie. We keep none; unsaid, each run asks the server, with two clients of its own.

    Tasks of Prefect's that a function calls and that keep results follow a storage block of the settings.
    """
    results = get_current_settings().results
    return None if results.default_storage_block else results.local_storage_path


def drop_late_syncs(app: App, api: Api, now: datetime) -> int:
    """Cancel syncs that no worker began in time, since the next one does their work; how many there were.

    After an hour without a worker there are sixty, and a worker without a limit starts them all at once.
    """
    found = api.deployments(app_tag(app.name)).get(SYNC)
    if found is None:
        return 0
    late = (now - timedelta(seconds=LATE_SECONDS)).isoformat()
    waiting = {
        "deployment_id": {"any_": [found["id"]]},
        "state": {"type": {"any_": ["SCHEDULED"]}},
    }
    runs = api.runs(flow_runs=waiting | {"expected_start_time": {"before_": late}})
    for run in runs:
        api.set_state(
            run.id, "CANCELLED", message="a later sync does its work", force=True
        )
    return len(runs)


def run_sync(
    app: App, now: datetime, since: datetime | None = None, *, this: str | None = None
) -> sync.Report | None:
    """One sync against the app's Prefect, with what follows for tasks whose worker died; then deployments roll on.

    Args:
        app: The app.
        now: The present instant.
        since: Start of the window, instead of the last sync.
        this: The flow run that does it.

    Returns:
        What was done; None where another sync is at work.
    """
    api = connect(app.path)

    def after(report: sync.Report) -> None:
        for database, entry in report.died:
            if after_return(app, database, entry.task_id):
                next_of_row(app, database, entry, now)
        end_left(app, api, dialogs.NAMES, now, this)
        report.deployments = [
            str(change) for change in renew.roll(app, api, clock.now())
        ]
        try:
            template_pages.keep(app, api, clock.now())
        except PrefectApiError as error:  # the sync has done its work
            log.warning("the pages of statistics are left to the next sync: %s", error)

    return sync.run(app, api, now, me(), since=since, clock=clock.now, after=after)
