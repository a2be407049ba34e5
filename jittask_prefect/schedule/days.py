"""Days, weeks and months by number, and steps between them; none leaves the calendar."""

from __future__ import annotations

from calendar import isleap, monthrange
from collections.abc import Iterator
from datetime import date

LAST_ORDINAL = date.max.toordinal()
LAST_MONTH = 9999 * 12 + 11


def each_day(first: date, last: date) -> Iterator[date]:
    """The days from `first` to `last`, both included."""
    return map(date.fromordinal, range(first.toordinal(), last.toordinal() + 1))


def days_later(day: date, days: int) -> date | None:
    """The day some days later, or earlier; None beyond the calendar."""
    ordinal = day.toordinal() + days
    return date.fromordinal(ordinal) if 1 <= ordinal <= LAST_ORDINAL else None


def month_number(day: date) -> int:
    """The number of a day's month, January of year 0 being 0."""
    return day.year * 12 + day.month - 1


def month_start(number: int) -> date | None:
    """The first day of a numbered month; None beyond the calendar."""
    return (
        date(number // 12, number % 12 + 1, 1) if 12 <= number <= LAST_MONTH else None
    )


def month_length(day: date) -> int:
    """How many days the month of `day` has."""
    return monthrange(day.year, day.month)[1]


def months_later(day: date, months: int) -> date:
    """The same day some months later, or earlier; the last day of a month that lacks the day.

    Raises:
        OverflowError: The calendar ends before.
    """
    first = month_start(month_number(day) + months)
    if first is None:
        raise OverflowError("beyond the calendar")
    return first.replace(day=min(day.day, month_length(first)))


def year_length(day: date) -> int:
    """How many days the year of `day` has."""
    return 366 if isleap(day.year) else 365


def day_of_year(day: date) -> int:
    """The number of a day in its year, from 1."""
    return day.toordinal() - date(day.year, 1, 1).toordinal() + 1


def week_numbers(day: date, week_start: int) -> set[int]:
    """The number of a day's week, counted from the year's first week and from its last.

    Args:
        day: The day.
        week_start: The first weekday of a week, Monday 0.

    Returns:
        Two numbers, e.g. {53, -1}. A week belongs to the year of its fourth day (RFC 5545 §3.3.10, BYWEEKNO).
    """
    middle = days_later(day, 3 - (day.weekday() - week_start) % 7)
    if middle is None:
        return set()

    number = (day_of_year(middle) + 6) // 7
    weeks_left = (year_length(middle) - day_of_year(middle)) // 7
    return {number, -weeks_left - 1}
