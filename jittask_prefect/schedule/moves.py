"""The holiday rule: on which day an occurrence that falls on a given day takes place."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta

from .calendar import Calendar
from .recur import LAST_ORDINAL
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
    _known: dict[tuple[int, int], int] = field(default_factory=dict, compare=False, repr=False)

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
        """The nearest working day after (step 1) or before (-1) `day`, at most REACH days away."""
        found = self._beyond(day.toordinal(), step)
        return date.fromordinal(found) if found is not None and abs(found - day.toordinal()) <= REACH else None

    def _beyond(self, at: int, step: int) -> int | None:
        passed = []
        while True:
            at += step
            if not 1 <= at <= LAST_ORDINAL:
                return None
            if (known := self._known.get((at, step))) is not None:
                at = known
                break
            if not self._rests(date.fromordinal(at)):
                break
            passed.append(at)
        # All days of a run of rest share the working day beyond it; asked again for each of them, it is there.
        self._known.update({(ordinal, step): at for ordinal in passed})
        return at


def _shift(day: date, days: int) -> date:
    """`day` moved by `days`, held within what a date can say."""
    try:
        return day + timedelta(days)
    except OverflowError:
        return date.max if days > 0 else date.min
