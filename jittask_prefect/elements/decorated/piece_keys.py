"""Pieces → the keys of a `timerCfg` that say the same. The validator of `e.json` checks what the keys say together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, time
from typing import Any

from sqlalchemy.orm import QueryableAttribute

from jittask_prefect.elements.decorated.month_days import (
    Keys,
    Refuse,
    day_keys,
    weekday_numbers,
)
from jittask_prefect.elements.decorated.offsets import After, Before, Offset
from jittask_prefect.elements.decorated.pieces import Piece
from jittask_prefect.elements.decorated.repeats import (
    Cron,
    Daily,
    Dates,
    Hourly,
    Minutely,
    Monthly,
    Once,
    Repeat,
    RRule,
    Rule,
    Weekly,
    Workdays,
    Yearly,
)
from jittask_prefect.validation import quoted

COUNTED_FROM = "2000-01-01"
"""The day from which a scheduled rule without a start counts."""
UNITS = (
    *("seconds", "minutes", "hours", "days", "workdays"),
    *("weeks", "months", "years"),
)
ELAPSED = ("seconds", "minutes", "hours")
CLOCK = 'a clock time in the task\'s zone: "09:00", or datetime.time(9)'
WHEN = (
    'a wall time in the task\'s zone: "2026-05-01", "2026-05-01 09:00", a date, '
    "or a datetime without a zone"
)
ATTRIBUTE = "a mapped date or datetime attribute such as Invoice.due_on"
OFFSETS = 'Before(days=2, at="09:00"), After(months=1), …'
LEVELS = '[After(days=3, name="first"), After(days=14, name="second")]'
RULES = 'Daily(at="09:00"), Workdays(…), Weekly("mon"), Monthly(day=1), Yearly(…), Hourly(), Minutely(), Cron(…), RRule(…), Dates(…)'
_TYPES: Mapping[type[Piece], str] = {
    Minutely: "minute",
    Hourly: "hour",
    Daily: "day",
    Workdays: "workday",
    Weekly: "week",
    Monthly: "month",
    Yearly: "year",
    Cron: "custom",
    RRule: "custom",
    Dates: "custom",
}
_CLOCK = re.compile(r"\d\d:\d\d(:\d\d)?", re.ASCII)
_WHEN = re.compile(r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d)(:\d\d)?)?", re.ASCII)


# Single values


def clock_text(value: object) -> str | None:
    """A clock time as an e.json writes it; None for any other value."""
    if isinstance(value, time) and value.tzinfo is None and not value.microsecond:
        return value.isoformat("seconds" if value.second else "minutes")
    if not isinstance(value, str) or not _CLOCK.fullmatch(value):
        return None

    try:
        time.fromisoformat(value)
    except ValueError:
        return None
    return value


def when_text(value: object) -> str | None:
    """A day, or a time with seconds, as an e.json writes it; None for any other value."""
    if isinstance(value, datetime):
        plain = value.tzinfo is None and not value.microsecond
        return value.isoformat(" ", "seconds") if plain else None
    if isinstance(value, date):
        return value.isoformat()

    found = _WHEN.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None

    day, minutes, seconds = found.groups()
    text = f"{day} {minutes}{seconds or ':00'}" if minutes else day
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return None
    return str(text)


def attribute_of(value: object) -> tuple[type, str] | None:
    """The class and the name of a mapped attribute; None for any other value."""
    if not isinstance(value, QueryableAttribute):
        return None
    owner: object = value.class_
    return (owner, value.key) if isinstance(owner, type) else None


def offset_keys(argument: str, piece: Offset, refuse: Refuse) -> Keys:
    """The keys of an offset: `{"offsetType": -1, "offset": 2, "offsetUnit": "day", "time": "09:00"}`."""
    given = {unit: n for unit in UNITS if (n := getattr(piece, unit)) is not None}
    if len(given) > 1 or (not given and piece.at is None):
        refuse(argument, quoted(piece), f"one unit of {', '.join(UNITS)}")
        return {}

    keys: Keys = {"offsetType": 0}
    for unit, n in given.items():
        if type(n) is not int or n < 0:
            refuse(f"{argument}.{unit}", quoted(n), "a whole number, 0 or more")
            return {}
        if n:
            sign = -1 if isinstance(piece, Before) else 1
            keys = {"offsetType": sign, "offset": n, "offsetUnit": unit[:-1]}

    if piece.at is None:
        return keys

    clock = clock_text(piece.at)
    if clock is None:
        refuse(f"{argument}.at", quoted(piece.at), CLOCK)
    elif given.keys() & set(ELAPSED):
        (unit,) = given
        allowed = "at only with days, workdays, weeks, months or years"
        refuse(f"{argument}.at", f"{quoted(piece.at)} with {unit}", allowed)
    else:
        keys["time"] = clock

    return keys


# Rules


def repeat_keys(argument: str, rule: Rule, refuse: Refuse) -> Keys:
    """The keys of a repeat: `{"repeatType": "week", "weekday": [1, 4]}`."""
    keys: Keys = {"repeatType": _TYPES[type(rule)]}
    every = getattr(rule, "every", 1)
    if type(every) is not int or every < 1:
        refuse(f"{argument}.every", quoted(every), "a whole number, 1 or more")
    elif every > 1:
        keys["period"] = every

    match rule:
        case Weekly(weekdays=weekdays) if weekdays:
            keys["weekday"] = weekday_numbers(argument, weekdays, refuse)
        case Monthly(day=day) if day is not None:
            keys |= day_keys(argument, day, refuse)
        case Yearly(month=month, day=day):
            if month is not None:
                keys["month"] = list(month) if isinstance(month, tuple) else month
            if day is not None:
                keys |= day_keys(argument, day, refuse)
        case Cron(text=text):
            keys["cron"] = text
        case RRule(text=text):
            keys["rrule"] = text
        case Dates(dates=dates):
            keys["dates"] = _dates(argument, dates, refuse)

    end = getattr(rule, "month_end", "last")
    usual = isinstance(end, str) and end == "last"
    return keys if usual else keys | {"monthEnd": end}


def _dates(argument: str, given: tuple[Any, ...], refuse: Refuse) -> list[str]:
    found = [(each, when_text(each)) for each in given]
    for each, text in found:
        if text is None:
            refuse(f"{argument}.dates", quoted(each), f"{WHEN}; each for itself")

    return [text for _, text in found if text is not None]


# Timers


def scheduled_keys(rule: object, until: object, refuse: Refuse) -> Keys:
    """The `timerCfg` of a scheduled task."""
    if not isinstance(rule, Rule) or type(rule) not in (*_TYPES, Once):
        refuse("rule", quoted(rule), f'{RULES}, Once("2026-05-01 09:00")')
        return {}

    keys: Keys = {"startTime": _start(rule, refuse)}
    keys["repeat"] = {"repeatType": "normal"}
    if not isinstance(rule, Once):
        keys["repeat"] = repeat_keys("rule", rule, refuse)

    if until is not None:
        keys["endTime"] = when_text(until)
        if keys["endTime"] is None:
            refuse("until", quoted(until), WHEN)

    return keys


def _start(rule: Rule, refuse: Refuse) -> str:
    """When a scheduled rule begins to count."""
    if isinstance(rule, Once):
        found = when_text(rule.at)
        if found is None:
            refuse("rule.at", quoted(rule.at), WHEN)
        return _timed(found or COUNTED_FROM)

    start, at = getattr(rule, "start", None), getattr(rule, "at", None)
    clock = None if at is None else clock_text(at)
    if at is not None and clock is None:
        refuse("rule.at", quoted(at), CLOCK)

    if start is None:
        _demand_start(rule, refuse)
        return _timed(COUNTED_FROM, clock)

    found = when_text(start)
    if found is None:
        refuse("rule.start", quoted(start), WHEN)
    elif clock is not None and " " in found:
        allowed = "a start without a time beside at, or at left out"
        refuse("rule.start", f"{quoted(start)} with at={quoted(at)}", allowed)

    return _timed(found or COUNTED_FROM, clock)


def _timed(text: str, clock: str | None = None) -> str:
    """A time with seconds: of a day at a clock time, 00:00 where absent."""
    if " " in text:
        return text
    clock = clock or "00:00"
    return f"{text} {clock}" if clock.count(":") == 2 else f"{text} {clock}:00"


def _demand_start(rule: Rule, refuse: Refuse) -> None:
    """Refuse a rule whose phase nobody has said."""
    allowed = 'with start="2026-01-05", from which the rule counts'
    every = getattr(rule, "every", 1)
    if isinstance(rule, RRule) and isinstance(rule.text, str):
        parts = dict(part.partition("=")[::2] for part in rule.text.upper().split(";"))
        interval = parts.get("INTERVAL", "1")
        every = int(interval) if interval.isdecimal() else 1

    if type(every) is int and every > 1:
        refuse("rule.start", f"nothing, in {quoted(rule)}", allowed)
    elif isinstance(rule, Weekly) and not rule.weekdays:
        weekday = 'Weekly("mon"), or '
        refuse("rule.weekdays", f"nothing, in {quoted(rule)}", weekday + allowed)


def row_keys(
    field: object, offset: object, repeat: object, until: object, refuse: Refuse
) -> tuple[type | None, Keys]:
    """The class that a task of rows makes tasks of, and its `timerCfg`."""
    model, keys = None, Keys()
    if (found := attribute_of(field)) is None:
        refuse("field", quoted(field), ATTRIBUTE)
    else:
        model, keys["startField"] = found

    start = _row_offsets(offset, refuse)
    keys["repeat"] = {"repeatType": "normal"}
    if isinstance(repeat, Repeat) and type(repeat) in _TYPES:
        keys["repeat"] = repeat_keys("repeat", repeat, refuse)
        _row_clock(repeat, offset, start, refuse)
    elif repeat is not None:
        refuse("repeat", quoted(repeat), RULES)

    if isinstance(start, list) or start.keys() - {"offsetType"}:
        keys["startOffset"] = start
    if until is not None:
        keys |= _row_end(until, model, refuse)

    return model, keys


def _row_offsets(offset: object, refuse: Refuse) -> Keys | list[Keys]:
    """The keys of an offset; of a list of named offsets the keys of each."""
    if offset is None:
        return {"offsetType": 0}
    if not isinstance(offset, list | tuple):
        _refuse_name("offset", offset, refuse)
        return _row_offset(offset, refuse)

    levels = []
    for each in offset:
        name = getattr(each, "name", None)
        if name is None and isinstance(each, Offset):
            refuse("offset", quoted(each), f"a name for each of several: {LEVELS}")
        levels.append({"name": name} | _row_offset(each, refuse))

    return levels


def _refuse_name(argument: str, piece: object, refuse: Refuse) -> None:
    if isinstance(piece, Offset) and piece.name is not None:
        allowed = f"no name, which tells the offsets of a list apart: {LEVELS}"
        refuse(f"{argument}.name", quoted(piece.name), allowed)


def _row_offset(offset: object, refuse: Refuse) -> Keys:
    if not isinstance(offset, Before | After):
        refuse("offset", quoted(offset), OFFSETS)
        return {}

    if offset.field is not None:
        allowed = (
            f"{OFFSETS}, counted from the field of the task; a field only in until"
        )
        refuse("offset", quoted(offset), allowed)
    return offset_keys("offset", offset, refuse)


def _row_clock(
    repeat: Repeat, offset: object, start: Keys | list[Keys], refuse: Refuse
) -> None:
    """The clock time of a row's repeat is that of its first due time."""
    if getattr(repeat, "start", None) is not None:
        allowed = "no start: the repeat of a row counts from the row's own date"
        refuse("repeat.start", quoted(getattr(repeat, "start", None)), allowed)

    at = getattr(repeat, "at", None)
    if at is None:
        return

    clock = clock_text(at)
    if isinstance(start, list):
        allowed = "at of each offset in the list"
        refuse("repeat.at", f"{quoted(at)} with several offsets", allowed)
        return

    elapsed = start.get("offsetUnit", "day") + "s" in ELAPSED
    if clock is None:
        refuse("repeat.at", quoted(at), CLOCK)
    elif elapsed or start.get("time", clock) != clock:
        allowed = (
            "one clock time: at of the offset, in days or longer, or of the repeat"
        )
        refuse("repeat.at", f"{quoted(at)} with {quoted(offset)}", allowed)
    else:
        start["time"] = clock


def _row_end(until: object, model: type | None, refuse: Refuse) -> Keys:
    end = until.field if isinstance(until, Offset) else until
    found = attribute_of(end)
    if found is None:
        text = None if isinstance(until, Offset) else when_text(until)
        if text is None:
            allowed = f"{WHEN}, an attribute, or After(Invoice.due_on, months=3)"
            refuse("until", quoted(until), allowed)
        return {"endTimeType": 1, "endTime": text}

    owner, name = found
    if model is not None and not issubclass(model, owner):
        allowed = f"an attribute of {model.__name__}, as the field of the task"
        refuse("until", f"{owner.__name__}.{name}", allowed)

    keys: Keys = {"endTimeType": 2, "endField": name}
    if isinstance(until, Offset):
        _refuse_name("until", until, refuse)
        moved = offset_keys("until", until, refuse)
        if moved.keys() - {"offsetType"}:
            keys["endOffset"] = moved
    return keys
