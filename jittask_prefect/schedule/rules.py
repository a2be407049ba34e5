"""Timer to Prefect schedules: text that the server's own evaluation turns into exactly the timer's occurrences.

Measured facts about Prefect 3.8.8 that shape it (prefect/server/schemas/schedules.py):
- `Z` and `TZID` are ignored: all is read as wall time of the schedule's `timezone`, so times here are naive and local.
- Every candidate since DTSTART costs 19 µs at every evaluation: DTSTART is fast-forwarded in phase.
- A wall time in a DST gap runs early: gap times are excluded, and the right instant added.
- An interval knows neither start nor end, and drifts by DST where it is a day or longer: minute and hour in UTC only.
- A slug that a later deploy does not name keeps firing: there are always the same four slots.

The text changes once a month (once a week or a day where occurrences are dense), not with every `now`: a deploy deletes
a deployment's future runs, so what need not change should not.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from ..errors import ConfigError, Problem
from .encode import Base, base_of
from .instants import DAY, LATEST, TICK, resolve, shifted
from .recur import Elapsed, midnight
from .series import Series
from .timer import Timer

log = logging.getLogger(__name__)

SLUGS = ("s1", "s2", "s3", "s4")
LONGEST = 6500  # prefect/_internal/schemas/validators.py: MAX_RRULE_LENGTH
NEVER = "DTSTART:20000101T000000\nRDATE:20000101T000000"
WINDOW = 365 * DAY
"""A window of BYYEARDAY rules: in a longer one a day of the year would come twice."""

Slot = dict[str, Any]


def schedules(timer: Timer, now: datetime, days: int = 400) -> list[Slot]:
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
        return fixed_slots(_elapsed(timer, series, cycle.step, now, days))
    base = base_of(timer.cfg.repeat, series.wall)
    if not base.lines:
        return fixed_slots(_listed(timer, series, _quantum(now, 1)))
    begin = _quantum(now, base.per_day)
    horizon = days + 32
    while True:
        for count in range(1, len(SLUGS) + 1):
            slots = _calendrical(timer, series, base, begin, begin + horizon * DAY, count)
            if all(len(slot["rrule"]) <= LONGEST for slot in slots) and len(slots) <= len(SLUGS):
                if horizon < days:
                    log.warning("%s: the schedule is written out for %d days only: it is too long", timer, horizon)
                return fixed_slots(slots)
        horizon //= 2
        if horizon < 30:
            allowed = f"a rule that fits {LONGEST} characters of Prefect's schedule"
            raise ConfigError(Problem("", "timerCfg.repeat", "a rule with too many exceptions", allowed))


def once(instant: datetime, zone: str) -> list[Slot]:
    """Four slots that fire at one instant.

    Args:
        instant: Aware.
        zone: IANA name of the zone that the schedule is shown in.
    """
    local = instant.astimezone(ZoneInfo(zone)).replace(microsecond=0)
    if resolve(local.replace(tzinfo=None), ZoneInfo(zone)) != local.astimezone(UTC):
        zone, local = "UTC", local.astimezone(UTC)  # the second of two equal wall times has no local name
    return fixed_slots([_rule([], [local.replace(tzinfo=None)], [], zone, local.replace(tzinfo=None))])


def fixed_slots(active: list[Slot]) -> list[Slot]:
    """Some schedules in the fixed slots s1 to s4; the unused ones are there too, inactive."""
    idle = {"active": False, "rrule": NEVER, "timezone": "UTC"}
    filled = [{"active": True, **slot} for slot in active] + [idle] * (len(SLUGS) - len(active))
    return [{"slug": slug, **slot} for slug, slot in zip(SLUGS, filled, strict=True)]


def _rule(
    lines: Iterable[str], extra: Iterable[datetime], without: Iterable[datetime], zone: str, start: datetime
) -> Slot:
    text = [f"DTSTART:{_stamp(start)}", *lines]
    for name, times in (("EXDATE", sorted(without)), ("RDATE", sorted(extra))):
        if times:
            text.append(f"{name}:{','.join(map(_stamp, times))}")
    return {"rrule": "\n".join(text), "timezone": zone}


def _stamp(wall: datetime) -> str:
    return f"{wall.year:04}{wall:%m%dT%H%M%S}"


def _quantum(now: datetime, per_day: float) -> datetime:
    """The instant from which the text holds: a day before `now` at least, the same for all of a month, week or day."""
    back = now.astimezone(UTC) - DAY
    midnight = back.replace(hour=0, minute=0, second=0, microsecond=0)
    if per_day <= 80:
        return midnight.replace(day=1)
    return midnight - midnight.weekday() * DAY if per_day <= 350 else midnight


# minute and hour


def _elapsed(timer: Timer, series: Series, step: timedelta, now: datetime, days: int) -> list[Slot]:
    """An interval in UTC where there is neither start nor end nor holiday to mind; else rules in UTC."""
    begin = _quantum(now, DAY / step)
    anchor = series.anchor.astimezone(UTC)
    stop = series.stop
    if not timer.moves.active:
        if stop is None and anchor <= begin:
            seconds = int(step.total_seconds())
            return [{"interval": seconds, "anchor_date": anchor.isoformat(), "timezone": "UTC"}]
        first = _in_phase(anchor, step, begin)
        return [_rule([_steps("RRULE", step, stop)], [], [], "UTC", _naive(first))]
    slots, end = [], begin + (days + 32) * DAY
    window = begin
    while window < end:
        upto = min(window + WINDOW, end)
        first = _in_phase(anchor, step, window)
        last = upto - timedelta(seconds=1) if stop is None else min(stop, upto - timedelta(seconds=1))
        if first <= last:
            lines = [_steps("RRULE", step, last), *_holidays_of_steps(timer, step, first, last)]
            slots.append(_rule(lines, [], [], "UTC", _naive(first)))
        window = upto
    first = _in_phase(anchor, step, end)
    if stop is None or first <= stop:
        slots.append(_rule([_steps("RRULE", step, stop)], [], [], "UTC", _naive(first)))
    if any(len(slot.get("rrule", "")) > LONGEST for slot in slots) or len(slots) > len(SLUGS):
        raise ConfigError(Problem("", "timerCfg.calendar", "too many holidays", f"what fits {LONGEST} characters"))
    return slots


def _in_phase(anchor: datetime, step: timedelta, at: datetime) -> datetime:
    """The first instant of the series from `at` on."""
    return anchor if at <= anchor else anchor + -((anchor - at) // step) * step


def _steps(name: str, step: timedelta, last: datetime | None, more: str = "") -> str:
    minutes = int(step.total_seconds()) // 60
    freq, interval = ("HOURLY", minutes // 60) if minutes % 60 == 0 else ("MINUTELY", minutes)
    until = f";UNTIL={_stamp(_naive(last))}" if last is not None else ""
    return f"{name}:FREQ={freq};INTERVAL={interval}{more}{until}"


def _holidays_of_steps(timer: Timer, step: timedelta, first: datetime, last: datetime) -> Iterator[str]:
    """EXRULEs in UTC for the local days that are blocked: whole UTC days, and parts of days from or up to an hour."""
    groups: dict[str, list[int]] = {}
    for begin, end in _blocked_runs(timer, first, last):
        at = max(begin, first)
        while at < end:
            midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
            upto = min(end, midnight + DAY)
            for part, low, high in _parts_of_day(max(begin, midnight), upto, midnight):
                # A rule that the steps never meet is an error in dateutil.
                if _in_phase(first, step, max(low, first)) < min(high, last + TICK):
                    groups.setdefault(part, []).append(midnight.timetuple().tm_yday)
            at = upto
    for part, days in sorted(groups.items()):
        yield _steps("EXRULE", step, None, f";BYYEARDAY={','.join(map(str, sorted(set(days))))}{part}")


def _parts_of_day(begin: datetime, end: datetime, midnight: datetime) -> Iterator[tuple[str, datetime, datetime]]:
    """[begin, end) within one UTC day as BYHOUR and BYMINUTE parts, with the instants that each covers."""
    hours = range(begin.hour + (begin.minute > 0), 24 if end >= midnight + DAY else end.hour)
    if begin.minute:
        high = min(end, midnight + (begin.hour + 1) * timedelta(hours=1))
        to = 60 if high.minute == 0 else high.minute
        yield f";BYHOUR={begin.hour};BYMINUTE={_span(range(begin.minute, to))}", begin, high
    if len(hours):
        low, high = (midnight + hour * timedelta(hours=1) for hour in (hours[0], hours[-1] + 1))
        yield "" if len(hours) == 24 else f";BYHOUR={_span(hours)}", low, high
    if end.minute and end < midnight + DAY and end.hour >= begin.hour + (begin.minute > 0):
        yield f";BYHOUR={end.hour};BYMINUTE={_span(range(end.minute))}", end.replace(minute=0), end


def _span(numbers: Iterable[int]) -> str:
    return ",".join(map(str, numbers))


def _blocked_runs(timer: Timer, first: datetime, last: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The runs of blocked local days that touch first..last, as instants [begin, end)."""
    zone = timer.zone
    run: datetime | None = None
    for day in _days(first.astimezone(zone).date(), last.astimezone(zone).date()):
        begin = resolve(datetime(day.year, day.month, day.day), zone)
        blocked = timer.moves.blocked(day) is not None
        if blocked and run is None:
            run = begin
        elif not blocked and run is not None:
            yield run, begin
            run = None
    if run is not None:
        yield run, last + TICK


