"""How an execution begins: its entry, its turn, its claim and its slot; or why it is not run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from jittask_prefect.elements.app import DEFAULT, App
from jittask_prefect.elements.types import Meta
from jittask_prefect.errors import JittaskError
from jittask_prefect.ledger import handover_marks, limits, transitions, versions
from jittask_prefect.ledger.entry import Entry, find_entry, new_entry
from jittask_prefect.ledger.keys import from_json
from jittask_prefect.ledger.limits import Full
from jittask_prefect.ledger.tables import OPEN, entries
from jittask_prefect.ledger.transitions import FORCED
from jittask_prefect.ledger.twins import DONE, end_twins
from jittask_prefect.rows.entering import entry_of
from jittask_prefect.running.lease import LEASE_SECONDS, Clock
from jittask_prefect.running.order import Turn
from jittask_prefect.running.parameters import belongs
from jittask_prefect.running.task import after_return, next_of_row

WAIT_SECONDS, LOOK_SECONDS = (
    3.0,
    0.2,
)  # for a slot, before a flow run is given up; between two looks


@dataclass(frozen=True)
class Run:
    """The flow run that executes; `due` is when it was to start, `auto` that its schedule made it."""

    id: str
    due: datetime
    auto: bool = False


@dataclass(frozen=True)
class Outcome:
    """How an execution ended: `completed`, `error` or `ended`, with the reason and the function's result."""

    status: str
    outcome: str
    message: str
    result: Any = None


REPLACED = f"{FORCED}: a later execution replaces it"
TAKEN = Outcome("ended", "forced", "ended: the execution is no longer this worker's")


def label_of(outcome: Outcome) -> str | None:
    """Why a flow run ends by itself without the function, for its label; None where the function ran, or was ended."""
    if outcome == TAKEN:
        return "taken"
    return (
        outcome.outcome
        if outcome.status == "ended" and outcome.outcome != "forced"
        else None
    )


def locate(app: App, task_id: str) -> tuple[str, Entry] | None:
    """The database and the entry of a task id, or of a flow run's id, in any database of the app."""
    for database in app.databases():
        with app.engine(database).connect() as connection:
            versions.require(connection, database or "the app's database")
            entry = find_entry(connection, task_id)
        if entry is not None:
            return database, entry
    return None


def entered(
    app: App,
    template: Meta,
    task_id: str | None,
    known: tuple[str, Entry] | None,
    run: Run,
    now: datetime,
) -> tuple[str, Entry]:
    """The database and the ledger entry of an execution; one is made for a run of the schedule, or of a person.

    Args:
        app: The app.
        template: The template.
        task_id: The id that the run names; absent for a run of the schedule, or of a person.
        known: Database and entry of that id, where there are such.
        run: The flow run.
        now: The present instant.

    Raises:
        UnknownTask: There is no entry of that id, or it is not this template's.
    """
    if task_id is not None:
        database, found = known or (DEFAULT, None)
        return database, belongs(template, task_id, found)
    entry = entry_of(app, template, run.id, run.due, run.auto, now)
    with app.engine().begin() as connection:
        versions.require(connection, "the app's database")
        if (
            not transitions.enter(connection, entry)
            and find_entry(connection, run.id) is None
        ):
            # The unique identity is taken: another run has this occurrence. It stands in the records, apart.
            also = replace(
                entry,
                nominal=None,
                status="ended",
                outcome="skipped",
                message="not run: another run has this occurrence",
                returned=True,
                finished=now,
            )
            transitions.enter(connection, also)
    return DEFAULT, entry


def put_off(
    app: App, name: str, task_id: str | None, run: Run, now: datetime, why: str
) -> Outcome:
    """Have a task wait whose template, model or function cannot be read: it gets another flow run once it can.

    Args:
        app: The app.
        name: The template's full name.
        task_id: The ledger entry; absent for a run that the template's own schedule made: that is entered.
        run: The flow run.
        now: The present instant.
        why: What is broken.
    """
    if task_id is None:
        try:
            entry = entry_of(app, app.template(name), run.id, run.due, True, now)
        except JittaskError:
            entry = new_entry(
                task_id=run.id,
                app=app.name,
                template=name,
                nominal=run.due,
                due=run.due,
                created=now,
                flow_run_id=run.id,
            )
        with app.engine().begin() as connection:
            versions.require(connection, "the app's database")
            transitions.enter(connection, replace(entry, dirty=True))
    return Outcome("ended", "skipped", broken(name, why))


