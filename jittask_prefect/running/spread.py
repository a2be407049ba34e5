"""The rows of a flow run, spread over processes: the run's own process leads, and others of its worker help.

Where the deployment's last run tells that helpers pay, they are there before the due time, with the list of rows read, and
begin with the leader's first row. Else the leader begins alone. A moment later the pace of its rows tells how many
processes pay: few for functions that write, many for functions that wait.

The leader goes on until a helper has its first row: connections and caches of a new process take a while. From then on the
leader takes none: the end of a single row, which ends its process, is the end of that row alone. The leader looks again and
again whether further helpers pay: later rows may be slower, and helpers leave for other tasks that wait for a place.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import psutil
from sqlalchemy.exc import SQLAlchemyError

from jittask_prefect.elements.patience import asks_once
from jittask_prefect.ledger import limits, transitions
from jittask_prefect.ledger.entry import Entry, entries_of_run
from jittask_prefect.ledger.tables import FINAL
from jittask_prefect.rows.handover import own_limit
from jittask_prefect.running.calls import Work
from jittask_prefect.running.executor import work_off
from jittask_prefect.running.function import follow_up
from jittask_prefect.running.lease import process_name
from jittask_prefect.running.outcome import Outcome
from jittask_prefect.running.rows_of_instant import RowsOfInstant
from jittask_prefect.schedule.rate import read_rate
from jittask_prefect.warm.help import Help

log = logging.getLogger("jittask")
LOOK_SECONDS = 0.03  # between two looks at the pace of the leader's rows
SLOW_SECONDS = 0.25  # after which a first row that has not ended is a slow one
# Of a row, beyond processor time: from here on its function waits for somebody else than the database. On a machine whose
# processors have no rest, a row that only writes takes as long.
WAITS_SECONDS, WAITS_ON_BUSY_MACHINE = 0.01, 0.05
REST = 0.2  # of the time of all processors
WAITING_SECONDS = 1.0  # between two questions whether others wait for a place
# Between two looks whether more helpers pay; twice as long after each further request, up to the second.
AGAIN_SECONDS, AGAIN_AT_MOST = 1.0, 16.0
START_SECONDS = 0.1  # the price of a helper: its start, its first connection, its end


@dataclass(frozen=True)
class Pace:
    """The time of a row.

    Attributes:
        wall: By the clock on the wall, in seconds.
        processor: Of the processor, in seconds.
        rest: The share of their time that the machine's processors had nothing to do.
    """

    wall: float
    processor: float
    rest: float = 1.0

    @property
    def waits(self) -> bool:
        """Whether the row waits for others most of its time, and not for its turn on the processor."""
        least = WAITS_SECONDS if self.rest >= REST else WAITS_ON_BUSY_MACHINE
        return self.wall - self.processor >= max(least, self.wall / 2)


def helpers_that_pay(rows: int, pace: Pace, most: int) -> int:
    """How many helpers pay for the rows that are left.

    A waiting row leaves the processor to others, so each helper brings a full share. Rows that write share processor
    and database: two processes are faster than a single one, further ones hardly.

    Args:
        rows: How many rows are left.
        pace: The time of a row.
        most: How many executions the app allows.
    """
    helpers = int(rows * pace.wall / START_SECONDS)
    if not pace.waits:
        most = min(most, os.cpu_count() or 1)
    found = min(helpers, most, rows)
    return found if found > 1 else 0


@dataclass(frozen=True)
class _Moment:
    """A moment of a leader: by the clock on the wall, of its processor time, of its calls, and of the machine's rest."""

    wall: float
    processor: float
    done: int
    ended: float
    rest: float

    @classmethod
    def now(cls, calls: RowsOfInstant) -> _Moment:
        now = time.monotonic()
        return cls(now, time.process_time(), calls.done, calls.ended, _rested())

    def pace_since(self, begun: _Moment) -> Pace | None:
        """The time of a row since a moment; None where it is too early to tell."""
        done, processor = self.done - begun.done, self.processor - begun.processor
        wall = self.wall - begun.wall
        rest = (self.rest - begun.rest) / max(wall, LOOK_SECONDS)
        if done:  # after its last row the process may have rested: a helper has begun
            return Pace((self.ended - begun.wall) / done, processor / done, rest)
        return Pace(wall, processor, rest) if wall >= SLOW_SECONDS else None


