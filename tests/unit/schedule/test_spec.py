"""Reading a timerCfg: both generations in, the newer form out, every mistake named at once."""

from __future__ import annotations

from datetime import date, datetime, time
from typing import Any

import pytest

from jittask_prefect.errors import ConfigError
from jittask_prefect.schedule.offset import Offset
from jittask_prefect.schedule.reading import read_timer
from jittask_prefect.schedule.spec import TimerCfg
from jittask_prefect.schedule.timer import Timer

START = "2026-01-05 09:00:00"


def scheduled(repeat: Any = None, **more: Any) -> TimerCfg:
    return read_timer(
        {
            "startTime": START,
            **({"repeat": repeat} if repeat is not None else {}),
            **more,
        },
        rows=False,
    )


def row(**more: Any) -> TimerCfg:
    return read_timer({"startField": "due", **more}, rows=True)


def problems(raw: Any, rows: bool = False) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        read_timer(raw, rows=rows)
    assert all(
        problem.found and problem.allowed and not problem.file
        for problem in caught.value.problems
    )
    found = {problem.key: problem.allowed for problem in caught.value.problems}
    assert len(found) == len(caught.value.problems)
    return found


def test_the_values_of_a_scheduled_timer() -> None:
    cfg = scheduled(
        {"repeatType": "month", "day": [1, -1]},
        endTime="2026-12-31",
        skipHoliday=1,
        timezone="Asia/Shanghai",
    )
    assert cfg.start_time == datetime(2026, 1, 5, 9) and cfg.end_time == date(
        2026, 12, 31
    )
    assert (
        cfg.repeat.day == (1, -1)
        and cfg.skip_holiday
        and cfg.holiday_policy == "next"
        and not cfg.rows
    )


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ({"startOffset": {"offsetType": 1, "offset": -7, "offsetUnit": "days", "time": "09:00"}},
         {"startOffset": {"offsetType": -1, "offset": 7, "offsetUnit": "day", "time": "09:00"}}),
        ({"startOffset": {"offsetType": 1, "offset": 0, "offsetUnit": "hours"}}, {"startOffset": {"offsetType": 0}}),
        ({"holidayPolicy": "cycle"}, {"holidayPolicy": "skip"}),
        ({"skipHoliday": True, "workdaysOnly": False}, {"skipHoliday": 1}),
        ({"repeat": {"repeatType": "week", "weekday": 3, "period": 1}},
         {"repeat": {"repeatType": "week", "weekday": [3]}}),
        ({"repeat": {"repeatType": "year", "month": 2, "day": 29, "subType": "day", "monthEnd": "last"}},
         {"repeat": {"repeatType": "year", "month": [2], "day": [29]}}),
        ({"repeat": {"repeatType": "month", "week": [3, 1, 3], "weekday": 5}},
         {"repeat": {"repeatType": "month", "subType": "week", "week": [3, 1], "weekday": [5]}}),
        ({"repeat": {"repeatType": "month", "week": [-1], "weekday": 5}},
         {"repeat": {"repeatType": "month", "subType": "week", "week": -1, "weekday": [5]}}),
        ({"repeat": {"repeatType": "month", "week": -1, "weekday": 5}},
         {"repeat": {"repeatType": "month", "subType": "week", "week": -1, "weekday": [5]}}),
        ({"endTime": "2026-12-31", "endField": None}, {"endTimeType": 1, "endTime": "2026-12-31"}),
        ({"endField": "until"}, {"endTimeType": 2, "endField": "until"}),
        ({"endTimeType": 0, "holidayPolicy": "next", "calendar": None}, {}),
    ],
)  # fmt: skip
def test_both_generations_are_read_and_the_newer_is_written(
    older: dict[str, Any], newer: dict[str, Any]
) -> None:
    expected = {"startField": "due", "repeat": {"repeatType": "normal"}, **newer}
    assert row(**older).dump() == expected
    assert row(**older) == row(**newer) and hash(row(**older)) == hash(row(**newer))


