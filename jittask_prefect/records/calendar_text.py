"""What commands show of time: a task's occurrences, as a table or an iCalendar, and a calendar's year as a grid."""

from __future__ import annotations

import hashlib
import itertools
from calendar import monthrange
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby

from icalendar import Calendar as ICalendar
from icalendar import Event
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from jittask_prefect.schedule.calendar import Calendar
from jittask_prefect.schedule.explanation import Explained

MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
WEEK = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")
SHOWN = timedelta(minutes=15)
"""How long an occurrence is in an iCalendar: what has no length is not to be seen in Outlook's day."""
MARKS = {
    "holiday": ("*", "bold red"),
    "makeup": ("+", "bold green"),
    "weekend": ("·", "dim"),
    "workday": (" ", ""),
}
CELL, GAP = 4, 4


@dataclass(frozen=True)
class Line:
    """One line of a preview: an occurrence, or a run of those that one holiday drops."""

    first: Explained
    last: Explained
    count: int = 1

    def cells(self) -> tuple[str, ...]:
        """Due, nominal, because, note."""
        item = self.first
        due = f"{item.due:%a %Y-%m-%d %H:%M %Z}" if item.due else "–"
        nominal = (
            "" if item.due == item.nominal else f"{item.nominal:%a %Y-%m-%d %H:%M}"
        )
        if self.count > 1:
            nominal += f" … {self.last.nominal:%m-%d %H:%M} ({self.count})"
        return due, nominal, item.because or "", item.note


def take(found: Iterable[Explained], count: int) -> Iterator[Explained]:
    """What there is up to the last of the first so many that take place."""
    for item in found:
        yield item
        count -= item.due is not None
        if count <= 0:
            return


def lines(found: Iterable[Explained]) -> Iterator[Line]:
    """The lines of a preview: what one holiday drops for one reason is one line."""

    def alike(item: Explained) -> object:
        return (
            (item.because, item.note)
            if item.due is None and item.moved_from
            else next(apart)
        )

    apart = itertools.count()
    for _, run in groupby(found, alike):
        items = list(run)
        yield Line(items[0], items[-1], len(items))


def preview(found: Iterable[Line]) -> Table:
    """A table of occurrences, each with how it came to be."""
    table = Table(box=None)
    for name in ("due", "nominal", "because", "note"):
        table.add_column(name, overflow="fold")  # a date that is cut is none
    for line in found:
        table.add_row(*map(escape, line.cells()))
    return table


def ics(
    found: Iterable[Explained], name: str, title: str, text: str, now: datetime
) -> bytes:
    """An iCalendar (RFC 5545) of what takes place.

    Args:
        found: Occurrences; those that do not take place are left out.
        name: The task's full name, with the row's key where there is one; an event keeps its UID from file to file.
        title: The task's title.
        text: The rule in words.
        now: The instant that the file is made at; aware.

    Returns:
        The file's content. Times are in UTC, which every program reads without a zone table.
    """
    made = ICalendar()
    made.add("prodid", "-//jittask-prefect//preview//EN")
    made.add("version", "2.0")
    made.add("method", "PUBLISH")
    made.add("x-wr-calname", title)
    for item in found:
        if item.due is None:
            continue
        begins, nominal = item.due.astimezone(UTC), item.nominal.astimezone(UTC)
        event = Event()
        identity = hashlib.sha256(f"{name} {nominal.isoformat()}".encode()).hexdigest()[
            :32
        ]
        event.add("uid", f"{identity}@jittask-prefect")
        event.add("dtstamp", now.astimezone(UTC).replace(microsecond=0))
        event.add("dtstart", begins)
        event.add("dtend", begins + SHOWN)
        event.add("summary", title)
        event.add("transp", "TRANSPARENT")  # a task keeps nobody busy
        event.add(
            "description",
            "\n".join(part for part in (text, item.origin, _story(item)) if part),
        )
        made.add_component(event)
    return bytes(made.to_ical())


def _story(item: Explained) -> str:
    assert item.due is not None
    parts = [f"Due {item.due:%Y-%m-%d %H:%M} ({item.zone})"]
    if item.because:
        parts.append(
            f"moved from {item.nominal:%Y-%m-%d %H:%M} because of {item.because}"
        )
    return "; ".join(part for part in (*parts, item.note) if part) + "."


