"""Holidays, make-up days and weekends of a country. The only user of the library `holidays`.

The library grows its objects with each question, changes the process's warning filter and takes its language from the
environment. So all years are asked for at once, under a lock, with an explicit language, and no object of the library
leaves this module.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, timedelta
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, NamedTuple

from jittask_prefect.errors import Problem
from jittask_prefect.schedule.days import each_day
from jittask_prefect.validation import shown

LOCK = threading.Lock()
RECENT = range(2020, 2027)
"""Years in which a country's government decreed its make-up days, or did not."""
OFFICES = ("bank", "government", "optional")
"""Categories of days on which offices are closed; other categories are observed at work, or by a few."""


class Country(NamedTuple):
    """Whose holidays count, as a calendar names it."""

    code: str
    subdiv: str | None = None
    categories: tuple[str, ...] | None = None
    language: str | None = None


class Listing(NamedTuple):
    """The days that a country lists over some years.

    Attributes:
        holidays: The holidays with their names.
        substituted: Days off in place of others: observed, or paid for by a make-up day.
        makeup: Days that are worked although their weekday is a weekend's.
        weekends: By year, its weekend's weekdays, Monday 0.
        odd: The weekend days of a year in which the weekend changed.
    """

    holidays: Mapping[date, str]
    substituted: frozenset[date]
    makeup: frozenset[date]
    weekends: Mapping[int, tuple[int, ...]]
    odd: frozenset[date]


def _library() -> Any:
    """The library, imported at its first use: a process without holidays does without."""
    import holidays

    return holidays


def codes() -> list[str]:
    """The codes of all countries that have a calendar."""
    return sorted(_library().list_supported_countries(include_aliases=False))


def known_years(code: str) -> tuple[int, int]:
    """The first and the last year that the library has holidays for."""
    return int(_bare(code).start_year), int(_bare(code).end_year)


def problems(country: Country, key: str) -> list[Problem]:
    """The parts of a country that the library does not know, each with the allowed ones.

    Args:
        country: As a calendar names it.
        key: Path of the calendar in its file, for messages.
    """
    code = country.code
    known = _countries()
    if code not in known:
        near = get_close_matches(code.upper(), known, n=3, cutoff=0.6)
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        allowed = f"an ISO 3166 country code such as CN, US or DE{hint}"
        return [Problem("", f"{key}.country", shown(code), allowed)]

    entity = _bare(code)
    subdivs = sorted({*entity.subdivisions, *entity.subdivisions_aliases})
    categories, languages = entity.supported_categories, entity.supported_languages
    unknown = [name for name in country.categories or () if name not in categories]
    found = []
    for name, value, names, nothing in (
        ("subdiv", country.subdiv, subdivs, f"none: {code} has no subdivisions"),
        ("categories", unknown[0] if unknown else None, categories, ""),
        (
            "language",
            country.language,
            languages,
            f"none: {code} has one language only",
        ),
    ):
        if value is not None and value not in names:
            allowed = ", ".join(names) or nothing
            found.append(Problem("", f"{key}.{name}", shown(value), allowed))

    return found


def listing(country: Country, first: int, last: int) -> Listing:
    """The days that a country lists for the years `first` to `last`, both included.

    Years that the library does not cover have no holidays.
    """
    # The neighbours too: a holiday of one year may be observed, or paid for, in another.
    years = range(max(first - 1, 1), min(last + 1, 9999) + 1)
    with _quietly():
        entity: Any = _library().country_holidays(
            country.code,
            subdiv=country.subdiv,
            years=years,
            expand=False,
            language=country.language or _english(_bare(country.code)),
            categories=country.categories,
        )
        labels = (
            getattr(entity, name, None)
            for name in ("substituted_label", "observed_label")
        )
        names = [str(entity.tr(label)) for label in labels if label]
        weekends, odd = _weekends(entity, first, last)

    marks = "|".join(re.escape(name).replace("%s", ".*") for name in names)
    substitute = re.compile(marks or r"(?!)")
    listed = {day: name for day, name in entity.items() if first <= day.year <= last}
    makeup = {day for day in entity.weekend_workdays if first <= day.year <= last}
    substituted = {day for day, name in listed.items() if substitute.fullmatch(name)}
    return Listing(listed, frozenset(substituted), frozenset(makeup), weekends, odd)


def _weekends(
    entity: Any, first: int, last: int
) -> tuple[dict[int, tuple[int, ...]], frozenset[date]]:
    """The weekend of each year; and, of a year with two weekends, each weekend day."""
    weekends: dict[int, tuple[int, ...]] = {}
    odd: set[date] = set()
    for year in range(first, last + 1):
        weeks = {_weekend(entity, date(year, month, 8)) for month in (1, 6, 12)}
        if len(weeks) == 1:
            weekends[year] = weeks.pop()
        else:
            days = each_day(date(year, 1, 1), date(year, 12, 31))
            odd.update(filter(entity.is_weekend, days))

    return weekends, frozenset(odd)


def _weekend(entity: Any, day: date) -> tuple[int, ...]:
    days = each_day(day, day + timedelta(6))
    return tuple(sorted(at.weekday() for at in days if entity.is_weekend(at)))


@contextmanager
def _quietly() -> Iterator[None]:
    """A single caller of the library at a time, without its warnings."""
    with LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@lru_cache(maxsize=512)
