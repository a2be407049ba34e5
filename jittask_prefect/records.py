"""Execution records: what is pending, executing, overdue, completed, failed and ended."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import and_, not_, or_, select
from sqlalchemy.exc import SQLAlchemyError

from . import links, outlook
from .elements.app import App
from .elements.types import DateFieldType
from .errors import ArgumentError, JittaskError
from .outlook import Nearest, Pending
from .prefect_api import Api
from .rows import ledger
from .rows.ledger import Entry, entries
from .rows.sync import app_tag

STATUSES = ("pending", "executing", "overdue", "completed", "error", "ended")
Record = dict[str, Any]
log = logging.getLogger("jittask")

_BY_STATE = {
    "SCHEDULED": "pending",
    "PENDING": "pending",
    "PAUSED": "pending",
    "RUNNING": "executing",
    "CANCELLING": "executing",
    "COMPLETED": "completed",
    "FAILED": "error",
    "CRASHED": "error",
    "CANCELLED": "ended",
}


def status_of_run(run: Mapping[str, Any], now: datetime) -> str:
    """A flow run's status in the words of the records."""
    status = _BY_STATE.get(str(run.get("state_type")), "pending")
    name, due = run.get("state_name"), _instant(run.get("expected_start_time"))
    return "overdue" if status == "pending" and (name == "Late" or (due is not None and due < now)) else status


