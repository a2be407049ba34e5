"""The pause of a whole app: while it lasts, no occurrence of a schedule or of a row's date begins.

The pause stands in the state table of the app's default database, so that all processes agree and a restart changes
nothing. Occurrences wait; tasks outside the schedule (`nominal` is null), which somebody asked for, begin as always.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection, Engine

from jittask_prefect.ledger import state_table, versions

PAUSED = "paused"
"""A name in `jittask_state`: since when the app is paused."""
REASON = "the app is paused, until `jittask resume`"
"""Why an occurrence waits."""


class App(Protocol):
    """The part of an app that a pause needs."""

    @property
    def name(self) -> str: ...

    def engine(self) -> Engine: ...


def paused_since(app: App) -> datetime | None:
    """When the app was paused; None while it is not."""
    with app.engine().connect() as connection:
        return in_transaction(connection, app.name)


def in_transaction(connection: Connection, app: str) -> datetime | None:
    """As `paused_since`, in a transaction of the app's default database."""
    since = state_table.get(connection, app, PAUSED)
    return datetime.fromisoformat(since) if since else None


def pause(app: App, now: datetime) -> datetime:
    """Pause an app; since when the app is paused, which may be earlier.

    Raises:
        LedgerError: The app's database has no ledger, or tables of another version.
    """
    with app.engine().begin() as connection:
        versions.require(connection, "the app's database")
        since = in_transaction(connection, app.name)
        if since is None:
            state_table.put(connection, app.name, PAUSED, now.isoformat())
        return since or now


def resume(app: App) -> datetime | None:
    """End the pause of an app; since when the app was paused, None where it was not.

    Raises:
        LedgerError: The app's database has no ledger, or tables of another version.
    """
    with app.engine().begin() as connection:
        versions.require(connection, "the app's database")
        since = in_transaction(connection, app.name)
        state_table.put(connection, app.name, PAUSED, None)
        return since
