"""Notes on a timer that is right by itself, and may not mean what its author thinks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta

from jittask_prefect.elements.types import Meta
from jittask_prefect.schedule.days import each_day
from jittask_prefect.schedule.instants import (
    DAY,
    EARLIEST,
    LATEST,
    TICK,
    clock_changes,
    wall_time,
)
from jittask_prefect.schedule.plain_series import PlainSeries
from jittask_prefect.schedule.prefect_schedules import schedules
from jittask_prefect.schedule.spec import TimerCfg
from jittask_prefect.schedule.timer import Timer

YEAR = timedelta(366)


def timer_notes(template: Meta, now: datetime) -> Iterator[str]:
    """The notes of a template's timer, a sentence each."""
    timer, of = template.timer, template.declared
    calendar, cfg = timer.calendar, timer.cfg
    workdays = cfg.counts_workdays or cfg.opens_on_workdays
    if calendar is not None and (cfg.skip_holiday or workdays):
        until = calendar.reliable_until
        if until is not None and until < _counted_until(cfg, now):
            yield calendar.limit

    if calendar is None and workdays:
        yield (
            "it counts Monday to Friday as working days, and no holidays, "
            "since neither the task nor the app has a calendar"
        )
    weekends = cfg.workdays_only and not (cfg.skip_holiday or cfg.lands_on_workdays)
    if weekends and calendar is not None:
        yield (
            "workdaysOnly alone keeps off weekends only; "
            "legal holidays are kept off with skipHoliday"
        )
    if cfg.calendar_field is not None and not cfg.asks_calendar:
        yield (
            "calendarField does nothing: no rule of the task asks a calendar "
            "(skipHoliday, workdaysOnly or working days)"
        )
    if cfg.holiday_policy != "next" and not timer.moves.active:
        yield (
            f"holidayPolicy {cfg.holiday_policy} does nothing without "
            f"skipHoliday or workdaysOnly"
        )

    if (back := _next_doubled_hour(timer, now)) is not None:
        elapsed = "Minutely or Hourly" if of else "repeatType minute or hour"
        clock = f"{back:%Y-%m-%d %H:%M}, when clocks go back to that time in {timer.zone.key}"
        yield (
            f"its times of the hour that comes twice run once, the first time: {clock}; "
            f"{elapsed} counts elapsed time"
        )

    if cfg.rows and _rows_never_due(timer, now):
        hours = (
            ", weekends or opening hours" if timer.windows.active else " or weekends"
        )
        yield f"it is never due: holidays{hours} take away each occurrence of every row"

    series = None if cfg.rows else timer.series()
    if series is not None and series.next(now) is None:
        ever = series.next(EARLIEST) is not None
        hours = " or opening hours" if timer.windows.active else ""
        never = (
            "it is never due: no occurrence lies between startTime and endTime, "
            f"or holidays{hours} take away each"
        )
        yield "it is over: its last occurrence lies in the past" if ever else never


def check_schedule(template: Meta, now: datetime) -> None:
    """Whether the schedule of a template fits Prefect's, where holidays and opening hours are written out.

    Raises:
        ConfigError: There are too many of them.
    """
    timer = template.timer
    if template.rows or template.by_code or template.own_times:
        return
    if timer.moves.active or timer.windows.active:
        schedules(timer, now)


def _counted_until(cfg: TimerCfg, now: datetime) -> date:
    """The last day whose holidays decide about the next 400 days: an offset counts before its date, or after."""
    offsets = [*cfg.every_offset, *([cfg.end_offset] if cfg.end_offset else [])]
    most = max((abs(each.workdays) for each in offsets), default=0)
    days = min(400 + most * 7 // 5, 1_000_000)
    return (now + timedelta(days)).date()


def _rows_never_due(timer: Timer, now: datetime) -> bool:
    """Whether no row has an occurrence from now on, whatever its date: each falls on a day that is left out."""
    moves = timer.moves
    if timer.windows.active and _always_shut(timer, now):
        return True

    drops = timer.sub_daily or moves.policy == "skip"
    if not (moves.active and drops) or timer.cfg.end_time is not None:
        return False
    begin = datetime(now.year, 1, 1, 9)
    rows = (timer.series(begin - timedelta(days=n)) for n in range(31))
    return all(series is None or series.next(now) is None for series in rows)


def _always_shut(timer: Timer, now: datetime) -> bool:
    """Whether no opening of the next two years is a time at which some row could be due."""
    if not timer.sub_daily:
        return timer.windows.opening(now) is None

    moves, zone = timer.moves, timer.zone
    open_days = (
        day
        for begin, end in timer.windows.spans(now, now + 2 * YEAR)
        for day in each_day(
            wall_time(begin, zone).date(), wall_time(end - TICK, zone).date()
        )
    )
    return all(moves.active and moves.blocked(day) is not None for day in open_days)


def _next_doubled_hour(timer: Timer, now: datetime) -> datetime | None:
    """When clocks next go back over times of a custom rule finer than a day: such times come once then.

    Args:
        timer: The timer.
        now: The present instant, aware.

    Returns:
        The instant of the change, aware, within 400 days; None without a change, or for any other rule.
    """
    if timer.cfg.repeat.repeat_type != "custom" or not timer.sub_daily:
        return None

    if timer.levels is not None:
        timer = timer.levels.onward[0]

    zone, low = timer.zone, wall_time(now, timer.zone)
    series = timer.series(low - 400 * DAY) if timer.cfg.rows else timer.series()
    if not isinstance(series, PlainSeries):
        return None

    for at, before, after in clock_changes(zone, low, low + 400 * DAY):
        if after < before and at + DAY <= (series.stop or LATEST):
            begin = (at + after).replace(tzinfo=None)
            times = series.cycle.wall_times(begin, begin + before - after)
            if any(True for _ in times):
                return at.astimezone(zone)

    return None
