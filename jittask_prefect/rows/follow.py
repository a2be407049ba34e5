"""The one way from changed rows to their tasks: read the rows and the ledger, plan, write; all in the caller's transaction.

Flushes, bulk statements, the facade and a task that ends call `follow` with keys. Nothing is taken from instances:
the database holds the written rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import Connection

from jittask_prefect.elements.app import App
from jittask_prefect.elements.row_timers import RowTimes
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.errors import LedgerError
from jittask_prefect.ledger import error_codes, planned_rows
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.hindrance import explained, has_ledger, warn
from jittask_prefect.ledger.keys import key_value
from jittask_prefect.ledger.planned_rows import KeptTimes
from jittask_prefect.ledger.savepoint import Savepoint, took_the_transaction
from jittask_prefect.rows import dialects
from jittask_prefect.rows.plan import (
    NOT_MET,
    Action,
    no_more_tasks,
    plan_row,
    since_moved,
    wanted,
)
from jittask_prefect.rows.row_reading import KEYS_AT_ONCE, Answer, Values, reader_of
from jittask_prefect.schedule.timer import Occurrence, Series

UNKNOWN_TIMES = KeptTimes(None)
"""Of a task whose row the next sync reads once more."""
Windows = Mapping[str, Callable[[Series], list[Occurrence]]]
"""By template's full name, the occurrences that a sync would ask for now."""


@dataclass(frozen=True, slots=True)
class Change:
    """A row that may have changed.

    Attributes:
        values: The values of the key columns.
        moved: The full names of the templates whose due times may be others: only then can an occurrence of the past
            have become due. None: all of them.
        another: Another row had the key before: a deleted or an inserted row, or a changed key.
        ended: The row's tasks end, whatever the row is.
    """

    values: Values
    moved: frozenset[str] | None = None
    another: bool = False
    ended: bool = False

    def has_moved(self, template: DateFieldType) -> bool:
        """Whether a template's due times may be others."""
        return self.moved is None or template.fullName in self.moved


Changes = Mapping[str, Change]
"""By key text."""


@dataclass
class Followed:
    """The answer of `follow`.

    Attributes:
        actions: The actions, `skip` actions (nothing to do) among them.
        hindered: An error that all rows of a template met: no rights, no table, a lock.
    """

    actions: list[Action] = field(default_factory=list)
    hindered: Exception | None = None

    @property
    def changed(self) -> bool:
        """Whether a task was made or ended."""
        return any(action.action != "skip" for action in self.actions)


def follow(
    app: App,
    connection: Connection,
    model: str,
    templates: Sequence[DateFieldType],
    changes: Changes,
    now: datetime,
    windows: Windows | None = None,
) -> Followed:
    """Bring the tasks of rows to the rows' present state. An error leaves the transaction as it was before.

    An error of a row or a template is logged, and the others are planned.

    Args:
        app: The app.
        connection: The connection whose transaction the rows' changes are in.
        model: The model's full name.
        templates: Date-field templates of the model.
        changes: The rows, by key text.
        now: The present instant.
        windows: For rows of statements, of which nobody knows whether a date was moved: the sync's windows.

    Raises:
        TransactionLost: The database has undone the caller's transaction; or MariaDB's deadlock, which does so.
    """
    followed, rest = Followed(), iter(changes.items())
    while templates and (part := dict(islice(rest, KEYS_AT_ONCE))):
        rows = _Rows(app, connection, model, templates, part, now, windows)
        _follow(rows, followed)
    return followed


