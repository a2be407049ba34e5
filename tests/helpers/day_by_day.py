"""A brute force that knows no recurrence: it walks from day to day and asks of each whether the rule names it.

Independent of the package: it reads the raw `timerCfg` and asks the `holidays` library itself.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import holidays

DAY = timedelta(1)


@lru_cache(maxsize=64)
def country(code: str, subdiv: str | None) -> Any:
    return holidays.country_holidays(
        code, subdiv=subdiv, years=range(2010, 2042), expand=False
    )


class Rest:
    """Which days a task keeps off."""

    def __init__(self, cfg: dict[str, Any], calendar: dict[str, Any] | None) -> None:
        self.cfg = cfg
        self.calendar = calendar
        self.lib = (
            country(calendar["country"], calendar.get("subdiv")) if calendar else None
        )

    def weekend(self, day: date) -> bool:
        if self.lib is None:
            return day.weekday() >= 5
        return self.lib.is_weekend(day) and day not in self.lib.weekend_workdays

    def works(self, day: date) -> bool:
        return not self.weekend(day) and (
            self.lib is None or day not in self.lib or day in self.lib.weekend_workdays
        )

    def holiday(self, day: date) -> bool:
        if self.lib is None or self.works(day):
            return False
        if day in self.lib:
            return True
        if self.calendar is None or self.calendar.get("block") != "contiguous":
            return False
        for step in (DAY, -DAY):
            at = day
            while not self.works(at):
                if at in self.lib:
                    return True
                at += step
        return False

    def kept(self, day: date) -> bool:
        return bool(
            (self.cfg.get("skipHoliday") and self.holiday(day))
            or (self.cfg.get("workdaysOnly") and self.weekend(day))
        )

    def goes(self, day: date) -> date | None:
        rests = (
            (lambda at: not self.works(at))
            if self.cfg.get("skipHoliday")
            else self.weekend
        )
        policy = self.cfg.get("holidayPolicy", "next")
        if policy in ("skip", "cycle"):
            return None
        later = earlier = day
        while rests(later):
            later += DAY
        while rests(earlier):
            earlier -= DAY
        if policy == "nearest":
            policy = "previous" if day - earlier < later - day else "next"
        return later if policy == "next" else earlier


def names(repeat: dict[str, Any], start: date, day: date) -> bool:
    """Whether the rule names the day, the start aside."""
    kind, period = repeat["repeatType"], repeat.get("period", 1)
    if kind == "normal":
        return day == start
    if kind == "day":
        return (day - start).days % period == 0
    monday = start - timedelta(start.weekday())
    weekdays = repeat.get("weekday", [start.isoweekday()])
    if kind == "week":
        return (day - monday).days // 7 % period == 0 and day.isoweekday() in weekdays
    if (
        kind == "month"
        and ((day.year - start.year) * 12 + day.month - start.month) % period
    ):
        return False
    if kind == "year":
        months = repeat.get("month", start.month)
        months = months if isinstance(months, list) else [months]
        if (day.year - start.year) % period or day.month not in months:
            return False
    length = monthrange(day.year, day.month)[1]
    if "week" in repeat:
        weeks = repeat["week"]
        weeks = weeks if isinstance(weeks, list) else [weeks]
        places = (day.day - 1) // 7 + 1, -((length - day.day) // 7 + 1)
        named = any(place in weeks for place in places)
        return named and day.isoweekday() in weekdays
    for number in repeat.get("day", [start.day]):
        if day.day == number or (number == -1 and day.day == length):
            return True
        if (
            number > length
            and day.day == length
            and repeat.get("monthEnd", "last") == "last"
        ):
            return True
    return False


def walls(cfg: dict[str, Any]) -> tuple[datetime, datetime | None]:
    """Start and last instant, UTC."""
    zone = ZoneInfo(cfg["timezone"])
    start = (
        datetime.fromisoformat(cfg["startTime"]).replace(tzinfo=zone).astimezone(UTC)
    )
    end = cfg.get("endTime")
    if end is None:
        return start, None
    if len(end) == 10:
        day = datetime.fromisoformat(end) + DAY
        return start, day.replace(tzinfo=zone).astimezone(UTC) - timedelta(
            microseconds=1
        )
    return start, datetime.fromisoformat(end).replace(tzinfo=zone).astimezone(UTC)


def occurrences(
    cfg: dict[str, Any],
    calendar: dict[str, Any] | None,
    after: datetime,
    before: datetime,
) -> list[datetime]:
    """Every due instant with after <= due < before, UTC."""
    zone, rest = ZoneInfo(cfg["timezone"]), Rest(cfg, calendar)
    start, end = walls(cfg)
    repeat = cfg["repeat"]
    found: set[datetime] = set()
    if repeat["repeatType"] in ("minute", "hour"):
        step = timedelta(
            minutes=repeat.get("period", 1)
            * (60 if repeat["repeatType"] == "hour" else 1)
        )
        at = start + max(0, (after - start) // step - 1) * step
        while at < before:
            if (
                at >= after
                and (end is None or at <= end)
                and not rest.kept(at.astimezone(zone).date())
            ):
                found.add(at)
            at += step
        return sorted(found)
    first = datetime.fromisoformat(cfg["startTime"])
    day = max(first.date(), after.date() - 60 * DAY)
    while day <= before.date() + 60 * DAY:
        if names(repeat, first.date(), day):
            nominal = datetime.combine(day, first.time(), zone).astimezone(UTC)
            target = rest.goes(day) if rest.kept(day) else day
            if target is not None and (end is None or nominal <= end):
                due = datetime.combine(target, first.time(), zone).astimezone(UTC)
                walled = repeat["repeatType"] != "normal" and due < start
                if after <= due < before and not walled and (end is None or due <= end):
                    found.add(due)
        day += DAY
    return sorted(found)
