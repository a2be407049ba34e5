"""Which values of a row's date can have an occurrence due in a window: what a database is asked for.

A value is named by its wall time in the task's zone. The answer is never too narrow. For `normal` repeats it is exact
but for the hour of a clock change and a month's last days; for repeats that go on it says where a series may have
begun, and on which days of the year or month.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from jittask_prefect.schedule.instants import DAY, TICK, clamped, resolve, shifted
from jittask_prefect.schedule.recur import midnight
from jittask_prefect.schedule.spec import Offset, Repeat

if TYPE_CHECKING:
    from jittask_prefect.schedule.timer import Timer

Wall = datetime | None
MANY_DAYS = 4000
"""Days of a window beyond which it is not looked at day by day."""
LONG = 1000
"""Days of an offset beyond which leap days make the days of the year uncertain."""


@dataclass(frozen=True)
class Reach:
    """Values of `startField`, by wall times of the task's zone; bounds are inclusive, None is unbounded.

    Attributes:
        spans: A value lies in one of these; where there are none, nothing is due in the window.
        days: And is on one of these (month, day); month 0 is any month. None: on any day.
        end: The least value of `endField` of a series that goes on so far; None for any.
    """

    spans: tuple[tuple[Wall, Wall], ...]
    days: frozenset[tuple[int, int]] | None = None
    end: Wall = None


NOTHING = Reach(())


def reach(timer: Timer, after: datetime, before: datetime, whole_days: bool) -> Reach:
    """What can be due in [after, before).

    Args:
        timer: The timer of a date-field task.
        after: First instant, aware or a wall time of the task's zone.
        before: Last instant, exclusive.
        whole_days: Whether `startField` holds dates: then a due time's clock is known.
    """
    cfg, zone, repeat = timer.cfg, timer.zone, timer.cfg.repeat
    low, high = clamped(after, zone), clamped(before, zone)
    if low >= high:
        return NOTHING
    offset = cfg.start_offset
    clock = offset.time if offset is not None else None
    elapses = offset is not None and offset.elapsed and offset.amount != 0
    if clock is None and whole_days and not elapses:
        clock = time()
    if repeat.repeat_type == "custom" or timer.sub_daily:
        clock = None  # the rule has clock times of its own
    anchors = _merged(_anchors(timer, low, high, clock), TICK if clock is None else DAY)
    if not anchors:
        return NOTHING
    if repeat.repeat_type == "normal":
        return Reach(
            tuple(_undo(timer, offset, first, last) for first, last in anchors)
        )
    highest = _undo(timer, offset, anchors[0][0], anchors[-1][1])[1]
    spans: tuple[tuple[Wall, Wall], ...] = ((None, highest),)
    if timer.sub_daily:
        return Reach(spans, None, _end(timer, low))
    if (anchors[-1][1] - anchors[0][0]).days > MANY_DAYS:
        return Reach(spans, None, _end(timer, low))
    # Of a rule whose days the row's date does not decide, none may lie here.
    begun = [day for first, last in anchors for day in _days(first, last)]
    days = _starts(repeat, begun)
    if not days:
        return NOTHING
    return Reach(
        spans,
        None if (0, 0) in days else _before_offset(days, offset),
        _end(timer, low),
    )


def _anchors(
    timer: Timer, low: datetime, high: datetime, clock: time | None
) -> Iterator[tuple[datetime, datetime]]:
    """The nominal wall times, both ends inclusive, from which an occurrence is due in [low, high)."""
    zone, moves = timer.zone, timer.moves
    first, last = _wall(low, timer, -1), _wall(high - TICK, timer, 1)
    begin, end = moves.reach(first.date(), last.date())
    moving = moves.active and not timer.sub_daily
    if (end - begin).days > MANY_DAYS or (not moving and clock is None):
        yield (
            (min(first, midnight(begin)), max(last, _over(end)))
            if moving
            else (first, last)
        )
        return
    for day in _days(midnight(begin), midnight(end)):
        target = moves.target(day) if moving and moves.blocked(day) else day
        if target is None or not first.date() <= target <= last.date():
            continue
        if clock is not None:
            if low <= resolve(datetime.combine(target, clock), zone) < high:
                at = datetime.combine(day, clock)
                yield at, at
            continue
        by = midnight(day) - midnight(target)
        yield max(first, midnight(target)) + by, min(last, _over(target)) + by


def _wall(at: datetime, timer: Timer, direction: int) -> datetime:
    """The wall time of a window's end, moved outwards by what the clocks change there."""
    zone = timer.zone
    around = [
        shifted(at, step * DAY).astimezone(zone).utcoffset() or timedelta()
        for step in (-1.5, 1.5)
    ]
    wall = at.astimezone(zone).replace(tzinfo=None, fold=0)
    return wall + direction * abs(around[0] - around[1])


