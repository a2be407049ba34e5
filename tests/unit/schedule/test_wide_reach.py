"""The dates that a database is asked for where rows have zones and calendars of their own: none too few."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from itertools import islice
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jittask_prefect import Timer
from jittask_prefect.schedule.calendar import Calendar
from jittask_prefect.schedule.reach import Reach
from jittask_prefect.schedule.wide_reach import wide_reach

HOUR, TICK = timedelta(hours=1), timedelta(microseconds=1)
EVER = datetime(2000, 1, 1), datetime(2100, 1, 1)
ZONES = (
    "Pacific/Kiritimati",
    "Asia/Shanghai",
    "Europe/Berlin",
    "America/New_York",
    "Pacific/Pago_Pago",
    "Africa/Casablanca",
    "Australia/Lord_Howe",
)
COUNTRIES = ("CN", "DE-BY", "SA", "JP", "US")
UNITS = ("minute", "hour", "day", "workday", "week", "month", "year")
OFFSETS = st.builds(
    lambda sign, number, unit, clock: {
        "offsetType": sign, "offset": number, "offsetUnit": unit,
        **({"time": clock} if clock and unit not in ("minute", "hour") else {}),
    },
    st.sampled_from([-1, 1]), st.integers(0, 25), st.sampled_from(UNITS), st.sampled_from([None, "00:00", "09:00"]),
)  # fmt: skip
REPEATS: list[dict[str, Any]] = [
    {"repeatType": "normal"},
    {"repeatType": "day", "period": 3},
    {"repeatType": "workday", "period": 2},
    {"repeatType": "week", "weekday": [1, 6]},
    {"repeatType": "month", "day": [1, 30, -1]},
    {"repeatType": "month", "workday": -1},
    {"repeatType": "month"},
    {"repeatType": "year"},
    {"repeatType": "hour", "period": 7},
]
FIRST, LAST = datetime(2015, 1, 1), datetime(2030, 1, 1)
VALUES = st.one_of(
    st.dates(FIRST.date(), LAST.date()),
    st.datetimes(FIRST, LAST),
    st.datetimes(FIRST, LAST, timezones=st.just(timezone(timedelta(hours=-11)))),
)


def holds(reach: Reach, value: date, zone: Any) -> bool:
    """Whether a row's date is one of those that the database is asked for."""
    if not isinstance(value, datetime):
        wall = datetime(value.year, value.month, value.day)
    elif value.tzinfo is None:
        wall = value
    else:
        wall = value.astimezone(zone).replace(tzinfo=None, fold=0)
    named = {(wall.month, wall.day), (0, wall.day), (wall.month, 0)}
    on = reach.days is None or not reach.days.isdisjoint(named)
    spans = reach.spans
    return on and any(
        (lo is None or lo <= wall) and (hi is None or wall <= hi) for lo, hi in spans
    )


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(VALUES, min_size=1, max_size=4),
    OFFSETS,
    st.sampled_from(["next", "previous", "nearest", "skip"]),
    st.sampled_from(ZONES),
    st.sampled_from(ZONES),
    st.sampled_from(COUNTRIES),
    st.sampled_from(REPEATS),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2),
)
def test_no_row_is_left_out(
    values: list[Any], offset: dict[str, Any], policy: str, usual: str, own: str, country: str, repeat: dict[str, Any],
    moves: bool, shut: bool, later: int,
) -> None:  # fmt: skip
    cfg: dict[str, Any] = {
        "startField": "due",
        "startOffset": offset,
        "repeat": repeat,
        "timezone": usual,
    }
    if moves:
        cfg |= {"skipHoliday": 1, "workdaysOnly": 1, "holidayPolicy": policy}
    if shut:
        cfg["window"] = {"from": "08:00", "to": "10:00", "workdays": True}
    timer = Timer(cfg, "GB")
    there = timer.elsewhere(own, Calendar.read(country))
    for value in values:
        series = there.series(value)
        assert series is not None
        found = series.next(datetime(1990, 1, 1))
        for _ in range(later if found else 0):
            found = series.next(found.due) or found  # type: ignore[union-attr]
        if found is None:
            continue
        about: dict[str, Any] = {
            "whole_days": not isinstance(value, datetime),
            "instants": getattr(value, "tzinfo", None) is not None,
        }
        for before, after in ((timedelta(0), TICK), (HOUR, HOUR)):
            window = found.due - before, found.due + after
            asked = wide_reach([timer], *window, any_calendar=True, **about)
            assert holds(asked, value, timer.zone)

        # With the calendar of the task, only the zone is another.
        by_zone = timer.elsewhere(own, timer.calendar).series(value)
        nearest = by_zone.next(datetime(1990, 1, 1)) if by_zone else None
        if nearest is not None:
            window = nearest.due, nearest.due + TICK
            asked = wide_reach([timer], *window, any_calendar=False, **about)
            assert holds(asked, value, timer.zone)


