"""The commands that only look: preview, calendar, pending, row, records, stats."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from jittask_prefect.cli.common import (
    Json,
    an_instant,
    err,
    last_meant,
    out,
    print_json,
    print_lines,
    say,
    the_app,
)
from jittask_prefect.errors import ArgumentError
from jittask_prefect.errors.printable import csv_cell, escape_controls
from jittask_prefect.schedule import clock


def preview(
    task: str,
    row: Annotated[
        str | None, typer.Option("--row", help="The row's key, for a date-field task.")
    ] = None,
    after: Annotated[
        str | None,
        typer.Option(help="Start of the window, included; now where absent."),
    ] = None,
    before: Annotated[
        str | None,
        typer.Option(help="End of the window, excluded; ten years on where absent."),
    ] = None,
    count: Annotated[
        int, typer.Option(min=1, help="How many that take place, at most.")
    ] = 20,
    as_json: Json = False,
    ics: Annotated[
        Path | None,
        typer.Option(
            "--ics", help="Write an iCalendar of them, for Outlook, Google and others."
        ),
    ] = None,
) -> None:
    """List a task's occurrences, and how each came to be."""
    from jittask_prefect.records import calendar_text
    from jittask_prefect.running.trial import load_row
    from jittask_prefect.schedule.instants import shifted
    from jittask_prefect.schedule.words import describe

    app = the_app()
    template = app.template(task)
    start = an_instant(after, name="--after")
    stop = (
        an_instant(before, name="--before")
        if before
        else shifted(start, timedelta(days=3653))
    )
    zone = template.timer.zone
    window = f"from {start.astimezone(zone):%Y-%m-%d %H:%M} to {stop.astimezone(zone):%Y-%m-%d %H:%M} ({zone.key})"
    if stop <= start:
        raise ArgumentError(
            f"a window {window}; allowed: --before later than --after, or than now without it"
        )
    found = list(
        calendar_text.take(
            template.explained(start, stop, load_row(app, template, row)), count
        )
    )
    if ics is not None:
        name = task if row is None else f"{task} {row}"
        _write(
            ics,
            calendar_text.ics(
                found,
                escape_controls(name),
                escape_controls(template.title),
                describe(template.timer),
                clock.now(),
            ),
        )
    if as_json:
        print_json([e.as_dict() for e in found])
    if ics is None and not as_json:
        out.print(
            f"[bold]{escape(template.title)}[/] ({task}): {escape(describe(template.timer))}"
        )
        if found and found[0].origin:
            out.print(f"From {escape(found[0].origin)}:")
        out.print(
            calendar_text.preview(calendar_text.lines(found))
            if found
            else f"nothing {window}"
        )
    known = template.timer.calendar.reliable_until if template.timer.calendar else None
    if known is not None and any(item.nominal.date() > known for item in found):
        for warning in app.warnings(clock.now(), [template]):
            err.print(f"[yellow]warning:[/] {escape(warning)}")


def _write(file: Path, content: bytes) -> None:
    """Write a file, or to standard output where it is named `-`."""
    if str(file) == "-":
        sys.stdout.buffer.write(content)
        return
    try:
        file.write_bytes(content)
    except OSError as error:
        raise ArgumentError(f"{file} cannot be written: {error.strerror}") from None
    count = content.count(b"BEGIN:VEVENT")
    err.print(f"{escape(str(file))}: {count} event{'s' if count != 1 else ''}")


