"""The holiday rule: on which day an occurrence that falls on a given day takes place."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from .calendar import Calendar
from .spec import Policy

REACH = 1000
"""Days within which a working day must lie; else the occurrence is dropped (a calendar that is closed for years)."""

WEEKEND = "weekend"


@dataclass(frozen=True, slots=True)
class Moves:
    """Which days an occurrence must not fall on, and where it goes instead.

    Args:
        calendar: Whose weekends and holidays count.
        holidays: `skipHoliday`: legal holidays are to be avoided.
        weekends: `workdaysOnly`: weekends are to be avoided too (make-up working days are none).
        policy: Where the occurrence goes.
    """

    calendar: Calendar
    holidays: bool
    weekends: bool
    policy: Policy

    @property
    def active(self) -> bool:
        """Whether any day is to be avoided."""
        return self.holidays or self.weekends

    def blocked(self, day: date) -> str | None:
        """Why nothing runs on that day: the holiday's name or "weekend"; None where it is a day to run on."""
        if self.holidays and self.calendar.is_holiday(day):
            return self.calendar.holiday_name(day) or "holiday"
        if self.weekends and self._weekend(day):
            return WEEKEND
        return None

    def target(self, day: date) -> date | None:
        """The day on which an occurrence of a blocked `day` takes place; None where it is skipped."""
        if self.policy == "skip":
            return None
        if self.policy == "next":
            return self._seek(day, 1)
        if self.policy == "previous":
            return self._seek(day, -1)
        earlier, later = self._seek(day, -1), self._seek(day, 1)
        if earlier is None or later is None:
            return later or earlier
        return earlier if day - earlier < later - day else later

    def reach(self, first: date, last: date) -> tuple[date, date]:
        """The days from which an occurrence can arrive within `first`..`last`, both inclusive."""
        if not self.active or self.policy == "skip":
            return first, last
        low, high = first, last
        if self.policy != "previous":
            low = self._seek(first, -1) or _shift(first, -REACH)
        if self.policy != "next":
            high = self._seek(last, 1) or _shift(last, REACH)
        return low, high

    def _weekend(self, day: date) -> bool:
        return self.calendar.is_weekend(day) and not self.calendar.is_makeup(day)

    def _rests(self, day: date) -> bool:
        """Whether `day` is no working day for this task: without `skipHoliday` only weekends count."""
        return not self.calendar.is_working_day(day) if self.holidays else self._weekend(day)

    def _seek(self, day: date, step: int) -> date | None:
        at = day.toordinal()
        for ordinal in range(at + step, at + step * (REACH + 1), step):
            if not 1 <= ordinal <= date.max.toordinal():
                return None
            if not self._rests(candidate := date.fromordinal(ordinal)):
                return candidate
        return None


def _shift(day: date, days: int) -> date:
    """`day` moved by `days`, held within what a date can say."""
    try:
        return day + timedelta(days)
    except OverflowError:
        return date.max if days > 0 else date.min
