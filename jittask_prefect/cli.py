"""The command `jittask`: parse, call, print."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from . import __version__, clock
from .errors import ArgumentError, ConfigError, InvalidTime, JittaskError

cli = typer.Typer(
    name="jittask",
    help="Background tasks for business applications, on Prefect.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
db = typer.Typer(help="The ledger's tables.", no_args_is_help=True)
cli.add_typer(db, name="db")
# A file or a pipe has no edge at which to break lines.
_WIDTH = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 140
out = Console(highlight=False, soft_wrap=True, width=_WIDTH)
err = Console(stderr=True, highlight=False, soft_wrap=True)

Now = Annotated[
    str | None, typer.Option("--now", help="The instant to work as of, ISO 8601; the present where absent.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Kind(StrEnum):
    """The two kinds of tasks."""

    scheduled = "scheduled"
    date_field = "date-field"


def main() -> None:
    """Run the command; an error of ours is a sentence, not a traceback."""
    try:
        code = cli(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except typer.Abort:
        sys.exit(130)
    except JittaskError as error:
        err.print(f"[red]{type(error).__name__}:[/] {escape(str(error))}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if _database_said(error):
            err.print(f"[red]the database:[/] {escape(_database_said(error))}")
            sys.exit(1)
        # typer's own usage errors know how to show themselves
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        sys.exit(getattr(error, "exit_code", 2))


def _database_said(error: Exception) -> str:
    """What a database answers, without the statement; empty for an error that is not a database's."""
    if "run" in sys.argv[1:2]:
        return ""  # for debugging: where the task's own code failed is what is asked for
    origin = getattr(error, "orig", None)
    if not isinstance(origin, Exception) or not type(error).__module__.startswith("sqlalchemy"):
        return ""
    return f"{origin}; `jittask db upgrade --models` makes missing tables"


def _app() -> Any:
    from .wiring import app

    return app


def _instant(text: str | None, *, name: str = "--now") -> datetime:
    if text is None:
        return clock.now()
    from .arguments import instant

    try:
        return instant(text, _app())
    except InvalidTime as error:
        raise InvalidTime(f"{name}: {error}") from None


def _until(text: str, of: Any) -> datetime:
    """The last instant that is meant: a date without a time is that whole day."""
    from .arguments import instant
    from .schedule.instants import TICK, day_after

    try:
        at = instant(text, of)
        zone = of.timer.zone
        return day_after(at.astimezone(zone).date(), zone) - TICK if len(text.strip()) == 10 else at
    except (InvalidTime, OverflowError) as error:
        raise InvalidTime(f"--until: {error}") from None


def _say_left_out(app: Any) -> None:
    for problem in app.check():
        err.print(f"[yellow]problem:[/] {escape(str(problem))}")


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        out.print(line, markup=False, emoji=False)


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2, default=str))


@cli.command()
def version() -> None:
    """Print the version."""
    print(__version__)


@cli.command()
def init(folder: Annotated[Path, typer.Argument(metavar="DIR")]) -> None:
    """Make a new app that works at once."""
    from . import compile, scaffold
    from .rows.tables import upgrade
    from .wiring import App

    made = App(scaffold.init(folder))
    compile.write(made, compile.instant_of(made, clock.now()))
    if made.database_url().startswith("sqlite"):  # another database may be the team's
        upgrade(made, models=True)
    out.print(f"{escape(str(made.path))} is made. Next: [bold]cd {escape(str(folder))} && jittask up[/]")


@cli.command()
def new(
    kind: Kind,
    title: str,
    model: Annotated[str | None, typer.Option(help="The model of a date-field task, e.g. models.Contract.")] = None,
    field: Annotated[str | None, typer.Option(help="The date field of a date-field task.")] = None,
) -> None:
    """Make the folder of a task; its English name comes from the title."""
    from . import scaffold

    app = _app()
    if kind is Kind.scheduled:
        if model or field:
            raise ArgumentError("--model and --field belong to a date-field task")
        folder = scaffold.new_scheduled(app, title, clock.now())
    else:
        folder = scaffold.new_date_field(app, title, model, field)
    made = json.loads((folder / "e.json").read_text(encoding="utf-8"))
    of = f" for {made['modelPath']}, field {made['timerCfg']['startField']}" if "modelPath" in made else ""
    out.print(f"tasks.{folder.name} is made{of}: {escape(str(folder / 'e.json'))}, inner.py")


@cli.command()
def check() -> None:
    """Report every mistake of every file; exit 1 where there is one."""
    app = _app()
    problems = app.check()
    for problem in problems:
        print(problem)
    for warning in app.warnings(clock.now()):
        err.print(f"[yellow]warning:[/] {escape(warning)}")
    if problems:
        err.print(f"[red]{len(problems)} mistake{'s' if len(problems) > 1 else ''} in {escape(str(app.path))}[/]")
        raise typer.Exit(1)
    err.print(f"[green]no mistake; tasks: {len(app.templates())}, models: {len(app.models())}[/]")


