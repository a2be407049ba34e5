"""A whole row at the due moment of its task: instance, dates and filter by one SELECT.

The instance is SQLAlchemy's own work where the mapping asks for more than the columns of a table, or where somebody listens
to what a session loads. For a plain mapping the SELECT is a prepared one, and the instance is made of the record: the look at
the row would else be half of the time of a row whose function only writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Select, Table, select
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.orm import (
    ColumnProperty,
    Load,
    Mapper,
    Session,
    make_transient_to_detached,
    undefer,
)

from jittask_prefect.elements.row_timers import RowTimes
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.ledger.keys import key_text, key_value
from jittask_prefect.ledger.prepared import Prepared, prepared
from jittask_prefect.rows.row_reading import (
    KEYS_AT_ONCE,
    UNREADABLE,
    Unreadable,
    key_attributes,
    key_parameters,
    labelled,
    row_columns,
    same_keys,
)
from jittask_prefect.schedule.timer import Series

# Relationships of these kinds load nothing before somebody asks.
LAZY = (True, "select", "raise", "raise_on_sql", "dynamic", "write_only")


@dataclass(frozen=True)
class DueRow:
    """A row at the due moment of a task.

    Attributes:
        row: The instance, fresh from the database.
        series: The row's occurrences; None where the row has no date, or does not meet the filter.
    """

    row: Any
    series: Series | None


def load_row(session: Session, template: DateFieldType, key: str) -> Any:
    """The row of a key, fresh from the database; None without a row.

    Raises:
        NoKey: The key is none of the model's, or its type cannot read the text: whether a row is there is not known.
    """
    dialect = session.get_bind(sa_inspect(template.model)).dialect.name
    values = key_value(template.model, key, dialect)
    loaded = [*_dates_loaded(template), *_related_loaded(template)]
    return session.get(template.model, values, populate_existing=True, options=loaded)


def _dates_loaded(template: DateFieldType) -> list[Any]:
    """Options that load a row's dates although the model defers them: Types ask the row for its occurrences."""
    columns = row_columns(template)
    own = [column for _, column in columns.own if not column.hops]
    attributes = [getattr(template.model, c.key) for c in (*columns.dates, *own)]
    return [undefer(attribute) for attribute in attributes]


def _related_loaded(template: DateFieldType) -> list[Any]:
    """Options that load the related row of a zone or a calendar: a detached row could not ask for the other."""
    options = []
    for _, column in row_columns(template).own:
        entity, option = template.model, None
        for hop in column.hops:
            attribute = getattr(entity, hop.key)
            option = (option or Load(template.model)).selectinload(attribute)
            entity = hop.mapper.class_
        if option is not None:
            options.append(option.undefer(getattr(entity, column.key)))
    return options


def due_row(
    session: Session, template: DateFieldType, key: str, now: datetime
) -> DueRow | None:
    """The row of a key with its occurrences: row, dates and filter in one SELECT; None without a row.

    Args:
        session: The row's session.
        template: The task's template.
        key: The row's key as text.
        now: The present instant.

    Raises:
        NoKey: As `load_row` does.
        ValueError: A date cannot be read.
    """
    look = _look(template, now)
    found = look.record(session, key, now)
    if found is None:
        return None
    row, met, *values = found
    times = look.columns.times(values)
    return DueRow(row, _series(template, times) if met else None)


def _look(template: DateFieldType, now: datetime) -> _Look:
    """The SELECT for rows of a template, kept as long as the template."""
    if "due row" not in template.kept:
        template.kept["due row"] = _Look(template, now)
    found: _Look = template.kept["due row"]
    return found


def prepare(template: DateFieldType, engine: Engine, now: datetime) -> None:
    """Compile the SELECT for a row of a template on PostgreSQL, without a connection."""
    _look(template, now).prepared(engine)


def due_rows(
    session: Session, template: DateFieldType, keys: Sequence[str], now: datetime
) -> dict[str, DueRow | Unreadable | None]:
    """The rows of some keys with their occurrences, by key: None without a row; a value that cannot be read spoils its own row.

    Arguments as of `due_row`.
    """
    look = _look(template, now)
    found: dict[str, DueRow | Unreadable | None] = {}
    for start in range(0, len(keys), KEYS_AT_ONCE):
        part = keys[start : start + KEYS_AT_ONCE]
        try:
            with session.no_autoflush:
                found |= _due_rows(session, template, look, part, now)
        except UNREADABLE:
            for key in part:
                found[key] = _one_due_row(session, template, key, now)
    return found


def _due_rows(
    session: Session,
    template: DateFieldType,
    look: _Look,
    keys: Sequence[str],
    now: datetime,
) -> dict[str, DueRow | None]:
    dialect = session.get_bind(sa_inspect(template.model)).dialect.name
    values = [key_value(template.model, key, dialect) for key in keys]
    columns, number = sa_inspect(template.model).primary_key, len(keys)
    records = look.records(session, key_parameters(values, number), number, now)
    found: dict[str, DueRow | None] = dict.fromkeys(keys)
    size = len(columns)
    for row, *values_of in records:
        met, *asked = values_of[size:]
        text = key_text(columns, values_of[:size], dialect)
        times = look.columns.times(asked)
        found[text] = DueRow(row, _series(template, times) if met else None)
    return found


