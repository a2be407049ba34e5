"""Levels: several named due times of a row's date, by a walk from day to day, and by fixed dates."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from level_walk import Found, walk_levels
from timer_cases import (
    CALENDARS,
    ZONES,
    day_repeats,
    step_repeats,
    windows,
    workday_repeats,
)

from jittask_prefect.errors import ConfigError
from jittask_prefect.schedule.reach import Reach
from jittask_prefect.schedule.series import Occurrence, Series
from jittask_prefect.schedule.timer import Timer
from jittask_prefect.schedule.words import describe, origin

DAY, TICK = timedelta(1), timedelta(microseconds=1)
REMINDERS = [
    {"name": "first", "offsetType": 1, "offset": 3, "offsetUnit": "day"},
    {"name": "second", "offsetType": 1, "offset": 14, "offsetUnit": "day"},
    {"name": "final", "offsetType": 1, "offset": 30, "offsetUnit": "day"},
]


def series(value: Any, end: Any = None, calendar: Any = None, **cfg: Any) -> Series:
    timer = Timer({"startField": "due", "timezone": "UTC", **cfg}, calendar)
    found = timer.series(value, end)
    assert found is not None
    return found


def told(found: Any) -> list[str]:
    return [f"{each.due:%Y-%m-%d %H:%M} {each.level}" for each in found]


def dues(*args: Any, **cfg: Any) -> list[str]:
    ever = datetime(2000, 1, 1), datetime(2100, 1, 1)
    return told(series(*args, **cfg).between(*ever))


def level(name: str, number: int, unit: str = "day", **more: Any) -> dict[str, Any]:
    kind = (number > 0) - (number < 0)
    offset = {"offsetType": kind, "offset": abs(number), "offsetUnit": unit}
    return {"name": name, **offset, **more}


# Fixed dates


def test_each_level_is_an_occurrence_of_its_own() -> None:
    found = dues(date(2026, 3, 1), startOffset=REMINDERS)
    assert found == [
        "2026-03-04 00:00 first",
        "2026-03-15 00:00 second",
        "2026-03-31 00:00 final",
    ]


def test_early_and_late_levels_come_in_the_order_of_time_whatever_the_list_says() -> (
    None
):
    levels = [
        level("late", 2, time="09:00"),
        level("early", -1),
        level("hour", 5, "hour"),
    ]
    assert dues(date(2026, 3, 5), startOffset=levels) == [
        "2026-03-04 00:00 early",
        "2026-03-05 05:00 hour",
        "2026-03-07 09:00 late",
    ]


def test_the_repeat_goes_on_from_the_level_that_is_due_last() -> None:
    levels = [level("final", 30), level("first", 3)]
    weekly = {"repeatType": "week"}
    found = dues(
        date(2026, 3, 1), startOffset=levels, repeat=weekly, endTime="2026-04-20"
    )
    # 31 March is a Tuesday.
    assert found == [
        "2026-03-04 00:00 first",
        "2026-03-31 00:00 final",
        "2026-04-07 00:00 final",
        "2026-04-14 00:00 final",
    ]


def test_a_level_is_an_occurrence_also_where_the_repeat_has_other_days() -> None:
    mondays = {"repeatType": "week", "weekday": [1]}
    found = series(date(2026, 3, 1), startOffset=REMINDERS, repeat=mondays)
    window = datetime(2026, 3, 31), datetime(2026, 4, 14)
    assert told(found.between(*window)) == [
        "2026-03-31 00:00 final",
        "2026-04-06 00:00 final",
        "2026-04-13 00:00 final",
    ]


def test_which_level_is_the_last_depends_on_the_row() -> None:
    levels = [level("month", 1, "month"), level("days", 30)]
    daily = {"repeatType": "day"}

    def first_three(day: date) -> list[str]:
        found = series(day, startOffset=levels, repeat=daily)
        return told(
            islice(found.between(datetime(2000, 1, 1), datetime(2100, 1, 1)), 3)
        )

    # A month after 10 February is 10 March, 30 days are 12 March.
    assert first_three(date(2026, 2, 10)) == [
        "2026-03-10 00:00 month",
        "2026-03-12 00:00 days",
        "2026-03-13 00:00 days",
    ]
    # A month after 10 March is 10 April, 30 days are 9 April.
    assert first_three(date(2026, 3, 10)) == [
        "2026-04-09 00:00 days",
        "2026-04-10 00:00 month",
        "2026-04-11 00:00 month",
    ]
    # 30 days after 10 April are a month.
    assert first_three(date(2026, 4, 10))[0] == "2026-05-10 00:00 month"


def test_levels_of_one_instant_are_one_occurrence_with_the_first_name() -> None:
    levels = [level("week", 1, "week"), level("days", 7), level("hours", 168, "hour")]
    found = series(date(2026, 3, 1), startOffset=levels)
    window = datetime(2026, 1, 1), datetime(2027, 1, 1)
    assert told(found.between(*window)) == ["2026-03-08 00:00 week"]
    explained = found.explain(*window)
    assert [(each.level, each.due is None, each.note) for each in explained] == [
        ("week", False, ""),
        ("days", True, "one with the occurrence of 2026-03-08 00:00, level week"),
        ("hours", True, "one with the occurrence of 2026-03-08 00:00, level week"),
    ]


def test_a_holiday_may_carry_two_levels_to_one_instant() -> None:
    # Saturday 7 and Sunday 8 March 2026 move to Monday 9 March, where a level is due of itself.
    levels = [level("sat", 2), level("sun", 3), level("mon", 4)]
    cfg = {"startOffset": levels, "workdaysOnly": 1}
    found = series(date(2026, 3, 5), **cfg)
    [only] = found.between(datetime(2026, 1, 1), datetime(2027, 1, 1))
    assert told([only]) == ["2026-03-09 00:00 sat"]
    assert (only.nominal.day, only.moved) == (7, "weekend")
    assert found.at_nominal(only.nominal) == only
    assert found.at_nominal(datetime(2026, 3, 9, tzinfo=UTC)) is None
    last_first = {**cfg, "startOffset": levels[::-1]}
    assert dues(date(2026, 3, 5), **last_first) == ["2026-03-09 00:00 mon"]


def test_an_end_takes_away_the_levels_behind_it() -> None:
    ends = {"endTimeType": 2, "endField": "paid"}
    found = dues(date(2026, 3, 1), date(2026, 3, 15), startOffset=REMINDERS, **ends)
    assert found == ["2026-03-04 00:00 first", "2026-03-15 00:00 second"]


def test_a_level_carried_before_now_counts_as_moved() -> None:
    # Sunday 15 March moves to Friday 13 March.
    cfg = {"startOffset": REMINDERS, "workdaysOnly": 1, "holidayPolicy": "previous"}
    found = series(date(2026, 3, 1), **cfg)
    at = datetime(2026, 3, 14, tzinfo=UTC)
    assert told(found.moved_before(at)) == ["2026-03-13 00:00 second"]
    assert found.moved_before(datetime(2026, 3, 15, tzinfo=UTC)) == []


def test_each_level_has_a_start_of_its_own_whatever_the_list() -> None:
    levels = [level("nine", 1, time="09:00"), level("hours", 5, "hour")]
    for order in (levels, levels[::-1], [level("new", -3), *levels]):
        early = series(datetime(2026, 3, 1, 8), startOffset=order)
        late = series(datetime(2026, 3, 1, 10), startOffset=order)
        nine = datetime(2026, 3, 2, 9, tzinfo=UTC)
        assert early.starts_of("nine") == late.starts_of("nine") == (nine,)
        assert early.starts_of("hours") == (datetime(2026, 3, 1, 13, tzinfo=UTC),)
        assert late.starts_of("hours") == (datetime(2026, 3, 1, 15, tzinfo=UTC),)
        assert len(early.starts_of("gone")) == len(order)
        assert early.has_level("nine") and not early.has_level(None)
    plain = series(datetime(2026, 3, 1, 8))
    assert plain.starts_of("any") == (datetime(2026, 3, 1, 8, tzinfo=UTC),)
    assert plain.has_level(None) and not plain.has_level("any")


@pytest.mark.parametrize("value", [date.min, date.max, datetime.min, datetime.max])
@pytest.mark.parametrize("kind", ["normal", "month", "hour"])
def test_dates_that_mean_never_do_not_crash(value: Any, kind: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    levels = [
        level("before", -40),
        level("after", 2, "month"),
        level("soon", 1, "hour"),
    ]
    cfg = {
        "startOffset": levels,
        "repeat": {"repeatType": kind},
        "endTime": "2026-02-01",
    }
    found = series(value, **cfg)
    if value.year == 9999:
        assert found.next(now) is None
    assert found.explain(now, now + DAY) is not None
    assert found.anchor.tzinfo is not None


def test_a_level_beyond_the_calendar_leaves_the_others() -> None:
    levels = [level("soon", 1), level("far", 9000, "year")]
    found = series(date(2026, 3, 1), startOffset=levels)
    assert told(found.between(datetime(2026, 1, 1), datetime(9999, 1, 1))) == [
        "2026-03-02 00:00 soon"
    ]
    assert not found.never and found.listed


# Mistakes


@pytest.mark.parametrize(
    ("levels", "key", "allowed"),
    [
        ([], "startOffset", "a list of 1 to 100 offsets with names"),
        ([level(f"n{n}", n) for n in range(101)], "startOffset", "1 to 100"),
        ([level("a", 1), level("b", 2), level("a", 3)], "startOffset.2.name", "no other"),
        ([{"offsetType": 0}], "startOffset.0.name", "required"),
        ([level("", 1)], "startOffset.0.name", "1 to 64 letters"),
        ([level(" a", 1)], "startOffset.0.name", "1 to 64 letters"),
        ([level("a" * 65, 1)], "startOffset.0.name", "1 to 64 letters"),
        ([level("{{ x }}", 1)], "startOffset.0.name", "1 to 64 letters"),
        ([level("a", 1), level("b", 1, "dax")], "startOffset.1.offsetUnit", "day"),
        ([level("a", 1, "hour", time="09:00")], "startOffset.0.time", "only with day"),
        ([level("a", 1, tmie="09:00")], "startOffset.0.tmie", "name, offset, offsetType"),
        ([3], "startOffset.0", "an object"),
        ("first", "startOffset", "an offset, which is an object, or a list of 1 to 100 offsets with names"),
        (3, "startOffset", "or a list of 1 to 100 offsets"),
        (level("a", 1), "startOffset.name", "no such key"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(levels: Any, key: str, allowed: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Timer({"startField": "due", "startOffset": levels})
    [problem] = raised.value.problems
    assert problem.key == f"timerCfg.{key}" and allowed in problem.allowed


def test_only_the_start_of_a_row_has_levels() -> None:
    ends = {"endTimeType": 2, "endField": "paid", "endOffset": REMINDERS}
    with pytest.raises(ConfigError, match="endOffset"):
        Timer({"startField": "due", **ends})
    with pytest.raises(ConfigError, match="no such key for a scheduled task"):
        Timer({"startTime": "2026-01-01 00:00:00", "startOffset": REMINDERS})


def test_a_hundred_levels_and_names_of_any_language_are_allowed() -> None:
    levels = [level(f"Stufe {n}", n) for n in range(99)] + [level("最后", 99)]
    found = dues(date(2026, 1, 1), startOffset=levels)
    assert len(found) == 100 and found[-1] == "2026-04-10 00:00 最后"


def test_the_configuration_comes_back_as_it_was() -> None:
    cfg = Timer({"startField": "due", "startOffset": REMINDERS}).cfg
    assert cfg.dump()["startOffset"] == REMINDERS
    nulls = [{**each, "time": None} for each in REMINDERS]
    assert Timer({"startField": "due", "startOffset": nulls}).cfg == cfg


# Words


def test_the_rule_in_words_names_each_level() -> None:
    timer = Timer(
        {
            "startField": "due_on",
            "startOffset": [*REMINDERS[:2], level("final", 30, time="09:00")],
            "repeat": {"repeatType": "week"},
            "timezone": "Europe/Berlin",
        }
    )
    assert describe(timer) == (
        "Levels first (3 days after `due_on`), second (14 days after `due_on`) "
        "and final (30 days after `due_on`, at 09:00) (Europe/Berlin), "
        "then every week from the last."
    )
    assert origin(timer, date(2026, 3, 1), "second") == (
        "level second: 14 days after `due_on` (2026-03-01)"
    )
    assert origin(timer, date(2026, 3, 1)) == "`due_on` (2026-03-01)"


def test_many_levels_are_counted_in_words() -> None:
    levels = [level(f"n{n}", n) for n in range(100)]
    text = describe(Timer({"startField": "due", "startOffset": levels}))
    assert "n9 (9 days" in text and "n10" not in text and "90 more" in text


# Laws, against the walk

OFFSETS = st.one_of(
    st.builds(
        lambda number, unit, clock: (number, unit, {"time": clock} if clock else {}),
        st.integers(-20, 40),
        st.sampled_from(["day", "week", "workday", "month"]),
        st.sampled_from([None, "00:00", "02:30", "09:00"]),
    ),
    st.tuples(st.integers(-90, 90), st.sampled_from(["minute", "hour"]), st.just({})),
)


@st.composite
def level_cases(draw: st.DrawFn) -> tuple[dict[str, Any], Any, date, date | None]:
    """A timerCfg with levels, a calendar, a row's date and its end."""
    offsets = draw(st.lists(OFFSETS, min_size=1, max_size=5))
    repeats = st.one_of(
        st.just({"repeatType": "normal"}),
        day_repeats(),
        workday_repeats(),
        step_repeats().filter(lambda r: r["repeatType"] == "hour" or r["period"] > 10),
    )
    cfg: dict[str, Any] = {
        "startField": "due",
        "startOffset": [
            level(f"n{n}", number, unit, **more)
            for n, (number, unit, more) in enumerate(offsets)
        ],
        "repeat": draw(repeats),
        "timezone": draw(st.sampled_from(ZONES)),
    }
    calendar = draw(st.sampled_from(CALENDARS))
    if calendar is not None and draw(st.booleans()):
        cfg["skipHoliday"] = 1
    if draw(st.booleans()):
        cfg["workdaysOnly"] = 1
    cfg["holidayPolicy"] = draw(
        st.sampled_from(["next", "previous", "nearest", "skip"])
    )
    begin, most = datetime(2022, 1, 1), datetime(2027, 6, 1)
    days = st.dates(begin.date(), most.date())
    value = draw(st.one_of(days, st.datetimes(begin, most).map(_whole_minutes)))
    if draw(st.integers(0, 3)) == 0:
        cfg["window"] = draw(windows())
    end = draw(st.one_of(st.none(), days))
    if end is not None:
        cfg |= {"endTimeType": 2, "endField": "paid"}
    return cfg, calendar, value, end


