"""Hindrances of the hook: no ledger, no rights, another schema. Each is logged once a minute, with advice."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, text
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.exc import DBAPIError

from jittask_prefect.errors import LedgerError
from jittask_prefect.ledger import error_codes, versions
from jittask_prefect.ledger.prepared import schema_of
from jittask_prefect.ledger.savepoint import Savepoint, took_the_transaction

EVERY = timedelta(minutes=1)
Needs = Mapping[str, Sequence[str]]
SAVE: Needs = {
    "jittask_ledger": ("SELECT", "INSERT", "UPDATE"),
    "jittask_state": ("SELECT",),
}
"""The rights of a program that saves rows: the hook's."""
WORK: Needs = {
    "jittask_ledger": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "jittask_state": ("SELECT", "INSERT", "UPDATE", "DELETE"),
}
"""The rights of a worker, which also runs the sync."""
log = logging.getLogger("jittask")


_with_ledger: WeakKeyDictionary[Engine, set[str | None]] = (
    WeakKeyDictionary()
)  # and in which schemas
_warned: WeakKeyDictionary[Engine, dict[object, datetime]] = WeakKeyDictionary()


def _is_due(connection: Connection, about: object, now: datetime) -> bool:
    """Whether a warning is to be logged: the last one about the same thing was a minute ago or longer."""
    when = _warned.setdefault(connection.engine, {})
    if about in when and timedelta() <= now - when[about] < EVERY:
        return False
    when[about] = now
    return True


def forget() -> None:
    """Look for every ledger anew, and say everything again."""
    _with_ledger.clear()
    _warned.clear()


def has_ledger(connection: Connection, savepoint: Savepoint, now: datetime) -> bool:
    """Whether the ledger's tables are there, looked up once for an engine and schema; a warning says why not."""
    engine, schema = connection.engine, schema_of(connection)
    if schema in _with_ledger.get(engine, ()):
        return True
    savepoint.begin()
    where = f"{engine.url!r}, schema {schema}," if schema else f"{engine.url!r}"
    try:
        versions.require(connection, where)
    except LedgerError as error:
        if _is_due(connection, ("no ledger", schema), now):
            log.warning("%s; until then rows are found by the sync only", error)
        return False
    _with_ledger.setdefault(engine, set()).add(schema)
    return True


def is_elsewhere(
    connection: Connection, cls: type[Any], model: str, now: datetime
) -> bool:
    """Whether a `schema_translate_map` leads to another table than the worker's: the row is another row than that of its key.

    A model without a schema has its ledger where the map leads; a model's own schema says nothing of the ledger.
    """
    names = connection.get_execution_options().get("schema_translate_map") or {}
    for table in sa_inspect(cls).tables if names else ():
        schema = getattr(table, "schema", None)
        if schema is not None and names.get(schema, schema) != schema:
            message = "%s: schema_translate_map leads from schema %s to %s: no tasks of its rows are planned"
            if _is_due(connection, (model, schema), now):
                log.warning(message, model, schema, names[schema])
            return True
    return False


def require(connection: Connection, where: str) -> None:
    """Refuse to work without the tables, in somebody else's transaction, which goes on.

    Raises:
        LedgerError: They are missing, of another version, or not to be read.
    """
    try:
        with Savepoint(connection) as savepoint:
            savepoint.begin()
            versions.require(connection, where)
    except DBAPIError as error:
        raise LedgerError(f"{where}: {explained(connection, error)}") from error


def explained(connection: Connection, error: Exception) -> str:
    """An error in a line, with the rights that the role lacks where that is the reason."""
    said = error_codes.error_line(error)
    if error_codes.code(error) == error_codes.NO_RIGHT:
        said += f"; {_lacks(connection, SAVE) or 'planning needs SELECT on the table'}"
    return said


class App(Protocol):
    """An app, as far as its databases go (`elements.app.App`)."""

    def databases(self) -> list[str]:
        """The names of the app's databases."""

    def engine(self, database: str = "") -> Engine:
        """The engine of a database."""


def told(app: App, error: Exception) -> str:
    """An error in a line; where a worker's role lacks rights on the ledger, with the GRANTs.

    Args:
        app: The app whose database has refused.
        error: The error.
    """
    if error_codes.code(error) != error_codes.NO_RIGHT:
        return f"{type(error).__name__}: {error}"
    found = [error_codes.error_line(error)]
    for database in app.databases():
        with app.engine(database).connect() as connection:
            found.append(_lacks(connection, WORK))
    return "; ".join(filter(None, found))


