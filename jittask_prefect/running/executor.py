"""The executor: claims the calls of a flow run and runs them in turn.

Its owner, lease, thread and connection are its own: several executors work off the same list of calls (`team.py`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection
from sqlmodel import Session

from jittask_prefect.elements.pools import most_rows
from jittask_prefect.elements.row_session import RowTransaction
from jittask_prefect.elements.types import Meta
from jittask_prefect.ledger import digest_calls, transitions
from jittask_prefect.ledger.limits import Full
from jittask_prefect.ledger.transitions import Following
from jittask_prefect.running import figures, hours, spans
from jittask_prefect.running.attempt import Attempt, Ends
from jittask_prefect.running.attempt_thread import AttemptThread
from jittask_prefect.running.call_tasks import change_all, finish_all, leave_all
from jittask_prefect.running.calls import Call, Calls, Work
from jittask_prefect.running.event_loop import EventLoop
from jittask_prefect.running.function import after_return, next_of_row
from jittask_prefect.running.lease import LEASE_SECONDS, Hold, held_lease, new_owner
from jittask_prefect.running.outcome import TAKEN
from jittask_prefect.running.rated import pause, wait_for_rate
from jittask_prefect.running.team import Team

# For a slot, before the flow run is given up; and between two looks for one.
WAIT_SECONDS, LOOK_SECONDS = 3.0, 0.2
THREAD = "jittask attempts"
log = logging.getLogger("jittask")


def work_off(work: Work, calls: Calls) -> None:
    """Run the calls of a flow run: where the template says `parallel`, several at once.

    The one place where executors are started. Another process may call this for the same flow run (`spread.py`), with a
    list and surroundings of its own: claims keep the processes apart. Its `summary` and `told` have the tasks of that
    process only, its `lost` ends that process alone, and its list must not give up the flow run's rows. `close_while`
    ends a call of this early, and the list may be worked off again.

    Args:
        work: The flow run's surroundings.
        calls: The list, of this process alone.

    Raises:
        BaseException: The first error of an executor, once all executors have ended.
    """
    size = most_rows(work.app.engine(work.database), calls.parallel)
    with EventLoop() if size > 1 else nullcontext() as loop:
        team = Team(size, calls, lambda: _work_off(work, calls, team, loop))
        with work.drain.telling(calls.close):
            team.run()


def _work_off(work: Work, calls: Calls, team: Team, loop: EventLoop | None) -> None:
    """Work off the list as one executor of a team."""
    owner = new_owner()
    beside = partial(team.close, owner) if team.size > 1 else None
    about = (work.app, work.database, owner, work.clock, work.lost, beside)
    team.enter(owner)
    try:
        with held_lease(*about) as hold, AttemptThread() as thread:
            executor = Executor(work, calls, owner, hold, thread, team, loop)
            try:
                executor.work_off()
            except BaseException:
                executor.give_back()
                raise
    finally:
        team.leave(owner)


class Executor:
    """Claims calls of a flow run's list, and runs them in turn.

    Args:
        work: The flow run's surroundings.
        calls: The list.
        owner: Who claims; of this executor alone.
        hold: The owner's lease.
        thread: The thread in which the calls run.
        team: The executors of this process that work off the list.
        loop: The event loop of async functions; absent each call has its own.
    """

    def __init__(
        self,
        work: Work,
        calls: Calls,
        owner: str,
        hold: Hold,
        thread: AttemptThread,
        team: Team,
        loop: EventLoop | None = None,
    ) -> None:
        self.work, self.calls, self.owner = work, calls, owner
        self.hold, self.thread = hold, thread
        self.team, self.loop = team, loop
        # Claimed by the last commit; or claimed before, and not begun.
        self._next: Call | None = None
        # Whether the ledger has to be told that the call begins: where time may pass between claim and begin.
        self._tells_begin = True
        self._retries: deque[tuple[datetime, Call, str]] = deque()
        # One connection for row after row: to ask the pool for each costs a round trip.
        self._transaction: RowTransaction | None = None
        # The attempt at work; and the end of all work, with the error that has ended it.
        self._attempt: Attempt | None = None
        self._over = False
        self._error: BaseException | None = None

    def work_off(self) -> None:
        """Run all calls in another thread, and look after their time limit in this thread.

        Raises:
            BaseException: The error that ended the other thread's work, or has interrupted this one:
                then no further call begins.
        """
        try:
            while not self._over:
                self._look_after(self.thread.start(self._work_off, THREAD))
        except BaseException:
            self.calls.close()
            raise
        if self._error is not None:
            raise self._error

    def _look_after(self, done: threading.Event) -> None:
        """Wait for the end of the other thread's work, or give the attempt up that is over its time."""
        limit = self.work.template.cfg.timeout
        seconds = limit
        # Between two attempts nobody wakes this thread: the next one begins after this look.
        while not done.wait(seconds):
            attempt, now = self._attempt, time.monotonic()
            seconds = limit if attempt is None else attempt.begun + limit - now
            if attempt is None or seconds > 0:
                continue
            if (ends := attempt.give_up(self.thread, done)) is not None:
                self._end(attempt, ends)
                self.team.end(self.owner)
                break
            seconds = limit

    def _work_off(self) -> None:
        """Run all calls, at last those that are tried again; until one of them is given up."""
        try:
            while (call := self._take()) is not None:
                if not self.team.begin(self.owner):
                    self._next = call
                    break
                self.team.grow(self.calls.left)
                self.hold.on(call.ids)
                self._next = call
                begins = self._may_begin(call) and self._begin(call)
                if begins and not self._ran(call):
                    return  # the thread that has given the attempt up goes on
                self.team.end(self.owner)
            self.hold.off()
            self._drop_connection()
            self.give_back()
        except BaseException as error:  # noqa: BLE001  raised again by `work_off`
            self._error = error
        self._over = True

    def give_back(self) -> None:
        """Have the tasks wait again that are claimed and that nobody will begin, or try again."""
        call, self._next = self._next, None
        left = [entry for _, failed, _ in self._retries for entry in failed.tasks]
        self._retries.clear()
        if call is None and not left:
            return
        ids = [*(call.ids if call else ()), *(entry.task_id for entry in left)]
        with self.work.app.engine(self.work.database).begin() as connection:
            digest_calls.lock(connection, ids)
            if call is not None:
                transitions.give_back(connection, call.ids, self.owner)
            for entry in left:
                mine = replace(entry, owner=self.owner)
                retries = self.work.template.cfg.retries
                transitions.retry(connection, mine, retries, same_run=True)

    def _begin(self, call: Call) -> bool:
        """Say in the ledger that the call begins; False: it is no longer this owner's."""
        mine = not self._tells_begin or change_all(
            self.work, call, self.owner, transitions.begin
        )
        self._next = None
        if not mine:
            self._taken(call)
        return mine

    def _taken(self, call: Call) -> Ends:
        """Leave a call of which a task is no longer this owner's; its other tasks wait again."""
        self.hold.off()
        with self.work.app.engine(self.work.database).begin() as connection:
            back = leave_all(connection, call, self.owner)
        if back:
            self.calls.drop(call)
        ends = [(each, TAKEN) for each in call.tasks if each.task_id not in back]
        self.calls.record(*ends)
        return ends

    def _may_begin(self, call: Call) -> bool:
        """Wait for the begin that the `rate` allows; False: the list was closed, or the app paused, meanwhile."""
        if self.work.template.cfg.rate is None:
            return True
        self._drop_connection()
        wait_for_rate(self.work, self.calls)
        if self.calls.closed:
            return False
        if call.again or self.calls.paused() is None:
            return True
        self.hold.off()
        self._next = None
        self.calls.put_off(call, self.owner)
        return False

    def _take(self) -> Call | None:
        """The next call: claimed by the last commit, claimed now, or tried again."""
        self.hold.off()
        call, self._next = self._next, None
        self._tells_begin = call is None or self.work.template.cfg.rate is not None
        if call is None and not self.calls.closed:
            self._drop_connection()  # a claim has its own: two might be too many
            call = self._claim()
        while call is None and self._retries and not self.calls.closed:
            call = self._again(*self._retries.popleft())
        return call

    def _claim(self) -> Call | None:
        """Claim a call, in its turn, once a slot is free for this executor."""
        work, waited = self.work, 0.0
        while not self.calls.closed:
            wait = self.calls.turn()
            asked_at = time.monotonic()
            full = hours.full(wait) if wait else self.calls.claim(self.owner)
            if not isinstance(full, Full):
                if full is not None:
                    self._claimed(asked_at)
                    spans.claimed(work, full.tasks, asked_at)
                return full
            if full.overlap == "replace" and work.end is not None:
                for other in full.oldest:
                    work.end(other)
                continue
            too_long = waited >= WAIT_SECONDS or (wait is not None and wait.long)
            too_long = too_long or self.team.has_others(self.owner)
            if full.overlap == "skip" or too_long or self._retries:
                break
            work.sleep(LOOK_SECONDS)
            waited += LOOK_SECONDS
        else:
            return None
        # Retries have a slot, and the list is read after them again. Other executors go on.
        if not self._retries and self.team.leave(self.owner, full=True):
            self.calls.give_up(full)
        return None

    def _claimed(self, asked_at: float) -> None:
        if not self._retries:  # their leases are older
            self.hold.renewed = asked_at

    def _again(self, at: datetime, call: Call, why: str) -> Call | None:
        """Try a failed call again, once the task's `retryDelay` is over, and within its opening hours."""
        work = self.work
        if opening := hours.opening_of_retry(work, call, at):
            self.calls.record(*hours.leave_until(work, self.owner, call, opening, why))
            return None
        self.hold.on(call.ids)  # their leases are renewed meanwhile
        pause(work, self.calls, (at - work.clock()).total_seconds())
        if self.calls.closed:
            self._retries.appendleft((at, call, why))
            return None
        if change_all(self.work, call, self.owner, transitions.next_attempt):
            tasks = [replace(e, attempt=e.attempt + 1) for e in call.tasks]
            return Call(tasks, again=True)
        self._taken(call)
        return None

    def _ran(self, call: Call) -> bool:
        """Run a call; False: the attempt was given up."""
        threading.current_thread().name = call.name
        figures.begun(self.work.app, call.tasks, self.work.clock())
        about = (self._finish, self.hold.settling, self._transaction, self.loop)
        attempt = Attempt(self.work, call, *about, self._goes_on)
        self._attempt = attempt
        ends = attempt.run()
        if attempt.given_up:
            return False
        self._end(attempt, ends)
        return True

    def _end(self, attempt: Attempt, ends: Ends | None) -> None:
        """Put a call back for a retry, or record its end."""
        self._attempt, call = None, attempt.call
        self._transaction = attempt.transaction
        if ends is None or attempt.failed:
            self._drop_connection(given_up=attempt.given_up)
            if self._next is not None:  # claimed in a commit that failed: nobody has it
                self.calls.drop(self._next)
                self._next = None
        if attempt.error is not None and not attempt.given_up:
            log.error("%s failed", self.work.named(call), exc_info=attempt.error)
        if ends is not None and attempt.failed:
            if self._is_tried_again(call, ends):
                return
            ends = ends if self._record_failure(attempt, ends) else None
        if ends is None:
            ends = self._taken(call)
        else:
            self.hold.off()
            self._follow_up(ends)
            self.calls.record(*ends)
        figures.ended(self.work.app, ends, attempt.begun)

    def _finish(self, connection: Connection, ends: Ends) -> bool:
        """Record the ends of a call's tasks, and claim the next call of a batch in the same commit."""
        returned = not self._has_after_return
        finish = partial(finish_all, connection, ends, self.owner, returned=returned)
        entry, asked_at = self.calls.reserve(connection), time.monotonic()
        if entry is None:
            return finish(self.work.clock())
        about = (entry.task_id, self.work.run.id, LEASE_SECONDS)
        following = Following(*about, begun=self.work.template.cfg.rate is None)
        mine = finish(self.work.clock(), following=following)
        self._next = self.calls.take(entry, claimed=following.claimed)
        if self._next is not None:
            self._claimed(asked_at)
        return mine

    def _goes_on(self) -> bool:
        """Whether a call was claimed with the end of another, and begins at once."""
        waits = self.work.template.cfg.rate is not None or self._has_after_return
        return self._next is not None and not waits

    @property
    def _has_after_return(self) -> bool:
        return type(self.work.template).afterReturn is not Meta.afterReturn

    def _is_tried_again(self, call: Call, ends: Ends) -> bool:
        """Put a failed call behind the others, where retries are left."""
        work, cfg = self.work, self.work.template.cfg
        if call.attempt > cfg.retries:
            return False
        why = next(o.message for _, o in ends if o.status == "error")
        about = (work.named(call), call.attempt, why)
        log.warning("%s: attempt %d failed (%s); again in %g s", *about, cfg.retryDelay)
        at = work.clock() + timedelta(seconds=cfg.retryDelay)
        self._retries.append((at, call, why))
        return True

    def _record_failure(self, attempt: Attempt, ends: Ends) -> bool:
        """Record that the last attempt failed; False: a task is no longer this owner's."""
        self.hold.settling.set()
        with Session(self.work.app.engine(self.work.database)) as session:
            mine = self._finish(session.connection(), ends)
            if mine:
                attempt.plan_left_out(session)
                session.commit()
        return mine

    def _follow_up(self, ends: Ends) -> None:
        work = self.work
        for entry, outcome in ends:
            if self._has_after_return:
                self._share_pool()
                after_return(work.app, work.database, entry.task_id)
            if outcome.status == "error":
                next_of_row(work.app, work.database, entry, work.clock())

    def _share_pool(self) -> None:
        """Hold no connection while another is asked for: beside other rows the pool may be empty."""
        if self.team.size > 1:
            self._drop_connection()

    def _drop_connection(self, *, given_up: bool = False) -> None:
        """Have another connection from now on; a function that was given up keeps its own."""
        transaction, self._transaction = self._transaction, None
        if transaction is not None and not given_up:
            transaction.close()
