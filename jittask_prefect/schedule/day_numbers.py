"""Numbers of days and weeks in a year, and steps from day to day that end with the calendar."""

from __future__ import annotations

from calendar import isleap
from datetime import date

LAST_ORDINAL = date.max.toordinal()


def week_numbers(day: date, start: int) -> set[int]:
    """The number of `day`'s week, from the year's first and its last; a week belongs to the year of its fourth day."""
    middle = day.toordinal() - (day.weekday() - start) % 7 + 3
    if not 1 <= middle <= date.max.toordinal():
        return set()
    at = date.fromordinal(middle)
    number = (day_of_year(at) + 6) // 7
    days = 366 if isleap(at.year) else 365
    return {number, number - (number + (days - day_of_year(at)) // 7) - 1}


def day_of_year(day: date) -> int:
    return day.toordinal() - date(day.year, 1, 1).toordinal() + 1


def next_month(day: date) -> date | None:
    if (day.year, day.month) == (9999, 12):
        return None
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)


def later(day: date, days: int) -> date | None:
    """Some days later; None where the calendar ends before."""
    ordinal = day.toordinal() + days
    return date.fromordinal(ordinal) if 1 <= ordinal <= LAST_ORDINAL else None