def _one_due_row(
    session: Session, template: DateFieldType, key: str, now: datetime
) -> DueRow | Unreadable | None:
    try:
        return due_row(session, template, key, now)
    except UNREADABLE as error:
        return Unreadable(key, f"{type(error).__name__}: {error}")


def _series(template: DateFieldType, times: RowTimes) -> Series | None:
    """The occurrences of a row's values; rows that are due at one instant often have equal ones, and share a series."""
    # Python finds two equal times of a zone's overlap equal whatever their fold.
    asked = [(value, getattr(value, "fold", 0)) for value in times]
    known, series = template.kept.get("last series", (None, None))
    if known != asked:
        series = template.series_of(times)
        template.kept["last series"] = asked, series
    found: Series | None = series
    return found


class _Look:
    """The SELECT for a row of a template: the instance, whether the filter is met, and the dates."""

    def __init__(self, template: DateFieldType, now: datetime) -> None:
        self._model: Any = template.model
        self._mapper: Mapper[Any] = sa_inspect(self._model)
        self.columns = row_columns(template)
        met = template.filter.compiled(self._model, now, template.timer.zone)
        self._moments: Mapping[str, Callable[[datetime], Any]] = met.moments
        self._asked = [met.sql, *self.columns.asked(self._model)]
        self._columns = plain_columns(self._mapper)
        self._options = _dates_loaded(template)
        query = self._select(self._model).options(*self._options)
        self._query = query.execution_options(populate_existing=True)

    def _select(self, *row: Any) -> Select[Any]:
        mine = same_keys(key_attributes(self._model), 1)
        return select(*row, *labelled(self._asked)).where(mine)

    def _select_columns(self) -> Select[Any]:
        assert self._columns is not None
        columns = (getattr(self._model, name) for name in self._columns)
        row = [
            column.label(f"column_{number}") for number, column in enumerate(columns)
        ]
        return self._select(*row)

    def prepared(self, at: Connection | Engine) -> Prepared:
        """The SELECT of a plain mapping, compiled."""
        return prepared(at, ("due row", self), self._select_columns)

    def record(self, session: Session, key: str, now: datetime) -> Sequence[Any] | None:
        """The instance, whether the filter is met, and the dates; None without a row."""
        connection = session.connection()
        keys = [key_value(self._model, key, connection.dialect.name)]
        given = key_parameters(keys, 1)
        given |= {name: at(now) for name, at in self._moments.items()}
        if self._columns is None or is_watched(session, self._mapper, connection):
            return session.execute(self._query, given).unique().one_or_none()
        _, found = self.prepared(connection).once(connection, given)
        if not found:
            return None
        [values], number = found, len(self._columns)
        row = dict(zip(self._columns, values, strict=False))
        return made_persistent(session, self._mapper, row), *values[number:]

    def records(
        self,
        session: Session,
        parameters: dict[str, Any],
        number: int,
        now: datetime,
    ) -> Sequence[Any]:
        """Some rows: of each the instance, the values of its key, whether the filter is met, and the dates."""
        given = parameters | {name: at(now) for name, at in self._moments.items()}
        keys = key_attributes(self._model)
        query = select(self._model, *labelled([*keys, *self._asked]))
        query = query.where(same_keys(keys, number)).options(*self._options)
        fresh = query.execution_options(populate_existing=True)
        return session.execute(fresh, given).unique().all()


# Instances of plain mappings


def plain_columns(mapper: Mapper[Any]) -> list[str] | None:
    """The attributes of a mapping that has nothing to load but the columns of a table; None for another mapping."""
    table, attributes = mapper.local_table, list(mapper.column_attrs)
    plain = (
        isinstance(table, Table)
        and len(list(mapper.self_and_descendants)) == 1
        and mapper.inherits is None
        and mapper.polymorphic_on is None
        and not mapper.composites
        and all(_is_plain(attribute, table) for attribute in attributes)
        and all(each.lazy in LAZY for each in mapper.relationships)
    )
    return [attribute.key for attribute in attributes] if plain else None


def _is_plain(attribute: ColumnProperty[Any], table: Table) -> bool:
    columns = attribute.columns
    alone = len(columns) == 1 and table.c.contains_column(columns[0])
    return alone and not attribute.deferred


def is_watched(session: Session, mapper: Mapper[Any], connection: Connection) -> bool:
    """Whether a session has instances, or listeners or names of schemas that concern what the session loads."""
    of_session, of_class = session.dispatch, mapper.class_manager.dispatch
    loads = of_session.do_orm_execute or of_session.loaded_as_persistent
    engine = connection.engine
    schemas = engine.get_execution_options().get("schema_translate_map") or {None: ""}
    return bool(
        len(session.identity_map)
        or loads
        or of_class.load
        or engine.dispatch.before_cursor_execute
        or set(schemas) != {None}
    )


def made_persistent(
    session: Session, mapper: Mapper[Any], values: Mapping[str, Any]
) -> Any:
    """An instance of a plain mapping, in a session as if the session had loaded the row.

    Args:
        session: The session, which has no instance of that key.
        mapper: The mapping.
        values: The row's values by attribute.
    """
    row = mapper.class_manager.new_instance()
    vars(row).update(values)
    make_transient_to_detached(row)
    session.add(row)
    return row
