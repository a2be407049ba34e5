"""A forced end: the task is closed in the ledger, and its process is gone before the caller goes on."""

from __future__ import annotations

import logging

from jittask_prefect.elements.app import App
from jittask_prefect.errors import PrefectApiError, UnknownTask
from jittask_prefect.ledger.entry import Entry, find_entry
from jittask_prefect.ledger.tables import OPEN
from jittask_prefect.prefect_api.client import Api
from jittask_prefect.rows.handover import hand_over
from jittask_prefect.rows.plan import Report
from jittask_prefect.running import stop
from jittask_prefect.running.lease import Clock
from jittask_prefect.running.task import after_return, next_of_row

log = logging.getLogger("jittask")


def end(
    app: App, api: Api, database: str, entry: Entry, message: str, clock: Clock
) -> tuple[str, bool]:
    """End a task, with what follows: `afterReturn`, and the next occurrence of its row.

    Args:
        app: The app.
        api: Prefect; where it does not answer, the ledger ends the task, and the next sync tells Prefect.
        database: Where the task's entry is.
        entry: The task, which is open.
        message: Why it ends.
        clock: Gives the present instant.

    Returns:
        The task's status now, and whether it is this that ended it.

    Raises:
        JittaskError: The process did not end in time.
    """
    away = False
    if entry.status == "executing" and entry.flow_run_id and entry.batch is None:
        # In a batch the process notices by itself: the flow run is not this row's alone.
        away = not stop.ask(api, entry.flow_run_id, message)
    changed = bool(stop.close(app, database, [entry], message, clock))
    with app.engine(database).connect() as connection:
        ended = find_entry(connection, entry.task_id)
    if ended is None:
        raise UnknownTask(f"there is no such task: {entry.task_id!r}")
    if ended.status in OPEN:  # it began, or begins again, just now
        return end(app, api, database, ended, message, clock)
    # The process may have been faster: told to end by Prefect, it has written so itself. Or its function had returned,
    # and it lives on.
    if entry.status == "executing" and ended.outcome == "forced":
        stop.await_gone(
            app, database, api, entry, clock, message, closed=changed, away=away
        )
        changed = True
    if changed:
        after_return(app, database, entry.task_id)
        next_of_row(app, database, entry, clock())
        if not away:
            try:
                hand_over(
                    app,
                    database,
                    api,
                    clock(),
                    Report(),
                    rows=[(entry.template, entry.row_key)],
                )
            except PrefectApiError as error:
                log.warning("left to the next sync: %s", error)
    return ended.status, changed
