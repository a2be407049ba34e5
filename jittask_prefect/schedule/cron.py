"""Five-field cron: minute, hour, day of month, month, day of week, read as crontab(5) reads them."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta

from jittask_prefect.validation import shown

MONTHS = {
    "jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6,
    "jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11, "dec": 12,
}  # fmt: skip
WEEKDAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, MONTHS),
    ("day of week", 0, 7, WEEKDAYS),
)

FEW_TIMES, FEW_DAYS = 24, 10
"""Up to so many times on up to so many days of a month, a holiday moves them together; of others it drops them."""
LONGEST = 1000
"""Characters of an expression."""
RAREST = 41
"""Years within which each date and weekday that an expression names comes: February 29 on a Monday skips 2100."""


@dataclass(frozen=True, slots=True)
class Cron:
    """The values that each field of a cron expression allows.

    Day of month and day of week are joined by *or* where neither begins with `*`, as in crontab(5): `*/2` is *and*.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]  # Sunday 0
    either: bool

    @classmethod
    def read(cls, text: str) -> Cron:
        """Read an expression.

        Args:
            text: Five fields: lists, ranges, steps, names of months and weekdays, 7 for Sunday.

        Raises:
            ValueError: The text says what is allowed.
        """
        if len(text) > LONGEST:
            raise ValueError(
                f"five fields of at most {LONGEST} characters, not {len(text)}"
            )
        parts = text.split()
        if len(parts) != 5:
            what = (
                "six fields are refused: seconds are not read the same everywhere"
                if len(parts) == 6
                else ""
            )
            raise ValueError(
                f"five fields: minute hour day-of-month month day-of-week{f' ({what})' if what else ''}"
            )
        values = [
            _field(part, *field) for part, field in zip(parts, FIELDS, strict=True)
        ]
        minutes, hours, days, months, weekdays = values
        cron = cls(
            tuple(sorted(minutes)), tuple(sorted(hours)), days, months, frozenset(n % 7 for n in weekdays),
            not (parts[2].startswith("*") or parts[4].startswith("*")),
        )  # fmt: skip
        cron._prove()
        return cron

    @property
    def several(self) -> bool:
        """Whether it has several times on a day and is finer than a day: a few times on days of the month are not."""
        count = len(self.hours) * len(self.minutes)
        return count > 1 and (
            count > FEW_TIMES or self.either or len(self.days) > FEW_DAYS
        )

    @property
    def times(self) -> tuple[time, ...]:
        """The clock times of a day that matches."""
        return tuple(
            time(hour, minute) for hour in self.hours for minute in self.minutes
        )

    def matches(self, day: date) -> bool:
        """Whether the three date fields allow the day."""
        if day.month not in self.months:
            return False
        by_number, by_weekday = (
            day.day in self.days,
            day.isoweekday() % 7 in self.weekdays,
        )
        return by_number or by_weekday if self.either else by_number and by_weekday

    def at(self, start: datetime) -> CronSeries:
        """The series of this expression from a start on."""
        return CronSeries(self, start, self.times)

    @property
    def parts(self) -> tuple[Cron, ...]:
        """Expressions without *or* that say the same together; one that no date can match is left out."""
        if not self.either:
            return (self,)
        by_number = replace(self, weekdays=frozenset(range(7)), either=False)
        by_weekday = replace(self, days=frozenset(range(1, 32)), either=False)
        return tuple(part for part in (by_number, by_weekday) if part._possible)

    @property
    def _possible(self) -> bool:
        """Whether some date matches; the days of a month decide, since each falls on every weekday in some year."""
        return any(n <= monthrange(2024, m)[1] for m in self.months for n in self.days)

    def _prove(self) -> None:
        if not self.either and not self._possible:
            raise ValueError("an expression that matches some day; this one never does")


@dataclass(frozen=True, slots=True)
class CronSeries:
    """The wall times of a cron expression from a start on."""

    cron: Cron
    start: datetime
    times: tuple[time, ...]

    @property
    def sub_daily(self) -> bool:
        return self.cron.several

    @property
    def last(self) -> datetime | None:
        return None

    @property
    def pace(self) -> timedelta:
        return timedelta(1 if self.sub_daily else 31)

    def wall(self, low: datetime, high: datetime) -> Iterator[datetime]:
        low = max(low, self.start)
        for day in self._days(low.date(), high.date()):
            for clock in self.times:
                if low <= (at := datetime.combine(day, clock)) < high:
                    yield at

    def first(self, low: datetime) -> datetime | None:
        low = max(low, self.start)
        upto = date(min(low.year + RAREST, 9999), 12, 31)
        times = (
            datetime.combine(day, clock)
            for day in self._days(low.date(), upto)
            for clock in self.times
        )
        return next((at for at in times if at >= low), None)

    def _days(self, low: date, high: date) -> Iterator[date]:
        """The days that match, month by month."""
        day = low
        while day <= high:
            if day.month not in self.cron.months:
                month = day.year * 12 + day.month
                if month // 12 > 9999:
                    return
                day = date(month // 12, month % 12 + 1, 1)
                continue
            if self.cron.matches(day):
                yield day
            if day == date.max:
                return
            day += timedelta(1)


def _field(
    text: str, name: str, low: int, high: int, names: dict[str, int]
) -> frozenset[int]:
    found: set[int] = set()
    for item in text.split(","):
        body, slash, step_text = item.partition("/")
        step = _number(step_text, name, 1, high - low + 1, {}) if slash else 1
        if body == "*":
            first, last = low, high - (name == "day of week")
        else:
            first_text, dash, last_text = body.partition("-")
            first = _number(first_text, name, low, high, names)
            last = (
                _number(last_text, name, low, high, names)
                if dash
                else high
                if slash
                else first
            )
            if slash and not dash and name == "day of week":
                last = 6
            if dash and names is WEEKDAYS and last == 0 < first:
                last = 7  # fri-sun
            if last < first:
                raise ValueError(f"a {name} range that rises, not {item}")
        found.update(range(first, last + 1, step))
    return frozenset(found)


def _number(text: str, name: str, low: int, high: int, names: dict[str, int]) -> int:
    if text.casefold() in names:
        return names[text.casefold()]
    if (
        text.isascii()
        and text.isdigit()
        and len(text) <= 4
        and low <= int(text) <= high
    ):
        return int(text)
    also = " or a name" if names else ""
    raise ValueError(
        f"a {name} of {low} to {high}{also}, with *, lists, ranges and steps, not {shown(text) if text else 'nothing'}"
    )
