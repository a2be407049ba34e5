"""A row's tasks, past and to come, of every template, each with the reason of its due time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import inspect as sa_inspect
from sqlalchemy import select
from sqlalchemy.exc import DataError
from sqlmodel import Session

from jittask_prefect.elements.app import App, check_rows
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.errors import (
    ArgumentError,
    ConfigError,
    JittaskError,
    UnknownElement,
)
from jittask_prefect.ledger import versions
from jittask_prefect.ledger.entry import Entry, to_entry
from jittask_prefect.ledger.keys import key_of, key_text, key_value, python_type
from jittask_prefect.ledger.tables import entries, of_app
from jittask_prefect.records.filter_text import unmet_text
from jittask_prefect.records.preview import first_due, preview_lines
from jittask_prefect.records.record import Record, of_entry, of_occurrence
from jittask_prefect.records.upcoming import BAD_DATES, latest, pending_records
from jittask_prefect.rows.plan import Action, no_more_tasks, plan_row
from jittask_prefect.rows.row_labels import row_labels
from jittask_prefect.rows.row_reading import unmet
from jittask_prefect.schedule.explanation import Explained
from jittask_prefect.schedule.instants import DAY, EARLIEST
from jittask_prefect.schedule.series import Occurrence, Series
from jittask_prefect.schedule.timer import Timer
from jittask_prefect.schedule.words import describe

AHEAD = timedelta(days=366 * 30)
"""The span that is searched for the next occurrences of a repeat."""
GONE = "the template is gone, or does not load (`jittask check`)"
FIELDS = (
    "status",
    "dueTime",
    "nominal",
    "movedBy",
    "taskId",
    "why",
    "inLedger",
    "outcome",
    "message",
    "result",
    "generation",
    "startTime",
    "endTime",
    "flowRun",
)


@dataclass
class TemplateHistory:
    """The tasks that a template makes of the row.

    Attributes:
        template: The template's full name.
        rule: The template's timer in a sentence; empty where the template is gone.
        state: Why the row has no tasks of the template; empty where the row has some.
        origin: The value and the offset that the due times come from.
        records: The tasks and the occurrences that do not take place, by due time.
        earlier: The number of older tasks that are left out.
        end: A sentence after the last task.
    """

    template: str
    title: str = ""
    rule: str = ""
    state: str = ""
    origin: str = ""
    records: list[Record] = field(default_factory=list)
    earlier: int = 0
    end: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "fullName": self.template,
            "title": self.title,
            "rule": self.rule,
            "noTasksBecause": self.state or None,
            "origin": self.origin or None,
            "tasks": [record.as_dict(FIELDS) for record in self.records],
            "earlier": self.earlier,
            "note": self.end or None,
        }


@dataclass
class RowHistory:
    """A row and its tasks; `exists` tells whether the row is in its table, `label` names the row for people."""

    model: str
    key: str
    exists: bool
    parts: list[TemplateHistory]
    label: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The row as `jittask row --json` prints it."""
        return {
            "model": self.model,
            "row": self.key,
            **({"label": self.label} if self.label else {}),
            "exists": self.exists,
            "templates": [part.as_dict() for part in self.parts],
        }


def row_history(
    app: App, model_name: str, text: str, now: datetime, upcoming: int, past: int
) -> RowHistory:
    """The tasks of a row; reads only, and needs no server.

    Args:
        app: The app.
        model_name: The model's full name.
        text: The row's key; a key of several columns as a JSON list.
        now: The present instant.
        upcoming: The number of future tasks of each template, at most.
        past: The number of past tasks of each template, at most; the newest.

    Raises:
        UnknownElement: There is no such model.
        ArgumentError: The key does not fit the model, or neither the row nor a task of it exists.
        JittaskError: The row cannot be read.
    """
    if model_name not in app.names("models"):
        known = ", ".join(app.names("models")) or "none"
        raise UnknownElement(
            f"{model_name!r} is no model of {app.name}; its models are {known}"
        )
    model = app.getElement(model_name)
    templates = {t.fullName: t for t in app.row_templates(model_name)}
    with Session(app.engine(app.database_of(model_name))) as session:
        row, key = _load(session, model_name, model, text)
        found = _entries(app, session, model_name, key)
        if row is None and not found:
            raise _no_row(session, model_name, model, key)
        parts = []
        for name in sorted({*templates, *found}):
            mine = sorted(found.get(name, []), key=lambda e: (e.due, e.generation))
            if name in templates:
                reader = _Reader(session, templates[name], row, key, mine, now)
                parts.append(reader.history(upcoming, past))
                continue
            records = [of_entry(app, entry, now) for entry in mine[-past:] if past]
            part = TemplateHistory(name, state=GONE, records=records)
            part.earlier = len(mine) - len(records)
            parts.append(part)
    labels = row_labels(app, [(name, key) for name in templates])
    label = next(iter(labels.values()), "")
    return RowHistory(model_name, key, row is not None, parts, label)


