"""Holidays, weekends and working days of a country, and of the house that adds its own.

A day is a *holiday* where the country (or the calendar's `closed`) says so. It is a *working day* where it is neither
weekend nor holiday; make-up days (China's, and the calendar's `open`) are working days even on a Saturday.

All of this stands in a table, a byte for each day, made once for each configuration and never changed; threads share
the table.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property, lru_cache
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field

from jittask_prefect.errors import ConfigError, invalid
from jittask_prefect.schedule.country import (
    Country,
    Listing,
    known_years,
    left_out,
    listing,
    problems,
    reliable_until,
)
from jittask_prefect.schedule.days import LAST_ORDINAL, each_day
from jittask_prefect.validation import StrictModel, shown

Block = Literal["contiguous", "listed"]
FIRST_YEAR, LAST_YEAR = 1950, 2100
"""The least range of a table. Before and beyond, weekends go on and no holiday is known."""
EDGE = 4 * 7
"""Ordinary days at both ends of a table: the search for a working day ends there at the latest."""
SATURDAY_AND_SUNDAY = (5, 6)
MAX_OWN_DAYS = 40_000
"""Closed or open days that a calendar may name."""
MAX_RANGE = 3660
"""Days of a range."""
CLOSED = "closed"
NO_COUNTRY = Listing({}, frozenset(), frozenset(), {}, frozenset())


def _range(item: object) -> tuple[date, date]:
    try:
        first, slash, last = item.partition("/")  # type: ignore[attr-defined]
        days = date.fromisoformat(first), date.fromisoformat(last if slash else first)
    except (AttributeError, ValueError):
        allowed = '"yyyy-MM-dd" or "yyyy-MM-dd/yyyy-MM-dd"'
        raise ValueError(f"{allowed}, not {shown(item)}") from None

    if days[1] < days[0]:
        allowed = "a range that ends on or after its first day"
        raise ValueError(f"{allowed}, not {shown(item)}")

    if (days[1] - days[0]).days > MAX_RANGE:
        raise ValueError(f"a range of at most ten years, not {shown(item)}")

    return days


def _ranges(value: object) -> object:
    if not isinstance(value, list):
        raise ValueError(
            'a list of dates "yyyy-MM-dd" and inclusive ranges "yyyy-MM-dd/yyyy-MM-dd"'
        )
    found = tuple(map(_range, value))
    if (days := sum((last - first).days + 1 for first, last in found)) > MAX_OWN_DAYS:
        raise ValueError(f"at most {MAX_OWN_DAYS} days in all, not {days}")
    return found


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Ranges = Annotated[tuple[tuple[date, date], ...], BeforeValidator(_ranges)]
Categories = Annotated[tuple[str, ...], BeforeValidator(_tuple)]


class CalendarCfg(StrictModel):
    """A calendar as app.json writes it; a country may be `DE-BY`, which is `DE` with the subdivision `BY`."""

    country: str | None = None
    subdiv: str | None = None
    categories: Categories | None = Field(default=None, min_length=1)
    language: str | None = None
    block: Block | None = None
    closed: Ranges = ()
    open: Ranges = ()


@dataclass(frozen=True, slots=True)
class DayTable:
    """The kind of each day from `first` (an ordinal) on.

    Args:
        rests: 1 on a day that is no working day.
        weekends: 1 on a weekend day that is not worked.
        makeup: 1 on a day that is worked although it is a weekend day or a holiday by itself.
        names: The holidays, by ordinal, each with its name.
    """

    first: int
    rests: bytes
    weekends: bytes
    makeup: bytes
    names: Mapping[int, str] = field(repr=False)

    def at(self, ordinal: int) -> int:
        """The place of a day in the table; beyond its ends the week at the end goes on."""
        place, last = ordinal - self.first, len(self.rests) - 1
        if place < 0:
            return place % 7
        return place if place <= last else last - 6 + (place - last - 1) % 7


def nearest_zero(days: DayTable, off: bytes, ordinal: int, step: int) -> int | None:
    """The nearest day after (step 1) or before (-1) an ordinal that is 0 in `off`; None where time ends first.

    Args:
        days: The table that `off` belongs to.
        off: `days.rests` or `days.weekends`.
        ordinal: The day from which the search begins, itself not included.
        step: The direction.
    """
    place = days.at(ordinal)
    found = off.find(0, place + 1) if step > 0 else off.rfind(0, 0, place)
    if found < 0:  # at an end of the table: the week there goes on
        week = off.find(0, len(off) - 7) if step > 0 else off.rfind(0, 0, 7)
        if week < 0:
            return None

        found = week + 7 * step

    at = ordinal + found - place
    return at if 1 <= at <= LAST_ORDINAL else None


class Calendar:
    """Holidays and working days of a calendar; immutable, safe to share between threads.

    Args:
        cfg: Country, subdivision, categories, block rule, and the house's own closed and open days.
        key: Path of the calendar in its file, for messages.

    Raises:
        ConfigError: Unknown country, subdivision, category or language; a day both closed and open.
    """

    def __init__(self, cfg: CalendarCfg, key: str = "calendar") -> None:
        cfg = _with_subdivision(cfg, key)
        _check(cfg, key)
        self.cfg = cfg
        china = cfg.country in ("CN", "CHN")
        self.block: Block = cfg.block or ("contiguous" if china else "listed")

    @classmethod
    def read(cls, source: object, key: str = "calendar") -> Self | None:
        """The calendar that a source names.

        Args:
            source: None, a Calendar, a CalendarCfg, a mapping as in app.json, or a country code, with a subdivision
                (`DE-BY`) or without.
            key: Path of the source in its file, for messages.

        Raises:
            ConfigError: The source cannot be read.
        """
        if source is None or isinstance(source, cls):
            return source
        if isinstance(source, str):
            return cls(CalendarCfg(country=source), key)
        if isinstance(source, CalendarCfg):
            return cls(source, key)

        return cls(CalendarCfg.read(source, key), key)

    @property
    def label(self) -> str:
        """Its name in a sentence: `CN`, `DE-BY`, or `own calendar`."""
        parts = [part for part in (self.cfg.country, self.cfg.subdiv) if part]
        return "-".join(parts) or "own calendar"

    @cached_property
    def days(self) -> DayTable:
        """The table of days; made at first use, once for all calendars of the same configuration."""
        with TABLES:
            return _table(self.cfg, self.block)

    def is_weekend(self, day: date) -> bool:
        """Whether `day` is an ordinary weekend day of the country (Friday and Saturday in SA) that is not worked."""
        return self.days.weekends[self.days.at(day.toordinal())] == 1

    def is_makeup(self, day: date) -> bool:
        """Whether `day` is worked although it is a weekend day or a holiday by itself."""
        return self.days.makeup[self.days.at(day.toordinal())] == 1

    def is_working_day(self, day: date) -> bool:
        """Whether `day` is neither weekend nor holiday."""
        return self.days.rests[self.days.at(day.toordinal())] == 0

    def is_holiday(self, day: date) -> bool:
        """Whether `day` is a legal holiday: listed, closed, or (block contiguous) in a run of days off around a listed day."""
        return day.toordinal() in self.days.names

    def holiday_name(self, day: date) -> str | None:
        """The name of the holiday on `day` (of a block: that of the listed holiday nearest to it), or None."""
        return self.days.names.get(day.toordinal())

    def next_working_day(self, day: date) -> date | None:
        """The first working day after `day`; None at the end of time."""
        return self._working_day(day, 1)

    def previous_working_day(self, day: date) -> date | None:
        """The last working day before `day`; None at the beginning of time."""
        return self._working_day(day, -1)

    def _working_day(self, day: date, step: int) -> date | None:
        found = nearest_zero(self.days, self.days.rests, day.toordinal(), step)
        return None if found is None else date.fromordinal(found)

    @property
    def known_years(self) -> range:
        """The years for which holidays are known at all; before and beyond there are weekends only."""
        if self.cfg.country is None:
            return range(1, 10_000)
        first, last = known_years(self.cfg.country)
        return range(max(FIRST_YEAR, first), min(LAST_YEAR, last) + 1)

    @property
    def reliable_until(self) -> date | None:
        """The last day for which the country's holidays are published rather than computed; None without a country."""
        return reliable_until(self.cfg.country) if self.cfg.country else None

    def left_out(self, year: int) -> list[str]:
        """Days that many have off in a year, and this calendar has not: nobody chose a subdivision or a category.

        Returns:
            A sentence for each choice, with examples; none where all is chosen, or nothing is left out.
        """
        code, said = self.cfg.country, list[str]()
        if code is None or year not in self.known_years:
            return said
        if self.cfg.subdiv is None:
            for found in left_out(code, False, year):
                choices = ", ".join(f"{code}-{name}" for name in found.choices)
                days = _examples(found.days)
                said.append(f"{code} alone leaves out {days}; choose one of {choices}")
        if self.cfg.categories is None:
            for found in left_out(code, True, year):
                name = found.choices[0]
                said.append(
                    f"{code} leaves out the category {name}: {_examples(found.days)}; "
                    f'"categories": ["public", "{name}"] has both'
                )

        return said


