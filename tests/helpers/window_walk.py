"""A brute force for opening hours: it lists every opening of the days around an instant, and takes the first that fits.

Independent of the package, as `day_by_day` is: it reads the raw `timerCfg` and asks the `holidays` library itself.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from day_by_day import DAY, Rest
from workday_walk import SPARE, Cfg, named_days, placed, stop_of

LONGEST = 40
"""Days that a task stays shut at most, in the calendars of the tests."""


class Hours:
    """The opening hours of a raw `timerCfg`."""

    def __init__(self, cfg: Cfg, rest: Rest) -> None:
        raw = cfg.get("window", [])
        self.windows = raw if isinstance(raw, list) else [raw]
        self.zone, self.rest = ZoneInfo(cfg["timezone"]), rest
        self._days: dict[date, list[tuple[datetime, datetime]]] = {}

    def of_day(self, day: date) -> list[tuple[datetime, datetime]]:
        """From when to when the windows are open that open on a day, UTC."""
        if day not in self._days:
            spans = [self._span(each, day) for each in self.windows if self._opens(each, day)]  # fmt: skip
            self._days[day] = [span for span in spans if span[0] < span[1]]
        return self._days[day]

    def _opens(self, window: dict[str, Any], day: date) -> bool:
        if window.get("workdays"):
            return self.rest.works(day)
        weekdays = window.get("weekdays", range(1, 8))
        return day.isoweekday() in (
            [weekdays] if isinstance(weekdays, int) else weekdays
        )

    def _span(self, window: dict[str, Any], day: date) -> tuple[datetime, datetime]:
        opens, closes = window["from"], window["to"]
        last = day
        if closes in ("24:00", "00:00"):
            closes, last = "00:00", day + DAY
        elif closes < opens:
            last = day + DAY
        begin = datetime.combine(day, time.fromisoformat(opens), self.zone)
        end = datetime.combine(last, time.fromisoformat(closes), self.zone)
        return begin.astimezone(UTC), end.astimezone(UTC)

    def near(self, at: datetime, days: int) -> list[tuple[datetime, datetime]]:
        day = at.astimezone(self.zone).date()
        return [
            span for n in range(-3, days) for span in self.of_day(day + timedelta(n))
        ]

    def open(self, at: datetime) -> bool:
        """Whether the task may begin at an instant."""
        return not self.windows or any(b <= at < e for b, e in self.near(at, 2))

    def opening(self, at: datetime) -> datetime:
        """The instant itself, or the next opening."""
        if self.open(at):
            return at
        return min(begin for begin, _ in self.near(at, LONGEST) if begin > at)


def windowed(
    cfg: Cfg,
    calendar: Cfg | None,
    after: datetime,
    before: datetime,
    value: date | None = None,
    end: date | None = None,
) -> list[datetime]:
    """Every due instant with after <= due < before, UTC; of a row where a value is given."""
    zone, rest, repeat = ZoneInfo(cfg["timezone"]), Rest(cfg, calendar), cfg["repeat"]
    hours, rows = Hours(cfg, rest), value is not None
    start = value or datetime.fromisoformat(cfg["startTime"])
    wall = placed(start, cfg.get("startOffset") if rows else None, rest, zone)
    hard = wall.replace(tzinfo=zone).astimezone(UTC)
    stop = stop_of(cfg, end, rest, zone)
    if repeat["repeatType"] in ("minute", "hour"):
        minutes = repeat.get("period", 1) * (60 if repeat["repeatType"] == "hour" else 1)  # fmt: skip
        return [
            at
            for at in steps(hard, timedelta(minutes=minutes), after, before)
            if hours.open(at)
            and not rest.kept(at.astimezone(zone).date())
            and (stop is None or at <= stop)
        ]
    walled = not rows and repeat["repeatType"] != "normal"
    first, last = after.date() - SPARE, before.date() + SPARE
    found: set[datetime] = set()
    for day in named_days(repeat, wall.date(), rest, first, last):
        nominal = datetime.combine(day, wall.time(), zone).astimezone(UTC)
        target = rest.goes(day) if rest.kept(day) else day
        if target is None or (stop is not None and nominal > stop):
            continue
        due = datetime.combine(target, wall.time(), zone).astimezone(UTC)
        due = hours.opening(due)
        if walled and due < hard:
            continue
        if after <= due < before and (stop is None or due <= stop):
            found.add(due)
    return sorted(found)


def steps(
    start: datetime, step: timedelta, after: datetime, before: datetime
) -> list[datetime]:
    """The instants of [after, before) at a whole number of steps from a start on."""
    at, found = start, []
    if at < after:
        at += (after - at) // step * step
    while at < before:
        if at >= after:
            found.append(at)
        at += step
    return found
