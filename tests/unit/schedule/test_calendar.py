from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any

import holidays
import pytest

from jittask_prefect.errors import ConfigError
from jittask_prefect.schedule.calendar import Calendar, CalendarCfg
from jittask_prefect.schedule.timer import Timer


def calendar(source: Any) -> Calendar:
    found = Calendar.read(source)
    assert found is not None
    return found


def test_a_block_day_has_the_name_of_the_listed_holiday_that_makes_it() -> None:
    china = calendar("CN")
    assert china.holiday_name(date(2026, 10, 4)) == "National Day"  # Sunday
    assert (
        china.holiday_name(date(2026, 10, 7)) == "National Day"
    )  # paid for by Saturday, October 10
    assert china.holiday_name(date(2026, 1, 3)) == "New Year's Day"
    assert (
        china.holiday_name(date(2026, 2, 15)) == "Chinese New Year's Eve"
    )  # Sunday before it
    assert china.holiday_name(date(2026, 10, 8)) is None


def test_names_do_not_depend_on_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LANGUAGE", "th")
    assert calendar("CN").holiday_name(date(2026, 10, 1)) == "National Day"
    assert (
        calendar({"country": "CN", "language": "zh_CN"}).holiday_name(date(2026, 10, 1))
        == "国庆节"
    )


def test_block_is_contiguous_for_china_and_listed_elsewhere() -> None:
    assert [calendar(code).block for code in ("CN", "US", "JP")] == [
        "contiguous",
        "listed",
        "listed",
    ]
    # Friday 2026-12-25 is Christmas, a weekend follows.
    assert not calendar("US").is_holiday(date(2026, 12, 26))
    block = calendar({"country": "US", "block": "contiguous"})
    assert [block.holiday_name(date(2026, 12, n)) for n in (24, 25, 26, 27, 28)] == [
        None,
        "Christmas Day",
        "Christmas Day",
        "Christmas Day",
        None,
    ]


def test_a_block_reaches_over_new_year() -> None:
    # Saturday and Sunday, December 30 and 31, 2023, with Monday, January 1, 2024 (State Council's notice for 2024).
    china = calendar("CN")
    assert [china.is_holiday(date(2023, 12, n)) for n in (29, 30, 31)] == [
        False,
        True,
        True,
    ]
    assert china.is_holiday(date(2024, 1, 1)) and not china.is_holiday(date(2024, 1, 2))


def test_next_and_previous_working_day() -> None:
    china = calendar("CN")
    assert china.next_working_day(date(2026, 9, 30)) == date(2026, 10, 8)
    assert china.previous_working_day(date(2026, 10, 8)) == date(2026, 9, 30)
    assert china.next_working_day(date(2026, 10, 9)) == date(
        2026, 10, 10
    )  # Saturday, worked


def test_closed_and_open_days_of_the_house() -> None:
    house = calendar(
        {
            "country": "US",
            "closed": ["2026-12-24", "2026-12-28/2026-12-30"],
            "open": ["2026-07-03"],
        }
    )
    assert house.holiday_name(date(2026, 12, 24)) == "closed"
    assert [house.is_working_day(date(2026, 12, n)) for n in (28, 29, 30, 31)] == [
        False,
        False,
        False,
        True,
    ]
    # July 3, 2026 is the observed Independence Day (the 4th is a Saturday); the house is open.
    assert not calendar("US").is_working_day(date(2026, 7, 3))
    assert house.is_working_day(date(2026, 7, 3)) and not house.is_holiday(
        date(2026, 7, 3)
    )


def test_a_calendar_without_a_country_has_saturdays_sundays_and_its_own_days() -> None:
    own = calendar({"closed": ["2026-08-03/2026-08-07"]})
    assert own.is_weekend(date(2026, 8, 1)) and not own.is_holiday(date(2026, 8, 1))
    assert own.is_holiday(date(2026, 8, 5)) and own.reliable_until is None
    assert own.next_working_day(date(2026, 7, 31)) == date(2026, 8, 10)


def test_categories_and_subdivisions() -> None:
    # Assumption Day (August 15) is public in Bavaria for Catholic communities; Epiphany (January 6) everywhere in it.
    assert calendar({"country": "DE", "subdiv": "BY"}).is_holiday(date(2026, 1, 6))
    assert not calendar("DE").is_holiday(date(2026, 1, 6))
    assert calendar(
        {"country": "CN", "categories": ["public", "half_day"], "block": "listed"}
    ).is_holiday(date(2026, 3, 8))
    assert not calendar({"country": "CN", "block": "listed"}).is_holiday(
        date(2026, 3, 8)
    )