def _merged(
    spans: Iterator[tuple[datetime, datetime]], apart: timedelta
) -> list[tuple[datetime, datetime]]:
    """The spans in order, those in one that are no further apart than that."""
    found: list[tuple[datetime, datetime]] = []
    for low, high in sorted(spans):
        if found and low - found[-1][1] <= apart:
            found[-1] = found[-1][0], max(found[-1][1], high)
        else:
            found.append((low, high))
    return found


def _days(first: datetime, last: datetime) -> Iterator[date]:
    for ordinal in range(first.toordinal(), last.toordinal() + 1):
        yield date.fromordinal(ordinal)


def _over(day: date) -> datetime:
    """The last moment of a day."""
    return datetime.combine(day, time.max)


def _undo(
    timer: Timer, offset: Offset | None, low: datetime, high: datetime
) -> tuple[Wall, Wall]:
    """The wall times of a field from which its offset leads to `low`..`high`."""
    if offset is None:
        return low, high
    amount = offset.amount
    try:
        if offset.elapsed and amount:
            by = amount * timedelta(**{f"{offset.unit}s": 1})
            ends = [resolve(wall, timer.zone) - by for wall in (low, high)]
            return _wall(ends[0], timer, -1), _wall(ends[1], timer, 1)
        if offset.time is not None:  # whatever the clock was, the offset sets it
            low, high = midnight(low.date()), _over(high.date())
        if offset.unit in ("month", "year"):
            return _undo_months(
                amount * (12 if offset.unit == "year" else 1), low, high
            )
        days = {"day": 1, "week": 7}.get(offset.unit, 0)
        return low - amount * days * DAY, high - amount * days * DAY
    except OverflowError:
        return None, None


def _undo_months(
    amount: int, low: datetime, high: datetime
) -> tuple[datetime, datetime]:
    """Months have 28 to 31 days: what a day's clock bounds is uncertain near a month's end, so there whole days are."""
    year, month = divmod(low.year * 12 + low.month - 1 - amount, 12)
    if not 1 <= year <= 9998:
        raise OverflowError
    first = (
        low.replace(year=year, month=month + 1)
        if low.day < 28
        else datetime(year, month + 1, min(low.day, monthrange(year, month + 1)[1]))
    )
    year, month = divmod(high.year * 12 + high.month - 1 - amount, 12)
    if not 1 <= year <= 9998:
        raise OverflowError
    length = monthrange(year, month + 1)[1]
    if high.day < 28:
        return first, high.replace(year=year, month=month + 1)
    last = high.day == monthrange(high.year, high.month)[1]
    return first, _over(
        date(year, month + 1, length if last else min(high.day, length))
    )


def _end(timer: Timer, low: datetime) -> Wall:
    """The least `endField` of a series that goes on until `low`, two days to spare."""
    cfg = timer.cfg
    if cfg.end_time_type != 2:
        return None
    first = timer.moves.reach(
        _wall(low, timer, -1).date(), _wall(low, timer, -1).date()
    )[0]
    found = _undo(timer, cfg.end_offset, midnight(first), midnight(first))[0]
    return None if found is None or found - datetime.min <= 2 * DAY else found - 2 * DAY


