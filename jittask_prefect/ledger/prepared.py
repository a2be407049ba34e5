"""The few statements that every save makes, given to the driver without SQLAlchemy between.

SQLAlchemy's own way from a statement to the driver takes several times as long as the database does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Dialect, Engine, Table, insert
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.types import TypeEngine

Values = Mapping[str, Any]
FEW = 20  # rows up to which drivers are faster row by row


class Prepared:
    """A statement, compiled for a dialect.

    Args:
        statement: An INSERT, UPDATE, DELETE or SELECT.
        dialect: The database's.
        columns: The columns that an INSERT sets.
        schema: Where its tables are; absent where the connection finds them.
    """

    def __init__(
        self,
        statement: Any,
        dialect: Dialect,
        columns: Sequence[str] | None = None,
        schema: str | None = None,
    ) -> None:
        place = (
            {"schema_translate_map": {None: schema}, "render_schema_translate": True}
            if schema
            else {}
        )
        compiled = statement.compile(dialect=dialect, column_keys=columns, **place)
        # SQLAlchemy's own IN of a subclass's kinds is written out.
        written = compiled.construct_expanded_state(compiled.params)
        self.sql = written.statement
        self._fixed = dict(written.parameters)
        self._order: list[str] | None = written.positiontup
        names = compiled.bind_names.items()
        binds = {
            name: _impl(bind.type, dialect).bind_processor(dialect)
            for bind, name in names
        }
        self._to_driver: dict[str, Any] = {
            **{name: convert for name, convert in binds.items() if convert is not None},
            **written.processors,
        }
        self._dialect = dialect
        self._types = [column.type for column in _selected(statement)]
        self._from_driver: list[tuple[int, Any]] | None = None

    def run(self, connection: Connection, rows: Sequence[Values]) -> Any:
        """Give the statement to the driver, once for each of some rows, in the transaction that has begun.

        Returns:
            The driver's cursor; its `rowcount` is that of the last few rows only.

        Raises:
            DBAPIError: As SQLAlchemy raises the driver's error.
        """
        many = len(rows) > FEW
        if many and self._order is not None:
            given = in_columns(rows, self._order, self._fixed, self._to_driver)
        else:
            given = [self._given(row) for row in rows]
        cursor = connection.connection.cursor()
        try:
            if many:
                cursor.executemany(self.sql, given)
            else:
                for values in given:
                    cursor.execute(self.sql, values)
        except Exception as error:
            raise wrapped(connection, self.sql, error) from error
        return cursor

    def once(self, connection: Connection, row: Values) -> tuple[int, list[list[Any]]]:
        """Give the statement to the driver, by the cursor that the connection of a row's task keeps for row after row.

        Returns:
            How many rows were changed or found, and the records of a SELECT.

        Raises:
            DBAPIError: As SQLAlchemy raises the driver's error.
        """
        keeps = getattr(connection, "kept_cursor", None)
        cursor = connection.connection.cursor() if keeps is None else keeps()
        try:
            cursor.execute(self.sql, self._given(row))
        except Exception as error:
            raise wrapped(connection, self.sql, error) from error
        number = int(cursor.rowcount)
        found = self._fetched(cursor) if self._types else []
        if keeps is None:
            cursor.close()
        return number, found

    def records(self, cursor: Any) -> Iterable[list[Any]]:
        """The records that a SELECT has found, converted as SQLAlchemy would; closes the cursor."""
        found = self._fetched(cursor)
        cursor.close()
        return found

    def _fetched(self, cursor: Any) -> list[list[Any]]:
        if self._from_driver is None:
            self._from_driver = list(self._converters(cursor.description))
        found = [list(record) for record in cursor.fetchall()]
        for record in found:
            for place, convert in self._from_driver:
                record[place] = convert(record[place])
        return found

    def _converters(self, description: Any) -> Iterator[tuple[int, Any]]:
        """By place, the conversions of the driver's values: some depend on the driver's own type."""
        dialect = self._dialect
        for place, of in enumerate(self._types):
            found = _impl(of, dialect).result_processor(dialect, description[place][1])
            if found is not None:
                yield place, found

    def _given(self, row: Values) -> Any:
        values = {**self._fixed, **row}
        for name, convert in self._to_driver.items():
            if (value := values[name]) is not None:  # NULL for every type of ours
                values[name] = convert(value)
        return (
            values
            if self._order is None
            else tuple(map(values.__getitem__, self._order))
        )


def in_columns(
    rows: Sequence[Values],
    names: Sequence[str],
    fixed: Values,
    to_driver: Mapping[str, Callable[[Any], Any]],
) -> list[tuple[Any, ...]]:
    """Rows as a driver takes them: converted column by column, an object that several rows share only once.

    Args:
        rows: The values by name.
        names: The order of the values.
        fixed: The values that a row need not have.
        to_driver: By name, the conversion of a value that is not null.
    """
    columns = []
    for name in names:
        usual = fixed.get(name)
        values = [row.get(name, usual) for row in rows]
        if (convert := to_driver.get(name)) is not None:
            objects = {id(value): value for value in values if value is not None}
            known = {at: convert(value) for at, value in objects.items()}
            values = [known.get(id(value)) for value in values]
        columns.append(values)
    return list(zip(*columns, strict=True))


def to_driver(
    table: Table, names: Iterable[str], dialect: Dialect
) -> dict[str, Callable[[Any], Any]]:
    """By column of a table, the conversion that its driver needs; columns without a conversion are absent."""
    found = {
        name: _impl(table.c[name].type, dialect).bind_processor(dialect)
        for name in names
    }
    return {name: convert for name, convert in found.items() if convert is not None}


def _selected(statement: Any) -> Sequence[Any]:
    return list(statement.selected_columns) if statement.is_select else []


def _impl(of: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    return of.dialect_impl(dialect)


def wrapped(connection: Connection, sql: str, error: Exception) -> BaseException:
    """A driver's own error as SQLAlchemy would raise the error."""
    dialect = connection.dialect
    return DBAPIError.instance(
        sql, None, error, dialect.loaded_dbapi.Error, dialect=dialect
    )


