"""Candidates: the nominal times of a cycle, each with the instant at which holiday rule and opening hours put it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, tzinfo
from zoneinfo import ZoneInfo

from jittask_prefect.schedule.cycle import Cycle
from jittask_prefect.schedule.holiday_moves import HolidayMoves
from jittask_prefect.schedule.instants import (
    DAY,
    LATEST,
    clamped,
    midnight,
    near_day,
    offset_change,
    resolve,
    shifted,
    wall_time,
)
from jittask_prefect.schedule.windows import OPENING_HOURS, Windows

MAX_RUNS = 500
"""Runs of days off that take away each occurrence, one run after the other, before a series counts as over."""
MAX_OPENINGS = 4000
"""Openings without an occurrence, one after the other, before a series counts as over."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A nominal time and the instant at which holiday rule and opening hours put it, both UTC.

    Attributes:
        nominal: Before all moves.
        due: When it takes place; None where the rules leave it out.
        day: The day of the nominal time.
        reason: The holiday's name, or "weekend"; None where the day is open.
        wall: The wall time that `due` was to be; None for elapsed time, and for an opening.
        waits: Whether the opening hours move it, or leave it out.
    """

    nominal: datetime
    due: datetime | None
    day: date
    reason: str | None
    wall: datetime | None = None
    waits: bool = False

    @property
    def moved_by(self) -> str | None:
        """Why it does not take place at its nominal time; None where it does."""
        hours = OPENING_HOURS if self.waits else None
        return ", ".join(filter(None, (self.reason, hours))) or None

    def rank(self) -> tuple[bool, datetime]:
        """Of candidates that arrive at the same instant, that without a move stands; else the earliest."""
        return self.moved_by is not None, self.nominal


@dataclass(slots=True)
class Candidates:
    """The candidates of a series.

    Attributes:
        cycle: The nominal times.
        moves: The holiday rule.
        windows: The opening hours.
        zone: The task's zone.
        clock: The zone of the cycle's wall times: UTC for elapsed time, else the task's.
        wall: The start as a wall time of the clock.
        anchor: The instant of the start, UTC.
    """

    cycle: Cycle
    moves: HolidayMoves
    windows: Windows
    zone: ZoneInfo
    clock: tzinfo
    wall: datetime = datetime.max
    anchor: datetime = LATEST
    sub_daily: bool = field(init=False)
    """Whether holidays and opening hours drop candidates instead of moving them."""

    def __post_init__(self) -> None:
        self.sub_daily = self.cycle.sub_daily

    def within(
        self, low: datetime, high: datetime, *, nominal: bool = False
    ) -> Iterator[Candidate]:
        """At least every candidate due in [low, high); with `nominal`, also those whose nominal time lies there."""
        if high <= low:
            return iter(())
        if self.sub_daily:
            return self._times(low, high, every=nominal)
        return self._days(low, high)

    def _days(self, low: datetime, high: datetime) -> Iterator[Candidate]:
        """Those of a cycle of days: holidays and opening hours move them."""
        if self.windows.opening(low) is not None:
            low = self.windows.shut_since(low)
        first = low.astimezone(self.zone).date() - DAY
        last = high.astimezone(self.zone).date() + DAY
        begin, end = self.moves.sources(first, last)
        over = midnight(min(max(end, last), date.max - DAY)) + DAY
        for wall in self.cycle.wall_times(midnight(min(begin, first)), over):
            try:
                yield self.placed(wall)
            except OverflowError:
                continue

    def placed(self, wall: datetime) -> Candidate:
        """The candidate of a wall time of a cycle of days."""
        day = wall.date()
        nominal = self.anchor if wall == self.wall else resolve(wall, self.zone)
        reason = self.moves.blocked(day) if self.moves.active else None
        due = nominal
        if reason is not None:
            target = self.moves.target(day)
            if target is None:
                return Candidate(nominal, None, day, reason)

            wall = datetime.combine(target, wall.time())
            due = resolve(wall, self.zone)

        opening = self.windows.opening(due)
        if opening != due:
            return Candidate(nominal, opening, day, reason, waits=True)
        return Candidate(nominal, due, day, reason, wall)

    def _times(
        self, low: datetime, high: datetime, *, every: bool
    ) -> Iterator[Candidate]:
        """Those of a cycle finer than a day: holidays and hours drop them (told once for each, or every time)."""
        # Near a clock change wall times move by as much as the zone's offset changes.
        begin = self._before(low)
        end = wall_time(high, self.clock) + offset_change(high, self.clock)
        active, local = self.moves.active, self.clock is self.zone
        known: date | None = None
        reason: str | None = None
        while begin < end:
            upto = end
            for wall in self.cycle.wall_times(begin, end):
                if local:
                    instant, day = resolve(wall, self.zone), wall.date()
                else:
                    instant = wall.replace(tzinfo=UTC)
                    day = instant.astimezone(self.zone).date()

                if active and day != known:
                    known, reason = day, self.moves.blocked(day)

                opening = instant if reason else self.windows.opening(instant)
                shut = opening != instant
                due = None if reason or shut else instant
                told = wall if local else None
                yield Candidate(instant, due, day, reason, told, shut)
                if due is None and not every:
                    onward = self._begin(day + DAY) if reason else self._before(opening)
                    if onward > wall:
                        upto = onward
                        break

            begin = upto

    def _day(self, wall: datetime) -> date:
        """The task's day of a time of the cycle."""
        if self.clock is self.zone:
            return wall.date()
        return wall.replace(tzinfo=self.clock).astimezone(self.zone).date()

    def _begin(self, day: date) -> datetime:
        """The time of the cycle at which a day of the task begins."""
        if self.clock is self.zone:
            return midnight(day)
        return wall_time(clamped(midnight(day), self.zone), self.clock)

    def _before(self, at: datetime | None) -> datetime:
        """A time of the cycle before which no time lies that is an instant from `at` on; the last of all for None."""
        if at is None:
            return datetime.max
        return wall_time(at, self.clock) - offset_change(at, self.clock)

    def ahead(self, at: datetime, *, left_out: bool = False) -> datetime:
        """An instant from `at` on before which nothing more is due: a search may go on there.

        So nobody walks through years, or to the year 9999, for nothing.

        Args:
            at: Where the search goes on, UTC; candidates due before it do not matter.
            left_out: Candidates that a holiday or the opening hours take away count too: none of them lies before the
                instant either.

        Returns:
            UTC; LATEST where nothing is due any more.
        """
        if self.windows.active and self.sub_daily and not left_out:
            return self._next_opening(at)

        ahead = self._ahead(at, left_out)
        return LATEST if self.windows.opening(ahead) is None else ahead

    def _next_opening(self, at: datetime) -> datetime:
        """The next opening within which a candidate of a cycle finer than a day takes place; LATEST without any."""
        for _ in range(MAX_OPENINGS):
            wall = self.cycle.first(self._before(at))
            if wall is None:
                break

            first = clamped(wall, self.clock)
            opening = self.windows.opening(
                max(at, shifted(first, -offset_change(first, self.clock)))
            )
            if opening is None:
                break

            begin, end = next(self.windows.spans(opening, shifted(opening, DAY)))
            found = self._times(begin, end, every=False)
            if any(each.due and begin <= each.due < end for each in found):
                return begin
            at = end

        return LATEST

    def _ahead(self, at: datetime, left_out: bool) -> datetime:
        """The same as `ahead`, from the holiday rule alone; sooner where there are opening hours."""
        moves, sub_daily = self.moves, self.sub_daily
        moving = moves.active and not sub_daily and moves.policy != "skip"
        # Wall times may lie as far from their instants as clocks change; elapsed time may not.
        spare = 2 if self.clock is self.zone else 0
        since = at if sub_daily else self.windows.shut_since(at)
        day = wall_time(shifted(since, -spare * DAY), self.zone).date()
        if moving:
            # A time on days off before that day may be due later; a time on the working day before them may not.
            day = min(day, moves.sources(day, day)[0] + DAY)

        for _ in range(MAX_RUNS):
            wall = self.cycle.first(self._begin(day))
            if wall is None:
                return LATEST

            day = self._day(wall)
            if moves.active and moves.blocked(day) is not None:
                if moving:
                    arrival = moves.target(day) or date.max
                    day = min(day, arrival) if left_out else arrival
                elif not left_out:
                    open_day = moves.next_open(day)
                    if open_day is None:
                        return LATEST

                    day = open_day
                    continue

            begin = clamped(midnight(day), self.zone)
            return max(at, near_day(day, -spare) if spare else begin)

        return LATEST
