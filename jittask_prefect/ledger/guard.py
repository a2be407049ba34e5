"""The guard: an app of a name belongs to one database, and the Prefect server remembers which.

A variable of the server holds, for each app, an id that stands in the app's database too, and a digest of what the
database says of itself. Whoever writes to Prefect compares both first, once for each process and server. So a copy of
the app with another database, as for staging, changes nothing of the other's under the same name.

The variable also holds an id of the server, and the database remembers to which server the app was deployed last. Where two
servers serve one app and database, the syncs of both make flow runs of each task: whoever looks at both is told.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from sqlalchemy import Engine

from jittask_prefect.errors import OtherDatabase
from jittask_prefect.ledger import database_identity, state_table, versions
from jittask_prefect.ledger.prepared import insert_once
from jittask_prefect.ledger.tables import states
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.prefect_api.names import app_slug

ID = "identity"
SERVER = "server"
"""A name in `jittask_state`: of the server that the app was deployed to last the id, the digest of the database, the address."""
log = logging.getLogger("jittask")


class App(Protocol):
    """An app, as far as the guard looks at one (`elements.app.App`)."""

    name: str
    path: Path

    def engine(self) -> Engine:
        """The engine of the app's default database."""


_compared: WeakKeyDictionary[App, set[str]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Owner:
    """The database that an app of a name belongs to.

    Attributes:
        id: The id in `jittask_state`; empty where there is none yet.
        database: The digest of the database's identity.
    """

    id: str
    database: str


def connect(app: App) -> Api:
    """The API of the app's Prefect server, for writing.

    Raises:
        OtherDatabase: The server knows the app by another database.
        PrefectApiError: No server is known, or the server cannot be reached.
    """
    # A process that only saves rows compares too, and pays for no HTTP client before.
    from jittask_prefect.server import selection

    api = selection.connect(app.path)
    require(app, api)
    return api


def require(app: App, api: Api, *, again: bool = False) -> str:
    """Compare the app's database with the server's memory, once for each app and server in this process.

    Args:
        app: The app.
        api: Prefect.
        again: Compare also where this process has compared before.

    Returns:
        The next step where the app was deployed last to another server; empty where it was not, or was compared before.

    Raises:
        OtherDatabase: The server knows the app by another database.
        PrefectApiError: The server cannot be reached.
    """
    known = _compared.setdefault(app, set())
    if api.url in known and not again:
        return ""
    value = api.variable(_variable(app))
    if value is None:
        return ""  # not deployed yet
    ours, found = _owner(app), _owner_in(value)
    if ours is None:
        return ""  # no ledger: whoever needs one says so
    if found != ours:
        raise _other_database(app, api, found, ours)
    known.add(api.url)
    if other := _other_server(app, api, ours, _server_in(value)):
        return (
            f"the app {app.name} was deployed last to another Prefect server, {other}, with this database, and both servers make "
            f"flow runs of its tasks: stop the workers of {api.url}; or `jittask deploy` makes this one the app's server again"
        )
    return ""


def remembers(app: App, api: Api) -> bool:
    """Whether the server knows a database of the app, which is this app's.

    Raises:
        OtherDatabase: The server knows the app by another database.
        PrefectApiError: The server cannot be reached.
    """
    require(app, api, again=True)
    return _remembered(app, api) is not None


def claim(app: App, api: Api, *, take_over: bool = False) -> None:
    """Have the server remember the app's database, where the server knows none under this name yet.

    Args:
        app: The app.
        api: Prefect.
        take_over: Let this database take the place of another.

    Raises:
        OtherDatabase: The server knows the app by another database.
        LedgerError: The database has no ledger.
        PrefectApiError: The server cannot be reached.
    """
    value, ours = api.variable(_variable(app)), _make_owner(app)
    found = None if value is None else _owner_in(value)
    if found not in (None, ours) and not take_over:
        assert found is not None
        raise _other_database(app, api, found, ours)
    server = _server_in(value) or str(uuid.uuid4())
    if found != ours or not _server_in(value):
        api.set_variable(_variable(app), {**asdict(ours), SERVER: server})
    if left := _other_server(app, api, ours, server):
        told = "the app %s was on another Prefect server before, %s: stop its workers there, else both servers make flow runs of its tasks"
        log.warning(told, app.name, left)
    with app.engine().begin() as connection:
        value = f"{server} {ours.database} {api.url}"
        state_table.put(connection, app.name, SERVER, value)
    _compared.setdefault(app, set()).add(api.url)


def _variable(app: App) -> str:
    """The name of the app's variable; Prefect takes `a-z`, `0-9`, `-` and `_`."""
    return f"jittask_{app_slug(app.name)}"


def _remembered(app: App, api: Api) -> Owner | None:
    value = api.variable(_variable(app))
    return None if value is None else _owner_in(value)


def _owner_in(value: Any) -> Owner:
    content = value if isinstance(value, dict) else {}
    return Owner(str(content.get("id")), str(content.get("database")))


def _server_in(value: Any) -> str:
    """The server's id; empty where an older release made the variable."""
    return str(value.get(SERVER) or "") if isinstance(value, dict) else ""


def _other_server(app: App, api: Api, ours: Owner, server: str) -> str:
    """The address of the server that the app was deployed to last, where that is another than this; empty else.

    A copy of a database remembers the server of its origin, which does not count.
    """
    with app.engine().connect() as connection:
        known = state_table.get(connection, app.name, SERVER) or ""
    before, _, rest = known.partition(" ")
    database, _, url = rest.partition(" ")
    other = server and before != server and url != api.url
    return url if other and database == ours.database else ""


def _owner(app: App) -> Owner | None:
    """The app's database as it is; None where the database has no ledger."""
    with app.engine().connect() as connection:
        if not versions.there(connection):
            return None
        own_id = state_table.get(connection, app.name, ID) or ""
        return Owner(own_id, database_identity.digest(connection))


def _make_owner(app: App) -> Owner:
    with app.engine().begin() as connection:
        versions.require(connection, "the app's database")
        values = {"app": app.name, "name": ID, "value": str(uuid.uuid4())}
        insert_once(connection, states, values)
        own_id = state_table.get(connection, app.name, ID) or ""
        return Owner(own_id, database_identity.digest(connection))


def _other_database(app: App, api: Api, found: Owner, ours: Owner) -> OtherDatabase:
    kind = "another database"
    if found.id == ours.id:
        kind = "a database of which this is a copy, or which has moved"
    elif found.database == ours.database:
        kind = "an earlier ledger in this database, or one on another host"
    return OtherDatabase(
        f"the app {app.name} on {api.url} belongs to {kind}; nothing was changed. Give this app another name, e.g. "
        f"JITTASK_NAME={app.name}-staging; or let this database take the other's place: `jittask deploy --take-over`"
    )
