"""`jittask up`: start what is missing, show what happens, leave nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from jittask_prefect.cli.terminal import Terminal, print_json
from jittask_prefect.deploying import compile, rollout
from jittask_prefect.elements.app import App
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import JittaskError
from jittask_prefect.prefect_api.client import PrefectApi, preload
from jittask_prefect.rows.databases import upgrade
from jittask_prefect.schedule import clock
from jittask_prefect.server.commands import environment
from jittask_prefect.server.embedded import Embedded
from jittask_prefect.server.selection import configured_url, refresh_settings
from jittask_prefect.task_svc.service import TaskSvc

CHECK_SECONDS = 180.0
STARTS_WITHIN = 15.0  # what a worker takes to begin a run: nothing is wrong yet
SHOWN = timedelta(days=1)  # ahead of now
_STYLES = {
    "executing": "bold cyan",
    "overdue": "yellow",
    "pending": "",
    "completed": "green",
    "error": "bold red",
    "ended": "dim",
}


def up(app: App, *, check: bool = False) -> int:
    """Run the app on this machine until Ctrl-C.

    Args:
        app: The app.
        check: End by itself once a scheduled and a date-field task have completed; records as JSON on stdout.

    Returns:
        The exit code.
    """
    say = Progress(Terminal(stderr=check, highlight=False))
    for problem in app.check():
        say.warn(f"left out: {problem}")
    if not app.templates():
        say.fail(f"no task works in {app.path}; `jittask check` says why")
        return 1
    made = upgrade(app, models=True)
    if made:
        say.step(f"tables made: {len(made)}")
    begins = any(": table " in what for what in made)
    with Embedded(app.path / ".jittask") as embedded:
        api = _start(app, embedded, say)
        say.step(
            f"[bold green]{escape(app.title)}[/] is up: [link={api.ui_url}]{api.ui_url}[/link]"
        )
        svc = TaskSvc(app, api)
        if check:
            return _check(app, svc, embedded, say)
        if begins:
            _begin(app, svc, say)
        ours = ", then ".join(embedded.owned())
        say.step(
            f"Ctrl-C ends {ours}"
            if ours
            else "Ctrl-C leaves this view; another `jittask up` runs the server"
        )
        try:
            _watch(app, svc, embedded, say.console)
        except KeyboardInterrupt:
            if ours:
                say.step(f"ending: {ours} …")
        return 0


def _begin(app: App, svc: TaskSvc, say: Progress) -> None:
    """The tables are new: what comes hourly or more often runs once now; nobody waits an hour for first rows."""
    for template in _scheduled(app):
        if template.enable and template.timer.cfg.repeat.repeat_type in (
            "minute",
            "hour",
        ):
            _run_now(template, svc)
            say.step(f"the database is new: {escape(template.title)} runs once now")


def _scheduled(app: App) -> list[Meta]:
    return [t for t in app.templates() if not isinstance(t, DateFieldType)]


def _run_now(template: Meta, svc: TaskSvc) -> str:
    """Run a scheduled task's own function once, now; the task's id."""
    name = str(template.cfg.func) if template.cfg.funcType == "Global" else "customFunc"
    made = svc.createTimerTask(
        template.fullName, clock.now(), name, template.taskType, template.cfg.argDict
    )
    return str(made["taskId"])


class Progress:
    """What happens while one waits, with the seconds since the start."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._begun = time.monotonic()

    def step(self, text: str) -> None:
        """Something was done; rich's markup is read."""
        self.console.print(
            f"[dim]{time.monotonic() - self._begun:5.1f} s[/]  {text}", soft_wrap=True
        )

    def warn(self, text: str) -> None:
        """Something is not as it should be, and it goes on."""
        self.console.print(Text(text, style="yellow"), soft_wrap=True)

    def fail(self, text: str) -> None:
        """Why it ends."""
        self.console.print(Text(text, style="red"), soft_wrap=True)


