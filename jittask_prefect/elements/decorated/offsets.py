"""Offsets of decorated tasks: how far from a row's date a task is due."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, overload

from jittask_prefect.elements.decorated.pieces import Clock, Piece

if TYPE_CHECKING:
    from sqlalchemy.sql.expression import SQLColumnExpression

DateField: TypeAlias = "SQLColumnExpression[Any] | date | None"
"""A mapped date or datetime attribute, `Invoice.due_on`. SQLModel declares such an attribute as a date."""


@dataclass(frozen=True, repr=False, init=False)
class Offset(Piece):
    """How far from a date: a number of one unit, or the day itself."""

    field: Any = None
    seconds: int | None = None
    minutes: int | None = None
    hours: int | None = None
    days: int | None = None
    workdays: int | None = None
    weeks: int | None = None
    months: int | None = None
    years: int | None = None
    at: Clock | None = None
    name: str | None = None

    _first: ClassVar[str] = "field"

    @overload
    def __init__(
        self, field: DateField = None, /, *, at: Clock, name: str | None = None
    ) -> None: ...
    @overload
    def __init__(
        self, field: DateField = None, /, *, seconds: int, name: str | None = None
    ) -> None: ...
    @overload
    def __init__(
        self, field: DateField = None, /, *, minutes: int, name: str | None = None
    ) -> None: ...
    @overload
    def __init__(
        self, field: DateField = None, /, *, hours: int, name: str | None = None
    ) -> None: ...
    @overload
    def __init__(
        self,
        field: DateField = None,
        /,
        *,
        days: int,
        at: Clock | None = None,
        name: str | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        field: DateField = None,
        /,
        *,
        workdays: int,
        at: Clock | None = None,
        name: str | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        field: DateField = None,
        /,
        *,
        weeks: int,
        at: Clock | None = None,
        name: str | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        field: DateField = None,
        /,
        *,
        months: int,
        at: Clock | None = None,
        name: str | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        field: DateField = None,
        /,
        *,
        years: int,
        at: Clock | None = None,
        name: str | None = None,
    ) -> None: ...
    def __init__(
        self,
        field: DateField = None,
        /,
        *,
        seconds: int | None = None,
        minutes: int | None = None,
        hours: int | None = None,
        days: int | None = None,
        workdays: int | None = None,
        weeks: int | None = None,
        months: int | None = None,
        years: int | None = None,
        at: Clock | None = None,
        name: str | None = None,
    ) -> None:
        self._keep(field=field, seconds=seconds, minutes=minutes, hours=hours)
        self._keep(days=days, workdays=workdays, weeks=weeks, months=months)
        self._keep(years=years, at=at, name=name)


@dataclass(frozen=True, repr=False, init=False)
class Before(Offset):
    """Before the date: `Before(days=2, at="09:00")`, two days before, at 09:00 in the task's zone.

    Days and longer units are counted on the calendar; a day that the month lacks is its last. `workdays` are the working
    days of the task's calendar, the date's own day not counted. Hours, minutes and seconds are elapsed time, without `at`.

    Args:
        field: In `until` only, the date that ends a row's tasks: `Before(Contract.ends_on, days=1)`.
        seconds: One unit, a whole number of 0 or more; `minutes`, `hours`, `days`, `workdays`, `weeks`, `months`, `years` likewise.
        at: The clock time of the day that a unit of days or longer arrives at, `"09:00"`; absent: the date's own.
        name: The name of the due time, in a list of several: `[After(days=3, name="first"), After(days=14, name="second")]`.
    """


@dataclass(frozen=True, repr=False, init=False)
class After(Offset):
    """After the date: `After(days=3, at="09:00")`, three days after, at 09:00 in the task's zone.

    `After(at="09:00")` is the day itself, at 09:00. Days and longer units are counted on the calendar; a day that the
    month lacks is its last. `workdays` are the working days of the task's calendar, the date's own day not counted. Hours,
    minutes and seconds are elapsed time, without `at`.

    Args:
        field: In `until` only, the date that ends a row's tasks: `After(Invoice.due_on, months=3)`.
        seconds: One unit, a whole number of 0 or more; `minutes`, `hours`, `days`, `workdays`, `weeks`, `months`, `years` likewise.
        at: The clock time of the day that a unit of days or longer arrives at, `"09:00"`; absent: the date's own.
        name: The name of the due time, in a list of several: `[After(days=3, name="first"), After(days=14, name="second")]`.
    """
