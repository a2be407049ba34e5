"""Holidays, weekends and working days of a country, and of the house that adds its own: the only user of `holidays`.

A day is a *holiday* where the country (or the calendar's `closed`) says so. It is a *working day* where it is neither
weekend nor holiday; make-up days (China's, and the calendar's `open`) are working days even on a Saturday.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Mapping
from datetime import date, timedelta
from difflib import get_close_matches
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple, Self

import holidays
from pydantic import BeforeValidator, Field

from ..errors import ConfigError, Problem
from ..shape import Shape, shown

Block = Literal["contiguous", "listed"]
SATURDAY_AND_SUNDAY = frozenset({5, 6})
SEEK = 4000
"""Days after which the search for a working day gives up."""
MONDAY = date(2026, 1, 5)
"""Any Monday: a day to ask a country's present weekend with."""


def _ranges(value: object) -> object:
    if not isinstance(value, list):
        raise ValueError('a list of dates "yyyy-MM-dd" and inclusive ranges "yyyy-MM-dd/yyyy-MM-dd"')
    found = []
    for item in value:
        try:
            first, _, last = item.partition("/")
            days = (date.fromisoformat(first), date.fromisoformat(last or first))
            if "/" in item and not last:
                raise ValueError
        except (AttributeError, ValueError):
            raise ValueError(f'"yyyy-MM-dd" or "yyyy-MM-dd/yyyy-MM-dd", not {shown(item)}') from None
        if days[1] < days[0]:
            raise ValueError(f"a range that ends on or after its first day, not {shown(item)}")
        if (days[1] - days[0]).days > 3660:
            raise ValueError(f"a range of at most ten years, not {shown(item)}")
        found.append(days)
    return tuple(found)


Ranges = Annotated[tuple[tuple[date, date], ...], BeforeValidator(_ranges)]


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class CalendarCfg(Shape):
    """A calendar as app.json writes it."""

    country: str | None = None
    subdiv: str | None = None
    categories: Annotated[tuple[str, ...], BeforeValidator(_tuple)] | None = Field(default=None, min_length=1)
    language: str | None = None
    block: Block | None = None
    closed: Ranges = ()
    open: Ranges = ()


class _Year(NamedTuple):
    """What the country lists for one year."""

    holidays: Mapping[date, str]
    substituted: frozenset[date]  # days off in place of others: observed, or paid for by a make-up day
    makeup: frozenset[date]  # weekend days that are worked
    weekends: frozenset[date]


EMPTY: Mapping[date, str] = {}
LOCK = threading.Lock()
"""Around the library: it changes its warnings' filter and its own objects as it works."""


