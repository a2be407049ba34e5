"""What is pending up to any date: from the ledger as far as the syncs have looked, beyond that from the rows.

A row that is due beyond the horizon has no entry in the ledger, or (the model events write it) only its next one. So
what lies there is planned from the rows as they are now, as a sync will do it, and has the ids that it will have if
nothing changes. Rows are read in parts, and no more is kept than was asked for.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from typing import Any

from sqlalchemy import Connection, and_, or_, select

from jittask_prefect.elements.app import DEFAULT, App, check_rows
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import JittaskError
from jittask_prefect.ledger import planned_rows, versions, watermarks
from jittask_prefect.ledger.entry import Entry, to_entry
from jittask_prefect.ledger.tables import entries
from jittask_prefect.rows.fingerprint import fingerprint
from jittask_prefect.rows.plan import plan_row
from jittask_prefect.rows.row_reading import Dated, Unreadable
from jittask_prefect.rows.scan import CHUNK, Scan, snapshot
from jittask_prefect.schedule.timer import Occurrence, Series

TICK = timedelta(microseconds=1)
FIRST_LOOK = timedelta(days=1)
TOLD = 20
"""How many rows that cannot be read or planned are told one by one."""


@dataclass(frozen=True)
class Pending:
    """One pending task.

    Attributes:
        row: The row's key; None for an execution of a scheduled task.
        due: When; aware, in the task's zone.
        nominal: Before the holiday move; None for an execution outside the schedule.
        moved: Why `due` is another day than `nominal`, where that is known.
        task_id: None for an occurrence of a schedule: Prefect names its run when it makes it.
        entry: What the ledger holds of it.
    """

    template: str
    row: str | None
    due: datetime
    nominal: datetime | None
    moved: str | None = None
    task_id: str | None = None
    entry: Entry | None = None

    def as_dict(self, now: datetime) -> dict[str, Any]:
        """The task as `jittask pending --json` prints it."""
        return {
            "fullName": self.template,
            "row": self.row,
            "taskId": self.task_id,
            "status": "overdue" if self.due < now else "pending",
            "dueTime": self.due.isoformat(),
            "nominal": self.nominal.isoformat() if self.nominal else None,
            "movedBy": self.moved,
            "inLedger": self.entry is not None,
        }


@dataclass
class Nearest:
    """The first so many tasks by due time, or the last, however they are found; of one row where it is named."""

    most: int
    last: bool = False
    row: str | None = None
    problems: list[str] = field(default_factory=list)
    _heap: list[tuple[tuple[Any, ...], Pending]] = field(default_factory=list)
    _number: Iterator[int] = field(default_factory=count)

    def add(self, item: Pending) -> None:
        """Keep a task, and drop the one that is then one too many."""
        if self.row is not None and item.row != self.row:
            return
        at = item.due.astimezone(UTC).timestamp()
        # Of those due at one instant the records show the greater ids first; a list of what comes, those read first.
        rank = (
            (at, item.task_id or "", next(self._number))
            if self.last
            else (-at, -next(self._number))
        )
        heapq.heappush(self._heap, (rank, item))
        if len(self._heap) > self.most:
            heapq.heappop(self._heap)

    @property
    def edge(self) -> datetime | None:
        """The due time of the task that the next better one drops; None while there is room."""
        return (
            self._heap[0][1].due
            if self._heap and len(self._heap) >= self.most
            else None
        )

    def found(self) -> list[Pending]:
        """The tasks kept, by due time."""
        ordered = sorted(self._heap, key=lambda pair: pair[0], reverse=not self.last)
        return [item for _, item in ordered]

    def problem(self, text: str) -> None:
        """Note what could not be planned; beyond the first few it is only said that there are more."""
        if len(self.problems) < TOLD:
            self.problems.append(text)
        elif len(self.problems) == TOLD:
            self.problems.append("and more rows")


def pending(
    app: App, template: Meta, before: datetime, now: datetime, most: int
) -> Nearest:
    """The first pending and overdue tasks of a template that are due before an instant.

    Args:
        app: The app.
        template: The template.
        before: End of the window, excluded.
        now: The present instant.
        most: How many at most.
    """
    kept = Nearest(most)
    if isinstance(template, DateFieldType):
        with app.engine(app.database_of(template.model_name)).connect() as connection:
            border = ledger_until(connection, template, now)
        _of_ledger(app, template, before, border, kept)
        if border is not None:
            of_rows(app, template, border + TICK, before, now, kept)
        return kept
    _of_ledger(app, template, before, None, kept)
    if template.enable:
        for item in _of_schedule(app, template, now, before, most):
            kept.add(item)
    return kept


def ledger_until(
    connection: Connection, template: DateFieldType, now: datetime
) -> datetime | None:
    """Up to when (included) the ledger knows of what is due of a date-field template; None where it makes no tasks.

    That is the horizon as of the last sync; the present where none has run, or the template is not what it was then.
    """
    if not template.enable:
        return None
    if not versions.there(connection):
        return now
    memory = watermarks.memories(connection, template.app.name).get(template.fullName)
    if memory is None or memory.upto is None or memory.config != fingerprint(template):
        return now
    return max(now, memory.upto)


def of_rows(
    app: App,
    template: DateFieldType,
    after: datetime,
    before: datetime,
    now: datetime,
    kept: Nearest,
) -> None:
    """Plan the rows that are due in [after, before), which is yet to come, and keep the nearest of their tasks.

    A row that cannot be read, as a text in a date column cannot, is a problem told in `kept`; the others are planned.

    Raises:
        ConfigError: The template cannot work.
        JittaskError: The keys of rows cannot be read.
    """
    check_rows(template)
    engine = app.engine(app.database_of(template.model_name))
    scan, last = Scan(template, now, engine.dialect.name), None
    while True:
        # What the rows read so far have filled is not looked for in the next ones.
        after, before = _open(after, before, kept)
        condition = (
            scan.condition((after - TICK, before - TICK)) if after < before else None
        )
        if condition is None:
            return
        with snapshot(engine) as connection:
            try:
                rows, last = scan.rows(connection, condition, last)
            except (ValueError, TypeError, OverflowError) as error:
                where = f"{template.fullName}: the keys of {template.model_name}"
                raise JittaskError(f"{where} cannot be read: {error}") from error
            for start in range(0, len(rows), CHUNK):
                _of_part(
                    app,
                    template,
                    connection,
                    rows[start : start + CHUNK],
                    after,
                    before,
                    now,
                    kept,
                )
        if last is None:
            return


def _of_part(
    app: App,
    template: DateFieldType,
    connection: Connection,
    rows: list[Dated | Unreadable],
    after: datetime,
    before: datetime,
    now: datetime,
    kept: Nearest,
) -> None:
    coming: dict[str, tuple[Series, list[Occurrence]]] = {}
    for row in rows:
        if isinstance(row, Unreadable):
            kept.problem(f"{template.fullName}, row {row.key}: {row.why}")
            continue
        try:
            series = template.timer.series(row.start, row.end)
            if series is not None and (due := _nearest(series, after, before, kept)):
                coming[row.key] = series, due
        except (ValueError, OverflowError, TypeError) as error:
            kept.problem(f"{template.fullName}, row {row.key}: {error}")
    if not coming:
        return
    known = versions.there(connection)
    found = (
        planned_rows.of_rows(connection, app.name, [template.fullName], list(coming))
        if known
        else {}
    )
    for key, (series, due) in coming.items():
        try:
            for item in planned(
                app,
                template,
                key,
                series,
                due,
                found.get((template.fullName, key), []),
                now,
            ):
                kept.add(item)
        except (ValueError, OverflowError, TypeError) as error:
            kept.problem(f"{template.fullName}, row {key}: {error}")


def _open(
    after: datetime, before: datetime, kept: Nearest
) -> tuple[datetime, datetime]:
    """The part of a window of which tasks may be kept."""
    edge = kept.edge
    if edge is None:
        return after, before
    return (max(after, edge), before) if kept.last else (after, min(before, edge))


def _nearest(
    series: Series, after: datetime, before: datetime, kept: Nearest
) -> list[Occurrence]:
    """Those of a row's occurrences that may be kept."""
    if not kept.most:
        return []
    after, before = _open(after, before, kept)
    if kept.last:
        return latest(series, after, before, kept.most)
    return list(islice(series.between(after, before), kept.most))


