"""Building the day table of 20 years, against the `holidays` library asked day by day, which grows as it is asked."""

from __future__ import annotations

from datetime import date, timedelta
from functools import partial
from typing import Any

import holidays
from measure import line, scale, seconds

from jittask_prefect.schedule.country import Country, listing
from jittask_prefect.schedule.day_table import DayTable, Sources, table

FIRST, LAST = 2016, 2035


def day_by_day(country: str, days: list[date]) -> list[Any]:
    lazy = holidays.country_holidays(country)
    return [lazy.is_working_day(day) for day in days]


def day_table(country: str, block: str, first: int, last: int) -> DayTable:
    known = listing(Country(country), first, last)
    years = range(first, last + 1)
    return table(Sources(known, {}, {}, {}), block == "contiguous", years)


def main() -> None:
    runs = max(1, int(9 * scale(__doc__ or "")))
    days = [
        date(FIRST, 1, 1) + timedelta(n)
        for n in range((date(LAST, 12, 31) - date(FIRST, 1, 1)).days + 1)
    ]
    for country, block in (
        ("CN", "contiguous"),
        ("US", "listed"),
        ("SA", "listed"),
        ("DE", "listed"),
    ):
        day_table(country, block, FIRST, FIRST)  # the library's own modules are loaded
        ours = seconds(partial(day_table, country, block, FIRST, LAST), runs)
        whole = seconds(partial(day_table, country, block, 1950, 2100), runs)
        theirs = seconds(partial(day_by_day, country, days), min(runs, 3))
        more = {"milliseconds": ours * 1e3, "milliseconds_1950_to_2100": whole * 1e3}
        line(
            f"calendar of 20 years, {country}",
            theirs / ours,
            "times",
            "the library, day by day",
            **more,
        )


if __name__ == "__main__":
    main()
