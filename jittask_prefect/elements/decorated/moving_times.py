"""Times that move, for the conditions of decorated tasks."""

from __future__ import annotations

from typing import Any

from jittask_prefect.filters.tree import Moment


def now(
    *,
    years: int = 0,
    months: int = 0,
    weeks: int = 0,
    days: int = 0,
    hours: int = 0,
    minutes: int = 0,
    seconds: int = 0,
) -> Any:
    """The present instant in a `where`, shifted: `Appointment.starts_at > now(hours=2)`.

    Each look at the database takes the instant anew. Years to days are shifted on the wall clock of the task's zone, hours
    to seconds are elapsed time; negative numbers lie in the past.
    """
    return _moving("now", years, months, weeks, days, hours, minutes, seconds)


def today(
    *,
    years: int = 0,
    months: int = 0,
    weeks: int = 0,
    days: int = 0,
    hours: int = 0,
    minutes: int = 0,
    seconds: int = 0,
) -> Any:
    """00:00 of the present day in a `where`, shifted: `Invoice.due_on < today(days=-30)`.

    Each look at the database takes the day anew, in the task's zone; negative numbers lie in the past.
    """
    return _moving("today", years, months, weeks, days, hours, minutes, seconds)


_UNITS = ("years", "months", "weeks", "days", "hours", "minutes", "seconds")


def _moving(start: str, *numbers: int) -> Moment:
    shift = zip(_UNITS, numbers, strict=True)
    return Moment(start, tuple((unit, n) for unit, n in shift if n != 0))
