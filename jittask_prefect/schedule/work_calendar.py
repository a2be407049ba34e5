"""Questions about working days, for the code of tasks: `app.calendar("DE-BY").nextWorkday(today, 10)`."""

from __future__ import annotations

import logging
from datetime import date, datetime

from jittask_prefect.errors import ArgumentError
from jittask_prefect.schedule.calendar import Calendar
from jittask_prefect.validation import quoted

log = logging.getLogger("jittask")
_told: set[str] = set()
"""The limits of calendars that the log has named: once in a process."""


class WorkCalendar:
    """The working days of a calendar: days that are neither weekend nor holiday, and make-up days.

    Days are dates, or datetimes, whose own day counts, whatever their zone. The log says once where an answer rests on
    days whose holidays are not published yet.

    Args:
        calendar: The calendar.
    """

    def __init__(self, calendar: Calendar) -> None:
        self._calendar = calendar

    def __repr__(self) -> str:
        return f"<working days of {self._calendar.label}>"

    def isWorkday(self, date: date) -> bool:
        """Whether a day is a working day.

        Args:
            date: The day.

        Raises:
            ArgumentError: No date.
        """
        day = _day(date, "date")
        self._tell(day)
        return self._calendar.is_working_day(day)

    def nextWorkday(self, date: date, n: int = 1) -> date:
        """The n-th working day after a day, or before where n is negative; the day itself is never counted.

        Args:
            date: The day.
            n: 1 for the next working day, -1 for the one before; not 0.

        Raises:
            ArgumentError: No date, no such number, or no working day within the calendar.
        """
        day = _day(date, "date")
        if type(n) is not int or n == 0:
            allowed = "a whole number: 1 for the next working day, -1 for the one before, not 0"
            raise ArgumentError(f"n={quoted(n)}; allowed: {allowed}")

        found = self._calendar.workdays.nth(day, n)
        if found is None:
            raise ArgumentError(
                f"{n} working days from {day} lie beyond the calendar, or there is no working day of "
                f"{self._calendar.label} any more; allowed: a number that stays within the years 1 to 9999"
            )

        self._tell(max(day, found))
        return found

    def workdaysBetween(self, a: date, b: date) -> int:
        """How many working days `b` lies after `a`, which is not counted: 1 from a Monday to Tuesday.

        Args:
            a: The first day.
            b: The last day; before `a`, the number is negative. `workdaysBetween(a, nextWorkday(a, n))` is n.

        Raises:
            ArgumentError: No date.
        """
        first, last = _day(a, "a"), _day(b, "b")
        self._tell(max(first, last))
        return self._calendar.workdays.between(first, last)

    def _tell(self, day: date) -> None:
        """Log that holidays up to a day are not all published."""
        until, limit = self._calendar.reliable_until, self._calendar.limit
        if until is not None and day > until and limit not in _told:
            _told.add(limit)
            log.warning("%s (asked for %s)", limit, day)


def _day(value: object, name: str) -> date:
    """The day of a date or datetime."""
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    raise ArgumentError(f"{name}={quoted(value)}; allowed: a date or a datetime")
