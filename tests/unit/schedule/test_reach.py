"""Timer + window → the field values that a database is asked for: none too few, for single dates few too many."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from jittask_prefect import Timer
from jittask_prefect.schedule.reach import Reach

HOUR, DAY = timedelta(hours=1), timedelta(1)
OFFSETS = st.builds(
    lambda sign, number, unit, clock: {
        "offsetType": sign, "offset": number, "offsetUnit": unit,
        **({"time": clock} if clock and unit in ("day", "week", "month", "year") else {}),
    },
    st.sampled_from([-1, 1]), st.integers(0, 40), st.sampled_from(["minute", "hour", "day", "week", "month", "year"]),
    st.sampled_from([None, "00:00", "09:00", "23:59"]),
)  # fmt: skip
VALUES = st.one_of(
    st.dates(date(2015, 1, 1), date(2037, 1, 1)),
    st.datetimes(datetime(2015, 1, 1), datetime(2037, 1, 1)),
    st.datetimes(
        datetime(2015, 1, 1),
        datetime(2037, 1, 1),
        timezones=st.just(timezone(timedelta(hours=-11))),
    ),
)
REPEATS: list[dict[str, Any]] = [
    {"repeatType": "week", "period": 2},
    {"repeatType": "week", "weekday": [1, 6]},
    {"repeatType": "day", "period": 3},
    {"repeatType": "hour", "period": 7},
    {"repeatType": "month"},
    {"repeatType": "month", "day": [1, 30, -1]},
    {"repeatType": "month", "monthEnd": "skip"},
    {"repeatType": "month", "week": -1, "weekday": 5},
    {"repeatType": "year"},
    {"repeatType": "year", "monthEnd": "skip", "period": 2},
    {"repeatType": "year", "month": [2, 11]},
    {"repeatType": "year", "day": [29]},
    {"repeatType": "custom", "cron": "15 8 * * 1"},
    {
        "repeatType": "custom",
        "dates": ["2026-02-16", "2027-10-01 08:00:00", "2036-05-05"],
    },
]


def holds(reach: Reach, value: date, zone: Any) -> bool:
    """Whether a row's date is one of those that the database is asked for."""
    if not isinstance(value, datetime):
        wall = datetime(value.year, value.month, value.day)
    else:
        wall = (
            value
            if value.tzinfo is None
            else value.astimezone(zone).replace(tzinfo=None, fold=0)
        )
    on = reach.days is None or not reach.days.isdisjoint(
        {(wall.month, wall.day), (0, wall.day), (wall.month, 0)}
    )
    return on and any(
        (low is None or low <= wall) and (high is None or wall <= high)
        for low, high in reach.spans
    )


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(VALUES, min_size=1, max_size=10),
    OFFSETS,
    st.sampled_from(["next", "previous", "nearest", "skip"]),
    st.sampled_from(["UTC", "Pacific/Apia", "America/Santiago", "Australia/Lord_Howe"]),
    st.sampled_from([{"repeatType": "normal"}, *REPEATS]),
    st.booleans(),
    st.integers(0, 3),
    st.booleans(),
)
@example([date(2024, 2, 29)], {"offsetType": 1, "offset": 0, "offsetUnit": "day"}, "next", "UTC",
         {"repeatType": "year"}, False, 0, False)  # fmt: skip
def test_no_row_is_left_out(
    values: list[Any], offset: dict[str, Any], policy: str, zone: str, repeat: dict[str, Any], ends: bool, later: int,
    moves: bool,
) -> None:  # fmt: skip
    cfg: dict[str, Any] = {
        "startField": "due",
        "startOffset": offset,
        "repeat": repeat,
        "timezone": zone,
    }
    if moves:
        cfg |= {"skipHoliday": 1, "workdaysOnly": 1, "holidayPolicy": policy}
    if ends:
        end = {"offsetType": 1, "offset": 9, "offsetUnit": "month"}
        cfg |= {"endTimeType": 2, "endField": "due", "endOffset": end}
    timer = Timer(cfg, "CN")
    for value in values:
        series = timer.series(value, value if ends else None)
        assert series is not None
        found = series.next(datetime(1990, 1, 1))
        for _ in range(later if found else 0):
            found = series.next(found.due) or found  # type: ignore[union-attr]
        if found is None:
            continue
        whole = not isinstance(value, datetime)
        for before, after in (
            (timedelta(0), timedelta(microseconds=1)),
            (HOUR, HOUR),
            (40 * DAY, DAY),
        ):
            reach = timer.reach(found.due - before, found.due + after, whole_days=whole)
            assert holds(reach, value, timer.zone)
        near = timer.reach(found.due - HOUR, found.due + HOUR, whole_days=whole)
        if repeat["repeatType"] == "normal":
            # Elsewhere than at a holiday a window of two hours is asked for in days, not weeks.
            wide = sum(
                ((high - low) for low, high in near.spans if low and high), timedelta()
            )
            assert wide < 4 * DAY + (20 * DAY if moves else timedelta())
        if near.end is not None and ends:
            at = datetime(value.year, value.month, value.day)
            assert near.end <= at


def asked(
    cfg: dict[str, Any],
    after: str,
    before: str,
    *,
    calendar: Any = None,
    zone: str = "UTC",
    days: bool = False,
) -> Any:
    """The spans of a window as text; with days of the year or month where these are named."""
    timer = Timer({"startField": "due", "timezone": zone, **cfg}, calendar)
    at = [datetime.fromisoformat(t).replace(tzinfo=timer.zone) for t in (after, before)]
    found = timer.reach(*at, whole_days=days)
    spans = [
        (f"{low:%Y-%m-%d %H:%M} " if low else "") + f".. {high:%Y-%m-%d %H:%M:%S}"
        for low, high in found.spans
    ]
    return spans if found.days is None else (spans, sorted(found.days))


