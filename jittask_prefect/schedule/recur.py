"""Repeat cycles: the nominal wall-clock times of a repeat, from any instant on, in closed form.

No zones and no holidays here: a wall time is a naive datetime as the task's zone shows it. A search costs the same
whether the start lies a day or fifty years back.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import product
from math import lcm
from typing import TYPE_CHECKING

from jittask_prefect.schedule.custom import CustomRule
from jittask_prefect.schedule.cycle import Cycle
from jittask_prefect.schedule.days import (
    LAST_MONTH,
    LAST_ORDINAL,
    month_number,
    month_start,
)

if TYPE_CHECKING:
    from jittask_prefect.schedule.calendar import Calendar
    from jittask_prefect.schedule.spec import Repeat


@dataclass(frozen=True, slots=True)
class Elapsed(Cycle):
    """minute and hour: every `step` of elapsed time from the start (UTC); no wall clock is involved."""

    start: datetime
    step: timedelta

    @property
    def sub_daily(self) -> bool:
        return True

    @property
    def pace(self) -> timedelta:
        return self.step

    def wall_times(self, low: datetime, high: datetime) -> Iterator[datetime]:
        steps = max(0, -((self.start - low) // self.step))
        try:
            at = self.start + steps * self.step
            while at < high:
                yield at
                at += self.step
        except OverflowError:
            return


@dataclass(frozen=True, slots=True)
class ListedTimes(Cycle):
    """Times written out: the start alone of `normal`, and the `dates` of a custom repeat."""

    start: datetime
    times: tuple[datetime, ...]

    @property
    def last(self) -> datetime | None:
        return self.times[-1] if self.times else self.start

    @property
    def pace(self) -> timedelta:
        return timedelta(366)

    def wall_times(self, low: datetime, high: datetime) -> Iterator[datetime]:
        low = max(low, self.start)
        return (at for at in self.times if low <= at < high)


@dataclass(frozen=True, slots=True)
class DayCycle(Cycle):
    """A cycle of whole days, all at the start's clock time; a subclass names the days."""

    start: datetime
    period: int

    @property
    def pace(self) -> timedelta:
        return timedelta(self.period)

    def days(self, low: date, high: date) -> Iterator[date]:
        """The days of the cycle with low <= day <= high, in order; `low` is not before the start's day."""
        raise NotImplementedError

    def wall_times(self, low: datetime, high: datetime) -> Iterator[datetime]:
        low = max(low, self.start)
        if high > low:
            yield from self._timed(low, high, high.date())

    def first(self, low: datetime) -> datetime | None:
        low = max(low, self.start)
        return next(self._timed(low, datetime.max, self._repeats(low.date())), None)

    def _timed(self, low: datetime, high: datetime, last: date) -> Iterator[datetime]:
        clock = self.start.time()
        for day in self.days(low.date(), last):
            at = datetime.combine(day, clock)
            if low <= at < high:
                yield at

    def _repeats(self, low: date) -> date:
        """A day up to which the cycle has a day, if any day follows `low`."""
        return date.max


@dataclass(frozen=True, slots=True)
class Daily(DayCycle):
    """Every `period` days."""

    def days(self, low: date, high: date) -> Iterator[date]:
        behind = (self.start.toordinal() - low.toordinal()) % self.period
        first, last = low.toordinal() + behind, high.toordinal()
        return map(date.fromordinal, range(first, last + 1, self.period))


@dataclass(frozen=True, slots=True)
class CountedWorkdays(DayCycle):
    """Every `period` working days; the first is the start's day, or the next working day."""

    calendar: Calendar

    @property
    def pace(self) -> timedelta:
        return timedelta(min(2 * self.period, 1_000_000))

    def days(self, low: date, high: date) -> Iterator[date]:
        workdays, period = self.calendar.workdays, self.period
        number = workdays.number(low.toordinal())
        number += (workdays.number(self.start.toordinal()) - number) % period
        while (day := workdays.day(number)) is not None and day <= high:
            yield day
            number += period


