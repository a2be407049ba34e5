"""Keys of a `timerCfg` that must fit together: contradictions, missing parts, rules that never match."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

from jittask_prefect.errors import Problem
from jittask_prefect.schedule.calendar import Calendar, CalendarCfg
from jittask_prefect.schedule.cron import read_cron
from jittask_prefect.schedule.custom import CustomRule
from jittask_prefect.schedule.days import month_length
from jittask_prefect.schedule.instants import midnight
from jittask_prefect.schedule.offset import Level, Offset
from jittask_prefect.schedule.recur import recurrence
from jittask_prefect.schedule.rrule import RRule
from jittask_prefect.schedule.rrule_lines import MAX_PER_DAY, plain_rule
from jittask_prefect.schedule.spec import Repeat, TimerCfg
from jittask_prefect.validation import shown

Paths = frozenset[tuple[str, ...]]
Refuse = Callable[[str, str, str], None]
"""Adds a problem: the path, the value found, the values allowed."""

MONTHLY_KEYS = {
    *("period", "day", "week", "weekday", "workday"),
    *("subType", "monthEnd"),
}
# Which keys each repeat type takes; a `period` of 1 is allowed everywhere.
TAKES: Mapping[str, set[str]] = {
    "normal": set(),
    "minute": {"period"},
    "hour": {"period"},
    "day": {"period"},
    "workday": {"period"},
    "week": {"period", "weekday"},
    "month": MONTHLY_KEYS,
    "year": MONTHLY_KEYS | {"month"},
    "custom": {"cron", "rrule", "dates"},
}
# For each endTimeType: the key it needs, and keys that contradict it.
ENDS: Mapping[int, tuple[str, tuple[str, ...]]] = {
    0: ("", ("endTime", "endField")),
    1: ("endTime", ("endField",)),
    2: ("endField", ("endTime",)),
}
SOME_START = datetime(2024, 1, 1)
"""A start for the rules of rows, whose own dates are not known yet."""
UNITS_A_YEAR = {
    "month": 12,
    "week": 52,
    "day": 365,
    "workday": 365,
    "hour": 365 * 24,
    "minute": 365 * 1440,
    "second": 365 * 86400,
}
ORDINARY = Calendar(CalendarCfg())
"""The calendar of rules that ask none."""
SOME_DAY = "a rule that matches some day; this one never does"
REQUIRED = "this key is required"
OF_EACH_ROW = ("timezoneField", "calendarField")
"""The keys that name the column of a row's own zone, and of its own calendar."""


def check(
    cfg: TimerCfg, raw: Mapping[Any, Any], *, rows: bool, bad: Paths, key: str
) -> list[Problem]:
    """The problems between the keys of a timer.

    Args:
        cfg: The values that could be read, without the keys in `bad`.
        raw: The parsed JSON.
        rows: Whether a row task has the timer.
        bad: Paths that have a problem of their own already.
        key: The path of the timerCfg, for messages.
    """
    problems: list[Problem] = []

    def refuse(path: str, found: str, allowed: str) -> None:
        problems.append(Problem("", f"{key}.{path}", found, allowed))

    written = {name for name in raw if raw[name] is not None}
    _start(cfg, raw, written, rows, refuse)
    if rows and ("endTimeType",) not in bad:
        _end_of_rows(cfg, raw, written, refuse)

    for name, offset in (
        ("startOffset", cfg.start_offset),
        ("endOffset", cfg.end_offset),
    ):
        if offset is not None:
            _offset(name, offset, _below(bad, name), refuse)

    _levels(cfg.levels, refuse)

    if ("repeat",) not in bad and isinstance(raw.get("repeat"), Mapping):
        _repeat(cfg.repeat, raw["repeat"], _below(bad, "repeat"), refuse)
    if not problems and not bad:
        _some_occurrence(cfg, refuse)

    return problems


def _below(bad: Paths, name: str) -> set[str]:
    """The keys of an object that have a problem already."""
    return {path[1] for path in bad if len(path) > 1 and path[0] == name}


def _start(
    cfg: TimerCfg, raw: Mapping[Any, Any], written: set[Any], rows: bool, refuse: Refuse
) -> None:
    kind, needed, foreign = (
        ("row", "startField", ["startTime"])
        if rows
        else (
            "scheduled",
            "startTime",
            ["startField", "startOffset", "endField", *OF_EACH_ROW],
        )
    )
    if needed not in written:
        refuse(needed, "nothing", f"{REQUIRED}: a {kind} task starts from it")

    for name in foreign:
        if name in written:
            allowed = f"no such key for a {kind} task, which starts from {needed}"
            refuse(name, shown(raw[name]), allowed)

    if not rows:
        _end_of_scheduled(cfg, raw, written, refuse)

    start, end = cfg.start_time, cfg.end_time
    if not rows and start is not None and end is not None and _ends_before(start, end):
        refuse("endTime", shown(raw["endTime"]), f"a time from startTime ({start}) on")


