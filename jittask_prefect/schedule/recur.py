"""Repeat cycles: the nominal wall-clock times of a repeat, from any instant on, in closed form.

Nothing here knows zones or holidays: a wall time is a naive datetime as the task's zone shows it. Seeking costs the
same whether the start lies a day or fifty years back.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from math import lcm
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from jittask_prefect.schedule.spec import Repeat

LAST_ORDINAL = date.max.toordinal()
LAST_MONTH = 9999 * 12 + 11


class Recurrence(Protocol):
    """Nominal wall-clock times of one series."""

    @property
    def sub_daily(self) -> bool:
        """Whether the cycle is finer than a day: then a holiday drops occurrences instead of moving them."""

    @property
    def last(self) -> datetime | None:
        """A wall time after which there is none; None where there is no end."""

    @property
    def pace(self) -> timedelta:
        """About how far one time lies from the next: where a search for it may begin."""

    def wall(self, low: datetime, high: datetime) -> Iterator[datetime]:
        """The naive wall times n with low <= n < high, none before the start, in order."""

    def first(self, low: datetime) -> datetime | None:
        """The first wall time from `low` on; None where there is none. The search ends, whatever the cycle."""


@dataclass(frozen=True, slots=True)
class Elapsed:
    """minute and hour: every `step` of elapsed time from the start; no wall clock is involved."""

    step: timedelta


@dataclass(frozen=True, slots=True)
class Listed:
    """Wall times one by one: `normal` (the start alone), and the `dates` of a custom repeat."""

    start: datetime
    times: tuple[datetime, ...]
    sub_daily: bool = False

    @property
    def last(self) -> datetime | None:
        return self.times[-1] if self.times else self.start

    @property
    def pace(self) -> timedelta:
        return timedelta(366)

    def wall(self, low: datetime, high: datetime) -> Iterator[datetime]:
        low = max(low, self.start)
        return (at for at in self.times if low <= at < high)

    def first(self, low: datetime) -> datetime | None:
        low = max(low, self.start)
        return next((at for at in self.times if at >= low), None)


@dataclass(frozen=True, slots=True)
class Days:
    """A cycle of whole days, all at the start's clock time; subclasses say which days."""

    start: datetime
    period: int

    @property
    def sub_daily(self) -> bool:
        return False

    @property
    def last(self) -> datetime | None:
        return None

    @property
    def pace(self) -> timedelta:
        return timedelta(self.period)

    def days(self, low: date, high: date) -> Iterator[date]:
        """The days of the cycle with low <= day <= high, in order, where low is not before the start's day."""
        raise NotImplementedError

    def wall(self, low: datetime, high: datetime) -> Iterator[datetime]:
        low = max(low, self.start)
        clock = self.start.time()
        if high > low:
            for day in self.days(low.date(), high.date()):
                at = datetime.combine(day, clock)
                if low <= at < high:
                    yield at

    def first(self, low: datetime) -> datetime | None:
        low, clock = max(low, self.start), self.start.time()
        upto = self._same_again(low.date())
        return next(
            (
                at
                for day in self.days(low.date(), upto)
                if (at := datetime.combine(day, clock)) >= low
            ),
            None,
        )

    def _same_again(self, low: date) -> date:
        """A day up to which the cycle has a day, if it has any from `low` on."""
        return date.max


