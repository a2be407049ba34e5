"""The list of records: pending, executing, overdue, completed, failed and ended tasks, newest due time first."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import and_, not_, or_
from sqlalchemy.exc import SQLAlchemyError

from jittask_prefect.elements.app import App
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.errors import ArgumentError, JittaskError
from jittask_prefect.ledger.tables import entries, late_before
from jittask_prefect.prefect_api import links
from jittask_prefect.prefect_api.answers import FlowRun
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.prefect_api.names import app_tag, of_app, prefect_name
from jittask_prefect.records.batch_page import page_in_batch
from jittask_prefect.records.ledgers import databases_of
from jittask_prefect.records.paging import SPARE, Key, LedgerPage, UnknownRuns
from jittask_prefect.records.record import Record, find_template, labelled, of_entry
from jittask_prefect.records.upcoming import Nearest, known_until, of_rows
from jittask_prefect.rows.flow_runs import row_name, run_tags
from jittask_prefect.schedule.instants import TICK
from jittask_prefect.validation import quoted

YEAR = timedelta(days=366)
LARGEST = 1_000_000_000
"""The largest limit or offset that every database takes."""
STATUS_OF_STATE = {
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
log = logging.getLogger("jittask")


@dataclass(frozen=True, kw_only=True)
class RecordFilter:
    """The conditions that records meet; an absent condition is met by all.

    Attributes:
        name: The template's full name.
        row: The row's key, as text.
        status: A status of the six.
        start: The earliest due time; aware.
        end: The end of the due times, excluded; aware.

    Raises:
        ArgumentError: There is no such status, or the row's key is no text that a database takes.
    """

    name: str | None = None
    row: str | None = None
    status: str | None = None
    start: datetime | None = None
    end: datetime | None = None

    def __post_init__(self) -> None:
        if self.status is not None and self.status not in links.STATES:
            allowed = ", ".join(links.STATES)
            raise ArgumentError(f"status {quoted(self.status)}; allowed: {allowed}")
        if self.row is not None and not _is_storable(self.row):
            allowed = "the row's key as text"
            raise ArgumentError(f"row {quoted(self.row)}; allowed: {allowed}")


def _is_storable(value: object) -> bool:
    """Whether every database takes the value as text: none takes half a surrogate pair, PostgreSQL no NUL."""
    halves = range(0xD800, 0xE000)
    return isinstance(value, str) and not any(
        c == "\0" or ord(c) in halves for c in value
    )


def records(
    app: App,
    api: Api,
    now: datetime,
    wanted: RecordFilter,
    *,
    limit: int = 200,
    offset: int = 0,
) -> list[Record]:
    """A page of records, newest due time first.

    With an end beyond the horizon, pending tasks of rows there are planned from the rows as they are now. Without an
    end nothing bounds such tasks, so the records are those of the ledger and of Prefect's runs.

    Args:
        app: The app.
        api: Prefect, which knows the runs that schedules made.
        now: The present instant.
        wanted: The conditions.
        limit: The number of records at most.
        offset: The number of records before the page.

    Raises:
        ArgumentError: Limit or offset is not a number from 0 to LARGEST.
        PrefectApiError: Prefect cannot be reached.
    """
    for name, value in (("limit", limit), ("offset", offset)):
        is_count = isinstance(value, int) and not isinstance(value, bool)
        if not is_count or not 0 <= value <= LARGEST:
            allowed = f"a whole number from 0 to {LARGEST:,}"
            raise ArgumentError(f"{name} {quoted(value)}; allowed: {allowed}")
    if not limit:
        return []
    end = offset + limit
    planned, borders = _beyond_horizon(app, now, wanted, end)
    template = app.template(wanted.name) if wanted.name is not None else None
    databases = databases_of(template) if template else list(app.databases())
    ledger_page = LedgerPage(app, databases, _conditions(wanted, now, borders), end)
    start_at = max(0, offset - SPARE)
    keys = ledger_page.keys(start_at)
    # Runs due before the last key stand behind this page.
    edge = keys[-1][0][0] if start_at + len(keys) == end else None
    others = {
        _key(record): record
        for record in planned + _of_runs(app, api, now, wanted, edge, end)
    }
    # Each of the others moves the ledger's entries back by a position at most.
    first = max(0, offset - len(others))
    keys = keys[first - start_at :] if first >= start_at else ledger_page.keys(first)
    places: list[tuple[Key, str | None]] = [*keys, *((key, None) for key in others)]
    places.sort(key=lambda place: place[0], reverse=True)
    page = places[offset - first : end - first]
    found = ledger_page.entries([(k, db) for k, db in page if db is not None])
    shown = others | {key: of_entry(app, e, now) for key, e in found.items()}
    # An entry may have been planned anew meanwhile.
    return labelled(app, [shown[key] for key, _ in page if key in shown])


def _beyond_horizon(
    app: App, now: datetime, wanted: RecordFilter, limit: int
) -> tuple[list[Record], dict[str, datetime]]:
    """The last pending tasks of rows beyond the horizon, and by template the instant from which rows answer."""
    borders: dict[str, datetime] = {}
    kept = Nearest(limit, last=True, row=wanted.row)
    horizon = now + timedelta(hours=app.cfg.horizon)
    end = wanted.end
    if end is None or end <= horizon or wanted.status not in (None, "pending"):
        return [], borders
    for template in app.templates():
        name = template.fullName
        if not isinstance(template, DateFieldType) or wanted.name not in (None, name):
            continue
        try:
            border = known_until(template, now)
            if border is not None:
                after = border + TICK
                start = max(after, wanted.start or after)
                of_rows(template, start, end, now, kept)
                borders[name] = border
        except (JittaskError, SQLAlchemyError) as error:
            log.warning("%s: tasks beyond the horizon are not known: %s", name, error)
    for problem in kept.problems:
        log.warning("%s", problem)
    # An entry that is due within the horizon is shown as the ledger has it.
    return [
        record
        for record in kept.records
        if record.ledger_due is None or record.ledger_due > borders[record.template]
    ], borders


def _conditions(
    wanted: RecordFilter, now: datetime, borders: dict[str, datetime]
) -> list[Any]:
    """The conditions on the ledger's entries; pending tasks of rows beyond the borders are left out."""
    c = entries.c
    pending = c.status == "pending"
    where = []
    if borders:
        beyond = [and_(c.template == n, c.due > at) for n, at in borders.items()]
        where.append(not_(and_(or_(*beyond), c.row_key != "", pending)))
    if wanted.name is not None:
        where.append(c.template == wanted.name)
    if wanted.row is not None:
        where.append(c.row_key == wanted.row)
    if wanted.start is not None:
        where.append(c.due >= wanted.start)
    if wanted.end is not None:
        where.append(c.due < wanted.end)
    if wanted.status == "overdue":
        where += [pending, late_before(now)]
    elif wanted.status == "pending":
        where += [pending, not_(late_before(now))]
    elif wanted.status is not None:
        where.append(c.status == wanted.status)
    return where


