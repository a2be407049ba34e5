"""Model events: rows that a SQLAlchemy session saves or deletes reach the ledger in the same transaction.

The listeners hang on SQLAlchemy's `Session` class, so they act whoever made the engine or the session. They only note
keys; `follow` plans from the rows in the database: after each flush, and for statements that go past the unit of work
(`bulk_statements`) before the commit. No listener calls Prefect: after the commit a background thread is nudged, and
the sync does the rest within a minute.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.orm import InstanceState, Mapper, Session, UOWTransaction

from jittask_prefect.elements.app import App, apps_in_use
from jittask_prefect.elements.original.jit_rows import in_style
from jittask_prefect.elements.registry import owners_of
from jittask_prefect.elements.row_session import RowSession
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.errors import JittaskError
from jittask_prefect.ledger.hindrance import is_elsewhere, warn, warn_of_statement
from jittask_prefect.ledger.keys import key_text
from jittask_prefect.ledger.savepoint import took_the_transaction
from jittask_prefect.rows import bulk_statements
from jittask_prefect.rows.follow import Change, Followed, follow
from jittask_prefect.schedule import clock

log = logging.getLogger("jittask")
# Names in Session.info
_CHANGED = "jittask_changed"
_SAVED = "jittask_saved"
_OWN = "jittask_own_change"
_EVENTS: ContextVar[bool] = ContextVar("jittask_in_event", default=False)

Nudge = Callable[[App, str], None]
_nudges: list[Nudge] = []
_resolvers: list[Callable[[], App]] = []
# How many apps this process had made, and had in use, when its apps were loaded last.
_loaded: list[tuple[int, int]] = []


def install(resolve: Callable[[], App], nudge: Nudge) -> None:
    """Listen to every SQLAlchemy session of this process; a second call changes nothing.

    Args:
        resolve: Gives the current app; its models are loaded before the first flush is followed.
        nudge: Called after a commit that made or ended tasks, with the app and the database's name.
    """
    if _resolvers:
        return
    _resolvers.append(resolve)
    _nudges.append(nudge)
    for target, name, listener in LISTENERS:
        event.listen(target, name, listener)


# Flushes


class _Noted:
    """The rows of one class that a flush has written, as far as their tasks may be others now."""

    def __init__(self, cls: type[Any], app: App, model: str) -> None:
        self.cls, self.app, self.model = cls, app, model
        self.mapper: Mapper[Any] = sa_inspect(cls)
        self.templates = app.row_templates(model)
        self.related = any(t.filter.follows_relationships for t in self.templates)
        self.methods = any(
            callable(getattr(cls, name, None)) for name in ("afterSave", "afterDelete")
        )
        self.rows: list[tuple[Any, frozenset[str] | None, bool]] = []

    def note(self, row: Any, written: set[str] | None) -> None:
        """Note a row.

        Args:
            row: The instance.
            written: The attributes that the flush has written; None for a new or a deleted row.
        """
        if not self.templates:
            return
        if written is None:
            self.rows.append((row, None, True))
            return
        moved = frozenset(
            template.fullName
            for template in self.templates
            if written & deciding_fields(template, self.mapper)
        )
        if moved or self.related:
            columns = self.mapper.primary_key
            keys = {self.mapper.get_property_by_column(c).key for c in columns}
            self.rows.append((row, moved, bool(written & keys)))

    def changes(self, dialect: str, now: datetime) -> dict[str, Change]:
        """The noted rows by key text; a row without a key that can be kept is logged."""
        found: dict[str, Change] = {}
        for row, moved, another in self.rows:
            try:
                identity = sa_inspect(row).identity if moved is None else None
                of = identity or self.mapper.primary_key_from_instance(row)
                values = tuple(of)
                key = key_text(self.mapper.primary_key, values, dialect)
            except ValueError as error:
                warn(self.model, error, None, now)
                continue
            before = found.get(key)
            if before is not None and before.another:
                moved, another = None, True
            found[key] = Change(values, moved, another)
        return found

    def concerned(self) -> list[DateFieldType]:
        """The templates whose tasks may be others now."""
        return [
            template
            for template in self.templates
            if template.filter.follows_relationships
            or any(
                moved is None or template.fullName in moved for _, moved, _ in self.rows
            )
        ]


def _written(state: InstanceState[Any]) -> set[str]:
    """The attributes that a flush has written, and those that the database has set."""
    perhaps = set(state.mapper.attrs.keys()) - state.unmodified
    changed = {name for name in perhaps if state.attrs[name].history.has_changes()}
    return changed | set(state.expired_attributes)


def deciding_fields(template: DateFieldType, mapper: Mapper[Any]) -> frozenset[str]:
    """The attributes that decide about due times, foreign keys of the relationships that a filter follows included."""
    known = template.kept.get(("fields", mapper))
    if known is None:
        names = set(template.fields)
        for name in names & set(mapper.relationships.keys()):
            columns = mapper.relationships[name].local_columns
            names |= {mapper.get_property_by_column(c).key for c in columns}
        known = template.kept["fields", mapper] = frozenset(names)
    found: frozenset[str] = known
    return found


def _before_flush(session: Session, _context: UOWTransaction, _instances: Any) -> None:
    _load_current()  # mappers are configured now: within a flush would be too late
    session.info[bulk_statements.FLUSHING] = True


def _after_flush(session: Session, _context: UOWTransaction) -> None:
    session.info.pop(bulk_statements.FLUSHING, None)
    noted: dict[type[Any], list[_Noted]] = {}
    # Deleted rows first: where a row takes the place of a row with its key, the new row's tasks stand.
    for instances, whole in (
        (session.deleted, True),
        (session.new, True),
        (session.dirty, False),
    ):
        for row in instances:
            cls = type(row)
            if cls not in noted:
                noted[cls] = [_Noted(cls, *owner) for owner in owners_of(cls)]
            if not noted[cls]:
                continue
            written = None if whole else _written(sa_inspect(row))
            if written is not None and not written:
                continue
            for rows in noted[cls]:
                rows.note(row, written)
            if any(rows.methods for rows in noted[cls]):
                session.info.setdefault(_SAVED, []).append(row)
    for rows in chain.from_iterable(noted.values()):
        if rows.rows:
            _follow_noted(session, rows, clock.now())


def _follow_noted(session: Session, rows: _Noted, now: datetime) -> None:
    connection: Connection | None = None
    try:
        connection = session.connection(bind_arguments={"mapper": rows.mapper})
        if is_elsewhere(connection, rows.cls, rows.model, now):
            return
        changes, templates = (
            rows.changes(connection.dialect.name, now),
            rows.concerned(),
        )
        followed = follow(rows.app, connection, rows.model, templates, changes, now)
        _finish(session, rows.app, rows.model, followed, connection, now)
    except Exception as error:
        if took_the_transaction(error):
            raise
        warn(rows.model, error, connection, now)


def _finish(
    session: Session,
    app: App,
    model: str,
    followed: Followed,
    connection: Connection,
    now: datetime,
) -> None:
    if followed.hindered is not None:
        warn(model, followed.hindered, connection, now)
    if followed.changed:
        changed = (app, app.database_of(model))
        session.info.setdefault(_CHANGED, set()).add(changed)


def _after_flush_postexec(session: Session, _context: UOWTransaction) -> None:
    """Call `afterSave` and `afterDelete`: the rows' tasks are planned by now."""
    rows = session.info.pop(_SAVED, [])
    if _EVENTS.get():
        return
    own = session.info.pop(_OWN, [])
    token = _EVENTS.set(True)
    try:
        for row in rows:
            gone = sa_inspect(row).deleted or sa_inspect(row).was_deleted
            method = getattr(_seen(row), "afterDelete" if gone else "afterSave", None)
            if not callable(method) or any(row is each for each in own):
                continue
            method()
            if not gone and session.is_modified(row):
                # The flush of the method's own change is no new event.
                session.info.setdefault(_OWN, []).append(row)
    finally:
        _EVENTS.reset(token)


