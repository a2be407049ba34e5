"""Prefect → ledger: the fates of flow runs are carried into the ledger.

Each function asks, decides by `ledger.verdict`, and writes, the ledger first. Where a
process was faster, the write comes to nothing, and the next sync asks again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, false, func, select

from jittask_prefect.elements.app import DEFAULT, App
from jittask_prefect.errors import JittaskError
from jittask_prefect.ledger import handover_marks, state_table
from jittask_prefect.ledger.entry import (
    Entry,
    entries_of_run,
    in_order,
    to_entries,
)
from jittask_prefect.ledger.lease_time import caller_time, clock
from jittask_prefect.ledger.settlement import carry_out, recorded_endings
from jittask_prefect.ledger.tables import CLAIMED, entries
from jittask_prefect.ledger.transitions import DIED
from jittask_prefect.ledger.verdict import (
    Kind,
    Reading,
    Verdict,
    kind_of,
    reading,
    verdict,
)
from jittask_prefect.prefect_api.answers import FlowRun
from jittask_prefect.prefect_api.api import PAGE, Api
from jittask_prefect.rows.entering import enter_dead_run, loads, scheduled
from jittask_prefect.rows.flow_runs import (
    FIRST,
    OVERLAP,
    Facts,
    Keep,
    deployments_of,
    set_left,
    silences,
    tasks_of_runs,
)

AT_ONCE = 1000
"""Runs that a sync asks for by id: of the tasks that are due first, and as many of the others, in turn."""
NEXT = "handover:next"
"""A name in jittask_state: the task behind which the next sync asks for the others."""
CRASHES = "handover:crashed"
"""A name in jittask_state: until when crashed runs of schedules were entered."""
UNNAMED_LEFT = timedelta(minutes=15)
"""A run that names no task."""
DELETED = "its flow run was deleted in Prefect; another one follows"
log = logging.getLogger("jittask")


def settle_waiting(
    app: App, database: str, api: Api, now: datetime, keep: Keep
) -> list[Entry]:
    """Take up the fates of waiting tasks' runs; the tasks that ended thereby.

    Asked for are the runs that are due first and, in turn, the others: all of them once in some syncs. Runs that wait
    although their tasks were ended, as in an older copy of Prefect, are marked for the hand-over to cancel.
    """
    engine = app.engine(database)
    # Not by the plain column: SQLite would take its index, which leads to all finished tasks.
    not_dirty = func.coalesce(entries.c.dirty, false()).is_(False)
    clean = (not_dirty, entries.c.flow_run_id.is_not(None))
    waits = (*clean, entries.c.status == "pending")
    ended = (*clean, entries.c.status == "ended", entries.c.due > now)
    first = next(in_order(engine, app.name, AT_ONCE, *waits), [])
    closed = _settle(app, database, api, first, now, keep)

    if len(first) == AT_ONCE:
        closed += _settle_others(app, database, api, first[-1], waits, now, keep)

    over = next(in_order(engine, app.name, PAGE, *ended), [])
    runs = _runs_of(api, over).values()
    live = [run.id for run in runs if run.state_type == "SCHEDULED"]

    if live:
        with engine.begin() as connection:
            spent = set(live) - handover_marks.open_runs(connection, live)
            handover_marks.cancel_again(connection, sorted(spent))

    return closed


def _settle_others(
    app: App,
    database: str,
    api: Api,
    last: Entry,
    waits: Sequence[ColumnElement[bool]],
    now: datetime,
    keep: Keep,
) -> list[Entry]:
    """Take up the fates of the runs that are due after a task, from where the last sync stopped."""
    engine, start = app.engine(database), (last.due, last.task_id)

    with engine.connect() as connection:
        place = state_table.get(connection, app.name, NEXT)

    if place is not None:
        due, _, task_id = place.partition(" ")
        start = max(start, (datetime.fromisoformat(due), task_id))

    part = next(in_order(engine, app.name, AT_ONCE, *waits, start=start), [])
    closed = _settle(app, database, api, part, now, keep)
    more = len(part) == AT_ONCE
    left = f"{part[-1].due.isoformat()} {part[-1].task_id}" if more else None

    if left != place:
        with engine.begin() as connection:
            state_table.put(connection, app.name, NEXT, left)

    return closed


def _settle(
    app: App,
    database: str,
    api: Api,
    waiting: Sequence[Entry],
    now: datetime,
    keep: Keep,
) -> list[Entry]:
    """Ask for the runs of waiting tasks by id, and carry the verdicts out; the tasks that ended thereby."""
    closed, facts, deleted = [], Facts(api, now), set[str]()
    for first in range(0, len(waiting), PAGE):
        part = waiting[first : first + PAGE]
        runs = _runs_of(api, part)
        batches = {str(e.flow_run_id) for e in part if e.batch is not None}
        silent = silences(app, database, batches, now) if batches else {}
        found: list[tuple[Entry, Verdict]] = []

        for entry in part:
            run_id = str(entry.flow_run_id)
            seen = facts.of(runs.get(run_id), entry.due, silent.get(run_id))
            if seen is not None and seen.state == "CANCELLING":
                continue  # left to `end_cancelling`, which keeps the person's reason
            kind = kind_of(entry.status, in_batch=entry.batch is not None)
            what = verdict(kind, reading(seen))

            if seen is None and run_id not in deleted:
                deleted.add(run_id)
                log.warning("%s %s: %s", entry.template, _name(entry), DELETED)
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


def _name(entry: Entry) -> str:
    """The row or the batch of a flow run, in the log; a scheduled task by its id."""
    if entry.batch is not None:
        return f"batch {entry.batch}"
    return entry.row_key or entry.task_id


def settle_dead(app: App, database: str, api: Api, now: datetime) -> list[Entry]:
    """Take up executions whose lease ran out: their worker died; the tasks that ended thereby.

    Raises:
        PrefectApiError: Prefect cannot be reached; the tasks wait for the next sync.
    """
    query = select(entries).where(
        entries.c.status == "executing",
        entries.c.lease_until < clock(caller_time(now)),
        entries.c.app == app.name,
    )
    engine = app.engine(database)

    with engine.connect() as connection:
        found = to_entries(connection.execute(query))

    runs, facts, ended = _runs_of(api, found), Facts(api, now), []
    asked = entries.c.task_id.in_([entry.task_id for entry in found])

    with engine.begin() as connection:
        # Read again: a slow process may have renewed its lease since.
        for entry in to_entries(connection.execute(query.where(asked))):
            run = runs.get(str(entry.flow_run_id))
            what = reading(facts.of(run, entry.due))
            if settle_one_dead(app, connection, entry, run, what, now):
                ended.append(entry)

    return ended


def _runs_of(api: Api, tasks: Sequence[Entry]) -> dict[str, FlowRun]:
    """The flow runs of some tasks, by id."""
    ids = sorted({str(entry.flow_run_id) for entry in tasks})
    found: dict[str, FlowRun] = {}

    for first in range(0, len(ids), PAGE):
        part = ids[first : first + PAGE]
        runs = api.runs(flow_runs={"id": {"any_": part}})
        found |= {run.id: run for run in runs}

    return found


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
        begun=entry.progress != CLAIMED,
    )
    found = verdict(kind, what)

    if found is Verdict.RETRY:
        log.warning(
            "%s %s: the worker died; the task is tried again",
            entry.template,
            entry.task_id,
        )

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
    process: str | None = None,
) -> list[tuple[str, Entry]]:
    """Take up the end of a flow run that its worker, or its process, reports.

    Args:
        app: The app.
        run_id: The run. Not the task: a task that was taken up again belongs to another run by now.
        now: The present instant.
        cancelled: The reason, where the run was cancelled; else its process died.
        run: The run, as Prefect describes it.
        process: The process that ends, as owners' names begin; rows at work in its helpers stay theirs. Absent all
            processes of the run have ended.

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
                if cancelled is None and _is_of_other(entry, process):
                    continue
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


