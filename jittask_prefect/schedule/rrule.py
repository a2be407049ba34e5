"""An RRULE line (RFC 5545 §3.3.10): its parts, read and checked.

Written here, not taken from dateutil: dateutil's rules spin to the year 9999 where nothing matches, and walk from the
start at every question. Where both answer, they answer alike (a test compares them). The only exception is a BYDAY that
mixes `MO` and `1TU`: dateutil takes days that are both, RFC 5545 days that are either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import prod
from typing import TYPE_CHECKING

from jittask_prefect.validation import shown

if TYPE_CHECKING:
    from jittask_prefect.schedule.rrule_series import RRuleSeries

Numbers = frozenset[int]
FREQUENCIES = (
    "SECONDLY", "MINUTELY", "HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY",
)  # fmt: skip
SECONDS = {"SECONDLY": 1, "MINUTELY": 60, "HOURLY": 3600}
WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
# For each part: its least and greatest number, and whether it may count from the end.
RANGES = {
    "BYMONTH": (1, 12, False), "BYWEEKNO": (1, 53, True), "BYYEARDAY": (1, 366, True), "BYMONTHDAY": (1, 31, True),
    "BYHOUR": (0, 23, False), "BYMINUTE": (0, 59, False), "BYSECOND": (0, 59, False), "BYSETPOS": (1, 366, True),
}  # fmt: skip
CLOCK_PARTS = ("BYHOUR", "BYMINUTE", "BYSECOND")
DAY_PARTS = {"BYWEEKNO", "BYYEARDAY", "BYMONTHDAY"}

MAX_RRULE_LENGTH = 6500
"""Characters of a schedule (prefect/_internal/schemas/validators.py: MAX_RRULE_LENGTH), and of a rule."""
MAX_CLOCK_TIMES = 10_000
"""Clock times a day that a rule may name; more than 1,440 are refused later, with the task's other problems."""
FEW_TIMES, FEW_DAYS = 24, 10
"""A holiday moves up to FEW_TIMES times on up to FEW_DAYS days of a month together; it drops the times of more."""


