"""Execution records: what is pending, executing, overdue, completed, failed and ended."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import and_, not_, or_
from sqlalchemy.exc import SQLAlchemyError

from jittask_prefect.elements.app import DEFAULT, App
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.errors import ArgumentError, JittaskError
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.keys import from_json
from jittask_prefect.ledger.tables import entries
from jittask_prefect.prefect_api import links
from jittask_prefect.prefect_api.answers import FlowRun
from jittask_prefect.prefect_api.client import Api
from jittask_prefect.prefect_api.names import app_tag
from jittask_prefect.records import upcoming
from jittask_prefect.records.paging import SPARE, Key, LedgerPart, RunsPart
from jittask_prefect.records.upcoming import Nearest, Pending
from jittask_prefect.rows.run_names import run_of, run_tags
from jittask_prefect.validation import quoted

STATUSES = ("pending", "executing", "overdue", "completed", "error", "ended")
FIELDS = (
    "taskId", "fullName", "title", "status", "dueTime", "startTime", "endTime", "duration", "lateness", "row", "result",
    "message", "url",
)  # fmt: skip
YEAR = timedelta(days=366)
MOST = 1_000_000_000
"""The largest limit or offset: a database takes no number of any length."""
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


def status_of_run(run: FlowRun, now: datetime) -> str:
    """A flow run's status in the words of the records."""
    status = _BY_STATE.get(str(run.state_type), "pending")
    name, due = run.state_name, run.expected_start_time
    return (
        "overdue"
        if status == "pending" and (name == "Late" or (due is not None and due < now))
        else status
    )


@dataclass(frozen=True)
class _Asked:
    """What records are asked for; all that is absent is any."""

    name: str | None
    row: str | None
    status: str | None
    start: datetime | None
    end: datetime | None


