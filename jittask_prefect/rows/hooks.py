"""Model events: what a SQLAlchemy session saves or deletes reaches the ledger in the same transaction.

The listeners hang on SQLAlchemy's `Session` class, so they act whoever made the engine or the session. They never call
Prefect: after the commit a background thread is nudged, and what it does not manage the sync does within a minute.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any
from weakref import WeakSet

from sqlalchemy import Connection, Engine, event
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.orm import Session, UOWTransaction

from .. import clock
from ..elements.app import App, owner_of
from ..elements.types import DateFieldType
from ..errors import JittaskError
from . import ledger
from .plan import Action, look_back, plan_row, wanted
from .sync import apply

log = logging.getLogger("jittask")
_CHANGED = "jittask_changed"
_SAVED = "jittask_saved"
_OWN = "jittask_own_change"
_EVENTS: ContextVar[bool] = ContextVar("jittask_in_event", default=False)
_with_ledger: WeakSet[Engine] = WeakSet()
_warned: WeakSet[Engine] = WeakSet()

Nudge = Callable[[App, str], None]
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
    event.listen(Session, "after_flush", _after_flush)
    event.listen(Session, "after_flush_postexec", _after_flush_postexec)
    event.listen(Session, "after_commit", _after_commit)
    event.listen(Session, "after_rollback", _after_rollback)


def save_row(
    app: App, connection: Connection, row: Any, model: str, now: datetime, *, moved: bool = True
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
    """
    key = ledger.key_of(row)
    actions: list[Action] = []
    for template in app.row_templates(model):
        found = ledger.of_rows(connection, template.fullName, [key])[key]
        actions += _plan(app, template, row, key, found, now, moved)
    for action in actions:
        apply(connection, action, model, now)
    return actions


def delete_row(app: App, connection: Connection, key: str, model: str, now: datetime) -> list[Action]:
    """End the open tasks of a row that is gone, in the caller's transaction."""
    actions: list[Action] = []
    for template in app.row_templates(model):
        found = ledger.of_rows(connection, template.fullName, [key])[key]
        actions += plan_row(
            app.name, template.fullName, key, None, (), found, now, template.cfg.missed, gone="the row was deleted"
        )
    for action in actions:
        apply(connection, action, model, now)
    return actions


def _plan(
    app: App, template: DateFieldType, row: Any, key: str, found: list[ledger.Entry], now: datetime, moved: bool
) -> list[Action]:
    missed, name = template.cfg.missed, template.fullName
    if not template.enable:
        return plan_row(app.name, name, key, None, (), found, now, missed, gone="disabled")
    series = template.series(row)
    if series is None or not template.filter.matches(row, now, template.timer.zone):
        return plan_row(app.name, name, key, None, (), found, now, missed)
    horizon = now + timedelta(hours=app.cfg.horizon)
    repeats = template.timer.cfg.repeat.repeat_type != "normal"
    start = look_back(series, repeats, now, missed) if moved else now
    due = wanted(series, start, horizon)
    if not any(o.due > now for o in due):
        later = series.next(horizon)
        due += [later] if later else []
    return plan_row(app.name, name, key, series, due, found, now, missed, known=now if moved else None)


def relevant(template: DateFieldType) -> set[str]:
    """The fields that decide when, and whether, a row of the template is due."""
    cfg = template.timer.cfg
    names = {f.split(".")[0] for f in template.filter.fields}
    return names | {str(cfg.start_field)} | ({cfg.end_field} if cfg.end_field else set())


# Listeners


def _after_flush(session: Session, _context: UOWTransaction) -> None:
    _load_current()
    now = clock.now()
    # Deleted rows first: where a row takes the place of one with its key, the tasks of the new one stand.
    for row in session.deleted:
        _follow(session, row, lambda c, a, m, row=row: delete_row(a, c, ledger.key_of(row), m, now))  # type: ignore[misc]
    saved = [(row, True) for row in session.new] + [(row, False) for row in session.dirty if _changed(row)]
    for row, new in saved:
        _follow(session, row, lambda c, a, m, row=row, new=new: _save(c, a, m, row, now, new))  # type: ignore[misc]


Step = Callable[[Connection, App, str], list[Action]]


def _save(connection: Connection, app: App, model: str, row: Any, now: datetime, new: bool) -> list[Action]:
    return save_row(app, connection, row, model, now, moved=new or _moved(app, model, row))


def _follow(session: Session, row: Any, step: Step) -> None:
    owner = owner_of(type(row))
    if owner is None:
        return
    app, model = owner
    session.info.setdefault(_SAVED, []).append(row)
    try:
        if not app.row_templates(model):
            return
        connection = session.connection(bind_arguments={"mapper": sa_inspect(type(row))})
        if not _has_ledger(connection):
            return
        actions = step(connection, app, model)
    except Exception as error:  # noqa: BLE001  nothing about tasks may make a save fail; the sync reports the row
        log.warning("%s: the row's tasks could not be planned: %s: %s", model, type(error).__name__, error)
        return
    if any(a.action != "skip" for a in actions):
        session.info.setdefault(_CHANGED, set()).add((app, app.database_of(model)))


def _moved(app: App, model: str, row: Any) -> bool:
    changed = _changed(row)
    return any(changed & relevant(t) for t in app.row_templates(model))


def _changed(row: Any) -> set[str]:
    """The fields that a flush has written, among them those that the database has set and that are still to be read."""
    state = sa_inspect(row)
    return {a.key for a in state.attrs if a.history.has_changes()} | set(state.expired_attributes)


def _has_ledger(connection: Connection) -> bool:
    engine = connection.engine
    if engine in _with_ledger:
        return True
    if ledger.version(connection) == ledger.SCHEMA_VERSION:
        _with_ledger.add(engine)
        return True
    if engine not in _warned:
        _warned.add(engine)
        log.warning(
            "%r has no ledger: run `jittask db upgrade`; until then rows are found by the sync only", engine.url
        )
    return False


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
                    session.info.setdefault(_OWN, []).append(row)  # its own change is no new event
    finally:
        _EVENTS.reset(token)


def _after_rollback(session: Session) -> None:
    for name in (_SAVED, _OWN, _CHANGED):
        session.info.pop(name, None)


def _after_commit(session: Session) -> None:
    for app, database in session.info.pop(_CHANGED, ()):
        for nudge in _nudges:
            nudge(app, database)


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


_loaded: list[bool] = []
