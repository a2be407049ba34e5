"""No timer, date or rule makes anything endless, slow or large: each search has an end, and each reading a limit."""

from __future__ import annotations

import random
import tracemalloc
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hostile import tried, within

from jittask_prefect.errors import ConfigError
from jittask_prefect.schedule.prefect_schedules import schedules
from jittask_prefect.schedule.timer import Timer

NOW = datetime(2026, 9, 20, 13, 7, tzinfo=UTC)
SOON = 1.0
"""CPU seconds; each takes some milliseconds, and took minutes or had no end."""


def rows(repeat: dict[str, Any], calendar: Any = None, **cfg: Any) -> Timer:
    return Timer({"startField": "at", "repeat": repeat, **cfg}, calendar)


def custom(rule: str) -> dict[str, Any]:
    return {"repeatType": "custom", "rrule": rule}


@pytest.mark.parametrize(
    ("rule", "start", "expected"),
    [
        (
            "FREQ=MONTHLY;INTERVAL=99999;BYMONTHDAY=1",
            "2026-10-01 09:00:00",
            "2026-10-01",
        ),  # then in 10359
        ("FREQ=YEARLY;INTERVAL=8000;BYYEARDAY=30", "2027-01-30 09:00:00", "2027-01-30"),
        (
            "FREQ=YEARLY;INTERVAL=7000",
            "2027-01-30 09:00:00",
            "2027-01-30",
        ),  # and 9027-01-30
        (
            "FREQ=DAILY;INTERVAL=1000000",
            "2026-10-01 09:00:00",
            "2026-10-01",
        ),  # then in 4764
        ("FREQ=WEEKLY;INTERVAL=1000000;BYDAY=MO", "2026-10-05 09:00:00", "2026-10-05"),
    ],
)
def test_a_huge_interval_ends_with_the_calendar(
    rule: str, start: str, expected: str
) -> None:
    with within(SOON):
        timer = Timer({"startTime": start, "repeat": custom(rule)})
        first = timer.nextTime(NOW)
        assert first is not None and f"{first:%Y-%m-%d}" == expected
        later = timer.nextTime(first)
        assert later is None or later.year > 4000
        timer.explain(NOW, datetime(9999, 12, 31))
        assert sum(slot["active"] for slot in schedules(timer, NOW)) == 1


RULES = ["FREQ=DAILY", "FREQ=WEEKLY;INTERVAL=2", "FREQ=MONTHLY;INTERVAL=99999;BYMONTHDAY=1", "FREQ=YEARLY;BYDAY=-1MO",
         "FREQ=HOURLY;INTERVAL=1000000", "FREQ=YEARLY;BYWEEKNO=53;BYSETPOS=-1", "FREQ=MINUTELY;BYHOUR=3"]  # fmt: skip
REPEATS = [{"repeatType": "day"}, {"repeatType": "week"}, {"repeatType": "month", "day": [31]}, {"repeatType": "year"},
           {"repeatType": "hour", "period": 10_000_000}, {"repeatType": "custom", "cron": "0 9 29 2 *"},
           {"repeatType": "normal"}, *map(custom, RULES)]  # fmt: skip


@pytest.mark.parametrize("repeat", REPEATS, ids=str)
@pytest.mark.parametrize(
    "at",
    [date.max, datetime.max, date.min, datetime.min, datetime(9999, 12, 28, 23)],
    ids=str,
)
def test_a_row_at_the_ends_of_the_calendar_ends_every_search(
    repeat: dict[str, Any], at: date
) -> None:
    with within(SOON):
        timer = rows(repeat, "US", skipHoliday=1, holidayPolicy="nearest")
        series = timer.series(at)
        assert series is not None
        for now in (NOW, datetime(9999, 12, 27)):
            found = series.next(now)
            assert found is None or found.due > now.replace(tzinfo=UTC)
            assert timer.next_times([at], now) == [found.due if found else None]
        if at.year == 9999:
            assert series.next(datetime(9999, 12, 29, 12)) is None
        series.explain(datetime(9999, 12, 1), datetime.max)
        timer.reach(datetime.min, datetime.max)


def test_random_timers_are_read_and_asked_within_a_limit() -> None:
    """The larger number is in `benchmarks/hostile_timers.py`."""
    assert sum(tried(random.Random(n), SOON) for n in range(200)) > 100


def full(*names: str) -> str:
    numbers = {"BYHOUR": range(24), "BYMINUTE": range(60), "BYSECOND": range(60), "BYYEARDAY": range(1, 367),
               "BYSETPOS": range(1, 367)}  # fmt: skip
    return ";".join(f"{name}={','.join(map(str, numbers[name]))}" for name in names)


