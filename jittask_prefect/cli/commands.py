"""The command `jittask`: parse, call, print."""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from jittask_prefect.cli.common import (
    Json,
    Now,
    an_instant,
    err,
    heed_interrupts,
    out,
    print_json,
    print_lines,
    say,
    say_left_out,
    the_app,
)
from jittask_prefect.cli.queries import COMMANDS
from jittask_prefect.cli.terminal import prepare
from jittask_prefect.errors import ArgumentError, ConfigError, JittaskError
from jittask_prefect.schedule import clock

cli = typer.Typer(
    name="jittask",
    help="Background tasks for business applications, on Prefect.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
db = typer.Typer(help="The ledger's tables.", no_args_is_help=True)
cli.add_typer(db, name="db")


class Kind(StrEnum):
    """The two kinds of tasks."""

    scheduled = "scheduled"
    date_field = "date-field"


def main() -> None:
    """Run the command; an error of ours is a sentence, not a traceback."""
    prepare()
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
        return (
            ""  # for debugging: where the task's own code failed is what is asked for
        )
    origin = getattr(error, "orig", None)
    if not isinstance(origin, Exception) or not type(error).__module__.startswith(
        "sqlalchemy"
    ):
        return ""
    return f"{origin}; `jittask db upgrade --models` makes missing tables"


@cli.command()
def version() -> None:
    """Print the version."""
    print(metadata.version("jittask-prefect"))


@cli.command()
def init(folder: Annotated[Path, typer.Argument(metavar="DIR")]) -> None:
    """Make a new app that works at once."""
    from jittask_prefect.deploying import compile
    from jittask_prefect.elements import scaffold
    from jittask_prefect.rows.databases import upgrade
    from jittask_prefect.task_svc.wiring import App

    made = App(scaffold.init(folder))
    compile.write(made, compile.instant_of(made, clock.now()))
    if made.database_url().startswith("sqlite"):  # another database may be the team's
        upgrade(made, models=True)
    out.print(
        f"{escape(str(made.path))} is made. Next: [bold]cd {escape(str(folder))} && jittask up[/]"
    )


@cli.command()
def new(
    kind: Kind,
    title: str,
    model: Annotated[
        str | None,
        typer.Option(help="The model of a date-field task, e.g. models.Contract."),
    ] = None,
    field: Annotated[
        str | None, typer.Option(help="The date field of a date-field task.")
    ] = None,
) -> None:
    """Make the folder of a task; its English name comes from the title."""
    from jittask_prefect.elements import scaffold

    app = the_app()
    if kind is Kind.scheduled:
        if model or field:
            raise ArgumentError("--model and --field belong to a date-field task")
        folder = scaffold.new_scheduled(app, title, clock.now())
    else:
        folder = scaffold.new_date_field(app, title, model, field)
    made = json.loads((folder / "e.json").read_text(encoding="utf-8"))
    of = (
        f" for {made['modelPath']}, field {made['timerCfg']['startField']}"
        if "modelPath" in made
        else ""
    )
    out.print(
        f"tasks.{folder.name} is made{of}: {escape(str(folder / 'e.json'))}, inner.py"
    )


@cli.command()
def check() -> None:
    """Report every mistake of every file; exit 1 where there is one."""
    app = the_app()
    problems = app.check()
    for problem in problems:
        say(problem)
    for warning in app.warnings(clock.now()):
        err.print(f"[yellow]warning:[/] {escape(warning)}")
    if problems:
        err.print(
            f"[red]{len(problems)} mistake{'s' if len(problems) > 1 else ''} in {escape(str(app.path))}[/]"
        )
        raise typer.Exit(1)
    err.print(
        f"[green]no mistake; tasks: {len(app.templates())}, models: {len(app.models())}[/]"
    )


@cli.command()
def doctor() -> None:
    """Look at versions, app, databases and server, and say what to do; exit 1 where something is wrong."""
    from jittask_prefect.cli.doctor import findings

    marks = {
        "ok": "[green]ok[/]",
        "warning": "[yellow]warning[/]",
        "wrong": "[red]wrong[/]",
    }
    states = []
    for found in findings(the_app(), clock.now()):
        states.append(found.state)
        out.print(f"{marks[found.state]} {found.about}: {escape(found.text)}")
    if "wrong" in states:
        raise typer.Exit(1)


@cli.command("compile")
def compile_(
    now: Now = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Where to write it; prefect.yaml beside the app where absent."
        ),
    ] = None,
) -> None:
    """Write prefect.yaml."""
    from jittask_prefect.deploying import compile

    app = the_app()
    say_left_out(app)
    written = compile.write(
        app, an_instant(now) if now else compile.instant_of(app, clock.now()), file
    )
    out.print(f"{escape(str(written))}: {len(compile.sound(app))} tasks and the sync")


@cli.command()
def deploy(
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove deployments whose template is gone.")
    ] = False,
) -> None:
    """Compile, and bring the server's deployments to it; only what changed is touched."""
    from jittask_prefect.deploying import rollout
    from jittask_prefect.server.selection import connect

    app = the_app()
    say_left_out(app)
    done = rollout.deploy(app, connect(app.path), clock.now(), prune=prune)
    for word, names in (
        ("deployed", done.changed),
        ("unchanged", done.unchanged),
        ("removed", done.removed),
    ):
        if names:
            out.print(f"{word}: {', '.join(names)}")
    if done.leftover:
        out.print(
            f"[yellow]without a template: {', '.join(done.leftover)}; `jittask deploy --prune` removes them[/]"
        )