@dataclass(frozen=True, slots=True)
class Daily(Days):
    """Every `period` days."""

    def days(self, low: date, high: date) -> Iterator[date]:
        first = self.start.toordinal()
        skipped = -(-(low.toordinal() - first) // self.period)
        for ordinal in range(
            first + skipped * self.period, high.toordinal() + 1, self.period
        ):
            yield date.fromordinal(ordinal)


@dataclass(frozen=True, slots=True)
class Weekly(Days):
    """Weekdays (Monday 1) of every `period` weeks, counted from the start's own week, Monday first."""

    weekdays: tuple[int, ...]

    @property
    def pace(self) -> timedelta:
        return timedelta(7 * self.period)

    def days(self, low: date, high: date) -> Iterator[date]:
        monday = self.start.toordinal() - self.start.weekday()
        skipped = max(0, (low.toordinal() - monday) // 7 // self.period)
        for week in range(
            monday + skipped * self.period * 7, high.toordinal() + 1, self.period * 7
        ):
            for weekday in self.weekdays:
                if (
                    low.toordinal()
                    <= week + weekday - 1
                    <= min(high.toordinal(), LAST_ORDINAL)
                ):
                    yield date.fromordinal(week + weekday - 1)


@dataclass(frozen=True, slots=True)
class Monthly(Days):
    """Days of every `period` months (a year counts twelve), counted from the start's month.

    Args:
        months: Only these months of a year; None for all.
        numbers: Days of the month, -1 the last; used where `week` is None.
        week: With `weekdays`: the n-th of the month, negative from its end (RFC 5545 §3.3.10, BYDAY).
        keep: monthEnd `last`: a day that the month lacks is its last day; else it is left out.
    """

    months: tuple[int, ...] | None
    numbers: tuple[int, ...]
    week: int | None
    weekdays: tuple[int, ...]
    keep: bool

    @property
    def pace(self) -> timedelta:
        return timedelta(min(31 * self.period, 1_000_000))

    def _same_again(self, low: date) -> date:
        # The calendar is the same again after 4,800 months.
        months = low.year * 12 + low.month + lcm(self.period, 4800)
        return date(months // 12, 1, 1) if months // 12 <= 9999 else date.max

    def days(self, low: date, high: date) -> Iterator[date]:
        first = self.start.year * 12 + self.start.month - 1
        if self.months is not None:
            first -= self.start.month - 1
        skipped = max(0, (low.year * 12 + low.month - 1 - first) // self.period)
        last = min(high.year * 12 + high.month - 1, LAST_MONTH)
        for cycle in range(first + skipped * self.period, last + 1, self.period):
            for month in (
                (cycle,)
                if self.months is None
                else [cycle + number - 1 for number in self.months]
            ):
                if month > last:
                    return
                for day in self._of_month(month // 12, month % 12 + 1):
                    if low <= day <= high:
                        yield day

    def _of_month(self, year: int, month: int) -> list[date]:
        first, length = monthrange(year, month)
        if self.week is None:
            wanted = (
                length if n == -1 or (n > length and self.keep) else n
                for n in self.numbers
            )
        elif self.week > 0:
            wanted = (
                (weekday - 1 - first) % 7 + 7 * self.week - 6
                for weekday in self.weekdays
            )
        else:
            last = (first + length - 1) % 7
            wanted = (
                length - (last - weekday + 1) % 7 + 7 * (self.week + 1)
                for weekday in self.weekdays
            )
        return [date(year, month, n) for n in sorted(set(wanted)) if 1 <= n <= length]


def recurrence(
    repeat: Repeat, start: datetime, day: int | None = None
) -> Recurrence | Elapsed:
    """The cycle of a repeat that begins at a start.

    Args:
        repeat: A validated repeat.
        start: The start's wall time, naive; what the repeat leaves open is taken from it.
        day: The day of the month that the start stands for, where its month was too short for it.

    Returns:
        The cycle; `Elapsed` for minute and hour.
    """
    kind, period = repeat.repeat_type, repeat.period
    start = start.replace(fold=0)
    if kind == "normal":
        return Listed(start, (start,))
    if kind in ("minute", "hour"):
        return Elapsed(period * timedelta(minutes=1 if kind == "minute" else 60))
    if kind == "custom":
        return _custom(repeat, start)
    if kind == "day":
        return Daily(start, period)
    weekdays = tuple(sorted(set(repeat.weekday or (start.isoweekday(),))))
    if kind == "week":
        return Weekly(start, period, weekdays)
    numbers = tuple(sorted(set(repeat.day or (day or start.day,))))
    keep = repeat.month_end == "last"
    if kind == "month":
        return Monthly(start, period, None, numbers, repeat.week, weekdays, keep)
    months = tuple(sorted(set(repeat.month or (start.month,))))
    return Monthly(start, period * 12, months, numbers, repeat.week, weekdays, keep)


def phase(repeat: Repeat, *, custom: bool = False) -> Callable[[datetime], int] | None:
    """Which starts share their days: two starts of one number have the same days from the later one on.

    Args:
        repeat: A validated repeat.
        custom: Rules that name their days themselves count too: then all starts share them.

    Returns:
        From a start's wall time to that number; None for cycles that are not made of whole days.
    """
    kind, period = repeat.repeat_type, repeat.period
    if custom and kind == "custom" and _names_days(repeat):
        return lambda at: 0
    if kind == "day":
        return lambda at: at.toordinal() % period
    if kind == "week":
        if repeat.weekday:
            return lambda at: (at.toordinal() - 1) // 7 % period
        return lambda at: (at.toordinal() - 1) % (7 * period)
    if kind not in ("month", "year"):
        return None
    by_weekday = repeat.week is not None and not repeat.weekday
    by_day = repeat.week is None and not repeat.day
    by_month = kind == "month" or not repeat.month

    def number(at: datetime) -> int:
        cycle = (
            at.year % period if kind == "year" else (at.year * 12 + at.month) % period
        )
        month = at.month if kind == "year" and by_month else 0
        return ((cycle * 13 + month) * 32 + (at.day if by_day else 0)) * 8 + (
            at.isoweekday() if by_weekday else 0
        )

    if period == 1 and by_day:
        return (
            (lambda at: at.month * 32 + at.day)
            if kind == "year" and by_month
            else (lambda at: at.day)
        )
    return number


def _names_days(repeat: Repeat) -> bool:
    from jittask_prefect.schedule.rrule import RRule

    rule = RRule.read(repeat.rrule) if repeat.rrule is not None else None
    return repeat.cron is not None or (rule is not None and rule.names_days)


def _custom(repeat: Repeat, start: datetime) -> Recurrence:
    from jittask_prefect.schedule.cron import Cron
    from jittask_prefect.schedule.rrule import RRule

    if repeat.cron is not None:
        return Cron.read(repeat.cron).at(start)
    if repeat.rrule is not None:
        return RRule.read(repeat.rrule).at(start)
    clock = start.time()
    times = {
        at if isinstance(at, datetime) else datetime.combine(at, clock)
        for at in repeat.dates or ()
    }
    return Listed(start, tuple(sorted(times)))


def midnight(day: date) -> datetime:
    """The naive wall time at which a day begins."""
    return datetime.combine(day, time())
