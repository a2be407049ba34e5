"""The command `jittask`: parse, call, print."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from jittask_prefect.cli.actions import ACTIONS
from jittask_prefect.cli.database import db
from jittask_prefect.cli.failures import (
    database_answer,
    fail,
    fail_of_file,
    is_run,
    leave_streams,
)
from jittask_prefect.cli.options import (
    Json,
    Now,
    TakeOver,
    heed_interrupts,
    instant_or_now,
    the_app,
    warn_of_problems,
)
from jittask_prefect.cli.queries import QUERIES
from jittask_prefect.cli.scaffolding import init, new
from jittask_prefect.cli.terminal import (
    edge,
    err,
    out,
    prepare,
    print_json,
    print_line,
    print_lines,
    warn,
)
from jittask_prefect.errors import JittaskError
from jittask_prefect.schedule import clock

cli = typer.Typer(
    name="jittask",
    help="Background tasks for business applications, on Prefect.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
cli.add_typer(db, name="db")


def _print_version(asked: bool) -> None:
    if asked:
        print(metadata.version("jittask-prefect"))
        raise typer.Exit


@cli.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version.",
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command; an error of this package or of a database is a sentence, not a traceback."""
    prepare()
    try:
        code = cli(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except JittaskError as error:
        fail(type(error).__name__, str(error))
    except BrokenPipeError:  # `| head` has seen enough
        leave_streams()
        sys.exit(1)
    except OSError as error:
        if is_run():
            raise
        fail_of_file(error)
    except Exception as error:
        if answer := database_answer(error):
            fail("the database", answer)
        # typer's own usage errors know how to show themselves
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        sys.exit(getattr(error, "exit_code", 2))


cli.command()(init)
cli.command()(new)


@cli.command()
def check() -> None:
    """Report every mistake of every file, and the parts of JitTask that are not carried over; exit 1 with a mistake."""
    from jittask_prefect.rows.databases import key_problems

    app = the_app()
    problems = [*app.check(clock.now()), *key_problems(app)]
    for problem in problems:
        print_line(problem)
    for warning in app.warnings(clock.now()):
        warn(warning)
    if problems:
        count = f"{len(problems)} mistake{'s' if len(problems) > 1 else ''}"
        err.print(f"[red]{count} in {escape(str(app.path))}[/]")
    else:
        counts = f"tasks: {len(app.templates())}, models: {len(app.models())}"
        err.print(f"[green]no mistake; {counts}[/]")
    for note in app.notes():
        err.print(f"note: {escape(note)}", soft_wrap=True, highlight=False)
    if problems:
        raise typer.Exit(1)


@cli.command()
def doctor() -> None:
    """Examine versions, app, databases and server, and say what to do; exit 1 where something is wrong."""
    from jittask_prefect.cli.doctor import findings

    colours = {"ok": "green", "warning": "yellow", "wrong": "red"}
    states = set()
    for found in findings(the_app(), clock.now()):
        states.add(found.state)
        word, (first, *rest) = found.state, found.lines(edge())
        told = f"[{colours[word]}]{word}[/]{escape(first.removeprefix(word))}"
        out.print(told, emoji=False)
        print_lines(rest)
    if "wrong" in states:
        raise typer.Exit(1)


@cli.command("compile")
def compile_(
    now: Now = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--out", help="The file; prefect.yaml beside the app where absent."
        ),
    ] = None,
) -> None:
    """Write prefect.yaml."""
    from jittask_prefect.deploying import prefect_yaml
    from jittask_prefect.deploying.deployments import sound_templates

    app = the_app()
    warn_of_problems(app)
    at = instant_or_now(now) if now else prefect_yaml.instant_of(app, clock.now())
    written = prefect_yaml.write(app, at, file)
    out.print(f"{escape(str(written))}: {len(sound_templates(app))} tasks and the sync")


