"""The tables in the databases of an app: the ledger's, and on request those of its models; and whether keys can be kept."""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy import Table
from sqlalchemy.exc import NoReferencedTableError

from jittask_prefect.elements.app import App
from jittask_prefect.elements.models import is_view, tables_of
from jittask_prefect.errors import ConfigError, Problem
from jittask_prefect.ledger.keys import key_problem
from jittask_prefect.ledger.versions import SCHEMA_VERSION, upgrade_ledger


def upgrade(app: App, *, models: bool = False) -> list[str]:
    """Make the tables that are missing in each database of the app; those that are there are left as they are.

    Args:
        app: The app.
        models: Also the tables of the app's models. A team that has migrations of its own leaves them to these.

    Returns:
        The tables that were made, in words.

    Raises:
        LedgerError: A database has ledger tables of another version.
    """
    made = []
    for database in app.databases():
        name = database or "default"
        with app.engine(database).begin() as connection:
            if upgrade_ledger(connection):
                made.append(f"{name}: ledger tables, version {SCHEMA_VERSION}")
            if not models:
                continue
            tables = [
                table
                for model, cls in app.models().items()
                if app.database_of(model) == database
                for table in tables_of(cls)
            ]
            has = connection.dialect.has_table
            new = [
                table
                for table in _with_parents(tables)
                if not has(connection, table.name, schema=table.schema)
            ]
            for metadata in dict.fromkeys(table.metadata for table in new):
                of_base = [table for table in new if table.metadata is metadata]
                metadata.create_all(connection, tables=of_base)
            made += [f"{name}: table {table.name}" for table in new]
    return made


def _with_parents(tables: list[Table]) -> list[Table]:
    """The tables, and those that their foreign keys lead to: a server makes no table without them."""
    found = dict.fromkeys(tables)
    waiting = list(found)
    while waiting:
        for key in waiting.pop().foreign_keys:
            with suppress(NoReferencedTableError):  # nobody has described that table
                parent = key.column.table
                if parent not in found and not is_view(parent):
                    found[parent] = None
                    waiting.append(parent)

    return list(found)


def key_problems(app: App) -> list[Problem]:
    """The models of an app whose keys cannot be kept as text; no database is asked."""
    found = []
    for name, model in app.models().items():
        try:
            dialect = app.engine(app.database_of(name)).dialect.name
        except ConfigError:
            continue  # `check` says so
        if (why := key_problem(model, dialect)) is not None:
            place = f"{name.replace('.', '/')}/model.py"
            allowed = "a key whose type reads back the values that it writes"
            found.append(Problem(place, "key", why, allowed))

    return found
