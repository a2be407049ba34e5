"""Rows of known keys: one SELECT for their dates and for the filter of each template.

The SELECT asks for ORM attributes, so a row may span joined tables; no value is taken from an instance. A key without
a row is absent from the answer, a row that does not meet a filter has no dates for that template.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Select, and_, or_, select
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.orm import Mapper, Session

from jittask_prefect.elements.row_timers import NO_TIMES, RowTimes, as_kept
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.filters.columns import Column
from jittask_prefect.filters.expression import Filter
from jittask_prefect.filters.paths import value_of
from jittask_prefect.filters.where import Where
from jittask_prefect.ledger.keys import key_text, key_value
from jittask_prefect.ledger.prepared import Prepared, prepared, wrapped
from jittask_prefect.ledger.savepoint import nested

Values = tuple[Any, ...]
Record = Sequence[Any]
Answer = Callable[[], dict[str, Record]]
Moments = Mapping[str, Callable[[datetime], Any]]
KEYS_AT_ONCE = 512


def key_attributes(model: Any) -> list[Any]:
    """The ORM attributes of a model's primary key."""
    mapper: Mapper[Any] = sa_inspect(model)
    columns = mapper.primary_key
    return [getattr(model, mapper.get_property_by_column(c).key) for c in columns]


def date_columns(template: DateFieldType) -> list[Column]:
    """The columns of a template's dates: the start's, and the end's where the row has an end."""
    found: list[Column] | None = template.kept.get("dates")
    if found is None:
        cfg = template.timer.cfg
        names = [str(cfg.start_field)]
        if cfg.end_field and cfg.end_time_type == 2:
            names.append(cfg.end_field)
        found = [template.field_column(name) for name in names]
        template.kept["dates"] = found
    return found


@dataclass(frozen=True)
class RowColumns:
    """The columns of a row that decide when its tasks are due.

    Attributes:
        dates: The start's, and the end's where the row has an end.
        own: Those of the row's own zone and calendar, by `timezoneField` and `calendarField`.
    """

    dates: tuple[Column, ...]
    own: tuple[tuple[str, Column], ...]

    def asked(self, model: Any) -> list[Any]:
        """The columns in SQL, for rows of the model."""
        own = [value_of(column, model) for _, column in self.own]
        return [*(getattr(model, column.key) for column in self.dates), *own]

    def times(self, values: Sequence[Any]) -> RowTimes:
        """A row's values of `asked`.

        Raises:
            ValueError: A time with a zone stands in a column without a zone.
        """
        count = len(self.dates)
        start, end = [*map(dated, self.dates, values), None][:2]
        if not self.own:
            return RowTimes(start, end)
        found = {
            key: as_kept(column, key, value)
            for (key, column), value in zip(self.own, values[count:], strict=True)
        }
        zone, calendar = found.get("timezoneField"), found.get("calendarField")
        return RowTimes(start, end, zone, calendar)


def row_columns(template: DateFieldType) -> RowColumns:
    """The columns of a template's rows that decide when tasks are due."""
    found: RowColumns | None = template.kept.get("columns")
    if found is None:
        own = [(key, template.own_column(key)) for key in template.own_fields]
        found = RowColumns(tuple(date_columns(template)), tuple(own))
        template.kept["columns"] = found
    return found


def same_keys(keys: Sequence[Any], number: int) -> ColumnElement[bool]:
    """That a row's key is among the parameters of `key_parameters`."""
    named = [
        [sa.bindparam(f"key_{n}_{place}", type_=key.type) for n in range(number)]
        for place, key in enumerate(keys)
    ]
    if len(keys) == 1:
        [key], [binds] = keys, named
        found: ColumnElement[bool] = key == binds[0] if number == 1 else key.in_(binds)
        return found
    rows = (
        and_(*(key == bind for key, bind in zip(keys, row, strict=True)))
        for row in zip(*named, strict=True)
    )
    return or_(*rows)