@cli.command()
def deploy(
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove deployments without a template.")
    ] = False,
    take_over: TakeOver = False,
) -> None:
    """Compile, and update the server's deployments; only what changed is touched."""
    from jittask_prefect.deploying import deploy as deploying
    from jittask_prefect.server.selection import connect

    app = the_app()
    warn_of_problems(app)
    done = deploying.deploy(
        app, connect(app.path), clock.now(), prune=prune, take_over=take_over
    )
    for word, names in (
        ("deployed", done.changed),
        ("unchanged", done.unchanged),
        ("removed", done.removed),
    ):
        if names:
            out.print(f"{word}: {', '.join(names)}")
    if leftover := done.leftover_text():
        out.print(f"[yellow]{escape(leftover)}[/]")


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
        typer.Option(help="The start of the window, instead of the last sync."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Bring rows and flow runs together once, and print every change of rows with its reason.

    With --dry-run: the plan for the rows whose tasks are due within the horizon; skip means no change.
    """
    from jittask_prefect.records import text
    from jittask_prefect.records.text_table import time_text
    from jittask_prefect.rows.planning import plan
    from jittask_prefect.running.sync_flow import run_sync

    app, at = the_app(), instant_or_now(now)
    start = instant_or_now(since, "--since") if since else None
    report = plan(app, at, start) if dry_run else run_sync(app, at, start)
    if report is None:
        busy = "another sync is at work; it holds the lease for a minute at most"
        raise JittaskError(busy)
    if as_json:
        print_json([action.as_dict() for action in report.actions])
    else:
        zones = {t.fullName: t.timer.zone for t in app.templates()}
        print_lines(text.plan(report.actions, zones))
    for problem in report.problems:
        warn(problem, "problem")
    for line in [*report.calendars, *report.deployments]:
        err.print(escape(line))
    if as_json:
        return
    horizon = time_text((at + timedelta(hours=app.cfg.horizon)).astimezone(app.zone))
    counts = text.counts(report.actions, text.TO_DO if dry_run else text.DONE)
    out.print(f"Rows until {horizon} (the horizon): {counts}.")
    if dry_run:
        command = "`jittask pending TASK --until DATE`"
        out.print(f"Nothing was written. Later ones: {command}.")
    else:
        out.print(f"Flow runs: {report.created} made, {report.ended} ended.")


@cli.command()
def up(
    once: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Run a scheduled task now, and end once the task, and a row's task due within two minutes, has completed; JSON on stdout.",
        ),
    ] = False,
    take_over: TakeOver = False,
) -> None:
    """Start the server, work pool, deployments and worker that are missing, and show the tasks until Ctrl-C."""
    from jittask_prefect.cli.up import up as run_up

    heed_interrupts()
    raise typer.Exit(run_up(the_app(), check=once, take_over=take_over))


@cli.command()
def worker(
    apps: Annotated[
        list[Path] | None,
        typer.Option(
            "--app",
            help="An app of the worker; may be given several times. The current app where absent.",
        ),
    ] = None,
    pool: Annotated[
        str | None,
        typer.Option(
            "--pool",
            help="The work pool, made where it is missing; the app's workPool where absent.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            min=1,
            help="The most tasks at a time; the app's maxConcurrency where absent.",
        ),
    ] = None,
    drain: Annotated[
        int | None,
        typer.Option(
            "--drain",
            min=0,
            help="Seconds that tasks at work may go on when the worker is stopped; 5 where absent.",
        ),
    ] = None,
    metrics: Annotated[
        int | None,
        typer.Option(
            "--metrics",
            min=1,
            max=65535,
            help="The port on which Prometheus reads the worker's metrics; none where absent.",
        ),
    ] = None,
    log_json: Annotated[
        bool,
        typer.Option("--log-json", help="Log JSON, an object a line, to stderr."),
    ] = False,
) -> None:
    """Run a warm worker, in processes that have Prefect and an app loaded, until Ctrl-C."""
    from jittask_prefect.deploying import serving
    from jittask_prefect.deploying.deployments import POOL_TYPE
    from jittask_prefect.server.commands import worker_command
    from jittask_prefect.task_svc.wiring import App
    from jittask_prefect.warm import json_log
    from jittask_prefect.warm.drain import ENV_SECONDS
    from jittask_prefect.warm.tally import ENV_PORT

    heed_interrupts()
    found = serving.prepare([App(path) for path in apps or ()] or [the_app()], pool)
    os.environ.update(found.environment)
    os.environ["PREFECT_API_URL"] = found.url
    os.environ.setdefault("PREFECT_WORKER_QUERY_SECONDS", "1")  # Prefect's own: 10
    if drain is not None:
        os.environ[ENV_SECONDS] = str(drain)
    if metrics is not None:
        os.environ[ENV_PORT] = str(metrics)
    if log_json:
        os.environ.update(json_log.ENVIRONMENT)
    command = worker_command(
        found.pool, POOL_TYPE, limit=limit or found.limit, queues=found.queues
    )
    # This process becomes the worker, so that signals reach the worker itself.
    os.execv(command[0], command)


for name, action in ACTIONS.items():
    cli.command(name)(action)
for query in QUERIES:
    cli.command()(query)


@cli.command()
def notify(
    block: Annotated[
        str | None,
        typer.Argument(help="A notification block of the server, as TYPE/NAME."),
    ] = None,
    failed: Annotated[bool, typer.Option(help="Tell of tasks that failed.")] = True,
    overdue: Annotated[
        bool, typer.Option(help="Tell of tasks that are overdue.")
    ] = True,
    off: Annotated[bool, typer.Option("--off", help="Remove the notices.")] = False,
) -> None:
    """Let Prefect tell of failed and overdue tasks through a notification block; without a block list the blocks."""
    from jittask_prefect.deploying import notices
    from jittask_prefect.ledger import guard
    from jittask_prefect.prefect_api.client import PrefectApi
    from jittask_prefect.server.selection import address

    app = the_app()
    api = PrefectApi(address(app.path))
    guard.require(app, api)
    if off:
        lines = [f"{name}: off" for name in notices.silence(app, api)]
        print_lines(lines or ["there were none"])
    elif block is None:
        missing = (
            f"{api.url} has no notification block; Prefect's page Blocks makes one"
        )
        print_lines(sorted(api.notification_blocks()) or [missing])
    else:
        wanted = {"failed": failed, "overdue": overdue}
        kinds = tuple(kind for kind in wanted if wanted[kind])
        names = notices.notify(app, api, block, kinds)
        print_lines(f"{name}: through {block}" for name in names)


__all__ = ["cli", "main"]
