"""A timer in an English sentence: the rule itself, independent of today."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime

from jittask_prefect.schedule.days import month_length
from jittask_prefect.schedule.offset import Offset
from jittask_prefect.schedule.opening_hours import Window, minute_text
from jittask_prefect.schedule.spec import Repeat
from jittask_prefect.schedule.timer import Timer

WEEKDAYS = (
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
)  # fmt: skip
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
PLACES = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth"}
POLICIES = {
    "next": "moves it to the next working day",
    "previous": "moves it to the previous working day",
    "nearest": "moves it to the nearest working day",
}

MOST_LEVELS = 10
"""Levels that a sentence names."""


def describe(timer: Timer) -> str:
    """The rule of a timer in a sentence.

    Args:
        timer: Scheduled or of rows.

    Returns:
        English, e.g. "Every month on day 1 at 09:00 (Asia/Shanghai); a legal holiday (CN) moves it to the next working
        day."
    """
    cfg = timer.cfg
    rule = _rows(timer) if cfg.rows else _scheduled(timer)
    moves = _holidays(timer), _opening_hours(timer)
    text = "; ".join(filter(None, (rule, _workdays(timer), *moves)))
    return text[0].upper() + text[1:] + "."


def origin(timer: Timer, value: date, level: str | None = None) -> str:
    """Where a row's first nominal time comes from.

    Args:
        timer: Of rows.
        value: The row's value of `startField`.
        level: The name of the level, where the timer has levels; None: the value alone.

    Returns:
        English, e.g. "7 days before `endDate` (2026-10-08), at 09:00".
    """
    field, offset = str(timer.cfg.start_field), timer.cfg.start_offset
    shown = _moment(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        shown = f"{_moment(value.astimezone(timer.zone))} {timer.zone.key}"

    if levels := {each.name: each for each in timer.cfg.levels}:
        if level is None:
            return f"`{field}` ({shown})"
        return f"level {level}: {_from(levels[level], field, shown)}"

    return _from(offset, field, shown)


def _from(offset: Offset | None, field: str, shown: str) -> str:
    """An offset from a field whose value is shown."""
    text = _offset(offset, field).replace(f"`{field}`", f"`{field}` ({shown})", 1)
    if offset is not None and offset.amount:
        return text

    return text.removeprefix("at ").removeprefix("on ")


def _levels(offsets: Mapping[str, str]) -> str:
    """Levels by name with their offsets: `levels first (…), second (…) and final (…)`."""
    named = [f"{name} ({offset})" for name, offset in offsets.items()]
    if (more := len(named) - MOST_LEVELS) > 0:
        named[MOST_LEVELS:] = [f"{more} more"]
    return f"level{'s' if len(named) > 1 else ''} {_list(named)}"


def _scheduled(timer: Timer) -> str:
    cfg, repeat = timer.cfg, timer.cfg.repeat
    start = cfg.start_time
    assert start is not None
    zone = f"({timer.zone.key})"
    if repeat.repeat_type == "normal":
        return f"once, on {_day(start)} at {_clock(start)} {zone}"

    text = _cycle(repeat, start)
    if repeat.repeat_type in ("minute", "hour"):
        text += f", counted from {_moment(start)} {zone}"
    elif repeat.repeat_type == "custom":
        text += f" {zone}, from {_moment(start)} on"
    else:
        text += f" at {_clock(start)} {zone}"
        text += f", counted from {_day(start)}" if repeat.period > 1 else ""

    return text if cfg.end_time is None else f"{text} until {_moment(cfg.end_time)}"


def _rows(timer: Timer) -> str:
    cfg, repeat = timer.cfg, timer.cfg.repeat
    field, levels = cfg.start_field or "", cfg.levels
    text = _offset(cfg.start_offset, field)
    if levels:
        text = _levels({each.name: _offset(each, field) for each in levels})

    text += f" ({_zone(timer)})"
    if repeat.repeat_type != "normal":
        last = " from the last" if len(levels) > 1 else ""
        text += f", then {_cycle(repeat, None)}{last}"
    if cfg.end_time is not None:
        text += f" until {_moment(cfg.end_time)}"
    elif cfg.end_time_type == 2:
        text += f" until {_offset(cfg.end_offset, cfg.end_field or '')}"

    return text


def _offset(offset: Offset | None, field: str) -> str:
    name = f"`{field}`"
    if offset is None:
        return f"at {name}"
    if offset.amount:
        side = "before" if offset.amount < 0 else "after"
        unit = "working day" if offset.unit == "workday" else offset.unit
        text = f"{_count(abs(offset.amount), unit)} {side} {name}"
    else:
        text = f"on {name}" if offset.time is not None else f"at {name}"

    return text if offset.time is None else f"{text}, at {_clock(offset.time)}"


def _cycle(repeat: Repeat, start: datetime | None) -> str:
    """The cycle; parts that are the start's own are named, those of a row's start (None) go without saying."""
    kind = repeat.repeat_type
    if kind == "custom":
        return _custom(repeat)

    unit = "working day" if kind == "workday" else kind
    text = f"every {_count(repeat.period, unit).removeprefix('1 ')}"
    weekdays = repeat.weekday or ((start.isoweekday(),) if start else ())
    named = _named(WEEKDAYS, weekdays)
    if kind == "week":
        return f"{text} on {named}" if named else text
    if kind not in ("month", "year"):
        return text

    months = tuple[int, ...]()
    if kind == "year":
        months = repeat.month or ((start.month,) if start else ())
        text += f" in {_named(MONTHS, months)}" if months else ""

    if repeat.workday is not None:
        return f"{text} on the {_places(repeat.workday)} working day"
    if repeat.week is not None:
        return f"{text} on the {_places(repeat.week)} {named or 'such weekday'}"

    days = repeat.day or ((start.day,) if start else ())
    if not days:
        return text

    return f"{text} on {_month_days(days)}{_short_months(repeat, days, months)}"


def _named(names: Sequence[str], numbers: Iterable[int]) -> str:
    return _list(names[n - 1] for n in sorted(set(numbers)))


def _month_days(days: Iterable[int]) -> str:
    numbers = sorted(set(days) - {-1})
    plural = "s" if len(numbers) > 1 else ""
    named = [f"day{plural} {_list(map(str, numbers))}"] if numbers else []
    return " and ".join(named + (["the last day"] if -1 in days else []))


def _short_months(repeat: Repeat, days: Iterable[int], months: Iterable[int]) -> str:
    lengths = (month_length(date(2025, month, 1)) for month in months)
    if max(days) <= min(lengths, default=28):
        return ""
    if repeat.month_end == "skip":
        return " (left out where the month is shorter)"
    return " (or the month's last)"


def _custom(repeat: Repeat) -> str:
    if repeat.cron is not None:
        return f"by the cron rule `{repeat.cron}`"
    if repeat.rrule is not None:
        return f"by the rule `{repeat.rrule}`"
    dates = repeat.dates or ()
    if len(dates) <= 5:
        return f"on {_list(map(_moment, dates))}"
    return f"on {len(dates)} listed dates, {_moment(dates[0])} the first written"


def _workdays(timer: Timer) -> str | None:
    """Whose working days are counted."""
    cfg = timer.cfg
    if not (cfg.counts_workdays or cfg.opens_on_workdays):
        return None
    if timer.calendar is None and timer.cfg.calendar_field is None:
        return "working days are Monday to Friday"
    return f"working days are those of {_calendar(timer)}"


def _zone(timer: Timer) -> str:
    """Whose clock counts: the row's, or the task's."""
    own = timer.cfg.timezone_field
    return f"zone of the row: `{own}`, else {timer.zone.key}" if own else timer.zone.key


def _calendar(timer: Timer) -> str:
    """Whose days count, likewise."""
    own, usual = timer.cfg.calendar_field, timer.calendar
    label = usual.label if usual is not None else "Monday to Friday"
    return f"the calendar of the row: `{own}`, else {label}" if own else label


def _holidays(timer: Timer) -> str | None:
    cfg, moves = timer.cfg, timer.moves
    if not moves.active or cfg.lands_on_workdays:
        return None

    label = _calendar(timer) if timer.calendar is not None else ""
    names = [f"a legal holiday ({label})"] if moves.holidays else []
    if moves.weekends:
        names.append("a weekend" + (f" ({label})" if label and not names else ""))
    if timer.sub_daily or cfg.holiday_policy == "skip":
        return f"{' or '.join(names)} is left out"

    return f"{' or '.join(names)} {POLICIES[cfg.holiday_policy]}"


def _opening_hours(timer: Timer) -> str | None:
    """The opening hours, and the fate of an occurrence outside."""
    if not timer.windows.active:
        return None

    hours = _list(_window(window) for window in timer.cfg.window)
    fate = "is left out" if timer.sub_daily else "waits for the next opening"
    return f"an occurrence outside the opening hours, {hours}, {fate}"


def _window(window: Window) -> str:
    text = f"{minute_text(window.opens)} to {minute_text(window.closes)}"
    if window.closes < window.opens:
        text += " of the next day"
    if window.workdays:
        return f"{text} on working days"
    if window.weekdays is None:
        return text
    return f"{text} on {_named(WEEKDAYS, window.weekdays)}"


def _places(weeks: Iterable[int]) -> str:
    """Weeks, or working days, of a month, those from its start first: `first and last`."""
    return _list(_place(n) for n in sorted(set(weeks), key=lambda n: (n < 0, n)))


def _place(number: int) -> str:
    named = PLACES.get(abs(number)) or ordinal(abs(number))
    if number > 0:
        return named
    return "last" if number == -1 else f"{named} last"


def ordinal(number: int) -> str:
    """A place by its number: `6th`, `21st`."""
    ends = {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{'th' if 10 < number < 20 else ends.get(number % 10, 'th')}"


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}{'s' if number != 1 else ''}"


def _list(names: Iterable[str]) -> str:
    *most, last = list(names) or [""]
    return f"{', '.join(most)} and {last}" if most else last


def _clock(at: object) -> str:
    text = f"{at:%H:%M:%S}"
    return text.removesuffix(":00")


def _day(at: date) -> str:
    return at.strftime("%Y-%m-%d").zfill(10)


def _moment(at: date) -> str:
    return f"{_day(at)} {_clock(at)}" if isinstance(at, datetime) else _day(at)
