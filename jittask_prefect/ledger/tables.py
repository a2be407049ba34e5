"""The tables of an app: the ledger's, and on request those of its models."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete
from sqlmodel import SQLModel

from jittask_prefect.elements.app import App
from jittask_prefect.ledger import ledger, watermarks
from jittask_prefect.ledger.ledger import entries, states


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
            if upgrade_ledger(connection):
                made.append(
                    f"{database or 'default'}: ledger tables, version {ledger.SCHEMA_VERSION}"
                )
            if not models:
                continue
            tables = [
                m.__table__  # type: ignore[attr-defined]
                for n, m in app.models().items()
                if app.database_of(n) == database
            ]
            new = [
                t
                for t in tables
                if not connection.dialect.has_table(connection, t.name, schema=t.schema)
            ]
            SQLModel.metadata.create_all(connection, tables=new)
            made += [f"{database or 'default'}: table {t.name}" for t in new]
    return made


def upgrade_ledger(connection: Connection) -> bool:
    """Make the tables where they are missing, or bring older ones to this version; whether anything was done."""
    found = ledger.version(connection)
    if found == ledger.SCHEMA_VERSION:
        return False
    if found == "1":
        _from_version_1(connection)
    if found in ("1", "2"):
        connection.exec_driver_sql(
            "ALTER TABLE jittask_ledger ADD COLUMN batch INTEGER"
        )
    ledger.Entry.metadata.create_all(connection)
    if connection.dialect.name in ("mysql", "mariadb"):
        # Names and keys differ in case, accents and spaces at the end, whatever the database's own collation says.
        exact = (
            "utf8mb4_nopad_bin"
            if getattr(connection.dialect, "is_mariadb", False)
            else "utf8mb4_0900_bin"
        )
        for table in (entries, states):
            connection.exec_driver_sql(
                f"ALTER TABLE {table.name} CONVERT TO CHARACTER SET utf8mb4 COLLATE {exact}"
            )
    ledger.put(connection, "schema", ledger.SCHEMA_VERSION)
    return True


def _from_version_1(connection: Connection) -> None:
    """Add what version 2 has: which dates a row was planned from. All rows are looked at once more."""
    kind = ledger.Stored().dialect_impl(connection.dialect).compile(connection.dialect)
    for name in ("start_value", "end_value"):
        connection.exec_driver_sql(
            f"ALTER TABLE jittask_ledger ADD COLUMN {name} {kind}"
        )
    for index in entries.indexes:
        if index.name in ("ix_jittask_ledger_open", "ix_jittask_ledger_planned"):
            index.drop(connection, checkfirst=True)
            index.create(connection)
    for name, mark in ledger.starting_with(connection, "watermark:").items():
        template = name.removeprefix("watermark:")
        floor, config = (
            ledger.get(connection, f"floor:{template}"),
            ledger.get(connection, f"config:{template}"),
        )
        watermarks.remember(
            connection,
            template,
            watermarks.Memory(
                datetime.fromisoformat(mark), None, watermarks.instant(floor), config
            ),
        )
    for prefix in ("watermark:", "floor:", "config:"):
        connection.execute(
            delete(states).where(states.c.name.startswith(prefix, autoescape=True))
        )
