"""The values of a `timerCfg`'s keys, each with a reader that names what is allowed, and the base of its parts."""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from datetime import date, datetime, time
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, PlainSerializer

from jittask_prefect.errors.column_paths import read_path
from jittask_prefect.validation import StrictModel

INSTANT = "a time as yyyy-MM-dd HH:mm:ss"
DAY_OR_INSTANT = "a date as yyyy-MM-dd or a time as yyyy-MM-dd HH:mm:ss"
CLOCK = "a clock time as HH:mm"
MAX_DATES = 10_000
MOST_WORKDAYS = 31


def from_text(
    pattern: str, read: Callable[[str], object], allowed: str
) -> Callable[[object], object]:
    """A reader of texts of a form."""

    def check(value: object) -> object:
        if not isinstance(value, str) or not re.fullmatch(pattern, value, re.ASCII):
            raise ValueError(allowed)

        try:
            return read(value)
        except ValueError:
            raise ValueError(f"{allowed} that exists") from None

    return check


DAY_FORM = r"\d{4}-\d\d-\d\d"
# JitTask writes a T, or leaves out the seconds or the whole clock time, too.
INSTANT_FORM = rf"{DAY_FORM}([ T]\d\d:\d\d(:\d\d)?)?"
_instant = from_text(INSTANT_FORM, datetime.fromisoformat, INSTANT)
_clock = from_text(r"\d\d:\d\d(:\d\d)?", time.fromisoformat, CLOCK)
_day_or_instant = from_text(
    INSTANT_FORM,
    lambda text: (date if len(text) == 10 else datetime).fromisoformat(text),
    DAY_OR_INSTANT,
)


def number(numbers: Container[int], allowed: str) -> BeforeValidator:
    """Whole numbers of a set, with a message that names the set."""

    def check(value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool) and value in numbers:
            return value
        raise ValueError(allowed)

    return BeforeValidator(check)


def whole(low: int, high: int) -> BeforeValidator:
    return number(range(low, high + 1), f"a whole number from {low} to {high}")


def _field_name(value: object) -> object:
    if isinstance(value, str) and value.isidentifier():
        return value
    raise ValueError("the name of a date or datetime column")


def _field_path(value: object) -> object:
    read_path(value if isinstance(value, str) else "")
    return value


def many(value: object) -> object:
    """A single value in the place of a list is a list with that value."""
    if not isinstance(value, list):
        return (value,)
    if not 1 <= len(value) <= 100:
        raise ValueError("a list of 1 to 100 numbers")
    return tuple(value)


def places(most: int, allowed: str) -> BeforeValidator:
    """Places in a month, counted from its start or, negative, from its end: a number or a list of numbers."""

    def check(value: object) -> object:
        some = value if isinstance(value, list) else [value]
        known = all(type(n) is int and 1 <= abs(n) <= most for n in some)
        if known and 1 <= len(some) <= 2 * most:
            return tuple(some)
        raise ValueError(f"{allowed}; or a list of these")

    return BeforeValidator(check)


def _as_written(places: tuple[int, ...]) -> int | list[int]:
    """A single place as its number, several as a list, each once."""
    some = list(dict.fromkeys(places))
    return some[0] if len(some) == 1 else some


def listed_dates(value: object) -> object:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_DATES:
        raise ValueError(f"a list of 1 to {MAX_DATES} dates, each {DAY_OR_INSTANT}")
    return tuple(value)


def _moment_text(moment: date) -> str:
    if not isinstance(moment, datetime):
        return moment.isoformat()
    return f"{moment:%Y-%m-%d %H:%M:%S}".zfill(19)


def clock_text(clock: time) -> str:
    return clock.isoformat("seconds" if clock.second else "minutes")


_AS_MOMENT = PlainSerializer(_moment_text)
ClockTime = Annotated[time, BeforeValidator(_clock), PlainSerializer(clock_text)]
Instant = Annotated[datetime, BeforeValidator(_instant), _AS_MOMENT]
Moment = Annotated[datetime | date, BeforeValidator(_day_or_instant), _AS_MOMENT]
ColumnName = Annotated[str, BeforeValidator(_field_name)]
ColumnPath = Annotated[str, BeforeValidator(_field_path)]
"""A column, or a column that relationships lead to, as filters name them: `customer__region`."""
Weekday = Annotated[int, whole(1, 7)]
Month = Annotated[int, whole(1, 12)]
MonthDay = Annotated[
    int, number((*range(1, 32), -1), "1 to 31, or -1 for the last day")
]
Weeks = Annotated[
    tuple[int, ...],
    places(5, "1 to 5, or -1 to -5 counted from the end"),
    PlainSerializer(_as_written),
]
"""A week of the month, or several; a single week is written as a number."""
WorkdayPlaces = Annotated[
    tuple[int, ...],
    places(MOST_WORKDAYS, "1 for the first to 31, or -1 for the last to -31"),
    PlainSerializer(_as_written),
]
"""A working day of the month, or several, likewise."""


class Part(StrictModel):
    """A part of a timerCfg: known to users by its JSON keys only."""

    model_config = ConfigDict(populate_by_name=False)

    def dump(self) -> dict[str, Any]:
        """The newer form, as JSON values, without defaults."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
