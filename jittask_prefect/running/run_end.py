"""The end of a flow run from outside: the tasks' ends, and how a process leaves.

A flow run ends from outside when somebody cancels it, when its process dies, and when the
ledger ends its task. Where Prefect cannot be told here, Prefect's worker or the next sync
notices.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from sqlalchemy.exc import SQLAlchemyError

from jittask_prefect.elements.app import App
from jittask_prefect.errors import JittaskError, PrefectApiError
from jittask_prefect.ledger.entry import Entry, entries_of_run
from jittask_prefect.ledger.guard import connect
from jittask_prefect.ledger.tables import OPEN
from jittask_prefect.ledger.transitions import DIED
from jittask_prefect.prefect_api.answers import FlowRun
from jittask_prefect.prefect_api.api import BY_HAND, Api
from jittask_prefect.rows.handover import hand_over
from jittask_prefect.rows.plan import Report
from jittask_prefect.rows.settling import settle_reported
from jittask_prefect.running.function import follow_up
from jittask_prefect.running.outcome import TAKEN
from jittask_prefect.running.run import locate
from jittask_prefect.schedule import clock

CANCELLED = ("CANCELLING", "CANCELLED")
ROW_ENDED = (
    "a row of it was ended while it was at work: the others go on in another run"
)
log = logging.getLogger("jittask")


def mark(app: App, run_id: str, reason: str) -> bool:
    """Label a flow run that ends by our own doing: no person has ended it.

    Returns:
        Whether Prefect has the label.
    """
    try:
        connect(app).mark(run_id, reason)
    except PrefectApiError as error:
        log.warning("run %s is not labelled as %s: %s", run_id, reason, error)
        return False
    return True


def tell_task_ended(app: App, run_id: str) -> None:
    """Tell Prefect that the ledger has ended the task, or that another execution has it."""
    found, api = locate(app, run_id), connect(app)
    if found is not None and found[1].status in OPEN:
        api.set_state(run_id, "CRASHED", message=DIED, force=True)
        return
    message = found[1].message if found else ""
    if not message:
        api.mark(run_id, "taken")
        message = TAKEN.message
    # Another thread may have told of this process's end just before.
    died = found is not None and found[1].outcome == "died"
    state = "CRASHED" if died else "CANCELLED"
    api.set_state(run_id, state, message=message, force=True)


def tell_terminated(
    app: App, run_id: str, *, why: str = DIED, process: str | None = None
) -> None:
    """Tell that the process leaves: by Cancel, or for a reason that leaves its other tasks to another run.

    Args:
        app: The app.
        run_id: The flow run.
        why: The message of a run that was not cancelled.
        process: This process, as owners' names begin, where its helpers go on with their rows; absent they end too.
    """
    api = connect(app)
    run = api.run(run_id)
    cancelled = None
    if run is not None and run.state_type in CANCELLED:
        cancelled = run.message or BY_HAND
    state = "CANCELLED" if cancelled else "CRASHED"
    api.set_state(run_id, state, message=cancelled or why, force=True)
    now = clock.now()
    record_end(app, run_id, now, cancelled=cancelled, run=run, process=process)
    hand_over_again(app, lambda: api, run_id, now)


def hand_over_again(
    app: App, connect: Callable[[], Api], run_id: str, now: datetime
) -> None:
    """Hand over the tasks of a flow run that has ended which are tried again; failures are left to the next sync."""
    try:
        for database in app.databases():
            with app.engine(database).connect() as connection:
                found = entries_of_run(connection, run_id)
            waits = [e for e in found if e.status == "pending" and e.dirty]
            rows = {(entry.template, entry.row_key) for entry in waits}
            if rows:
                hand_over(app, database, connect(), now, Report(), rows=rows)
    except (JittaskError, SQLAlchemyError) as error:
        log.warning("tasks of run %s are left to the next sync: %s", run_id, error)


def ended_message(app: App, run_id: str) -> str | None:
    """Why the ledger has ended all tasks of a flow run; None while a task is open, or where none was ended."""
    found: list[Entry] = []
    try:
        for database in app.databases():
            with app.engine(database).connect() as connection:
                found += entries_of_run(connection, run_id)
    except SQLAlchemyError as error:
        log.warning("not known whether run %s was ended: %s", run_id, error)
    if any(entry.status in OPEN for entry in found):
        return None
    forced = (entry.message for entry in found if entry.outcome == "forced")
    return next(forced, None)


def record_end(
    app: App,
    run_id: str,
    now: datetime,
    *,
    cancelled: str | None = None,
    run: FlowRun | None = None,
    process: str | None = None,
) -> None:
    """Record in the ledger that a flow run was ended from outside, and follow up its tasks.

    Args:
        app: The app.
        run_id: The flow run.
        now: The present instant.
        cancelled: The reason of a run that was cancelled; absent the process died.
        run: Prefect's flow run; absent an unknown run is not entered.
        process: As of `tell_terminated`.
    """
    ended = settle_reported(
        app, run_id, now, cancelled=cancelled, run=run, process=process
    )
    for database, entry in ended:
        follow_up(app, database, entry, now)
