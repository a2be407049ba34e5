"""The table "Occurrences" of the rules of time, line by line; each date is worked out by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from jittask_prefect.schedule.timer import Timer

NEW_YORK = "America/New_York"


def due(
    start: str,
    repeat: dict[str, Any],
    after: str,
    before: str,
    zone: str = "UTC",
    **more: Any,
) -> list[str]:
    """Occurrences in [after, before), local, as text; where the offset matters use `due_utc`."""
    timer = Timer({"startTime": start, "repeat": repeat, "timezone": zone, **more})
    found = timer.occurrences(
        datetime.fromisoformat(after), datetime.fromisoformat(before)
    )
    return [f"{at:%Y-%m-%d %H:%M}" for at in found]


def due_utc(
    start: str, repeat: dict[str, Any], after: str, before: str, zone: str, **more: Any
) -> list[str]:
    timer = Timer({"startTime": start, "repeat": repeat, "timezone": zone, **more})
    found = timer.occurrences(
        datetime.fromisoformat(after), datetime.fromisoformat(before)
    )
    return [f"{at.astimezone(UTC):%m-%d %H:%M}" for at in found]


@pytest.mark.parametrize(
    ("repeat", "expected"),
    [
        # New York: clocks forward on Sunday 2026-03-08 at 02:00, from UTC-5 to UTC-4.
        ({"repeatType": "day"}, ["03-07 14:00", "03-08 13:00", "03-09 13:00"]),
        ({"repeatType": "week", "weekday": [6, 7]}, ["03-07 14:00", "03-08 13:00"]),
        ({"repeatType": "month", "day": [7, 8]}, ["03-07 14:00", "03-08 13:00"]),
        (
            {"repeatType": "year", "month": 3, "day": [7, 8]},
            ["03-07 14:00", "03-08 13:00"],
        ),
        (
            {"repeatType": "custom", "cron": "0 9 7,8 * *"},
            ["03-07 14:00", "03-08 13:00"],
        ),
        ({"repeatType": "custom", "rrule": "FREQ=DAILY;INTERVAL=2"}, ["03-08 13:00"]),
        (
            {"repeatType": "custom", "dates": ["2026-03-07", "2026-03-08"]},
            ["03-07 14:00", "03-08 13:00"],
        ),
    ],
)
def test_day_and_longer_keep_the_wall_clock(
    repeat: dict[str, Any], expected: list[str]
) -> None:
    assert (
        due_utc("2026-01-01 09:00:00", repeat, "2026-03-07", "2026-03-10", NEW_YORK)
        == expected
    )


def test_minute_and_hour_are_elapsed_time() -> None:
    # New York: clocks back on Sunday 2026-11-01 at 02:00; 01:30 comes twice, at 05:30 and 06:30 UTC.
    hourly = due_utc(
        "2026-11-01 00:30:00",
        {"repeatType": "hour"},
        "2026-11-01",
        "2026-11-01 03:00:00",
        NEW_YORK,
    )
    assert hourly == ["11-01 04:30", "11-01 05:30", "11-01 06:30", "11-01 07:30"]
    # Clocks forward on 2026-03-08: after 01:30 (06:30 UTC) comes 03:30 (07:30 UTC), nothing is lost.
    spring = due_utc("2026-03-08 00:30:00", {"repeatType": "minute", "period": 60}, "2026-03-08", "2026-03-08 04:00:00", NEW_YORK)  # fmt: skip
    assert spring == ["03-08 05:30", "03-08 06:30", "03-08 07:30"]
    # 48 hours are 48 hours: 09:00 becomes 10:00 local.
    assert due(
        "2026-03-07 09:00:00",
        {"repeatType": "hour", "period": 48},
        "2026-03-09",
        "2026-03-10",
        NEW_YORK,
    ) == ["2026-03-09 10:00"]


def test_a_time_in_a_gap_moves_forward_by_the_gap_and_is_back_the_next_day() -> None:
    # 02:30 does not exist on 2026-03-08 in New York.
    assert due(
        "2026-03-07 02:30:00",
        {"repeatType": "day"},
        "2026-03-07",
        "2026-03-10",
        NEW_YORK,
    ) == [
        "2026-03-07 02:30",
        "2026-03-08 03:30",
        "2026-03-09 02:30",
    ]
    # Lord Howe: the clock goes forward by half an hour, 02:00 to 02:30, on 2026-10-04.
    assert due(
        "2026-10-03 02:15:00",
        {"repeatType": "day"},
        "2026-10-03",
        "2026-10-06",
        "Australia/Lord_Howe",
    ) == [
        "2026-10-03 02:15",
        "2026-10-04 02:45",
        "2026-10-05 02:15",
    ]
    # Santiago: midnight does not exist on 2026-09-06.
    assert due(
        "2026-09-05 00:00:00",
        {"repeatType": "day"},
        "2026-09-05",
        "2026-09-08",
        "America/Santiago",
    ) == [
        "2026-09-05 00:00",
        "2026-09-06 01:00",
        "2026-09-07 00:00",
    ]
    # Apia left out 2011-12-30 altogether: that day's occurrence is one with the next day's.
    assert due(
        "2011-12-28 09:00:00",
        {"repeatType": "day"},
        "2011-12-28",
        "2012-01-01",
        "Pacific/Apia",
    ) == [
        "2011-12-28 09:00",
        "2011-12-29 09:00",
        "2011-12-31 09:00",
    ]


def test_a_time_in_an_overlap_is_the_first_of_the_two_once() -> None:
    # 01:30 comes twice in New York on 2026-11-01: 05:30 UTC, and again 06:30 UTC.
    daily = due_utc(
        "2026-10-31 01:30:00",
        {"repeatType": "day"},
        "2026-10-31",
        "2026-11-03",
        NEW_YORK,
    )
    assert daily == ["10-31 05:30", "11-01 05:30", "11-02 06:30"]
    cron = due_utc("2026-10-31 00:00:00", {"repeatType": "custom", "cron": "30 * 1 11 *"}, "2026-11-01", "2026-11-01 03:00:00", NEW_YORK)  # fmt: skip
    assert cron == ["11-01 04:30", "11-01 05:30", "11-01 07:30"]


def test_day_31_is_the_last_of_a_short_month_without_drift() -> None:
    monthly = {"repeatType": "month", "day": [31]}
    span = ("2026-01-01", "2026-06-01")
    assert [d[5:10] for d in due("2026-01-31 09:00:00", monthly, *span)] == [
        "01-31",
        "02-28",
        "03-31",
        "04-30",
        "05-31",
    ]
    skip = {**monthly, "monthEnd": "skip"}
    assert [d[5:10] for d in due("2026-01-31 09:00:00", skip, *span)] == [
        "01-31",
        "03-31",
        "05-31",
    ]
    # Where `day` is absent it is the start's own; 30 and -1 meet in April and are one.
    assert [
        d[5:10] for d in due("2026-01-31 09:00:00", {"repeatType": "month"}, *span)
    ][1] == "02-28"
    both = {"repeatType": "month", "day": [30, -1]}
    assert [d[5:10] for d in due("2026-03-01 09:00:00", both, *span)] == [
        "03-30",
        "03-31",
        "04-30",
        "05-30",
        "05-31",
    ]


def test_february_29_is_february_28_in_a_common_year() -> None:
    yearly = {"repeatType": "year"}
    span = ("2025-01-01", "2029-01-01")
    found = due("2024-02-29 09:00:00", yearly, *span)
    assert [d[:10] for d in found] == [
        "2025-02-28",
        "2026-02-28",
        "2027-02-28",
        "2028-02-29",
    ]
    assert [
        d[:10]
        for d in due("2024-02-29 09:00:00", {**yearly, "monthEnd": "skip"}, *span)
    ] == ["2028-02-29"]


def test_a_fifth_monday_that_is_missing_is_left_out_and_minus_one_is_the_last() -> None:
    # Mondays of 2026: January 5 12 19 26, February 2 9 16 23, March 2 9 16 23 30, ..., June 1 8 15 22 29.
    fifth = {"repeatType": "month", "week": 5, "weekday": [1]}
    assert [
        d[5:10] for d in due("2026-01-01 09:00:00", fifth, "2026-01-01", "2026-07-01")
    ] == ["03-30", "06-29"]
    last = {"repeatType": "month", "subType": "week", "week": -1, "weekday": 1}
    assert [
        d[5:10] for d in due("2026-01-01 09:00:00", last, "2026-01-01", "2026-04-01")
    ] == [
        "01-26",
        "02-23",
        "03-30",
    ]


def test_several_weeks_of_a_month_are_each_an_occurrence() -> None:
    # Mondays of 2026: January 5 12 19 26, February 2 9 16 23, March 2 9 16 23 30.
    both = {"repeatType": "month", "week": [3, 1], "weekday": [1]}
    span = ("2026-01-01 09:00:00", both, "2026-01-01", "2026-03-01")
    assert [d[5:10] for d in due(*span)] == ["01-05", "01-19", "02-02", "02-16"]
    # In February the fourth Monday is the last, and comes once.
    ends = {"repeatType": "month", "week": [4, -1], "weekday": [1]}
    span = ("2026-02-01 09:00:00", ends, "2026-02-01", "2026-04-01")
    assert [d[5:10] for d in due(*span)] == ["02-23", "03-23", "03-30"]
    yearly = {"repeatType": "year", "month": [1], "week": [1, -1], "weekday": [1, 2]}
    span = ("2026-01-01 09:00:00", yearly, "2026-01-01", "2027-01-01")
    assert [d[5:10] for d in due(*span)] == ["01-05", "01-06", "01-26", "01-27"]


def test_a_start_that_does_not_match_is_no_occurrence() -> None:
    # 2026-01-07 is a Wednesday, the first Monday after it the 12th.
    weekly = {"repeatType": "week", "weekday": [1]}
    assert due("2026-01-07 09:00:00", weekly, "2026-01-01", "2026-01-20") == [
        "2026-01-12 09:00",
        "2026-01-19 09:00",
    ]


def test_start_and_end_are_inclusive() -> None:
    daily = {"repeatType": "day"}
    span = ("2026-01-01", "2026-02-01")
    expected = ["2026-01-05 09:00", "2026-01-06 09:00", "2026-01-07 09:00"]
    assert (
        due("2026-01-05 09:00:00", daily, *span, endTime="2026-01-07 09:00:00")
        == expected
    )
    assert (
        due("2026-01-05 09:00:00", daily, *span, endTime="2026-01-07 08:59:59")
        == expected[:2]
    )
    # A date without a time includes that whole day.
    assert due("2026-01-05 09:00:00", daily, *span, endTime="2026-01-07") == expected


def test_start_and_end_are_walls_for_holiday_moves() -> None:
    # China's National Day holiday 2026: October 1 to 7; the 8th is a working day, September 30 too.
    china = {"skipHoliday": 1, "calendar": "CN", "zone": "Asia/Shanghai"}
    monthly = {"repeatType": "month", "day": [1]}
    past = due(
        "2026-09-01 09:00:00",
        monthly,
        "2026-08-01",
        "2026-10-31",
        **china,
        endTime="2026-10-05",
    )
    assert past == ["2026-09-01 09:00"]  # October 1 would move to the 8th
    daily = {"repeatType": "day"}
    before = due(
        "2026-10-01 09:00:00",
        daily,
        "2026-09-01",
        "2026-10-09",
        **china,
        holidayPolicy="previous",
    )
    assert before == ["2026-10-08 09:00"]  # October 1 to 7 would move to September 30
    timer = Timer(
        {
            "startTime": "2026-10-01 09:00:00",
            "repeat": daily,
            "skipHoliday": 1,
            "holidayPolicy": "previous",
        },
        "CN",
    )
    notes = {
        at.note for at in timer.explain(datetime(2026, 10, 1), datetime(2026, 10, 8))
    }
    assert notes == {"dropped: the holiday move carries it before the start"}


def test_for_normal_repeats_the_start_is_no_wall() -> None:
    once = {"repeatType": "normal"}
    more = {
        "skipHoliday": 1,
        "calendar": "CN",
        "holidayPolicy": "previous",
        "zone": "Asia/Shanghai",
    }
    assert due("2026-10-01 09:00:00", once, "2026-09-01", "2026-10-31", **more) == [
        "2026-09-30 09:00"
    ]


def test_biweekly_counts_from_the_week_of_the_start_monday_first() -> None:
    # Wednesday 2026-01-07: its week's Monday, the 5th, lies before the start; the week after next begins on the 19th.
    biweekly = {"repeatType": "week", "period": 2, "weekday": [1, 3]}
    found = due("2026-01-07 09:00:00", biweekly, "2026-01-01", "2026-02-05")
    assert [d[5:10] for d in found] == ["01-07", "01-19", "01-21", "02-02", "02-04"]
    # Sunday 2026-01-11 belongs to the week of January 5.
    sunday = {"repeatType": "week", "period": 2, "weekday": [1, 7]}
    found = due("2026-01-11 09:00:00", sunday, "2026-01-01", "2026-02-05")
    assert [d[5:10] for d in found] == ["01-11", "01-19", "01-25", "02-02"]


def test_periods_of_months_and_years_count_from_the_month_and_year_of_the_start() -> (
    None
):
    quarterly = {"repeatType": "month", "period": 3, "day": [1]}
    # The start, 2026-01-15, is past the 1st of its month: April is next all the same.
    found = due("2026-01-15 09:00:00", quarterly, "2026-01-01", "2026-11-01")
    assert [d[5:10] for d in found] == ["04-01", "07-01", "10-01"]
    every_other = {"repeatType": "year", "period": 2, "month": [1, 6], "day": 1}
    found = due("2025-03-01 09:00:00", every_other, "2025-01-01", "2029-12-31")
    assert [d[:10] for d in found] == [
        "2025-06-01",
        "2027-01-01",
        "2027-06-01",
        "2029-01-01",
        "2029-06-01",
    ]


def test_what_is_dropped_can_be_asked_for() -> None:
    # National Day 2026, October 1 to 7: the 1st would move to the 8th, past the end; the 31st stands.
    cfg = {
        "startTime": "2026-09-01 09:00:00",
        "repeat": {"repeatType": "month", "day": [1]},
        "skipHoliday": 1,
    }
    series = Timer({**cfg, "endTime": "2026-10-05"}, "CN", "Asia/Shanghai").series()
    assert series is not None
    window = datetime(2026, 9, 1), datetime(2026, 12, 1)
    assert [f"{at.nominal:%m-%d} {at.note}" for at in series.dropped(*window)] == [
        "10-01 dropped: the holiday move carries it past the end"
    ]
    endless = Timer(cfg, "CN", "Asia/Shanghai").series()
    assert endless is not None and list(endless.dropped(*window)) == []
