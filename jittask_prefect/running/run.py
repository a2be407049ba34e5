"""A flow run executes: its own task, or a batch; call after call, each at most once.

`execute` and `execute_batch` know no Prefect: a flow, a test or a benchmark calls them.
An `Executor` takes calls from the flow run's list and runs them one after the other. It
has an owner, a lease, a thread and a connection of its own, so that several executors
can work off one list.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from jittask_prefect.elements.app import App
from jittask_prefect.elements.databases import DEFAULT
from jittask_prefect.elements.row_session import RowTransaction
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import JittaskError
from jittask_prefect.ledger import transitions, versions
from jittask_prefect.ledger.entry import Entry, find_entry, new_entry
from jittask_prefect.ledger.limits import Full
from jittask_prefect.ledger.tables import OPEN
from jittask_prefect.ledger.transitions import FORCED, Following
from jittask_prefect.rows.stuck import entry_of
from jittask_prefect.running.attempt import Attempt, Ends
from jittask_prefect.running.attempt_thread import AttemptThread
from jittask_prefect.running.calls import (
    EARLY_SECONDS,
    Call,
    Calls,
    OneTask,
    RowsOfInstant,
    Work,
)
from jittask_prefect.running.follow_up import after_return, next_of_row
from jittask_prefect.running.lease import (
    LEASE_SECONDS,
    Clock,
    Hold,
    held_lease,
    new_owner,
)
from jittask_prefect.running.order import Turn, Wait
from jittask_prefect.running.outcome import (
    TAKEN,
    Outcome,
    Run,
    Summary,
    broken_message,
)
from jittask_prefect.running.parameters import asked, belongs

# For a slot, before the flow run is given up; and between two looks for one.
WAIT_SECONDS, LOOK_SECONDS = 3.0, 0.2
REPLACED = f"{FORCED}: a later execution replaces it"
log = logging.getLogger("jittask")


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
        task_id: The ledger entry; absent for a run that the template's own schedule, or
            a person, made.
        run: The flow run.
        clock: Gives the present instant.
        lost: Called from another thread when the execution was ended or taken over: it
            must end the process.
        sleep: Waits between retries, for a slot, and for the due time where the run
            began a moment early; in seconds.
        end: Ends another execution that this one replaces, by its task id, and returns
            once its process is gone; absent the ledger ends it, and its process notices.
        turn: Tells whether the task has to wait for others, by its database, template
            and entry.

    Returns:
        How the task ended. A function's failure is an outcome, never an exception.

    Raises:
        ArgumentError: A task of rows, and no task id.
        UnknownTask: There is no task of that id, or it is another template's.
    """
    template = asked(app, name, task_id).template
    known = locate(app, task_id) if task_id is not None else None
    # A person who asks for a run gets its error at once.
    if task_id is not None or run.auto:
        fault = app.fault(name, known[1].func_name if known else None)
        if fault is not None:
            return _put_off(app, name, task_id, run, clock(), fault.reason)
    template = template or app.template(name)
    if task_id is not None:
        database, found = known or (DEFAULT, None)
        entry = belongs(template, task_id, found)
    else:
        database, entry = DEFAULT, _entered(app, template, run, clock())
    _wait_for(entry.due, clock, sleep)
    summary = Summary()
    end = end or partial(_end_in_ledger, app, database, clock)
    work = Work(app, database, template, run, clock, sleep, summary, lost, end)
    own_turn = partial(turn, database, template, entry) if turn else None
    _work_off(work, OneTask(work, entry, own_turn))
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
    turn: Callable[[], Wait | None] | None = None,
) -> Summary:
    """Run the tasks of a template that are due at one instant, at most 500, each at most once.

    Args:
        app: The app.
        name: The template's full name.
        due: The instant; aware.
        run: The flow run.
        clock: Gives the present instant.
        lost: Called from another thread when the row that is at work was ended: it must
            end the process.
        sleep: Waits for the due time where the run began a moment early, for a slot, and
            before a row is tried again; in seconds.
        told: Called after each row.
        turn: Tells whether earlier occurrences of the rows come first.
    """
    fault = app.fault(name)
    if fault is not None and not fault.gone:
        return Summary(broken=broken_message(name, fault.reason))
    template = app.template(name)
    if not isinstance(template, DateFieldType):
        raise TypeError(f"{name} is no task of rows")
    database = app.database_of(template.model_name)
    _wait_for(due, clock, sleep)
    summary = Summary()
    work = Work(app, database, template, run, clock, sleep, summary, lost, told=told)
    calls = RowsOfInstant(work, due, turn)
    _work_off(work, calls)
    if not summary.tasks and not summary.queued:
        summary.before = calls.ended_before()
    return summary


