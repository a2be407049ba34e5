"""Minute and hour as Prefect schedules: an interval in UTC, or rules in UTC that name the open days and hours."""

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
from jittask_prefect.schedule.plain_series import PlainSeries
from jittask_prefect.schedule.rrule import MAX_RRULE_LENGTH, listed
from jittask_prefect.schedule.schedule_text import (
    SLUGS,
    WINDOW,
    ScheduleSlot,
    holds_from,
    rule_slot,
    until,
)
from jittask_prefect.schedule.timer import Timer
from jittask_prefect.schedule.windows import Span

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
Part = tuple[range, range]
"""Hours of a day, and the minutes of each of them."""
SHORTEST = timedelta(30)
"""The shortest horizon for which a schedule is written out."""


def interval_slots(
    timer: Timer, series: PlainSeries, step: timedelta, now: datetime, days: int
) -> list[ScheduleSlot]:
    """The schedules of a minute or hour repeat.

    Args:
        timer: The timer.
        series: Its occurrences.
        step: The elapsed time between neighbouring occurrences.
        now: The present instant.
        days: For how many days after `now` the open days and hours are named.

    Returns:
        An interval in UTC where start, end, holidays and opening hours change nothing; else rules in UTC.

    Raises:
        ConfigError: Holidays and opening hours do not fit Prefect's schedules for any horizon of at least 30 days.
    """
    begin = holds_from(now, DAY / step)
    anchor, stop = series.anchor.astimezone(UTC), series.stop
    if not (timer.moves.active or timer.windows.active):
        if stop is None and anchor <= begin:
            seconds = int(step.total_seconds())
            anchor_date = anchor.isoformat()
            return [
                {"interval": seconds, "anchor_date": anchor_date, "timezone": "UTC"}
            ]

        return [_steps_from(anchor, step, begin, stop)]

    horizon, width = (days + 32) * DAY, WINDOW
    while horizon >= SHORTEST:
        slots = _open_slots(timer, series, step, begin, horizon, width)
        longest = max((len(slot["rrule"]) for slot in slots), default=0)
        if longest <= MAX_RRULE_LENGTH and len(slots) <= len(SLUGS):
            return slots

        # Three shorter texts, and the plain repeat beyond; then a nearer horizon.
        horizon = horizon if width == WINDOW else horizon // 2
        width = -(-horizon // (3 * DAY)) * DAY

    allowed = f"days and hours that fit {MAX_RRULE_LENGTH} characters"
    if timer.windows.active:
        raise invalid("timerCfg.window", "too many opening hours", allowed)
    raise invalid("timerCfg.calendar", "too many holidays", allowed)


def _open_slots(
    timer: Timer,
    series: PlainSeries,
    step: timedelta,
    begin: datetime,
    horizon: timedelta,
    width: timedelta,
) -> list[ScheduleSlot]:
    """Rules that name the open days and hours up to a horizon, each for a time of some width; then the plain repeat."""
    # BYYEARDAY counts UTC days here, so windows begin with them.
    anchor, stop = series.anchor.astimezone(UTC), series.stop
    slots: list[ScheduleSlot] = []
    window = begin.replace(hour=0)
    end = window + horizon
    while window < end:
        upto = min(window + width, end)
        first = first_step(anchor, step, max(window, begin))
        last = upto - SECOND if stop is None else min(stop, upto - SECOND)
        if lines := list(_on_open_days(timer, step, first, last)):
            slots.append(rule_slot(lines, "UTC", wall_time(first, UTC)))

        window = upto

    if stop is None or first_step(anchor, step, end) <= stop:
        slots.append(_steps_from(anchor, step, end, stop))
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
    """Rules in UTC for the open hours of open local days; a local day is parts of two UTC days.

    Where the steps fall on the same times of every UTC day, these times are named, part by part. Else a rule steps
    through the days that are open in part, and exclusion rules take the rest of those days away. (A minutely rule with
    BYHOUR would look for its hour minute by minute, on each day that the rule leaves out too.)
    """
    open_parts = _parts(_open_spans(timer, first, last), first)
    second, end = first.second, _until(last)
    clock = _daily_clock(first, step)
    if clock is not None:
        for (hours, minutes), days in open_parts.items():
            at_hours, at_minutes = clock[0] & {*hours}, clock[1] & {*minutes}
            if at_hours and at_minutes:
                yield f"RRULE:{_daily(days, at_hours, at_minutes, second)}{end}"

        return

    if timer.windows.active:
        yield from (f"{line}{end}" for line in _in_parts(open_parts, first, step))
        return

    some = set[int]().union(*open_parts.values())
    if some:
        yield f"{_steps(step)};BYYEARDAY={listed(some)}{end}"
        shut = _shut_spans(timer, first, last)
        for (hours, minutes), days in _parts(shut, first).items():
            if days & some:
                yield f"EXRULE:{_daily(days & some, hours, minutes, second)}{end}"


def _in_parts(
    parts: dict[Part, set[int]], first: datetime, step: timedelta
) -> Iterator[str]:
    """Rules that step through all time, for each part of the days: only on days that have a step in the part.

    The server refuses a rule without any step. Exclusion rules for the hours between openings would cost more.
    """
    for (hours, minutes), days in parts.items():
        with_steps = [
            day for day in days if _steps_in(day, hours, minutes, first, step)
        ]
        if with_steps:
            line = f"{_steps(step)};BYYEARDAY={listed(with_steps)}"
            line += f";BYHOUR={listed(hours)}" if len(hours) < 24 else ""
            by_minute = step % HOUR and len(minutes) < 60
            yield line + (f";BYMINUTE={listed(minutes)}" if by_minute else "")


def _steps_in(
    day: int, hours: range, minutes: range, first: datetime, step: timedelta
) -> bool:
    """Whether a step from `first` on lies in a part of a UTC day, by its number in the year of `first` or the next."""
    year = first.year + (day < day_of_year(first.date()))
    low = datetime(year, 1, 1, hours.start, minutes.start, tzinfo=UTC) + (day - 1) * DAY
    span = timedelta(hours=len(hours) - 1, minutes=len(minutes))
    return first_step(first, step, low) < low + span


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


def _parts(spans: Iterable[Span], first: datetime) -> dict[Part, set[int]]:
    """The UTC days (of the year), from `first` on, of which spans cover a part, by the hours and minutes of that part."""
    groups: dict[Part, set[int]] = {}
    for begin, end in spans:
        for day in each_day(max(begin, first).date(), (end - SECOND).date()):
            low = midnight(day).replace(tzinfo=UTC)
            start, stop = max(begin - low, timedelta()), min(end - low, DAY)
            for part in parts_of_day(start // MINUTE, stop // MINUTE):
                groups.setdefault(part, set()).add(day_of_year(day))

    order = sorted(groups, key=lambda part: [(each.start, each.stop) for each in part])
    return {part: groups[part] for part in order}


def parts_of_day(begin: int, end: int) -> Iterator[Part]:
    """The minutes [begin, end) of a day as hours, and minutes of each of these hours."""
    whole = range(-(-begin // 60), end // 60)
    if begin % 60:
        hour = begin // 60
        yield range(hour, hour + 1), range(begin % 60, min(60, end - hour * 60))

    if len(whole):
        yield whole, range(60)
    if end % 60 and end // 60 >= whole.start:
        yield range(end // 60, end // 60 + 1), range(end % 60)


def _shut_spans(timer: Timer, first: datetime, last: datetime) -> Iterator[Span]:
    """The spans of the local days of first..last that no open span covers."""
    at = resolve(midnight(wall_time(first, timer.zone).date()), timer.zone)
    for begin, end in _open_spans(timer, first, last):
        if at < begin:
            yield at, begin
        at = end

    if at < (end := _whole_minute(last)):
        yield at, end


def _open_spans(timer: Timer, first: datetime, last: datetime) -> Iterator[Span]:
    """The spans of the open hours of open local days that touch first..last."""
    for run in _open_days(timer, first, last):
        yield from timer.windows.spans(*run)


def _open_days(timer: Timer, first: datetime, last: datetime) -> Iterator[Span]:
    """The runs of open local days that touch first..last."""
    zone, moves = timer.zone, timer.moves
    run: datetime | None = None
    for day in each_day(wall_time(first, zone).date(), wall_time(last, zone).date()):
        inside = not (moves.active and moves.blocked(day) is not None)
        if inside and run is None:
            run = resolve(midnight(day), zone)
        elif not inside and run is not None:
            yield run, resolve(midnight(day), zone)
            run = None

    if run is not None:
        yield run, _whole_minute(last)


def _whole_minute(last: datetime) -> datetime:
    """The end of a last minute: parts of days count whole minutes; UNTIL cuts within the minute."""
    return (last + MINUTE).replace(second=0, microsecond=0)
