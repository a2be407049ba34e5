"""Rules of decorated tasks: how often a task is due."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import ClassVar, Literal, TypeAlias

from jittask_prefect.elements.decorated.pieces import Clock, Piece, frozen

When: TypeAlias = str | date | datetime
"""A wall time in the task's zone: `"2026-05-01"`, `"2026-05-01 09:00"`, a date, or a datetime without a zone."""


Weekday: TypeAlias = Literal[
    "mon", "tue", "wed", "thu", "fri", "sat", "sun",
    "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday",
]  # fmt: skip


NthDay: TypeAlias = Literal[
    "first monday", "second monday", "third monday", "fourth monday", "fifth monday",
    "first tuesday", "second tuesday", "third tuesday", "fourth tuesday", "fifth tuesday",
    "first wednesday", "second wednesday", "third wednesday", "fourth wednesday", "fifth wednesday",
    "first thursday", "second thursday", "third thursday", "fourth thursday", "fifth thursday",
    "first friday", "second friday", "third friday", "fourth friday", "fifth friday",
    "first saturday", "second saturday", "third saturday", "fourth saturday", "fifth saturday",
    "first sunday", "second sunday", "third sunday", "fourth sunday", "fifth sunday",
    "last monday", "last tuesday", "last wednesday", "last thursday", "last friday", "last saturday", "last sunday",
    "second last monday", "second last tuesday", "second last wednesday", "second last thursday",
    "second last friday", "second last saturday", "second last sunday",
]  # fmt: skip


NthWorkday: TypeAlias = Literal[
    "first workday", "second workday", "third workday", "fourth workday", "fifth workday",
    "sixth workday", "seventh workday", "eighth workday", "ninth workday", "tenth workday",
    "last workday", "second last workday", "third last workday", "fourth last workday", "fifth last workday",
]  # fmt: skip


Day: TypeAlias = int | NthDay | NthWorkday | Sequence[int | NthDay | NthWorkday]


MonthEnd: TypeAlias = Literal["last", "skip"]


@dataclass(frozen=True, repr=False)
class Rule(Piece):
    """When a scheduled task is due."""


@dataclass(frozen=True, repr=False)
class Repeat(Rule):
    """A rule that comes again: of a scheduled task, or of a row's task (`repeat=`)."""


@dataclass(frozen=True, repr=False, init=False)
class _Cycle(Repeat):
    """A repeat with a period."""

    every: int = 1
    start: When | None = None
    at: Clock | None = None

    def __init__(
        self, *, every: int = 1, start: When | None = None, at: Clock | None = None
    ) -> None:
        self._keep(every=every, start=start, at=at)


@dataclass(frozen=True, repr=False, init=False)
class Minutely(_Cycle):
    """Every minute, in elapsed time: `Minutely(every=15, start="2026-01-01")`.

    Args:
        every: Each n-th minute. Above 1 a scheduled task needs a start.
        start: The first time, in the task's zone; absent: 2000-01-01. A row's task counts from its date, without a start.
        at: The clock time of the start, `"00:30"`.
    """


@dataclass(frozen=True, repr=False, init=False)
class Hourly(_Cycle):
    """Every hour, in elapsed time: `Hourly(at="00:30")`, at half past each hour.

    Args:
        every: Each n-th hour. Above 1 a scheduled task needs a start.
        start: The first time, in the task's zone; absent: 2000-01-01. A row's task counts from its date, without a start.
        at: The clock time of the start, `"00:30"`.
    """


@dataclass(frozen=True, repr=False, init=False)
class Daily(_Cycle):
    """Every day: `Daily(at="06:00")`.

    Args:
        every: Each n-th day. Above 1 a scheduled task needs a start.
        start: The first day, or time, in the task's zone; absent: 2000-01-01. A row's task counts from its date, without
            a start.
        at: The clock time, `"06:00"`; absent: the start's or the row's own.
    """


@dataclass(frozen=True, repr=False, init=False)
class Workdays(_Cycle):
    """Every working day of the task's calendar: `Workdays(at="08:00")`.

    Args:
        every: Each n-th working day. Above 1 a scheduled task needs a start.
        start: The first day, or time, in the task's zone; absent: 2000-01-01. A row's task counts from its date, without
            a start. Where nobody works on that day, the next working day is the first.
        at: The clock time, `"08:00"`; absent: the start's or the row's own.
    """


