"""The commands that only read: preview, calendar, pending, row, records, overview, stats."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from datetime import UTC, date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from jittask_prefect.cli.calendar_days import calendar
from jittask_prefect.cli.options import (
    AnyTask,
    Json,
    RowKey,
    Task,
    end_of,
    instant_or_now,
    the_app,
    warn_of_pause,
)
from jittask_prefect.cli.terminal import (
    edge,
    err,
    out,
    print_json,
    print_line,
    print_lines,
    takes,
    warn,
)
from jittask_prefect.errors import ArgumentError, InvalidTime, JittaskError
from jittask_prefect.errors.printable import csv_cell, escape_controls
from jittask_prefect.schedule import clock

if TYPE_CHECKING:
    from jittask_prefect.records.record import Record

TEN_YEARS = timedelta(days=3653)
FIRST_YEAR, LAST_YEAR = 1970, 2199
"""The years whose days an overview shows."""
DueFrom = Annotated[
    str | None, typer.Option("--from", help="The earliest due time, included.")
]
DueTo = Annotated[
    str | None, typer.Option("--to", help="The end of the due times, excluded.")
]


def preview(
    task: Task,
    row: RowKey = None,
    after: Annotated[
        str | None,
        typer.Option(help="Start of the window, included; now where absent."),
    ] = None,
    before: Annotated[
        str | None,
        typer.Option(help="End of the window, excluded; ten years on where absent."),
    ] = None,
    count: Annotated[
        int, typer.Option(min=1, help="The number of tasks, at most.")
    ] = 20,
    as_json: Json = False,
    ics: Annotated[
        Path | None,
        typer.Option(
            "--ics", help="Write an iCalendar file for Outlook, Google and others."
        ),
    ] = None,
) -> None:
    """List a task's occurrences, each with its explanation."""
    from jittask_prefect.elements.types import DateFieldType
    from jittask_prefect.records import preview as lines
    from jittask_prefect.records import text
    from jittask_prefect.running.trial import load_row
    from jittask_prefect.schedule.instants import shifted
    from jittask_prefect.schedule.words import describe

    app = the_app()
    template = app.template(task)
    of = load_row(app, template, row)
    timer, title = template.row_timer(of), template.title
    zone, rule = timer.zone, describe(timer)
    start = instant_or_now(after, "--after")
    end = instant_or_now(before, "--before") if before else shifted(start, TEN_YEARS)
    shown = [f"{at.astimezone(zone):%Y-%m-%d %H:%M}" for at in (start, end)]
    window = f"from {shown[0]} to {shown[1]} ({zone.key})"
    if end <= start:
        allowed = "--before later than --after, or than now without --after"
        raise ArgumentError(f"a window {window}; allowed: {allowed}")
    explained = template.explained(start, end, of)
    found = list(lines.first_due(explained, count))
    if ics is not None:
        name = escape_controls(task if row is None else f"{task} {row}")
        _write(ics, lines.ics(found, name, escape_controls(title), rule, clock.now()))
    if as_json:
        print_json([item.as_dict() for item in found])
    elif ics is None:
        out.print(f"[bold]{escape(title)}[/] ({task}): {escape(rule)}")
        if found and isinstance(template, DateFieldType):
            origin = template.origin(template.times(of))
            out.print(f"From {escape(origin)}:")
        if found:
            print_lines(text.preview(lines.preview_lines(found)))
        else:
            out.print(f"nothing {window}")
    known = timer.calendar.reliable_until if timer.calendar else None
    if known is not None and any(item.nominal.date() > known for item in found):
        for warning in app.warnings(clock.now(), [template]):
            warn(warning)


def _write(file: Path, content: bytes) -> None:
    """Write an iCalendar to a file, or to standard output for the name `-`."""
    if str(file) == "-":
        sys.stdout.buffer.write(content)
        return
    try:
        file.write_bytes(content)
    except OSError as error:
        raise ArgumentError(f"{file} cannot be written: {error.strerror}") from None
    count = content.count(b"BEGIN:VEVENT")
    err.print(f"{escape(str(file))}: {count} event{'s' if count != 1 else ''}")


