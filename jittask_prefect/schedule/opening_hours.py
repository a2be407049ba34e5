"""A window of a `timerCfg`: from when to when a task may begin, and on which days."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    model_validator,
)

from jittask_prefect.schedule.values import Part, Weekday, many
from jittask_prefect.validation import Flag

WHOLE_DAY = 24 * 60
MOST_WINDOWS = 100
CLOCK = "a clock time from 00:00 to 23:59"
CLOSING = "a clock time from 00:00 to 24:00"
WINDOW = (
    'an object such as {"from": "08:00", "to": "18:00", "workdays": 1}, '
    f"or a list of 1 to {MOST_WINDOWS} of them"
)


def _minutes(last: int, allowed: str) -> BeforeValidator:
    """A reader of clock times as minutes of the day."""

    def check(value: object) -> int:
        hours, colon, minutes = value.partition(":") if isinstance(value, str) else ("", "", "")  # fmt: skip
        digits = all(len(n) == 2 and n.isascii() and n.isdigit() for n in (hours, minutes))  # fmt: skip
        if not (colon and digits and int(minutes) < 60):
            raise ValueError(allowed)
        if (found := int(hours) * 60 + int(minutes)) > last:
            raise ValueError(allowed)
        return found

    return BeforeValidator(check)


def minute_text(minutes: int) -> str:
    """Minutes of a day as a clock time, up to 24:00."""
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _midnight_is_the_end(minutes: int) -> int:
    """A window that closes at 00:00 closes as the day ends."""
    return minutes or WHOLE_DAY


class Window(Part):
    """When a task may begin: `{"from": "08:00", "to": "18:00", "workdays": 1}`.

    Attributes:
        opens: Minutes of the day, included.
        closes: Minutes of the day, excluded; less than `opens`: of the next day.
        weekdays: Monday 1; None: every day.
        workdays: Only on the working days of the task's calendar.
    """

    opens: Annotated[
        int, _minutes(WHOLE_DAY - 1, CLOCK), PlainSerializer(minute_text)
    ] = Field(alias="from")
    closes: Annotated[
        int,
        _minutes(WHOLE_DAY, CLOSING),
        AfterValidator(_midnight_is_the_end),
        PlainSerializer(minute_text),
    ] = Field(alias="to")
    weekdays: Annotated[tuple[Weekday, ...], BeforeValidator(many)] | None = None
    workdays: Flag = False

    @property
    def end(self) -> int:
        """The closing as minutes from the beginning of the day on which the window opens."""
        return self.closes + (WHOLE_DAY if self.closes < self.opens else 0)

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.opens == self.closes:
            raise ValueError(
                "a `to` that differs from `from`; the whole day is 00:00 to 24:00"
            )
        if self.workdays and self.weekdays is not None:
            raise ValueError("either weekdays or workdays")
        return self


def _several(value: object) -> object:
    """A window by itself is a list with that window."""
    if isinstance(value, dict):
        return (value,)
    if isinstance(value, tuple):
        return value
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_WINDOWS:
        raise ValueError(WINDOW)
    return tuple(value)


def _as_written(windows: tuple[Window, ...] | None) -> Any:
    """A window by itself as an object, several as a list, each once."""
    dumped = [window.dump() for window in dict.fromkeys(windows or ())]
    return dumped[0] if len(dumped) == 1 else dumped or None


WindowsCfg = Annotated[
    tuple[Window, ...], BeforeValidator(_several), PlainSerializer(_as_written)
]
"""The windows of a timer; a single window is written as an object."""