def test_what_is_written_is_read_back_the_same() -> None:
    raw = {
        "startField": "due", "startOffset": {"offsetType": -1, "offset": 2, "offsetUnit": "week", "time": "08:30"},
        "endTimeType": 2, "endField": "until", "endOffset": {"offsetType": 1, "offset": 3, "offsetUnit": "month"},
        "repeat": {"repeatType": "custom", "dates": ["2026-03-01", "2026-04-01 10:00:00"]},
        "skipHoliday": 1, "holidayPolicy": "nearest", "workdaysOnly": 1, "calendar": "crm", "timezone": "Asia/Tokyo",
    }  # fmt: skip
    assert (
        row(
            **{name: value for name, value in raw.items() if name != "startField"}
        ).dump()
        == raw
    )


def test_an_offset() -> None:
    cfg = row(
        startOffset={
            "offsetType": -1,
            "offset": 7,
            "offsetUnit": "days",
            "time": "09:00",
        }
    )
    offset = cfg.start_offset
    assert isinstance(offset, Offset) and (offset.amount, offset.unit, offset.time) == (
        -7,
        "day",
        time(9),
    )


def test_all_problems_are_told_at_once() -> None:
    found = problems({
        "startTime": "2026-1-5", "endTime": "soon", "timezone": "Asia/Shangai", "skipHoliday": 2,
        "holidayPolicy": "later",
        "repeat": {"repeatType": "month", "period": 0, "day": [0, 32], "foo": 1, "weekday": [1]}, "bar": 1,
        "startField": "due", "calendar": 5,
    })  # fmt: skip
    assert set(found) == {
        "timerCfg.startTime", "timerCfg.endTime", "timerCfg.timezone", "timerCfg.skipHoliday", "timerCfg.holidayPolicy",
        "timerCfg.repeat.period", "timerCfg.repeat.day.0", "timerCfg.repeat.day.1", "timerCfg.repeat.foo",
        "timerCfg.repeat.weekday", "timerCfg.bar", "timerCfg.startField", "timerCfg.calendar",
    }  # fmt: skip
    assert "Asia/Shanghai" in found["timerCfg.timezone"]
    assert (
        "monthEnd" in found["timerCfg.repeat.foo"]
        and "workdaysOnly" in found["timerCfg.bar"]
    )


@pytest.mark.parametrize(
    ("repeat", "key"),
    [
        ({"repeatType": "day", "weekday": [1]}, "weekday"),
        ({"repeatType": "month", "weekday": [1]}, "weekday"),
        ({"repeatType": "week", "weekday": [8]}, "weekday.0"),
        ({"repeatType": "week", "weekday": [0]}, "weekday.0"),
        ({"repeatType": "week", "weekday": []}, "weekday"),
        ({"repeatType": "week", "weekday": "Monday"}, "weekday.0"),
        ({"repeatType": "week", "day": [1]}, "day"),
        ({"repeatType": "week", "monthEnd": "last"}, "monthEnd"),
        ({"repeatType": "month", "week": 6, "weekday": [1]}, "week"),
        ({"repeatType": "month", "week": [1, 6], "weekday": [1]}, "week"),
        ({"repeatType": "month", "week": [], "weekday": [1]}, "week"),
        ({"repeatType": "month", "subType": "day", "week": [1, 3]}, "week"),
        ({"repeatType": "month", "week": 0, "weekday": [1]}, "week"),
        ({"repeatType": "month", "subType": "week", "weekday": [1]}, "week"),
        ({"repeatType": "month", "subType": "day", "week": 1}, "week"),
        ({"repeatType": "month", "week": 1, "day": [1]}, "day"),
        ({"repeatType": "month", "month": 3}, "month"),
        ({"repeatType": "month", "monthEnd": "first"}, "monthEnd"),
        ({"repeatType": "year", "month": 13}, "month.0"),
        ({"repeatType": "year", "month": 2, "day": [30], "monthEnd": "skip"}, "day"),
        (
            {"repeatType": "year", "month": [4, 6], "day": [31], "monthEnd": "skip"},
            "day",
        ),
        ({"repeatType": "month", "period": 12, "day": 31, "monthEnd": "skip"}, None),
        ({"repeatType": "hour", "period": 1.5}, "period"),
        ({"repeatType": "hour", "period": "2"}, "period"),
        ({"repeatType": "hour", "period": True}, "period"),
        ({"repeatType": "hour", "period": -1}, "period"),
        ({"repeatType": "hourly"}, "repeatType"),
        ({}, "repeatType"),
        ({"period": 2}, "repeatType"),
        ({"repeatType": "normal", "period": 2}, "period"),
        ({"repeatType": "day", "cron": "0 9 * * *"}, "cron"),
        ({"repeatType": "custom"}, ""),
        ({"repeatType": "custom", "cron": "0 9 * * *", "dates": ["2027-01-01"]}, ""),
        ({"repeatType": "custom", "cron": 5}, "cron"),
        ({"repeatType": "custom", "cron": "0 0 9 * * *"}, "cron"),
        ({"repeatType": "custom", "rrule": "FREQ=DAILY;COUNT=2"}, "rrule"),
        ({"repeatType": "custom", "dates": []}, "dates"),
        ({"repeatType": "custom", "dates": "2027-01-01"}, "dates"),
        ({"repeatType": "custom", "dates": ["2027-02-29"]}, "dates.0"),
        ({"repeatType": "custom", "dates": ["2025-01-01"]}, "dates"),
        ({"repeatType": "custom", "dates": ["2027-01-01"], "period": 2}, "period"),
        ([], ""),
        ("day", ""),
    ],
)
def test_repeats_that_cannot_work(repeat: Any, key: str | None) -> None:
    if key is None:  # January, the start's month, has a 31st
        assert scheduled(repeat).repeat.period == 12
        return
    found = problems({"startTime": START, "repeat": repeat})
    assert set(found) == {"timerCfg.repeat" + (f".{key}" if key else "")}


