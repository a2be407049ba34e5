"""Prefect → ledger: the fates of flow runs are carried into the ledger.

Each function asks, decides by `ledger.verdict`, and writes, the ledger first. Where a
process was faster, the write comes to nothing, and the next sync asks again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, select

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
from jittask_prefect.ledger.tables import entries
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
from jittask_prefect.rows.handover import Keep
from jittask_prefect.rows.run_states import (
    FIRST,
    OVERLAP,
    Facts,
    deployments_of,
    difference,
    live_runs,
    silences,
    tasks_of_runs,
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
FAR, NEXT = "handover:far", "handover:next"
"""Names in jittask_state: the last difference, and the next task to ask for."""
CRASHES = "handover:crashed"
"""A name in jittask_state: until when crashed runs of schedules were entered."""
UNNAMED_LEFT = timedelta(minutes=15)
"""A run that names no task."""
_NEVER = datetime.min.replace(tzinfo=UTC)
log = logging.getLogger("jittask")


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


def settle_dead(app: App, database: str, api: Api, now: datetime) -> list[Entry]:
    """Take up executions whose lease ran out: their worker died; the tasks that ended thereby.

    Prefect is asked only for the runs of tasks without retries left: a person may have cancelled these. The hand-over
    finds a person's Cancel of the others before making the next run.

    Raises:
        PrefectApiError: Prefect cannot be reached; tasks without retries left wait for the next sync.
    """
    query = select(entries).where(
        entries.c.status == "executing",
        entries.c.lease_until < clock(caller_time(now)),
        entries.c.app == app.name,
    )
    engine = app.engine(database)

    with engine.begin() as connection:
        found = to_entries(connection.execute(query).all())
        last = [entry for entry in found if not _may_retry(app, entry)]
        asked = {entry.task_id for entry in last}

        for entry in found:
            if entry.task_id not in asked:
                settle_one_dead(app, connection, entry, None, Reading.MISSING, now)

    runs, facts, ended = _runs_of(api, last), Facts(api, now), []

    with engine.begin() as connection:
        # Read again: a slow process may have renewed its lease since.
        for entry in to_entries(connection.execute(query).all()) if last else ():
            if entry.task_id not in asked:
                continue
            run = runs.get(str(entry.flow_run_id))
            what = reading(facts.of(run, entry.due))
            if settle_one_dead(app, connection, entry, run, what, now):
                ended.append(entry)

    return ended


def _may_retry(app: App, entry: Entry) -> bool:
    retries = _retries(app, entry)
    return retries is not None and entry.attempt <= retries


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
    Pending and the claim, the run stays as it is for ever, on a self-hosted server; or the run is Crashed, and its hook
    has not run, or could not read the template. A run that is only slow is refused by the claim.

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

    _enter_crashed(app, api, now)


def _enter_crashed(app: App, api: Api, now: datetime) -> None:
    """Enter the schedules' runs that crashed since the last sync and that the ledger does not know."""
    with app.engine().connect() as connection:
        last = state_table.get(connection, app.name, CRASHES)

    since = datetime.fromisoformat(last) - OVERLAP if last else now - FIRST
    found = api.runs(
        # A template that does not load just now may be a scheduled one.
        deployments=deployments_of(app, scheduled(app, or_broken=True)),
        flow_runs={
            "state": {"type": {"any_": ["CRASHED"]}},
            "end_time": {"after_": since.isoformat()},
        },
    )
    left = [run for run in found if set(run.parameters) == {"template"}]
    known = tasks_of_runs(app, [DEFAULT], [run.id for run in left], by_id=True)
    mark = now

    for run in left:
        if run.id in known:
            continue
        if loads(app, run):
            enter_dead_run(app, run, now)
        else:  # the sync asks for the run again until the template loads
            mark = min(mark, run.end_time or since + OVERLAP)

    with app.engine().begin() as connection:
        state_table.put(connection, app.name, CRASHES, mark.isoformat())


def _is_left(facts: Facts, run: FlowRun) -> bool:
    if not run.parameters.get("template"):
        return facts.in_state(run) > UNNAMED_LEFT

    about = reading(facts.of(run, run.expected_start_time))
    return verdict(Kind.UNKNOWN, about) is Verdict.ENTER
