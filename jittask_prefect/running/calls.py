"""The calls of a flow run, taken from the ledger.

A call is a list of tasks whose effect commits in one transaction: a single task, or the
tasks of a digest. A flow run is for its own task, or for a batch: the rows of a template
that are due at the same instant.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from sqlalchemy import Connection

from jittask_prefect.elements.app import App
from jittask_prefect.elements.types import Meta
from jittask_prefect.ledger import (
    digest_calls,
    handover_marks,
    limits,
    transitions,
)
from jittask_prefect.ledger.entry import Entry, find_entry
from jittask_prefect.ledger.limits import Full
from jittask_prefect.ledger.opening import wait_for_opening
from jittask_prefect.ledger.tables import entries
from jittask_prefect.ledger.twins import DONE, end_twins
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.rows.flow_runs import row_run_name
from jittask_prefect.rows.opening import opening_of, waits_text
from jittask_prefect.rows.row_labels import row_labels, row_of
from jittask_prefect.running.function import follow_up, next_of_row
from jittask_prefect.running.lease import LEASE_SECONDS, Clock
from jittask_prefect.running.order import Wait, wait_of_task
from jittask_prefect.running.outcome import Outcome, Run, Summary, not_run
from jittask_prefect.running.pause_watch import PauseWatch
from jittask_prefect.warm.drain import Drain

# The worker's prefetch and a little more: a person has started what is earlier.
EARLY_SECONDS = 15.0
SUPERSEDED = Outcome("ended", "superseded", f"superseded: {DONE}")
End = tuple[Entry, Outcome]
TWIN_AT_WORK = "another task of the row, due at the same instant, is at work"


@dataclass(frozen=True)
class Work:
    """The surroundings that all calls of a flow run share.

    Attributes:
        app: The app.
        database: The database of the tasks' entries.
        template: The template.
        run: The flow run.
        clock: Gives the present instant.
        sleep: Waits, in seconds.
        summary: The tasks that have ended, with their outcomes.
        lost: Called from another thread when a task at work was ended, or may have
            been: must end the process.
        connect: Gives Prefect, which is asked whose turn it is in a schedule; absent the
            ledger alone is asked.
        end: Ends another execution, by its task id, and returns when its process is
            gone; absent in a batch, whose rows only wait for a slot.
        told: Called after each call, with the tasks that ended alike.
        drain: Closes the list of calls once the worker stops.
    """

    app: App
    database: str
    template: Meta
    run: Run
    clock: Clock
    sleep: Callable[[float], None]
    summary: Summary
    lost: Callable[[], None] | None
    connect: Callable[[], Api] | None = None
    end: Callable[[str], object] | None = None
    told: Callable[[Sequence[Entry], Outcome], None] | None = None
    drain: Drain = field(default_factory=Drain)

    def named(self, call: Call) -> str:
        """A call for the log: the template, and the row, whose label takes a connection of the pool."""
        entry, name = call.tasks[0], self.template.fullName
        if not entry.row_key:
            return name
        labels = row_labels(self.app, [row_of(entry)])
        row = row_run_name(entry, labels.get(row_of(entry), ""))
        more = len(call.tasks) - 1
        return f"{name}, {row}" + (f" and {more} more rows" if more else "")


@dataclass(frozen=True)
class Call:
    """Tasks whose effect commits in one transaction.

    Attributes:
        tasks: The tasks.
        again: Whether this is a further attempt of the same execution.
    """

    tasks: list[Entry]
    again: bool = False

    @property
    def ids(self) -> list[str]:
        """The tasks' ids."""
        return [entry.task_id for entry in self.tasks]

    @property
    def name(self) -> str:
        """The call's name, for its thread and its log."""
        more = len(self.tasks) - 1
        return f"jittask {self.tasks[0].task_id}" + (
            f" and {more} more" if more else ""
        )

    @property
    def attempt(self) -> int:
        """Which attempt this is, of the task that was tried most often; the first is 1."""
        return max(entry.attempt for entry in self.tasks)


class Stale(Enum):
    """The list is old: another process has taken a task of it, so the list is read again."""

    STALE = 1


STALE = Stale.STALE


