"""`jittask up`: start the missing parts, show the tasks, leave no process behind."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from datetime import timedelta

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from jittask_prefect.cli.live_view import view
from jittask_prefect.cli.options import pause_text
from jittask_prefect.cli.progress import Progress
from jittask_prefect.cli.terminal import Terminal
from jittask_prefect.cli.up_check import run_check, run_now, scheduled
from jittask_prefect.deploying.deploy import deploy
from jittask_prefect.deploying.deployments import (
    POOL_TYPE,
    ensure_queues,
    ensure_work_pool,
    pool_of,
)
from jittask_prefect.deploying.prefect_folder import root_of
from jittask_prefect.deploying.serving import environment_for
from jittask_prefect.elements.app import App
from jittask_prefect.errors import JittaskError
from jittask_prefect.ledger import guard
from jittask_prefect.prefect_api import links
from jittask_prefect.prefect_api.client import PrefectApi, preload
from jittask_prefect.prefect_api.names import queues_of
from jittask_prefect.records import listing
from jittask_prefect.records.listing import RecordFilter
from jittask_prefect.rows.databases import upgrade
from jittask_prefect.schedule import clock
from jittask_prefect.server.commands import environment
from jittask_prefect.server.embedded import Embedded
from jittask_prefect.server.selection import configured_url, refresh_settings
from jittask_prefect.task_svc.service import TaskSvc

AHEAD = timedelta(days=1)
"""The span of future tasks in the live view."""
SHORT_REPEATS = ("minute", "hour")


def up(app: App, *, check: bool = False, take_over: bool = False) -> int:
    """Run the app on this machine until Ctrl-C.

    Args:
        app: The app.
        check: Run a scheduled task, wait for that task and for the first one of a row, and end; records as JSON on stdout.
        take_over: Let the app's database take the place of another that the server knows the app by.

    Returns:
        The exit code.
    """
    begun = clock.now()
    progress = Progress(Terminal(stderr=check, highlight=False))
    with progress.long("reading the app"):
        problems = app.check(begun)
    for problem in problems:
        progress.warn(f"left out: {problem}")
    if not app.templates():
        none = "the app has none: `jittask new` makes a task"
        why = "`jittask check` says why" if problems else none
        progress.fail(f"no task works in {app.path}; {why}")
        return 1
    with progress.long("making the database's tables"):
        made = upgrade(app, models=True)
    if made:
        progress.step(f"tables made: {len(made)}")
    fresh = any(": table " in change for change in made)
    with Embedded(app.path / ".jittask") as embedded:
        api = _serve(embedded, progress)
        service = TaskSvc(app, api)
        _work(app, api, embedded, progress, take_over)
        if fresh and not check:
            _run_short_repeats(app, service, progress)
        _deploy(app, api, progress)
        _sync(app, progress)
        link = f"[link={api.ui_url}]{api.ui_url}[/link]"
        progress.step(f"[bold green]{escape(app.title)}[/] is up: {link}")
        page = links.overview(app.name, links.base(api.ui_url))
        progress.step(f"overview of all tasks: [link={page}]{page}[/link]")
        if paused := pause_text(app):
            progress.warn(paused)
        if check and paused:
            progress.fail("no task of a paused app completes by itself")
            return 1
        if check:
            return run_check(app, service, embedded, progress, begun)
        _watch_until_interrupt(app, api, embedded, progress)
        return 0


def _serve(embedded: Embedded, progress: Progress) -> PrefectApi:
    """Find the Prefect server of the settings or of this app, or start a server."""
    url = configured_url()
    if url is None:
        # Prefect reads its settings when it is imported.
        os.environ.update(environment(None, embedded.home))
        progress.step("Prefect server …")
        # The import takes as long as the server's start, so both run side by side.
        importing = threading.Thread(target=_import_prefect)
        importing.start()
        first = not (embedded.home / "prefect" / "prefect.db").exists()
        waits = "waiting for the server"
        still = f"still {waits}"
        if first:
            waits += (
                ", which installs its database: a first start may take a minute or two"
            )
            still += " to install its database"
        with progress.long(waits, still):
            server, started = embedded.ensure()
        url = server.url
        os.environ.update(environment(url, embedded.home))
        with progress.long("importing Prefect"):
            importing.join()
        refresh_settings()
        progress.step(f"Prefect server {'started' if started else 'found'} at {url}")
    return PrefectApi(url)


def _work(
    app: App, api: PrefectApi, embedded: Embedded, progress: Progress, take_over: bool
) -> None:
    """Make the work pool, and find or start a worker."""
    with progress.long("making the work pool"):
        guard.claim(app, api, take_over=take_over)
        pool = pool_of(app)
        ensure_work_pool(api, pool)
        ensure_queues(app, api, pool)
        from jittask_prefect.running.sync_flow import drop_late_syncs

        # A new worker would start them all at once.
        drop_late_syncs(app, api, clock.now())
    os.environ.update(environment_for([app]))
    with progress.long("starting the worker"):
        _, started = embedded.ensure_worker(
            api.url,
            pool,
            cwd=root_of(app),
            worker_type=POOL_TYPE,
            limit=app.cfg.maxConcurrency,
            queues=queues_of(app.name),
        )
    progress.step(f"worker {'started' if started else 'found'}")


def _deploy(app: App, api: PrefectApi, progress: Progress) -> None:
    with progress.long("deploying the tasks"):
        done = deploy(app, api, clock.now())
    counts = f"{len(done.changed)} new or changed, {len(done.unchanged)} as they were"
    progress.step(f"deployments: {counts}")
    if leftover := done.leftover_text():
        progress.warn(leftover)


def _sync(app: App, progress: Progress) -> None:
    from jittask_prefect.running.sync_flow import run_sync

    with progress.long("the first sync"):
        report = run_sync(app, clock.now())
    if report is not None:
        # None were left to make where the worker's own sync came first.
        made = f": {report.created} runs made for rows" if report.created else ""
        progress.step(f"first sync done{made}")
        for problem in report.problems:
            progress.warn(problem)


def _import_prefect() -> None:
    """Import Prefect early; a failure comes again where the command can report it."""
    with contextlib.suppress(Exception):
        preload()
        from jittask_prefect.running import flows  # noqa: F401


def _watch_until_interrupt(
    app: App, api: PrefectApi, embedded: Embedded, progress: Progress
) -> None:
    """Show the live view until Ctrl-C, then end the services that are ours."""
    owned = ", then ".join(embedded.owned())
    others = "Ctrl-C leaves this view; another `jittask up` runs the server"
    progress.step(f"Ctrl-C ends {owned}" if owned else others)
    try:
        _watch(app, api, embedded, progress.console)
    except KeyboardInterrupt:
        if not progress.console.is_terminal:
            progress.console.print()  # a pipe has the view's last line without its end
        if owned:
            progress.step(f"ending: {owned} …")
        with progress.long("their processes are still ending"):
            embedded.stop()


def _watch(app: App, api: PrefectApi, embedded: Embedded, console: Console) -> None:
    """Show the live view until Ctrl-C."""
    with Live(console=console, auto_refresh=False) as live:
        while True:
            embedded.check()
            now = clock.now()
            past, future = (
                RecordFilter(end=now),
                RecordFilter(start=now, end=now + AHEAD),
            )
            try:
                found = listing.records(app, api, now, past)
                found += listing.records(app, api, now, future, limit=1000)
                width, height = console.size
                shown = view(found, app.zone, now, width, height - 4)
            except JittaskError as error:
                shown = Text(str(error), style="red")
            live.update(shown, refresh=True)
            time.sleep(2)


def _run_short_repeats(app: App, service: TaskSvc, progress: Progress) -> None:
    """Run tasks that repeat within an hour once now, so that a new database has its first rows soon.

    They are deployed before all others: the worker runs them while the rest is deployed.
    """
    soon = [
        template
        for template in scheduled(app)
        if template.enable and template.timer.cfg.repeat.repeat_type in SHORT_REPEATS
    ]
    if not soon:
        return
    with progress.long("deploying the first tasks"):
        names = [template.fullName for template in soon]
        deploy(app, service.api, clock.now(), only=names)
        for template in soon:
            run_now(template, service)
    for template in soon:
        progress.step(f"the database is new: {escape(template.title)} runs once now")
