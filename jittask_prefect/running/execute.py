"""One execution: claim → fresh row → re-check → function → its changes and the completion in one commit → afterReturn.

Whoever runs it (a flow run, a test, `jittask run`) calls `execute`. Nothing here knows Prefect.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from jittask_prefect.elements.app import App
from jittask_prefect.elements.row_session import RowTransaction, row_session
from jittask_prefect.elements.types import DateFieldType, Meta, Task
from jittask_prefect.errors import JittaskError
from jittask_prefect.ledger import planned_rows, transitions
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.keys import as_text
from jittask_prefect.rows import scan
from jittask_prefect.rows.plan import NOT_MET, stands
from jittask_prefect.running.attempt_thread import Lane
from jittask_prefect.running.begin import (
    TAKEN,
    Outcome,
    Run,
    begin,
    entered,
    locate,
    put_off,
)
from jittask_prefect.running.lease import Clock, Hold, kept, me
from jittask_prefect.running.order import Turn
from jittask_prefect.running.parameters import asked
from jittask_prefect.running.task import (
    after_return,
    call,
    next_of_row,
    plan_next,
    task_of,
)
from jittask_prefect.warm import leaks

__all__ = [
    "Attempt",
    "Outcome",
    "Run",
    "after_return",
    "call",
    "execute",
    "locate",
    "me",
    "next_of_row",
    "task_of",
]

EARLY_SECONDS = (
    15.0  # the worker's prefetch and some; what is earlier somebody started by hand
)
log = logging.getLogger("jittask")
Finish = Callable[..., bool]


class RefusedError(JittaskError):
    """The execution was ended, or is somebody else's: nothing of it may commit."""


class Ended(Exception):
    """Nothing runs: the task ends with this outcome and message."""

    def __init__(self, outcome: str, message: str, *, moved: bool = False) -> None:
        super().__init__(message)
        self.outcome, self.message, self.moved = outcome, message, moved