def _end_of_scheduled(
    cfg: TimerCfg, raw: Mapping[Any, Any], written: set[Any], refuse: Refuse
) -> None:
    """An endTimeType that JitTask leaves in a scheduled task must say what the other keys say."""
    if "endTimeType" not in written or cfg.end_time_type == ("endTime" in written):
        return
    allowed = "no such key for a scheduled task, whose endTime is its end"
    refuse("endTimeType", shown(raw["endTimeType"]), allowed)


def _ends_before(start: datetime, end: date) -> bool:
    return end < start if isinstance(end, datetime) else end < start.date()


def _end_of_rows(
    cfg: TimerCfg, raw: Mapping[Any, Any], written: set[Any], refuse: Refuse
) -> None:
    if "endTimeType" not in written:
        if {"endTime", "endField"} <= written:
            found = "nothing, with endTime and endField both"
            refuse("endTimeType", found, "1 for endTime, 2 for endField")
        elif "endOffset" in written and "endField" not in written:
            allowed = "only beside endField, with endTimeType 2"
            refuse("endOffset", shown(raw["endOffset"]), allowed)

        return

    needed, unwanted = ENDS[cfg.end_time_type]
    this = f"with endTimeType {cfg.end_time_type}"
    if needed and needed not in written:
        refuse(needed, "nothing", f"{REQUIRED} {this}")

    for name in unwanted:
        if name in written:
            refuse(name, shown(raw[name]), f"no such key {this}")


def _offset(name: str, offset: Offset, broken: set[str], refuse: Refuse) -> None:
    given = offset.model_fields_set
    kind, number = offset.offset_type, offset.offset
    if "offset_type" not in given and "offset" in given and "offsetType" not in broken:
        refuse(f"{name}.offsetType", "nothing", "-1 before, 0 on time or 1 after")

    for attribute, alias in (("offset", "offset"), ("unit", "offsetUnit")):
        if kind and attribute not in given and alias not in broken:
            refuse(f"{name}.{alias}", "nothing", f"{REQUIRED} with offsetType {kind}")

    if kind == -1 and number < 0:
        allowed = "0 or more: offsetType -1 says before"
        refuse(f"{name}.offset", str(number), allowed)

    if kind == 0 and number and "offset_type" in given:
        allowed = "0 or absent with offsetType 0 (on time)"
        refuse(f"{name}.offset", str(number), allowed)

    if abs(offset.amount) // UNITS_A_YEAR.get(offset.unit, 1) > 9999:
        allowed = f"less than 9,999 years of offsetUnit {offset.unit}"
        refuse(f"{name}.offset", str(number), allowed)

    if offset.time is not None and offset.elapsed:
        allowed = "a time only with day, workday, week, month or year"
        refuse(f"{name}.time", f"a time with offsetUnit {offset.unit}", allowed)


def _levels(levels: tuple[Level, ...], refuse: Refuse) -> None:
    names: set[str] = set()
    for number, level in enumerate(levels):
        _offset(f"startOffset.{number}", level, set(), refuse)
        if level.name in names:
            allowed = "a name that no other offset of the list has"
            refuse(f"startOffset.{number}.name", shown(level.name), allowed)
        names.add(level.name)


def _repeat(
    repeat: Repeat, raw: Mapping[Any, Any], broken: set[str], refuse: Refuse
) -> None:
    if "repeatType" in broken:
        return

    written = {name for name in raw if raw[name] is not None}
    if "repeatType" not in written:
        refuse("repeat.repeatType", "nothing", f"one of {', '.join(TAKES)}")
        return

    kind = repeat.repeat_type
    taken = TAKES[kind] | {"repeatType"} | ({"period"} if repeat.period == 1 else set())
    names = ", ".join(sorted(TAKES[kind])) or "no other"
    for name, field in Repeat.model_fields.items():
        key = field.alias or name
        if key in written - taken - broken:
            allowed = f"no such key with repeatType {kind}, which takes {names}"
            refuse(f"repeat.{key}", shown(raw[key]), allowed)

    if kind in ("month", "year"):
        _month_or_year(repeat, raw, broken, refuse)
    if kind == "custom":
        _custom(repeat, written, refuse)