def _bare(code: str) -> Any:
    """The library's object without any year, for its names and its range."""
    return _library().country_holidays(code, expand=False)


@lru_cache(maxsize=1)
def _countries() -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = _library().list_supported_countries(
        include_aliases=True
    )
    return found


def _english(entity: Any) -> str | None:
    return "en_US" if "en_US" in entity.supported_languages else None


# Until when the days are known


@lru_cache(maxsize=512)
def reliable_until(code: str) -> date:
    """The last day up to which a country's holidays are published rather than computed.

    Where make-up days, or other days, are decreed each year (CN: the State Council's notice; AR and TH: bridge days),
    the last year with such a decree. Where the moon decides, the last year without an estimate (1999 where all are
    estimates). Where the library computes the moon exactly and waits for no announcement (HK, VN), the last of RECENT.
    Else the end of the library's range.
    """
    entity = _bare(code)
    decreed, given = set[int](), set[int]()
    for name in dir(entity):  # the library copies a country's tables onto its objects
        table = getattr(entity, name, None) if name.startswith("special_") else None
        if isinstance(table, dict):
            decreed |= {year for year, days in table.items() if _substitutes(days)}
            given |= set(table) if name == "special_public_holidays" else set()

    last = int(entity.end_year)
    if len(decreed.intersection(RECENT)) >= 5:
        return date(min(last, max(decreed)), 12, 31)
    if len(given.intersection(RECENT)) >= 6:
        last = min(last, max(given))

    guessed = _estimated_years(entity, last)
    if guessed and max(guessed) >= RECENT.stop:
        # Past the last estimate the library knows nothing at all, which is no better.
        sure = (year for year in range(2000, max(guessed)) if year not in guessed)
        return date(max(sure, default=1999), 12, 31)

    return date(_last_confirmed(code, last), 12, 31)


def _estimated_years(entity: Any, last: int) -> set[int]:
    """The years from 2000 to `last` with an estimated day."""
    label = getattr(entity, "estimated_label", None)
    if not label:
        return set()

    how: dict[str, Any] = {
        "years": range(max(entity.start_year, 2000), last + 1),
        "expand": False,
        "language": _english(entity),
    }
    with _quietly():
        try:
            marked = type(entity)(**how, islamic_show_estimated=True)
        except TypeError:  # a country whose estimates are always marked
            marked = type(entity)(**how)

    mark = marked.tr(label).replace("%s", "").strip(" ()（）")
    return {day.year for day, name in marked.items() if mark in name}


def _last_confirmed(code: str, last: int) -> int:
    """The year before the first year to come with a computed day that its name does not mark as an estimate."""
    found: list[date] = []
    with _quietly():
        entity: Any = _library().country_holidays(code)
        adds = getattr(entity, "_add_eastern_calendar_holiday", None)
        if adds is None:
            return last

        def add(name: str, computed: tuple[date | None, bool], **more: Any) -> Any:
            if computed[1] and computed[0] is not None:
                found.append(computed[0])

            return adds(name, computed, **more)

        entity._add_eastern_calendar_holiday = add
        for year in range(RECENT.stop, last + 1):
            entity.get(date(year, 1, 1))
            if found:
                return year - 1

    return last


def _substitutes(days: Any) -> bool:
    """Whether an entry of the library's tables has days off that make-up days pay for."""
    if not days or not isinstance(days, tuple):
        return False
    items = days if isinstance(days[0], tuple) else (days,)
    return any(
        len(item) >= 4 and all(isinstance(part, int) for part in item[:4])
        for item in items
    )


# Choices


class LeftOut(NamedTuple):
    """Days of a year on which most are off, and which a calendar does not have for want of a choice.

    Attributes:
        choices: The subdivisions, or the category, to choose.
        days: The days with their names.
    """

    choices: tuple[str, ...]
    days: Mapping[date, str]


@lru_cache(maxsize=256)
def left_out(code: str, category: bool, year: int) -> tuple[LeftOut, ...]:
    """The days of a year that a country's calendar leaves out where nothing is chosen.

    Args:
        code: The country.
        category: Whether categories can be chosen; else subdivisions.
        year: The year.

    Returns:
        For subdivisions a single entry, with the days that half of them or more have; for categories an entry each.
    """
    bare = _bare(code)
    known = listing(Country(code), year, year).holidays

    def more(country: Country) -> dict[date, str]:
        days = listing(country, year, year).holidays
        return {
            day: name
            for day, name in days.items()
            if day not in known and not bare.is_weekend(day)
        }

    if category:
        offices = set(OFFICES) & set(bare.supported_categories)
        names = [name for name in OFFICES if name in offices - {bare.default_category}]
        found = [LeftOut((name,), more(Country(code, None, (name,)))) for name in names]
        return tuple(each for each in found if each.days)

    subdivs = tuple(bare.subdivisions)
    count: Counter[date] = Counter()
    called: dict[date, str] = {}
    for subdiv in subdivs:
        days = more(Country(code, subdiv))
        count.update(days.keys())
        called = days | called

    common = {
        day: called[day] for day in sorted(count) if 2 * count[day] >= len(subdivs)
    }
    return (LeftOut(subdivs, common),) if common else ()
