"""RFC 5545 recurrence rules on wall-clock times, with a bound on every search.

Written here and not taken from dateutil, whose rules spin to year 9999 where nothing matches, and walk from the start
at every question. Where both answer, they answer alike (a test compares them); the one exception is BYDAY that mixes
`MO` and `1TU`: dateutil takes what is both, RFC 5545 §3.3.10 what is either.
"""

from __future__ import annotations

from calendar import isleap, monthrange
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from itertools import islice, repeat
from math import gcd, lcm, prod

from jittask_prefect.schedule.cron import FEW_DAYS, FEW_TIMES
from jittask_prefect.schedule.day_numbers import (
    day_of_year,
    later,
    next_month,
    week_numbers,
)
from jittask_prefect.schedule.rrule_text import FREQS, SECONDS, Numbers, read

TRIES = 20_000
"""Days, months and clock times looked at before a rule counts as one that never matches: 54 years of days."""
MOST_CLOCKS = 10_000
"""Clock times of a day that are read at all; a task may have 1,440."""
CALENDAR = {"DAILY": 146_097, "WEEKLY": 20_871, "MONTHLY": 4800, "YEARLY": 400}
"""Days, weeks, months and years after which the calendar is the same again: in 400 years."""
MOST_DAYS = {"DAILY": 1, "WEEKLY": 7, "MONTHLY": 31, "YEARLY": 366}

NONE: Numbers = frozenset()


@dataclass(frozen=True, slots=True)
class RRule:
    """The parts of one RRULE line, without a start."""

    freq: str
    interval: int = 1
    week_start: int = 0
    by: Mapping[str, Numbers] = field(default_factory=dict)
    weekdays: frozenset[tuple[int, int]] = (
        frozenset()
    )  # (ordinal or 0, weekday with Monday 0)

    @classmethod
    def read(cls, text: str) -> RRule:
        """Read a rule.

        Args:
            text: One line, with or without `RRULE:`, without DTSTART, COUNT or UNTIL.

        Raises:
            ValueError: The text says what is allowed.
        """
        rule = cls(*read(text))
        rule._check()
        return rule

    @property
    def sub_daily(self) -> bool:
        """Whether the rule's frequency is finer than a day."""
        return self.freq in SECONDS

    @property
    def several(self) -> bool:
        """Whether it has several times on a day that no BYSETPOS picks among, and is finer than a day (see Cron)."""
        if self.sub_daily or self.clocks == 1 or self.part("BYSETPOS"):
            return self.sub_daily
        daily = (
            self.freq in ("DAILY", "WEEKLY")
            and not 0 < len(self.part("BYMONTHDAY")) <= FEW_DAYS
        )
        return daily or self.clocks > FEW_TIMES

    @property
    def names_days(self) -> bool:
        """Whether every start has the same days, from the start on."""
        days = (
            self.by.keys() & {"BYWEEKNO", "BYYEARDAY", "BYMONTHDAY"}
            or self.weekdays
            or self.freq == "DAILY"
        )
        return self.interval == 1 and not self.sub_daily and bool(days)

    @property
    def clocks(self) -> int:
        """How many clock times its BYHOUR, BYMINUTE and BYSECOND make together on a day, where they decide alone."""
        return (
            0
            if self.sub_daily
            else prod(
                max(1, len(self.part(name)))
                for name in ("BYHOUR", "BYMINUTE", "BYSECOND")
            )
        )

    def possible(self) -> bool:
        """Whether some start has an occurrence: then a start at that time has one too, whatever the interval."""
        hour, minute, second = (
            min(self.part(name), default=0)
            for name in ("BYHOUR", "BYMINUTE", "BYSECOND")
        )
        return (
            replace(self, interval=1)
            .at(datetime(2000, 1, 1, hour, minute, second))
            .matches()
        )

    def part(self, name: str) -> Numbers:
        """The numbers of a BY part; empty where it is absent."""
        return self.by.get(name, NONE)

    def at(self, start: datetime) -> RRuleSeries:
        """The series of this rule from a start (naive wall time) on, which fills in what the rule leaves open."""
        by = dict(self.by)
        weekdays = self.weekdays
        if not (by.keys() & {"BYWEEKNO", "BYYEARDAY", "BYMONTHDAY"} or weekdays):
            if self.freq == "YEARLY":
                by.setdefault("BYMONTH", frozenset({start.month}))
            if self.freq in ("YEARLY", "MONTHLY"):
                by["BYMONTHDAY"] = frozenset({start.day})
            elif self.freq == "WEEKLY":
                weekdays = frozenset({(0, start.weekday())})
        rank = FREQS.index(self.freq)
        if "BYHOUR" not in by and rank > 2:
            by["BYHOUR"] = frozenset({start.hour})
        if "BYMINUTE" not in by and rank > 1:
            by["BYMINUTE"] = frozenset({start.minute})
        if "BYSECOND" not in by and rank > 0:
            by["BYSECOND"] = frozenset({start.second})
        whole = start.replace(microsecond=0)
        return RRuleSeries(
            replace(self, by=by, weekdays=weekdays), whole, start - whole
        )

    def _check(self) -> None:
        ordinals = [n for n, _ in self.weekdays if n]
        if ordinals and (
            self.freq not in ("MONTHLY", "YEARLY") or self.part("BYWEEKNO")
        ):
            raise ValueError(
                "BYDAY with a number (1MO, -1FR) only with FREQ=MONTHLY or YEARLY, and without BYWEEKNO"
            )
        if self.part("BYSETPOS") and 0 < len(ordinals) < len(self.weekdays):
            raise ValueError(
                "BYSETPOS with a BYDAY of weekdays all with a number, or all without"
            )
        if self.part("BYWEEKNO") and self.freq != "YEARLY":
            raise ValueError("BYWEEKNO only with FREQ=YEARLY")
        if self.part("BYYEARDAY") and self.freq in ("DAILY", "WEEKLY", "MONTHLY"):
            raise ValueError("BYYEARDAY not with FREQ=DAILY, WEEKLY or MONTHLY")
        if self.part("BYMONTHDAY") and self.freq == "WEEKLY":
            raise ValueError("BYMONTHDAY not with FREQ=WEEKLY")
        if self.part("BYSETPOS") and (
            self.sub_daily or not (len(self.by) > 1 or self.weekdays)
        ):
            raise ValueError(
                "BYSETPOS only with FREQ=DAILY or longer, beside another BY part"
            )
        if self.clocks > MOST_CLOCKS:
            raise ValueError(
                f"at most 1440 clock times a day (BYHOUR, BYMINUTE, BYSECOND), not {self.clocks}"
            )


