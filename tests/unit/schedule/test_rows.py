"""The due times of rows: field ± offset, at `time`, then the repeat up to the end, then the holiday rule."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from jittask_prefect.errors import ArgumentError
from jittask_prefect.schedule.series import Series
from jittask_prefect.schedule.timer import Timer

BEGIN, END = datetime(2000, 1, 1), datetime(2100, 1, 1)


def series(
    start: Any,
    end: Any = None,
    calendar: Any = None,
    zone: str = "Asia/Shanghai",
    **cfg: Any,
) -> Series:
    timer = Timer({"startField": "due", "timezone": zone, **cfg}, calendar)
    found = timer.series(start, end)
    assert found is not None
    return found


def dues(*args: Any, **more: Any) -> list[str]:
    return [
        f"{at.due:%Y-%m-%d %H:%M}" for at in series(*args, **more).between(BEGIN, END)
    ]


def before(number: int, unit: str, **more: Any) -> dict[str, Any]:
    return {"offsetType": -1, "offset": number, "offsetUnit": unit, **more}


def after(number: int, unit: str, **more: Any) -> dict[str, Any]:
    return {"offsetType": 1, "offset": number, "offsetUnit": unit, **more}


def test_a_date_without_a_time_is_due_at_midnight_of_the_tasks_zone() -> None:
    found = series(date(2026, 3, 5))
    assert [at.due for at in found.between(BEGIN, END)] == [
        datetime(2026, 3, 4, 16, tzinfo=UTC)
    ]
    assert found.anchor.isoformat() == "2026-03-05T00:00:00+08:00"


def test_a_naive_datetime_is_local_and_an_aware_one_is_itself() -> None:
    assert dues(datetime(2026, 3, 5, 9)) == ["2026-03-05 09:00"]
    assert dues(datetime(2026, 3, 5, 9, tzinfo=UTC)) == ["2026-03-05 17:00"]
    # The second 01:30 of 2026-11-01 in New York, 06:30 UTC, stays the second.
    second = datetime(2026, 11, 1, 6, 30, tzinfo=UTC)
    (found,) = series(second, zone="America/New_York").between(BEGIN, END)
    assert (
        found.due.astimezone(UTC) == second and found.nominal.astimezone(UTC) == second
    )


def test_without_a_start_there_is_no_series() -> None:
    assert Timer({"startField": "due"}).series(None) is None


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        (before(7, "day", time="09:00"), "2026-03-24 09:00"),
        (before(7, "days"), "2026-03-24 15:30"),
        (after(1, "week"), "2026-04-07 15:30"),
        (before(1, "month"), "2026-02-28 15:30"),  # no February 31: its last day
        (after(1, "year", time="00:00"), "2027-03-31 00:00"),
        (before(90, "minute"), "2026-03-31 14:00"),
        (after(36, "hours"), "2026-04-02 03:30"),
        (before(30, "second"), "2026-03-31 15:29"),
        ({"offsetType": 0}, "2026-03-31 15:30"),
        (
            {"offsetType": 0, "offset": 0, "offsetUnit": "day", "time": "08:15"},
            "2026-03-31 08:15",
        ),
        (
            {"offsetType": 1, "offset": -7, "offsetUnit": "day", "time": "09:00"},
            "2026-03-24 09:00",
        ),  # the older form
    ],
)
def test_offsets(offset: dict[str, Any], expected: str) -> None:
    assert dues(datetime(2026, 3, 31, 15, 30), startOffset=offset) == [expected]


def test_days_are_days_of_the_wall_clock_and_hours_are_elapsed() -> None:
    # New York: clocks forward on 2026-03-08.
    at = datetime(2026, 3, 9, 9)
    assert dues(at, zone="America/New_York", startOffset=before(2, "day")) == [
        "2026-03-07 09:00"
    ]
    assert dues(at, zone="America/New_York", startOffset=before(48, "hour")) == [
        "2026-03-07 08:00"
    ]


def test_an_aware_value_is_brought_to_the_tasks_zone_before_days_are_counted() -> None:
    # 2026-03-05 20:00 UTC is March 6 in Shanghai.
    assert dues(
        datetime(2026, 3, 5, 20, tzinfo=UTC), startOffset=before(1, "day", time="09:00")
    ) == ["2026-03-05 09:00"]


def test_repeats_go_on_from_the_due_time_up_to_the_end() -> None:
    weekly = {"repeatType": "week"}
    # Thursday, March 5, 2026, and every Thursday until the end.
    expected = ["2026-03-05 09:00", "2026-03-12 09:00", "2026-03-19 09:00"]
    at = {"startOffset": {"offsetType": 0, "time": "09:00"}, "repeat": weekly}
    assert (
        dues(date(2026, 3, 5), endTimeType=1, endTime="2026-03-19 09:00:00", **at)
        == expected
    )
    assert dues(date(2026, 3, 5), endTimeType=1, endTime="2026-03-19", **at) == expected
    assert (
        dues(date(2026, 3, 5), endTimeType=1, endTime="2026-03-19 08:59:59", **at)
        == expected[:2]
    )


def test_the_end_of_a_row() -> None:
    cfg = {
        "repeat": {"repeatType": "day"},
        "startOffset": {"offsetType": 0, "time": "09:00"},
    }
    ends = {"endTimeType": 2, "endField": "until"}
    # A date includes its whole day, with or without days of offset; with a time of its own it ends then.
    assert len(dues(date(2026, 3, 5), date(2026, 3, 7), **cfg, **ends)) == 3
    assert (
        len(
            dues(
                date(2026, 3, 5),
                date(2026, 3, 7),
                endOffset=after(2, "day"),
                **cfg,
                **ends,
            )
        )
        == 5
    )
    early = {"offsetType": 0, "time": "08:00"}
    assert (
        len(dues(date(2026, 3, 5), date(2026, 3, 7), endOffset=early, **cfg, **ends))
        == 2
    )
    assert (
        len(
            dues(
                date(2026, 3, 5),
                date(2026, 3, 7),
                endOffset=before(1, "hour"),
                **cfg,
                **ends,
            )
        )
        == 2
    )
    assert len(dues(date(2026, 3, 5), datetime(2026, 3, 7, 8), **cfg, **ends)) == 2
    assert len(dues(date(2026, 3, 5), datetime(2026, 3, 7, 9), **cfg, **ends)) == 3
    assert dues(date(2026, 3, 5), date(2026, 3, 4), **cfg, **ends) == []
    # A row without an end goes on.
    assert (
        series(date(2026, 3, 5), None, **cfg, **ends).next(datetime(2040, 1, 1, 10))
        is not None
    )


@pytest.mark.parametrize(
    ("repeat", "expected"),
    [
        (
            {"repeatType": "hour", "period": 5},
            ["03-05 09:00", "03-05 14:00", "03-05 19:00"],
        ),
        ({"repeatType": "month"}, ["03-05 09:00", "04-05 09:00", "05-05 09:00"]),
        (
            {"repeatType": "year", "period": 2},
            ["03-05 09:00", "03-05 09:00", "03-05 09:00"],
        ),
        (
            {"repeatType": "custom", "cron": "0 8 * * *"},
            ["03-06 08:00", "03-07 08:00", "03-08 08:00"],
        ),
        (
            {"repeatType": "custom", "rrule": "FREQ=DAILY;INTERVAL=2"},
            ["03-05 09:00", "03-07 09:00", "03-09 09:00"],
        ),
        (
            {"repeatType": "custom", "dates": ["2026-03-01", "2026-04-01"]},
            ["04-01 09:00"],
        ),
    ],
)
def test_rows_take_every_repeat(repeat: dict[str, Any], expected: list[str]) -> None:
    found = series(datetime(2026, 3, 5, 9), repeat=repeat).between(BEGIN, END)
    assert [
        f"{at.due:%m-%d %H:%M}" for at, _ in zip(found, range(3), strict=False)
    ] == expected


def test_the_start_of_a_row_is_no_wall() -> None:
    # China 2026: October 1 to 7 are off, September 30 is worked.
    cfg = {"skipHoliday": 1, "holidayPolicy": "previous"}
    (found,) = series(datetime(2026, 10, 1, 9), calendar="CN", **cfg).between(
        BEGIN, END
    )
    assert (
        f"{found.due:%m-%d}" == "09-30"
        and f"{found.nominal:%m-%d}" == "10-01"
        and found.moved == "National Day"
    )
    repeats = dues(
        datetime(2026, 10, 1, 9),
        calendar="CN",
        repeat={"repeatType": "day"},
        endTime="2026-10-08",
        **cfg,
    )
    assert repeats == ["2026-09-30 09:00", "2026-10-08 09:00"]


@pytest.mark.parametrize(
    "value",
    [date.min, date.max, datetime.min, datetime.max, datetime.max.replace(tzinfo=UTC)],
)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/New_York"])
@pytest.mark.parametrize(
    "repeat",
    [{"repeatType": "normal"}, {"repeatType": "month"}, {"repeatType": "hour"}],
)
def test_dates_that_mean_never_do_not_crash(
    value: Any, zone: str, repeat: dict[str, Any]
) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for offset in (
        {"offsetType": 0},
        before(7, "day"),
        after(1, "month"),
        before(5, "hour"),
    ):
        found = series(
            value, zone=zone, repeat=repeat, startOffset=offset, endTime="2026-02-01"
        )
        if value.year == 9999:
            assert (
                list(found.between(now, now + timedelta(40))) == []
                and found.next(now) is None
            )
        assert list(found.between(datetime.min, datetime(1, 2, 1))) is not None
        assert (
            found.explain(now, now + timedelta(1)) is not None
            and found.anchor.tzinfo is not None
        )
    # An end that means never is no end.
    ends = {"endTimeType": 2, "endField": "until", "repeat": {"repeatType": "day"}}
    if value.year == 9999:
        assert series(date(2026, 1, 1), value, zone=zone, **ends).next(now) is not None
    else:
        assert series(date(2026, 1, 1), value, zone=zone, **ends).next(now) is None


def test_what_has_rows_is_asked_through_series() -> None:
    row = Timer({"startField": "due"})
    with pytest.raises(ArgumentError):
        row.occurrences(BEGIN, END)
    with pytest.raises(ArgumentError):
        row.nextTime(BEGIN)
    with pytest.raises(ArgumentError):
        Timer({"startTime": "2026-01-01 00:00:00"}).series(date(2026, 1, 1))


@pytest.mark.parametrize(
    ("start", "repeat", "offset", "expected"),
    [
        (date(2026, 1, 31), {"repeatType": "month"}, {"offsetType": 0}, ["01-31", "02-28", "03-31", "04-30"]),
        (date(2026, 1, 31), {"repeatType": "month"}, after(1, "month"), ["02-28", "03-31", "04-30", "05-31"]),
        (date(2026, 4, 30), {"repeatType": "month"}, before(2, "month"), ["02-28", "03-30", "04-30", "05-30"]),
        (date(2026, 1, 31), {"repeatType": "month"}, before(1, "day"), ["01-30", "02-28", "03-30", "04-30"]),
        (date(2024, 2, 29), {"repeatType": "year"}, after(1, "year"), ["02-28", "02-28", "02-28", "02-29"]),
        (date(2026, 1, 31), {"repeatType": "month", "day": [15]}, after(1, "month"),
         ["03-15", "04-15", "05-15", "06-15"]),
        (date(2026, 1, 31), {"repeatType": "month", "monthEnd": "skip"}, after(1, "month"),
         ["02-28", "03-28", "04-28", "05-28"]),
    ],
    ids=str,
)  # fmt: skip
def test_the_day_of_the_month_counts_from_the_rows_own_date_without_drift(
    start: date, repeat: dict[str, Any], offset: dict[str, Any], expected: list[str]
) -> None:
    """Where an offset of months meets a shorter month, the row's day stands for it again in the next longer one."""
    timer = Timer({"startField": "due", "startOffset": offset, "repeat": repeat})
    found = timer.series(start)
    assert found is not None
    at, one_by_one = BEGIN.replace(tzinfo=UTC), list[datetime]()
    for _ in expected:
        coming = found.next(at)
        assert coming is not None and timer.next_times([start], at) == [coming.due]
        at = coming.due
        one_by_one.append(at)
        reach = timer.reach(at, at + timedelta(1), whole_days=True)
        wall = datetime.combine(start, datetime.min.time())
        assert any((low or wall) <= wall <= (high or wall) for low, high in reach.spans)
        assert reach.days is None or not reach.days.isdisjoint(
            {(0, start.day), (start.month, start.day)}
        )
    assert [f"{at:%m-%d}" for at in one_by_one] == expected