@pytest.mark.parametrize("day", [30, 31])
def test_a_day_that_never_comes_is_found_by_what_follows_from_the_start(
    day: int,
) -> None:
    raw = {
        "startTime": "2026-02-05 09:00:00",
        "repeat": {"repeatType": "month", "period": 12, "day": day, "monthEnd": "skip"},
    }
    assert set(problems(raw)) == {"timerCfg.repeat.day"}
    odd = {
        "startTime": "2027-02-05 09:00:00",
        "repeat": {"repeatType": "year", "period": 2, "day": 29, "monthEnd": "skip"},
    }
    assert set(problems(odd)) == {"timerCfg.repeat.day"}


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ({}, "startTime"),
        ({"startTime": START, "startField": "due"}, "startField"),
        ({"startTime": START, "startOffset": {"offsetType": 0}}, "startOffset"),
        ({"startTime": START, "endField": "until"}, "endField"),
        ({"startTime": "2026-02-30 09:00:00"}, "startTime"),
        ({"startTime": "2026-01-05 09:00:00Z"}, "startTime"),
        ({"startTime": 1767603600}, "startTime"),
        ({"startTime": START, "endTime": "2026-01-04"}, "endTime"),
        ({"startTime": START, "endTime": "2026-01-05 08:59:59"}, "endTime"),
        ({"startTime": START, "timezone": "Mars/Olympus"}, "timezone"),
        ({"startTime": START, "timezone": "europe/berlin "}, "timezone"),
        ({"startTime": START, "timezone": "../../etc/passwd"}, "timezone"),
        ({"startTime": START, "timezone": 8}, "timezone"),
        ({"startTime": START, "calendar": ""}, "calendar"),
        ({"startTime": START, "workdaysOnly": "yes"}, "workdaysOnly"),
    ],
)
def test_scheduled_timers_that_cannot_work(raw: Any, key: str) -> None:
    assert set(problems(raw)) == {f"timerCfg.{key}"}


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ({"startField": None}, "startField"),
        ({"startField": "no field"}, "startField"),
        ({"startTime": START}, "startTime"),
        (
            {"startOffset": {"offsetType": 2, "offset": 1, "offsetUnit": "day"}},
            "startOffset.offsetType",
        ),
        ({"startOffset": {"offset": 1, "offsetUnit": "day"}}, "startOffset.offsetType"),
        ({"startOffset": {"offsetType": 1, "offsetUnit": "day"}}, "startOffset.offset"),
        ({"startOffset": {"offsetType": 1, "offset": 1}}, "startOffset.offsetUnit"),
        (
            {"startOffset": {"offsetType": -1, "offset": -1, "offsetUnit": "day"}},
            "startOffset.offset",
        ),
        (
            {"startOffset": {"offsetType": 0, "offset": 1, "offsetUnit": "day"}},
            "startOffset.offset",
        ),
        (
            {"startOffset": {"offsetType": 1, "offset": 1.5, "offsetUnit": "day"}},
            "startOffset.offset",
        ),
        (
            {"startOffset": {"offsetType": 1, "offset": 1, "offsetUnit": "fortnight"}},
            "startOffset.offsetUnit",
        ),
        (
            {
                "startOffset": {
                    "offsetType": 1,
                    "offset": 1,
                    "offsetUnit": "hour",
                    "time": "09:00",
                }
            },
            "startOffset.time",
        ),
        (
            {
                "startOffset": {
                    "offsetType": 1,
                    "offset": 1,
                    "offsetUnit": "day",
                    "time": "9:00",
                }
            },
            "startOffset.time",
        ),
        (
            {
                "startOffset": {
                    "offsetType": 1,
                    "offset": 1,
                    "offsetUnit": "day",
                    "time": "24:00",
                }
            },
            "startOffset.time",
        ),
        ({"startOffset": {"offsetType": 0, "at": "09:00"}}, "startOffset.at"),
        ({"startOffset": 7}, "startOffset"),
        ({"endTimeType": 3}, "endTimeType"),
        ({"endTimeType": 1}, "endTime"),
        ({"endTimeType": 2}, "endField"),
        ({"endTimeType": 0, "endTime": "2026-12-31"}, "endTime"),
        ({"endTimeType": 1, "endTime": "2026-12-31", "endField": "until"}, "endField"),
        ({"endTimeType": 2, "endField": "until", "endTime": "2026-12-31"}, "endTime"),
        ({"endTime": "2026-12-31", "endField": "until"}, "endTimeType"),
    ],
)
def test_row_timers_that_cannot_work(raw: dict[str, Any], key: str) -> None:
    # startTime alone lacks a startField too; here it stands beside one.
    assert set(problems({"startField": "due", **raw}, rows=True)) == {f"timerCfg.{key}"}