def test_an_opening_that_the_clocks_of_a_zone_skip() -> None:
    """Berlin's clocks skip 02:30 to 03:10 of Sunday 29 March 2026: the row waits for the Sunday after."""
    hours = {"from": "02:30", "to": "03:10", "weekdays": [7]}
    timer = Timer({"startField": "due", "window": hours, "timezone": "UTC"})
    value = datetime(2026, 3, 25, 12)
    due = datetime(2026, 4, 5, 0, 30, tzinfo=UTC)
    series = timer.elsewhere("Europe/Berlin", None).series(value)
    assert series is not None
    assert [found.due for found in series.between(*EVER)] == [due]
    about: dict[str, Any] = {"whole_days": False, "instants": False}
    asked = wide_reach([timer], due, due + TICK, any_calendar=False, **about)
    assert holds(asked, value, timer.zone)


def test_a_single_date_is_asked_for_within_days() -> None:
    """Of a plain task with zones the database reads some days more, not the table."""
    timer = Timer({"startField": "due", "timezone": "UTC"})
    window = datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC)
    about = {"whole_days": False, "any_calendar": False}
    asked = wide_reach([timer], *window, instants=False, **about)  # type: ignore[arg-type]
    [(low, high)] = asked.spans
    assert low is not None
    assert high is not None
    assert high - low < timedelta(days=4)
    asked = wide_reach([timer], *window, instants=True, **about)  # type: ignore[arg-type]
    [(low, high)] = asked.spans
    assert low is not None
    assert high is not None
    assert high - low < timedelta(days=6)


@pytest.mark.parametrize("instants", [False, True])
def test_a_yearly_task_is_asked_for_by_days(instants: bool) -> None:
    repeat = {"repeatType": "year"}
    timer = Timer({"startField": "due", "repeat": repeat, "timezone": "UTC"})
    window = datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC)
    asked = wide_reach(
        [timer], *window, whole_days=False, instants=instants, any_calendar=False
    )
    assert asked.days is not None
    assert {(2, 28), (3, 1), (3, 2), (3, 3), (3, 4)} <= asked.days
    assert len(asked.days) < 15


def test_a_calendar_of_the_app_may_be_shut_for_longer_than_a_month() -> None:
    """Its timer stands beside the task's own."""
    cfg = {"startField": "due", "workdaysOnly": 1, "skipHoliday": 1, "timezone": "UTC"}
    timer = Timer(cfg, "GB")
    shut = Calendar.read({"closed": ["2026-01-01/2026-12-31"]})
    there = timer.elsewhere("UTC", shut)
    value = date(2026, 2, 3)
    [due] = there.series(value).between(datetime(2026, 1, 1), datetime(2027, 6, 1))  # type: ignore[union-attr]
    assert due.due.date() == date(2027, 1, 1)
    about: dict[str, Any] = {
        "whole_days": True,
        "instants": False,
        "any_calendar": True,
    }
    window = due.due, due.due + TICK
    assert holds(wide_reach([timer, there], *window, **about), value, timer.zone)
    assert not holds(wide_reach([timer], *window, **about), value, timer.zone)


@pytest.mark.parametrize("kind", ["normal", "week"])
def test_each_level_is_asked_for_by_itself(kind: str) -> None:
    """Three levels of a row are some days each, and not the month between them."""
    levels = [
        {"name": f"n{n}", "offsetType": 1, "offset": n, "offsetUnit": "day"}
        for n in (3, 14, 30)
    ]
    repeat = {"repeatType": kind}
    cfg = {"startField": "due", "startOffset": levels, "repeat": repeat}
    timer = Timer({**cfg, "timezone": "UTC"})
    there = timer.elsewhere("Pacific/Kiritimati", Calendar.read("DE"))
    about: dict[str, Any] = {
        "whole_days": True,
        "instants": False,
        "any_calendar": True,
    }
    row = date(2026, 3, 2)
    series = there.series(row)
    assert series is not None
    dues = [found.due for found in islice(series.between(*EVER), 6)]
    assert len(dues) == (3 if kind == "normal" else 6)
    for due in dues:
        asked = wide_reach([timer, there], due, due + TICK, **about)
        assert any(holds(part, row, timer.zone) for part in asked.parts)

    if kind == "normal":
        at = datetime(2026, 3, 2, tzinfo=UTC)
        about["any_calendar"] = False
        asked = wide_reach([timer], at, at + TICK, **about)
        wide = sum(
            ((high - low) for low, high in asked.spans if low and high), 0 * HOUR
        )
        assert len(asked.spans) == 3 and wide < timedelta(days=12)
