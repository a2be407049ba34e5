"""Ledger → Prefect: the states of flow runs are set right by what the ledger says of their tasks.

Each function asks, decides by `ledger.verdict`, and writes, the ledger first.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import or_, select

from jittask_prefect.elements.app import App
from jittask_prefect.errors import PrefectApiError
from jittask_prefect.ledger import state_table
from jittask_prefect.ledger.entry import (
    Entry,
    living_tasks,
)
from jittask_prefect.ledger.tables import entries, of_app
from jittask_prefect.ledger.transitions import DIED
from jittask_prefect.ledger.verdict import (
    CANCELLING,
    Reading,
    RightState,
    reading,
    right_state,
    summary,
)
from jittask_prefect.prefect_api.answers import FlowRun
from jittask_prefect.prefect_api.api import BY_HAND, PAGE, Api
from jittask_prefect.rows.flow_runs import (
    FIRST,
    OVERLAP,
    Facts,
    deployments_of,
    set_left,
    tasks_of_runs,
    templates_in,
)
from jittask_prefect.rows.plan import Report
from jittask_prefect.rows.settling import settle_one_dead

SHOWN = "agreed"
"""A name in jittask_state: until when ended runs were looked at."""
TO_SHOW = timedelta(seconds=30)
"""The time that a living process may take from its commit until Prefect knows."""
CALLED_COMPLETED, MOST_FAILED = timedelta(days=7), 1000
"""The failures whose runs are looked at, in case that somebody calls one of them completed; their number at most."""
PUT_RIGHT = "%s: Prefect has the run as %s, by a person or a process that died; it is %s again, as its task is"
NO_PAUSE = "a task is not paused by its run: set `enable` to 0, or `jittask pause`"
NO_PAUSE_OF_OWN = "a sync or a form is not paused: it goes on"
SYNC = "jittask.sync"
log = logging.getLogger("jittask")
SYNC_LEFT, DIALOG_LEFT = timedelta(minutes=5), timedelta(minutes=10)
"""A sync that began so long ago, and has not the lease, has died; a dialog."""
CANCELLED_LEFT = timedelta(minutes=1)
"""A sync or dialog that somebody cancels has no worker that ends its process: each worker looks every second."""


def end_cancelling(
    app: App, database: str, api: Api, now: datetime, report: Report
) -> list[Entry]:
    """Set runs Cancelled that have been Cancelling for more than 15 s and that no living worker executes; end pauses.

    Cancelling is a proposal to the executing process. Where there is none, a self-hosted server leaves the run
    unchanged. Asked once, for a page of 200 runs; the next sync asks for the rest.

    Args:
        app: The app.
        database: The database that has the templates' ledger.
        api: Prefect.
        now: The present instant.
        report: Takes the number of ended runs and Prefect's refusals.

    Returns:
        The tasks that ended, since their run was cancelled before they began.

    Raises:
        PrefectApiError: Prefect cannot be reached.
    """
    found = api.runs(
        limit=PAGE,
        sort="EXPECTED_START_TIME_ASC",
        deployments=deployments_of(app, templates_in(app, database)),
        flow_runs={"state": {"type": {"any_": ["CANCELLING", "PAUSED"]}}},
    )
    facts = Facts(api, now)
    left = [run for run in found if facts.in_state(run) > CANCELLING]
    tasks = tasks_of_runs(app, [database], [run.id for run in left], by_id=True)

    with app.engine(database).connect() as connection:
        living = living_tasks(connection, app.name, now)

    closed = []

    for run in left:
        of = tasks.get(run.id, [])

        if run.state_type == "PAUSED":
            _end_pause(api, run, of, facts.in_state(run), report)
            continue

        if any(entry.task_id in living for entry in of):
            continue

        what = reading(facts.of(run, run.expected_start_time))

        # The ledger first: a process that comes up at this very moment finds its tasks ended.
        with app.engine(database).begin() as connection:
            for entry in of if what is Reading.CANCELLED else ():
                if settle_one_dead(app, connection, entry, run, what, now):
                    closed.append(entry)

        told = of[0].message if len(of) == 1 else ""
        message = run.message or told or BY_HAND
        right = RightState("CANCELLED")
        report.ended += _set_state(api, run, right, message, report)

    return closed


def show_ends(app: App, api: Api, now: datetime, report: Report) -> None:
    """Set the states of runs right that disagree with their tasks in the ledger.

    A process commits a task's end first, and tells Prefect then. Killed in between, the process leaves a run that is
    Running for ever, or Crashed; a Cancel in between leaves a Cancelled one. Looked at are the runs that are Running, and those
    that ended otherwise than Completed since the sync before.

    Args:
        app: The app.
        api: Prefect.
        now: The present instant.
        report: Says which databases are down; takes Prefect's refusals.

    Raises:
        PrefectApiError: Prefect cannot be reached.
    """
    with app.engine().connect() as connection:
        last = state_table.get(connection, app.name, SHOWN)

    since = datetime.fromisoformat(last) - OVERLAP if last else now - FIRST
    ours = deployments_of(app, app.names("tasks"))
    at_work = {"state": {"type": {"any_": ["RUNNING"]}}}
    ended = {
        "state": {"type": {"any_": ["CRASHED", "CANCELLED", "FAILED"]}},
        "start_time": {"is_null_": False},
        "end_time": {"after_": since.isoformat()},
    }
    order = "EXPECTED_START_TIME_ASC"
    found = api.runs(limit=PAGE, sort=order, deployments=ours, flow_runs=at_work)
    found += api.runs(deployments=ours, flow_runs=ended)
    databases = [name for name in app.databases() if name not in report.down]
    found += _called_completed(app, api, databases, now)
    tasks = tasks_of_runs(app, databases, [run.id for run in found])
    facts = Facts(api, now)

    for run in found:
        of = tasks.get(run.id, [])
        right = right_state(of)
        # A batch that died, and whose other rows went on in another run, stays Crashed.
        went_on = run.state_type == "CRASHED" and run.ended_by_us

        if right is None or went_on or run.state_type in (right.kind, *right.also):
            continue

        # A run that somebody tries again is Running for a moment before the task is claimed.
        ends = [now - entry.finished for entry in of if entry.finished]

        if min([facts.in_state(run), *ends]) > TO_SHOW and _set_state(
            api, run, right, _message(of, right), report
        ):
            log.warning(PUT_RIGHT, run.name, run.state_name, right.kind)

    with app.engine().begin() as connection:
        state_table.put(connection, app.name, SHOWN, now.isoformat())


def _called_completed(
    app: App, api: Api, databases: Collection[str], now: datetime
) -> list[FlowRun]:
    """Completed runs whose tasks failed or were ended at work: somebody has changed the state.

    Asked from the ledger's side: completed runs are many, and failed tasks few. The latest failures of a week are looked at.
    """
    lately = entries.c.finished > now - CALLED_COMPLETED
    failed = or_(entries.c.status == "error", entries.c.outcome == "forced")
    query = (
        select(entries.c.flow_run_id)
        .where(of_app(app.name), failed, lately, entries.c.flow_run_id.is_not(None))
        # True or false, which every task is: so the index by end is of use.
        .where(entries.c.returned.in_((True, False)))
        .order_by(entries.c.finished.desc())
        .limit(MOST_FAILED)
    )
    ids: dict[str, None] = {}

    for database in databases:
        with app.engine(database).connect() as connection:
            ids |= dict.fromkeys(connection.execute(query).scalars())

    asked, found = list(ids), list[FlowRun]()

    for start in range(0, len(asked), PAGE):
        completed = {
            "id": {"any_": asked[start : start + PAGE]},
            "state": {"type": {"any_": ["COMPLETED"]}},
        }
        found += api.runs(flow_runs=completed)

    return found


def _end_pause(
    api: Api, run: FlowRun, tasks: Sequence[Entry], since: timedelta, report: Report
) -> None:
    """Set the state of a run right that somebody has paused in Prefect: the pause of a task would never end.

    A function that is at work goes on: its run is Running. A task that has not begun gets another run.
    """
    right = _after_pause(tasks)

    if right is None and since > SYNC_LEFT:
        right = RightState("CRASHED")  # of a schedule, and its worker died

    if right and _set_state(api, run, right, NO_PAUSE, report):
        log.warning(PUT_RIGHT, run.name, run.state_name, right.kind)


def _after_pause(tasks: Sequence[Entry]) -> RightState | None:
    """The state of a run that somebody has paused; None where the ledger has no task of it."""
    if any(task.status == "executing" for task in tasks):
        return RightState("RUNNING")

    if any(task.status == "pending" for task in tasks):
        return RightState("CANCELLED", own="paused")

    return right_state(tasks)


def _message(tasks: Sequence[Entry], right: RightState) -> str:
    if any(task.batch is not None for task in tasks):
        return summary(tasks)

    if right.kind != "COMPLETED":
        return tasks[0].message

    result = tasks[0].result
    text = "" if result is None else json.dumps(json.loads(result), ensure_ascii=False)

    return text[:1000]


def _set_state(
    api: Api, run: FlowRun, right: RightState, message: str, report: Report
) -> bool:
    """Set a run's state, and label the run where the ledger ended its tasks; whether Prefect took that."""
    try:
        if right.own is not None:
            api.mark(run.id, right.own)
        api.set_state(run.id, right.kind, name=right.name, message=message, force=True)
    except PrefectApiError as error:
        api.ping()  # raises where Prefect is away
        report.problems.append(f"run {run.name}: {error}")
        return False

    return True


