"""A validated `timerCfg`: frozen values, and the newer form back. `reading` makes it of JSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field

from jittask_prefect.schedule.offset import Level, Offset, Offsets
from jittask_prefect.schedule.opening_hours import WindowsCfg
from jittask_prefect.schedule.values import (
    ColumnName,
    ColumnPath,
    Instant,
    Moment,
    Month,
    MonthDay,
    Part,
    Weekday,
    Weeks,
    WorkdayPlaces,
    listed_dates,
    many,
    whole,
)
from jittask_prefect.schedule.zones import zone_name
from jittask_prefect.validation import Flag

Policy = Literal["next", "previous", "nearest", "skip"]
RepeatType = Literal[
    "normal", "minute", "hour", "day", "workday", "week", "month", "year", "custom"
]


def _digit(value: object) -> object:
    """A digit as text is that digit."""
    return int(value) if isinstance(value, str) and value in ("0", "1", "2") else value


def _policy(value: object) -> object:
    return "skip" if isinstance(value, str) and value == "cycle" else value


class Repeat(Part):
    """The repeat cycle: its type, and the parts that narrow the type down."""

    repeat_type: RepeatType = Field(default="normal", alias="repeatType")
    period: Annotated[int, whole(1, 10_000_000)] = 1
    sub_type: Literal["day", "week"] | None = Field(default=None, alias="subType")
    week: Weeks | None = None
    weekday: Annotated[tuple[Weekday, ...], BeforeValidator(many)] | None = None
    day: Annotated[tuple[MonthDay, ...], BeforeValidator(many)] | None = None
    month: Annotated[tuple[Month, ...], BeforeValidator(many)] | None = None
    workday: WorkdayPlaces | None = None
    month_end: Literal["last", "skip"] = Field(default="last", alias="monthEnd")
    cron: str | None = None
    rrule: str | None = None
    dates: Annotated[tuple[Moment, ...], BeforeValidator(listed_dates)] | None = None

    @property
    def counts_workdays(self) -> bool:
        """Whether the repeat itself names working days."""
        return self.repeat_type == "workday" or self.workday is not None


class TimerCfg(Part):
    """A validated `timerCfg`; `read_timer` makes it."""

    start_time: Instant | None = Field(default=None, alias="startTime")
    start_field: ColumnName | None = Field(default=None, alias="startField")
    offsets: Offsets | None = Field(default=None, alias="startOffset")
    end_time_type: Annotated[Literal[0, 1, 2], BeforeValidator(_digit)] = Field(
        default=0, alias="endTimeType"
    )
    end_time: Moment | None = Field(default=None, alias="endTime")
    end_field: ColumnName | None = Field(default=None, alias="endField")
    end_offset: Offset | None = Field(default=None, alias="endOffset")
    repeat: Repeat = Field(default_factory=Repeat)
    skip_holiday: Flag = Field(default=False, alias="skipHoliday")
    holiday_policy: Annotated[Policy, BeforeValidator(_policy)] = Field(
        default="next", alias="holidayPolicy"
    )
    workdays_only: Flag = Field(default=False, alias="workdaysOnly")
    window: WindowsCfg = ()
    calendar: str | None = Field(default=None, min_length=1)
    timezone: Annotated[str, AfterValidator(zone_name)] | None = None
    timezone_field: ColumnPath | None = Field(default=None, alias="timezoneField")
    calendar_field: ColumnPath | None = Field(default=None, alias="calendarField")

    @property
    def start_offset(self) -> Offset | None:
        """The single offset; None without an offset, and of a timer with levels."""
        return self.offsets if isinstance(self.offsets, Offset) else None

    @property
    def levels(self) -> tuple[Level, ...]:
        """The named offsets; none where there is a single offset, or none."""
        return self.offsets if isinstance(self.offsets, tuple) else ()

    @property
    def every_offset(self) -> tuple[Offset, ...]:
        """The offsets that due times come from: the single offset, or each level."""
        return (self.start_offset,) if self.start_offset else self.levels

    def of_level(self, level: Level, *, repeats: bool) -> Self:
        """The timer of a level alone.

        Args:
            level: One of `levels`.
            repeats: Whether the repeat goes on from the level; else its time comes once.
        """
        repeat = self.repeat if repeats else Repeat()
        return self.model_copy(update={"offsets": level, "repeat": repeat})

    @property
    def counts_workdays(self) -> bool:
        """Whether a due time is found by counting working days."""
        ended = self.end_offset if self.end_time_type == 2 else None
        offsets = (*self.every_offset, *([ended] if ended else []))
        return any(each.workdays for each in offsets) or self.repeat.counts_workdays

    @property
    def opens_on_workdays(self) -> bool:
        """Whether a window opens on working days."""
        return any(window.workdays for window in self.window)

    @property
    def asks_calendar(self) -> bool:
        """Whether holidays or weekends decide about a due time."""
        kept = self.skip_holiday or self.workdays_only
        return kept or self.counts_workdays or self.opens_on_workdays

    @property
    def lands_on_workdays(self) -> bool:
        """Whether each occurrence is a counted working day: then no holiday rule moves any."""
        offsets = self.every_offset
        counted = bool(offsets) and all(each.workdays for each in offsets)
        if self.repeat.repeat_type == "normal":
            return counted
        return self.repeat.counts_workdays and (counted or not self.levels)

    @property
    def rows(self) -> bool:
        """Whether this is the timer of a row task."""
        return self.start_field is not None

    def dump(self) -> dict[str, Any]:
        """The newer form, as JSON values, without defaults but the repeat's type."""
        repeat = {"repeatType": self.repeat.repeat_type} | self.repeat.dump()
        return super().dump() | {"repeat": repeat}

    def canonical(self) -> Self:
        """The same timer in its newest form: timers that say the same compare equal, however they were written."""
        form = self.dump()
        form["repeat"].pop("subType", None)
        if self.repeat.week is not None:
            form["repeat"]["subType"] = "week"
        if not self.rows:
            form.pop("endTimeType", None)
        elif not self.end_time_type and (self.end_time or self.end_field):
            form["endTimeType"] = 1 if self.end_time else 2
        return self.model_validate(form)