def records(
    app: App,
    api: Api,
    now: datetime,
    *,
    name: str | None = None,
    row: str | None = None,
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
        row: Only those of the row with this key, as text.
        status: Only those of this status.
        start: Only those due then or later.
        end: Only those due earlier.
        limit: How many at most.
        offset: How many to leave out first.

    Raises:
        ArgumentError: The status is none of `STATUSES`, or limit or offset is no count.
        PrefectApiError: Prefect cannot be reached.
    """
    _check_status(status)
    for what, value in (("limit", limit), ("offset", offset)):
        if (
            not isinstance(value, int)
            or isinstance(value, bool)
            or not 0 <= value <= MOST
        ):
            raise ArgumentError(
                f"{what} {quoted(value)}; allowed: a whole number from 0 to {MOST:,}"
            )
    if not limit:
        return []
    asked, window = _Asked(name, row, status, start, end), offset + limit
    coming, borders = _beyond(app, now, asked, window)
    of_ledger = LedgerPart(
        app, _databases(app, name), _where(asked, now, borders), window
    )
    start_at = max(0, offset - SPARE)
    keys = of_ledger.keys(start_at)
    # What is due earlier than the last one stands behind this page.
    edge = keys[-1][0][0] if start_at + len(keys) == window else None
    rest = [
        (
            (item.due.astimezone(UTC), str(item.task_id)),
            _of_pending(app, api, item, now),
        )
        for item in coming
        # One whose entry is due within the horizon, and other than the row says now, is shown as the ledger has it.
        if item.entry is None or item.entry.due > borders[item.template]
    ]
    rest += _of_runs(app, api, now, asked, edge, window)
    # At most so many of the ledger's stand behind their own position: nothing before that need be read.
    first = max(0, offset - len(rest))
    keys = keys[first - start_at :] if first >= start_at else of_ledger.keys(first)
    found: list[tuple[Key, str | Record]] = [*rest, *keys]
    found.sort(key=lambda pair: pair[0], reverse=True)
    page = found[offset - first : window - first]
    known = of_ledger.entries(
        [(key, item) for key, item in page if isinstance(item, str)]
    )
    return [
        of_entry(app, api, known[key], now) if isinstance(item, str) else item
        for key, item in page
        if key in known
        or not isinstance(item, str)  # it may have been planned anew meanwhile
    ]


def _databases(app: App, name: str | None) -> list[str]:
    """Where there can be entries of a template: executions outside the schedule are in the default one."""
    template = app.template(name) if name is not None else None
    if template is None:
        return list(app.databases())
    of = (
        app.database_of(template.model_name)
        if isinstance(template, DateFieldType)
        else DEFAULT
    )
    return list(dict.fromkeys([DEFAULT, of]))


def _beyond(
    app: App, now: datetime, asked: _Asked, most: int
) -> tuple[list[Pending], dict[str, datetime]]:
    """The pending tasks of rows beyond the horizon, and of each template that was asked where that begins."""
    borders: dict[str, datetime] = {}
    kept = Nearest(most, last=True, row=asked.row)
    end = asked.end
    if (
        end is None
        or end <= now + timedelta(hours=app.cfg.horizon)
        or asked.status not in (None, "pending")
    ):
        return [], borders
    for template in app.templates():
        if not isinstance(template, DateFieldType) or asked.name not in (
            None,
            template.fullName,
        ):
            continue
        try:
            with app.engine(
                app.database_of(template.model_name)
            ).connect() as connection:
                border = upcoming.ledger_until(connection, template, now)
            if border is not None:
                after = border + upcoming.TICK
                upcoming.of_rows(
                    app, template, max(after, asked.start or after), end, now, kept
                )
                borders[template.fullName] = border
        except (JittaskError, SQLAlchemyError) as error:
            # One template that cannot be planned keeps no other from being shown.
            log.warning(
                "%s: what is due beyond the horizon is not known: %s",
                template.fullName,
                error,
            )
    for problem in kept.problems:
        log.warning("%s", problem)
    return kept.found(), borders


def _where(asked: _Asked, now: datetime, borders: Mapping[str, datetime]) -> list[Any]:
    """The conditions on the ledger's entries."""
    where = []
    if borders:  # beyond them the rows have answered
        beyond = or_(
            *(
                and_(entries.c.template == n, entries.c.due > at)
                for n, at in borders.items()
            )
        )
        where.append(
            not_(and_(beyond, entries.c.row_key != "", entries.c.status == "pending"))
        )
    if asked.name is not None:
        where.append(entries.c.template == asked.name)
    if asked.row is not None:
        where.append(entries.c.row_key == asked.row)
    if asked.start is not None:
        where.append(entries.c.due >= asked.start)
    if asked.end is not None:
        where.append(entries.c.due < asked.end)
    if asked.status == "overdue":
        where += [entries.c.status == "pending", entries.c.due < now]
    elif asked.status == "pending":
        where += [entries.c.status == "pending", entries.c.due >= now]
    elif asked.status is not None:
        where.append(entries.c.status == asked.status)
    return where


def _of_runs(
    app: App, api: Api, now: datetime, asked: _Asked, edge: datetime | None, most: int
) -> list[tuple[Key, Record]]:
    """Runs of scheduled templates that the ledger does not know: not begun, or ended before they began.

    Args:
        app: The app.
        api: Prefect.
        now: The present instant.
        asked: What is asked for.
        edge: None of those that are due earlier is.
        most: How many at most.
    """
    if asked.row is not None:
        return []
    names = {t.fullName for t in app.templates() if not isinstance(t, DateFieldType)}
    names &= {asked.name} if asked.name is not None else names
    by_id = {
        d["id"]: n for n, d in api.deployments(app_tag(app.name)).items() if n in names
    }
    if not by_id:
        return []
    low, high, kind = asked.start, asked.end, asked.status
    if kind == "pending":
        low = max(low or now, now)
    elif kind == "overdue":
        high, kind = min(high or now, now), "pending"
    low = max(filter(None, [low, edge]), default=None)
    states = [state for state, status in _BY_STATE.items() if kind in (None, status)]
    found = []
    for run in RunsPart(app, api, by_id, states, low, high).newest(most, now):
        record = _of_run(app, api, run, by_id[run.deployment_id], now)
        instant = run.expected_start_time
        outside = asked.end is not None and instant >= asked.end
        if not outside and asked.status in (None, record["status"]):
            found.append(((instant, run.id), record))
    return found


def of_entry(app: App, api: Api, entry: Entry, now: datetime) -> Record:
    """The record of a ledger entry."""
    zone, title = _about(app, entry.template)
    status = (
        "overdue" if entry.status == "pending" and entry.due < now else entry.status
    )
    shown = (
        entry.flow_run_id if not entry.row_key and entry.flow_run_id else entry.task_id
    )
    return _record(
        zone, now, shown, entry.template, title, status, entry.due, entry.started, entry.finished,
        entry.row_key or None, None if entry.result is None else from_json(entry.result), entry.message,
        run_url(api, entry.flow_run_id),
    )  # fmt: skip


def _of_pending(app: App, api: Api, item: Pending, now: datetime) -> Record:
    zone, title = _about(app, item.template)
    run, said = (
        (item.entry.flow_run_id, item.entry.message)
        if item.entry is not None
        else (None, "")
    )
    return _record(
        zone, now, str(item.task_id), item.template, title, "pending", item.due, None, None, item.row, None, said,
        run_url(api, run),
    )  # fmt: skip


def _of_run(app: App, api: Api, run: FlowRun, name: str, now: datetime) -> Record:
    zone, title = _about(app, name)
    status = status_of_run(run, now)
    said = run.message if status in ("error", "ended") else ""
    return _record(
        zone, now, run.id, name, title, status, run.expected_start_time,
        run.start_time, run.end_time, None, None, said,
        run_url(api, run.id),
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
        "duration": round((until - started).total_seconds(), 3)
        if started and until
        else None,
        "lateness": round(max(0.0, (begun - due).total_seconds()), 3)
        if begun
        else None,
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


def link(
    app: App,
    api: Api,
    now: datetime,
    *,
    name: str | None = None,
    row: str | None = None,
    status: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> str:
    """Where the UI shows the flow runs of the records that are asked for (`records`); rows of a batch share theirs.

    Raises:
        UnknownElement: There is no such template.
        ArgumentError: The status is none of `STATUSES`, or a row is named and no date-field task.
    """
    _check_status(status)
    tag, named = app_tag(app.name) if name is None else name, None
    if row is not None:
        template = app.template(name) if name else None
        if not isinstance(template, DateFieldType):
            raise ArgumentError(
                f"row {quoted(row)}; allowed: with the name of a date-field task"
            )
        *_, mine = run_tags(template.fullName, template.model_name, row)
        tag, named = (
            (tag, run_of(template.model_name, row)) if "," in mine else (mine, None)
        )
    if start is not None and end is None:
        end = max(start, now) + YEAR  # the page's chart shows the whole range
    return links.runs(
        status, tag=tag, start=start, end=end, named=named, at=links.base(api.ui_url)
    )


def _check_status(status: str | None) -> None:
    if status is not None and status not in STATUSES:
        raise ArgumentError(f"status {quoted(status)}; allowed: {', '.join(STATUSES)}")


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
