"""A repeat as RRULE lines: the plain rule, before holidays, gaps and the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from jittask_prefect.schedule.cron import Cron
from jittask_prefect.schedule.recur import midnight
from jittask_prefect.schedule.rrule import RRule, RRuleSeries
from jittask_prefect.schedule.rrule_text import SECONDS, WEEKDAYS
from jittask_prefect.schedule.spec import Repeat

DAY = timedelta(1)
MISREAD = {52, 53, -52, -53}
"""Week numbers that dateutil, and so the server, reads wrong at the turn of a year (2022-01-01 is in week 52)."""
DENSEST = 1440
"""Occurrences a day; the server makes at most 100 runs of a schedule in a minute's round (services/scheduler.py)."""


@dataclass(frozen=True, slots=True)
class Base:
    """RRULE lines that share one DTSTART, without an end.

    Args:
        lines: `RRULE:…`; none where each time is written out.
        aligned: From one of the rule's own times, the DTSTART at which its period begins; the time itself where the
            lines mean the same from any of their times on.
        per_day: How many candidates a day the server walks through.
        on: Of a custom rule, for each line: whether it has times on a day. The server looks until the year 9999 for the
            times of a line that has none.
        before: From an aligned DTSTART to the first time: what the lines say there, and the series does not.
        beyond: Of a rule that the server misreads: each of its days is named up to the horizon, and these lines go on.
        positions: It picks among the times of a period, so that naming its days does not do.
    """

    lines: tuple[str, ...]
    per_day: float = 1.0
    aligned: Callable[[datetime], datetime] = lambda at: at
    on: tuple[Callable[[date], bool], ...] = ()
    before: Callable[[datetime, datetime], Iterable[datetime]] = lambda low, high: ()
    beyond: tuple[str, ...] | None = None
    positions: bool = False


def base_of(repeat: Repeat, start: datetime) -> Base:
    """The plain rule of a repeat of days, or custom.

    Args:
        repeat: Of any type but minute and hour.
        start: The start's wall time, naive.
    """
    kind, period = repeat.repeat_type, repeat.period
    if kind == "normal" or (kind == "custom" and repeat.dates is not None):
        return Base(())
    if kind == "custom":
        return (
            _cron(repeat.cron)
            if repeat.cron is not None
            else _rrule(RRule.read(repeat.rrule or ""), start)
        )
    every = f";INTERVAL={period}" if period > 1 else ""
    if kind == "day":
        return Base((f"RRULE:FREQ=DAILY{every}",))
    if kind == "week":
        days = _names(repeat.weekday or (start.isoweekday(),))
        return Base((f"RRULE:FREQ=WEEKLY{every};WKST=MO;BYDAY={days}",))
    return Base(tuple(_monthly(repeat, start, every)))


def _monthly(repeat: Repeat, start: datetime, every: str) -> list[str]:
    yearly = repeat.repeat_type == "year"
    months = sorted(set(repeat.month or (start.month,))) if yearly else []
    head = f"RRULE:FREQ={'YEARLY' if yearly else 'MONTHLY'}{every}"
    within = f";BYMONTH={','.join(map(str, months))}" if months else ""
    if repeat.week is not None:
        days = _names(repeat.weekday or (start.isoweekday(),), repeat.week)
        return [f"{head}{within};BYDAY={days}"]
    numbers = sorted(set(repeat.day or (start.day,)))
    if repeat.month_end == "skip":
        return [f"{head}{within};BYMONTHDAY={','.join(map(str, numbers))}"]
    lines = []
    if plain := [n for n in numbers if n <= 28]:
        lines.append(f"{head}{within};BYMONTHDAY={','.join(map(str, plain))}")
    # The last day of those up to n is n itself, or the month's last where it is shorter.
    for n in (n for n in numbers if n > 28):
        upto = ",".join(str(day) for day in range(28, n + 1))
        each = [f";BYMONTH={month}" for month in months] if yearly else [within]
        lines += [f"{head}{one};BYMONTHDAY={upto};BYSETPOS=-1" for one in each]
    return lines