def records(
    app: App,
    api: Api,
    now: datetime,
    *,
    name: str | None = None,
    status: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int = 200,
    offset: int = 0,
) -> list[Record]:
    """Execution records, newest due time first.

    With an `end` beyond the horizon, what is pending of rows there is planned from the rows as they are now. Without
    an `end` nothing bounds it, so it is not: then the records are the ledger's and those of Prefect's runs.

    Args:
        app: The app.
        api: Prefect, which knows the runs that schedules made.
        now: The present instant.
        name: Only this template's.
        status: Only those of this status.
        start: Only those due then or later.
        end: Only those due earlier.
        limit: How many at most.
        offset: How many to leave out first.

    Raises:
        ArgumentError: The status is none of `STATUSES`, or limit or offset is no count.
        PrefectApiError: Prefect cannot be reached.
    """
    if status is not None and status not in STATUSES:
        raise ArgumentError(f"status {status!r}; allowed: {', '.join(STATUSES)}")
    for what, value in (("limit", limit), ("offset", offset)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ArgumentError(f"{what} {value!r}; allowed: a whole number of 0 or more")
    window = offset + limit
    coming, borders = _beyond(app, now, name, status, start, end, window)
    kept = [_of_pending(app, api, item, now) for item in coming]
    kept += _of_ledger(app, api, now, name, status, start, end, window, borders)
    kept = list({r["taskId"]: r for r in kept}.values())
    kept += _of_runs(app, api, now, name, status, start, end, window, {r["taskId"] for r in kept})
    kept.sort(key=lambda r: (_instant(r["dueTime"]) or now, r["taskId"]), reverse=True)
    return kept[offset:window]


def _beyond(
    app: App,
    now: datetime,
    name: str | None,
    status: str | None,
    start: datetime | None,
    end: datetime | None,
    most: int,
) -> tuple[list[Pending], dict[str, datetime]]:
    """The pending tasks of rows beyond the horizon, and of each template that was asked where that begins."""
    borders: dict[str, datetime] = {}
    kept = Nearest(most, last=True)
    if end is None or end <= now + timedelta(hours=app.cfg.horizon) or status not in (None, "pending"):
        return [], borders
    for template in app.templates():
        if not isinstance(template, DateFieldType) or name not in (None, template.fullName):
            continue
        try:
            with app.engine(app.database_of(template.model_name)).connect() as connection:
                border = outlook.ledger_until(connection, template, now)
            if border is not None:
                after = border + outlook.TICK
                outlook.of_rows(app, template, max(after, start or after), end, now, kept)
                borders[template.fullName] = border
        except (JittaskError, SQLAlchemyError) as error:
            # One template that cannot be planned keeps no other from being shown.
            log.warning("%s: what is due beyond the horizon is not known: %s", template.fullName, error)
    for problem in kept.problems:
        log.warning("%s", problem)
    return kept.found(), borders


def _of_ledger(
    app: App,
    api: Api,
    now: datetime,
    name: str | None,
    status: str | None,
    start: datetime | None,
    end: datetime | None,
    most: int,
    borders: Mapping[str, datetime],
) -> list[Record]:
    where = []
    if borders:  # beyond them the rows have answered
        beyond = or_(*(and_(entries.c.template == n, entries.c.due > at) for n, at in borders.items()))
        where.append(not_(and_(beyond, entries.c.row_key != "", entries.c.status == "pending")))
    if name is not None:
        where.append(entries.c.template == name)
    if start is not None:
        where.append(entries.c.due >= start)
    if end is not None:
        where.append(entries.c.due < end)
    if status == "overdue":
        where += [entries.c.status == "pending", entries.c.due < now]
    elif status == "pending":
        where += [entries.c.status == "pending", entries.c.due >= now]
    elif status is not None:
        where.append(entries.c.status == status)
    found: list[Record] = []
    for database in app.databases():
        with app.engine(database).connect() as connection:
            if not ledger.there(connection):
                continue
            query = select(entries).where(*where).order_by(entries.c.due.desc(), entries.c.task_id.desc()).limit(most)
            found += [of_entry(app, api, ledger.to_entry(r), now) for r in connection.execute(query)]
    return found


def _of_runs(
    app: App,
    api: Api,
    now: datetime,
    name: str | None,
    status: str | None,
    start: datetime | None,
    end: datetime | None,
    most: int,
    known: Iterable[str],
) -> list[Record]:
    """Runs of scheduled templates that the ledger does not know: not begun, or ended before they began."""
    templates = {
        t.fullName: t for t in app.templates() if not isinstance(t, DateFieldType) and name in (None, t.fullName)
    }
    by_id = {d["id"]: n for n, d in api.deployments(app_tag(app)).items() if n in templates}
    if not by_id or not most:
        return []
    runs: dict[str, Any] = {"deployment_id": {"any_": list(by_id)}}
    states = [k for k, v in _BY_STATE.items() if status is None or v == ("pending" if status == "overdue" else status)]
    runs["state"] = {"type": {"any_": states}}
    due: dict[str, str] = {}
    if start is not None:
        due["after_"] = start.astimezone(UTC).isoformat()
    if end is not None:
        due["before_"] = end.astimezone(UTC).isoformat()
    if due:
        runs["expected_start_time"] = due
    seen = set(known)
    found = []
    for run in api.runs(flow_runs=runs, limit=most + len(seen)):
        record = _of_run(app, api, run, by_id[run["deployment_id"]], now)
        instant = _instant(run["expected_start_time"])
        outside = end is not None and instant is not None and instant >= end
        if run["id"] not in seen and not outside and status in (None, record["status"]):
            found.append(record)
    return _not_in_ledger(app, found)


def _not_in_ledger(app: App, found: list[Record]) -> list[Record]:
    """Without those whose ledger entry, of another status, is the truth about them."""
    ids = [r["taskId"] for r in found]
    with app.engine().connect() as connection:
        if not ledger.there(connection):
            return found
        known: set[str] = set()
        for part in range(0, len(ids), 500):
            query = select(entries.c.flow_run_id).where(entries.c.flow_run_id.in_(ids[part : part + 500]))
            known |= {str(i) for i in connection.execute(query).scalars()}
    return [r for r in found if r["taskId"] not in known]


def of_entry(app: App, api: Api, entry: Entry, now: datetime) -> Record:
    """The record of a ledger entry."""
    zone, title = _about(app, entry.template)
    status = "overdue" if entry.status == "pending" and entry.due < now else entry.status
    shown = entry.flow_run_id if not entry.row_key and entry.flow_run_id else entry.task_id
    return _record(
        zone, now, shown, entry.template, title, status, entry.due, entry.started, entry.finished,
        entry.row_key or None, None if entry.result is None else json.loads(entry.result), entry.message,
        run_url(api, entry.flow_run_id),
    )  # fmt: skip


def _of_pending(app: App, api: Api, item: Pending, now: datetime) -> Record:
    zone, title = _about(app, item.template)
    run, said = (item.entry.flow_run_id, item.entry.message) if item.entry is not None else (None, "")
    return _record(
        zone, now, str(item.task_id), item.template, title, "pending", item.due, None, None, item.row, None, said,
        run_url(api, run),
    )  # fmt: skip


def _of_run(app: App, api: Api, run: Mapping[str, Any], name: str, now: datetime) -> Record:
    zone, title = _about(app, name)
    status = status_of_run(run, now)
    said = str((run.get("state") or {}).get("message") or "") if status in ("error", "ended") else ""
    return _record(
        zone, now, run["id"], name, title, status, _instant(run["expected_start_time"]) or now,
        _instant(run.get("start_time")), _instant(run.get("end_time")), None, None, said,
        run_url(api, run["id"]),
    )  # fmt: skip


def _record(
    zone: ZoneInfo, now: datetime, task_id: str, name: str, title: str, status: str, due: datetime,
    started: datetime | None, finished: datetime | None, row: str | None, result: Any, message: str, url: str | None,
) -> Record:  # fmt: skip
    until = finished or (now if status == "executing" else None)
    begun = started or (now if status == "overdue" else None)
    return {
        "taskId": task_id,
        "fullName": name,
        "title": title,
        "status": status,
        "dueTime": due.astimezone(zone).isoformat(),
        "startTime": started.astimezone(zone).isoformat() if started else None,
        "endTime": finished.astimezone(zone).isoformat() if finished else None,
        "duration": round((until - started).total_seconds(), 3) if started and until else None,
        "lateness": round(max(0.0, (begun - due).total_seconds()), 3) if begun else None,
        "row": row,
        "result": result,
        "message": message,
        "url": url,
    }


def _about(app: App, name: str) -> tuple[ZoneInfo, str]:
    try:
        template = app.template(name)
    except JittaskError:
        return ZoneInfo(app.timezone), name
    return template.timer.zone, template.title


def run_url(api: Api, run_id: str | None) -> str | None:
    """Where the UI shows a flow run."""
    return links.run(run_id, links.base(api.ui_url)) if run_id else None


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
