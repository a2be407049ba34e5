"""`app.calendar(…)`: working days for the code of tasks."""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from day_by_day import Rest
from hypothesis import given, settings
from hypothesis import strategies as st
from timer_cases import CALENDARS
from workday_walk import walked

from jittask_prefect.errors import ArgumentError
from jittask_prefect.schedule import work_calendar
from jittask_prefect.schedule.calendar import Calendar, CalendarCfg
from jittask_prefect.schedule.work_calendar import WorkCalendar

DAY = timedelta(1)
BAVARIA = WorkCalendar(Calendar(CalendarCfg(country="DE-BY")))


def test_ten_working_days_after_the_18th_of_december() -> None:
    # A Friday. Christmas Day, New Year's Day and Epiphany are holidays in Bavaria; the 24th and the 31st are not.
    assert BAVARIA.nextWorkday(date(2026, 12, 18), 10) == date(2027, 1, 5)
    assert BAVARIA.workdaysBetween(date(2026, 12, 18), date(2027, 1, 5)) == 10
    assert BAVARIA.nextWorkday(date(2027, 1, 5)) == date(2027, 1, 7)
    assert BAVARIA.nextWorkday(date(2027, 1, 7), -1) == date(2027, 1, 5)
    assert not BAVARIA.isWorkday(date(2027, 1, 6)) and BAVARIA.isWorkday(
        date(2026, 12, 24)
    )


def test_a_datetime_counts_by_its_own_day() -> None:
    late = datetime(2026, 12, 24, 23, 30, tzinfo=UTC)  # the 25th in Berlin
    assert BAVARIA.isWorkday(late)
    assert BAVARIA.nextWorkday(late) == date(2026, 12, 28)
    assert BAVARIA.workdaysBetween(late, datetime(2026, 12, 28, 1)) == 1


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(CALENDARS), st.dates(date(2018, 1, 1), date(2028, 1, 1)),
    st.one_of(st.integers(-30, -1), st.integers(1, 30)), st.integers(-90, 90),
)  # fmt: skip
def test_answers_are_those_of_a_walk(
    calendar: Any, day: date, n: int, days: int
) -> None:
    cfg = CalendarCfg.read(calendar or {}, "calendar")
    days_of, rest = WorkCalendar(Calendar(cfg)), Rest({}, calendar)
    assert days_of.isWorkday(day) == rest.works(day)
    found = days_of.nextWorkday(day, n)
    assert found == walked(rest, day, n)
    assert days_of.workdaysBetween(day, found) == n
    other = day + days * DAY
    after = [day + k * DAY for k in range(1, days + 1)] if days > 0 else []
    before = [other + k * DAY for k in range(-days)] if days < 0 else []
    expected = sum(map(rest.works, after)) - sum(map(rest.works, before))
    assert days_of.workdaysBetween(day, other) == expected


@pytest.mark.parametrize(
    ("ask", "found", "allowed"),
    [
        (
            lambda c: c.isWorkday("2026-12-24"),
            "date='2026-12-24'",
            "a date or a datetime",
        ),
        (lambda c: c.isWorkday(None), "date=None", "a date or a datetime"),
        (lambda c: c.nextWorkday(date(2026, 1, 1), 0), "n=0", "not 0"),
        (lambda c: c.nextWorkday(date(2026, 1, 1), 1.5), "n=1.5", "a whole number"),
        (lambda c: c.nextWorkday(date(2026, 1, 1), True), "n=True", "a whole number"),
        (
            lambda c: c.nextWorkday(date(2026, 1, 1), 10_000_000),
            "beyond the calendar",
            "within the years",
        ),
        (
            lambda c: c.workdaysBetween(date(2026, 1, 1), 5),
            "b=5",
            "a date or a datetime",
        ),
    ],
)
def test_bad_arguments(ask: Any, found: str, allowed: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        ask(BAVARIA)
    assert found in str(caught.value)
    assert allowed in str(caught.value)


def test_days_that_are_not_published_are_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_calendar, "_told", set())
    calendar = Calendar(CalendarCfg(country="CN"))
    known = calendar.reliable_until
    assert known is not None
    days = WorkCalendar(calendar)
    with caplog.at_level(logging.WARNING, "jittask"):
        days.nextWorkday(known - 40 * DAY)
        assert not caplog.records
        days.nextWorkday(known, 2)
        days.nextWorkday(known, 3)
    assert (
        len([r for r in caplog.records if f"published until {known}" in r.getMessage()])
        == 1
    )


def test_the_repr_names_the_calendar() -> None:
    assert repr(BAVARIA) == "<working days of DE-BY>"
