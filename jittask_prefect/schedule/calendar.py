"""Holidays, weekends and working days of a country, and of the house that adds its own.

A day is a *holiday* where the country (or the calendar's `closed`) says so. It is a *working day* where it is neither
weekend nor holiday; make-up days (China's, and the calendar's `open`) are working days even on a Saturday.

All of it stands in one table, a byte for each day, made once for each configuration and never changed; threads share
it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property, lru_cache
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field

from jittask_prefect.errors import ConfigError, Problem
from jittask_prefect.schedule.country import (
    Country,
    Listing,
    known_years,
    left_out,
    listing,
    problems,
    reliable_until,
)
from jittask_prefect.validation import StrictModel, shown

Block = Literal["contiguous", "listed"]
FIRST_YEAR, LAST_YEAR = 1950, 2100
"""What a table covers at least. Before and beyond, weekends go on and no holiday is known."""
EDGE = 4 * 7
"""Ordinary days at both ends of a table: the search for a working day ends there at the latest."""
SATURDAY_AND_SUNDAY = (5, 6)
MOST_DAYS = 40_000
"""Closed or open days that a calendar may name."""
LAST_ORDINAL = date.max.toordinal()
CLOSED = "closed"
NOBODY = Listing({}, frozenset(), frozenset(), {}, frozenset())


def _ranges(value: object) -> object:
    if not isinstance(value, list):
        raise ValueError(
            'a list of dates "yyyy-MM-dd" and inclusive ranges "yyyy-MM-dd/yyyy-MM-dd"'
        )
    found = []
    for item in value:
        try:
            first, _, last = item.partition("/")
            days = (date.fromisoformat(first), date.fromisoformat(last or first))
            if "/" in item and not last:
                raise ValueError
        except (AttributeError, ValueError):
            raise ValueError(
                f'"yyyy-MM-dd" or "yyyy-MM-dd/yyyy-MM-dd", not {shown(item)}'
            ) from None
        if days[1] < days[0]:
            raise ValueError(
                f"a range that ends on or after its first day, not {shown(item)}"
            )
        if (days[1] - days[0]).days > 3660:
            raise ValueError(f"a range of at most ten years, not {shown(item)}")
        found.append(days)
    if (together := sum((last - first).days + 1 for first, last in found)) > MOST_DAYS:
        raise ValueError(f"at most {MOST_DAYS} days in all, not {together}")
    return tuple(found)


Ranges = Annotated[tuple[tuple[date, date], ...], BeforeValidator(_ranges)]


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class CalendarCfg(StrictModel):
    """A calendar as app.json writes it; a country may be `DE-BY`, which is `DE` with the subdivision `BY`."""

    country: str | None = None
    subdiv: str | None = None
    categories: Annotated[tuple[str, ...], BeforeValidator(_tuple)] | None = Field(
        default=None, min_length=1
    )
    language: str | None = None
    block: Block | None = None
    closed: Ranges = ()
    open: Ranges = ()


@dataclass(frozen=True, slots=True)
class Days:
    """The table: of each day from `first` (an ordinal) on, what it is.

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