class Calendar:
    """Holidays and working days of one calendar; immutable to look at, safe to share between threads.

    Args:
        cfg: Country, subdivision, categories, block rule, and the house's own closed and open days.
        key: Path of the calendar in its file, for messages.

    Raises:
        ConfigError: Unknown country, subdivision, category or language; a day both closed and open.
    """

    def __init__(self, cfg: CalendarCfg, key: str = "calendar") -> None:
        _check(cfg, key)
        self.cfg = cfg
        self.block: Block = cfg.block or ("contiguous" if cfg.country in ("CN", "CHN") else "listed")
        self._closed, self._open = _days(cfg.closed), _days(cfg.open)
        if both := sorted(self._closed & self._open):
            raise ConfigError(Problem("", f"{key}.open", shown(str(both[0])), "a day that is not in closed as well"))
        self._listed: dict[int, _Year] = {}
        self._named: dict[int, Mapping[date, str]] = {}

    @classmethod
    def of(cls, source: object, key: str = "calendar") -> Self | None:
        """The calendar of whatever names one.

        Args:
            source: None, a Calendar, a CalendarCfg, a mapping as in app.json, or a country code.
            key: Path of it in its file, for messages.

        Raises:
            ConfigError: It cannot be read.
        """
        if source is None or isinstance(source, cls):
            return source
        if isinstance(source, str):
            return cls(CalendarCfg(country=source), key)
        return cls(source if isinstance(source, CalendarCfg) else CalendarCfg.read(source, key), key)

    @property
    def label(self) -> str:
        """What to call it in a sentence: `CN`, `DE-BY`, or `own calendar`."""
        return "-".join(part for part in (self.cfg.country, self.cfg.subdiv) if part) or "own calendar"

    def is_weekend(self, day: date) -> bool:
        """Whether `day` is an ordinary weekend day of the country (Friday and Saturday in SA), worked or not."""
        if self.cfg.country is None:
            return day.weekday() in SATURDAY_AND_SUNDAY
        year = self._year(day.year)
        return day in year.weekends if year.weekends else day.weekday() in SATURDAY_AND_SUNDAY

    def is_makeup(self, day: date) -> bool:
        """Whether `day` is worked although it is a weekend day or a holiday by itself."""
        if day in self._closed:
            return False
        return day in self._open or (day in self._year(day.year).makeup and self.is_weekend(day))

    def is_working_day(self, day: date) -> bool:
        """Whether `day` is neither weekend nor holiday."""
        return self.is_makeup(day) or not (self.is_weekend(day) or self._lists(day))

    def is_holiday(self, day: date) -> bool:
        """Whether `day` is a legal holiday: listed, closed, or (block contiguous) in a run of days off around one."""
        return self.holiday_name(day) is not None

    def holiday_name(self, day: date) -> str | None:
        """The name of the holiday on `day` (of a block: that of the listed holiday nearest to it), or None."""
        names = self._named.get(day.year)
        if names is None:
            names = self._named[day.year] = self._name(day.year)
        return names.get(day)

    def next_working_day(self, day: date) -> date:
        """The first working day after `day`."""
        return self._seek(day, 1)

    def previous_working_day(self, day: date) -> date:
        """The last working day before `day`."""
        return self._seek(day, -1)

    @property
    def reliable_until(self) -> date | None:
        """The last day for which the country's holidays are published rather than reckoned; None without a country."""
        return reliable_until(self.cfg.country) if self.cfg.country else None

    def _seek(self, day: date, step: int) -> date:
        for days in range(1, SEEK):
            if self.is_working_day(found := day + timedelta(days * step)):
                return found
        raise ConfigError(Problem("", "calendar", f"no working day within {SEEK} days of {day}", "some open days"))

    def _lists(self, day: date) -> bool:
        return day in self._closed or day in self._year(day.year).holidays

    def _year(self, year: int) -> _Year:
        """The country's list for a year, made once; building it twice would give the same."""
        found = self._listed.get(year)
        if found is None:
            cfg = self.cfg
            with LOCK:
                found = _list(cfg.country, cfg.subdiv, cfg.categories, cfg.language, year)
            self._listed[year] = found
        return found

    def _name(self, year: int) -> Mapping[date, str]:
        """Every holiday of a year with its name."""
        days = [day for day in self._year(year).holidays if not self.is_makeup(day)]
        days += [day for day in self._closed if day.year == year and day not in days]
        if self.block == "contiguous":
            # A block that reaches over New Year is made by a holiday of either year.
            for neighbour, month, edge in ((year - 1, 12, 31), (year + 1, 1, 1)):
                if 1 <= neighbour <= 9999 and not self.is_working_day(date(neighbour, month, edge)):
                    days.append(date(neighbour, month, edge))
        named: dict[date, str] = {}
        for day in sorted(days):
            if self.block == "listed":
                named[day] = self._own_name(day) or "closed"
            elif day not in named:
                named |= self._block(day)
        return {day: name for day, name in named.items() if day.year == year}

    def _own_name(self, day: date) -> str | None:
        name = self._year(day.year).holidays.get(day)
        return name or ("closed" if day in self._closed else None)

    def _block(self, day: date) -> dict[date, str]:
        """The run of days off around `day`, each with the name of the listed holiday nearest to it; {} without one."""
        first = last = day
        while first > date.min and not self.is_working_day(first - timedelta(1)):
            first -= timedelta(1)
        while last < date.max and not self.is_working_day(last + timedelta(1)):
            last += timedelta(1)
        run = [first + timedelta(n) for n in range((last - first).days + 1)]
        listed = [day for day in run if self._lists(day)]
        # A substituted day off has no name of its own worth telling: the festival it belongs to has.
        proper = [day for day in listed if day not in self._year(day.year).substituted] or listed
        if not listed:
            return {}
        return {day: self._own_name(min(proper, key=lambda at: (abs(at - day), at))) or "closed" for day in run}


def _days(ranges: tuple[tuple[date, date], ...]) -> frozenset[date]:
    return frozenset(first + timedelta(n) for first, last in ranges for n in range((last - first).days + 1))


