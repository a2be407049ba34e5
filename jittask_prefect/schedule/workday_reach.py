"""Offsets in working days, asked backwards: from which values of a field they lead to a span of wall times."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta

from jittask_prefect.schedule.days import each_day, month_length
from jittask_prefect.schedule.instants import midnight
from jittask_prefect.schedule.offset import Offset
from jittask_prefect.schedule.workdays import Run, WorkdayNumbers

Wall = datetime | None
Span = tuple[Wall, Wall]
FEW = 40
"""Days up to which each has its own clock times; more days are asked for as a whole."""


def workday_values(
    workdays: WorkdayNumbers, offset: Offset, low: datetime, high: datetime
) -> list[Span]:
    """The spans of values whose n-th working day has a wall time within `low`..`high`, both inclusive."""
    first, last = _numbers(workdays, low, high)
    if first > last:
        return []

    begin, end = workday_bounds(workdays, offset, low, high)
    few = begin is not None and end is not None and end - begin < timedelta(FEW)
    if offset.time is not None or not few:
        return [(begin, end)]

    spans: list[Span] = []
    for number in range(first, last + 1):
        due, run = workdays.day(number), workdays.sources(number, offset.workdays)
        clocks = (
            low.time() if due == low.date() else time.min,
            high.time() if due == high.date() else time.max,
        )
        spans += _on_days(run, *clocks)

    return spans


def workday_bounds(
    workdays: WorkdayNumbers, offset: Offset, low: datetime, high: datetime
) -> Span:
    """The least value that leads to `low` or later, and the greatest that leads to `high` or earlier, in whole days."""
    first, last = _numbers(workdays, low, high)
    begin = workdays.sources(first, offset.workdays)[0]
    end = workdays.sources(last, offset.workdays)[1]
    return (
        None if begin is None else midnight(begin),
        None if end is None else datetime.combine(end, time.max),
    )


def _numbers(
    workdays: WorkdayNumbers, low: datetime, high: datetime
) -> tuple[int, int]:
    """The numbers of the first and the last working day of a span; the first is greater where there is none."""
    first, after = low.toordinal(), high.toordinal() + 1
    return workdays.number(first), workdays.number(after) - 1


def _on_days(run: Run, low: time, high: time) -> Iterator[Span]:
    """The clock times on each day of a run; whole days as one span."""
    first, last = run
    if first is None or last is None:
        return
    if (low, high) == (time.min, time.max):
        yield midnight(first), datetime.combine(last, high)
        return

    for day in each_day(first, last):
        yield datetime.combine(day, low), datetime.combine(day, high)


def workday_days(
    workdays: WorkdayNumbers, n: int, days: frozenset[tuple[int, int]]
) -> frozenset[tuple[int, int]] | None:
    """The days of the year, or month, whose n-th working day is such a day in some year.

    Args:
        workdays: The working days.
        n: The number of working days, not 0.
        days: As (month, day); month 0 is any month.

    Returns:
        Likewise; None where every day of the month is among them.
    """
    any_month = all(month == 0 for month, _ in days)
    found = set()
    for day in _days_of_years(workdays.years, days):
        if not workdays.works(day):
            continue

        first, last = workdays.sources(workdays.number(day.toordinal()), n)
        if first is None or last is None:
            return None
        for row in each_day(first, last):
            found.add((0 if any_month else row.month, row.day))

    whole = 31 if any_month else 366
    return None if len(found) >= whole else frozenset(found)


def _days_of_years(years: range, days: frozenset[tuple[int, int]]) -> Iterator[date]:
    for year in years:
        for month, number in days:
            for each in (month,) if month else range(1, 13):
                length = month_length(date(year, each, 1))
                some = (number,) if number else range(1, length + 1)
                yield from (date(year, each, n) for n in some if n <= length)