class Calendar:
    """Holidays and working days of one calendar; immutable, safe to share between threads.

    Args:
        cfg: Country, subdivision, categories, block rule, and the house's own closed and open days.
        key: Path of the calendar in its file, for messages.

    Raises:
        ConfigError: Unknown country, subdivision, category or language; a day both closed and open.
    """

    def __init__(self, cfg: CalendarCfg, key: str = "calendar") -> None:
        cfg = _divided(cfg, key)
        _check(cfg, key)
        self.cfg = cfg
        self.block: Block = cfg.block or (
            "contiguous" if cfg.country in ("CN", "CHN") else "listed"
        )

    @classmethod
    def of(cls, source: object, key: str = "calendar") -> Self | None:
        """The calendar of whatever names one.

        Args:
            source: None, a Calendar, a CalendarCfg, a mapping as in app.json, or a country code, with a subdivision
                (`DE-BY`) or without.
            key: Path of it in its file, for messages.

        Raises:
            ConfigError: It cannot be read.
        """
        if source is None or isinstance(source, cls):
            return source
        if isinstance(source, str):
            return cls(CalendarCfg(country=source), key)
        return cls(
            source
            if isinstance(source, CalendarCfg)
            else CalendarCfg.read(source, key),
            key,
        )

    @property
    def label(self) -> str:
        """What to call it in a sentence: `CN`, `DE-BY`, or `own calendar`."""
        return (
            "-".join(part for part in (self.cfg.country, self.cfg.subdiv) if part)
            or "own calendar"
        )

    @cached_property
    def days(self) -> Days:
        """The table of days; made at first use, once for all calendars of the same configuration."""
        with TABLES:
            return _table(self.cfg, self.block)

    def is_weekend(self, day: date) -> bool:
        """Whether `day` is an ordinary weekend day of the country (Friday and Saturday in SA) that is not worked."""
        days = self.days
        return days.weekends[days.at(day.toordinal())] == 1

    def is_makeup(self, day: date) -> bool:
        """Whether `day` is worked although it is a weekend day or a holiday by itself."""
        days = self.days
        return days.makeup[days.at(day.toordinal())] == 1

    def is_working_day(self, day: date) -> bool:
        """Whether `day` is neither weekend nor holiday."""
        days = self.days
        return days.rests[days.at(day.toordinal())] == 0

    def is_holiday(self, day: date) -> bool:
        """Whether `day` is a legal holiday: listed, closed, or (block contiguous) in a run of days off around one."""
        return day.toordinal() in self.days.names

    def holiday_name(self, day: date) -> str | None:
        """The name of the holiday on `day` (of a block: that of the listed holiday nearest to it), or None."""
        return self.days.names.get(day.toordinal())

    def next_working_day(self, day: date) -> date | None:
        """The first working day after `day`; None at the end of time."""
        days = self.days
        return _date(seek(days, days.rests, day.toordinal(), 1))

    def previous_working_day(self, day: date) -> date | None:
        """The last working day before `day`; None at the beginning of time."""
        days = self.days
        return _date(seek(days, days.rests, day.toordinal(), -1))

    @property
    def known_years(self) -> range:
        """The years for which holidays are known at all; before and beyond there are weekends only."""
        if self.cfg.country is None:
            return range(1, 10_000)
        first, last = known_years(self.cfg.country)
        return range(max(FIRST_YEAR, first), min(LAST_YEAR, last) + 1)

    @property
    def reliable_until(self) -> date | None:
        """The last day for which the country's holidays are published rather than reckoned; None without a country."""
        return reliable_until(self.cfg.country) if self.cfg.country else None

    def left_out(self, year: int) -> list[str]:
        """What many have off in a year and this calendar has not, since nobody chose a subdivision or a category.

        Returns:
            A sentence for each choice, with examples; none where all is chosen, or nothing is left out.
        """
        code, said = self.cfg.country, []
        if code is None or year not in self.known_years:
            return []
        if self.cfg.subdiv is None:
            for found in left_out(code, False, year):
                choices = ", ".join(f"{code}-{name}" for name in found.choices)
                said.append(
                    f"{code} alone leaves out {_examples(found.days)}; choose one of {choices}"
                )
        if self.cfg.categories is None:
            for found in left_out(code, True, year):
                name = found.choices[0]
                said.append(
                    f"{code} leaves out the category {name}: {_examples(found.days)}; "
                    f'"categories": ["public", "{name}"] has both'
                )
        return said


