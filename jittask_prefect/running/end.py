"""forcedEnd: on return the task is ended in the ledger, and its process is gone.

The order: Prefect is asked for at most 2 s, the ledger's entry closed, the process waited
for (and killed), Prefect told, `afterReturn` called once, the row's next occurrence planned
and handed over. The ledger is always first to know that a task is ended.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from jittask_prefect.elements.app import App
from jittask_prefect.elements.databases import DEFAULT
from jittask_prefect.errors import PrefectApiError, UnknownTask
from jittask_prefect.ledger import transitions, versions
from jittask_prefect.ledger.entry import Entry, entries_of_run, find_entry, new_entry
from jittask_prefect.ledger.tables import FINAL, OPEN
from jittask_prefect.ledger.transitions import FORCED
from jittask_prefect.prefect_api.answers import FlowRun
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.prefect_api.names import app_tag
from jittask_prefect.records.listing import status_of_run
from jittask_prefect.rows.handover import hand_over
from jittask_prefect.rows.plan import Report
from jittask_prefect.running.function import after_return, next_of_row
from jittask_prefect.running.lease import Clock
from jittask_prefect.running.process_end import await_gone, close, propose_end
from jittask_prefect.running.run import REPLACED, locate
from jittask_prefect.validation import quoted

log = logging.getLogger("jittask")


def force_end(
    app: App, connect: Callable[[], Api], task_id: str, clock: Clock
) -> dict[str, Any]:
    """End a task by its id, or by a flow run's: of a batch all rows that are open.

    Args:
        app: The app.
        connect: Gives Prefect, which is not asked for a task that has ended.
        task_id: The id.
        clock: Gives the present instant.

    Returns:
        `{taskId, previousStatus, status, changed}`; a task that has ended is left alone.

    Raises:
        UnknownTask: There is no such task.
        PrefectApiError: Prefect cannot be reached, and the task is a run of the schedule
            that has not begun.
        JittaskError: The process did not end in time.
    """
    found = _find(app, connect, task_id)
    if found is None:
        return _end_unclaimed(app, connect, task_id, clock)
    database, entry = found
    if entry.batch is not None and task_id == entry.flow_run_id:
        return _end_batch(app, connect(), database, task_id, clock)
    if entry.status in FINAL:
        return _answer(task_id, entry.status, entry.status, changed=False)
    overdue = entry.status == "pending" and entry.late_from < clock()
    before = "overdue" if overdue else entry.status
    status, changed = end_task(app, connect(), database, entry, FORCED, clock)
    return _answer(task_id, before, status, changed=changed)


def _answer(task_id: str, before: str, status: str, *, changed: bool) -> dict[str, Any]:
    return {
        "taskId": task_id,
        "previousStatus": before,
        "status": status,
        "changed": changed,
    }


def _find(
    app: App, connect: Callable[[], Api], task_id: str
) -> tuple[str, Entry] | None:
    """The entry of an id; also of a flow run that a row's task had before."""
    found = locate(app, task_id)
    if found is None and (run := _flow_run(connect, task_id)) is not None:
        of = run.parameters.get("taskId")
        found = locate(app, of) if isinstance(of, str) else None
    return found


def _flow_run(connect: Callable[[], Api], run_id: str) -> FlowRun | None:
    """The flow run of an id; Prefect is not asked for a text that is no UUID."""
    try:
        uuid.UUID(run_id)
    except ValueError:
        return None
    return connect().run(run_id)


def replace_execution(app: App, api: Api, task_id: str, clock: Clock) -> None:
    """End the execution that another execution of its template replaces."""
    found = locate(app, task_id)
    if found is not None and found[1].status in OPEN:
        end_task(app, api, *found, REPLACED, clock)


def end_task(
    app: App, api: Api, database: str, entry: Entry, message: str, clock: Clock
) -> tuple[str, bool]:
    """End a task, call `afterReturn`, and plan and hand over its row's next occurrence.

    Args:
        app: The app.
        api: Prefect; the next sync tells Prefect where this call gets no answer.
        database: The database of the task's entry.
        entry: The task, which is open.
        message: Why the task ends.
        clock: Gives the present instant.

    Returns:
        The task's status now, and whether this call has ended it.

    Raises:
        JittaskError: The process did not end in time.
    """
    # A batch's flow run is not this row's alone: its process notices by itself.
    alone = entry.status == "executing" and entry.batch is None
    run_id = entry.flow_run_id if alone else None
    if _end(app, api, database, [entry], message, clock, run_id):
        return "ended", True
    with app.engine(database).connect() as connection:
        now = find_entry(connection, entry.task_id)
    if now is None:
        raise UnknownTask(f"there is no such task: {entry.task_id!r}")
    if now.status in OPEN:  # the task began, or begins again, just now
        return end_task(app, api, database, now, message, clock)
    return now.status, False


