"""Hypothesis strategies for timers."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st

ZONES = ["UTC", "Asia/Shanghai", "Europe/Berlin", "America/New_York", "America/Santiago", "Australia/Lord_Howe",
         "Pacific/Apia", "Asia/Kolkata", "Africa/Casablanca", "America/St_Johns", "Asia/Beirut"]  # fmt: skip
CALENDARS: list[dict[str, Any] | None] = [
    None,
    {"country": "CN", "block": "contiguous"},
    {"country": "CN", "block": "listed"},
    {"country": "US", "block": "listed"},
    {"country": "US", "block": "contiguous"},
    {"country": "DE", "subdiv": "BY", "block": "listed"},
    {"country": "SA", "block": "listed"},
    {"country": "JP", "block": "contiguous"},
]
CLOCKS = ["00:00:00", "00:30:00", "01:15:00", "02:00:00", "02:30:00", "09:00:00", "23:30:00"]


def some(low: int, high: int, most: int = 3) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(low, high), min_size=1, max_size=most, unique=True)


@st.composite
def day_repeats(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["normal", "day", "week", "month", "year"]))
    repeat: dict[str, Any] = {"repeatType": kind}
    if kind == "normal":
        return repeat
    if draw(st.booleans()):
        repeat["period"] = draw(st.integers(1, 5))
    if kind == "week" and draw(st.booleans()):
        repeat["weekday"] = draw(some(1, 7))
    if kind in ("month", "year"):
        how = draw(st.sampled_from(["own", "day", "week"]))
        if how == "day":
            repeat["day"] = draw(st.lists(st.sampled_from([1, 5, 15, 28, 29, 30, 31, -1]), min_size=1, max_size=3, unique=True))  # noqa: E501  # fmt: skip
        elif how == "week":
            repeat["week"] = draw(st.sampled_from([1, 2, 3, 4, 5, -1, -2, -5]))
            repeat["weekday"] = draw(some(1, 7, 2))
        repeat["monthEnd"] = draw(st.sampled_from(["last", "last", "skip"]))
        if kind == "year" and draw(st.booleans()):
            repeat["month"] = draw(some(1, 12))
    return repeat


@st.composite
def step_repeats(draw: st.DrawFn) -> dict[str, Any]:
    if draw(st.booleans()):
        return {"repeatType": "hour", "period": draw(st.sampled_from([1, 2, 3, 5, 7, 24, 25, 48]))}
    return {"repeatType": "minute", "period": draw(st.sampled_from([15, 20, 45, 60, 90, 1440]))}


@st.composite
def timers(draw: st.DrawFn, repeats: st.SearchStrategy[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """A raw timerCfg, which may turn out to be refused as one that never comes, and a calendar."""
    start = datetime(2020, 1, 1) + timedelta(draw(st.integers(0, 2500)))
    cfg: dict[str, Any] = {
        "startTime": f"{start:%Y-%m-%d} {draw(st.sampled_from(CLOCKS))}",
        "repeat": draw(repeats),
        "timezone": draw(st.sampled_from(ZONES)),
    }
    calendar = draw(st.sampled_from(CALENDARS))
    if calendar is not None and draw(st.integers(0, 3)):
        cfg["skipHoliday"] = 1
    if draw(st.integers(0, 3)) == 0:
        cfg["workdaysOnly"] = 1
    if "skipHoliday" in cfg or "workdaysOnly" in cfg:
        cfg["holidayPolicy"] = draw(st.sampled_from(["next", "previous", "nearest", "skip", "cycle"]))
    if draw(st.integers(0, 2)) == 0:
        end = start + timedelta(draw(st.integers(0, 2500)))
        cfg["endTime"] = f"{end:%Y-%m-%d}" + draw(st.sampled_from(["", " 23:59:59"]))
    return cfg, calendar
