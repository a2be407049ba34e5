"""The rule of a custom repeat, cron or RRULE: an RRULE, or several whose times are joined."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from heapq import merge
from itertools import groupby

from jittask_prefect.schedule.cron import read_cron, whole_seconds
from jittask_prefect.schedule.cycle import Cycle
from jittask_prefect.schedule.rrule import RRule
from jittask_prefect.schedule.rrule_series import RRuleSeries


@dataclass(frozen=True)
class CustomRule:
    """RRULEs whose times are joined; all differ in their day parts only.

    Attributes:
        rules: The rules.
        cron: Whether a cron expression made them.
    """

    rules: tuple[RRule, ...]
    cron: bool

    @classmethod
    @lru_cache(maxsize=256)
    def read(cls, cron: str | None, rrule: str | None) -> CustomRule:
        """Read the cron expression, or else the RRULE; once for all rows of a template.

        Raises:
            ValueError: The text is neither; the message says which text is allowed.
        """
        if cron is not None:
            return cls(read_cron(cron), True)

        rule = RRule.read(rrule or "")
        # BYDAY: server and RFC agree on weekdays with a number, and on weekdays without, but not on both in one rule.
        numbered = frozenset(pair for pair in rule.weekdays if pair[0])
        kinds = [pairs for pairs in (rule.weekdays - numbered, numbered) if pairs]
        parts = tuple(replace(rule, weekdays=pairs) for pairs in kinds)
        return cls(parts or (rule,), False)

    @property
    def sub_daily(self) -> bool:
        """Whether a holiday drops occurrences instead of moving them; see `RRule.sub_daily`."""
        return any(rule.sub_daily for rule in self.rules)

    @property
    def names_days(self) -> bool:
        """Whether every start has the same days, from the start on."""
        return all(rule.names_days for rule in self.rules)

    def possible(self) -> bool:
        """Whether some start has an occurrence, whatever the interval."""
        return any(rule.possible() for rule in self.rules)

    def series(self, start: datetime) -> tuple[RRuleSeries, ...]:
        """The series of each rule from a start (naive wall time) on."""
        start = whole_seconds(start) if self.cron else start
        return tuple(rule.at(start) for rule in self.rules)

    def at(self, start: datetime) -> RRuleSeries | JoinedSeries:
        """The joined series of all rules from a start (naive wall time) on."""
        series = self.series(start)
        return series[0] if len(series) == 1 else JoinedSeries(series)


@dataclass(frozen=True, slots=True)
class JoinedSeries(Cycle):
    """The wall times of several series, each time once."""

    series: tuple[RRuleSeries, ...]

    @property
    def sub_daily(self) -> bool:
        return any(each.sub_daily for each in self.series)

    @property
    def pace(self) -> timedelta:
        return min(each.pace for each in self.series)

    def matches(self) -> bool:
        """Whether there is any time at all."""
        return any(each.matches() for each in self.series)

    def wall_times(self, low: datetime, high: datetime) -> Iterator[datetime]:
        times = merge(*(each.wall_times(low, high) for each in self.series))
        return (at for at, _ in groupby(times))

    def first(self, low: datetime) -> datetime | None:
        found = [at for each in self.series if (at := each.first(low)) is not None]
        return min(found, default=None)
