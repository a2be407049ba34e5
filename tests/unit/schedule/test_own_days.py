from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from jittask_prefect.errors import ConfigError
from jittask_prefect.schedule.calendar import Calendar
from jittask_prefect.schedule.own_days import read_range
from jittask_prefect.schedule.timer import Timer


def days(text: str, low: int, high: int) -> list[str]:
    return [day.isoformat() for day in read_range(text).in_years(low, high)]


def closed(*items: Any, **more: Any) -> Calendar:
    found = Calendar.read({"closed": list(items), **more})
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "low", "high", "expected"),
    [
        ("2026-12-24", 2026, 2026, ["2026-12-24"]),
        ("2026-12-30/2027-01-01", 2026, 2027, ["2026-12-30", "2026-12-31", "2027-01-01"]),
        # Christmas Eve, each year.
        ("12-24", 2025, 2027, ["2025-12-24", "2026-12-24", "2027-12-24"]),
        ("12-30/12-31", 2026, 2026, ["2026-12-30", "2026-12-31"]),
        # Over the new year: the end of the range that began in 2025, and the beginning of that of 2026.
        ("12-30/01-02", 2026, 2026,
         ["2026-01-01", "2026-01-02", "2026-12-30", "2026-12-31"]),
        # Leap years: 2024 and 2028.
        ("02-29", 2023, 2028, ["2024-02-29", "2028-02-29"]),
        ("02-28/02-29", 2027, 2028, ["2027-02-28", "2028-02-28", "2028-02-29"]),
        ("02-29/03-01", 2027, 2028, ["2027-03-01", "2028-02-29", "2028-03-01"]),
        # The ends of the calendar.
        ("12-31/01-01", 9999, 9999, ["9999-01-01", "9999-12-31"]),
        ("12-31/01-01", 1, 1, ["0001-12-31"]),
    ],
)  # fmt: skip
def test_the_days_of_a_range(
    text: str, low: int, high: int, expected: list[str]
) -> None:
    assert days(text, low, high) == expected


@pytest.mark.parametrize("year", [1950, 2024, 2026, 2027, 2100])
def test_yearly_days_are_there_in_each_year(year: int) -> None:
    house = closed("12-24", "12-27/01-02")
    assert house.is_holiday(date(year, 12, 24)) and house.is_holiday(date(year, 12, 31))
    assert house.is_holiday(date(year, 1, 2)) and not house.is_holiday(date(year, 1, 3))
    assert not house.is_holiday(date(year, 12, 25))


def test_a_named_closure_is_the_reason_that_people_read() -> None:
    summer = {"days": "2026-08-03/2026-08-21", "name": "Summer closure"}
    winter = {"days": "12-27/01-02", "name": "Winter closure"}
    house = closed(summer, winter, "2026-10-05")
    assert house.holiday_name(date(2026, 8, 21)) == "Summer closure"
    assert house.holiday_name(date(2027, 1, 1)) == "Winter closure"
    assert house.holiday_name(date(2026, 10, 5)) == "closed"
    cfg = {
        "startTime": "2026-08-05 09:00:00",
        "repeat": {"repeatType": "normal"},
        "skipHoliday": 1,
    }
    (item,) = Timer(cfg, house).explain(
        datetime(2026, 8, 1, tzinfo=UTC), datetime(2026, 9, 1, tzinfo=UTC)
    )
    # Monday, August 24, is the first day after the closure that is no weekend.
    assert item.because == "Summer closure"
    assert item.due == datetime(2026, 8, 24, 9, tzinfo=UTC)


def test_of_several_names_a_holiday_of_the_country_is_shown_and_of_closures_the_first() -> (
    None
):
    house = closed(
        "2026-12-24/2026-12-28",
        {"days": "2026-12-24/2027-01-03", "name": "Winter closure"},
        {"days": "2026-12-28", "name": "Stocktaking"},
        country="DE",
    )
    assert house.holiday_name(date(2026, 12, 24)) == "Winter closure"
    assert house.holiday_name(date(2026, 12, 25)) == "Christmas Day"
    assert house.holiday_name(date(2026, 12, 28)) == "Winter closure"