@pytest.mark.parametrize(
    ("source", "key", "allowed"),
    [
        ("XX", "calendar.country", "ISO 3166"),
        ("cn", "calendar.country", "CN"),
        ({"country": "US", "subdiv": "ZZ"}, "calendar.subdiv", "CA"),
        ({"country": "US", "categories": ["feast"]}, "calendar.categories", "public"),
        ({"country": "US", "language": "tlh"}, "calendar.language", "en_US"),
        ({"country": "US", "block": "round"}, "calendar.block", "contiguous"),
        ({"country": "US", "colsed": []}, "calendar.colsed", "closed"),
        (
            {"country": "US", "closed": ["2026-12-26/2026-12-24"]},
            "calendar.closed",
            "ends on or after",
        ),
        ("DE-XX", "calendar.subdiv", "BY"),
        ("GB-", "calendar.subdiv", "ENG"),
        ({"country": "DE-BY", "subdiv": "BE"}, "calendar.subdiv", "none beside"),
        ({"closed": ["2026-01-01/2035-12-31"] * 11}, "calendar.closed", "40000 days"),
        ({"country": "US", "closed": ["2026-02-30"]}, "calendar.closed", "yyyy-MM-dd"),
        ({"country": "US", "closed": "2026-02-03"}, "calendar.closed", "list"),
        (
            {"country": "US", "closed": ["2026-02-03"], "open": ["2026-02-03"]},
            "calendar.open",
            "not in closed",
        ),
        (7, "calendar", "object"),
    ],
)
def test_what_cannot_be_read_names_key_and_what_is_allowed(
    source: Any, key: str, allowed: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Calendar.read(source)
    (problem,) = caught.value.problems
    assert problem.key == key and allowed in problem.allowed


def test_threads_see_one_calendar() -> None:
    asked = [date(2000, 1, 1) + timedelta(n) for n in range(0, 14000, 7)]
    alone = calendar({"country": "CN", "language": "zh_CN"})
    expected = [alone.holiday_name(day) for day in asked]
    shared = Calendar(CalendarCfg(country="CN", language="zh_CN"))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(shared.holiday_name, asked)) == expected


def test_the_ends_of_time_do_not_crash() -> None:
    china = calendar("CN")
    assert china.is_holiday(date(9999, 12, 31)) in (True, False)
    assert china.is_weekend(date(1, 1, 1)) in (True, False)


def test_countries_where_the_moon_decides_are_reliable_while_the_dates_are_known() -> (
    None
):
    # Dates announced in Saudi Arabia are in the library up to a year; from there on it estimates.
    until = calendar("SA").reliable_until
    assert until is not None and date(2025, 1, 1) < until < date(2035, 1, 1)
    assert calendar("US").reliable_until == date(2100, 12, 31)


@pytest.mark.parametrize(
    ("code", "day", "elsewhere"),
    [
        ("DE-BY", date(2026, 1, 6), "DE-HH"),  # Epiphany
        ("GB-ENG", date(2026, 8, 31), "GB-SCT"),  # Late Summer Bank Holiday
        ("US-CA", date(2026, 3, 31), "US-NY"),  # Cesar Chavez Day
    ],
)
def test_a_country_with_a_subdivision_is_a_calendar_wherever_a_country_is(
    code: str, day: date, elsewhere: str
) -> None:
    country, subdiv = code.split("-")
    for source in (code, {"country": code}, {"country": country, "subdiv": subdiv}):
        assert calendar(source).is_holiday(day) and calendar(source).label == code
    assert not calendar(elsewhere).is_holiday(day)
    cfg = {
        "startTime": f"{day} 09:00:00",
        "repeat": {"repeatType": "normal"},
        "skipHoliday": 1,
        "calendar": code,
    }
    for timer in (Timer(cfg), Timer(cfg, calendar=code)):
        assert timer.nextTime(datetime(2026, 1, 1)) == datetime(
            day.year, day.month, day.day, 9, tzinfo=UTC
        ) + timedelta(1)


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (
            "GB",
            [
                "Easter Monday (2026-04-06)",
                "Late Summer Bank Holiday (2026-08-31)",
                "GB-ENG",
            ],
        ),
        ("HK", ["Good Friday (2026-04-03)", "optional"]),
        ("BR", ["Carnival (2026-02-16)", "optional"]),
        ("CH", ["Good Friday (2026-04-03)", "CH-ZH"]),
    ],
)
def test_what_most_have_off_and_nobody_chose_is_named(
    source: str, named: list[str]
) -> None:
    said = " ".join(calendar(source).left_out(2026))
    assert [name for name in named if name not in said] == []


@pytest.mark.parametrize(
    "source",
    [
        "CN",
        "US",
        "DE",
        "FR",
        "GB-ENG",
        {"country": "HK", "categories": ["public"]},
        {"closed": []},
    ],
    ids=str,
)
def test_a_calendar_that_leaves_out_nothing_common_or_was_chosen_is_left_in_peace(
    source: Any,
) -> None:
    assert calendar(source).left_out(2026) == []


@pytest.mark.parametrize("code", ["AR", "TH", "VN", "HK", "KR"])
def test_a_country_is_reliable_while_nothing_is_reckoned(code: str) -> None:
    """AR and TH decree bridge days each year, VN and HK announce what the moon decides; the library knows 2026."""
    assert calendar(code).reliable_until == date(2026, 12, 31)


def test_no_country_is_reliable_beyond_a_year_with_an_estimate_in_its_name() -> None:
    """A few of those that the library marks: what it names "(estimated)" lies beyond the reliable year."""
    for code in ("TR", "ID", "MY", "SG", "AE"):
        until = calendar(code).reliable_until
        assert until is not None
        first = holidays.country_holidays(code, years=until.year, language="en_US")
        after = holidays.country_holidays(code, years=until.year + 1, language="en_US")
        assert not any("estimated" in name for name in first.values()), code
        assert any("estimated" in name for name in after.values()), code
