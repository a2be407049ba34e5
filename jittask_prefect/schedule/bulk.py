"""The next occurrence of many rows at once.

Rows differ in their dates, not in their rule: all rows that began in the same phase of the rule share their days. So the
days are worked out once for each phase (366 for a yearly task), by the same `Series` that answers for a single row. A
row only adds its own clock time.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import repeat
from typing import TYPE_CHECKING

from jittask_prefect.schedule.instants import (
    DAY,
    clamped,
    midnight,
    shifted,
    wall_time,
)
from jittask_prefect.schedule.recur import day_phase

if TYPE_CHECKING:
    from jittask_prefect.schedule.series import Series
    from jittask_prefect.schedule.timer import Field, Timer

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
    phase = day_phase(cfg.repeat)
    if phase is None or cfg.end_time is not None or ends is not None:
        each = repeat(None) if ends is None else ends
        pairs = zip(starts, each, strict=ends is not None)
        return [_next(timer.series(start, end), now) for start, end in pairs]

    after = clamped(now, zone)
    today = wall_time(after, zone).date()
    earlier = wall_time(shifted(after, -3 * DAY), zone).date()
    # A row that began before this day has begun whatever a holiday can carry to yesterday or later.
    settled = midnight(timer.moves.sources(earlier, today)[0])
    known: dict[Hashable, _NextDays] = {}
    combine, times = datetime.combine, list[datetime | None]()
    plain = cfg.start_offset is None
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
            wall = timer.start_wall(start)

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
