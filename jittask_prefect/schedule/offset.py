"""An offset: how far from a date of a row its task is due."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    model_serializer,
)

from jittask_prefect.schedule.days import months_later
from jittask_prefect.schedule.values import ClockTime, Part, clock_text, number, whole

if TYPE_CHECKING:
    from jittask_prefect.schedule.calendar import Calendar

Unit = Literal["second", "minute", "hour", "day", "workday", "week", "month", "year"]
Direction = Annotated[
    Literal[-1, 0, 1], number((-1, 0, 1), "-1 before, 0 on time or 1 after")
]


def _unit(value: object) -> object:
    """Plural units are the same units."""
    return value[:-1] if isinstance(value, str) and value.endswith("s") else value


class Offset(Part):
    """How far from a date the due time lies: `{"offsetType": -1, "offset": 7, "offsetUnit": "day", "time": "09:00"}`.

    The older form, `offsetType` 1 with a signed `offset`, says the same.
    """

    offset_type: Direction = Field(default=0, alias="offsetType")
    offset: Annotated[int, whole(-1_000_000_000, 1_000_000_000)] = 0
    unit: Annotated[Unit, BeforeValidator(_unit)] = Field(
        default="day", alias="offsetUnit"
    )
    time: ClockTime | None = None

    @property
    def amount(self) -> int:
        """The signed number of units: negative before, positive after."""
        return self.offset_type * self.offset

    @property
    def elapsed(self) -> bool:
        """Whether the unit is shorter than a day: such an offset counts elapsed time."""
        return self.unit in ("second", "minute", "hour")

    @property
    def duration(self) -> timedelta | None:
        """The elapsed time of an offset in a unit shorter than a day; None of any other, and of nothing."""
        if not self.elapsed or not self.amount:
            return None
        return self.amount * timedelta(**{f"{self.unit}s": 1})

    @property
    def days(self) -> int:
        """The days of an offset in days or weeks; 0 of any other."""
        return self.amount * {"day": 1, "week": 7}.get(self.unit, 0)

    @property
    def workdays(self) -> int:
        """The working days of an offset in working days; 0 of any other."""
        return self.amount if self.unit == "workday" else 0

    @property
    def months(self) -> int:
        """The months of an offset in months or years; 0 of any other."""
        return self.amount * {"month": 1, "year": 12}.get(self.unit, 0)

    def moved(self, wall: datetime, calendar: Calendar) -> datetime:
        """A wall time moved by days, working days or months and set to the offset's clock time.

        Elapsed time does not count. A day that the month lacks is its last.

        Args:
            wall: The wall time.
            calendar: Whose working days are counted.

        Raises:
            OverflowError: The calendar ends before.
        """
        day = self._day(wall.date(), calendar)
        return datetime.combine(day, self.time or wall.replace(fold=0).time())

    def _day(self, day: date, calendar: Calendar) -> date:
        if not (n := self.workdays):
            months = self.months
            moved = months_later(day, months) if months else day
            return moved + timedelta(self.days)

        found = calendar.workdays.nth(day, n)
        if found is None:
            raise OverflowError("beyond the calendar")
        return found

    @model_serializer
    def newer_form(self) -> dict[str, Any]:
        """The newer form, as JSON values."""
        sign = (self.amount > 0) - (self.amount < 0)
        form: dict[str, Any] = {"offsetType": sign}
        if sign:
            form |= {"offset": abs(self.amount), "offsetUnit": self.unit}
        if self.time is not None:
            form["time"] = clock_text(self.time)
        return form


# Several offsets with names

MOST_LEVELS = 100
LEVEL_NAME = (
    "a name of 1 to 64 letters, digits, _ or -, with single spaces or dots between"
)
_NAME = re.compile(r"[\w-]+(?:[ .][\w-]+)*")


def _level_name(value: object) -> object:
    if isinstance(value, str) and len(value) <= 64 and _NAME.fullmatch(value):
        return value
    raise ValueError(LEVEL_NAME)


class Level(Offset):
    """A named offset out of a list: `{"name": "first", "offsetType": 1, "offset": 3, "offsetUnit": "day"}`."""

    name: Annotated[str, BeforeValidator(_level_name)]

    @model_serializer
    def newer_form(self) -> dict[str, Any]:
        return {"name": self.name} | super().newer_form()


OFFSETS = (
    f"an offset, which is an object, or a list of 1 to {MOST_LEVELS} offsets with names"
)


def _levels(value: object) -> object:
    if isinstance(value, list | tuple) and 1 <= len(value) <= MOST_LEVELS:
        return tuple(value)
    raise ValueError(OFFSETS)


def _one_or_several(value: object) -> object:
    if isinstance(value, list | tuple | Mapping | Offset):
        return value
    raise ValueError(OFFSETS)


def _branch(value: object) -> str:
    return "union[Level]" if isinstance(value, list | tuple) else "union[Offset]"


Offsets = Annotated[
    Annotated[Offset, Tag("union[Offset]")]
    | Annotated[tuple[Level, ...], BeforeValidator(_levels), Tag("union[Level]")],
    Discriminator(_branch),
    BeforeValidator(_one_or_several),
]
"""An offset, or several with names. The tags name the models: paths of mistakes are read by them."""
