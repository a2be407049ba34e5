"""One row, seen whole: every task of it, past and to come, and why each is when it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import inspect as sa_inspect
from sqlalchemy import select
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session as OrmSession
from sqlalchemy.orm import object_session
from sqlmodel import Session

from jittask_prefect.elements.app import App, check_rows
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import (
    ArgumentError,
    ConfigError,
    JittaskError,
    UnknownElement,
)
from jittask_prefect.filters.expression import And, Node, Not, Or, Test
from jittask_prefect.ledger import versions
from jittask_prefect.ledger.entry import Entry, to_entry
from jittask_prefect.ledger.keys import (
    from_json,
    key_of,
    key_text,
    key_value,
    python_type,
)
from jittask_prefect.ledger.tables import entries
from jittask_prefect.records import calendar_text, upcoming
from jittask_prefect.rows import row_reading
from jittask_prefect.rows.plan import Action, plan_row
from jittask_prefect.schedule.explanation import Explained
from jittask_prefect.schedule.instants import EARLIEST
from jittask_prefect.schedule.series import Occurrence, Series
from jittask_prefect.schedule.words import describe, origin

AHEAD = timedelta(days=366 * 30)
"""How far a repeat is looked through for what comes next."""


@dataclass(frozen=True)
class Line:
    """One task of the row, or one occurrence of it that does not take place.

    Attributes:
        status: As in the records; `none` for an occurrence that does not take place.
        due: When, aware, in the task's zone; None where it does not take place.
        nominal: Before the holiday move.
        moved: Why `due` is another day than `nominal`, where that is known.
        why: What else there is to say of it, in sentences.
        task_id: The task's; for one that is yet to be planned the id that it will have if nothing changes.
        entry: What the ledger holds of it.
    """

    status: str
    due: datetime | None
    nominal: datetime | None
    moved: str | None
    why: tuple[str, ...]
    task_id: str | None = None
    entry: Entry | None = None

    def as_dict(self) -> dict[str, Any]:
        """The line as JSON values."""
        entry, at = self.entry, self.due or self.nominal
        zone = at.tzinfo if at is not None else UTC
        return {
            "status": self.status,
            "dueTime": _iso(self.due, zone),
            "nominal": _iso(self.nominal, zone),
            "movedBy": self.moved,
            "taskId": self.task_id,
            "why": list(self.why),
            "inLedger": entry is not None,
            "outcome": entry.outcome if entry else None,
            "message": entry.message if entry else "",
            "result": from_json(entry.result)
            if entry and entry.result is not None
            else None,
            "generation": entry.generation if entry else None,
            "startTime": _iso(entry.started, zone) if entry else None,
            "endTime": _iso(entry.finished, zone) if entry else None,
            "flowRun": entry.flow_run_id if entry else None,
        }


@dataclass
class Part:
    """What one template makes of the row.

    Attributes:
        rule: The template's timer in a sentence; empty where the template is gone.
        state: Why the row has no tasks of the template; empty where it has.
        origin: The value and the offset that its due times come from.
        lines: Its tasks, by due time.
        earlier: How many older ones are left out.
        end: What there is to say after the last line.
    """

    template: str
    title: str = ""
    rule: str = ""
    state: str = ""
    origin: str = ""
    lines: list[Line] = field(default_factory=list)
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
            "tasks": [line.as_dict() for line in self.lines],
            "earlier": self.earlier,
            "note": self.end or None,
        }


@dataclass
class RowView:
    """A row and what its templates make of it; `there` tells whether the row is in its table."""

    model: str
    key: str
    there: bool
    parts: list[Part]

    def as_dict(self) -> dict[str, Any]:
        """The row as `jittask row --json` prints it."""
        return {
            "model": self.model,
            "row": self.key,
            "exists": self.there,
            "templates": [part.as_dict() for part in self.parts],
        }


def view(
    app: App, model_name: str, text: str, now: datetime, count: int, past: int
) -> RowView:
    """Everything about a row; reads only, and needs no server.

    Args:
        app: The app.
        model_name: The model's full name.
        text: The row's key; one of several columns as a JSON list.
        now: The present instant.
        count: How many of each template that are yet to come, at most.
        past: How many of each template that are in the past, at most; the newest.

    Raises:
        UnknownElement: There is no such model.
        ArgumentError: The key is none of the model's, or there is no such row and never was a task of it.
    """
    model = _model(app, model_name)
    engine = app.engine(app.database_of(model_name))
    dialect = engine.dialect.name
    values, text = _key(model_name, model, text, dialect)
    with Session(engine) as session:
        try:
            row = session.get(model, values)
        except (DataError, OverflowError):  # what the column cannot hold
            raise _no_key(model_name, model, text) from None
        except ValueError as error:  # what SQLite holds as text in a date column, say
            raise JittaskError(
                f"{model_name} {text}: the row cannot be read: {error}"
            ) from error
        # The key as the row has it: a database may find `abc` by `ABC`.
        key = text if row is None else key_of(row, dialect)
        found = _found(session, model_name, key)
        if row is None and not found:
            columns = sa_inspect(model).primary_key
            some = session.execute(select(*columns).limit(5))
            keys = (
                ", ".join(key_text(columns, tuple(r), dialect) for r in some) or "none"
            )
            raise ArgumentError(
                f"{model_name} has no row {key!r}, and the ledger no task of one; some rows that it has: {keys}"
            )
        parts = []
        templates = {t.fullName: t for t in app.row_templates(model_name)}
        for name in sorted({*templates, *found}):
            mine = sorted(found.get(name, []), key=lambda e: (e.due, e.generation))
            if name in templates:
                parts.append(
                    _part(app, templates[name], row, key, mine, now, count, past)
                )
            else:
                why = "the template is gone, or does not load (`jittask check`)"
                lines = [
                    _line(app, None, e, now, None, "") for e in mine[-past:] if past
                ]
                parts.append(
                    Part(name, state=why, lines=lines, earlier=len(mine) - len(lines))
                )
    return RowView(model_name, key, row is not None, parts)


def _model(app: App, name: str) -> type[Any]:
    if name not in app.names("models"):
        known = ", ".join(app.names("models")) or "none"
        raise UnknownElement(
            f"{name!r} is no model of {app.name}; its models are {known}"
        )
    found: type[Any] = app.getElement(name)
    return found


def _key(
    name: str, model: type[Any], text: str, dialect: str
) -> tuple[tuple[Any, ...], str]:
    """The values of a key, and its text as the ledger writes it, also of a row that is gone."""
    try:
        values = key_value(model, text, dialect)
        return values, key_text(sa_inspect(model).primary_key, values, dialect)
    except (ValueError, TypeError, ArithmeticError):
        raise _no_key(name, model, text) from None


def _no_key(name: str, model: type[Any], text: str) -> ArgumentError:
    columns = [
        f"{c.key} ({python_type(c.type).__name__})"
        for c in sa_inspect(model).primary_key
    ]
    allowed = columns[0] if len(columns) == 1 else f"a JSON list [{', '.join(columns)}]"
    return ArgumentError(f"{text!r} is no key of {name}; allowed: {allowed}")


def _found(session: Session, model: str, key: str) -> dict[str, list[Entry]]:
    """All that the ledger holds of the row, by template."""
    found: dict[str, list[Entry]] = {}
    connection = session.connection()
    if versions.there(connection):
        query = select(entries).where(
            entries.c.row_key == key, entries.c.model == model
        )
        for record in connection.execute(query):
            found.setdefault(record.template, []).append(to_entry(record))
    return found


def _part(
    app: App,
    template: DateFieldType,
    row: Any,
    key: str,
    found: list[Entry],
    now: datetime,
    count: int,
    past: int,
) -> Part:
    part = Part(template.fullName, template.title, describe(template.timer))
    series, coming, plan = None, [], []
    try:
        check_rows(template)
        part.state = _no_tasks(template, row, key, now)
        series = template.series(row) if not part.state else None
        if series is not None:
            upto = max(
                now + AHEAD,
                (first.due + timedelta(days=1)) if (first := series.next(now)) else now,
            )
            told = template.explained(now, upto, row)
            coming = list(
                calendar_text.take(
                    (item for item in told if (item.due or item.nominal) > now), count
                )
            )
            part.end = _end(series, coming, now)
            part.origin = origin(template.timer, template.dates(row)[0] or now)
        due = [
            Occurrence(i.nominal, i.due, i.because) for i in coming if i.due is not None
        ]
        gone = part.state or "no longer an occurrence of the row"
        plan = plan_row(
            app.name,
            template.fullName,
            key,
            series,
            due,
            found,
            now,
            template.cfg.missed,
            gone=gone,
        )
    except (ConfigError, ValueError, TypeError, OverflowError) as error:
        part.state = f"it cannot be planned: {error}"
    # A task that waits is shown as it stands in the ledger, with what the next sync will make of it.
    then = {a.task_id: a for a in plan if a.action == "end"} | {
        old: a for a in plan for old in a.closes
    }
    old = [e for e in found if e.status != "pending" or e.due <= now]
    shown = (
        found
        if len(old) <= past
        else [e for e in found if e not in old[: len(old) - past]]
    )
    part.earlier = len(found) - len(shown)
    notes = {item.nominal.astimezone(UTC): item.note for item in coming}
    for entry in shown:
        note = (
            notes.get(entry.nominal, "")
            if entry.nominal and series and entry.anchor == _utc(series.anchor)
            else ""
        )
        part.lines.append(
            _line(app, template, entry, now, then.get(entry.task_id), note, series)
        )
    part.lines += _new(app, template, key, series, coming, found, now)
    part.lines.sort(key=lambda line: _utc(line.due or line.nominal or now))
    return part


def _no_tasks(template: DateFieldType, row: Any, key: str, now: datetime) -> str:
    """Why the row as it is has no tasks of the template; empty where it has."""
    if row is None:
        return "the row is gone"
    if not template.enable:
        return "the template is disabled (`enable` is 0)"
    name = str(template.timer.cfg.start_field)
    value = template.dates(row)[0]
    if value is None:
        return f"`{name}` is empty"
    session = object_session(row)
    if session is not None and (parts := unmet(session, template, key, now)):
        return "the filter is not met: " + "; ".join(parts)
    series = template.series(row)
    if series is None or series.cycle is None:
        return f"`{name}` ({value}) is at the edge of the calendar, which means never"
    return ""


def unmet(
    session: OrmSession, template: DateFieldType, key: str, now: datetime
) -> list[str]:
    """The parts of a filter that a row does not meet, each with the row's own values."""
    told = []
    for part, values in row_reading.unmet(session, template, key, now):
        has = [f"`{name}` is {_shown(value)}" for name, value in values.items()]
        told.append(f"{text_of(part)}{', but ' if has else ''}{' and '.join(has)}")
    return told