def _seen(row: Any) -> Any:
    """A row as the methods of its model get it."""
    owners = owners_of(type(row))
    return in_style(owners[0][0], row) if owners else row


# Statements


def _after_begin(session: Session, _transaction: Any, connection: Connection) -> None:
    bulk_statements.began(session, connection)


def _before_execute(
    connection: Connection, statement: Any, many: Any, params: Any, _options: Any
) -> None:
    if not isinstance(statement, bulk_statements.KINDS):
        return
    _load_current()
    values = many or ([params] if params else [])
    try:
        bulk_statements.note(connection, statement, values)
    except Exception as error:
        if took_the_transaction(error):
            raise
        warn_of_statement(connection, statement.table, error, clock.now())


def _before_commit(session: Session) -> None:
    """Rows of statements are planned last, when no statement can follow."""
    for app, model, touched in bulk_statements.taken(session):
        connection, now = None, clock.now()
        try:
            cls = app.getElement(model)
            connection = session.connection(bind_arguments={"mapper": sa_inspect(cls)})
            if is_elsewhere(connection, cls, model, now):
                continue
            followed = bulk_statements.follow_touched(
                app, connection, model, touched, now
            )
            _finish(session, app, model, followed, connection, now)
        except Exception as error:
            if took_the_transaction(error):
                raise
            warn(model, error, connection, now)


# The end of a transaction


def _after_rollback(session: Session) -> None:
    names = [_SAVED, _OWN, bulk_statements.TOUCHED]
    if not _held(session):
        names.append(_CHANGED)
    for name in names:
        session.info.pop(name, None)


def _after_soft_rollback(session: Session, _transaction: Any) -> None:
    session.info.pop(bulk_statements.FLUSHING, None)  # a flush that failed


def _after_commit(session: Session) -> None:
    for app, database in () if _held(session) else session.info.pop(_CHANGED, ()):
        for nudge in _nudges:
            try:
                nudge(app, database)
            except RuntimeError as error:  # no thread can be started
                log.debug("left to the next sync: %s", error)


def _held(session: Session) -> bool:
    """Whether the session's commits wait for the completion of a row's task."""
    return isinstance(session, RowSession) and not session.ending


def _load_current() -> None:
    """Load the apps in use, so that their classes are known whoever imported them first; each app once.

    A process that has made an app itself follows that app only. An app that was only asked for, `app.name` say, is loaded.
    """
    if not _resolvers or _loaded == [_apps()]:
        return
    _loaded[:] = [_apps()]
    try:
        for app in apps_in_use() if App.made else [_resolvers[0]()]:
            app.load()
    except JittaskError as error:
        log.debug("no app to follow: %s", error)
    except Exception:
        log.exception("the app could not be loaded: saves are found by the sync only")
    _loaded[:] = [_apps()]


def _apps() -> tuple[int, int]:
    return App.made, len(apps_in_use())


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