def _whole_minutes(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)


def as_found(each: Occurrence) -> Found:
    assert each.level is not None
    return Found(each.due.astimezone(UTC), each.nominal.astimezone(UTC), each.level)


def holds(reach: Reach, value: date, end: date | None) -> bool:
    """Whether a row is among those that a database is asked for."""
    wall = (
        value
        if isinstance(value, datetime)
        else datetime.combine(value, datetime.min.time())
    )
    on = reach.days is None or not reach.days.isdisjoint(
        {(wall.month, wall.day), (0, wall.day), (wall.month, 0)}
    )
    lasts = (
        reach.end is None
        or end is None
        or datetime.combine(end, datetime.min.time()) >= reach.end
    )
    within = any((low or wall) <= wall <= (high or wall) for low, high in reach.spans)
    return (on and lasts and within) or any(
        holds(each, value, end) for each in reach.others
    )


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(level_cases(), st.integers(-60, 200))
def test_the_occurrences_are_those_of_the_walk(case: Any, shift: int) -> None:
    cfg, calendar, value, end = case
    timer = Timer(cfg, calendar=calendar)
    found = timer.series(value, end)
    assert found is not None
    middle = datetime(value.year, value.month, value.day, tzinfo=UTC) + shift * DAY
    after, before = middle - 15 * DAY, middle + 15 * DAY
    expected = walk_levels(cfg, calendar, after, before, value, end)
    for _ in range(
        3
    ):  # of a window that is asked about again, the row's date tells which levels may be due
        assert [as_found(each) for each in found.between(after, before)] == expected
    _holds_together(timer, found, expected, after, before)
    whole = not isinstance(value, datetime)
    for each in expected[:3]:
        assert holds(
            timer.reach(each.due, each.due + TICK, whole_days=whole), value, end
        )
    coming = found.next(after - TICK)
    ends = None if end is None else [end]
    [at] = timer.next_times([value], after - TICK, ends)
    assert at == (None if coming is None else coming.due)