def _start(app: App, embedded: Embedded, say: Progress) -> PrefectApi:
    """Server, pool, worker, deployments, and the first sync: what is there is used, what is missing is started."""
    url = configured_url()
    if url is None:
        os.environ.update(
            environment(None, embedded.home)
        )  # Prefect reads its settings when it is imported
        say.step("Prefect server …")
        warm = threading.Thread(target=_import_prefect)
        warm.start()  # beside the server, which needs as long as this
        server, ours = embedded.ensure()
        url = server.url
        os.environ.update(environment(url, embedded.home))
        warm.join()
        refresh_settings()
        say.step(f"Prefect server {'started' if ours else 'found'} at {url}")
    api = PrefectApi(url)
    kind = api.ensure_pool(compile.POOL, compile.POOL_KIND)
    if kind != compile.POOL_KIND:
        # Made by an earlier version; Prefect changes no pool's type, and deleting it is not ours to do.
        say.warn(
            f"the work pool {compile.POOL!r} is of type {kind}: each run starts a Python of its own, in seconds;"
        )
        say.warn(
            f"`prefect work-pool delete {compile.POOL}` before `jittask up` makes one of type {compile.POOL_KIND}"
        )
    from jittask_prefect.running.sync_flow import drop_late_syncs, run_sync

    drop_late_syncs(app, api, clock.now())  # before a worker takes them all at once
    most = (
        app.cfg.maxConcurrency if kind == compile.POOL_KIND else None
    )  # Prefect's own asks less often with a limit
    _, ours = embedded.ensure_worker(
        url, compile.POOL, cwd=compile.root_of(app), worker_type=kind, limit=most
    )
    say.step(f"worker {'started' if ours else 'found'}")
    done = rollout.deploy(app, api, clock.now())
    say.step(
        f"deployments: {len(done.changed)} new or changed, {len(done.unchanged)} as they were"
    )
    if done.leftover:
        say.warn(
            f"left over: {', '.join(done.leftover)}; `jittask deploy --prune` removes them"
        )
    report = run_sync(app, clock.now())
    if report is not None:
        say.step(f"first sync: {report.created} runs made for rows")
        for problem in report.problems:
            say.warn(problem)
    return api


def _import_prefect() -> None:
    """Import early what is needed later; where that fails, it fails again where it can be told."""
    with contextlib.suppress(Exception):
        preload()
        from jittask_prefect.running import flows  # noqa: F401


# Watch


def _watch(app: App, svc: TaskSvc, embedded: Embedded, console: Console) -> None:
    with Live(console=console, auto_refresh=False) as live:
        while True:
            embedded.check()
            shown: RenderableType
            try:
                now = clock.now()
                records = svc.getTaskRecords(
                    endTime=now
                )  # the latest, however long ago
                records += svc.getTaskRecords(
                    startTime=now, endTime=now + SHOWN, limit=1000
                )
                shown = view(records, app.zone, now, console.size.height - 4)
            except JittaskError as error:
                shown = Text(str(error), style="red")
            live.update(shown, refresh=True)
            time.sleep(2)