def seek(days: Days, off: bytes, ordinal: int, step: int) -> int | None:
    """The nearest day after (step 1) or before (-1) an ordinal that is 0 in `off`; None where time ends first.

    Args:
        days: The table that `off` belongs to.
        off: `days.rests` or `days.weekends`.
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


def _examples(days: Mapping[date, str]) -> str:
    some = [f"{name} ({day})" for day, name in sorted(days.items())[:3]]
    more = f" and {len(days) - 3} more" if len(days) > 3 else ""
    return ", ".join(some) + more


def _divided(cfg: CalendarCfg, key: str) -> CalendarCfg:
    """`DE-BY` as country and subdivision."""
    code, dash, subdiv = (cfg.country or "").partition("-")
    if not dash:
        return cfg
    if cfg.subdiv is not None:
        raise ConfigError(
            Problem(
                "",
                f"{key}.subdiv",
                shown(cfg.subdiv),
                f"none beside the country {cfg.country}",
            )
        )
    return cfg.model_copy(update={"country": code, "subdiv": subdiv})


def _date(ordinal: int | None) -> date | None:
    return None if ordinal is None else date.fromordinal(ordinal)


TABLES = threading.Lock()
"""One thread makes a table, the others wait for it."""


@lru_cache(maxsize=64)
def _table(cfg: CalendarCfg, block: Block) -> Days:
    own = [day.year for days in (*cfg.closed, *cfg.open) for day in days]
    return table(
        cfg, block, max(1, min([FIRST_YEAR, *own])), min(9999, max([LAST_YEAR, *own]))
    )


def table(cfg: CalendarCfg, block: Block, first_year: int, last_year: int) -> Days:
    """Make the table of some years.

    Args:
        cfg: The calendar.
        block: Whether a run of days off around a listed holiday is a holiday as a whole.
        first_year: The first year, included.
        last_year: The last year, included.
    """
    country = cfg.country and Country(
        cfg.country, cfg.subdiv, cfg.categories, cfg.language
    )
    known = listing(country, first_year, last_year) if country else NOBODY
    first = max(1, date(first_year, 1, 1).toordinal() - EDGE)
    last = min(LAST_ORDINAL, date(last_year, 12, 31).toordinal() + EDGE)
    ordinary = _weekends(known, first, last)
    closed = {day.toordinal() for day in _each(cfg.closed)}
    listed = {day.toordinal(): name for day, name in known.holidays.items()}
    listed |= {ordinal: CLOSED for ordinal in closed if ordinal not in listed}
    worked = {day.toordinal() for day in known.makeup}
    worked = {at for at in worked if ordinary[at - first]} | {
        day.toordinal() for day in _each(cfg.open)
    }
    rests, weekends, makeup = (
        bytearray(ordinary),
        bytearray(ordinary),
        bytearray(len(ordinary)),
    )
    for ordinal in listed:
        rests[ordinal - first] = 1
    for ordinal in worked - closed:
        rests[ordinal - first] = weekends[ordinal - first] = 0
        makeup[ordinal - first] = 1
    off = {
        ordinal: name
        for ordinal, name in sorted(listed.items())
        if rests[ordinal - first]
    }
    proper = {
        at: name
        for at, name in off.items()
        if date.fromordinal(at) not in known.substituted
    }
    names = _blocks(off, proper, bytes(rests), first) if block == "contiguous" else off
    return Days(first, bytes(rests), bytes(weekends), bytes(makeup), names)


def _weekends(known: Listing, first: int, last: int) -> bytearray:
    """1 on each day of a weekend. At the ends, where nothing is listed, the nearest year's weekend counts."""
    found = bytearray(last - first + 1)
    years = range(date.fromordinal(first).year, date.fromordinal(last).year + 1)
    for year in years:
        weekend = known.weekends.get(year)
        if weekend is None and known.weekends:
            weekend = (
                ()
                if any(day.year == year for day in known.odd)
                else _nearest(known.weekends, year)
            )
        begin = max(first, date(year, 1, 1).toordinal())
        end = min(last, date(year, 12, 31).toordinal())
        for weekday in SATURDAY_AND_SUNDAY if weekend is None else weekend:
            at = begin + (weekday + 1 - begin) % 7  # ordinal 1 is a Monday
            found[at - first : end - first + 1 : 7] = b"\1" * len(range(at, end + 1, 7))
    for day in known.odd:
        found[day.toordinal() - first] = 1
    return found


def _nearest(weekends: Mapping[int, tuple[int, ...]], year: int) -> tuple[int, ...]:
    return weekends[min(weekends, key=lambda known: abs(known - year))]


def _blocks(
    off: Mapping[int, str], proper: Mapping[int, str], rests: bytes, first: int
) -> dict[int, str]:
    """Each run of days off that contains a listed holiday, every day with the name of the one nearest to it.

    Args:
        off: The listed holidays that are not worked, in order.
        proper: Those of them that are no substituted days off: the festival has a name worth telling, its paid-for
            Friday has not.
        rests: 1 on each day that is no working day.
        first: The ordinal of its first day.
    """
    named: dict[int, str] = {}
    for ordinal in off:
        if ordinal in named:
            continue
        begin = rests.rfind(0, 0, ordinal - first) + 1 + first
        end = rests.find(0, ordinal - first)
        run = range(begin, (end if end >= 0 else len(rests)) + first)
        chosen = [at for at in run if at in proper] or [at for at in run if at in off]
        for at in run:
            nearest = min(chosen, key=lambda one: (abs(one - at), one))
            named[at] = off[nearest]
    return named


def _each(ranges: tuple[tuple[date, date], ...]) -> Iterator[date]:
    return (
        first + timedelta(n)
        for first, last in ranges
        for n in range((last - first).days + 1)
    )


def _check(cfg: CalendarCfg, key: str) -> None:
    if both := sorted(set(_each(cfg.closed)) & set(_each(cfg.open))):
        raise ConfigError(
            Problem(
                "",
                f"{key}.open",
                shown(str(both[0])),
                "a day that is not in closed as well",
            )
        )
    if cfg.country is None:
        for name in ("subdiv", "categories", "language"):
            if (found := getattr(cfg, name)) is not None:
                raise ConfigError(
                    Problem("", f"{key}.{name}", shown(found), "only with country")
                )
        return
    if found := problems(
        Country(cfg.country, cfg.subdiv, cfg.categories, cfg.language), key
    ):
        raise ConfigError(found)