def broken(name: str, why: str) -> str:
    """Why a flow run does nothing; another flow run follows it."""
    return f"not run: {name} is broken, its tasks wait until it is mended (`jittask check`): {why}"


def begin(
    app: App,
    database: str,
    template: Meta,
    entry: Entry,
    owner: str,
    run: Run,
    clock: Clock,
    sleep: Callable[[float], None],
    end: Callable[[str], object] | None,
    turn: Turn | None,
) -> Entry | Outcome:
    """Claim a task, once it is its turn and there is a slot for it.

    Args:
        app: The app.
        database: Where the task's entry is.
        template: The template.
        entry: The task.
        owner: Who executes it.
        run: The flow run.
        clock: Gives the present instant.
        sleep: Waits; in seconds.
        end: Ends another execution, by its task id; absent it is ended in the ledger.
        turn: Says whether others come first.

    Returns:
        The task, claimed; or how it ended without being run, `queued` in the reason where it is run later.
    """
    task_id, engine, waited = entry.task_id, app.engine(database), 0.0
    twin: str | None = None
    while True:
        wait = (
            turn(database, template, entry)
            if turn is not None and entry.status == "pending"
            else None
        )
        full = Full("queue", wait.reason) if wait else None
        if full is None:
            with engine.begin() as connection:
                if (
                    entry.status == "pending"
                    and (twin := end_twins(connection, entry, clock())) == "done"
                ):
                    break
                if twin == "busy":
                    full = Full(
                        "queue",
                        "another task of the row, due at the same instant, is at work",
                    )
                elif not transitions.claim(
                    connection, task_id, owner, run.id, clock(), LEASE_SECONDS
                ):
                    return _not_run(find_entry(connection, task_id), run.id)
                own, of_app = template.cfg.concurrency, app.cfg.maxConcurrency
                full = full or limits.full(connection, entry, own, of_app, clock())
                if full is None:
                    return find_entry(connection, task_id) or entry
                connection.rollback()
        if full.overlap == "replace":
            for other in full.oldest:
                end(other) if end else _end(app, database, other, clock())
        elif full.overlap == "skip" or waited >= WAIT_SECONDS or (wait and wait.long):
            break
        else:
            sleep(LOOK_SECONDS)
            waited += LOOK_SECONDS
    if twin == "done" or full is None:
        with engine.begin() as connection:  # its flow run is this one, and ends now
            handover_marks.end_shown(connection, [task_id])
        next_of_row(app, database, entry, clock())
        return Outcome("ended", "superseded", f"superseded: {DONE}")
    with engine.begin() as connection:
        if full.overlap == "queue" and limits.queue(
            connection, full, entries.c.task_id == task_id
        ):
            return Outcome("ended", "skipped", f"not run: queued: {full.reason}")
        why = f"not run: {full.reason}"
        transitions.end(
            connection,
            task_id,
            outcome="skipped",
            message=why,
            now=clock(),
            dirty=False,
        )
    if after_return(app, database, task_id):
        next_of_row(app, database, entry, clock())
    return Outcome("ended", "skipped", why)


def _not_run(found: Entry | None, run_id: str) -> Outcome:
    """Why a task is not claimed; where it is completed, so is each flow run of it (Retry in the UI)."""
    status = found.status if found else "gone"
    message = f" ({found.message})" if found and found.message else ""
    if found and found.status == "completed":
        if found.flow_run_id != run_id:
            return Outcome(
                "completed", "skipped", "nothing ran: the task was completed before"
            )
        result = None if found.result is None else from_json(found.result)
        return Outcome(
            "completed",
            "skipped",
            "nothing ran: this run has completed the task before",
            result,
        )
    return Outcome("ended", "skipped", f"not run: the task is {status}{message}")


def _end(app: App, database: str, task_id: str, now: datetime) -> None:
    with app.engine(database).begin() as connection:
        transitions.end(
            connection,
            task_id,
            outcome="forced",
            message=REPLACED,
            now=now,
            within=OPEN,
        )
    after_return(app, database, task_id)
