"""The guard: an app of a name belongs to one database, and the Prefect server remembers which.

A variable of the server holds, for each app, an id that stands in the app's database too, and a digest of what the
database says of itself. Whoever writes to Prefect compares both first, once for each process and server. So a copy of
the app with another database, as for staging, changes nothing of the other's under the same name.
"""

from __future__ import annotations

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
        database: The digest of what the database says of itself.
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


def require(app: App, api: Api, *, again: bool = False) -> None:
    """Compare the app's database with the server's memory, once for each app and server in this process.

    Args:
        app: The app.
        api: Prefect.
        again: Compare also where this process has compared before.

    Raises:
        OtherDatabase: The server knows the app by another database.
        PrefectApiError: The server cannot be reached.
    """
    known = _compared.setdefault(app, set())
    if api.url in known and not again:
        return
    found = _remembered(app, api)
    if found is None:
        return  # not deployed yet
    ours = _owner(app)
    if ours is None:
        return  # no ledger: whoever needs one says so
    if found != ours:
        raise _other_database(app, api, found, ours)
    known.add(api.url)


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
    found, ours = _remembered(app, api), _make_owner(app)
    if found not in (None, ours) and not take_over:
        assert found is not None
        raise _other_database(app, api, found, ours)
    if found != ours:
        api.set_variable(_variable(app), asdict(ours))
    _compared.setdefault(app, set()).add(api.url)


def _variable(app: App) -> str:
    """The name of the app's variable; Prefect takes `a-z`, `0-9`, `-` and `_`."""
    return f"jittask_{app_slug(app.name)}"


def _remembered(app: App, api: Api) -> Owner | None:
    value: Any = api.variable(_variable(app))
    if value is None:
        return None
    content = value if isinstance(value, dict) else {}
    return Owner(str(content.get("id")), str(content.get("database")))


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