def pending(
    task: Task,
    until: Annotated[
        str | None,
        typer.Option(
            "--until",
            help="The last due time, included; the end of the horizon where absent.",
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="The number of tasks at most, the first.")
    ] = 200,
    as_json: Json = False,
) -> None:
    """List the pending tasks of a template up to a date; beyond the horizon as the rows are now. Needs no server."""
    from jittask_prefect.records import text, upcoming
    from jittask_prefect.records.record import PENDING_FIELDS, labelled
    from jittask_prefect.records.text_table import time_text
    from jittask_prefect.schedule.instants import TICK

    app, now = the_app(), clock.now()
    template = app.template(task)
    horizon = now + timedelta(hours=app.cfg.horizon)
    last = end_of(until, template) if until else horizon
    if last < now:
        raise ArgumentError(f"--until {until}; allowed: a time that is not past")
    found = upcoming.pending(template, last + TICK, now, limit + 1)
    tasks = labelled(app, found.records[:limit])
    if as_json:
        print_json([task.as_dict(PENDING_FIELDS) for task in tasks])
    else:
        print_lines(text.pending(tasks) if tasks else [])
        shown = time_text(last.astimezone(template.timer.zone))
        out.print(f"Pending until {shown}: {len(tasks) or 'none'}.")
    if tasks and all(record.task_id is None for record in tasks):
        command = f"`jittask records {task} --status pending` shows the ids"
        err.print(f"Prefect names a run when it makes it: {command}.")
    if len(found.records) > limit:
        err.print(f"[yellow]There are more than {limit}; --limit shows more.[/]")
    if not template.enable:
        disabled = f"{task} is disabled (`enable` is 0): it makes no tasks of its own."
        err.print(f"[yellow]{disabled}[/]")
    warn_of_pause(app)
    for problem in found.problems:
        warn(problem, "problem")


def row(
    model: Annotated[
        str, typer.Argument(help="The model's full name, e.g. models.Contract.")
    ],
    key: Annotated[
        str,
        typer.Argument(help="The row's key; a key of several columns as a JSON list."),
    ],
    count: Annotated[
        int, typer.Option(min=1, help="The number of future tasks of each template.")
    ] = 5,
    past: Annotated[
        int,
        typer.Option(
            min=0, help="The number of past tasks of each template, the newest."
        ),
    ] = 100,
    as_json: Json = False,
) -> None:
    """Show a row's tasks of each template, with the reasons of their due times, or why there are none. Needs no server.

    These are the newest tasks of the past and the next ones; --past and --count show more.
    """
    from jittask_prefect.records import text
    from jittask_prefect.records.row_history import row_history

    found = row_history(the_app(), model, key, clock.now(), count, past)
    if as_json:
        print_json(found.as_dict())
    else:
        print_lines(text.row(found, edge()))


