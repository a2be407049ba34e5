"""RFC 5545 recurrence rules on wall-clock times, with a bound on every search.

Written here and not taken from dateutil, whose rules spin to year 9999 where nothing matches, and walk from the start
at every question. Where both answer, they answer alike (a test compares them); the one exception is BYDAY that mixes
`MO` and `1TU`: dateutil takes what is both, RFC 5545 §3.3.10 what is either.
"""

from __future__ import annotations

from calendar import isleap, monthrange
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from math import gcd

from ..shape import shown

FREQS = ("SECONDLY", "MINUTELY", "HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY")
SECONDS = {"SECONDLY": 1, "MINUTELY": 60, "HOURLY": 3600}
WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
PARTS = {
    "BYMONTH": (1, 12, False), "BYWEEKNO": (1, 53, True), "BYYEARDAY": (1, 366, True), "BYMONTHDAY": (1, 31, True),
    "BYHOUR": (0, 23, False), "BYMINUTE": (0, 59, False), "BYSECOND": (0, 59, False), "BYSETPOS": (1, 366, True),
}  # fmt: skip
DAYS_TRIED = 20_000
"""Days and months looked at before a rule counts as one that never matches: 54 years of days, 500 of Februaries."""

Numbers = frozenset[int]
NONE: Numbers = frozenset()