def _is_of_other(entry: Entry, process: str | None) -> bool:
    """Whether a task is at work in another process than the given one."""
    at_work = entry.status == "executing" and process is not None
    return at_work and not (entry.owner or "").startswith(process or "")


def enter_left(app: App, api: Api, now: datetime) -> None:
    """Enter the runs of schedules that nobody will begin, so that the hand-over makes another run of each.

    A run that a schedule made stands in the ledger from its claim on. Where worker or machine die between Prefect's
    Pending and the claim, the run stays as it is for ever, on a self-hosted server; or the run is Crashed, and its hook
    has not run, or could not read the template. A run that is only slow is refused by the claim.

    Raises:
        PrefectApiError: Prefect cannot be reached.
    """
    with app.engine().connect() as connection:
        last = state_table.get(connection, app.name, CRASHES)

    since = datetime.fromisoformat(last) - OVERLAP if last else now - FIRST
    at_work = api.runs(
        limit=PAGE,
        sort="EXPECTED_START_TIME_ASC",
        deployments=deployments_of(app, scheduled(app)),
        flow_runs={"state": {"type": {"any_": ["PENDING", "RUNNING"]}}},
    )
    crashed = api.runs(
        # A template that does not load just now may be a scheduled one.
        deployments=deployments_of(app, scheduled(app, or_broken=True)),
        flow_runs={
            "state": {"type": {"any_": ["CRASHED"]}},
            "end_time": {"after_": since.isoformat()},
        },
    )
    facts, mark = Facts(api, now), now
    left = [run for run in at_work if _is_left(facts, run)]
    left += [run for run in crashed if set(run.parameters) == {"template"}]
    known = tasks_of_runs(app, [DEFAULT], [run.id for run in left], by_id=True)

    for run in left:
        if run.id in known or "taskId" in run.parameters:
            continue
        if run.is_final and not loads(app, run):
            # The sync asks for the run again until the template loads.
            mark = min(mark, run.end_time or since + OVERLAP)
        elif not enter_dead_run(app, run, now) and not run.is_final:
            set_left(api, run.id, "CRASHED", DIED)

    with app.engine().begin() as connection:
        state_table.put(connection, app.name, CRASHES, mark.isoformat())


def _is_left(facts: Facts, run: FlowRun) -> bool:
    if not run.parameters.get("template"):
        return facts.in_state(run) > UNNAMED_LEFT

    about = reading(facts.of(run, run.expected_start_time))
    return verdict(Kind.UNKNOWN, about) is Verdict.ENTER