def records(
    task: AnyTask = None,
    status: Annotated[
        str | None,
        typer.Option(help="pending, executing, overdue, completed, error or ended."),
    ] = None,
    start: DueFrom = None,
    stop: DueTo = None,
    row: Annotated[
        str | None, typer.Option("--row", help="The key of the records' row.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="The number at most.")] = 200,
    offset: Annotated[
        int, typer.Option(min=0, help="The number of newer records to leave out.")
    ] = 0,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    utc: Annotated[
        bool,
        typer.Option(
            "--utc",
            help="Print the table's times in UTC, with seconds; JSON and CSV keep each task's zone.",
        ),
    ] = False,
    open_: Annotated[
        bool,
        typer.Option(
            "--open", help="Open the records in Prefect's UI, and print the link."
        ),
    ] = False,
) -> None:
    """List execution records, newest due time first.

    With --to beyond the horizon, pending tasks there are planned from the rows as they are now.
    """
    from jittask_prefect.records import listing, text
    from jittask_prefect.server.selection import connect
    from jittask_prefect.task_svc.arguments import instant

    app, now = the_app(), clock.now()
    api = connect(app.path)
    owner = app.template(task) if task else app
    begin, end = (instant(at, owner) if at else None for at in (start, stop))
    wanted = listing.RecordFilter(
        name=task, row=row, status=status, start=begin, end=end
    )
    if open_:
        open_link(listing.link(app, api, now, wanted))
        return
    found = listing.records(app, api, now, wanted, limit=limit, offset=offset)
    if as_json:
        print_json([record.as_dict(ui_url=api.ui_url) for record in found])
    elif as_csv:
        print_csv(found, api.ui_url)
    else:
        own_zone = owner.zone if owner is app else owner.timer.zone
        zone = UTC if utc else own_zone
        lines = text.records(found, zone, now, edge(), full=utc)
        print_lines(lines if found else ["no records"])
    warn_of_pause(app)
    if len(found) == limit:
        more = f"--offset {offset + limit} shows the next ones"
        err.print(f"[dim]These are {limit}; {more}.[/]")


def open_link(link: str) -> None:
    """Print a link, and open it in a browser where there is one."""
    import webbrowser

    print_line(link)
    if not webbrowser.open(link):
        err.print("[yellow]No browser could be started.[/]")


def print_csv(found: Sequence[Record], ui_url: str) -> None:
    """Print records as CSV with a line of names; a result as JSON; a text never as a spreadsheet's formula."""
    from jittask_prefect.records.record import FIELDS
    from jittask_prefect.records.text_table import result_json

    more = [name for name in ("label", "level") if any(getattr(r, name) for r in found)]
    columns = [*FIELDS, *more]
    lines = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    lines.writeheader()
    for record in found:
        values = record.as_dict(ui_url=ui_url)
        values["result"] = result_json(record.result)
        lines.writerow({name: csv_cell(value) for name, value in values.items()})


def overview(
    day: Annotated[
        str | None,
        typer.Option(
            "--day",
            help="The day to show hour by hour, yyyy-MM-dd; tomorrow where absent.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the whole app: what is wrong, every task, the last 24 hours and the next, a day hour by hour."""
    from jittask_prefect.records.overview import overview as made
    from jittask_prefect.records.overview_facts import facts
    from jittask_prefect.records.overview_prefect import prefect_facts, without_prefect
    from jittask_prefect.records.overview_text import lines
    from jittask_prefect.server.selection import connect

    app, now = the_app(), clock.now()
    shown = _day_of(day) if day is not None else None
    try:
        prefect = prefect_facts(app, connect(app.path), now)
    except JittaskError as error:
        prefect = without_prefect(str(error))
    page = made(facts(app, prefect, now, shown))
    if as_json:
        print_json(page.as_dict())
        return
    plain = not takes("▁…", sys.stdout.encoding)
    print_lines(lines(page, out.width, plain=plain))


def _day_of(text: str) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise InvalidTime(f"--day {text!r}; allowed: a date, yyyy-MM-dd") from None
    if not FIRST_YEAR <= found.year <= LAST_YEAR:
        years = f"a day of the years {FIRST_YEAR} to {LAST_YEAR}"
        raise InvalidTime(f"--day {text!r}; allowed: {years}")
    return found


def stats(
    task: AnyTask = None,
    start: Annotated[
        str | None,
        typer.Option("--from", help="The earliest due time; 30 days where absent."),
    ] = None,
    stop: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="The end of the due times, excluded; the end of today where absent.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Count tasks by status and day, with durations, lateness and the reasons of failures. Needs no server.

    Pending runs of a schedule are known to Prefect alone: `jittask records TASK --status pending`.
    """
    from jittask_prefect.records import statistics, text
    from jittask_prefect.task_svc.arguments import instant

    app, now, found = the_app(), clock.now(), []
    for template in [app.template(task)] if task else app.templates():
        begin, end = (instant(at, template) if at else None for at in (start, stop))
        borders = statistics.day_borders(template, now, begin, end)
        found.append(statistics.of_template(template, borders, now))
    if as_json:
        print_json([of.as_dict() for of in found])
    elif task:
        print_lines(text.template_statistics(found[0]))
    else:
        print_lines(text.statistics(found))


QUERIES = (preview, calendar, pending, row, records, overview, stats)
"""In the order of `jittask --help`."""
