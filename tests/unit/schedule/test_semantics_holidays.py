"""The section "Holidays" of the rules of time, line by line.

China 2026, from the State Council's notice: New Year January 1-3 (worked: January 4), Spring Festival February 15-23
(worked: February 14 and 28), Qingming April 4-6, Labour Day May 1-5 (worked: May 9), Dragon Boat June 19-21,
Mid-Autumn September 25-27, National Day October 1-7 (worked: September 20, October 10).
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from jittask_prefect.errors import ConfigError
from jittask_prefect.schedule.calendar import Calendar
from jittask_prefect.schedule.timer import Timer

CHINA_OFF = [
    *[date(2026, 1, n) for n in (1, 2, 3)],
    *[date(2026, 2, n) for n in range(15, 24)],
    *[date(2026, 4, n) for n in (4, 5, 6)],
    *[date(2026, 5, n) for n in (1, 2, 3, 4, 5)],
    *[date(2026, 6, n) for n in (19, 20, 21)],
    *[date(2026, 9, n) for n in (25, 26, 27)],
    *[date(2026, 10, n) for n in range(1, 8)],
]
CHINA_WORKED = [
    date(2026, m, d) for m, d in ((1, 4), (2, 14), (2, 28), (5, 9), (9, 20), (10, 10))
]


def days(
    repeat: dict[str, Any],
    start: str,
    after: str,
    before: str,
    calendar: Any = "CN",
    **more: Any,
) -> list[str]:
    cfg = {
        "startTime": f"{start} 09:00:00",
        "repeat": repeat,
        "timezone": "Asia/Shanghai",
        "skipHoliday": 1,
        **more,
    }
    found = Timer(cfg, calendar).occurrences(
        datetime.fromisoformat(after), datetime.fromisoformat(before)
    )
    return [f"{at:%m-%d}" for at in found]


def year_2026() -> list[date]:
    return [date(2026, 1, 1) + timedelta(n) for n in range(365)]


def test_china_2026_has_33_days_off_and_6_make_up_days() -> None:
    china = Calendar.read("CN")
    assert china is not None and len(CHINA_OFF) == 33
    assert [day for day in year_2026() if china.is_holiday(day)] == CHINA_OFF
    assert [day for day in year_2026() if china.is_makeup(day)] == CHINA_WORKED
    assert all(china.is_working_day(day) for day in CHINA_WORKED)


def test_listed_alone_knows_only_22_of_the_33() -> None:
    listed = Calendar.read({"country": "CN", "block": "listed"})
    assert listed is not None
    assert sum(listed.is_holiday(day) for day in year_2026()) == 22
    # Sunday, October 4, lies within National Day but is not listed.
    assert not listed.is_holiday(date(2026, 10, 4)) and not listed.is_working_day(
        date(2026, 10, 4)
    )
    daily = {"repeatType": "day"}
    assert days(
        daily,
        "2026-09-01",
        "2026-10-03",
        "2026-10-09",
        {"country": "CN", "block": "listed"},
    ) == [
        "10-04",
        "10-08",
    ]
    assert days(daily, "2026-09-01", "2026-10-03", "2026-10-09") == ["10-08"]


def test_weekends_are_the_countrys_own() -> None:
    # 2026-01-01 is a Thursday; Saudi Arabia rests on Friday and Saturday.
    daily = {"repeatType": "day"}
    arabia = days(
        daily,
        "2026-01-01",
        "2026-01-01",
        "2026-01-06",
        "SA",
        workdaysOnly=1,
        holidayPolicy="skip",
    )
    assert arabia == ["01-01", "01-04", "01-05"]
    plain = days(
        daily,
        "2026-01-01",
        "2026-01-01",
        "2026-01-06",
        None,
        workdaysOnly=1,
        skipHoliday=0,
    )
    assert plain == ["01-01", "01-02", "01-05"]


def test_workdays_only_without_skip_holiday_counts_weekends_only() -> None:
    # October 1 is a Thursday; the 3rd and 4th a weekend; holidays do not count, so Monday the 5th is where they go.
    daily = {"repeatType": "day"}
    assert days(
        daily, "2026-10-01", "2026-10-01", "2026-10-08", workdaysOnly=1, skipHoliday=0
    ) == [
        "10-01",
        "10-02",
        "10-05",
        "10-06",
        "10-07",
    ]


def test_skip_holiday_without_a_calendar_is_an_error() -> None:
    with pytest.raises(ConfigError, match="skipHoliday"):
        Timer(
            {
                "startTime": "2026-01-01 09:00:00",
                "repeat": {"repeatType": "day"},
                "skipHoliday": 1,
            }
        )


def test_make_up_days_are_working_days_even_on_a_saturday() -> None:
    # Saturday 2026-02-14 is worked, Saturday the 21st lies in the Spring Festival, the 28th is worked.
    saturdays = {"repeatType": "week", "weekday": [6]}
    found = days(
        saturdays,
        "2026-02-01",
        "2026-02-07",
        "2026-03-01",
        workdaysOnly=1,
        holidayPolicy="skip",
    )
    assert found == ["02-14", "02-28"]
    # The house opens on Saturday 2026-12-19 and closes over Christmas; a Thursday closed moves to Sunday's Monday.
    office = {
        "country": "CN",
        "closed": ["2026-12-24/2026-12-26"],
        "open": ["2026-12-19"],
    }
    assert days(
        saturdays, "2026-12-01", "2026-12-19", "2026-12-20", office, workdaysOnly=1
    ) == ["12-19"]
    assert days(
        {"repeatType": "day"}, "2026-12-01", "2026-12-23", "2026-12-30", office
    ) == ["12-23", "12-28", "12-29"]


@pytest.mark.parametrize(
    ("policy", "nominal", "expected"),
    [
        ("next", "2026-10-01", ["10-08"]),
        ("previous", "2026-10-03", ["09-30"]),
        ("nearest", "2026-10-03", ["09-30"]),  # 3 days back, 5 on
        ("nearest", "2026-10-05", ["10-08"]),  # 5 days back, 3 on
        ("nearest", "2026-10-04", ["10-08"]),  # 4 days either way: the later
        ("skip", "2026-10-01", []),
        ("cycle", "2026-10-01", []),
    ],
)
def test_where_an_occurrence_on_a_holiday_goes(
    policy: str, nominal: str, expected: list[str]
) -> None:
    yearly = {"repeatType": "year"}
    start = nominal.replace("2026", "2025")
    assert (
        days(yearly, start, "2026-01-01", "2026-12-31", holidayPolicy=policy)
        == expected
    )


def test_skip_leaves_it_to_the_next_cycle() -> None:
    monthly = {"repeatType": "month", "day": [1]}
    # January 1, May 1 and October 1 are holidays in China.
    assert days(
        monthly, "2026-01-01", "2026-01-01", "2026-12-31", holidayPolicy="cycle"
    ) == [f"{month:02}-01" for month in (2, 3, 4, 6, 7, 8, 9, 11, 12)]


def test_two_that_arrive_at_one_instant_are_one_and_the_phase_never_shifts() -> None:
    every_third = {"repeatType": "day", "period": 3}
    # September 29, October 2 and 5 (to the 8th, where one stands already), 8, 11 (an ordinary Sunday).
    assert days(every_third, "2026-09-29", "2026-09-29", "2026-10-12") == [
        "09-29",
        "10-08",
        "10-11",
    ]
    timer = Timer(
        {
            "startTime": "2026-09-29 09:00:00",
            "repeat": every_third,
            "skipHoliday": 1,
            "timezone": "Asia/Shanghai",
        },
        "CN",
    )
    series = timer.series()
    assert series is not None
    found = series.due_at(datetime(2026, 10, 8, 9))
    assert found is not None and found.nominal == found.due and found.moved is None
    explained = timer.explain(datetime(2026, 10, 1), datetime(2026, 10, 9))
    assert [(f"{at.nominal:%m-%d}", at.because, at.note) for at in explained] == [
        ("10-02", "National Day", "one with the occurrence of 2026-10-08 09:00"),
        ("10-05", "National Day", "one with the occurrence of 2026-10-08 09:00"),
        ("10-08", None, ""),
    ]


@pytest.mark.parametrize(
    "repeat",
    [
        {"repeatType": "hour", "period": 12},
        {"repeatType": "minute", "period": 720},
        {"repeatType": "custom", "cron": "0 9,21 * * *"},
        {"repeatType": "custom", "rrule": "FREQ=HOURLY;INTERVAL=12"},
    ],
)
@pytest.mark.parametrize("policy", ["next", "previous", "nearest", "skip"])
def test_what_is_finer_than_a_day_skips_holidays(
    repeat: dict[str, Any], policy: str
) -> None:
    found = days(repeat, "2026-09-30", "2026-09-30", "2026-10-09", holidayPolicy=policy)
    assert found == ["09-30", "09-30", "10-08", "10-08"]


def test_an_ordinary_weekend_is_no_holiday() -> None:
    # Saturday and Sunday, January 10 and 11, 2026.
    daily = {"repeatType": "day"}
    assert days(daily, "2026-01-05", "2026-01-09", "2026-01-13") == [
        "01-09",
        "01-10",
        "01-11",
        "01-12",
    ]
    assert days(daily, "2026-01-05", "2026-01-09", "2026-01-13", workdaysOnly=1) == [
        "01-09",
        "01-12",
    ]


def test_beyond_the_published_years_it_goes_on_and_says_so() -> None:
    # The library learns a year each November; 2026 was published in 2025.
    china = Calendar.read("CN")
    assert china is not None and china.reliable_until is not None
    assert date(2026, 12, 31) <= china.reliable_until <= date(2040, 12, 31)
    timer = Timer(
        {
            "startTime": "2026-01-01 09:00:00",
            "repeat": {"repeatType": "day"},
            "skipHoliday": 1,
        },
        china,
    )
    (inside,) = timer.explain(datetime(2026, 11, 2), datetime(2026, 11, 3))
    assert inside.due is not None and inside.note == ""
    (beyond,) = timer.explain(datetime(2050, 3, 1), datetime(2050, 3, 2))
    assert beyond.due is not None and re.fullmatch(
        r"holidays are not published beyond 20\d\d-12-31", beyond.note
    )
    (unknown,) = timer.explain(datetime(2150, 3, 1), datetime(2150, 3, 2))
    assert (
        unknown.due is not None
        and unknown.note == "no holidays are known for this year"
    )


def test_a_closed_range_of_years_is_followed_to_its_end() -> None:
    """Closed from Thursday, 2026-01-01 to Monday, 2029-12-31, which are 1,461 days."""
    closed = {"closed": ["2026-01-01/2029-12-31"]}
    year = {"repeatType": "year"}
    assert days(year, "2024-03-05", "2026-01-01", "2030-02-01", closed) == [
        "01-01"
    ]  # 2030: all four at once
    assert days(year, "2024-03-05", "2024-01-01", "2026-01-02", closed, holidayPolicy="previous") == [
        "03-05", "03-05", "12-31",
    ]  # fmt: skip
    cfg = {"startField": "at", "repeat": {"repeatType": "normal"}, "skipHoliday": 1}
    for policy, due in (
        ("next", date(2030, 1, 1)),
        ("previous", date(2025, 12, 31)),
        ("nearest", date(2030, 1, 1)),
    ):
        timer = Timer(cfg | {"holidayPolicy": policy}, closed)
        at = datetime(2028, 6, 1, 9)
        series = timer.series(at)
        assert series is not None
        found = series.next(datetime(2025, 12, 1))
        assert found is not None and found.due.date() == due
        before, after = (
            datetime.combine(due, datetime.min.time()),
            datetime.combine(due, datetime.max.time()),
        )
        spans = timer.reach(before, after).spans
        assert any((low or at) <= at <= (high or at) for low, high in spans), policy
