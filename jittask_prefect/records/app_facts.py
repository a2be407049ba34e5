"""The facts of an app's overview: its tasks, their numbers by hour, and its faults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum
from zoneinfo import ZoneInfo

from jittask_prefect.schedule.instants import DAY, clamped, midnight

HOUR = timedelta(hours=1)
AROUND = 24 * HOUR
"""The span of the picture before and after the present hour."""
LATE_AFTER = timedelta(minutes=1)
"""A task that is due is called overdue after this time: a worker needs some seconds to begin a run."""
IN_A_ROW = 2
"""Consecutive failures from which on a task is listed as failing."""
CALENDAR_ENDS = timedelta(days=60)
"""How long before its last published day a calendar is listed."""


@dataclass(frozen=True)
class TaskFacts:
    """The facts of a template.

    Attributes:
        name: The full name.
        title: The title, any text.
        rule: The rule in words.
        group: The first tag; empty without tags.
        rows: Whether each row has a task.
        state: Why nothing is due by itself: `disabled`, `paused`, `by code only` or `its Type decides`; empty where the
            rule decides.
        next_due: The next due time of a schedule; None for rows, and where nothing comes.
        declared: Whether the task is a decorated function, which no form edits.
    """

    name: str
    title: str
    rule: str = ""
    group: str = ""
    rows: bool = False
    state: str = ""
    next_due: datetime | None = None
    declared: bool = False


@dataclass(frozen=True)
class Open:
    """The open tasks of a template: how many wait, are late, are executed; the first late and the next due time."""

    pending: int = 0
    overdue: int = 0
    executing: int = 0
    late_since: datetime | None = None
    next_due: datetime | None = None


@dataclass(frozen=True)
class Last:
    """The tasks of a template's newest instant that ended: a batch with one failure is a failure.

    Attributes:
        status: The worst of their statuses: `error`, else `ended`, else `completed`.
        at: When the last task of that status ended.
        message: The reason of one failure or end.
        row: That task's row; empty for a scheduled task.
        in_a_row: The failures since the last completed task.
        label: The text that names the row for people; empty without.
        counts: The number of tasks of each status at that instant.
    """

    status: str
    at: datetime
    message: str = ""
    row: str = ""
    in_a_row: int = 0
    label: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def share(self) -> str:
        """How many of the instant's tasks ended so, e.g. ` (1 of 120)`; empty where all did."""
        total = sum(self.counts.values())
        mine = self.counts.get(self.status, 0)
        return f" ({mine:,} of {total:,})" if mine < total else ""


Counted = Mapping[tuple[str, datetime], Mapping[str, int]]
"""By template and beginning of an hour (UTC), the number of tasks of each status that are due in that hour."""


class Kind(IntEnum):
    """The kinds of troubles, the worst first."""

    APP_PAUSED = 1
    SERVER = 2
    WORKER = 3
    BROKEN = 4
    OVERDUE = 5
    FAILING = 6
    CALENDAR = 7
    PAUSED = 8
    UNKNOWN = 9


@dataclass(frozen=True)
class Trouble:
    """A fault of the app, in a line.

    Attributes:
        kind: The kind.
        text: The sentence, any text in it.
        task: The full name of the task that the line is about; empty for others.
        title: The task's title.
    """

    kind: Kind
    text: str
    task: str = ""
    title: str = ""


@dataclass(frozen=True)
class Facts:
    """All that the page is made of.

    Attributes:
        app: The app's name.
        title: The app's title.
        zone: The app's zone, in which the page's times are.
        now: The present instant; aware.
        day: The day to show hour by hour.
        tasks: The templates.
        open: By template, its open tasks.
        last: By template, its last task.
        near: The tasks from a day before the present hour to the end of tomorrow.
        of_day: The tasks of `day`.
        uncounted: The templates whose rows are too many to count.
        troubles: Facts from databases, server and files.
        asked_prefect: Whether Prefect answered: only Prefect knows that a schedule's run is late.
    """

    app: str
    title: str
    zone: ZoneInfo
    now: datetime
    day: date
    tasks: Sequence[TaskFacts]
    open: Mapping[str, Open] = field(default_factory=dict)
    last: Mapping[str, Last] = field(default_factory=dict)
    near: Counted = field(default_factory=dict)
    of_day: Counted = field(default_factory=dict)
    uncounted: frozenset[str] = frozenset()
    troubles: Sequence[Trouble] = ()
    asked_prefect: bool = True


# Hours and days


def hour_of(at: datetime, zone: ZoneInfo) -> datetime:
    """The beginning of an instant's hour on the clocks of a zone; in UTC."""
    local = at.astimezone(zone)
    passed = timedelta(
        minutes=local.minute, seconds=local.second, microseconds=local.microsecond
    )
    return at.astimezone(UTC) - passed


def near_window(now: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """From a day before the present hour to the end of tomorrow, UTC; never less than a day on."""
    hour = hour_of(now, zone)
    _, end = day_window(now.astimezone(zone).date() + DAY, zone)
    return hour - AROUND, max(end, hour + AROUND)


def day_window(day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The first instant of a day in a zone, and that of the next; UTC."""
    return clamped(midnight(day), zone), clamped(midnight(day + DAY), zone)
