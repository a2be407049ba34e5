"""A flow run executes its own task, or a batch; each task at most once.

The parameters of a flow run, which anybody may write, are checked before anything is done. Flows, tests and benchmarks
call `execute` and `execute_batch`, which know no Prefect.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TypeGuard

from jittask_prefect.elements.app import App
from jittask_prefect.elements.databases import DEFAULT
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import (
    ArgumentError,
    JittaskError,
    UnknownElement,
    UnknownTask,
)
from jittask_prefect.ledger import transitions, versions
from jittask_prefect.ledger.entry import Entry, find_entry
from jittask_prefect.ledger.keys import as_text
from jittask_prefect.ledger.tables import OPEN
from jittask_prefect.ledger.transitions import FORCED
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.rows.entering import entry_of
from jittask_prefect.running.calls import (
    EARLY_SECONDS,
    OneTask,
    Work,
)
from jittask_prefect.running.executor import work_off
from jittask_prefect.running.function import after_return
from jittask_prefect.running.lease import (
    Clock,
)
from jittask_prefect.running.outcome import (
    Outcome,
    Run,
    Summary,
    broken_message,
)
from jittask_prefect.running.rows_of_instant import RowsOfInstant
from jittask_prefect.running.spread import Leader, help_out
from jittask_prefect.validation import shown
from jittask_prefect.warm.help import Help

LONGEST = 200
"""Characters of a name or an id; longer texts are not looked for."""
REFUSALS = (ArgumentError, UnknownElement, UnknownTask)
"""The errors of wrong parameters: nothing has run, and the message says why."""


@dataclass(frozen=True)
class Request:
    """A task by its id, a batch by its instant, or neither: a run of a scheduled task.

    Attributes:
        template: The template; None for a template that does not load: its tasks wait.
        task_id: The task's id.
        due: The batch's instant, in UTC.
    """

    template: Meta | None
    task_id: str | None = None
    due: datetime | None = None


def request_of(
    app: App, template: object, task_id: object = None, due: object = None
) -> Request:
    """Check the parameters of a flow run.

    Args:
        app: The app.
        template: A template's full name.
        task_id: The id of a task of the template.
        due: The instant of a batch: ISO 8601 with an offset.

    Raises:
        ArgumentError: A parameter is missing or has a wrong value.
        UnknownElement: There is no such template.
    """
    if not isinstance(template, str) or len(template) > LONGEST:
        raise ArgumentError(
            f"template {_shown(template)}; allowed: the full name of a task, "
            "e.g. tasks.DailyReport"
        )
    found = _template(app, template)
    rows = isinstance(found, DateFieldType)
    if task_id is not None and not _is_id(task_id):
        raise ArgumentError(
            f"taskId {_shown(task_id)}; allowed: the id of a task of {template}"
        )
    if due is not None:
        if task_id is not None or (found is not None and not rows):
            reason = "there is a taskId as well"
            if found is not None and not rows:
                reason = f"{template} is no task of rows"
            raise ArgumentError(
                f"due {_shown(due)}, but {reason}; allowed: `due` of a task of rows, "
                "and no `taskId`"
            )
        return Request(found, None, _instant(due))
    if rows and task_id is None:
        raise ArgumentError(
            f"{template} has a task for each row, and the run names none. Give "
            f"`taskId`, which `jittask pending {template}` lists, or use the dialog "
            "jittask.run-task-now with the row's key"
        )
    return Request(found, task_id)


def _template(app: App, name: str) -> Meta | None:
    try:
        return app.template(name)
    except JittaskError:
        if not name.startswith("tasks.") or app.gone(name):
            raise
        return None


def _shown(value: object) -> str:
    return as_text(shown(value))


def _is_id(value: object) -> TypeGuard[str]:
    if not isinstance(value, str) or len(value) > LONGEST:
        return False
    return value.isascii() and value.isprintable()


def _instant(due: object) -> datetime:
    try:
        if isinstance(due, str) and len(due) <= LONGEST:
            found = datetime.fromisoformat(due)
            if found.tzinfo is not None:
                return found.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ArgumentError(
        f"due {_shown(due)}; allowed: an instant with its offset, "
        "e.g. 2026-03-02T09:00:00+00:00"
    )


def entry_of_template(template: Meta, task_id: str, entry: Entry | None) -> Entry:
    """The entry of a task id, where it is a task of the template.

    Raises:
        UnknownTask: There is no such task, or it is another template's.
    """
    name = template.fullName
    if entry is None or entry.task_id != task_id:
        raise UnknownTask(f"there is no task {_shown(task_id)} in the ledger")
    if entry.template != name:
        raise UnknownTask(f"task {task_id} is one of {entry.template}, not of {name}")
    rows = isinstance(template, DateFieldType)
    # A task of `createTimerTask` has no row, whatever the template.
    if entry.func_name is None and bool(entry.row_key) is not rows:
        kind = "of a row" if entry.row_key else "of no row"
        raise UnknownTask(f"task {task_id} is {kind}, which {name} is not any more")
    return entry


REPLACED = f"{FORCED}: a later execution replaces it"


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

    Returns:
        How the task ended. A function's failure is an outcome, never an exception.

    Raises:
        ArgumentError: A task of rows, and no task id.
        UnknownTask: There is no task of that id, or it is another template's.
    """
    template = request_of(app, name, task_id).template
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
    else:
        database, entry = DEFAULT, _entered(app, name, run, clock())
    _wait_for(entry.due, clock, sleep)
    summary = Summary()
    end = end or partial(_end_in_ledger, app, database, clock)
    about = (app, database, template, run, clock, sleep, summary, lost)
    work = Work(*about, connect, end)
    work_off(work, OneTask(work, entry))
    [(_, outcome)] = summary.tasks
    return outcome


def execute_batch(
    app: App,
    name: str,
    due: datetime,
    run: Run,
    clock: Clock,
    *,
    lost: Callable[[], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    told: Callable[[Entry, Outcome], None] | None = None,
    help: Help | None = None,
) -> Summary:
    """Run the tasks of a template that are due at an instant, at most 500, each at most once.

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
        told: Called after each row.
        help: Further processes for the rows; absent this process runs all.
    """
    fault = app.fault(name)
    if fault is not None and not fault.gone:
        return Summary(broken=broken_message(name, fault.reason))
    _wait_for(due, clock, sleep)
    summary = Summary()
    work = _work_of_rows(app, name, run, clock, sleep, summary, lost, told)
    calls = RowsOfInstant(work, due)
    if help is None:
        work_off(work, calls)
    else:
        Leader(work, calls, help).work_off()
    if not summary.tasks and not summary.queued:
        summary.before = calls.ended_before()
    return summary


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
    sleep: Callable[[float], None] = time.sleep,
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
        sleep: As of `execute_batch`.
    """
    work = _work_of_rows(app, name, run, clock, sleep, Summary(), lost, None)
    help_out(work, RowsOfInstant(work, due, number), enough, begun)


def _work_of_rows(
    app: App,
    name: str,
    run: Run,
    clock: Clock,
    sleep: Callable[[float], None],
    summary: Summary,
    lost: Callable[[], None] | None,
    told: Callable[[Entry, Outcome], None] | None,
) -> Work:
    template = app.template(name)
    if not isinstance(template, DateFieldType):
        raise TypeError(f"{name} is no task of rows")
    database = app.database_of(template.model_name)
    return Work(app, database, template, run, clock, sleep, summary, lost, told=told)


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
        entered = transitions.enter(connection, entry)
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
        transitions.enter(connection, replace(entry, dirty=True))


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
