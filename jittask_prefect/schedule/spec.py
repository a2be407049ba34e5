"""A validated `timerCfg`: both generations of the format in, frozen values out, the newer form back."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from datetime import date, datetime, time, timedelta
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_serializer,
)

from jittask_prefect.errors import ConfigError, invalid
from jittask_prefect.schedule.days import months_later
from jittask_prefect.validation import (
    Flag,
    StrictModel,
    pydantic_problems,
    sanitized,
    shown,
)

Unit = Literal["second", "minute", "hour", "day", "week", "month", "year"]
Policy = Literal["next", "previous", "nearest", "skip"]
RepeatType = Literal[
    "normal", "minute", "hour", "day", "week", "month", "year", "custom"
]

INSTANT = "a time as yyyy-MM-dd HH:mm:ss"
DAY_OR_INSTANT = "a date as yyyy-MM-dd or a time as yyyy-MM-dd HH:mm:ss"
CLOCK = "a clock time as HH:mm"
ZONE = "an IANA time zone name such as Europe/Berlin"
MAX_DATES = 10_000


def read_zone(name: str) -> ZoneInfo:
    """The zone of an IANA name.

    Args:
        name: An IANA name such as `Asia/Shanghai`.

    Raises:
        ValueError: No such zone; the message says which names are allowed, with the nearest names.
    """
    if not isinstance(name, str):
        raise ValueError(ZONE)

    try:
        if name and name == name.strip():
            return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        pass

    known = sorted(available_timezones(), reverse=True)
    cities = {zone.rpartition("/")[2].casefold(): zone for zone in known}
    folded = {zone.casefold(): zone for zone in known}
    wanted = name.strip().casefold().replace(" ", "_")
    near = [cities[wanted]] if wanted in cities else []
    alike = get_close_matches(wanted, sorted(folded), n=3, cutoff=0.6)
    near += [folded[match] for match in alike]
    hint = f" (did you mean {' or '.join(dict.fromkeys(near))}?)" if near else ""
    raise ValueError(f"{ZONE}{hint}")


def _zone_name(name: str) -> str:
    read_zone(name)
    return name


# Values of single keys


def _from_text(
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
_instant = _from_text(INSTANT_FORM, datetime.fromisoformat, INSTANT)
_clock = _from_text(r"\d\d:\d\d(:\d\d)?", time.fromisoformat, CLOCK)
_day_or_instant = _from_text(
    INSTANT_FORM,
    lambda text: (date if len(text) == 10 else datetime).fromisoformat(text),
    DAY_OR_INSTANT,
)


def _number(numbers: Container[int], allowed: str) -> BeforeValidator:
    """Whole numbers of a set, with a message that names the set."""

    def check(value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool) and value in numbers:
            return value
        raise ValueError(allowed)

    return BeforeValidator(check)


def _whole(low: int, high: int) -> BeforeValidator:
    return _number(range(low, high + 1), f"a whole number from {low} to {high}")


def _field_name(value: object) -> object:
    if isinstance(value, str) and value.isidentifier():
        return value
    raise ValueError("the name of a date or datetime column")


def _unit(value: object) -> object:
    """Plural units are the same units."""
    return value[:-1] if isinstance(value, str) and value.endswith("s") else value


def _digit(value: object) -> object:
    """A digit as text is that digit."""
    return int(value) if isinstance(value, str) and value in ("0", "1", "2") else value


def _policy(value: object) -> object:
    return "skip" if isinstance(value, str) and value == "cycle" else value


def _many(value: object) -> object:
    """A single value in the place of a list is a list with that value."""
    if not isinstance(value, list):
        return (value,)
    if not 1 <= len(value) <= 100:
        raise ValueError("a list of 1 to 100 numbers")
    return tuple(value)


def _weeks(value: object) -> object:
    """A week of the month by its number, or a list of weeks."""
    some = value if isinstance(value, list) else [value]
    known = {*range(-5, 0), *range(1, 6)}
    if not 1 <= len(some) <= 10 or any(
        type(n) is not int or n not in known for n in some
    ):
        raise ValueError("1 to 5, or -1 to -5 counted from the end; or a list of these")
    return tuple(some)


def _as_written(weeks: tuple[int, ...]) -> int | list[int]:
    """A single week as its number, several as a list, each once."""
    some = list(dict.fromkeys(weeks))
    return some[0] if len(some) == 1 else some


def _dates(value: object) -> object:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_DATES:
        raise ValueError(f"a list of 1 to {MAX_DATES} dates, each {DAY_OR_INSTANT}")
    return tuple(value)


def _moment_text(moment: date) -> str:
    if not isinstance(moment, datetime):
        return moment.isoformat()
    return f"{moment:%Y-%m-%d %H:%M:%S}".zfill(19)


def _clock_text(clock: time) -> str:
    return clock.isoformat("seconds" if clock.second else "minutes")


_AS_MOMENT = PlainSerializer(_moment_text)
ClockTime = Annotated[time, BeforeValidator(_clock), PlainSerializer(_clock_text)]
Instant = Annotated[datetime, BeforeValidator(_instant), _AS_MOMENT]
Moment = Annotated[datetime | date, BeforeValidator(_day_or_instant), _AS_MOMENT]
ColumnName = Annotated[str, BeforeValidator(_field_name)]
Weekday = Annotated[int, _whole(1, 7)]
Month = Annotated[int, _whole(1, 12)]
MonthDay = Annotated[
    int, _number((*range(1, 32), -1), "1 to 31, or -1 for the last day")
]
Weeks = Annotated[
    tuple[int, ...], BeforeValidator(_weeks), PlainSerializer(_as_written)
]
"""A week of the month, or several; a single week is written as a number."""
Direction = Annotated[
    Literal[-1, 0, 1], _number((-1, 0, 1), "-1 before, 0 on time or 1 after")
]


class _Part(StrictModel):
    """A part of a timerCfg: known to users by its JSON keys only."""

    model_config = ConfigDict(populate_by_name=False)

    def dump(self) -> dict[str, Any]:
        """The newer form, as JSON values, without defaults."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)


