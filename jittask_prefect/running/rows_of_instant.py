"""The calls of a batch: the rows of a template that are due at the same instant."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from jittask_prefect.ledger import limits, retries, transitions
from jittask_prefect.ledger.entry import Entry, entries_of_run, to_entry
from jittask_prefect.ledger.limits import Full
from jittask_prefect.ledger.opening import wait_for_opening
from jittask_prefect.ledger.tables import entries
from jittask_prefect.ledger.twins import end_twins, has_twin
from jittask_prefect.rows.batches import BATCH_SIZE
from jittask_prefect.rows.opening import opening_of, waits_text
from jittask_prefect.running.calls import (
    EARLY_SECONDS,
    STALE,
    SUPERSEDED,
    Call,
    Calls,
    End,
    Stale,
    Work,
)
from jittask_prefect.running.lease import LEASE_SECONDS
from jittask_prefect.running.order import Wait, wait_of_batch

GOLDEN = 0.618  # its multiples, modulo 1, lie far from each other


class RowsOfInstant(Calls):
    """The calls of a batch: each has a row of a template that is due at the instant.

    Rows that were handed over to this flow run, and rows that nobody has handed over.
    The list is read again before its end, since rows may join.

    Args:
        work: The flow run's surroundings.
        due: The instant.
        helper: The number of a process that helps; 0: the flow run's own process.
    """

    size = BATCH_SIZE
    """The rows of one flow run."""

    def __init__(self, work: Work, due: datetime, helper: int = 0) -> None:
        super().__init__(work)
        self.due, self.name = due, work.template.fullName
        self.parallel = work.template.cfg.parallel
        # By this process: a look of an older moment must not bring them back.
        self._claimed: set[str] = set()
        self.begun = self._helps = helper > 0
        # Each helper begins at another place of the list.
        self._start = helper * GOLDEN % 1
        self._waiting: deque[Entry] = deque()
        # Tasks that somebody had locked: they come last.
        self._locked: set[str] = set()
        # Tasks that must ask for another task of their row and instant first.
        self._twins: set[str] = set()
        # Whether rows of the list failed in this flow run before: the first claim has them wait again.
        self._failed = False
        # Whether rows outside their opening hours wait: not where somebody has pressed Retry.
        self._heeds_hours = self._helps and work.template.timer.windows.active

    def turn(self) -> Wait | None:
        if paused := self.paused():
            return paused
        if self.work.template.timer.windows.active and not self._tried_again:
            self._heeds_hours = True
        if self.begun:
            return None
        work, now = self.work, self.work.clock()
        return wait_of_batch(work.app, work.database, work.template, self.due, now)

    def paused(self) -> Wait | None:
        paused = self.pause.wait()
        return None if paused is None or self._tried_again else paused

    @cached_property
    def _tried_again(self) -> bool:
        """Whether rows have failed in this flow run before its begin: somebody has pressed Retry."""
        if self.begun:
            return False
        failed = (*self._of_this_run(), entries.c.status == "error")
        query = select(entries.c.task_id).where(*failed).limit(1)
        with self.work.app.engine(self.work.database).connect() as connection:
            return connection.execute(query).first() is not None

    def read_ahead(self) -> None:
        """Read the list before the first claim, which then costs less; each claim looks at its row again."""
        with self.work.app.engine(self.work.database).connect() as connection:
            self._read(connection)

    @property
    def left(self) -> int:
        return len(self._waiting)

    def count_left(self) -> int:
        """How many calls wait, as the ledger says."""
        with self.work.app.engine(self.work.database).connect() as connection:
            found = entries_of_run(connection, self.work.run.id)
        return sum(entry.status == "pending" for entry in found)

    def claim_in(
        self, connection: Connection, owner: str, closed: list[End]
    ) -> Call | Full | Stale | None:
        work = self.work
        if not self._waiting:
            self._read(connection)
            # MariaDB would count the slots as of this read: before the lock, so too few.
            connection.rollback()
        self._retry_failed(connection)
        while (entry := self._pop()) is not None:
            now = work.clock()
            if entry.task_id in self._twins:
                twin = end_twins(connection, entry, now)
                if twin == "done":
                    closed.append((entry, SUPERSEDED))
                if twin:  # a twin at work: this row gets another flow run
                    continue
            if opening := self._opening(entry, now):
                self._wait_for(connection, entry, opening)
                continue
            about = (entry.task_id, owner, work.run.id, now, LEASE_SECONDS)
            if transitions.claim(connection, *about, in_batch=True, begun=False):
                return self.full(connection, entry) or self.take(entry, claimed=True)
            self.drop()
            return STALE
        return None

    def reserve(self, connection: Connection) -> Entry | None:
        # An empty list is for `claim` to read: MariaDB would read as of this transaction's begin.
        closed = self.is_closed() or self.pause.to_ask
        entry = None if closed else self._pop()
        if entry is None:
            return None
        shut = self._opening(entry, self.work.clock()) is not None
        if entry.task_id not in self._twins and not shut:
            return entry
        with self._gate:
            self._waiting.appendleft(entry)
        return None

    def _opening(self, entry: Entry, now: datetime) -> datetime | None:
        """Until when a row's task waits for its opening hours; None: it may begin."""
        return opening_of(self.work.template, entry, now) if self._heeds_hours else None

    def _wait_for(
        self, connection: Connection, entry: Entry, opening: datetime
    ) -> None:
        """Have a row wait; where it is late, all that nobody has claimed yet, and that share its hours."""
        reason = waits_text(self.work.template, entry, opening)
        first = replace(entry, attempt=0)
        late = opening_of(self.work.template, first, self.work.clock()) is not None
        same = (entries.c.task_id == entry.task_id,)
        of_hours = (
            entries.c.zone_value.is_not_distinct_from(entry.zone_value),
            entries.c.calendar_value.is_not_distinct_from(entry.calendar_value),
            or_(self._of_run, entries.c.flow_run_id.is_(None)),
        )
        which = of_hours if late else same
        wait_for_opening(connection, opening, reason, *self._of_instant(), *which)
        self.work.summary.queued = reason

    def take(self, entry: Entry, *, claimed: bool) -> Call | None:
        with self._gate:
            if not claimed:  # somebody has locked the row's task, or taken or closed it
                self._locked.add(entry.task_id)
                self._waiting.clear()
                return None
            self._claimed.add(entry.task_id)
        return Call([entry.claimed_in(self.work.run.id)])

    def drop(self, call: Call | None = None) -> None:
        with self._gate:
            self._claimed.difference_update(call.ids if call else ())
            self._waiting.clear()

    def _pop(self) -> Entry | None:
        with self._gate:
            return self._waiting.popleft() if self._waiting else None

    def give_up(self, full: Full) -> None:
        if self._helps:
            return  # the rows are the leader's
        work = self.work
        with work.app.engine(work.database).begin() as connection:
            if not self.begun:
                self._retry(connection)
            if limits.queue(connection, full, *self._of_this_run()):
                work.summary.queued = full.reason

    def ended_before(self) -> Mapping[str, int]:
        status = entries.c.status
        query = select(status, func.count()).where(*self._of_this_run())
        with self.work.app.engine(self.work.database).connect() as connection:
            found = connection.execute(query.group_by(status)).all()
        return {each.status: each[1] for each in found}

    def _records(self, connection: Connection) -> list[Any]:
        """The rows that wait; those of other batches are left to them."""
        this_run = self._of_run
        status: ColumnElement[bool] = entries.c.status == "pending"
        if not self.begun:  # Retry: what failed in this run before it began
            status = or_(status, and_(entries.c.status == "error", this_run))
        early = (self.due - self.work.clock()).total_seconds()
        if early <= EARLY_SECONDS:  # else a person has named an instant of the future
            this_run = or_(this_run, entries.c.flow_run_id.is_(None))
        mine = (*self._of_instant(), status, this_run, self._opened())
        query = select(entries, has_twin().label("has_twin")).where(*mine)
        room = max(0, self.size - len(self._claimed))
        query = query.order_by(entries.c.row_key).limit(room)
        return list(connection.execute(query))

    def _read(self, connection: Connection) -> None:
        """Read which rows wait, and add them to the list."""
        found = self._records(connection)
        start = int(len(found) * self._start)
        with self._gate:
            self._add([*found[start:], *found[:start]])

    def _add(self, found: Sequence[Any]) -> None:
        """Add records to the list, but for tasks that this process has claimed, or has in the list."""
        known = self._claimed | {entry.task_id for entry in self._waiting}
        new = [record for record in found if record.task_id not in known]
        for record in sorted(new, key=lambda each: each.task_id in self._locked):
            self._failed = self._failed or record.status == "error"
            self._waiting.append(to_entry(record))
            if record.has_twin:
                self._twins.add(record.task_id)

    def _retry_failed(self, connection: Connection) -> None:
        """Before the first claim, and in its transaction: have the rows of the list that failed wait again."""
        if self._failed and not self.begun:
            self._retry(connection)

    def _retry(self, connection: Connection) -> None:
        app, run_id = self.work.app.name, self.work.run.id
        retries.retry_batch(connection, app, self.name, self.due, run_id)

    def _opened(self) -> ColumnElement[bool]:
        """Of an entry in a query: whether the task does not wait for an opening."""
        not_before = entries.c.not_before
        return or_(not_before.is_(None), not_before <= self.work.clock())

    @property
    def _of_run(self) -> ColumnElement[bool]:
        return entries.c.flow_run_id == self.work.run.id

    def _of_instant(self) -> tuple[ColumnElement[bool], ...]:
        return (
            entries.c.app == self.work.app.name,
            entries.c.template == self.name,
            entries.c.due == self.due,
            entries.c.nominal.is_not(None),
        )

    def _of_this_run(self) -> tuple[ColumnElement[bool], ...]:
        return *self._of_instant(), self._of_run
