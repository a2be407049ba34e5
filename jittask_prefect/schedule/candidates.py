"""Candidates: the nominal times of a cycle, each with the instant at which the holiday rule puts it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from zoneinfo import ZoneInfo

from jittask_prefect.schedule.holiday_moves import HolidayMoves
from jittask_prefect.schedule.instants import (
    DAY,
    LATEST,
    clamped,
    day_after,
    first_step,
    midnight,
    near_day,
    offset_change,
    resolve,
    shifted,
    wall_time,
)
from jittask_prefect.schedule.recur import Elapsed, Recurrence

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
        wall: The start as a naive wall time.
        anchor: The instant of the start, UTC.
    """

    cycle: Recurrence | Elapsed
    moves: HolidayMoves
    zone: ZoneInfo
    wall: datetime
    anchor: datetime
    sub_daily: bool = field(init=False)
    """Whether a holiday drops candidates instead of moving them."""

    def __post_init__(self) -> None:
        self.sub_daily = isinstance(self.cycle, Elapsed) or self.cycle.sub_daily

    def within(
        self, low: datetime, high: datetime, *, nominal: bool = False
    ) -> Iterator[Candidate]:
        """At least every candidate due in [low, high); with `nominal`, also those whose nominal time lies there."""
        if high <= low:
            return iter(())
        if isinstance(self.cycle, Elapsed):
            return self._steps(self.cycle, low, high, every=nominal)
        if self.sub_daily:
            return self._times(self.cycle, low, high, every=nominal)
        return self._days(self.cycle, low, high)

    def _days(
        self, cycle: Recurrence, low: datetime, high: datetime
    ) -> Iterator[Candidate]:
        """Those of a cycle of days: a holiday moves them."""
        first = low.astimezone(self.zone).date() - DAY
        last = high.astimezone(self.zone).date() + DAY
        begin, end = self.moves.sources(first, last)
        over = midnight(min(max(end, last), date.max - DAY)) + DAY
        for wall in cycle.wall_times(midnight(min(begin, first)), over):
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
        self, cycle: Recurrence, low: datetime, high: datetime, *, every: bool
    ) -> Iterator[Candidate]:
        """Those of a custom cycle finer than a day: a holiday drops them (told once a day, or every time)."""
        # Near a clock change wall times move by as much as the zone's offset changes.
        begin = wall_time(low, self.zone) - offset_change(low, self.zone)
        end = wall_time(high, self.zone) + offset_change(high, self.zone)
        while begin < end:
            upto = end
            for wall in cycle.wall_times(begin, end):
                instant, day = resolve(wall, self.zone), wall.date()
                reason = self.moves.blocked(day) if self.moves.active else None
                due = instant if reason is None else None
                yield Candidate(instant, due, day, reason, wall)
                if reason is not None and not every:
                    upto = midnight(day) + DAY
                    break

            begin = upto

    def _steps(
        self, cycle: Elapsed, low: datetime, high: datetime, *, every: bool
    ) -> Iterator[Candidate]:
        """Those of minute and hour: a holiday drops them (told once a day, or every time)."""
        day: date | None = None
        reason: str | None = None
        over = self.anchor
        at = first_step(self.anchor, cycle.step, low)
        try:
            while at < high:
                today = at.astimezone(self.zone).date()
                if self.moves.active and today != day:
                    reason = self.moves.blocked(today)
                    over = day_after(today, self.zone)

                day = today
                yield Candidate(at, at if reason is None else None, today, reason)
                following = at + cycle.step
                if reason is not None and not every:
                    following = max(following, first_step(at, cycle.step, over))

                at = following
        except OverflowError:
            return

    def ahead(self, at: datetime, *, left_out: bool = False) -> datetime:
        """An instant from `at` on before which nothing more is due: a search may go on there.

        So nobody walks through years, or to the year 9999, for nothing.

        Args:
            at: Where the search goes on, UTC; candidates due before it do not matter.
            left_out: Candidates that a holiday takes away count too: none of them lies before the instant either.

        Returns:
            UTC; LATEST where nothing is due any more.
        """
        if isinstance(self.cycle, Elapsed):
            return self._ahead_in_steps(self.cycle, at, left_out)

        moves = self.moves
        moving = moves.active and not self.sub_daily and moves.policy != "skip"
        day = wall_time(shifted(at, -2 * DAY), self.zone).date()
        if moving:
            # A time on days off before that day may be due later; a time on the working day before them may not.
            day = min(day, moves.sources(day, day)[0] + DAY)

        for _ in range(MAX_RUNS):
            wall = self.cycle.first(midnight(day))
            if wall is None:
                return LATEST

            day = wall.date()
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

            return max(at, near_day(day, -2))

        return LATEST

    def _ahead_in_steps(self, cycle: Elapsed, at: datetime, left_out: bool) -> datetime:
        for _ in range(MAX_RUNS):
            found = first_step(self.anchor, cycle.step, at)
            day = wall_time(found, self.zone).date()
            ignored = left_out or not self.moves.active
            if found >= LATEST or ignored or self.moves.blocked(day) is None:
                return found

            open_day = self.moves.next_open(day)
            if open_day is None:
                return LATEST

            at = clamped(midnight(open_day), self.zone)

        return LATEST
