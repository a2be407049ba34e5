"""The flows that prefect.yaml points at: for each task Type of an app, the sync, the dialogs.

A flow takes keys (template, task id, due time), never row data or arguments: the server
hydrates parameters, and shows them to everybody.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.client.schemas.objects import FlowRun, State
from prefect.runtime import flow_run as runtime
from prefect.states import Cancelled, Completed, Crashed, Failed, Scheduled
from sqlalchemy.exc import SQLAlchemyError

from jittask_prefect.dialogs import flows as dialogs
from jittask_prefect.elements.app import App, use_app
from jittask_prefect.elements.original.virtual_modules import clear_path
from jittask_prefect.errors import JittaskError
from jittask_prefect.ledger import hindrance, limits
from jittask_prefect.ledger.entry import Entry, entries_of_run
from jittask_prefect.ledger.guard import connect
from jittask_prefect.ledger.keys import to_json
from jittask_prefect.ledger.planned_rows import Row
from jittask_prefect.prefect_api import answers
from jittask_prefect.prefect_api.answers import OWN
from jittask_prefect.prefect_api.api import BY_HAND
from jittask_prefect.prefect_api.flow_names import refuse_foreign
from jittask_prefect.prefect_api.names import (
    LONGEST_RUN,
    of_app,
    prefect_name,
    timed_name,
)
from jittask_prefect.rows import batches
from jittask_prefect.rows.flow_runs import (
    batch_name,
    due_name,
    parts_of_name,
    row_name,
    row_run_name,
)
from jittask_prefect.rows.handover import hand_over
from jittask_prefect.rows.plan import Report
from jittask_prefect.rows.row_labels import row_labels, row_of
from jittask_prefect.running.compiled import compile_statements
from jittask_prefect.running.end import replace_execution
from jittask_prefect.running.flow_context import (
    due_of,
    flow_run_context,
    leave,
    log_to_flow_runs,
    options,
    result_storage,
    task_log,
    this_flow_run,
)
from jittask_prefect.running.form_actions import form_actions
from jittask_prefect.running.lease import process_name
from jittask_prefect.running.left_rows import LeftRows, database_of
from jittask_prefect.running.outcome import LEFT, Outcome, Run, keep_table, label_of
from jittask_prefect.running.request import REFUSALS, request_of
from jittask_prefect.running.run import execute, execute_batch, help_batch
from jittask_prefect.running.run_end import (
    ROW_ENDED,
    ended_message,
    hand_over_again,
    mark,
    record_end,
    tell_task_ended,
    tell_terminated,
)
from jittask_prefect.running.sync_flow import sync_flow
from jittask_prefect.schedule import clock
from jittask_prefect.warm import pipe
from jittask_prefect.warm.drain import DRAIN
from jittask_prefect.warm.help import HELP

SYNC_NAME = "jittask_sync"
log = logging.getLogger("jittask")


def flows_of(app: App) -> dict[str, Any]:
    """The flows of an app, which becomes this process's current one, by their function names."""
    use_app(app)
    clear_path(app, os.environ.get("PYTHONPATH", ""))
    log_to_flow_runs()
    types = {name.partition(".")[2]: _type_flow(app, name) for name in app.types()}
    forms = dialogs.flows_of(app, result_storage(), form_actions)
    return {**types, SYNC_NAME: sync_flow(app), **forms}


def _type_flow(app: App, name: str) -> Any:
    async def run(
        template: str = "",
        taskId: str | None = None,
        due: str | None = None,
        row: str | None = None,
    ) -> State[Any]:
        """Run a task of a template of this Type, or a batch: its rows that are due at an instant."""
        found = this_flow_run()
        this = Run(str(found.id), due_of(found), found.auto_scheduled, found.start_time)
        with task_log() as logger:
            try:
                own = of_app(app.name, name)
                await asyncio.to_thread(_refuse_foreign, app, str(found.flow_id), own)
                if found.labels.get(
                    OWN
                ):  # tried again: from here on a person may cancel
                    await asyncio.to_thread(mark, app, this.id, "")
                request = await asyncio.to_thread(
                    request_of, app, template, taskId, due, row
                )
                about = (app, template, request.task_id, request.row)
                work = partial(_run_task, *about, this)
                if request.due is not None:
                    work = partial(_run_batch, app, template, request.due, this)
                return await asyncio.to_thread(work)
            except REFUSALS as error:
                logger.error("not run: %s", error)
                failed: State[Any] = Failed(message=f"not run: {error}")
                return await asyncio.to_thread(own_end, app, this.id, "refused", failed)
            except Exception as error:
                # Of this package: a function's error is an outcome. A crashed run's task
                # gets another run, also where the run had not entered its task yet.
                logger.error("the run ended with an exception", exc_info=True)
                message = await asyncio.to_thread(hindrance.told, app, error)
                return Crashed(message=message)
            except asyncio.CancelledError:
                # SIGTERM, of Prefect's worker. The function's thread would go on.
                leave(tell_terminated, app, this.id)
                raise

    run.__name__ = run.__qualname__ = name.partition(".")[2]
    made: Any = flow(
        name=of_app(app.name, name),
        flow_run_name=partial(_run_name, app),
        log_prints=True,
        on_cancellation=[_on_end(app, BY_HAND)],
        on_crashed=[_on_end(app, None)],
        **options(),
    )(run)
    setattr(made, pipe.ENDED_ATTRIBUTE, partial(ended_message, app))
    setattr(
        made, pipe.PREPARE_ATTRIBUTE, partial(prepare_run, app, of_app(app.name, name))
    )
    setattr(made, pipe.HELP_ATTRIBUTE, partial(help_run, app))
    setattr(made, pipe.FORK_ATTRIBUTE, partial(compile_statements, app, clock.now))
    return made


