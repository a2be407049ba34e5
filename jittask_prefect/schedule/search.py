"""Where a search for occurrences goes on, so that nobody walks through years, or to the year 9999, for nothing."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from jittask_prefect.schedule.holiday_moves import HolidayMoves
from jittask_prefect.schedule.instants import DAY, LATEST, clamped, near, shifted
from jittask_prefect.schedule.recur import Elapsed, Recurrence, midnight

ENOUGH = 500
"""Runs of days off that take away each occurrence, one run after the other, before a series counts as over."""


def ahead(
    cycle: Recurrence | Elapsed,
    moves: HolidayMoves,
    zone: ZoneInfo,
    anchor: datetime,
    at: datetime,
    left_out: bool = False,
) -> datetime:
    """An instant from `at` on before which nothing more is due.

    Args:
        cycle: The nominal times.
        moves: The holiday rule.
        zone: The task's zone.
        anchor: The instant at which the cycle begins, UTC.
        at: Where the search goes on, UTC; what is due before it does not matter.
        left_out: Occurrences that a holiday takes away count too: none of them lies before the instant either.

    Returns:
        UTC; LATEST where nothing is due any more.
    """
    if isinstance(cycle, Elapsed):
        return _elapsed(cycle.step, moves, zone, anchor, at, left_out)
    moving = moves.active and not cycle.sub_daily and moves.policy != "skip"
    day = shifted(at, -2 * DAY).astimezone(zone).date()
    if moving:
        # What falls on the days off before that day may be due later; what falls on the working day before them is not.
        day = min(day, moves.reach(day, day)[0] + DAY)
    for _ in range(ENOUGH):
        wall = cycle.first(midnight(day))
        if wall is None:
            return LATEST
        day = wall.date()
        if moving and moves.blocked(day) is not None:
            arrives = moves.target(day) or date.max
            day = min(day, arrives) if left_out else arrives
        elif not left_out and moves.active and moves.blocked(day) is not None:
            opened = moves.open_after(day)
            if opened is None:
                return LATEST
            day = opened
            continue
        return max(at, near(day, -2))
    return LATEST


def _elapsed(
    step: timedelta,
    moves: HolidayMoves,
    zone: ZoneInfo,
    anchor: datetime,
    at: datetime,
    left_out: bool,
) -> datetime:
    for _ in range(ENOUGH):
        found = following(anchor, step, at)
        day = found.astimezone(zone).date()
        if (
            found >= LATEST
            or left_out
            or not moves.active
            or moves.blocked(day) is None
        ):
            return found
        opened = moves.open_after(day)
        if opened is None:
            return LATEST
        at = clamped(midnight(opened), zone)
    return LATEST


def following(anchor: datetime, step: timedelta, at: datetime) -> datetime:
    """The first instant from `at` on of a cycle of elapsed time; LATEST beyond the calendar."""
    try:
        return min(anchor + max(0, -((anchor - at) // step)) * step, LATEST)
    except OverflowError:
        return LATEST
