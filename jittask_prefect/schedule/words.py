"""A timer in one English sentence: what the rule says, and nothing that depends on today."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterable
from datetime import date, datetime

from jittask_prefect.schedule.spec import Offset, Repeat
from jittask_prefect.schedule.timer import Timer

WEEKDAYS = (
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
)
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


def describe(timer: Timer) -> str:
    """The rule of a timer in one sentence.

    Args:
        timer: Scheduled or of rows.

    Returns:
        English, e.g. "Every month on day 1 at 09:00 (Asia/Shanghai); a legal holiday (CN) moves it to the next working
        day."
    """
    cfg = timer.cfg
    parts = [_rows(timer) if cfg.rows else _scheduled(timer)]
    if (holidays := _holidays(timer)) is not None:
        parts.append(holidays)
    text = "; ".join(parts)
    return text[0].upper() + text[1:] + "."


def origin(timer: Timer, value: date) -> str:
    """Where a row's first nominal time comes from.

    Args:
        timer: Of rows.
        value: The row's value of `startField`.

    Returns:
        English, e.g. "7 days before `endDate` (2026-10-08), at 09:00".
    """
    field, offset = str(timer.cfg.start_field), timer.cfg.start_offset
    text = _offset(offset, field).replace(
        f"`{field}`", f"`{field}` ({_told(timer, value)})", 1
    )
    return (
        text
        if offset is not None and offset.amount
        else text.removeprefix("at ").removeprefix("on ")
    )


def _told(timer: Timer, value: date) -> str:
    """A row's value: an instant as the clock of the task's zone shows it, with the zone."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        return _moment(value)
    local = value.astimezone(timer.zone)
    return f"{_moment(local)} {timer.zone.key}"


def _scheduled(timer: Timer) -> str:
    cfg, repeat = timer.cfg, timer.cfg.repeat
    start = cfg.start_time
    assert start is not None
    zone = f"({timer.zone.key})"
    if repeat.repeat_type == "normal":
        return f"once, on {_day(start)} at {_clock(start)} {zone}"
    text = _cycle(repeat, start)
    if repeat.repeat_type in ("minute", "hour"):
        text += f", counted from {_day(start)} {_clock(start)} {zone}"
    elif repeat.repeat_type == "custom":
        text += f" {zone}, from {_day(start)} {_clock(start)} on"
    else:
        text += f" at {_clock(start)} {zone}" + (
            f", counted from {_day(start)}" if repeat.period > 1 else ""
        )
    return text + (
        f" until {_moment(cfg.end_time)}" if cfg.end_time is not None else ""
    )


def _rows(timer: Timer) -> str:
    cfg, repeat = timer.cfg, timer.cfg.repeat
    text = f"{_offset(cfg.start_offset, cfg.start_field or '')} ({timer.zone.key})"
    if repeat.repeat_type != "normal":
        text += f", then {_cycle(repeat, None)}"
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
        text = f"{_count(abs(offset.amount), offset.unit)} {'before' if offset.amount < 0 else 'after'} {name}"
    else:
        text = f"on {name}" if offset.time is not None else f"at {name}"
    return text + (f", at {_clock(offset.time)}" if offset.time is not None else "")


def _cycle(repeat: Repeat, start: datetime | None) -> str:
    """The cycle; what it leaves open is the start's own, or the row's (`start` None) and then goes without saying."""
    kind = repeat.repeat_type
    if kind == "custom":
        return _custom(repeat)
    every = f"every {kind}" if repeat.period == 1 else f"every {repeat.period} {kind}s"
    if kind == "week":
        days = repeat.weekday or ((start.isoweekday(),) if start else ())
        return f"{every}{' on ' + _list(WEEKDAYS[n - 1] for n in sorted(set(days))) if days else ''}"
    if kind not in ("month", "year"):
        return every
    months, numbers = "", tuple[int, ...]()
    if kind == "year":
        numbers = repeat.month or ((start.month,) if start else ())
        months = (
            f" in {_list(MONTHS[n - 1] for n in sorted(set(numbers)))}"
            if numbers
            else ""
        )
    if repeat.week is not None:
        days = repeat.weekday or ((start.isoweekday(),) if start else ())
        named = _list(WEEKDAYS[n - 1] for n in sorted(set(days))) or "such weekday"
        return f"{every}{months} on the {_place(repeat.week)} {named}"
    days = repeat.day or ((start.day,) if start else ())
    if not days:
        return every + months
    return (
        f"{every}{months} on {_month_days(days)}{_short_months(repeat, days, numbers)}"
    )


def _month_days(days: Iterable[int]) -> str:
    numbers = sorted(set(days) - {-1})
    named = (
        [f"day{'s' if len(numbers) > 1 else ''} {_list(map(str, numbers))}"]
        if numbers
        else []
    )
    return " and ".join(named + (["the last day"] if -1 in days else []))


def _short_months(repeat: Repeat, days: Iterable[int], months: Iterable[int]) -> str:
    if max(days) <= min((monthrange(2025, month)[1] for month in months), default=28):
        return ""
    return (
        " (left out where the month is shorter)"
        if repeat.month_end == "skip"
        else " (or the month's last)"
    )


def _custom(repeat: Repeat) -> str:
    if repeat.cron is not None:
        return f"by the cron rule `{repeat.cron}`"
    if repeat.rrule is not None:
        return f"by the rule `{repeat.rrule}`"
    dates = repeat.dates or ()
    shown = [_moment(at) for at in dates[:5]]
    return (
        f"on {_list(shown)}"
        if len(dates) <= 5
        else f"on {len(dates)} listed dates, {shown[0]} the first written"
    )


def _holidays(timer: Timer) -> str | None:
    cfg, moves = timer.cfg, timer.moves
    if not moves.active:
        return None
    label = timer.calendar.label if timer.calendar is not None else ""
    names = [f"a legal holiday ({label})"] if moves.holidays else []
    if moves.weekends:
        names.append("a weekend" + (f" ({label})" if label and not names else ""))
    fine = cfg.repeat.repeat_type in ("minute", "hour") or timer.sub_daily
    if fine or cfg.holiday_policy == "skip":
        return f"{' or '.join(names)} is left out"
    return f"{' or '.join(names)} {POLICIES[cfg.holiday_policy]}"


def _place(week: int) -> str:
    if week > 0:
        return PLACES[week]
    return "last" if week == -1 else f"{PLACES[-week]} last"


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