def planned(
    app: App,
    template: DateFieldType,
    key: str,
    series: Series,
    due: list[Occurrence],
    found: list[Entry],
    now: datetime,
) -> list[Pending]:
    """The tasks of a row's occurrences that are yet to come; those that were ended or done already are none."""
    waiting = {e.task_id: e for e in found if e.status == "pending"}
    plan = plan_row(
        app.name, template.fullName, key, series, due, found, now, template.cfg.missed
    )
    actions = {a.due.astimezone(UTC): a for a in plan if a.action != "end"}
    tasks = []
    for item in due:
        action = actions.get(item.due.astimezone(UTC))
        if action is not None and (
            action.action != "skip" or action.task_id in waiting
        ):
            entry = waiting.get(action.task_id)
            tasks.append(
                Pending(
                    template.fullName,
                    key,
                    item.due,
                    item.nominal,
                    item.moved,
                    action.task_id,
                    entry,
                )
            )
    return tasks


def latest(
    series: Series, after: datetime, before: datetime, most: int
) -> list[Occurrence]:
    """The last so many occurrences due in [after, before): from its end back, in growing steps."""
    found: list[Occurrence] = []
    span = FIRST_LOOK
    while len(found) < most and before > after:
        low = before - span if before - after > span else after
        found = [*series.between(low, before), *found]
        before, span = low, span * 4
    return found[-most:] if most else []