def follow_row(
    app: App,
    connection: Connection,
    model: str,
    key: str,
    now: datetime,
    *,
    templates: Sequence[DateFieldType] | None = None,
    moved: bool = True,
    ended: bool = False,
) -> list[Action]:
    """Bring the tasks of a row to the row's present state, for callers who want to know of an error.

    Args:
        app: The app.
        connection: The connection whose transaction the row's own change is in.
        model: The model's full name.
        key: The row's key as text.
        now: The present instant.
        templates: Templates of the model; all of them where absent.
        moved: Whether a field that decides about due times may have changed: only then can an occurrence of the past
            have become due.
        ended: The row's tasks end, whatever the row is.

    Returns:
        The actions, `skip` actions (nothing to do) among them.

    Raises:
        NoKey: The key is none of the model's.
        LedgerError: The ledger cannot be read or written, of some template at least; the transaction goes on.
    """
    if templates is None:
        templates = app.row_templates(model)
    if not templates:
        return []
    values = key_value(templates[0].model, key, connection.dialect.name)
    change = Change(values, None if moved else frozenset(), ended=ended)
    return _unhindered(app, connection, model, templates, {key: change}, now)


def follow_rows(
    app: App,
    connection: Connection,
    model: str,
    template: DateFieldType,
    rows: Mapping[str, bool],
    now: datetime,
) -> list[Action]:
    """Bring a template's tasks of rows to the rows' present state; as `follow_row`.

    Args:
        app: The app.
        connection: The connection whose transaction the rows' changes are in.
        model: The model's full name.
        template: A template of the model.
        rows: By key as text, whether the row may have moved, as of `follow_row`.
        now: The present instant.
    """
    kind = connection.dialect.name
    changes = {
        key: Change(
            key_value(template.model, key, kind), None if moved else frozenset()
        )
        for key, moved in rows.items()
    }
    return _unhindered(app, connection, model, [template], changes, now)


def _unhindered(
    app: App,
    connection: Connection,
    model: str,
    templates: Sequence[DateFieldType],
    changes: Changes,
    now: datetime,
) -> list[Action]:
    followed = follow(app, connection, model, templates, changes, now)
    if followed.hindered is not None:
        reason = explained(connection, followed.hindered)
        raise LedgerError(f"{model}: {reason}") from followed.hindered
    return followed.actions


@dataclass(frozen=True)
class _Rows:
    """Some rows of a model and some of its templates, planned together."""

    app: App
    connection: Connection
    model: str
    templates: Sequence[DateFieldType]
    changes: Changes
    now: datetime
    windows: Windows | None

    def parts(self, *, by_key: bool) -> Iterator[_Rows]:
        """The same rows for each template alone; and, where asked, each row alone."""
        every = [self.changes]
        if by_key:
            every = [{key: change} for key, change in self.changes.items()]
        for changes in every:
            for template in self.templates:
                yield replace(self, templates=[template], changes=changes)


def _follow(rows: _Rows, followed: Followed) -> None:
    try:
        followed.actions += _planned_and_written(rows)
        return
    except Exception as error:
        if took_the_transaction(error):
            raise
        one_template = len(rows.templates) == 1
        if error_codes.is_of_database(error):
            if one_template or error_codes.is_temporary(error):
                followed.hindered = followed.hindered or error
                return
            # A filter may follow a relationship to a table that only this template asks for.
            parts = rows.parts(by_key=False)
        elif one_template and len(rows.changes) == 1:
            [template], [key] = rows.templates, rows.changes
            of = f"{template.fullName}, row {key}"
            warn(of, error, rows.connection, rows.now)
            return
        else:
            parts = rows.parts(by_key=True)
    for part in parts:
        _follow(part, followed)


def _planned_and_written(rows: _Rows) -> list[Action]:
    connection, app, now = rows.connection, rows.app, rows.now
    names = [template.fullName for template in rows.templates]
    reader = reader_of(rows.templates, now)
    values = {key: change.values for key, change in rows.changes.items()}
    sent: list[Answer] = []
    with Savepoint(connection) as savepoint:
        if not has_ledger(connection, savepoint, now):
            return []

        @contextmanager
        def one_trip() -> Iterator[None]:
            with savepoint.first():
                sent.append(reader.send(connection, values, now))
                yield

        tasks = planned_rows.of_rows(
            connection, app.name, names, list(values), one_trip()
        )
        records = sent[0]()
        ended_lives = [
            (name, key)
            for (name, key), found in tasks.items()
            if (key not in records or rows.changes[key].another)
            and any(entry.anchor is not None for entry in found)
        ]
        for of in ended_lives:
            tasks[of] = planned_rows.of_former_life(tasks[of])
        actions: list[Action] = []
        for key, change in rows.changes.items():
            record = None if change.ended else records.get(key)
            for template in rows.templates:
                times = None
                if record is not None and template.enable:
                    times = reader.times(template, record)
                found = tasks[template.fullName, key]
                if times is not None:
                    actions += _plan(rows, template, key, times, found)
                elif found:
                    reason = "disabled" if not template.enable else NOT_MET
                    if record is None:
                        reason = "the row was deleted"
                    actions += no_more_tasks(found, reason)
        if ended_lives or any(a.action != "skip" or a.times for a in actions):
            with savepoint.last():
                planned_rows.end_lives(connection, app.name, ended_lives)
                apply_all(connection, app.name, actions, rows.model, now)
    return actions