def _refuse_foreign(app: App, flow_id: str, own: str) -> None:
    refuse_foreign(connect(app), flow_id, own)


def _run_name(app: App) -> str:
    """A flow run's name: the sync's, or title and due time for a run of a schedule or of a row by its key."""
    name = runtime.parameters.get("template")
    made = None
    try:
        if name in app.names("tasks"):
            made = _made_name(app, name)
    except (JittaskError, SQLAlchemyError) as error:
        # The template is broken, or the database is down: the flow itself says so.
        log.debug("the run keeps its name: %s", error)
    return made or str(runtime.name)


def _made_name(app: App, name: str) -> str | None:
    """The name of this flow run by its parameters; None where the run keeps the name that it was made with.

    Raises:
        JittaskError: The template is broken.
    """
    run, row = this_flow_run(), runtime.parameters.get("row")
    if row:
        template = app.template(name)
        about = row_name(getattr(template, "model_name", ""), str(row))
        parts = parts_of_name(template.title, about)
        return timed_name(parts, due_of(run), template.timer.zone)
    if runtime.parameters.get("due") is not None:
        return _name_of_batch(app, run, name)
    return due_name(app, name, due_of(run)) if run.auto_scheduled else None


def _name_of_batch(app: App, run: FlowRun, name: str) -> str | None:
    """A batch's name with the number of rows that it begins with: rows have joined and left."""
    with app.engine(database_of(app, name)).connect() as connection:
        found = batches.number_and_size(connection, str(run.id))
    return batch_name(app, name, due_of(run), *found) if found else None


def _on_end(app: App, cancelled: str | None) -> Any:
    """A hook for Prefect, or the warm worker: a run was cancelled (why), or its process died."""

    def hook(flow: Any, flow_run: FlowRun, state: State[Any]) -> None:
        # The state's data are left out: after a signal they hold an exception, which is no JSON.
        known = flow_run.model_dump(mode="json", exclude={"state": {"data"}})
        run = answers.flow_run(known)
        now = clock.now()
        record_end(app, run.id, now, cancelled=cancelled, run=run)
        hand_over_again(app, partial(connect, app), run.id, now)

    return hook


def _run_task(
    app: App, name: str, task_id: str | None, row: str | None, run: Run
) -> State[Any]:
    api = partial(connect, app)

    def replace(other: str) -> None:
        replace_execution(app, api(), other, clock.now)

    lost = partial(leave, tell_task_ended, app, run.id)
    how: Any = {"connect": api, "lost": lost, "end": replace, "drain": DRAIN.get()}
    outcome = execute(app, name, task_id, run, clock.now, row=row, **how)
    if outcome == LEFT:
        return Scheduled(scheduled_time=run.due, message=outcome.message)
    _hand_over_waiting(app, name)
    if outcome.outcome == "skipped":
        log.warning(outcome.message)
    if outcome.result is not None:
        get_run_logger().info("result: %s", to_json(outcome.result))
    state = state_of(outcome)
    if label := label_of(outcome):
        return own_end(app, run.id, label, state)
    return state


def _run_batch(app: App, name: str, due: datetime, run: Run) -> State[Any]:
    # Its helpers go on with the rows that they have at work.
    process = process_name(os.getpid())
    tell = partial(tell_terminated, why=ROW_ENDED, process=process)
    lost = partial(leave, tell, app, run.id)
    told = partial(
        _show_row, app, _shows_all_rows(app, name), _labels_of_run(app, name, run)
    )
    left = LeftRows(app, name, partial(connect, app), run.id, clock.now)
    how: Any = {"help": HELP.get(), "drain": DRAIN.get(), "left": left}
    about = (app, name, due, run, clock.now)
    summary = execute_batch(*about, lost=lost, told=told, **how)
    keep_table(app, connect(app), run.id, summary)
    _hand_over_waiting(app, name)
    if not summary.tasks:
        log.warning(str(summary))
    if summary.failed:
        return Failed(message=str(summary))
    if summary.done:
        return Completed(message=str(summary))
    return own_end(app, run.id, summary.label, Cancelled(message=str(summary)))