WEEK_BEFORE = {
    "startOffset": {"offsetType": -1, "offset": 7, "offsetUnit": "day", "time": "09:00"}
}
NATIONAL = {"closed": ["2026-10-01/2026-10-07"]}


def test_a_single_date() -> None:
    assert asked({}, "2026-03-02 08:00", "2026-03-03 08:00") == [
        "2026-03-02 08:00 .. 2026-03-03 07:59:59"
    ]
    hour = {"startOffset": {"offsetType": -1, "offset": 90, "offsetUnit": "minute"}}
    assert asked(hour, "2026-03-02 08:00", "2026-03-03 08:00") == [
        "2026-03-02 09:30 .. 2026-03-03 09:29:59"
    ]
    month = {"startOffset": {"offsetType": 1, "offset": 1, "offsetUnit": "month"}}
    assert asked(month, "2026-02-28 08:00", "2026-02-28 09:00") == [
        "2026-01-28 00:00 .. 2026-01-31 23:59:59"
    ]
    assert asked(month, "2026-03-15 08:00", "2026-03-15 09:00") == [
        "2026-02-15 08:00 .. 2026-02-15 08:59:59"
    ]


def test_a_clock_time_that_all_rows_share() -> None:
    at_nine = ["2026-03-09 00:00 .. 2026-03-09 23:59:59"]
    assert asked(WEEK_BEFORE, "2026-03-02 08:00", "2026-03-03 08:00") == at_nine
    assert asked(WEEK_BEFORE, "2026-03-02 09:00", "2026-03-02 09:01") == at_nine
    assert asked(WEEK_BEFORE, "2026-03-02 09:01", "2026-03-03 09:00") == []
    assert asked({}, "2026-03-02 08:00", "2026-03-03 08:00", days=True) == [
        "2026-03-03 00:00 .. 2026-03-03 00:00:00"
    ]
    assert (
        asked(
            {"repeat": {"repeatType": "day"}},
            "2026-03-02 08:00",
            "2026-03-02 08:01",
            days=True,
        )
        == []
    )


def test_holidays_widen_it_by_what_they_carry_there() -> None:
    cfg = {"skipHoliday": 1}
    # Thursday 1 to Wednesday 7 October are closed: the first three go to no other day than the 8th
    assert asked(cfg, "2026-10-02 00:00", "2026-10-07 23:00", calendar=NATIONAL) == []
    whole = asked(cfg, "2026-10-08 00:00", "2026-10-09 00:00", calendar=NATIONAL)
    assert whole == ["2026-10-01 00:00 .. 2026-10-08 23:59:59"]
    assert asked(cfg, "2026-10-08 08:00", "2026-10-08 10:00", calendar=NATIONAL) == [
        f"2026-10-0{day} 08:00 .. 2026-10-0{day} 09:59:59" for day in range(1, 9)
    ]
    assert (
        asked(
            {**cfg, "holidayPolicy": "skip"},
            "2026-10-01 00:00",
            "2026-10-08 00:00",
            calendar=NATIONAL,
        )
        == []
    )


@pytest.mark.parametrize(
    ("repeat", "days"),
    [
        ({"repeatType": "year"}, [(3, 2), (3, 3)]),
        ({"repeatType": "month"}, [(0, 2), (0, 3)]),
        ({"repeatType": "year", "month": [3, 9]}, [(0, 2), (0, 3)]),
        ({"repeatType": "year", "day": [3]}, [(3, 0)]),
    ],
)
def test_years_and_months_by_the_day(repeat: dict[str, Any], days: Any) -> None:
    found = asked({"repeat": repeat}, "2026-03-02 08:00", "2026-03-03 08:00")
    assert found == ([".. 2026-03-03 07:59:59"], days)


def test_a_rule_with_days_of_its_own() -> None:
    window = "2026-03-02 08:00", "2026-03-03 08:00"
    assert asked({"repeat": {"repeatType": "month", "day": [4]}}, *window) == []
    assert asked({"repeat": {"repeatType": "week", "weekday": [4]}}, *window) == []
    assert asked({"repeat": {"repeatType": "month", "day": [3]}}, *window) == [
        ".. 2026-03-03 07:59:59"
    ]


def test_the_last_days_of_february() -> None:
    window = "2026-02-28 00:00", "2026-03-01 00:00"
    assert asked({"repeat": {"repeatType": "year"}}, *window)[1] == [
        (2, 28),
        (2, 29),
        (2, 30),
        (2, 31),
    ]
    assert asked({"repeat": {"repeatType": "year", "monthEnd": "skip"}}, *window)[
        1
    ] == [(2, 28)]
    before = {
        "startOffset": {"offsetType": -1, "offset": 3, "offsetUnit": "day"},
        "repeat": {"repeatType": "year"},
    }
    # three days before: 3 March of a common year, 2 March of a leap year, 3 March where the 29th is the start
    assert asked(before, *window)[1] == [(3, 2), (3, 3)]


def test_the_end_of_the_calendar() -> None:
    timer = Timer(
        {
            "startField": "due",
            "startOffset": {"offsetType": 1, "offset": 900, "offsetUnit": "year"},
        }
    )
    assert timer.reach(
        datetime(2, 1, 1, tzinfo=UTC), datetime(9999, 12, 1, tzinfo=UTC)
    ).spans == ((None, None),)
