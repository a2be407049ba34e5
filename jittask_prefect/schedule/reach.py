"""Which values of a row's date can have an occurrence due in a window: the question to a database.

A value is named by its wall time in the task's zone. The answer is never too narrow. For `normal` repeats the answer is
exact but for the hour of a clock change and a month's last days. For repeats that go on the answer says where a series may have
begun, and on which days of the year or month.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from jittask_prefect.schedule.calendar import Calendar
from jittask_prefect.schedule.days import each_day, month_length, months_later
from jittask_prefect.schedule.instants import (
    DAY,
    TICK,
    clamped,
    midnight,
    offset_change,
    resolve,
    wall_time,
)
from jittask_prefect.schedule.offset import Offset
from jittask_prefect.schedule.spec import Repeat
from jittask_prefect.schedule.workday_reach import (
    workday_bounds,
    workday_days,
    workday_values,
)

if TYPE_CHECKING:
    from jittask_prefect.schedule.timer import Timer

Wall = datetime | None
Days = frozenset[tuple[int, int]]
"""Days of the year or month as (month, day); month 0 is any month, day 0 any day."""
MAX_DAYS = 4000
"""Days of a window beyond which it is not looked at day by day."""
LONG = 1000
"""Days of an offset beyond which leap days make the days of the year uncertain."""


@dataclass(frozen=True)
class Reach:
    """Values of `startField`, by wall times of the task's zone; bounds are inclusive, None is unbounded.

    Attributes:
        spans: A value lies in a span; without spans nothing is due in the window.
        days: And on such a day. None: on any day.
        end: The least value of `endField` of a series that goes on so far; None for any.
        others: Or a value is one of these.
    """

    spans: tuple[tuple[Wall, Wall], ...]
    days: Days | None = None
    end: Wall = None
    others: tuple[Reach, ...] = ()

    def may_hold(self, wall: datetime) -> bool:
        """Whether a value of this wall time is among these, whatever its end and the other reaches."""
        near = any(
            (low is None or low <= wall) and (high is None or wall <= high)
            for low, high in self.spans
        )
        if not near or self.days is None:
            return near

        month, day = wall.month, wall.day
        return not self.days.isdisjoint({(month, day), (0, day), (month, 0)})

    @property
    def parts(self) -> tuple[Reach, ...]:
        """Each by its own spans, days and end; a value is one of these."""
        return self, *self.others


NOTHING = Reach(())


def union(found: Iterable[Reach]) -> Reach:
    """The values of any of these; spans alone are joined where they meet."""
    some = [each for each in found if each.spans]
    spans = [
        span
        for each in some
        if each.days is None and each.end is None
        for span in each.spans
    ]
    joined = [Reach(tuple(_overlapping(spans)))] if spans else []
    narrower = [each for each in some if each.days is not None or each.end is not None]
    first, *others = [*joined, *dict.fromkeys(narrower)] or [NOTHING]
    return replace(first, others=tuple(others))


def _overlapping(spans: list[tuple[Wall, Wall]]) -> list[tuple[Wall, Wall]]:
    """The spans in order, those that overlap as one."""
    bounds = [(low or datetime.min, high or datetime.max) for low, high in spans]
    return [
        (None if low == datetime.min else low, None if high == datetime.max else high)
        for low, high in _joined(iter(bounds), timedelta())
    ]


def reach(timer: Timer, after: datetime, before: datetime, whole_days: bool) -> Reach:
    """Which values can have an occurrence due in [after, before).

    Args:
        timer: The timer of a date-field task.
        after: First instant, aware or a wall time of the task's zone.
        before: Last instant, exclusive.
        whole_days: Whether `startField` holds dates: then a due time's clock is known.
    """
    zone, repeat, offset = timer.zone, timer.cfg.repeat, timer.cfg.start_offset
    low, high = clamped(after, zone), clamped(before, zone)
    if (
        not timer.sub_daily
    ):  # what waits for an opening there was to be due since the closing before
        low, high = (timer.windows.shut_since(at) for at in (low, high))
    if low >= high:
        return NOTHING

    clock = offset.time if offset is not None else None
    if clock is None and whole_days and (offset is None or offset.duration is None):
        clock = time()
    if repeat.repeat_type == "custom" or timer.sub_daily:
        clock = None  # the rule has clock times of its own

    nominal = _nominal(timer, low, high, clock)
    anchors = _joined(nominal, TICK if clock is None else DAY)
    if not anchors:
        return NOTHING
    if repeat.repeat_type == "normal":
        spans = [span for each in anchors for span in _values(timer, offset, *each)]
        return Reach(tuple(spans)) if spans else NOTHING

    first, last = anchors[0][0], anchors[-1][1]
    spans = [(None, _before_offset(timer, offset, first, last)[1])]
    end = _least_end(timer, low)
    if timer.sub_daily or (last - first).days > MAX_DAYS:
        return Reach(tuple(spans), None, end)

    # Of a rule whose days the row's date does not decide, none may lie here.
    days = frozenset(
        start
        for span in anchors
        for day in each_day(*span)
        for start in _start_days(timer, day)
    )
    if not days:
        return NOTHING
    if (0, 0) in days:
        return Reach(tuple(spans), None, end)

    on = _days_before_offset(days, offset, timer.moves.calendar)
    return Reach(tuple(spans), on, end)


def _nominal(
    timer: Timer, low: datetime, high: datetime, clock: time | None
) -> Iterator[tuple[datetime, datetime]]:
    """The nominal wall times, both ends inclusive, from which an occurrence is due in [low, high)."""
    moves = timer.moves
    first, last = _wall(low, timer, -1), _wall(high - TICK, timer, 1)
    begin, end = moves.sources(first.date(), last.date())
    moving = moves.active and not timer.sub_daily
    if (end - begin).days > MAX_DAYS:
        whole = min(first, midnight(begin)), max(last, _end_of(end))
        yield whole if moving else (first, last)
        return

    for day in each_day(begin, end):
        target = moves.target(day) if moving and moves.blocked(day) else day
        if target is None or not first.date() <= target <= last.date():
            continue

        if clock is None:
            by = midnight(day) - midnight(target)
            yield max(first, midnight(target)) + by, min(last, _end_of(target)) + by
        elif low <= resolve(datetime.combine(target, clock), timer.zone) < high:
            at = datetime.combine(day, clock)
            yield at, at


def _wall(at: datetime, timer: Timer, direction: int) -> datetime:
    """The wall time of a window's end, moved outwards by the clock change there."""
    return wall_time(at, timer.zone) + direction * offset_change(at, timer.zone)


