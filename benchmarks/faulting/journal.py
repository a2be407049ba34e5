"""What the load has done and what must follow: rows with their dates, timer tasks, and when each change was certain.

Instants are those of the database's clock, which all hosts share.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass
class Date:
    """A date that a row has, or had.

    Attributes:
        at: The date, in UTC without a zone.
        left: When it was certain that the row had the date no more; None while it has.
        deleted: The row went with the date.
    """

    at: datetime
    left: datetime | None = None
    deleted: bool = False


@dataclass
class Row:
    """A row of the load."""

    id: int
    template: str
    dates: list[Date] = field(default_factory=list)

    @property
    def gone(self) -> bool:
        return not self.dates or self.dates[-1].left is not None


@dataclass
class Timer:
    """A call of `createTimerTask`.

    Attributes:
        due: When the task is due.
        task: The task's id; None where the call raised an error.
        refused: The error was Prefect's: nothing is kept.
        ended: When `forcedEnd` had confirmed the end.
    """

    due: datetime
    task: str | None = None
    refused: bool = False
    ended: datetime | None = None
    asked_to_end: bool = False


@dataclass
class Journal:
    """All that the load has done.

    Attributes:
        earlier_row: The highest id of a row of an earlier campaign in the same database; 0 without one.
        earlier_tasks: The ids of the tasks that such a campaign has left in the ledger.
    """

    rows: dict[int, Row] = field(default_factory=dict)
    timers: list[Timer] = field(default_factory=list)
    begun: datetime | None = None
    ended: datetime | None = None
    failed_saves: int = 0
    earlier_row: int = 0
    earlier_tasks: frozenset[str] = frozenset()

    def expected(self) -> dict[tuple[int, datetime], Row]:
        """The executions of rows that must come, by row and date."""
        return {
            (row.id, date.at): row
            for row in list(self.rows.values())
            for date in list(row.dates)
            if date.left is None
        }
