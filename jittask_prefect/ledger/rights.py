"""Rights on the ledger's tables: those that a database role needs, and those that it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from jittask_prefect.ledger.prepared import schema_of

Needs = Mapping[str, Sequence[str]]
SAVE: Needs = {
    "jittask_ledger": ("SELECT", "INSERT", "UPDATE"),
    "jittask_state": ("SELECT",),
}
"""The rights of a program that saves rows: the hook's."""
WORK: Needs = {
    "jittask_ledger": ("SELECT", "INSERT", "UPDATE"),
    "jittask_state": ("SELECT", "INSERT", "UPDATE", "DELETE"),
}
"""The rights of a worker, which also runs the sync."""
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


def sentence(connection: Connection, needs: Needs) -> str:
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
