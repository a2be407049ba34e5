"""Inserts that leave out rows whose key is taken, without a savepoint: they may stand first in a transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, insert
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from jittask_prefect.ledger.prepared import Prepared, prepared

MYSQL_DUPLICATE = 1062


def insert_once(
    connection: Connection, table: Table, values: Mapping[str, Any]
) -> bool:
    """Insert a row unless its key is taken; whether the row was inserted."""
    if connection.dialect.name in ("postgresql", "sqlite"):
        statement = _unless_there(connection, table, values)
        return bool(statement.run(connection, [values]).rowcount)
    try:
        # MariaDB undoes no more than the statement; its IGNORE would also cut texts that are too long.
        connection.execute(insert(table).values(**values))
    except IntegrityError as error:
        if getattr(error.orig, "args", ())[:1] != (MYSQL_DUPLICATE,):
            raise
        return False
    return True


def insert_all(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert rows, those left out whose key is taken."""
    if not rows:
        return
    if connection.dialect.name in ("postgresql", "sqlite"):
        _unless_there(connection, table, rows[0]).run(connection, rows).close()
        return
    for values in rows:
        insert_once(connection, table, values)


def _unless_there(
    connection: Connection, table: Table, values: Mapping[str, Any]
) -> Prepared:
    kind = postgresql if connection.dialect.name == "postgresql" else sqlite
    columns = list(values)
    name = ("insert", table.name, *columns)
    return prepared(
        connection, name, lambda: kind.insert(table).on_conflict_do_nothing(), columns
    )