def text_of(node: Node) -> str:
    """A part of a filter as it may be written."""
    match node:
        case Test(path, operator, value):
            shown = (
                f"[{', '.join(map(_literal, value))}]"
                if isinstance(value, tuple)
                else _literal(value)
            )
            return f"Q('{'__'.join(path)}', '{operator}', {shown})"
        case Not(part):
            return (
                f"~{text_of(part)}" if isinstance(part, Test) else f"~({text_of(part)})"
            )
        case And(parts) | Or(parts):
            sign = " & " if isinstance(node, And) else " | "
            return sign.join(
                f"({text_of(p)})" if isinstance(p, (And, Or)) else text_of(p)
                for p in parts
            )
    raise TypeError(node)


def _literal(value: object) -> str:
    return (
        repr(value)
        if value is None or isinstance(value, (str, int, float))
        else str(value)
    )


def _shown(value: object) -> str:
    return (
        "empty"
        if value is None
        else str(value)
        if isinstance(value, date)
        else repr(value)
    )


def _end(series: Series, coming: list[Explained], now: datetime) -> str:
    if any(item.due is not None for item in coming):
        return ""
    last = upcoming.latest(series, EARLIEST, now, 1)
    return (
        f"nothing more is due; the last was {last[0].due:%a %Y-%m-%d %H:%M %Z}"
        if last
        else "nothing is due"
    )


