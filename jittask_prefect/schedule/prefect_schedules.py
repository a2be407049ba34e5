"""Timer to Prefect schedules: text that the server's own evaluation turns into exactly the timer's occurrences.

Facts about Prefect behind the form, measured with 3.8.8, seen to hold with 3.9.1 (prefect/server/schemas/schedules.py):
- `Z` and `TZID` are ignored: all is read as wall time of the schedule's `timezone`, so times here are naive and local.
- Every candidate since DTSTART costs 19 µs at every evaluation: DTSTART is fast-forwarded in phase.
- A wall time in a DST gap runs early: gap times are excluded, and the right instant added.
- An interval knows neither start nor end, and drifts by DST where the interval is a day or longer: minute and hour in
  UTC only.
- A slug that a later deploy does not name keeps firing: there are always the same four slots.
- A rule jumps over days that it leaves out; an EXRULE walks through all times that it takes away. So a rule finer than
  a day names its days.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

from jittask_prefect.errors import invalid
from jittask_prefect.schedule.cycle import Cycle
from jittask_prefect.schedule.days import day_of_year, each_day
from jittask_prefect.schedule.instants import (
    DAY,
    LATEST,
    SECOND,
    TICK,
    clock_changes,
    midnight,
    resolve,
    shifted,
    wall_time,
)
from jittask_prefect.schedule.minute_hour import (
    Part,
    interval_slots,
    parts_of_day,
)
from jittask_prefect.schedule.plain_series import PlainSeries
from jittask_prefect.schedule.recur import Elapsed, recurrence
from jittask_prefect.schedule.rrule import (
    MAX_RRULE_LENGTH,
    RRule,
    listed,
    within,
)
from jittask_prefect.schedule.rrule_lines import PlainRule, check_density, plain_rule
from jittask_prefect.schedule.schedule_text import (
    SLUGS,
    ScheduleSlot,
    fixed_slots,
    holds_from,
    on_server,
    rule_slot,
    until,
)
from jittask_prefect.schedule.timer import Timer

log = logging.getLogger(__name__)

SPARSE, MAX_LISTED, LISTED_AHEAD = 6, 60, timedelta(days=366 * 30)
"""A custom rule with fewer occurrences than SPARSE within the horizon is written out, up to MAX_LISTED of them within
LISTED_AHEAD: the server would walk from day to day in search of them."""
USUAL = 60
"""Occurrences that say which clock time is the usual one, where opening hours move some."""
DATES_PER_SLOT = 250
"""Dates of a slot: parsed in 7 ms, 4,000 characters."""


def schedules(timer: Timer, now: datetime, days: int = 400) -> list[ScheduleSlot]:
    """The four schedule slots of a scheduled timer, in prefect.yaml form.

    Args:
        timer: A scheduled timer.
        now: The instant from which the schedules are to hold, aware.
        days: For how many days after `now` holiday moves and clock changes are written out. Beyond, a schedule goes on
            as its plain repeat, so that a refresh that fails to come does not silence a task.

    Returns:
        Slots s1 to s4; the unused slots inactive. The same text for the same arguments.

    Raises:
        ConfigError: The rule does not fit Prefect's 6,500 characters for any horizon of at least 30 days.
    """
    series = timer.only_series()
    if series.next(now - TICK) is None:
        return fixed_slots([])
    if isinstance(series.cycle, Elapsed):
        return fixed_slots(interval_slots(timer, series, series.cycle.step, now, days))

    plain = plain_rule(timer.cfg.repeat, series.wall, timer.moves.calendar)
    begin = holds_from(now, plain.per_day)
    if (
        plain.rules
        and timer.windows.active
        and timer.cfg.repeat.repeat_type != "custom"
    ):
        plain = _at_usual_clock(timer, series, begin)
    if not plain.rules:
        most = DATES_PER_SLOT if timer.cfg.repeat.counts_workdays else None
        return fixed_slots(_listed(timer, series, begin, LATEST, most))

    check_density(timer)
    far = shifted(begin, LISTED_AHEAD)
    horizon = days + 32
    if plain.series:
        seen = series.between(begin, begin + horizon * DAY)
        if len(list(islice(seen, SPARSE))) < SPARSE:
            return fixed_slots(_listed(timer, series, begin, far, MAX_LISTED))

    if plain.misread and plain.positions:
        return fixed_slots(_listed(timer, series, begin, far))

    while horizon >= 30:
        for count in range(1, len(SLUGS) + 1):
            end = begin + horizon * DAY
            slots = _slots(timer, series, plain, begin, end, count)
            longest = max((len(slot["rrule"]) for slot in slots), default=0)
            if longest <= MAX_RRULE_LENGTH and len(slots) <= len(SLUGS):
                if horizon < days:
                    log.warning(
                        "%s: the schedule is written out for %d days only: it is too long",
                        timer,
                        horizon,
                    )

                return fixed_slots(slots)

        horizon //= 2

    allowed = f"a rule that fits {MAX_RRULE_LENGTH} characters of Prefect's schedule"
    raise invalid("timerCfg.repeat", "a rule with too many exceptions", allowed)


def _at_usual_clock(timer: Timer, series: PlainSeries, begin: datetime) -> PlainRule:
    """The plain rule of a timer at the clock time to which the opening hours move most occurrences from `begin` on."""
    repeat, calendar = timer.cfg.repeat, timer.moves.calendar
    due = islice(series.between(begin, LATEST), USUAL)
    clocks = Counter(wall_time(each.due, timer.zone).time() for each in due)
    # Of two that are as usual the earlier: the text changes with `begin` only.
    clock = min(clocks, key=lambda each: (-clocks[each], each))
    usual = datetime.combine(series.wall.date(), clock)
    plain = plain_rule(repeat, usual, calendar)
    return replace(plain, cycle=plain.cycle or recurrence(repeat, usual, calendar))


# Dates written out


def at_instant(instant: datetime, zone: str) -> list[ScheduleSlot]:
    """Four slots that fire at a single instant.

    Args:
        instant: Aware.
        zone: IANA name of the zone that the schedule is shown in.
    """
    whole = instant.astimezone(UTC).replace(microsecond=0)
    return fixed_slots([_dates_slot([whole], ZoneInfo(zone))])


def _listed(
    timer: Timer,
    series: PlainSeries,
    begin: datetime,
    end: datetime,
    most: int | None = None,
) -> list[ScheduleSlot]:
    """The due times from `begin` to `end` written out, at most so many: no rule goes on after them."""
    room = DATES_PER_SLOT * len(SLUGS)
    found = islice(series.between(begin, end), room + 1 if most is None else most)
    due = [occurrence.due for occurrence in found]
    if len(due) > room:
        log.warning("%s: only the next %d dates are written out", timer, room)

    return [
        _dates_slot(due[n : n + DATES_PER_SLOT], timer.zone)
        for n in range(0, min(len(due), room), DATES_PER_SLOT)
    ]


def _dates_slot(due: list[datetime], zone: ZoneInfo) -> ScheduleSlot:
    """A schedule of some instants, in UTC where the server would misread a wall time."""
    walls = [wall_time(at, zone) for at in due]
    if any(on_server(wall, zone) != at for wall, at in zip(walls, due, strict=True)):
        zone, walls = ZoneInfo("UTC"), [wall_time(at, UTC) for at in due]
    return rule_slot([], zone.key, walls[0], extra=walls)


# Rules of days and longer, and custom


@dataclass
class _Window:
    """A slot's share of the time: wall times low..high, the lines of the rule there, and the rule's differences."""

    low: datetime
    high: datetime
    lines: list[str]
    extra: set[datetime] = field(default_factory=set)
    without: set[datetime] = field(default_factory=set)


def _slots(
    timer: Timer,
    series: PlainSeries,
    plain: PlainRule,
    begin: datetime,
    end: datetime,
    count: int,
) -> list[ScheduleSlot]:
    """The plain rule in `count` windows, each with its differences from the series."""
    zone, cycle = timer.zone, plain.cycle or series.cycle
    stop = None if series.stop is None else wall_time(series.stop, zone)
    # Windows of at most a year where days are named: see WINDOW.
    closed = timer.moves.active or timer.windows.active
    named = (cycle.sub_daily and closed) or plain.misread
    windows = _windows(plain, zone, begin, end, max(count, 2) if named else count)
    if named:
        for window in windows:
            window.lines = _lines_of_days(timer, cycle, plain, window)

    _except_differences(timer, series, cycle, windows, stop)
    if cycle.sub_daily:
        windows[0].low = max(windows[0].low, wall_time(begin, zone))

    misread = _take_misread(series, windows, zone)
    if named:  # beyond the horizon the plain repeat
        beyond = list(plain.readable_lines)
        windows.append(_Window(windows[-1].high, datetime.max, beyond))

    slots = []
    for window in windows:
        last = stop
        if window is not windows[-1]:
            last = min(window.high - SECOND, stop or datetime.max)

        first = cycle.first(window.low) if window.lines else None
        if first is not None and (last is None or first <= last):
            start = plain.dtstart(first)
            without = window.without | set(plain.before(start, first))
            lines = [line + until(last) for line in window.lines]
            slots.append(rule_slot(lines, zone.key, start, window.extra, without))
        elif window.extra:
            first = min(window.extra)
            slots.append(rule_slot([], zone.key, first, window.extra))

    return [*slots, *([_dates_slot(misread, zone)] if misread else [])]


def _windows(
    plain: PlainRule, zone: ZoneInfo, begin: datetime, end: datetime, count: int
) -> list[_Window]:
    """The time from `begin` to `end` in `count` windows of whole days."""
    first, last = (wall_time(at, zone).date().toordinal() for at in (begin, end))
    edges = [
        midnight(date.fromordinal(first + (last - first) * n // count))
        for n in range(count + 1)
    ]
    return [_Window(low, high, list(plain.lines)) for low, high in pairwise(edges)]


def _lines_of_days(
    timer: Timer, cycle: Cycle, plain: PlainRule, window: _Window
) -> list[str]:
    """The lines with the days of the window named by their number in the year; closed days left out if sub-daily."""
    if cycle.sub_daily and timer.windows.active:
        return _lines_of_hours(timer, cycle, plain, window)

    closed = timer.moves.active and cycle.sub_daily
    days = [
        day
        for day in each_day(window.low.date(), window.high.date() - DAY)
        if not (closed and timer.moves.blocked(day))
        and any(True for _ in cycle.wall_times(midnight(day), midnight(day) + DAY))
    ]
    return [
        _on_days(series.rule, days)
        for series in plain.series
        if any(map(series.on, days))
    ]


def _on_days(rule: RRule, days: Iterable[date]) -> str:
    """The line of a rule on days of a year."""
    only = f";BYYEARDAY={listed(map(day_of_year, days))}"
    # The rule's own numbers of days and weeks give way: the named days are among them.
    return re.sub(";(BYYEARDAY|BYWEEKNO)=[^;]*", "", rule.text) + only


def _lines_of_hours(
    timer: Timer, cycle: Cycle, plain: PlainRule, window: _Window
) -> list[str]:
    """The lines of a rule finer than a day with the open days and hours of the window named, part by part of the day."""
    parts: dict[Part, list[date]] = {}
    for day in each_day(window.low.date(), window.high.date() - DAY):
        if timer.moves.active and timer.moves.blocked(day):
            continue
        for begin, end in timer.windows.minutes(day):
            for part in parts_of_day(begin, end):
                if any(True for _ in cycle.wall_times(*_bounds(day, part))):
                    parts.setdefault(part, []).append(day)

    lines = []
    for (hours, minutes), days in parts.items():
        for series in plain.series:
            rule = within(series.rule, hours, minutes)
            if rule is not None and any(map(series.on, days)):
                lines.append(_on_days(rule, days))

    return lines


def _bounds(day: date, part: Part) -> tuple[datetime, datetime]:
    """The wall times at which a part of a day begins and ends."""
    hours, minutes = part
    first = midnight(day) + timedelta(hours=hours.start, minutes=minutes.start)
    last = midnight(day) + timedelta(hours=hours.stop - 1, minutes=minutes.stop)
    return first, last


def _named(timer: Timer, at: datetime) -> bool:
    """Whether the lines of a rule finer than a day name a wall time's day and minute."""
    if timer.moves.active and timer.moves.blocked(at.date()):
        return False
    minute = at.hour * 60 + at.minute
    return any(a <= minute < b for a, b in timer.windows.minutes(at.date()))