def _of_runs(
    app: App,
    api: Api,
    now: datetime,
    wanted: RecordFilter,
    edge: datetime | None,
    limit: int,
) -> list[Record]:
    """The records of scheduled templates' runs that the ledger does not know, due at the edge or later."""
    if wanted.row is not None:
        return []
    scheduled = {
        template.fullName
        for template in app.templates()
        if not isinstance(template, DateFieldType)
        and wanted.name in (None, template.fullName)
    }
    deployments = api.deployments(app_tag(app.name))
    names = {d.id: name for name, d in deployments.items() if name in scheduled}
    if not names:
        return []
    start, end, status = wanted.start, wanted.end, wanted.status
    if status == "pending":
        start = max(start or now, now)
    elif status == "overdue":
        end, status = min(end or now, now), "pending"
    start = max(filter(None, [start, edge]), default=None)
    states = [s for s, of in STATUS_OF_STATE.items() if status in (None, of)]
    runs = UnknownRuns(app, api, names, states, start, end).newest(limit, now)
    found = [_of_run(app, run, names[str(run.deployment_id)], now) for run in runs]
    return [
        record
        for record in found
        if wanted.status in (None, record.status)
        and (wanted.end is None or _key(record)[0] < wanted.end)
    ]


def _of_run(app: App, run: FlowRun, name: str, now: datetime) -> Record:
    template = find_template(app, name)
    status = status_of_run(run, now)
    return Record(
        template=name,
        title=template.title if template else name,
        due=run.expected_start_time.astimezone(
            template.timer.zone if template else app.zone
        ),
        as_of=now,
        state=status,
        task_id=run.id,
        started=run.start_time,
        finished=run.end_time,
        message=run.message if status in ("error", "ended") else "",
        flow_run_id=run.id,
    )


def status_of_run(run: FlowRun, now: datetime) -> str:
    """A flow run's status in the words of the records."""
    status = STATUS_OF_STATE.get(str(run.state_type), "pending")
    late = run.state_name == "Late" or run.expected_start_time < now
    return "overdue" if status == "pending" and late else status


def _key(record: Record) -> Key:
    assert record.due is not None
    return record.due.astimezone(UTC), str(record.task_id)


def link(app: App, api: Api, now: datetime, wanted: RecordFilter) -> str:
    """The page of Prefect's UI with the flow runs of some records; of a row of a batch its task run, or the batch's run.

    Args:
        app: The app.
        api: Prefect.
        now: The present instant.
        wanted: The conditions.

    Raises:
        UnknownElement: There is no such template.
        ArgumentError: A row is named without a date-field task.
    """
    tag, named = app_tag(app.name), None
    if wanted.name is not None:
        tag = of_app(app.name, wanted.name)
    if wanted.row is not None:
        template = app.template(wanted.name) if wanted.name else None
        if not isinstance(template, DateFieldType):
            allowed = "allowed: with the name of a date-field task"
            raise ArgumentError(f"row {quoted(wanted.row)}; {allowed}")
        if page := page_in_batch(
            api, template, wanted.row, _conditions(wanted, now, {})
        ):
            return page
        row_tag = run_tags(app, template.fullName, template.model_name, wanted.row)[-1]
        if "," in row_tag:  # a link separates tags by commas
            named = prefect_name(row_name(template.model_name, wanted.row))
        else:
            tag = row_tag
    start, end = wanted.start, wanted.end
    if start is not None and end is None:
        end = max(start, now) + YEAR  # the page's chart shows the whole range
    return links.runs(
        wanted.status,
        tag=tag,
        start=start,
        end=end,
        named=named,
        at=links.base(api.ui_url),
    )