def _check(cfg: CalendarCfg, key: str) -> None:
    if cfg.country is None:
        if cfg.subdiv or cfg.categories:
            found = shown(cfg.subdiv or cfg.categories)
            raise ConfigError(
                Problem("", f"{key}.{'subdiv' if cfg.subdiv else 'categories'}", found, "only with country")
            )
        return
    countries = _countries()
    if cfg.country not in countries:
        near = get_close_matches(cfg.country.upper(), countries, n=3, cutoff=0.6)
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        allowed = f"an ISO 3166 country code such as CN, US or DE{hint}, or a name in app.json's calendars"
        raise ConfigError(Problem("", f"{key}.country", shown(cfg.country), allowed))
    entity = _bare(cfg.country)
    problems = []
    subdivs = sorted({*entity.subdivisions, *entity.subdivisions_aliases})
    if cfg.subdiv and cfg.subdiv not in subdivs:
        allowed = ", ".join(subdivs) or f"none: {cfg.country} has no subdivisions"
        problems.append(Problem("", f"{key}.subdiv", shown(cfg.subdiv), allowed))
    if unknown := [name for name in cfg.categories or () if name not in entity.supported_categories]:
        allowed = ", ".join(entity.supported_categories)
        problems.append(Problem("", f"{key}.categories", shown(unknown[0]), allowed))
    if cfg.language and cfg.language not in entity.supported_languages:
        allowed = ", ".join(entity.supported_languages) or f"none: {cfg.country} has one language only"
        problems.append(Problem("", f"{key}.language", shown(cfg.language), allowed))
    if problems:
        raise ConfigError(problems)


@lru_cache(maxsize=512)
def _bare(country: str) -> Any:
    """The library's object without any year, for what it says about itself."""
    return holidays.country_holidays(country, expand=False)


@lru_cache(maxsize=1)
def _countries() -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = holidays.list_supported_countries(include_aliases=True)
    return found


@lru_cache(maxsize=4096)
def _list(
    country: str | None, subdiv: str | None, categories: tuple[str, ...] | None, language: str | None, year: int
) -> _Year:
    if country is None:
        return _Year(EMPTY, frozenset(), frozenset(), frozenset())
    # Without a language the library asks the environment, and names would differ between machines.
    language = language or ("en_US" if "en_US" in _bare(country).supported_languages else None)
    # The neighbours too: a holiday of one year may be observed, or paid for, in another.
    years = [y for y in (year - 1, year, year + 1) if 1 <= y <= 9999]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # All years at once: the library's lazy growth is not safe under threads.
        entity: Any = holidays.country_holidays(
            country, subdiv=subdiv, years=years, expand=False, language=language, categories=categories
        )
    listed = {day: name for day, name in entity.items() if day.year == year}
    labels = [getattr(entity, label, None) for label in ("substituted_label", "observed_label")]
    marks = [re.escape(str(entity.tr(label))).replace("%s", ".*") for label in labels if label]
    substitute = re.compile("|".join(marks) or r"(?!)")
    substituted = frozenset(day for day, name in listed.items() if substitute.fullmatch(name))
    makeup = frozenset(day for day in entity.weekend_workdays if day.year == year)
    first, length = date(year, 1, 1), 366 if year % 4 == 0 and (year % 100 or year % 400 == 0) else 365
    weekends = frozenset(d for n in range(length) if entity.is_weekend(d := first + timedelta(n)))
    return _Year(listed, substituted, makeup, weekends)


@lru_cache(maxsize=256)
def reliable_until(country: str) -> date:
    """The last day up to which a country's holidays are known rather than reckoned.

    Where make-up days are decreed each year (CN: the State Council's notice) that is the last year with a published
    substitution; where the moon decides, the year before the first estimate after the last exact year; else the end of
    the library's range.
    """
    entity = _bare(country)
    decreed = set()
    for name in dir(entity):  # the library copies a country's tables onto its objects
        table = getattr(entity, name, None) if name.startswith("special_") else None
        if isinstance(table, dict):
            decreed |= {year for year, entries in table.items() if _substitutes(entries)}
    last = int(entity.end_year)
    if len([year for year in range(2020, 2027) if year in decreed]) >= 5:
        return date(min(last, max(decreed)), 12, 31)
    label = getattr(entity, "estimated_label", None)
    if label:
        listed = _with_estimates(entity, list(range(max(entity.start_year, 2000), last + 1)))
        mark = listed.tr(label).replace("%s", "").strip(" ()（）")
        guessed = {day.year for day, name in listed.items() if mark in name}
        exact = [year for year in range(2000, last + 1) if year not in guessed]
        if guessed and exact and max(guessed) > max(exact):
            last = max(exact)
    return date(last, 12, 31)


def _with_estimates(entity: Any, years: list[int]) -> Any:
    """The library's object again, with its estimates marked as such where it can."""
    language = "en_US" if "en_US" in entity.supported_languages else None
    with LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return type(entity)(years=years, expand=False, language=language, islamic_show_estimated=True)
        except TypeError:
            return type(entity)(years=years, expand=False, language=language)


def _substitutes(entries: Any) -> bool:
    if not entries or not isinstance(entries, tuple):
        return False
    items = entries if isinstance(entries[0], tuple) else (entries,)
    return any(len(item) >= 4 and all(isinstance(part, int) for part in item[:4]) for item in items)