@dataclass(frozen=True, slots=True)
class RRule:
    """The parts of an RRULE line, without a start.

    Attributes:
        freq: A name of FREQUENCIES.
        interval: Every n-th period of the frequency.
        week_start: The first weekday of a week, Monday 0.
        by: The numbers of each BY part but BYDAY.
        weekdays: BYDAY: the ordinal, or 0, and the weekday, Monday 0.
    """

    freq: str
    interval: int = 1
    week_start: int = 0
    by: Mapping[str, Numbers] = field(default_factory=dict)
    weekdays: frozenset[tuple[int, int]] = frozenset()

    @classmethod
    def read(cls, text: str) -> RRule:
        """Read a rule.

        Args:
            text: A single line, with or without `RRULE:`, without DTSTART, COUNT or UNTIL.

        Raises:
            ValueError: Not such a line; the message says which text is allowed.
        """
        rule = cls._from_parts(_split(text))
        rule._check()
        return rule

    @classmethod
    def _from_parts(cls, parts: dict[str, str]) -> RRule:
        freq = parts.pop("FREQ", "")
        if freq not in FREQUENCIES:
            raise ValueError(f"FREQ= one of {', '.join(FREQUENCIES)}")

        interval = _numbers("INTERVAL", parts.pop("INTERVAL", "1"), 1, 1_000_000, False)
        week_start = parts.pop("WKST", "MO")
        if week_start not in WEEKDAYS:
            raise ValueError(f"WKST= one of {', '.join(WEEKDAYS)}")

        weekdays = _weekdays(parts.pop("BYDAY")) if "BYDAY" in parts else frozenset()
        if unknown := [name for name in parts if name not in RANGES]:
            raise ValueError(
                f"the parts FREQ, INTERVAL, WKST, BYDAY, {', '.join(RANGES)}; not {unknown[0]}"
            )

        by = {name: _numbers(name, text, *RANGES[name]) for name, text in parts.items()}
        return cls(freq, min(interval), WEEKDAYS.index(week_start), by, weekdays)

    @property
    def text(self) -> str:
        """The rule as a line, parts in a fixed order."""
        every = f";INTERVAL={self.interval}" if self.interval > 1 else ""
        parts = "".join(f";{name}={listed(by)}" for name, by in sorted(self.by.items()))
        days = [f"{n or ''}{WEEKDAYS[day]}" for n, day in sorted(self.weekdays)]
        by_day = f";BYDAY={','.join(days)}" if days else ""
        counts_weeks = self.freq == "WEEKLY" or self.part("BYWEEKNO")
        week = f";WKST={WEEKDAYS[self.week_start]}" if counts_weeks else ""
        return f"RRULE:FREQ={self.freq}{every}{week}{parts}{by_day}"

    @property
    def by_clock(self) -> bool:
        """Whether the frequency is finer than a day."""
        return self.freq in SECONDS

    @property
    def sub_daily(self) -> bool:
        """Whether a holiday drops occurrences instead of moving them: the rule has several times a day.

        Not so where BYSETPOS picks among the times, and for a few times on a few days of the month.
        """
        if self.by_clock or self.clock_times == 1 or self.part("BYSETPOS"):
            return self.by_clock
        few_days = 0 < len(self.part("BYMONTHDAY")) <= FEW_DAYS
        daily = self.freq in ("DAILY", "WEEKLY") and not few_days
        return daily or self.clock_times > FEW_TIMES

    @property
    def names_days(self) -> bool:
        """Whether every start has the same days, from the start on."""
        named = self.by.keys() & DAY_PARTS or self.weekdays or self.freq == "DAILY"
        return self.interval == 1 and not self.by_clock and bool(named)

    @property
    def clock_times(self) -> int:
        """How many clock times a day the clock parts make; 0 where the frequency is finer than a day."""
        if self.by_clock:
            return 0
        return prod(max(1, len(self.part(name))) for name in CLOCK_PARTS)

    @property
    def per_day(self) -> float:
        """How many times a day the rule has, on days with any; defaults filled in (see `at`)."""
        if not self.by_clock:
            return float(self.clock_times)

        hours, minutes, seconds = (len(self.part(name)) for name in CLOCK_PARTS)
        steps = 86400 / (SECONDS[self.freq] * self.interval) * ((hours or 24) / 24)
        return (
            steps
            * (minutes if self.freq == "HOURLY" else 1)
            * (1 if self.freq == "SECONDLY" else seconds)
        )

    def part(self, name: str) -> Numbers:
        """The numbers of a BY part; empty where the rule lacks the part."""
        return self.by.get(name, frozenset())

    def possible(self) -> bool:
        """Whether some start has an occurrence, whatever the interval; found by a bounded search."""
        hour, minute, second = (min(self.part(name), default=0) for name in CLOCK_PARTS)
        start = datetime(2000, 1, 1, hour, minute, second)
        return replace(self, interval=1).at(start).matches()

    def at(self, start: datetime) -> RRuleSeries:
        """The series of this rule from a start (naive wall time) on; the start fills in absent parts."""
        from jittask_prefect.schedule.rrule_series import RRuleSeries

        by = dict(self.by)
        weekdays = self.weekdays
        if not (by.keys() & DAY_PARTS or weekdays):
            if self.freq == "YEARLY":
                by.setdefault("BYMONTH", frozenset({start.month}))

            if self.freq in ("YEARLY", "MONTHLY"):
                by["BYMONTHDAY"] = frozenset({start.day})
            elif self.freq == "WEEKLY":
                weekdays = frozenset({(0, start.weekday())})

        coarser = {"BYHOUR": 2, "BYMINUTE": 1, "BYSECOND": 0}
        clock = {
            "BYHOUR": start.hour,
            "BYMINUTE": start.minute,
            "BYSECOND": start.second,
        }
        for name, number in clock.items():
            if FREQUENCIES.index(self.freq) > coarser[name]:
                by.setdefault(name, frozenset({number}))

        whole = start.replace(microsecond=0)
        filled = replace(self, by=by, weekdays=weekdays)
        return RRuleSeries(filled, whole, start - whole)

    def _check(self) -> None:
        """Refuse parts that contradict each other."""
        monthly = self.freq in ("MONTHLY", "YEARLY")
        numbered = [n for n, _ in self.weekdays if n]
        alone = len(self.by) == 1 and not self.weekdays
        positions = bool(self.part("BYSETPOS"))
        for refused, allowed in (
            (
                numbered and (not monthly or self.part("BYWEEKNO")),
                "BYDAY with a number (1MO, -1FR) only with FREQ=MONTHLY or YEARLY, and without BYWEEKNO",
            ),
            (
                positions and 0 < len(numbered) < len(self.weekdays),
                "BYSETPOS with a BYDAY of weekdays all with a number, or all without",
            ),
            (
                self.part("BYWEEKNO") and self.freq != "YEARLY",
                "BYWEEKNO only with FREQ=YEARLY",
            ),
            (
                self.part("BYYEARDAY") and self.freq in ("DAILY", "WEEKLY", "MONTHLY"),
                "BYYEARDAY not with FREQ=DAILY, WEEKLY or MONTHLY",
            ),
            (
                self.part("BYMONTHDAY") and self.freq == "WEEKLY",
                "BYMONTHDAY not with FREQ=WEEKLY",
            ),
            (
                positions and (self.by_clock or alone),
                "BYSETPOS only with FREQ=DAILY or longer, beside another BY part",
            ),
            (
                self.clock_times > MAX_CLOCK_TIMES,
                f"at most 1440 clock times a day (BYHOUR, BYMINUTE, BYSECOND), not {self.clock_times}",
            ),
        ):
            if refused:
                raise ValueError(allowed)


