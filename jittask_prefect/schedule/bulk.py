"""The next occurrence of many rows at once.

Rows differ in their dates, not in their rule: all that began in the same phase of it share their days. So the days are
worked out once for each phase (366 for a yearly task), by the same `Series` that answers for a single row, and a row
only puts its own clock time to them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import repeat
from typing import TYPE_CHECKING

from jittask_prefect.schedule.instants import DAY, clamped, shifted
from jittask_prefect.schedule.recur import phase

if TYPE_CHECKING:
    from jittask_prefect.schedule.series import Series
    from jittask_prefect.schedule.timer import Field, Timer

NOON = 12
AHEAD = timedelta(days=366 * 9)
"""Beyond this a phase's next day is not looked for: a row of it is asked for by itself."""


@dataclass(frozen=True, slots=True)
class _Found:
    """The next days of a phase: those around today, where the clock decides, and the first that is later in any case.

    Where `day` is None each row is asked for by itself.
    """

    near: tuple[date, ...]
    day: date | None


def next_times(
    timer: Timer,
    starts: Iterable[Field],
    now: datetime,
    ends: Iterable[Field] | None = None,
) -> list[datetime | None]:
    """Of each row the first due time after `now`: what `timer.series(start, end).next(now)` says.

    Args:
        timer: The timer of a row task.
        starts: The values of `startField`, None where a row has none.
        now: Aware, or a wall time in the task's zone.
        ends: The values of `endField`, one for each start; absent, no row has an end of its own.

    Returns:
        Aware datetimes in the task's zone, in the order of the rows; None where nothing is due any more.
    """
    cfg, zone = timer.cfg, timer.zone
    key = phase(cfg.repeat)
    if key is None or cfg.end_time is not None or ends is not None:
        pairs = zip(
            starts, repeat(None) if ends is None else ends, strict=ends is not None
        )
        return [_one(timer.series(start, end), now) for start, end in pairs]
    after = clamped(now, zone)
    today = after.astimezone(zone).date()
    earlier = shifted(after, -3 * DAY).astimezone(zone).date()
    # Whoever began before this day has begun whatever a holiday can carry to yesterday or later.
    reach = timer.moves.reach(earlier, today)[0]
    settled = datetime(reach.year, reach.month, reach.day)
    found: dict[int, _Found] = {}
    combine, times = datetime.combine, list[datetime | None]()
    whole = cfg.start_offset is None
    for start in starts:
        if start is None:
            times.append(None)
            continue
        wall: datetime | None
        wall = (
            start
            if whole
            and type(start) is datetime
            and start.tzinfo is None
            and 1 < start.year < 9999
            else timer.wall(start)
        )
        if wall is None:
            times.append(_one(timer.series(start), now))
            continue
        number = key(wall) if wall < settled else -wall.toordinal()
        at = found.get(number)
        if at is None:
            at = found[number] = _look(timer, wall, today)
        day = at.day
        if day is None:
            times.append(_one(timer.series(start), now))
            continue
        clock = wall.time()
        for near in at.near:
            if combine(near, clock, zone).astimezone(UTC) > after:
                day = near
                break
        times.append(combine(day, clock, zone))
    return times


def _one(series: Series | None, now: datetime) -> datetime | None:
    found = series.next(now) if series is not None else None
    return found.due if found is not None else None


def _look(timer: Timer, wall: datetime, today: date) -> _Found:
    """The next days of all starts of one phase, found with noon for a clock time."""
    series = timer.from_wall(wall.replace(hour=NOON, minute=0, second=0, microsecond=0))
    low = clamped(datetime(today.year, today.month, today.day), timer.zone) - 2 * DAY
    near: list[date] = []
    for at in series.between(low, shifted(low, AHEAD)):
        day = at.due.date()
        if at.due.hour != NOON or not _even(day, at.due):
            break  # clocks change on that day: where a wall time arrives is for each row to see
        if day > today + DAY:
            return _Found(tuple(near), day)
        near.append(day)
    return _Found((), None)


def _even(day: date, noon: datetime) -> bool:
    """Whether a day has one offset from UTC, from midnight to midnight, in the zone of `noon`."""
    try:
        following = day + DAY
    except OverflowError:
        return False
    edges = (
        datetime(at.year, at.month, at.day, tzinfo=noon.tzinfo)
        for at in (day, following)
    )
    return all(edge.utcoffset() == noon.utcoffset() for edge in edges)
