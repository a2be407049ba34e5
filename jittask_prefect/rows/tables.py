"""The tables of an app: the ledger's, and on request those of its models."""

from __future__ import annotations

from sqlmodel import SQLModel

from ..elements.app import App
from . import ledger


def upgrade(app: App, *, models: bool = False) -> list[str]:
    """Make what is missing in each database of the app; what is there is left as it is.

    Args:
        app: The app.
        models: Also the tables of the app's models. A team that has migrations of its own leaves them to these.

    Returns:
        What was made, in words.
    """
    made = []
    for database in app.databases():
        with app.engine(database).begin() as connection:
            if ledger.upgrade(connection):
                made.append(f"{database or 'default'}: ledger tables, version {ledger.SCHEMA_VERSION}")
            if not models:
                continue
            tables = [m.__table__ for n, m in app.models().items() if app.database_of(n) == database]  # type: ignore[attr-defined]
            new = [t for t in tables if not connection.dialect.has_table(connection, t.name, schema=t.schema)]
            SQLModel.metadata.create_all(connection, tables=new)
            made += [f"{database or 'default'}: table {t.name}" for t in new]
    return made
