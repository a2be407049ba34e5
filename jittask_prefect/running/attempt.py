"""An attempt of a call: fresh rows → re-check → function → its changes and the tasks' ends in one commit."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from sqlmodel import Session

from jittask_prefect.elements.row_session import (
    RowSession,
    RowTransaction,
    row_session,
)
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import JittaskError
from jittask_prefect.ledger import planned_rows
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.keys import as_text
from jittask_prefect.rows.due_rows import DueRow, due_row, due_rows, load_row
from jittask_prefect.rows.level_tasks import stands
from jittask_prefect.rows.plan import NOT_MET
from jittask_prefect.rows.row_reading import Unreadable
from jittask_prefect.running import spans
from jittask_prefect.running.attempt_thread import AttemptThread
from jittask_prefect.running.calls import Call, End, Work
from jittask_prefect.running.event_loop import ANSWER_SECONDS, EventLoop
from jittask_prefect.running.function import call_function, plan_next, task_of
from jittask_prefect.running.outcome import Outcome
from jittask_prefect.schedule.timer import Series
from jittask_prefect.warm import leaks

# The re-check at the due moment


def _superseded(why: str) -> Outcome:
    return Outcome("ended", "superseded", why)


DISABLED = _superseded("ended: the task is disabled")
ANOTHER_DATE = _superseded("superseded: the row's date is another one now")
"""A change that no hook saw: the row is planned anew."""


def check_scheduled(template: Meta, entry: Entry, now: datetime) -> Outcome | None:
    """Why a run of the schedule does not call its function; None: the function is called."""
    if entry.func_name is not None or entry.nominal is None:
        return None  # outside the schedule: a person's run, or `createTimerTask`
    if not template.enable:
        return DISABLED
    if type(template).getNextRunTime is not Meta.getNextRunTime:
        return None  # the Type decides when, not the timer
    series = template.series()
    if series is None or series.due_at(entry.due) is None:
        return _superseded("ended: no longer an occurrence of the schedule")
    return _missed(template, entry, series, entry.late_from, now)


def check_row(
    template: DateFieldType, entry: Entry, found: DueRow | None, now: datetime
) -> Outcome | None:
    """Why the task of a row does not call its function; None: the function is called.

    Args:
        template: The task's template.
        entry: The task.
        found: The row as the database has the row; None: no row.
        now: The present instant.
    """
    if found is None:
        return _superseded("superseded: the row is gone")
    if entry.outside_schedule:
        return None  # a person named the row, whatever its date and the filter say
    if not template.enable:
        return DISABLED
    if found.series is None:
        return _superseded(f"superseded: {NOT_MET}")
    if not stands(entry, found.series):
        return ANOTHER_DATE
    known = max(entry.late_from, entry.created)
    return _missed(template, entry, found.series, known, now)


def _missed(
    template: Meta, entry: Entry, series: Series, known: datetime, now: datetime
) -> Outcome | None:
    """Whether `missed` ends an attempt: a first one that begins later than `grace` allows, or one that waited for an opening."""
    missed, seconds = template.cfg.missed, (now - known).total_seconds()
    opening, again = entry.not_before, entry.attempt > 1
    if opening is None and (again or seconds <= missed.grace):
        return None
    if missed.policy == "none" and seconds > missed.grace and not again:
        why = f"missed: {seconds:.0f} s late, and missed.policy is none"
        return Outcome("ended", "missed", why)
    later = series.next(entry.due) if missed.policy == "latest" else None
    if later is not None and later.due <= (opening if again and opening else now):
        return Outcome("ended", "missed", "missed: a later occurrence is due too")
    return None


# The attempt


Ends = Sequence[End]
log = logging.getLogger("jittask")


class RefusedError(JittaskError):
    """The task was ended, or belongs to another execution: nothing of it may commit."""


@dataclass(frozen=True)
class _Checked:
    """A task with its row as the database has it, and the reason not to call the function."""

    entry: Entry
    found: DueRow | None
    why: Outcome | None

    def outcome(self, result: Any) -> Outcome:
        return self.why or Outcome("completed", "completed", "", result)

    @property
    def is_superseded(self) -> bool:
        """Whether the row is there, and its task is not due any more."""
        superseded = self.why is not None and self.why.outcome == "superseded"
        return superseded and self.found is not None

    @property
    def has_moved(self) -> bool:
        return self.why is ANOTHER_DATE

    @property
    def goes_on(self) -> bool:
        """Whether the row may have another occurrence to be planned."""
        unread = self.why is not None and self.why.status == "error"
        if self.entry.outside_schedule or unread:
            return False  # the row's occurrences stay as they are, or are planned by themselves
        series = self.found.series if self.found is not None else None
        ends = series is not None and series.next(self.entry.due) is None
        return self.has_moved or not ends


def _checked(
    template: DateFieldType,
    entry: Entry,
    found: DueRow | Unreadable | None,
    now: datetime,
) -> _Checked:
    if isinstance(found, Unreadable):
        # The other rows of the digest can do without.
        message = f"error: the row cannot be read: {found.why}"[:2000]
        unread = DueRow(None, None)
        return _Checked(entry, unread, Outcome("error", "failed", message))
    return _Checked(entry, found, check_row(template, entry, found, now))


class Attempt:
    """An attempt of a call, in a thread that is left behind where the time limit is over.

    Args:
        work: The flow run's app, template and clock.
        call: The tasks, claimed.
        finish: Records the tasks' ends; False: a task is no longer this execution's.
        settling: Set before the end of the tasks is written: from then on the lease's
            watch does not take them for lost.
        transaction: The executor's connection for rows; absent the attempt takes one.
        loop: The event loop of async functions; absent the function has its own.
        goes_on: Whether the transaction's next row follows at once; asked after `finish`.

    Attributes:
        begun: The moment of its begin, in seconds of the monotonic clock.
        given_up: The time limit was over before the end of the tasks was written.
        error: The error of the function, or of the commit.
        failed: The function, or the commit, failed or took too long: nothing of the call has committed.
    """

    def __init__(
        self,
        work: Work,
        call: Call,
        finish: Callable[[Connection, Ends], bool],
        settling: threading.Event,
        transaction: RowTransaction | None = None,
        loop: EventLoop | None = None,
        goes_on: Callable[[], bool] = bool,
    ) -> None:
        self._goes_on = goes_on
        self.work, self.call, self.transaction = work, call, transaction
        self.loop = loop
        self.begun = time.monotonic()
        self.given_up = self.failed = False
        self.error: BaseException | None = None
        self._finish, self._settling = finish, settling
        self._gate = threading.Lock()
        self._settled = False
        self._ends: Ends | None = None
        # The tasks that the look at their rows has taken out of the call.
        self._left_out: list[_Checked] = []

    def run(self) -> Ends | None:
        """Run the attempt in this thread, in a copy of this context.

        Returns:
            Each task with its outcome; None where the call was taken away meanwhile, or
            the attempt was given up: then others go on with the list of calls.
        """
        copy_context().run(self._target)
        with self._gate:
            self._settled = True
            return None if self.given_up else self._ends

    def give_up(self, thread: AttemptThread, done: threading.Event) -> Ends | None:
        """Give the attempt up, since its time is over; from another thread.

        Args:
            thread: The thread of the attempt; left behind.
            done: Set once that thread has ended its work.

        Returns:
            Each task with its outcome; None where the attempt has ended, or its end is
            written already.
        """
        with self._gate:
            self.given_up = not self._settled
        if not self.given_up:
            return None
        if not self._cancelled(thread.ident, done):
            self._roll_back(thread.ident)
        thread.leave()
        timeout = self.work.template.cfg.timeout
        message = f"error: still running after {timeout:g} s"
        return self._failure(Outcome("error", "timeout", message))

    def _failure(self, outcome: Outcome) -> Ends:
        """The ends of tasks whose call has failed: those that were not in the call end as the look said."""
        self.failed = True
        why = {each.entry.task_id: each.why for each in self._left_out}
        tasks = self.call.tasks
        return [(entry, why.get(entry.task_id) or outcome) for entry in tasks]

    @contextmanager
    def _settle(self) -> Iterator[None]:
        """The block ends the tasks and commits; begins within the time limit or raises."""
        with self._gate:
            if self.given_up:
                raise RefusedError
            self._settling.set()
            with spans.of("commit", self.work, self.call.tasks):
                yield
            self._settled = True

    def _end(self, connection: Connection, ends: Ends) -> None:
        if not self._finish(connection, ends):
            raise RefusedError

    def _cancelled(self, thread: int | None, done: threading.Event) -> bool:
        """Cancel the coroutine of an async function; whether it has ended, and the attempt with it."""
        if self.transaction is not None:
            self.transaction.given_up = True
        if self.loop is None or not self.loop.cancel(thread):
            return False
        return done.wait(ANSWER_SECONDS)

    def _roll_back(self, thread: int | None) -> None:
        """Roll back the connections of a function that does not return: nothing commits or stays locked."""
        try:
            found = leaks.connections_of_thread(thread)
            found += self.loop.abandon(thread) if self.loop is not None else []
            if self.transaction is not None:
                self.transaction.given_up = True
                found.append(self.transaction.raw.driver_connection)
            for raw in {id(raw): raw for raw in found if raw is not None}.values():
                # sqlite3 and psycopg would wait with the rollback for an answer.
                for name in ("interrupt", "cancel"):
                    getattr(raw, name, lambda: None)()
                raw.rollback()
        except Exception as error:  # noqa: BLE001  drivers have errors of their own
            said = (self.call.name, error)
            log.warning("%s: its transaction could not be rolled back: %s", *said)

    def _target(self) -> None:
        try:
            rows = bool(self.call.tasks[0].row_key)
            self._ends = self._rows() if rows else self._scheduled()
        except RefusedError:
            self._ends = None
        except BaseException as error:
            self.error = error
            if self.given_up:  # nobody waits for this error any more
                log.error("%s failed", self.call.name, exc_info=error)
            message = f"error: {type(error).__name__}: {_text_of(error)}"[:2000]
            self._ends = self._failure(Outcome("error", "failed", message))

    def _scheduled(self) -> Ends:
        work, [entry] = self.work, self.call.tasks
        outcome = check_scheduled(work.template, entry, work.clock())
        if outcome is None:
            result = self._called([entry])
            outcome = Outcome("completed", "completed", "", result)
        ends, engine = [(entry, outcome)], work.app.engine(work.database)
        with self._settle(), engine.begin() as connection:
            self._end(connection, ends)
        return ends

    def _rows(self) -> Ends:
        template = self.work.template
        assert isinstance(template, DateFieldType)
        engine = self.work.app.engine(self.work.database)
        with row_session(engine, self._own()) as session:
            checked = self._look(session, template)
            self._left_out = [each for each in checked if each.why is not None]
            result = self._call([each for each in checked if each.why is None])
            ends = [(each.entry, each.outcome(result)) for each in checked]
            session.flush()
            with self._settle():
                self._end(session.connection(), ends)
                self._plan(session, template, checked)
                session.row_transaction.goes_on = self._goes_on()
                session.finish()
        return ends

    def _look(self, session: RowSession, template: DateFieldType) -> list[_Checked]:
        """Look at the rows of the call's tasks."""
        now, tasks = self.work.clock(), self.call.tasks
        if template.cfg.digest is not None and not tasks[0].outside_schedule:
            keys = [entry.row_key for entry in tasks]
            rows = due_rows(session, template, keys, now)
            return [_checked(template, e, rows[e.row_key], now) for e in tasks]
        [entry] = tasks
        if entry.outside_schedule:
            row = load_row(session, template, entry.row_key)
            found = DueRow(row, None) if row is not None else None
        else:
            found = due_row(session, template, entry.row_key, now)
        return [_checked(template, entry, found, now)]

    def _call(self, ready: list[_Checked]) -> Any:
        """Call the function with the rows that are still due, unless there are none."""
        if not ready:
            return None
        template = self.work.template
        rows = [each.found and each.found.row for each in ready]
        argument = rows if template.cfg.digest is not None else rows[0]
        return self._called([each.entry for each in ready], argument)

    def _called(self, tasks: Sequence[Entry], row: Any = None) -> Any:
        template = self.work.template
        with spans.of("function", self.work, tasks):
            return call_function(template, task_of(template, tasks[0], row), self.loop)

    def plan_left_out(self, session: Session) -> None:
        """After a failure: plan the rows that were not in the call, in the transaction that ends their tasks."""
        if self._left_out:
            template = self.work.template
            assert isinstance(template, DateFieldType)
            self._plan(session, template, self._left_out)

    def _plan(
        self, session: Session, template: DateFieldType, checked: Sequence[_Checked]
    ) -> None:
        """Plan the rows' next occurrences, in the transaction that ends the present ones."""
        if not any(e.found is None or e.is_superseded or e.goes_on for e in checked):
            return
        app, connection = self.work.app, session.connection()
        gone = [each.entry.row_key for each in checked if each.found is None]
        templates = app.row_templates(template.model_name) if gone else ()
        ended = [(other.fullName, key) for key in gone for other in templates]
        planned_rows.end_lives(connection, app.name, ended)
        left = [each for each in checked if each.is_superseded]
        rows = [(template.fullName, each.entry.row_key) for each in left]
        planned_rows.forget_dates(connection, app.name, rows)
        # The save of a function that changes its row's date has planned the row.
        again = {e.entry.row_key: e.has_moved for e in checked if e.goes_on}
        plan_next(app, session, template, again, self.work.clock())

    def _own(self) -> RowTransaction:
        """The connection for rows; taken within the time limit, or given back."""
        made = self.transaction or RowTransaction(
            self.work.app.engine(self.work.database)
        )
        with self._gate:
            if self.given_up:
                made.close()
                raise RefusedError
            self.transaction = made
        return made


def _text_of(error: BaseException) -> str:
    try:
        return as_text(str(error))
    except Exception:  # noqa: BLE001  an exception's own `__str__` may raise anything
        return "(its message cannot be shown)"