def locate(app: App, task_id: str) -> tuple[str, Entry] | None:
    """The database and the entry of a task id, or of a flow run's id."""
    for database in app.databases():
        with app.engine(database).connect() as connection:
            versions.require(connection, database or "the app's database")
            entry = find_entry(connection, task_id)
        if entry is not None:
            return database, entry
    return None


def _wait_for(due: datetime, clock: Clock, sleep: Callable[[float], None]) -> None:
    """Wait for the due time: Prefect starts runs up to half a second early."""
    early = (due - clock()).total_seconds()
    if 0 < early <= EARLY_SECONDS:
        sleep(early)


def _entered(app: App, template: Meta, run: Run, now: datetime) -> Entry:
    """Make the ledger entry for a run of the schedule, or of a person."""
    entry = entry_of(app, template, run.id, run.due, run.auto, now)
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


def _put_off(
    app: App, name: str, task_id: str | None, run: Run, now: datetime, reason: str
) -> Outcome:
    """Have a task of a broken template wait; it gets another flow run once that is mended."""
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
    return Outcome("ended", "skipped", broken_message(name, reason))


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


def _work_off(work: Work, calls: Calls) -> None:
    """Run the calls of a flow run, in one executor."""
    owner = new_owner()
    with (
        held_lease(work.app, work.database, owner, work.clock, work.lost) as hold,
        AttemptThread() as thread,
    ):
        executor = Executor(work, calls, owner, hold, thread)
        try:
            executor.work_off()
        except BaseException:
            executor.give_back()
            raise


