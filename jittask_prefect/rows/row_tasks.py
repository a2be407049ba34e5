"""The tasks of a row that the ledger has: which of them an occurrence has, and which none needs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.tables import OPEN
from jittask_prefect.rows.level_tasks import (
    is_of_any_level,
    of_present_date,
    stands,
)
from jittask_prefect.schedule.series import Occurrence, Series


@dataclass(slots=True)
class RowTasks:
    """The tasks of a row and a template.

    Attributes:
        series: The row's series as the row is now.
        entries: All tasks; at least one.
        waiting: Those that are pending.
        current: Those that were planned from the row's present date, the newest first.
        done: Those that were completed in the row's present life, by due time.
        done_from: Those of `done` that begin as a level of the present date does, by nominal time.
    """

    series: Series
    entries: Sequence[Entry]
    waiting: Sequence[Entry]
    current: Sequence[Entry]
    done: Mapping[datetime, Entry]
    done_from: Mapping[datetime | None, Entry]

    @classmethod
    def of(cls, series: Series, entries: Sequence[Entry]) -> RowTasks:
        """The tasks, looked through once."""
        living = (e for e in entries if e.anchor is not None)
        completed = [e for e in living if e.status == "completed"]
        return cls(
            series,
            entries,
            [e for e in entries if e.status == "pending"],
            of_present_date(series, entries),
            {e.due: e for e in completed},
            {e.nominal: e for e in completed if is_of_any_level(e, series)},
        )

    # What a new task is told apart by

    @property
    def fresh(self) -> int:
        """A generation that no task has."""
        return max(e.generation for e in self.entries) + 1

    @property
    def base(self) -> int:
        """The generation of tasks from the row's present date."""
        return self.current[0].generation if self.current else self.fresh

    @property
    def taken(self) -> set[tuple[datetime | None, int]]:
        """The nominal times and generations of all tasks."""
        return {(e.nominal, e.generation) for e in self.entries}

    @property
    def busy(self) -> set[datetime]:
        """The due times of open tasks, of the row's present life."""
        living = (e for e in self.entries if e.anchor is not None)
        return {e.due for e in living if e.status in OPEN}

    # Which tasks stay

    @property
    def waiting_of_present_date(self) -> list[Entry]:
        """Those that wait, and that were planned from the row's present date."""
        return [e for e in self.waiting if e in self.current]

    @property
    def twice(self) -> list[Entry]:
        """Those that wait for an instant of which another was completed."""
        return [e for e in self.waiting if e.due in self.done]

    def of_occurrence(self, occurrence: Occurrence) -> Entry | None:
        """The task of an occurrence; None where there is none."""
        due = occurrence.due.astimezone(UTC)
        nominal = occurrence.nominal.astimezone(UTC)
        done = self.done.get(due) or self.done_from.get(nominal)
        planned = (e for e in self.current if e.nominal == nominal)
        return done or next(planned, None)

    def left(self, kept: Collection[str]) -> list[Entry]:
        """Those that wait, and that no occurrence needs, by due time.

        Args:
            kept: The ids of the tasks that occurrences have.
        """
        left = [
            e
            for e in self.waiting
            if e.task_id not in kept
            and e.due not in self.done
            and not (e in self.current and stands(e, self.series))
        ]
        return sorted(left, key=lambda e: e.due)
