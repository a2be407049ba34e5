"""Minute and hour as Prefect schedules: an interval in UTC, or rules in UTC that name the open days."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from jittask_prefect.errors import invalid
from jittask_prefect.schedule.days import day_of_year, each_day
from jittask_prefect.schedule.instants import (
    DAY,
    SECOND,
    first_step,
    midnight,
    resolve,
    wall_time,
)
from jittask_prefect.schedule.rrule import MAX_RRULE_LENGTH, listed
from jittask_prefect.schedule.schedule_text import (
    SLUGS,
    WINDOW,
    ScheduleSlot,
    holds_from,
    rule_slot,
    until,
)
from jittask_prefect.schedule.series import Series
from jittask_prefect.schedule.timer import Timer

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def interval_slots(
    timer: Timer, series: Series, step: timedelta, now: datetime, days: int
) -> list[ScheduleSlot]:
    """The schedules of a minute or hour repeat.

    Args:
        timer: The timer.
        series: Its occurrences.
        step: The elapsed time between neighbouring occurrences.
        now: The present instant.
        days: For how many days after `now` the open days are named.

    Returns:
        An interval in UTC where start, end and holidays change nothing; else rules in UTC.

    Raises:
        ConfigError: The holidays do not fit Prefect's schedules.
    """
    begin = holds_from(now, DAY / step)
    anchor, stop = series.anchor.astimezone(UTC), series.stop
    if not timer.moves.active:
        if stop is None and anchor <= begin:
            seconds = int(step.total_seconds())
            anchor_date = anchor.isoformat()
            return [
                {"interval": seconds, "anchor_date": anchor_date, "timezone": "UTC"}
            ]

        return [_steps_from(anchor, step, begin, stop)]

    # BYYEARDAY counts UTC days here, so windows begin with them.
    slots: list[ScheduleSlot] = []
    window = begin.replace(hour=0)
    end = window + (days + 32) * DAY
    while window < end:
        upto = min(window + WINDOW, end)
        first = first_step(anchor, step, max(window, begin))
        last = upto - SECOND if stop is None else min(stop, upto - SECOND)
        if lines := list(_on_open_days(timer, step, first, last)):
            slots.append(rule_slot(lines, "UTC", wall_time(first, UTC)))

        window = upto

    if stop is None or first_step(anchor, step, end) <= stop:
        slots.append(_steps_from(anchor, step, end, stop))

    longest = max((len(slot["rrule"]) for slot in slots), default=0)
    if longest > MAX_RRULE_LENGTH or len(slots) > len(SLUGS):
        allowed = f"days that fit {MAX_RRULE_LENGTH} characters"
        found = "too many holidays"
        raise invalid("timerCfg.calendar", found, allowed)

    return slots


def _steps_from(
    anchor: datetime, step: timedelta, begin: datetime, stop: datetime | None
) -> ScheduleSlot:
    """All steps from an instant on."""
    first = wall_time(first_step(anchor, step, begin), UTC)
    return rule_slot([_steps(step) + _until(stop)], "UTC", first)


def _steps(step: timedelta) -> str:
    minutes = step // MINUTE
    if minutes % 60:
        return f"RRULE:FREQ=MINUTELY;INTERVAL={minutes}"
    return f"RRULE:FREQ=HOURLY;INTERVAL={minutes // 60}"


def _until(last: datetime | None) -> str:
    return until(None if last is None else wall_time(last, UTC))


def _on_open_days(
    timer: Timer, step: timedelta, first: datetime, last: datetime
) -> Iterator[str]:
    """Rules in UTC for the open local days; a local day is parts of two UTC days.

    Where the steps fall on the same times of every UTC day, these times are named, part by part. Else a rule steps
    through the days that are open in part, and exclusion rules take the rest of those days away. (A minutely rule with
    BYHOUR would look for its hour minute by minute, on each day that the rule leaves out too.)
    """
    open_parts = _parts(timer, first, last, blocked=False)
    second, end = first.second, _until(last)
    clock = _daily_clock(first, step)
    if clock is not None:
        for (hours, minutes), days in open_parts.items():
            at_hours, at_minutes = clock[0] & {*hours}, clock[1] & {*minutes}
            if at_hours and at_minutes:
                yield f"RRULE:{_daily(days, at_hours, at_minutes, second)}{end}"

        return

    some = set[int]().union(*open_parts.values())
    if some:
        yield f"{_steps(step)};BYYEARDAY={listed(some)}{end}"
        for (hours, minutes), days in _parts(timer, first, last, blocked=True).items():
            if days & some:
                yield f"EXRULE:{_daily(days & some, hours, minutes, second)}{end}"


def _daily_clock(anchor: datetime, step: timedelta) -> tuple[set[int], set[int]] | None:
    """The hours and minutes at which the steps fall on every day; None where days differ."""
    minutes = step // MINUTE
    if 60 % minutes == 0:
        return {*range(24)}, {*range(anchor.minute % minutes, 60, minutes)}
    if minutes % 60 == 0 and 1440 % minutes == 0:
        hours = minutes // 60
        return {*range(anchor.hour % hours, 24, hours)}, {anchor.minute}

    return None


def _daily(
    days: Iterable[int], hours: Iterable[int], minutes: Iterable[int], second: int
) -> str:
    clock = f"BYHOUR={listed(hours)};BYMINUTE={listed(minutes)};BYSECOND={second}"
    return f"FREQ=DAILY;BYYEARDAY={listed(days)};{clock}"


def _parts(
    timer: Timer, first: datetime, last: datetime, *, blocked: bool
) -> dict[tuple[range, range], set[int]]:
    """The UTC days (of the year) of first..last that are open, or blocked, by the hours and minutes of that part."""
    groups: dict[tuple[range, range], set[int]] = {}
    for begin, end in _runs(timer, first, last, blocked=blocked):
        for day in each_day(max(begin, first).date(), (end - SECOND).date()):
            low = midnight(day).replace(tzinfo=UTC)
            start, stop = max(begin - low, timedelta()), min(end - low, DAY)
            for part in _parts_of_day(start // MINUTE, stop // MINUTE):
                groups.setdefault(part, set()).add(day_of_year(day))

    order = sorted(groups, key=lambda part: [(each.start, each.stop) for each in part])
    return {part: groups[part] for part in order}


def _parts_of_day(begin: int, end: int) -> Iterator[tuple[range, range]]:
    """The minutes [begin, end) of a day as hours, and minutes of each of these hours."""
    whole = range(-(-begin // 60), end // 60)
    if begin % 60:
        hour = begin // 60
        yield range(hour, hour + 1), range(begin % 60, min(60, end - hour * 60))

    if len(whole):
        yield whole, range(60)
    if end % 60 and end // 60 >= whole.start:
        yield range(end // 60, end // 60 + 1), range(end % 60)


def _runs(
    timer: Timer, first: datetime, last: datetime, *, blocked: bool
) -> Iterator[tuple[datetime, datetime]]:
    """The runs of open (or of blocked) local days that touch first..last, as instants [begin, end)."""
    zone = timer.zone
    run: datetime | None = None
    for day in each_day(wall_time(first, zone).date(), wall_time(last, zone).date()):
        inside = (timer.moves.blocked(day) is not None) is blocked
        if inside and run is None:
            run = resolve(midnight(day), zone)
        elif not inside and run is not None:
            yield run, resolve(midnight(day), zone)
            run = None

    if run is not None:
        # Parts of days count whole minutes; UNTIL cuts within the last minute.
        yield run, (last + MINUTE).replace(second=0, microsecond=0)