def _except_differences(
    timer: Timer,
    series: PlainSeries,
    cycle: Cycle,
    windows: list[_Window],
    stop: datetime | None,
) -> None:
    """Take out times of the rule's cycle, up to `stop`, that are not due as they stand; add due times that it lacks.

    A rule finer than a day names its open days and hours: only near the gaps of clocks has it differences.
    """
    zone, sub_daily = timer.zone, cycle.sub_daily
    spans = [(windows[0].low, windows[-1].high)]
    if sub_daily:
        changes = clock_changes(zone, *spans[0])
        opened = [
            (wall_time(at, zone), after - before) for at, before, after in changes
        ]
        spans = [(end - gap, end + gap) for end, gap in opened if gap > timedelta()]

    for low, high in spans:
        ruled = {
            at
            for at in cycle.wall_times(low, high)
            if (stop is None or at <= stop) and (not sub_daily or _named(timer, at))
        }
        found = series.between(resolve(low, zone), resolve(high, zone))
        due = {wall_time(occurrence.due, zone) for occurrence in found}
        for window in windows:
            window.without |= {
                at for at in ruled - due if window.low <= at < window.high
            }
            window.extra |= {at for at in due - ruled if window.low <= at < window.high}


def _take_misread(
    series: PlainSeries, windows: list[_Window], zone: ZoneInfo
) -> list[datetime]:
    """Take out of the windows the due times whose wall times the server reads as other instants; these due times."""
    found = []
    for change, _, _ in clock_changes(zone, windows[0].low, windows[-1].high):
        for occurrence in series.between(change - DAY / 4, change + DAY / 4):
            wall = wall_time(occurrence.due, zone)
            for window in windows:
                if window.low <= wall < window.high and (
                    on_server(wall, zone) != occurrence.due
                ):
                    window.extra.discard(wall)
                    window.without.add(wall)
                    found.append(occurrence.due)

    return found