def _end_of(day: date) -> datetime:
    """The last moment of a day."""
    return datetime.combine(day, time.max)


def _joined(
    spans: Iterator[tuple[datetime, datetime]], gap: timedelta
) -> list[tuple[datetime, datetime]]:
    """The spans in order; neighbours no further apart than the gap are joined."""
    found: list[tuple[datetime, datetime]] = []
    for low, high in sorted(spans):
        if found and low - found[-1][1] <= gap:
            found[-1] = found[-1][0], max(found[-1][1], high)
        else:
            found.append((low, high))

    return found


def _values(
    timer: Timer, offset: Offset | None, low: datetime, high: datetime
) -> list[tuple[Wall, Wall]]:
    """The spans of values of a field from which its offset leads to `low`..`high`."""
    if offset is None or not offset.workdays:
        return [_before_offset(timer, offset, low, high)]
    return workday_values(timer.moves.calendar.workdays, offset, low, high)


def _before_offset(
    timer: Timer, offset: Offset | None, low: datetime, high: datetime
) -> tuple[Wall, Wall]:
    """The wall times of a field from which its offset leads to `low`..`high`; unbounded beyond the calendar."""
    if offset is None:
        return low, high
    if offset.workdays:
        return workday_bounds(timer.moves.calendar.workdays, offset, low, high)

    try:
        if (duration := offset.duration) is not None:
            first, last = (resolve(wall, timer.zone) - duration for wall in (low, high))
            return _wall(first, timer, -1), _wall(last, timer, 1)

        if offset.time is not None:  # the offset sets the clock time
            low, high = midnight(low.date()), _end_of(high.date())
        if not offset.months:
            return low - offset.days * DAY, high - offset.days * DAY

        # Near a month's end a shorter month makes the day uncertain: there whole days count.
        begin, end = (months_later(at.date(), -offset.months) for at in (low, high))
        if high.day == month_length(high):
            end = end.replace(day=month_length(end))

        return (
            datetime.combine(begin, low.time()) if low.day < 28 else midnight(begin),
            datetime.combine(end, high.time()) if high.day < 28 else _end_of(end),
        )
    except OverflowError:
        return None, None


