"""The order of the moves: level, offset, repeat, holiday policy, opening hours; each pair with fixed dates, by hand."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Any

import pytest

from jittask_prefect.schedule.timer import Timer

HOURS = {"window": {"from": "08:00", "to": "18:00"}}
WEEKDAYS = {"window": {**HOURS["window"], "weekdays": [1, 2, 3, 4, 5]}}
OFF = {"workdaysOnly": 1}
WEEKLY, DAILY = ({"repeat": {"repeatType": kind}} for kind in ("week", "day"))


def offset(number: int, unit: str = "day") -> dict[str, Any]:
    kind = 1 if number > 0 else -1
    return {"offsetType": kind, "offset": abs(number), "offsetUnit": unit}


def levels(*days: int) -> dict[str, Any]:
    return {"startOffset": [{"name": f"n{n}", **offset(n)} for n in days]}


@pytest.mark.parametrize(
    ("start", "cfg", "expected"),
    [
        ("03-02 00:00", levels(-1, 3), ["03-01 00:00", "03-05 00:00"]),
        ("03-02 00:00", levels(-1, 3) | WEEKLY, ["03-01 00:00", "03-05 00:00", "03-12 00:00"]),
        ("03-02 00:00", levels(5) | OFF, ["03-09 00:00"]),
        ("03-02 03:00", levels(3) | HOURS, ["03-05 08:00"]),
        ("03-02 00:00", {"startOffset": offset(3)} | WEEKLY, ["03-05 00:00", "03-12 00:00", "03-19 00:00"]),
        ("03-02 00:00", {"startOffset": offset(5)} | OFF, ["03-09 00:00"]),
        ("03-02 10:00", {"startOffset": offset(-5, "hour")} | HOURS, ["03-02 08:00"]),
        ("03-06 00:00", DAILY | OFF, ["03-06 00:00", "03-09 00:00", "03-10 00:00"]),
        ("03-02 20:00", DAILY | HOURS, ["03-03 08:00", "03-04 08:00", "03-05 08:00"]),
        ("03-08 20:00", OFF | HOURS, ["03-10 08:00"]),
        ("03-02 21:00", {"startOffset": offset(3, "workday")} | HOURS, ["03-06 08:00"]),
        ("03-04 20:00", levels(3, 4) | WEEKDAYS, ["03-09 08:00"]),
    ],
    ids=[
        "level, offset", "level, repeat", "level, holiday", "level, hours", "offset, repeat", "offset, holiday",
        "offset, hours", "repeat, holiday", "repeat, hours", "holiday, hours",
        "working days counted, hours", "two levels, hours",
    ],
)  # fmt: skip
def test_each_pair(start: str, cfg: dict[str, Any], expected: list[str]) -> None:
    timer = Timer({"startField": "due", "timezone": "UTC", **cfg})
    series = timer.series(datetime.fromisoformat(f"2026-{start}"))
    assert series is not None
    found = islice(series.between(datetime(2026, 1, 1), datetime(2027, 1, 1)), 3)
    assert [f"{each.due:%m-%d %H:%M}" for each in found] == expected


def test_the_nominal_time_stands_before_holidays_and_hours() -> None:
    cfg = {"startField": "due", "timezone": "UTC", **levels(5), **OFF, **HOURS}
    series = Timer(cfg).series(datetime(2026, 3, 3, 20))
    assert series is not None
    [found] = series.between(datetime(2026, 1, 1), datetime(2027, 1, 1))
    assert f"{found.nominal:%m-%d %H:%M}" == "03-08 20:00"
    assert f"{found.due:%m-%d %H:%M}" == "03-10 08:00"
    assert found.level == "n5"