def _load(session: Session, name: str, model: Any, text: str) -> tuple[Any, str]:
    """The row of a key, or None, and the key as the ledger writes it."""
    dialect, columns = session.get_bind().dialect.name, sa_inspect(model).primary_key
    try:
        values = key_value(model, text, dialect)
        key = key_text(columns, values, dialect)
    except (ValueError, TypeError, ArithmeticError):
        raise _no_key(name, model, text) from None
    try:
        row = session.get(model, values)
    except (DataError, OverflowError):  # a value that the column cannot hold
        raise _no_key(name, model, text) from None
    except ValueError as error:  # e.g. a text that SQLite holds in a date column
        fault = f"{name} {text}: the row cannot be read: {error}"
        raise JittaskError(fault) from error
    # A database may find `abc` by `ABC`.
    return row, key if row is None else key_of(row, dialect)


def _no_key(name: str, model: Any, text: str) -> ArgumentError:
    columns = sa_inspect(model).primary_key
    names = [f"{c.key} ({python_type(c.type).__name__})" for c in columns]
    allowed = names[0] if len(names) == 1 else f"a JSON list [{', '.join(names)}]"
    return ArgumentError(f"{text!r} is no key of {name}; allowed: {allowed}")


def _no_row(session: Session, name: str, model: Any, key: str) -> ArgumentError:
    columns, dialect = sa_inspect(model).primary_key, session.get_bind().dialect.name
    some = session.execute(select(*columns).limit(5))
    keys = ", ".join(key_text(columns, tuple(row), dialect) for row in some) or "none"
    missing = f"{name} has no row {key!r}, and the ledger no task of one"
    return ArgumentError(f"{missing}; some rows that it has: {keys}")


def _entries(
    app: App, session: Session, model: str, key: str
) -> dict[str, list[Entry]]:
    """The ledger's entries of the row, by template."""
    found: dict[str, list[Entry]] = {}
    connection = session.connection()
    if versions.there(connection):
        c = entries.c
        mine = (of_app(app.name), c.row_key == key, c.model == model)
        for entry in map(to_entry, connection.execute(select(entries).where(*mine))):
            found.setdefault(entry.template, []).append(entry)
    return found