@dataclass(frozen=True, repr=False, init=False)
class Weekly(Repeat):
    """Every week, on some weekdays: `Weekly("mon", "thu", at="09:00")`.

    Args:
        weekdays: `"mon"` to `"sun"`, or in full; absent: the weekday of the start or of the row's date.
        every: Each n-th week. Above 1 a scheduled task needs a start.
        start: The first day, or time, in the task's zone; absent: 2000-01-01. A row's task counts from its date, without
            a start.
        at: The clock time, `"09:00"`; absent: the start's or the row's own.
    """

    weekdays: tuple[Weekday, ...] = ()
    every: int = 1
    start: When | None = None
    at: Clock | None = None

    _star: ClassVar[str] = "weekdays"

    def __init__(
        self,
        *weekdays: Weekday,
        every: int = 1,
        start: When | None = None,
        at: Clock | None = None,
    ) -> None:
        self._keep(weekdays=weekdays, every=every, start=start, at=at)


@dataclass(frozen=True, repr=False, init=False)
class Monthly(Repeat):
    """Every month: `Monthly(day=-1, at="18:00")`, `Monthly(day="first monday")`.

    Args:
        day: 1 to 31, or -1 for the last; a weekday by its place, `"first monday"`, `"last friday"`; or a list of either.
            A working day of the calendar by its place: `"first workday"`, `"last workday"`.
            Absent: the day of the start (1 without a start) or of the row's date.
        every: Each n-th month. Above 1 a scheduled task needs a start.
        start: The first day, or time, in the task's zone; absent: 2000-01-01. A row's task counts from its date, without
            a start.
        at: The clock time, `"18:00"`; absent: the start's or the row's own.
        month_end: In a month without the day: `"last"`, its last day, or `"skip"`.
    """

    day: Day | None = None
    every: int = 1
    start: When | None = None
    at: Clock | None = None
    month_end: MonthEnd = "last"

    def __init__(
        self,
        *,
        day: Day | None = None,
        every: int = 1,
        start: When | None = None,
        at: Clock | None = None,
        month_end: MonthEnd = "last",
    ) -> None:
        self._keep(day=frozen(day), every=every, start=start, at=at)
        self._keep(month_end=month_end)


@dataclass(frozen=True, repr=False, init=False)
class Yearly(Repeat):
    """Every year: `Yearly(month=3, day=31, at="09:00")`, `Yearly(month=[1, 7], day="first monday")`.

    Args:
        month: 1 to 12, or a list; absent: the month of the start (1 without a start) or of the row's date.
        day: As in `Monthly`.
        every: Each n-th year. Above 1 a scheduled task needs a start.
        start: The first day, or time, in the task's zone; absent: 2000-01-01. A row's task counts from its date, without
            a start.
        at: The clock time, `"09:00"`; absent: the start's or the row's own.
        month_end: In a month without the day: `"last"`, its last day, or `"skip"`.
    """

    month: int | Sequence[int] | None = None
    day: Day | None = None
    every: int = 1
    start: When | None = None
    at: Clock | None = None
    month_end: MonthEnd = "last"

    def __init__(
        self,
        *,
        month: int | Sequence[int] | None = None,
        day: Day | None = None,
        every: int = 1,
        start: When | None = None,
        at: Clock | None = None,
        month_end: MonthEnd = "last",
    ) -> None:
        self._keep(month=frozen(month), day=frozen(day), every=every, start=start)
        self._keep(at=at, month_end=month_end)


@dataclass(frozen=True, repr=False)
class Once(Rule):
    """Once, of a scheduled task: `Once("2026-05-01 09:00")`.

    Args:
        at: The time, in the task's zone.
    """

    at: When


@dataclass(frozen=True, repr=False)
class Cron(Repeat):
    """A cron expression of five fields, in the task's zone: `Cron("0 6 * * 1-5")`.

    Args:
        text: Minute, hour, day of the month, month, weekday.
    """

    text: str


@dataclass(frozen=True, repr=False)
class RRule(Repeat):
    """An RRULE line of RFC 5545: `RRule("FREQ=MONTHLY;BYDAY=-1FR", at="18:00")`.

    Args:
        text: The rule, without DTSTART, COUNT and UNTIL. With an INTERVAL above 1 a scheduled task needs a start.
        start: The rule's DTSTART, in the task's zone; absent: 2000-01-01. A row's task counts from its date, without a
            start.
        at: The clock time, `"18:00"`; absent: the start's or the row's own.
    """

    text: str
    start: When | None = None
    at: Clock | None = None


@dataclass(frozen=True, repr=False, init=False)
class Dates(Repeat):
    """Listed dates: `Dates("2026-03-31", "2026-06-30 18:00", at="09:00")`.

    Args:
        dates: Days or times, in the task's zone.
        at: The clock time of dates without a time, `"09:00"`; absent: 00:00, or the row's own.
    """

    dates: tuple[When, ...] = ()
    at: Clock | None = None

    _star: ClassVar[str] = "dates"

    def __init__(self, *dates: When, at: Clock | None = None) -> None:
        self._keep(dates=dates, at=at)
