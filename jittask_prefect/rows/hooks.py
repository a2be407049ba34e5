"""Model events: what a SQLAlchemy session saves or deletes reaches the ledger in the same transaction.

The listeners hang on SQLAlchemy's `Session` class, so they act whoever made the engine or the session. They never call
Prefect: after the commit a background thread is nudged, and what it does not manage the sync does within a minute.
Statements that go past the unit of work are followed by `statements.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapper, Session, UOWTransaction

from jittask_prefect.elements.app import App, owner_of
from jittask_prefect.elements.row_session import RowSession
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.errors import JittaskError, LedgerError
from jittask_prefect.ledger import error_codes, planned_rows
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.hindrance import (
    explained,
    has_ledger,
    is_elsewhere,
    warn,
    warn_of_statement,
)
from jittask_prefect.ledger.keys import key_of
from jittask_prefect.ledger.savepoint import Apart, took_the_transaction
from jittask_prefect.rows import bulk_statements, dialects, scan
from jittask_prefect.rows.plan import NOT_MET, Action, plan_row, since_moved, wanted
from jittask_prefect.rows.scan import CHUNK
from jittask_prefect.rows.sync import apply_all
from jittask_prefect.schedule import clock

log = logging.getLogger("jittask")
_CHANGED = "jittask_changed"
_SAVED = "jittask_saved"
_OWN = "jittask_own_change"
_EVENTS: ContextVar[bool] = ContextVar("jittask_in_event", default=False)

Nudge = Callable[[App, str], None]
Owner = tuple[type[Any], App, str]
_nudges: list[Nudge] = []
_resolvers: list[Callable[[], App]] = []


def install(resolve: Callable[[], App], nudge: Nudge) -> None:
    """Listen to every SQLAlchemy session of this process; a second call changes nothing.

    Args:
        resolve: Gives the current app; its models are loaded before the first flush is looked at.
        nudge: Called after a commit that left something to hand over, with the app and the database's name.
    """
    if _resolvers:
        return
    _resolvers.append(resolve)
    _nudges.append(nudge)
    for target, name, listener in LISTENERS:
        event.listen(target, name, listener)


def save_row(
    app: App,
    connection: Connection,
    row: Any,
    model: str,
    now: datetime,
    *,
    moved: bool = True,
) -> list[Action]:
    """Plan one row's tasks anew and write what changed into the ledger, in the caller's transaction.

    Args:
        app: The app.
        connection: The connection whose transaction the row's own change is in.
        row: The row as it is now.
        model: The model's full name.
        now: The present instant.
        moved: Whether a field that decides about due times changed: only then can something be due in the past.

    Returns:
        The actions, `skip` ones (nothing to do) among them.

    Raises:
        LedgerError: The ledger cannot be read or written, of some template at least; the transaction goes on.
    """
    key = key_of(row, connection.dialect.name)
    actions: list[Action] = []
    failed: Exception | None = None
    for template in app.row_templates(model):
        try:
            actions += _save(
                app,
                connection,
                [template],
                {key: row},
                model,
                now,
                {key} if moved else (),
            )
        except Exception as error:
            if took_the_transaction(error):
                raise
            if error_codes.meets_all(error):
                failed = failed or error
            else:
                warn(template.fullName, error, connection, now)
    if failed is not None:
        raise LedgerError(f"{model}: {explained(connection, failed)}") from failed
    return actions


def delete_row(
    app: App, connection: Connection, key: str, model: str, now: datetime
) -> list[Action]:
    """End the open tasks of a row that is gone, in the caller's transaction, which goes on whatever is raised.

    Raises:
        LedgerError: The ledger cannot be written.
    """
    templates = app.row_templates(model)
    if not templates:
        return []
    try:
        with Apart(connection) as apart:
            apart.begin()
            # The caller may delete the row after this call: the key's life goes on as long as the row is there.
            over = scan.gone(connection, app.getElement(model), [key])
        return _save(app, connection, templates, {key: None}, model, now, (), over)
    except DBAPIError as error:
        if took_the_transaction(error):
            raise
        raise LedgerError(f"{model}: {explained(connection, error)}") from error


def _save(
    app: App,
    connection: Connection,
    templates: Sequence[DateFieldType],
    rows: Mapping[str, Any],
    model: str,
    now: datetime,
    moved: Collection[str],
    over: Collection[str] = (),
) -> list[Action]:
    """Plan some rows (None: gone) by one look at the ledger, and write what changed.

    `over` names the keys whose former row is gone: it was deleted, or another row has been inserted.
    """
    unsure = {
        key
        for key, row in rows.items()
        if row is not None and _unsure(row, templates, connection)
    }
    with Apart(connection) as apart:
        if not has_ledger(connection, apart, now):
            return []
        found = planned_rows.of_rows(
            connection,
            app.name,
            [t.fullName for t in templates],
            list(rows),
            apart.first(),
        )
        actions: list[Action] = []
        ended = [
            at
            for at, of in found.items()
            if at[1] in over and any(e.anchor is not None for e in of)
        ]
        for at in ended:
            found[at] = planned_rows.of_former_life(found[at])
        for key, row in rows.items():
            for template in templates if key not in unsure else ():
                entries_of = found[template.fullName, key]
                actions += _plan(
                    app,
                    template,
                    row,
                    key,
                    entries_of,
                    now,
                    key in moved,
                    connection.dialect.name,
                )
        stored: list[Action] = []
        if unsure:
            planned_rows.end_lives(connection, app.name, ended)
            for done in bulk_statements.follow(
                app,
                connection,
                model,
                templates,
                bulk_statements.Touched(keys=unsure),
                now,
            ):
                stored += done
        if ended or any(a.action != "skip" or a.dates is not None for a in actions):
            with apart.last():
                planned_rows.end_lives(
                    connection, app.name, ended if not unsure else ()
                )
                apply_all(connection, app.name, actions, model, now)
    actions += stored
    return actions


def _unsure(
    row: Any, templates: Sequence[DateFieldType], connection: Connection
) -> bool:
    """Whether only the database knows what a column holds of a time: with a zone where it keeps none, or the reverse.

    PostgreSQL turns such a time by the zone of its session, others drop the zone, and a text of SQLite may have one.
    """
    for template in templates:
        for name in template.fields:
            value = row.__dict__.get(name)
            if isinstance(value, datetime):
                held = template.field_column(name)
                keeps = held.utc or (
                    held.aware and connection.dialect.name == "postgresql"
                )
                if (value.tzinfo is not None) is not keeps:
                    return True
    return False


def _plan(
    app: App,
    template: DateFieldType,
    row: Any,
    key: str,
    found: list[Entry],
    now: datetime,
    moved: bool,
    dialect: str,
) -> list[Action]:
    missed, name, timer = template.cfg.missed, template.fullName, template.timer
    series, gone, start, end = None, NOT_MET, None, None
    if row is None or not template.enable:
        gone = "the row was deleted" if row is None else "disabled"
    elif template.filter.matches(row, now, timer.zone):
        start, end = template.dates(row)
        start = dialects.kept(
            start, template.field_column(str(timer.cfg.start_field)), dialect
        )
        end = (
            dialects.kept(end, template.field_column(str(timer.cfg.end_field)), dialect)
            if end is not None
            else None
        )
        series = timer.series(start, end) if start is not None else None
    if series is None:
        return plan_row(app.name, name, key, None, (), found, now, missed, gone=gone)
    horizon = now + timedelta(hours=app.cfg.horizon)
    repeats = timer.cfg.repeat.repeat_type != "normal"
    due = (
        since_moved(series, repeats, now, missed, horizon)
        if moved
        else wanted(series, now, horizon)
    )
    if not any(o.due > now for o in due):
        later = series.next(horizon)
        due += [later] if later else []
    # What is not looked back at is left to the sync to look at once more.
    dates = dialects.dates(template, start, end) if moved else None
    return plan_row(
        app.name,
        name,
        key,
        series,
        due,
        found,
        now,
        missed,
        known=now if moved else None,
        dates=dates,
    )


def _fields(mapper: Mapper[Any], templates: Sequence[DateFieldType]) -> set[str]:
    """The fields that decide about due times, and the foreign keys of the relationships that filters follow."""
    names: set[str] = set().union(*(template.fields for template in templates))
    for name in names & set(mapper.relationships.keys()):
        names |= {
            mapper.get_property_by_column(c).key
            for c in mapper.relationships[name].local_columns
        }
    return names


# Rows that changed → the ledger


def _follow(
    session: Session,
    connection: Connection,
    of: tuple[App, str, Sequence[DateFieldType]],
    rows: Mapping[str, Any],
    now: datetime,
    moved: Collection[str],
    over: Collection[str],
) -> None:
    """Bring the tasks of rows to what the rows are now; nothing of it may make the caller's statement fail."""
    app, model, templates = of
    try:
        actions = _save(app, connection, templates, rows, model, now, moved, over)
    except Exception as error:
        if took_the_transaction(error):
            raise
        if error_codes.meets_all(error):
            if len(templates) == 1 or error_codes.is_passing(error):
                warn(model, error, connection, now)
                return
            parts = [
                dict(rows)
            ]  # a filter of one template may follow a relationship to a table of others
        elif len(rows) * len(templates) == 1:
            warn(model, error, connection, now)
            return
        else:
            parts = [{key: row} for key, row in rows.items()]  # the others go on
        for part in parts:
            for template in templates:
                _follow(
                    session,
                    connection,
                    (app, model, [template]),
                    part,
                    now,
                    moved,
                    over,
                )
        return
    if any(a.action != "skip" for a in actions):
        session.info.setdefault(_CHANGED, set()).add((app, app.database_of(model)))