@dataclass
class _Reader:
    """The tasks of a template and a row."""

    session: Session
    template: DateFieldType
    row: Any
    key: str
    known: list[Entry]
    now: datetime

    @property
    def timer(self) -> Timer:
        """The row's timer; the task's own where the row is gone, or its columns do not fit."""
        try:
            return self.template.row_timer(self.row)
        except (JittaskError, AttributeError):
            return self.template.timer

    def history(self, count: int, past: int) -> TemplateHistory:
        """The tasks: at most `count` future tasks and `past` past tasks."""
        template, now = self.template, self.now
        found = TemplateHistory(template.fullName, template.title, describe(self.timer))
        series: Series | None = None
        upcoming: list[Explained] = []
        plan: list[Action] = []
        try:
            check_rows(template)
            found.state = self._no_tasks()
            if not found.state:
                series = template.series(self.row)
            if series is not None:
                upcoming = self._upcoming(series, count)
                found.end = self._end(series, upcoming)
                found.origin = template.origin(template.times(self.row))
            plan = self._plan(series, _taking_place(upcoming), found.state)
        except (ConfigError, *BAD_DATES) as error:
            found.state = f"it cannot be planned: {error}"
        old = [e for e in self.known if e.status != "pending" or e.due <= now]
        left_out = old[: max(0, len(old) - past)]
        found.earlier = len(left_out)
        explained = {item.nominal.astimezone(UTC): item.note for item in upcoming}
        found.records = [
            self._of_entry(entry, series, plan, explained)
            for entry in self.known
            if entry not in left_out
        ]
        found.records += self._unplanned(upcoming, plan)
        found.records.sort(key=lambda r: (r.due or r.nominal or now).astimezone(UTC))
        return found

    def _no_tasks(self) -> str:
        """Why the row has no tasks of the template; empty where the row has some."""
        template = self.template
        if self.row is None:
            return "the row is gone"
        if not template.enable:
            return "the template is disabled (`enable` is 0)"
        name, value = str(template.timer.cfg.start_field), template.dates(self.row)[0]
        if value is None:
            return f"`{name}` is empty"
        if parts := unmet(self.session, template, self.key, self.now):
            said = "; ".join(unmet_text(part, values) for part, values in parts)
            return f"the filter is not met: {said}"
        series = template.series(self.row)
        if series is None or series.never:
            edge = "is at the edge of the calendar, which means never"
            return f"`{name}` ({value}) {edge}"
        return ""

    def _upcoming(self, series: Series, count: int) -> list[Explained]:
        first = series.next(self.now)
        end = max(self.now + AHEAD, first.due + DAY if first else self.now)
        explained = self.template.explained(self.now, end, self.row)
        future = (item for item in explained if (item.due or item.nominal) > self.now)
        return list(first_due(future, count))

    def _end(self, series: Series, upcoming: Sequence[Explained]) -> str:
        if _taking_place(upcoming):
            return ""
        last = latest(series, EARLIEST, self.now, 1)
        if not last:
            return "nothing is due"
        return f"nothing more is due; the last was {last[0].due:%a %Y-%m-%d %H:%M %Z}"

    def _plan(
        self, series: Series | None, due: Sequence[Occurrence], state: str
    ) -> list[Action]:
        """The actions of the next sync."""
        if series is None:
            reason = state or "no longer an occurrence of the row"
            return no_more_tasks(self.known, reason)
        return plan_row(self.template, self.key, series, due, self.known, self.now)

    def _of_entry(
        self,
        entry: Entry,
        series: Series | None,
        plan: Sequence[Action],
        explained: dict[datetime, str],
    ) -> Record:
        """The record of an entry, with the action of the next sync."""
        template = self.template
        zone, app = template.zone_of(entry.zone_value), template.app
        notes = []
        starts = series.starts_of(entry.level) if series else ()
        if entry.anchor is None and entry.nominal is not None:
            notes.append("of an earlier row of this key")
        elif entry.anchor is not None and starts and entry.anchor not in starts:
            start = f"{entry.anchor.astimezone(zone):%Y-%m-%d %H:%M}"
            notes.append(f"from another date of the row: then {start} was the start")
        if entry.nominal is not None and entry.anchor in starts:
            notes.append(explained.get(entry.nominal, ""))
        record = of_entry(app, entry, self.now)
        notes.append(record.message)
        if entry.status == "pending":
            horizon = self.now + timedelta(hours=app.cfg.horizon)
            for action in plan:
                if action.task_id == entry.task_id and action.action == "end":
                    notes.append(f"the next sync ends it: {action.reason}")
                    break
                if entry.task_id in action.closes:
                    due = f"{action.due:%a %Y-%m-%d %H:%M}"
                    notes.append(f"the next sync puts it to {due}")
                    break
            else:
                if entry.due > horizon:
                    hours = f"{app.cfg.horizon:g} hours"
                    notes.append(f"its flow run is made {hours} before")
        return replace(record, notes=tuple(filter(None, notes)))

    def _unplanned(
        self, upcoming: Iterable[Explained], plan: Sequence[Action]
    ) -> Iterator[Record]:
        """The future tasks without an entry, and the occurrences that do not take place."""
        hours = self.template.app.cfg.horizon
        horizon = self.now + timedelta(hours=hours)
        due = _taking_place(upcoming)
        tasks = pending_records(
            self.template, self.key, due, self.known, plan, self.now
        )
        new = {task.due: task for task in tasks if task.ledger_due is None}
        for line in preview_lines(upcoming):
            item, notes = line.first, [line.first.note]
            if item.due is None:
                if line.count > 1:
                    last = f"{line.last.nominal:%Y-%m-%d %H:%M}"
                    notes.append(f"{line.count} of them, the last {last}")
                yield of_occurrence(
                    self.template,
                    self.now,
                    None,
                    item.nominal,
                    item.because,
                    state="none",
                    level=item.level,
                    notes=tuple(filter(None, notes)),
                )
            elif item.due in new:
                beyond = f"beyond the horizon ({hours:g} hours)"
                notes.append(beyond if item.due > horizon else "the next sync makes it")
                yield replace(new[item.due], notes=tuple(filter(None, notes)))


def _taking_place(found: Iterable[Explained]) -> list[Occurrence]:
    """The occurrences among explained ones."""
    return [
        Occurrence(item.nominal, item.due, item.because, item.level)
        for item in found
        if item.due is not None
    ]
