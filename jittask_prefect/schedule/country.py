"""What a country lists: holidays, make-up days, weekends. The only user of `holidays`.

The library grows its objects as they are asked, changes the process's warning filter and takes its language from the
environment. So all years are asked for at once, under a lock, with an explicit language, and nothing of the library's
leaves this module.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Mapping
from datetime import date, timedelta
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, NamedTuple

import holidays

from jittask_prefect.errors import Problem
from jittask_prefect.validation import shown

LOCK = threading.Lock()
RECENT = range(2020, 2027)
"""Years in which a country's government decreed its make-up days, or did not."""


class Country(NamedTuple):
    """Whose holidays count, as a calendar names it."""

    code: str
    subdiv: str | None = None
    categories: tuple[str, ...] | None = None
    language: str | None = None


class Listing(NamedTuple):
    """What a country lists over some years."""

    holidays: Mapping[date, str]
    substituted: frozenset[
        date
    ]  # days off in place of others: observed, or paid for by a make-up day
    makeup: frozenset[
        date
    ]  # days that are worked although their weekday is a weekend's
    weekends: Mapping[int, tuple[int, ...]]  # by year: its weekend's weekdays, Monday 0
    odd: frozenset[date]  # the weekend days of a year in which the weekend changed


def problems(country: Country, key: str) -> list[Problem]:
    """What the library does not know of a country, with what it does know.

    Args:
        country: As a calendar names it.
        key: Path of the calendar in its file, for messages.
    """
    known = _countries()
    if country.code not in known:
        near = get_close_matches(country.code.upper(), known, n=3, cutoff=0.6)
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        allowed = f"an ISO 3166 country code such as CN, US or DE{hint}, or a name in app.json's calendars"
        return [Problem("", f"{key}.country", shown(country.code), allowed)]
    entity = _bare(country.code)
    found = []
    subdivs = sorted({*entity.subdivisions, *entity.subdivisions_aliases})
    if country.subdiv is not None and country.subdiv not in subdivs:
        allowed = ", ".join(subdivs) or f"none: {country.code} has no subdivisions"
        found.append(Problem("", f"{key}.subdiv", shown(country.subdiv), allowed))
    if unknown := [
        name
        for name in country.categories or ()
        if name not in entity.supported_categories
    ]:
        found.append(
            Problem(
                "",
                f"{key}.categories",
                shown(unknown[0]),
                ", ".join(entity.supported_categories),
            )
        )
    if country.language and country.language not in entity.supported_languages:
        allowed = (
            ", ".join(entity.supported_languages)
            or f"none: {country.code} has one language only"
        )
        found.append(Problem("", f"{key}.language", shown(country.language), allowed))
    return found


def listing(country: Country, first: int, last: int) -> Listing:
    """What a country lists for the years `first` to `last`, both included.

    Years that the library does not cover have no holidays in it.
    """
    bare = _bare(country.code)
    language = country.language or (
        "en_US" if "en_US" in bare.supported_languages else None
    )
    # The neighbours too: a holiday of one year may be observed, or paid for, in another.
    years = range(max(first - 1, 1), min(last + 1, 9999) + 1)
    with LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        entity: Any = holidays.country_holidays(
            country.code,
            subdiv=country.subdiv,
            years=years,
            expand=False,
            language=language,
            categories=country.categories,
        )
        labels = [
            getattr(entity, label, None)
            for label in ("substituted_label", "observed_label")
        ]
        marks = [
            re.escape(str(entity.tr(label))).replace("%s", ".*")
            for label in labels
            if label
        ]
        weekends, odd = _weekends(entity, first, last)
    listed = {day: name for day, name in entity.items() if first <= day.year <= last}
    substitute = re.compile("|".join(marks) or r"(?!)")
    substituted = frozenset(
        day for day, name in listed.items() if substitute.fullmatch(name)
    )
    makeup = frozenset(
        day for day in entity.weekend_workdays if first <= day.year <= last
    )
    return Listing(listed, substituted, makeup, weekends, odd)


def _weekends(
    entity: Any, first: int, last: int
) -> tuple[dict[int, tuple[int, ...]], frozenset[date]]:
    """The weekend of each year, and, where it is not one weekend all year, its days one by one."""
    weekends: dict[int, tuple[int, ...]] = {}
    odd: set[date] = set()
    for year in range(first, last + 1):
        weeks = [_week(entity, date(year, month, 8)) for month in (1, 6, 12)]
        if weeks.count(weeks[0]) == len(weeks):
            weekends[year] = weeks[0]
            continue
        day = date(year, 1, 1)
        while day.year == year:
            if entity.is_weekend(day):
                odd.add(day)
            day += timedelta(1)
    return weekends, frozenset(odd)


def _week(entity: Any, day: date) -> tuple[int, ...]:
    days = [day + timedelta(n) for n in range(7)]
    return tuple(sorted(at.weekday() for at in days if entity.is_weekend(at)))


@lru_cache(maxsize=512)
def _bare(code: str) -> Any:
    """The library's object without any year, for what it says about itself."""
    return holidays.country_holidays(code, expand=False)


def codes() -> list[str]:
    """The codes of all countries that have a calendar."""
    return sorted(holidays.list_supported_countries(include_aliases=False))


