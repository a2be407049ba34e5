"""Named values of an app in `jittask_state`, and the leases among them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, or_, select, update

from jittask_prefect.ledger.lease_time import caller_time, clock
from jittask_prefect.ledger.prepared import insert_once
from jittask_prefect.ledger.tables import states


def get(connection: Connection, app: str, name: str) -> str | None:
    """The value of a name."""
    mine = (states.c.app == app, states.c.name == name)
    found = connection.execute(select(states.c.value).where(*mine)).scalar()

    return None if found is None else str(found)


def get_any(connection: Connection, name: str) -> str | None:
    """The value of a name that no two apps can have."""
    query = select(states.c.value).where(states.c.name == name)
    found = connection.execute(query).scalar()

    return None if found is None else str(found)


def starting_with(connection: Connection, app: str, prefix: str) -> dict[str, str]:
    """The values of all names that begin with a prefix, by name."""
    begins = states.c.name.startswith(prefix, autoescape=True)
    query = select(states.c.name, states.c.value).where(states.c.app == app, begins)

    return {r.name: r.value for r in connection.execute(query)}


def put(connection: Connection, app: str, name: str, value: str | None) -> None:
    """Set a value; None removes the name."""
    mine = (states.c.app == app, states.c.name == name)

    if value is None:
        connection.execute(delete(states).where(*mine))
        return

    changed = connection.execute(update(states).where(*mine).values(value=value))

    if not changed.rowcount:
        insert_once(connection, states, {"app": app, "name": name, "value": value})


def take_lease(
    connection: Connection,
    app: str,
    name: str,
    owner: str,
    now: datetime,
    seconds: float,
) -> bool:
    """Take or renew a lease, which expires whatever happens to its owner.

    Args:
        connection: In a transaction.
        app: The app's name.
        name: The lease's name.
        owner: Who takes the lease; the same owner may renew.
        now: The present instant.
        seconds: How long the lease holds without renewal.

    Returns:
        Whether the owner has the lease now.
    """
    until = clock(caller_time(now, seconds), seconds)
    free = or_(
        states.c.value == owner,
        states.c.value == "",
        states.c.until.is_(None),
        states.c.until < clock(caller_time(now)),
    )
    mine = (states.c.app == app, states.c.name == name, free)
    statement = update(states).where(*mine).values(value=owner, until=until)

    if connection.execute(statement).rowcount:
        return True

    values = {"app": app, "name": name, "value": "", "until": None}

    if not insert_once(connection, states, values):
        return False

    return bool(connection.execute(statement).rowcount)


def free_lease(connection: Connection, app: str, name: str, owner: str) -> None:
    """Give a lease back, where the owner still has the lease."""
    mine = (states.c.app == app, states.c.name == name, states.c.value == owner)
    connection.execute(update(states).where(*mine).values(value="", until=None))


def lock(connection: Connection, app: str, name: str) -> None:
    """Wait until no other transaction has locked a name; this transaction has the lock from now on."""
    mine = (states.c.app == app, states.c.name == name)
    statement = update(states).where(*mine).values(value="")
    values = {"app": app, "name": name, "value": ""}

    if not connection.execute(statement).rowcount and not insert_once(
        connection, states, values
    ):
        connection.execute(statement)