def _examples(days: Mapping[date, str]) -> str:
    some = [f"{name} ({day})" for day, name in sorted(days.items())[:3]]
    more = f" and {len(days) - 3} more" if len(days) > 3 else ""
    return ", ".join(some) + more


def _with_subdivision(cfg: CalendarCfg, key: str) -> CalendarCfg:
    """`DE-BY` as country and subdivision."""
    code, dash, subdiv = (cfg.country or "").partition("-")
    if not dash:
        return cfg
    if cfg.subdiv is not None:
        allowed = f"none beside the country {cfg.country}"
        raise invalid(f"{key}.subdiv", shown(cfg.subdiv), allowed)

    return cfg.model_copy(update={"country": code, "subdiv": subdiv})


def _check(cfg: CalendarCfg, key: str) -> None:
    if both := sorted(set(_days(cfg.closed)) & set(_days(cfg.open))):
        allowed = "a day that is not in closed as well"
        raise invalid(f"{key}.open", shown(str(both[0])), allowed)

    if cfg.country is None:
        for name in ("subdiv", "categories", "language"):
            if (found := getattr(cfg, name)) is not None:
                allowed = "only with country"
                raise invalid(f"{key}.{name}", shown(found), allowed)
    elif unknown := problems(_country(cfg, cfg.country), key):
        raise ConfigError(unknown)


