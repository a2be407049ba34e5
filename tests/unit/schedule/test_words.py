from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from jittask_prefect.schedule.timer import Timer
from jittask_prefect.schedule.words import describe, origin

START = "2026-01-01 09:00:00"


@pytest.mark.parametrize(
    ("cfg", "expected"),
    [
        (
            {"repeat": {"repeatType": "month", "day": [1]}, "skipHoliday": 1, "calendar": "CN",
             "timezone": "Asia/Shanghai"},
            "Every month on day 1 at 09:00 (Asia/Shanghai); a legal holiday (CN) moves it to the next working day.",
        ),
        ({}, "Once, on 2026-01-01 at 09:00 (UTC)."),
        ({"repeat": {"repeatType": "day"}, "endTime": "2026-12-31"}, "Every day at 09:00 (UTC) until 2026-12-31."),
        (
            {"repeat": {"repeatType": "week", "period": 2, "weekday": [5, 1]}, "workdaysOnly": 1},
            "Every 2 weeks on Monday and Friday at 09:00 (UTC), counted from 2026-01-01; "
            "a weekend moves it to the next working day.",
        ),
        ({"repeat": {"repeatType": "week"}}, "Every week on Thursday at 09:00 (UTC)."),
        (
            {"repeat": {"repeatType": "month", "week": -1, "weekday": 5}, "skipHoliday": 1, "workdaysOnly": 1,
             "holidayPolicy": "previous", "calendar": "US"},
            "Every month on the last Friday at 09:00 (UTC); "
            "a legal holiday (US) or a weekend moves it to the previous working day.",
        ),
        (
            {"repeat": {"repeatType": "month", "week": [-1, 3, 1], "weekday": [1]}},
            "Every month on the first, third and last Monday at 09:00 (UTC).",
        ),
        (
            {"repeat": {"repeatType": "month", "day": [15, 31, -1]}},
            "Every month on days 15 and 31 and the last day (or the month's last) at 09:00 (UTC).",
        ),
        (
            {"repeat": {"repeatType": "year", "month": 2, "day": 29, "monthEnd": "skip"}},
            "Every year in February on day 29 (left out where the month is shorter) at 09:00 (UTC).",
        ),
        (
            {"repeat": {"repeatType": "hour", "period": 6}, "skipHoliday": 1, "calendar": "DE"},
            "Every 6 hours, counted from 2026-01-01 09:00 (UTC); a legal holiday (DE) is left out.",
        ),
        (
            {"repeat": {"repeatType": "custom", "cron": "0 9 * * 1-5"}},
            "By the cron rule `0 9 * * 1-5` (UTC), from 2026-01-01 09:00 on.",
        ),
        ({"repeat": {"repeatType": "custom", "dates": ["2026-03-01"]}},
         "On 2026-03-01 (UTC), from 2026-01-01 09:00 on."),
    ],
)  # fmt: skip
def test_scheduled(cfg: dict[str, Any], expected: str) -> None:
    assert describe(Timer({"startTime": START, **cfg})) == expected


@pytest.mark.parametrize(
    ("cfg", "expected"),
    [
        (
            {"startField": "end_date",
             "startOffset": {"offsetType": -1, "offset": 7, "offsetUnit": "day", "time": "09:00"},
             "endTimeType": 2, "endField": "end_date",
             "endOffset": {"offsetType": 1, "offset": 3, "offsetUnit": "month"},
             "repeat": {"repeatType": "week"}},
            "7 days before `end_date`, at 09:00 (UTC), then every week until 3 months after `end_date`.",
        ),
        ({"startField": "due"}, "At `due` (UTC)."),
        ({"startField": "due", "startOffset": {"offsetType": 0, "time": "08:00"}}, "On `due`, at 08:00 (UTC)."),
        (
            {"startField": "due", "startOffset": {"offsetType": 1, "offset": 1, "offsetUnit": "hour"}, "skipHoliday": 1,
             "calendar": "CN", "holidayPolicy": "skip"},
            "1 hour after `due` (UTC); a legal holiday (CN) is left out.",
        ),
    ],
)  # fmt: skip
def test_rows(cfg: dict[str, Any], expected: str) -> None:
    assert describe(Timer(cfg)) == expected


def test_an_origin_in_a_column_with_a_zone_is_shown_in_the_tasks_zone() -> None:
    """The database gives it in UTC: 01:30 there is 09:30 in Shanghai."""
    offset = {"offsetType": -1, "offset": 7, "offsetUnit": "day"}
    timer = Timer(
        {"startField": "at", "timezone": "Asia/Shanghai", "startOffset": offset}
    )
    assert origin(timer, datetime(2026, 10, 8, 1, 30, tzinfo=UTC)) == (
        "7 days before `at` (2026-10-08 09:30 Asia/Shanghai)"
    )
    assert (
        origin(timer, datetime(2026, 10, 8, 9, 30))
        == "7 days before `at` (2026-10-08 09:30)"
    )