@cli.command()
def doctor() -> None:
    """Look at versions, app, databases and server, and say what to do; exit 1 where something is wrong."""
    from .doctor import findings

    marks = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "wrong": "[red]wrong[/]"}
    states = []
    for found in findings(_app(), clock.now()):
        states.append(found.state)
        out.print(f"{marks[found.state]} {found.about}: {escape(found.text)}")
    if "wrong" in states:
        raise typer.Exit(1)


@cli.command("compile")
def compile_(
    now: Now = None,
    file: Annotated[
        Path | None, typer.Option("--out", help="Where to write it; prefect.yaml beside the app where absent.")
    ] = None,
) -> None:
    """Write prefect.yaml."""
    from . import compile

    app = _app()
    _say_left_out(app)
    written = compile.write(app, _instant(now) if now else compile.instant_of(app, clock.now()), file)
    out.print(f"{escape(str(written))}: {len(compile.sound(app))} tasks and the sync")


@cli.command()
def deploy(
    prune: Annotated[bool, typer.Option("--prune", help="Remove deployments whose template is gone.")] = False,
) -> None:
    """Compile, and bring the server's deployments to it; only what changed is touched."""
    from . import rollout
    from .prefect_api import connect

    app = _app()
    _say_left_out(app)
    done = rollout.deploy(app, connect(app.path), clock.now(), prune=prune)
    for word, names in (("deployed", done.changed), ("unchanged", done.unchanged), ("removed", done.removed)):
        if names:
            out.print(f"{word}: {', '.join(names)}")
    if done.leftover:
        out.print(f"[yellow]without a template: {', '.join(done.leftover)}; `jittask deploy --prune` removes them[/]")


@cli.command()
def sync(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and write nothing; needs no server.")
    ] = False,
    now: Now = None,
    since: Annotated[str | None, typer.Option(help="Look back to this instant instead of the last sync.")] = None,
    as_json: Json = False,
) -> None:
    """Bring rows and flow runs together once, and print what was done with the rows, and why.

    With --dry-run: what would be done with the rows whose tasks are due within the horizon, skip meaning nothing.
    """
    from . import report as told
    from .rows import sync as engine
    from .running.flows import run_sync

    app, at = _app(), _instant(now)
    start = _instant(since, name="--since") if since else None
    report = engine.plan(app, at, start) if dry_run else run_sync(app, at, start)
    if report is None:
        raise JittaskError("another sync is at work; it holds the lease for a minute at most")
    if as_json:
        _print_json([action.as_dict() for action in report.actions])
    else:
        _print_lines(told.plan(report.actions, {t.fullName: t.timer.zone for t in app.templates()}))
    for problem in report.problems:
        err.print(f"[yellow]problem:[/] {escape(problem)}")
    for line in report.deployments:
        err.print(escape(line))
    if as_json:
        return
    horizon = told.when((at + timedelta(hours=app.cfg.horizon)).astimezone(app.zone))
    if dry_run:
        out.print(f"Rows until {horizon} (the horizon): {told.counts(report.actions) or 'nothing to do'}.")
        out.print("Nothing was written. Later ones: `jittask pending TASK --until DATE`.")
    else:
        out.print(f"Rows until {horizon} (the horizon): {told.done(report.actions) or 'nothing to do'}.")
        out.print(f"Flow runs: {report.created} made, {report.ended} ended.")


@cli.command()
def up(
    once: Annotated[
        bool, typer.Option("--check", help="End once a task of each kind has completed; JSON on stdout.")
    ] = False,
) -> None:
    """Start what is missing (server, work pool, deployments, worker), and show what happens until Ctrl-C."""
    from .up import up as run_up

    raise typer.Exit(run_up(_app(), check=once))


@cli.command()
def worker(
    pool: Annotated[str, typer.Option("--pool", help="The work pool; made where it is missing.")] = "jittask",
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", min=1, help="How many tasks at a time at most; maxConcurrency of app.json where absent."
        ),
    ] = None,
) -> None:
    """Run a warm worker, in processes that have Prefect and the app loaded, until Ctrl-C."""
    from . import compile
    from .prefect_api import connect
    from .processes import worker_command

    app = _app()
    api = connect(app.path)
    kind = api.ensure_pool(pool, compile.POOL_KIND)
    if kind != compile.POOL_KIND:
        raise ArgumentError(
            f"the work pool {pool!r} is of type {kind}; allowed: {compile.POOL_KIND}. `prefect worker start --pool "
            f"{pool}` runs a worker of that type"
        )
    os.environ["PREFECT_API_URL"] = api.url
    command = worker_command(pool, kind, limit=limit or app.cfg.maxConcurrency)
    os.execv(command[0], command)  # this process becomes the worker: signals need nobody who hands them on


