"""Pending tasks up to any date: from the ledger within the horizon, from the rows beyond.

Beyond the horizon the ledger has no entry of a row, or its next only. Tasks there are planned from the rows as they
are now, as a sync will do, with the ids that a sync will give them. Rows are read in chunks, and no more tasks are kept
than were asked for.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice

from sqlalchemy import Connection, or_, select

from jittask_prefect.elements.app import check_rows
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import JittaskError
from jittask_prefect.ledger import planned_rows, versions, watermarks
from jittask_prefect.ledger.entry import Entry, to_entry
from jittask_prefect.ledger.tables import entries, of_app
from jittask_prefect.records.ledgers import connections, databases_of
from jittask_prefect.records.record import Record, of_entry, of_occurrence
from jittask_prefect.rows.plan import Action, plan_row
from jittask_prefect.rows.row_reading import Dated, Unreadable
from jittask_prefect.rows.scan import CHUNK, Scan, snapshot
from jittask_prefect.rows.template_planner import fingerprint
from jittask_prefect.schedule.instants import TICK
from jittask_prefect.schedule.timer import Occurrence, Series

FIRST_SPAN = timedelta(days=1)
MOST_PROBLEMS = 20
"""The rows that cannot be read or planned and are named singly."""
BAD_DATES = (ValueError, TypeError, OverflowError)


class Nearest:
    """The tasks that are due first, or last, out of any number.

    Args:
        limit: The number of tasks to keep, 1 or more.
        last: Keep the last instead of the first.
        row: Keep only tasks of the row with this key.
    """

    def __init__(
        self, limit: int, *, last: bool = False, row: str | None = None
    ) -> None:
        self.limit, self.last, self.row = limit, last, row
        self.records: list[Record] = []
        self.problems: list[str] = []

    def add(self, record: Record) -> None:
        """Keep a task, and drop the farthest task above the limit."""
        if self.row not in (None, record.row):
            return
        insort(self.records, record, key=self._rank)
        if len(self.records) > self.limit:
            self.records.pop(0 if self.last else -1)

    def _rank(self, record: Record) -> tuple[float, str]:
        # A list of records shows the greatest id of an instant first. Upcoming
        # tasks of an instant stay in the order of reading.
        return _due(record).timestamp(), (record.task_id or "") * self.last

    def window(self, after: datetime, before: datetime) -> tuple[datetime, datetime]:
        """The part of [after, before) whose tasks can still be kept."""
        if len(self.records) < self.limit:
            return after, before
        farthest = _due(self.records[0 if self.last else -1])
        if self.last:
            return max(after, farthest), before
        return after, min(before, farthest)

    def occurrences(
        self, series: Series, after: datetime, before: datetime
    ) -> list[Occurrence]:
        """The occurrences of a series in [after, before) that can still be kept."""
        after, before = self.window(after, before)
        if self.last:
            return latest(series, after, before, self.limit)
        return list(islice(series.between(after, before), self.limit))

    def problem(self, template: Meta, key: str, why: object) -> None:
        """Note a row that cannot be planned; above MOST_PROBLEMS only that there are more."""
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(f"{template.fullName}, row {key}: {why}")
        elif len(self.problems) == MOST_PROBLEMS:
            self.problems.append("and more rows")


def pending(template: Meta, before: datetime, now: datetime, limit: int) -> Nearest:
    """The first pending and overdue tasks of a template that are due before an instant.

    Args:
        template: The template.
        before: The end of the window, excluded; aware.
        now: The present instant.
        limit: The number of tasks at most.
    """
    kept = Nearest(limit)
    if isinstance(template, DateFieldType):
        border = known_until(template, now)
        _of_ledger(template, before, border, now, kept)
        if border is not None:
            of_rows(template, border + TICK, before, now, kept)
        return kept
    _of_ledger(template, before, None, now, kept)
    if template.enable:
        _of_schedule(template, before, now, kept)
    return kept


def known_until(template: DateFieldType, now: datetime) -> datetime | None:
    """The instant up to which (included) the ledger holds the tasks of a template.

    The instant is the horizon of the last sync. It is the present where no sync has run since the template changed,
    and None where the template is disabled.
    """
    if not template.enable:
        return None
    database = template.app.database_of(template.model_name)
    for _, connection in connections(template.app, [database]):
        memory = watermarks.memories(connection, template.app.name).get(
            template.fullName
        )
        if memory and memory.upto and memory.config == fingerprint(template):
            return max(now, memory.upto)
    return now


def of_rows(
    template: DateFieldType,
    after: datetime,
    before: datetime,
    now: datetime,
    kept: Nearest,
) -> None:
    """Plan the rows that are due in [after, before), and keep the nearest of their tasks.

    A row that cannot be read, e.g. text in a date column, becomes a problem of `kept`. The other rows are planned.

    Args:
        template: The template.
        after: The start of the window, in the future; aware.
        before: The end of the window, excluded.
        now: The present instant.
        kept: Takes the tasks and problems.

    Raises:
        ConfigError: The template cannot work.
        JittaskError: The keys of rows cannot be read.
    """
    check_rows(template)
    engine = template.app.engine(template.app.database_of(template.model_name))
    scan, last = Scan(template, now, engine.dialect.name), None
    while True:
        after, before = kept.window(after, before)
        if after >= before:
            return
        condition = scan.condition((after - TICK, before - TICK))
        if condition is None:
            return
        with snapshot(engine) as connection:
            try:
                rows, last = scan.rows(connection, condition, last)
            except BAD_DATES as error:
                keys = f"{template.fullName}: the keys of {template.model_name}"
                raise JittaskError(f"{keys} cannot be read: {error}") from error
            for start in range(0, len(rows), CHUNK):
                chunk = rows[start : start + CHUNK]
                _of_chunk(template, connection, chunk, after, before, now, kept)
        if last is None:
            return


def _of_chunk(
    template: DateFieldType,
    connection: Connection,
    rows: Sequence[Dated | Unreadable],
    after: datetime,
    before: datetime,
    now: datetime,
    kept: Nearest,
) -> None:
    upcoming: dict[str, tuple[Series, list[Occurrence]]] = {}
    for row in rows:
        if isinstance(row, Unreadable):
            kept.problem(template, row.key, row.why)
            continue
        try:
            series = template.series_of(row.times)
            due = kept.occurrences(series, after, before) if series else []
            if series and due:
                upcoming[row.key] = series, due
        except BAD_DATES as error:
            kept.problem(template, row.key, error)
    app, name = template.app.name, template.fullName
    known: dict[tuple[str, str], list[Entry]] = {}
    if upcoming and versions.there(connection):
        known = planned_rows.of_rows(connection, app, [name], list(upcoming))
    for key, (series, due) in upcoming.items():
        mine = known.get((name, key), [])
        try:
            plan = plan_row(template, key, series, due, mine, now)
        except BAD_DATES as error:
            kept.problem(template, key, error)
            continue
        for record in pending_records(template, key, due, mine, plan, now):
            kept.add(record)


def pending_records(
    template: DateFieldType,
    key: str,
    due: Sequence[Occurrence],
    known: Sequence[Entry],
    plan: Sequence[Action],
    now: datetime,
) -> list[Record]:
    """The pending tasks among a row's future occurrences, without occurrences that have ended or are done already.

    Args:
        template: The template.
        key: The row's key.
        due: The occurrences.
        known: The ledger's entries of the row.
        plan: The actions that the next sync will take on the row.
        now: The present instant.
    """
    waiting = {entry.task_id: entry for entry in known if entry.status == "pending"}
    actions = {
        action.due.astimezone(UTC): action
        for action in plan
        if action.action != "end"
        and (action.action != "skip" or action.task_id in waiting)
    }
    records = []
    for occurrence in due:
        action = actions.get(occurrence.due.astimezone(UTC))
        if action is None:
            continue
        record = of_occurrence(
            template,
            now,
            occurrence.due,
            occurrence.nominal,
            occurrence.moved,
            row=key,
            task_id=action.task_id,
            level=occurrence.level,
        )
        if entry := waiting.get(action.task_id):
            record = replace(
                record,
                message=entry.message,
                flow_run_id=entry.flow_run_id,
                ledger_due=entry.due,
                opening=entry.not_before,
            )
        records.append(record)
    return records


def latest(
    series: Series, after: datetime, before: datetime, limit: int
) -> list[Occurrence]:
    """The last occurrences due in [after, before), found backwards from the end in growing spans."""
    found: list[Occurrence] = []
    span = FIRST_SPAN
    while len(found) < limit and before > after:
        low = before - span if before - after > span else after
        found = [*series.between(low, before), *found]
        before, span = low, span * 4
    return found[-limit:]


def _of_ledger(
    template: Meta,
    before: datetime,
    border: datetime | None,
    now: datetime,
    kept: Nearest,
) -> None:
    """Keep the ledger's pending tasks: of rows up to the border, others up to the end of the window."""
    mine = entries.c.row_key == ""
    query = (
        select(entries)
        .where(
            of_app(template.app.name),
            entries.c.template == template.fullName,
            entries.c.status == "pending",
            entries.c.due < before,
            mine if border is None else or_(mine, entries.c.due <= border),
        )
        .order_by(entries.c.due, entries.c.row_key)
        .limit(kept.limit)
    )
    for _, connection in connections(template.app, databases_of(template)):
        for found in connection.execute(query):
            kept.add(of_entry(template.app, to_entry(found), now))


def _of_schedule(
    template: Meta, before: datetime, now: datetime, kept: Nearest
) -> None:
    """Keep the occurrences of a scheduled task, except occurrences that were ended before they began."""
    series = template.series()
    if series is None:
        return
    ended: set[datetime] = set()
    query = select(entries.c.due).where(
        of_app(template.app.name),
        entries.c.template == template.fullName,
        entries.c.due >= now,
        entries.c.due < before,
        entries.c.func_name.is_(None),
        entries.c.status != "pending",
    )
    for _, connection in connections(template.app):
        ended.update(connection.execute(query).scalars())
    upcoming = (
        occurrence
        for occurrence in series.between(now, before)
        if occurrence.due.astimezone(UTC) not in ended
    )
    for occurrence in islice(upcoming, kept.limit):
        due, nominal = occurrence.due, occurrence.nominal
        kept.add(of_occurrence(template, now, due, nominal, occurrence.moved))


def _due(record: Record) -> datetime:
    assert record.due is not None
    return record.due
