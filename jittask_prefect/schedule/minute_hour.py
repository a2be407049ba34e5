"""Minute and hour as Prefect schedules: an interval in UTC, or rules in UTC that name the open days."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from jittask_prefect.errors import ConfigError, Problem
from jittask_prefect.schedule.instants import DAY, resolve
from jittask_prefect.schedule.schedule_text import (
    LONGEST,
    SLUGS,
    WINDOW,
    ScheduleSlot,
    each_day,
    quantum,
    rule,
    span,
    stamp,
)
from jittask_prefect.schedule.series import Series
from jittask_prefect.schedule.timer import Timer


def slots_of_steps(
    timer: Timer, series: Series, step: timedelta, now: datetime, days: int
) -> list[ScheduleSlot]:
    """An interval in UTC where there is neither start nor end nor holiday to mind; else rules in UTC."""
    begin = quantum(now, DAY / step)
    anchor = series.anchor.astimezone(UTC)
    stop = series.stop
    if not timer.moves.active:
        if stop is None and anchor <= begin:
            seconds = int(step.total_seconds())
            return [
                {
                    "interval": seconds,
                    "anchor_date": anchor.isoformat(),
                    "timezone": "UTC",
                }
            ]
        first = _in_phase(anchor, step, begin)
        return [rule([_steps(step, stop)], [], [], "UTC", _naive(first))]
    # BYYEARDAY counts UTC days here, so windows begin with them.
    slots: list[ScheduleSlot] = []
    window = begin.replace(hour=0)
    end = window + (days + 32) * DAY
    while window < end:
        upto = min(window + WINDOW, end)
        first = _in_phase(anchor, step, max(window, begin))
        last = (
            upto - timedelta(seconds=1)
            if stop is None
            else min(stop, upto - timedelta(seconds=1))
        )
        if lines := list(_steps_on_open_days(timer, step, first, last)):
            slots.append(rule(lines, [], [], "UTC", _naive(first)))
        window = upto
    first = _in_phase(anchor, step, end)
    if stop is None or first <= stop:
        slots.append(rule([_steps(step, stop)], [], [], "UTC", _naive(first)))
    if any(len(slot.get("rrule", "")) > LONGEST for slot in slots) or len(slots) > len(
        SLUGS
    ):
        raise ConfigError(
            Problem(
                "",
                "timerCfg.calendar",
                "too many holidays",
                f"what fits {LONGEST} characters",
            )
        )
    return slots


def _in_phase(anchor: datetime, step: timedelta, at: datetime) -> datetime:
    """The first instant of the series from `at` on."""
    return anchor if at <= anchor else anchor + -((anchor - at) // step) * step


def _steps(step: timedelta, last: datetime | None, more: str = "") -> str:
    minutes = int(step.total_seconds()) // 60
    freq, interval = (
        ("HOURLY", minutes // 60) if minutes % 60 == 0 else ("MINUTELY", minutes)
    )
    return f"RRULE:FREQ={freq};INTERVAL={interval}{more}{_until(last)}"


def _until(last: datetime | None) -> str:
    return "" if last is None else f";UNTIL={stamp(_naive(last))}"


def _clock(anchor: datetime, step: timedelta) -> tuple[set[int], set[int]] | None:
    """The hours and minutes at which the steps fall on every day; None where they are not the same every day."""
    minutes = int(step.total_seconds()) // 60
    if 60 % minutes == 0:
        return set(range(24)), set(range(anchor.minute % minutes, 60, minutes))
    if minutes % 60 == 0 and 1440 % minutes == 0:
        return set(range(anchor.hour % (minutes // 60), 24, minutes // 60)), {
            anchor.minute
        }
    return None


def _steps_on_open_days(
    timer: Timer, step: timedelta, first: datetime, last: datetime
) -> Iterator[str]:
    """Rules in UTC for the local days that are open; a local day is parts of two UTC days.

    Where the steps fall on the same times of every UTC day, these are named, part by part. Else a rule steps through
    the days that are open in part, and exclusion rules take the rest of those days away. (A minutely rule with BYHOUR
    would look for its hour minute by minute, on each day that it leaves out too.)
    """
    groups = _parts(timer, first, last, blocked=False)
    clock = _clock(first, step)
    if clock is not None:
        for (hours, minutes), days in groups.items():
            at_hours, at_minutes = (
                sorted(clock[0] & set(hours)),
                sorted(clock[1] & set(minutes)),
            )
            if at_hours and at_minutes:
                yield f"RRULE:{_daily(days, at_hours, at_minutes, first.second)}{_until(last)}"
        return
    some = set[int]().union(*groups.values())
    if some:
        yield _steps(step, last, f";BYYEARDAY={span(sorted(some))}")
        for (hours, minutes), days in _parts(timer, first, last, blocked=True).items():
            if days & some:
                yield f"EXRULE:{_daily(days & some, hours, minutes, first.second)}{_until(last)}"


def _daily(
    days: Iterable[int], hours: Iterable[int], minutes: Iterable[int], second: int
) -> str:
    on = f"BYYEARDAY={span(sorted(days))}"
    return f"FREQ=DAILY;{on};BYHOUR={span(hours)};BYMINUTE={span(minutes)};BYSECOND={second}"


def _parts(
    timer: Timer, first: datetime, last: datetime, *, blocked: bool
) -> dict[tuple[range, range], set[int]]:
    """The UTC days (of the year) of first..last that are open, or blocked, by the hours and minutes of that part."""
    groups: dict[tuple[range, range], set[int]] = {}
    for begin, end in _runs(timer, first, last, blocked=blocked):
        at = max(begin, first)
        while at < end:
            midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
            upto = min(end, midnight + DAY)
            for part in _parts_of_day(max(begin, midnight), upto, midnight):
                groups.setdefault(part, set()).add(midnight.timetuple().tm_yday)
            at = upto
    return dict(
        sorted(
            groups.items(),
            key=lambda item: [(part.start, part.stop) for part in item[0]],
        )
    )


def _parts_of_day(
    begin: datetime, end: datetime, midnight: datetime
) -> Iterator[tuple[range, range]]:
    """[begin, end) within one UTC day as hours, and minutes of each of them."""
    hours = range(
        begin.hour + (begin.minute > 0), 24 if end >= midnight + DAY else end.hour
    )
    if begin.minute:
        same = end < midnight + (begin.hour + 1) * timedelta(hours=1)
        yield (
            range(begin.hour, begin.hour + 1),
            range(begin.minute, end.minute if same else 60),
        )
    if len(hours):
        yield hours, range(60)
    if (
        end.minute
        and end < midnight + DAY
        and end.hour >= begin.hour + (begin.minute > 0)
    ):
        yield range(end.hour, end.hour + 1), range(end.minute)


def _runs(
    timer: Timer, first: datetime, last: datetime, *, blocked: bool
) -> Iterator[tuple[datetime, datetime]]:
    """The runs of open (or of blocked) local days that touch first..last, as instants [begin, end)."""
    zone = timer.zone
    run: datetime | None = None
    for day in each_day(first.astimezone(zone).date(), last.astimezone(zone).date()):
        begin = resolve(datetime(day.year, day.month, day.day), zone)
        inside = (timer.moves.blocked(day) is not None) is blocked
        if inside and run is None:
            run = begin
        elif not inside and run is not None:
            yield run, begin
            run = None
    if run is not None:
        # Parts of days count whole minutes; UNTIL cuts within the last one.
        yield run, (last + timedelta(minutes=1)).replace(second=0, microsecond=0)


def _naive(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(tzinfo=None)