def key_parameters(keys: Sequence[Values], number: int) -> dict[str, Any]:
    """The parameters of `same_keys`; the last key fills up the number."""
    return {
        f"key_{n}_{place}": value
        for n in range(number)
        for place, value in enumerate(keys[min(n, len(keys) - 1)])
    }


def labelled(asked: Sequence[Any]) -> list[Any]:
    """Expressions with names of their own: equal ones would be selected once."""
    return [each.label(f"asked_{number}") for number, each in enumerate(asked)]


@dataclass(frozen=True)
class _Place:
    """Where a template's answers stand in a record."""

    values: tuple[int, ...]
    met: int | None


class RowReader:
    """The SELECT for rows of some keys: made once for some templates of a model.

    Args:
        templates: Date-field templates of a model.
        now: Any instant, for the first values of `Q.now(…)`.

    Raises:
        FilterError: A template's filter does not fit the model.
    """

    def __init__(self, templates: Sequence[DateFieldType], now: datetime) -> None:
        model: Any = templates[0].model
        self._key_columns = sa_inspect(model).primary_key
        self._keys = key_attributes(model)
        self._asked: list[Any] = list(self._keys)
        self._places: dict[DateFieldType, _Place] = {}
        self._moments: dict[str, Callable[[datetime], Any]] = {}
        known: dict[str, int] = {}
        for template in templates:
            columns = row_columns(template)
            names = [column.key for column in columns.dates]
            names += [f"{key} {template.own_fields[key]}" for key, _ in columns.own]
            for name, expression in zip(names, columns.asked(model), strict=True):
                if name not in known:
                    known[name] = self._ask(expression)
            places = tuple(known[name] for name in names)
            self._places[template] = _Place(places, self._filter(template, now))

    def _filter(self, template: DateFieldType, now: datetime) -> int | None:
        if template.filter.empty:
            return None
        model, zone = template.model, template.timer.zone
        found = template.filter.compiled(model, now, zone)
        self._moments.update(found.moments)
        return self._ask(found.sql)

    def _ask(self, expression: Any) -> int:
        self._asked.append(expression)
        return len(self._asked) - 1

    def _statement(self, number: int) -> Select[Any]:
        return select(*labelled(self._asked)).where(same_keys(self._keys, number))

    def send(
        self, connection: Connection, keys: Mapping[str, Values], now: datetime
    ) -> Answer:
        """Send the SELECT.

        Args:
            connection: In a transaction.
            keys: By key text, the values of the key columns; at most `KEYS_AT_ONCE`.
            now: The present instant.

        Returns:
            A function that fetches the answer: by key text, the rows that there are. It raises errors of `UNREADABLE`
            for a value that cannot be read.
        """
        number = 1 << (len(keys) - 1).bit_length()  # powers of two: few statements
        make = partial(self._statement, number)
        query = prepared(connection, ("rows", self, number), make)
        parameters = key_parameters(list(keys.values()), number)
        for name, value in self._moments.items():
            parameters[name] = value(now)
        cursor = query.run(connection, [parameters])
        return partial(self._records, connection, query, cursor, list(keys))

    def _records(
        self, connection: Connection, query: Prepared, cursor: Any, keys: list[str]
    ) -> dict[str, Record]:
        dialect = connection.dialect
        try:
            found = list(query.records(cursor))
        except dialect.loaded_dbapi.Error as error:
            raise wrapped(connection, query.sql, error) from error
        if len(keys) == 1:
            return dict(zip(keys, found, strict=False))
        columns = self._key_columns
        number, name = len(columns), dialect.name
        return {key_text(columns, record[:number], name): record for record in found}

    def times(self, template: DateFieldType, record: Record) -> RowTimes | None:
        """A row's values that decide when its tasks are due; None where no task is due.

        Raises:
            ValueError: A time with a zone stands in a column without a zone.
        """
        place = self._places[template]
        if place.met is not None and not record[place.met]:
            return None
        values = [record[at] for at in place.values]
        found = row_columns(template).times(values)
        return None if found.start is None else found