_known: WeakKeyDictionary[Dialect, dict[Any, Prepared]] = WeakKeyDictionary()


def schema_of(connection: Connection | Engine) -> str | None:
    """Where tables without a schema of their own are for a connection, by its `schema_translate_map`."""
    names = connection.get_execution_options().get("schema_translate_map")
    return names.get(None) if names else None


def name_of(table: Table, connection: Connection) -> str:
    """A table's name in SQL, with the schema that a connection's `schema_translate_map` gives."""
    quote, schema = connection.dialect.identifier_preparer, schema_of(connection)
    name = quote.quote(table.name)
    return f"{quote.quote_schema(schema)}.{name}" if schema else name


def prepared(
    connection: Connection | Engine,
    name: Any,
    make: Callable[[], Any],
    columns: Sequence[str] | None = None,
) -> Prepared:
    """The statement of a name, made and compiled once for each dialect and schema; an engine is asked for no connection."""
    known, schema = _known.setdefault(connection.dialect, {}), schema_of(connection)
    if (name, schema) not in known:
        known[name, schema] = Prepared(make(), connection.dialect, columns, schema)
    return known[name, schema]


# Inserts that leave out rows whose key is taken, without a savepoint: they may stand first in a transaction

MYSQL_DUPLICATE = 1062


def insert_once(
    connection: Connection, table: Table, values: Mapping[str, Any]
) -> bool:
    """Insert a row unless its key is taken; whether the row was inserted."""
    if connection.dialect.name in ("postgresql", "sqlite"):
        statement = unless_there(connection, table, values)
        return bool(statement.run(connection, [values]).rowcount)
    try:
        # MariaDB undoes no more than the statement; its IGNORE would also cut texts that are too long.
        connection.execute(insert(table).values(**values))
    except IntegrityError as error:
        if getattr(error.orig, "args", ())[:1] != (MYSQL_DUPLICATE,):
            raise
        return False
    return True


def unless_there(
    connection: Connection, table: Table, values: Mapping[str, Any]
) -> Prepared:
    """The INSERT of some columns that leaves out a row whose key is taken; not of MariaDB."""
    # Imported where a connection is of that kind: each takes a tenth of a second.
    kind: Any = import_module(f"sqlalchemy.dialects.{connection.dialect.name}")
    columns = list(values)
    name = ("insert", table.name, *columns)
    return prepared(
        connection, name, lambda: kind.insert(table).on_conflict_do_nothing(), columns
    )