@dataclass(frozen=True, slots=True)
class Weekly(DayCycle):
    """Weekdays (Monday 1) of every `period` weeks, counted from the start's own week, Monday first."""

    weekdays: tuple[int, ...]

    @property
    def pace(self) -> timedelta:
        return timedelta(7 * self.period)

    def days(self, low: date, high: date) -> Iterator[date]:
        first, last = low.toordinal(), min(high.toordinal(), LAST_ORDINAL)
        monday = self.start.toordinal() - self.start.weekday()
        step = 7 * self.period
        begin = monday + max(0, (first - monday) // step) * step
        for week in range(begin, last + 1, step):
            for weekday in self.weekdays:
                if first <= week + weekday - 1 <= last:
                    yield date.fromordinal(week + weekday - 1)


@dataclass(frozen=True, slots=True)
class Monthly(DayCycle):
    """Days of every `period` months (a year counts twelve), counted from the start's month.

    Args:
        months: Only these months of a year; None for all.
        numbers: Days of the month, -1 the last; used where `week` is None.
        week: With `weekdays`: the n-th of the month, negative from its end (RFC 5545 §3.3.10, BYDAY).
        keep: monthEnd `last`: a day that the month lacks is its last day; else the day is left out.
    """

    months: tuple[int, ...] | None
    numbers: tuple[int, ...]
    weeks: tuple[int, ...]
    weekdays: tuple[int, ...]
    keep: bool

    @property
    def pace(self) -> timedelta:
        return timedelta(min(31 * self.period, 1_000_000))

    def _repeats(self, low: date) -> date:
        # The calendar is the same again after 4,800 months.
        months = month_number(low) + 1 + lcm(self.period, 4800)
        return month_start(months // 12 * 12) or date.max

    def days(self, low: date, high: date) -> Iterator[date]:
        first = month_number(self.start)
        if self.months is not None:
            first -= self.start.month - 1

        skipped = max(0, (month_number(low) - first) // self.period)
        last = min(month_number(high), LAST_MONTH)
        within = (0,) if self.months is None else [n - 1 for n in self.months]
        for cycle in range(first + skipped * self.period, last + 1, self.period):
            for month in within:
                if cycle + month > last:
                    return

                for day in self._of_month(*divmod(cycle + month, 12)):
                    if low <= day <= high:
                        yield day

    def _of_month(self, year: int, month: int) -> list[date]:
        """The days of a month, January being 0."""
        first, length = monthrange(year, month + 1)
        found = {
            length if n == -1 or (n > length and self.keep) else n
            for n in (self.numbers if not self.weeks else ())
        }
        last = (first + length - 1) % 7
        for week, weekday in product(self.weeks, self.weekdays):
            if week > 0:
                found.add((weekday - 1 - first) % 7 + 7 * week - 6)
            else:
                found.add(length - (last - weekday + 1) % 7 + 7 * (week + 1))

        return [date(year, month + 1, n) for n in sorted(found) if 1 <= n <= length]


@dataclass(frozen=True, slots=True)
class MonthlyWorkdays(Monthly):
    """Working days by their place in every `period` months; a place that a month has not is left out."""

    places: tuple[int, ...]
    calendar: Calendar

    def _of_month(self, year: int, month: int) -> list[date]:
        workdays, length = self.calendar.workdays, monthrange(year, month + 1)[1]
        first = date(year, month + 1, 1).toordinal()
        low, high = workdays.number(first), workdays.number(first + length)
        numbers = {
            low + place - 1 if place > 0 else high + place
            for place in self.places
            if abs(place) <= high - low
        }
        return [day for n in sorted(numbers) if (day := workdays.day(n)) is not None]


def recurrence(
    repeat: Repeat, start: datetime, calendar: Calendar, day: int | None = None
) -> Cycle:
    """The cycle of a repeat from a start on.

    Args:
        repeat: A validated repeat.
        start: The start's wall time, naive; of minute and hour in UTC. The start fills in absent parts of the repeat.
        calendar: Whose working days are counted.
        day: The day of the month that the start stands for, where its month was too short for that day.
    """
    kind, period = repeat.repeat_type, repeat.period
    start = start.replace(fold=0)
    if kind == "normal":
        return ListedTimes(start, (start,))

    if repeat.dates is not None:
        clock = start.time()
        times = {
            at if isinstance(at, datetime) else datetime.combine(at, clock)
            for at in repeat.dates
        }
        return ListedTimes(start, tuple(sorted(times)))

    if kind == "custom":
        return CustomRule.read(repeat.cron, repeat.rrule).at(start)
    if kind in ("minute", "hour"):
        return Elapsed(start, period * timedelta(minutes=1 if kind == "minute" else 60))
    if kind == "day":
        return Daily(start, period)
    if kind == "workday":
        return CountedWorkdays(start, period, calendar)

    weekdays = tuple(sorted(set(repeat.weekday or (start.isoweekday(),))))
    if kind == "week":
        return Weekly(start, period, weekdays)

    numbers = tuple(sorted(set(repeat.day or (day or start.day,))))
    months = None
    if kind == "year":
        period *= 12
        months = tuple(sorted(set(repeat.month or (start.month,))))

    keep = repeat.month_end == "last"
    parts = (numbers, repeat.week or (), weekdays, keep)
    if repeat.workday is not None:
        places = repeat.workday
        return MonthlyWorkdays(start, period, months, *parts, places, calendar)

    return Monthly(start, period, months, *parts)


def day_phase(
    repeat: Repeat, calendar: Calendar, *, custom: bool = False
) -> Callable[[datetime], Hashable] | None:
    """The key that starts with the same days have in common; two such starts share all days from the later start on.

    Args:
        repeat: A validated repeat.
        calendar: Whose working days are counted.
        custom: Rules that name their days themselves count too: all starts of such a rule share their days.

    Returns:
        From a start's wall time to its key; None for cycles that are not made of whole days.
    """
    kind, period = repeat.repeat_type, repeat.period
    if kind == "custom" and custom and repeat.dates is None:
        named = CustomRule.read(repeat.cron, repeat.rrule).names_days
        return (lambda at: 0) if named else None

    if kind == "day":
        return lambda at: at.toordinal() % period

    if kind == "workday":
        return lambda at: calendar.workdays.number(at.toordinal()) % period

    if kind == "week":
        if repeat.weekday:
            return lambda at: (at.toordinal() - 1) // 7 % period

        return lambda at: (at.toordinal() - 1) % (7 * period)

    if kind not in ("month", "year"):
        return None

    by_weekday = repeat.week is not None and not repeat.weekday
    by_day = repeat.week is None and not repeat.day and not repeat.workday
    by_month = kind == "year" and not repeat.month
    if period == 1 and by_day:
        # Numbers, since a million rows ask for them.
        return (lambda at: at.month * 32 + at.day) if by_month else (lambda at: at.day)

    return lambda at: (
        at.year % period if kind == "year" else (at.year * 12 + at.month) % period,
        at.month if by_month else 0,
        at.day if by_day else 0,
        at.isoweekday() if by_weekday else 0,
    )
