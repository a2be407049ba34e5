"""Timers and dates as nobody means them, and a limit on the CPU time that reading and asking them may take."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any

from jittask_prefect.errors import ConfigError
from jittask_prefect.schedule.prefect_schedules import schedules
from jittask_prefect.schedule.timer import Timer
from jittask_prefect.schedule.words import describe

ZONES = [
    "UTC",
    "Asia/Shanghai",
    "America/Nuuk",
    "Pacific/Kiritimati",
    "Etc/GMT+12",
    "Africa/Casablanca",
]
DATES = ["0001-01-01 00:00:00", "0001-01-04 00:00:00", "1583-02-28 23:59:59", "1900-02-28 12:00:00",
         "2024-02-29 02:30:00", "2026-03-31 09:00:00", "2099-12-31 23:59:59", "9998-12-31 23:00:00",
         "9999-12-20 09:00:00", "9999-12-27 23:59:59", "9999-12-31 23:59:59"]  # fmt: skip
PERIODS = [1, 2, 7, 12, 40, 365, 400, 8000, 99_999, 1_000_000, 10_000_000]
RANGES = {"BYMONTH": (1, 12), "BYWEEKNO": (1, 53), "BYYEARDAY": (1, 366), "BYMONTHDAY": (1, 31), "BYHOUR": (0, 23),
          "BYMINUTE": (0, 59), "BYSECOND": (0, 59), "BYSETPOS": (1, 366)}  # fmt: skip
SIGNED = ("BYWEEKNO", "BYYEARDAY", "BYMONTHDAY", "BYSETPOS")
WEEKDAYS = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"]
FIELDS = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]


class TooSlow(AssertionError):
    """The CPU time is over."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise `TooSlow` where the body takes more CPU time, an endless loop too."""

    def over(*_: object) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGPROF, over)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def some_rrule(pick: random.Random) -> str:
    parts = [
        f"FREQ={pick.choice(['SECONDLY', 'MINUTELY', 'HOURLY', 'DAILY', 'WEEKLY', 'MONTHLY', 'YEARLY'])}"
    ]
    if pick.random() < 0.7:
        parts.append(
            f"INTERVAL={pick.choice([*PERIODS[:-1], 86_400, 604_800, 59, 61, 86_399])}"
        )
    for name, (low, high) in RANGES.items():
        if pick.random() < 0.3:
            count = pick.choice([1, 1, 2, high - low + 1])
            numbers = pick.sample(range(low, high + 1), count)
            signs = [
                -1 if name in SIGNED and pick.random() < 0.3 else 1 for _ in numbers
            ]
            parts.append(
                f"{name}={','.join(str(n * sign) for n, sign in zip(numbers, signs, strict=True))}"
            )
    if pick.random() < 0.3:
        number = pick.choice(["", "", "1", "-1", "5", "53"])
        parts.append(
            f"BYDAY={','.join(number + day for day in pick.sample(WEEKDAYS, pick.choice([1, 2, 7])))}"
        )
    if pick.random() < 0.2:
        parts.append(f"WKST={pick.choice(WEEKDAYS)}")
    return ";".join(parts)


def some_cron(pick: random.Random) -> str:
    def field(low: int, high: int) -> str:
        one = pick.randint(low, high)
        return pick.choice(
            [
                "*",
                f"*/{pick.randint(1, high)}",
                str(one),
                str(high),
                f"{one}-{high}",
                f"{low},{high}",
            ]
        )

    return " ".join(field(*limits) for limits in FIELDS)


def some_repeat(pick: random.Random) -> dict[str, Any]:
    kind = pick.choice(
        ["minute", "hour", "day", "week", "month", "year", "custom", "custom", "custom"]
    )
    repeat: dict[str, Any] = {"repeatType": kind}
    if kind == "custom":
        which = pick.random()
        if which < 0.7:
            return repeat | {"rrule": some_rrule(pick)}
        if which < 0.9:
            return repeat | {"cron": some_cron(pick)}
        return repeat | {"dates": pick.sample(DATES, 3)}
    repeat["period"] = pick.choice(PERIODS)
    if kind == "week" and pick.random() < 0.5:
        repeat["weekday"] = pick.sample(range(1, 8), 2)
    if kind in ("month", "year"):
        how = pick.choice(["own", "day", "week"])
        if how == "day":
            repeat["day"] = pick.choice([[29], [30], [31], [-1], [1, 31]])
        elif how == "week":
            repeat |= {
                "week": pick.choice([5, -5, 1, [1, 3], [5, -5]]),
                "weekday": pick.sample(range(1, 8), 1),
            }
        repeat["monthEnd"] = pick.choice(["last", "skip"])
        if kind == "year" and pick.random() < 0.5:
            repeat["month"] = pick.choice([[2], [2, 4], [12]])
    return repeat