@cli.command()
def run(
    task: str,
    row: Annotated[str | None, typer.Option("--row", help="The row's key, for a date-field task.")] = None,
    dry: Annotated[bool, typer.Option("--dry", help="Roll back what it changed on the row.")] = False,
) -> None:
    """Run a task's function here and now, in this process, without a server: for debugging."""
    import logging

    from .running.debug import run_here

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    _print_json(run_here(_app(), task, row, clock.now(), dry=dry))


@cli.command()
def end(task_id: str) -> None:
    """End a task: a pending one never runs, an executing one's process is gone."""
    _print_json(_app().getElement("services.TaskSvc").forcedEnd(task_id))


@cli.command()
def preview(
    task: str,
    row: Annotated[str | None, typer.Option("--row", help="The row's key, for a date-field task.")] = None,
    after: Annotated[str | None, typer.Option(help="Start of the window, included; now where absent.")] = None,
    before: Annotated[str | None, typer.Option(help="End of the window, excluded; ten years on where absent.")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many that take place, at most.")] = 20,
    as_json: Json = False,
    ics: Annotated[
        Path | None, typer.Option("--ics", help="Write an iCalendar of them, for Outlook, Google and others.")
    ] = None,
) -> None:
    """List a task's occurrences, and how each came to be."""
    from . import show
    from .running.debug import load_row
    from .schedule.words import describe

    app = _app()
    template = app.template(task)
    start = _instant(after, name="--after")
    stop = _instant(before, name="--before") if before else start + timedelta(days=3653)
    zone = template.timer.zone
    window = f"from {start.astimezone(zone):%Y-%m-%d %H:%M} to {stop.astimezone(zone):%Y-%m-%d %H:%M} ({zone.key})"
    if stop <= start:
        raise ArgumentError(f"a window {window}; allowed: --before later than --after, or than now without it")
    found = list(show.take(template.explained(start, stop, load_row(app, template, row)), count))
    if ics is not None:
        name = task if row is None else f"{task} {row}"
        _write(ics, show.ics(found, name, template.title, describe(template.timer), clock.now()))
    if as_json:
        _print_json([e.as_dict() for e in found])
    if ics is None and not as_json:
        out.print(f"[bold]{escape(template.title)}[/] ({task}): {escape(describe(template.timer))}")
        if found and found[0].origin:
            out.print(f"From {escape(found[0].origin)}:")
        out.print(show.preview(show.lines(found)) if found else f"nothing {window}")
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


@cli.command()
def calendar(
    country: Annotated[str, typer.Argument(help="A country code (CN, DE-BY), or a calendar of app.json.")],
    year: Annotated[int, typer.Argument(min=1, max=9999)],
    as_json: Json = False,
) -> None:
    """Print a year of a calendar as a grid: holidays, make-up days, weekends."""
    from . import show

    found = _calendar(country)
    days = show.year(found, year)
    if as_json:
        _print_json(show.as_json(found, days))
        return
    rule = " (block: contiguous)" if found.block == "contiguous" else ""
    out.print(f"[bold]{escape(found.label)} {year}[/]{rule}")
    for line in show.grid(days, out.width):
        out.print(line)
    for sentence in show.legend(days):
        out.print(sentence)
    known = found.reliable_until
    if known is not None and year not in found.known_years:
        span = f"{found.known_years.start} to {found.known_years.stop - 1}"
        err.print(f"[yellow]warning:[/] holidays of {escape(found.label)} are known from {span} only")
    elif known is not None and year > known.year:
        said = f"holidays of {found.label} are published until {known}; what lies beyond is a forecast"
        err.print(f"[yellow]warning:[/] {escape(said)}")


def _calendar(name: str) -> Any:
    """A calendar of the app, where there is one, or of a country; `DE-BY` is a subdivision."""
    from .schedule.calendar import Calendar, CalendarCfg
    from .wiring import in_an_app

    if in_an_app() and name in _app().calendars():
        return _app().calendar(name)
    code, _, subdiv = name.partition("-")
    return Calendar(CalendarCfg(country=code, subdiv=subdiv or None))


@cli.command()
def pending(
    task: str,
    until: Annotated[
        str | None, typer.Option("--until", help="Up to then, included; the end of the horizon where absent.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most, the first ones.")] = 200,
    as_json: Json = False,
) -> None:
    """List what is pending of a task up to a date; beyond the horizon as the rows are now. Needs no server."""
    from . import outlook, report

    app, now = _app(), clock.now()
    template = app.template(task)
    last = _until(until, template) if until else now + timedelta(hours=app.cfg.horizon)
    if last < now:
        raise ArgumentError(f"--until {until}; allowed: a time that is not past")
    found = outlook.pending(app, template, last + outlook.TICK, now, limit + 1)
    tasks = found.found()[:limit]
    if as_json:
        _print_json([item.as_dict(now) for item in tasks])
    else:
        _print_lines(report.pending(tasks, now) if tasks else [])
        shown = report.when(last.astimezone(template.timer.zone))
        out.print(f"Pending until {shown}: {len(tasks) or 'none'}.")
    if tasks and all(item.task_id is None for item in tasks):
        err.print(f"Prefect names a run when it makes it: `jittask records {task} --status pending` shows the ids.")
    if len(found.found()) > limit:
        err.print(f"[yellow]There are more than {limit}; --limit shows more.[/]")
    if not template.enable:
        err.print(f"[yellow]{task} is disabled (`enable` is 0): it makes no tasks of its own.[/]")
    for problem in found.problems:
        err.print(f"[yellow]problem:[/] {escape(problem)}")


@cli.command()
def row(
    model: Annotated[str, typer.Argument(help="The model's full name, e.g. models.Contract.")],
    key: Annotated[str, typer.Argument(help="The row's key; one of several columns as a JSON list.")],
    count: Annotated[int, typer.Option(min=1, help="How many to come of each task, at most.")] = 5,
    past: Annotated[int, typer.Option(min=0, help="How many in the past of each task, at most; the newest.")] = 100,
    as_json: Json = False,
) -> None:
    """Show every task of a row, past and to come, and why each is when it is. Needs no server."""
    from . import report, row_view

    found = row_view.view(_app(), model, key, clock.now(), count, past)
    if as_json:
        _print_json(found.as_dict())
    else:
        _print_lines(report.row(found))


@cli.command()
def records(
    task: Annotated[str | None, typer.Argument()] = None,
    status: Annotated[str | None, typer.Option(help="pending, executing, overdue, completed, error or ended.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="Due then or later.")] = None,
    stop: Annotated[str | None, typer.Option("--to", help="Due earlier; beyond the horizon too.")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 200,
    as_json: Json = False,
) -> None:
    """List execution records, newest due time first.

    With --to beyond the horizon, what is pending there is planned from the rows as they are now.
    """
    found = _app().getElement("services.TaskSvc").getTaskRecords(task, status, start, stop, limit)
    if as_json:
        _print_json(found)
        return
    table = Table(box=None)
    for name in ("due", "status", "taskId"):
        table.add_column(name, no_wrap=True, overflow="fold")  # what one reads exactly, or copies, is never cut
    for name in ("task", "row", "result"):
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    for item in found:
        said = item["message"] if item["result"] is None else json.dumps(item["result"], ensure_ascii=False)
        due = f"{datetime.fromisoformat(item['dueTime']):%Y-%m-%d %H:%M}"
        about = (item["title"], item["row"] or "", " ".join(said.split()))
        table.add_row(due, item["status"], item["taskId"], *map(escape, about))
    out.print(table if found else "no records")


@cli.command()
def notify(
    block: Annotated[str | None, typer.Argument(help="A notification block of the server, as TYPE/NAME.")] = None,
    failed: Annotated[bool, typer.Option(help="Of tasks that failed.")] = True,
    overdue: Annotated[bool, typer.Option(help="Of tasks that are overdue.")] = True,
    off: Annotated[bool, typer.Option("--off", help="Take the notices away.")] = False,
) -> None:
    """Have Prefect tell of failed and overdue tasks, through a notification block; without one list those there are."""
    from . import notices
    from .prefect_api import PrefectApi, address

    app = _app()
    api = PrefectApi(address(app.path))
    if off:
        out.print("\n".join(f"{name}: off" for name in notices.silence(app, api)) or "there were none")
        return
    if block is None:
        known = sorted(api.notification_blocks())
        out.print("\n".join(known) or f"{api.url} has no notification block; Prefect's page Blocks makes one")
        return
    kinds = tuple(kind for kind, wanted in (("failed", failed), ("overdue", overdue)) if wanted)
    for name in notices.notify(app, api, block, kinds):
        out.print(f"{name}: through {block}", markup=False)


@db.command("upgrade")
def db_upgrade(
    models: Annotated[bool, typer.Option("--models", help="Also make missing tables of the app's models.")] = False,
) -> None:
    """Make or migrate the ledger's tables in each database of the app."""
    from .rows.tables import upgrade

    made = upgrade(_app(), models=models)
    out.print("\n".join(made) or "the tables are current")


__all__ = ["ConfigError", "cli", "main"]

if __name__ == "__main__":
    main()