def test_a_named_open_day_is_worked_and_has_its_name() -> None:
    house = Calendar.read(
        {
            "country": "DE",
            "open": [{"days": "2026-12-19", "name": "Stocktaking"}, "05-01"],
        }
    )
    assert house is not None
    # A Saturday; and Labour Day, each year.
    assert house.is_makeup(date(2026, 12, 19)) and house.is_working_day(
        date(2026, 12, 19)
    )
    assert house.makeup_name(date(2026, 12, 19)) == "Stocktaking"
    assert (
        house.is_working_day(date(2030, 5, 1))
        and house.makeup_name(date(2030, 5, 1)) is None
    )
    assert house.makeup_name(date(2026, 12, 18)) is None


@pytest.mark.parametrize(
    ("item", "allowed"),
    [
        ("24.12.2026", "yyyy-MM-dd"),
        ("2026-12-24 ", "yyyy-MM-dd"),
        ("20261224", "yyyy-MM-dd"),
        ("2026-W52-4", "yyyy-MM-dd"),
        ("12-32", "days that exist"),
        ("02-30", "days that exist"),
        ("2027-02-29", "days that exist"),
        ("12-24/2026-12-26", "two days with a year, or of two without"),
        ("2026-12-24/12-26", "two days with a year, or of two without"),
        ("2026-12-26/2026-12-24", "ends on or after its first day"),
        ("0000-01-01", "days that exist"),
        ("٢٠٢٦-12-24", "yyyy-MM-dd"),
        (20261224, "yyyy-MM-dd"),
        (None, "yyyy-MM-dd"),
        ({"days": "12-24"}, "both keys"),
        ({"name": "Summer closure"}, "both keys"),
        ({"days": "12-24", "name": "Eve", "title": "Eve"}, "both keys"),
        ({"days": ["12-24"], "name": "Eve"}, "yyyy-MM-dd"),
        ({"days": "12-24", "name": ""}, "a name of 1 to 200"),
        ({"days": "12-24", "name": " "}, "a name of 1 to 200"),
        ({"days": "12-24", "name": "x" * 201}, "a name of 1 to 200"),
        ({"days": "12-24", "name": "a\nb"}, "a name of 1 to 200"),
        ({"days": "12-24", "name": "a\x1bb"}, "a name of 1 to 200"),
        ({"days": "12-24", "name": 7}, "a name of 1 to 200"),
        (["12-24"], "yyyy-MM-dd"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ["closed", "open"])
def test_what_is_no_range_is_refused_in_a_sentence(
    key: str, item: Any, allowed: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Calendar.read({key: ["2026-01-02", item]})
    (problem,) = caught.value.problems
    assert problem.key == f"calendar.{key}" and allowed in problem.allowed


@pytest.mark.parametrize(
    ("shut", "opened", "day"),
    [
        ("12-24", "2027-12-24", "2027-12-24"),
        ("2027-12-24", "12-24", "2027-12-24"),
        ("12-27/01-02", "01-02", "1950-01-02"),
        ({"days": "2026-08-03/2026-08-21", "name": "Summer"},
         {"days": "2026-08-08", "name": "Stocktaking"}, "2026-08-08"),
    ],
)  # fmt: skip
def test_a_day_that_is_closed_and_open_is_a_contradiction(
    shut: Any, opened: Any, day: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Calendar.read({"closed": [shut], "open": [opened]})
    (problem,) = caught.value.problems
    assert problem.key == "calendar.open" and day in problem.found


def test_days_of_each_year_count_once_for_the_limit() -> None:
    assert closed("01-01/12-31").next_working_day(date(2026, 1, 1)) == date(2101, 1, 3)
    with pytest.raises(ConfigError, match="at most 40000 days"):
        closed(*["01-01/12-31"] * 110)


@pytest.mark.parametrize("key", ["closed", "open"])
def test_a_day_beyond_the_table_is_a_mistake_and_no_table_of_8000_years(
    key: str,
) -> None:
    def made(day: str) -> Calendar:
        found = Calendar.read({"country": "DE", key: [day]})
        assert found is not None
        return found

    with pytest.raises(ConfigError) as error:
        made("9999-12-31")
    assert f"{key}: found the year 9999; allowed: days of the years 1950 to 2100" in (
        str(error.value)
    )
    assert made("2100-12-31").is_holiday(date(2100, 12, 31)) == (key == "closed")