def some_offset(pick: random.Random) -> dict[str, Any]:
    unit = pick.choice(["second", "minute", "hour", "day", "week", "month", "year"])
    amount = pick.choice([-1, 1]) * pick.choice(PERIODS)
    return {"offsetType": 1, "offset": amount, "offsetUnit": unit}


def some_timer(pick: random.Random) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """A raw timerCfg, of rows or scheduled, and a calendar; many are refused when they are read."""
    cfg: dict[str, Any] = {"repeat": some_repeat(pick), "timezone": pick.choice(ZONES)}
    if pick.random() < 0.6:
        cfg["startField"] = "at"
        if pick.random() < 0.3:
            cfg["startOffset"] = some_offset(pick)
        if pick.random() < 0.2:
            cfg |= {"endTimeType": 1, "endTime": pick.choice(DATES)}
        elif pick.random() < 0.2:
            cfg |= {"endTimeType": 2, "endField": "until"}
    else:
        cfg["startTime"] = pick.choice(DATES)
        if pick.random() < 0.2:
            cfg["endTime"] = pick.choice(DATES)
    calendar: dict[str, Any] | None = None
    if pick.random() < 0.5:
        calendar = pick.choice(
            [
                {"country": "US"},
                {"country": "CN"},
                {"closed": ["2026-01-01/2029-12-31"]},
            ]
        )
        cfg["skipHoliday"] = 1
    if pick.random() < 0.3:
        cfg["workdaysOnly"] = 1
    if "skipHoliday" in cfg or "workdaysOnly" in cfg:
        cfg["holidayPolicy"] = pick.choice(["next", "previous", "nearest", "skip"])
    if "startOffset" in cfg and pick.random() < 0.3:
        more = [some_offset(pick) for _ in range(pick.choice([1, 2, 5]))]
        offsets = [cfg["startOffset"], *more]
        cfg["startOffset"] = [
            {"name": f"n{n}", **offset} for n, offset in enumerate(offsets)
        ]
    return cfg, calendar


def some_date(pick: random.Random) -> date:
    """What a row's date may be: with or without a clock and a zone, the ends of the calendar too."""
    at = datetime.fromisoformat(pick.choice(DATES))
    return pick.choice(
        [at, at.date(), at.replace(tzinfo=UTC), at.replace(microsecond=999_999)]
    )


def ask(timer: Timer, pick: random.Random, limit: float) -> None:
    """Put every question to a timer, each within some seconds of CPU time."""
    now = pick.choice(
        [
            datetime(2026, 9, 20, tzinfo=UTC),
            datetime(1, 1, 1, tzinfo=UTC),
            datetime(9999, 12, 30, 22),
        ]
    )
    with within(limit):
        start, end = (
            (some_date(pick), some_date(pick)) if timer.cfg.rows else (None, None)
        )
        series = timer.series(start, end if timer.cfg.end_time_type == 2 else None)
    assert series is not None
    with within(limit):
        found = series.next(now)
    if found is not None:
        with within(limit):
            assert series.due_at(found.due) is not None
    with within(limit):
        list(
            series.between(
                now,
                min(now.replace(tzinfo=None), datetime(9999, 12, 30)) + timedelta(1),
            )
        )
    with within(limit):
        list(
            islice(series.explained(now, now.replace(year=min(now.year + 10, 9999))), 3)
        )
    with within(limit):
        list(islice(series.dropped(now, now.replace(year=min(now.year + 1, 9999))), 3))
    with within(limit):
        describe(timer)
    if not timer.cfg.rows:
        with within(4 * limit), suppress(ConfigError):
            schedules(timer, datetime(2026, 9, 20, tzinfo=UTC))
    if timer.cfg.rows:
        with within(limit):
            timer.next_times([start], now)
        with within(limit):
            timer.reach(now, now.replace(year=min(now.year + 1, 9999)))
            timer.reach(datetime(1, 1, 1), datetime.max)


def tried(pick: random.Random, limit: float) -> bool:
    """Read one timer and ask it; whether it was taken."""
    cfg, calendar = some_timer(pick)
    try:
        with within(limit):
            timer = Timer(cfg, calendar)
    except ConfigError:
        return False
    ask(timer, pick, limit)
    return True