# Flushes


def _before_flush(session: Session, _context: UOWTransaction, _instances: Any) -> None:
    session.info[bulk_statements.FLUSHING] = True


def _after_flush(session: Session, _context: UOWTransaction) -> None:
    session.info.pop(bulk_statements.FLUSHING, None)
    _load_current()
    now = clock.now()
    # Deleted rows first: where a row takes the place of one with its key, the tasks of the new one stand.
    _flushed(session, [(row, True, set()) for row in session.deleted], now, gone=True)
    saved: list[tuple[Any, bool, set[str]]] = [
        (row, True, set()) for row in session.new
    ]
    for row in session.dirty:
        if owner_of(type(row)) is not None and (changed := _changed(row)):
            saved.append((row, False, changed))
    _flushed(session, saved, now)


def _flushed(
    session: Session,
    rows: list[tuple[Any, bool, set[str]]],
    now: datetime,
    gone: bool = False,
) -> None:
    """Follow rows, each with whether it is new (or gone), and the fields that the flush has written."""
    groups: dict[Owner, list[tuple[Any, bool, set[str]]]] = {}
    for row, new, changed in rows:
        owner = owner_of(type(row))
        if owner is not None:
            session.info.setdefault(_SAVED, []).append(row)
            groups.setdefault((type(row), *owner), []).append((row, new, changed))
    for (cls, app, model), some in groups.items():
        try:
            _flushed_of(session, cls, app, model, some, now, gone)
        except Exception as error:
            if took_the_transaction(error):
                raise
            warn(model, error, None, now)


