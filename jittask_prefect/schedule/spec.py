"""The shape of a `timerCfg`: both generations of the format in, frozen values out, the newer form back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, time
from difflib import get_close_matches
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError

from jittask_prefect.errors import ConfigError, Problem
from jittask_prefect.validation import StrictModel, pydantic_problems, sanitized, shown

Unit = Literal["second", "minute", "hour", "day", "week", "month", "year"]
Policy = Literal["next", "previous", "nearest", "skip"]
RepeatType = Literal[
    "normal", "minute", "hour", "day", "week", "month", "year", "custom"
]

INSTANT = "a time as yyyy-MM-dd HH:mm:ss"
DAY_OR_INSTANT = "a date as yyyy-MM-dd or a time as yyyy-MM-dd HH:mm:ss"
CLOCK = "a clock time as HH:mm"
MOST_DATES = 10_000


def read_zone(name: str) -> ZoneInfo:
    """The zone of an IANA name.

    Args:
        name: An IANA name such as `Asia/Shanghai`.

    Raises:
        ValueError: No such zone; the text says what is allowed, with the nearest names.
    """
    if not isinstance(name, str):
        raise ValueError("an IANA time zone name such as Europe/Berlin")
    try:
        if name and name == name.strip():
            return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        pass
    known = available_timezones()
    folded = {zone.casefold(): zone for zone in known}
    cities = {
        zone.rsplit("/", 1)[-1].casefold(): zone for zone in sorted(known, reverse=True)
    }
    wanted = name.strip().casefold().replace(" ", "_")
    near = [cities[wanted]] if wanted in cities else []
    near += [
        folded[match] for match in get_close_matches(wanted, folded, n=3, cutoff=0.6)
    ]
    hint = f" (did you mean {' or '.join(dict.fromkeys(near))}?)" if near else ""
    raise ValueError(f"an IANA time zone name such as Europe/Berlin{hint}")


def _zone_name(value: object) -> object:
    if isinstance(value, str):
        read_zone(value)
    return value


def _instant(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError(INSTANT)
    if re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", value, re.ASCII):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"{INSTANT} of a day that exists") from None
    raise ValueError(INSTANT)


def _day_or_instant(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise ValueError(f"{DAY_OR_INSTANT} of a day that exists") from None
    try:
        return _instant(value)
    except ValueError as error:
        raise ValueError(str(error).replace(INSTANT, DAY_OR_INSTANT)) from None


def _clock(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"\d\d:\d\d(:\d\d)?", value, re.ASCII):
        try:
            return time.fromisoformat(value)
        except ValueError:
            pass
    raise ValueError(CLOCK)


def _flag(value: object) -> object:
    if isinstance(value, bool) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    raise ValueError("0 or 1")


def _unit(value: object) -> object:
    """Plural units are the same units."""
    return value[:-1] if isinstance(value, str) and value.endswith("s") else value


def _policy(value: object) -> object:
    return "skip" if value == "cycle" else value


def _many(value: object) -> object:
    """One value where a list is meant is a list of one."""
    if isinstance(value, list):
        if not 1 <= len(value) <= 100:
            raise ValueError("a list of 1 to 100 numbers")
        return tuple(value)
    return (value,)


def _whole(low: int, high: int) -> BeforeValidator:
    """A whole number from `low` to `high`, with a message that names both."""

    def check(value: object) -> object:
        if (
            isinstance(value, int)
            and not isinstance(value, bool)
            and low <= value <= high
        ):
            return value
        raise ValueError(f"a whole number from {low} to {high}")

    return BeforeValidator(check)


def _before_or_after(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value in (-1, 0, 1):
        return value
    raise ValueError("-1 before, 0 on time or 1 after")


def _field_name(value: object) -> object:
    if isinstance(value, str) and value.isidentifier():
        return value
    raise ValueError("the name of a date or datetime column")


def _day_number(value: object) -> object:
    if (
        isinstance(value, int)
        and not isinstance(value, bool)
        and (1 <= value <= 31 or value == -1)
    ):
        return value
    raise ValueError("1 to 31, or -1 for the last day")


def _week_number(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= abs(value) <= 5:
        return value
    raise ValueError("1 to 5, or -1 to -5 counted from the end")


def _dates(value: object) -> object:
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_DATES:
        raise ValueError(f"a list of 1 to {MOST_DATES} dates, each {DAY_OR_INSTANT}")
    return tuple(value)


ClockTime = Annotated[time, BeforeValidator(_clock)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Moment = Annotated[datetime | date, BeforeValidator(_day_or_instant)]
Weekday = Annotated[int, _whole(1, 7)]
Month = Annotated[int, _whole(1, 12)]
MonthDay = Annotated[int, BeforeValidator(_day_number)]


class _Part(StrictModel):
    """A part of a timerCfg: known to users by its JSON keys only."""

    model_config = ConfigDict(populate_by_name=False)


class Offset(_Part):
    """How far from a date the due time lies: `{"offsetType": -1, "offset": 7, "offsetUnit": "day", "time": "09:00"}`.

    The older form, `offsetType` 1 with a signed `offset`, says the same.
    """

    offset_type: Annotated[Literal[-1, 0, 1], BeforeValidator(_before_or_after)] = (
        Field(default=0, alias="offsetType")
    )
    offset: Annotated[int, _whole(-1_000_000_000, 1_000_000_000)] = 0
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
        """Whether the unit is shorter than a day, that is elapsed time."""
        return self.unit in ("second", "minute", "hour")

    def dump(self) -> dict[str, Any]:
        """The newer form, as JSON values."""
        sign = (self.amount > 0) - (self.amount < 0)
        form: dict[str, Any] = {"offsetType": sign}
        if sign:
            form |= {"offset": abs(self.amount), "offsetUnit": self.unit}
        if self.time is not None:
            form["time"] = _clock_text(self.time)
        return form


class Repeat(_Part):
    """The repeat cycle: its type, and what narrows it down."""

    repeat_type: RepeatType = Field(default="normal", alias="repeatType")
    period: Annotated[int, _whole(1, 10_000_000)] = 1
    weekday: Annotated[tuple[Weekday, ...], BeforeValidator(_many)] | None = None
    day: Annotated[tuple[MonthDay, ...], BeforeValidator(_many)] | None = None
    week: Annotated[int, BeforeValidator(_week_number)] | None = None
    sub_type: Literal["day", "week"] | None = Field(default=None, alias="subType")
    month: Annotated[tuple[Month, ...], BeforeValidator(_many)] | None = None
    month_end: Literal["last", "skip"] = Field(default="last", alias="monthEnd")
    cron: str | None = None
    rrule: str | None = None
    dates: Annotated[tuple[Moment, ...], BeforeValidator(_dates)] | None = None

    def dump(self) -> dict[str, Any]:
        """The newer form, as JSON values, without what is the default."""
        form: dict[str, Any] = {"repeatType": self.repeat_type}
        if self.period != 1:
            form["period"] = self.period
        if self.week is not None:
            form |= {"subType": "week", "week": self.week}
        for name in ("weekday", "day", "month"):
            if (numbers := getattr(self, name)) is not None:
                form[name] = list(numbers)
        if self.month_end != "last":
            form["monthEnd"] = self.month_end
        for name in ("cron", "rrule"):
            if (rule := getattr(self, name)) is not None:
                form[name] = rule
        if self.dates is not None:
            form["dates"] = [_moment_text(moment) for moment in self.dates]
        return form


class TimerCfg(_Part):
    """A validated `timerCfg`; `read_timer` makes it."""

    start_time: Annotated[datetime, BeforeValidator(_instant)] | None = Field(
        default=None, alias="startTime"
    )
    start_field: Annotated[str, BeforeValidator(_field_name)] | None = Field(
        default=None, alias="startField"
    )
    start_offset: Offset | None = Field(default=None, alias="startOffset")
    end_time_type: Literal[0, 1, 2] = Field(default=0, alias="endTimeType")
    end_time: Moment | None = Field(default=None, alias="endTime")
    end_field: Annotated[str, BeforeValidator(_field_name)] | None = Field(
        default=None, alias="endField"
    )
    end_offset: Offset | None = Field(default=None, alias="endOffset")
    repeat: Repeat = Field(default_factory=Repeat)
    skip_holiday: Flag = Field(default=False, alias="skipHoliday")
    holiday_policy: Annotated[Policy, BeforeValidator(_policy)] = Field(
        default="next", alias="holidayPolicy"
    )
    workdays_only: Flag = Field(default=False, alias="workdaysOnly")
    calendar: str | None = Field(default=None, min_length=1)
    timezone: Annotated[str, BeforeValidator(_zone_name)] | None = None

    @property
    def rows(self) -> bool:
        """Whether this is the timer of a row task."""
        return self.start_field is not None

    def dump(self) -> dict[str, Any]:
        """The newer form of the `timerCfg`, as JSON values, without what is the default."""
        form: dict[str, Any] = {}
        if self.start_time is not None:
            form["startTime"] = _moment_text(self.start_time)
        if self.start_field is not None:
            form["startField"] = self.start_field
        if self.start_offset is not None:
            form["startOffset"] = self.start_offset.dump()
        if self.end_time_type:
            form["endTimeType"] = self.end_time_type
        if self.end_time is not None:
            form["endTime"] = _moment_text(self.end_time)
        if self.end_field is not None:
            form["endField"] = self.end_field
        if self.end_offset is not None:
            form["endOffset"] = self.end_offset.dump()
        form["repeat"] = self.repeat.dump()
        if self.skip_holiday:
            form["skipHoliday"] = 1
        if self.holiday_policy != "next":
            form["holidayPolicy"] = self.holiday_policy
        if self.workdays_only:
            form["workdaysOnly"] = 1
        for name in ("calendar", "timezone"):
            if (text := getattr(self, name)) is not None:
                form[name] = text
        return form


def read_timer(raw: object, *, rows: bool, key: str = "timerCfg") -> TimerCfg:
    """Validate a `timerCfg` of either generation.

    Args:
        raw: Parsed JSON.
        rows: Whether it belongs to a row task (`startField`) or a scheduled one (`startTime`).
        key: The path to it within its file, for messages.

    Returns:
        The frozen timer configuration.

    Raises:
        ConfigError: With every problem at once; each names the key, what was found and what is allowed.
    """
    from jittask_prefect.schedule.checks import check

    if not isinstance(raw, Mapping):
        raise ConfigError(Problem("", key, shown(raw), "an object"))
    sound, problems = sanitized(raw, key)
    data = _without_nulls(sound)
    bad: set[tuple[str, ...]] = set()
    while True:
        try:
            cfg = TimerCfg.model_validate(data)
            break
        except ValidationError as error:
            problems += [
                p
                for p in pydantic_problems(error, TimerCfg, key)
                if p.key not in {q.key for q in problems}
            ]
            dropped = {
                _drop(data, loc)
                for loc in {
                    _named(item["loc"]) for item in error.errors(include_url=False)
                }
            }
            if dropped == {()}:  # nothing is left to be checked without it
                raise ConfigError(problems) from None
            bad |= dropped
    problems += check(cfg, sound, rows=rows, bad=frozenset(bad), key=key)
    if problems:
        raise ConfigError(problems)
    form = cfg.dump()
    if rows and not cfg.end_time_type and (cfg.end_time or cfg.end_field):
        form["endTimeType"] = 1 if cfg.end_time else 2
    return TimerCfg.model_validate(
        form
    )  # what says the same compares equal, however it was written


def _without_nulls(raw: Mapping[Any, Any]) -> dict[str, Any]:
    """A deep copy in which a null says the same as an absent key."""
    return {
        str(name): _without_nulls(value) if isinstance(value, Mapping) else value
        for name, value in raw.items()
        if value is not None
    }


def _named(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """A path up to its first list: a mistake in one element is one of the list."""
    return loc[
        : next((n for n, part in enumerate(loc) if isinstance(part, int)), len(loc))
    ]


def _drop(data: dict[str, Any], loc: tuple[int | str, ...]) -> tuple[str, ...]:
    """Take the key that holds the mistake out of `data`, so that the rest can still be checked."""
    at, path = data, []
    for part in loc:
        if not isinstance(part, str) or part not in at:
            break
        path.append(part)
        if not isinstance(at[part], dict):
            break
        at = at[part]
    if path:
        holder = data
        for part in path[:-1]:
            holder = holder[part]
        del holder[path[-1]]
    return tuple(path)


def _moment_text(moment: date) -> str:
    return (
        f"{moment:%Y-%m-%d %H:%M:%S}".zfill(19)
        if isinstance(moment, datetime)
        else moment.isoformat()
    )


def _clock_text(clock: time) -> str:
    return (
        clock.isoformat("minutes") if not clock.second else clock.isoformat("seconds")
    )
