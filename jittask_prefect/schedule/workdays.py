"""The working days of a calendar, numbered: the n-th from a day on is found by arithmetic, however large n is."""

from __future__ import annotations

import hashlib
from array import array
from calendar import monthrange
from datetime import date
from functools import cached_property
from itertools import accumulate

from jittask_prefect.schedule.day_table import DayTable
from jittask_prefect.schedule.days import LAST_ORDINAL

Run = tuple[date | None, date | None]
"""Neighbouring days, both ends included; None beyond the calendar."""


class WorkdayNumbers:
    """The working days of a table of days; the first of the table has the number 0, days before have negative numbers.

    Beyond the table's ends the week at the end goes on.
    """

    def __init__(self, days: DayTable) -> None:
        rests = self._rests = days.rests
        self._first, self._end = days.first, days.first + len(rests)
        works = [1 - rest for rest in rests]
        # How many working days come before each day of the table, and before its end.
        self._before = array("i", accumulate(works, initial=0))
        self._days = array(
            "i", (n for n, rest in enumerate(rests, days.first) if not rest)
        )
        self._early = [place for place in range(7) if not rests[place]]
        self._late = [place for place in range(7) if not rests[len(rests) - 7 + place]]

    @property
    def years(self) -> range:
        """The years of the table, and thirty more either way: all weeks of a year with their leap days are among them."""
        first, last = (date.fromordinal(n).year for n in (self._first, self._end - 1))
        return range(max(1, first - 30), min(9999, last + 30) + 1)

    @property
    def week(self) -> frozenset[int]:
        """The weekdays, Monday 0, of an ordinary week's working days."""
        return frozenset((self._end + place - 1) % 7 for place in self._late)

    @cached_property
    def digest(self) -> str:
        """A short text that changes with the working days."""
        text = f"{self._first}|".encode() + self._rests
        return hashlib.sha256(text).hexdigest()[:8]

    def number(self, ordinal: int) -> int:
        """How many working days lie before a day: the number of that day, or of the next working day."""
        if self._first <= ordinal <= self._end:
            return self._before[ordinal - self._first]

        edge, known, week = self._first, 0, self._early
        if ordinal > self._end:
            edge, known, week = self._end, len(self._days), self._late

        weeks, weekday = divmod(ordinal - edge, 7)
        return known + weeks * len(week) + sum(place < weekday for place in week)

    def ordinal(self, number: int) -> int | None:
        """The working day of a number; None beyond the calendar, or where no day works any more."""
        known = len(self._days)
        if 0 <= number < known:
            return self._days[number]

        edge, week = self._first, self._early
        if number >= known:
            edge, number, week = self._end, number - known, self._late
        if not week:
            return None

        weeks, place = divmod(number, len(week))
        found = edge + 7 * weeks + week[place]
        return found if 1 <= found <= LAST_ORDINAL else None

    def day(self, number: int) -> date | None:
        """The same as `ordinal`, as a date."""
        found = self.ordinal(number)
        return None if found is None else date.fromordinal(found)

    def works(self, day: date) -> bool:
        """Whether a day is a working day."""
        ordinal = day.toordinal()
        return self.number(ordinal + 1) > self.number(ordinal)

    def places(self, day: date) -> set[int]:
        """The places of a working day in its month: 1 for the first, -1 for the last."""
        first = day.toordinal() - day.day + 1
        after = self.number(first + monthrange(day.year, day.month)[1])
        number = self.number(day.toordinal())
        return {number - self.number(first) + 1, number - after}

    def nth(self, day: date, n: int) -> date | None:
        """The n-th working day after a day, or before where n is negative; the day itself is never counted.

        Returns:
            None beyond the calendar; for n = 0 the day itself.
        """
        ordinal = day.toordinal()
        if n > 0:
            return self.day(self.number(ordinal + 1) + n - 1)
        return self.day(self.number(ordinal) + n) if n else day

    def between(self, first: date, last: date) -> int:
        """How many working days `last` is after `first`, which is not counted; negative where `last` comes before."""
        after = (
            last >= first
        )  # of two days only the later counts; backwards only the earlier
        low, high = (day.toordinal() + after for day in (first, last))
        return self.number(high) - self.number(low)

    def sources(self, number: int, n: int) -> Run:
        """The days whose n-th working day is the one of a number; n is not 0."""
        if n > 0:
            first, after = self.day(number - n), self.ordinal(number - n + 1)
            return first, None if after is None else _day(after - 1)

        before, last = self.ordinal(number - n - 1), self.day(number - n)
        return None if before is None else _day(before + 1), last


def _day(ordinal: int) -> date:
    """The day of a number, held within the calendar."""
    return date.fromordinal(min(max(ordinal, 1), LAST_ORDINAL))
