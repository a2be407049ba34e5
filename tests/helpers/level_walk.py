"""A brute force for levels: each is placed by itself, the repeat goes from day to day, and each instant is settled at the end.

Independent of the package, as `workday_walk` is: it reads the raw `timerCfg` and asks the `holidays` library itself.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from day_by_day import DAY, Rest
from window_walk import Hours
from workday_walk import SPARE, named_days, walked

Cfg = dict[str, Any]


class Found(NamedTuple):
    """An occurrence, its times in UTC."""

    due: datetime
    nominal: datetime
    level: str


class Candidate(NamedTuple):
    """What may be due at an instant; of several the least stands."""

    due: datetime
    place: int
    moved: bool
    nominal: datetime


class Place(NamedTuple):
    """The time that an offset arrives at: on the clock, in UTC, and the day of the month that was meant."""

    wall: datetime
    at: datetime
    day: int


def instant(wall: datetime, zone: ZoneInfo) -> datetime:
    return wall.replace(tzinfo=zone, fold=0).astimezone(UTC)


def on_clock(at: datetime, zone: ZoneInfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None, fold=0)


def placed(value: date, offset: Cfg, rest: Rest, zone: ZoneInfo) -> Place:
    """Where an offset leads from a row's date."""
    wall = value if isinstance(value, datetime) else datetime.combine(value, time())
    if wall.tzinfo is not None:
        wall = on_clock(wall, zone)
    amount = offset.get("offsetType", 0) * offset.get("offset", 0)
    unit = offset.get("offsetUnit", "day").removesuffix("s")
    if unit in ("second", "minute", "hour"):
        begin = value if getattr(value, "tzinfo", None) else instant(wall, zone)
        assert isinstance(begin, datetime)
        at = begin.astimezone(UTC) + amount * timedelta(**{f"{unit}s": 1})
        return Place(on_clock(at, zone), at, on_clock(at, zone).day)
    day, meant = wall.date(), 0
    if unit == "workday":
        day = walked(rest, day, amount)
    elif unit in ("day", "week"):
        day += amount * (7 if unit == "week" else 1) * DAY
    else:
        meant = day.day
        day = months_on(day, amount * (12 if unit == "year" else 1))
    clock = time.fromisoformat(offset["time"]) if "time" in offset else wall.time()
    found = datetime.combine(day, clock)
    return Place(found, instant(found, zone), max(meant, day.day))


def months_on(day: date, months: int) -> date:
    """The same day some months on; the month's last where it has no such day."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def last_instant(cfg: Cfg, end: date | None, rest: Rest, zone: ZoneInfo) -> Any:
    """The last instant on which something may be due; None for no end."""
    offset = {}
    if "endTime" in cfg:
        text = cfg["endTime"]
        end = (date if len(text) == 10 else datetime).fromisoformat(text)
    elif cfg.get("endTimeType") == 2:
        offset = cfg.get("endOffset", {})
    else:
        return None
    if end is None:
        return None
    found = placed(end, offset, rest, zone)
    if isinstance(end, datetime) or "time" in offset:
        return found.at
    over = datetime.combine(found.wall.date() + DAY, time())
    return instant(over, zone) - timedelta(microseconds=1)


def walk_levels(
    cfg: Cfg,
    calendar: Cfg | None,
    after: datetime,
    before: datetime,
    value: date,
    end: date | None = None,
) -> list[Found]:
    """Every occurrence with after <= due < before of a row, in order."""
    zone, rest = ZoneInfo(cfg["timezone"]), Rest(cfg, calendar)
    levels = cfg["startOffset"]
    places = [placed(value, level, rest, zone) for level in levels]
    stop, hours = last_instant(cfg, end, rest, zone), Hours(cfg, rest)
    found = [
        candidate
        for number, place in enumerate(places)
        for candidate in settled(place.wall, place.at, number, rest, hours)
    ]
    latest = max(place.at for place in places)
    last = next(n for n, place in enumerate(places) if place.at == latest)
    until = before + SPARE
    found += repeated(cfg["repeat"], places[last], last, rest, hours, until)
    best: dict[datetime, Candidate] = {}
    for each in found:
        if stop is not None and (each.nominal > stop or each.due > stop):
            continue
        if after <= each.due < before:
            best[each.due] = min(each, best.get(each.due, each))
    return [
        Found(each.due, each.nominal, levels[each.place]["name"])
        for _, each in sorted(best.items())
    ]


def settled(
    wall: datetime, nominal: datetime, place: int, rest: Rest, hours: Hours
) -> Iterator[Candidate]:
    """Where the holiday rule, and then the opening hours, put a time of a day."""
    kept = rest.kept(wall.date())
    target = rest.goes(wall.date()) if kept else wall.date()
    if target is None:
        return
    moved = instant(datetime.combine(target, wall.time()), hours.zone)
    due = moved if kept else nominal
    opening = hours.opening(due)
    yield Candidate(opening, place, kept or opening != due, nominal)


def repeated(
    repeat: Cfg,
    start: Place,
    place: int,
    rest: Rest,
    hours: Hours,
    until: datetime,
) -> Iterator[Candidate]:
    """The repeat that goes on from a place, the place itself left out."""
    kind, zone = repeat["repeatType"], hours.zone
    if kind == "normal":
        return
    if kind in ("minute", "hour"):
        step = timedelta(**{f"{kind}s": repeat.get("period", 1)})
        at = start.at + step
        while at < until:
            if not rest.kept(at.astimezone(zone).date()) and hours.open(at):
                yield Candidate(at, place, False, at)
            at += step
        return
    rule = dict(repeat)
    own_day = not {"day", "week", "workday"} & rule.keys()
    if kind in ("month", "year") and own_day and rule.get("monthEnd") != "skip":
        rule["day"] = [start.day]
    first = start.wall.date()
    for day in named_days(rule, first, rest, first, until.date()):
        wall = datetime.combine(day, start.wall.time())
        nominal = instant(wall, zone)
        if day > first and nominal > start.at:
            yield from settled(wall, nominal, place, rest, hours)