class Calls(ABC):
    """The calls of a flow run that nobody has claimed yet; several executors may take from them at once.

    Attributes:
        begun: Whether a claim was tried in its turn and with a free slot.
        closed: Whether the list gives no calls any more; set by `close`.
        refused: Whether the list was closed when a call was asked for.
        done: How many calls have ended.
        ended: When the last of them ended, by the monotonic clock.
        pause: Says whether the app is paused.
        parallel: How many calls may be at work at once in this process.
    """

    parallel = 1

    def __init__(self, work: Work) -> None:
        self.work = work
        self.begun = self.closed = self.refused = False
        self.done, self.ended = 0, 0.0
        self.pause = PauseWatch(work.app)
        self._closed_while: Callable[[], bool] = lambda: False
        self._tell_begun: Callable[[], None] | None = None
        # Held during a claim, whose transaction is short; never asked for within another transaction.
        self._claiming = threading.Lock()
        # Guards the list and the record; held for moments, so that everybody may ask for the gate.
        self._gate = threading.Lock()
        self._telling = threading.Lock()

    def close(self) -> None:
        """Give no calls any more; from any thread."""
        self.closed = True

    def close_while(self, closed: Callable[[], bool]) -> None:
        """Give no calls while a condition holds."""
        self._closed_while = closed

    def when_begun(self, tell: Callable[[], None]) -> None:
        """Call a function once, when this list's first call is claimed."""
        self._tell_begun = tell

    def is_closed(self) -> bool:
        """Whether the list gives no calls now."""
        closed = self.closed or self._closed_while()
        self.refused = self.refused or closed
        return closed

    @abstractmethod
    def paused(self) -> Wait | None:
        """Why a call that is not begun has to wait for the end of the app's pause; None: the app goes on, or a person asked."""

    @abstractmethod
    def turn(self) -> Wait | None:
        """Why the call that is not begun has to wait: for earlier occurrences, or since the app is paused; None: begin."""

    def claim(self, owner: str) -> Call | Full | None:
        """Claim the next call, with a slot for its owner.

        Returns:
            The call; why there is no slot, so that nothing is claimed; None where nothing
            is left to claim.
        """
        closed = list[End]()
        with self._claiming:
            found: Call | Full | Stale | None = STALE
            while found is STALE:
                found = None if self.is_closed() else self._claim(owner, closed)
            if isinstance(found, Call) and self._tell_begun is not None:
                tell, self._tell_begun = self._tell_begun, None
                tell()
        for entry, outcome in closed:
            self.record((entry, outcome), told=False)
            if outcome is SUPERSEDED:
                work = self.work
                next_of_row(work.app, work.database, entry, work.clock())
        return found

    def _claim(self, owner: str, closed: list[End]) -> Call | Full | Stale | None:
        work, ended = self.work, list[End]()
        with work.app.engine(work.database).connect() as connection:
            found = self.claim_in(connection, owner, ended)
            if isinstance(found, Full):
                connection.rollback()
                self.drop()
                return found
            connection.commit()
        self.begun = True
        closed += ended
        return found

    def record(self, *ends: End, told: bool = True) -> None:
        """Add a call's tasks to the summary, and tell; one call at a time."""
        with self._gate:
            self.work.summary.tasks.extend(ends)
            self.done, self.ended = self.done + 1, time.monotonic()
        if told and self.work.told is not None:
            with self._telling:
                for outcome, tasks in alike(ends):
                    self.work.told(tasks, outcome)

    @abstractmethod
    def claim_in(
        self, connection: Connection, owner: str, closed: list[End]
    ) -> Call | Full | Stale | None:
        """Claim the next call, in a transaction that is rolled back where `Full` is the answer.

        Args:
            connection: In the transaction.
            owner: Who claims.
            closed: Tasks are added that have ended instead.
        """

    def full(self, connection: Connection, entry: Entry) -> Full | None:
        """Why there is no slot for a task that this transaction has claimed."""
        work = self.work
        own, of_app = work.template.cfg.concurrency, work.app.cfg.maxConcurrency
        return limits.full(connection, entry, own, of_app, work.clock())

    def reserve(self, connection: Connection) -> Entry | None:
        """A task that the commit of another may claim; None where `claim` is needed, and of a closed list."""
        return None

    def take(self, entry: Entry, *, claimed: bool) -> Call | None:
        """The call of a reserved task; None where the claim failed."""
        return None

    @property
    def left(self) -> int:
        """How many calls the list has, as far as it was read."""
        return 0

    @abstractmethod
    def drop(self, call: Call | None = None) -> None:
        """Forget the list, and a call whose claim did not commit: the list is read again."""

    def put_off(self, call: Call, owner: str) -> None:
        """Have a call wait again that was claimed and has not begun; the list is read again."""
        work = self.work
        with work.app.engine(work.database).begin() as connection:
            digest_calls.lock(connection, call.ids)
            transitions.give_back(connection, call.ids, owner)
        self.drop(call)

    @abstractmethod
    def give_up(self, full: Full) -> None:
        """Have the tasks that were not claimed wait for a slot in another flow run."""

    def ended_before(self) -> Mapping[str, int]:
        """How many tasks of this flow run had ended before, by status."""
        return {}


