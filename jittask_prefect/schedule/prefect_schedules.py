"""Timer to Prefect schedules: text that the server's own evaluation turns into exactly the timer's occurrences.

Facts about Prefect that shape it, measured with 3.8.8, seen to hold with 3.9.1 (prefect/server/schemas/schedules.py):
- `Z` and `TZID` are ignored: all is read as wall time of the schedule's `timezone`, so times here are naive and local.
- Every candidate since DTSTART costs 19 µs at every evaluation: DTSTART is fast-forwarded in phase.
- A wall time in a DST gap runs early: gap times are excluded, and the right instant added.
- An interval knows neither start nor end, and drifts by DST where it is a day or longer: minute and hour in UTC only.
- A slug that a later deploy does not name keeps firing: there are always the same four slots.
- A rule that leaves days out jumps over them; an EXRULE walks through all that it takes away: so what is sub_daily than a
  day names the days that it may run on.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

from jittask_prefect.errors import ConfigError, Problem
from jittask_prefect.schedule.instants import DAY, LATEST, TICK, resolve, shifted
from jittask_prefect.schedule.minute_hour import slots_of_steps
from jittask_prefect.schedule.recur import Elapsed, Recurrence, midnight
from jittask_prefect.schedule.rrule_lines import DENSEST, Base, base_of
from jittask_prefect.schedule.schedule_text import (
    LONGEST,
    SLUGS,
    ScheduleSlot,
    each_day,
    fixed_slots,
    on_server,
    quantum,
    rule,
    span,
    stamp,
)
from jittask_prefect.schedule.series import Series
from jittask_prefect.schedule.timer import Timer

log = logging.getLogger(__name__)

SPARSE, LISTED, AHEAD = 6, 60, timedelta(days=366 * 30)
"""A custom rule with fewer occurrences than SPARSE within the horizon is written out, up to LISTED of them within
AHEAD: the server would walk from day to day in search of them."""


def check_density(timer: Timer) -> None:
    """Refuse a scheduled timer that the server could not keep up with, whatever the time is.

    Raises:
        ConfigError: It has more than DENSEST occurrences a day.
    """
    series = timer.series()
    if series is None or series.cycle is None or isinstance(series.cycle, Elapsed):
        return
    _density(base_of(timer.cfg.repeat, series.wall))


def _density(base: Base) -> None:
    if base.per_day > DENSEST:
        raise ConfigError(
            Problem(
                "",
                "timerCfg.repeat",
                f"{base.per_day:g} occurrences a day",
                f"at most {DENSEST}",
            )
        )


def schedules(timer: Timer, now: datetime, days: int = 400) -> list[ScheduleSlot]:
    """The four schedule slots of a scheduled timer, in prefect.yaml form.

    Args:
        timer: A scheduled timer.
        now: The instant from which the schedules are to hold, aware.
        days: For how many days after `now` holiday moves and DST changes are written out. Beyond, a schedule goes on
            as its plain repeat, so that a refresh that fails to come does not silence a task.

    Returns:
        Slots s1 to s4; the unused ones inactive. The same text for the same arguments.

    Raises:
        ConfigError: The rule does not fit Prefect's 6,500 characters for any horizon of at least 30 days.
    """
    series = timer.series()
    assert series is not None
    if series.next(now - TICK) is None:
        return fixed_slots([])
    cycle = series.cycle
    if cycle is None:
        return fixed_slots([])
    if isinstance(cycle, Elapsed):
        return fixed_slots(slots_of_steps(timer, series, cycle.step, now, days))
    base = base_of(timer.cfg.repeat, series.wall)
    begin = quantum(now, base.per_day)
    horizon = days + 32
    if not base.lines:
        return fixed_slots(_listed(timer, series, begin, LATEST))
    _density(base)
    if timer.cfg.repeat.repeat_type == "custom" and _few(
        series, begin, begin + horizon * DAY
    ):
        return fixed_slots(_listed(timer, series, begin, shifted(begin, AHEAD), LISTED))
    if base.positions:
        return fixed_slots(_listed(timer, series, begin, shifted(begin, AHEAD)))
    while True:
        for count in range(1, len(SLUGS) + 1):
            slots = _calendrical(
                timer, series, base, begin, begin + horizon * DAY, count
            )
            if all(len(slot["rrule"]) <= LONGEST for slot in slots) and len(
                slots
            ) <= len(SLUGS):
                if horizon < days:
                    log.warning(
                        "%s: the schedule is written out for %d days only: it is too long",
                        timer,
                        horizon,
                    )
                return fixed_slots(slots)
        horizon //= 2
        if horizon < 30:
            allowed = f"a rule that fits {LONGEST} characters of Prefect's schedule"
            raise ConfigError(
                Problem(
                    "", "timerCfg.repeat", "a rule with too many exceptions", allowed
                )
            )


def _few(series: Series, begin: datetime, end: datetime) -> bool:
    return len(list(islice(series.between(begin, end), SPARSE))) < SPARSE


def next_doubled_hour(timer: Timer, now: datetime) -> datetime | None:
    """When clocks next go back over times of a custom rule finer than a day, which come once then.

    Args:
        timer: Of a scheduled task or of rows.
        now: The present instant, aware.

    Returns:
        The instant of the change, aware, within 400 days; None where there is none, or the rule is not so fine.
    """
    if timer.cfg.repeat.repeat_type != "custom" or not timer.sub_daily:
        return None
    zone = timer.zone
    wall = _wall(now, zone)
    series = timer.series(wall - 400 * DAY) if timer.cfg.rows else timer.series()
    cycle = series.cycle if series is not None else None
    if series is None or cycle is None or isinstance(cycle, Elapsed):
        return None
    for at, before, after in _changes(zone, wall, wall + 400 * DAY):
        over = at + timedelta(1) > (series.stop or LATEST)
        if after < before and not over:
            begin = (at + after).replace(tzinfo=None)
            if _any(cycle.wall(begin, begin + (before - after))):
                return at.astimezone(zone)
    return None


def at_instant(instant: datetime, zone: str) -> list[ScheduleSlot]:
    """Four slots that fire at one instant.

    Args:
        instant: Aware.
        zone: IANA name of the zone that the schedule is shown in.
    """
    whole = instant.astimezone(UTC).replace(microsecond=0)
    return fixed_slots(_dates([whole], ZoneInfo(zone)))


# Dates one by one


def _listed(
    timer: Timer,
    series: Series,
    begin: datetime,
    end: datetime,
    most: int | None = None,
) -> list[ScheduleSlot]:
    """The due times from `begin` to `end` one by one, at most so many: no rule goes on after them."""
    share = 250  # parsed in 7 ms, 4,000 characters
    room = share * len(SLUGS)
    due = [
        at.due
        for at in islice(series.between(begin, end), room + 1 if most is None else most)
    ]
    if len(due) > room:
        log.warning("%s: only the next %d dates are written out", timer, room)
    return [
        slot
        for n in range(0, min(len(due), room), share)
        for slot in _dates(due[n : n + share], timer.zone)
    ]


def _dates(due: list[datetime], zone: ZoneInfo) -> list[ScheduleSlot]:
    """A schedule that fires at some instants, in UTC where one of them has no wall time that the server reads right."""
    walls = [_wall(at, zone) for at in due]
    if any(on_server(wall, zone) != at for wall, at in zip(walls, due, strict=True)):
        zone, walls = (
            ZoneInfo("UTC"),
            [at.astimezone(UTC).replace(tzinfo=None) for at in due],
        )
    return [rule([], walls, [], zone.key, walls[0])]


# Days and longer, and custom


@dataclass
class _Window:
    """One slot's share of the time, in wall times; `lines` are those of the base rule, or what holidays leave of it."""

    low: datetime
    high: datetime
    lines: list[str]
    extra: set[datetime] = field(default_factory=set)
    without: set[datetime] = field(default_factory=set)