def _country(cfg: CalendarCfg, code: str) -> Country:
    return Country(code, cfg.subdiv, cfg.categories, cfg.language)


def _days(ranges: tuple[tuple[date, date], ...]) -> Iterator[date]:
    return (day for first, last in ranges for day in each_day(first, last))


# The table

TABLES = threading.Lock()
"""One thread makes a table, the others wait for it."""


@lru_cache(maxsize=64)
def _table(cfg: CalendarCfg, block: Block) -> DayTable:
    own = [day.year for days in (*cfg.closed, *cfg.open) for day in days]
    first, last = min([FIRST_YEAR, *own]), max([LAST_YEAR, *own])
    return table(cfg, block, max(1, first), min(9999, last))


def table(cfg: CalendarCfg, block: Block, first_year: int, last_year: int) -> DayTable:
    """Make the table of some years.

    Args:
        cfg: The calendar.
        block: Whether a run of days off around a listed holiday is a holiday as a whole.
        first_year: The first year, included.
        last_year: The last year, included.
    """
    known = NO_COUNTRY
    if cfg.country:
        known = listing(_country(cfg, cfg.country), first_year, last_year)

    first = max(1, date(first_year, 1, 1).toordinal() - EDGE)
    last = min(LAST_ORDINAL, date(last_year, 12, 31).toordinal() + EDGE)
    weekends = _weekends(known, first, last)
    closed = {day.toordinal() for day in _days(cfg.closed)}
    listed = dict.fromkeys(closed, CLOSED)
    listed |= {day.toordinal(): name for day, name in known.holidays.items()}
    worked = {day.toordinal() for day in known.makeup}
    worked = {ordinal for ordinal in worked if weekends[ordinal - first]}
    worked |= {day.toordinal() for day in _days(cfg.open)}
    rests, makeup = bytearray(weekends), bytearray(len(weekends))
    for ordinal in listed:
        rests[ordinal - first] = 1

    for ordinal in worked - closed:
        place = ordinal - first
        rests[place] = weekends[place] = 0
        makeup[place] = 1

    off = {at: name for at, name in sorted(listed.items()) if rests[at - first]}
    names = off
    if block == "contiguous":
        substituted = {day.toordinal() for day in known.substituted}
        names = _blocks(off, off.keys() - substituted, bytes(rests), first)

    return DayTable(first, bytes(rests), bytes(weekends), bytes(makeup), names)


def _weekends(known: Listing, first: int, last: int) -> bytearray:
    """1 on each day of a weekend. At the ends, where nothing is listed, the nearest year's weekend counts."""
    found = bytearray(last - first + 1)
    changing = {day.year for day in known.odd}
    for year in range(date.fromordinal(first).year, date.fromordinal(last).year + 1):
        weekend: tuple[int, ...] = () if year in changing else SATURDAY_AND_SUNDAY
        if known.weekends and year not in changing:
            nearest = min(known.weekends, key=lambda known: abs(known - year))
            weekend = known.weekends[nearest]

        begin = max(first, date(year, 1, 1).toordinal())
        end = min(last, date(year, 12, 31).toordinal())
        for weekday in weekend:
            at = begin + (weekday + 1 - begin) % 7  # ordinal 1 is a Monday
            found[at - first : end - first + 1 : 7] = b"\1" * len(range(at, end + 1, 7))

    for day in known.odd:
        found[day.toordinal() - first] = 1

    return found


def _blocks(
    off: Mapping[int, str], festivals: set[int], rests: bytes, first: int
) -> dict[int, str]:
    """Each run of days off that contains a listed holiday, every day with the name of the holiday nearest to it.

    Args:
        off: The listed holidays that are not worked, in order.
        festivals: Those of them that are no substituted days off: a festival has a name worth telling, its paid-for
            Friday has not.
        rests: 1 on each day that is no working day.
        first: The ordinal of its first day.
    """
    named: dict[int, str] = {}
    for ordinal in off:
        if ordinal in named:
            continue

        begin = rests.rfind(0, 0, ordinal - first) + 1
        end = rests.find(0, ordinal - first)
        run = range(begin + first, (end if end >= 0 else len(rests)) + first)
        chosen = [at for at in run if at in festivals] or [
            at for at in run if at in off
        ]
        for day in run:
            nearest = min(chosen, key=lambda at: (abs(at - day), at))
            named[day] = off[nearest]

    return named