def _starts(repeat: Repeat, days: list[date]) -> frozenset[tuple[int, int]]:
    """On which (month, day) a series may begin that has an occurrence on one of these days; 0 is any."""
    return frozenset(
        (month, day)
        for at in days
        for month in _months(repeat, at)
        for day in _numbers(repeat, at)
    )


def _months(repeat: Repeat, at: date) -> tuple[int, ...]:
    if repeat.repeat_type != "year":
        return (0,)
    if repeat.month is None:
        return (at.month,)
    return (0,) if at.month in repeat.month else ()


def _numbers(repeat: Repeat, at: date) -> tuple[int, ...]:
    if repeat.repeat_type == "week":
        return (
            (0,) if repeat.weekday is None or at.isoweekday() in repeat.weekday else ()
        )
    if repeat.repeat_type not in ("month", "year"):
        return (0,)
    length = monthrange(at.year, at.month)[1]
    if repeat.week is not None:
        right = repeat.weekday is None or at.isoweekday() in repeat.weekday
        number = (
            (at.day - 1) // 7 + 1 if repeat.week > 0 else -((length - at.day) // 7 + 1)
        )
        return (0,) if right and number == repeat.week else ()
    clipped = at.day == length and repeat.month_end == "last"
    if repeat.day is None:
        return tuple(range(at.day, 32)) if clipped else (at.day,)
    meant = (
        {at.day}
        | ({-1} if at.day == length else set())
        | (set(range(length, 32)) if clipped else set())
    )
    return (0,) if meant & set(repeat.day) else ()


@lru_cache(maxsize=1000)
def _before_offset(
    days: frozenset[tuple[int, int]], offset: Offset | None
) -> frozenset[tuple[int, int]] | None:
    """The days of the year, or month, from which an offset leads to one of these; None where that is every day."""
    if offset is None or not offset.amount:
        return days
    long = {"day": 1, "week": 7, "month": 0, "year": 0}.get(offset.unit)
    if (
        (abs(offset.amount) * long > LONG)
        if long is not None
        else _span(offset) > LONG * DAY
    ):
        return None
    any_month = all(month == 0 for month, _ in days)
    found = set()
    start = date(2023, 1, 1).toordinal()
    for ordinal in range(start, start + 4 * 366):
        at = date.fromordinal(ordinal)
        for there in _after_offset(at, offset):
            # An offset of months that meets a shorter month: the series counts from the row's own day.
            for number in {there.day, at.day} if long == 0 else {there.day}:
                if not days.isdisjoint(
                    {(0, number), (there.month, number), (there.month, 0)}
                ):
                    found.add((0 if any_month else at.month, at.day))
    return frozenset(found)


def _span(offset: Offset) -> timedelta:
    try:
        return abs(offset.amount) * timedelta(**{f"{offset.unit}s": 1})
    except OverflowError:
        return timedelta.max


def _after_offset(at: date, offset: Offset) -> tuple[date, ...]:
    """The days on which a series begins whose row has this day."""
    if offset.elapsed:
        by = offset.amount * timedelta(**{f"{offset.unit}s": 1})
        # An hour more either way, for what the clocks change meanwhile.
        first, last = (
            midnight(at) + by - timedelta(hours=2),
            _over(at) + by + timedelta(hours=2),
        )
        return tuple(_days(first, last))
    if offset.unit in ("day", "week"):
        return (at + offset.amount * (7 if offset.unit == "week" else 1) * DAY,)
    year, month = divmod(
        at.year * 12
        + at.month
        - 1
        + offset.amount * (12 if offset.unit == "year" else 1),
        12,
    )
    if not 1 <= year <= 9999:
        return ()
    return (date(year, month + 1, min(at.day, monthrange(year, month + 1)[1])),)
