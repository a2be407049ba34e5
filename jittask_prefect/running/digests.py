"""The calls of a digest's flow run: rows that are due at the instant and have the same value, 500 at most."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.ledger import digest_calls
from jittask_prefect.ledger.entry import Entry, to_entries
from jittask_prefect.ledger.limits import Full
from jittask_prefect.ledger.twins import end_twins
from jittask_prefect.rows.batches import DIGEST_SIZE
from jittask_prefect.rows.digest_rows import calls_of
from jittask_prefect.running.calls import (
    STALE,
    SUPERSEDED,
    Call,
    End,
    Stale,
    Work,
)
from jittask_prefect.running.lease import LEASE_SECONDS
from jittask_prefect.running.rows_of_instant import RowsOfInstant


class DigestsOfInstant(RowsOfInstant):
    """The calls of a digest: each has the rows that are due at the instant and have the same value.

    All tasks of a call are claimed in one transaction. Where another process has taken one of them, the list is read
    again, so that rows with one value stay together. Tasks that somebody has locked come in calls of their own, last.

    Args:
        work: The flow run's surroundings.
        due: The instant.
        helper: The number of a process that helps; 0: the flow run's own process.
    """

    size = DIGEST_SIZE

    def __init__(self, work: Work, due: datetime, helper: int = 0) -> None:
        super().__init__(work, due, helper)
        self._digests: deque[list[Entry]] = deque()

    @property
    def left(self) -> int:
        return len(self._digests)

    def count_left(self) -> int:
        with self.work.app.engine(self.work.database).connect() as connection:
            tasks = to_entries(self._records(connection))
            return len(self._as_calls(connection, tasks))

    def claim_in(
        self, connection: Connection, owner: str, closed: list[End]
    ) -> Call | Full | Stale | None:
        if not self._digests:
            self._read(connection)
            # MariaDB would count the slots as of this read: before the lock, so too few.
            connection.rollback()
        self._retry_failed(connection)
        while (tasks := self._next_digest()) is not None:
            ready = self._ready(connection, tasks, closed)
            if not ready:
                continue
            ids = [task.task_id for task in ready]
            now, wait = self.work.clock(), ids[0] in self._locked
            about = (owner, self.work.run.id, now, LEASE_SECONDS)
            claimed = digest_calls.claim_all(connection, ids, *about, wait=wait)
            if len(claimed) < len(ids) and not wait:
                connection.rollback()
                self._retry_failed(connection)  # undone, and asked for once
                closed.clear()
                self._locked.update(set(ids) - set(claimed))
                self.drop()
                return STALE
            if not claimed:
                return STALE  # others had them locked, and have them
            return self.full(connection, ready[0]) or self._call(ready, claimed)
        return None

    def reserve(self, connection: Connection) -> Entry | None:
        return None  # a call is claimed whole, and by itself

    def drop(self, call: Call | None = None) -> None:
        super().drop(call)
        with self._gate:
            self._digests.clear()

    def _next_digest(self) -> list[Entry] | None:
        with self._gate:
            return self._digests.popleft() if self._digests else None

    def _call(self, tasks: Sequence[Entry], claimed: Sequence[str]) -> Call:
        run_id, mine = self.work.run.id, set(claimed)
        with self._gate:
            self._claimed.update(mine)
        return Call(
            [
                replace(task, attempt=task.attempt + 1, flow_run_id=run_id)
                for task in tasks
                if task.task_id in mine
            ]
        )

    def _ready(
        self, connection: Connection, tasks: Sequence[Entry], closed: list[End]
    ) -> list[Entry]:
        """The tasks that may begin: no other task of the row at this instant is at work, or done, and the hours are open."""
        ready, shut, now = list[Entry](), set[Any](), self.work.clock()
        for task in tasks:
            twin = None
            if task.task_id in self._twins:
                twin = end_twins(connection, task, now)
            if twin == "done":
                closed.append((task, SUPERSEDED))
            if twin is not None:
                continue
            opening, hours = self._opening(task, now), _hours(task)
            if opening is None:
                ready.append(task)
            elif hours not in shut:  # one statement has all wait that share the hours
                self._wait_for(connection, task, opening)
                shut.add(hours)
        return ready

    def _read(self, connection: Connection) -> None:
        """Read which tasks wait, and make calls of them."""
        super()._read(connection)
        with self._gate:
            tasks = list(self._waiting)
            self._waiting.clear()
        found = self._as_calls(connection, tasks)
        start = int(len(found) * self._start)
        with self._gate:
            self._digests.extend([*found[start:], *found[:start]])

    def _as_calls(
        self, connection: Connection, tasks: Sequence[Entry]
    ) -> list[list[Entry]]:
        template = self.work.template
        assert isinstance(template, DateFieldType)
        free = [task for task in tasks if task.task_id not in self._locked]
        locked = [task for task in tasks if task.task_id in self._locked]
        found = calls_of(connection, template, free)
        return found + calls_of(connection, template, locked)


def _hours(task: Entry) -> tuple[Any, ...]:
    """The values that a task shares with those that wait with it for an opening; a retry waits by itself."""
    return task.zone_value, task.calendar_value, task.attempt and task.task_id