def _calendrical(
    timer: Timer, series: Series, base: Base, begin: datetime, end: datetime, count: int
) -> list[ScheduleSlot]:
    """The base rule in `count` windows, with what differs from the series taken out and added."""
    zone, cycle = timer.zone, series.cycle
    assert cycle is not None and not isinstance(cycle, Elapsed)
    picked = (cycle.sub_daily and timer.moves.active) or base.beyond is not None
    if picked:
        count = max(count, 2)  # BYYEARDAY, see WINDOW
    first, last = (_wall(at, zone).date().toordinal() for at in (begin, end))
    edges = [
        midnight(date.fromordinal(first + (last - first) * n // count))
        for n in range(count + 1)
    ]
    windows = [_Window(low, high, list(base.lines)) for low, high in pairwise(edges)]
    stop = None if series.stop is None else _wall(series.stop, zone)
    if picked:
        _name_days(timer, cycle, base, windows)
    if cycle.sub_daily:
        _fine_differences(timer, series, windows)
        windows[0].low = max(windows[0].low, _wall(begin, zone))
    else:
        _differences(series, windows, zone, stop)
    astray = _astray(series, windows, zone)
    if picked:
        after = base.lines if base.beyond is None else base.beyond
        windows.append(
            _Window(edges[-1], datetime.max, list(after))
        )  # beyond the horizon the plain repeat
    slots = []
    for window in windows:
        until = (
            stop
            if window is windows[-1]
            else min(window.high - timedelta(seconds=1), stop or datetime.max)
        )
        start = cycle.first(window.low) if window.lines else None
        if start is None or (until is not None and start > until):
            if window.extra:
                slots.append(rule([], window.extra, [], zone.key, min(window.extra)))
            continue
        start, true_start = base.aligned(start), start
        early = set(base.before(start, true_start))
        lines = [
            f"{line};UNTIL={stamp(until)}" if until is not None else line
            for line in window.lines
        ]
        slots.append(rule(lines, window.extra, window.without | early, zone.key, start))
    return [*slots, *(_dates(astray, zone) if astray else [])]


def _astray(series: Series, windows: list[_Window], zone: ZoneInfo) -> list[datetime]:
    """What is due at a wall time that the server takes for another instant: taken out of the windows."""
    found = []
    for change, _, _ in _changes(zone, windows[0].low, windows[-1].high):
        for at in series.between(change - DAY / 4, change + DAY / 4):
            wall = _wall(at.due, zone)
            window = next(
                (window for window in windows if window.low <= wall < window.high), None
            )
            if window is not None and on_server(wall, zone) != at.due:
                window.extra.discard(wall)
                window.without.add(wall)
                found.append(at.due)
    return found


def _differences(
    series: Series, windows: list[_Window], zone: ZoneInfo, stop: datetime | None
) -> None:
    """EXDATE for base times up to `stop` that are not due as they stand, RDATE for due times that the base lacks."""
    low, high = windows[0].low, windows[-1].high
    assert series.cycle is not None and not isinstance(series.cycle, Elapsed)
    base = {at for at in series.cycle.wall(low, high) if stop is None or at <= stop}
    due = {
        _wall(at.due, zone)
        for at in series.between(resolve(low, zone), resolve(high, zone))
    }
    for window in windows:
        window.without = {at for at in base - due if window.low <= at < window.high}
        window.extra = {at for at in due - base if window.low <= at < window.high}


def _name_days(
    timer: Timer, cycle: Recurrence, base: Base, windows: list[_Window]
) -> None:
    """The days that the rule has, and that are open where it is finer than a day, by their number in the year."""
    for window in windows:
        days = each_day(window.low.date(), window.high.date() - DAY)
        closed = timer.moves.active and cycle.sub_daily
        hit = [
            day
            for day in days
            if not (closed and timer.moves.blocked(day))
            and _any(cycle.wall(midnight(day), midnight(day) + DAY))
        ]
        only = f";BYYEARDAY={span(sorted(day.timetuple().tm_yday for day in hit))}"
        # The rule's own numbers of days and weeks give way: the named days are among them.
        some = [
            line
            for line, on in zip(base.lines, base.on, strict=True)
            if any(map(on, hit))
        ]
        window.lines = [
            re.sub(";(BYYEARDAY|BYWEEKNO)=[^;]*", "", line) + only for line in some
        ]


def _fine_differences(timer: Timer, series: Series, windows: list[_Window]) -> None:
    """The times of DST gaps one by one, where the days are open."""
    zone, cycle = timer.zone, series.cycle
    assert cycle is not None and not isinstance(cycle, Elapsed)
    for window in windows:
        for low, high in _gaps(zone, window.low, window.high):
            skipped = list(cycle.wall(low, high))
            taken = set(cycle.wall(high, high + (high - low)))
            window.without.update(skipped)
            moves = timer.moves
            landed = {
                at + (high - low)
                for at in skipped
                if not (moves.active and moves.blocked(at.date()))
            }
            window.extra |= landed - taken
    if series.stop is not None:
        stop = series.stop
        for window in windows:
            window.extra = {at for at in window.extra if resolve(at, zone) <= stop}


def _wall(at: datetime, zone: ZoneInfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None, fold=0)


def _any(times: Iterator[datetime]) -> bool:
    return next(times, None) is not None


def _gaps(
    zone: ZoneInfo, low: datetime, high: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """The wall times that a zone leaves out between two wall times."""
    for at, before, after in _changes(zone, low, high):
        if before < after:
            opened = (at + before).replace(tzinfo=None)
            yield opened, opened + (after - before)


def _changes(
    zone: ZoneInfo, low: datetime, high: datetime
) -> Iterator[tuple[datetime, timedelta, timedelta]]:
    """The instants at which a zone's clocks change between two wall times, with its offset before and after."""

    def offset(at: datetime) -> timedelta:
        return at.astimezone(zone).utcoffset() or timedelta()

    at = resolve(low, zone)
    end = shifted(resolve(high, zone), DAY)
    while at < min(end, LATEST):
        following = at + DAY
        if offset(at) != offset(following):
            a, b = at, following
            while b - a > timedelta(seconds=1):
                middle = a + (b - a) // 2
                a, b = (middle, b) if offset(middle) == offset(at) else (a, middle)
            yield b.replace(microsecond=0), offset(at), offset(following)
        at = following
