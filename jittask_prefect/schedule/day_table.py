"""The kind of each day of many years: a byte for each day, made once and shared by threads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

from jittask_prefect.schedule.country import Listing
from jittask_prefect.schedule.days import LAST_ORDINAL

EDGE = 4 * 7
"""Ordinary days at both ends of a table: the search for a working day ends there at the latest."""
SATURDAY_AND_SUNDAY = (5, 6)
CLOSED = "closed"
NO_COUNTRY = Listing({}, frozenset(), frozenset(), {}, frozenset())
Names = Mapping[date, str]


class Sources(NamedTuple):
    """Where the days of a calendar come from; of two that name a day otherwise, the later here decides.

    Attributes:
        country: The country's own days.
        files: The holidays of the company's files, each with its name.
        closed: Days on which the house is closed, each with its name or an empty text.
        opened: Days on which the house works, likewise; none of them is closed.
    """

    country: Listing
    files: Names
    closed: Names
    opened: Names


@dataclass(frozen=True, slots=True)
class DayTable:
    """The kind of each day from `first` (an ordinal) on.

    Args:
        rests: 1 on a day that is no working day.
        weekends: 1 on a weekend day that is not worked.
        makeup: 1 on a day that is worked although it is a weekend day or a holiday by itself.
        names: The holidays, by ordinal, each with its name.
        opened: The names of `open` days, by ordinal.
    """

    first: int
    rests: bytes
    weekends: bytes
    makeup: bytes
    names: Mapping[int, str] = field(repr=False)
    opened: Mapping[int, str] = field(repr=False)

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


def table(sources: Sources, contiguous: bool, years: range) -> DayTable:
    """Make the table of some years.

    Args:
        sources: Where the days come from, for these years.
        contiguous: Whether a run of days off around a listed holiday is a holiday as a whole.
        years: The years.
    """
    known = sources.country
    first = max(1, date(years.start, 1, 1).toordinal() - EDGE)
    last = min(LAST_ORDINAL, date(years.stop - 1, 12, 31).toordinal() + EDGE)
    weekends = _weekends(known, first, last)
    files, closed, opened, holidays = (
        {day.toordinal(): name for day, name in days.items()}
        for days in (*sources[1:], known.holidays)
    )
    # The most official name of a day is shown.
    listed = {ordinal: name or CLOSED for ordinal, name in closed.items()}
    listed |= files | holidays
    worked = {day.toordinal() for day in known.makeup} - closed.keys() - files.keys()
    worked = {ordinal for ordinal in worked if weekends[ordinal - first]}
    rests, makeup = bytearray(weekends), bytearray(len(weekends))
    for ordinal in listed:
        rests[ordinal - first] = 1

    for ordinal in worked | opened.keys():
        place = ordinal - first
        rests[place] = weekends[place] = 0
        makeup[place] = 1

    off = {at: name for at, name in sorted(listed.items()) if rests[at - first]}
    names = off
    if contiguous:
        substituted = {day.toordinal() for day in known.substituted}
        names = _blocks(off, off.keys() - substituted, bytes(rests), first)

    return DayTable(first, bytes(rests), bytes(weekends), bytes(makeup), names, opened)


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