def _holds_together(
    timer: Timer,
    found: Series,
    expected: list[Found],
    after: datetime,
    before: datetime,
) -> None:
    """The other questions have the answers of `between`."""
    at = after - TICK
    for each in expected[:20]:
        coming, there = found.next(at), found.due_at(each.due)
        by_nominal = found.at_nominal(each.nominal)
        assert coming and there and by_nominal
        assert as_found(coming) == as_found(there) == as_found(by_nominal) == each
        at = each.due
    explained = found.explain(after, before)
    due = {
        Found(item.due.astimezone(UTC), item.nominal.astimezone(UTC), str(item.level))
        for item in explained
        if item.due is not None and after <= item.due < before
    }
    assert due == set(expected)
    for each in expected[:5]:
        at = each.due + TICK
        moved = {as_found(o) for o in found.moved_before(at)}
        assert all(o.nominal > at >= o.due for o in moved)
        assert (each in moved) == (each.nominal > at)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(level_cases())
def test_of_many_rows_each_has_its_own_next_time(case: Any) -> None:
    cfg, calendar, value, _ = case
    cfg = {key: cfg[key] for key in cfg if key not in ("endTimeType", "endField")}
    assume(cfg["repeat"]["repeatType"] not in ("minute", "hour"))
    timer, now = Timer(cfg, calendar=calendar), datetime(2024, 6, 1, tzinfo=UTC)
    rows = [value + n * 17 * DAY for n in range(-20, 20)]
    expected = []
    for row in rows:
        found = timer.series(row)
        assert found is not None
        coming = found.next(now)
        expected.append(None if coming is None else coming.due)
    assert timer.next_times([*rows, None], now) == [*expected, None]