def reader_of(templates: Sequence[DateFieldType], now: datetime) -> RowReader:
    """The reader of some templates of a model, kept as long as the first of them."""
    known = templates[0].kept
    name = ("row reader", *templates)
    if name not in known:
        known[name] = RowReader(templates, now)
    reader: RowReader = known[name]
    return reader


def dated(column: Column, value: Any) -> Any:
    """A date, checked against its column.

    Raises:
        ValueError: A time with a zone stands in a column without a zone.
    """
    if getattr(value, "tzinfo", None) is not None and not column.aware:
        found = value.isoformat(" ")
        raise ValueError(f"{found} in {column.key}, a column of times without a zone")
    return value


@dataclass(frozen=True, slots=True)
class Dated:
    """A row as planning sees it.

    Attributes:
        key: The row's key as the ledger has it.
        times: The values that decide when tasks are due; no start where no task is due.
        there: Whether the row is in its table.
    """

    key: str
    times: RowTimes
    there: bool = True


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that cannot be read, and why."""

    key: str
    why: str


# What a driver, or SQLAlchemy's own reading of SQLite's texts, raises for a value that is no date.
UNREADABLE = (
    ValueError,
    TypeError,
    OverflowError,
    AttributeError,
    sa.exc.DataError,
    sa.exc.StatementError,
)


def dated_rows(
    connection: Connection,
    template: DateFieldType,
    keys: Mapping[str, Values],
    now: datetime,
) -> list[Dated | Unreadable]:
    """The rows of some keys; a value that cannot be read spoils its own row only.

    Args:
        connection: In a transaction.
        template: The template.
        keys: By key text, the values of the key columns; at most `KEYS_AT_ONCE`.
        now: The present instant.
    """
    if not keys:
        return []
    reader = reader_of([template], now)
    try:
        with nested(connection):
            records = reader.send(connection, keys, now)()
    except UNREADABLE as error:
        if len(keys) == 1:
            return [Unreadable(key, _not_read(error)) for key in keys]
        half, every = len(keys) // 2, list(keys.items())
        first = dated_rows(connection, template, dict(every[:half]), now)
        return first + dated_rows(connection, template, dict(every[half:]), now)
    return [_dated_row(reader, template, key, records.get(key)) for key in keys]


def _dated_row(
    reader: RowReader, template: DateFieldType, key: str, record: Any
) -> Dated | Unreadable:
    if record is None:
        return Dated(key, NO_TIMES, there=False)
    try:
        return Dated(key, reader.times(template, record) or NO_TIMES)
    except ValueError as error:
        return Unreadable(key, str(error))


def _not_read(error: Exception) -> str:
    said = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
    return f"its date cannot be read: {type(error).__name__}: {said}"


def row_parameters(
    session: Session, template: DateFieldType, key: str
) -> dict[str, Any]:
    """The parameters of `same_keys` for one row's key as text.

    Raises:
        NoKey: The key is none of the model's, or its type cannot read the text.
    """
    dialect = session.get_bind(sa_inspect(template.model)).dialect.name
    return key_parameters([key_value(template.model, key, dialect)], 1)


# Why a row has no task


def unmet(
    session: Session, template: DateFieldType, key: str, now: datetime
) -> list[tuple[Filter | Where, dict[str, Any]]]:
    """The parts of a template's filter that a row does not meet, each with the row's own values of the part's fields.

    One SELECT asks for all parts; the answer is empty where the row meets the filter, or is gone.
    """
    model: Any = template.model
    parts: Sequence[Filter | Where] = template.filter.parts
    if not parts:
        return []
    names = sorted(name for name in template.filter.fields if "." not in name)
    asked: list[Any] = [
        part.condition(model, now, template.timer.zone) for part in parts
    ]
    asked += [getattr(model, name) for name in names]
    query = select(*labelled(asked)).where(same_keys(key_attributes(model), 1))
    record = session.execute(
        query, row_parameters(session, template, key)
    ).one_or_none()
    if record is None:
        return []
    values = dict(zip(names, record[len(parts) :], strict=True))
    return [
        (part, {name: values[name] for name in part.own_fields})
        for part, met in zip(parts, record, strict=False)
        if not met
    ]