def _custom(repeat: Repeat, written: set[Any], refuse: Refuse) -> None:
    rules = [name for name in ("cron", "rrule", "dates") if name in written]
    if len(rules) != 1:
        found = f"custom with {' and '.join(rules) or 'no rule'}"
        refuse("repeat", found, "custom with exactly one of cron, rrule, dates")

    for name, read in (("cron", read_cron), ("rrule", RRule.read)):
        if (text := getattr(repeat, name)) is not None:
            try:
                read(text)
            except ValueError as error:
                refuse(f"repeat.{name}", shown(text), str(error))


def _month_or_year(
    repeat: Repeat, raw: Mapping[Any, Any], broken: set[str], refuse: Refuse
) -> None:
    written = {name for name in raw if raw[name] is not None}
    by_week, by_day = "week" in written, "day" in written
    if "workday" in written | broken:
        _workday_alone(repeat, raw, written, refuse)
        return

    if repeat.sub_type == "week" and not by_week:
        allowed = f"{REQUIRED} with subType week: 1 to 5, or -1 to -5, or a list"
        refuse("repeat.week", "nothing", allowed)

    if repeat.sub_type == "day" and by_week:
        refuse("repeat.week", shown(raw["week"]), "no such key with subType day")

    days = list(repeat.day or ())
    if by_day and by_week:
        refuse("repeat.day", shown(days), "either day, or week with weekday")
    elif by_day and repeat.sub_type == "week":
        refuse("repeat.day", shown(days), "no such key with subType week")

    weekless = not by_week and repeat.sub_type != "week" and "week" not in broken
    if "weekday" in written and weekless:
        allowed = "weekday only beside week, or with repeatType week"
        refuse("repeat.weekday", shown(list(repeat.weekday or ())), allowed)

    if repeat.month_end == "skip" and days and repeat.month and not by_week:
        longest = max(month_length(date(2024, month, 1)) for month in repeat.month)
        if min(days) > longest:
            months = ", ".join(map(str, repeat.month))
            allowed = f"a day that month {months} has, or monthEnd last"
            refuse("repeat.day", shown(days), allowed)


def _workday_alone(
    repeat: Repeat, raw: Mapping[Any, Any], written: set[Any], refuse: Refuse
) -> None:
    """A working day by its place names the day alone."""
    others = [name for name in ("day", "week", "weekday") if name in written]
    if repeat.sub_type == "week":
        others.append("subType")

    for name in others:
        refuse(f"repeat.{name}", shown(raw[name]), "no such key beside workday")


def _some_occurrence(cfg: TimerCfg, refuse: Refuse) -> None:
    """Refuse a timer without any occurrence, found by a search of bounded length."""
    repeat, start, end = cfg.repeat, cfg.start_time, cfg.end_time
    if start is None:
        _some_occurrence_of_rows(repeat, end, refuse)
        return

    if repeat.counts_workdays:
        return  # the calendar decides, and is not known here

    first = recurrence(repeat, start, ORDINARY).first(start)
    if repeat.dates is not None:
        if first is None or (end is not None and _ends_before(first, end)):
            found = "no date within startTime and endTime"
            refuse("repeat.dates", found, f"at least one date from {start} on")
    elif first is None and repeat.rrule is not None:
        refuse("repeat.rrule", shown(repeat.rrule), SOME_DAY)
    elif first is None:
        key = "week" if repeat.week is not None else "day"
        allowed = "one that comes, or monthEnd last"
        refuse(f"repeat.{key}", f"one that never comes from {start} on", allowed)


def _some_occurrence_of_rows(repeat: Repeat, end: date | None, refuse: Refuse) -> None:
    if repeat.rrule is not None:
        per_day = plain_rule(repeat, SOME_START, ORDINARY).per_day
        if not CustomRule.read(None, repeat.rrule).possible():
            refuse("repeat.rrule", shown(repeat.rrule), SOME_DAY)
        elif per_day > MAX_PER_DAY:
            # Of a scheduled task `check_density` says so.
            found = f"{per_day:g} occurrences a day"
            refuse("repeat.rrule", found, f"at most {MAX_PER_DAY}")

    dates = repeat.dates or ()
    times = [at if isinstance(at, datetime) else midnight(at) for at in dates]
    if times and end is not None and all(_ends_before(at, end) for at in times):
        refuse(
            "repeat.dates", "no date up to endTime", f"at least one date up to {end}"
        )
