"""One execution: claim → fresh row → re-check → function → its changes and the completion in one commit → afterReturn.

Whoever runs it (a flow run, a test, `jittask run`) calls `execute`. Nothing here knows Prefect.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError

from ..elements.app import _ROW_SESSION, DEFAULT, App, RowSession
from ..elements.types import DateFieldType, Meta, Task
from ..errors import JittaskError, UnknownTask
from ..rows import hooks, ledger, scan
from ..rows.ledger import Entry, entries
from ..rows.plan import NOT_MET, Action

LEASE_SECONDS = 25.0
LOOK_SECONDS = 1.0
RENEW_SECONDS = 5.0
log = logging.getLogger("jittask")
Clock = Callable[[], datetime]


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


TAKEN = Outcome("ended", "forced", "ended: the execution is no longer this worker's")


class RefusedError(JittaskError):
    """The execution was ended, or is somebody else's: nothing of it may commit."""


class Ended(Exception):
    """Nothing runs: the task ends with this outcome and message."""

    def __init__(self, outcome: str, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.message = message


def me() -> str:
    """Who executes: host, process, and a token that no other execution has."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:12]}"


def locate(app: App, task_id: str) -> tuple[str, Entry] | None:
    """The database and the entry of a task id, or of a flow run's id, in any database of the app."""
    for database in app.databases():
        with app.engine(database).connect() as connection:
            ledger.require(connection, database or "the app's database")
            entry = ledger.find(connection, task_id)
        if entry is not None:
            return database, entry
    return None


def execute(
    app: App,
    name: str,
    task_id: str | None,
    run: Run,
    clock: Clock,
    *,
    lost: Callable[[], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Run one task, at most once for its identity.

    Args:
        app: The app.
        name: The template's full name.
        task_id: The ledger entry; absent for a run that the template's own schedule, or a person, made.
        run: The flow run.
        clock: Gives the present instant.
        lost: Called from another thread when the execution was ended or taken over: it must end the process.
        sleep: Waits between retries, in seconds.

    Returns:
        How it ended. A function's failure is an outcome, never an exception.
    """
    owner = me()
    template = app.template(name)
    database, entry = _entry(app, template, task_id, run, clock())
    with app.engine(database).begin() as connection:
        if not ledger.claim(connection, entry.task_id, owner, clock(), LEASE_SECONDS):
            found = ledger.find(connection, entry.task_id)
            status = found.status if found else "gone"
            return Outcome(
                "ended",
                "skipped",
                f"not run: the task is {status}" + (f" ({found.message})" if found and found.message else ""),
            )
        entry = ledger.find(connection, entry.task_id) or entry
    with _kept(app, database, entry, owner, clock, lost):
        outcome = _attempts(app, database, template, entry, owner, clock, sleep)
    after_return(app, database, entry.task_id)
    return outcome


def _entry(app: App, template: Meta, task_id: str | None, run: Run, now: datetime) -> tuple[str, Entry]:
    """The ledger entry of the execution; one is made for a run of the schedule, or of a person."""
    if task_id is not None:
        found = locate(app, task_id)
        if found is None:
            raise UnknownTask(f"there is no task {task_id!r} in the ledger")
        return found
    nominal = None
    if run.auto:
        series = template.series()
        occurrence = series.contains(run.due) if series else None
        nominal = occurrence.nominal if occurrence else run.due
    entry = Entry(
        task_id=run.id,
        template=template.fullName,
        nominal=nominal,
        due=run.due,
        created=now,
        flow_run_id=run.id,
        dirty=False,
    )
    with app.engine().begin() as connection:
        ledger.require(connection, "the app's database")
        if not ledger.insert_once(connection, entries, entry.model_dump()) and ledger.find(connection, run.id) is None:
            # The unique identity is taken: another run has this occurrence. It stands in the records, apart.
            twin = entry.model_dump() | {
                "nominal": None,
                "status": "ended",
                "outcome": "skipped",
                "returned": True,
                "finished": now,
            }
            twin["message"] = "not run: another run has this occurrence"
            ledger.insert_once(connection, entries, twin)
    return DEFAULT, entry


def _attempts(
    app: App, database: str, template: Meta, entry: Entry, owner: str, clock: Clock, sleep: Callable[[float], None]
) -> Outcome:
    cfg = template.cfg
    for attempt in count(entry.attempt):
        outcome = _Worker(app, database, template, entry, owner, clock).run(cfg.timeout)
        if outcome is None:
            return TAKEN
        if outcome.status != "error":
            return outcome
        if attempt > cfg.retries:
            failed = {"status": "error", "outcome": outcome.outcome, "message": outcome.message}
            with app.engine(database).begin() as connection:
                mine = ledger.finish(connection, entry.task_id, owner, **failed, result=None, now=clock())
            return outcome if mine else TAKEN
        log.warning(
            "%s: attempt %d failed (%s); again in %g s", template.fullName, attempt, outcome.message, cfg.retryDelay
        )
        sleep(cfg.retryDelay)
        with app.engine(database).begin() as connection:
            connection.execute(update(entries).where(entries.c.task_id == entry.task_id).values(attempt=attempt + 1))
    raise AssertionError("unreachable")


class _Worker:
    """One attempt, in a thread of its own so that it can be waited for with a time limit."""

    def __init__(self, app: App, database: str, template: Meta, entry: Entry, owner: str, clock: Clock) -> None:
        self.app, self.database, self.template, self.entry, self.owner, self.clock = (
            app,
            database,
            template,
            entry,
            owner,
            clock,
        )
        self.outcome: Outcome | None = None
        self.session: RowSession | None = None

    def run(self, timeout: float) -> Outcome | None:
        """The outcome; None where the execution was taken away meanwhile."""
        context = copy_context()
        thread = threading.Thread(
            target=context.run, args=(self._target,), name=f"jittask {self.entry.task_id}", daemon=True
        )
        thread.start()
        thread.join(timeout)
        if thread.is_alive():
            self._roll_back()
            return Outcome("error", "timeout", f"error: still running after {timeout:g} s")
        return self.outcome

    def _roll_back(self) -> None:
        """Take the database away from a function that does not return, so that nothing of it commits or locks."""
        if self.session is None:
            return
        try:
            raw: Any = self.session.connection().connection.driver_connection
            raw.rollback()
        except (SQLAlchemyError, OSError, RuntimeError) as error:
            log.warning("the transaction of %s could not be rolled back: %s", self.entry.task_id, error)

    def _target(self) -> None:
        try:
            self.outcome = self._row() if self.entry.row_key else self._scheduled()
        except RefusedError:
            self.outcome = None
        except Ended as end:
            self.outcome = self._end(end)
        except BaseException as error:
            log.error("%s failed", self.template.fullName, exc_info=error)
            self.outcome = Outcome("error", "failed", f"error: {type(error).__name__}: {error}"[:2000])

    def _end(self, end: Ended) -> Outcome | None:
        with self.app.engine(self.database).begin() as connection:
            mine = ledger.finish(
                connection,
                self.entry.task_id,
                self.owner,
                status="ended",
                outcome=end.outcome,
                message=end.message,
                result=None,
                now=self.clock(),
            )
        return Outcome("ended", end.outcome, end.message) if mine else None

    def _task(self, row: Any = None) -> Task:
        return task_of(self.app, self.template, self.entry, row)

    def _scheduled(self) -> Outcome:
        template, entry = self.template, self.entry
        if entry.func_name is None and entry.nominal is not None:
            self._recheck_scheduled()
        result = call(template, self._task())
        with self.app.engine(self.database).begin() as connection:
            self._complete(connection, result)
        return Outcome("completed", "completed", "", result)

    def _recheck_scheduled(self) -> None:
        template, entry = self.template, self.entry
        if not template.enable:
            raise Ended("superseded", "ended: the task is disabled")
        if type(template).getNextRunTime is not Meta.getNextRunTime:
            return  # the Type decides when, not the timer
        series = template.series()
        if series is None or series.contains(entry.due) is None:
            raise Ended("superseded", "ended: no longer an occurrence of the schedule")
        self._missed(series)

    def _missed(self, series: Any) -> None:
        missed, now = self.template.cfg.missed, self.clock()
        known = max(self.entry.due, self.entry.created) if self.entry.row_key else self.entry.due
        if now - known <= timedelta(seconds=missed.grace) or self.entry.attempt > 1:
            return
        if missed.policy == "none":
            raise Ended("missed", f"missed: {(now - known).total_seconds():.0f} s late, and missed.policy is none")
        later = series.next(self.entry.due)
        if missed.policy == "latest" and later is not None and later.due <= now:
            raise Ended("missed", "missed: a later occurrence is due too")

    def _row(self) -> Outcome:
        template, entry = self.template, self.entry
        assert isinstance(template, DateFieldType)
        with RowSession(self.app.engine(self.database), expire_on_commit=False) as session:
            self.session = session
            token = _ROW_SESSION.set(session)
            try:
                row = scan.load(session, template, entry.row_key)
                self._recheck_row(session, template, row)
                result = call(template, self._task(row))
                session.flush()
                self._complete(session.connection(), result)
                if row in session and row not in session.deleted:
                    # What comes next for this row; a save of the row in the function has planned it already.
                    hooks.save_row(self.app, session.connection(), row, template.model_name, self.clock(), moved=False)
                session.finish()
            finally:
                _ROW_SESSION.reset(token)
                self.session = None
        return Outcome("completed", "completed", "", result)

    def _recheck_row(self, session: RowSession, template: DateFieldType, row: Any) -> None:
        entry = self.entry
        if row is None:
            raise Ended("superseded", "superseded: the row is gone")
        if not template.enable:
            raise Ended("superseded", "ended: the task is disabled")
        series = template.series(row)
        occurrence = series.contains(entry.due) if series else None
        same = occurrence is not None and occurrence.nominal == entry.nominal
        if series is None or not template.filter.matches(row, self.clock(), template.timer.zone):
            raise Ended("superseded", f"superseded: {NOT_MET}")
        if not same:
            self._replan(session, template, row)
            raise Ended("superseded", "superseded: the row's date is another one now")
        self._missed(series)

    def _replan(self, session: RowSession, template: DateFieldType, row: Any) -> None:
        """A change that no hook saw: what the row's date has become is planned now."""
        hooks.save_row(self.app, session.connection(), row, template.model_name, self.clock())
        session.finish()

    def _complete(self, connection: Any, result: Any) -> None:
        done = ledger.finish(
            connection,
            self.entry.task_id,
            self.owner,
            status="completed",
            outcome="completed",
            message="",
            result=result,
            now=self.clock(),
        )
        if not done:
            raise RefusedError


def task_of(
    app: App, template: Meta, entry: Entry, row: Any = None, status: str = "executing", result: Any = None
) -> Task:
    """The `task` that the methods of a Type see."""
    arguments = json.loads(entry.arg_dict) if entry.arg_dict else dict(template.cfg.argDict)
    due = entry.due.astimezone(template.timer.zone)
    shown = entry.flow_run_id if not entry.row_key and entry.flow_run_id else entry.task_id
    return Task(shown, template.fullName, template.taskType, arguments, due, status, row, result, entry.func_name)


def call(template: Meta, task: Task) -> Any:
    """Call a Type's `handle`, and wait for what an async function gives."""
    result = template.handle(task)
    if inspect.isawaitable(result):

        async def wait() -> Any:
            return await result

        result = asyncio.run(wait())
    task.result = result
    return result


@contextmanager
def _kept(
    app: App, database: str, entry: Entry, owner: str, clock: Clock, lost: Callable[[], None] | None
) -> Iterator[None]:
    """Renew the lease while the execution runs, and notice when it was ended."""
    stop = threading.Event()

    def keep() -> None:
        renewed = clock()
        while not stop.wait(LOOK_SECONDS):
            try:
                if (clock() - renewed).total_seconds() >= RENEW_SECONDS:
                    with app.engine(database).begin() as connection:
                        mine = ledger.renew(connection, entry.task_id, owner, clock(), LEASE_SECONDS)
                    renewed = clock()
                else:
                    with app.engine(database).connect() as connection:
                        query = select(entries.c.owner).where(
                            entries.c.task_id == entry.task_id, entries.c.status == "executing"
                        )
                        mine = connection.execute(query).scalar() == owner
            except SQLAlchemyError as error:
                # SQLite: the function's own transaction holds the lock, which also keeps everybody else out.
                lite = app.engine(database).dialect.name == "sqlite"
                mine = lite or (clock() - renewed).total_seconds() < LEASE_SECONDS
                log.debug("lease of %s not renewed: %s", entry.task_id, error)
            if not mine and not stop.is_set() and lost is not None:
                lost()
                return

    thread = threading.Thread(target=keep, name="jittask-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=2)


def after_return(app: App, database: str, task_id: str) -> bool:
    """Call the Type's `afterReturn` once for a task that has ended; whether this call did."""
    with app.engine(database).begin() as connection:
        if not ledger.take_return(connection, task_id):
            return False
        entry = ledger.find(connection, task_id)
    assert entry is not None
    result = json.loads(entry.result) if entry.result is not None else entry.message or None
    try:
        template = app.template(entry.template)
        template.afterReturn(task_of(app, template, entry, None, entry.status, result))
    except Exception:
        log.exception("afterReturn of %s failed", entry.template)
    return True


def next_of_row(app: App, database: str, entry: Entry, now: datetime) -> list[Action]:
    """Plan what comes next for the row of a task that was ended from outside."""
    template = app.template(entry.template)
    if not entry.row_key or not isinstance(template, DateFieldType):
        return []
    with RowSession(app.engine(database)) as session:
        row = scan.load(session, template, entry.row_key)
        if row is None:
            return []
        actions = hooks.save_row(app, session.connection(), row, template.model_name, now, moved=False)
        session.finish()
    return [a for a in actions if a.action != "skip"]
