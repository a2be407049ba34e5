"""Applying: the fates of flow runs are carried into the ledger, and the ledger's ends into flow runs' states.

Each function asks, decides by `ledger.verdict`, and writes, the ledger first. Where a
process was faster, the write comes to nothing, and the next sync asks again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, select

from jittask_prefect.elements.app import DEFAULT, App
from jittask_prefect.errors import JittaskError, PrefectApiError
from jittask_prefect.ledger import handover_marks, state_table
from jittask_prefect.ledger.entry import (
    Entry,
    entries_of_run,
    in_order,
    living_tasks,
    to_entries,
)
from jittask_prefect.ledger.lease_time import caller_time, clock
from jittask_prefect.ledger.settlement import carry_out, recorded_endings
from jittask_prefect.ledger.tables import entries
from jittask_prefect.ledger.transitions import DIED
from jittask_prefect.ledger.verdict import (
    CANCELLING,
    Kind,
    Reading,
    RightState,
    Verdict,
    kind_of,
    reading,
    right_state,
    summary,
    verdict,
)
from jittask_prefect.prefect_api.answers import FlowRun
from jittask_prefect.prefect_api.api import BY_HAND, PAGE, Api
from jittask_prefect.rows.entering import enter_dead_run, scheduled
from jittask_prefect.rows.handover import Keep
from jittask_prefect.rows.plan import Report
from jittask_prefect.rows.run_states import (
    Facts,
    deployments_of,
    difference,
    live_runs,
    silences,
    tasks_of_runs,
    templates_in,
)

NEAR = timedelta(minutes=15)
NEAR_AT_ONCE = 2000
"""Runs that a sync asks for by id; where more are due, the next sync asks for the following ones."""
ALL_ASKED = PAGE  # waiting tasks that are all asked for at each sync
FAR_AT_ONCE = 5000
GAP = timedelta(minutes=5)
"""Since the last sync: a database may be an older copy, and the numbers agree."""
AGAIN = timedelta(hours=1)
"""A difference that stays is looked into again."""
FAR, NEXT, SHOWN = "handover:far", "handover:next", "agreed"
"""Names in jittask_state: the last difference, the next task to ask for, until when ended runs were looked at."""
TO_SHOW = timedelta(seconds=30)
"""The time that a living process may take from its commit until Prefect knows."""
OVERLAP, FIRST = timedelta(minutes=2), timedelta(hours=1)
SYNC = "jittask.sync"
SYNC_LEFT, DIALOG_LEFT = timedelta(minutes=5), timedelta(minutes=10)
"""A sync that began so long ago, and has not the lease, has died; a dialog."""
UNNAMED_LEFT = timedelta(minutes=15)
"""A run that names no task."""
_NEVER = datetime.min.replace(tzinfo=UTC)
log = logging.getLogger("jittask")


# Prefect → ledger


def settle_waiting(
    app: App, database: str, api: Api, now: datetime, keep: Keep
) -> list[Entry]:
    """Take up the fates of waiting tasks' runs; the tasks that ended thereby.

    Where the number of runs that are due later is not the ledger's, all of them are asked for by id: once for each
    new difference, once an hour while a difference stays, and where no sync was for five minutes.
    """
    engine, limit = app.engine(database), now + NEAR
    waiting = (
        entries.c.status == "pending",
        entries.c.dirty.is_(False),
        entries.c.flow_run_id.is_not(None),
    )
    with engine.connect() as connection:
        known = state_table.get(connection, app.name, FAR)
        place = state_table.get(connection, app.name, NEXT)
    near = next(in_order(engine, app.name, ALL_ASKED + 1, *waiting), [])
    if len(near) > ALL_ASKED:
        start, soon = _place(place), (*waiting, entries.c.due < limit)
        near = next(in_order(engine, app.name, NEAR_AT_ONCE, *soon, start=start), [])
    closed = _settle(app, database, api, near, now, keep)
    more = len(near) == NEAR_AT_ONCE
    left = f"{near[-1].due.isoformat()} {near[-1].task_id}" if more else None

    before, looked, seen = _last_difference(known)
    found = difference(app, database, api, limit)
    stays = found and now - looked >= AGAIN
    if found != before or abs(now - seen) > GAP or stays:
        later = (*waiting, entries.c.due >= limit)
        for part in in_order(engine, app.name, FAR_AT_ONCE, *later):
            closed += _settle(app, database, api, part, now, keep)
        if found > 0:
            _cancel_again(app, database, api, limit, keep)
        found, looked = difference(app, database, api, limit), now
    with engine.begin() as connection:
        text = f"{found} {looked.isoformat()} {now.isoformat()}"
        state_table.put(connection, app.name, FAR, text)
        if left != place:
            state_table.put(connection, app.name, NEXT, left)
    return closed


def _place(text: str | None) -> tuple[datetime, str] | None:
    if text is None:
        return None
    due, _, task_id = text.partition(" ")
    return datetime.fromisoformat(due), task_id


def _last_difference(known: str | None) -> tuple[int, datetime, datetime]:
    """The difference that the last sync left, when its runs were asked for, and when the last sync was."""
    if known is None:
        return 0, _NEVER, _NEVER
    found, looked, seen = known.split(" ")
    return int(found), datetime.fromisoformat(looked), datetime.fromisoformat(seen)


def _cancel_again(
    app: App, database: str, api: Api, limit: datetime, keep: Keep
) -> None:
    """Find the runs that wait for tasks that are ended, as in an older copy of Prefect, for the hand-over to cancel."""
    offset, live = 0, live_runs(app, database, limit)
    while page := api.runs(limit=PAGE, offset=offset, sort="ID_DESC", **live):
        with app.engine(database).begin() as connection:
            handover_marks.cancel_again(connection, [run.id for run in page])
        offset += len(page)
        keep()


def _settle(
    app: App,
    database: str,
    api: Api,
    waiting: Sequence[Entry],
    now: datetime,
    keep: Keep,
) -> list[Entry]:
    """Ask for the runs of waiting tasks by id, and carry the verdicts out; the tasks that ended thereby."""
    closed, facts = [], Facts(api, now)
    for first in range(0, len(waiting), PAGE):
        part = waiting[first : first + PAGE]
        ids = sorted({str(entry.flow_run_id) for entry in part})
        runs = {run.id: run for run in api.runs(flow_runs={"id": {"any_": ids}})}
        batches = {str(e.flow_run_id) for e in part if e.batch is not None}
        silent = silences(app, database, batches, now) if batches else {}
        found: list[tuple[Entry, Verdict]] = []
        for entry in part:
            run_id = str(entry.flow_run_id)
            seen = facts.of(runs.get(run_id), entry.due, silent.get(run_id))
            kind = kind_of(entry.status, in_batch=entry.batch is not None)
            what = verdict(kind, reading(seen))
            if what is not Verdict.NOTHING:
                found.append((entry, what))
        spent = {e.flow_run_id for e, what in found if what is Verdict.RECORDED}
        recorded = {
            task: how
            for run_id in spent
            for task, how in recorded_endings(api.table(str(run_id))).items()
        }
        if found:
            with app.engine(database).begin() as connection:
                for entry, what in found:
                    run = runs.get(str(entry.flow_run_id))
                    about = (connection, what, entry, run, now)
                    if carry_out(*about, recorded=recorded):
                        closed.append(entry)
        keep()
    return closed


def settle_dead(app: App, database: str, now: datetime) -> list[Entry]:
    """Take up executions whose lease ran out: their worker died; the tasks that ended as errors.

    Prefect is not asked: the hand-over finds a person's Cancel before making the next run.
    """
    query = select(entries).where(
        entries.c.status == "executing",
        entries.c.lease_until < clock(caller_time(now)),
        entries.c.app == app.name,
    )
    ended = []
    with app.engine(database).begin() as connection:
        for entry in to_entries(connection.execute(query).all()):
            if settle_one_dead(app, connection, entry, None, Reading.MISSING, now):
                ended.append(entry)
    return ended


def settle_one_dead(
    app: App,
    connection: Connection,
    entry: Entry,
    run: FlowRun | None,
    what: Reading,
    now: datetime,
    *,
    message: str = "",
    shown: bool = False,
) -> bool:
    """Take up a task whose process is gone; whether the task has ended thereby.

    Args:
        app: The app.
        connection: In a transaction.
        entry: The task.
        run: Its flow run, where Prefect was asked.
        what: The reading of its run.
        now: The present instant.
        message: Why a cancelled task ends.
        shown: Prefect shows the end already.
    """
    kind = kind_of(
        entry.status,
        in_batch=entry.batch is not None,
        alive=False,
        attempt=entry.attempt,
        retries=(retries := _retries(app, entry)),
    )
    found = verdict(kind, what)
    if found is Verdict.RETRY:
        why = "%s %s: its worker died; it is tried again"
        log.warning(why, entry.template, entry.task_id)
    about = (connection, found, entry, run, now)
    return carry_out(*about, retries=retries or 0, message=message, shown=shown)


def _retries(app: App, entry: Entry) -> int | None:
    """How often a task is tried again; None where its template cannot be read just now."""
    try:
        return app.template(entry.template).cfg.retries
    except JittaskError:
        return 0 if app.gone(entry.template) else None


def settle_reported(
    app: App,
    run_id: str,
    now: datetime,
    *,
    cancelled: str | None = None,
    run: FlowRun | None = None,
) -> list[tuple[str, Entry]]:
    """Take up the end of a flow run that its worker, or its process, reports.

    Args:
        app: The app.
        run_id: The run. Not the task: a task that was taken up again belongs to another run by now.
        now: The present instant.
        cancelled: The reason, where the run was cancelled; else its process died.
        run: The run, as Prefect describes it.

    Returns:
        The tasks, with their databases, that `afterReturn` and a next occurrence may be due for. A task that was ended
        is not among them: whoever ended the task does the rest, and may kill this process at any moment.
    """
    ours = run is not None and run.ended_by_us
    left, known = [], False
    for database in app.databases():
        with app.engine(database).begin() as connection:
            for entry in entries_of_run(connection, run_id):
                known = True
                what = Reading.CRASHED if cancelled is None else Reading.CANCELLED
                # A run whose task is executing was not ended by us: the ledger is always first.
                if cancelled is not None and ours and entry.status == "pending":
                    what = Reading.WITHDRAWN
                ended = settle_one_dead(
                    app,
                    connection,
                    entry,
                    run,
                    what,
                    now,
                    message=cancelled or "",
                    shown=True,
                )
                if ended or entry.status in ("completed", "error"):
                    left.append((database, entry))
    if not known and run is not None and cancelled is None:
        enter_dead_run(app, run, now)
    return left


def enter_left(app: App, api: Api, now: datetime) -> None:
    """Enter the runs of schedules that nobody will begin, so that the hand-over makes another run of each.

    A run that a schedule made stands in the ledger from its claim on. Where worker or machine die between Prefect's
    Pending and the claim, the run stays as it is for ever, on a self-hosted server. A run that is only slow is refused
    by the claim.

    Raises:
        PrefectApiError: Prefect cannot be reached.
    """
    found = api.runs(
        limit=PAGE,
        sort="EXPECTED_START_TIME_ASC",
        deployments=deployments_of(app, scheduled(app)),
        flow_runs={"state": {"type": {"any_": ["PENDING", "RUNNING"]}}},
    )
    facts = Facts(api, now)
    left = [run for run in found if _is_left(facts, run)]
    known = tasks_of_runs(app, [DEFAULT], [run.id for run in left], by_id=True)
    for run in left:
        named = run.id in known or "taskId" in run.parameters
        if not named and not enter_dead_run(app, run, now):
            api.set_state(run.id, "CRASHED", message=DIED, force=True)


def _is_left(facts: Facts, run: FlowRun) -> bool:
    if not run.parameters.get("template"):
        return facts.in_state(run) > UNNAMED_LEFT
    about = reading(facts.of(run, run.expected_start_time))
    return verdict(Kind.UNKNOWN, about) is Verdict.ENTER


# Ledger → Prefect


def end_cancelling(
    app: App, database: str, api: Api, now: datetime, report: Report
) -> list[Entry]:
    """Set runs Cancelled that have been Cancelling for more than 15 s and that no living worker executes.

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
        flow_runs={"state": {"type": {"any_": ["CANCELLING"]}}},
    )
    facts = Facts(api, now)
    left = [run for run in found if facts.in_state(run) > CANCELLING]
    tasks = tasks_of_runs(app, [database], [run.id for run in left], by_id=True)
    with app.engine(database).connect() as connection:
        living = living_tasks(connection, app.name, now)
    closed = []
    for run in left:
        of = [entry for _, entry in tasks.get(run.id, ())]
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
    tasks = tasks_of_runs(app, databases, [run.id for run in found])
    facts = Facts(api, now)
    for run in found:
        of = [entry for _, entry in tasks.get(run.id, ())]
        right = right_state(of)
        # A batch that died, and whose other rows went on in another run, stays Crashed.
        went_on = run.state_type == "CRASHED" and run.ended_by_us
        if right is None or went_on or run.state_type in (right.kind, *right.also):
            continue
        # A run that somebody tries again is Running for a moment before the task is claimed.
        ends = [now - entry.finished for entry in of if entry.finished]
        if min([facts.in_state(run), *ends]) > TO_SHOW:
            _set_state(api, run, right, _message(of, right), report)
    with app.engine().begin() as connection:
        state_table.put(connection, app.name, SHOWN, now.isoformat())


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
    """Set the syncs and dialogs Crashed whose worker died: the ledger has no entry of these.

    Args:
        app: The app; the caller holds the lease of its sync, so no other sync is at work.
        api: Prefect.
        dialogs: The deployments of the dialogs.
        now: When the lease was taken: a sync that took the lease over since then began later.
        this: The flow run of the sync that is at work; absent for a command's sync.

    Raises:
        PrefectApiError: Prefect cannot be reached.
    """
    at_work = {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}
    facts = Facts(api, now)
    for names, left in (([SYNC], SYNC_LEFT), (list(dialogs), DIALOG_LEFT)):
        for run in api.runs(deployments=deployments_of(app, names), flow_runs=at_work):
            if run.id != this and facts.in_state(run) > left:
                api.set_state(run.id, "CRASHED", message=DIED, force=True)
