"""Steps between days and months, numbers of weeks, and the calendar's ends."""

from __future__ import annotations

from datetime import date

import pytest

from jittask_prefect.schedule.days import (
    days_later,
    each_day,
    month_number,
    month_start,
    months_later,
    week_numbers,
)


def test_months_keep_the_day_or_take_the_months_last() -> None:
    assert months_later(date(2026, 1, 31), 1) == date(2026, 2, 28)
    assert months_later(date(2024, 2, 29), 12) == date(2025, 2, 28)
    assert months_later(date(2026, 3, 31), -1) == date(2026, 2, 28)
    assert months_later(date(2026, 1, 15), 0) == date(2026, 1, 15)
    assert months_later(date(2025, 12, 31), 14) == date(2027, 2, 28)


@pytest.mark.parametrize(("day", "months"), [(date.max, 1), (date.min, -1)])
def test_months_beyond_the_calendar(day: date, months: int) -> None:
    with pytest.raises(OverflowError):
        months_later(day, months)
    assert month_start(month_number(day) + months) is None


def test_days_end_with_the_calendar() -> None:
    assert days_later(date(9999, 12, 30), 1) == date.max
    assert days_later(date.max, 1) is None and days_later(date.min, -1) is None
    assert list(each_day(date(9999, 12, 31), date.max)) == [date.max]
    assert list(each_day(date(2026, 1, 2), date(2026, 1, 1))) == []


@pytest.mark.parametrize(
    ("day", "numbers"),
    [
        (date(2026, 1, 1), {1, -53}),  # Thursday: week 1 of a year with 53 weeks
        (date(2026, 12, 31), {53, -1}),
        (date(2027, 1, 1), {53, -1}),  # still the last week of 2026
        (date(2027, 1, 4), {1, -52}),
    ],
)
def test_a_week_belongs_to_the_year_of_its_fourth_day(
    day: date, numbers: set[int]
) -> None:
    assert week_numbers(day, 0) == numbers
    assert day.isocalendar().week in numbers