@contextmanager
def naming_rights(app: App) -> Iterator[None]:
    """The block works for an app; an error for lack of a right names the GRANTs.

    Raises:
        LedgerError: The app's role lacks a right.
    """
    try:
        yield
    except DBAPIError as error:
        if error_codes.code(error) != error_codes.NO_RIGHT:
            raise
        raise LedgerError(told(app, error)) from error


def _lacks(connection: Connection, needs: Needs) -> str:
    """The rights on the ledger's tables that the role lacks."""
    try:
        with Savepoint(connection) as savepoint:
            savepoint.begin()
            return lacking_rights(connection, needs)
    except DBAPIError as error:
        if took_the_transaction(error):
            raise
        return error_codes.error_line(error)


def warn(
    model: str, error: Exception, connection: Connection | None, now: datetime
) -> None:
    """Log why rows were not planned; a reason that the next save will meet too is logged once a minute."""
    if connection is None or not error_codes.is_of_database(error):
        log.warning(
            "%s: the row's tasks could not be planned: %s",
            model,
            error_codes.error_line(error),
        )
        return
    _with_ledger.pop(
        connection.engine, None
    )  # looked for anew: the next warning says more
    message = "%s: the row's tasks could not be planned: %s; the next sync plans them"
    if _is_due(connection, (model, error_codes.code(error)), now):
        log.warning(message, model, explained(connection, error))


def warn_of_statement(
    connection: Connection, table: Any, error: Exception, now: datetime
) -> None:
    """Say why the rows that a statement touches were not looked up, once a minute."""
    message = (
        "%s: the rows of a statement were not looked up: %s; the next sync finds them"
    )
    if _is_due(connection, (table, error_codes.code(error)), now):
        log.warning(message, table, error_codes.error_line(error))


# Rights on the ledger's tables: those that a database role needs, and those that it has

_TRIALS = {
    "SELECT": "SELECT 1 FROM {table} WHERE 1 = 0",
    "INSERT": "INSERT INTO {table} SELECT * FROM {table} WHERE 1 = 0",
    "UPDATE": "UPDATE {table} SET {column} = {column} WHERE 1 = 0",
    "DELETE": "DELETE FROM {table} WHERE 1 = 0",
}
_ROLE = {True: "SELECT quote_ident(current_user)", False: "SELECT CURRENT_USER()"}
_COLUMN = {"jittask_ledger": "message", "jittask_state": "value"}


def lacking(connection: Connection, needs: Needs) -> dict[str, list[str]]:
    """The rights that the connection's role lacks, by table; none are named of a table that is not to be found.

    PostgreSQL is asked; of other databases each right is tried, with statements that concern no row.

    Args:
        connection: The role's.
        needs: Rights by table, each by its name in SQL.
    """
    found: dict[str, list[str]] = {}
    for table, rights in needs.items():
        name = _name(connection, table)
        if connection.dialect.name == "postgresql":
            asked = ", ".join(
                f"has_table_privilege(to_regclass(:name)::oid, '{right}')"
                for right in rights
            )
            has = connection.execute(text(f"SELECT {asked}"), {"name": name}).one()
            missing = [
                right for right, held in zip(rights, has, strict=True) if not held
            ]
            if missing:
                found[table] = [] if None in has else missing
        elif missing := [
            right
            for right in rights
            if not _may(connection, name, right, _COLUMN.get(table, ""))
        ]:
            found[table] = missing
    return found


def lacking_rights(connection: Connection, needs: Needs) -> str:
    """The rights that the connection's role lacks, with the GRANT that gives them; empty where nothing is lacking."""
    parts = []
    for table, rights in lacking(connection, needs).items():
        if connection.dialect.name == "sqlite":
            return f"the file {connection.engine.url.database}, or its folder, cannot be written"
        role = connection.execute(
            text(_ROLE[connection.dialect.name == "postgresql"])
        ).scalar_one()
        if rights:
            what = f"{', '.join(rights)} ON {_name(connection, table)}"
            parts.append(f"role {role} lacks {what}: `GRANT {what} TO {role}`")
        else:
            parts.append(
                f"role {role} finds no table {table}: not on its search_path, or no USAGE on its schema"
            )
    return "; ".join(parts)


def _name(connection: Connection, table: str) -> str:
    schema = schema_of(connection) if table in _COLUMN else None
    return (
        f"{connection.dialect.identifier_preparer.quote(schema)}.{table}"
        if schema
        else table
    )


def _may(connection: Connection, name: str, right: str, column: str) -> bool:
    try:
        connection.execute(
            text(_TRIALS[right].replace("{table}", name).replace("{column}", column))
        )
    except DBAPIError:
        return False
    finally:
        connection.rollback()
    return True