def view(
    records: Sequence[Mapping[str, Any]], zone: tzinfo, now: datetime, height: int
) -> Group:
    """The records as a table: what was last, what runs or is late, what comes next.

    Args:
        records: What `getTaskRecords` gives.
        zone: The zone that times are shown in.
        now: The present instant.
        height: Lines that there is room for.
    """
    room = max(4, height - 5)
    busy = [r for r in records if r["status"] in ("executing", "overdue")][: room // 2]
    coming = sorted((r for r in records if r["status"] == "pending"), key=_due)
    past = [r for r in records if r["status"] in ("completed", "error", "ended")]
    past.sort(
        key=lambda r: datetime.fromisoformat(r["endTime"] or r["dueTime"]), reverse=True
    )
    coming = coming[
        : max(2, room - len(busy) - min(len(past), (room - len(busy)) // 2))
    ]
    past = past[: max(2, room - len(busy) - len(coming))]
    table = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False)
    table.add_column("due", no_wrap=True, min_width=14)
    table.add_column("task", no_wrap=True, overflow="ellipsis", ratio=3)
    table.add_column("row", no_wrap=True, overflow="ellipsis", max_width=12)
    table.add_column("status", no_wrap=True, min_width=9)
    table.add_column("result", no_wrap=True, overflow="ellipsis", ratio=4)
    for record in [*sorted(past, key=_due), *sorted(busy, key=_due), *coming]:
        status = Text(record["status"], style=_STYLES.get(record["status"], ""))
        if (
            record["status"] == "overdue"
            and (now - _due(record)).total_seconds() < STARTS_WITHIN
        ):
            status = Text("starting", style="cyan")
        due = f"{_due(record).astimezone(zone):%m-%d %H:%M:%S}"
        table.add_row(
            due,
            Text(record["title"]),
            Text(record["row"] or ""),
            status,
            Text(_said(record, now)),
        )
    counts = Counter(r["status"] for r in records)
    total = ", ".join(
        f"{counts[status]} {status}" for status in _STYLES if counts[status]
    )
    title = Text.assemble(
        (f"{now.astimezone(zone):%Y-%m-%d %H:%M:%S}", "bold"),
        "  ",
        (total or "nothing yet", "dim"),
    )
    return Group(title, table)


def _due(record: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(record["dueTime"])


def _said(record: Mapping[str, Any], now: datetime) -> str:
    if record["status"] == "pending":
        return f"in {_span((_due(record) - now).total_seconds())}"
    if record["status"] == "overdue":
        return f"for {_span((now - _due(record)).total_seconds())}"
    if record["result"] is not None:
        return json.dumps(record["result"], ensure_ascii=False)
    return " ".join((record["message"] or "").split())


def _span(seconds: float) -> str:
    """A length of time in its largest unit."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


# Check


def _check(app: App, svc: TaskSvc, embedded: Embedded, say: Progress) -> int:
    wanted = _provoke(app, svc, say)
    deadline = time.monotonic() + CHECK_SECONDS
    shown = ""
    while time.monotonic() < deadline:
        embedded.check()
        found = {r["taskId"]: r for r in svc.getTaskRecords(limit=1000)}
        states = {what: found.get(task_id, {}) for what, task_id in wanted.items()}
        line = ", ".join(
            f"{what} {r.get('status', 'unknown')}" for what, r in states.items()
        )
        if line != shown:
            say.step(escape(line))
            shown = line
        if any(r.get("status") in ("error", "ended") for r in states.values()):
            reasons = (
                f"{what}: {r['message']}"
                for what, r in states.items()
                if r.get("message")
            )
            say.fail(f"failed: {'; '.join(reasons)}")
            return 1
        if all(r.get("status") == "completed" for r in states.values()):
            print_json(list(found.values()))
            both = "a scheduled and a date-field task have completed"
            say.step(f"[bold green]{both if len(states) > 1 else 'completed'}[/]")
            return 0
        time.sleep(0.5)
    logs = f"{embedded.worker.log}, {embedded.server.log}"
    say.fail(f"not completed after {CHECK_SECONDS:g} s: {shown}; logs: {logs}")
    return 1


def _provoke(app: App, svc: TaskSvc, say: Progress) -> dict[str, str]:
    """Run the hourly task once, and save an appointment that is due within seconds; the ids by what they are."""
    scheduled = _scheduled(app)
    wanted: dict[str, str] = {}
    if scheduled:
        template = next(
            (t for t in scheduled if t.timer.cfg.repeat.repeat_type == "hour"),
            scheduled[0],
        )
        wanted[template.title] = _run_now(template, svc)
    if "tasks.AppointmentReminder" in app.names(
        "tasks"
    ) and "models.Appointment" in app.names("models"):
        reminder = app.template("tasks.AppointmentReminder")
        wanted[reminder.title] = _appointment(app, reminder)
    else:
        say.warn("the app has no AppointmentReminder: only a scheduled task is checked")
    return wanted


def _appointment(app: App, reminder: Meta) -> str:
    """Save an appointment whose reminder is due in three seconds; the task's id."""
    Appointment = app.getElement("models.Appointment")
    offset = reminder.timer.cfg.start_offset
    ahead = timedelta(**{f"{offset.unit}s": -offset.amount}) if offset else timedelta(0)
    starts = (
        (clock.now() + timedelta(seconds=3) + ahead)
        .astimezone(reminder.timer.zone)
        .replace(tzinfo=None, microsecond=0)
    )
    with app.session() as session:
        row = Appointment(
            customer="Ada Example",
            phone="+49 30 0000000",
            subject="first visit",
            startsAt=starts,
        )
        session.add(row)
        session.commit()
        answer = TaskSvc(app).saveDateFieldTask({"postData": row})
    return str(
        next(t["taskId"] for t in answer["tasks"] if t["fullName"] == reminder.fullName)
    )