def within(rule: RRule, hours: range, minutes: range) -> RRule | None:
    """The rule in some minutes of some hours only; None where the rule names none of them."""
    by = dict(rule.by)
    for name, part, whole in (("BYHOUR", hours, 24), ("BYMINUTE", minutes, 60)):
        named = rule.part(name)
        if named or len(part) < whole:
            by[name] = frozenset(part) & (named or frozenset(part))
            if not by[name]:
                return None

    return replace(rule, by=by)


def listed(numbers: Iterable[int]) -> str:
    """Numbers as a BY part lists them, in order."""
    return ",".join(map(str, sorted(numbers)))


def _split(text: str) -> dict[str, str]:
    """The parts of a line by name."""
    if len(text) > MAX_RRULE_LENGTH:
        raise ValueError(
            f"an RRULE of at most {MAX_RRULE_LENGTH} characters, not {len(text)}"
        )

    body = text.strip()
    body = body[6:] if body.upper().startswith("RRULE:") else body
    if "\n" in body or "DTSTART" in body.upper():
        raise ValueError("one RRULE line without DTSTART: the rule starts at the start")

    parts: dict[str, str] = {}
    for item in body.split(";"):
        name, equals, value = item.strip().upper().partition("=")
        if not equals or not value or name in parts:
            raise ValueError(
                f"NAME=VALUE parts joined by ';', each name once, not {shown(item)}"
            )

        parts[name] = value

    for name in ("COUNT", "UNTIL"):
        if name in parts:
            raise ValueError(f"an RRULE without {name}: endTime says when it ends")

    return parts


def _numbers(name: str, text: str, low: int, high: int, signed: bool) -> Numbers:
    found = set()
    for item in text.split(","):
        body = item[1:] if item[:1] in ("+", "-") else item
        if not (body.isascii() and body.isdigit() and len(body) <= 8):
            raise ValueError(f"{name}= whole numbers, not {shown(item)}")

        number = int(item)
        if not low <= (abs(number) if signed else number) <= high:
            from_end = " or the same from the end" if signed else ""
            raise ValueError(f"{name}= {low} to {high}{from_end}, not {item}")

        found.add(number)

    return frozenset(found)


def _weekdays(text: str) -> frozenset[tuple[int, int]]:
    found = set()
    for item in text.split(","):
        name, number = item[-2:], item[:-2]
        if name not in WEEKDAYS:
            raise ValueError(
                f"BYDAY= {', '.join(WEEKDAYS)}, with a number before it or not, not {shown(item)}"
            )
        if number and 0 in _numbers("BYDAY", number, 0, 53, True):
            raise ValueError(f"BYDAY= a number from 1 or -1 on, not {shown(item)}")

        found.add((int(number or 0), WEEKDAYS.index(name)))

    return frozenset(found)
