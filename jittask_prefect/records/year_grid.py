"""A year of a calendar: its days, as JSON values, and as a grid of months with a legend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import groupby

from rich.markup import escape

from jittask_prefect.schedule.calendar import Calendar
from jittask_prefect.schedule.instants import DAY

WEEKDAYS = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")
MARKS = {
    "holiday": ("[bold red]", "*[/]"),
    "makeup": ("[bold green]", "+[/]"),
    "weekend": ("[dim]", "·[/]"),
    "workday": ("", " "),
}
MONTH_WIDTH, GAP = 28, 4


@dataclass(frozen=True)
class CalendarDay:
    """One day of a calendar.

    Attributes:
        day: The day.
        kind: `holiday`, `makeup` (worked though a weekend or holiday), `weekend` or `workday`.
        name: The name of the holiday, or of the `open` day.
    """

    day: date
    kind: str
    name: str | None = None


def calendar_day(calendar: Calendar | None, day: date) -> CalendarDay:
    """A day as a calendar has it; without a calendar Saturday and Sunday are the weekend."""
    if calendar is None:
        return CalendarDay(day, "weekend" if day.weekday() >= 5 else "workday")
    if (name := calendar.holiday_name(day)) is not None:
        return CalendarDay(day, "holiday", name)
    if calendar.is_makeup(day):
        return CalendarDay(day, "makeup", calendar.makeup_name(day))
    return CalendarDay(day, "weekend" if calendar.is_weekend(day) else "workday")


def year(calendar: Calendar, number: int) -> list[CalendarDay]:
    """Every day of a year."""
    first = date(number, 1, 1)
    length = date(number, 12, 31).toordinal() - first.toordinal() + 1
    return [calendar_day(calendar, first + n * DAY) for n in range(length)]


def as_json(calendar: Calendar, days: list[CalendarDay]) -> dict[str, object]:
    """A year as JSON values: named holidays, make-up days, weekends, the last day with published holidays."""
    known = calendar.reliable_until
    return {
        "calendar": calendar.label,
        "block": calendar.block,
        "year": days[0].day.year,
        "holidays": [
            {"date": day.day.isoformat(), "name": day.name}
            for day in days
            if day.kind == "holiday"
        ],
        "makeUpDays": [d.day.isoformat() for d in days if d.kind == "makeup"],
        "weekends": [d.day.isoformat() for d in days if d.kind == "weekend"],
        "reliableUntil": known.isoformat() if known else None,
    }


def grid(days: list[CalendarDay], width: int) -> Iterator[str]:
    """The months of a year in rich's markup, Monday first, side by side as far as they fit.

    Args:
        days: Every day of the year.
        width: The characters of a line.
    """
    months = [_month(list(found)) for _, found in groupby(days, lambda d: d.day.month)]
    beside = min(4, max(1, (width + GAP) // (MONTH_WIDTH + GAP)))
    for start in range(0, 12, beside):
        for parts in zip(*months[start : start + beside], strict=True):
            yield (" " * GAP).join(parts)
        yield ""


def _month(days: list[CalendarDay]) -> list[str]:
    """Eight lines of one length: the month, the weekdays, and six weeks."""
    first = days[0].day
    cells = ["    "] * first.weekday()
    for day in days:
        before, after = MARKS[day.kind]
        cells.append(f"{before}{day.day.day:>3}{after}")
    cells += ["    "] * (42 - len(cells))
    title = f"{first:%B} {first.year}".center(MONTH_WIDTH)
    names = "".join(f"{name:>3} " for name in WEEKDAYS)
    weeks = ["".join(cells[start : start + 7]) for start in range(0, 42, 7)]
    return [f"[bold]{title}[/]", f"[dim]{names}[/]", *weeks]


def legend(days: list[CalendarDay]) -> Iterator[str]:
    """The meaning of the grid's marks, in rich's markup: each run of holidays, the make-up days, the sums."""
    holidays = [day for day in days if day.kind == "holiday"]
    for run in _runs(holidays):
        first, last = run[0].day, run[-1].day
        names = ", ".join(dict.fromkeys(str(day.name) for day in run))
        span = f"{first:%b} {first.day}"
        if first != last:
            span += f" – {last:%b} {last.day}"
        yield f"[bold red]*[/] {span:<16} {len(run):>2}  {escape(names)}"
    makeup = [day for day in days if day.kind == "makeup"]
    if makeup:
        yield f"[bold green]+[/] worked: {', '.join(map(_worked, makeup))}"
    yield f"holidays (*): {len(holidays)}, make-up days (+): {len(makeup)}, weekends (·)"


def _worked(day: CalendarDay) -> str:
    name = f" ({escape(day.name)})" if day.name else ""
    return f"{day.day:%a %b} {day.day.day}{name}"


def _runs(days: list[CalendarDay]) -> Iterator[list[CalendarDay]]:
    """The days in runs without a gap."""
    numbered = enumerate(day.day.toordinal() for day in days)
    for _, run in groupby(numbered, lambda pair: pair[1] - pair[0]):
        yield [days[number] for number, _ in run]