def end_left(
    app: App, api: Api, dialogs: Collection[str], now: datetime, this: str | None
) -> None:
    """Set the states of syncs and dialogs right: the ledger has no entry of these.

    Crashed where the worker died, Cancelled where somebody cancels the run of a dead worker, and Running after a pause:
    nothing of the process waits for the end of a pause.

    Args:
        app: The app; the caller holds the lease of its sync, so no other sync is at work.
        api: Prefect.
        dialogs: The deployments of the dialogs.
        now: When the lease was taken: a sync that took the lease over since then began later.
        this: The flow run of the sync that is at work; absent for a command's sync.

    Raises:
        PrefectApiError: Prefect cannot be reached.
    """
    left_in = ["PENDING", "RUNNING", "CANCELLING", "PAUSED"]
    at_work = {"state": {"type": {"any_": left_in}}}
    facts = Facts(api, now)

    for names, died in (([SYNC], SYNC_LEFT), (list(dialogs), DIALOG_LEFT)):
        for run in api.runs(deployments=deployments_of(app, names), flow_runs=at_work):
            after, kind, message = died, "CRASHED", DIED

            if run.state_type == "PAUSED":
                after, kind, message = CANCELLING, "RUNNING", NO_PAUSE_OF_OWN
            elif run.state_type == "CANCELLING":
                message = run.message or BY_HAND
                after, kind = CANCELLED_LEFT, "CANCELLED"

            if run.id != this and facts.in_state(run) > after:
                set_left(api, run.id, kind, message)