def _plan(
    rows: _Rows,
    template: DateFieldType,
    key: str,
    times: RowTimes,
    found: Sequence[Entry],
) -> list[Action]:
    """The actions for a row that has dates, and a template."""
    missed, now = template.cfg.missed, rows.now
    series = template.series_of(times)
    if series is None:
        return no_more_tasks(found)
    horizon = now + timedelta(hours=rows.app.cfg.horizon)
    moved = rows.changes[key].has_moved(template)
    if rows.windows is not None:
        due = rows.windows[template.fullName](series)
    elif moved:
        due = since_moved(series, now, missed, horizon)
    else:
        due = wanted(series, now, horizon)
    if not any(o.due > now for o in due):
        later = series.next(horizon)
        due += [later] if later else []
    kept = dialects.kept(template, times)
    counted = kept if template.timer.counts_workdays else None
    about = (template, key, series, due, found, now)
    if not moved:  # the past was not asked for: the next sync asks once more
        own = kept._replace(start=None, end=None)
        return plan_row(*about, times=own, counted=counted)
    return plan_row(*about, known=now, times=kept, counted=counted)


# A plan's actions → the ledger


def apply_all(
    connection: Connection,
    app: str,
    actions: Sequence[Action],
    model: str,
    now: datetime,
) -> None:
    """Write actions into the ledger; a second time changes nothing.

    Args:
        connection: In a transaction.
        app: The app's name.
        actions: Of rows of one model.
        model: The model's full name.
        now: The present instant.
    """
    ended = [(a.task_id, f"ended: {a.reason}") for a in actions if a.action == "end"]
    replaced = [
        (old, f"superseded: now due {a.due:%Y-%m-%d %H:%M}")
        for a in actions
        for old in a.closes
    ]
    planned_rows.supersede(connection, [*ended, *replaced], now)
    again = dict.fromkeys((a.template, a.row) for a in actions if a.again)
    planned_rows.forget_dates(connection, app, list(again))
    gone = dict.fromkeys((a.template, a.row) for a in actions if a.gone)
    planned_rows.end_lives(connection, app, list(gone))
    # Last: a task that is written from here on stands for the present dates of its row.
    made = [task_columns(a, app, model, now) for a in actions if a.makes]
    planned_rows.plan(connection, made)
    known = [
        (a.task_id, a.times)
        for a in actions
        if a.action == "skip" and a.times is not None
    ]
    planned_rows.remember_dates(connection, known)


def task_columns(action: Action, app: str, model: str, now: datetime) -> dict[str, Any]:
    """The columns of a new task, the same of each."""
    values: dict[str, Any] = {
        "task_id": action.task_id,
        "app": app,
        "template": action.template,
        "model": model,
        "row_key": action.row,
        "nominal": action.nominal,
        "generation": action.generation,
        "anchor": action.anchor,
        "due": action.due,
        "created": now,
        "level": action.level,
        "outcome": None,
        "finished": None,
        **(action.times or UNKNOWN_TIMES).columns(),
    }
    if action.missed:
        values |= {
            "status": "ended",
            "outcome": "missed",
            "message": action.reason,
            "finished": now,
            "dirty": False,
            "returned": True,
        }
    return values
