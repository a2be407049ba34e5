"""INSERT, UPDATE and DELETE that go past the unit of work: the ledger follows them when the transaction commits.

Followed is each such expression that a session's connection is given: `session.execute`, `Query.update` and `delete`,
the `bulk_…` methods, upserts, Core statements on models' tables. Nothing is changed of a statement. The keys of the
rows that an UPDATE or DELETE is about to touch are read before it; of an INSERT it is enough to know that there was
one, since at the commit the database finds the rows that no task has been planned for. As in SQLAlchemy itself,
`afterSave` and `afterDelete` are not called. Left to the next sync, and to the look at the row when its task is due,
are: text; connections without a session; what the database changes by itself (a cascade, a trigger); the new key where
a statement changes keys; and related rows that a filter looks at.
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
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, BooleanClauseList

from jittask_prefect.elements.app import App
from jittask_prefect.elements.registry import owners_of_table
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.ledger import watermarks
from jittask_prefect.ledger.keys import key_text
from jittask_prefect.ledger.savepoint import Apart
from jittask_prefect.rows.plan import Action, Report
from jittask_prefect.rows.planning import Look
from jittask_prefect.rows.sync import apply_all

KINDS = (Insert, Update, Delete)
FLUSHING, TOUCHED = "jittask_flushing", "jittask_touched"  # in Session.info
log = logging.getLogger("jittask")
_session_of: WeakKeyDictionary[Connection, ReferenceType[Session]] = WeakKeyDictionary()
Params = Sequence[Mapping[str, Any]]


@dataclass
class Touched:
    """What a transaction's statements have done to the rows of a model: new ones, and the keys of changed ones."""

    new: bool = False
    keys: set[str] = field(default_factory=set)


def began(session: Session, connection: Connection) -> None:
    """A session works on a connection."""
    _session_of[connection] = ref(session)


def note(
    connection: Connection, statement: Insert | Update | Delete, params: Params
) -> None:
    """Remember what a statement is about to do; its caller sees to it that no error makes the statement fail."""
    found = _session_of.get(connection)
    session = found() if found is not None else None
    if session is None or FLUSHING in session.info:
        return
    table: Any = statement.table
    for cls, app, model in owners_of_table(table):
        templates = app.row_templates(model)
        if not templates or (
            isinstance(statement, Update)
            and not _concerns(statement, params, cls, templates)
        ):
            continue
        touched = session.info.setdefault(TOUCHED, {}).setdefault(
            (app, model), Touched()
        )
        if not isinstance(statement, Delete):
            touched.new = True
        if not isinstance(statement, Insert):
            with Apart(connection) as apart:
                touched.keys.update(
                    _keys(
                        connection,
                        statement,
                        list(sa_inspect(cls).primary_key),
                        params,
                        apart,
                    )
                )


def taken(session: Session) -> list[tuple[App, str, Touched]]:
    """What was noted in a session, once."""
    return [
        (app, model, touched)
        for (app, model), touched in session.info.pop(TOUCHED, {}).items()
    ]


def follow(
    app: App,
    connection: Connection,
    model: str,
    templates: Sequence[DateFieldType],
    touched: Touched,
    now: datetime,
) -> Iterator[list[Action]]:
    """Plan rows from what the database holds of them, in the caller's transaction; what was done, piece by piece.

    Args:
        app: The app.
        connection: The connection whose transaction the changes are in.
        model: The model's full name.
        templates: Those of its templates that are looked at.
        touched: What was noted of its rows.
        now: The present instant.
    """
    report = Report()
    known = watermarks.memories(connection, app.name)
    for template in templates:
        look = Look(
            app,
            template,
            connection.engine,
            now,
            None,
            known.get(template.fullName),
            report,
        )
        for actions in look.of_statements(
            connection, sorted(touched.keys), new=touched.new
        ):
            apply_all(connection, app.name, actions, model, now)
            yield actions
    for problem in report.problems:
        log.warning("%s", problem)


def _concerns(
    statement: Update,
    params: Params,
    cls: type[Any],
    templates: Sequence[DateFieldType],
) -> bool:
    """Whether an UPDATE sets a column that decides about due times; True where that cannot be told."""
    attrs = sa_inspect(cls).column_attrs
    wanted: set[str] = set()
    for name in set().union(*(template.fields for template in templates)) & set(
        attrs.keys()
    ):
        columns = attrs[name].columns
        if any(
            c.onupdate is not None or c.server_onupdate is not None for c in columns
        ):
            return True
        wanted |= {name, *(c.name for c in columns)}
    if any("." in name for template in templates for name in template.filter.fields):
        return True
    # Up to SQLAlchemy 2.0 `ordered_values` has a list of its own; there is no public way to either.
    values: Any = getattr(statement, "_ordered_values", None) or statement._values or {}
    names: set[str] = set().union(*params[:1])
    for column, _ in values.items() if isinstance(values, Mapping) else values:
        names.add(
            column if isinstance(column, str) else str(getattr(column, "key", None))
        )
    return not names or not wanted.isdisjoint(names)


def _keys(
    connection: Connection,
    statement: Update | Delete,
    keys: Sequence[Any],
    params: Params,
    apart: Apart,
) -> Iterator[str]:
    """The keys of the rows that an UPDATE or DELETE is about to touch."""
    named = _named(statement, keys, params)
    if named is None:
        apart.begin()
        query = select(*keys)
        if statement.whereclause is not None:
            query = query.where(statement.whereclause)
        named = [
            tuple(record)
            for each in params or [{}]
            for record in connection.execute(query, dict(each))
        ]
    for key in named:
        yield key_text(keys, key, connection.dialect.name)


def _named(
    statement: Update | Delete, keys: Sequence[Any], params: Params
) -> list[tuple[Any, ...]] | None:
    """The keys, where `key = value` for each column of the key is all that the statement asks for."""
    where = statement.whereclause
    if isinstance(where, BooleanClauseList) and where.operator is not operator.and_:
        return None
    parts = list(where.clauses) if isinstance(where, BooleanClauseList) else [where]
    binds: dict[int, BindParameter[Any]] = {}
    for part in parts:
        if not (isinstance(part, BinaryExpression) and part.operator is operator.eq):
            return None
        if not isinstance(part.right, BindParameter):
            return None
        binds[hash(part.left)] = (
            part.right
        )  # an annotated column has the hash of the plain one
    if len(parts) != len(keys) or set(binds) != {hash(column) for column in keys}:
        return None
    own = [binds[hash(column)] for column in keys]
    return [
        tuple(each.get(bind.key, bind.effective_value) for bind in own)
        for each in params or [{}]
    ]