EVERY = full("BYHOUR", "BYMINUTE", "BYSECOND", "BYYEARDAY", "BYSETPOS")


@pytest.mark.parametrize(
    "start", [{"startField": "at"}, {"startTime": "2026-01-01 00:00:00"}], ids=str
)
@pytest.mark.parametrize(
    "rule",
    [
        f"FREQ=YEARLY;{EVERY}",
        f"FREQ=DAILY;{full('BYHOUR', 'BYMINUTE', 'BYSECOND')}",
        f"FREQ=DAILY;{full('BYHOUR')};BYSETPOS=-175",
        "FREQ=YEARLY;BYDAY=MO;BYMONTH=1;BYSETPOS=300",
        "FREQ=SECONDLY;INTERVAL=7;BYDAY=MO;BYHOUR=5;BYMINUTE=0;BYSECOND=0;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=DAILY;BYHOUR=" + ",".join(["1"] * 100_000),
    ],
    ids=lambda text: text[:40],
)
def test_what_is_too_much_or_never_due_is_refused_within_50_ms_and_50_mb(
    rule: str, start: dict[str, Any]
) -> None:
    with within(SOON), pytest.raises(ConfigError):  # 50 ms by design
        Timer({**start, "repeat": custom(rule)})
    tracemalloc.start()
    with pytest.raises(ConfigError):
        Timer({**start, "repeat": custom(rule)})
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 50_000_000


@pytest.mark.parametrize(
    "cfg",
    [
        {"repeat": custom("FREQ=MONTHLY;BYMONTHDAY=31;BYMONTH=4,6")},
        {"repeat": custom("FREQ=SECONDLY")},  # 86,400 a day
        {
            "repeat": {"repeatType": "custom", "dates": ["2020-01-01"]},
            "endTimeType": 1,
            "endTime": "2019-12-31",
        },
        {
            "repeat": {"repeatType": "day"},
            "startOffset": {"offsetType": 1, "offset": 10_000, "offsetUnit": "years"},
        },
    ],
    ids=str,
)
def test_a_rule_that_no_rows_date_can_make_due_is_a_mistake(
    cfg: dict[str, Any],
) -> None:
    with pytest.raises(ConfigError):
        Timer({"startField": "at", **cfg})


def test_a_rule_that_only_some_rows_dates_make_due_is_none() -> None:
    hourly = rows(custom("FREQ=HOURLY;INTERVAL=24;BYHOUR=9")).series(
        datetime(2026, 9, 1, 9, 30)
    )
    leap = rows(custom("FREQ=YEARLY;INTERVAL=4;BYMONTH=2;BYMONTHDAY=29"))
    assert (
        hourly is not None and str(hourly.next(NOW).due) == "2026-09-21 09:30:00+00:00"
    )  # type: ignore[union-attr]
    due = leap.next_times([datetime(2024, 1, 1), datetime(2025, 1, 1)], NOW)
    assert due == [datetime(2028, 2, 29, tzinfo=UTC), None]


NEVER: list[dict[str, Any]] = [
    {"repeat": {"repeatType": "week", "weekday": [6, 7]}, "holidayPolicy": "skip"},
    {"repeat": {"repeatType": "custom", "cron": "*/5 * * * 6,7"}},
    {"repeat": custom("FREQ=WEEKLY;BYDAY=SA"), "holidayPolicy": "skip"},
]


@pytest.mark.parametrize("cfg", NEVER, ids=str)
def test_rows_that_holidays_leave_nothing_cost_a_save_no_search(
    cfg: dict[str, Any],
) -> None:
    """What one row's search found out, those of the other rows know: a save asks once or twice."""
    timer = Timer({"startField": "at", "workdaysOnly": 1, **cfg})
    starts = [datetime(2026, 1, 1, n % 24) + timedelta(n) for n in range(400)]
    with within(SOON):  # 50 µs each; 40 to 160 ms each, before
        assert [
            series.next(NOW)
            for at in starts
            if (series := timer.series(at)) is not None
        ] == [None] * 400


def test_one_rows_answer_hides_no_occurrence_of_another() -> None:
    # Saturday, October 10, 2026 is worked in China, the last one that is known.
    timer = rows(
        {"repeatType": "week", "weekday": [6]},
        "CN",
        workdaysOnly=1,
        holidayPolicy="skip",
    )
    worked = datetime(2026, 10, 10, 9, tzinfo=UTC)
    late, early = (
        timer.series(datetime(2026, 11, 1, 9)),
        timer.series(datetime(2026, 1, 1, 9)),
    )
    assert late is not None and early is not None
    assert late.next(NOW) is None
    assert [at.due for at in [early.next(NOW)] if at] == [worked]
    assert late.next(NOW) is None and early.next(worked) is None
