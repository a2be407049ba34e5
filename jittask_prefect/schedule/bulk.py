"""The next occurrence of many rows at once.

Rows differ in their dates, not in their rule: all rows that began in the same phase of the rule share their days. So the
days are worked out once for each phase (366 for a yearly task), by the same `Series` that answers for a single row. A
row only adds its own clock time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import repeat
from typing import TYPE_CHECKING

from jittask_prefect.schedule.instants import (
    DAY,
    TICK,
    clamped,
    midnight,
    shifted,
    wall_time,
)
from jittask_prefect.schedule.recur import day_phase

if TYPE_CHECKING:
    from jittask_prefect.schedule.series import Series
    from jittask_prefect.schedule.timer import Field, Timer

MIDNIGHT = time()
NOON = 12
AHEAD = timedelta(days=366 * 9)
"""Beyond this a phase's next day is not looked for: each row of the phase is asked for by itself."""


@dataclass(frozen=True, slots=True)
class _NextDays:
    """The next days of a phase: those around today, where the clock decides, and the first that is later in any case.

    Without `day` each row of the phase is asked for by itself.
    """

    near: tuple[date, ...]
    day: date | None


def next_times(
    timer: Timer,
    starts: Iterable[Field],
    now: datetime,
    ends: Iterable[Field] | None = None,
) -> list[datetime | None]:
    """Of each row the first due time after `now`: that of `timer.series(start, end).next(now)`.

    Args:
        timer: The timer of a row task.
        starts: The values of `startField`, None where a row has none.
        now: Aware, or a wall time in the task's zone.
        ends: The values of `endField`, in the order of the starts; absent, no row has an end of its own.

    Returns:
        Aware datetimes in the task's zone, in the order of the rows; None where nothing is due any more.
    """
    cfg, zone = timer.cfg, timer.zone
    opened = timer.windows.active and not timer.sub_daily
    if opened and ends is None and cfg.end_time is None:
        return _opened(timer, starts, now)

    phase = day_phase(cfg.repeat, timer.moves.calendar)
    once, endless = cfg.repeat.repeat_type == "normal", ends is None
    if once and endless and cfg.end_time is None:
        return _single_times(timer, starts, now)
    if phase is None or cfg.end_time is not None or not endless:
        each = repeat(None) if ends is None else ends
        pairs = zip(starts, each, strict=not endless)
        return [_next(timer.series(start, end), now) for start, end in pairs]

    after = clamped(now, zone)
    today = wall_time(after, zone).date()
    earlier = wall_time(shifted(after, -3 * DAY), zone).date()
    # A row that began before this day has begun whatever a holiday can carry to yesterday or later.
    settled = midnight(timer.moves.sources(earlier, today)[0])
    known: dict[Hashable, _NextDays] = {}
    combine, times = datetime.combine, list[datetime | None]()
    plain, wall_of = cfg.start_offset is None, _walls(timer)
    for start in starts:
        if start is None:
            times.append(None)
            continue

        wall: datetime | None
        # The short way for a naive datetime: a million of them in seconds.
        if (
            plain
            and type(start) is datetime
            and start.tzinfo is None
            and 1 < start.year < 9999
        ):
            wall = start
        else:
            wall = wall_of(start)

        found = None
        if wall is not None:
            key = phase(wall) if wall < settled else -wall.toordinal()
            found = known.get(key)
            if found is None:
                found = known[key] = _next_days(timer, wall, today)

        if wall is None or found is None or (day := found.day) is None:
            times.append(_next(timer.series(start), now))
            continue

        clock = wall.time()
        for near in found.near:
            if combine(near, clock, zone).astimezone(UTC) > after:
                day = near
                break

        times.append(combine(day, clock, zone))

    return times


def _opened(
    timer: Timer, starts: Iterable[Field], now: datetime
) -> list[datetime | None]:
    """The same for a task with opening hours: the first time that the hours put after `now`."""
    windows, zone = timer.windows, timer.zone
    since = windows.shut_since(clamped(now, zone) + TICK) - TICK
    found = next_times(timer.without_windows(), starts, since)
    known: dict[datetime, datetime | None] = {}
    times: list[datetime | None] = []
    for due in found:
        if due is None:
            times.append(None)
            continue

        at = due.astimezone(UTC)
        if at not in known:
            opening = windows.opening(at)
            known[at] = opening.astimezone(zone) if opening else None
        times.append(known[at])

    return times


def _walls(timer: Timer) -> Callable[[date], datetime | None]:
    """`Timer.start_wall` of many rows: rows of a day share the day that the offset arrives at."""
    offset, known = timer.cfg.start_offset, dict[date, date | None]()
    if offset is not None and offset.duration is not None:
        return timer.start_wall

    clock, combine = offset and offset.time, datetime.combine

    def wall_of(start: date) -> datetime | None:
        if not isinstance(start, datetime):
            day, at = start, clock or MIDNIGHT
        elif start.tzinfo is None and not start.fold:
            day, at = start.date(), clock or start.time()
        else:
            return timer.start_wall(start)

        if day not in known:
            moved = timer.start_wall(day)
            known[day] = None if moved is None else moved.date()

        arrival = known[day]
        return None if arrival is None else combine(arrival, at)

    return wall_of


def _single_times(
    timer: Timer, starts: Iterable[Field], now: datetime
) -> list[datetime | None]:
    """Of rows that are due once: rows of a day share the day that the holiday rule makes of theirs."""
    zone, after, wall_of = timer.zone, clamped(now, timer.zone), _walls(timer)
    moves, known = timer.moves, dict[date, date | None]()
    combine, times = datetime.combine, list[datetime | None]()
    for start in starts:
        wall = None if start is None else wall_of(start)
        if wall is None:
            times.append(_next(timer.series(start), now))
            continue

        day = wall.date()
        if day not in known:
            off = moves.active and moves.blocked(day)
            known[day] = moves.target(day) if off else day

        target = known[day]
        if target is None:
            times.append(None)
            continue

        due = combine(target, wall.time(), zone).astimezone(UTC)
        times.append(due.astimezone(zone) if due > after else None)

    return times


def _next(series: Series | None, now: datetime) -> datetime | None:
    found = series.next(now) if series is not None else None
    return found.due if found is not None else None


def _next_days(timer: Timer, wall: datetime, today: date) -> _NextDays:
    """The next days of all starts of a phase, found with noon for a clock time."""
    series = timer.series_from(midnight(wall.date()).replace(hour=NOON))
    low = clamped(midnight(today), timer.zone) - 2 * DAY
    near: list[date] = []
    for occurrence in series.between(low, shifted(low, AHEAD)):
        due, day = occurrence.due, occurrence.due.date()
        if due.hour != NOON or not _one_offset(day, due):
            break  # clocks change on that day: each row's own wall time decides where it arrives
        if day > today + DAY:
            return _NextDays(tuple(near), day)

        near.append(day)

    return _NextDays((), None)


def _one_offset(day: date, noon: datetime) -> bool:
    """Whether a day has the same offset from UTC, from midnight to midnight, in the zone of `noon`."""
    try:
        edges = (midnight(at).replace(tzinfo=noon.tzinfo) for at in (day, day + DAY))
        return all(edge.utcoffset() == noon.utcoffset() for edge in edges)
    except OverflowError:
        return False
