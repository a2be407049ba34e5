"""Hindrances of the hook: no ledger, no rights, another schema. Each is logged once a minute, with advice."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.exc import DBAPIError

from jittask_prefect.errors import LedgerError
from jittask_prefect.ledger import error_codes, rights, versions
from jittask_prefect.ledger.prepared import schema_of
from jittask_prefect.ledger.savepoint import Apart, took_the_transaction

EVERY = timedelta(minutes=1)
log = logging.getLogger("jittask")


class Said:
    """The warnings that were logged of an engine within the last minute."""

    def __init__(self) -> None:
        self._when: WeakKeyDictionary[Engine, dict[object, datetime]] = (
            WeakKeyDictionary()
        )

    def again(self, engine: Engine, about: object, now: datetime) -> bool:
        """Whether something is to be said now: the last time was a minute ago or longer; then this is the last time."""
        when = self._when.setdefault(engine, {})
        if about in when and timedelta() <= now - when[about] < EVERY:
            return False
        when[about] = now
        return True

    def clear(self) -> None:
        """Forget all warnings."""
        self._when.clear()


_with_ledger: WeakKeyDictionary[Engine, set[str | None]] = (
    WeakKeyDictionary()
)  # and in which schemas
_said = Said()


def forget() -> None:
    """Look for every ledger anew, and say everything again."""
    _with_ledger.clear()
    _said.clear()


def has_ledger(connection: Connection, apart: Apart, now: datetime) -> bool:
    """Whether the ledger's tables are there, looked up once for an engine and schema; a warning says where not."""
    engine, schema = connection.engine, schema_of(connection)
    if schema in _with_ledger.get(engine, ()):
        return True
    apart.begin()
    if versions.version(connection) == versions.SCHEMA_VERSION:
        _with_ledger.setdefault(engine, set()).add(schema)
        return True
    if _said.again(engine, ("no ledger", schema), now):
        where = f"{engine.url!r}, schema {schema}," if schema else f"{engine.url!r}"
        log.warning(
            "%s has no ledger: run `jittask db upgrade`; until then rows are found by the sync only",
            where,
        )
    return False


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
            if _said.again(connection.engine, (model, schema), now):
                said = (model, schema, names[schema])
                log.warning(
                    "%s: schema_translate_map leads from schema %s to %s: no tasks of its rows are planned",
                    *said,
                )
            return True
    return False


def require(connection: Connection, where: str) -> None:
    """Refuse to work without the tables, in somebody else's transaction, which goes on.

    Raises:
        LedgerError: They are missing, of another version, or not to be read.
    """
    try:
        with Apart(connection) as apart:
            apart.begin()
            versions.require(connection, where)
    except DBAPIError as error:
        raise LedgerError(f"{where}: {explained(connection, error)}") from error


def explained(connection: Connection, error: Exception) -> str:
    """An error in a line, with the rights that the role lacks where that is the reason."""
    said = error_codes.told(error)
    if error_codes.code(error) == error_codes.NO_RIGHT:
        said += f"; {_lacks(connection) or 'planning needs SELECT on the table'}"
    return said


def _lacks(connection: Connection) -> str:
    """The rights on the ledger's tables that the role lacks."""
    try:
        with Apart(connection) as apart:
            apart.begin()
            return rights.sentence(connection, rights.SAVE)
    except DBAPIError as error:
        if took_the_transaction(error):
            raise
        return error_codes.told(error)


def warn(
    model: str, error: Exception, connection: Connection | None, now: datetime
) -> None:
    """Log why rows were not planned; a reason that the next save will meet too is logged once a minute."""
    if connection is None or not error_codes.meets_all(error):
        log.warning(
            "%s: the row's tasks could not be planned: %s",
            model,
            error_codes.told(error),
        )
        return
    _with_ledger.pop(
        connection.engine, None
    )  # looked for anew: the next warning says more
    if _said.again(connection.engine, (model, error_codes.code(error)), now):
        said = (model, explained(connection, error))
        log.warning(
            "%s: the row's tasks could not be planned: %s; the next sync plans them",
            *said,
        )


def warn_of_statement(
    connection: Connection, table: Any, error: Exception, now: datetime
) -> None:
    """Say why the rows that a statement touches were not looked up, once a minute."""
    if _said.again(connection.engine, (table, error_codes.code(error)), now):
        said = (table, error_codes.told(error))
        log.warning(
            "%s: the rows of a statement were not looked up: %s; the next sync finds them",
            *said,
        )