def calendar(
    country: Annotated[
        str,
        typer.Argument(help="A country code (CN, DE-BY), or a calendar of app.json."),
    ],
    year: Annotated[int, typer.Argument(min=1, max=9999)],
    as_json: Json = False,
) -> None:
    """Print a year of a calendar as a grid: holidays, make-up days, weekends."""
    from jittask_prefect.records import calendar_text

    found = _calendar(country)
    days = calendar_text.year(found, year)
    if as_json:
        print_json(calendar_text.as_json(found, days))
        return
    rule = " (block: contiguous)" if found.block == "contiguous" else ""
    out.print(f"[bold]{escape(found.label)} {year}[/]{rule}")
    for line in calendar_text.grid(days, out.width):
        out.print(line)
    for sentence in calendar_text.legend(days):
        out.print(sentence)
    for sentence in found.left_out(year):
        err.print(f"[yellow]note:[/] {escape(sentence)}")
    known = found.reliable_until
    if known is not None and year not in found.known_years:
        span = f"{found.known_years.start} to {found.known_years.stop - 1}"
        err.print(
            f"[yellow]warning:[/] holidays of {escape(found.label)} are known from {span} only"
        )
    elif known is not None and year > known.year:
        said = f"holidays of {found.label} are published until {known}; what lies beyond is a forecast"
        err.print(f"[yellow]warning:[/] {escape(said)}")


def _calendar(name: str) -> Any:
    """A calendar of the app, where there is one, or of a country; `DE-BY` is a subdivision."""
    from jittask_prefect.schedule.calendar import Calendar
    from jittask_prefect.task_svc.wiring import in_an_app

    if in_an_app() and name in the_app().calendars():
        return the_app().calendar(name)
    return Calendar.read(name)


def pending(
    task: str,
    until: Annotated[
        str | None,
        typer.Option(
            "--until", help="Up to then, included; the end of the horizon where absent."
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="How many at most, the first ones.")
    ] = 200,
    as_json: Json = False,
) -> None:
    """List what is pending of a task up to a date; beyond the horizon as the rows are now. Needs no server."""
    from jittask_prefect.records import plain_text, upcoming

    app, now = the_app(), clock.now()
    template = app.template(task)
    last = (
        last_meant(until, template) if until else now + timedelta(hours=app.cfg.horizon)
    )
    if last < now:
        raise ArgumentError(f"--until {until}; allowed: a time that is not past")
    found = upcoming.pending(app, template, last + upcoming.TICK, now, limit + 1)
    tasks = found.found()[:limit]
    if as_json:
        print_json([item.as_dict(now) for item in tasks])
    else:
        print_lines(plain_text.pending(tasks, now) if tasks else [])
        shown = plain_text.when(last.astimezone(template.timer.zone))
        out.print(f"Pending until {shown}: {len(tasks) or 'none'}.")
    if tasks and all(item.task_id is None for item in tasks):
        err.print(
            f"Prefect names a run when it makes it: `jittask records {task} --status pending` shows the ids."
        )
    if len(found.found()) > limit:
        err.print(f"[yellow]There are more than {limit}; --limit shows more.[/]")
    if not template.enable:
        err.print(
            f"[yellow]{task} is disabled (`enable` is 0): it makes no tasks of its own.[/]"
        )
    for problem in found.problems:
        err.print(f"[yellow]problem:[/] {escape(problem)}")


def row(
    model: Annotated[
        str, typer.Argument(help="The model's full name, e.g. models.Contract.")
    ],
    key: Annotated[
        str,
        typer.Argument(help="The row's key; one of several columns as a JSON list."),
    ],
    count: Annotated[
        int, typer.Option(min=1, help="How many to come of each task, at most.")
    ] = 5,
    past: Annotated[
        int,
        typer.Option(
            min=0, help="How many in the past of each task, at most; the newest."
        ),
    ] = 100,
    as_json: Json = False,
) -> None:
    """Show every task of a row, past and to come, and why each is when it is. Needs no server."""
    from jittask_prefect.records import plain_text, row_story

    found = row_story.view(the_app(), model, key, clock.now(), count, past)
    if as_json:
        print_json(found.as_dict())
    else:
        print_lines(plain_text.row(found))