def _least_end(timer: Timer, low: datetime) -> Wall:
    """The least `endField` of a series that goes on until `low`, two days to spare; None without an end field."""
    if timer.cfg.end_time_type != 2:
        return None
    day = _wall(low, timer, -1).date()
    first = midnight(timer.moves.sources(day, day)[0])
    found = _before_offset(timer, timer.cfg.end_offset, first, first)[0]
    return None if found is None or found - datetime.min <= 2 * DAY else found - 2 * DAY


# Days of the year


def _start_days(timer: Timer, day: date) -> Iterator[tuple[int, int]]:
    """On which days a series may begin that has an occurrence on this day."""
    repeat, month = timer.cfg.repeat, 0
    if repeat.counts_workdays and not _is_counted(timer, day):
        return
    if repeat.repeat_type == "year":
        if repeat.month is None:
            month = day.month
        elif day.month not in repeat.month:
            return
    yield from ((month, number) for number in _start_numbers(repeat, day))


def _is_counted(timer: Timer, day: date) -> bool:
    """Whether a repeat that counts working days may have an occurrence on a day."""
    workdays, places = timer.moves.calendar.workdays, timer.cfg.repeat.workday
    if not workdays.works(day):
        return False
    return places is None or not workdays.places(day).isdisjoint(places)


def _start_numbers(repeat: Repeat, day: date) -> tuple[int, ...]:
    """The days of a month on which such a series may begin."""
    kind, anywhere = repeat.repeat_type, (0,)
    right_weekday = repeat.weekday is None or day.isoweekday() in repeat.weekday
    if kind == "week":
        return anywhere if right_weekday else ()
    if kind not in ("month", "year"):
        return anywhere

    if repeat.workday is not None:
        return anywhere

    length = month_length(day)
    if repeat.week is not None:
        from_start, from_end = (day.day - 1) // 7 + 1, -((length - day.day) // 7 + 1)
        named = {from_start, from_end} & set(repeat.week)
        return anywhere if right_weekday and named else ()

    # The last day of a month stands for all later days too.
    last = day.day == length
    meant = range(day.day, 32 if last and repeat.month_end == "last" else day.day + 1)
    if repeat.day is None:
        return tuple(meant)

    named = {*meant, -1} if last else {*meant}
    return anywhere if named & set(repeat.day) else ()


@lru_cache(maxsize=1000)
def _days_before_offset(
    days: Days, offset: Offset | None, calendar: Calendar
) -> Days | None:
    """The days of the year, or month, from which an offset leads to such days; None where every day does."""
    if offset is None or not offset.amount:
        return days
    if offset.workdays:
        far = abs(offset.workdays) > LONG / 2
        return None if far else workday_days(calendar.workdays, offset.workdays, days)

    duration = abs(offset.duration or offset.days * DAY)
    if duration > LONG * DAY:
        return None

    any_month = all(month == 0 for month, _ in days)
    found = set()
    for row in each_day(date(2023, 1, 1), date(2026, 12, 31)):
        for start in _days_after_offset(row, offset, calendar):
            # An offset of months that meets a shorter month: the series counts from the row's own day.
            for number in {start.day, row.day} if offset.months else {start.day}:
                month = start.month
                if not days.isdisjoint({(0, number), (month, number), (month, 0)}):
                    found.add((0 if any_month else row.month, row.day))

    return frozenset(found)


def _days_after_offset(row: date, offset: Offset, calendar: Calendar) -> Iterator[date]:
    """The days on which a series may begin whose row has this day."""
    if (duration := offset.duration) is not None:
        # Two hours more either way: clocks may change meanwhile.
        spare = timedelta(hours=2)
        first, last = midnight(row) + duration - spare, _end_of(row) + duration + spare
        yield from each_day(first, last)
        return

    try:
        yield offset.moved(midnight(row), calendar).date()
    except OverflowError:
        return
