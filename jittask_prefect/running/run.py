"""A flow run executes its own task, or a batch; each task at most once.

Flows, tests and benchmarks call `execute` and `execute_batch`, which know no Prefect.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from functools import partial

from jittask_prefect.elements.app import App
from jittask_prefect.elements.databases import DEFAULT
from jittask_prefect.elements.patience import waits_for_connections
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import UnknownTask
from jittask_prefect.ledger import transitions, versions
from jittask_prefect.ledger.entry import Entry, find_entry
from jittask_prefect.ledger.tables import OPEN
from jittask_prefect.ledger.transitions import FORCED
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.rows.entering import enter, entry_of
from jittask_prefect.running import by_hand
from jittask_prefect.running.calls import EARLY_SECONDS, OneTask, Work
from jittask_prefect.running.digests import DigestsOfInstant
from jittask_prefect.running.executor import work_off
from jittask_prefect.running.function import after_return
from jittask_prefect.running.lease import Clock
from jittask_prefect.running.left_rows import LeftRows
from jittask_prefect.running.outcome import (
    LEFT,
    Outcome,
    Run,
    Summary,
    broken_message,
)
from jittask_prefect.running.request import in_words, request_of
from jittask_prefect.running.rows_of_instant import RowsOfInstant
from jittask_prefect.running.spread import Leader, help_out
from jittask_prefect.warm.drain import Drain
from jittask_prefect.warm.help import Help


def entry_of_template(template: Meta, task_id: str, entry: Entry | None) -> Entry:
    """The entry of a task id, where it is a task of the template.

    Raises:
        UnknownTask: There is no such task, or it is another template's.
    """
    name = template.fullName
    if entry is None or entry.task_id != task_id:
        raise UnknownTask(f"there is no task {in_words(task_id)} in the ledger")
    if entry.template != name:
        raise UnknownTask(f"task {task_id} is one of {entry.template}, not of {name}")
    rows = isinstance(template, DateFieldType)
    # A task of `createTimerTask` has no row, whatever the template.
    if entry.func_name is None and bool(entry.row_key) is not rows:
        kind = "of a row" if entry.row_key else "of no row"
        raise UnknownTask(f"task {task_id} is {kind}, which {name} is not any more")
    return entry


REPLACED = f"{FORCED}: a later execution replaces it"


@waits_for_connections()
def execute(
    app: App,
    name: str,
    task_id: str | None,
    run: Run,
    clock: Clock,
    *,
    connect: Callable[[], Api] | None = None,
    lost: Callable[[], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    end: Callable[[str], object] | None = None,
    drain: Drain | None = None,
    row: str | None = None,
) -> Outcome:
    """Run a task, at most once for its identity.

    Args:
        app: The app.
        name: The template's full name.
        task_id: The ledger entry; absent for a run that the template's own schedule, or
            a person, made.
        run: The flow run.
        clock: Gives the present instant.
        connect: Gives Prefect, which knows the runs of a schedule that have not begun;
            absent the ledger alone says whose turn it is.
        lost: Called from another thread when the execution was ended or taken over; must
            end the process.
        sleep: Waits between retries, for a slot, and for the due time where the run
            began a moment early; in seconds.
        end: Ends the execution that this execution replaces, by its task id, and returns
            once the process is gone; absent the ledger ends the task, and its process
            notices.
        drain: Tells that the worker stops; a task that has not begun is left then.
        row: The key of a row that a person asks for; then there is no task id.

    Returns:
        How the task ended. A function's failure is an outcome, never an exception. `LEFT` where the task waits for
        another worker.

    Raises:
        ArgumentError: A task of rows, and no task id.
        UnknownTask: There is no task of that id, or it is another template's; or the task of this flow run has left
            the ledger.
    """
    template = request_of(app, name, task_id, row=row).template
    known = locate(app, task_id) if task_id is not None else None
    # A person who asks for a run gets its error at once.
    if task_id is not None or run.auto:
        fault = app.fault(name, known[1].func_name if known else None)
        if fault is not None:
            if task_id is None:
                _put_off(app, name, run, clock())
            return Outcome("ended", "skipped", broken_message(name, fault.reason))
    template = template or app.template(name)
    if task_id is not None:
        database, found = known or (DEFAULT, None)
        entry = entry_of_template(template, task_id, found)
    elif row is not None:
        database, entry = by_hand.enter_row(app, template, row, run, clock())
    else:
        database, entry = DEFAULT, _entered(app, name, run, clock())
    _wait_for(entry.late_from, clock, sleep)
    summary, drain = Summary(), drain or Drain()
    end = end or partial(_end_in_ledger, app, database, clock)
    about = (app, database, template, run, clock, sleep, summary, lost)
    work = Work(*about, connect, end, drain=drain)
    work_off(work, OneTask(work, entry))
    if drain.begun and not summary.tasks:
        return LEFT
    [(_, outcome)] = summary.tasks
    return outcome


@waits_for_connections()
def execute_batch(
    app: App,
    name: str,
    due: datetime,
    run: Run,
    clock: Clock,
    *,
    lost: Callable[[], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    told: Callable[[Sequence[Entry], Outcome], None] | None = None,
    help: Help | None = None,
    drain: Drain | None = None,
    left: LeftRows | None = None,
) -> Summary:
    """Run the tasks of a template that are due at an instant, at most 1,000, each at most once.

    Args:
        app: The app.
        name: The template's full name.
        due: The instant; aware.
        run: The flow run.
        clock: Gives the present instant.
        lost: Called from another thread when the row at work was ended; must end the
            process.
        sleep: Waits for the due time where the run began a moment early, for a slot, and
            before a row is tried again; in seconds.
        told: Called after each call, with the rows that ended alike.
        help: Further processes for the rows; absent this process runs all.
        drain: Tells that the worker stops; then no further row begins.
        left: Hands over the rows that nobody has begun then; absent the next sync does.
    """
    fault = app.fault(name)
    if fault is not None and not fault.gone:
        return Summary(broken=broken_message(name, fault.reason))
    summary, drain = Summary(), drain or Drain()
    about = (app, name, run, clock, sleep, summary, lost, told)
    work = _work_of_rows(*about, drain)
    calls = _calls_of(work, due)
    leader = Leader(work, calls, help) if help is not None else None
    begins = max(due, run.due)
    if leader is not None and clock() < begins:
        leader.make_ready()
    _wait_for(begins, clock, sleep)
    with drain.telling(left.begin) if left is not None else nullcontext():
        if leader is None:
            work_off(work, calls)
        else:
            leader.work_off()
    if drain.begun and left is not None:
        # A row may have been claimed, and done, at the very moment of the first hand-over.
        done = {entry.task_id for entry, _ in summary.tasks}
        summary.left = len(left.hand_over() - done)
    if not (summary.tasks or summary.queued or summary.left):
        summary.before = calls.ended_before()
    return summary


@waits_for_connections()
def help_batch(
    app: App,
    name: str,
    due: datetime,
    run: Run,
    clock: Clock,
    *,
    number: int,
    enough: Callable[[], bool],
    begun: Callable[[], None],
    lost: Callable[[], None],
    begin: Callable[[], object] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    drain: Drain | None = None,
) -> None:
    """Run tasks of a batch beside the batch's own process, until none is left or the place is needed.

    Args:
        app: The app.
        name: The template's full name.
        due: The instant; aware.
        run: The flow run.
        clock: Gives the present instant.
        number: The helper's number; the first is 1.
        enough: Whether this process is to take no further row.
        begun: Called once, when this process has a row.
        lost: As of `execute_batch`.
        begin: Waits until the batch's own process has its first row; absent the process has.
        sleep: As of `execute_batch`.
        drain: As of `execute_batch`.
    """
    about = (app, name, run, clock, sleep, Summary(), lost, None)
    work = _work_of_rows(*about, drain or Drain())
    calls = _calls_of(work, due, number)
    if begin is not None:
        calls.read_ahead()
        begin()
    help_out(work, calls, enough, begun)


def _calls_of(work: Work, due: datetime, helper: int = 0) -> RowsOfInstant:
    """The calls of a batch: each has a row, or the rows of a digest that belong together."""
    digest = work.template.cfg.digest
    kind = RowsOfInstant if digest is None else DigestsOfInstant
    return kind(work, due, helper)


def _work_of_rows(
    app: App,
    name: str,
    run: Run,
    clock: Clock,
    sleep: Callable[[float], None],
    summary: Summary,
    lost: Callable[[], None] | None,
    told: Callable[[Sequence[Entry], Outcome], None] | None,
    drain: Drain,
) -> Work:
    template = app.template(name)
    if not isinstance(template, DateFieldType):
        raise TypeError(f"{name} is no task of rows")
    database = app.database_of(template.model_name)
    about = (app, database, template, run, clock, sleep, summary, lost)
    return Work(*about, told=told, drain=drain)


def locate(app: App, task_id: str) -> tuple[str, Entry] | None:
    """The database and the entry of a task id, or of a flow run's id; none of another app's tasks."""
    for database in app.databases():
        with app.engine(database).connect() as connection:
            versions.require(connection, database or "the app's database")
            entry = find_entry(connection, task_id)
        if entry is not None and entry.app == app.name:
            return database, entry
    return None


def _wait_for(due: datetime, clock: Clock, sleep: Callable[[float], None]) -> None:
    """Wait for the due time: Prefect starts runs up to half a second early."""
    early = (due - clock()).total_seconds()
    if 0 < early <= EARLY_SECONDS:
        sleep(early)


def _entered(app: App, name: str, run: Run, now: datetime) -> Entry:
    """Make the ledger entry for a run of the schedule, or of a person."""
    entry = entry_of(app, name, run.id, run.due, run.auto, now)
    with app.engine().begin() as connection:
        versions.require(connection, "the app's database")
        entered = enter(connection, entry, run.begun)
        if not entered and find_entry(connection, run.id) is None:
            # Another run has this occurrence: this one stands in the records, apart.
            apart = replace(
                entry,
                nominal=None,
                status="ended",
                outcome="skipped",
                message="not run: another run has this occurrence",
                returned=True,
                finished=now,
            )
            transitions.enter(connection, apart)
    return entry


def _put_off(app: App, name: str, run: Run, now: datetime) -> None:
    """Enter the task of a broken template, to get another flow run once the template is mended."""
    entry = entry_of(app, name, run.id, run.due, True, now)
    with app.engine().begin() as connection:
        versions.require(connection, "the app's database")
        enter(connection, replace(entry, dirty=True), run.begun)


def _end_in_ledger(app: App, database: str, clock: Clock, task_id: str) -> None:
    with app.engine(database).begin() as connection:
        transitions.end(
            connection,
            task_id,
            outcome="forced",
            message=REPLACED,
            now=clock(),
            within=OPEN,
        )
    after_return(app, database, task_id)
