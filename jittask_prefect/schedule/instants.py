"""Wall times to instants and back, held within what a datetime can say."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo

DAY = timedelta(1)
TICK = timedelta(microseconds=1)
# Two days short of the ends, so that any zone can show them.
EARLIEST = datetime(1, 1, 3, tzinfo=UTC)
LATEST = datetime(9999, 12, 29, tzinfo=UTC)


def resolve(wall: datetime, zone: tzinfo) -> datetime:
    """The instant (UTC) of a wall time: in a gap moved forward by the gap, in an overlap the first (RFC 5545 §3.3.5).

    Raises:
        OverflowError: At the very ends of the calendar.
    """
    return wall.replace(tzinfo=zone, fold=0).astimezone(UTC)


def in_utc(at: datetime, zone: tzinfo) -> datetime:
    """An instant in UTC, whether given aware or as a wall time of `zone`; clamped to the calendar's ends if aware."""
    return resolve(at, zone) if at.tzinfo is None else at.astimezone(UTC)


def clamped(at: datetime, zone: tzinfo) -> datetime:
    """Like `in_utc`, for the bound of a window: what lies beyond the calendar's ends counts as the end."""
    try:
        return min(max(in_utc(at, zone), EARLIEST), LATEST)
    except OverflowError:
        return LATEST if at.year > 5000 else EARLIEST


def shifted(at: datetime, by: timedelta) -> datetime:
    """An instant moved, held within EARLIEST..LATEST."""
    try:
        return min(max(at + by, EARLIEST), LATEST)
    except OverflowError:
        return LATEST if by > timedelta() else EARLIEST


def at_day(day: date, days: int) -> datetime | None:
    """The midnight (UTC) some days from `day`; None where the calendar ends before."""
    try:
        return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days)
    except OverflowError:
        return None


def near(day: date, days: int) -> datetime:
    """The midnight (UTC) some days from `day`, held within EARLIEST..LATEST; two days cover every zone."""
    return shifted(
        max(datetime(day.year, day.month, day.day, tzinfo=UTC), EARLIEST),
        timedelta(days),
    )


def day_after(day: date, zone: tzinfo) -> datetime:
    """The instant at which `day` is over in `zone`.

    Raises:
        OverflowError: On the calendar's last day.
    """
    following = day + DAY
    return resolve(datetime(following.year, following.month, following.day), zone)
