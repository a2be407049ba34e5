"""Days that a calendar names itself: dates and ranges, of a year or of each year, with a name or without."""

from __future__ import annotations

import re
from calendar import isleap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Annotated

from pydantic import BeforeValidator

from jittask_prefect.errors.printable import has_controls
from jittask_prefect.schedule.days import each_day
from jittask_prefect.validation import shown

MAX_OWN_DAYS = 40_000
"""Closed or open days that a calendar may name; days of each year count once."""
MAX_RANGE = 3660
"""Days of a range."""
MAX_NAME = 200
LEAP_YEAR = 2000
"""Stands for each year."""
FORMS = '"yyyy-MM-dd", "MM-dd" for each year, or a range of two: "yyyy-MM-dd/yyyy-MM-dd", "MM-dd/MM-dd"'
NAMED = '{"days": "…", "name": "…"}'
_RANGE = re.compile(r"((?:\d{4}-)?)(\d\d-\d\d)(?:/((?:\d{4}-)?)(\d\d-\d\d))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class OwnDays:
    """A range of days.

    Attributes:
        first: The first day.
        last: The last day, included.
        yearly: Whether the range comes each year: then both days are given in LEAP_YEAR, and a last day before the
            first lies in the next year.
        name: Its name for people; empty where nobody named the days.
    """

    first: date
    last: date
    yearly: bool = False
    name: str = ""

    def in_years(self, low: int, high: int) -> Iterator[date]:
        """The days within the years `low` to `high`, both included.

        February 29 of a yearly range is left out of a common year.
        """
        turns = self.yearly and self.last < self.first
        years = range(max(1, low - turns), high + 1) if self.yearly else (0,)
        for year in years:
            first, last = self.first, self.last
            if self.yearly:
                first = _in_year(first, year, date(year, 3, 1))
                last = date.max
                if (ends := year + turns) <= last.year:
                    last = _in_year(self.last, ends, date(ends, 2, 28))

            for day in each_day(first, last):
                if low <= day.year <= high:
                    yield day


def _in_year(day: date, year: int, common: date) -> date:
    """A day in another year; `common` where February 29 meets a common year."""
    is_29_february = (day.month, day.day) == (2, 29)
    return common if is_29_february and not isleap(year) else day.replace(year=year)


def read_range(text: object, name: str = "") -> OwnDays:
    """A range as people write it.

    Args:
        text: A text of FORMS.
        name: The name of the days.

    Raises:
        ValueError: Not such a text; the message says which text is allowed.
    """
    found = _RANGE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"{FORMS}, not {shown(text)}")

    year, day, last_year, last_day = found.groups()
    if last_day is None:
        last_year, last_day = year, day
    if bool(year) is not bool(last_year):
        raise ValueError(
            f"a range of two days with a year, or of two without, not {shown(text)}"
        )

    every = f"{LEAP_YEAR}-"
    try:
        first = date.fromisoformat((year or every) + day)
        last = date.fromisoformat((last_year or every) + last_day)
    except ValueError:
        raise ValueError(f"days that exist, {FORMS}, not {shown(text)}") from None

    if year and last < first:
        allowed = "a range that ends on or after its first day"
        raise ValueError(f"{allowed}, not {shown(text)}")
    if (last - first).days > MAX_RANGE:
        raise ValueError(f"a range of at most ten years, not {shown(text)}")

    return OwnDays(first, last, not year, name)


def day_name(value: object) -> str:
    """A name of days.

    Raises:
        ValueError: Not a name; the message says which names are allowed.
    """
    if isinstance(value, str):
        name = value.strip()
        if (
            name
            and len(name) <= MAX_NAME
            and not has_controls(name)
            and "\n" not in name
        ):
            return name

    raise ValueError(
        f"a name of 1 to {MAX_NAME} characters on a line, not {shown(value)}"
    )


def _item(item: object) -> OwnDays:
    if not isinstance(item, Mapping):
        return read_range(item)
    if item.keys() != {"days", "name"}:
        raise ValueError(
            f"{NAMED} with both keys and no other, not {shown(dict(item))}"
        )
    return read_range(item["days"], day_name(item["name"]))


def _items(value: object) -> object:
    if not isinstance(value, list):
        raise ValueError(f"a list of {FORMS}; each with a name as {NAMED}")

    found = tuple(map(_item, value))
    if (days := sum(map(length, found))) > MAX_OWN_DAYS:
        raise ValueError(f"at most {MAX_OWN_DAYS} days in all, not {days}")

    return found


def length(own: OwnDays) -> int:
    """How many days a range has, in a year where the range comes each year."""
    days = (own.last - own.first).days + 1
    return days if days > 0 else days + 366


@dataclass(frozen=True)
class ListedDays:
    """The holidays of files.

    Attributes:
        names: The days, each with its name or an empty text.
        until: The last day that a file lists once; None where all its days come each year.
    """

    names: Mapping[date, str]
    until: date | None = None


Ranges = Annotated[tuple[OwnDays, ...], BeforeValidator(_items)]
"""`closed` or `open` of a calendar."""