def records(
    task: Annotated[str | None, typer.Argument()] = None,
    status: Annotated[
        str | None,
        typer.Option(help="pending, executing, overdue, completed, error or ended."),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="Due then or later.")
    ] = None,
    stop: Annotated[
        str | None, typer.Option("--to", help="Due earlier; beyond the horizon too.")
    ] = None,
    row: Annotated[
        str | None, typer.Option("--row", help="Only those of the row with this key.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 200,
    offset: Annotated[
        int, typer.Option(min=0, help="How many to leave out first: the pages before.")
    ] = 0,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    open_: Annotated[
        bool,
        typer.Option("--open", help="Open Prefect's UI at them, and print the link."),
    ] = False,
) -> None:
    """List execution records, newest due time first.

    With --to beyond the horizon, what is pending there is planned from the rows as they are now.
    """
    from jittask_prefect.records import executions as engine
    from jittask_prefect.server.selection import connect
    from jittask_prefect.task_svc.arguments import instant

    app = the_app()
    api = connect(app.path)
    of = app.template(task) if task else None
    begin, end = (instant(text, of or app) if text else None for text in (start, stop))
    if open_:
        _open(
            engine.link(
                app,
                api,
                clock.now(),
                name=task,
                row=row,
                status=status,
                start=begin,
                end=end,
            )
        )
        return
    found = engine.records(
        app, api, clock.now(), name=task, row=row, status=status, start=begin, end=end,
        limit=limit, offset=offset,
    )  # fmt: skip
    if as_json:
        print_json(found)
    elif as_csv:
        _print_csv(found, engine.FIELDS)
    else:
        _print_records(found)
    if len(found) == limit:
        err.print(
            f"[dim]These are {limit}; --offset {offset + limit} shows the next ones.[/]"
        )


def _open(link: str) -> None:
    import webbrowser

    say(link)
    if not webbrowser.open(link):
        err.print("[yellow]No browser could be started.[/]")


def _print_csv(found: list[dict[str, Any]], fields: Sequence[str]) -> None:
    """Records as CSV with a line of names; a result as JSON; no text is a formula to a spreadsheet."""
    lines = csv.DictWriter(sys.stdout, fields, lineterminator="\n")
    lines.writeheader()
    for item in found:
        result = (
            ""
            if item["result"] is None
            else json.dumps(item["result"], ensure_ascii=False)
        )
        lines.writerow(
            {
                name: csv_cell(value)
                for name, value in {**item, "result": result}.items()
            }
        )


def _print_records(found: list[dict[str, Any]]) -> None:
    table = Table(box=None)
    for name in ("due", "status", "taskId"):
        table.add_column(
            name, no_wrap=True, overflow="fold"
        )  # what one reads exactly, or copies, is never cut
    for name in ("task", "row", "result"):
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    for item in found:
        said = (
            item["message"]
            if item["result"] is None
            else json.dumps(item["result"], ensure_ascii=False)
        )
        due = f"{datetime.fromisoformat(item['dueTime']):%Y-%m-%d %H:%M}"
        about = (item["title"], item["row"] or "", " ".join(said.split()))
        table.add_row(due, item["status"], item["taskId"], *map(escape, about))
    out.print(table if found else "no records")


def stats(
    task: Annotated[
        str | None, typer.Argument(help="All of them where absent.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", help="Due then or later; 30 days where absent."),
    ] = None,
    stop: Annotated[
        str | None,
        typer.Option("--to", help="Due earlier; the end of today where absent."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Count tasks by status and day, say how long and how late they ran, and why they failed. Needs no server.

    What waits of a schedule is in Prefect alone until it begins: `jittask records TASK --status pending`.
    """
    from jittask_prefect.records import plain_text
    from jittask_prefect.records import statistics as engine
    from jittask_prefect.task_svc.arguments import instant

    app, now, found = the_app(), clock.now(), []
    for template in [app.template(task)] if task else app.templates():
        begin, end = (
            instant(text, template) if text else None for text in (start, stop)
        )
        found.append(
            engine.of_template(
                app, template, engine.span(template, now, begin, end), now
            )
        )
    if as_json:
        print_json([of.as_dict() for of in found])
        return
    print_lines(plain_text.stats(found) if not task else plain_text.stats_of(found[0]))


COMMANDS = (preview, calendar, pending, row, records, stats)
"""In the order of `jittask --help`."""
