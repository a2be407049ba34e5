"""The wall times of an RRULE from a start on, with a bound on every search."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from itertools import islice, product, repeat
from math import lcm

from jittask_prefect.schedule.cycle import Cycle
from jittask_prefect.schedule.days import (
    day_of_year,
    days_later,
    month_length,
    month_number,
    month_start,
    week_numbers,
    year_length,
)
from jittask_prefect.schedule.instants import midnight
from jittask_prefect.schedule.rrule import CLOCK_PARTS, SECONDS, Numbers, RRule

MAX_TRIES = 20_000
"""Days, months and clock times to look at before a rule counts as one that never matches: 54 years of days."""
CALENDAR = {"DAILY": 146_097, "WEEKLY": 20_871, "MONTHLY": 4800, "YEARLY": 400}
"""Days, weeks, months and years after which the calendar is the same again: 400 years."""
MAX_DAYS = {"DAILY": 1, "WEEKLY": 7, "MONTHLY": 31, "YEARLY": 366}
"""Days of a period."""

Tries = Iterator[object]
UNLIMITED: Tries = repeat(None)


@dataclass(frozen=True, slots=True)
class RRuleSeries(Cycle):
    """The wall times of a rule from a start on.

    Args:
        rule: The rule with its absent parts filled in.
        start: The start in whole seconds, as a rule counts.
        fraction: The rest of the start, as a row's date may have; each time has the same fraction.
    """

    rule: RRule
    start: datetime
    fraction: timedelta = timedelta()

    @property
    def sub_daily(self) -> bool:
        return self.rule.sub_daily

    @property
    def pace(self) -> timedelta:
        return timedelta(hours=1) if self.rule.sub_daily else timedelta(31)

    def matches(self) -> bool:
        """Whether the rule has any time at all, by a bounded search (RFC 5545 sets no bound)."""
        return self.first(self.start) is not None

    def first(self, low: datetime) -> datetime | None:
        low = self._from(low)
        tries: Tries = iter(range(MAX_TRIES))
        return next(
            self._times(low, datetime.max, self._repeats(low.date()), tries), None
        )

    def on(self, day: date) -> bool:
        """Whether the series has a time on a day."""
        times = self.wall_times(midnight(day), midnight(day) + timedelta(1))
        return next(times, None) is not None

    def wall_times(self, low: datetime, high: datetime) -> Iterator[datetime]:
        # The rule's times in whole seconds lie between these; the fraction is added to each.
        low, high = self._from(low), high - self.fraction
        if low < high:
            yield from self._times(low, high, high.date(), UNLIMITED)

    def _from(self, low: datetime) -> datetime:
        return low - self.fraction if low - self.start > self.fraction else self.start

    def _times(
        self, low: datetime, high: datetime, last: date, tries: Tries
    ) -> Iterator[datetime]:
        """The times in [low, high), up to a last day."""
        days = self._days(low.date(), last, tries)
        for day, clocks in self._with_clocks(days, low, high, tries):
            for clock in clocks:
                at = datetime.combine(day, clock)
                if at >= high:
                    return
                if at >= low:
                    yield at + self.fraction

    def _with_clocks(
        self, days: Iterator[date], low: datetime, high: datetime, tries: Tries
    ) -> Iterator[tuple[date, Iterable[time]]]:
        """Days with their clock times; of a frequency finer than a day at least those in [low, high)."""
        if self.rule.by_clock:
            for day in days:
                begin = low.time() if day == low.date() else time.min
                end = high.time() if day == high.date() else time.max
                yield day, self._clocks(day, begin, end, tries)

            return

        clocks = _clock_times(*map(self.rule.part, CLOCK_PARTS))
        if not self.rule.part("BYSETPOS"):
            for day in days:
                passed = bisect_left(clocks, low.time()) if day == low.date() else 0
                yield day, clocks[passed:] if passed else clocks

            return

        first, last = date.max, date.min
        picked: dict[date, list[time]] = {}
        for day in days:
            if not first <= day <= last:
                first, last = self._period(day)
                # A period costs more than a day.
                deque(islice(tries, (last - first).days), maxlen=0)
                picked = self._picked(first, last, clocks)

            yield day, picked.get(day, [])

    def _part(self, name: str) -> list[int]:
        return sorted(self.rule.part(name))

    # Days

    def _repeats(self, low: date) -> date:
        """The day from which on all comes as since `low`; the calendar's last day where that day is later."""
        rule = self.rule
        dated = rule.by.keys() & {"BYMONTH", "BYMONTHDAY", "BYYEARDAY"}
        if dated or rule.freq in ("MONTHLY", "YEARLY"):
            cycle = CALENDAR.get(rule.freq, CALENDAR["DAILY"])
        else:
            cycle = 1 if rule.freq == "WEEKLY" else 7

        if rule.by_clock:
            days = lcm(self._step, cycle * 86400) // 86400
        else:
            days = lcm(rule.interval, cycle) * MAX_DAYS[rule.freq]

        return days_later(low, days) or date.max

    def _days(self, low: date, high: date, tries: Tries) -> Iterator[date]:
        """The days of the rule's periods that its day parts allow, before BYSETPOS; each day looked at is a try."""
        day: date | None = low
        for _ in tries:
            if day is None or day > high:
                return

            following = self._in_period(day)
            if following == day:
                if self._allows(day):
                    yield day

                following = days_later(day, 1)

            day = following

    def _in_period(self, day: date) -> date | None:
        """The first day from `day` on that may lie in an allowed month and period; None otherwise."""
        rule, first = self.rule, self.start.date()
        if (months := rule.part("BYMONTH")) and day.month not in months:
            later = (month for month in months if month > day.month)
            month = min(later, default=12 + min(months))
            return month_start(day.year * 12 + month - 1)

        numbers = rule.part("BYMONTHDAY")
        if numbers and min(numbers) > 0 and day.day not in numbers:
            number = min((n for n in numbers if n > day.day), default=32)
            if number > month_length(day):
                return month_start(month_number(day) + 1)

            return day.replace(day=number)

        if rule.by_clock:
            far = self._step > 86400
            return days_later(day, self._behind(day) // 86400) if far else day

        if rule.interval == 1:
            return day
        if rule.freq == "DAILY":
            return days_later(
                day, (first.toordinal() - day.toordinal()) % rule.interval
            )

        if rule.freq == "WEEKLY":
            begin = first.toordinal() - (first.weekday() - rule.week_start) % 7
            weeks, into = divmod(day.toordinal() - begin, 7)
            behind = -weeks % rule.interval
            return days_later(day, behind * 7 - into) if behind else day

        if rule.freq == "MONTHLY":
            behind = (month_number(first) - month_number(day)) % rule.interval
            return month_start(month_number(day) + behind) if behind else day

        behind = (first.year - day.year) % rule.interval
        return month_start((day.year + behind) * 12) if behind else day

    def _allows(self, day: date) -> bool:
        """Whether the day parts allow a day."""
        rule = self.rule
        if numbers := rule.part("BYMONTHDAY"):
            from_end = day.day - month_length(day) - 1
            if day.day not in numbers and from_end not in numbers:
                return False

        if numbers := rule.part("BYYEARDAY"):
            number = day_of_year(day)
            from_end = number - year_length(day) - 1
            if number not in numbers and from_end not in numbers:
                return False

        if rule.weekdays and not self._on_weekday(day):
            return False

        numbers = rule.part("BYWEEKNO")
        return not numbers or not numbers.isdisjoint(week_numbers(day, rule.week_start))

    def _on_weekday(self, day: date) -> bool:
        """Whether BYDAY allows a day: `MO`, or the n-th of the month, or of the year where no month is named."""
        weekday = day.weekday()
        if (0, weekday) in self.rule.weekdays:
            return True

        if self.rule.freq == "YEARLY" and not self.rule.part("BYMONTH"):
            number, length = day_of_year(day), year_length(day)
        else:
            number, length = day.day, month_length(day)

        from_start, from_end = (number + 6) // 7, -((length - number) // 7 + 1)
        return not self.rule.weekdays.isdisjoint(
            ((from_start, weekday), (from_end, weekday))
        )

    # Positions within a period

    def _period(self, day: date) -> tuple[date, date]:
        """The first and the last day of the period that holds a day."""
        freq = self.rule.freq
        if freq == "DAILY":
            return day, day

        if freq == "WEEKLY":
            back = (day.weekday() - self.rule.week_start) % 7
            first, last = days_later(day, -back), days_later(day, 6 - back)
            return first or date.min, last or date.max

        if freq == "MONTHLY":
            return day.replace(day=1), day.replace(day=month_length(day))

        return date(day.year, 1, 1), date(day.year, 12, 31)

    def _picked(
        self, first: date, last: date, clocks: tuple[time, ...]
    ) -> dict[date, list[time]]:
        """The times that BYSETPOS picks from those of a period, by day."""
        days = list(self._days(first, last, UNLIMITED))
        count = len(days) * len(clocks)
        picked: dict[date, list[time]] = {}
        for place in sorted(
            {n - 1 if n > 0 else count + n for n in self._part("BYSETPOS")}
        ):
            if 0 <= place < count:
                number, clock = divmod(place, len(clocks))
                picked.setdefault(days[number], []).append(clocks[clock])

        return picked

    # Clock times of a frequency finer than a day

    @property
    def _step(self) -> int:
        """The seconds between neighbouring steps."""
        return SECONDS[self.rule.freq] * self.rule.interval

    def _origin(self) -> int:
        """The start's seconds of the day, in whole units of the frequency."""
        at, unit = self.start, SECONDS[self.rule.freq]
        return (at.hour * 3600 + at.minute * 60 + at.second) // unit * unit

    def _behind(self, day: date) -> int:
        """The seconds from a day's beginning to the first step from there on."""
        days = self.start.toordinal() - day.toordinal()
        return (days * 86400 + self._origin()) % self._step

    def _clocks(
        self, day: date, begin: time, end: time, tries: Tries
    ) -> Iterator[time]:
        """The clock times of an allowed day, at least those within begin..end."""
        hours, minutes, seconds = map(self.rule.part, CLOCK_PARTS)
        unit, step, behind = SECONDS[self.rule.freq], self._step, self._behind(day)
        # An hour early: BYMINUTE and BYSECOND put times after the step that they belong to.
        early = max(0, begin.hour - 1) * 3600
        first = behind + max(0, -((behind - early) // step)) * step
        steps = range(first, min(86400, end.hour * 3600 + 3600), step)
        for at in self._steps(steps, tries):
            hour, minute = at // 3600, at // 60 % 60
            if hours and hour not in hours:
                continue
            if unit < 3600 and minutes and minute not in minutes:
                continue

            if unit == 1:
                if not seconds or at % 60 in seconds:
                    yield time(hour, minute, at % 60)

                continue

            within = sorted(minutes) if unit == 3600 else [minute]
            yield from (time(hour, m, s) for m in within for s in sorted(seconds))

    def _steps(self, steps: range, tries: Tries) -> Iterator[int]:
        """The steps of a day; hours and minutes that BYHOUR and BYMINUTE leave out are jumped over."""
        minutes = self._part("BYMINUTE") if self.rule.freq != "HOURLY" else []
        hours = self._part("BYHOUR")
        named = [h * 3600 + m * 60 for h in hours or range(24) for m in minutes or (0,)]
        parts: Iterable[range] = (steps,)
        if (hours or minutes) and len(steps) > len(named):
            parts = (_within(steps, at, 60 if minutes else 3600) for at in named)

        for part, _ in zip(parts, tries, strict=False):
            for at, _ in zip(part, tries, strict=False):
                yield at


@lru_cache(maxsize=64)
def _clock_times(
    hours: Numbers, minutes: Numbers, seconds: Numbers
) -> tuple[time, ...]:
    """The clock times of a day, in order; made once for all windows of a search."""
    parts = product(sorted(hours), sorted(minutes), sorted(seconds))
    return tuple(time(*clock) for clock in parts)


def _within(steps: range, begin: int, size: int) -> range:
    """The steps from `begin` on, of so many seconds."""
    first = max(begin + (steps.start - begin) % steps.step, steps.start)
    return range(first, min(begin + size, steps.stop), steps.step)
