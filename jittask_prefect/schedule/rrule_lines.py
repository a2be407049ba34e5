"""A repeat of days or longer as RRULEs: the plain rule, before holidays, clock changes and the end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import product
from typing import TYPE_CHECKING

from jittask_prefect.errors import invalid
from jittask_prefect.schedule.custom import CustomRule, JoinedSeries
from jittask_prefect.schedule.cycle import Cycle
from jittask_prefect.schedule.instants import DAY, midnight
from jittask_prefect.schedule.rrule import RRule
from jittask_prefect.schedule.rrule_series import RRuleSeries
from jittask_prefect.schedule.spec import Repeat

if TYPE_CHECKING:
    from jittask_prefect.schedule.calendar import Calendar
    from jittask_prefect.schedule.timer import Timer

MISREAD = {52, 53, -52, -53}
"""Week numbers that dateutil, and so the server, reads wrong at the turn of a year (2022-01-01 is in week 52)."""
SIMPLE = {"minute": "MINUTELY", "hour": "HOURLY", "day": "DAILY"}
MAX_PER_DAY = 1440
"""Occurrences a day; the server makes at most 100 runs of a schedule in a minute's round (services/scheduler.py)."""


@dataclass(frozen=True)
class PlainRule:
    """RRULEs with a common DTSTART, without an end.

    Attributes:
        rules: The rules; none where each time is to be written out.
        series: Of a custom rule, the series of each rule. The server looks until the year 9999 for the times of a rule
            without any. So each rule that is handed over needs a day of its series.
        cycle: The times of the rules, where these are not the times of the repeat: working days of an ordinary week.
    """

    rules: tuple[RRule, ...] = ()
    series: tuple[RRuleSeries, ...] = ()
    cycle: Cycle | None = None

    @property
    def lines(self) -> tuple[str, ...]:
        """The rules as `RRULE:…`."""
        return tuple(rule.text for rule in self.rules)

    @property
    def per_day(self) -> float:
        """How many candidates a day the server walks through."""
        return max((rule.per_day for rule in self.rules), default=1.0)

    @property
    def positions(self) -> bool:
        """Whether a rule picks among the times of a period: naming its days would change the picks."""
        return any(rule.part("BYSETPOS") for rule in self.rules)

    @property
    def misread(self) -> bool:
        """Whether the server misreads a rule: each of its days is named up to the horizon."""
        return any(rule.part("BYWEEKNO") & MISREAD for rule in self.rules)

    @property
    def readable_lines(self) -> tuple[str, ...]:
        """The lines with only those week numbers that the server reads right."""
        if not self.misread:
            return self.lines

        lines = []
        for series in self.series:
            weeks = series.rule.part("BYWEEKNO") - MISREAD
            rule = replace(series.rule, by={**series.rule.by, "BYWEEKNO": weeks})
            if weeks and replace(series, rule=rule).matches():
                lines.append(rule.text)

        return tuple(lines)

    def dtstart(self, first: datetime) -> datetime:
        """The DTSTART of a series that begins with a time of the rule.

        The time itself, but for weeks with positions: dateutil counts the positions of the first week from DTSTART on,
        so that DTSTART is the beginning of the week.
        """
        if not self._counts_from_dtstart:
            return first
        days = (first.weekday() - self.rules[0].week_start) % 7
        return midnight(first.date()) - days * DAY

    def before(self, dtstart: datetime, first: datetime) -> Iterable[datetime]:
        """The times from DTSTART on that the lines have, and the series has not."""
        if not self._counts_from_dtstart:
            return ()
        return replace(self.series[0], start=dtstart).wall_times(dtstart, first)

    @property
    def _counts_from_dtstart(self) -> bool:
        return self.positions and any(rule.freq == "WEEKLY" for rule in self.rules)


