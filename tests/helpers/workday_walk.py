"""A brute force for working days that are counted: it goes from day to day, and asks of each whether anybody works.

Independent of the package, as `day_by_day` is: it reads the raw `timerCfg` and asks the `holidays` library itself.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from day_by_day import DAY, Rest, names

Cfg = dict[str, Any]
SPARE = 60 * DAY
"""A holiday moves an occurrence by less."""


def walked(rest: Rest, day: date, n: int) -> date:
    """The n-th working day after a day, or before: the day itself is not counted."""
    step, left = (DAY if n > 0 else -DAY), abs(n)
    while left:
        day += step
        left -= rest.works(day)
    return day


def named_days(
    repeat: Cfg, start: date, rest: Rest, first: date, last: date
) -> Iterator[date]:
    """The days from `first` to `last` that a repeat names, from its start on."""
    day, worked = start, 0
    while day <= last:
        if repeat["repeatType"] == "workday":
            named = rest.works(day) and worked % repeat.get("period", 1) == 0
            worked += rest.works(day)
        elif "workday" in repeat:
            named = _in_phase(repeat, start, day) and _at_place(repeat, day, rest)
        else:
            named = names(repeat, start, day)
        if named and day >= first:
            yield day
        day += DAY


def _in_phase(repeat: Cfg, start: date, day: date) -> bool:
    period = repeat.get("period", 1)
    if repeat["repeatType"] == "month":
        months = (day.year - start.year) * 12 + day.month - start.month
        return months % period == 0
    wanted = repeat.get("month", start.month)
    wanted = wanted if isinstance(wanted, list) else [wanted]
    return (day.year - start.year) % period == 0 and day.month in wanted


def _at_place(repeat: Cfg, day: date, rest: Rest) -> bool:
    days = [day.replace(day=n + 1) for n in range(monthrange(day.year, day.month)[1])]
    working = [each for each in days if rest.works(each)]
    places = repeat["workday"]
    places = places if isinstance(places, list) else [places]
    return day in working and any(
        working[n - 1 if n > 0 else n] == day for n in places if abs(n) <= len(working)
    )


def placed(value: date, offset: Cfg | None, rest: Rest, zone: ZoneInfo) -> datetime:
    """The wall time at which a row's date with its offset lies."""
    wall = value if isinstance(value, datetime) else datetime.combine(value, time())
    if wall.tzinfo is not None:
        wall = wall.astimezone(zone).replace(tzinfo=None, fold=0)
    if offset is None:
        return wall
    amount = offset["offsetType"] * offset.get("offset", 0)
    unit = offset.get("offsetUnit", "day").removesuffix("s")
    if unit in ("minute", "hour"):
        instant = wall.replace(tzinfo=zone).astimezone(UTC)
        instant += amount * timedelta(minutes=60 if unit == "hour" else 1)
        return instant.astimezone(zone).replace(tzinfo=None, fold=0)
    day = wall.date()
    if unit == "workday":
        day = walked(rest, day, amount)
    elif unit in ("day", "week"):
        day += amount * (7 if unit == "week" else 1) * DAY
    else:
        raise NotImplementedError(unit)
    clock = time.fromisoformat(offset["time"]) if "time" in offset else wall.time()
    return datetime.combine(day, clock)


def stop_of(cfg: Cfg, end: date | None, rest: Rest, zone: ZoneInfo) -> datetime | None:
    """The last instant, UTC."""
    offset = None
    if "endTime" in cfg:
        text = cfg["endTime"]
        end = (date if len(text) == 10 else datetime).fromisoformat(text)
    elif cfg.get("endTimeType") == 2:
        offset = cfg.get("endOffset")
    else:
        return None
    if end is None:
        return None
    wall = placed(end, offset, rest, zone)
    whole = not isinstance(end, datetime) and not (offset and "time" in offset)
    if whole:
        wall = datetime.combine(wall.date() + DAY, time())
    found = wall.replace(tzinfo=zone).astimezone(UTC)
    return found - timedelta(microseconds=1) if whole else found


def walk(
    cfg: Cfg,
    calendar: Cfg | None,
    after: datetime,
    before: datetime,
    value: date | None = None,
    end: date | None = None,
) -> list[datetime]:
    """Every due instant with after <= due < before, UTC; of a row where a value is given."""
    zone, rest, repeat = ZoneInfo(cfg["timezone"]), Rest(cfg, calendar), cfg["repeat"]
    rows = value is not None
    start = value or datetime.fromisoformat(cfg["startTime"])
    wall = placed(start, cfg.get("startOffset") if rows else None, rest, zone)
    hard = wall.replace(tzinfo=zone).astimezone(UTC)
    walled = not rows and repeat["repeatType"] != "normal"
    stop = stop_of(cfg, end, rest, zone)
    first, last = after.date() - SPARE, before.date() + SPARE
    found: set[datetime] = set()
    for day in named_days(repeat, wall.date(), rest, first, last):
        nominal = datetime.combine(day, wall.time(), zone).astimezone(UTC)
        target = rest.goes(day) if rest.kept(day) else day
        if target is None or (stop is not None and nominal > stop):
            continue
        due = datetime.combine(target, wall.time(), zone).astimezone(UTC)
        if walled and due < hard:
            continue
        if after <= due < before and (stop is None or due <= stop):
            found.add(due)
    return sorted(found)