def _line(
    app: App,
    template: Meta | None,
    entry: Entry,
    now: datetime,
    then: Action | None,
    note: str,
    series: Series | None = None,
) -> Line:
    """A task that the ledger holds."""
    zone = template.timer.zone if template else app.zone
    horizon = timedelta(hours=app.cfg.horizon)
    why = []
    if (
        series is not None
        and entry.anchor is not None
        and entry.anchor != _utc(series.anchor)
    ):
        why.append(
            f"from another date of the row: then {entry.anchor.astimezone(zone):%Y-%m-%d %H:%M} was the start"
        )
    elif entry.anchor is None and entry.nominal is not None:
        why.append("of an earlier row of this key")
    why += [text for text in (note, entry.message) if text]
    if entry.status == "pending":
        if then is not None and then.action == "end":
            why.append(f"the next sync ends it: {then.reason}")
        elif then is not None:
            why.append(
                f"the next sync puts it to {then.due.astimezone(zone):%a %Y-%m-%d %H:%M}"
            )
        elif entry.due > now + horizon:
            why.append(f"its flow run is made {app.cfg.horizon:g} hours before")
    return Line(
        "overdue" if entry.status == "pending" and entry.due < now else entry.status,
        entry.due.astimezone(zone),
        entry.nominal.astimezone(zone) if entry.nominal else None,
        upcoming.why_moved(template, entry) if template else None,
        tuple(why),
        entry.task_id,
        entry,
    )


def _new(
    app: App,
    template: DateFieldType,
    key: str,
    series: Series | None,
    coming: list[Explained],
    found: list[Entry],
    now: datetime,
) -> Iterator[Line]:
    """What is to come and not in the ledger yet, and what does not take place."""
    if series is None:
        return
    due = [Occurrence(i.nominal, i.due, i.because) for i in coming if i.due is not None]
    tasks = {
        task.due: task
        for task in upcoming.planned(app, template, key, series, due, found, now)
    }
    for told in calendar_text.lines(coming):
        item, notes = told.first, [told.first.note] if told.first.note else []
        if item.due is None:
            if told.count > 1:
                notes.append(
                    f"{told.count} of them, the last {told.last.nominal:%Y-%m-%d %H:%M}"
                )
            yield Line("none", None, item.nominal, item.because, tuple(notes))
        elif (task := tasks.get(item.due)) is not None and task.entry is None:
            beyond = item.due > now + timedelta(hours=app.cfg.horizon)
            when = (
                f"beyond the horizon ({app.cfg.horizon:g} hours)"
                if beyond
                else "the next sync makes it"
            )
            yield Line(
                "pending",
                item.due,
                item.nominal,
                item.because,
                (*notes, when),
                task.task_id,
            )


def _utc(instant: datetime) -> datetime:
    return instant.astimezone(UTC)


def _iso(instant: datetime | None, zone: Any) -> str | None:
    return None if instant is None else instant.astimezone(zone).isoformat()