class OneTask(Calls):
    """The call of a flow run that is for its own task.

    Args:
        work: The flow run's surroundings.
        entry: The task.
    """

    def __init__(self, work: Work, entry: Entry) -> None:
        super().__init__(work)
        self.entry = entry

    def paused(self) -> Wait | None:
        entry = self.entry
        asked = entry.outside_schedule or entry.status != "pending"
        return None if asked else self.pause.wait()

    def turn(self) -> Wait | None:
        work, entry = self.work, self.entry
        # Retry of a failed task waits for nobody.
        if self.begun or entry.status != "pending":
            return None
        if paused := self.paused():
            return paused
        if opening := opening_of(work.template, entry, work.clock()):
            reason = waits_text(work.template, entry, opening)
            return Wait(reason, long=True, opening=opening)
        about = (work.connect, work.template, entry, work.clock())
        return wait_of_task(work.app, work.database, *about)

    def claim_in(
        self, connection: Connection, owner: str, closed: list[End]
    ) -> Call | Full | None:
        entry, run, now = self.entry, self.work.run, self.work.clock()
        if self.begun:
            return None
        twin = end_twins(connection, entry, now) if entry.status == "pending" else None
        if twin == "busy":
            return Full("queue", TWIN_AT_WORK)
        if twin == "done":
            # The task's flow run is this one, and ends.
            handover_marks.end_shown(connection, [entry.task_id])
            closed.append((entry, SUPERSEDED))
            return None
        about = (entry.task_id, owner, run.id, now, LEASE_SECONDS)
        if not transitions.claim(connection, *about, begun=False):
            found = find_entry(connection, entry.task_id)
            closed.append((entry, not_claimed(found, run.id)))
            return None
        full = self.full(connection, entry)
        return full or Call([find_entry(connection, entry.task_id) or entry])

    def drop(self, call: Call | None = None) -> None:
        self.begun = False

    def give_up(self, full: Full) -> None:
        work, entry, now = self.work, self.entry, self.work.clock()
        mine = entries.c.task_id == entry.task_id
        outcome = not_run(full.reason)
        with work.app.engine(work.database).begin() as connection:
            if full.opening is not None:
                wait_for_opening(connection, full.opening, full.reason, mine)
            elif full.overlap == "queue" and limits.queue(connection, full, mine):
                outcome = not_run(f"queued: {full.reason}")
            else:
                transitions.end(
                    connection,
                    entry.task_id,
                    outcome="skipped",
                    message=outcome.message,
                    now=now,
                    dirty=False,
                )
        follow_up(work.app, work.database, entry, now)
        self.record((entry, outcome), told=False)


def alike(ends: Sequence[End]) -> list[tuple[Outcome, list[Entry]]]:
    """Tasks of a call that ended alike, with their outcome."""
    found: dict[tuple[str, ...], tuple[Outcome, list[Entry]]] = {}
    for entry, outcome in ends:
        same = (outcome.status, outcome.outcome, outcome.message)
        found.setdefault(same, (outcome, []))[1].append(entry)
    return list(found.values())


def not_claimed(found: Entry | None, run_id: str) -> Outcome:
    """Why a task cannot be claimed; each flow run of a completed task is completed."""
    if found is None:
        return not_run("the task is gone")
    if found.status != "completed":
        message = f" ({found.message})" if found.message else ""
        return not_run(f"the task is {found.status}{message}")
    if found.flow_run_id != run_id:
        message = "nothing ran: the task was completed before"
        return Outcome("completed", "skipped", message)
    message = "nothing ran: this run has completed the task before"
    return Outcome("completed", "skipped", message, found.returned_value)