class Offset(_Part):
    """How far from a date the due time lies: `{"offsetType": -1, "offset": 7, "offsetUnit": "day", "time": "09:00"}`.

    The older form, `offsetType` 1 with a signed `offset`, says the same.
    """

    offset_type: Direction = Field(default=0, alias="offsetType")
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
    def months(self) -> int:
        """The months of an offset in months or years; 0 of any other."""
        return self.amount * {"month": 1, "year": 12}.get(self.unit, 0)

    def moved(self, wall: datetime) -> datetime:
        """A wall time moved by days or months and set to the offset's clock time; elapsed time does not count.

        A day that the month lacks is its last.

        Raises:
            OverflowError: The calendar ends before.
        """
        day = months_later(wall.date(), self.months) + timedelta(self.days)
        return datetime.combine(day, self.time or wall.replace(fold=0).time())

    @model_serializer
    def _newer_form(self) -> dict[str, Any]:
        sign = (self.amount > 0) - (self.amount < 0)
        form: dict[str, Any] = {"offsetType": sign}
        if sign:
            form |= {"offset": abs(self.amount), "offsetUnit": self.unit}
        if self.time is not None:
            form["time"] = _clock_text(self.time)
        return form


class Repeat(_Part):
    """The repeat cycle: its type, and the parts that narrow the type down."""

    repeat_type: RepeatType = Field(default="normal", alias="repeatType")
    period: Annotated[int, _whole(1, 10_000_000)] = 1
    sub_type: Literal["day", "week"] | None = Field(default=None, alias="subType")
    week: Weeks | None = None
    weekday: Annotated[tuple[Weekday, ...], BeforeValidator(_many)] | None = None
    day: Annotated[tuple[MonthDay, ...], BeforeValidator(_many)] | None = None
    month: Annotated[tuple[Month, ...], BeforeValidator(_many)] | None = None
    month_end: Literal["last", "skip"] = Field(default="last", alias="monthEnd")
    cron: str | None = None
    rrule: str | None = None
    dates: Annotated[tuple[Moment, ...], BeforeValidator(_dates)] | None = None