@dataclass(frozen=True, slots=True)
class RRule:
    """The parts of one RRULE line, without a start."""

    freq: str
    interval: int = 1
    week_start: int = 0
    by: Mapping[str, Numbers] = field(default_factory=dict)
    weekdays: frozenset[tuple[int, int]] = frozenset()  # (ordinal or 0, weekday with Monday 0)

    @classmethod
    def read(cls, text: str) -> RRule:
        """Read a rule.

        Args:
            text: One line, with or without `RRULE:`, without DTSTART, COUNT or UNTIL.

        Raises:
            ValueError: The text says what is allowed.
        """
        body = text.strip()
        body = body[6:] if body.upper().startswith("RRULE:") else body
        if "\n" in body or "DTSTART" in body.upper():
            raise ValueError("one RRULE line without DTSTART: the rule starts at the start")
        parts: dict[str, str] = {}
        for item in body.split(";"):
            name, equals, value = item.strip().upper().partition("=")
            if not equals or not value or name in parts:
                raise ValueError(f"NAME=VALUE parts joined by ';', each name once, not {shown(item)}")
            parts[name] = value
        for name in ("COUNT", "UNTIL"):
            if name in parts:
                raise ValueError(f"an RRULE without {name}: endTime says when it ends")
        freq = parts.pop("FREQ", "")
        if freq not in FREQS:
            raise ValueError(f"FREQ= one of {', '.join(FREQS)}")
        interval = _numbers("INTERVAL", parts.pop("INTERVAL", "1"), 1, 1_000_000, False)
        start = parts.pop("WKST", "MO")
        if start not in WEEKDAYS:
            raise ValueError(f"WKST= one of {', '.join(WEEKDAYS)}")
        weekdays = _weekdays(parts.pop("BYDAY")) if "BYDAY" in parts else frozenset()
        if unknown := [name for name in parts if name not in PARTS]:
            raise ValueError(f"the parts FREQ, INTERVAL, WKST, BYDAY, {', '.join(PARTS)}; not {unknown[0]}")
        by = {name: _numbers(name, value, *PARTS[name]) for name, value in parts.items()}
        rule = cls(freq, min(interval), WEEKDAYS.index(start), by, weekdays)
        rule._check()
        return rule

    @property
    def finer(self) -> bool:
        """Whether the rule's frequency is finer than a day."""
        return self.freq in SECONDS

    @property
    def several(self) -> bool:
        """Whether it has several times on a day, which makes it finer than a day where no BYSETPOS picks among them."""
        clocks = [len(self.part(name)) for name in ("BYHOUR", "BYMINUTE", "BYSECOND")]
        return self.finer or (max(clocks) > 1 and not self.part("BYSETPOS"))

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
        return RRuleSeries(replace(self, by=by, weekdays=weekdays), whole, start - whole)

    def _check(self) -> None:
        ordinals = [n for n, _ in self.weekdays if n]
        if ordinals and (self.freq not in ("MONTHLY", "YEARLY") or self.part("BYWEEKNO")):
            raise ValueError("BYDAY with a number (1MO, -1FR) only with FREQ=MONTHLY or YEARLY, and without BYWEEKNO")
        if self.part("BYSETPOS") and 0 < len(ordinals) < len(self.weekdays):
            raise ValueError("BYSETPOS with a BYDAY of weekdays all with a number, or all without")
        if self.part("BYWEEKNO") and self.freq != "YEARLY":
            raise ValueError("BYWEEKNO only with FREQ=YEARLY")
        if self.part("BYYEARDAY") and self.freq in ("DAILY", "WEEKLY", "MONTHLY"):
            raise ValueError("BYYEARDAY not with FREQ=DAILY, WEEKLY or MONTHLY")
        if self.part("BYMONTHDAY") and self.freq == "WEEKLY":
            raise ValueError("BYMONTHDAY not with FREQ=WEEKLY")
        if self.part("BYSETPOS") and (self.finer or not (len(self.by) > 1 or self.weekdays)):
            raise ValueError("BYSETPOS only with FREQ=DAILY or longer, beside another BY part")


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
    def finer(self) -> bool:
        return self.rule.several

    @property
    def last(self) -> datetime | None:
        return None

    @property
    def pace(self) -> timedelta:
        return timedelta(1 if self.rule.finer else 31)

    def matches(self) -> bool:
        """Whether the rule has any time at all, by a search of bounded length (RFC 5545 sets no bound)."""
        if self.rule.finer and not self._reachable():
            return False
        return any(
            datetime.combine(day, clock) >= self.start
            for day, clocks in self._with_times(self._days(self.start.date(), date.max, budget=DAYS_TRIED))
            for clock in clocks
        )

    def on(self, day: date) -> bool:
        """Whether it has a time on a day."""
        begin = datetime.combine(day, time())
        return next(self.wall(begin, begin + timedelta(1)), None) is not None

    def wall(self, low: datetime, high: datetime) -> Iterator[datetime]:
        # What a rule says in whole seconds lies between these; the fraction is put on top.
        low, high = max(low - self.fraction if low > self.start else low, self.start), high - self.fraction
        if high <= low:
            return
        for day, clocks in self._with_times(self._days(low.date(), high.date()), low, high):
            for clock in clocks:
                if low <= (at := datetime.combine(day, clock)) < high:
                    yield at + self.fraction

    def _with_times(
        self, days: Iterator[date], low: datetime = datetime.min, high: datetime = datetime.max
    ) -> Iterator[tuple[date, Iterable[time]]]:
        """The days with their clock times; where the rule is finer than a day, at least those within low..high."""
        if self.rule.finer:
            for day in days:
                begin = low.time() if day == low.date() else time.min
                yield day, self._fine_times(day, begin, high.time() if day == high.date() else time.max)
            return
        times = [
            time(h, m, s) for h in self._part("BYHOUR") for m in self._part("BYMINUTE") for s in self._part("BYSECOND")
        ]
        if not self.rule.part("BYSETPOS"):
            yield from ((day, times) for day in days)
            return
        first, last = date.max, date.min
        chosen: dict[date, list[time]] = {}
        for day in days:
            if not first <= day <= last:
                first, last = self._period(day)
                chosen = self._chosen(first, last, times)
            yield day, chosen.get(day, [])

    def _part(self, name: str) -> list[int]:
        return sorted(self.rule.part(name))

    def _days(self, low: date, high: date, budget: int | None = None) -> Iterator[date]:
        """Days of the rule's periods that its day parts allow, before BYSETPOS; at most `budget` looked at."""
        months = self.rule.part("BYMONTH")
        day = low
        while day <= high:
            if budget is not None:
                budget -= 1
                if budget < 0:
                    return
            if months and day.month not in months:
                following = _next_month(day)
            else:
                following = self._next_period(day)
                if following is None:
                    if self._allows(day):
                        yield day
                    following = day + timedelta(1) if day < date.max else None
            if following is None:
                return
            day = following

    def _next_period(self, day: date) -> date | None:
        """None where `day` lies in a period of the rule, else the first day of the next such period."""
        rule, first = self.rule, self.start.date()
        if rule.finer or rule.interval == 1:
            return None
        if rule.freq == "DAILY":
            behind = -(day.toordinal() - first.toordinal()) % rule.interval
            return _later(day, behind) if behind else None
        if rule.freq == "WEEKLY":
            begin = first.toordinal() - (first.weekday() - rule.week_start) % 7
            behind = -((day.toordinal() - begin) // 7) % rule.interval
            return _later(day, behind * 7 - (day.toordinal() - begin) % 7) if behind else None
        if rule.freq == "MONTHLY":
            behind = -((day.year - first.year) * 12 + day.month - first.month) % rule.interval
            month = day.year * 12 + day.month - 1 + behind
            return (date(month // 12, month % 12 + 1, 1) if month // 12 <= 9999 else date.max) if behind else None
        behind = -(day.year - first.year) % rule.interval
        return (date(day.year + behind, 1, 1) if day.year + behind <= 9999 else date.max) if behind else None

    def _allows(self, day: date) -> bool:
        rule = self.rule
        if (months := rule.part("BYMONTH")) and day.month not in months:
            return False
        if numbers := rule.part("BYMONTHDAY"):
            length = monthrange(day.year, day.month)[1]
            if day.day not in numbers and day.day - length - 1 not in numbers:
                return False
        if numbers := rule.part("BYYEARDAY"):
            at = day.timetuple().tm_yday
            if not numbers & {at, at - (366 if isleap(day.year) else 365) - 1}:
                return False
        if (numbers := rule.part("BYWEEKNO")) and not numbers & _week_numbers(day, rule.week_start):
            return False
        return not rule.weekdays or self._on_weekday(day)

    def _on_weekday(self, day: date) -> bool:
        """Whether BYDAY allows the day: `MO`, or the n-th of the month, or of the year where no month is named."""
        weekday = day.weekday()
        if (0, weekday) in self.rule.weekdays:
            return True
        if self.rule.freq == "YEARLY" and not self.rule.part("BYMONTH"):
            at, length = day.timetuple().tm_yday, 366 if isleap(day.year) else 365
        else:
            at, length = day.day, monthrange(day.year, day.month)[1]
        nth, from_end = (at + 6) // 7, -((length - at) // 7 + 1)
        return bool({(nth, weekday), (from_end, weekday)} & self.rule.weekdays)

    def _fine_times(self, day: date, begin: time, end: time) -> Iterator[time]:
        """The clock times of an allowed day, at least those within begin..end, of a rule finer than a day."""
        hours, minutes, seconds = (self.rule.part(name) for name in ("BYHOUR", "BYMINUTE", "BYSECOND"))
        unit = SECONDS[self.rule.freq]
        step = unit * self.rule.interval
        origin = self.start.replace(
            minute=0 if unit == 3600 else self.start.minute, second=0 if unit > 1 else self.start.second
        )
        behind = int((origin - datetime.combine(day, time())).total_seconds()) % step
        # An hour early: BYMINUTE and BYSECOND put times after the step that they belong to.
        early = max(0, begin.hour - 1) * 3600
        for at in range(behind + max(0, -((behind - early) // step)) * step, min(86400, end.hour * 3600 + 3600), step):
            hour, minute = at // 3600, at // 60 % 60
            if (hours and hour not in hours) or (unit < 3600 and minutes and minute not in minutes):
                continue
            if unit == 1:
                if not seconds or at % 60 in seconds:
                    yield time(hour, minute, at % 60)
                continue
            within = sorted(minutes) if unit == 3600 else [minute]
            yield from (time(hour, m, s) for m in within for s in self._part("BYSECOND"))

    def _chosen(self, first: date, last: date, times: list[time]) -> dict[date, list[time]]:
        """The times that BYSETPOS picks from those of the period first..last, by day."""
        days = [
            day for day in map(date.fromordinal, range(first.toordinal(), last.toordinal() + 1)) if self._allows(day)
        ]
        every = [(day, clock) for day in days for clock in times]
        chosen: dict[date, list[time]] = {}
        for place in sorted({n - 1 if n > 0 else len(every) + n for n in self.rule.part("BYSETPOS")}):
            if 0 <= place < len(every):
                day, clock = every[place]
                chosen.setdefault(day, []).append(clock)
        return chosen

    def _period(self, day: date) -> tuple[date, date]:
        freq = self.rule.freq
        if freq == "DAILY":
            return day, day
        if freq == "WEEKLY":
            back = (day.weekday() - self.rule.week_start) % 7
            return _later(day, -back), _later(day, 6 - back)
        if freq == "MONTHLY":
            return day.replace(day=1), day.replace(day=monthrange(day.year, day.month)[1])
        return date(day.year, 1, 1), date(day.year, 12, 31)

    def _reachable(self) -> bool:
        """Whether steps of the interval ever arrive at a clock time that BYHOUR, BYMINUTE and BYSECOND allow."""
        unit = SECONDS[self.rule.freq]
        phase = gcd(unit * self.rule.interval, 86400)
        hours, minutes, seconds = (self.rule.part(name) for name in ("BYHOUR", "BYMINUTE", "BYSECOND"))
        origin = (self.start.hour * 3600 + self.start.minute * 60 + self.start.second) // unit * unit
        return any(
            (h * 3600 + m * 60 + s - origin) % phase == 0
            for h in hours or range(24)
            for m in ((0,) if unit == 3600 else minutes or range(60))
            for s in ((0,) if unit > 1 else seconds or range(60))
        )


def _week_numbers(day: date, start: int) -> set[int]:
    """The number of `day`'s week, from the year's first and its last; a week belongs to the year of its fourth day."""
    middle = day.toordinal() - (day.weekday() - start) % 7 + 3
    if not 1 <= middle <= date.max.toordinal():
        return set()
    at = date.fromordinal(middle)
    number = (at.timetuple().tm_yday + 6) // 7
    days = 366 if isleap(at.year) else 365
    return {number, number - (number + (days - at.timetuple().tm_yday) // 7) - 1}


def _next_month(day: date) -> date | None:
    if (day.year, day.month) == (9999, 12):
        return None
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)


def _later(day: date, days: int) -> date:
    try:
        return day + timedelta(days)
    except OverflowError:
        return date.max if days > 0 else date.min


def _numbers(name: str, text: str, low: int, high: int, signed: bool) -> Numbers:
    found = set()
    for item in text.split(","):
        body = item[1:] if item[:1] in ("+", "-") else item
        if not (body.isascii() and body.isdigit() and len(body) <= 8):
            raise ValueError(f"{name}= whole numbers, not {shown(item)}")
        number = int(item)
        if not low <= (abs(number) if signed else number) <= high:
            raise ValueError(f"{name}= {low} to {high}{' or the same from the end' if signed else ''}, not {item}")
        found.add(number)
    return frozenset(found)


def _weekdays(text: str) -> frozenset[tuple[int, int]]:
    found = set()
    for item in text.split(","):
        name, number = item[-2:], item[:-2]
        if name not in WEEKDAYS:
            raise ValueError(f"BYDAY= {', '.join(WEEKDAYS)}, with a number before it or not, not {shown(item)}")
        if number and 0 in _numbers("BYDAY", number, 0, 53, True):
            raise ValueError(f"BYDAY= a number from 1 or -1 on, not {shown(item)}")
        found.add((int(number or 0), WEEKDAYS.index(name)))
    return frozenset(found)
