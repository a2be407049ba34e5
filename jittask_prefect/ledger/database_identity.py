"""The identity of a database, as a digest: the same from every host, without an address or a password.

| database | says |
|---|---|
| PostgreSQL | the cluster's system identifier, the names of database and schema |
| MariaDB, MySQL | the server's own id, the name of the database |
| SQLite | the path of its file |

A copy of a database's files (`pg_basebackup`, a copied data directory) says the same as its origin.
"""

from __future__ import annotations

import hashlib

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

_POSTGRESQL = "SELECT current_database(), current_schema()"
_CLUSTER = "SELECT system_identifier FROM pg_control_system()"
_MYSQL = "SELECT database()"
_SERVERS = ("SELECT @@server_uid", "SELECT @@server_uuid", "SELECT @@server_id")
"""MariaDB from 10.10 on, MySQL, older MariaDB."""


def digest(connection: Connection) -> str:
    """A short text that differs between two databases.

    Args:
        connection: To the database; left as found.
    """
    kind = connection.dialect.name
    if kind == "postgresql":
        parts = [*_row(connection, _POSTGRESQL), *_first(connection, _CLUSTER)]
    elif kind in ("mysql", "mariadb"):
        parts = [*_row(connection, _MYSQL), *_first(connection, *_SERVERS)]
    elif kind == "sqlite":
        parts = [_sqlite_file(connection)]
    else:
        parts = [connection.engine.url.database]
    text = "\n".join(str(part) for part in (kind, *parts))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _row(connection: Connection, statement: str) -> list[object]:
    return list(connection.exec_driver_sql(statement).one())


def _first(connection: Connection, *statements: str) -> list[object]:
    """The row of the first statement that the server knows and allows; empty where there is none."""
    for statement in statements:
        try:
            with connection.begin_nested():
                return _row(connection, statement)
        except DBAPIError:
            continue
    return []


def _sqlite_file(connection: Connection) -> object:
    files = connection.exec_driver_sql("PRAGMA database_list").all()
    return next(file for _, name, file in files if name == "main")
