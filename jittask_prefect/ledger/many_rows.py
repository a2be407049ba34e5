"""Inserts of many rows that leave out the rows whose key is taken.

PostgreSQL takes rows by COPY in half the time of an INSERT for each. COPY leaves out no row, and PostgreSQL refuses COPY
into a table whose row-level security holds for the role. Where a key is taken, because somebody else has planned the same
task in the meantime, or COPY is refused, the rows are inserted one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError

from jittask_prefect.ledger.error_codes import NOT_SUPPORTED, TAKEN, code
from jittask_prefect.ledger.prepared import (
    in_columns,
    insert_once,
    name_of,
    to_driver,
    unless_there,
    wrapped,
)
from jittask_prefect.ledger.savepoint import Savepoint

COPIED = 100
"""Rows from which on COPY with its savepoint is worth its round trips."""
Rows = Sequence[Mapping[str, Any]]


def insert_all(connection: Connection, table: Table, rows: Rows) -> None:
    """Insert rows, those left out whose key is taken.

    Args:
        connection: In a transaction.
        table: The table.
        rows: The values by column, the same columns of each.

    Raises:
        DBAPIError: As SQLAlchemy raises the driver's error.
    """
    if not rows:
        return
    if connection.dialect.name not in ("postgresql", "sqlite"):
        for values in rows:
            insert_once(connection, table, values)
        return
    if (
        len(rows) >= COPIED
        and _takes_copy(connection)
        and _copied(connection, table, rows)
    ):
        return
    unless_there(connection, table, rows[0]).run(connection, rows).close()


def _takes_copy(connection: Connection) -> bool:
    """Whether a driver has COPY for a connection: psycopg, unless a pipeline is open."""
    dialect = connection.dialect
    if dialect.driver != "psycopg" or dialect.is_async:
        return False
    driver: Any = connection.connection.driver_connection
    return bool(driver.pgconn.pipeline_status == 0)


def _copied(connection: Connection, table: Table, rows: Rows) -> bool:
    """Write rows by COPY, all or none; False where a key is taken, or COPY is refused."""
    names = list(rows[0])
    columns = ", ".join(map(connection.dialect.identifier_preparer.quote, names))
    sql = f"COPY {name_of(table, connection)} ({columns}) FROM STDIN"
    records = in_columns(rows, names, {}, to_driver(table, names, connection.dialect))
    try:
        with Savepoint(connection) as savepoint:
            savepoint.begin()
            _copy(connection, sql, records)
    except DBAPIError as error:
        if code(error) not in (TAKEN, NOT_SUPPORTED):
            raise
        return False
    return True


def _copy(connection: Connection, sql: str, records: Sequence[tuple[Any, ...]]) -> None:
    cursor: Any = connection.connection.cursor()
    try:
        with cursor.copy(sql) as copy:
            for record in records:
                copy.write_row(record)
    except connection.dialect.loaded_dbapi.Error as error:
        raise wrapped(connection, sql, error) from error
    finally:
        cursor.close()
