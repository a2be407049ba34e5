"""INSERT, UPDATE and DELETE that go past the unit of work: their rows are followed when the transaction commits.

Followed is each such expression that a session's connection is given: `session.execute`, `Query.update` and `delete`,
the `bulk_…` methods, upserts, Core statements on models' tables. Statements are not changed. The keys of the rows that
an UPDATE or DELETE is about to touch are read before the statement. For an INSERT a note is enough: at the commit the
database finds the rows that no task has been planned for. As in SQLAlchemy itself, `afterSave` and `afterDelete` are
not called. Left to the next sync, and to the check at the due moment, are: text; connections without a session; changes
that the database makes by itself (a cascade, a trigger); the new key where a statement changes keys; and related rows
that a filter looks at.
"""

from __future__ import annotations

import logging
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

from sqlalchemy import Connection, Delete, Insert, Update, select
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, BooleanClauseList

from jittask_prefect.elements.app import App
from jittask_prefect.elements.registry import owners_of_table
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.ledger import watermarks
from jittask_prefect.ledger.hindrance import has_ledger
from jittask_prefect.ledger.keys import key_text
from jittask_prefect.ledger.savepoint import Savepoint
from jittask_prefect.rows.follow import Change, Followed, follow
from jittask_prefect.rows.plan import Report
from jittask_prefect.rows.row_reading import Values, key_attributes
from jittask_prefect.rows.template_planner import TemplatePlanner

KINDS = (Insert, Update, Delete)
FLUSHING, TOUCHED = "jittask_flushing", "jittask_touched"  # in Session.info
log = logging.getLogger("jittask")
_session_of: WeakKeyDictionary[Connection, ReferenceType[Session]] = WeakKeyDictionary()
Params = Sequence[Mapping[str, Any]]


@dataclass
class Touched:
    """The rows of a model that a transaction's statements have touched.

    Attributes:
        new: Whether rows were inserted.
        keys: The values of the keys of changed and deleted rows, by key text.
    """

    new: bool = False
    keys: dict[str, Values] = field(default_factory=dict)


def began(session: Session, connection: Connection) -> None:
    """Remember which session works on a connection."""
    _session_of[connection] = ref(session)


def note(
    connection: Connection, statement: Insert | Update | Delete, params: Params
) -> None:
    """Note the rows that a statement is about to touch; the caller sees to it that no error makes the statement fail."""
    found = _session_of.get(connection)
    session = found() if found is not None else None
    if session is None or FLUSHING in session.info:
        return
    for cls, app, model in owners_of_table(statement.table):
        templates = app.row_templates(model)
        mapper = sa_inspect(cls)
        if not templates or (
            isinstance(statement, Update)
            and not _concerns(statement, params, mapper, templates)
        ):
            continue
        known = session.info.setdefault(TOUCHED, {})
        touched = known.setdefault((app, model), Touched())
        if not isinstance(statement, Delete):
            touched.new = True
        if not isinstance(statement, Insert):
            dialect, columns = connection.dialect.name, mapper.primary_key
            for values in _keys(connection, statement, cls, params):
                touched.keys[key_text(columns, values, dialect)] = values


def taken(session: Session) -> list[tuple[App, str, Touched]]:
    """The noted rows of a session, once."""
    found = session.info.pop(TOUCHED, {})
    return [(app, model, touched) for (app, model), touched in found.items()]


def follow_touched(
    app: App,
    connection: Connection,
    model: str,
    touched: Touched,
    now: datetime,
) -> Followed:
    """Follow the rows that statements have touched, in the caller's transaction.

    Args:
        app: The app.
        connection: The connection whose transaction the changes are in.
        model: The model's full name.
        touched: The noted rows.
        now: The present instant.
    """
    templates = app.row_templates(model)
    with Savepoint(connection) as savepoint:
        savepoint.begin()
        if not has_ledger(connection, savepoint, now):
            return Followed()
        known, report = watermarks.memories(connection, app.name), Report()
        planners = {
            t.fullName: TemplatePlanner(
                t, connection.engine, now, None, known.get(t.fullName), report
            )
            for t in templates
        }
        keys = dict(touched.keys)
        for planner in planners.values() if touched.new else ():
            for part in planner.unplanned_keys(connection):
                keys |= part
    for problem in report.problems:
        log.warning("%s", problem)
    changes = {key: Change(values) for key, values in keys.items()}
    windows = {name: planner.occurrences for name, planner in planners.items()}
    return follow(app, connection, model, templates, changes, now, windows)


def _concerns(
    statement: Update,
    params: Params,
    mapper: Mapper[Any],
    templates: Sequence[DateFieldType],
) -> bool:
    """Whether an UPDATE sets a column that decides about due times; True where nobody can tell."""
    if any(template.filter.follows_relationships for template in templates):
        return True
    attributes = mapper.column_attrs
    wanted: set[str] = set()
    for name in set().union(*(template.fields for template in templates)):
        columns = attributes[name].columns if name in attributes else []
        for column in columns:
            if column.onupdate is not None or column.server_onupdate is not None:
                return True
            wanted |= {name, column.name}
    # Up to SQLAlchemy 2.0 `ordered_values` has a list of its own; there is no public way to either.
    values: Any = getattr(statement, "_ordered_values", None) or statement._values or {}
    names: set[str] = set().union(*params[:1])
    for column, _ in values.items() if isinstance(values, Mapping) else values:
        named = column if isinstance(column, str) else getattr(column, "key", None)
        names.add(str(named))
    return not names or not wanted.isdisjoint(names)


def _keys(
    connection: Connection,
    statement: Update | Delete,
    cls: type[Any],
    params: Params,
) -> Iterator[Values]:
    """The keys of a model's rows that an UPDATE or DELETE is about to touch."""
    named = _named(statement, sa_inspect(cls).primary_key, params)
    if named is not None:
        yield from named
        return
    # Attributes, not columns: a row of a joined subclass spans tables.
    query = select(*key_attributes(cls))
    if statement.whereclause is not None:
        query = query.where(statement.whereclause)
    with Savepoint(connection) as savepoint:
        savepoint.begin()
        for each in params or [{}]:
            for record in connection.execute(query, dict(each)):
                yield tuple(record)


def _named(
    statement: Update | Delete, columns: Sequence[Any], params: Params
) -> list[Values] | None:
    """The keys, where `key = value` for each column of the key is the whole condition of the statement."""
    where = statement.whereclause
    parts: list[Any] = [where]
    if isinstance(where, BooleanClauseList):
        if where.operator is not operator.and_:
            return None
        parts = list(where.clauses)
    binds: dict[int, BindParameter[Any]] = {}
    for part in parts:
        equal = isinstance(part, BinaryExpression) and part.operator is operator.eq
        if not equal or not isinstance(part.right, BindParameter):
            return None
        # An annotated column has the hash of the plain column.
        binds[hash(part.left)] = part.right
    if len(parts) != len(columns) or set(binds) != {hash(c) for c in columns}:
        return None
    own = [binds[hash(column)] for column in columns]
    return [
        tuple(each.get(bind.key, bind.effective_value) for bind in own)
        for each in params or [{}]
    ]