def _of_ledger(
    app: App, template: Meta, before: datetime, border: datetime | None, kept: Nearest
) -> None:
    """What the ledger holds as pending: of rows up to the border, executions outside the schedule up to the end."""
    mine = entries.c.row_key == ""
    zone = template.timer.zone
    if isinstance(template, DateFieldType):
        mine = mine if border is None else or_(mine, entries.c.due <= border)
        database = app.database_of(template.model_name)
        places = [database] if database == DEFAULT else [database, DEFAULT]
    else:
        places = [DEFAULT]
    where = and_(
        entries.c.template == template.fullName,
        entries.c.status == "pending",
        entries.c.due < before,
        mine,
    )
    query = (
        select(entries)
        .where(where)
        .order_by(entries.c.due, entries.c.row_key)
        .limit(kept.most)
    )
    for place in places:
        with app.engine(place).connect() as connection:
            if not versions.there(connection):
                continue
            for record in connection.execute(query):
                kept.add(_of_entry(template, to_entry(record), zone))


def _of_entry(template: Meta, entry: Entry, zone: Any) -> Pending:
    due, nominal = (
        entry.due.astimezone(zone),
        entry.nominal.astimezone(zone) if entry.nominal else None,
    )
    shown = entry.task_id if entry.row_key else entry.flow_run_id or entry.task_id
    return Pending(
        template.fullName,
        entry.row_key or None,
        due,
        nominal,
        why_moved(template, entry),
        shown,
        entry,
    )


def why_moved(template: Meta, entry: Entry) -> str | None:
    """Why a task is not due on the day of its nominal occurrence, as far as the calendar says so today."""
    if (
        entry.nominal is None
        or entry.nominal == entry.due
        or not template.timer.moves.active
    ):
        return None
    return template.timer.moves.blocked(
        entry.nominal.astimezone(template.timer.zone).date()
    )


def _of_schedule(
    app: App, template: Meta, now: datetime, before: datetime, most: int
) -> Iterator[Pending]:
    """The occurrences of a scheduled task, without those that were ended before they began."""
    series = template.series()
    if series is None:
        return
    mine = and_(
        entries.c.template == template.fullName,
        entries.c.due >= now,
        entries.c.due < before,
    )
    query = select(entries.c.due).where(
        mine, entries.c.func_name.is_(None), entries.c.status != "pending"
    )
    with app.engine().connect() as connection:
        ended = (
            set(connection.execute(query).scalars())
            if versions.there(connection)
            else set()
        )
    coming = (
        o for o in series.between(now, before) if o.due.astimezone(UTC) not in ended
    )
    for item in islice(coming, most):
        yield Pending(template.fullName, None, item.due, item.nominal, item.moved)
