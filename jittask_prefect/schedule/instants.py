"""Wall times to instants and back, within the range of datetime; and the clock changes of a zone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo

DAY = timedelta(1)
SECOND = timedelta(seconds=1)
TICK = timedelta(microseconds=1)
# Two days short of the ends, so that any zone can show them.
EARLIEST = datetime(1, 1, 3, tzinfo=UTC)
LATEST = datetime(9999, 12, 29, tzinfo=UTC)


def midnight(day: date) -> datetime:
    """The naive wall time at which a day begins."""
    return datetime.combine(day, time())


def resolve(wall: datetime, zone: tzinfo) -> datetime:
    """The instant (UTC) of a wall time: in a gap moved forward by the gap, in an overlap the first (RFC 5545 §3.3.5).

    Raises:
        OverflowError: At the very ends of the calendar.
    """
    return wall.replace(tzinfo=zone, fold=0).astimezone(UTC)


def wall_time(at: datetime, zone: tzinfo) -> datetime:
    """The naive wall time of an instant in a zone."""
    return at.astimezone(zone).replace(tzinfo=None, fold=0)


def in_utc(at: datetime, zone: tzinfo) -> datetime:
    """An instant in UTC, whether aware or a wall time of `zone`."""
    return resolve(at, zone) if at.tzinfo is None else at.astimezone(UTC)


def clamped(at: datetime, zone: tzinfo) -> datetime:
    """Like `in_utc`, held within EARLIEST..LATEST: for the bounds of a window."""
    try:
        return min(max(in_utc(at, zone), EARLIEST), LATEST)
    except OverflowError:
        return LATEST if at.year > 5000 else EARLIEST


def shifted(at: datetime, by: timedelta) -> datetime:
    """An instant moved by a duration, held within EARLIEST..LATEST."""
    try:
        return min(max(at + by, EARLIEST), LATEST)
    except OverflowError:
        return LATEST if by > timedelta() else EARLIEST


def first_step(anchor: datetime, step: timedelta, at: datetime) -> datetime:
    """The first instant from `at` on of the steps that begin at an anchor; LATEST beyond the calendar."""
    try:
        return min(anchor + max(0, -((anchor - at) // step)) * step, LATEST)
    except OverflowError:
        return LATEST


def near_day(day: date, days: int) -> datetime:
    """The midnight (UTC) some days from `day`, held within EARLIEST..LATEST; two days cover every zone."""
    return shifted(max(midnight(day).replace(tzinfo=UTC), EARLIEST), timedelta(days))


def day_after(day: date, zone: tzinfo) -> datetime:
    """The instant at which `day` is over in `zone`.

    Raises:
        OverflowError: On the calendar's last day.
    """
    return resolve(midnight(day + DAY), zone)


def offset_change(at: datetime, zone: tzinfo) -> timedelta:
    """By how much the zone's offset from UTC changes within a day and a half of an instant."""
    if zone is UTC:
        return timedelta()

    before, after = (
        shifted(at, days * DAY).astimezone(zone).utcoffset() or timedelta()
        for days in (-1.5, 1.5)
    )
    return abs(before - after)


def clock_changes(
    zone: tzinfo, low: datetime, high: datetime
) -> Iterator[tuple[datetime, timedelta, timedelta]]:
    """The clock changes of a zone between two wall times.

    Returns:
        For each change its instant, and the zone's offset from UTC before and after.
    """

    def offset(at: datetime) -> timedelta:
        return at.astimezone(zone).utcoffset() or timedelta()

    at, end = resolve(low, zone), shifted(resolve(high, zone), DAY)
    before = offset(at)
    while at < min(end, LATEST):
        following = at + DAY
        after = offset(following)
        if before != after:
            a, b = at, following
            while b - a > SECOND:
                middle = a + (b - a) // 2
                a, b = (middle, b) if offset(middle) == before else (a, middle)

            yield b.replace(microsecond=0), before, after

        at, before = following, after
