"""Holidays from files of the company: iCalendar (RFC 5545) and CSV. A file is read whole, or refused in a sentence."""

from __future__ import annotations

import csv
import io
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from jittask_prefect.errors import ConfigError, Problem, invalid
from jittask_prefect.errors.printable import escape_controls
from jittask_prefect.schedule.calendar import FIRST_YEAR, LAST_YEAR
from jittask_prefect.schedule.days import each_day
from jittask_prefect.schedule.instants import DAY, midnight
from jittask_prefect.schedule.own_days import (
    MAX_NAME,
    MAX_OWN_DAYS,
    MAX_RANGE,
    ListedDays,
    read_range,
)
from jittask_prefect.schedule.rrule import CLOCK_PARTS, RRule
from jittask_prefect.validation import shown

MAX_BYTES = 1_000_000
"""Of a file; icalendar reads a megabyte in about three seconds."""
MAX_EVENTS = 2000
READ: set[str] = set()
"""Every file that this process was to read, whether the file was there or not."""
UNNAMED = "holiday"
EVENT = "an all-day event, such as DTSTART;VALUE=DATE:20261224"
WHOLE = "an iCalendar file (RFC 5545) from BEGIN:VCALENDAR to END:VCALENDAR"
HEADER = (
    'a first line with the column date, and name where days have names: "date,name"'
)
END_OF_YEARS = midnight(date(LAST_YEAR + 1, 1, 1))


def read(folder: Path, files: Mapping[str, str], key: str) -> ListedDays | None:
    """The days of a calendar's files.

    Args:
        folder: The folder that relative paths begin in.
        files: By `ics` or `csv` the path of the file.
        key: Path of the calendar in the app's configuration, for messages.

    Returns:
        The days; None without files.

    Raises:
        ConfigError: A file that is missing, cannot be read, or holds anything but whole days.
    """
    if not files:
        return None

    found = _Found()
    for kind, path in files.items():
        refuse = _Refusal(path)
        text = _text(folder, path, f"{key}.{kind}", refuse)
        before = len(found.names)
        (_read_ics if kind == "ics" else _read_csv)(text, found, refuse)
        if len(found.names) == before:
            raise refuse("", "no day", "at least one day from 1950 to 2100")

    return ListedDays(found.names, found.until)


@dataclass(frozen=True)
class _Refusal:
    """Makes the error of a mistake in a file."""

    file: str

    def __call__(self, place: str, found: str, allowed: str) -> ConfigError:
        return ConfigError(Problem(self.file, place, found, allowed))


@dataclass
class _Found:
    """The days of all files so far, and the last of those that come once."""

    names: dict[date, str] = field(default_factory=dict)
    until: date | None = None
    count: int = 0

    def add(self, days: Iterator[date], name: str, once: bool) -> None:
        """Add days under a name; of several names of a day the first stays.

        Raises:
            ValueError: Too many days; the message says how many are allowed.
        """
        for day in days:
            if FIRST_YEAR <= day.year <= LAST_YEAR:
                self.names.setdefault(day, name or UNNAMED)
            if once:
                self.until = max(self.until or day, day)
            self.count += 1
            if self.count > MAX_OWN_DAYS:
                raise ValueError(f"at most {MAX_OWN_DAYS} days in all")


def _text(folder: Path, path: str, key: str, refuse: _Refusal) -> str:
    try:
        file = (folder / path).absolute()
        if "\0" not in path:
            READ.add(str(file))

        found = os.stat(file)
        if not stat.S_ISREG(found.st_mode):
            allowed = "a file"
            raise invalid(key, f"{shown(path)}, which is none", allowed)

        if found.st_size > MAX_BYTES:
            allowed = f"a file of at most {MAX_BYTES:,} bytes"
            raise invalid(key, f"{shown(path)} of {found.st_size:,} bytes", allowed)

        return file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        allowed = f"the path of a file, which begins in {folder}"
        raise invalid(key, f"{shown(path)}, which is not there", allowed) from None
    except UnicodeDecodeError as error:
        found_bytes = f"a byte that is no UTF-8, at {error.start:,}"
        raise refuse("", found_bytes, "a text in UTF-8") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        allowed = "the path of a file that can be read"
        raise invalid(
            key, f"{shown(path)}, which cannot be read: {why}", allowed
        ) from None