class TimerCfg(_Part):
    """A validated `timerCfg`; `read_timer` makes it."""

    start_time: Instant | None = Field(default=None, alias="startTime")
    start_field: ColumnName | None = Field(default=None, alias="startField")
    start_offset: Offset | None = Field(default=None, alias="startOffset")
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
    calendar: str | None = Field(default=None, min_length=1)
    timezone: Annotated[str, AfterValidator(_zone_name)] | None = None

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


def read_timer(raw: object, *, rows: bool, key: str = "timerCfg") -> TimerCfg:
    """Validate a `timerCfg` of either generation.

    Args:
        raw: Parsed JSON.
        rows: Whether a row task (`startField`) or a scheduled task (`startTime`) has the timer.
        key: The path to the timer within its file, for messages.

    Returns:
        The frozen timer configuration.

    Raises:
        ConfigError: With every problem at once; each names the key, the value found and the values allowed.
    """
    from jittask_prefect.schedule.checks import check

    if not isinstance(raw, Mapping):
        raise invalid(key, shown(raw), "an object")

    sound, problems = sanitized(raw, key)
    sound = _without_stray_end(sound, rows=rows)
    data = _without_nulls(sound)
    bad: set[tuple[str, ...]] = set()
    while True:
        try:
            cfg = TimerCfg.model_validate(data)
            break
        except ValidationError as error:
            known = {problem.key for problem in problems}
            found = pydantic_problems(error, TimerCfg, key)
            problems += [problem for problem in found if problem.key not in known]
            places = {_key_path(e["loc"]) for e in error.errors(include_url=False)}
            removed = {_remove(data, place) for place in places}
            if removed == {()}:  # no key is left that could be removed
                raise ConfigError(problems) from None

            bad |= removed

    problems += check(cfg, sound, rows=rows, bad=frozenset(bad), key=key)
    if problems:
        raise ConfigError(problems)

    return cfg.canonical()


def stray_end_offset(raw: Mapping[Any, Any], *, rows: bool) -> bool:
    """Whether an `endOffset` does nothing: JitTask leaves the key behind when the end becomes another."""
    kind, by_field = raw.get("endTimeType"), raw.get("endField") is not None
    used = kind in (2, "2") or (kind is None and by_field)
    return "endOffset" in raw and not (rows and used)


def _without_stray_end(raw: Mapping[Any, Any], *, rows: bool) -> Mapping[Any, Any]:
    if not stray_end_offset(raw, rows=rows):
        return raw
    return {name: value for name, value in raw.items() if name != "endOffset"}


def _without_nulls(raw: Mapping[Any, Any]) -> dict[str, Any]:
    """A deep copy in which a null says the same as an absent key."""
    return {
        str(name): _without_nulls(value) if isinstance(value, Mapping) else value
        for name, value in raw.items()
        if value is not None
    }


def _key_path(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """A path up to its first list: a mistake in an element is a mistake of the list."""
    first = next((n for n, part in enumerate(loc) if isinstance(part, int)), len(loc))
    return loc[:first]


def _remove(data: dict[str, Any], loc: tuple[int | str, ...]) -> tuple[str, ...]:
    """Remove the key that holds the mistake from `data`, so that the rest can still be checked; its path."""
    holder, path = data, list[str]()
    parent = holder
    for part in loc:
        if not (isinstance(holder, dict) and isinstance(part, str) and part in holder):
            break

        path.append(part)
        parent, holder = holder, holder[part]

    if path:
        del parent[path[-1]]

    return tuple(path)
