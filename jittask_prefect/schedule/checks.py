"""What must fit together in a `timerCfg`: contradictions, missing parts, rules that never match."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

from jittask_prefect.errors import Problem
from jittask_prefect.schedule.cron import Cron
from jittask_prefect.schedule.recur import Elapsed, recurrence
from jittask_prefect.schedule.rrule import RRule
from jittask_prefect.schedule.rrule_lines import DENSEST, base_of
from jittask_prefect.schedule.spec import Offset, Repeat, TimerCfg
from jittask_prefect.validation import shown

Bad = frozenset[tuple[str, ...]]
Say = Callable[[str, str, str], None]

# Which keys each repeat type takes; `period` of 1 is let pass everywhere.
TAKES: Mapping[str, frozenset[str]] = {
    "normal": frozenset(),
    "minute": frozenset({"period"}),
    "hour": frozenset({"period"}),
    "day": frozenset({"period"}),
    "week": frozenset({"period", "weekday"}),
    "month": frozenset({"period", "day", "week", "weekday", "subType", "monthEnd"}),
    "year": frozenset(
        {"period", "day", "week", "weekday", "subType", "monthEnd", "month"}
    ),
    "custom": frozenset({"cron", "rrule", "dates"}),
}
CUSTOM = ("cron", "rrule", "dates")
SOME_START = datetime(2024, 1, 1)
"""From where a row's rule is counted: the rows' own dates are not known yet."""
YEARS = {
    "month": 12,
    "week": 52,
    "day": 365,
    "hour": 365 * 24,
    "minute": 365 * 1440,
    "second": 365 * 86400,
}
"""How many of a unit are a year."""


def check(
    cfg: TimerCfg, raw: Mapping[Any, Any], *, rows: bool, bad: Bad, key: str
) -> list[Problem]:
    """The problems between the keys of a timer.

    Args:
        cfg: What could be read; keys in `bad` are left out of it.
        raw: What was written.
        rows: Whether it belongs to a row task.
        bad: Paths that have a problem of their own already.
        key: The path of the timerCfg, for messages.
    """
    problems: list[Problem] = []

    def say(path: str, found: str, allowed: str) -> None:
        problems.append(Problem("", f"{key}.{path}", found, allowed))

    _start_and_end(cfg, raw, rows, bad, say)
    for name, offset in (
        ("startOffset", cfg.start_offset),
        ("endOffset", cfg.end_offset),
    ):
        if offset is not None:
            _offset(name, offset, bad, say)
    _repeat(cfg.repeat, raw, bad, say)
    if not problems and not bad:
        _matches(cfg, say)
    return problems


def _start_and_end(
    cfg: TimerCfg, raw: Mapping[Any, Any], rows: bool, bad: Bad, say: Say
) -> None:
    has = {name for name in raw if raw[name] is not None}
    needed, other = ("startField", "startTime") if rows else ("startTime", "startField")
    kind = "row" if rows else "scheduled"
    if needed not in has:
        say(needed, "nothing", f"this key is required: a {kind} task starts from it")
    foreign = (
        [other]
        if rows
        else [other, "startOffset", "endTimeType", "endField", "endOffset"]
    )
    for name in foreign:
        if name in has:
            say(
                name,
                shown(raw[name]),
                f"no such key for a {kind} task, which starts from {needed}",
            )
    if not rows:
        start, end = cfg.start_time, cfg.end_time
        if start is not None and end is not None and _ends_before(start, end):
            say("endTime", shown(raw["endTime"]), f"a time from startTime ({start}) on")
        return
    if ("endTimeType",) in bad:
        return
    kinds = {
        1: ("endTime", ("endField", "endOffset")),
        2: ("endField", ("endTime",)),
        0: ("", ()),
    }
    wanted, unwanted = kinds[cfg.end_time_type]
    if "endTimeType" not in has:
        if {"endTime", "endField"} <= has:
            say(
                "endTimeType",
                "nothing, with endTime and endField both",
                "1 for endTime, 2 for endField",
            )
        elif "endOffset" in has and "endField" not in has:
            say(
                "endOffset",
                shown(raw["endOffset"]),
                "only beside endField, with endTimeType 2",
            )
        return
    if cfg.end_time_type == 0:
        unwanted = ("endTime", "endField", "endOffset")
    if wanted and wanted not in has:
        say(
            wanted,
            "nothing",
            f"this key is required with endTimeType {cfg.end_time_type}",
        )
    for name in unwanted:
        if name in has:
            say(
                name,
                shown(raw[name]),
                f"no such key with endTimeType {cfg.end_time_type}",
            )


def _moment(at: date) -> datetime:
    return at if isinstance(at, datetime) else datetime(at.year, at.month, at.day)


def _ends_before(start: datetime, end: date) -> bool:
    return end < start if isinstance(end, datetime) else end < start.date()


def _offset(name: str, offset: Offset, bad: Bad, say: Say) -> None:
    given = offset.model_fields_set
    broken = {path[1] for path in bad if len(path) > 1 and path[0] == name}
    if "offset_type" not in given and "offset" in given and "offsetType" not in broken:
        say(f"{name}.offsetType", "nothing", "-1 before, 0 on time or 1 after")
    if offset.offset_type:
        for attribute, alias in (("offset", "offset"), ("unit", "offsetUnit")):
            if attribute not in given and alias not in broken:
                say(
                    f"{name}.{alias}",
                    "nothing",
                    f"this key is required with offsetType {offset.offset_type}",
                )
    if offset.offset_type == -1 and offset.offset < 0:
        say(
            f"{name}.offset",
            str(offset.offset),
            "0 or more: offsetType -1 says that it is before",
        )
    if offset.offset_type == 0 and offset.offset and "offset_type" in given:
        say(
            f"{name}.offset",
            str(offset.offset),
            "0 or absent with offsetType 0 (on time)",
        )
    if abs(offset.amount) // YEARS.get(offset.unit, 1) > 9999:
        say(
            f"{name}.offset",
            str(offset.offset),
            f"less than 9,999 years of offsetUnit {offset.unit}",
        )
    if offset.time is not None and offset.elapsed:
        say(
            f"{name}.time",
            f"a time with offsetUnit {offset.unit}",
            "a time only with day, week, month or year",
        )


def _repeat(repeat: Repeat, raw: Mapping[Any, Any], bad: Bad, say: Say) -> None:
    written = raw.get("repeat")
    if written is None or ("repeat",) in bad or not isinstance(written, Mapping):
        return
    broken = {path[1] for path in bad if len(path) > 1 and path[0] == "repeat"}
    if "repeatType" in broken:
        return
    if written.get("repeatType") is None:
        say("repeat.repeatType", "nothing", f"one of {', '.join(TAKES)}")
        return
    kind = repeat.repeat_type
    has = {name for name in written if written[name] is not None}
    for field in Repeat.model_fields.values():
        alias = field.alias
        if alias and alias in has and alias not in TAKES[kind] | {"repeatType"}:
            say(f"repeat.{alias}", shown(written[alias]), _takes(kind))
    for alias in ("period", "weekday", "day", "week", "month", *CUSTOM):
        one = alias == "period" and repeat.period == 1
        if (
            alias in has
            and alias not in TAKES[kind]
            and not one
            and alias not in broken
        ):
            say(f"repeat.{alias}", shown(written[alias]), _takes(kind))
    if kind in ("month", "year"):
        _month_or_year(repeat, has, broken, say)
    if kind == "custom":
        rules = [name for name in CUSTOM if name in has]
        if len(rules) != 1:
            say(
                "repeat",
                f"custom with {' and '.join(rules) or 'no rule'}",
                "custom with exactly one of cron, rrule, dates",
            )
    for name, read in (("cron", Cron.read), ("rrule", RRule.read)):
        text = getattr(repeat, name)
        if text is not None and kind == "custom":
            try:
                read(text)
            except ValueError as error:
                say(f"repeat.{name}", shown(text), str(error))


def _takes(kind: str) -> str:
    return f"no such key with repeatType {kind}, which takes {', '.join(sorted(TAKES[kind])) or 'no other'}"


def _month_or_year(repeat: Repeat, has: set[str], broken: set[str], say: Say) -> None:
    by_week = "week" in has
    if repeat.sub_type == "week" and not by_week:
        say(
            "repeat.week",
            "nothing",
            "this key is required with subType week: 1 to 5, or -1 to -5",
        )
    if repeat.sub_type == "day" and by_week:
        say("repeat.week", str(repeat.week), "no such key with subType day")
    if by_week and "day" in has:
        say(
            "repeat.day",
            shown(list(repeat.day or ())),
            "either day, or week with weekday",
        )
    if repeat.sub_type == "week" and not by_week and "day" in has:
        say(
            "repeat.day", shown(list(repeat.day or ())), "no such key with subType week"
        )
    if (
        "weekday" in has
        and not by_week
        and repeat.sub_type != "week"
        and "week" not in broken
    ):
        say(
            "repeat.weekday",
            shown(list(repeat.weekday or ())),
            "weekday only beside week, or with repeatType week",
        )
    days = () if by_week else repeat.day or ()
    if repeat.month_end == "skip" and days and repeat.month:
        longest = max(monthrange(2024, month)[1] for month in repeat.month)
        if min(days) > longest:
            months = ", ".join(map(str, repeat.month))
            say(
                "repeat.day",
                shown(list(days)),
                f"a day that month {months} has, or monthEnd last",
            )


def _matches(cfg: TimerCfg, say: Say) -> None:
    """Refuse what has no occurrence at all, found by a search of bounded length."""
    repeat = cfg.repeat
    start = cfg.start_time
    if repeat.rrule is not None:
        rule = RRule.read(repeat.rrule)
        if not (rule.possible() if start is None else rule.at(start).matches()):
            say(
                "repeat.rrule",
                shown(repeat.rrule),
                "a rule that matches some day; this one never does",
            )
            return
        # For a scheduled task `rules.check` says so.
        if start is None and (per_day := base_of(repeat, SOME_START).per_day) > DENSEST:
            say("repeat.rrule", f"{per_day:g} occurrences a day", f"at most {DENSEST}")
    if start is None:
        ends = cfg.end_time
        if (
            repeat.dates is not None
            and ends is not None
            and all(_ends_before(_moment(at), ends) for at in repeat.dates)
        ):
            say(
                "repeat.dates",
                "no date up to endTime",
                f"at least one date up to {ends}",
            )
        return
    cycle = recurrence(repeat, start)
    if isinstance(cycle, Elapsed):
        return
    first = cycle.first(start)
    if repeat.dates is not None:
        if first is None or (
            cfg.end_time is not None and _ends_before(first, cfg.end_time)
        ):
            say(
                "repeat.dates",
                "no date within startTime and endTime",
                f"at least one date from {start} on",
            )
    elif first is None:
        key = "week" if repeat.week is not None else "day"
        say(
            f"repeat.{key}",
            f"one that never comes from {start} on",
            "one that comes, or monthEnd last",
        )