def _chunks(keys: Mapping[str, Any]) -> Iterator[list[str]]:
    every = list(keys)
    return (every[start : start + CHUNK] for start in range(0, len(every), CHUNK))


def _flushed_of(
    session: Session,
    cls: type[Any],
    app: App,
    model: str,
    rows: list[tuple[Any, bool, set[str]]],
    now: datetime,
    gone: bool,
) -> None:
    templates = app.row_templates(model)
    if not templates:
        return
    fields = _fields(sa_inspect(cls), templates)
    related = any("." in name for t in templates for name in t.filter.fields)
    keys: dict[str, Any] = {}
    moved: set[str] = set()
    over: set[str] = set()
    named = {
        sa_inspect(cls).get_property_by_column(c).key
        for c in sa_inspect(cls).primary_key
    }
    dialect = session.get_bind(sa_inspect(cls)).dialect.name
    for row, new, changed in rows:
        if not (new or related or changed & fields):
            continue
        try:
            key = key_of(row, dialect)
        except ValueError as error:
            warn(model, error, None, now)
            continue
        keys[key] = None if gone else row
        if new or changed & fields:
            moved.add(key)
        if new or changed & named:
            over.add(key)
    if not keys:
        return
    connection = session.connection(bind_arguments={"mapper": sa_inspect(cls)})
    if not is_elsewhere(connection, cls, model, now):
        for part in _chunks(keys):
            _follow(
                session,
                connection,
                (app, model, templates),
                {k: keys[k] for k in part},
                now,
                moved,
                over,
            )


