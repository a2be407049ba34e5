"""Five-field cron, read as crontab(5) reads it, and turned into RRULEs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from jittask_prefect.schedule.rrule import RRule
from jittask_prefect.validation import shown

MONTHS = {
    "jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6,
    "jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11, "dec": 12,
}  # fmt: skip
WEEKDAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
MAX_LENGTH = 1000
"""Characters of an expression."""


@dataclass(frozen=True)
class Field:
    """A field: its name, its least and greatest number, and names for numbers."""

    name: str
    low: int
    high: int
    names: dict[str, int]


DAY_OF_WEEK = Field("day of week", 0, 7, WEEKDAYS)
FIELDS = (
    Field("minute", 0, 59, {}),
    Field("hour", 0, 23, {}),
    Field("day of month", 1, 31, {}),
    Field("month", 1, 12, MONTHS),
    DAY_OF_WEEK,
)


def read_cron(text: str) -> tuple[RRule, ...]:
    """Read an expression.

    Args:
        text: Five fields: lists, ranges, steps, names of months and weekdays, 7 for Sunday.

    Returns:
        Rules that together have the expression's times. Day of month and day of week are joined by *or* where neither
        begins with `*`, as in crontab(5); then there are two rules. `*/2` is *and*.

    Raises:
        ValueError: Not such an expression; the message says which text is allowed.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(
            f"five fields of at most {MAX_LENGTH} characters, not {len(text)}"
        )

    parts = text.split()
    if len(parts) != 5:
        six = " (six fields are refused: seconds are not read the same everywhere)"
        raise ValueError(
            f"five fields: minute hour day-of-month month day-of-week{six if len(parts) == 6 else ''}"
        )

    minutes, hours, days, months, sundays = map(_numbers, parts, FIELDS)
    by = {
        "BYHOUR": hours,
        "BYMINUTE": minutes,
        "BYSECOND": frozenset({0}),
        **({"BYMONTH": months} if len(months) < 12 else {}),
    }
    by_day = {"BYMONTHDAY": days} if len(days) < 31 else {}
    weekdays = frozenset((0, (n - 1) % 7) for n in sundays)  # Monday 0
    weekdays = weekdays if len(weekdays) < 7 else frozenset()
    if parts[2].startswith("*") or parts[4].startswith("*"):
        rules = [RRule("DAILY", by=by | by_day, weekdays=weekdays)]
    else:
        rules = [
            RRule("DAILY", by=by | by_day),
            RRule("DAILY", by=by, weekdays=weekdays),
        ]

    if not (possible := tuple(rule for rule in rules if rule.possible())):
        raise ValueError("an expression that matches some day; this one never does")

    return possible


def whole_seconds(start: datetime) -> datetime:
    """The first whole second from a start on: cron times have no fraction of a second."""
    return start.replace(microsecond=0) + timedelta(seconds=start.microsecond > 0)


def _numbers(text: str, field: Field) -> frozenset[int]:
    """The numbers that the text of a field names."""
    found: set[int] = set()
    for item in text.split(","):
        body, slash, step_text = item.partition("/")
        steps = Field(field.name, 1, field.high - field.low + 1, {})
        step = _number(step_text, steps) if slash else 1
        greatest = 6 if field is DAY_OF_WEEK else field.high
        if body == "*":
            first, last = field.low, greatest
        else:
            first_text, dash, last_text = body.partition("-")
            first = _number(first_text, field)
            last = greatest if slash else first
            if dash:
                last = _number(last_text, field)
                if field is DAY_OF_WEEK and last == 0 < first:
                    last = 7  # fri-sun

            if last < first:
                raise ValueError(f"a {field.name} range that rises, not {item}")

        found.update(range(first, last + 1, step))

    return frozenset(found)


def _number(text: str, field: Field) -> int:
    if text.casefold() in field.names:
        return field.names[text.casefold()]

    digits = text.isascii() and text.isdigit() and len(text) <= 4
    if digits and field.low <= int(text) <= field.high:
        return int(text)

    names = " or a name" if field.names else ""
    raise ValueError(
        f"a {field.name} of {field.low} to {field.high}{names}, with *, lists, ranges and steps, "
        f"not {shown(text) if text else 'nothing'}"
    )
