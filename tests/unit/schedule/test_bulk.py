"""Many rows at once: each answer is the one that the row gets when it is asked for by itself."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from timer_cases import CALENDARS, ZONES, day_repeats, step_repeats

from jittask_prefect.errors import ArgumentError, ConfigError
from jittask_prefect.schedule.timer import Timer

relaxed = settings(
    max_examples=75, deadline=None, suppress_health_check=list(HealthCheck)
)
OFFSETS: list[dict[str, Any] | None] = [
    None,
    {"offsetType": -1, "offset": 7, "offsetUnit": "day", "time": "09:00"},
    {"offsetType": 1, "offset": 1, "offsetUnit": "month"},
    {"offsetType": -1, "offset": 90, "offsetUnit": "minute"},
    {"offsetType": 0, "time": "02:30"},
]
STARTS = st.lists(
    st.one_of(
        st.none(),
        st.dates(date(1970, 1, 1), date(2040, 1, 1)),
        st.datetimes(datetime(1970, 1, 1), datetime(2040, 1, 1)),
        st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 1)),
        st.datetimes(
            datetime(1990, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)
        ),
        st.sampled_from([date.min, date.max, datetime.min, datetime.max]),
    ),
    max_size=40,
)
# Days on which clocks change somewhere, and days around China's National Day.
NOW = st.one_of(
    st.datetimes(datetime(2019, 1, 1), datetime(2027, 12, 31)),
    st.sampled_from(
        [datetime(2026, 3, 29, 1), datetime(2026, 9, 6, 3, 30), datetime(2026, 10, 4)]
    ),
).map(lambda at: at.replace(tzinfo=UTC))


@relaxed
@given(
    st.one_of(day_repeats(), day_repeats(), step_repeats()),
    st.sampled_from(OFFSETS),
    st.sampled_from(CALENDARS),
    st.sampled_from(ZONES),
    st.sampled_from(["next", "previous", "nearest", "skip"]),
    STARTS,
    NOW,
)
def test_each_answer_is_that_of_the_row_alone(
    repeat: dict[str, Any],
    offset: dict[str, Any] | None,
    calendar: dict[str, Any] | None,
    zone: str,
    policy: str,
    starts: list[Any],
    now: datetime,
) -> None:
    cfg = {
        "startField": "at",
        "repeat": repeat,
        "skipHoliday": int(calendar is not None),
    }
    cfg |= {"holidayPolicy": policy, **({"startOffset": offset} if offset else {})}
    try:
        timer = Timer(cfg, calendar, zone)
    except ConfigError:
        assume(False)
    alone = []
    for start in starts:
        series = timer.series(start)
        found = series.next(now) if series else None
        alone.append(found.due.astimezone(UTC) if found else None)
    assert [at and at.astimezone(UTC) for at in timer.next_times(starts, now)] == alone


def test_answers_are_in_the_tasks_zone_and_in_order() -> None:
    # October 1 to 7, 2026, is National Day in China; Berlin's clocks went forward on 2026-03-29 at 02:00.
    yearly = {"startField": "at", "repeat": {"repeatType": "year"}, "skipHoliday": 1}
    found = Timer(yearly, "CN", "Asia/Shanghai").next_times(
        [datetime(1990, 10, 2, 8, 30), None, date(2001, 10, 9)],
        datetime(2026, 9, 20, tzinfo=UTC),
    )
    assert [at and at.isoformat() for at in found] == [
        "2026-10-08T08:30:00+08:00",
        None,
        "2026-10-09T00:00:00+08:00",
    ]
    monthly = {"startField": "at", "repeat": {"repeatType": "month"}}
    gap = Timer(monthly, None, "Europe/Berlin").next_times(
        [datetime(2020, 1, 29, 2, 30), datetime(2020, 1, 29, 9)],
        datetime(2026, 3, 28, tzinfo=UTC),
    )
    assert [at and at.isoformat() for at in gap] == [
        "2026-03-29T03:30:00+02:00",
        "2026-03-29T09:00:00+02:00",
    ]


def test_ends_belong_to_their_rows() -> None:
    cfg = {
        "startField": "at", "repeat": {"repeatType": "day"}, "endTimeType": 2, "endField": "until", "timezone": "UTC",
    }  # fmt: skip
    starts = [datetime(2026, 1, 1, 9)] * 3
    ends = [date(2026, 9, 20), date(2026, 9, 21), None]
    found = Timer(cfg).next_times(starts, datetime(2026, 9, 20, 10, tzinfo=UTC), ends)
    assert [at and f"{at:%m-%d %H:%M}" for at in found] == [
        None,
        "09-21 09:00",
        "09-21 09:00",
    ]
    with pytest.raises(ValueError):
        Timer(cfg).next_times(starts, datetime(2026, 9, 20, 10, tzinfo=UTC), ends[:2])


def test_a_scheduled_timer_has_no_rows() -> None:
    timer = Timer({"startTime": "2026-01-01 09:00:00", "repeat": {"repeatType": "day"}})
    with pytest.raises(ArgumentError, match="no rows"):
        timer.next_times(
            [datetime(2026, 1, 1)], datetime(2026, 9, 20, tzinfo=ZoneInfo("UTC"))
        )


def test_a_start_in_1970_is_as_near_as_one_of_last_year() -> None:
    # What is walked through is counted, not timed: the days that the cycle is asked for.
    asked: list[int] = []
    for year in (1970, 2025):
        timer = Timer(
            {
                "startTime": f"{year}-01-31 09:00:00",
                "repeat": {"repeatType": "month"},
                "skipHoliday": 1,
            },
            "CN",
        )
        series = timer.series()
        assert series is not None and series.cycle is not None
        inner, count = series.cycle.wall_times, [0]  # type: ignore[union-attr]

        def wall(
            low: datetime, high: datetime, inner: Any = inner, count: list[int] = count
        ) -> Any:
            for at in inner(low, high):
                count[0] += 1
                yield at

        class Counted:
            sub_daily, last, pace = False, None, timedelta(31)

        counted = Counted()
        counted.wall_times = wall  # type: ignore[attr-defined]
        series.candidates.cycle = counted  # type: ignore[union-attr,assignment]
        found = series.next(datetime(2026, 9, 20, tzinfo=UTC))
        assert found is not None and found.due.date() == date(2026, 9, 30)
        asked.append(count[0])
    assert asked[0] == asked[1]
