"""Holidays, weekends and working days of a country, and of the house that adds its own.

A day is a *holiday* where the country (or the calendar's `closed`) says so. It is a *working day* where it is neither
weekend nor holiday; make-up days (China's, and the calendar's `open`) are working days even on a Saturday.

All of this stands in a table, a byte for each day, made once for each configuration and never changed; threads share
the table.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import date
from functools import cached_property, lru_cache
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field

from jittask_prefect.errors import ConfigError, invalid
from jittask_prefect.schedule.country import (
    Country,
    known_years,
    left_out,
    listing,
    problems,
    reliable_until,
)
from jittask_prefect.schedule.day_table import (
    NO_COUNTRY,
    DayTable,
    Sources,
    nearest_zero,
    table,
)
from jittask_prefect.schedule.own_days import ListedDays, OwnDays, Ranges
from jittask_prefect.schedule.workdays import WorkdayNumbers
from jittask_prefect.validation import StrictModel, shown

Block = Literal["contiguous", "listed"]
FIRST_YEAR, LAST_YEAR = 1950, 2100
"""The range of a table. Before and beyond, weekends go on and no holiday is known."""
TABLE_YEARS = range(FIRST_YEAR, LAST_YEAR + 1)


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Categories = Annotated[tuple[str, ...], BeforeValidator(_tuple)]


class CalendarCfg(StrictModel):
    """A calendar as app.json writes it; a country may be `DE-BY`, which is `DE` with the subdivision `BY`.

    `ics` and `csv` name files beside app.json, whose days count as the country's holidays do.
    """

    country: str | None = None
    subdiv: str | None = None
    categories: Categories | None = Field(default=None, min_length=1)
    language: str | None = None
    block: Block | None = None
    closed: Ranges = ()
    open: Ranges = ()
    ics: str | None = Field(default=None, min_length=1)
    csv: str | None = Field(default=None, min_length=1)

    @property
    def files(self) -> dict[str, str]:
        """The files that it names, by their keys."""
        named = {"ics": self.ics, "csv": self.csv}
        return {key: path for key, path in named.items() if path is not None}


class Calendar:
    """Holidays and working days of a calendar; immutable, safe to share between threads.

    Args:
        cfg: Country, subdivision, categories, block rule, and the house's own closed and open days.
        key: Path of the calendar in its file, for messages.
        listed: The days of the files that `cfg` names.

    Raises:
        ConfigError: Unknown country, subdivision, category or language; a day both closed and open; files without
            `listed`.
    """

    def __init__(
        self,
        cfg: CalendarCfg,
        key: str = "calendar",
        listed: ListedDays | None = None,
    ) -> None:
        cfg = _with_subdivision(cfg, key)
        _check(cfg, key)
        if listed is None:
            for name, path in cfg.files.items():
                allowed = (
                    "a file only in a calendar of an app, relative to the app's folder"
                )
                raise invalid(f"{key}.{name}", shown(path), allowed)

        self.cfg = cfg
        self.listed = listed or ListedDays({})
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
    def _known(self) -> _KnownDays:
        listed = tuple(sorted(self.listed.names.items()))
        with TABLES:
            return _known_days(self.cfg, self.block, listed)

    @cached_property
    def days(self) -> DayTable:
        """The table of days; made at first use, once for all calendars of the same configuration."""
        return self._known.days

    @cached_property
    def workdays(self) -> WorkdayNumbers:
        """The working days, numbered; made at first use, once for all calendars of the same configuration."""
        return self._known.workdays

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

    def makeup_name(self, day: date) -> str | None:
        """The name of an `open` day; None for a day without a name."""
        return self.days.opened.get(day.toordinal()) or None

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
            return TABLE_YEARS if self.listed.names else range(1, 10_000)
        first, last = known_years(self.cfg.country)
        return range(max(FIRST_YEAR, first), min(LAST_YEAR, last) + 1)

    @property
    def reliable_until(self) -> date | None:
        """The last day for which holidays are published rather than computed, or listed by a file; else None."""
        if self.cfg.country:
            return reliable_until(self.cfg.country)
        until = self.listed.until
        return until and until.replace(month=12, day=31)

    @property
    def limit(self) -> str:
        """The day up to which holidays are known, and the consequence, in a sentence; empty without such a limit."""
        until = self.reliable_until
        if until is None:
            return ""
        if self.cfg.country is None:
            return f"its files list holidays until {until}; later years have only days that come each year"

        return f"holidays of {self.label} are published until {until}; later days are a forecast"

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
    for name in ("closed", "open"):
        for own in getattr(cfg, name):
            beyond = {own.first.year, own.last.year}.difference(TABLE_YEARS)
            if beyond and not own.yearly:
                allowed = f"days of the years {FIRST_YEAR} to {LAST_YEAR}"
                raise invalid(f"{key}.{name}", f"the year {min(beyond)}", allowed)

    if cfg.closed and cfg.open:
        both = _days(cfg.closed).keys() & _days(cfg.open).keys()
        if both:
            allowed = "a day that is not in closed as well"
            raise invalid(f"{key}.open", shown(str(min(both))), allowed)

    if cfg.country is None:
        for name in ("subdiv", "categories", "language"):
            if (found := getattr(cfg, name)) is not None:
                allowed = "only with country"
                raise invalid(f"{key}.{name}", shown(found), allowed)
    elif unknown := problems(_country(cfg, cfg.country), key):
        raise ConfigError(unknown)


def _country(cfg: CalendarCfg, code: str) -> Country:
    return Country(code, cfg.subdiv, cfg.categories, cfg.language)


def _days(ranges: tuple[OwnDays, ...]) -> dict[date, str]:
    """The days of ranges within a table's years, each with its name: of several the first written, in any case a name."""
    named = sorted(reversed(ranges), key=lambda own: bool(own.name))
    return {
        day: own.name for own in named for day in own.in_years(FIRST_YEAR, LAST_YEAR)
    }


# The table

TABLES = threading.Lock()
"""One thread makes a table, the others wait for it."""


class _KnownDays:
    """The days of all calendars of one configuration."""

    def __init__(self, days: DayTable) -> None:
        self.days = days

    @cached_property
    def workdays(self) -> WorkdayNumbers:
        return WorkdayNumbers(self.days)


@lru_cache(maxsize=64)
def _known_days(
    cfg: CalendarCfg, block: Block, listed: tuple[tuple[date, str], ...]
) -> _KnownDays:
    files = dict(listed)
    country = NO_COUNTRY
    if cfg.country:
        country = listing(_country(cfg, cfg.country), FIRST_YEAR, LAST_YEAR)

    closed, opened = _days(cfg.closed), _days(cfg.open)
    sources = Sources(country, files, closed, opened)
    return _KnownDays(table(sources, block == "contiguous", TABLE_YEARS))