def _cron(text: str | None) -> Base:
    cron = Cron.read(text or "")
    parts = cron.parts
    return Base(
        tuple(map(_cron_line, parts)),
        len(cron.times),
        on=tuple(part.matches for part in parts),
    )


def _cron_line(cron: Cron) -> str:
    hours, minutes = (
        ",".join(map(str, numbers)) for numbers in (cron.hours, cron.minutes)
    )
    months = (
        f";BYMONTH={','.join(map(str, sorted(cron.months)))}"
        if len(cron.months) < 12
        else ""
    )
    by_number = (
        f";BYMONTHDAY={','.join(map(str, sorted(cron.days)))}"
        if len(cron.days) < 31
        else ""
    )
    names = ",".join(WEEKDAYS[(n - 1) % 7] for n in sorted(cron.weekdays))
    by_weekday = f";BYDAY={names}" if len(cron.weekdays) < 7 else ""
    return f"RRULE:FREQ=DAILY{months}{by_number}{by_weekday};BYHOUR={hours};BYMINUTE={minutes};BYSECOND=0"


def _rrule(rule: RRule, start: datetime) -> Base:
    """A custom rule with its defaults written out; weekdays with and without a number in lines of their own."""
    series = rule.at(start)
    parts = _parts(series)
    lines, on = (
        tuple(_rrule_line(part.rule) for part in parts),
        tuple(part.on for part in parts),
    )
    rule = series.rule
    if rule.freq == "WEEKLY" and rule.part("BYSETPOS"):
        # dateutil counts the positions of the first week from DTSTART on.
        return Base(
            lines,
            _density(rule),
            lambda at: midnight(at.date()) - _into_week(rule, at) * DAY,
            on,
            lambda low, high: replace(series, start=low).wall(low, high),
        )
    numbers = rule.part("BYWEEKNO")
    if numbers & MISREAD:
        sound = replace(
            series, rule=replace(rule, by={**rule.by, "BYWEEKNO": numbers - MISREAD})
        )
        beyond = (
            (_rrule_line(sound.rule),) if numbers - MISREAD and sound.matches() else ()
        )
        return Base(
            lines,
            _density(rule),
            on=on,
            beyond=beyond,
            positions=bool(rule.part("BYSETPOS")),
        )
    return Base(lines, _density(rule), on=on)


def _parts(series: RRuleSeries) -> list[RRuleSeries]:
    kinds = [
        frozenset(p for p in series.rule.weekdays if bool(p[0]) is numbered)
        for numbered in (False, True)
    ]
    if not all(kinds):
        return [series]
    both = [
        replace(series, rule=replace(series.rule, weekdays=pairs)) for pairs in kinds
    ]
    return [part for part in both if part.matches()]


def _rrule_line(rule: RRule) -> str:
    every = f";INTERVAL={rule.interval}" if rule.interval > 1 else ""
    parts = "".join(
        f";{name}={','.join(map(str, sorted(numbers)))}"
        for name, numbers in sorted(rule.by.items())
    )
    days = ",".join(
        f"{number or ''}{WEEKDAYS[day]}" for number, day in sorted(rule.weekdays)
    )
    by_weekday = f";BYDAY={days}" if days else ""
    return f"RRULE:FREQ={rule.freq}{every};WKST={WEEKDAYS[rule.week_start]}{parts}{by_weekday}"


def _into_week(rule: RRule, at: datetime) -> int:
    return (at.weekday() - rule.week_start) % 7


def _density(rule: RRule) -> float:
    """Times a day, on the days on which there are any."""
    hours, minutes, seconds = (
        len(rule.part(name)) for name in ("BYHOUR", "BYMINUTE", "BYSECOND")
    )
    if not rule.sub_daily:
        return float(hours * minutes * seconds)
    steps = 86400 / (SECONDS[rule.freq] * rule.interval) * ((hours or 24) / 24)
    return (
        steps
        * (minutes if rule.freq == "HOURLY" else 1)
        * (1 if rule.freq == "SECONDLY" else seconds)
    )


def _names(weekdays: tuple[int, ...], week: int | None = None) -> str:
    number = "" if week is None else f"{week}"
    return ",".join(f"{number}{WEEKDAYS[day - 1]}" for day in sorted(set(weekdays)))
