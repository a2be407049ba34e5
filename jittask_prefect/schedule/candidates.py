"""Candidates: the nominal times of a cycle, each with the instant at which the holiday rule puts it."""

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

MAX_RUNS = 500
"""Runs of days off that take away each occurrence, one run after the other, before a series counts as over."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A nominal time and the instant at which the holiday rule puts it, both UTC.

    Attributes:
        nominal: Before the holiday move.
        due: When it takes place; None where the rule leaves it out.
        day: The day of the nominal time.
        reason: The holiday's name, or "weekend"; None where the day is open.
        wall: The wall time that `due` was to be; None for elapsed time.
    """

    nominal: datetime
    due: datetime | None
    day: date
    reason: str | None
    wall: datetime | None = None

    def rank(self) -> tuple[bool, datetime]:
        """Of candidates that arrive at the same instant, that without a move stands; else the earliest."""
        return self.reason is not None, self.nominal


@dataclass(slots=True)
class Candidates:
    """The candidates of a series.

    Attributes:
        cycle: The nominal times.
        moves: The holiday rule.
        zone: The task's zone.
        clock: The zone of the cycle's wall times: UTC for elapsed time, else the task's.
        wall: The start as a wall time of the clock.
        anchor: The instant of the start, UTC.
    """

    cycle: Cycle
    moves: HolidayMoves
    zone: ZoneInfo
    clock: tzinfo
    wall: datetime = datetime.max
    anchor: datetime = LATEST
    sub_daily: bool = field(init=False)
    """Whether a holiday drops candidates instead of moving them."""

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
        """Those of a cycle of days: a holiday moves them."""
        first = low.astimezone(self.zone).date() - DAY
        last = high.astimezone(self.zone).date() + DAY
        begin, end = self.moves.sources(first, last)
        over = midnight(min(max(end, last), date.max - DAY)) + DAY
        for wall in self.cycle.wall_times(midnight(min(begin, first)), over):
            try:
                yield self._placed(wall)
            except OverflowError:
                continue

    def _placed(self, wall: datetime) -> Candidate:
        """The candidate of a wall time of a cycle of days."""
        day = wall.date()
        nominal = self.anchor if wall == self.wall else resolve(wall, self.zone)
        reason = self.moves.blocked(day) if self.moves.active else None
        if reason is None:
            return Candidate(nominal, nominal, day, None, wall)

        target = self.moves.target(day)
        if target is None:
            return Candidate(nominal, None, day, reason)

        moved = datetime.combine(target, wall.time())
        return Candidate(nominal, resolve(moved, self.zone), day, reason, moved)

    def _times(
        self, low: datetime, high: datetime, *, every: bool
    ) -> Iterator[Candidate]:
        """Those of a cycle finer than a day: a holiday drops them (told once a day, or every time)."""
        # Near a clock change wall times move by as much as the zone's offset changes.
        begin = wall_time(low, self.clock) - offset_change(low, self.clock)
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

                due = instant if reason is None else None
                yield Candidate(instant, due, day, reason, wall if local else None)
                if reason is not None and not every:
                    upto = self._begin(day + DAY)
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

    def ahead(self, at: datetime, *, left_out: bool = False) -> datetime:
        """An instant from `at` on before which nothing more is due: a search may go on there.

        So nobody walks through years, or to the year 9999, for nothing.

        Args:
            at: Where the search goes on, UTC; candidates due before it do not matter.
            left_out: Candidates that a holiday takes away count too: none of them lies before the instant either.

        Returns:
            UTC; LATEST where nothing is due any more.
        """
        moves, sub_daily = self.moves, self.sub_daily
        moving = moves.active and not sub_daily and moves.policy != "skip"
        # Wall times may lie as far from their instants as clocks change; elapsed time may not.
        spare = 2 if self.clock is self.zone else 0
        day = wall_time(shifted(at, -spare * DAY), self.zone).date()
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
