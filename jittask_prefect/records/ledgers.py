"""Reading the ledgers of an app: the databases of a template, and connections to the databases with ledger tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sqlalchemy import Connection

from jittask_prefect.elements.app import DEFAULT, App
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.ledger import versions


def databases_of(template: Meta) -> list[str]:
    """The databases that may hold entries of a template, the rows' own first.

    Executions outside the schedule are in the default database.
    """
    if not isinstance(template, DateFieldType):
        return [DEFAULT]
    return list(dict.fromkeys([template.app.database_of(template.model_name), DEFAULT]))


def connections(
    app: App, databases: Iterable[str] = (DEFAULT,)
) -> Iterator[tuple[str, Connection]]:
    """A connection to each of some databases that has the ledger's tables.

    Args:
        app: The app.
        databases: Names of databases in app.json.

    Raises:
        LedgerError: The tables are of another version.
    """
    for database in databases:
        with app.engine(database).connect() as connection:
            if versions.there(connection):
                yield database, connection
