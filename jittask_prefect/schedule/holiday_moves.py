"""The holiday rule: on which day an occurrence that falls on a given day takes place."""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from zoneinfo import ZoneInfo

from jittask_prefect.schedule.calendar import LAST_ORDINAL, Calendar, Days, seek
from jittask_prefect.schedule.instants import clamped
from jittask_prefect.schedule.spec import Policy

WEEKEND = "weekend"


@dataclass(frozen=True)
class HolidayMoves:
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
        days, ordinal = self._days, day.toordinal()
        if self.holidays and (name := days.names.get(ordinal)) is not None:
            return name or "holiday"
        return WEEKEND if self.weekends and days.weekends[days.at(ordinal)] else None

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
            low = self._seek(first, -1) or date.min
        if self.policy != "next":
            high = self._seek(last, 1) or date.max
        return low, high

    def around(self, first: date, last: date) -> tuple[date, date]:
        """The days between which whatever falls on, or is moved away from, `first`..`last` takes place."""
        if not self.active or self.policy == "skip":
            return first, last
        return self._seek(first, -1) or date.min, self._seek(last, 1) or date.max

    def open_after(self, day: date) -> date | None:
        """The first day after a blocked `day` that is not blocked; None where there is none."""
        for ordinal in range(day.toordinal() + 1, LAST_ORDINAL + 1):
            if self.blocked(at := date.fromordinal(ordinal)) is None:
                return at
        return None

    @cached_property
    def digest(self) -> str:
        """A short text that changes with the days that decide here: which are blocked, and which are worked.

        All days of the calendar's table count, so that the text stays the same as time goes on; names do not.
        """
        days = self._days
        blocked = array("l", sorted(days.names)).tobytes() if self.holidays else b""
        weekends = days.weekends if self.weekends else b""
        text = b"|".join([str(days.first).encode(), self._off, weekends, blocked])
        return hashlib.sha256(text).hexdigest()[:8]

    def carries_to(self, day: date) -> date:
        """The earliest day to which `previous` carries an occurrence of `day`, or of a later one."""
        ordinal = day.toordinal() + 1
        found = seek(
            self._days, self._off, ordinal, -1
        )  # `day` itself, where it is a working day
        return date.min if found is None else date.fromordinal(found)

    def earliest_due_after(self, at: datetime, zone: ZoneInfo) -> datetime:
        """The earliest instant at which an occurrence whose nominal time comes after `at` can be due; `at` for none.

        Args:
            at: The instant, UTC.
            zone: The task's zone.
        """
        if not self.active or self.policy not in ("previous", "nearest"):
            return at
        day = self.carries_to(at.astimezone(zone).date())
        return min(at, clamped(datetime(day.year, day.month, day.day), zone))

    @cached_property
    def _days(self) -> Days:
        return self.calendar.days

    @cached_property
    def _off(self) -> bytes:
        """1 on each day that is no working day for this task: without `skipHoliday` only weekends count."""
        return self._days.rests if self.holidays else self._days.weekends

    def _seek(self, day: date, step: int) -> date | None:
        """The nearest working day after (step 1) or before (-1) `day`."""
        found = seek(self._days, self._off, day.toordinal(), step)
        return None if found is None else date.fromordinal(found)