@pytest.mark.parametrize("raw", [None, [], "daily", 5])
def test_what_is_no_object(raw: Any) -> None:
    assert problems(raw) == {"timerCfg": "an object"}


def test_strings_are_never_evaluated() -> None:
    text = "__import__('os').system('true')"
    assert problems(
        {"startTime": text, "repeat": {"repeatType": "custom", "cron": text}}
    ).keys() == {
        "timerCfg.startTime",
        "timerCfg.repeat.cron",
    }


def test_timers_name_zone_and_calendar_that_are_unknown() -> None:
    cfg = {"startTime": START}
    for kwargs, key in (
        ({"timezone": "Asia/Shangai"}, "timezone"),
        ({"calendar": "ZZ"}, "calendar.country"),
        ({"timerCfg": {**cfg, "calendar": "office"}}, "timerCfg.calendar.country"),
        ({"timerCfg": {**cfg, "skipHoliday": 1}}, "timerCfg.skipHoliday"),
    ):
        with pytest.raises(ConfigError) as caught:
            Timer(**{"timerCfg": cfg, **kwargs})
        assert [problem.key for problem in caught.value.problems] == [key]


def test_the_timers_own_zone_and_calendar_win() -> None:
    timer = Timer(
        {"startTime": START, "timezone": "Europe/Berlin", "calendar": "CN"},
        timezone="Asia/Tokyo",
    )
    assert (
        timer.zone.key == "Europe/Berlin"
        and timer.calendar is not None
        and timer.calendar.label == "CN"
    )
    assert Timer({"startTime": START}, timezone="Asia/Tokyo").zone.key == "Asia/Tokyo"
    assert Timer({"startTime": START}).zone.key == "UTC"
    named = Timer(
        {"startTime": START, "calendar": "office"}, calendar={"country": "US"}
    )
    assert named.calendar is not None and named.calendar.label == "US"