def plain_rule(repeat: Repeat, start: datetime, calendar: Calendar) -> PlainRule:
    """The plain rule of a repeat.

    Args:
        repeat: A validated repeat.
        start: The start's wall time, naive; the start fills in absent parts.
        calendar: Whose working days are counted.
    """
    kind, period = repeat.repeat_type, repeat.period
    if kind == "normal" or repeat.dates is not None:
        return PlainRule()
    if repeat.counts_workdays:
        return _ordinary_workdays(repeat, start, calendar.workdays.week)

    if kind == "custom":
        series = CustomRule.read(repeat.cron, repeat.rrule).series(start)
        if len(series) > 1:
            series = tuple(each for each in series if each.matches())

        return PlainRule(tuple(each.rule for each in series), series)

    if kind in ("minute", "hour", "day"):
        return PlainRule((RRule(SIMPLE[kind], period),))

    if kind == "week":
        days = _weekdays(repeat.weekday or (start.isoweekday(),))
        return PlainRule((RRule("WEEKLY", period, weekdays=days),))

    return PlainRule(tuple(_monthly(repeat, start)))


def _ordinary_workdays(
    repeat: Repeat, start: datetime, week: frozenset[int]
) -> PlainRule:
    """The working days of weeks without holidays; no rule for every n-th of them, which no calendar rule names."""
    kind, period = repeat.repeat_type, repeat.period
    days = frozenset((0, day) for day in week)
    if not days or (kind == "workday" and period > 1):
        return PlainRule()

    places = {"BYSETPOS": frozenset(repeat.workday or ())}
    if kind == "workday":
        rules = [RRule("WEEKLY", weekdays=days)]
    elif kind == "month":
        rules = [RRule("MONTHLY", period, by=places, weekdays=days)]
    else:
        months = [frozenset({month}) for month in repeat.month or (start.month,)]
        by = [{"BYMONTH": month, **places} for month in months]
        rules = [RRule("YEARLY", period, by=each, weekdays=days) for each in by]

    series = tuple(each for rule in rules if (each := rule.at(start)).matches())
    kept = tuple(each.rule for each in series)
    return PlainRule(kept, series, JoinedSeries(series) if series else None)


def _monthly(repeat: Repeat, start: datetime) -> list[RRule]:
    rule = RRule("MONTHLY", repeat.period)
    months = frozenset(repeat.month or (start.month,))
    if repeat.repeat_type == "year":
        rule = RRule("YEARLY", repeat.period, by={"BYMONTH": months})

    if repeat.week is not None:
        days = _weekdays(repeat.weekday or (start.isoweekday(),), repeat.week)
        return [replace(rule, weekdays=days)]

    numbers = frozenset(repeat.day or (start.day,))
    if repeat.month_end == "skip":
        return [replace(rule, by={**rule.by, "BYMONTHDAY": numbers})]

    rules = []
    if plain := frozenset(n for n in numbers if n <= 28):
        rules.append(replace(rule, by={**rule.by, "BYMONTHDAY": plain}))

    # The last day of those up to n is n itself, or the month's last where the month is shorter.
    last = {"BYSETPOS": frozenset({-1})}
    each_month = [{"BYMONTH": frozenset({month})} for month in sorted(months)]
    for n in sorted(numbers - plain):
        upto = {"BYMONTHDAY": frozenset(range(28, n + 1))}
        for within in each_month if repeat.repeat_type == "year" else [{}]:
            rules.append(replace(rule, by={**within, **upto, **last}))

    return rules


def _weekdays(
    days: Iterable[int], weeks: Iterable[int] = (0,)
) -> frozenset[tuple[int, int]]:
    """Weekdays (Monday 1) as BYDAY, each with the numbers of its weeks in the month."""
    return frozenset((week, day - 1) for week, day in product(weeks, days))


def check_density(timer: Timer) -> None:
    """Refuse a scheduled timer that the server could not keep up with, whatever the time is.

    Raises:
        ConfigError: The timer has more than MAX_PER_DAY occurrences a day.
    """
    if timer.cfg.rows:
        return

    start = timer.only_series().wall
    per_day = plain_rule(timer.cfg.repeat, start, timer.moves.calendar).per_day
    if per_day > MAX_PER_DAY:
        found, allowed = f"{per_day:g} occurrences a day", f"at most {MAX_PER_DAY}"
        raise invalid("timerCfg.repeat", found, allowed)