def _end(
    app: App,
    api: Api,
    database: str,
    tasks: Sequence[Entry],
    message: str,
    clock: Clock,
    run_id: str | None,
) -> bool:
    """End tasks, unless their state has changed; their processes are gone then.

    Args:
        app: The app.
        api: Prefect.
        database: The database of the tasks' entries.
        tasks: The tasks, which are open.
        message: Why the tasks end.
        clock: Gives the present instant.
        run_id: The flow run whose end is proposed first; None for none.

    Returns:
        Whether a task was ended.
    """
    away = run_id is not None and not propose_end(api, run_id, message)
    found = close(app, database, tasks, message, clock)
    ended = found.ended
    for task in tasks:
        closed = task in ended
        # Told by Prefect, its process may have ended the task first; or its function had
        # returned, and its process lives on.
        if task.status == "executing" and (closed or _was_forced(app, database, task)):
            about = (app, database, api, task, clock, message)
            await_gone(*about, closed=closed, away=away)
            ended += [] if closed else [task]
    try:
        for task in ended:
            after_return(app, database, task.task_id)
            next_of_row(app, database, task, clock())
        again = [*ended, *found.left]
        if again and not away:
            # Only these rows: a full hand-over could wait behind a large import.
            rows = [(task.template, task.row_key) for task in again]
            hand_over(app, database, api, clock(), Report(), rows=rows)
    except (PrefectApiError, SQLAlchemyError) as error:
        log.warning("left to the next sync: %s", error)
    return bool(ended)


def _was_forced(app: App, database: str, task: Entry) -> bool:
    with app.engine(database).connect() as connection:
        found = find_entry(connection, task.task_id)
    return found is not None and found.outcome == "forced"


def _end_batch(
    app: App, api: Api, database: str, run_id: str, clock: Clock
) -> dict[str, Any]:
    """End the open rows of a batch, and its flow run."""
    rows = _open_rows(app, database, run_id)
    if not rows:
        return _answer(run_id, "ended", "ended", changed=False)
    changed = _end(app, api, database, rows, FORCED, clock, run_id)
    ids = {row.task_id for row in rows}
    if any(row.task_id in ids for row in _open_rows(app, database, run_id)):
        # A row began, or begins again, just now.
        again = _end_batch(app, api, database, run_id, clock)
        return again | {"previousStatus": "executing", "changed": True}
    executing = any(row.status == "executing" for row in rows)
    before = "executing" if executing else "pending"
    return _answer(run_id, before, "ended", changed=changed)


def _open_rows(app: App, database: str, run_id: str) -> list[Entry]:
    with app.engine(database).connect() as connection:
        return [e for e in entries_of_run(connection, run_id) if e.status in OPEN]


def _end_unclaimed(
    app: App, connect: Callable[[], Api], run_id: str, clock: Clock
) -> dict[str, Any]:
    """End a run that a deployment's schedule made and that has not begun."""
    run, now = _flow_run(connect, run_id), clock()
    name = run.parameters.get("template") if run else None
    tasks = app.names("tasks")
    if run is None or name not in tasks or app_tag(app.name) not in run.tags:
        raise UnknownTask(f"there is no such task: {quoted(run_id)}")
    before = status_of_run(run, now)
    if run.is_final:
        return _answer(run_id, before, before, changed=False)
    # The ledger first: a worker that takes the run at this very moment finds its task.
    entry = new_entry(
        task_id=run_id,
        app=app.name,
        template=str(name),
        due=run.expected_start_time,
        created=now,
        flow_run_id=run_id,
        dirty=False,
    )
    with app.engine().begin() as connection:
        versions.require(connection, "the app's database")
        entered = transitions.enter(connection, entry)
    about = (app, connect(), DEFAULT, [entry], FORCED, clock, run_id)
    if not entered or not _end(*about):
        return force_end(app, connect, run_id, clock)  # a worker has taken the run
    return _answer(run_id, before, "ended", changed=True)
