"""Finished tasks that are older than the app's `retention` leave the ledger: a few in each sync, or all by hand."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from jittask_prefect.elements.app import DEFAULT, App
from jittask_prefect.errors import InvalidTime, LedgerError
from jittask_prefect.ledger import error_codes, retention, versions, watermarks
from jittask_prefect.ledger.hindrance import told

IN_A_SYNC = 5
"""Transactions of a sync, each of `retention.AT_ONCE` tasks at most."""
CARRIED = timedelta(days=31)
"""A holiday move may carry an occurrence so far back, beyond `missed.lookback`."""


def latest_border(app: App, database: str, now: datetime) -> datetime:
    """The latest instant before which finished tasks of a database may be removed.

    What a sync may still look at stays: all since the last sync, less the longest `missed.lookback` and a month.
    """
    lookbacks = [template.cfg.missed.lookback for template in app.templates()]
    with app.engine(database).connect() as connection:
        memories = watermarks.memories(connection, app.name)
    marks = [memory.mark for memory in memories.values()]
    return (
        min(marks, default=now) - timedelta(seconds=max(lookbacks, default=0)) - CARRIED
    )


def require_records(app: App, since: datetime) -> None:
    """Refuse to look back to where the records are gone: tasks that were done would be made again.

    Raises:
        InvalidTime: Tasks that were due then have been removed.
    """
    for database in app.databases():
        border = None
        # A database that does not answer is named by the sync, which goes on with the others.
        with suppress(SQLAlchemyError), app.engine(database).connect() as connection:
            border = retention.border(connection, app.name)
        if border is not None and since < border:
            allowed = f"{border.astimezone(app.zone):%Y-%m-%d %H:%M}"
            raise InvalidTime(
                f"--since: {since.astimezone(app.zone):%Y-%m-%d %H:%M}; allowed: from {allowed} on, since finished "
                "tasks that were due before have been removed from the ledger (`retention`)"
            )


def prune_some(app: App, database: str, now: datetime) -> str | None:
    """Remove some of the tasks that are older than the app's `retention`.

    Args:
        app: The app.
        database: Its name in app.json.
        now: The present instant.

    Returns:
        Why none could be removed; None where all went well.
    """
    aged = now - timedelta(days=app.cfg.retention)
    try:
        before = min(aged, latest_border(app, database, now))
        for _ in range(IN_A_SYNC):
            with app.engine(database).begin() as connection:
                pruned = retention.prune(connection, app.name, before)
            if pruned.end:
                break
    except DBAPIError as error:
        reason = error_codes.error_line(error)
        named = database or "the app's database"
        return f"{named}: tasks beyond the retention of {app.cfg.retention} days stay: {reason}"
    return None


def prune_all(
    app: App, before: datetime, now: datetime, said: Callable[[str, int], None]
) -> None:
    """Remove all tasks that were due and ended before an instant, but for those that identity needs.

    Args:
        app: The app.
        before: The instant, aware.
        now: The present instant.
        said: Called with a database's name and the number of tasks that were removed there.

    Raises:
        InvalidTime: A sync may still look at tasks that were due later than the instant.
        LedgerError: A database has no ledger, or the role may not delete; what was removed before stays removed.
    """
    latest = min(latest_border(app, name, now) for name in app.databases())
    if before > latest:
        allowed = f"{latest.astimezone(app.zone):%Y-%m-%d %H:%M}"
        raise InvalidTime(
            f"--before: {before.astimezone(app.zone):%Y-%m-%d %H:%M} is too late; allowed: until {allowed}, since a "
            "sync may look back that far: to the last sync, less the longest missed.lookback of the app and a month"
        )
    for database in app.databases():
        said(database or DEFAULT, _prune_database(app, database, before))


def _prune_database(app: App, database: str, before: datetime) -> int:
    engine, removed, end = app.engine(database), 0, False
    try:
        with engine.begin() as connection:
            versions.require(connection, database or "the app's database")
            retention.begin_again(connection, app.name)
        while not end:
            with engine.begin() as connection:
                pruned = retention.prune(connection, app.name, before)
            removed, end = removed + pruned.removed, pruned.end
    except DBAPIError as error:
        named, why = database or "the app's database", error_codes.error_line(error)
        if error_codes.code(error) == error_codes.NO_RIGHT:
            why = told(app, error)  # with the GRANT
        raise LedgerError(f"{named}: {why}") from error
    return removed
