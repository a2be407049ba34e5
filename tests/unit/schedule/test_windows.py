"""Opening hours: laws against a brute force that lists all openings, and the stated cases by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from timer_cases import (
    CALENDARS,
    ZONES,
    custom_repeats,
    day_repeats,
    step_repeats,
    timers,
    windows,
    workday_offsets,
    workday_repeats,
)
from window_walk import windowed

from jittask_prefect.errors import ConfigError
from jittask_prefect.schedule.timer import Timer
from jittask_prefect.schedule.words import describe

Case = tuple[dict[str, Any], dict[str, Any] | None]
TICK = timedelta(microseconds=1)
SOME_INSTANT = st.integers(0, 2900).map(
    lambda n: datetime(2019, 6, 1, 5, tzinfo=UTC) + timedelta(n)
)
relaxed = settings(
    max_examples=60, deadline=None, suppress_health_check=list(HealthCheck)
)


def made(case: Case, window: Any) -> Timer:
    try:
        return Timer({**case[0], "window": window}, case[1])
    except ConfigError as error:
        assert not any("window" in problem.key for problem in error.problems)
        assume(False)
        raise


def found(timer: Timer, after: datetime, before: datetime) -> list[datetime]:
    return [at.astimezone(UTC) for at in timer.occurrences(after, before)]


# Laws


@relaxed
@given(
    timers(st.one_of(day_repeats(), workday_repeats())),
    windows(),
    SOME_INSTANT,
    st.integers(1, 200),
)
def test_days_and_longer_are_those_of_the_brute_force(
    case: Case, window: Any, after: datetime, days: int
) -> None:
    before = after + timedelta(days)
    expected = windowed({**case[0], "window": window}, case[1], after, before)
    assert found(made(case, window), after, before) == expected


@relaxed
@given(timers(step_repeats()), windows(), SOME_INSTANT, st.integers(1, 12))
def test_minutes_and_hours_are_those_of_the_brute_force(
    case: Case, window: Any, after: datetime, days: int
) -> None:
    before = after + timedelta(days)
    expected = windowed({**case[0], "window": window}, case[1], after, before)
    assert found(made(case, window), after, before) == expected


@relaxed
@given(
    st.one_of(st.dates(date(2020, 1, 1), date(2027, 1, 1)), st.datetimes(datetime(2020, 1, 1), datetime(2027, 1, 1))),
    st.one_of(st.none(), workday_offsets(), st.just({"offsetType": -1, "offset": 90, "offsetUnit": "minute"})),
    st.one_of(day_repeats(), step_repeats()),
    st.sampled_from(ZONES),
    st.sampled_from(CALENDARS),
    st.sampled_from(["next", "previous", "nearest", "skip"]),
    windows(),
    st.integers(-10, 200),
)  # fmt: skip
def test_rows_are_those_of_the_brute_force_and_the_database_is_asked_for_them(
    value: date, offset: Any, repeat: Any, zone: str, calendar: Any, policy: str, window: Any, days: int,
) -> None:  # fmt: skip
    cfg: dict[str, Any] = {"startField": "at", "repeat": repeat, "timezone": zone}
    cfg |= {"window": window, "skipHoliday": int(calendar is not None)}
    cfg |= {"holidayPolicy": policy, **({"startOffset": offset} if offset else {})}
    try:
        timer = Timer(cfg, calendar)
    except ConfigError:
        assume(False)
    day = value.date() if isinstance(value, datetime) else value
    after = datetime(day.year, day.month, day.day, 7, tzinfo=UTC) + timedelta(days)
    before = after + timedelta(2 if repeat["repeatType"] in ("minute", "hour") else 30)
    series = timer.series(value)
    assert series is not None
    due = [each.due.astimezone(UTC) for each in series.between(after, before)]
    assert due == windowed(cfg, calendar, after, before, value)
    for at in due[:3]:
        whole = not isinstance(value, datetime)
        reach = timer.reach(at, at + TICK, whole_days=whole)
        wall = datetime(*value.timetuple()[:6])
        assert any(
            (low is None or low <= wall + timedelta(seconds=1)) and (high is None or wall <= high)
            for low, high in reach.spans
        )  # fmt: skip
        assert reach.days is None or not reach.days.isdisjoint(
            {(wall.month, wall.day), (0, wall.day), (wall.month, 0)}
        )


@relaxed
@given(
    timers(st.one_of(day_repeats(), step_repeats(), custom_repeats())),
    windows(),
    SOME_INSTANT,
)
def test_next_due_at_and_explain_tell_the_same(
    case: Case, window: Any, now: datetime
) -> None:
    timer = made(case, window)
    series = timer.series()
    assert series is not None
    days = 3 if timer.sub_daily else 100
    listed = list(timer.occurrences(now + TICK, now + timedelta(days)))
    following = timer.nextTime(now)
    if listed:
        assert following == listed[0]
    else:
        assert following is None or following >= now + timedelta(days)
    for due in listed[:5]:
        at = series.due_at(due)
        assert at is not None and at.due == due
        again = series.at_nominal(at.nominal)
        assert again == at
    told = {
        item.due
        for item in timer.explain(now + TICK, now + timedelta(days))
        if item.due is not None and now < item.due < now + timedelta(days)
    }
    assert sorted(told) == listed


@relaxed
@given(
    st.one_of(day_repeats(), step_repeats()),
    windows(),
    st.sampled_from(CALENDARS),
    st.sampled_from(ZONES),
    st.lists(st.datetimes(datetime(2015, 1, 1), datetime(2027, 1, 1)), max_size=20),
    SOME_INSTANT,
)
def test_many_rows_at_once_are_answered_as_each_alone(
    repeat: Any, window: Any, calendar: Any, zone: str, starts: Any, now: datetime
) -> None:
    cfg = {"startField": "at", "repeat": repeat, "window": window}
    cfg |= {"skipHoliday": int(calendar is not None)}
    try:
        timer = Timer(cfg, calendar, zone)
    except ConfigError:
        assume(False)
    alone = []
    for start in starts:
        series = timer.series(start)
        assert series is not None
        one = series.next(now)
        alone.append(one.due if one else None)
    assert timer.next_times(starts, now) == alone


# The stated cases, by hand. 2026-03-28 is a Saturday; Berlin's clocks go forward on 2026-03-29 at 02:00.

OFFICE = {"from": "08:00", "to": "18:00", "workdays": 1}
NIGHT = {"from": "22:00", "to": "06:00", "weekdays": [5]}


def due(
    clock: str,
    window: Any,
    first: str,
    last: str,
    *,
    kind: str = "day",
    zone: str = "Europe/Berlin",
    calendar: Any = "DE",
    **more: Any,
) -> list[str]:
    """The due times from a day on until before another, as `03-30 08:00`."""
    cfg = {"startTime": f"2026-01-01 {clock}:00", "repeat": {"repeatType": kind}}
    timer = Timer({**cfg, "timezone": zone, "window": window, **more}, calendar)
    low, high = (datetime.fromisoformat(day) for day in (first, last))
    return [f"{at:%m-%d %H:%M}" for at in timer.occurrences(low, high)]


def test_an_occurrence_outside_moves_to_the_next_opening_and_several_there_are_one() -> (
    None
):
    # Friday 3 April 2026 is Good Friday, Monday the 6th Easter Monday.
    assert due("20:00", OFFICE, "2026-04-01", "2026-04-10") == [
        "04-01 08:00",  # of Tuesday evening
        "04-02 08:00",
        "04-07 08:00",  # of Thursday evening, and of four days off
        "04-08 08:00",
        "04-09 08:00",
    ]
    assert due("09:00", OFFICE, "2026-04-01", "2026-04-03") == ["04-01 09:00", "04-02 09:00"]  # fmt: skip


def test_the_opening_is_included_and_the_closing_is_not() -> None:
    day = {"from": "08:00", "to": "18:00"}
    assert due("08:00", day, "2026-05-01", "2026-05-02") == ["05-01 08:00"]
    assert due("17:59", day, "2026-05-01", "2026-05-02") == ["05-01 17:59"]
    assert due("18:00", day, "2026-05-02", "2026-05-03") == ["05-02 08:00"]
    both = [{"from": "08:00", "to": "12:00"}, {"from": "12:00", "to": "18:00"}]
    assert due("12:00", both, "2026-05-01", "2026-05-02") == ["05-01 12:00"]


def test_a_window_past_midnight_belongs_to_the_day_on_which_it_opens() -> None:
    # Friday 1 May 22:00 to Saturday 06:00.
    assert due("05:00", NIGHT, "2026-05-01", "2026-05-10") == [
        "05-01 22:00",
        "05-02 05:00",
        "05-08 22:00",
        "05-09 05:00",
    ]
    until_midnight = {"from": "18:00", "to": "00:00"}
    assert due("00:00", until_midnight, "2026-05-01", "2026-05-02") == ["05-01 18:00"]
    assert due("23:59", until_midnight, "2026-05-01", "2026-05-02") == ["05-01 23:59"]


def test_minutes_and_hours_outside_are_left_out() -> None:
    noon = {"from": "11:00", "to": "14:00", "weekdays": 1}
    assert due("00:30", noon, "2026-05-01", "2026-05-10", kind="hour") == [
        "05-04 11:30",
        "05-04 12:30",
        "05-04 13:30",
    ]


def test_an_edge_in_a_gap_of_the_clocks_moves_forward_by_the_gap() -> None:
    # 02:15 to 02:45 is 03:15 to 03:45 on 2026-03-29, as 02:30 is 03:30.
    short = {"from": "02:15", "to": "02:45"}
    assert due("02:30", short, "2026-03-28", "2026-03-31") == [
        "03-28 02:30",
        "03-29 03:30",
        "03-30 02:30",
    ]
    assert due("01:00", short, "2026-03-29", "2026-03-30") == ["03-29 03:15"]
    # 02:30 to 03:10 would begin at 03:30, after its end: not open on that day, and two occurrences on the next.
    gone = {"from": "02:30", "to": "03:10"}
    assert due("02:40", gone, "2026-03-28", "2026-03-31") == [
        "03-28 02:40",
        "03-30 02:30",
        "03-30 02:40",
    ]


def test_of_an_hour_that_comes_twice_an_edge_is_the_first() -> None:
    # 2026-10-25: 02:00 to 03:00 comes twice. Hours are elapsed time: 02:00 twice.
    early = {"from": "02:30", "to": "04:00"}
    found = Timer(
        {
            "startTime": "2026-10-25 00:00:00",
            "repeat": {"repeatType": "minute", "period": 15},
            "timezone": "Europe/Berlin",
            "window": early,
        }
    ).occurrences(datetime(2026, 10, 25), datetime(2026, 10, 26))
    shown = [f"{at.astimezone(UTC):%H:%M}" for at in found]
    # 00:30 UTC is the first 02:30; 03:00 UTC is 04:00.
    assert shown == [f"{h:02}:{m:02}" for h in (0, 1, 2) for m in (0, 15, 30, 45)][2:]


def test_the_window_is_the_last_of_the_moves() -> None:
    # Sunday 3 May 20:00 moves to Monday (weekend), then to Tuesday's opening; Friday 1 May is a holiday.
    weekly = {"startTime": "2026-01-04 20:00:00", "repeat": {"repeatType": "week"}}
    timer = Timer({**weekly, "workdaysOnly": 1, "window": OFFICE, "timezone": "UTC"}, "DE")  # fmt: skip
    (item,) = timer.explain(datetime(2026, 5, 3), datetime(2026, 5, 9))
    assert (item.nominal, item.due) == (
        datetime(2026, 5, 3, 20, tzinfo=UTC),
        datetime(2026, 5, 5, 8, tzinfo=UTC),
    )
    assert item.because == "weekend, opening hours"
    assert item.moved_from == date(2026, 5, 3)


def test_an_end_is_a_wall_for_an_opening_too() -> None:
    cfg = {"startTime": "2026-05-04 20:00:00", "repeat": {"repeatType": "day"}}
    timer = Timer({**cfg, "endTime": "2026-05-05", "window": OFFICE}, "DE")
    low, high = datetime(2026, 5, 4), datetime(2026, 5, 9)
    series = timer.series()
    assert series is not None
    assert [f"{at:%d %H:%M}" for at in timer.occurrences(low, high)] == ["05 08:00"]
    (last,) = series.dropped(low, high)
    assert last.note == "dropped: the next opening lies past the end"
    assert f"{last.nominal:%d %H:%M}" == "05 20:00"


def test_a_row_counts_from_its_date_and_waits_in_the_tasks_zone() -> None:
    cfg = {
        "startField": "at",
        "startOffset": {"offsetType": 1, "offset": 2, "offsetUnit": "hour"},
        "window": {"from": "08:00", "to": "18:00"},
    }
    series = Timer(cfg, None, "Asia/Shanghai").series(datetime(2026, 5, 4, 17))
    assert series is not None
    found = series.next(datetime(2026, 5, 1, tzinfo=UTC))
    assert found is not None
    assert (found.nominal.isoformat(), found.due.isoformat(), found.moved) == (
        "2026-05-04T19:00:00+08:00",
        "2026-05-05T08:00:00+08:00",
        "opening hours",
    )


def test_hours_that_no_time_meets_end_the_search() -> None:
    never = {"from": "08:00", "to": "08:15"}
    for repeat in (
        {"repeatType": "hour"},
        {"repeatType": "minute", "period": 60},
        {"repeatType": "custom", "cron": "30 1,3 * * *"},
    ):
        cfg = {"startTime": "2026-01-01 00:30:00", "repeat": repeat, "window": never}
        assert Timer(cfg).nextTime(datetime(2026, 5, 1)) is None


@pytest.mark.parametrize(
    "rrule", ["FREQ=DAILY;BYHOUR=8,9", "FREQ=DAILY;BYHOUR=8,9;BYDAY=MO,TU,WE,TH,FR"]
)
def test_a_row_that_misses_the_hours_does_not_end_the_search_of_others(
    rrule: str,
) -> None:
    """The minutes are those of each row: 08:30 lies outside, 08:10 does not."""
    repeat = {"repeatType": "custom", "rrule": rrule}
    short = {"from": "08:00", "to": "08:15"}
    cfg = {"startField": "at", "repeat": repeat, "workdaysOnly": 1, "window": short}
    timer, now = Timer(cfg, None, "UTC"), datetime(2026, 5, 4)
    outside, within = (
        timer.series(datetime(2026, 4, 1, 7, minute)) for minute in (30, 10)
    )
    assert outside is not None and within is not None
    assert outside.next(now) is None
    found = within.next(now)
    assert found is not None
    assert found.due == datetime(2026, 5, 4, 8, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("window", "key", "allowed"),
    [
        ({}, "window.from", "this key is required"),
        ([], "window", "an object such as"),
        ([OFFICE] * 101, "window", "a list of 1 to 100"),
        ("08:00-18:00", "window", "an object such as"),
        ({"from": "8:00", "to": "18:00"}, "window.from", "a clock time from 00:00 to 23:59"),
        ({"from": "24:00", "to": "18:00"}, "window.from", "a clock time from 00:00 to 23:59"),
        ({"from": "08:00", "to": "24:01"}, "window.to", "a clock time from 00:00 to 24:00"),
        ({"from": "08:00", "to": "18:60"}, "window.to", "a clock time from 00:00 to 24:00"),
        ({"from": "08:00:00", "to": "18:00"}, "window.from", "a clock time"),
        ({"from": "٠٨:00", "to": "18:00"}, "window.from", "a clock time"),
        ({"from": "08:00", "to": "08:00"}, "window", "the whole day is 00:00 to 24:00"),
        ([OFFICE, {"from": "08:00"}], "window.1.to", "this key is required"),
        ({**OFFICE, "weekdays": [1]}, "window", "either weekdays or workdays"),
        ({**OFFICE, "weekday": [1]}, "window.weekday", "the keys are from, to, weekdays, workdays"),
        ([OFFICE, {**OFFICE, "weekday": 1}], "window.1.weekday", "the keys are from, to, weekdays, workdays"),
        ({"from": "08:00", "to": "18:00", "weekdays": []}, "window.weekdays", "a list of 1 to 100"),
        ({"from": "08:00", "to": "18:00", "weekdays": [0]}, "window.weekdays.0", "a whole number from 1 to 7"),
        ({"from": "08:00", "to": "18:00", "workdays": "yes"}, "window.workdays", "0 or 1"),
    ],
)  # fmt: skip
def test_mistakes_name_the_key(window: Any, key: str, allowed: str) -> None:
    cfg = {"startTime": "2026-01-01 00:00:00", "repeat": {"repeatType": "day"}}
    with pytest.raises(ConfigError) as caught:
        Timer({**cfg, "window": window})
    problem = next(p for p in caught.value.problems if p.key == f"timerCfg.{key}")
    assert allowed in problem.allowed


def test_windows_are_written_back_as_they_were_read() -> None:
    def written(window: Any) -> Any:
        cfg = {"startTime": "2026-01-01 00:00:00", "repeat": {"repeatType": "day"}}
        return Timer({**cfg, "window": window}).cfg.dump().get("window")

    assert written(OFFICE) == written([OFFICE]) == written([OFFICE] * 2) == OFFICE
    assert written([OFFICE, NIGHT]) == [OFFICE, NIGHT]
    assert written({"from": "18:00", "to": "00:00", "weekdays": 5, "workdays": 0}) == {
        "from": "18:00",
        "to": "24:00",
        "weekdays": [5],
    }
    assert written(None) is None


def test_open_all_day_moves_nothing() -> None:
    whole = {"from": "00:00", "to": "24:00"}
    assert due("03:00", whole, "2026-05-01", "2026-05-03") == ["05-01 03:00", "05-02 03:00"]  # fmt: skip
    assert written_off(whole) == 0


def written_off(window: Any) -> int:
    """How many hours of a week are left out."""
    cfg = {"startTime": "2026-01-01 00:00:00", "repeat": {"repeatType": "hour"}}
    found = Timer({**cfg, "window": window}).occurrences(
        datetime(2026, 5, 4), datetime(2026, 5, 11)
    )
    return 7 * 24 - len(list(found))


def test_the_rule_in_words() -> None:
    cfg = {"startTime": "2026-01-01 07:00:00", "repeat": {"repeatType": "day"}}

    def words(window: Any, **more: Any) -> str:
        return describe(Timer({**cfg, "window": window, **more}, "DE"))

    assert words(OFFICE) == (
        "Every day at 07:00 (UTC); working days are those of DE; an occurrence outside the opening hours, "
        "08:00 to 18:00 on working days, waits for the next opening."
    )
    hours = {"repeat": {"repeatType": "hour"}}
    assert words([NIGHT, {"from": "12:00", "to": "13:00"}], **hours).endswith(
        "an occurrence outside the opening hours, 22:00 to 06:00 of the next day on Friday and 12:00 to 13:00, is left out."
    )


# The order of the moves, in pairs. 2026-05-01, a Friday, is a holiday; 2026-05-08 is an ordinary Friday.

WEEK = {"from": "08:00", "to": "18:00", "weekdays": [1, 2, 3, 4, 5]}


def of_row(value: datetime, last: str, **timer: Any) -> list[tuple[str, str]]:
    """Nominal and due times of a row until a day."""
    cfg = {"startField": "at", "window": WEEK, "timezone": "UTC", **timer}
    series = Timer(cfg, "DE").series(value)
    assert series is not None
    found = series.between(datetime(2026, 5, 1), datetime.fromisoformat(last))
    return [(f"{each.nominal:%m-%d %H:%M}", f"{each.due:%m-%d %H:%M}") for each in found]  # fmt: skip


def test_first_the_offset_then_the_opening() -> None:
    hours = {"offsetType": 1, "offset": 2, "offsetUnit": "hour"}
    assert of_row(datetime(2026, 5, 8, 17), "2026-06-01", startOffset=hours) == [("05-08 19:00", "05-11 08:00")]  # fmt: skip
    # Three working days after Monday the 4th are Thursday the 7th, whatever the hours say of that evening.
    days = {"offsetType": 1, "offset": 3, "offsetUnit": "workday", "time": "21:00"}
    assert of_row(datetime(2026, 5, 4), "2026-06-01", startOffset=days) == [("05-07 21:00", "05-08 08:00")]  # fmt: skip


def test_first_the_repeat_then_the_opening() -> None:
    weekly = {"repeatType": "week"}
    assert of_row(datetime(2026, 5, 8, 19), "2026-05-20", repeat=weekly) == [
        ("05-08 19:00", "05-11 08:00"),
        ("05-15 19:00", "05-18 08:00"),
    ]


def test_first_the_level_then_the_opening() -> None:
    levels = [
        {"name": name, "offsetType": 1, "offset": n, "offsetUnit": "day", "time": "20:00"}
        for name, n in (("first", 3), ("second", 4), ("final", 6))
    ]  # fmt: skip
    # Wednesday the 6th: Saturday and Sunday evening both wait for Monday, and are one occurrence: that of the first.
    cfg = {"startField": "at", "window": WEEK, "startOffset": levels}
    series = Timer(cfg, "DE").series(datetime(2026, 5, 6))
    assert series is not None
    found = series.between(datetime(2026, 5, 1), datetime(2026, 6, 1))
    assert [(each.level, f"{each.due:%m-%d %H:%M}") for each in found] == [
        ("first", "05-11 08:00"),
        ("final", "05-13 08:00"),
    ]