@cli.command()
def sync(
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print the plan and write nothing; needs no server."
        ),
    ] = False,
    now: Now = None,
    since: Annotated[
        str | None,
        typer.Option(help="Look back to this instant instead of the last sync."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Bring rows and flow runs together once, and print what was done with the rows, and why.

    With --dry-run: what would be done with the rows whose tasks are due within the horizon, skip meaning nothing.
    """
    from jittask_prefect.records import plain_text as told
    from jittask_prefect.rows import sync as engine
    from jittask_prefect.running.sync_flow import run_sync

    app, at = the_app(), an_instant(now)
    start = an_instant(since, name="--since") if since else None
    report = engine.plan(app, at, start) if dry_run else run_sync(app, at, start)
    if report is None:
        raise JittaskError(
            "another sync is at work; it holds the lease for a minute at most"
        )
    if as_json:
        print_json([action.as_dict() for action in report.actions])
    else:
        print_lines(
            told.plan(
                report.actions, {t.fullName: t.timer.zone for t in app.templates()}
            )
        )
    for problem in report.problems:
        err.print(f"[yellow]problem:[/] {escape(problem)}")
    for line in [*report.calendars, *report.deployments]:
        err.print(escape(line))
    if as_json:
        return
    horizon = told.when((at + timedelta(hours=app.cfg.horizon)).astimezone(app.zone))
    if dry_run:
        out.print(
            f"Rows until {horizon} (the horizon): {told.counts(report.actions) or 'nothing to do'}."
        )
        out.print(
            "Nothing was written. Later ones: `jittask pending TASK --until DATE`."
        )
    else:
        out.print(
            f"Rows until {horizon} (the horizon): {told.done(report.actions) or 'nothing to do'}."
        )
        out.print(f"Flow runs: {report.created} made, {report.ended} ended.")


@cli.command()
def up(
    once: Annotated[
        bool,
        typer.Option(
            "--check",
            help="End once a task of each kind has completed; JSON on stdout.",
        ),
    ] = False,
) -> None:
    """Start what is missing (server, work pool, deployments, worker), and show what happens until Ctrl-C."""
    from jittask_prefect.cli.up import up as run_up

    heed_interrupts()
    raise typer.Exit(run_up(the_app(), check=once))


@cli.command()
def worker(
    pool: Annotated[
        str, typer.Option("--pool", help="The work pool; made where it is missing.")
    ] = "jittask",
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            min=1,
            help="How many tasks at a time at most; maxConcurrency of app.json where absent.",
        ),
    ] = None,
) -> None:
    """Run a warm worker, in processes that have Prefect and the app loaded, until Ctrl-C."""
    from jittask_prefect.deploying import compile
    from jittask_prefect.server.commands import worker_command
    from jittask_prefect.server.selection import connect

    heed_interrupts()
    app = the_app()
    api = connect(app.path)
    kind = api.ensure_pool(pool, compile.POOL_KIND)
    if kind != compile.POOL_KIND:
        raise ArgumentError(
            f"the work pool {pool!r} is of type {kind}; allowed: {compile.POOL_KIND}. `prefect worker start --pool "
            f"{pool}` runs a worker of that type"
        )
    os.environ["PREFECT_API_URL"] = api.url
    os.environ.setdefault("PREFECT_WORKER_QUERY_SECONDS", "1")  # Prefect's own: 10
    command = worker_command(pool, kind, limit=limit or app.cfg.maxConcurrency)
    os.execv(
        command[0], command
    )  # this process becomes the worker: signals need nobody who hands them on


@cli.command()
def run(
    task: str,
    row: Annotated[
        str | None, typer.Option("--row", help="The row's key, for a date-field task.")
    ] = None,
    dry: Annotated[
        bool, typer.Option("--dry", help="Roll back what it changed on the row.")
    ] = False,
) -> None:
    """Run a task's function here and now, in this process, without a server: for debugging."""
    import logging

    from jittask_prefect.running.trial import run_here

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    print_json(run_here(the_app(), task, row, clock.now(), dry=dry))


@cli.command()
def end(task_id: str) -> None:
    """End a task: a pending one never runs, an executing one's process is gone."""
    print_json(the_app().getElement("services.TaskSvc").forcedEnd(task_id))


for look in COMMANDS:
    cli.command()(look)


@cli.command()
def notify(
    block: Annotated[
        str | None,
        typer.Argument(help="A notification block of the server, as TYPE/NAME."),
    ] = None,
    failed: Annotated[bool, typer.Option(help="Of tasks that failed.")] = True,
    overdue: Annotated[bool, typer.Option(help="Of tasks that are overdue.")] = True,
    off: Annotated[bool, typer.Option("--off", help="Take the notices away.")] = False,
) -> None:
    """Have Prefect tell of failed and overdue tasks, through a notification block; without one list those there are."""
    from jittask_prefect.deploying import notices
    from jittask_prefect.prefect_api.client import PrefectApi
    from jittask_prefect.server.selection import address

    app = the_app()
    api = PrefectApi(address(app.path))
    if off:
        out.print(
            "\n".join(f"{name}: off" for name in notices.silence(app, api))
            or "there were none"
        )
        return
    if block is None:
        known = sorted(api.notification_blocks())
        out.print(
            "\n".join(known)
            or f"{api.url} has no notification block; Prefect's page Blocks makes one"
        )
        return
    kinds = tuple(
        kind for kind, wanted in (("failed", failed), ("overdue", overdue)) if wanted
    )
    for name in notices.notify(app, api, block, kinds):
        out.print(f"{name}: through {block}", markup=False)


@db.command("upgrade")
def db_upgrade(
    models: Annotated[
        bool,
        typer.Option("--models", help="Also make missing tables of the app's models."),
    ] = False,
) -> None:
    """Make or migrate the ledger's tables in each database of the app."""
    from jittask_prefect.rows.databases import upgrade

    made = upgrade(the_app(), models=models)
    out.print("\n".join(made) or "the tables are current")


__all__ = ["ConfigError", "cli", "main"]
