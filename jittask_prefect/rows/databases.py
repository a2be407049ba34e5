"""The tables in the databases of an app: the ledger's, and on request those of its models."""

from __future__ import annotations

from sqlmodel import SQLModel

from jittask_prefect.elements.app import App
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
                m.__table__
                for n, m in app.models().items()
                if app.database_of(n) == database
            ]
            has = connection.dialect.has_table
            new = [t for t in tables if not has(connection, t.name, schema=t.schema)]
            SQLModel.metadata.create_all(connection, tables=new)
            made += [f"{name}: table {t.name}" for t in new]
    return made
