"""`jittask up`: start the missing parts, show the tasks, leave no process behind."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from jittask_prefect.cli.live_view import view
from jittask_prefect.cli.terminal import Terminal, print_json
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
from jittask_prefect.elements.signatures import CUSTOM
from jittask_prefect.elements.types import DateFieldType, Meta
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

CHECK_SECONDS = 180.0
AHEAD = timedelta(days=1)
"""The span of future tasks in the live view."""
SHORT_REPEATS = ("minute", "hour")
PATIENCE, AGAIN = 2.0, 30.0
"""Seconds until a long step is named, and until it is named again."""


class Progress:
    """Lines on the steps of a command, each with the seconds since its start.

    Args:
        console: Where the lines go.
        patience: Seconds until a long step is named.
    """

    def __init__(self, console: Console, patience: float = PATIENCE) -> None:
        self.console, self.patience = console, patience
        self._start = time.monotonic()

    @contextlib.contextmanager
    def long(self, text: str) -> Iterator[None]:
        """Say what is being done, where that takes more than some seconds; again each half minute.

        The first line comes early: a newcomer sees that the command works.
        """
        done = threading.Event()
        teller = threading.Thread(target=self._tell, args=(text, done), daemon=True)
        teller.start()
        try:
            yield
        finally:
            done.set()
            teller.join()

    def _tell(self, text: str, done: threading.Event) -> None:
        patience = self.patience
        while not done.wait(patience):
            self.step(f"{text} …")
            patience = AGAIN

    def step(self, text: str) -> None:
        """Print a finished step; rich's markup is read."""
        seconds = f"[dim]{time.monotonic() - self._start:5.1f} s[/]"
        self.console.print(f"{seconds}  {text}", soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print a fault that stops nothing."""
        self.console.print(Text(text, style="yellow"), soft_wrap=True)

    def fail(self, text: str) -> None:
        """Print the fault that ends the command."""
        self.console.print(Text(text, style="red"), soft_wrap=True)


def up(app: App, *, check: bool = False, take_over: bool = False) -> int:
    """Run the app on this machine until Ctrl-C.

    Args:
        app: The app.
        check: End once a scheduled and a date-field task have completed; their records as JSON on stdout.
        take_over: Let the app's database take the place of another that the server knows the app by.

    Returns:
        The exit code.
    """
    progress = Progress(Terminal(stderr=check, highlight=False))
    for problem in app.check():
        progress.warn(f"left out: {problem}")
    if not app.templates():
        progress.fail(f"no task works in {app.path}; `jittask check` says why")
        return 1
    with progress.long("making the database's tables"):
        made = upgrade(app, models=True)
    if made:
        progress.step(f"tables made: {len(made)}")
    with Embedded(app.path / ".jittask") as embedded:
        api = _start(app, embedded, progress, take_over)
        link = f"[link={api.ui_url}]{api.ui_url}[/link]"
        progress.step(f"[bold green]{escape(app.title)}[/] is up: {link}")
        page = links.overview(app.name, links.base(api.ui_url))
        progress.step(f"overview of all tasks: [link={page}]{page}[/link]")
        service = TaskSvc(app, api)
        if check:
            return _check(app, service, embedded, progress)
        if any(": table " in change for change in made):
            _run_short_repeats(app, service, progress)
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
        return 0


def _start(
    app: App, embedded: Embedded, progress: Progress, take_over: bool
) -> PrefectApi:
    """Start the missing of server, pool, worker and deployments, and sync once."""
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
        if first:
            waits += (
                ", which installs its database: a first start may take a minute or two"
            )
        with progress.long(waits):
            server, started = embedded.ensure()
        url = server.url
        os.environ.update(environment(url, embedded.home))
        with progress.long("importing Prefect"):
            importing.join()
        refresh_settings()
        progress.step(f"Prefect server {'started' if started else 'found'} at {url}")
    api = PrefectApi(url)
    with progress.long("making the work pool"):
        guard.claim(app, api, take_over=take_over)
        pool = pool_of(app)
        ensure_work_pool(api, pool)
        ensure_queues(app, api, pool)
        from jittask_prefect.running.sync_flow import drop_late_syncs, run_sync

    drop_late_syncs(app, api, clock.now())  # a new worker would start them all at once
    os.environ.update(environment_for([app]))
    _, started = embedded.ensure_worker(
        url,
        pool,
        cwd=root_of(app),
        worker_type=POOL_TYPE,
        limit=app.cfg.maxConcurrency,
        queues=queues_of(app.name),
    )
    progress.step(f"worker {'started' if started else 'found'}")
    with progress.long("deploying the tasks"):
        done = deploy(app, api, clock.now())
    counts = f"{len(done.changed)} new or changed, {len(done.unchanged)} as they were"
    progress.step(f"deployments: {counts}")
    if done.leftover:
        command = "`jittask deploy --prune` removes them"
        progress.warn(f"left over: {', '.join(done.leftover)}; {command}")
    with progress.long("the first sync"):
        report = run_sync(app, clock.now())
    if report is not None:
        progress.step(f"first sync: {report.created} runs made for rows")
        for problem in report.problems:
            progress.warn(problem)
    return api


def _import_prefect() -> None:
    """Import Prefect early; a failure comes again where the command can report it."""
    with contextlib.suppress(Exception):
        preload()
        from jittask_prefect.running import flows  # noqa: F401


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


def _scheduled(app: App) -> list[Meta]:
    return [t for t in app.templates() if not isinstance(t, DateFieldType)]


def _run_short_repeats(app: App, service: TaskSvc, progress: Progress) -> None:
    """Run tasks that repeat within an hour once now, so that a new database has its first rows soon."""
    for template in _scheduled(app):
        if template.enable and template.timer.cfg.repeat.repeat_type in SHORT_REPEATS:
            _run_now(template, service)
            title = escape(template.title)
            progress.step(f"the database is new: {title} runs once now")


def _run_now(template: Meta, service: TaskSvc) -> str:
    """Run a scheduled task's own function once, now; the task's id."""
    cfg = template.cfg
    function = str(cfg.func) if cfg.funcType == "Global" else CUSTOM
    made = service.createTimerTask(
        template.fullName, clock.now(), function, template.taskType, cfg.argDict
    )
    return str(made["taskId"])


# --check


def _check(app: App, service: TaskSvc, embedded: Embedded, progress: Progress) -> int:
    """Wait until a task of each kind has completed; the exit code."""
    wanted = _start_tasks(app, service, progress)
    deadline = time.monotonic() + CHECK_SECONDS
    shown = ""
    while time.monotonic() < deadline:
        embedded.check()
        found = listing.records(
            app, service.api, clock.now(), RecordFilter(), limit=1000
        )
        records = {wanted[r.task_id]: r for r in found if r.task_id in wanted}
        statuses = {
            title: records[title].status if title in records else "unknown"
            for title in wanted.values()
        }
        line = ", ".join(f"{title} {status}" for title, status in statuses.items())
        if line != shown:
            progress.step(escape(line))
            shown = line
        if {"error", "ended"} & set(statuses.values()):
            reasons = [
                f"{title}: {r.message}" for title, r in records.items() if r.message
            ]
            progress.fail(f"failed: {'; '.join(reasons)}")
            return 1
        if set(statuses.values()) == {"completed"}:
            ui_url = service.api.ui_url
            print_json([record.as_dict(ui_url=ui_url) for record in found])
            both = "a scheduled and a date-field task have completed"
            progress.step(f"[bold green]{both if len(wanted) > 1 else 'completed'}[/]")
            return 0
        time.sleep(0.5)
    logs = f"{embedded.worker.log}, {embedded.server.log}"
    progress.fail(f"not completed after {CHECK_SECONDS:g} s: {shown}; logs: {logs}")
    return 1


def _start_tasks(
    app: App, service: TaskSvc, progress: Progress
) -> dict[str | None, str]:
    """Run an hourly task once, and save an appointment that is due within seconds; titles by task id."""
    wanted: dict[str | None, str] = {}
    scheduled = _scheduled(app)
    scheduled.sort(key=lambda t: t.timer.cfg.repeat.repeat_type != "hour")
    for template in scheduled[:1]:
        wanted[_run_now(template, service)] = template.title
    names = {*app.names("tasks"), *app.names("models")}
    if {"tasks.AppointmentReminder", "models.Appointment"} <= names:
        reminder = app.template("tasks.AppointmentReminder")
        wanted[_save_appointment(app, reminder)] = reminder.title
    else:
        only = "only a scheduled task is checked"
        progress.warn(f"the app has no AppointmentReminder: {only}")
    return wanted


def _save_appointment(app: App, reminder: Meta) -> str:
    """Save an appointment whose reminder is due in three seconds; the task's id."""
    model, offset = (
        app.getElement("models.Appointment"),
        reminder.timer.cfg.start_offset,
    )
    ahead = timedelta(seconds=3)
    if offset:
        ahead -= timedelta(**{f"{offset.unit}s": offset.amount})
    starts = (clock.now() + ahead).astimezone(reminder.timer.zone)
    with app.session() as session:
        row = model(
            customer="Ada Example",
            phone="+49 30 0000000",
            subject="first visit",
            startsAt=starts.replace(tzinfo=None, microsecond=0),
        )
        session.add(row)
        session.commit()
        answer = TaskSvc(app).saveDateFieldTask({"postData": row})
    return next(
        str(task["taskId"])
        for task in answer["tasks"]
        if task["fullName"] == reminder.fullName
    )
