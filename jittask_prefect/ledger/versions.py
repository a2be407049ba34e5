"""The version of the ledger's tables: made where they are missing, refused where they are of another version."""

from __future__ import annotations

from sqlalchemy import Connection
from sqlalchemy import inspect as sa_inspect

from jittask_prefect.errors import LedgerError
from jittask_prefect.ledger import state_table
from jittask_prefect.ledger.prepared import schema_of
from jittask_prefect.ledger.tables import entries, metadata, states

SCHEMA_VERSION = "4"


def version(connection: Connection) -> str | None:
    """The version of the tables, None where there are none."""
    inspector, schema = sa_inspect(connection), schema_of(connection)
    if not inspector.has_table(states.name, schema=schema):
        return None
    return state_table.get_any(connection, "schema")


def there(connection: Connection, where: str = "") -> bool:
    """Whether there are the tables, of this version: for readers, which can do without.

    Args:
        connection: To the database.
        where: How an error calls the database; by the database's own name where empty.

    Raises:
        LedgerError: They are of another version.
    """
    found = version(connection)
    if found not in (None, SCHEMA_VERSION):
        raise _other_version(
            where or f"database {connection.engine.url.database}", found
        )
    return found is not None


def require(connection: Connection, where: str) -> None:
    """Refuse to work without the tables.

    Raises:
        LedgerError: They are missing or of another version.
    """
    if not there(connection, where):
        raise LedgerError(f"{where} has no ledger tables: run `jittask db upgrade`")


def upgrade_ledger(connection: Connection) -> bool:
    """Make the tables where they are missing; whether they were made.

    Raises:
        LedgerError: They are of another version.
    """
    if there(connection):
        return False
    metadata.create_all(connection)
    if connection.dialect.name in ("mysql", "mariadb"):
        # Names and keys differ in case, accents and spaces at the end, whatever the database's own collation says.
        mariadb = getattr(connection.dialect, "is_mariadb", False)
        exact = "utf8mb4_nopad_bin" if mariadb else "utf8mb4_0900_bin"
        for table in (entries, states):
            connection.exec_driver_sql(
                f"ALTER TABLE {table.name} CONVERT TO CHARACTER SET utf8mb4 COLLATE {exact}"
            )
    state_table.put(connection, "", "schema", SCHEMA_VERSION)
    return True


def _other_version(where: str, found: str | None) -> LedgerError:
    return LedgerError(
        f"{where} has ledger tables of version {found}, and this jittask-prefect works with version "
        f"{SCHEMA_VERSION} only: install the jittask-prefect that made them; or drop the tables {entries.name} and "
        f"{states.name}, which forgets the records, and run `jittask db upgrade`"
    )