@lru_cache(maxsize=1)
def _countries() -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = holidays.list_supported_countries(
        include_aliases=True
    )
    return found


def known_years(code: str) -> tuple[int, int]:
    """The first and the last year that the library has holidays for."""
    return int(_bare(code).start_year), int(_bare(code).end_year)


@lru_cache(maxsize=512)
def reliable_until(code: str) -> date:
    """The last day up to which a country's holidays are known rather than reckoned.

    Where make-up days, or other days, are decreed each year (CN: the State Council's notice; AR and TH: bridge days)
    that is the last year with such a decree; where the moon decides, the last year that is no estimate (1999 where all
    are); where the library reckons the moon exactly and waits for no announcement (HK, VN), the last of RECENT; else
    the end of the library's range.
    """
    entity = _bare(code)
    decreed, given = set(), set()
    for name in dir(entity):  # the library copies a country's tables onto its objects
        table = getattr(entity, name, None) if name.startswith("special_") else None
        if isinstance(table, dict):
            decreed |= {
                year for year, entries in table.items() if _substitutes(entries)
            }
            given |= set(table) if name == "special_public_holidays" else set()
    last = int(entity.end_year)
    if len(decreed.intersection(RECENT)) >= 5:
        return date(min(last, max(decreed)), 12, 31)
    if len(given.intersection(RECENT)) >= 6:
        last = min(last, max(given))
    label = getattr(entity, "estimated_label", None)
    if label:
        marked = _with_estimates(
            entity, list(range(max(entity.start_year, 2000), last + 1))
        )
        mark = marked.tr(label).replace("%s", "").strip(" ()（）")
        guessed = {day.year for day, name in marked.items() if mark in name}
        if guessed and max(guessed) >= RECENT.stop:
            # Past the last estimate the library knows nothing at all, which is no better.
            return date(
                max(
                    (year for year in range(2000, max(guessed)) if year not in guessed),
                    default=1999,
                ),
                12,
                31,
            )
    return date(_last_confirmed(code, last), 12, 31)


def _last_confirmed(code: str, last: int) -> int:
    """The year before the first one to come in which the library reckons a day without saying so in its name."""
    found: list[date] = []
    with LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        entity: Any = holidays.country_holidays(code)
        adds = getattr(entity, "_add_eastern_calendar_holiday", None)
        if adds is None:
            return last

        def add(name: str, reckoned: tuple[date | None, bool], **more: Any) -> Any:
            if reckoned[1] and reckoned[0] is not None:
                found.append(reckoned[0])
            return adds(name, reckoned, **more)

        entity._add_eastern_calendar_holiday = add
        for year in range(RECENT.stop, last + 1):
            entity.get(date(year, 1, 1))
            if found:
                return year - 1
    return last


def _with_estimates(entity: Any, years: list[int]) -> Any:
    """The library's object again, with its estimates marked as such where it can."""
    language = "en_US" if "en_US" in entity.supported_languages else None
    with LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return type(entity)(
                years=years,
                expand=False,
                language=language,
                islamic_show_estimated=True,
            )
        except TypeError:
            return type(entity)(years=years, expand=False, language=language)


def _substitutes(entries: Any) -> bool:
    if not entries or not isinstance(entries, tuple):
        return False
    items = entries if isinstance(entries[0], tuple) else (entries,)
    return any(
        len(item) >= 4 and all(isinstance(part, int) for part in item[:4])
        for item in items
    )


# What is there to choose

OFFICES = ("bank", "government", "optional")
"""Categories of days on which offices are closed; others are observed at work, or by a few."""


class LeftOut(NamedTuple):
    """Days of a year on which most are off, and which a calendar does not have for want of a choice.

    Args:
        choices: The subdivisions, or the one category, to choose.
        days: The days with their names.
    """

    choices: tuple[str, ...]
    days: Mapping[date, str]


@lru_cache(maxsize=256)
def left_out(code: str, category: bool, year: int) -> tuple[LeftOut, ...]:
    """What a country's calendar leaves out of a year where nothing is chosen.

    Args:
        code: The country.
        category: Whether categories can be chosen; else subdivisions.
        year: The year.

    Returns:
        For subdivisions one, with the days that half of them or more have; for categories one each.
    """
    bare = _bare(code)
    known = listing(Country(code), year, year).holidays
    if category:
        names = [
            name
            for name in OFFICES
            if name in bare.supported_categories and name != bare.default_category
        ]
        each = [
            (name, listing(Country(code, None, (name,)), year, year).holidays)
            for name in names
        ]
        return tuple(
            LeftOut((name,), more)
            for name, days in each
            if (
                more := {
                    day: text
                    for day, text in days.items()
                    if day not in known and not _off(bare, day)
                }
            )
        )
    subdivs = tuple(bare.subdivisions)
    count: dict[date, int] = {}
    called: dict[date, str] = {}
    for subdiv in subdivs:
        for day, text in listing(Country(code, subdiv), year, year).holidays.items():
            if day not in known and not _off(bare, day):
                count[day] = count.get(day, 0) + 1
                called.setdefault(day, text)
    common = {
        day: called[day] for day in sorted(count) if 2 * count[day] >= len(subdivs)
    }
    return (LeftOut(subdivs, common),) if common else ()


def _off(entity: Any, day: date) -> bool:
    return bool(entity.is_weekend(day))
