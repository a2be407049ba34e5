"""Many rows in one flow run: each is claimed, run, committed and recorded by itself.

The commit that ends one row's task claims the next one's, so that a row costs one commit. Which rows there are the
ledger says when the flow run begins, and again before it ends: those handed over to it, and those of its template and
instant that nobody has handed over yet.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from jittask_prefect.elements.app import App
from jittask_prefect.elements.row_session import RowTransaction
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import PrefectApiError
from jittask_prefect.ledger import limits, transitions
from jittask_prefect.ledger.entry import Entry, to_entry
from jittask_prefect.ledger.limits import Full
from jittask_prefect.ledger.tables import entries
from jittask_prefect.ledger.twins import DONE, end_twins, has_twin
from jittask_prefect.prefect_api.client import Api
from jittask_prefect.rows.batches import MOST
from jittask_prefect.running.attempt_thread import Lane
from jittask_prefect.running.begin import (
    LOOK_SECONDS,
    TAKEN,
    WAIT_SECONDS,
    Outcome,
    Run,
    broken,
)
from jittask_prefect.running.execute import EARLY_SECONDS, Attempt
from jittask_prefect.running.lease import LEASE_SECONDS, Clock, Hold, kept, me
from jittask_prefect.running.order import Wait
from jittask_prefect.running.task import after_return, next_of_row

log = logging.getLogger("jittask")
Told = Callable[[Entry, Outcome], None]


@dataclass
class Ended:
    """What became of a batch: each task with its outcome, in the order in which they ended.

    Attributes:
        tasks: Them.
        queued: Why the others wait for a slot, in another flow run; empty where none does.
        broken: Why none was begun, where something of the template cannot be read.
        before: Where nothing was left to do, how many rows this flow run has had, by their status.
    """

    tasks: list[tuple[Entry, Outcome]] = field(default_factory=list)
    queued: str = ""
    broken: str = ""
    before: Mapping[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> list[tuple[Entry, Outcome]]:
        """Those whose function failed."""
        return [
            (entry, outcome)
            for entry, outcome in self.tasks
            if outcome.status == "error"
        ]

    @property
    def done(self) -> bool:
        """Whether there is nothing that keeps the flow run from being completed."""
        if self.failed or self.broken:
            return False
        return bool(self.tasks) or not (self.queued or self.before.keys() == {"ended"})

    def __str__(self) -> str:
        if self.broken:
            return self.broken
        counts = {
            "done": sum(o.status == "completed" for _, o in self.tasks),
            "failed": len(self.failed),
            "not run": sum(o.status == "ended" for _, o in self.tasks),
        }
        if self.queued and not self.tasks:
            return f"not run: queued: {self.queued}"
        if self.before and not self.tasks:
            rows = ", ".join(
                f"{number} {status}" for status, number in sorted(self.before.items())
            )
            return f"{'nothing ran' if self.done else 'not run'}: the rows of this run have ended before: {rows}"
        said = (
            ", ".join(f"{count} {what}" for what, count in counts.items() if count)
            or "nothing left to do"
        )
        said += f"; the others are queued: {self.queued}" if self.queued else ""
        return (
            f"{len(self.tasks)} rows: {said}"
            if len(self.tasks) != 1
            else f"1 row: {said}"
        )


def execute_batch(
    app: App,
    name: str,
    due: datetime,
    run: Run,
    clock: Clock,
    *,
    lost: Callable[[], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    told: Told | None = None,
    turn: Callable[[], Wait | None] | None = None,
) -> Ended:
    """Run the tasks of a template that are due at one instant, at most 500, each at most once.

    Args:
        app: The app.
        name: The template's full name.
        due: The instant; aware.
        run: The flow run.
        clock: Gives the present instant.
        lost: Called from another thread when the row that is at work was ended: it must end the process.
        sleep: Waits for the due time where the run began a moment early, and before a row is tried again; in seconds.
        told: Called after each row.
        turn: Asked before the first row: whether earlier occurrences of the rows come first.
    """
    if (fault := app.fault(name)) is not None and not fault.gone:
        return Ended(broken=broken(name, fault.reason))
    template = app.template(name)
    if not isinstance(template, DateFieldType):
        raise TypeError(f"{name} is no task of rows")
    database = app.database_of(template.model_name)
    early = (due - clock()).total_seconds()
    if 0 < early <= EARLY_SECONDS:
        sleep(early)
    owner = me()
    with (
        kept(app, database, owner, clock, lost, time.monotonic()) as hold,
        Lane() as lane,
    ):
        batch = _Batch(
            app, database, template, due, run, owner, clock, hold, lane, turn
        )
        try:
            return batch.work(sleep, told)
        except BaseException:
            batch.give_back()
            raise


def record_batch(api: Api, run_id: str, ended: Ended) -> None:
    """Keep what became of a batch's rows as a table of its flow run, the failed ones first.

    The ledger is the record of each row; should it come back from an older copy, this says what was done.
    """
    rows = [
        {
            "row": e.row_key,
            "status": o.status,
            "outcome": o.outcome,
            "reason": o.message,
            "taskId": e.task_id,
        }
        for e, o in [
            *ended.failed,
            *((e, o) for e, o in ended.tasks if o.status != "error"),
        ]
    ]
    if not rows:
        return
    try:
        api.put_table(run_id, f"rows-{run_id}", rows, str(ended))
    except PrefectApiError as error:
        log.warning("the table of the batch's rows could not be kept: %s", error)


class _Batch:
    def __init__(
        self,
        app: App,
        database: str,
        template: DateFieldType,
        due: datetime,
        run: Run,
        owner: str,
        clock: Clock,
        hold: Hold,
        lane: Lane,
        turn: Callable[[], Wait | None] | None,
    ) -> None:
        self.app, self.database, self.template, self.due = app, database, template, due
        self.run, self.owner, self.clock, self.hold = run, owner, clock, hold
        self.lane, self.turn = lane, turn
        self.waiting: deque[Entry] = deque()
        self.twins: set[str] = (
            set()
        )  # those that have to ask for another task of their row and instant
        self.again: deque[tuple[datetime, Attempt]] = deque()
        self.claimed: Entry | None = None
        self.begun = False
        self.transaction: RowTransaction | None = (
            None  # of the rows: to ask a pool for each costs a round trip
        )
        self.asked = (
            0.0  # when the last claim was asked for, in seconds of the monotonic clock
        )
        self.ended = Ended()

    def work(self, sleep: Callable[[float], None], told: Told | None) -> Ended:
        while (attempt := self._next(sleep)) is not None:
            self.hold.on(attempt.entry.task_id)
            outcome = attempt.run()
            if outcome is None or outcome.status == "error":
                self._let_go(attempt)
                if self.claimed is not None:  # in a commit that failed: nobody has it
                    self.claimed = None
                    self.waiting.clear()  # they are read again
            if outcome is not None and outcome.status == "error":
                if attempt.again(outcome):
                    self.again.append(
                        (
                            self.clock()
                            + timedelta(seconds=self.template.cfg.retryDelay),
                            attempt,
                        )
                    )
                    continue
                if not attempt.failed(outcome):
                    outcome = None
            self._returned(attempt.entry, outcome)
            self.ended.tasks.append((attempt.entry, outcome or TAKEN))
            if told is not None:
                told(*self.ended.tasks[-1])
        self.hold.task_id = None
        self._let_go()
        if not self.ended.tasks and not self.ended.queued:
            self.ended.before = self._before()
        return self.ended

    def give_back(self) -> None:
        """Have the row that the last commit has claimed, and that nobody will begin now, wait again."""
        if self.claimed is not None:
            with self.app.engine(self.database).begin() as connection:
                transitions.give_back(connection, self.claimed.task_id, self.owner)

    def _before(self) -> dict[str, int]:
        """What became of the rows of this flow run: somebody tries it again, and nothing had failed."""
        query = (
            select(entries.c.status, func.count())
            .where(*self._mine())
            .group_by(entries.c.status)
        )
        with self.app.engine(self.database).connect() as connection:
            return {status: number for status, number in connection.execute(query)}

    def _mine(self) -> tuple[ColumnElement[bool], ...]:
        ours = (entries.c.template == self.template.fullName, entries.c.due == self.due)
        return (*ours, entries.c.flow_run_id == self.run.id)

    def _let_go(self, attempt: Attempt | None = None) -> None:
        """Have another connection from now on; one that a function still uses which was given up is left to it."""
        transaction, self.transaction = self.transaction, None
        if transaction is not None and not (attempt and attempt.given_up):
            transaction.close()

    def _returned(self, entry: Entry, outcome: Outcome | None) -> None:
        if outcome is None:
            return
        if type(self.template).afterReturn is not Meta.afterReturn:
            after_return(self.app, self.database, entry.task_id)
        if outcome.status == "error":
            next_of_row(self.app, self.database, entry, self.clock())

    def _next(self, sleep: Callable[[float], None]) -> Attempt | None:
        """The next attempt: of the row that the last commit has claimed, of another, or of one that failed before."""
        self.hold.off()
        entry, self.claimed = self.claimed, None
        if entry is None:
            entry = self._begin(sleep)
        if entry is not None:
            return self._attempt(entry)
        while self.again:
            at, failed = self.again.popleft()
            self.hold.on(failed.entry.task_id)  # its lease is renewed meanwhile
            sleep(max(0.0, (at - self.clock()).total_seconds()))
            if failed.next():
                return self._attempt(failed.entry)
            self.ended.tasks.append((failed.entry, TAKEN))
        return None

    def _begin(self, sleep: Callable[[float], None]) -> Entry | None:
        """Claim a row where the commit of another could not, once there is a slot for the batch."""
        waited = 0.0
        done: list[Entry] = []
        while True:
            wait = (
                self.turn()
                if self.turn and not self.ended.tasks and not self.again
                else None
            )
            full = Full("queue", wait.reason) if wait else None
            if full is None:
                with self.app.engine(self.database).begin() as connection:
                    entry = self._claim(connection, done)
                    full = (
                        limits.full(
                            connection,
                            entry,
                            self.template.cfg.concurrency,
                            self.app.cfg.maxConcurrency,
                            self.clock(),
                        )
                        if entry
                        else None
                    )
                    if full is not None:
                        connection.rollback()
                if full is None:
                    self.begun = True
                    self._done_already(done)
                    return entry
                done.clear()
                self.waiting.clear()
            if waited >= WAIT_SECONDS or self.again or (wait and wait.long):
                break
            sleep(LOOK_SECONDS)
            waited += LOOK_SECONDS
        if not self.again:  # these have a slot
            with self.app.engine(self.database).begin() as connection:
                if not self.begun:
                    transitions.retry_batch(
                        connection,
                        self.app.name,
                        self.template.fullName,
                        self.due,
                        self.run.id,
                    )
                if limits.queue(connection, full, *self._mine()):
                    self.ended.queued = full.reason
        return None

    def _done_already(self, done: list[Entry]) -> None:
        """Take up rows that another task has done for the same instant."""
        for entry in done:
            self.ended.tasks.append(
                (entry, Outcome("ended", "superseded", f"superseded: {DONE}"))
            )
            next_of_row(self.app, self.database, entry, self.clock())

    def _attempt(self, entry: Entry) -> Attempt:
        self.transaction = self.transaction or RowTransaction(
            self.app.engine(self.database)
        )
        of = (
            self.app,
            self.database,
            self.template,
            entry,
            self.owner,
            self.clock,
            self.hold,
            self.lane,
        )
        return Attempt(*of, self._finish, self.transaction)

    def _finish(
        self, connection: Connection, task_id: str, owner: str, **how: Any
    ) -> bool:
        """End a task, and claim another row in the same commit; should it fail, this is undone with it."""
        if not self.waiting:
            self._look(connection)
        entry = next(iter(self.waiting), None)
        if entry is None or entry.task_id in self.twins:
            return transitions.finish(connection, task_id, owner, **how)
        self.asked = time.monotonic()
        following = transitions.Following(entry.task_id, self.run.id, LEASE_SECONDS)
        mine = transitions.finish(
            connection, task_id, owner, following=following, **how
        )
        if mine:
            self.waiting.popleft()
            if following.claimed:
                self.claimed = self._ours(entry)
            else:
                self.waiting.append(entry)
        return mine

    def _ours(self, entry: Entry) -> Entry:
        if not self.again:  # their leases are older
            self.hold.renewed = self.asked
        return replace(entry, attempt=entry.attempt + 1, flow_run_id=self.run.id)

    def _claim(self, connection: Connection, done: list[Entry]) -> Entry | None:
        """Claim one of the waiting rows; those that another task has done for the same instant are noted in `done`."""
        if not self.waiting:
            self._look(connection)
        while self.waiting:
            entry = self.waiting.popleft()
            run, now, self.asked = self.run.id, self.clock(), time.monotonic()
            if (
                entry.task_id in self.twins
                and (twin := end_twins(connection, entry, now)) is not None
            ):
                done += [entry] if twin == "done" else []
                continue  # one whose twin is at work gets another flow run
            if transitions.claim(
                connection,
                entry.task_id,
                self.owner,
                run,
                now,
                LEASE_SECONDS,
                in_batch=True,
            ):
                return self._ours(entry)
        return None

    def _look(self, connection: Connection) -> None:
        """Which rows wait. Those of other batches are left to them."""
        room = MOST - len(self.ended.tasks) - len(self.again)
        mine: ColumnElement[bool] = entries.c.flow_run_id == self.run.id
        status: ColumnElement[bool] = entries.c.status == "pending"
        if (
            not self.begun
        ):  # what failed in this run before, and nothing that fails in it now
            status = or_(status, and_(entries.c.status == "error", mine))
        if (
            self.due - self.clock()
        ).total_seconds() <= EARLY_SECONDS:  # whoever names another instant has no rows
            mine = or_(mine, entries.c.flow_run_id.is_(None))
        query = select(entries, has_twin().label("asks")).where(
            entries.c.template == self.template.fullName,
            entries.c.due == self.due,
            status,
            mine,
        )
        found = connection.execute(
            query.order_by(entries.c.row_key).limit(max(0, room))
        )
        for record in found:
            entry = to_entry(record)
            if record.asks:
                self.twins.add(entry.task_id)
            self.waiting.append(entry)
        if any(entry.status == "error" for entry in self.waiting):
            transitions.retry_batch(
                connection, self.app.name, self.template.fullName, self.due, self.run.id
            )
