"""The rate of a template: its functions begin no faster, over all processes and workers (`rate` in e.json).

Each begin is reserved in a row of `jittask_state`, by the database's clock. The row keeps the instant that is due to the
next begin (GCRA, the generic cell rate algorithm, without a burst): begins are spaced evenly, and a pause earns nothing.
A reservation is one short transaction, so processes reserve one after the other, each an instant of its own: nobody
who waits is passed.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, select, update

from jittask_prefect.ledger.lease_time import caller_time, clock
from jittask_prefect.ledger.prepared import insert_once
from jittask_prefect.ledger.tables import states
from jittask_prefect.schedule.rate import Rate


def reserve(
    engine: Engine, app: str, template: str, rate: Rate, now: datetime
) -> float:
    """Reserve the next begin of a template's function.

    Args:
        engine: To the database of the template's tasks.
        app: The app's name.
        template: The template's full name.
        rate: The template's rate; another rate than before begins anew.
        now: The present instant, for tests.

    Returns:
        The seconds until the begin.
    """
    name = f"rate:{template}"
    while True:
        with engine.begin() as connection:
            wait = _reserve(connection, app, name, rate, now)
        if wait is not None:
            return wait.total_seconds()
        # In a transaction of its own: MariaDB's lock on a row that is not there would be a deadlock.
        with engine.begin() as connection:
            values = {"app": app, "name": name, "value": str(rate), "until": None}
            insert_once(connection, states, values)


def _reserve(
    connection: Connection, app: str, name: str, rate: Rate, now: datetime
) -> timedelta | None:
    """The time until the reserved begin; None where the row is missing."""
    mine = (states.c.app == app, states.c.name == name)
    row = update(states).where(*mine)
    if not connection.execute(row.values(value=states.c.value)).rowcount:
        return None  # else the row is locked from here on
    columns = (states.c.value, states.c.until, clock(None).label("now"))
    found = connection.execute(select(*columns).where(*mine)).one()
    present = caller_time(now) or found.now
    next_due = found.until if found.value == str(rate) else None
    begin, following = slot(rate, next_due, present)
    connection.execute(row.values(value=str(rate), until=following))
    return begin - present


def slot(
    rate: Rate, next_due: datetime | None, now: datetime
) -> tuple[datetime, datetime]:
    """The instant of a begin, and the instant that is due to the begin after that.

    Args:
        rate: The rate.
        next_due: The instant of this begin; None for the first.
        now: The present instant.
    """
    due = max(next_due or now, now)
    return due, due + rate.interval