def _days(first: date, last: date) -> Iterator[date]:
    return map(date.fromordinal, range(first.toordinal(), last.toordinal() + 1))


def _naive(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(tzinfo=None)


# Dates one by one


def _listed(timer: Timer, series: Series, begin: datetime) -> list[Slot]:
    """All due times from `begin` on, to the last: no rule goes on after them."""
    due = [_wall(at.due, timer.zone) for at in series.between(begin, LATEST)]
    share = (LONGEST - 40) // len(",20260101T090000")
    slots = [_rule([], due[n : n + share], [], timer.zone.key, due[n]) for n in range(0, len(due), share)]
    if len(slots) > len(SLUGS):
        log.warning("%s: only the next %d of %d dates are written out", timer, share * len(SLUGS), len(due))
    return slots[: len(SLUGS)]


# Days and longer, and custom


@dataclass
class _Window:
    """One slot's share of the horizon, in wall times."""

    low: datetime
    high: datetime
    lines: list[str] = field(default_factory=list)
    extra: set[datetime] = field(default_factory=set)
    without: set[datetime] = field(default_factory=set)


def _calendrical(timer: Timer, series: Series, base: Base, begin: datetime, end: datetime, count: int) -> list[Slot]:
    """The base rule in `count` windows, with what differs from the series taken out and added."""
    zone, cycle = timer.zone, series.cycle
    assert cycle is not None and not isinstance(cycle, Elapsed)
    if cycle.finer and timer.moves.active:
        count = max(count, 2)  # BYYEARDAY, see WINDOW
    first, last = (_wall(at, zone).date().toordinal() for at in (begin, end))
    edges = [midnight(date.fromordinal(first + (last - first) * n // count)) for n in range(count + 1)]
    windows = [_Window(low, high) for low, high in pairwise(edges)]
    stop = None if series.stop is None else _wall(series.stop, zone)
    if cycle.finer:
        _fine_differences(timer, series, base, windows)
    else:
        _differences(series, windows, zone, stop)
    slots = []
    for window in windows:
        until = stop if window is windows[-1] else min(window.high - timedelta(seconds=1), stop or datetime.max)
        start = next(cycle.wall(window.low, datetime.max), None)
        if start is None or (until is not None and start > until):
            if window.extra:
                slots.append(_rule([], window.extra, [], zone.key, min(window.extra)))
            continue
        start, true_start = max(series.wall, base.aligned(start)), start
        early = set(cycle.wall(start, true_start))
        lines = [f"{line};UNTIL={_stamp(until)}" if until is not None else line for line in base.lines]
        slots.append(_rule([*lines, *window.lines], window.extra, window.without | early, zone.key, start))
    return slots


def _differences(series: Series, windows: list[_Window], zone: ZoneInfo, stop: datetime | None) -> None:
    """EXDATE for base times up to `stop` that are not due as they stand, RDATE for due times that the base lacks."""
    low, high = windows[0].low, windows[-1].high
    assert series.cycle is not None and not isinstance(series.cycle, Elapsed)
    base = {at for at in series.cycle.wall(low, high) if stop is None or at <= stop}
    due = {_wall(at.due, zone) for at in series.between(resolve(low, zone), resolve(high, zone))}
    for window in windows:
        window.without = {at for at in base - due if window.low <= at < window.high}
        window.extra = {at for at in due - base if window.low <= at < window.high}


def _fine_differences(timer: Timer, series: Series, base: Base, windows: list[_Window]) -> None:
    """EXRULEs for blocked days, and the times of DST gaps one by one."""
    zone, cycle = timer.zone, series.cycle
    assert cycle is not None and not isinstance(cycle, Elapsed)
    for window in windows:
        days = _days(window.low.date(), window.high.date() - DAY)
        blocked = [day for day in days if timer.moves.active and timer.moves.blocked(day)]
        hit = sorted(
            {day.timetuple().tm_yday for day in blocked if _any(cycle.wall(midnight(day), midnight(day) + DAY))}
        )
        if hit:
            # The rule's own BYYEARDAY gives way: the days that are hit are among its days.
            plain = [re.sub(";BYYEARDAY=[^;]*", "", line).removeprefix("RRULE") for line in base.lines]
            only = f";BYYEARDAY={_span(hit)};UNTIL={_stamp(window.high - timedelta(seconds=1))}"
            window.lines = [f"EXRULE{line}{only}" for line in plain]
        for low, high in _gaps(zone, window.low, window.high):
            skipped = list(cycle.wall(low, high))
            taken = set(cycle.wall(high, high + (high - low)))
            window.without.update(skipped)
            landed = {at + (high - low) for at in skipped if at.date() not in blocked}
            window.extra |= landed - taken
    if series.stop is not None:
        stop = series.stop
        for window in windows:
            window.extra = {at for at in window.extra if resolve(at, zone) <= stop}


def _wall(at: datetime, zone: ZoneInfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None, fold=0)


def _any(times: Iterator[datetime]) -> bool:
    return next(times, None) is not None


def _gaps(zone: ZoneInfo, low: datetime, high: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The wall times that a zone leaves out between two wall times."""
    at = resolve(low, zone)
    end = shifted(resolve(high, zone), DAY)
    while at < min(end, LATEST):
        following = at + DAY
        before, after = (time.astimezone(zone).utcoffset() for time in (at, following))
        if before is not None and after is not None and before < after:
            a, b = at, following
            while b - a > timedelta(seconds=1):
                middle = a + (b - a) // 2
                a, b = (middle, b) if middle.astimezone(zone).utcoffset() == before else (a, middle)
            opened = (b.replace(microsecond=0) + before).replace(tzinfo=None)
            yield opened, opened + (after - before)
        at = following
