"""Opening hours: the spans of time in which a task may begin, and the next opening from any instant on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from jittask_prefect.schedule.days import LAST_ORDINAL
from jittask_prefect.schedule.instants import (
    EARLIEST,
    LATEST,
    midnight,
    resolve,
    wall_time,
)
from jittask_prefect.schedule.opening_hours import WHOLE_DAY, Window
from jittask_prefect.schedule.workdays import WorkdayNumbers

OPENING_HOURS = "opening hours"
"""The reason of an occurrence that waits for an opening, or that is left out outside the opening hours."""
MAX_KNOWN = 4096
"""Days whose spans are kept."""

Span = tuple[datetime, datetime]
"""Begin, included, and end, excluded; UTC."""


class Windows:
    """The opening hours of a task; without any window the task is always open.

    A window belongs to the day on which it opens. Each edge is a wall time: in a gap of the clocks the edge moves forward
    by the gap, and of an hour that comes twice the first counts. A window that ends before it begins, because the
    clocks skip its beginning, does not open on that day.

    Args:
        windows: The windows.
        zone: The task's zone.
        workdays: The working days that `workdays` means.
    """

    __slots__ = ("_known", "_workdays", "_zone", "windows")

    def __init__(
        self, windows: tuple[Window, ...], zone: ZoneInfo, workdays: WorkdayNumbers
    ) -> None:
        self.windows = windows
        self._zone = zone
        self._workdays = workdays
        self._known: dict[int, tuple[Span, ...]] = {}

    @property
    def active(self) -> bool:
        """Whether there are any opening hours."""
        return bool(self.windows)

    def opening(self, at: datetime) -> datetime | None:
        """The instant itself where the task is open then, else the next opening.

        Args:
            at: UTC.

        Returns:
            UTC; None where the task never opens again.
        """
        if not self.windows:
            return at

        for begin, end in self._from(at):
            if begin > at:
                return begin
            if at < end:
                return at
        return None

    def is_open(self, at: datetime) -> bool:
        """Whether an instant (UTC) lies within the opening hours."""
        return self.opening(at) == at

    def shut_since(self, at: datetime) -> datetime:
        """The first instant whose opening is `at` or later: the instants from there on wait until `at`.

        Args:
            at: UTC.

        Returns:
            UTC; `at` itself within the opening hours, else the closing before; EARLIEST where there is none.
        """
        if not self.windows:
            return at

        found, opening_days = EARLIEST, 0
        ordinal = self._opening_day(self._ordinal(at), -1)
        # A window that opens a day earlier may close later.
        while ordinal is not None and opening_days < 2:
            ends = [min(end, at) for begin, end in self._of_day(ordinal) if begin < at]
            found = max(found, *ends) if ends else found
            opening_days += bool(ends)
            ordinal = self._opening_day(ordinal - 1, -1)

        return found

    def minutes(self, day: date) -> list[tuple[int, int]]:
        """From which minute to which the task is open on a day on which no clock changes; the whole day without windows."""
        if not self.windows:
            return [(0, WHOLE_DAY)]

        today, found = day.toordinal(), list[tuple[int, int]]()
        for window in self.windows:
            for opened in (today - 1, today):
                if self._day_of(window, opened, 1) != opened:
                    continue
                shift = (opened - today) * WHOLE_DAY
                begin = max(0, window.opens + shift)
                end = min(WHOLE_DAY, window.end + shift)
                if begin < end:
                    found.append((begin, end))

        return _joined(found)

    def spans(self, low: datetime, high: datetime) -> Iterator[Span]:
        """The spans within [low, high), cut there, in order; spans that touch are one.

        Args:
            low: UTC.
            high: UTC.
        """
        if not self.windows:
            yield low, high
            return

        known: Span | None = None
        for first, last in self._from(low):
            if first >= high:
                break

            begin, end = max(first, low), min(last, high)
            if begin >= end:
                continue
            if known is None or begin > known[1]:
                if known is not None:
                    yield known
                known = begin, end
            else:
                known = known[0], max(known[1], end)

        if known is not None:
            yield known

    def _from(self, at: datetime) -> Iterator[Span]:
        """The spans by their beginnings, from two days before an instant on: no span that reaches the instant is missing."""
        today = self._ordinal(at)
        for near in range(max(today - 2, 1), min(today + 2, LAST_ORDINAL)):
            yield from self._of_day(near)

        ordinal = self._opening_day(today + 2, 1)
        while ordinal is not None:
            yield from self._of_day(ordinal)
            ordinal = self._opening_day(ordinal + 1, 1)

    def _ordinal(self, at: datetime) -> int:
        return wall_time(min(max(at, EARLIEST), LATEST), self._zone).toordinal()

    def _of_day(self, ordinal: int) -> tuple[Span, ...]:
        """The spans that open on a day, by their beginnings."""
        found = self._known.get(ordinal)
        if found is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            found = self._known[ordinal] = tuple(sorted(self._opened_on(ordinal)))
        return found

    def _opened_on(self, ordinal: int) -> Iterator[Span]:
        wall = midnight(date.fromordinal(ordinal))
        for window in self.windows:
            if self._day_of(window, ordinal, 1) != ordinal:
                continue
            try:
                begin = resolve(wall + timedelta(minutes=window.opens), self._zone)
                end = resolve(wall + timedelta(minutes=window.end), self._zone)
            except OverflowError:
                continue  # at the calendar's very ends
            if begin < end:
                yield begin, end

    def _opening_day(self, ordinal: int, step: int) -> int | None:
        """The first day from a day on, or back (step -1), on which a window opens; None where there is none."""
        days = (self._day_of(window, ordinal, step) for window in self.windows)
        found = [day for day in days if day is not None]
        return (min if step > 0 else max)(found, default=None)

    def _day_of(self, window: Window, ordinal: int, step: int) -> int | None:
        """The first day from a day on, or back, on which a window opens."""
        if window.workdays:
            works = self._workdays
            number = works.number(ordinal + (step < 0)) - (step < 0)
            found = works.ordinal(number)
            return found if found is not None and 1 <= found <= LAST_ORDINAL else None

        for day in range(ordinal, ordinal + 7 * step, step):
            weekday = (day - 1) % 7 + 1
            if window.weekdays is None or weekday in window.weekdays:
                return day if 1 <= day <= LAST_ORDINAL else None
        return None


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans in order, those that touch as one."""
    found: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((begin, end))

    return found