# A calendar's year


@dataclass(frozen=True)
class Day:
    """One day of a year: `holiday`, `makeup` (worked though a weekend or holiday), `weekend` or `workday`."""

    day: date
    kind: str
    name: str | None = None


def year(calendar: Calendar, number: int) -> list[Day]:
    """Every day of a year, as a calendar has it."""
    first = date(number, 1, 1).toordinal()
    return [
        _day(calendar, date.fromordinal(at))
        for at in range(first, date(number, 12, 31).toordinal() + 1)
    ]


def _day(calendar: Calendar, day: date) -> Day:
    if (name := calendar.holiday_name(day)) is not None:
        return Day(day, "holiday", name)
    if calendar.is_makeup(day):
        return Day(day, "makeup")
    return Day(day, "weekend" if calendar.is_weekend(day) else "workday")


def as_json(calendar: Calendar, days: list[Day]) -> dict[str, object]:
    """A year as JSON values: its holidays with their names, its make-up days, the last day that is published."""
    known = calendar.reliable_until
    return {
        "calendar": calendar.label,
        "block": calendar.block,
        "year": days[0].day.year,
        "holidays": [
            {"date": d.day.isoformat(), "name": d.name}
            for d in days
            if d.kind == "holiday"
        ],
        "makeUpDays": [d.day.isoformat() for d in days if d.kind == "makeup"],
        "weekends": [d.day.isoformat() for d in days if d.kind == "weekend"],
        "reliableUntil": known.isoformat() if known else None,
    }


def grid(days: list[Day], width: int) -> Iterator[Text]:
    """The months of a year, Monday first, as many beside each other as fit: the marks are those of `MARKS`.

    Args:
        days: Every day of the year.
        width: How many characters a line may have.
    """
    months = [_month(days, month) for month in range(1, 13)]
    beside = next(
        n for n in (4, 3, 2, 1) if n == 1 or n * (len(WEEK) * CELL + GAP) - GAP <= width
    )
    for start in range(0, 12, beside):
        for parts in zip(*months[start : start + beside], strict=True):
            yield Text(" " * GAP).join(parts)
        yield Text("")


def _month(days: list[Day], month: int) -> list[Text]:
    """Eight lines of one length: the month, the weekdays, and six weeks."""
    number = days[0].day.year
    blank, length = monthrange(number, month)
    first = date(number, month, 1).timetuple().tm_yday - 1
    cells = [Text(" " * CELL)] * blank
    for day in days[first : first + length]:
        mark, style = MARKS[day.kind]
        cells.append(Text(f"{day.day.day:>{CELL - 1}}{mark}", style=style))
    cells += [Text(" " * CELL)] * (42 - len(cells))
    wide = len(WEEK) * CELL
    head = [Text(f"{MONTHS[month - 1]} {number}".center(wide), style="bold")]
    head.append(Text("".join(f"{name:>{CELL - 1}} " for name in WEEK), style="dim"))
    return head + [Text("").join(cells[start : start + 7]) for start in range(0, 42, 7)]


def legend(days: list[Day]) -> Iterator[str]:
    """What the grid's marks stand for, in sentences: each run of holidays, the make-up days, how many of all."""
    holidays = [day for day in days if day.kind == "holiday"]
    for run in _runs(holidays):
        first, last = run[0].day, run[-1].day
        names = ", ".join(dict.fromkeys(str(day.name) for day in run))
        span = f"{first:%b} {first.day}" + (
            "" if first == last else f" – {last:%b} {last.day}"
        )
        yield f"[bold red]*[/] {span:<16} {len(run):>2}  {escape(names)}"
    if makeup := [day.day for day in days if day.kind == "makeup"]:
        yield f"[bold green]+[/] worked: {', '.join(f'{day:%a %b} {day.day}' for day in makeup)}"
    yield f"holidays (*): {len(holidays)}, make-up days (+): {len(makeup)}, weekends (·)"


def _runs(days: list[Day]) -> Iterator[list[Day]]:
    for _, run in groupby(
        enumerate(days), lambda pair: pair[1].day.toordinal() - pair[0]
    ):
        yield [day for _, day in run]