@dataclass(frozen=True, slots=True)
class RRuleSeries:
    """The wall times of a rule from a start on.

    Args:
        rule: With what it leaves open filled in.
        start: In whole seconds, as a rule counts.
        fraction: What the start has beyond them, as a row's date may; each time has it too.
    """

    rule: RRule
    start: datetime
    fraction: timedelta = timedelta()

    @property
    def sub_daily(self) -> bool:
        return self.rule.several

    @property
    def last(self) -> datetime | None:
        return None

    @property
    def pace(self) -> timedelta:
        return timedelta(1 if self.rule.sub_daily else 31)

    def matches(self) -> bool:
        """Whether the rule has any time at all, by a search of bounded length (RFC 5545 sets no bound)."""
        return self.first(self.start) is not None

    def first(self, low: datetime) -> datetime | None:
        low = self._from(low)
        if not self._reachable():
            return None
        tries: Iterator[object] = iter(range(TRIES))
        days = self._days(low.date(), self._same_again(low.date()), tries)
        for day, clocks in self._with_times(days, low, tries=tries):
            for clock in clocks:
                if (at := datetime.combine(day, clock)) >= low:
                    return at + self.fraction
        return None

    def on(self, day: date) -> bool:
        """Whether it has a time on a day."""
        begin = datetime.combine(day, time())
        return next(self.wall(begin, begin + timedelta(1)), None) is not None

    def wall(self, low: datetime, high: datetime) -> Iterator[datetime]:
        # What a rule says in whole seconds lies between these; the fraction is put on top.
        low, high = self._from(low), high - self.fraction
        if high <= low:
            return
        for day, clocks in self._with_times(
            self._days(low.date(), high.date(), repeat(None)), low, high
        ):
            for clock in clocks:
                if low <= (at := datetime.combine(day, clock)) < high:
                    yield at + self.fraction

    def _from(self, low: datetime) -> datetime:
        return low - self.fraction if low - self.start > self.fraction else self.start

    def _with_times(
        self,
        days: Iterator[date],
        low: datetime = datetime.min,
        high: datetime = datetime.max,
        tries: Iterator[object] | None = None,
    ) -> Iterator[tuple[date, Iterable[time]]]:
        """The days with their clock times; where the rule is finer than a day, at least those within low..high."""
        if self.rule.sub_daily:
            for day in days:
                begin = low.time() if day == low.date() else time.min
                yield (
                    day,
                    self._fine_times(
                        day,
                        begin,
                        high.time() if day == high.date() else time.max,
                        tries,
                    ),
                )
            return
        times = [
            time(h, m, s)
            for h in self._part("BYHOUR")
            for m in self._part("BYMINUTE")
            for s in self._part("BYSECOND")
        ]
        if not self.rule.part("BYSETPOS"):
            yield from ((day, times) for day in days)
            return
        first, last = date.max, date.min
        chosen: dict[date, list[time]] = {}
        for day in days:
            if not first <= day <= last:
                first, last = self._period(day)
                if tries is not None:
                    deque(
                        islice(tries, (last - first).days // 4), maxlen=0
                    )  # a period costs more than a day
                chosen = self._chosen(first, last, times)
            yield day, chosen.get(day, [])

    def _part(self, name: str) -> list[int]:
        return sorted(self.rule.part(name))

    def _same_again(self, low: date) -> date:
        """The day from which on everything comes as it did since `low`; the calendar's last day where that is later."""
        rule = self.rule
        by_weekday = rule.sub_daily or rule.freq in ("DAILY", "WEEKLY")
        if not by_weekday or rule.by.keys() & {"BYMONTH", "BYMONTHDAY", "BYYEARDAY"}:
            cycle = CALENDAR[rule.freq if rule.freq in CALENDAR else "DAILY"]
        else:
            cycle = 1 if rule.freq == "WEEKLY" else 7
        if rule.sub_daily:
            return later(low, lcm(self._step, cycle * 86400) // 86400) or date.max
        return later(low, lcm(rule.interval, cycle) * MOST_DAYS[rule.freq]) or date.max

    def _days(self, low: date, high: date, tries: Iterator[object]) -> Iterator[date]:
        """Days of the rule's periods that its day parts allow, before BYSETPOS; at most so many tries are looked at."""
        day: date | None = low
        for _ in tries:
            if day is None or day > high:
                return
            begin = self._in_period(day)
            if begin == day:
                if self._allows(day):
                    yield day
                begin = later(day, 1)
            day = begin

    def _in_period(self, day: date) -> date | None:
        """The first day from `day` on that lies in a month and may lie in a period of the rule; None: there is none."""
        rule, first = self.rule, self.start.date()
        if (months := rule.part("BYMONTH")) and day.month not in months:
            return next_month(day)
        if (
            (numbers := rule.part("BYMONTHDAY"))
            and min(numbers) > 0
            and day.day not in numbers
        ):
            number = min((n for n in numbers if n > day.day), default=32)
            fits = number <= monthrange(day.year, day.month)[1]
            return day.replace(day=number) if fits else next_month(day)
        if rule.sub_daily:
            return later(day, self._behind(day) // 86400) if self._step > 86400 else day
        if rule.interval == 1:
            return day
        if rule.freq == "DAILY":
            return later(day, -(day.toordinal() - first.toordinal()) % rule.interval)
        if rule.freq == "WEEKLY":
            begin = first.toordinal() - (first.weekday() - rule.week_start) % 7
            behind = -((day.toordinal() - begin) // 7) % rule.interval
            return (
                later(day, behind * 7 - (day.toordinal() - begin) % 7)
                if behind
                else day
            )
        if rule.freq == "MONTHLY":
            behind = (
                -((day.year - first.year) * 12 + day.month - first.month)
                % rule.interval
            )
            month = day.year * 12 + day.month - 1 + behind
            return (
                day
                if not behind
                else date(month // 12, month % 12 + 1, 1)
                if month // 12 <= 9999
                else None
            )
        behind = -(day.year - first.year) % rule.interval
        return (
            day
            if not behind
            else date(day.year + behind, 1, 1)
            if day.year + behind <= 9999
            else None
        )

    def _allows(self, day: date) -> bool:
        rule = self.rule
        if numbers := rule.part("BYMONTHDAY"):
            length = monthrange(day.year, day.month)[1]
            if day.day not in numbers and day.day - length - 1 not in numbers:
                return False
        if numbers := rule.part("BYYEARDAY"):
            at = day_of_year(day)
            if (
                at not in numbers
                and at - (366 if isleap(day.year) else 365) - 1 not in numbers
            ):
                return False
        if rule.weekdays and not self._on_weekday(day):
            return False
        numbers = rule.part("BYWEEKNO")
        return not numbers or not numbers.isdisjoint(week_numbers(day, rule.week_start))

    def _on_weekday(self, day: date) -> bool:
        """Whether BYDAY allows the day: `MO`, or the n-th of the month, or of the year where no month is named."""
        weekday = day.weekday()
        if (0, weekday) in self.rule.weekdays:
            return True
        if self.rule.freq == "YEARLY" and not self.rule.part("BYMONTH"):
            at, length = day_of_year(day), 366 if isleap(day.year) else 365
        else:
            at, length = day.day, monthrange(day.year, day.month)[1]
        nth, from_end = (at + 6) // 7, -((length - at) // 7 + 1)
        return bool({(nth, weekday), (from_end, weekday)} & self.rule.weekdays)

    def _fine_times(
        self, day: date, begin: time, end: time, tries: Iterator[object] | None
    ) -> Iterator[time]:
        """The clock times of an allowed day, at least those within begin..end, of a rule finer than a day."""
        hours, minutes, seconds = (
            self.rule.part(name) for name in ("BYHOUR", "BYMINUTE", "BYSECOND")
        )
        unit, step, behind = SECONDS[self.rule.freq], self._step, self._behind(day)
        # An hour early: BYMINUTE and BYSECOND put times after the step that they belong to.
        early = max(0, begin.hour - 1) * 3600
        steps = range(
            behind + max(0, -((behind - early) // step)) * step,
            min(86400, end.hour * 3600 + 3600),
            step,
        )
        for at in self._steps(steps, tries):
            hour, minute = at // 3600, at // 60 % 60
            if (hours and hour not in hours) or (
                unit < 3600 and minutes and minute not in minutes
            ):
                continue
            if unit == 1:
                if not seconds or at % 60 in seconds:
                    yield time(hour, minute, at % 60)
                continue
            within = sorted(minutes) if unit == 3600 else [minute]
            yield from (
                time(hour, m, s) for m in within for s in self._part("BYSECOND")
            )

    @property
    def _step(self) -> int:
        """The seconds from one step of a rule finer than a day to the next."""
        return SECONDS[self.rule.freq] * self.rule.interval

    def _behind(self, day: date) -> int:
        """The seconds from a day's beginning to the first step from there on."""
        unit, start = SECONDS[self.rule.freq], self.start
        origin = (start.hour * 3600 + start.minute * 60 + start.second) // unit * unit
        return ((start.toordinal() - day.toordinal()) * 86400 + origin) % self._step

    def _steps(self, steps: range, tries: Iterator[object] | None) -> Iterable[int]:
        """The steps of a day, without many in hours and minutes that BYHOUR and BYMINUTE leave out."""
        minutes = self._part("BYMINUTE") if self.rule.freq != "HOURLY" else []
        hours = self._part("BYHOUR") or range(24)
        counted = repeat(None) if tries is None else tries
        if len(steps) <= len(hours) * len(minutes or (0,)) or not (
            minutes or self.rule.part("BYHOUR")
        ):
            return (
                steps
                if tries is None
                else (at for at, _ in zip(steps, counted, strict=False))
            )
        parts = (h * 3600 + m * 60 for h in hours for m in minutes or (0,))
        return (
            at
            for part, _ in zip(parts, counted, strict=False)
            for at, _ in zip(
                _within(steps, part, 60 if minutes else 3600), counted, strict=False
            )
        )

    def _chosen(
        self, first: date, last: date, times: list[time]
    ) -> dict[date, list[time]]:
        """The times that BYSETPOS picks from those of the period first..last, by day."""
        days = list(self._days(first, last, repeat(None)))
        many = len(days) * len(times)
        chosen: dict[date, list[time]] = {}
        for place in sorted(
            {n - 1 if n > 0 else many + n for n in self.rule.part("BYSETPOS")}
        ):
            if 0 <= place < many:
                number, clock = divmod(place, len(times))
                chosen.setdefault(days[number], []).append(times[clock])
        return chosen

    def _period(self, day: date) -> tuple[date, date]:
        freq = self.rule.freq
        if freq == "DAILY":
            return day, day
        if freq == "WEEKLY":
            back = (day.weekday() - self.rule.week_start) % 7
            return later(day, -back) or date.min, later(day, 6 - back) or date.max
        if freq == "MONTHLY":
            return day.replace(day=1), day.replace(
                day=monthrange(day.year, day.month)[1]
            )
        return date(day.year, 1, 1), date(day.year, 12, 31)

    def _reachable(self) -> bool:
        """Whether BYSETPOS lies within a period, and steps of the interval ever arrive at an allowed clock time."""
        if not self.rule.sub_daily:
            positions = self.rule.part("BYSETPOS")
            return (
                not positions
                or min(map(abs, positions)) <= self.rule.clocks * self._most_days()
            )
        unit = SECONDS[self.rule.freq]
        phase = gcd(unit * self.rule.interval, 86400)
        hours, minutes, seconds = (
            self.rule.part(name) for name in ("BYHOUR", "BYMINUTE", "BYSECOND")
        )
        at = (
            (self.start.hour * 3600 + self.start.minute * 60 + self.start.second)
            // unit
            * unit
        )
        # Which places of a step the clocks allow, part by part: at most as many as a step has seconds.
        places = {(h * 3600 - at) % phase for h in hours or range(24)}
        if unit < 3600:
            places = {
                (place + m * 60) % phase
                for place in places
                for m in minutes or range(60)
            }
        return not places.isdisjoint(
            {-s % phase for s in (seconds or range(60) if unit == 1 else (0,))}
        )

    def _most_days(self) -> int:
        """At most how many days of a period the day parts allow."""
        rule = self.rule
        most = (
            len({day for _, day in rule.weekdays})
            if rule.freq == "WEEKLY"
            else MOST_DAYS[rule.freq]
        )
        months = len(rule.part("BYMONTH"))
        if rule.weekdays and rule.freq in ("MONTHLY", "YEARLY"):
            plain, numbered = (5, 1) if rule.freq == "MONTHLY" else (53, months or 1)
            most = min(
                most, sum(numbered if number else plain for number, _ in rule.weekdays)
            )
        if numbers := rule.part("BYMONTHDAY"):
            months = months or 12
            most = min(most, len(numbers) * (months if rule.freq == "YEARLY" else 1))
        if numbers := rule.part("BYWEEKNO"):
            most = min(
                most, 7 * len(numbers) + 6
            )  # the year's last days may lie in week 1 too
        return min(most, len(rule.part("BYYEARDAY")) or most)


def _within(steps: range, begin: int, size: int) -> range:
    """The steps from `begin` on, of so many seconds."""
    first = max(begin + (steps.start - begin) % steps.step, steps.start)
    return range(first, min(begin + size, steps.stop), steps.step)
