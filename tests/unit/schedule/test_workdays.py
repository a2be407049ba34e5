"""Working days as a unit: of offsets, of repeats, and by their place in a month; against a walk from day to day."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from day_by_day import Rest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from server_dates import YEAR, fires
from timer_cases import (
    CALENDARS,
    ZONES,
    Moment,
    at_moment,
    day_repeats,
    moments,
    timers,
    workday_offsets,
    workday_repeats,
)
from workday_walk import walk, walked

from jittask_prefect.errors import ConfigError
from jittask_prefect.schedule.calendar import Calendar, CalendarCfg
from jittask_prefect.schedule.prefect_schedules import schedules
from jittask_prefect.schedule.reading import read_timer
from jittask_prefect.schedule.timer import Timer
from jittask_prefect.schedule.words import describe, origin

DAY, TICK = timedelta(1), timedelta(microseconds=1)
Case = tuple[dict[str, Any], dict[str, Any] | None]
SOME_INSTANT = st.integers(0, 2900).map(
    lambda n: datetime(2019, 6, 1, 5, tzinfo=UTC) + timedelta(n)
)
DAYS = st.dates(date(2017, 1, 1), date(2030, 1, 1))
# A column's date has no fold.
TIMES = st.datetimes(datetime(2017, 1, 1), datetime(2030, 1, 1)).map(
    lambda found: found.replace(fold=0)
)
VALUES = st.one_of(
    DAYS,
    TIMES.map(lambda at: at.replace(second=0, microsecond=0)),
    TIMES.map(lambda at: at.replace(microsecond=0, tzinfo=UTC)),
)
relaxed = settings(
    max_examples=75, deadline=None, suppress_health_check=list(HealthCheck)
)


def shut(year: int) -> list[str]:
    """The ranges of all days from a year to 2100: a range has ten years at most."""
    return [f"{n}-01-01/{min(n + 9, 2100)}-12-31" for n in range(year, 2101, 10)]


# The calendar's working days, numbered


@pytest.mark.parametrize("calendar", CALENDARS, ids=str)
def test_the_nth_working_day_is_that_of_the_walk(calendar: Any) -> None:
    workdays = Calendar(CalendarCfg.read(calendar or {}, "calendar")).workdays
    rest = Rest({}, calendar)
    for start in range(0, 3000, 17):
        day = date(2018, 1, 1) + timedelta(start)
        for n in (1, 2, 3, 10, -1, -2, -3, -10):
            found = workdays.nth(day, n)
            assert found == walked(rest, day, n)
            assert found is not None and workdays.between(day, found) == n
        assert workdays.works(day) == rest.works(day)
        assert workdays.nth(day, 0) == day and workdays.between(day, day) == 0


@pytest.mark.parametrize("n", [1, -1, 3, -3, 500, -500, 10_000, -10_000])
@pytest.mark.parametrize(
    "day",
    [date(1949, 12, 1), date(1800, 1, 1), date(2101, 2, 3), date(2600, 5, 5), date(2026, 11, 30)],
)  # fmt: skip
def test_beyond_the_table_the_week_goes_on(day: date, n: int) -> None:
    workdays = Calendar(CalendarCfg()).workdays
    at, left = day, abs(n)
    while left:
        at += DAY if n > 0 else -DAY
        left -= at.weekday() < 5
    found = workdays.nth(day, n)
    assert found == at
    # Each day of the run leads to that working day, and its neighbours do not.
    first, last = workdays.sources(workdays.number(at.toordinal()), n)
    assert first is not None and last is not None and first <= day <= last
    ends = [workdays.nth(each, n) for each in (first - DAY, first, last, last + DAY)]
    assert ends[1] == ends[2] == at and ends[0] != at != ends[3]


def test_no_working_day_any_more() -> None:
    calendar = Calendar(CalendarCfg.read({"closed": shut(2026)}, "c"))
    workdays = calendar.workdays
    assert workdays.nth(date(2025, 12, 30), 1) == date(2025, 12, 31)
    assert workdays.nth(date(2025, 12, 31), 1) == date(2101, 1, 3)  # a Monday
    assert workdays.nth(date.max, 1) is None and workdays.nth(date.min, -1) is None


# Rows


def made(case: Any, calendar: Any) -> Timer:
    try:
        return Timer(case, calendar)
    except ConfigError:
        assume(False)
        raise


@relaxed
@given(
    VALUES, workday_offsets(), st.sampled_from(CALENDARS), st.sampled_from(ZONES),
    st.one_of(st.just({"repeatType": "normal"}), day_repeats(), workday_repeats()),
    st.sampled_from([{}, {"skipHoliday": 1}, {"workdaysOnly": 1}, {"skipHoliday": 1, "workdaysOnly": 1}]),
    st.sampled_from(["next", "previous", "nearest", "skip"]), st.integers(0, 500),
)  # fmt: skip
def test_rows_with_an_offset_are_those_of_the_walk(
    value: Any, offset: Any, calendar: Any, zone: str, repeat: Any, keep: Any, policy: str, later: int
) -> None:  # fmt: skip
    cfg = {
        "startField": "at",
        "startOffset": offset,
        "repeat": repeat,
        "timezone": zone,
        **keep,
    }
    if keep:
        cfg["holidayPolicy"] = policy
    assume(not keep.get("skipHoliday") or calendar is not None)
    series = made(cfg, calendar).series(value)
    assert series is not None
    day = value.date() if isinstance(value, datetime) else value
    after = datetime.combine(day, time(), UTC) + timedelta(later) - 450 * DAY
    before = after + 500 * DAY
    found = [each.due.astimezone(UTC) for each in series.between(after, before)]
    assert found == walk(cfg, calendar, after, before, value)


@relaxed
@given(
    VALUES, VALUES, workday_offsets(), st.sampled_from(CALENDARS), st.sampled_from(ZONES),
    st.one_of(day_repeats(), workday_repeats()),
)  # fmt: skip
def test_ends_in_working_days_are_those_of_the_walk(
    value: Any, end: Any, offset: Any, calendar: Any, zone: str, repeat: Any
) -> None:
    cfg = {"startField": "at", "repeat": repeat, "timezone": zone, "endTimeType": 2, "endField": "end",
           "endOffset": offset}  # fmt: skip
    series = made(cfg, calendar).series(value, end)
    assert series is not None
    day = value.date() if isinstance(value, datetime) else value
    after = datetime.combine(day, time(), UTC) - 3 * DAY
    found = [
        each.due.astimezone(UTC) for each in series.between(after, after + 400 * DAY)
    ]
    assert found == walk(cfg, calendar, after, after + 400 * DAY, value, end)


@relaxed
@given(
    st.lists(VALUES, min_size=1, max_size=8), workday_offsets(), st.sampled_from(CALENDARS), st.sampled_from(ZONES),
    st.one_of(st.just({"repeatType": "normal"}), day_repeats(), workday_repeats()), st.booleans(), st.integers(0, 3),
)  # fmt: skip
def test_reach_leaves_no_row_out(
    values: Any,
    offset: Any,
    calendar: Any,
    zone: str,
    repeat: Any,
    moves: bool,
    later: int,
) -> None:
    cfg = {
        "startField": "at",
        "startOffset": offset,
        "repeat": repeat,
        "timezone": zone,
    }
    if moves and calendar is not None:
        cfg |= {"skipHoliday": 1, "workdaysOnly": 1}
    timer = made(cfg, calendar)
    for value in values:
        series = timer.series(value)
        assert series is not None
        found = series.next(datetime(1990, 1, 1))
        for _ in range(later if found else 0):
            found = series.next(found.due) or found  # type: ignore[union-attr]
        if found is None:
            continue
        whole = not isinstance(value, datetime)
        wall = datetime.combine(value, time()) if whole else value
        if wall.tzinfo is not None:
            wall = wall.astimezone(timer.zone).replace(tzinfo=None, fold=0)
        for before, after in (
            (timedelta(), TICK),
            (timedelta(hours=1),) * 2,
            (40 * DAY, DAY),
        ):
            asked = timer.reach(found.due - before, found.due + after, whole_days=whole)
            assert any(
                (low or wall) <= wall <= (high or wall) for low, high in asked.spans
            )
            on = {(wall.month, wall.day), (0, wall.day), (wall.month, 0)}
            assert asked.days is None or not asked.days.isdisjoint(on)


@pytest.mark.parametrize("calendar", [None, "CN", "DE-BY", "SA"])
@pytest.mark.parametrize("n", [-3, -1, 1, 3, 10])
@pytest.mark.parametrize("clock", [None, "09:00"])
def test_reach_of_single_dates_asks_for_the_due_days_only(
    calendar: Any, n: int, clock: str | None
) -> None:
    # The day's rows by the hour, for a year: those that reach names are those that are due, no row more.
    offset = {
        "offsetType": 1 if n > 0 else -1,
        "offset": abs(n),
        "offsetUnit": "workday",
    }
    cfg: Any = {
        "startField": "at",
        "startOffset": {**offset, **({"time": clock} if clock else {})},
    }
    timer, zone = Timer(cfg, calendar, "Asia/Shanghai"), ZoneInfo("Asia/Shanghai")
    after = datetime(2026, 2, 12, 8, 30, tzinfo=zone)  # before China's spring festival
    hours = [datetime(2026, 1, 1) + timedelta(hours=each) for each in range(24 * 90)]
    dues = timer.next_times(hours, after - TICK)
    for days in (1, 3, 9, 20):
        before = after + timedelta(days)
        spans = timer.reach(after, before).spans
        asked = {
            at
            for at in hours
            if any((low or at) <= at <= (high or at) for low, high in spans)
        }
        due = {
            at
            for at, when in zip(hours, dues, strict=True)
            if when is not None and when < before
        }
        assert asked == due


@relaxed
@given(
    st.lists(st.one_of(st.none(), VALUES), max_size=40), workday_offsets(), st.sampled_from(CALENDARS),
    st.sampled_from(ZONES), st.one_of(st.just({"repeatType": "normal"}), day_repeats(), workday_repeats()),
    st.booleans(), SOME_INSTANT,
)  # fmt: skip
def test_many_rows_at_once_get_the_answers_of_each_alone(
    values: Any,
    offset: Any,
    calendar: Any,
    zone: str,
    repeat: Any,
    keep: bool,
    now: datetime,
) -> None:
    cfg = {
        "startField": "at",
        "startOffset": offset,
        "repeat": repeat,
        "timezone": zone,
    }
    cfg |= {"workdaysOnly": 1} if keep else {}
    timer = made(cfg, calendar)
    alone = []
    for value in values:
        series = timer.series(value)
        found = series.next(now) if series else None
        alone.append(found and found.due.astimezone(UTC))
    assert [at and at.astimezone(UTC) for at in timer.next_times(values, now)] == alone


# Scheduled tasks


@relaxed
@given(timers(workday_repeats()), SOME_INSTANT, st.integers(1, 400))
def test_repeats_are_those_of_the_walk(case: Case, after: datetime, days: int) -> None:
    before = after + timedelta(days)
    found = [at.astimezone(UTC) for at in made(*case).occurrences(after, before)]
    assert found == walk(*case, after, before)


@relaxed
@given(timers(workday_repeats()), SOME_INSTANT)
def test_explain_next_and_windows_agree(case: Case, after: datetime) -> None:
    timer, end = made(*case), after + 200 * DAY
    due = list(timer.occurrences(after, end))
    told = [at.due for at in timer.explain(after, end) if at.due is not None]
    assert [at for at in told if after <= at < end] == due
    assert all(at.due == at.nominal for at in timer.explain(after, end) if at.due)
    middle = after + 77 * DAY
    assert [*timer.occurrences(after, middle), *timer.occurrences(middle, end)] == due
    if due:
        assert timer.nextTime(after - TICK) == due[0]
    again = Timer(timer.cfg.dump(), case[1])
    assert again.cfg == timer.cfg


@settings(relaxed, max_examples=40)
@given(timers(workday_repeats()), st.integers(0, 2900), moments())
def test_the_server_makes_the_same_of_it(case: Case, days: int, moment: Moment) -> None:
    now = at_moment(case, datetime(2019, 6, 1, tzinfo=UTC) + timedelta(days), moment)
    timer = made(*case)
    slots = schedules(timer, now)
    fired = [
        at for slot in slots if slot["active"] for at in fires(slot, now, now + YEAR)
    ]
    assert sorted(fired) == [
        at.astimezone(UTC) for at in timer.occurrences(now, now + YEAR)
    ]


@pytest.mark.parametrize("repeat", [
    {"repeatType": "workday"}, {"repeatType": "workday", "period": 3}, {"repeatType": "month", "workday": -1},
    {"repeatType": "year", "month": [3, 9], "workday": [1, -1]},
], ids=str)  # fmt: skip
def test_a_renewal_that_does_not_come_is_not_silence(repeat: Any) -> None:
    timer = Timer(
        {"startTime": "2020-01-01 09:00:00", "repeat": repeat}, "DE-BY", "Europe/Berlin"
    )
    now = datetime(2026, 9, 20, 13, 7, tzinfo=UTC)
    late = now + timedelta(600)
    active = [slot for slot in schedules(timer, now) if slot["active"]]
    assert any(at for slot in active for at in fires(slot, late, late + timedelta(400)))


# Fixed dates


BAVARIA = {
    "startField": "ends",
    "startOffset": {
        "offsetType": -1,
        "offset": 3,
        "offsetUnit": "workday",
        "time": "09:00",
    },
}


def due_of(
    cfg: Any, value: date, calendar: Any = "DE-BY", zone: str = "Europe/Berlin"
) -> list[str]:
    series = Timer(cfg, calendar, zone).series(value)
    assert series is not None
    return [
        f"{each.due:%Y-%m-%d %H:%M}"
        for each in series.between(datetime(2000, 1, 1), datetime(2030, 1, 1))
    ]


@pytest.mark.parametrize(
    ("ends", "due"),
    [
        (date(2026, 11, 30), "2026-11-25"),  # a Monday: Friday, Thursday, Wednesday
        (date(2026, 11, 29), "2026-11-25"),  # the Sunday before: the same three
        (
            date(2026, 12, 28),
            "2026-12-22",
        ),  # Christmas Day is a Friday: the 24th, 23rd, 22nd
        (
            date(2026, 1, 7),
            "2025-12-31",
        ),  # the 5th, the 2nd; Epiphany and New Year's Day are holidays
    ],
)
def test_three_working_days_before_in_bavaria(ends: date, due: str) -> None:
    assert due_of(BAVARIA, ends) == [f"{due} 09:00"]


def test_make_up_days_count() -> None:
    after = {
        "startField": "at",
        "startOffset": {"offsetType": 1, "offset": 1, "offsetUnit": "workdays"},
    }
    # The National Day of 2025: 1 to 8 October are off, Saturday 11 October is worked.
    assert due_of(after, date(2025, 9, 30), "CN", "Asia/Shanghai") == [
        "2025-10-09 00:00"
    ]
    assert due_of(after, date(2025, 10, 10), "CN", "Asia/Shanghai") == [
        "2025-10-11 00:00"
    ]
    assert due_of(after, datetime(2025, 10, 11, 8, 30), "CN", "Asia/Shanghai") == [
        "2025-10-13 08:30"
    ]
    # Friday and Saturday are the weekend in Saudi Arabia.
    assert due_of(after, date(2026, 11, 26), "SA", "Asia/Riyadh") == [
        "2026-11-29 00:00"
    ]
    # Without a calendar: Monday to Friday.
    assert due_of(after, date(2026, 12, 24), None, "UTC") == ["2026-12-25 00:00"]


def test_a_plain_repeat_that_follows_meets_holidays() -> None:
    cfg = {
        **BAVARIA,
        "repeat": {"repeatType": "month"},
        "endTimeType": 1,
        "endTime": "2027-04-30",
        "skipHoliday": 1,
    }
    # Three working days before 6 January 2027 (a Wednesday, and Epiphany): 5, 4 and New Year's Eve. Monthly from the
    # 31st: 31 January is a Sunday, which is no holiday; 31 March; and 30 April for the 31st that April has not.
    assert due_of(cfg, date(2027, 1, 6)) == [
        "2026-12-31 09:00",
        "2027-01-31 09:00",
        "2027-02-28 09:00",
        "2027-03-31 09:00",
        "2027-04-30 09:00",
    ]
    weekly = {
        **BAVARIA,
        "repeat": {"repeatType": "week"},
        "endTimeType": 1,
        "endTime": "2027-01-03",
        "skipHoliday": 1,
    }
    # 18 December, a Friday; a week on Christmas Day, which moves to Monday the 28th; then New Year's Day, to the 4th: over.
    assert due_of(weekly, date(2026, 12, 23)) == [
        "2026-12-18 09:00",
        "2026-12-28 09:00",
    ]


def test_places_of_a_month() -> None:
    def due(repeat: Any, **more: Any) -> list[str]:
        timer = Timer(
            {"startTime": "2026-12-01 18:00:00", "repeat": repeat, **more},
            "DE-BY",
            "Europe/Berlin",
        )
        return [
            f"{at:%m-%d}"
            for at in timer.occurrences(datetime(2026, 12, 1), datetime(2027, 7, 1))
        ]

    # 1 January is a holiday; 31 January and 28 February are Sundays; 1 May is a Saturday.
    first = due({"repeatType": "month", "workday": 1})
    assert first == ["12-01", "01-04", "02-01", "03-01", "04-01", "05-03", "06-01"]
    last = due({"repeatType": "month", "workday": -1, "period": 2})
    assert last == ["12-31", "02-26", "04-30", "06-30"]
    # Good Friday and Easter Monday lie in March, three holidays on weekdays in May.
    assert due({"repeatType": "month", "workday": 22}) == ["12-31", "04-30", "06-30"]
    # The policy has nothing to move.
    keep = {"skipHoliday": 1, "workdaysOnly": 1, "holidayPolicy": "previous"}
    assert due({"repeatType": "month", "workday": 1}, **keep) == first
    assert due({"repeatType": "year", "month": [3, 5], "workday": [2, -1]}) == [
        "03-02",
        "03-31",
        "05-04",
        "05-31",
    ]


def test_every_third_working_day() -> None:
    repeat = {"repeatType": "workday", "period": 3}
    cfg = {
        "startTime": "2026-12-19 08:00:00",
        "repeat": repeat,
        "endTime": "2027-01-12",
    }
    # The start is a Saturday: the first is Monday the 21st; 25 December, 1 and 6 January are holidays.
    found = [
        f"{at:%m-%d}"
        for at in Timer(cfg, "DE-BY", "Europe/Berlin").occurrences(
            datetime(2026, 12, 1), datetime(2028, 1, 1)
        )
    ]
    assert found == ["12-21", "12-24", "12-30", "01-05", "01-11"]


def test_clocks_that_change_on_the_day() -> None:
    after = {
        "startField": "at",
        "startOffset": {
            "offsetType": 1,
            "offset": 1,
            "offsetUnit": "workday",
            "time": "02:30",
        },
    }
    # Sunday 29 March 2026 loses 02:30 in Berlin; a calendar that works on Sundays lands there.
    open_day = {"open": ["2026-03-29", "2026-10-25"]}
    series = Timer(after, open_day, "Europe/Berlin").series(date(2026, 3, 28))
    assert (
        series is not None
        and series.next(datetime(2026, 1, 1)).due.isoformat()
        == "2026-03-29T03:30:00+02:00"
    )  # type: ignore[union-attr]
    twice = Timer(after, open_day, "Europe/Berlin").series(date(2026, 10, 24))
    assert (
        twice is not None
        and twice.next(datetime(2026, 1, 1)).due.isoformat()
        == "2026-10-25T02:30:00+02:00"
    )  # type: ignore[union-attr]


# Hostile input


@pytest.mark.parametrize("n", [10_000, 3_000_000])
def test_many_working_days_are_no_loop(n: int) -> None:
    for sign in (-1, 1):
        cfg = {
            "startField": "at",
            "startOffset": {"offsetType": sign, "offset": n, "offsetUnit": "workday"},
        }
        timer = Timer(cfg, "DE-BY", "Europe/Berlin")
        series = timer.series(date(2026, 11, 30))
        assert series is not None
        found = series.next(datetime(1, 1, 3))
        if n == 3_000_000:
            assert found is None  # beyond the calendar
        else:
            # 52 weeks have 260 days of the week and ten to twelve holidays on these: 38 to 41 years.
            assert (
                found is not None
                and 38 < abs((found.due.date() - date(2026, 11, 30)).days) / 365.25 < 41
            )
        assert timer.next_times([date(2026, 11, 30)], datetime(1, 1, 3)) == [
            found and found.due
        ]
        timer.reach(datetime(2026, 1, 1), datetime(2026, 1, 2))


def test_zero_and_negative_numbers() -> None:
    def offset(**keys: Any) -> Any:
        return read_timer(
            {"startField": "at", "startOffset": {"offsetUnit": "workday", **keys}},
            rows=True,
        ).start_offset

    # The older form has the sign in the number; no working day is the day itself, whatever its unit.
    assert offset(offsetType=1, offset=-3).dump() == {
        "offsetType": -1,
        "offset": 3,
        "offsetUnit": "workday",
    }
    assert offset(offsetType=1, offset=0).dump() == {"offsetType": 0}
    for keys, key, allowed in (
        ({"offsetType": -1, "offset": -3}, "startOffset.offset", "0 or more"),
        ({"offsetType": 1, "offset": 1.5}, "startOffset.offset", "a whole number"),
        (
            {"offsetType": 1, "offset": 900_000_000},
            "startOffset.offset",
            "less than 9,999 years",
        ),
    ):
        with pytest.raises(ConfigError) as caught:
            offset(**keys)
        [problem] = caught.value.problems
        assert problem.key == f"timerCfg.{key}" and allowed in problem.allowed


def test_a_year_without_a_working_day() -> None:
    closed = {"closed": ["2027-01-01/2027-12-31"]}
    after = {
        "startField": "at",
        "startOffset": {"offsetType": 1, "offset": 2, "offsetUnit": "workday"},
    }
    assert due_of(after, date(2026, 12, 30), closed) == [
        "2028-01-03 00:00"
    ]  # 31 December, then a Monday
    timer = Timer(after, closed, "UTC")
    spans = timer.reach(datetime(2028, 1, 3), datetime(2028, 1, 4)).spans
    assert spans == (
        (datetime(2026, 12, 30), datetime.combine(date(2026, 12, 30), time.max)),
    )
    long = timer.reach(datetime(2028, 1, 4), datetime(2028, 1, 5)).spans
    assert long == (
        (datetime(2026, 12, 31), datetime.combine(date(2028, 1, 2), time.max)),
    )
    for repeat in ({"repeatType": "workday"}, {"repeatType": "month", "workday": 1}):
        daily = Timer(
            {"startTime": "2026-12-31 09:00:00", "repeat": repeat}, closed, "UTC"
        )
        first = daily.nextTime(datetime(2026, 12, 31, 10))
        assert first is not None and first.date() == date(2028, 1, 3)
        schedules(daily, datetime(2026, 12, 31, 10, tzinfo=UTC))


def test_shut_until_the_table_ends() -> None:
    closed, now = {"closed": shut(2027)}, datetime(2026, 12, 31, 10, tzinfo=UTC)
    cfg: Any = {"startTime": "2026-12-31 09:00:00", "repeat": {"repeatType": "workday"}}
    first = Timer(cfg, closed, "UTC").nextTime(now)
    assert first is not None and first.date() == date(2101, 1, 3)
    never = Timer(
        {**cfg, "repeat": {"repeatType": "month", "workday": 31}}, closed, "UTC"
    )
    assert never.nextTime(now) is None
    assert not any(slot["active"] for slot in schedules(never, now))


# What is said


@pytest.mark.parametrize(
    ("keys", "key", "allowed"),
    [
        ({"repeatType": "workday", "day": [1]}, "day", "takes period"),
        (
            {"repeatType": "day", "workday": 1},
            "workday",
            "no such key with repeatType day",
        ),
        ({"repeatType": "month", "workday": 0}, "workday", "1 for the first"),
        ({"repeatType": "month", "workday": [1, 40]}, "workday", "1 for the first"),
        ({"repeatType": "month", "workday": True}, "workday", "1 for the first"),
        (
            {"repeatType": "month", "workday": 1, "day": [1]},
            "day",
            "no such key beside workday",
        ),
        (
            {"repeatType": "month", "workday": 1, "subType": "week", "week": 1},
            "week",
            "no such key beside workday",
        ),
        (
            {"repeatType": "year", "workday": 1, "weekday": [1]},
            "weekday",
            "no such key beside workday",
        ),
    ],
)
def test_keys_that_do_not_go_together(keys: Any, key: str, allowed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Timer({"startTime": "2026-01-01 09:00:00", "repeat": keys})
    found = {problem.key: problem.allowed for problem in caught.value.problems}
    assert allowed in found[f"timerCfg.repeat.{key}"]


@pytest.mark.parametrize(
    ("cfg", "expected"),
    [
        ({"repeat": {"repeatType": "workday"}, "skipHoliday": 1},
         "Every working day at 09:00 (UTC); working days are those of DE-BY."),
        ({"repeat": {"repeatType": "workday", "period": 3}},
         "Every 3 working days at 09:00 (UTC), counted from 2026-01-01; working days are those of DE-BY."),
        ({"repeat": {"repeatType": "month", "workday": [1, -1, 7]}},
         "Every month on the first, 7th and last working day at 09:00 (UTC); working days are those of DE-BY."),
        ({"repeat": {"repeatType": "year", "month": 3, "workday": -2}},
         "Every year in March on the second last working day at 09:00 (UTC); working days are those of DE-BY."),
    ],
)  # fmt: skip
def test_a_scheduled_rule_in_words(cfg: Any, expected: str) -> None:
    assert (
        describe(Timer({"startTime": "2026-01-01 09:00:00", **cfg}, "DE-BY"))
        == expected
    )


def test_an_offset_in_words() -> None:
    timer = Timer(BAVARIA, "DE-BY", "Europe/Berlin")
    assert describe(timer) == (
        "3 working days before `ends`, at 09:00 (Europe/Berlin); working days are those of DE-BY."
    )
    assert describe(Timer(BAVARIA)).endswith("; working days are Monday to Friday.")
    assert (
        origin(timer, date(2026, 11, 30))
        == "3 working days before `ends` (2026-11-30), at 09:00"
    )
    monthly = Timer(
        {**BAVARIA, "repeat": {"repeatType": "month"}, "skipHoliday": 1}, "DE-BY"
    )
    assert describe(monthly).endswith(
        "then every month; working days are those of DE-BY; a legal holiday (DE-BY) moves it to the next working day."
    )


def test_a_count_over_the_calendars_reliable_end_says_so() -> None:
    calendar = Calendar(CalendarCfg(country="CN"))
    known = calendar.reliable_until
    assert known is not None and (known.month, known.day) == (12, 31)
    timer = Timer(
        {
            "startField": "at",
            "startOffset": {"offsetType": -1, "offset": 9, "offsetUnit": "workday"},
        },
        calendar,
        "Asia/Shanghai",
    )

    def notes(value: date) -> set[str]:
        series = timer.series(value)
        assert series is not None
        return {
            each.note
            for each in series.explain(datetime(2000, 1, 1), datetime(2060, 1, 1))
        }

    assert notes(known - 30 * DAY) == {""}
    assert notes(known + 5 * DAY) == {
        f"working days are counted beyond {known}, where holidays are not published"
    }
    assert notes(known + 90 * DAY) == {f"holidays are not published beyond {known}"}


@pytest.mark.parametrize("day", [date.min, date(1, 1, 3), date(9999, 12, 29), date.max])
@pytest.mark.parametrize("n", [-4, -3, -2, -1, 1, 2, 3, 4])
def test_days_that_lead_to_a_day_at_the_calendars_ends(day: date, n: int) -> None:
    """Found by asking each day around: those that lead there lie in the run, and no ordinal leaves the calendar."""
    numbers = Timer({"startField": "day", "calendar": "DE"}).moves.calendar.workdays
    number = numbers.number(day.toordinal())
    first, last = numbers.sources(number, n)
    around = range(
        max(1, day.toordinal() - 12),
        min(date.max.toordinal(), day.toordinal() + 12) + 1,
    )
    for each in map(date.fromordinal, around):
        if numbers.nth(each, n) == numbers.day(number) is not None:
            assert (first or date.min) <= each <= (last or date.max)
