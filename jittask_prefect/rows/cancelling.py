"""Flow runs that stay in Prefect's Cancelling: nobody is there to end them, so the sync does.

Cancelling is a proposal to the process that executes. Where there is none (a worker had taken the run and not begun it,
or died), a self-hosted server leaves the run as it is; a process that starts on such a run finds it so, and goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import or_, select

from jittask_prefect.elements.app import App
from jittask_prefect.errors import PrefectApiError
from jittask_prefect.ledger.ending import ending_of, settle, since
from jittask_prefect.ledger.entry import Entry, to_entry
from jittask_prefect.ledger.tables import entries
from jittask_prefect.prefect_api.answers import FlowRun
from jittask_prefect.prefect_api.client import BY_HAND, PAGE, Api
from jittask_prefect.rows.handover import deployments_of
from jittask_prefect.rows.plan import Report

PATIENCE = timedelta(
    seconds=15
)  # what a living process and its worker may take to end a run


def end_cancelling(
    app: App, database: str, api: Api, names: list[str], now: datetime, report: Report
) -> list[Entry]:
    """Set runs Cancelled that have been Cancelling for more than 15 s and that no living worker executes.

    One question, for a page of 200 runs; what is beyond is the next sync's.

    Args:
        app: The app.
        database: The database that has the templates' ledger.
        api: Prefect.
        names: The templates whose runs are looked at.
        now: The present instant.
        report: Where the number of ended runs and what Prefect refused is noted.

    Returns:
        The waiting tasks that were closed, since their run was cancelled before they began.

    Raises:
        PrefectApiError: Prefect cannot be reached.
    """
    found = api.runs(
        limit=PAGE,
        sort="EXPECTED_START_TIME_ASC",
        deployments=deployments_of(app, names),
        flow_runs={"state": {"type": {"any_": ["CANCELLING"]}}},
    )
    left = {run.id: run for run in found if now - since(run) > PATIENCE}
    if not left:
        return []
    mine = or_(entries.c.flow_run_id.in_(left), entries.c.task_id.in_(left))
    with app.engine(database).connect() as connection:
        tasks = [
            to_entry(record)
            for record in connection.execute(select(entries).where(mine))
        ]
    closed = []
    for run in left.values():
        of = [
            task for task in tasks if run.id in (task.flow_run_id, task.task_id)
        ]  # several where it is a batch
        if any(
            task.status == "executing" and task.lease_until and task.lease_until >= now
            for task in of
        ):
            continue
        cancelled = _cancelled(run, of)
        # The ledger first: a process that comes up at this very moment finds its tasks ended.
        if (ending := ending_of(cancelled)) is not None:
            with app.engine(database).begin() as connection:
                waiting = [task for task in of if task.status == "pending"]
                closed += [
                    t
                    for t in waiting
                    if settle(connection, t.task_id, cancelled, ending, now)
                ]
        try:
            api.set_state(
                run.id,
                "CANCELLED",
                message=cancelled.message,
                force=True,
            )
        except PrefectApiError as error:
            api.ping()  # raises where it is not this run that is refused
            report.problems.append(f"run {run.name}: {error}")
        else:
            report.ended += 1
    return closed


def _cancelled(run: FlowRun, of: Sequence[Entry]) -> FlowRun:
    """The run as it will be: with the reason that it was cancelled for, else the one that its task ended for."""
    told = of[0].message if len(of) == 1 else ""
    said = run.message or told or BY_HAND
    return run.in_state("CANCELLED", said)
