"""`jittask doctor`: limits of a database that an app's tasks meet, and the database's clock."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from jittask_prefect.cli.finding import Finding
from jittask_prefect.elements.app import App
from jittask_prefect.ledger import database_limits
from jittask_prefect.ledger.database_limits import TimeLimit
from jittask_prefect.prefect_api.server_facts import Offset
from jittask_prefect.rows.plan import Report
from jittask_prefect.rows.planning import templates_of
from jittask_prefect.schedule import clock

SKEW_SECONDS = 2.0
ENOUGH_SECONDS = 600.0
"""A limit of transactions from which on nobody is warned, however long a task may take."""
STATEMENT_SECONDS = 30.0
"""A sync reads, and writes, up to 20,000 rows in a statement."""
SILENCE_SECONDS = 600
LOCAL_HOSTS = (None, "", "localhost", "127.0.0.1", "::1")


def limits(
    app: App, database: str, connection: Connection, name: str
) -> Iterator[Finding]:
    """Warn of settings of a database that end tasks, or that keep the locks of a dead worker.

    Args:
        app: The app.
        database: The database's key in the app.
        connection: To the database.
        name: The database, for messages.
    """
    longest = max(
        (t.cfg.timeout for t in templates_of(app, database, Report())), default=0.0
    )
    for limit in database_limits.time_limits(connection):
        yield from _short(name, limit, longest)
    if connection.engine.url.host not in LOCAL_HOSTS:
        yield from _silence(name, database_limits.silence_seconds(connection))


def database_clock(connection: Connection, name: str) -> Iterator[Finding]:
    """Warn of a database whose clock is wrong, or this machine's.

    Args:
        connection: To the database.
        name: The database, for messages.
    """
    if connection.dialect.name != "sqlite":
        offset = database_limits.clock_offset(connection, clock.now)
        yield from skew(name, Offset(*offset))


def _short(name: str, limit: TimeLimit, longest: float) -> Iterator[Finding]:
    """Warn of a limit that ends a task before its own `timeout`, or a sync's statement."""
    if not limit.of_transaction:
        if limit.seconds < STATEMENT_SECONDS:
            text = f"{limit.name} is {limit.seconds:g} s, and a sync reads many rows at once: 30 s or more"
            yield Finding("database", "warning", f"{name}: {text}")
    elif limit.seconds < min(longest, ENOUGH_SECONDS):
        ended = f"{limit.name} is {limit.seconds:g} s, and a function that takes longer fails: its transaction is ended"
        raise_ = f"raise it for the app's role, or lower the tasks' timeout ({longest:g} s at most)"
        yield Finding("database", "warning", f"{name}: {ended}; {raise_}")


def _silence(name: str, seconds: int | None) -> Iterator[Finding]:
    if seconds is not None and seconds > SILENCE_SECONDS:
        kept = f"a worker whose machine is gone keeps the locks of its rows for {seconds} s"
        keys = "tcp_keepalives_idle=30, tcp_keepalives_interval=10 and tcp_keepalives_count=3"
        yield Finding("database", "warning", f"{name}: {kept}; set {keys} for the app's role")  # fmt: skip


def skew(whose: str, offset: Offset) -> Iterator[Finding]:
    """Warn of a clock that differs from this machine's by more than two seconds.

    Args:
        whose: The clock's owner, for the message.
        offset: The least and the greatest offset.
    """
    seconds = offset.beyond(SKEW_SECONDS)
    if seconds is not None:
        way = "ahead of" if seconds > 0 else "behind"
        text = f"the clock of {whose} is {abs(seconds):.0f} s {way} this machine's: run NTP on both"
        yield Finding("server", "warning", text)


def connections(app: App, workers: int) -> Iterator[Finding]:
    """Warn where the app's workers may need more connections than a database gives.

    Args:
        app: The app.
        workers: How many workers live.
    """
    at_once = app.cfg.maxConcurrency
    need = workers * at_once * 2
    for database in app.databases():
        name = f"database {database}" if database else "the app's database"
        try:
            with app.engine(database).connect() as connection:
                given = database_limits.connection_limit(connection)
        except SQLAlchemyError:
            continue  # another finding says so
        if given is not None and need > given:
            text = f"{workers} workers with {at_once} tasks each may need {need} connections, and its role gets {given}"
            advice = "raise max_connections, or the role's limit; or lower --limit of the workers"
            yield Finding("database", "warning", f"{name}: {text}: {advice}")