def _rested() -> float:
    """How many seconds each of the machine's processors has rested; processors that wait for a disk rest too."""
    times = psutil.cpu_times()
    rested: float = times.idle + getattr(times, "iowait", 0.0)
    return rested / (os.cpu_count() or 1)


class Leader:
    """Leads the helpers of a flow run.

    Args:
        work: The flow run's surroundings.
        calls: The rows.
        help: The worker's help.
    """

    def __init__(self, work: Work, calls: RowsOfInstant, help: Help) -> None:
        self._work, self._calls, self._help = work, calls, help
        self._since = work.clock()
        # At the claim of the first row: a new process connects before, which is no time of a row.
        self._begun: _Moment | None = None
        self._looked = False  # whether the pace of rows was known once
        self._wanted = 0
        self._pause = AGAIN_SECONDS
        calls.when_begun(self._begin)

    def make_ready(self) -> None:
        """Read the list before the due time, and have those helpers there that pay by the deployment's last run."""
        try:
            self._calls.read_ahead()
        except SQLAlchemyError as error:
            log.debug("the first claim reads the list, and tells: %s", error)
        else:
            self._ask_by_last_run()

    def _begin(self) -> None:
        """Have helpers begin with the first row, where the deployment's last run tells how many pay."""
        self._begun = _Moment.now(self._calls)
        self._since = self._work.clock()
        self._help.tell_begun()
        if not self._wanted:
            self._ask_by_last_run()

    def _ask_by_last_run(self) -> None:
        if (seconds := self._help.pace) is None:
            return
        pace = Pace(*seconds)
        if number := helpers_that_pay(self._left(True), pace, self._most(pace)):
            self._wanted = number
            self._help.ask(number)

    def work_off(self) -> None:
        """Run the rows, alone or with helpers; returns after the last helper."""
        self._calls.close_while(lambda: self._help.begun)
        with self._leading():
            while True:
                self._calls.refused = False
                work_off(self._work, self._calls)
                if self._begun is None:
                    self._let_go()
                    break
                more = self._calls.refused and not self._calls.closed
                if self._help.over and not more:
                    break
                self._help.wait()
        if self._wanted:  # they may have ended before the last row of this process
            self._take_over()

    def _let_go(self) -> None:
        """Let helpers go that wait for a first row: this run has none."""
        if self._wanted:
            self._wanted = 0
            self._help.ask(0)
            self._help.wait()

    @contextmanager
    def _leading(self) -> Iterator[None]:
        """Ask for help, and look after helpers that die, in a thread beside the rows of this process."""
        thread = threading.Thread(target=self._lead, name="jittask-spread", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._help.close()
            thread.join()

    def _lead(self) -> None:
        seconds = LOOK_SECONDS
        while (dead := self._help.dead(seconds)) is not None:
            if dead:
                self._settle(dead)
                self._help.settled(dead)
                continue
            try:
                self._look()
            except SQLAlchemyError as error:
                log.warning("no further helpers are asked for: %s", error)
            seconds = self._pause if self._looked else LOOK_SECONDS

    def _look(self) -> None:
        """Ask for helpers, where they pay."""
        if self._begun is None:
            return
        if self._looked and not self._help.over:
            if self._help.number < self._wanted:
                self._ask(self._wanted, self._help.number)
            self._begun = _Moment.now(self._calls)
            return
        now = _Moment.now(self._calls)
        pace = now.pace_since(self._begun)
        if pace is None:
            return  # too early to tell
        first, self._looked, self._begun = not self._looked, True, now
        number = helpers_that_pay(self._left(first), pace, self._most(pace))
        if first:
            self._help.tell_pace(pace.wall, pace.processor, pace.rest)
            if number > self._wanted:
                self._wanted = number
                self._help.ask(number)
        elif number:
            self._ask(number, 0)

    def _ask(self, wanted: int, there: int) -> None:
        """Ask for helpers once more, as far as there are rows and places for them."""
        work, self._pause = self._work, min(2 * self._pause, AGAIN_AT_MOST)
        limit, name = partial(own_limit, work.app), work.template.fullName
        with work.app.engine(work.database).connect() as connection:
            about = (work.app.name, name, work.app.cfg.maxConcurrency, limit)
            free = limits.free_places(connection, *about, work.clock())
        # A leader without helpers has a place of its own, which it leaves to them.
        number = min(wanted, there + min(free, self._left()) + (not there))
        if number > max(there, 1):
            self._wanted = wanted
            self._help.ask(number)

    def _left(self, first: bool = False) -> int:
        """How many calls wait: as the list says at first, later as the ledger says."""
        return self._calls.left if first else self._calls.count_left()

    def _most(self, pace: Pace) -> int:
        own, of_app = self._work.template.cfg.concurrency, self._work.app.cfg
        most = min(of_app.maxConcurrency, own.limit if own else of_app.maxConcurrency)
        if (text := self._work.template.cfg.rate) is None:
            return most
        # Rows that only wait for the rate are not slow: more processes would wait as well.
        return min(most, int(pace.wall / read_rate(text).interval.total_seconds()))

    def _settle(self, dead: Sequence[int]) -> None:
        """Have the rows of helpers that died wait again in this flow run, or fail."""
        work = self._work
        try:
            for pid in dead:
                for entry in self._close(process_name(pid)):
                    follow_up(work.app, work.database, entry, work.clock())
        except SQLAlchemyError as error:
            log.warning(
                "the rows of a helper that died are left to the sync: %s", error
            )

    def _close(self, process: str) -> list[Entry]:
        """Close the rows of a dead process; those that have failed."""
        work, failed = self._work, []
        with work.app.engine(work.database).begin() as connection:
            for entry in entries_of_run(connection, work.run.id):
                owner, retries = entry.owner or "", work.template.cfg.retries
                if not owner.startswith(process):
                    continue
                if transitions.retry(connection, entry, retries, same_run=True):
                    continue
                if transitions.fail(connection, entry, work.clock(), dirty=False):
                    failed.append(entry)
        return failed

    def _take_over(self) -> None:
        """Add the rows that helpers have done to the summary."""
        work, own = self._work, {entry.task_id for entry, _ in self._work.summary.tasks}
        with work.app.engine(work.database).connect() as connection:
            found = list(entries_of_run(connection, work.run.id))
        for entry in found:
            # Rows that ended before are those of an earlier attempt: somebody has pressed Retry.
            earlier = entry.finished is None or entry.finished < self._since
            if entry.status not in FINAL or earlier or entry.task_id in own:
                continue
            how = (entry.status, entry.outcome or "", entry.message)
            outcome = Outcome(*how, entry.returned_value)
            work.summary.tasks.append((entry, outcome))
            if work.told is not None:
                work.told([entry], outcome)


def help_out(
    work: Work,
    calls: RowsOfInstant,
    enough: Callable[[], bool],
    begun: Callable[[], None],
) -> None:
    """Take rows beside their flow run's own process, until none is left, or the place is needed.

    Args:
        work: The flow run's surroundings.
        calls: The rows.
        enough: Whether this process is to take no further row.
        begun: Called once, when this process has a row.
    """
    calls.when_begun(begun)
    calls.close_while(_Needed(work, enough))
    work_off(work, calls)


class _Needed:
    """Whether a helper's place is needed: its worker says so, or tasks of the app wait for a place."""

    def __init__(self, work: Work, enough: Callable[[], bool]) -> None:
        self._work, self._enough = work, enough
        self._asked, self._wait = time.monotonic(), False

    def __call__(self) -> bool:
        now = time.monotonic()
        if now - self._asked > WAITING_SECONDS:
            self._asked = now
            try:
                self._wait = self._others_wait()
            except SQLAlchemyError as error:  # no reason for a row at its end to fail
                log.debug("not known whether others wait for a place: %s", error)
        return self._wait or self._enough()

    def _others_wait(self) -> bool:
        work = self._work
        # The process holds the connection of its row: another one is not waited for.
        with asks_once(), work.app.engine(work.database).connect() as connection:
            about = (work.app.name, partial(own_limit, work.app), work.clock())
            return limits.needs_place(connection, *about)