class Executor:
    """Takes calls from a flow run's list, and runs one after the other.

    Args:
        work: What all calls have in common.
        calls: The list.
        owner: Who claims; of this executor alone.
        hold: The owner's lease.
        thread: The thread for attempts.
    """

    def __init__(
        self, work: Work, calls: Calls, owner: str, hold: Hold, thread: AttemptThread
    ) -> None:
        self.work, self.calls, self.owner = work, calls, owner
        self.hold, self.thread = hold, thread
        # Claimed by the last commit.
        self._next: Call | None = None
        self._retries: deque[tuple[datetime, Call]] = deque()
        # One connection for row after row: to ask the pool for each costs a round trip.
        self._transaction: RowTransaction | None = None

    def work_off(self) -> None:
        """Run all calls, at last those that are tried again."""
        while (call := self._take()) is not None:
            self.hold.on(call.ids)
            self._attempt(call)
        self.hold.off()
        self._drop_connection()

    def give_back(self) -> None:
        """Have the tasks wait again that the last commit claimed and nobody will begin."""
        if self._next is not None:
            with self.work.app.engine(self.work.database).begin() as connection:
                for task_id in self._next.ids:
                    transitions.give_back(connection, task_id, self.owner)

    def _take(self) -> Call | None:
        """The next call: claimed by the last commit, claimed now, or tried again."""
        self.hold.off()
        call, self._next = self._next, None
        call = call or self._claim()
        while call is None and self._retries:
            call = self._again(*self._retries.popleft())
        return call

    def _claim(self) -> Call | None:
        """Claim a call, in its turn, once a slot is free for this executor."""
        work, waited = self.work, 0.0
        while True:
            wait = self.calls.turn()
            full = Full("queue", wait.reason) if wait else None
            if full is None:
                asked_at = time.monotonic()
                with work.app.engine(work.database).begin() as connection:
                    found = self.calls.claim(connection, self.owner)
                    if isinstance(found, Full):
                        connection.rollback()
                if not isinstance(found, Full):
                    self.calls.committed()
                    if found is not None:
                        self._claimed(asked_at)
                    return found
                full = found
                self.calls.rolled_back()
            if full.overlap == "replace" and work.end is not None:
                for other in full.oldest:
                    work.end(other)
                continue
            too_long = waited >= WAIT_SECONDS or (wait is not None and wait.long)
            if full.overlap == "skip" or too_long or self._retries:
                break
            work.sleep(LOOK_SECONDS)
            waited += LOOK_SECONDS
        if not self._retries:  # they have a slot, and the list is read after them again
            self.calls.give_up(full)
        return None

    def _claimed(self, asked_at: float) -> None:
        if not self._retries:  # their leases are older
            self.hold.renewed = asked_at

    def _again(self, at: datetime, call: Call) -> Call | None:
        """Try a failed call again, once the task's `retryDelay` is over."""
        work = self.work
        self.hold.on(call.ids)  # their leases are renewed meanwhile
        work.sleep(max(0.0, (at - work.clock()).total_seconds()))
        attempt = call.attempt + 1
        with work.app.engine(work.database).begin() as connection:
            mine = [
                transitions.next_attempt(connection, task_id, self.owner, attempt)
                for task_id in call.ids
            ]
        if all(mine):
            return Call([replace(entry, attempt=attempt) for entry in call.tasks])
        self._record([(entry, TAKEN) for entry in call.tasks])
        return None

    def _attempt(self, call: Call) -> None:
        """Run a call once, and do what follows."""
        settling, transaction = self.hold.settling, self._transaction
        attempt = Attempt(self.work, call, self._finish, settling, transaction)
        ends = attempt.run(self.thread)
        self._transaction = attempt.transaction
        failed = ends is not None and any(end.status == "error" for _, end in ends)
        if ends is None or failed:
            self._drop_connection(given_up=attempt.given_up)
            if self._next is not None:  # claimed in a commit that failed: nobody has it
                self.calls.rolled_back(self._next)
                self._next = None
        if ends is not None and failed:
            if self._is_tried_again(call, ends):
                return
            ends = ends if self._record_failure(ends) else None
        self.hold.off()
        if ends is None:
            ends = [(entry, TAKEN) for entry in call.tasks]
        else:
            self._follow_up(ends)
        self._record(ends)

    def _finish(self, connection: Connection, ends: Ends) -> bool:
        """Record the ends of a call's tasks, and claim the next call in the same commit."""
        *others, last = ends
        if not all(self._finish_task(connection, *end) for end in others):
            return False
        entry = self.calls.reserve(connection)
        if entry is None:
            return self._finish_task(connection, *last)
        asked_at = time.monotonic()
        following = Following(entry.task_id, self.work.run.id, LEASE_SECONDS)
        mine = self._finish_task(connection, *last, following)
        self._next = self.calls.take(entry, claimed=following.claimed)
        if self._next is not None:
            self._claimed(asked_at)
        return mine

    def _finish_task(
        self,
        connection: Connection,
        entry: Entry,
        outcome: Outcome,
        following: Following | None = None,
    ) -> bool:
        return transitions.finish(
            connection,
            entry.task_id,
            self.owner,
            status=outcome.status,
            outcome=outcome.outcome,
            message=outcome.message,
            result=outcome.result,
            now=self.work.clock(),
            returned=not self._has_after_return,
            following=following,
        )

    @property
    def _has_after_return(self) -> bool:
        return type(self.work.template).afterReturn is not Meta.afterReturn

    def _is_tried_again(self, call: Call, ends: Ends) -> bool:
        """Put a failed call behind the others, where it has retries left."""
        cfg = self.work.template.cfg
        if call.attempt > cfg.retries:
            return False
        _, outcome = ends[0]
        about = (self.work.template.fullName, call.attempt, outcome.message)
        log.warning("%s: attempt %d failed (%s); again in %g s", *about, cfg.retryDelay)
        at = self.work.clock() + timedelta(seconds=cfg.retryDelay)
        self._retries.append((at, call))
        return True

    def _record_failure(self, ends: Ends) -> bool:
        """Record that the last attempt failed; False: a task is no longer this owner's."""
        self.hold.settling.set()
        with self.work.app.engine(self.work.database).begin() as connection:
            return self._finish(connection, ends)

    def _follow_up(self, ends: Ends) -> None:
        work = self.work
        for entry, outcome in ends:
            if self._has_after_return:
                after_return(work.app, work.database, entry.task_id)
            if outcome.status == "error":
                next_of_row(work.app, work.database, entry, work.clock())

    def _record(self, ends: Ends) -> None:
        for entry, outcome in ends:
            self.work.summary.tasks.append((entry, outcome))
            if self.work.told is not None:
                self.work.told(entry, outcome)

    def _drop_connection(self, *, given_up: bool = False) -> None:
        """Have another connection from now on; a function that was given up keeps its own."""
        transaction, self._transaction = self._transaction, None
        if transaction is not None and not given_up:
            transaction.close()