def _named(text: object) -> str:
    """A name from a file, on a single line and of bounded length."""
    name = " ".join(escape_controls(str(text or "")).split())
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"


# CSV


def _read_csv(text: str, found: _Found, refuse: _Refusal) -> None:
    """Lines of a day or range and a name; the columns are found by the first line, other columns are left out."""
    first_line = next(iter(text.splitlines()), "")
    delimiter = max(",;\t", key=first_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [cell.strip().casefold() for cell in next(reader, [])]
        if "date" not in header or len(set(header)) < len(header):
            raise refuse("line 1", shown(first_line.strip()), HEADER)

        for row in reader:
            if any(cell.strip() for cell in row):
                place = f"line {reader.line_num}"
                if len(row) != len(header):
                    allowed = f"{len(header)} cells, as in the first line"
                    raise refuse(place, f"{len(row)} cells", allowed)

                _read_row(dict(zip(header, row, strict=True)), found, refuse, place)
    except csv.Error as error:
        allowed = "cells as a spreadsheet writes them"
        raise refuse(f"line {reader.line_num}", str(error), allowed) from None


def _read_row(row: dict[str, str], found: _Found, refuse: _Refusal, place: str) -> None:
    text = row["date"].strip()
    try:
        own = read_range(text)
        days = own.in_years(FIRST_YEAR, LAST_YEAR)
        found.add(days, _named(row.get("name")), not own.yearly)
    except ValueError as error:
        allowed = str(error).removesuffix(f", not {shown(text)}")
        raise refuse(place, shown(text), allowed) from None


# iCalendar


def _read_ics(text: str, found: _Found, refuse: _Refusal) -> None:
    events = _events(text, refuse)
    moved = _moved(events)
    for event in events:
        name = _named(event.get("SUMMARY"))
        place = f"the event {shown(name)}" if name else "an event without SUMMARY"
        try:
            _read_event(event, name, moved, found)
        except _Misfit as error:
            raise refuse(place, error.found, error.allowed) from None
        except OverflowError:
            raise refuse(place, "days beyond the calendar", EVENT) from None
        except ValueError as error:
            raise refuse(place, "its days", str(error)) from None


def _events(text: str, refuse: _Refusal) -> list[Any]:
    """The events of all calendars of a file."""
    from icalendar import Calendar

    if not text.rstrip().upper().endswith("END:VCALENDAR"):
        end = shown(text.strip()[-40:])
        raise refuse("", f"{end} at its end" if end != '""' else "nothing", WHOLE)

    try:
        calendars: list[Any] = list(Calendar.from_ical(text, multiple=True))
    except Exception as error:  # noqa: BLE001  a library's reader, given whatever the file holds
        raise refuse("", shown(str(error)), WHOLE) from None

    parts = [part for calendar in calendars for part in calendar.subcomponents]
    events = [part for part in parts if part.name == "VEVENT"]
    if len(events) > MAX_EVENTS:
        allowed = f"at most {MAX_EVENTS:,} of them"
        raise refuse("", f"{len(events):,} events", allowed)

    return events


def _moved(events: list[Any]) -> set[tuple[str, date]]:
    """Single occurrences of repeated events that have an event of their own: its UID, and the day it was to have."""
    found = set()
    for event in events:
        day = getattr(event.get("RECURRENCE-ID"), "dt", None)
        if isinstance(day, date):
            found.add((str(event.get("UID")), _day(day)))

    return found


@dataclass
class _Misfit(Exception):
    """A part of an event that cannot stand for holidays."""

    found: str
    allowed: str


def _read_event(
    event: Any, name: str, moved: set[tuple[str, date]], found: _Found
) -> None:
    if event.errors:
        part, why = event.errors[0]
        raise _Misfit(f"{part}: {why}", "values as RFC 5545 writes them")

    first = _whole_day(_single(event, "DTSTART"), "DTSTART")
    last = _last_day(event, first)
    rule = _single(event, "RRULE")
    starts = {first, *_listed(event, "RDATE")}
    without = set(_listed(event, "EXDATE"))
    endless = False
    if rule is not None:
        ruled, endless = _repeated(rule, first)
        starts |= ruled

    if "RECURRENCE-ID" not in event:
        uid = str(event.get("UID"))
        without |= {day for owner, day in moved if owner == uid}
    if str(event.get("STATUS", "")).upper() == "CANCELLED":
        return

    for start in sorted(starts - without):
        days = each_day(start, min(start + (last - first), date.max))
        found.add(days, name, not endless)


def _single(event: Any, name: str) -> Any:
    """A part of an event; None where the event lacks the part."""
    value = event.get(name)
    if isinstance(value, list):
        raise _Misfit(f"{len(value)} parts {name}", f"one {name}")
    return value


def _whole_day(value: Any, name: str) -> date:
    at = getattr(value, "dt", None)
    if isinstance(at, date) and not isinstance(at, datetime):
        return at

    told = (
        "nothing"
        if at is None
        else f"{at:%Y-%m-%d %H:%M}"
        if isinstance(at, datetime)
        else str(at)
    )
    raise _Misfit(f"{name} {told}", EVENT)


def _last_day(event: Any, first: date) -> date:
    """The last day of an event: the day before DTEND, which RFC 5545 excludes."""
    end, duration = _single(event, "DTEND"), _single(event, "DURATION")
    last = first
    if end is not None:
        over = _whole_day(end, "DTEND")
        if over < first:
            raise _Misfit(f"DTEND {over} before DTSTART {first}", "a day after DTSTART")
        last = max(first, over - DAY)
    elif duration is not None:
        length = duration.dt
        if length % DAY or length < DAY:
            raise _Misfit(f"DURATION {length}", "whole days")
        if length.days > MAX_RANGE:
            raise _Misfit(f"DURATION {length}", f"at most {MAX_RANGE} days")
        last = first + (length - DAY)

    if (last - first).days >= MAX_RANGE:
        raise _Misfit(f"{first} to {last}", f"at most {MAX_RANGE} days")
    return last


def _listed(event: Any, name: str) -> Iterator[date]:
    """The days of RDATE or EXDATE."""
    value = event.get(name)
    for each in value if isinstance(value, list) else [value]:
        for item in getattr(each, "dts", ()):
            yield _whole_day(item, name)


def _repeated(rule: Any, first: date) -> tuple[set[date], bool]:
    """The days of a RRULE from the first day on, up to LAST_YEAR; and whether the rule has no end."""
    text = rule.to_ical().decode()
    allowed = "RRULE:FREQ=YEARLY, with an end or without"
    parts = dict(part.partition("=")[::2] for part in text.upper().split(";"))
    count, until = parts.pop("COUNT", None), parts.pop("UNTIL", None)
    if parts.get("FREQ") != "YEARLY":
        raise _Misfit(f"RRULE:{text}", allowed)

    try:
        read = RRule.read(";".join(f"{name}={value}" for name, value in parts.items()))
    except ValueError as error:
        raise _Misfit(f"RRULE:{text}", str(error)) from None

    if any(read.part(name) for name in CLOCK_PARTS):
        raise _Misfit(f"RRULE:{text}", f"{allowed}, without {', '.join(CLOCK_PARTS)}")

    last = END_OF_YEARS
    if until is not None:
        last = min(last, midnight(min(_day(rule["UNTIL"][0]), last.date())) + DAY)

    start = midnight(first)
    times = (at for at in read.at(start).wall_times(start, last) if at != start)
    most = MAX_OWN_DAYS + 1 if count is None else int(count) - 1  # DTSTART is the first
    days = {at.date() for at in islice(times, min(max(most, 0), MAX_OWN_DAYS + 1))}
    return days, count is None and until is None


def _day(at: date) -> date:
    return at.date() if isinstance(at, datetime) else at
