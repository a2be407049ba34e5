"""`jittask up --check`: whether tasks of this app run to their end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from rich.markup import escape

from jittask_prefect.cli.progress import AGAIN, Progress
from jittask_prefect.cli.terminal import print_json
from jittask_prefect.elements.app import App
from jittask_prefect.elements.signatures import CUSTOM
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.records import listing
from jittask_prefect.records.listing import RecordFilter
from jittask_prefect.records.record import Record
from jittask_prefect.schedule import clock
from jittask_prefect.server.embedded import Embedded
from jittask_prefect.task_svc.service import TaskSvc

CHECK = timedelta(minutes=3)
SOON = timedelta(minutes=2)
"""How far ahead a row's task is due at most that the check waits for."""
POLL_SECONDS = 0.5
NO_ROW = "no row's task is due within two minutes"


def run_check(
    app: App,
    service: TaskSvc,
    embedded: Embedded,
    progress: Progress,
    begun: datetime,
) -> int:
    """Run a scheduled task, and wait for that task and for the first task of a row that is due soon.

    Args:
        app: The app.
        service: Its task service.
        embedded: The server and the worker.
        progress: Where the lines go.
        begun: The start of the command: a row's task that has completed since counts.

    Returns:
        The exit code.
    """
    start = clock.now()
    until = start + CHECK
    awaited = _run_first(app, service, progress)
    check = _Check(app, service, progress, awaited, (begun, start + SOON), until)
    while clock.now() < until:
        embedded.check()
        if (code := check.look()) is not None:
            return code
        time.sleep(POLL_SECONDS)

    logs = f"{embedded.worker.log}, {embedded.server.log}"
    minutes = CHECK // timedelta(minutes=1)
    progress.fail(f"not completed after {minutes} min: {check.shown}; logs: {logs}")
    return 1


class _Check:
    """A check at work.

    Args:
        app: The app.
        service: Its task service.
        progress: Where the lines go.
        awaited: The titles of the tasks that the check waits for, by id.
        span: The times between which a row's task counts.
        until: When the check gives up.
    """

    def __init__(
        self,
        app: App,
        service: TaskSvc,
        progress: Progress,
        awaited: dict[str, str],
        span: tuple[datetime, datetime],
        until: datetime,
    ) -> None:
        self._app, self._service, self._progress = app, service, progress
        self._awaited, self._span = awaited, span
        self._wanted = RecordFilter(end=until)
        templates = app.templates()
        self._of_rows = {t.fullName for t in templates if isinstance(t, DateFieldType)}
        self._row_id: str | None = None
        self._looked_again = False
        self._lines = _Lines(progress)

    @property
    def shown(self) -> str:
        """The last status line."""
        return self._lines.shown

    def look(self) -> int | None:
        """Look at the records once; the exit code as soon as the tasks have ended."""
        api = self._service.api
        found = listing.records(self._app, api, clock.now(), self._wanted, limit=1000)
        self._take_row(found)
        records = {r.task_id: r for r in found if r.task_id in self._awaited}
        statuses = {
            id_: records[id_].status if id_ in records else "unknown"
            for id_ in self._awaited
        }
        told = (f"{self._awaited[id_]} {status}" for id_, status in statuses.items())
        self._lines.show(", ".join(told))
        if {"error", "ended"} & set(statuses.values()):
            self._progress.fail(f"failed: {_reasons(self._awaited, records)}")
            return 1
        if not set(statuses.values()) <= {"completed"}:
            return None
        if self._row_id is None and not self._looked_again:
            self._looked_again = True  # the task may have saved rows since the question
            return None
        print_json([record.as_dict(ui_url=api.ui_url) for record in found])
        with_row = self._row_id is not None
        return _verdict(with_row, len(self._awaited), self._progress)

    def _take_row(self, found: Sequence[Record]) -> None:
        """Wait for the first task of a row, too, once there is such."""
        if self._row_id is not None:
            return
        row = _first_of_rows(found, self._of_rows, self._span)
        if row is None:
            return
        self._row_id = str(row.task_id)
        self._awaited[self._row_id] = row.title
        named, due = _named(row.title, row.template), f"{row.due:%H:%M:%S}"
        about = f"{named}, row {row.row}, due at {due}"
        self._progress.step(f"waiting for {escape(about)}")


class _Lines:
    """The status line: printed when it changes, and again every four seconds."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self.shown, self._at = progress, "", 0.0

    def show(self, line: str) -> None:
        """Print a line that differs from the last, or that was printed some seconds ago."""
        now = time.monotonic()
        if line and (line != self.shown or now > self._at + AGAIN):
            self.progress.step(escape(line))
            self.shown, self._at = line, now


def scheduled(app: App) -> list[Meta]:
    """The scheduled tasks of an app."""
    return [t for t in app.templates() if not isinstance(t, DateFieldType)]


def run_now(template: Meta, service: TaskSvc) -> str:
    """Run a scheduled task's own function once, now; the task's id."""
    cfg = template.cfg
    function = str(cfg.func) if cfg.funcType == "Global" else CUSTOM
    made = service.createTimerTask(
        template.fullName, clock.now(), function, template.taskType, cfg.argDict
    )
    return str(made["taskId"])


def _run_first(app: App, service: TaskSvc, progress: Progress) -> dict[str, str]:
    """Run a scheduled task once, an hourly one where there is one; its title by its id."""
    found = scheduled(app)
    found.sort(key=lambda t: t.timer.cfg.repeat.repeat_type != "hour")
    awaited = {}
    for template in found[:1]:
        with progress.long("making the first task"):
            awaited[run_now(template, service)] = template.title
        about = _named(template.title, template.fullName)
        progress.step(f"waiting for {escape(about)}, which runs once now")
    return awaited


def _first_of_rows(
    found: Sequence[Record], names: set[str], span: tuple[datetime, datetime]
) -> Record | None:
    """The earliest task of a row that did not end before a span of time, and is due before its end."""
    begun, last = span

    def fits(record: Record) -> bool:
        if record.template not in names or record.row is None or record.due is None:
            return False
        if record.finished is not None:
            return record.finished >= begun and record.status != "ended"
        return record.due <= last

    fitting = filter(fits, found)
    return min(fitting, key=lambda record: record.due or begun, default=None)


def _named(title: str, full_name: str) -> str:
    return f"{title} ({full_name})"


def _reasons(awaited: Mapping[str, str], records: Mapping[str, Record]) -> str:
    told = (f"{awaited[id_]}: {r.message}" for id_, r in records.items() if r.message)
    return "; ".join(told)


def _verdict(with_row: bool, count: int, progress: Progress) -> int:
    """Say which kinds of tasks have completed; the exit code."""
    if not count:
        none = f"the app has no scheduled task, and {NO_ROW}"
        progress.fail(f"nothing to check: {none}")
        return 1
    told = "a scheduled task" if count > with_row else ""
    if with_row:
        told = f"{told} and a row's task" if told else "a row's task"
    else:
        progress.warn(f"{NO_ROW}: only a scheduled task was checked")
    progress.step(f"[bold green]completed: {told}[/]")
    return 0
