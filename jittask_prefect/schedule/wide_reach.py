"""Which values of a row's date can have an occurrence due in a window, whatever the row's own zone or calendar is.

The answer is too wide, and never too narrow: two zones are little more than a day apart, and no country has more than a
month off in a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta

from jittask_prefect.schedule.days import each_day
from jittask_prefect.schedule.instants import DAY, shifted
from jittask_prefect.schedule.offset import Offset
from jittask_prefect.schedule.reach import NOTHING, Days, Reach, Wall, union
from jittask_prefect.schedule.spec import Repeat, TimerCfg
from jittask_prefect.schedule.timer import Timer

APART = timedelta(hours=28)
"""More than two zones are ever apart, a clock change included."""
DAYS_APART = 2
"""The days between the dates of an instant in two zones, at most."""
CLOCKS_CHANGED = 6 * 60
"""Minutes of the day: clocks go forward before."""
BREAK = 31
"""Days: more than any country has off in a row."""
DAYS_FOR_WORKDAY = 3
"""Days: more than a working day takes on an average, beside a single break."""


def wide_reach(
    timers: Sequence[Timer],
    after: datetime,
    before: datetime,
    *,
    whole_days: bool,
    instants: bool,
    any_calendar: bool,
) -> Reach:
    """The values of `startField` that can have an occurrence due in [after, before) by some zone and calendar.

    Args:
        timers: The task's own timer first, then those of the calendars that the app describes.
        after: First instant, aware.
        before: Last instant, exclusive.
        whole_days: The field holds dates.
        instants: The field holds instants: their wall times depend on the zone.
        any_calendar: A row may name the calendar of any country.

    Returns:
        Spans of wall times in the zone of the first timer.
    """
    levels = [timer.levels.timers for timer in timers if timer.levels is not None]
    of = [list(alike) for alike in zip(*levels, strict=True)] if levels else [timers]
    found = (_wide(each, after, before, whole_days, any_calendar) for each in of)
    return union(_by_any_zone(each) if instants else each for each in found)


def _wide(
    timers: Sequence[Timer],
    after: datetime,
    before: datetime,
    whole_days: bool,
    any_calendar: bool,
) -> Reach:
    """The wide reach of timers with a single offset."""
    low, high = shifted(after, -APART), shifted(before, APART)
    if any(window.opens < CLOCKS_CHANGED for window in timers[0].cfg.window):
        # The clocks of another zone may skip an opening: an occurrence waits for the opening after.
        low = shifted(low, -BREAK * DAY)
    found = [timer.reach(low, high, whole_days=whole_days) for timer in timers]
    if any_calendar:
        # What is outside the opening hours waits, at worst over another break.
        breaks = 2 if timers[0].cfg.window else 1
        low, high = shifted(low, -breaks * BREAK * DAY), shifted(high, BREAK * DAY)
        for cfg in _without_calendar(timers[0]):
            plain = Timer(cfg).reach(low, high, whole_days=whole_days)
            found.append(Reach(plain.spans, plain.days))
    return _joined(found)


def _joined(found: Sequence[Reach]) -> Reach:
    """A reach that holds each of some reaches, and what lies between them."""
    some = [each for each in found if each.spans]
    if len(some) <= 1:
        return some[0] if some else NOTHING
    spans = [span for each in some for span in each.spans]
    lows, highs = [low for low, _ in spans], [high for _, high in spans]
    low = None if None in lows else min(low for low in lows if low is not None)
    high = None if None in highs else max(high for high in highs if high is not None)
    days: Days | None = frozenset()
    for each in some:
        days = None if days is None or each.days is None else days | each.days
    ends = [each.end for each in some]
    end = None if None in ends else min(end for end in ends if end is not None)
    return Reach(((low, high),), days, end)


def _by_any_zone(found: Reach) -> Reach:
    """The wall times in one zone of the instants whose wall times in some zone are in a reach."""
    spans = tuple(
        (_moved(low, -APART), _moved(high, APART)) for low, high in found.spans
    )
    days = None if found.days is None else frozenset(_near(found.days))
    return Reach(spans, days, _moved(found.end, -APART))


def _moved(wall: Wall, by: timedelta) -> Wall:
    try:
        return None if wall is None else wall + by
    except OverflowError:
        return None


def _near(days: Days) -> Iterator[tuple[int, int]]:
    """The days of a reach, with the days around them."""
    spare = DAYS_APART * DAY
    for at in each_day(date(2023, 12, 1), date(2025, 1, 31)):
        if days.isdisjoint({(at.month, at.day), (0, at.day), (at.month, 0), (0, 0)}):
            continue
        for near in each_day(at - spare, at + spare):
            for month, day in ((at.month, at.day), (0, at.day), (at.month, 0)):
                if (month, day) in days:
                    yield near.month if month else 0, near.day if day else 0
    if (0, 0) in days:
        yield 0, 0


# Rules without a calendar


def _without_calendar(timer: Timer) -> Iterator[TimerCfg]:
    """The rule of a timer where each day is a working day: one that counts few days, and one that counts many."""
    cfg = timer.cfg
    plain: dict[str, object] = {
        "skip_holiday": False,
        "workdays_only": False,
        "window": (),
        "calendar": None,
        "calendar_field": None,
        "timezone": timer.zone.key,
        "end_time": None,
        "end_time_type": 0,
        "end_field": None,
        "end_offset": None,
    }
    if cfg.repeat.counts_workdays:
        plain["repeat"] = Repeat.model_validate({"repeatType": "day"})
    for offset in _offsets_in_days(cfg.start_offset):
        yield cfg.model_copy(update={**plain, "offsets": offset})


def _offsets_in_days(offset: Offset | None) -> Iterator[Offset | None]:
    """The shortest and the longest offset in days that an offset of working days can be."""
    if offset is None or not (n := offset.workdays):
        yield offset
        return
    for days in (abs(n), abs(n) * DAYS_FOR_WORKDAY + BREAK):
        form = {"offsetType": 1 if n > 0 else -1, "offset": days, "offsetUnit": "day"}
        if offset.time is not None:
            form["time"] = offset.time.isoformat("seconds")
        yield Offset.model_validate(form)