def execute(
    app: App,
    name: str,
    task_id: str | None,
    run: Run,
    clock: Clock,
    *,
    lost: Callable[[], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    end: Callable[[str], object] | None = None,
    turn: Turn | None = None,
) -> Outcome:
    """Run one task, at most once for its identity.

    Args:
        app: The app.
        name: The template's full name.
        task_id: The ledger entry; absent for a run that the template's own schedule, or a person, made.
        run: The flow run.
        clock: Gives the present instant.
        lost: Called from another thread when the execution was ended or taken over: it must end the process.
        sleep: Waits between retries, for a slot, and for the due time where the run began a moment early; in seconds.
        end: Ends another execution that this one replaces, by its task id, and returns once its process is gone; absent
            it is ended in the ledger, which its process looks at each second.
        turn: Asked before the task is claimed, with its database: whether it has to wait for others.

    Returns:
        How it ended. A function's failure is an outcome, never an exception.

    Raises:
        ArgumentError: A task of rows, and no task id.
        UnknownTask: There is no task of that id, or it is another template's: nothing runs.
    """
    owner = me()
    template = asked(app, name, task_id).template
    known = locate(app, task_id) if task_id is not None else None
    if (
        task_id is not None or run.auto
    ):  # a person who asks for a run is told at once, by its error
        fault = app.fault(name, known[1].func_name if known else None)
        if fault is not None:
            return put_off(app, name, task_id, run, clock(), fault.reason)
    template = template or app.template(name)
    database, entry = entered(app, template, task_id, known, run, clock())
    early = (entry.due - clock()).total_seconds()
    if 0 < early <= EARLY_SECONDS:
        sleep(
            early
        )  # Prefect starts runs up to half a second before their time; a task is never early
    since = time.monotonic()
    begun = begin(app, database, template, entry, owner, run, clock, sleep, end, turn)
    if isinstance(begun, Outcome):
        return begun
    entry = begun
    with kept(app, database, owner, clock, lost, since) as hold, Lane() as lane:
        hold.on(entry.task_id)
        outcome = _attempts(
            app, database, template, entry, owner, clock, sleep, hold, lane
        )
        hold.off()
    after_return(app, database, entry.task_id)
    if outcome.status == "error":
        next_of_row(app, database, entry, clock())
    return outcome


def _attempts(
    app: App,
    database: str,
    template: Meta,
    entry: Entry,
    owner: str,
    clock: Clock,
    sleep: Callable[[float], None],
    hold: Hold,
    lane: Lane,
) -> Outcome:
    while True:
        attempt = Attempt(app, database, template, entry, owner, clock, hold, lane)
        outcome = attempt.run()
        if outcome is None:
            return TAKEN
        if outcome.status != "error":
            return outcome
        if not attempt.again(outcome):
            return outcome if attempt.failed(outcome) else TAKEN
        sleep(template.cfg.retryDelay)
        if not attempt.next():
            return TAKEN
        entry = attempt.entry


class Attempt:
    """One attempt, in another thread so that it can be waited for with a time limit.

    Args:
        app: The app.
        database: Where the task's entry is.
        template: The template.
        entry: The task, claimed.
        owner: Who has claimed it.
        clock: Gives the present instant.
        hold: Is told before the task is ended.
        lane: The thread.
        finish: Records the end of the task, as `transitions.finish` does.
        transaction: For a row's session, which nobody else uses meanwhile; absent one of its own.
    """

    def __init__(
        self,
        app: App,
        database: str,
        template: Meta,
        entry: Entry,
        owner: str,
        clock: Clock,
        hold: Hold,
        lane: Lane,
        finish: Finish = transitions.finish,
        transaction: RowTransaction | None = None,
    ) -> None:
        self.app, self.database, self.template, self.entry = (
            app,
            database,
            template,
            entry,
        )
        self.owner, self.clock, self.hold, self._finish = owner, clock, hold, finish
        self.lane, self.shared, self.transaction = lane, transaction, transaction
        self.outcome: Outcome | None = None
        self.gate = threading.Lock()
        self.given_up = self.settled = False

    def run(self) -> Outcome | None:
        """The outcome; None where the execution was taken away meanwhile."""
        timeout = self.template.cfg.timeout
        done = self.lane.start(self._target, f"jittask {self.entry.task_id}")
        if not done.wait(timeout):
            with self.gate:
                self.given_up = not self.settled
            if self.given_up:
                if self.transaction is not None:
                    self.transaction.given_up = True
                self._roll_back(self.lane.ident)
                self.lane.leave()
                return Outcome(
                    "error", "timeout", f"error: still running after {timeout:g} s"
                )
            done.wait()
        return self.outcome

    def again(self, outcome: Outcome) -> bool:
        """Whether a failed attempt is to be followed by another."""
        if self.entry.attempt > self.template.cfg.retries:
            return False
        self.hold.settling.clear()
        delay = self.template.cfg.retryDelay
        said = (self.template.fullName, self.entry.attempt, outcome.message, delay)
        log.warning("%s: attempt %d failed (%s); again in %g s", *said)
        return True

    def next(self) -> bool:
        """Count one attempt more; False: the task is no longer this execution's."""
        attempt = self.entry.attempt + 1
        with self.app.engine(self.database).begin() as connection:
            if not transitions.next_attempt(
                connection, self.entry.task_id, self.owner, attempt
            ):
                return False
        self.entry = replace(self.entry, attempt=attempt)
        return True

    def failed(self, outcome: Outcome) -> bool:
        """Record that the last attempt failed; False: the task is no longer this execution's."""
        self.hold.settling.set()
        with self.app.engine(self.database).begin() as connection:
            return self.finish(connection, outcome)

    @contextmanager
    def _settle(self) -> Iterator[None]:
        """Where the end of the task is written and committed: entered before the time is up, or not at all."""
        with self.gate:
            if self.given_up:
                raise RefusedError
            self.hold.settling.set()
            yield
            self.settled = True

    def _roll_back(self, thread: int | None) -> None:
        """Take the database away from a function that does not return, so that nothing of it commits or locks."""
        try:
            row: Any = self.transaction and self.transaction.raw.driver_connection
            for raw in {
                id(one): one
                for one in (row, *leaks.of_thread(thread))
                if one is not None
            }.values():
                # A driver that is waiting for an answer would keep the rollback waiting too (sqlite3, psycopg).
                for name in ("interrupt", "cancel"):
                    getattr(raw, name, lambda: None)()
                raw.rollback()
        except Exception as error:  # noqa: BLE001  drivers have errors of their own, and the function is at work meanwhile
            log.warning(
                "the transaction of %s could not be rolled back: %s",
                self.entry.task_id,
                error,
            )

    def _target(self) -> None:
        try:
            self.outcome = self._row() if self.entry.row_key else self._scheduled()
        except RefusedError:
            self.outcome = None
        except BaseException as error:
            log.error("%s failed", self.template.fullName, exc_info=error)
            self.outcome = Outcome(
                "error",
                "failed",
                f"error: {type(error).__name__}: {_said(error)}"[:2000],
            )

    def finish(self, connection: Connection, outcome: Outcome) -> bool:
        """Write how the task ended; False: it is no longer this execution's."""
        return self._finish(
            connection,
            self.entry.task_id,
            self.owner,
            status=outcome.status,
            outcome=outcome.outcome,
            message=outcome.message,
            result=outcome.result,
            now=self.clock(),
            returned=type(self.template).afterReturn is Meta.afterReturn,
        )

    def _task(self, row: Any = None) -> Task:
        return task_of(self.app, self.template, self.entry, row)

    def _scheduled(self) -> Outcome:
        template, entry = self.template, self.entry
        try:
            if entry.func_name is None and entry.nominal is not None:
                self._recheck_scheduled()
            outcome = Outcome(
                "completed", "completed", "", call(template, self._task())
            )
        except Ended as end:
            outcome = Outcome("ended", end.outcome, end.message)
        with self._settle(), self.app.engine(self.database).begin() as connection:
            if not self.finish(connection, outcome):
                raise RefusedError
        return outcome

    def _recheck_scheduled(self) -> None:
        template, entry = self.template, self.entry
        if not template.enable:
            raise Ended("superseded", "ended: the task is disabled")
        if type(template).getNextRunTime is not Meta.getNextRunTime:
            return  # the Type decides when, not the timer
        series = template.series()
        if series is None or series.due_at(entry.due) is None:
            raise Ended("superseded", "ended: no longer an occurrence of the schedule")
        self._missed(series)

    def _missed(self, series: Any) -> None:
        missed, now = self.template.cfg.missed, self.clock()
        known = (
            max(self.entry.due, self.entry.created)
            if self.entry.row_key
            else self.entry.due
        )
        if now - known <= timedelta(seconds=missed.grace) or self.entry.attempt > 1:
            return
        if missed.policy == "none":
            raise Ended(
                "missed",
                f"missed: {(now - known).total_seconds():.0f} s late, and missed.policy is none",
            )
        later = series.next(self.entry.due)
        if missed.policy == "latest" and later is not None and later.due <= now:
            raise Ended("missed", "missed: a later occurrence is due too")

    def _row(self) -> Outcome:
        template, entry = self.template, self.entry
        assert isinstance(template, DateFieldType)
        moved, row = False, None
        with row_session(self.app.engine(self.database), self.shared) as session:
            self.transaction = session.row_transaction
            try:
                row = scan.load(session, template, entry.row_key)
                self._recheck_row(template, row)
                outcome = Outcome(
                    "completed", "completed", "", call(template, self._task(row))
                )
            except Ended as end:
                moved = end.moved
                outcome = Outcome("ended", end.outcome, end.message)
            session.flush()
            with self._settle():
                if not self.finish(session.connection(), outcome):
                    raise RefusedError
                if outcome.outcome == "superseded":
                    of = (
                        self.app.row_templates(template.model_name)
                        if row is None
                        else [template]
                    )
                    rows = [(each.fullName, entry.row_key) for each in of]
                    (
                        planned_rows.end_lives
                        if row is None
                        else planned_rows.forget_dates
                    )(session.connection(), self.app.name, rows)
                if moved or template.timer.cfg.repeat.repeat_type != "normal":
                    # A date that the function itself has changed its save has planned.
                    plan_next(
                        self.app,
                        session,
                        template,
                        entry.row_key,
                        self.clock(),
                        moved=moved,
                    )
                session.finish()
        return outcome

    def _recheck_row(self, template: DateFieldType, row: Any) -> None:
        if row is None:
            raise Ended("superseded", "superseded: the row is gone")
        if not template.enable:
            raise Ended("superseded", "ended: the task is disabled")
        series = template.series(row)
        if series is None or not template.filter.matches(
            row, self.clock(), template.timer.zone
        ):
            raise Ended("superseded", f"superseded: {NOT_MET}")
        if not stands(self.entry, series):
            # A change that no hook saw: what the row's date has become is planned now.
            raise Ended(
                "superseded",
                "superseded: the row's date is another one now",
                moved=True,
            )
        self._missed(series)


def _said(error: BaseException) -> str:
    try:
        return as_text(str(error))
    except Exception:  # noqa: BLE001  an exception's own `__str__` may raise anything
        return "(its message cannot be shown)"
