"""Settings of a database server that an app depends on: limits of time and of connections, and the clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select, text

from jittask_prefect.ledger import lease_time

_POSTGRES = (
    "idle_in_transaction_session_timeout",
    "transaction_timeout",
    "statement_timeout",
)
_MARIADB = ("idle_transaction_timeout", "max_statement_time")
_KEEPALIVE = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count")
_ROLE_LIMIT = """
SELECT least(
    (SELECT setting::int FROM pg_settings WHERE name = 'max_connections')
        - (SELECT sum(setting::int) FROM pg_settings
           WHERE name IN ('superuser_reserved_connections', 'reserved_connections')),
    (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user),
    (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database()))
"""


@dataclass(frozen=True)
class TimeLimit:
    """A setting of the database that ends longer statements or transactions.

    Attributes:
        name: The setting.
        seconds: The limit.
        of_transaction: Whether the setting ends a transaction in which a function computes.
    """

    name: str
    seconds: float
    of_transaction: bool


def time_limits(connection: Connection) -> list[TimeLimit]:
    """The limits of time that hold for a connection; none where the database has none."""
    kind = connection.dialect.name
    names = {"postgresql": _POSTGRES, "mysql": _MARIADB, "mariadb": _MARIADB}
    found = _settings(connection, names.get(kind, ()))
    unit = 1000 if kind == "postgresql" else 1
    return [
        TimeLimit(name, found[name] / unit, "statement" not in name)
        for name in names.get(kind, ())
        if found.get(name)
    ]


def silence_seconds(connection: Connection) -> int | None:
    """After how many seconds PostgreSQL ends the transaction of a client whose machine is gone; None: no such setting is known.

    Without an answer to keep-alives a connection, and the locks of its transaction, are the dead client's until then.
    """
    if connection.dialect.name != "postgresql":
        return None
    idle, interval, count = map(_settings(connection, _KEEPALIVE).get, _KEEPALIVE)
    if not idle:
        return None  # a socket of this machine
    return int(idle + (interval or 0) * (count or 0))


def connection_limit(connection: Connection) -> int | None:
    """How many connections the database gives to the role at most; None where there is no limit."""
    if connection.dialect.name == "postgresql":
        found = connection.execute(text(_ROLE_LIMIT)).scalar()
        return None if found is None else int(found)
    if connection.dialect.name not in ("mysql", "mariadb"):
        return None
    wanted = ("max_connections", "max_user_connections")
    limits = [int(value) for value in _settings(connection, wanted).values() if value]
    return min(limits, default=None)


def clock_offset(
    connection: Connection, read: Callable[[], datetime]
) -> tuple[float, float]:
    """How far the database's clock is ahead of this machine's: the least and the greatest offset in seconds.

    Args:
        connection: To the database.
        read: Gives the present instant by this machine's clock.
    """
    asked = read()
    there = connection.execute(select(lease_time.clock(None))).scalar_one()
    answered = read()
    return (there - answered).total_seconds(), (there - asked).total_seconds()


def _settings(connection: Connection, names: tuple[str, ...]) -> dict[str, float]:
    """Settings by name, in the database's own unit; without those that the database does not have."""
    if not names:
        return {}
    source = "SELECT name, setting FROM pg_settings WHERE name"
    if connection.dialect.name != "postgresql":
        source = "SHOW VARIABLES WHERE Variable_name"
    listed = ", ".join(f"'{name}'" for name in names)
    rows = connection.execute(text(f"{source} IN ({listed})"))
    return {str(name).lower(): float(value) for name, value in rows}