def _changed(row: Any) -> set[str]:
    """The fields that a flush has written, among them those that the database has set and that are still to be read."""
    state = sa_inspect(row)
    perhaps = set(state.mapper.attrs.keys()) - state.unmodified
    return {name for name in perhaps if state.attrs[name].history.has_changes()} | set(
        state.expired_attributes
    )


def _after_flush_postexec(session: Session, _context: UOWTransaction) -> None:
    rows = session.info.pop(_SAVED, [])
    if _EVENTS.get():
        return
    own = session.info.pop(_OWN, [])
    token = _EVENTS.set(True)
    try:
        for row in rows:
            gone = sa_inspect(row).deleted or sa_inspect(row).was_deleted
            method = getattr(row, "afterDelete" if gone else "afterSave", None)
            if callable(method) and not any(row is each for each in own):
                method()
                if not gone and session.is_modified(row):
                    session.info.setdefault(_OWN, []).append(
                        row
                    )  # its own change is no new event
    finally:
        _EVENTS.reset(token)


def _after_begin(session: Session, _transaction: Any, connection: Connection) -> None:
    bulk_statements.began(session, connection)


def _before_commit(session: Session) -> None:
    """What statements have changed is planned last, when it is certain what there is to plan."""
    for app, model, touched in bulk_statements.taken(session):
        connection, now = None, clock.now()
        try:
            cls = app.getElement(model)
            connection = session.connection(bind_arguments={"mapper": sa_inspect(cls)})
            if is_elsewhere(connection, cls, model, now):
                continue
            with Apart(connection) as apart:
                apart.begin()
                if not has_ledger(connection, apart, now):
                    continue
                followed = bulk_statements.follow(
                    app, connection, model, app.row_templates(model), touched, now
                )
                changed = [
                    a for actions in followed for a in actions if a.action != "skip"
                ]
            if changed:
                session.info.setdefault(_CHANGED, set()).add(
                    (app, app.database_of(model))
                )
        except Exception as error:
            if took_the_transaction(error):
                raise
            warn(model, error, connection, now)


def _before_execute(
    connection: Connection, statement: Any, many: Any, params: Any, _options: Any
) -> None:
    if not isinstance(statement, bulk_statements.KINDS):
        return
    _load_current()
    try:
        bulk_statements.note(
            connection, statement, many or ([params] if params else [])
        )
    except Exception as error:
        if took_the_transaction(error):
            raise
        warn_of_statement(connection, statement.table, error, clock.now())


def _after_rollback(session: Session) -> None:
    for name in (
        _SAVED,
        _OWN,
        bulk_statements.TOUCHED,
        *(() if _held(session) else (_CHANGED,)),
    ):
        session.info.pop(name, None)


def _after_soft_rollback(session: Session, _transaction: Any) -> None:
    session.info.pop(bulk_statements.FLUSHING, None)  # a flush that failed


def _after_commit(session: Session) -> None:
    for app, database in () if _held(session) else session.info.pop(_CHANGED, ()):
        for nudge in _nudges:
            try:
                nudge(app, database)
            except RuntimeError as error:  # no thread can be started: the row is saved, and the sync finds it
                log.debug("left to the next sync: %s", error)


def _held(session: Session) -> bool:
    """Whether what the session commits waits for the completion of a row's task."""
    return isinstance(session, RowSession) and not session.ending


def _load_current() -> None:
    """Load the current app's models once, so that their classes are known whoever imported them first.

    A process that has made an app itself follows that one only.
    """
    if not _resolvers or _loaded:
        return
    _loaded.append(True)
    if App.made:
        return
    try:
        _resolvers[0]().models()
    except JittaskError as error:
        log.debug("no app to follow: %s", error)
    except Exception:
        log.exception("the app could not be loaded: saves are found by the sync only")


_loaded: list[bool] = []
LISTENERS: list[tuple[Any, str, Callable[..., Any]]] = [
    (Session, "before_flush", _before_flush),
    (Session, "after_flush", _after_flush),
    (Session, "after_flush_postexec", _after_flush_postexec),
    (Session, "before_commit", _before_commit),
    (Session, "after_commit", _after_commit),
    (Session, "after_rollback", _after_rollback),
    (Session, "after_soft_rollback", _after_soft_rollback),
    (Session, "after_begin", _after_begin),
    (Engine, "before_execute", _before_execute),
]
