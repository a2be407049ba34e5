"""`jittask up`: start what is missing, show what happens, leave nothing behind."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from . import clock, compile
from .elements.app import App
from .elements.types import DateFieldType, Meta
from .embedded import Embedded, environment
from .errors import JittaskError
from .prefect_api import PrefectApi, configured_url
from .rows import sync
from .rows.tables import upgrade
from .running.execute import after_return, me
from .task_svc import TaskSvc

CHECK_SECONDS = 180.0
_STYLES = {"executing": "bold cyan", "overdue": "yellow", "completed": "green", "error": "bold red", "ended": "dim"}


def up(app: App, *, check: bool = False) -> int:
    """Run the app on this machine until Ctrl-C.

    Args:
        app: The app.
        check: End by itself once a scheduled and a date-field task have completed; records as JSON on stdout.

    Returns:
        The exit code.
    """
    say = Console(stderr=check, highlight=False)
    for problem in app.check():
        say.print(f"[yellow]left out:[/] {problem}", soft_wrap=True)
    if not app.templates():
        say.print(f"[red]No task works in {app.path}; `jittask check` says why.[/]")
        return 1
    for made in upgrade(app, models=True):
        say.print(f"[dim]made {made}[/]")
    home = app.path / ".jittask"
    with Embedded(home) as embedded:
        url = configured_url()
        if url is None:
            say.print("[dim]Prefect server …[/]")
            server, ours = embedded.ensure()
            url = server.url
            os.environ.update(environment(url, home))
            say.print(f"[dim]Prefect server {'started' if ours else 'found'} at {url}[/]")
        api = PrefectApi(url)
        svc = TaskSvc(app, api)
        done = compile.deploy(app, api, clock.now())
        say.print(f"[dim]deployments: {len(done.changed)} new or changed, {len(done.unchanged)} as they were[/]")
        if done.leftover:
            say.print(f"[yellow]left over: {', '.join(done.leftover)}; `jittask deploy --prune` removes them[/]")
        _, ours = embedded.ensure_worker(url, compile.POOL, cwd=compile.root_of(app))
        say.print(f"[dim]worker {'started' if ours else 'found'}[/]")
        report = sync.run(app, api, clock.now(), me(), clock=clock.now)
        for database, entry in report.died if report else []:
            after_return(app, database, entry.task_id)
        say.print(f"[bold green]{app.title}[/] is up: [link={api.ui_url}]{api.ui_url}[/link]")
        if check:
            return _check(app, svc, embedded, say)
        say.print("[dim]Ctrl-C ends it.[/]")
        try:
            _watch(app, svc, embedded, say)
        except KeyboardInterrupt:
            say.print("[dim]ending: worker, then server …[/]")
        return 0


# Watch


def _watch(app: App, svc: TaskSvc, embedded: Embedded, say: Console) -> None:
    with Live(console=say, auto_refresh=False) as live:
        while True:
            embedded.check()
            try:
                live.update(
                    view(svc.getTaskRecords(limit=500), app.zone, clock.now(), say.size.height - 4), refresh=True
                )
            except JittaskError as error:
                live.update(Text(str(error), style="red"), refresh=True)
            time.sleep(2)


def view(records: list[dict[str, Any]], zone: Any, now: datetime, height: int) -> Group:
    """The records as a table: what runs, what is late, what comes next, and what was last."""
    table = Table(title=f"Tasks at {now.astimezone(zone):%Y-%m-%d %H:%M:%S}", title_justify="left")
    for name in ("due", "task", "row", "status", "result"):
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    busy = [r for r in records if r["status"] in ("executing", "overdue")]
    coming = [r for r in records if r["status"] == "pending"]
    past = [r for r in records if r["status"] in ("completed", "error", "ended")]
    past.sort(key=lambda r: r["endTime"] or r["dueTime"], reverse=True)
    room = max(4, height - 6)
    busy = busy[: room // 2]
    rest = room - len(busy)
    coming = sorted(coming, key=lambda r: r["dueTime"])[: max(2, rest // 2)]
    past = past[: max(2, rest - len(coming))]
    for record in [*past[::-1], *busy, *coming]:
        due = datetime.fromisoformat(record["dueTime"])
        said = record["message"] if record["result"] is None else json.dumps(record["result"], ensure_ascii=False)
        style = _STYLES.get(record["status"], "")
        table.add_row(
            f"{due:%m-%d %H:%M:%S}",
            record["title"],
            record["row"] or "",
            Text(record["status"], style=style),
            said[:60],
        )
    counts = Counter(r["status"] for r in records)
    return Group(table, Text("  ".join(f"{n} {status}" for status, n in counts.items()) or "nothing yet", style="dim"))


# Check


def _check(app: App, svc: TaskSvc, embedded: Embedded, say: Console) -> int:
    wanted = _provoke(app, svc, say)
    deadline, begun = time.monotonic() + CHECK_SECONDS, time.monotonic()
    shown = ""
    while time.monotonic() < deadline:
        embedded.check()
        found = {r["taskId"]: r for r in svc.getTaskRecords(limit=1000)}
        states = {what: found.get(task_id, {}) for what, task_id in wanted.items()}
        line = ", ".join(f"{what} {r.get('status', 'unknown')}" for what, r in states.items())
        if line != shown:
            say.print(f"[dim]{time.monotonic() - begun:5.1f} s[/]  {line}")
            shown = line
        if any(r.get("status") in ("error", "ended") for r in states.values()):
            say.print(f"[red]failed:[/] {'; '.join(r.get('message', '') for r in states.values() if r.get('message'))}")
            return 1
        if all(r.get("status") == "completed" for r in states.values()):
            print(json.dumps(list(found.values()), ensure_ascii=False, indent=2), file=sys.stdout, flush=True)
            say.print(
                "[bold green]a scheduled and a date-field task have completed[/]"
                if len(states) > 1
                else "[green]completed[/]"
            )
            return 0
        time.sleep(0.5)
    say.print(
        f"[red]not completed after {CHECK_SECONDS:g} s:[/] {shown}; logs: {embedded.worker_log}, {embedded.server_log}"
    )
    return 1


def _provoke(app: App, svc: TaskSvc, say: Console) -> dict[str, str]:
    """Run the hourly task once, and save an appointment that is due within seconds; the ids by what they are."""
    scheduled = [t for t in app.templates() if not isinstance(t, DateFieldType)]
    wanted: dict[str, str] = {}
    if scheduled:
        template = next((t for t in scheduled if t.timer.cfg.repeat.repeat_type == "hour"), scheduled[0])
        name = str(template.cfg.func) if template.cfg.funcType == "Global" else "customFunc"
        made = svc.createTimerTask(template.fullName, clock.now(), name, template.taskType, template.cfg.argDict)
        wanted[template.title] = made["taskId"]
    if "tasks.AppointmentReminder" in app.names("tasks") and "models.Appointment" in app.names("models"):
        reminder = app.template("tasks.AppointmentReminder")
        wanted[reminder.title] = _appointment(app, reminder)
    else:
        say.print("[yellow]the app has no AppointmentReminder: only a scheduled task is checked[/]")
    return wanted


def _appointment(app: App, reminder: Meta) -> str:
    """Save an appointment whose reminder is due in three seconds; the task's id."""
    Appointment = app.getElement("models.Appointment")
    offset = reminder.timer.cfg.start_offset
    ahead = timedelta(**{f"{offset.unit}s": -offset.amount}) if offset else timedelta(0)
    starts = (
        (clock.now() + timedelta(seconds=3) + ahead).astimezone(reminder.timer.zone).replace(tzinfo=None, microsecond=0)
    )
    with app.session() as session:
        row = Appointment(customer="Ada Example", phone="+49 30 0000000", subject="first visit", startsAt=starts)
        session.add(row)
        session.commit()
        answer = TaskSvc(app).saveDateFieldTask({"postData": row})
    return str(next(t["taskId"] for t in answer["tasks"] if t["fullName"] == reminder.fullName))
