"""The command for the days of a calendar: a year as a grid, and working days counted."""

from __future__ import annotations

from datetime import date
from typing import Annotated

import typer
from rich.markup import escape

from jittask_prefect.cli.options import Json, the_app
from jittask_prefect.cli.terminal import out, print_json, warn
from jittask_prefect.errors import ArgumentError
from jittask_prefect.schedule import clock
from jittask_prefect.schedule.calendar import Calendar

LISTED = 40
"""The holidays between two days that are printed: two years of most countries."""


def calendar(
    country: Annotated[
        str,
        typer.Argument(help="A country code (CN, DE-BY), or a calendar of the app."),
    ],
    year: Annotated[
        int | None, typer.Argument(min=1, max=9999, help="The year of the grid.")
    ] = None,
    add: Annotated[
        int | None,
        typer.Option(
            "--add",
            help="Instead of a year: count so many working days, negative ones back.",
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="The day from which to count, yyyy-MM-dd, not counted itself; today where absent.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print a year of a calendar as a grid: holidays, make-up days, weekends. Or count working days (--add)."""
    if (year is None) == (add is None):
        given = "nothing" if year is None else f"{year} and --add"
        allowed = f"a year (`jittask calendar {country} 2026`), or --add"
        raise ArgumentError(f"{given}; allowed: {allowed}")

    found = _named(country)
    if add is not None:
        _count(found, _first_day(start), add, as_json)
    elif start is not None:
        raise ArgumentError("--from; allowed: only with --add")
    elif year is not None:
        _grid(found, year, as_json)


def _named(country: str) -> Calendar:
    """The calendar of the app with that name, else a country's."""
    from jittask_prefect.task_svc.wiring import in_an_app

    found: Calendar | None
    if in_an_app() and country in the_app().calendars():
        found = the_app().calendar_named(country)
    else:
        found = Calendar.read(country)

    assert found is not None
    return found


def _grid(found: Calendar, year: int, as_json: bool) -> None:
    from jittask_prefect.records import year_grid

    days = year_grid.year(found, year)
    if as_json:
        print_json(year_grid.as_json(found, days))
        return

    rule = " (block: contiguous)" if found.block == "contiguous" else ""
    out.print(f"[bold]{escape(found.label)} {year}[/]{rule}")
    for line in (*year_grid.grid(days, out.width), *year_grid.legend(days)):
        out.print(line)

    for sentence in found.left_out(year):
        warn(sentence, "note")

    _warn_of_limits(found, date(year, 1, 1), date(year, 12, 31))


def _warn_of_limits(found: Calendar, first: date, last: date) -> None:
    """Warn where the calendar knows no holidays, or only a forecast, of some of the days between two."""
    known, years = found.reliable_until, found.known_years
    if known is None:
        return

    if first.year not in years or last.year not in years:
        span = f"from {years.start} to {years.stop - 1} only"
        warn(f"holidays of {found.label} are known {span}")
    elif last > known:
        warn(found.limit)


# Working days counted


def _first_day(text: str | None) -> date:
    """The day of `--from`; without one today, by the clocks of the app, or of this machine outside an app."""
    from jittask_prefect.task_svc.wiring import in_an_app

    if text is None:
        zone = the_app().zone if in_an_app() else None
        return clock.now().astimezone(zone).date()

    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentError(f"--from {text}; allowed: a day as yyyy-MM-dd") from None


def _count(found: Calendar, first: date, number: int, as_json: bool) -> None:
    """Print the day that lies so many working days from another, and the holidays on the way."""
    last = found.workdays.nth(first, number) if number else None
    if last is None:
        allowed = "1 for the next working day, -1 for the one before, within the years 1 to 9999"
        raise ArgumentError(f"--add {number}; allowed: {allowed}")

    earlier, later = min(first, last), max(first, last)
    holidays = _holidays(found, earlier, later)
    if as_json:
        days = [{"date": str(day), "name": name} for day, name in holidays]
        about = {"calendar": found.label, "from": str(first), "add": number}
        print_json({**about, "date": str(last), "holidays": days})
    else:
        side, size = ("after", number) if number > 0 else ("before", -number)
        count = f"{size} working day{'s' if size != 1 else ''}"
        out.print(
            f"{last:%a} {last} is {count} {side} {first:%a} {first} ({escape(found.label)})"
        )
        for day, name in holidays[:LISTED]:
            out.print(f"  {day:%a} {day}  {escape(name)}")
        if len(holidays) > LISTED:
            out.print(f"  … and {len(holidays) - LISTED} more (--json has all)")

    for sentence in found.left_out(first.year):
        warn(sentence, "note")
    _warn_of_limits(found, earlier, later)


def _holidays(found: Calendar, first: date, last: date) -> list[tuple[date, str]]:
    """The holidays between two days that are no weekend days, each with its name."""
    between = range(first.toordinal() + 1, last.toordinal())
    days = found.days
    listed = sorted(
        n for n in days.names if n in between and not days.weekends[days.at(n)]
    )
    return [(date.fromordinal(n), days.names[n] or "holiday") for n in listed]