def prepare_run(app: App, own: str, flow_run: FlowRun) -> None:
    """Ask beforehand whatever a run asks first, and connect to the database: the answers are kept in this process.

    Args:
        app: The app.
        own: The flow's name.
        flow_run: A flow run that is not due yet.
    """
    try:
        _refuse_foreign(app, str(flow_run.flow_id), own)
        name = str(flow_run.parameters.get("template"))
        with app.engine(database_of(app, name)).connect() as connection:
            entries_of_run(connection, str(flow_run.id))
    except (JittaskError, SQLAlchemyError) as error:
        log.debug("the run meets this itself, and tells: %s", error)


def help_run(
    app: App,
    flow: Any,
    flow_run: FlowRun,
    number: int,
    begin: Callable[[], object] | None,
    enough: Callable[[], bool],
    begun: Callable[[], None],
) -> None:
    """Take rows of a batch's flow run in another process than the flow run's own.

    Args:
        app: The app.
        flow: The flow.
        flow_run: The flow run.
        number: The helper's number; the first is 1.
        begin: Waits until the flow run's own process has its first row; None: the process has.
        enough: Whether this process is to take no further row.
        begun: Called once, when this process has a row.
    """
    name, due = (flow_run.parameters[key] for key in ("template", "due"))
    request = request_of(app, name, due=due)
    assert request.due is not None
    this = Run(str(flow_run.id), due_of(flow_run))
    with flow_run_context(flow, flow_run), task_log():
        about = (app, name, request.due, this, clock.now)
        # Whoever ended the row does the rest; else the leader hears of this death.
        lost = partial(os._exit, 1)
        how: Any = {"begin": begin, "begun": begun, "lost": lost, "drain": DRAIN.get()}
        help_batch(*about, number=number, enough=enough, **how)
        _hand_over_waiting(app, name)


def _shows_all_rows(app: App, name: str) -> bool:
    """Whether each row of a batch has a task run in the UI, and not only the failed ones."""
    try:
        return app.template(name).cfg.rowRuns == "all"
    except JittaskError:
        return False  # broken: its rows wait


def _labels_of_run(app: App, name: str, run: Run) -> Mapping[Row, str]:
    """The labels of a batch's rows, where each has a task run: asked for together, before the first."""
    if not _shows_all_rows(app, name):
        return {}
    with app.engine(database_of(app, name)).connect() as connection:
        found = entries_of_run(connection, run.id)
    return row_labels(app, map(row_of, found))


def _show_row(
    app: App,
    every: bool,
    labels: Mapping[Row, str],
    tasks: Sequence[Entry],
    outcome: Outcome,
) -> None:
    """Show a row of a batch as a task run, or the rows of a digest's call; the ledger is the record."""
    if not every and outcome.status != "error":
        return
    entry, more = tasks[0], len(tasks) - 1
    row = row_of(entry)
    known = labels if every else row_labels(app, [row])
    name = row_run_name(entry, known.get(row, ""))
    name += f" and {more} more" if more else ""
    try:
        _row_named(name)(outcome, return_state=True)
    except Exception as error:  # noqa: BLE001  of Prefect's engine
        kind = type(error).__name__
        log.warning("%s has no task run: %s: %s", name, kind, error)


@task(name="row", persist_result=False)
def _row(outcome: Outcome) -> State[Any]:
    """A row of a batch, for the UI."""
    return state_of(outcome)


def _row_named(text: str) -> Any:
    """The task `row` with a name for its run: a callable, since Prefect formats a text."""
    name = prefect_name(text, LONGEST_RUN)
    return _row.with_options(task_run_name=lambda: name)


def _hand_over_waiting(app: App, name: str) -> None:
    """Hand over the tasks that wait for the slot of an execution that has ended."""
    try:
        database = database_of(app, name)
        with app.engine(database).connect() as connection:
            if not limits.waiting(connection, app.name, clock.now()):
                return
        hand_over(app, database, connect(app), clock.now(), Report(), rows=())
    except (JittaskError, SQLAlchemyError) as error:
        log.warning("tasks that wait for a slot are left to the next sync: %s", error)


def own_end(app: App, run_id: str, reason: str, state: State[Any]) -> State[Any]:
    """The final state of a flow run that ends by our own doing, once the run has its label.

    Without the label, Cancelled would mean that a person cancelled the task, and Failed
    that the function ran. So a run without the label is Crashed: its task gets another run.

    Args:
        app: The app.
        run_id: The flow run.
        reason: The label.
        state: The state of a run that has the label.

    Returns:
        `state`, or Crashed with its message where Prefect did not take the label.
    """
    return state if mark(app, run_id, reason) else Crashed(message=state.message)


def state_of(outcome: Outcome) -> State[Any]:
    """The flow run's final state for an outcome."""
    if outcome.status == "error":
        name = "TimedOut" if outcome.outcome == "timeout" else "Failed"
        return Failed(name=name, message=outcome.message)
    if outcome.status == "ended":
        return Cancelled(message=outcome.message)
    message = outcome.message if outcome.outcome == "skipped" else ""
    if outcome.result is not None:
        message = to_json(outcome.result)
    return Completed(message=message[:1000] or None)
